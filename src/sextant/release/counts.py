"""What is counted of each side of a canary: requests, errors and latencies by bucket. The proxy
counts, the judge of canaries reads; counts of several proxies add up.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate, pairwise

import msgspec

from sextant.kernel.errors import BadData

_GROWTH = math.sqrt(1.1)  # two buckets are 10 %
BOUNDS_MS = tuple(0.1 * _GROWTH**index for index in range(329))  # 0.1 ms to 10 minutes


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies by bucket.

    bounds_ms  upper bounds, ascending, above 0; a bucket holds what is above the bound before it
    counts     one more than bounds: the last counts what is above all of them
    """

    bounds_ms: tuple[float, ...] = BOUNDS_MS
    counts: tuple[int, ...] = (0,) * (len(BOUNDS_MS) + 1)

    def __post_init__(self) -> None:
        ascending = self.bounds_ms is BOUNDS_MS or all(
            low < high for low, high in pairwise((0.0, *self.bounds_ms))
        )
        if not (self.bounds_ms and ascending and len(self.counts) == len(self.bounds_ms) + 1):
            raise BadData(
                "SX-JUDGE-008",
                f"a histogram of {len(self.bounds_ms)} bounds and {len(self.counts)} counts",
                hint="bounds ascend from above 0, and there is one count more",
            )

    def with_samples(self, samples_ms: Iterable[float]) -> "Histogram":
        """Return the histogram with these latencies too. BadData if one is below 0 or nan."""
        counts = list(self.counts)
        for sample in samples_ms:
            if not sample >= 0:
                raise BadData("SX-JUDGE-009", f"a latency of {sample} ms")
            counts[bisect_left(self.bounds_ms, sample)] += 1
        return Histogram(bounds_ms=self.bounds_ms, counts=tuple(counts))

    def plus(self, other: "Histogram") -> "Histogram":
        """Return both together. BadData if their bounds differ."""
        check_same_bounds(self, other)
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(bounds_ms=self.bounds_ms, counts=counts)

    def above(self, index: int) -> int:
        """Return how many latencies are above bound `index`."""
        return sum(self.counts[index + 1 :])

    def quantile_ms(self, quantile: float) -> float | None:
        """Return the bound of the bucket that the quantile is in; None if empty or above all."""
        seen = list(accumulate(self.counts))
        index = bisect_left(seen, quantile * seen[-1])
        return self.bounds_ms[index] if seen[-1] and index < len(self.bounds_ms) else None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted on one side since the canary began."""

    requests: int = 0
    errors: int = 0
    latency: Histogram = Histogram()

    def plus(self, other: "Side") -> "Side":
        """Return both together. BadData if the bounds differ."""
        return Side(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=self.latency.plus(other.latency),
        )


def check_same_bounds(one: Histogram, other: Histogram) -> None:
    """BadData unless both count by the same bounds."""
    if one.bounds_ms != other.bounds_ms:
        raise BadData(
            "SX-JUDGE-010",
            f"histograms of {len(one.bounds_ms)} and {len(other.bounds_ms)} bounds that differ",
            hint="both sides count by the same bounds",
        )
