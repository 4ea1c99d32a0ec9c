"""`judge`: what canaries are called, that looking often costs nothing, and what is refused."""

import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.kernel.errors import BadData, UsageError
from sextant.release.bets import Pair, Wealth
from sextant.release.counts import BOUNDS_MS, Histogram, Side
from sextant.release.judge import ALPHA, Judgement, QuantileRule, RateRule, Rule, RuleMemory, judge

ERRORS = RateRule()
P99 = QuantileRule()
COARSE = (1.0, 10.0, 100.0, 1000.0)


def side(requests: int, errors: int, latency: Histogram | None = None) -> Side:
    return Side(requests=requests, errors=errors, latency=latency or Histogram())


def looked_at(
    looks: Sequence[tuple[Side, Side]], rules: Sequence[Rule] = (ERRORS,)
) -> list[Judgement]:
    """Judge cumulative counts at each look."""
    judgements: list[Judgement] = []
    for base, canary in looks:
        memory = judgements[-1].memory if judgements else None
        judgements.append(judge(base, canary, rules, memory))
    return judgements


def rates(base: float, canary: float, *, each: int, looks: int) -> list[tuple[Side, Side]]:
    """Return cumulative counts that have exactly these error rates, rounded."""
    return [
        (side(n, round(n * base)), side(n, round(n * canary)))
        for n in range(each, each * looks + 1, each)
    ]


