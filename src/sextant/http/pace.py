"""Rate limits: a token bucket for each caller."""

from sextant.kernel.clock import Clock

_BUCKETS_MAX = 10_000  # callers whose pace is remembered; the oldest are forgotten


class Pace:
    """So many requests a second for each caller, and a burst.

    burst  requests at once after a pause; 0 = twice as many as in a second
    """

    def __init__(self, clock: Clock, per_s: float, burst: float = 0) -> None:
        self._clock, self._per_s, self._burst = clock, per_s, burst
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, caller: str) -> float:
        """Return 0 and count the request, or how many seconds the caller has to wait."""
        now = self._clock.monotonic_s()
        most = self._burst or 2 * self._per_s
        left, since = self._left.pop(caller, (most, now))
        left = min(most, left + (now - since) * self._per_s)
        if len(self._left) >= _BUCKETS_MAX:
            self._left.pop(next(iter(self._left)))
        self._left[caller] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / self._per_s
