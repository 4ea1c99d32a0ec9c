"""What one process keeps in memory between questions, because it takes long to make: each part when
it is first asked for. Held by the platform."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from sextant.core import Core
from sextant.kernel.limits import MEMORY_KEPT_MAX

if TYPE_CHECKING:
    from sextant.app.search import SearchIndex


T = TypeVar("T")


class Memory:
    """Follows the stores: it may be lost, and is never wrong."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made under a key, or make it: the key says all that it follows from. What
        was not asked for in the longest time is dropped."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
        made = make()  # others go on meanwhile; two may make the same
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MEMORY_KEPT_MAX:
                self._kept.popitem(last=False)
        return made

    @functools.cached_property
    def names(self) -> "SearchIndex":
        """The names of the project, to be searched."""
        from sextant.app.search import SearchIndex

        return SearchIndex(self._core)
