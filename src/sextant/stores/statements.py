"""Reads the named statements of a store: `statements.sql` in its folder, parsed once. Called by the
backends; nothing else reads those files."""

import functools
import re
from importlib import resources
from typing import NamedTuple

from sextant.kernel.errors import Bug

_WRITE = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")
_NAME = "-- name:"


class Sql(NamedTuple):
    """One statement. `table` is the only table that it changes and looks at, "" for a SELECT."""

    name: str
    text: str
    table: str


class Statements(dict[str, Sql]):
    """Statements by name. Bug for a name that does not exist."""

    def __missing__(self, name: str) -> Sql:
        raise Bug(
            "SX-STATE-022", f"there is no statement `{name}`", hint="add it to statements.sql"
        )


@functools.cache
def load(package: str) -> Statements:
    """Return all statements of a store's package, by name."""
    return parse(resources.files(package).joinpath("statements.sql").read_text())


def parse(text: str) -> Statements:
    """Return the statements of a file: `-- name: x` and, on the lines up to the next comment, its
    SQL.

    Raises  Bug on a name given twice, a statement without a name, and a write that reads (a write
            sees its own table
            only: that is what allows the writer to collect the writes of a group table by table).
    """
    found = Statements()
    name = ""
    lines: list[str] = []

    def finish() -> None:
        sql = " ".join(lines).strip()
        lines.clear()
        if not sql and not name:
            return
        if not sql or not name or name in found:
            raise Bug(
                "SX-STATE-020", f"statement `{name}` is empty, nameless or given twice: {sql[:60]}"
            )
        write = _WRITE.match(sql)
        if write is not None and "SELECT" in sql:
            raise Bug("SX-STATE-021", f"statement `{name}` writes and reads: split it")
        found[name] = Sql(name, sql, write.group(1) if write else "")

    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("--"):
            finish()
            name = line.removeprefix(_NAME).strip() if line.startswith(_NAME) else ""
        elif line:
            lines.append(line)
    finish()
    return found
