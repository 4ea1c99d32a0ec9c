"""Evidence that grows with each block of requests and is valid at every look: bets on two rates,
and by how much hits come in bursts. The judge of canaries calls it.

A bet's wealth is an e-process: while its hypothesis holds, it exceeds 1 / alpha at any time with
probability alpha at most (Ville's inequality; Ramdas, Gruenwald, Vovk, Shafer 2023, "Game-theoretic
statistics and safe anytime-valid inference", section 2). A block's gain is the likelihood ratio of
one alternative and the nearest rates of the hypothesis (Turner, Ly, Gruenwald 2024, "Generic
E-variables for exact sequential k-sample tests that allow for optional stopping", J. Stat. Plan.
Inference 230; Turner, Gruenwald 2023, "Exact anytime-valid confidence intervals for contingency
tables and beyond", Stat. Probab. Letters 198: hypotheses with a difference). It is fair at whatever
rates hold in that block, so load that moves both sides alike is allowed, and so are shares of the
traffic that change from block to block.
"""

import math
from collections.abc import Sequence

import msgspec

# Odds of the canary in the alternatives, as multiples of the odds at the gate, and their weights.
# What differs from the gate by less than half of the first stays undecided, with any traffic.
_ODDS = (1.1, 1.25, 1.5, 2.0, 3.0, 6.0)
_WEIGHTS = (0.05, 0.15, 0.25, 0.25, 0.2, 0.1)
_RATE_MIN = 1e-6  # alternatives keep so far from 0 and 1: there the nearest rates are found
_CASH = 0.05  # of the wealth of `worse` that is not bet
_SHARE = 0.002  # of that wealth that is dealt out again after each block
_SCALES = 8  # bursts are looked for in 1, 2, 4, ... 128 blocks together
_CHANCE = 3.0  # standard deviations of the dispersion that are put down to chance
BLOCKS_MIN = 4  # fewer say nothing about bursts

_WITH_CASH = (*((1 - _CASH) * weight for weight in _WEIGHTS), _CASH)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of both sides, and how many of them are hits: what the rule counts against them."""

    base: int = 0
    base_hits: int = 0
    canary: int = 0
    canary_hits: int = 0

    def minus(self, other: "Pair") -> "Pair":
        return Pair(
            base=self.base - other.base,
            base_hits=self.base_hits - other.base_hits,
            canary=self.canary - other.canary,
            canary_hits=self.canary_hits - other.canary_hits,
        )


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over groups of blocks, from which follows how much more the hits vary than by chance.

    open  excess, weight, variance and hits of a group that waits for its other half
    """

    groups: int = 0
    excess_squared: float = 0.0
    excess_weight: float = 0.0
    weight_squared: float = 0.0
    variance: float = 0.0
    hits: float = 0.0
    open: tuple[float, ...] = ()


class Wealth(msgspec.Struct, frozen=True, kw_only=True):
    """What was won until now.

    worse   log wealth by alternative of the bet that the canary is worse than the gate; cash last
    within  log wealth by alternative of the bet that it is not
    scales  the spread of hits over 1, 2, 4, ... blocks together
    """

    worse: tuple[float, ...] = tuple(math.log(weight) for weight in _WITH_CASH)
    within: tuple[float, ...] = tuple(math.log(weight) for weight in _WEIGHTS)
    scales: tuple[Scale, ...] = (Scale(),)

    def after(self, block: Pair, *, rate: float, gate: float) -> "Wealth":
        """Return the wealth after one block more.

        rate  of the baseline in the alternatives, 0..1, from blocks before this one
        gate  by how much the canary's rate may exceed the baseline's, absolute
        """
        won = (*_gains(block, rate, gate, _ODDS), 0.0)
        kept = _gains(block, rate, gate, [1 / odds for odds in _ODDS])
        return Wealth(
            worse=_dealt([wealth + gain for wealth, gain in zip(self.worse, won, strict=True)]),
            within=tuple(wealth + gain for wealth, gain in zip(self.within, kept, strict=True)),
            scales=_with_block(self.scales, block),
        )

    def log_worse(self) -> float:
        """Return the log of the evidence against "not worse than the gate, at any time"."""
        return _log_sum(self.worse)

    def log_within(self) -> float:
        """Return the log of the evidence against "worse than the gate, all the time"."""
        return _log_sum(self.within)

    def dispersion(self) -> float:
        """Return the variance of the canary's share of hits, as a multiple of that of independent
        requests: the largest of all scales where it is more than chance, 1.0 at least.

        The log of evidence is divided by it, as a quasi-likelihood is (McCullagh, Nelder 1989,
        section 9.2). It stays valid where requests are independent, because it only gets less.
        """
        return max(1.0, *(_dispersion(scale) for scale in self.scales))


