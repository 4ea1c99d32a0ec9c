"""What only this kind knows of an asset: `Asset.spec` of a board."""

from collections.abc import Mapping
from typing import Any

from sextant.kernel.nouns import Asset, Noun

KIND = "board"
PANELS_MAX = 24  # each is a question of its own when the board is looked at


class Panel(Noun, frozen=True, kw_only=True):
    """One part of a board: a question that is asked when somebody looks.

    ask    the operation that answers
    given  its arguments
    of     ids of the assets that it shows, as far as the declaration names them
    """

    title: str
    ask: str
    given: Mapping[str, Any] = {}
    of: tuple[str, ...] = ()


class Board(Noun, frozen=True, kw_only=True):
    """Panels, in the order in which they are shown."""

    panels: tuple[Panel, ...]


def board_spec(asset: Asset) -> Board:
    """Return the panels of a board as it is declared."""
    return asset.spec_as(Board)
