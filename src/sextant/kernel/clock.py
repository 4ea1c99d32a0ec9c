"""Time, as an argument: the only module that reads the machine's clock. Everything above takes a
`Clock`.

Times are integers: nanoseconds since the Unix epoch, UTC. Lengths are seconds (`..._s`).
"""

import time
from datetime import UTC, datetime
from typing import Protocol

NS = 1_000_000_000


class Clock(Protocol):
    """What tells the time to the platform."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, for measuring lengths."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that a test or a replay moves by hand; waiting moves it."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_s(self) -> float:
        return self._now_ns / NS

    def wait(self, seconds: float) -> None:
        self._now_ns += int(seconds * NS)

    def set(self, now_ns: int) -> None:
        """Move the clock, backwards too: that is what a broken machine does."""
        self._now_ns = now_ns


def iso(ns: int) -> str:
    """Return the time as RFC 3339 text in UTC, to the millisecond."""
    seconds, rest = divmod(ns, NS)
    return (
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        + f".{rest // 1_000_000:03d}Z"
    )


def from_datetime(at: datetime) -> int:
    """Return nanoseconds since the epoch of an aware datetime. ValueError if it has no zone."""
    if at.tzinfo is None:
        msg = "a datetime without a zone does not name an instant"
        raise ValueError(msg)
    whole = int(at.timestamp() // 1)
    return whole * NS + at.microsecond * 1000


def to_datetime(ns: int) -> datetime:
    """Return the aware UTC datetime (microsecond precision) of nanoseconds since the epoch."""
    seconds, rest = divmod(ns, NS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
