"""What checks are given and what they answer. Called by the other modules of this package."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.formats.values import plain
from sextant.kernel.errors import ProjectError

if TYPE_CHECKING:
    import polars as pl

MASK = "***"  # what stands for a value of a personal column


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a check may know besides the rows."""

    asset: str  # whose rows these are
    frame: "pl.DataFrame"
    schema: Mapping[
        str, "pl.DataType"
    ]  # of the frame, read once: Polars builds it anew at each call
    references: Mapping[str, "pl.DataFrame"]  # asset id -> its rows
    expect_schema: Sequence[tuple[str, str]]  # of the live version
    time: str  # the column of instants
    now_ns: int
    functions: Mapping[str, Callable[..., Any]]
    personal: frozenset[str]
    tz: str = "UTC"  # the project's zone, for SQL

    def column(self, name: str) -> "pl.DataType":
        """Return a column's type. Unanswerable when it does not exist; the message names near
        ones."""
        if name not in self.schema:
            near = difflib.get_close_matches(name, self.schema, n=3)
            raise Unanswerable(
                f"there is no column `{name}`; "
                + (
                    f"did you mean {_listed(near)}?"
                    if near
                    else f"there are {_listed(list(self.schema)[:10])}"
                )
            )
        return self.schema[name]

    def show(self, column: str, value: Any) -> Any:
        """Return a value as JSON can hold it, masked when its column is personal, or is not one of
        the rows, which have personal ones: a query may have renamed it."""
        hides = column in self.personal or (self.personal and column not in self.schema)
        return MASK if hides and value is not None else plain(value)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found, before tolerance.

    failed   failing rows (or groups); 0 is a pass
    detail   ends the message after the count: ", worst 9999"
    message  the whole message, where counting rows does not say it
    mask     marks the failing rows of the frame
    rows     the failing rows themselves, where they are not rows of the frame
    """

    failed: int
    measured: dict[str, Any] = {}
    detail: str = ""
    message: str = ""
    mask: "pl.Expr | None" = None
    rows: "pl.DataFrame | None" = None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A check of rows as expressions, so that all probes of a frame run in one pass.

    said      what is asserted, for the message: "`dep_delay` between -60 and 1800"
    counts    what to compute in that pass, by name
    conclude  called with the computed values
    """

    said: str
    counts: dict[str, "pl.Expr"]
    conclude: Callable[[dict[str, Any]], Finding]


class Unanswerable(Exception):
    """The check cannot be answered on this frame; the text says why."""


def need(params: Mapping[str, Any], name: str, check: str) -> Any:
    """Return a parameter. ProjectError when the check was declared without it."""
    if name not in params:
        raise ProjectError(
            "SX-CHECK-008",
            f"check `{check}` lacks `{name}`",
            hint=f"give it as {check}({name}=...)",
        )
    return params[name]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
