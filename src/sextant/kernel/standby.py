"""Something that takes long to start, kept ready for a while before it is asked for."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_PAUSE_S = 2.0  # whoever took one has work for the processor: the next one is started after that


class StandBy(Generic[T]):
    """At most one that stands by. Any thread.

    start     makes one
    end       ends one that nobody took
    is_alive  says whether one can still be used
    """

    def __init__(
        self,
        start: Callable[[], T],
        *,
        end: Callable[[T], None],
        is_alive: Callable[[T], bool],
    ) -> None:
        self._start, self._end, self._is_alive = start, end, is_alive
        self._ready: T | None = None
        self._until = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def keep(self, for_s: float) -> None:
        """Have one ready for so many seconds from now."""
        with self._lock:
            self._until = time.monotonic() + for_s
            if self._timer is None:
                self._end_in(for_s)
        self._refill()

    @property
    def has_one(self) -> bool:
        """Whether one stands by."""
        return self._ready is not None

    def take(self) -> T | None:
        """Return the one that stands by, and forget it; None where none does. Another one is
        started soon, while one is to stand by."""
        with self._lock:
            ready, self._ready = self._ready, None
            if time.monotonic() < self._until:
                soon = threading.Timer(_PAUSE_S, self._refill)
                soon.daemon = True
                soon.start()
        if ready is not None and not self._is_alive(ready):
            self._end(ready)
            return None
        return ready

    def close(self) -> None:
        """End the one that stands by; none does any more."""
        with self._lock:
            self._until = 0.0
            if self._timer is not None:
                self._timer.cancel()
        self._end_when_due()

    def _refill(self) -> None:
        with self._lock:
            if self._ready is None and time.monotonic() < self._until:
                self._ready = self._start()

    def _end_in(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end_when_due)
        self._timer.daemon = True
        self._timer.start()

    def _end_when_due(self) -> None:
        with self._lock:
            left = self._until - time.monotonic()
            if left > 0:
                self._end_in(left)
                return
            self._timer = None
            ready, self._ready = self._ready, None
        if ready is not None:
            self._end(ready)
