"""Judges a canary against its baseline from what was counted on both sides: `good`, `bad` or
`inconclusive`. A strategy of a kind calls it after every request or at any look; it is pure: no
clock, no I/O, and what it remembers goes out with the answer and comes back with the next call.

Requests are cut into blocks that have some of both sides, and each block is a bet (`bets.py`): that
the canary is worse than a rule's gate, and that it is not. The rates and thresholds that a block is
judged by follow from the blocks before it, so no look, however early or often, spends anything.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import msgspec

from sextant.kernel.errors import BadData, UsageError
from sextant.release.bets import BLOCKS_MIN, Pair, Wealth
from sextant.release.counts import Histogram, Side, check_same_bounds

Answer = Literal["good", "bad", "inconclusive"]

ALPHA = 0.05  # of canaries exactly at their gates, at most this share is called bad
BLOCK_REQUESTS = 50  # of each side; smaller blocks lose power where the split varies
TAIL_REQUESTS = 5  # requests beyond the quantile that the baseline has before the first block
_USUAL_ERRORS = 0.01  # the baseline's rate before it is known
_USUAL_WEIGHT = 50  # in requests
_E_MAX = 1e12  # more evidence is printed as this


class RateRule(msgspec.Struct, frozen=True, kw_only=True, tag="rate"):
    """The canary's error rate must not exceed the baseline's by more than the gate.

    worse_by  the gate: a smaller difference is not bad; absolute, 0.005 = half a point
    requests  of each side, below which the answer is inconclusive
    """

    name: str = "errors"
    worse_by: float = 0.005
    requests: int = 200


class QuantileRule(msgspec.Struct, frozen=True, kw_only=True, tag="quantile"):
    """A quantile of the canary's latency must not exceed the baseline's by more than the gate.

    Judged is whether the share of the canary above `(1 + worse_by) * t` exceeds the share of the
    baseline above `t`, where `t` is the bound nearest to the baseline's quantile before the block.
    No quantile is estimated from the requests it is judged by.

    worse_by  the gate, relative; rounded up to whole buckets
    requests  as in RateRule; no less than `TAIL_REQUESTS` beyond the quantile
    """

    name: str = "p99"
    quantile: float = 0.99
    worse_by: float = 0.10
    requests: int = 200


Rule = RateRule | QuantileRule


class RuleMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule remembers between looks.

    before     what was counted when the open block began; None before the first one
    threshold  index of the baseline's bound in the open block; -1 for rates
    """

    before: Pair | None = None
    threshold: int = -1
    wealth: Wealth = Wealth()


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, a sentence and numbers for each rule, and what the next call is given back.

    evidence, memory  by the rule's name, ready for JSON
    """

    answer: Answer
    reasons: tuple[str, ...]
    evidence: dict[str, dict[str, Any]]
    memory: dict[str, RuleMemory]


def judge(
    base: Side,
    canary: Side,
    rules: Sequence[Rule],
    memory: Mapping[str, RuleMemory] | None = None,
    *,
    alpha: float = ALPHA,
) -> Judgement:
    """Return what the counts say until now.

    base, canary  cumulative; what was counted is never taken back. When to look may follow from the
                  clock or from the number of requests, not from what went wrong since the last look
    rules         at least one; names differ; the same at each call
    memory        of the judgement before; None at the first call
    alpha         0 < alpha < 1. However often they are judged, at most this share of the canaries
                  that are never worse than any gate is called bad (the rules share it), and at most
                  this share of those that are worse than one all the time is called good
    Result        bad when one rule shows it, good when every rule shows it, else inconclusive
    Raises        BadData for counts that cannot be, UsageError for rules that cannot be judged
    Cost          0.1 ms for a rule, 0.2 ms when a block closes
    """
    _check_rules(rules, alpha, base.latency.bounds_ms)
    _check_side("baseline", base)
    _check_side("canary", canary)
    check_same_bounds(base.latency, canary.latency)
    answers: list[Answer] = []
    reasons, evidence, after = [], {}, {}
    for rule in rules:
        now = _remember(rule, base, canary, (memory or {}).get(rule.name, RuleMemory()))
        numbers = _numbers(rule, base, canary, now)
        numbers["e_worse_needed"], numbers["e_within_needed"] = len(rules) / alpha, 1 / alpha
        answers.append(_answer(numbers))
        reasons.append(_sentence(rule, answers[-1], numbers))
        evidence[rule.name] = {"answer": answers[-1], **numbers}
        after[rule.name] = now
    whole: Answer = "inconclusive"
    if "bad" in answers:
        whole = "bad"
    elif set(answers) == {"good"}:
        whole = "good"
    return Judgement(answer=whole, reasons=tuple(reasons), evidence=evidence, memory=after)


def _remember(rule: Rule, base: Side, canary: Side, memory: RuleMemory) -> RuleMemory:
    """Return the memory; with the open block closed if both sides have enough requests since."""
    if memory.before is None:
        if isinstance(rule, RateRule):
            memory = RuleMemory(before=Pair())
        elif sum(base.latency.counts) >= _requests_min(rule):
            memory = _open(rule, base, canary, memory.wealth)
        else:
            return memory
    assert memory.before is not None
    block = _count(rule, base, canary, memory.threshold).minus(memory.before)
    if min(block.base, block.base_hits, block.canary, block.canary_hits) < 0:
        raise BadData(
            "SX-JUDGE-001",
            f"rule `{rule.name}`: a side counts less than at the look before",
            hint="counts are cumulative; judge without memory when they begin again",
        )
    if min(block.base, block.canary) < BLOCK_REQUESTS:
        return memory
    usual, gate = _USUAL_ERRORS, rule.worse_by
    if isinstance(rule, QuantileRule):
        usual, gate = 1 - rule.quantile, 0.0
    hits = memory.before.base_hits + _USUAL_WEIGHT * usual
    rate = hits / (memory.before.base + _USUAL_WEIGHT)
    return _open(rule, base, canary, memory.wealth.after(block, rate=rate, gate=gate))


def _open(rule: Rule, base: Side, canary: Side, wealth: Wealth) -> RuleMemory:
    """Return the memory with a block that begins now."""
    threshold = _threshold(rule, base.latency) if isinstance(rule, QuantileRule) else -1
    before = _count(rule, base, canary, threshold)
    return RuleMemory(before=before, threshold=threshold, wealth=wealth)


def _count(rule: Rule, base: Side, canary: Side, threshold: int) -> Pair:
    if isinstance(rule, RateRule):
        return Pair(
            base=base.requests,
            base_hits=base.errors,
            canary=canary.requests,
            canary_hits=canary.errors,
        )
    return Pair(
        base=sum(base.latency.counts),
        base_hits=base.latency.above(threshold),
        canary=sum(canary.latency.counts),
        canary_hits=canary.latency.above(_gated(rule, canary.latency.bounds_ms, threshold)),
    )


def _threshold(rule: QuantileRule, base: Histogram) -> int:
    """Return the index of the bound whose share above is nearest to the quantile's, of those for
    which the canary has a bound too."""
    tail, seen = 1 - rule.quantile, list(accumulate(base.counts))
    below = bisect_left(seen, seen[-1] + 0.5 - tail * (seen[-1] + 1))
    last = _indices(rule, base.bounds_ms) - 1

    def distance(index: int) -> float:
        return abs(math.log((seen[-1] - seen[index] + 0.5) / (seen[-1] + 1) / tail))

    return min(min(max(below - 1, 0), last), min(below, last), key=distance)


def _gated(rule: QuantileRule, bounds_ms: Sequence[float], index: int) -> int:
    """Return the index of the canary's bound: the baseline's, raised by the gate, rounded up."""
    return bisect_left(bounds_ms, bounds_ms[index] * (1 + rule.worse_by) * (1 - 1e-9))


def _indices(rule: QuantileRule, bounds_ms: Sequence[float]) -> int:
    """Return for how many of the first bounds the canary has a bound."""
    return bisect_right(bounds_ms, bounds_ms[-1] / (1 + rule.worse_by) * (1 + 1e-9))


def _requests_min(rule: Rule) -> int:
    """Return the requests of each side below which nothing is judged."""
    if isinstance(rule, RateRule):
        return rule.requests
    return max(rule.requests, math.ceil(TAIL_REQUESTS / (1 - rule.quantile) - 1e-9))


def _numbers(rule: Rule, base: Side, canary: Side, memory: RuleMemory) -> dict[str, Any]:
    """Return what the answer follows from; hits and thresholds only once there is a threshold."""
    dispersion = memory.wealth.dispersion()
    most = math.log(_E_MAX) * dispersion
    count = _count(rule, base, canary, memory.threshold)
    numbers: dict[str, Any] = {
        "gate": rule.worse_by,
        "base_requests": count.base,
        "canary_requests": count.canary,
        "requests_needed": _requests_min(rule),
        "blocks": memory.wealth.scales[0].groups,
        "dispersion": dispersion,
        "e_worse": math.exp(min(memory.wealth.log_worse(), most) / dispersion),
        "e_within": math.exp(min(memory.wealth.log_within(), most) / dispersion),
    }
    if isinstance(rule, QuantileRule):
        numbers["base_ms"] = base.latency.quantile_ms(rule.quantile)
        numbers["canary_ms"] = canary.latency.quantile_ms(rule.quantile)
        if memory.threshold < 0:
            return numbers
        bounds_ms = base.latency.bounds_ms
        numbers["base_threshold_ms"] = bounds_ms[memory.threshold]
        numbers["canary_threshold_ms"] = bounds_ms[_gated(rule, bounds_ms, memory.threshold)]
        numbers["gate"] = numbers["canary_threshold_ms"] / numbers["base_threshold_ms"] - 1
    return numbers | {"base_hits": count.base_hits, "canary_hits": count.canary_hits}


def _answer(numbers: Mapping[str, Any]) -> Answer:
    requests = min(numbers["base_requests"], numbers["canary_requests"])
    if requests < numbers["requests_needed"] or numbers["blocks"] < BLOCKS_MIN:
        return "inconclusive"
    if numbers["e_worse"] >= numbers["e_worse_needed"]:
        return "bad"
    return "good" if numbers["e_within"] >= numbers["e_within_needed"] else "inconclusive"


def _sentence(rule: Rule, answer: Answer, numbers: Mapping[str, Any]) -> str:
    """Return what was found, for people."""
    base, canary = numbers["base_requests"], numbers["canary_requests"]
    if min(base, canary) < numbers["requests_needed"] or numbers["blocks"] < BLOCKS_MIN:
        return (
            f"{rule.name}: too few requests yet: {canary:,} of the canary and {base:,} of the "
            f"baseline, {numbers['blocks']} times {BLOCK_REQUESTS} or more of both between looks; "
            f"{numbers['requests_needed']:,} and {BLOCKS_MIN} times are needed"
        )
    ours = f"{numbers['canary_hits'] / canary:.2%} of the canary's {canary:,} requests"
    theirs = f"{numbers['base_hits'] / base:.2%} of the baseline's {base:,}"
    if isinstance(rule, RateRule):
        counted = f"{ours} failed and {theirs}"
        gate = f"{numbers['gate'] * 100:.2f} points more"
    else:
        counted = f"{ours} took over {numbers['canary_threshold_ms']:,.1f} ms and {theirs} over "
        counted += f"{numbers['base_threshold_ms']:,.1f} ms"
        gate = f"{numbers['gate']:.0%} slower"
    shown = {
        "bad": f"it is shown to be more than {gate}",
        "good": f"it is shown not to be {gate}",
        "inconclusive": f"that neither shows nor excludes that it is {gate}",
    }[answer]
    bursts = numbers["dispersion"]
    unsteady = f" (hits come in bursts: counted as 1 in {bursts:.1f})" if bursts > 1 else ""
    return f"{rule.name}: {counted}; {shown}{unsteady}"


def _check_rules(rules: Sequence[Rule], alpha: float, bounds_ms: Sequence[float]) -> None:
    if not 0 < alpha < 1:
        raise UsageError("SX-JUDGE-002", f"alpha is {alpha}; it must be between 0 and 1")
    names = [rule.name for rule in rules]
    if not names or len(set(names)) < len(names):
        raise UsageError(
            "SX-JUDGE-003",
            f"a canary is judged by at least one rule, each with a name of its own, not {names}",
        )
    for rule in rules:
        quantile = rule.quantile if isinstance(rule, QuantileRule) else 0.5
        most = 0.5 if isinstance(rule, RateRule) else 1000.0
        if not (0 <= rule.worse_by <= most and 0 < quantile < 1 and rule.requests >= 1):
            raise UsageError(
                "SX-JUDGE-004",
                f"rule `{rule.name}` cannot be judged: {rule}",
                hint=(
                    f"worse_by is 0 to {most:g}, quantile is between 0 and 1, requests is 1 or more"
                ),
            )
        if isinstance(rule, QuantileRule) and not _indices(rule, bounds_ms):
            raise UsageError(
                "SX-JUDGE-005",
                f"rule `{rule.name}`: no latency that is counted is {rule.worse_by:.0%} above "
                "another",
                hint=f"the bounds are {bounds_ms[0]:,.1f} to {bounds_ms[-1]:,.1f} ms",
            )


def _check_side(name: str, side: Side) -> None:
    if min(side.requests, side.errors, *side.latency.counts) < 0:
        raise BadData("SX-JUDGE-006", f"a count of the {name} is below 0")
    if side.errors > side.requests:
        raise BadData(
            "SX-JUDGE-007",
            f"the {name} has {side.errors:,} errors in {side.requests:,} requests",
        )
