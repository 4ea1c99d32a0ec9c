"""Which tables the SQL endpoint shows, and what stands behind their names. Filled by the
coordinator's feed, read by every query.

    data.flights                     the live version of `dataset:flights` in the environment that
    is served
    data."flights@env:prod"          the live one of another environment
    data."flights@1a2b3c4d5e6f"      a version by the first twelve digits of its digest
    kpi.on_time_rate                 a KPI's stored parts and its value, one row for each bucket and
    combination of dimensions

Behind a name stands an Iceberg table that is pinned to one metadata file (an unpinned one would
follow the newest file in its folder, published or not), under a name made of that file's path: it
never changes. A query is written over to those names before it runs, so it sees one moment of all
tables, however many it reads and however long it takes. Applying a list makes what is new, then
puts the new meaning of all names in place at once; what nothing means any more is dropped when the
last query that may still read it has ended. Dropping such a table leaves its files alone.

Personal columns are left out, except for people in the role `admin`: those that a dataset declares,
and what is made of them. So are texts of `ops` and `obs` that may quote them (`withheld.py`).
"""

import contextlib
import difflib
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sextant.kernel.errors import BadData, Bug, SextantError, UsageError
from sextant.kernel.ports import Telemetry
from sextant.kinds.kpi.spec import Measure, values_name
from sextant.server.sql import system
from sextant.server.sql.names import SYSTEM
from sextant.server.sql.tokens import literal, quoted
from sextant.server.sql.withheld import selects

LAKE = "sx_lake"  # the database of the pinned tables
_LOCATOR = re.compile(
    r"[A-Za-z0-9_.@-]+(?:/[A-Za-z0-9_.@-]+)*/metadata/[A-Za-z0-9_.-]+\.metadata\.json"
)
_INSIDE = re.compile(rf"`?(?:{LAKE}|{SYSTEM})`?\.`?\w+`?")
_DIGITS = 12  # of a digest, in the name of a version


