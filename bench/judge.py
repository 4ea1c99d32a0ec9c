"""How often canaries are judged rightly: `PYTHONPATH=src python bench/judge.py [--canaries 2000]
[--seed 1]`.

Simulates canaries of five shapes of traffic, looked at after every 20 to 200 requests of a side, and
judges each by Sextant, by a fixed threshold (Flagger, Argo Rollouts) and by Mann-Whitney U (Kayenta)
on the same requests. Of each shape, as many canaries are

good     not different from the baseline, looked at until 20,000 requests of a side
errors   2 points more errors (1 % of the baseline fail), until 4,000 requests
slow     all latencies 20 % longer, until 20,000 requests
slight   worse by less than the gates: 0.4 points more errors, latencies 8 % longer; until 20,000
         requests; a quarter as many

A sixth shape, not one of the five and of a quarter as many, has errors in runs that hit one side
alone: requests that are not independent. Prints a JSON line for each shape and judge, and one for all five; then, for shapes where
Sextant did not find 90 % of what is slow, how many requests it takes.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from peers.judges import FixedThreshold, mann_whitney_is_high

from sextant.release.counts import BOUNDS_MS, Histogram, Side
from sextant.release.judge import QuantileRule, RateRule, judge

RULES = (RateRule(), QuantileRule())
LIMITS = {"good": 20_000, "errors": 4_000, "slow": 20_000, "slight": 20_000}
LONG = 300_000  # requests of a side after which nothing more is waited for
INTERVAL = 200  # requests of a side that one value of a series stands for
ERROR_RATE = 0.01
ERRORS_MORE = {"errors": 0.02, "slight": 0.004}
SLOWER = {"slow": 1.2, "slight": 1.08}
Rng = np.random.Generator


class Shape(NamedTuple):
    """per_look: requests of a side between looks, on average; bursty: by how much that varies (a
    gamma's squared deviation); swing: of load, errors and latencies of both sides in a day of 40
    looks; outages: share of looks in which a tenth of both sides' requests fails; run: errors in a
    row on one side."""

    per_look: int
    bursty: float = 0.0
    swing: float = 0.0
    outages: float = 0.0
    run: int = 1


SHAPES = {
    "steady": Shape(200),
    "heavy tail": Shape(150),
    "cache": Shape(100),
    "bursty day": Shape(150, bursty=0.5, swing=0.5, outages=0.01),
    "low traffic": Shape(20),
}
APART = {"runs of errors": Shape(200, run=8)}


def latencies_ms(shape: str, n: int, rng: Rng) -> np.ndarray:
    if shape == "heavy tail":  # one in twenty waits for something slow: Pareto, 150 ms, index 2.5
        slow = 150 * (1 + rng.pareto(2.5, n))
        return np.where(rng.random(n) < 0.05, slow, 40 * np.exp(0.6 * rng.standard_normal(n)))
    if shape == "cache":  # four of five hit
        hit = 3 * np.exp(0.4 * rng.standard_normal(n))
        return np.where(rng.random(n) < 0.8, hit, 120 * np.exp(0.35 * rng.standard_normal(n)))
    spread = 0.6 if shape == "low traffic" else 0.5
    return 50 * np.exp(spread * rng.standard_normal(n))


def quantile_99(ms: np.ndarray) -> float:
    rank = math.ceil(0.99 * len(ms)) - 1
    return float(np.partition(ms, rank)[rank])


class Look(NamedTuple):
    """Cumulative sides, and of each side the requests, errors and latencies since the look before:
    baseline, canary."""

    base: Side
    canary: Side
    requests: tuple[int, int]
    errors: tuple[int, int]
    latencies_ms: tuple[np.ndarray, np.ndarray]


def looks(name: str, kind: str, limit: int, rng: Rng) -> Iterator[Look]:
    """Yield the looks of one canary while no side has more than `limit` requests."""
    shape = {**SHAPES, **APART}[name]
    phase = rng.uniform(0, 2 * math.pi)
    counts = np.zeros((2, len(BOUNDS_MS) + 1), dtype=np.int64)
    requests, errors = [0, 0], [0, 0]
    mean = ERROR_RATE - 0.1 * shape.outages
    for number in range(100 * limit):
        load = 1 + shape.swing * math.sin(phase + 2 * math.pi * number / 40)
        expected = shape.per_look * load
        if shape.bursty:
            expected *= rng.gamma(1 / shape.bursty, shape.bursty)
        rate = mean * load + 0.1 * (rng.random() < shape.outages)
        new, failed, took = [], [], []
        for side in (0, 1):
            more = ERRORS_MORE.get(kind, 0.0) * side
            n = int(rng.poisson(expected))
            k = int(rng.binomial(n, rate + more))
            if shape.run > 1:  # half of the errors come alone
                runs = rng.poisson(n * (rate / 2 + more / 2) / shape.run)
                k = min(n, rng.binomial(n, rate / 2 + more / 2) + shape.run * runs)
            ms = latencies_ms(name, n, rng) * (1 + 0.3 * (load - 1))
            if side == 1:
                ms *= SLOWER.get(kind, 1.0)
            counts[side] += np.bincount(np.searchsorted(BOUNDS_MS, ms), minlength=counts.shape[1])
            requests[side] += n
            errors[side] += k
            new.append(n)
            failed.append(k)
            took.append(ms)
        if max(requests) > limit:
            return
        yield Look(
            *(
                Side(
                    requests=requests[side],
                    errors=errors[side],
                    latency=Histogram(counts=tuple(counts[side].tolist())),
                )
                for side in (0, 1)
            ),
            tuple(new),
            tuple(failed),
            tuple(took),
        )


class Sextant:
    def __init__(self) -> None:
        self._memory = None

    def look(self, look: Look) -> str:
        judgement = judge(look.base, look.canary, RULES, self._memory)
        self._memory = judgement.memory
        return judgement.answer


class Threshold:
    """Thresholds of somebody who knows the baseline well: success between what is usual and what
    is bad, 10 % above its true 99th percentile."""

    def __init__(self, p99_ms: float) -> None:
        self._rule = FixedThreshold(success_min=0.98, p99_ms_max=1.1 * p99_ms)

    def look(self, look: Look) -> str:
        if not look.requests[1]:
            return "inconclusive"
        p99_ms = quantile_99(look.latencies_ms[1])
        bad = self._rule.interval(look.errors[1] / look.requests[1], p99_ms)
        return "bad" if bad else "inconclusive"


class MannWhitney:
    """Kayenta's rule with the gates of our rules; `every`: judged after each interval, not once at
    the end."""

    def __init__(self, *, every: bool) -> None:
        self._every = every
        self._errors: tuple[list[float], list[float]] = ([], [])
        self._p99_ms: tuple[list[float], list[float]] = ([], [])
        self._open: list[Look] = []

    def look(self, look: Look) -> str:
        self._open.append(look)
        if min(sum(one.requests[side] for one in self._open) for side in (0, 1)) < INTERVAL:
            return "inconclusive"
        for side in (0, 1):
            n = sum(one.requests[side] for one in self._open)
            self._errors[side].append(sum(one.errors[side] for one in self._open) / n)
            ms = np.concatenate([one.latencies_ms[side] for one in self._open])
            self._p99_ms[side].append(quantile_99(ms))
        self._open = []
        return self.end() if self._every else "inconclusive"

    def end(self) -> str:
        high = mann_whitney_is_high(*self._errors, mean_ratio_min=1.5) or mann_whitney_is_high(
            *self._p99_ms, mean_ratio_min=1.1
        )
        return "bad" if high else "inconclusive"


class Outcome(NamedTuple):
    """Requests of the canary when it was first called bad and good; None = never."""

    bad: int | None
    good: int | None


def outcomes(name: str, kind: str, p99_ms: float, rng: Rng) -> dict[str, Outcome]:
    """Judge one canary by all."""
    once = MannWhitney(every=False)
    judges: dict[str, Any] = {
        "sextant": Sextant(),
        "fixed threshold": Threshold(p99_ms),
        "mann-whitney": MannWhitney(every=True),
        "mann-whitney once": once,
    }
    bad: dict[str, int] = {}
    good: dict[str, int] = {}
    for look in looks(name, kind, LIMITS[kind], rng):
        for who, judge_ in judges.items():
            if who in bad:
                continue
            answer = judge_.look(look)
            if answer == "bad":
                bad[who] = look.canary.requests
            elif answer == "good":
                good.setdefault(who, look.canary.requests)
    if once.end() == "bad":
        bad["mann-whitney once"] = look.canary.requests
    return {who: Outcome(bad.get(who), good.get(who)) for who in judges}


def spread(requests: list[int]) -> dict[str, int | None]:
    if not requests:
        return {"median": None, "p90": None}
    return {"median": int(np.median(requests)), "p90": int(np.quantile(requests, 0.9))}


def figures(found: dict[str, list[Outcome]]) -> dict[str, Any]:
    """Return the shares and delays of canaries of each kind. What is bad and was called good first
    is passed, and not found."""
    line: dict[str, Any] = {"canaries": len(found["good"])}
    good = found["good"]
    for kind, share in (("good", "false_aborts"), ("slight", "slight_aborted")):
        line[share] = sum(one.bad is not None for one in found[kind]) / len(found[kind])
    line["good_called_good"] = sum(one.good is not None for one in good) / len(good)
    line["good_requests"] = spread([one.good for one in good if one.good is not None])
    for kind in ("errors", "slow"):
        caught = [
            one.bad
            for one in found[kind]
            if one.bad is not None and (one.good is None or one.bad < one.good)
        ]
        passed = sum(one.good is not None for one in found[kind]) - sum(
            one.bad is not None and one.good is not None and one.bad < one.good
            for one in found[kind]
        )
        line[f"{kind}_found"] = len(caught) / len(found[kind])
        line[f"{kind}_passed"] = passed / len(found[kind])
        line[f"{kind}_requests"] = spread(caught)
    return line


def requests_needed(name: str, kind: str, rng: Rng) -> int | None:
    """Return the requests of a side after which one canary is called bad."""
    judge_ = Sextant()
    for look in looks(name, kind, LONG, rng):
        if judge_.look(look) == "bad":
            return look.canary.requests
    return None


def rounded(line: dict[str, Any]) -> str:
    return json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=2000, help="of each kind, of five shapes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longer", type=int, default=50, help="canaries for requests needed")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    each = arguments.canaries // len(SHAPES)
    whole: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    lacking = []
    for place, name in enumerate([*SHAPES, *APART]):
        # The true quantile, drawn apart, which only the fixed threshold is told.
        truth = np.random.default_rng([0, place])
        p99_ms = float(np.quantile(latencies_ms(name, 2_000_000, truth), 0.99))
        found: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
        for kind_place, kind in enumerate(LIMITS):
            for number in range(-(-each // 4) if kind == "slight" or name in APART else each):
                rng = np.random.default_rng([arguments.seed, place, kind_place, number])
                for who, outcome in outcomes(name, kind, p99_ms, rng).items():
                    found[who][kind].append(outcome)
                    if name in SHAPES:
                        whole[who][kind].append(outcome)
        for who, by_kind in found.items():
            line = {"bench": "judge", "seed": arguments.seed, "shape": name, "judge": who}
            print(rounded(line | figures(by_kind)), flush=True)
            if who == "sextant":
                lacking += [
                    (name, kind)
                    for kind, least in (("errors", 0.95), ("slow", 0.9))
                    if figures(by_kind)[f"{kind}_found"] < least
                ]
    for who, by_kind in whole.items():
        line = {"bench": "judge", "seed": arguments.seed, "shape": "all five", "judge": who}
        print(rounded(line | figures(by_kind)), flush=True)
    for name, kind in lacking:
        rngs = (np.random.default_rng([arguments.seed, 99, n]) for n in range(arguments.longer))
        taken = [requests_needed(name, kind, rng) or LONG + 1 for rng in rngs]
        line = {"bench": "judge", "seed": arguments.seed, "shape": name, "needed_for": kind}
        line |= {"canaries": len(taken), **spread(taken), "not_found": taken.count(LONG + 1)}
        print(rounded(line), flush=True)
    print(rounded({"bench": "judge", "wall_s": time.perf_counter() - started_s}))


if __name__ == "__main__":
    main()
