"""Boards: panels of business numbers, SQL, metrics, logs and checks, shown with the data of now."""

from typing import Any

from sextant.kernel.kinds import Instant, Kind, Sees, Shown
from sextant.kinds.board.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.board.assets import AuthoredBoards

    return AuthoredBoards()


def _shown(_core: Any, see: Sees) -> Shown:
    from sextant.kinds.board.views import ShownBoards

    return ShownBoards(see)


KIND = Kind(NAME, authored=_authored, released=lambda _core: Instant(), shown=_shown)
