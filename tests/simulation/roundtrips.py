"""One example of a way through the lake: a dataset's partitions returned by functions of any
library, in steps of any grouping and order, and read again by a step of any library.

What is read must be what was returned, as Python's own values, whoever wrote and whoever reads; and
all readers must see the rows in one order. `bench/values.py` does many, `test_roundtrips.py` some.
"""

import math
import random
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa

from sextant.kernel.nouns import spec_of
from sextant.kinds.dataset.spec import Rows, Written
from sextant.kernel.nouns import spec_of
from sextant.kinds.dataset.spec import table_spec
from sextant import testing
from sextant.engine.executors import perform as performing
from sextant.engine.staged import merge_schema
from sextant.kernel.nouns import FileSet, InputRef, WorkOrder, WorkResult
from sextant.stores.lake import types

PROJECT = """
import duckdb
import pandas as pd, polars as pl, pyarrow as pa
import sextant as sx
sx.project("values")
RETURNED, SEEN = {}, []

@sx.dataset(partition=sx.daily(start="2026-01-01"))
def made(day: sx.Partition) -> pl.DataFrame:
    return RETURNED[day.key]

def seen(frame):
    SEEN.append(frame.to_arrow_table() if isinstance(frame, duckdb.DuckDBPyRelation) else frame)
    return pl.DataFrame({"n": [1]})

@sx.dataset()
def as_polars(made: pl.DataFrame): return seen(made)
@sx.dataset()
def as_polars_lazy(made: pl.LazyFrame): return seen(made.collect())
@sx.dataset()
def as_pandas(made: pd.DataFrame): return seen(made)
@sx.dataset()
def as_pyarrow(made: pa.Table): return seen(made)
@sx.dataset()
def as_duckdb(made: duckdb.DuckDBPyRelation): return seen(made)
"""
READERS = ("polars", "polars_lazy", "pandas", "pyarrow", "duckdb")
DAYS = [f"2026-01-0{day}" for day in range(1, 6)]
# without a declared type a step may be refused: what it returned says none, or two
MAY_REFUSE = {"SX-LAKE-012", "SX-DATA-002"}
DUCK = duckdb.connect()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Difference(AssertionError):
    """What was read is not what was returned."""


def _instant(rng: random.Random) -> datetime:
    edge = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    near = EPOCH + timedelta(microseconds=rng.randrange(-(10**16), 10**16))
    return rng.choice([near, near, *edge])


def _decimal(rng: random.Random, precision: int, scale: int) -> Decimal:
    digits = rng.randrange(10 ** rng.randint(1, precision))
    return Decimal(rng.choice((1, -1)) * digits).scaleb(-scale)


VALUES: dict[str, Any] = {
    "bool": lambda rng: rng.random() < 0.5,
    "int32": lambda rng: rng.choice([0, -1, 2**31 - 1, -(2**31), rng.randrange(1000)]),
    "int64": lambda rng: rng.choice([2**53 + 1, -(2**63), 2**63 - 1, rng.randrange(10**6)]),
    "float32": lambda rng: rng.choice([0.0, -0.0, 1.5, math.inf, math.nan, 3.0]),
    "float64": lambda rng: rng.choice([0.1, -0.0, 1e300, -math.inf, math.nan, rng.random(), 7.0]),
    "decimal(10,2)": lambda rng: _decimal(rng, 10, 2),
    "decimal(38,6)": lambda rng: _decimal(rng, 38, 6),
    "string": lambda rng: rng.choice(["", "a", "ü", "null", "\0", " a", "🚀" * 3, "NaN"]),
    "binary": lambda rng: rng.choice([b"", b"\0\xff", b"a"]),
    "date": lambda rng: rng.choice([date.min, date.max, date(2026, 2, 28), date(1969, 12, 31)]),
    "time": lambda rng: rng.choice([time.min, time.max, time(12, 30, 0, 1)]),
    "timestamp": lambda rng: _instant(rng).replace(tzinfo=None),
    "timestamptz": _instant,
    "list<int64>": lambda rng: [rng.choice([None, 2**60 + 1, 1]) for _ in range(rng.randint(0, 3))],
    "list<string>": lambda rng: [rng.choice([None, "", "x"]) for _ in range(rng.randint(0, 2))],
    "struct<a: int64, b: string>": lambda rng: {
        "a": rng.choice([None, 2**60 + 1]),
        "b": rng.choice([None, "y"]),
    },
    "list<struct<a: float64>>": lambda rng: [
        {"a": rng.choice([None, 0.5, math.nan])} for _ in range(rng.randint(0, 2))
    ],
}  # fmt: skip


