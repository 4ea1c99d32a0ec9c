"""Brings a state database to the schema of this Sextant, in numbered steps. Called when a backend
opens.

`migrations/NNN_name.sql` is for both databases; `NNN_name.postgres.sql` beside it holds what
Postgres needs in addition.
"""

import re
from importlib import resources
from typing import NamedTuple

from sextant.kernel.errors import UserError

_TABLE = re.compile(r"CREATE TABLE (\w+)")
_SQLITE_TYPES = re.compile(r"\bINTEGER PRIMARY KEY\b")


class Migration(NamedTuple):
    """One step: `number` is the schema that it leads to."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations(dialect: str) -> list[Migration]:
    """Return all steps for `sqlite` or `postgres`, in order, numbered from 1 without a gap."""
    folder = resources.files(__package__).joinpath("migrations")
    texts = {
        entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".sql")
    }
    steps = []
    for name in sorted(texts):
        stem, _, dialect_of_file = name.removesuffix(".sql").partition(".")
        if dialect_of_file:
            continue
        text = texts[name] + texts.get(f"{stem}.{dialect}.sql", "")
        if dialect == "postgres":  # SQLite's spelling of a row id
            text = _SQLITE_TYPES.sub("BIGINT PRIMARY KEY", text)
        steps.append(Migration(int(stem[:3]), stem, tuple(split(text))))
    assert [step.number for step in steps] == list(range(1, len(steps) + 1)), (
        "migrations are numbered without a gap"
    )
    return steps


def tables() -> list[str]:
    """Return the names of all tables that both databases have, in the order in which they were
    made."""
    made = [
        match.group(1)
        for step in migrations("sqlite")
        for text in step.statements
        if (match := _TABLE.match(text))
    ]
    return list(dict.fromkeys(made))  # a later step may make one anew


def split(text: str) -> list[str]:
    """Return the statements of a script, without comments. No text inside quotes may hold `;` or
    `--`."""
    bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def refuse_newer(found: int, known: int, where: str) -> None:
    """Raise UserError when the database's schema is newer than this Sextant knows."""
    if found > known:
        raise UserError(
            "SX-STATE-010",
            f"the state has schema {found}, this Sextant knows schemas up to {known}",
            hint=(
                "install a newer sextant-ops, or go back to the copy "
                f"`state.db.before-{known + 1:03d}` that the upgrade left"
            ),
            where=where,
        )
