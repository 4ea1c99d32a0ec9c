"""The telemetry store's tables in a process that only reads them: attached to the folders in which
the process that writes them keeps them.

ClickHouse reads such a table as one on a disk that cannot be written, and looks for new parts of it
by itself. A part that was merged into another one stays for minutes (`old_parts_lifetime`), longer
than any query runs.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from sextant.kernel.errors import StorageError
from sextant.kernel.ports import Telemetry
from sextant.server.sql.tokens import literal, quoted

_SHOWN = ("obs", "ops")  # what untrusted queries may read
_KEPT = ("obs", "fed", "ops")  # and where it stands
_LOOK_S = 1  # so often ClickHouse looks for new parts
_ATTEMPTS = 5  # of attaching a table whose parts change meanwhile
_NAMED = re.compile(rf"\b({'|'.join(_KEPT)})`?\.`?(\w+)")


class Table(msgspec.Struct, frozen=True):
    """A table or a view of the store: how another process makes it, and what of the store it
    reads."""

    database: str
    name: str
    statement: str
    reads: tuple[tuple[str, str], ...] = ()


def tables_of(store: Telemetry) -> list[Table]:
    """Return all tables and views of a store, as `Attached` takes them."""
    rows = msgspec.json.decode(
        store.query(
            (
                "SELECT database, name, engine, create_table_query AS made, data_paths AS paths "
                f"FROM system.tables WHERE database IN ({', '.join(map(literal, _KEPT))})"
            ),
            form="JSON",
        )
    )["data"]
    out = []
    for row in rows:
        of, name, made = row["database"], row["name"], row["made"]
        if row["engine"] == "View":
            reads = {found for found in _NAMED.findall(made) if found != (of, name)}
            out.append(Table(of, name, made, tuple(sorted(reads))))
        elif row["paths"]:
            out.append(Table(of, name, _read_only(made, row["paths"][0])))
    return out


def functions_of(store: Telemetry) -> list[str]:
    """Return the statements that make the store's own functions."""
    found = store.query(
        "SELECT create_query FROM system.functions WHERE origin = 'SQLUserDefined'", form="JSON"
    )
    return [
        row["create_query"].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
        for row in msgspec.json.decode(found)["data"]
    ]


def _read_only(made: str, path: str) -> str:
    """Return the statement that attaches a table at the folder of its parts."""
    head, _, settings = made.rpartition(" SETTINGS ")
    granularity = re.search(r"\bindex_granularity = \d+", settings)
    kept = f"{granularity[0]}, " if granularity else ""
    return (
        f"{head} SETTINGS {kept}table_disk = 1, refresh_parts_interval = {_LOOK_S}, disk = disk("
        "type = object_storage, object_storage_type = local_blob_storage, metadata_type = plain, "
        f"readonly = 1, path = {literal(path)})"
    )


class Attached:
    """The tables of another process's store in a store of our own. Each is attached when it is
    first needed."""

    def __init__(self, store: Telemetry, tables: Iterable[Table]) -> None:
        self._store = store
        self._tables = {(one.database, one.name): one for one in tables}
        self._there: dict[tuple[str, str], int] = {}  # -> the change after which it was attached
        self._changes: Mapping[str, int] = {}
        for database in _KEPT:
            store.run(f"CREATE DATABASE IF NOT EXISTS {quoted(database)} ENGINE = Memory")

    def changed(self, changes: Mapping[str, int]) -> None:
        """Note which tables (`obs.samples`) have changed of late, and how often in all: what was
        attached before that is attached again when it is needed next."""
        self._changes = changes

    def need(self, tables: Iterable[tuple[str, str]]) -> None:
        """Attach these tables, and what they read."""
        for name in tables:
            one = self._tables.get(name)
            if one is None:
                continue
            self.need(one.reads)
            change = self._changes.get(".".join(name), 0)
            there = self._there.get(name)
            if there is None or (change > there and not one.reads):
                self._attach(one, again=there is not None)
                self._there[name] = change

    def again(self) -> None:
        """Attach everything again when it is needed next."""
        self._there = dict.fromkeys(self._there, -1)

    def need_for(self, statement: str) -> None:
        """Attach what a statement of ours names."""
        self.need(_NAMED.findall(statement))

    def has(self, database: str, table: str) -> bool:
        """Say whether untrusted queries may read a table, and attach it."""
        if database not in _SHOWN or (database, table) not in self._tables:
            return False
        self.need([(database, table)])
        return True

    def all(self) -> None:
        """Attach everything, for those who look around."""
        self.need(self._tables)

    def _attach(self, one: Table, *, again: bool) -> None:
        if again:
            self._store.run(f"DETACH TABLE {one.database}.{quoted(one.name)}")
            self._there.pop((one.database, one.name))
        for attempt in range(_ATTEMPTS):
            try:
                self._store.run(one.statement)
            except StorageError:  # a part went away between the listing and the reading
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return
