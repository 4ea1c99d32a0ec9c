"""The tables of `ops`: decisions and facts of the ledger as SQL sees them. The coordinator feeds
them, the telemetry process holds them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import BadData
from sextant.kernel.kinds import kinds
from sextant.kernel.nouns import Version, kind_of

Fields = tuple[tuple[str, str], ...]
_TEXT, _INT, _FLOAT, _TIME, _LIST = "text", "int", "float", "time", "list"
# Table -> its columns. `seq` is the entry of the ledger that a row follows from: of rows with one
# key the newest counts.
TABLES: dict[str, Fields] = {
    "runs": (
        ("id", _TEXT),
        ("env", _TEXT),
        ("state", _TEXT),
        ("trigger", _TEXT),
        ("by", _TEXT),
        ("steps", _INT),
        ("computed", _INT),
        ("reused", _INT),
        ("failed", _INT),
        ("rows", _INT),
        ("wall_s", _FLOAT),
        ("error", _TEXT),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("seq", _INT),
    ),
    "steps": (
        ("run", _TEXT),
        ("step", _TEXT),
        ("attempt", _INT),
        ("asset", _TEXT),
        ("owner", _TEXT),
        ("ok", _INT),
        ("rows", _INT),
        ("wall_s", _FLOAT),
        ("cpu_s", _FLOAT),
        ("memory_bytes_peak", _INT),
        ("bytes_read", _INT),
        ("bytes_written", _INT),
        ("error_code", _TEXT),
        ("error", _TEXT),
        ("ended_at", _TIME),
        ("seq", _INT),
    ),
    "versions": (
        ("asset", _TEXT),
        ("version", _TEXT),
        ("parent", _TEXT),
        ("run", _TEXT),
        ("code", _TEXT),
        ("rows", _INT),
        ("size_bytes", _INT),
        ("created_at", _TIME),
        ("seq", _INT),
    ),
    "releases": (
        ("id", _TEXT),
        ("env", _TEXT),
        ("state", _TEXT),
        ("intent", _TEXT),
        ("assets", _LIST),
        ("by", _TEXT),
        ("reason", _TEXT),
        ("run", _TEXT),
        ("undoes", _TEXT),
        ("created_at", _TIME),
        ("changed_at", _TIME),
        ("seq", _INT),
    ),
    "checks": (
        ("seq", _INT),
        ("n", _INT),
        ("at", _TIME),
        ("run", _TEXT),
        ("asset", _TEXT),
        ("version", _TEXT),
        ("name", _TEXT),
        ("partition", _TEXT),
        ("severity", _TEXT),
        ("ok", _INT),
        ("failed", _INT),
        ("rows", _INT),
        ("message", _TEXT),
    ),
    "signals": (
        ("id", _TEXT),
        ("asset", _TEXT),
        ("kind", _TEXT),
        ("severity", _TEXT),
        ("message", _TEXT),
        ("env", _TEXT),
        ("repeats", _INT),
        ("onset", _TIME),
        ("closed_at", _TIME),
        ("seq", _INT),
    ),
    "incidents": (
        ("id", _TEXT),
        ("title", _TEXT),
        ("state", _TEXT),
        ("assets", _LIST),
        ("signals", _LIST),
        ("assignee", _TEXT),
        ("comments", _INT),
        ("merged_into", _TEXT),
        ("split_from", _TEXT),
        ("opened_at", _TIME),
        ("closed_at", _TIME),
        ("seq", _INT),
    ),
    "assets": (
        ("id", _TEXT),
        ("kind", _TEXT),
        ("name", _TEXT),
        ("mode", _TEXT),
        ("owner", _TEXT),
        ("tier", _INT),
        ("description", _TEXT),
        ("declared_at", _TIME),
        ("retired_at", _TIME),
        ("seq", _INT),
    ),
    "edges": (
        ("source", _TEXT),
        ("target", _TEXT),
        ("kind", _TEXT),
        ("valid_from", _TIME),
        ("valid_to", _TIME),
        ("seq", _INT),
    ),
    "events": (
        ("seq", _INT),
        ("id", _TEXT),
        ("type", _TEXT),
        ("at", _TIME),
        ("actor", _TEXT),
        ("subject", _TEXT),
        ("cause", _TEXT),
        ("data", _TEXT),
        ("fed", _INT),
    ),
}
_GROWN = ("signals", "incidents")  # tables that had fewer columns in earlier releases
Row = dict[str, Any]
_VERSION: Fields = (("asset", _TEXT), ("version", _TEXT))  # in front of what a kind shows
_MADE: Fields = (("created_at", _TIME), ("seq", _INT))
_TYPES: Mapping[str, Any] = {_TEXT: str, _INT: int, _FLOAT: float, _TIME: int, _LIST: list[str]}


@functools.cache
def tables() -> Mapping[str, Fields]:
    """Return the columns of each table, those of kinds too."""
    return {**{name: fields for name, _, fields in _of_kinds()}, **TABLES}


def kinds_shown() -> Mapping[str, str]:
    """Return kind -> the table of its versions, for those that have one."""
    return {kind: name for name, kind, _ in _of_kinds() if name not in TABLES}


def _of_kinds() -> Iterator[tuple[str, str, Fields]]:
    for name, kind in kinds().items():
        if kind.table is not None:
            own = tuple(kind.table.columns.items())
            yield f"{name}s", name, (*_VERSION, *own, *_MADE)


def row_of_kind(version: Version, seq: int) -> tuple[str, Row] | None:
    """Return the table of a version's kind and its row there; None where the kind has none. Raises
    BadData, or msgspec.ValidationError for a value that is not of its column's type."""
    kind = kind_of(version.asset)
    if kind not in kinds_shown():
        return None
    table = kinds()[kind].table
    assert table is not None
    said = table.row(version)
    if unknown := said.keys() - table.columns.keys():
        raise BadData("SX-SQL-044", f"`{min(unknown)}` is no column of the kind `{kind}`")
    own = {
        name: msgspec.convert(value, _TYPES[table.columns[name]]) for name, value in said.items()
    }
    about = {"asset": version.asset, "version": version.digest, "created_at": version.created_at}
    return kinds_shown()[kind], {**own, **about, "seq": seq}