# ---------------------------------------------------------------- writers


def _with_polars(table: pa.Table, rng: random.Random) -> Any:
    frame = pl.DataFrame(pl.from_arrow(table))
    return frame.lazy() if rng.random() < 0.3 else frame


def _with_pyarrow(table: pa.Table, rng: random.Random) -> Any:
    at = rng.randint(0, table.num_rows)
    return pa.concat_tables([table.slice(0, at), table.slice(at)])


def _with_duckdb(table: pa.Table, rng: random.Random) -> Any:
    del rng
    return DUCK.from_arrow(table)


def _with_pandas(table: pa.Table, rng: random.Random) -> Any:
    """As people's frames are: gaps make floats of whole numbers, the rest are objects."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_pylist()
        type_ = column.type
        whole = pa.types.is_integer(type_)
        if whole and column.null_count:
            small = all(value is None or abs(value) < 2**53 for value in values)
            dtype: Any = "float64" if small and rng.random() < 0.7 else "Int64"
        elif whole:
            dtype = "int64"
        elif pa.types.is_floating(type_):
            dtype = "float32" if type_ == pa.float32() else "float64"
        elif pa.types.is_timestamp(type_):
            dtype = "datetime64[us, UTC]" if type_.tz else "datetime64[us]"
        elif pa.types.is_boolean(type_):
            dtype = rng.choice(["boolean", "object"])
        else:
            dtype = "object"
        columns[name] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)


WRITERS = {
    "polars": _with_polars,
    "pyarrow": _with_pyarrow,
    "duckdb": _with_duckdb,
    "pandas": _with_pandas,
}


# ---------------------------------------------------------------- what values mean


def plain(value: Any) -> Any:
    """Return a value as Python's own, in one spelling."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, dict):
        return tuple((name, plain(inner)) for name, inner in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(plain(inner) for inner in value)
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value


def rows_of(frame: Any) -> list[tuple[Any, ...]]:
    """Return a frame's rows as Python's values, in its order."""
    if isinstance(frame, pl.DataFrame):
        columns = [column.to_list() for column in frame]
    elif isinstance(frame, pd.DataFrame):
        columns = [list(frame[name]) for name in frame.columns]
    else:
        columns = [column.to_pylist() for column in frame.columns]
    return [tuple(plain(value) for value in row) for row in zip(*columns, strict=True)]


class World:
    """A project whose one dataset returns what it is told, and steps that hand out what they read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        with testing.platform({"ops.py": PROJECT}, executor="inline") as p:
            manifest = p.core.project.manifest()
            self.assets = {asset.name: asset for asset in manifest.assets}
            bundle = Path(p.runs.bundles.folder(manifest.bundle))
            self.project = folder / "project"
            self.project.mkdir()
            for file in bundle.rglob("*"):
                if file.is_file():
                    (self.project / file.name).write_bytes(file.read_bytes())
            self.manifest = manifest
        self.orders = 0
        opened = performing.open_project(self._order("made", (), ()))
        self.globals = opened.functions["dataset:made"].__globals__

    def _order(
        self, asset: str, partitions: tuple[str, ...], inputs: Any, **more: Any
    ) -> WorkOrder:
        self.orders += 1
        return WorkOrder(
            id=f"wo_{self.orders}",
            run="run",
            step="step",
            attempt=1,
            fence=0,
            asset=more.pop("of", None) or self.assets[asset],
            partitions=partitions,
            inputs=inputs,
            bundle=self.manifest.bundle,
            root=self.manifest.root,
            spec=spec_of(
                Written(
                    lake=str(self.folder / "lake"),
                    staging=f"{asset}/data/wo_{self.orders}",
                    expect_schema=more.pop("expect_schema", ()),
                )
            ),
            blobs=str(self.folder / "blobs"),
            project=str(self.project),
            **more,
        )

    def example(self, seed: str) -> None:
        """Write and read one table. Difference."""
        rng = random.Random(seed)
        self.counts["examples"] += 1
        columns = {f"c{n}": rng.choice(list(VALUES)) for n in range(rng.randint(1, 3))}
        declared = rng.random() < 0.5
        schema = types.arrow_schema(tuple(columns.items()))
        made = self.assets["made"]
        promised = tuple(columns.items()) if declared else ()
        of = msgspec.structs.replace(
            made, spec=spec_of(msgspec.structs.replace(table_spec(made), columns=promised))
        )
        days = rng.sample(DAYS, rng.randint(1, len(DAYS)))
        steps: list[list[str]] = []
        for day in days:  # in an order of their own, some of them together
            if steps and rng.random() < 0.4:
                steps[-1].append(day)
            else:
                steps.append([day])
        live: types.Schema = ()
        sets: list[FileSet] = []
        expected: dict[str, list[tuple[Any, ...]]] = {}
        for step in steps:
            wrote = self._write(rng, of, columns, schema, sorted(step), live)
            if wrote is None:
                if declared:
                    raise Difference(f"{seed}: a step with declared columns was refused")
                continue
            result, rows = wrote
            live = merge_schema(live, result.schema)
            expected |= rows
            files = tuple(dict.fromkeys(file for out in result.outputs for file in out.files))
            sets.append(FileSet(files=files, partitions=tuple(sorted(step))))
        if not sets:
            return
        rng.shuffle(sets)
        if declared and dict(live) != columns:
            raise Difference(f"{seed}: declared {columns}, stored {live}")
        self._read(rng, seed, live, sets, expected)

    def _write(
        self,
        rng: random.Random,
        of: Any,
        columns: dict[str, str],
        schema: pa.Schema,
        days: list[str],
        live: types.Schema,
    ) -> tuple[WorkResult, dict[str, list[tuple[Any, ...]]]] | None:
        returned = self.globals["RETURNED"]
        returned.clear()
        expected = {}
        for day in days:
            gaps = rng.choice([0.0, 0.3, 1.0])
            height = rng.randint(0, 4)
            values = {
                name: [None if rng.random() < gaps else VALUES[type_](rng) for _ in range(height)]
                for name, type_ in columns.items()
            }
            table = pa.table(values, schema=schema)
            expected[day] = rows_of(table)
            writer = rng.choice(list(WRITERS))
            self.counts[f"written by {writer}"] += 1
            returned[day] = WRITERS[writer](table, rng)
        result = performing.perform(self._order("made", tuple(days), (), of=of, expect_schema=live))
        if not result.ok and result.error_code in MAY_REFUSE:
            self.counts[f"refused {result.error_code}"] += 1
            return None
        if not result.ok:
            raise Difference(f"{result.error_code} {result.error}")
        if any(not check.ok and check.severity == "error" for check in result.checks):
            self.counts["refused by schema(evolve)"] += 1
            return None
        return result, expected

    def _read(
        self,
        rng: random.Random,
        seed: str,
        live: types.Schema,
        sets: list[FileSet],
        expected: dict[str, list[tuple[Any, ...]]],
    ) -> None:
        found: dict[str, list[tuple[Any, ...]]] = {}
        names = [name for name, _ in live]
        for reader in ["pyarrow", rng.choice(READERS)]:
            ref = InputRef(
                name="made",
                asset="dataset:made",
                frame=reader,
                sets=tuple(sets),
                spec=spec_of(Rows(lake=str(self.folder / "lake"), schema=live)),
            )
            self.globals["SEEN"].clear()
            result = performing.perform(self._order(f"as_{reader}", ("all",), (ref,)))
            if not result.ok:
                raise Difference(f"{seed}, read by {reader}: {result.error_code} {result.error}")
            self.counts[f"read by {reader}"] += 1
            frame = self.globals["SEEN"][0]
            if list(getattr(frame, "column_names", None) or frame.columns) != names:
                raise Difference(f"{seed}, read by {reader}: columns")
            found[reader] = rows_of(frame)
        first = found["pyarrow"]
        for reader, rows in found.items():
            if rows != first:
                raise Difference(f"{seed}, read by {reader}: {rows} and not {first}")
        place = 0
        for day in sorted(expected):
            here = first[place : place + len(expected[day])]
            place += len(here)
            if Counter(here) != Counter(expected[day]):
                raise Difference(f"{seed}, {day}: returned {expected[day]}, read {here}")
            self.counts["rows"] += len(here)
        if place != len(first):
            raise Difference(f"{seed}: {len(first)} rows read, {place} returned")