def _gains(block: Pair, rate: float, gate: float, odds: Sequence[float]) -> list[float]:
    """Return the log e-value of a block for each alternative: the canary's odds as multiples of
    those at the gate."""
    rate = max(min(rate, 1 - gate - _RATE_MIN), _RATE_MIN)
    gains = []
    for multiple in odds:
        ratio = (rate + gate) / (1 - rate - gate) * multiple
        canary = ratio / (1 + ratio)
        null = _nearest(block, rate, canary, gate)
        gains.append(
            block.base_hits * math.log(rate / null)
            + (block.base - block.base_hits) * math.log((1 - rate) / (1 - null))
            + block.canary_hits * math.log(canary / (null + gate))
            + (block.canary - block.canary_hits) * math.log((1 - canary) / (1 - null - gate))
        )
    return gains


def _nearest(block: Pair, rate: float, canary: float, gate: float) -> float:
    """Return the baseline's rate on the border `canary = base + gate` that is nearest in relative
    entropy to the alternative, by Newton's method between bounds.

    There the e-value is fair: along the border the log of its expectation is concave, with its
    peak, 0, at this point; inside the hypothesis it is less.
    """
    if gate == 0:
        return (block.base * rate + block.canary * canary) / (block.base + block.canary)
    low = max(min(rate, canary - gate), 1e-12)
    high = min(max(rate, canary - gate), (1 - gate) * (1 - 1e-12))
    low = min(low, high)
    null = (low + high) / 2
    for _ in range(60):
        at_gate = null + gate
        slope = block.base * (null - rate) / (null * (1 - null))
        slope += block.canary * (at_gate - canary) / (at_gate * (1 - at_gate))
        bend = block.base * (rate / null**2 + (1 - rate) / (1 - null) ** 2)
        bend += block.canary * (canary / at_gate**2 + (1 - canary) / (1 - at_gate) ** 2)
        low, high = (low, null) if slope > 0 else (null, high)
        step = null - slope / bend
        before, null = null, step if low <= step <= high else (low + high) / 2
        if abs(null - before) <= 1e-12 * null:
            break
    return null


def _dealt(wealth: Sequence[float]) -> tuple[float, ...]:
    """Return the wealth after a small share of it is dealt out by the first weights, so that a
    canary that turns worse late is found (fixed share: Herbster, Warmuth 1998, "Tracking the best
    expert")."""
    total = _log_sum(wealth)
    return tuple(
        total + math.log((1 - _SHARE) * math.exp(part - total) + _SHARE * weight)
        for part, weight in zip(wealth, _WITH_CASH, strict=True)
    )


def _with_block(scales: Sequence[Scale], block: Pair) -> tuple[Scale, ...]:
    """Return the sums with one block more, at each scale where it completes a group."""
    total, hits = block.base + block.canary, block.base_hits + block.canary_hits
    weight = block.base * block.canary / total
    # Given the hits of both sides together, the canary's are hypergeometric: what moves both sides
    # alike is not counted as spread.
    excess = block.canary_hits - block.canary * hits / total
    variance = weight / total * hits * (total - hits) / (total - 1)
    group: tuple[float, ...] = (excess, weight, variance, hits)
    after = list(scales)
    for level in range(_SCALES):
        if level == len(after):
            after.append(Scale())
        scale = after[level]
        excess, weight, variance, hits = group  # type: ignore[assignment]
        after[level] = Scale(
            groups=scale.groups + 1,
            excess_squared=scale.excess_squared + excess**2,
            excess_weight=scale.excess_weight + excess * weight,
            weight_squared=scale.weight_squared + weight**2,
            variance=scale.variance + variance,
            hits=scale.hits + hits,
            open=() if scale.open else group,
        )
        if not scale.open:
            break
        group = tuple(a + b for a, b in zip(scale.open, group, strict=True))
    return tuple(after)


def _dispersion(scale: Scale) -> float:
    """Return the dispersion around one difference of rates; 1.0 where chance may explain it."""
    if scale.groups < BLOCKS_MIN or not scale.variance:
        return 1.0
    residual = scale.excess_squared - scale.excess_weight**2 / scale.weight_squared
    ratio = residual / scale.variance * scale.groups / (scale.groups - 1)
    # Of a chi-squared by its degrees of freedom, more where a group has few hits.
    deviation = math.sqrt((2 + scale.groups / scale.hits) / scale.groups)
    return ratio if ratio > 1 + _CHANCE * deviation else 1.0


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))