def drawn(
    seed: int, base: float, canary: float, *, each: int, looks: int, shift: float = 0.0
) -> list[tuple[Side, Side]]:
    """Return cumulative counts drawn at these error rates; `shift`: added to both in every other
    ten looks."""
    rates_ = np.array([base, canary])[:, None] + shift * (np.arange(looks) // 10 % 2)
    errors = np.random.default_rng(seed).binomial(each, rates_).cumsum(axis=1).tolist()
    return [
        (side(each * look, one), side(each * look, other))
        for look, one, other in zip(range(1, looks + 1), *errors, strict=True)
    ]


def latencies(rng: random.Random, scale: float, n: int) -> list[float]:
    return [50 * scale * math.exp(0.5 * rng.gauss(0, 1)) for _ in range(n)]


def with_latencies(
    rng: random.Random, scale: float, *, each: int, looks: int
) -> list[tuple[Side, Side]]:
    """Return cumulative counts without errors; the canary takes `scale` times as long."""
    out, base, canary = [], Histogram(), Histogram()
    for look in range(1, looks + 1):
        base = base.with_samples(latencies(rng, 1.0, each))
        canary = canary.with_samples(latencies(rng, scale, each))
        out.append((side(look * each, 0, base), side(look * each, 0, canary)))
    return out


def test_no_traffic_is_inconclusive() -> None:
    """A canary that nobody called must never be promoted."""
    empty = side(0, 0)
    for base, canary in ((empty, empty), (side(5000, 50), empty), (empty, side(5000, 50))):
        found = judge(base, canary, (ERRORS, P99))
        assert found.answer == "inconclusive"
        assert "too few" in found.reasons[0]


@pytest.mark.parametrize("canary", [0.0, 1.0])
def test_fewer_requests_than_the_minimum_are_inconclusive(canary: float) -> None:
    """Neither a lucky nor an unlucky start may decide."""
    rule = RateRule(requests=1000)
    found = looked_at(rates(0.01, canary, each=60, looks=30), (rule,))
    assert {one.answer for one in found[:16]} == {"inconclusive"}  # until 960
    assert found[16].answer == ("bad" if canary else "good")


def test_a_clear_rise_of_errors_is_bad_and_says_so_in_numbers() -> None:
    found = looked_at(rates(0.01, 0.03, each=200, looks=20))
    answers = [one.answer for one in found]
    assert "good" not in answers
    first = found[answers.index("bad")]
    base, canary = rates(0.01, 0.03, each=200, looks=20)[answers.index("bad")]
    numbers = first.evidence["errors"]
    assert (numbers["base_hits"], numbers["canary_hits"]) == (base.errors, canary.errors)
    assert numbers["e_worse"] >= numbers["e_worse_needed"] == 1 / ALPHA
    assert f"of the canary's {canary.requests:,} requests failed" in first.reasons[0]
    assert "shown to be more than 0.50 points more" in first.reasons[0]
    assert answers[answers.index("bad") :] == ["bad"] * (20 - answers.index("bad"))


def test_an_equal_canary_is_good_and_never_bad() -> None:
    answers = [one.answer for one in looked_at(rates(0.01, 0.01, each=200, looks=100))]
    assert answers[-1] == "good"
    assert "bad" not in answers


def test_better_is_not_bad() -> None:
    """Only worse counts: a canary that mends something must go through, sooner than an equal."""
    better = [one.answer for one in looked_at(rates(0.05, 0.01, each=200, looks=50))]
    equal = [one.answer for one in looked_at(rates(0.05, 0.05, each=200, looks=500))]
    assert better[-1] == "good"
    assert "bad" not in better
    assert better.index("good") < equal.index("good")


@pytest.mark.parametrize("more", [0.003, 0.0045])
def test_a_rise_below_the_gate_is_never_bad(more: float) -> None:
    """However many requests show that it is real."""
    looks = rates(0.01, 0.01 + more, each=5000, looks=400)  # to 2,000,000
    answers = [one.answer for one in looked_at(looks)]
    assert answers[-1] == ("good" if more < 0.004 else "inconclusive")  # too near to be decided
    assert "bad" not in answers


def test_a_rise_above_the_gate_is_bad_in_the_end_and_never_good() -> None:
    answers = [one.answer for one in looked_at(rates(0.01, 0.0175, each=5000, looks=100))]
    assert answers[-1] == "bad"
    assert "good" not in answers


def test_a_canary_that_turns_bad_late_is_found() -> None:
    """What it earned while it was good must not hide it."""
    looks = rates(0.01, 0.01, each=200, looks=250)
    requests, errors = looks[-1][0].requests, looks[-1][0].errors
    looks += [
        (side(requests + n, errors + n // 100), side(requests + n, errors + n // 100 * 5))
        for n in range(200, 4001, 200)
    ]
    answers = [one.answer for one in looked_at(looks)]
    assert answers[249] == "good"
    assert answers[-1] == "bad"


def test_a_slower_tail_is_bad_and_an_equal_one_good() -> None:
    """20 % above the baseline's p99 is beyond the gate, 4 % within it."""
    slow = looked_at(with_latencies(random.Random(5), 1.2, each=400, looks=50), (P99,))
    assert slow[-1].answer == "bad"
    assert "good" not in [one.answer for one in slow]
    assert "10% slower" in slow[-1].reasons[0]
    numbers = slow[-1].evidence["p99"]
    assert numbers["canary_threshold_ms"] == pytest.approx(1.1 * numbers["base_threshold_ms"])
    assert numbers["gate"] == pytest.approx(0.1)
    for scale in (1.0, 1.04, 0.5):
        found = looked_at(with_latencies(random.Random(6), scale, each=1500, looks=40), (P99,))
        assert found[-1].answer == "good"
        assert "bad" not in [one.answer for one in found]


def test_all_rules_must_be_good_and_one_bad_is_enough() -> None:
    slow = with_latencies(random.Random(5), 1.2, each=400, looks=50)
    found = looked_at(slow, (ERRORS, P99))[-1]
    assert (found.evidence["errors"]["answer"], found.answer) == ("good", "bad")
    few = looked_at(slow[:4], (ERRORS, P99))[-1]
    assert few.answer == "inconclusive"
    no_latencies = looked_at(rates(0.01, 0.01, each=200, looks=100), (ERRORS, P99))[-1]
    assert (no_latencies.evidence["errors"]["answer"], no_latencies.answer) == (
        "good",
        "inconclusive",
    )


def test_rules_share_alpha() -> None:
    """Each rule added must not add its own false aborts."""
    looks = rates(0.01, 0.03, each=200, looks=20)
    alone = looked_at(looks)[-1].evidence["errors"]
    shared = looked_at(looks, (ERRORS, P99))[-1].evidence["errors"]
    assert shared["e_worse"] == alone["e_worse"]
    assert shared["e_worse_needed"] == 2 * alone["e_worse_needed"]
    assert shared["e_within_needed"] == alone["e_within_needed"]


@pytest.mark.parametrize(
    ("base", "canary", "shift"),
    [(0.01, 0.015, 0.0), (0.01, 0.015, 0.06), (0.002, 0.002, 0.0)],
)
def test_looking_after_every_block_does_not_abort_what_is_within_the_gate(
    base: float, canary: float, shift: float
) -> None:
    """Canaries exactly at the gate are the hardest of those that are to be let through, also while
    load moves both sides alike. A look after every request closes just these blocks."""
    aborted = 0
    for seed in range(300):
        looks = drawn(seed, base, canary, each=50, looks=30, shift=shift)
        aborted += any(one.answer == "bad" for one in looked_at(looks))
    assert aborted / 300 <= ALPHA


def test_looking_after_every_request_does_not_abort_equal_canaries() -> None:
    """Each request goes to a side by chance, and is followed by a look."""
    aborted = 0
    for seed in range(60):
        rng = random.Random(seed)
        looks, requests, errors = [], [0, 0], [0, 0]
        for _ in range(500):
            place = rng.randrange(2)
            requests[place] += 1
            errors[place] += rng.random() < 0.1
            looks.append((side(requests[0], errors[0]), side(requests[1], errors[1])))
        aborted += any(one.answer == "bad" for one in looked_at(looks))
    assert aborted / 60 <= ALPHA


def test_looks_between_blocks_change_nothing() -> None:
    """A look that closes no block leaves the memory as it was, so peeking is free."""
    looks = drawn(3, 0.01, 0.02, each=10, looks=200)
    often = looked_at(looks)[-1]
    seldom = looked_at(looks[4::5])[-1]
    assert often.memory == seldom.memory
    assert often.evidence == seldom.evidence


@settings(max_examples=120, deadline=None)
@given(
    block=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    rate=st.floats(0.0, 1.0),
    gate=st.sampled_from((0.0, 0.005, 0.1, 0.5)),
    base=st.floats(0.0, 1.0),
    under=st.floats(0.0, 1.0),
)
def test_a_block_is_a_fair_bet_at_all_rates(
    block: tuple[int, int], rate: float, gate: float, base: float, under: float
) -> None:
    """Summed over all outcomes of a small block, no alternative may be expected to win while its
    hypothesis holds, whatever rate the alternatives were made from."""
    n, m = block
    canary = min(1.0, base + gate) * under
    worse = base + gate + (1 - base - gate) * under
    wins, loses = 0.0, 0.0
    for i in range(n + 1):
        for j in range(m + 1):
            pair = Pair(base=n, base_hits=i, canary=m, canary_hits=j)
            after = Wealth().after(pair, rate=rate, gate=gate)
            ways = math.comb(n, i) * base**i * (1 - base) ** (n - i) * math.comb(m, j)
            wins += ways * canary**j * (1 - canary) ** (m - j) * math.exp(after.log_worse())
            if base + gate <= 1:
                part = worse**j * (1 - worse) ** (m - j)
                loses += ways * part * math.exp(after.log_within())
    assert wins <= 1 + 1e-6
    assert loses <= 1 + 1e-6


counts_of_looks = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 30)), min_size=1, max_size=25
)