def lines(fields: Fields, rows: Sequence[Row]) -> bytes:
    """Return rows as JSON, one on each line; a column that a row lacks is empty. Times are ns."""
    empty: dict[str, Any] = {_TEXT: "", _INT: 0, _FLOAT: 0.0, _TIME: 0, _LIST: []}
    out: list[bytes] = []
    for row in rows:
        values = {name: row.get(name, empty[kind]) for name, kind in fields}
        values |= {name: _instant(values[name]) for name, kind in fields if kind == _TIME}
        out.append(msgspec.json.encode(values))
    return b"\n".join(out)


def _instant(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // NS, UTC):%Y-%m-%d %H:%M:%S}.{ns % NS:09d}"


def ddl() -> list[str]:
    """Return the statements that make the tables and views of `ops`; what is there already stays.

    A table of `fed` holds every row that was fed, the view of its name in `ops` the newest of each
    key. Only rows of the ledger, and what follows from them, stand there: all of it can be fed
    again.
    """
    types = {
        _TEXT: "String",
        _INT: "Int64",
        _FLOAT: "Float64",
        _TIME: "DateTime64(9, 'UTC')",
        _LIST: "Array(String)",
    }
    keyed = {
        "steps": "run, step, attempt",
        "versions": "asset, version",
        "checks": "seq, n",
        "edges": "source, target, kind, valid_from",
        "events": "seq",
    }
    keyed |= dict.fromkeys(kinds_shown().values(), "asset, version")
    newest = {"events": "fed", "checks": "seq"}
    out = ["CREATE DATABASE IF NOT EXISTS fed", "CREATE DATABASE IF NOT EXISTS ops"]
    for name, fields in tables().items():
        columns = ", ".join(f"`{column}` {types[kind]}" for column, kind in fields)
        settings = (
            "non_replicated_deduplication_window = 2000, fsync_after_insert = 1, "
            "fsync_part_directory = 1"
        )
        out.append(
            f"CREATE TABLE IF NOT EXISTS fed.{name} ({columns}) ENGINE = "
            f"ReplacingMergeTree({newest.get(name, 'seq')}) ORDER BY "
            f"({keyed.get(name, 'id')}) SETTINGS {settings}"
        )
        # a kind may show more than it did, and so may these
        if name in kinds_shown().values() or name in _GROWN:
            out += [
                f"ALTER TABLE fed.{name} ADD COLUMN IF NOT EXISTS `{column}` {types[kind]}"
                for column, kind in fields
            ]
        shown = ", ".join(
            f"`{column}`"
            for column, _ in fields
            if column != "fed" and not (column == "seq" and name == "steps")
        )
        out.append(f"CREATE OR REPLACE VIEW ops.{name} AS SELECT {shown} FROM fed.{name} FINAL")
    return out
