"""What declarations return: typed objects without effects, of whatever kind.

`__sextant_asset__` marks them for the code fingerprint: met as a global they are an edge of the
graph, not code.
"""

from typing import ClassVar, NamedTuple

from sextant.project.collect import Place


class Secret(str):
    """A reference to a secret, written where its value would stand: the default of a parameter, a
    webhook. As text it is
    `secret:NAME`; the value exists in the worker only."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.removeprefix("secret:")


class Window(NamedTuple):
    """An upstream asset with more than the partition being made: the last `length` up to its end,
    or `all`."""

    asset: str
    length: str


class Declared:
    """An asset as its author wrote it. `of_kind`: the kind that reads it."""

    __sextant_asset__ = True
    of_kind: ClassVar[str]
    name: str
    place: Place

    @property
    def id(self) -> str:
        """Return the id of what others read."""
        return f"{self.of_kind}:{self.name}"

    def __repr__(self) -> str:
        return f"<{self.of_kind}:{self.name}>"
