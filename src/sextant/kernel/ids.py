"""Ids that sort by time, as an argument: `ids.new("run")` -> `run_01jb2x...`.

The text after the prefix is 26 characters of Crockford base 32 (lower case): 48 bits of
milliseconds, 80 bits of randomness (the ULID layout). Ids from one generator never go backwards, so
indexes stay append-only.
"""

import random
import threading

from sextant.kernel.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class Ids:
    """Generates ids; safe to call from several threads."""

    def __init__(self, clock: Clock, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: str, *, after: str = "") -> str:
        """Return a new id with this prefix, larger than every earlier one of this generator, and
        than `after`, an id of another generator whose clock may have been ahead."""
        with self._lock:
            if after.startswith(f"{prefix}_"):
                self._last = max(self._last, _number(after.removeprefix(f"{prefix}_")))
            stamp = (self._clock.now_ns() // 1_000_000) << 80
            if stamp > self._last:
                self._last = stamp | self._rng.getrandbits(80)
            else:  # same millisecond, or the clock went back: count on
                self._last += 1 + self._rng.getrandbits(40)
            value = self._last
        return f"{prefix}_{_base32(value)}"


def _base32(value: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def _number(text: str) -> int:
    value = 0
    for letter in text:
        value = value << 5 | _ALPHABET.index(letter)
    return value
