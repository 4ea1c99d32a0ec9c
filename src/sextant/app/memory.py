"""What one process keeps in memory between questions, because it takes long to make: each part when
it is first asked for. Held by the platform."""

import functools
from typing import TYPE_CHECKING

from sextant.core import Core
from sextant.kernel.kept import Kept
from sextant.kernel.limits import MEMORY_KEPT_MAX, MEMORY_NUMBERS_MAX

if TYPE_CHECKING:
    from sextant.app.search import SearchIndex


class Memory:
    """Follows the stores: it may be lost, and is never wrong."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.kept = Kept(MEMORY_KEPT_MAX)
        self.numbers = Kept(MEMORY_NUMBERS_MAX)  # by their rows

    @functools.cached_property
    def names(self) -> "SearchIndex":
        """The names of the project, to be searched."""
        from sextant.app.search import SearchIndex

        return SearchIndex(self._core)
