"""Two rules by which others judge canaries, written from their documentation, for `bench/judge.py`.

Both are given one value of each metric for each interval of time, error rate and 99th percentile,
and say after each interval whether the canary is to be aborted.
"""

import math
from collections.abc import Sequence

import numpy as np

MEDIAN_TIES = 1e-12


class FixedThreshold:
    """The rule of Flagger and of Argo Rollouts: an interval fails when its success rate is below a
    number or its 99th percentile above one; so many failures in a row abort.

    Thresholds are numbers that somebody sets before; the baseline is not looked at.
    """

    def __init__(self, *, success_min: float, p99_ms_max: float, failures: int = 3) -> None:
        self._success_min, self._p99_ms_max, self._failures = success_min, p99_ms_max, failures
        self._in_a_row = 0

    def interval(self, canary_errors: float, canary_p99_ms: float) -> bool:
        failed = 1 - canary_errors < self._success_min or canary_p99_ms > self._p99_ms_max
        self._in_a_row = self._in_a_row + 1 if failed else 0
        return self._in_a_row >= self._failures


def mann_whitney_is_high(
    base: Sequence[float],
    canary: Sequence[float],
    *,
    mean_ratio_min: float,
    confidence: float = 0.98,
    tolerance: float = 0.25,
) -> bool:
    """Return whether Kayenta's classifier calls a metric High: the confidence interval of the shift
    (Mann-Whitney U, normal approximation, Hodges-Lehmann estimate) lies above the tolerance, which
    is a part of the estimate, and the ratio of means passes the gate.

    base, canary    one value for each interval, shape (n,) and (m,)
    mean_ratio_min  the gate of effect size
    """
    a, b = np.asarray(base), np.asarray(canary)
    mean = a.mean()
    if mean > 0 and b.mean() / mean < mean_ratio_min:
        return False
    shifts = np.subtract.outer(b, a).ravel()
    z = {0.98: 2.3263478740408408}[confidence]
    pairs = len(a) * len(b)
    rank = math.floor(pairs / 2 - z * math.sqrt(pairs * (len(a) + len(b) + 1) / 12))
    if rank < 1:
        return False  # too few intervals for an interval of this confidence
    middle = pairs // 2
    shifts.partition([rank - 1, middle])
    return bool(shifts[rank - 1] > max(tolerance * abs(shifts[middle]), MEDIAN_TIES))