@settings(max_examples=150, deadline=None)
@given(counts_of_looks)
def test_more_errors_on_the_canary_never_turn_bad_into_good(
    errors: list[tuple[int, int, int]],
) -> None:
    fewer, more, totals = [], [], [0, 0, 0]
    for look, (base, canary, added) in enumerate(errors, 1):
        totals = [totals[0] + base, totals[1] + canary, totals[2] + added]
        requests = 100 * look
        fewer.append((side(requests, totals[0]), side(requests, totals[1])))
        more.append((side(requests, totals[0]), side(requests, totals[1] + totals[2])))
    for one, other in zip(looked_at(fewer), looked_at(more), strict=True):
        assert other.memory["errors"].wealth.log_worse() >= (
            one.memory["errors"].wealth.log_worse() - 1e-9
        )
        assert other.memory["errors"].wealth.log_within() <= (
            one.memory["errors"].wealth.log_within() + 1e-9
        )
        if one.answer == "bad":
            assert other.answer != "good"


def test_runs_of_errors_count_less_than_as_many_alone() -> None:
    """Errors of one cause that hit one side in a run are less evidence than as many apart."""
    apart = rates(0.01, 0.03, each=200, looks=24)
    in_runs = [
        (base, side(canary.requests, (canary.requests + 1800) // 2400 * 72))
        for base, canary in apart  # 72 in one look, none in the eleven after
    ]
    assert in_runs[-1][1].errors == apart[-1][1].errors
    steady, bursts = looked_at(apart), looked_at(in_runs)
    assert steady[-1].evidence["errors"]["dispersion"] == 1.0
    assert bursts[-1].evidence["errors"]["dispersion"] > 5
    assert "bad" in [one.answer for one in steady]
    assert {one.answer for one in bursts} == {"inconclusive"}
    assert "come in bursts" in bursts[-1].reasons[0]


def test_an_outage_of_both_sides_is_no_burst() -> None:
    looks, errors = [], 0
    for look in range(1, 41):
        errors += 40 if look % 10 == 0 else 2
        looks.append((side(200 * look, errors), side(200 * look, errors)))
    found = looked_at(looks)[-1]
    assert found.evidence["errors"]["dispersion"] == 1.0
    assert "bad" not in found.answer


def test_an_uneven_split_that_changes_is_judged_alike() -> None:
    """Steps of a rollout send 5 %, 25 %, then 50 % to the canary."""
    looks, base, canary = [], 0, 0
    for share in (5, 25, 50):
        for _ in range(30):
            base, canary = base + 10 * (100 - share), canary + 10 * share
            looks.append((base, canary))
    equal = [(side(b, b // 100), side(c, c // 100)) for b, c in looks]
    worse = [(side(b, b // 100), side(c, c * 3 // 100)) for b, c in looks]
    assert looked_at(equal)[-1].answer == "good"
    assert "bad" not in [one.answer for one in looked_at(equal)]
    assert looked_at(worse)[-1].answer == "bad"


samples = st.lists(st.floats(0, 2000), max_size=30)


@given(samples, samples, samples)
def test_counting_apart_and_adding_equals_counting_together(
    first: list[float], second: list[float], third: list[float]
) -> None:
    empty = Histogram(bounds_ms=COARSE, counts=(0,) * 5)
    a, b, c = (empty.with_samples(part) for part in (first, second, third))
    assert a.plus(b).plus(c) == a.plus(b.plus(c)) == empty.with_samples(first + second + third)
    assert a.plus(b) == b.plus(a)
    one, other = side(9, 3, a), side(7, 2, b)
    assert one.plus(other) == side(16, 5, a.plus(b))


@given(st.lists(st.floats(0.2, 500_000), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_a_quantile_is_at_most_one_bucket_above_the_true_one(
    values: list[float], quantile: float
) -> None:
    found = Histogram().with_samples(values).quantile_ms(quantile)
    true = sorted(values)[math.ceil(quantile * len(values) - 1e-12) - 1]
    assert found is not None
    assert true <= found <= true * 1.05


def test_quantiles_of_nothing_and_above_all_bounds() -> None:
    empty = Histogram(bounds_ms=COARSE, counts=(0,) * 5)
    assert empty.quantile_ms(0.99) is None
    assert empty.with_samples([5000.0]).quantile_ms(0.99) is None
    assert Histogram(bounds_ms=COARSE, counts=(1, 2, 3, 4, 5)).above(1) == 12


def test_latencies_above_all_bounds_are_inconclusive_or_good_but_no_crash() -> None:
    latency = Histogram().with_samples([1e9] * 1000)
    looks = [(side(1000, 0, latency), side(1000, 0, latency)) for _ in range(2)]
    assert looked_at(looks, (P99,))[-1].answer == "inconclusive"


def test_a_gate_between_bounds_is_rounded_up() -> None:
    """Rounded down, a canary within the gate would be called bad."""
    rule = QuantileRule(worse_by=0.12)
    found = looked_at(with_latencies(random.Random(1), 1.0, each=600, looks=3), (rule,))[-1]
    assert found.evidence["p99"]["gate"] == pytest.approx(1.1**1.5 - 1)


def test_memory_and_answer_survive_json() -> None:
    """What a coordinator writes down and reads back after a restart must judge alike."""
    rules = (ERRORS, P99)
    looks = with_latencies(random.Random(2), 1.2, each=400, looks=12)
    before = looked_at(looks[:-1], rules)[-1]
    read = msgspec.json.decode(msgspec.json.encode(before.memory), type=dict[str, RuleMemory])
    assert judge(*looks[-1], rules, read) == judge(*looks[-1], rules, before.memory)
    msgspec.json.encode(before.evidence)
    assert msgspec.json.decode(msgspec.json.encode(rules), type=tuple[Rule, ...]) == rules


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from((0.0, 1e-9, 0.005, 0.5)),
)
def test_any_counts_are_judged(looks: list[tuple[int, int, float, float]], worse_by: float) -> None:
    """No counts that can be may raise, and evidence is always finite."""
    totals, cumulative = [0, 0, 0, 0], []
    for base, canary, failed, failed_canary in looks:
        new = (base, int(base * failed), canary, int(canary * failed_canary))
        totals = [a + b for a, b in zip(totals, new, strict=True)]
        cumulative.append((side(totals[0], totals[1]), side(totals[2], totals[3])))
    for found in looked_at(cumulative, (RateRule(worse_by=worse_by),)):
        numbers = found.evidence["errors"]
        assert math.isfinite(numbers["e_worse"])
        assert math.isfinite(numbers["e_within"])
        assert numbers["dispersion"] >= 1


def refused(
    base: Side, canary: Side, rules: Sequence[Rule] = (ERRORS,), alpha: float = 0.05
) -> str:
    with pytest.raises((BadData, UsageError)) as caught:
        judge(base, canary, rules, alpha=alpha)
    return caught.value.code


def test_counts_that_cannot_be_are_refused() -> None:
    fine = side(10, 1)
    assert refused(side(-1, 0), fine) == "SX-JUDGE-006"
    assert refused(fine, side(10, -1)) == "SX-JUDGE-006"
    negative = Histogram(counts=(-1, *Histogram().counts[1:]))
    assert refused(fine, side(10, 0, negative)) == "SX-JUDGE-006"
    assert refused(fine, side(10, 11)) == "SX-JUDGE-007"
    coarse = Histogram(bounds_ms=COARSE, counts=(0,) * 5)
    assert refused(fine, side(10, 0, coarse)) == "SX-JUDGE-010"
    with pytest.raises(BadData, match="bounds that differ"):
        Histogram().plus(coarse)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [((), (0,)), ((1.0, 1.0), (0, 0, 0)), ((2.0, 1.0), (0, 0, 0)), ((0.0, 1.0), (0, 0, 0)),
     ((1.0, 2.0), (0, 0)), ((1.0, math.nan), (0, 0, 0)), (BOUNDS_MS, (0,))],
)  # fmt: skip
def test_histograms_without_ascending_bounds_or_a_count_for_each_are_refused(
    bounds: tuple[float, ...], counts: tuple[int, ...]
) -> None:
    with pytest.raises(BadData) as caught:
        Histogram(bounds_ms=bounds, counts=counts)
    assert caught.value.code == "SX-JUDGE-008"


@pytest.mark.parametrize("sample", [-0.1, math.nan])
def test_latencies_that_cannot_be_are_refused(sample: float) -> None:
    with pytest.raises(BadData) as caught:
        Histogram().with_samples([1.0, sample])
    assert caught.value.code == "SX-JUDGE-009"


def test_a_side_that_shrinks_is_refused() -> None:
    """Counters that began again would be read as requests that never were."""
    before = judge(side(500, 5), side(500, 5), (ERRORS,)).memory
    for base, canary in (
        (side(499, 5), side(600, 5)),
        (side(600, 5), side(400, 5)),
        (side(600, 4), side(600, 6)),
        (side(600, 6), side(600, 4)),
    ):
        with pytest.raises(BadData) as caught:
            judge(base, canary, (ERRORS,), before)
        assert caught.value.code == "SX-JUDGE-001"


def test_rules_that_cannot_be_judged_are_refused() -> None:
    fine = side(10, 1)
    assert refused(fine, fine, alpha=0.0) == "SX-JUDGE-002"
    assert refused(fine, fine, alpha=1.0) == "SX-JUDGE-002"
    assert refused(fine, fine, ()) == "SX-JUDGE-003"
    assert refused(fine, fine, (ERRORS, ERRORS)) == "SX-JUDGE-003"
    for rule in (
        RateRule(worse_by=-0.1),
        RateRule(worse_by=0.51),
        RateRule(worse_by=math.nan),
        RateRule(requests=0),
        QuantileRule(quantile=1.0),
        QuantileRule(quantile=0.0),
        QuantileRule(worse_by=-0.1),
    ):
        assert refused(fine, fine, (rule,)) == "SX-JUDGE-004"
    coarse = side(10, 1, Histogram(bounds_ms=(1.0, 2.0), counts=(0, 0, 0)))
    assert refused(coarse, coarse, (QuantileRule(worse_by=1.5),)) == "SX-JUDGE-005"


def test_a_block_is_judged_by_the_rates_of_the_blocks_before() -> None:
    """A rate taken from the block's own requests would let chance choose what it is compared with."""
    looks = [(side(100, 9), side(100, 0)), (side(200, 9), side(260, 20))]
    first, second = looked_at(looks)
    # Half an error in fifty requests counts as known before any traffic.
    one = Wealth().after(Pair(base=100, base_hits=9, canary=100), rate=0.01, gate=0.005)
    block = Pair(base=100, base_hits=0, canary=160, canary_hits=20)
    assert first.memory["errors"].wealth == one
    assert second.memory["errors"].wealth == one.after(block, rate=9.5 / 150, gate=0.005)
