"""The failing rows that checks kept, as `check --rows` and `runs RUN --rows` show them."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from sextant.cli.output import values_table
from sextant.kernel.errors import NotFound

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.kernel.answers import FailingRows
    from sextant.kernel.nouns import CheckResult

rows_option = click.option(
    "--rows", is_flag=True, help="Also the failing rows that were kept, personal columns masked."
)


def kept_rows(p: "Platform", results: "Iterable[CheckResult]") -> "dict[str, FailingRows]":
    """Return the kept rows of failed checks, by their sample; of those that still are there."""
    found = {}
    for one in results:
        if one.samples and not one.ok:
            with contextlib.suppress(NotFound):
                found[one.samples] = p.failing_rows(one.asset, one.samples)
    return found


def with_rows(
    results: "Iterable[CheckResult]", failing: "Mapping[str, FailingRows]"
) -> list[dict[str, Any]]:
    """Return check results as JSON has them, each with its failing rows."""
    import msgspec

    return [
        {**msgspec.to_builtins(one), "failing_rows": failing[one.samples]["rows"]}
        if one.samples in failing
        else msgspec.to_builtins(one)
        for one in results
    ]


def failing_lines(
    results: "Iterable[CheckResult]", failing: "Mapping[str, FailingRows]"
) -> list[str]:
    """Return the failing rows of each check as a table, with their row numbers."""
    out: list[str] = []
    for one in results:
        kept = failing.get(one.samples)
        if kept is None or not kept["rows"]:
            continue
        shown, rows = len(kept["rows"]), kept["rows"]
        first = f", the first {shown}" if shown < one.failed else ""
        out += ["", f"{one.asset}[{one.partition or 'all'}] {one.name}: {one.failed:,} fail{first}"]
        head = list(rows[0])
        if len(kept["positions"]) == shown:
            numbered = zip(kept["positions"], rows, strict=True)
            cells = [[at, *(row.get(name) for name in head)] for at, row in numbered]
            out += values_table(["row", *head], cells)
        else:
            out += values_table(head, [[row.get(name) for name in head] for row in rows])
    return out