class LiveTable(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a dataset that can be read.

    env       the environment in which it is live; "" for a version that is only kept
    asset     `dataset:NAME`
    name      the dataset's name
    version   its digest, hexadecimal
    locator   its metadata file, below the lake's root
    live      the environment's pointer names it
    damaged   why it cannot be read: a file of it is not what was written
    personal  columns that only admins see
    """

    env: str
    asset: str
    name: str
    version: str
    locator: str
    live: bool = True
    damaged: str = ""
    personal: tuple[str, ...] = ()


class LiveKpi(msgspec.Struct, frozen=True, kw_only=True):
    """A KPI whose values can be read.

    env      the environment in which it is live
    name     the KPI's name
    values   the dataset of its values; its live version of the same environment is read
    grain    "" when there is no bucket
    by       its dimensions
    parts    columns of the additive parts
    value    the value of one row, over the parts, in ClickHouse's SQL; "" when the measure cannot
             be taken apart
    rollup   the value of many rows, over the parts; shown as the view's comment
    """

    env: str
    name: str
    values: str
    grain: str = ""
    by: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    value: str = ""
    rollup: str = ""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a list did: tables made and dropped, and `left_out`: name -> why it cannot be
    read."""

    made: int
    dropped: int
    left_out: dict[str, str]


class _Shown(msgspec.Struct, frozen=True):
    """What stands behind a name: views of the lake database, and the statements that make them,
    each with the name of what it makes."""

    view: str  # without personal columns
    whole: str  # with them
    made_by: tuple[tuple[str, str], ...]
    comment: str = ""
    personal: tuple[str, ...] = ()  # what `view` lacks


class _Snapshot:
    """The meaning of all names at one moment, and how many queries are reading by it."""

    def __init__(
        self, number: int, shown: Mapping[tuple[str, str], _Shown], left_out: Mapping[str, str]
    ) -> None:
        self.number = number
        self.shown = shown
        self.left_out = left_out
        self.readers = 0

    def needed(self) -> set[str]:
        return {name for one in self.shown.values() for name, _ in one.made_by}


class Published(msgspec.Struct, frozen=True):
    """What the coordinator says is live: what `Catalogue.apply` takes."""

    env: str = ""
    tables: tuple[LiveTable, ...] = ()
    kpis: tuple[LiveKpi, ...] = ()
    guarded: tuple[str, ...] = ()


def check(tables: Iterable[LiveTable]) -> None:
    """Raise BadData for tables that are none of the lake, or contradict each other."""
    live: dict[tuple[str, str], LiveTable] = {}
    for table in tables:
        if not _LOCATOR.fullmatch(table.locator) or ".." in table.locator.split("/"):
            raise BadData(
                "SX-SQL-020",
                f"`{table.locator[:120]}` is no metadata file of the lake",
                hint="a locator is `<table>/metadata/<file>.metadata.json`",
            )
        if table.live and live.setdefault((table.env, table.name), table) != table:
            raise BadData(
                "SX-SQL-021",
                f"two versions of `{table.name}` are said to be live in {table.env}",
                hint="an environment has one live version of a dataset",
            )


class Others(Protocol):
    """The tables of `obs` and `ops`: where they stand is not the catalogue's to know."""

    def has(self, database: str, table: str) -> bool:
        """Say whether there is this table; it can be read from now on."""
        ...

    def need_for(self, statement: str) -> None:
        """Make readable what a statement of ours names."""
        ...

    def all(self) -> None:
        """Make all of them readable, for those who look around."""
        ...


class _InStore:
    """They stand in the store that the catalogue uses; what was there once is remembered."""

    def __init__(self, store: Telemetry) -> None:
        self._store = store
        self._found: set[tuple[str, str]] = set()

    def has(self, database: str, table: str) -> bool:
        if (database, table) in self._found:
            return True
        found = self._store.query(
            "SELECT count() FROM system.tables WHERE database = {d:String} AND name = {t:String}",
            form="TSV",
            params={"d": _escaped(database), "t": _escaped(table)},
        )
        if found == b"1\n":
            self._found.add((database, table))
        return found == b"1\n"

    def need_for(self, statement: str) -> None:
        """They are there."""

    def all(self) -> None:
        """They are there."""


class Catalogue:
    """The tables of the SQL endpoint.

    store      the telemetry store
    lake       the lake's root folder
    others     the tables of `obs` and `ops`, where they do not stand in `store`: then what is live
               is listed when somebody looks around first, and made when it is asked for
    elsewhere  the store is a ClickHouse server, which finds the lake by its absolute path. A store
               in this process finds it from the working directory: its tables outlive the process,
               and the project's folder may have another place by then
    Raises Bug when the working directory is not the lake, or above it: chDB makes tables of files
    below it and of no others.
    """

    def __init__(
        self,
        store: Telemetry,
        lake: Path,
        *,
        elsewhere: bool = False,
        others: Others | None = None,
    ) -> None:
        lake = lake.resolve()
        if not lake.is_relative_to(Path.cwd()):
            raise Bug(
                "SX-SQL-032",
                "the telemetry process does not work in the lake",
                hint="`confine` goes there",
            )
        self._store = store
        self._root = lake
        self._tables = lake if elsewhere else lake.relative_to(Path.cwd())
        self._env = ""
        self._applying = threading.Lock()
        self._lock = threading.Lock()  # of what stands below; held for moments only
        self._making = threading.RLock()  # of `_made`, held while statements run
        system.install(store)
        store.run(f"CREATE DATABASE IF NOT EXISTS {LAKE}")
        self._made = set(
            self._names_in(LAKE)
        )  # of an earlier process: names follow from content, so they are as good as new
        self._listed = {
            (database, name): ""
            for database in ("data", "kpi")
            for name in self._names_in(database)
        }  # -> the view that it reads
        self._others = others or _InStore(store)
        self._lists_late = others is not None
        self._to_list: set[tuple[str, str]] = set()  # live, and not in line yet
        self._snapshot = _Snapshot(0, {}, {})
        self._older: list[_Snapshot] = []

    def apply(
        self,
        env: str,
        tables: Sequence[LiveTable],
        kpis: Sequence[LiveKpi],
        guarded: Sequence[str] = (),
    ) -> Applied:
        """Show exactly these tables and KPIs; plain names mean environment `env`. Doing it again
        changes nothing.

        guarded  assets whose errors, logs and results of checks only admins see
        Raises   BadData for a list that contradicts itself
        """
        with self._applying:
            self._env = env
            shown, listed, left_out = self._wanted(tables, kpis)
            shown |= {name: _withheld(name, text) for name, text in selects(guarded).items()}
            made = 0
            for name in () if self._lists_late else sorted(listed):
                try:
                    made += self._make(shown[name])
                except SextantError as error:
                    left_out[".".join(name)] = self._plain(error.message)
                    shown.pop(name)
            with self._lock:
                if self._snapshot.shown != shown or self._snapshot.left_out != left_out:
                    self._older.append(self._snapshot)
                    self._snapshot = _Snapshot(self._snapshot.number + 1, shown, left_out)
            self._to_list = {name for name in listed if name in shown}
            if not self._lists_late:
                self._list()
            return Applied(made=made, dropped=self._drop_unneeded(), left_out=left_out)

    def look_around(self) -> None:
        """Make sure that `system` shows what there is."""
        self._others.all()
        if self._lists_late:
            with self._applying:
                self._list()

    @contextlib.contextmanager
    def reading(self, *, admin: bool = False) -> "Iterator[Names]":
        """Hold still what names mean, for one query."""
        with self._lock:
            snapshot = self._snapshot
            snapshot.readers += 1
        try:
            yield Names(self, snapshot, admin=admin)
        finally:
            with self._lock:
                snapshot.readers -= 1
                late = snapshot is not self._snapshot and not snapshot.readers
            if late and self._applying.acquire(blocking=False):  # else whoever is applying does it
                try:
                    with contextlib.suppress(
                        SextantError
                    ):  # the query was answered; what is left is dropped with the next list
                        self._drop_unneeded()
                finally:
                    self._applying.release()

    # ---------------------------------------------------------------- what a list means

    def _wanted(
        self, tables: Sequence[LiveTable], kpis: Sequence[LiveKpi]
    ) -> tuple[dict[tuple[str, str], _Shown], set[tuple[str, str]], dict[str, str]]:
        """Return what stands behind each name, which names are listed (the live ones), and what is
        left out and why."""
        shown: dict[tuple[str, str], _Shown] = {}
        listed: set[tuple[str, str]] = set()
        left_out: dict[str, str] = {}
        check(tables)
        for table in tables:
            if table.damaged:
                names = [f"{table.name}@{table.version[:_DIGITS]}"]
                names += [self._name(table.env, table.name)] if table.live else []
                left_out |= {f"data.{name}": self._plain(table.damaged) for name in names}
                continue
            one = self._table(table)
            shown["data", f"{table.name}@{table.version[:_DIGITS]}"] = one
            if table.live:
                name = ("data", self._name(table.env, table.name))
                shown[name] = one
                listed.add(name)
        for kpi in kpis:
            name = ("kpi", self._name(kpi.env, kpi.name))
            values = shown.get(("data", self._name(kpi.env, kpi.values)))
            if not kpi.value:
                left_out[".".join(name)] = (
                    "its measure cannot be taken apart into parts that add up; read the "
                    f"rows, or the stored values in data.{self._name(kpi.env, kpi.values)}"
                )
            elif values is None:
                left_out[".".join(name)] = (
                    f"its values, data.{self._name(kpi.env, kpi.values)}, are not live"
                )
            else:
                shown[name] = _kpi(kpi, values)
                listed.add(name)
        return shown, listed, left_out

    def _name(self, env: str, name: str) -> str:
        return name if env == self._env else f"{name}@env:{env}"

    def _table(self, table: LiveTable) -> _Shown:
        folder, _, file = table.locator.partition("/metadata/")
        path = str(self._tables / folder)
        base = f"t_{_short(path, file)}"
        made = [
            (
                base,
                (
                    f"CREATE TABLE {LAKE}.{base} ENGINE = IcebergLocal({literal(path)}) SETTINGS "
                    f"iceberg_metadata_file_path = {literal(f'metadata/{file}')}"
                ),
            )
        ]
        # A view also over a table without personal columns: it has none of the columns that tell
        # paths of files (_path, _file ...).
        whole = f"w_{_short(base)}"
        made.append((whole, f"CREATE VIEW {LAKE}.{whole} AS SELECT * FROM {LAKE}.{base}"))
        if not table.personal:
            return _Shown(whole, whole, tuple(made))
        view = f"v_{_short(base, *table.personal)}"
        made.append(
            (
                view,
                (
                    f"CREATE VIEW {LAKE}.{view} AS SELECT * EXCEPT "
                    f"({', '.join(quoted(column) for column in table.personal)}) FROM "
                    f"{LAKE}.{base}"
                ),
            )
        )
        return _Shown(view, whole, tuple(made), personal=table.personal)

    # ---------------------------------------------------------------- making and dropping

    def _make(self, one: _Shown) -> int:
        """Make what is missing; return how much that was. StorageError when a file is not there,
        say."""
        count = 0
        with self._making:
            for name, statement in one.made_by:
                if name not in self._made:
                    self._others.need_for(statement)
                    self._store.run(statement)
                    self._made.add(name)
                    count += 1
        return count

    def _list(self) -> None:
        """Bring the databases `data` and `kpi` in line, for those who look around; queries do not
        read through them. What cannot be read is not listed."""
        for database, name in self._to_list:
            one = self._snapshot.shown[database, name]
            if self._listed.get((database, name)) == one.view:
                continue
            with contextlib.suppress(SextantError):
                self._make(one)
                self._store.run(
                    f"CREATE OR REPLACE VIEW {database}.{quoted(name)} AS SELECT * FROM "
                    f"{LAKE}.{one.view} COMMENT {literal(one.comment)}"
                )
                self._listed[database, name] = one.view
        for database, name in set(self._listed) - self._to_list:
            self._store.run(f"DROP VIEW IF EXISTS {database}.{quoted(name)}")
            del self._listed[database, name]

    def _drop_unneeded(self) -> int:
        with self._lock:
            self._older = [one for one in self._older if one.readers]
            needed = set().union(*(one.needed() for one in (*self._older, self._snapshot)))
        with self._making:
            gone = sorted(
                self._made - needed, reverse=True
            )  # views (w_, v_, k_, g_) before the tables that they read (t_)
            for name in gone:
                self._store.run(f"DROP TABLE IF EXISTS {LAKE}.{name}")
                self._made.discard(name)
        return len(gone)

    def _names_in(self, database: str) -> list[str]:
        rows: list[dict[str, str]] = msgspec.json.decode(
            self._store.query(
                f"SELECT name FROM system.tables WHERE database = {literal(database)}", form="JSON"
            )
        )["data"]
        return [row["name"] for row in rows]

    def _plain(self, text: str) -> str:
        """Return an error's text without the folder in which the lake lies."""
        return text.replace(str(self._root), "<lake>")


class Names:
    """What names mean to one query: the guard's `Names`."""

    def __init__(self, catalogue: Catalogue, snapshot: _Snapshot, *, admin: bool) -> None:
        self._catalogue = catalogue
        self._snapshot = snapshot
        self._admin = admin

    def databases(self) -> frozenset[str]:
        return system.DATABASES

    def resolve(self, database: str, table: str) -> tuple[str, str] | None:
        one = self._snapshot.shown.get((database, table))
        if database in ("data", "kpi") or (one is not None and not self._admin):
            if one is None:
                return None
            try:
                self._catalogue._make(
                    one
                )  # a version that is only kept is made when somebody asks for it
            except SextantError as error:
                raise UsageError(
                    "SX-SQL-022",
                    f"`{database}.{table}` cannot be read: {self._catalogue._plain(error.message)}",
                    hint="its files may have expired",
                ) from error
            return LAKE, one.whole if self._admin else one.view
        if (database, table) in system.NAMES:
            return system.NAMES[database, table]
        if database in system.OPEN and self._catalogue._others.has(database, table):
            return database, table
        return None

    def hint(self, database: str, table: str) -> str:
        if f"{database}.{table}" in self._snapshot.left_out:
            return self._snapshot.left_out[f"{database}.{table}"]
        if not self._snapshot.number and database in ("data", "kpi"):
            return "which tables are live has not been told yet; ask again in a moment"
        known = (
            [name for of, name in self._snapshot.shown if of == database]
            if database in ("data", "kpi")
            else [name for of, name in system.NAMES if of == database]
        )
        close = difflib.get_close_matches(table, known, n=3, cutoff=0.5)
        return (
            f"did you mean {' or '.join(f'`{one}`' for one in close)}?"
            if close
            else f"see them with: SHOW TABLES FROM {database}"
        )

    def generation(self) -> object:
        return self._snapshot.number, self._admin

    def plain(self, text: str) -> str:
        """Return an error's text in the names that people use, and without paths."""
        if LAKE in text or SYSTEM in text:
            asked = {
                f"{of}.{view}": ".".join(name)
                for name, (of, view) in system.NAMES.items()
                if of == SYSTEM
            }
            asked |= {
                f"{LAKE}.{view}": ".".join(name)
                for name, one in self._snapshot.shown.items()
                for view, _ in one.made_by
            }
            text = _INSIDE.sub(lambda found: asked.get(found[0].replace("`", ""), found[0]), text)
        return self._catalogue._plain(text)


def live_kpi(env: str, name: str, measure: Measure) -> LiveKpi:
    """Return what the endpoint needs to know of a KPI."""
    from sextant.kinds.kpi.measures import clickhouse_sql, parts

    found = parts(measure.sql, measure.of)
    return LiveKpi(
        env=env,
        name=name,
        values=values_name(name),
        grain=measure.grain,
        by=measure.by,
        parts=tuple(part.name for part in found.parts),
        value=clickhouse_sql(measure),
        rollup=clickhouse_sql(measure, merged=True)
        + (f" of one bucket; over time: the {measure.over_time}" if measure.over_time else ""),
    )


def _kpi(kpi: LiveKpi, values: _Shown) -> _Shown:
    """Return the views of a KPI: what it lacks for most is what its values lack, and `value` is
    computed from parts that may be hidden themselves."""
    columns = (*(("bucket",) if kpi.grain else ()), *kpi.by, *kpi.parts, "value")

    def view(shown: Sequence[str]) -> tuple[str, str]:
        written = [
            f"({kpi.value}) AS value" if column == "value" else quoted(column) for column in shown
        ]
        select = f"SELECT {', '.join(written)} FROM {LAKE}.{values.whole}"
        name = f"k_{_short(select)}"
        return (
            name,
            f"CREATE VIEW {LAKE}.{name} AS {select} COMMENT {literal(kpi.rollup)}",
        )

    personal = {column.lower() for column in values.personal}
    # a KPI of which nothing may be seen still has a view: one row for each of its values
    seen = [column for column in columns if column.lower() not in personal]
    whole = view(columns)
    part = whole if len(seen) == len(columns) else view(seen) if seen else _nothing_of(values)
    made = (*values.made_by, *dict.fromkeys((whole, part)))
    return _Shown(part[0], whole[0], made, comment=kpi.rollup, personal=values.personal)


def _nothing_of(values: _Shown) -> tuple[str, str]:
    name = f"k_{_short('nothing', values.whole)}"
    return name, f"CREATE VIEW {LAKE}.{name} AS SELECT '' AS hidden FROM {LAKE}.{values.whole}"


def _withheld(name: tuple[str, str], select: str) -> _Shown:
    view = f"g_{_short(*name, select)}"
    return _Shown(view, view, ((view, f"CREATE VIEW {LAKE}.{view} AS {select}"),))


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _escaped(text: str) -> str:
    """Return a value as ClickHouse reads parameters: with the escapes of TSV."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
