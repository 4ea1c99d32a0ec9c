"""Answers that take long to make, kept for the next who asks: what was not asked for in the longest
time goes first. Held by `app/memory.py`."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """Values by keys that say all that they follow from: one may be lost, none is ever wrong."""

    def __init__(self, most: int) -> None:
        """most  the weight of all together"""
        self._most = most
        self._weight = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(
        self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int] = lambda _value: 1
    ) -> T:
        """Return what was made under a key, or make it. What weighs more than a tenth of all is not
        kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: T = self._values[key][0]
                return found
        made = make()  # others go on meanwhile; two may make the same
        weight = weigh(made)
        if weight > self._most // 10:
            return made
        with self._lock:
            self._weight += weight - self._values.pop(key, (None, 0))[1]
            self._values[key] = (made, weight)
            while self._weight > self._most:
                self._weight -= self._values.popitem(last=False)[1][1]
        return made
