"""Makes partitions where project code may run: reads inputs, calls the function or query, checks
and writes what it made. Imported by workers only.

Everything it knows stands in the order; it answers with references and counts. It never touches
the state store.
"""

import atexit
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import time as clock_time
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sextant.engine.executors.perform import open_project
from sextant.kernel import registry
from sextant.kernel.errors import BadData, ProjectError
from sextant.kernel.nouns import (
    CheckResult,
    CheckSpec,
    FileRef,
    FileSet,
    InputRef,
    PartOutput,
    WorkOrder,
    WorkResult,
)
from sextant.kernel.partitions import ALL, Partition, Partitioning
from sextant.kinds.dataset import streams
from sextant.kinds.dataset.checks import evaluate
from sextant.kinds.dataset.context import Context
from sextant.kinds.dataset.personal_rule import known, personal_columns
from sextant.kinds.dataset.spec import Rows, Written, table_spec
from sextant.stores.blobs.local import LocalBlobs
from sextant.stores.lake import frames, types

_LABEL = "_partition"
_MIDNIGHT = clock_time()


def perform(order: WorkOrder) -> WorkResult:
    """Make the partitions of an order, or check the whole table. Raises what goes wrong."""
    return _audit(order) if order.audit else _make(order)


# ------------------------------------------------------------ making partitions


def _make(order: WorkOrder) -> WorkResult:
    asset = order.asset
    assert asset.build is not None
    table = table_spec(asset)
    rows = _rows(order)
    schema = types.schema_of(rows[0].table)
    parts = [(part.partition, part.table) for part in rows]
    missing = [
        name
        for name in (*table.key, *([table.time] if table.time else []))
        if name not in dict(schema)
    ]
    if missing:
        raise BadData(
            "SX-DATA-001",
            f"`{asset.id}` returned no column `{missing[0]}`, which its key or time names",
            hint=f"it returned {', '.join(name for name, _ in schema)}",
        )
    checks = (
        _check(order, parts) + _changed_columns(order, parts, schema) + _reconciled(order, parts)
    )
    to = order.spec_as(Written)
    outputs: Sequence[PartOutput] = frames.write_many(
        rows,
        root=to.lake,
        staging=to.staging,
        grain=table.partitioning.grain,
        profiled=to.for_release,
    )
    return WorkResult(
        order=order.id,
        attempt=order.attempt,
        fence=order.fence,
        ok=True,
        outputs=tuple(outputs),
        checks=tuple(checks),
        schema=schema,
    )


def _rows(order: WorkOrder) -> list[frames.Rows]:
    """Return the rows of the order's partitions as the table takes them."""
    declared = table_spec(order.asset)
    made = _call(order)
    parts = frames.conform(
        [(key, frames.to_arrow(value)) for key, value in made],
        table=order.spec_as(Written).expect_schema,
        declared=declared.columns,
        inputs=_input_types(order) if any(map(_is_pandas, (value for _, value in made))) else (),
    )
    if order.asset.defined_by:
        parts = [(key, frames.finite(table, "value")) for key, table in parts]
    if len(parts) < len(order.partitions):
        ((_, whole),) = parts
        split = dict(
            frames.split(whole, declared.time, declared.partitioning, wanted=order.partitions)
        )
        parts = [(key, split.get(key, whole.slice(0, 0))) for key in order.partitions]
    elif declared.time:
        for key, table in parts:
            _refuse_outside(order, key, table)
    return frames.arrange(parts, declared.key)


def _input_types(order: WorkOrder) -> types.Schema:
    """Return the types of the inputs' columns, but for names that stand for several types."""
    found: dict[str, set[str]] = {}
    for ref in order.inputs:
        for name, type_ in ref.spec_as(Rows).schema:
            found.setdefault(name, set()).add(type_)
    return tuple((name, all_.pop()) for name, all_ in found.items() if len(all_) == 1)


def _is_pandas(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas"


def _call(order: WorkOrder) -> list[tuple[str, Any]]:
    """Return (partition, what the project's code returned) for each partition of the order, or one
    pair for all of them where a function makes a range at once."""
    asset = order.asset
    build = asset.build
    assert build is not None
    table = table_spec(asset)
    slices = table.partitioning
    if build.code.language == "stream":
        blobs = LocalBlobs(Path(order.blobs))
        return [
            (
                key,
                streams.fold(
                    table.columns,
                    [(one, blobs.get(one)) for one in order.pushed.get(key, ())],
                    table.key,
                ),
            )
            for key in order.partitions
        ]
    project = open_project(order)
    loaded = {ref.name: _Loaded(order, ref, slices) for ref in order.inputs}
    if build.code.language == "sql":
        query = project.queries[asset.id]
        if build.whole_range:  # the query hands the label through, for one partition too
            whole = _sql(order, query, {name: ref.range() for name, ref in loaded.items()})
            return [(key, table) for key, table in _by_label(whole, order.partitions)]
        return [
            (key, _sql(order, query, {name: ref.at(key) for name, ref in loaded.items()}))
            for key in order.partitions
        ]
    function = project.functions[asset.id]
    fixed: dict[str, Any] = dict(build.params)
    if build.secrets:
        secrets = registry.load("secrets.local")(order)
        fixed.update({parameter: secrets.get(name) for parameter, name in build.secrets.items()})
    if build.whole_range and len(order.partitions) > 1:
        span = Partition(
            f"{order.partitions[0]}..{order.partitions[-1]}",
            slices.partition(order.partitions[0]).start,
            slices.partition(order.partitions[-1]).end,
        )
        value = _invoke(
            function, order, span, fixed, {name: ref.range() for name, ref in loaded.items()}
        )
        if not table.time:
            raise ProjectError(
                "SX-STEP-003",
                (
                    f"`{asset.id}` makes a range at once but has no time= column to tell its "
                    "partitions apart"
                ),
                where=f"{asset.file}:{asset.line}",
            )
        return [(span.key, value)]
    return [
        (
            key,
            _invoke(
                function,
                order,
                slices.partition(key),
                fixed,
                {n: r.at(key) for n, r in loaded.items()},
            ),
        )
        for key in order.partitions
    ]


def _refuse_outside(order: WorkOrder, key: str, rows: pa.Table) -> None:
    """Refuse rows whose time lies outside the partition: they would never be found again."""
    table = table_spec(order.asset)
    assert table is not None
    if (
        table.partitioning.grain not in ("none", "static")
        and table.time in rows.column_names
        and rows.num_rows
        and not _within(rows.column(table.time), table.partitioning.partition(key))
    ):
        # says which rows, and how many
        frames.split(rows, table.time, table.partitioning, wanted=(key,))


def _within(times: pa.ChunkedArray, slice_: Partition) -> bool:
    """Say whether all instants, or local dates, surely lie in a slice; False also where that is not
    plain to see."""
    start, end = slice_.start, slice_.end
    if times.null_count or start is None or end is None:
        return False
    if pa.types.is_date32(times.type):
        if start.time() != _MIDNIGHT or end.time() != _MIDNIGHT:
            return False
        ends = pc.min_max(times).as_py()
        return bool(start.date() <= ends["min"] and ends["max"] < end.date())
    if not pa.types.is_timestamp(times.type) or times.type.tz is None:
        return False
    ends = pc.min_max(times).as_py()
    return bool(start <= ends["min"] and ends["max"] < end)


def _invoke(
    function: Callable[..., Any],
    order: WorkOrder,
    partition: Partition,
    fixed: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Any:
    build = order.asset.build
    assert build is not None
    arguments = {**fixed, **inputs}
    if build.wants_partition:
        arguments[build.wants_partition] = partition
    if build.wants_context:
        arguments[build.wants_context] = Context(order, partition.key)
    return function(**arguments)


class _Loaded:
    """One input of an order: read once for all its partitions, handed out call by call in the frame
    asked for."""

    def __init__(self, order: WorkOrder, ref: InputRef, slices: Partitioning) -> None:
        self._order, self._ref, self._slices = order, ref, slices
        self._by_key: dict[str, pa.Table] | None = None
        self._whole: pa.Table | None = None

    def _read(self, *, labels: bool) -> pa.Table:
        return table_of(self._ref, labels=labels)

    def range(self) -> Any:
        """Return all rows that any partition of the order reads."""
        if self._whole is None:
            self._whole = self._read(labels=self._ref.reads is not None)
        return frames.to_frame(self._whole, self._ref.frame)

    def at(self, key: str) -> Any:
        """Return the rows that one partition reads."""
        if self._ref.reads is None:
            return self.range()
        if len(self._order.partitions) == 1:
            self._whole = self._whole if self._whole is not None else self._read(labels=False)
            return frames.to_frame(self._whole, self._ref.frame)
        if self._by_key is None:
            table = self._read(labels=True)
            self._empty = table.drop_columns([_LABEL]).slice(0, 0)
            self._by_key = dict(_by_label(table, None))
        wanted = [
            self._by_key[name]
            for name in sorted(self._ref.reads.get(key, ()))
            if name in self._by_key
        ]
        table = (
            wanted[0] if len(wanted) == 1 else pa.concat_tables(wanted) if wanted else self._empty
        )
        return frames.to_frame(table, self._ref.frame)


def _by_label(table: pa.Table, wanted: Sequence[str] | None) -> list[tuple[str, pa.Table]]:
    """Cut a table by its label column; partitions without rows come back empty when they are
    wanted."""
    if _LABEL not in table.column_names:
        raise ProjectError(
            "SX-STEP-004",
            "a query over a range lost the column that says which partition a row belongs to",
        )
    if wanted is not None and len(wanted) == 1:
        return [(wanted[0], table.drop_columns([_LABEL]))]
    groups = {
        str(key[0]): group.drop(_LABEL).to_arrow()
        for key, group in pl.DataFrame(pl.from_arrow(table))
        .partition_by(_LABEL, as_dict=True, maintain_order=True)
        .items()
    }
    if wanted is None:
        return list(groups.items())
    empty = table.drop_columns([_LABEL]).slice(0, 0)
    return [(key, groups.get(key, empty)) for key in wanted]


# with the size in bytes, which takes longer to tell than to hold
_tables: "OrderedDict[tuple[Any, ...], tuple[pa.Table, int]]" = OrderedDict()
_tables_bytes = 0  # of all of them
# held in all: what several steps of a day read is decoded once in a worker
_TABLES_BYTES_MAX = 64 << 20
_DIGITS = 12  # of a version, in a message


def _read(set_: FileSet, ref: InputRef, *, labels: bool) -> pa.Table:
    """Return the rows of some files of an input. Files never change, so small ones are held; one
    that is gone or was changed is not served from memory."""
    global _tables_bytes  # noqa: PLW0603
    of_rows = ref.spec_as(Rows)
    lake = of_rows.lake
    size = sum(file.size_bytes for file in set_.files)
    name = (lake, set_, of_rows.schema, of_rows.key, labels)
    small = set_.files and size <= _TABLES_BYTES_MAX // 16
    of = f"{ref.asset}@{ref.version[:_DIGITS]}".rstrip("@")
    held = _tables.get(name) if small else None
    if held is not None:
        for file in set_.files:
            frames.confirm(lake, file, of)
        _tables.move_to_end(name)
        return held[0]
    table: pa.Table = frames.read(
        lake,
        set_.files,
        partitions=set_.partitions,
        frame="pyarrow",
        schema=of_rows.schema,
        key=of_rows.key,
        labels=labels,
        of=of,
    )
    if not small:
        return table
    _tables[name] = (table, table.nbytes)
    _tables_bytes += _tables[name][1]
    while _tables_bytes > _TABLES_BYTES_MAX:
        _tables_bytes -= _tables.popitem(last=False)[1][1]
    return table


def table_of(ref: InputRef, *, labels: bool = False) -> pa.Table:
    """Return the rows of an input as Arrow, by partition and then in the order of their content."""
    of_rows = ref.spec_as(Rows)
    sets = sorted(ref.sets, key=lambda set_: min(set_.partitions, default=""))
    if not sets:
        none: Sequence[FileRef] = ()
        return frames.read(
            of_rows.lake, none, frame="pyarrow", schema=of_rows.schema, labels=labels
        )
    held = [sorted(set_.partitions) for set_ in sets]
    mixed = frames.are_mixed(held)
    tables = [_read(set_, ref, labels=labels or mixed) for set_ in sets]
    if len(tables) == 1:
        return tables[0]
    rows = pa.concat_tables(tables)
    if mixed:
        rows = frames.in_order(rows, held, of_rows.key)
    return rows if labels or not mixed else rows.drop_columns([_LABEL])


_duck: Any = None  # one DuckDB for the life of the worker: opening one costs more than most queries
# over fewer rows a query that is parsed already and copies its result is faster than a relation
_PARSED_ROWS_MAX = 1_000_000
_duck_settings = ("", 0)  # time zone, threads


def _sql(order: WorkOrder, query: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """Run the author's query with the inputs under their names, in the project's zone. ProjectError
    with DuckDB's message."""
    global _duck, _duck_settings  # noqa: PLW0603
    if _duck is None:
        _duck = duckdb.connect()
        atexit.register(_close_duck)
    try:
        settings = (order.tz, _threads(order))
        if settings != _duck_settings:
            _duck.execute(f"SET TimeZone = '{settings[0]}'")
            _duck.execute(f"SET threads = {settings[1]}")
            _duck_settings = settings
        for name, table in tables.items():
            _duck.register(name, table)
        if sum(table.num_rows for table in tables.values()) > _PARSED_ROWS_MAX:
            relation = _duck.sql(query)
            return _whole_numbers(relation.to_arrow_table(), relation.types)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # DuckDB's hint that the result is copied
            result = _duck.execute(_parsed(query))
            return _whole_numbers(result.to_arrow_table(), [one[1] for one in _duck.description])
    except duckdb.Error as error:
        _close_duck()  # some errors make a database unusable for what comes after
        raise ProjectError(
            "SX-STEP-005",
            f"the query of `{order.asset.id}` failed: {str(error).strip().splitlines()[0]}",
            hint="run it in DuckDB over the inputs",
            where=f"{order.asset.file}:{order.asset.line}",
        ) from error
    finally:
        for name in tables if _duck is not None else ():
            _duck.unregister(name)


def _whole_numbers(table: pa.Table, duck_types: Sequence[Any]) -> pa.Table:
    """Return a result with DuckDB's integers of 128 bits, which sums of integers are, as integers
    of 64, where they fit: Arrow has none wider, and gets decimals."""
    for place, type_ in enumerate(duck_types):
        if str(type_) in ("HUGEINT", "UHUGEINT"):
            try:
                column = table.column(place).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(place, table.column_names[place], column)
    return table


def _threads(order: WorkOrder) -> int:
    """Return on how many threads a query runs: on one, unless it says that its result may differ
    from one computation to the next, as sums of floats do."""
    build = order.asset.build
    if build is None or build.deterministic:
        return 1
    return int(os.environ.get("SEXTANT_THREADS", "1"))


@lru_cache(maxsize=256)
def _parsed(query: str) -> Any:
    """Return a query as DuckDB's parser left it; it is bound anew to the tables of each
    execution."""
    statements = _duck.extract_statements(query)
    return statements[0] if len(statements) == 1 else query


def _close_duck() -> None:
    global _duck, _duck_settings
    _parsed.cache_clear()
    if _duck is not None:
        _duck.close()
    _duck, _duck_settings = None, ("", 0)


# ------------------------------------------------------------ checks


def _reconciled(order: WorkOrder, parts: list[tuple[str, pa.Table]]) -> list[CheckResult]:
    """Check the rows against those that they are made of, where the asset says how: of a range, and
    when there are none yet. One more day of what has passed before is not worth it."""
    asset = order.asset
    spec = table_spec(asset).against_inputs
    to = order.spec_as(Written)
    if spec is None or not to.for_release or (len(parts) == 1 and to.expect_schema):
        return []
    rows = table_of(order.inputs[0])
    values = pa.concat_tables([table for _, table in parts])
    result: CheckResult = registry.load(spec.check)(
        asset.id, spec.params, rows, values, tz=order.tz
    )
    return [result]


_BY_ROW = ("not_null", "between", "accepted_values", "matches", "foreign_key", "unique")


def _check(order: WorkOrder, parts: list[tuple[str, pa.Table]]) -> list[CheckResult]:
    """Check partition by partition. A range is first checked as one, with no row tolerated: what
    passes that passes for each of its partitions, and most do."""
    specs = [check for check in order.asset.checks if check.scope == "partition"]
    if not specs:
        return []
    if len(parts) == 1:
        return _kept(order, _evaluate(order, specs, parts[0][1], parts[0][0]))
    strict = [
        msgspec.structs.replace(spec, params={**spec.params, "tolerate": 0.0})
        for spec in specs
        if spec.check.rpartition(".")[2] in _BY_ROW
    ]
    whole = pa.concat_tables([table for _, table in parts])
    passed = (
        [
            pair
            for pair in _evaluate(order, strict, whole, f"{parts[0][0]}..{parts[-1][0]}")
            if pair[0].ok
        ]
        if strict
        else []
    )
    names = {result.name for result, _ in passed}
    rest = [spec for spec in specs if spec.name not in names]
    return _kept(
        order,
        passed
        + [
            pair
            for key, table in parts
            for pair in (_evaluate(order, rest, table, key) if rest else [])
        ],
    )


def _changed_columns(
    order: WorkOrder, parts: list[tuple[str, pa.Table]], schema: tuple[tuple[str, str], ...]
) -> list[CheckResult]:
    """Compare the columns with the live ones, asked or not: a type that changed cannot be published
    beside the old rows, a column that is gone is worth a look. A definition's values change
    with it."""
    asset = order.asset
    known = set(schema)
    if (
        asset.defined_by != ""
        or all(column in known for column in order.spec_as(Written).expect_schema)
        or any(check.check.rpartition(".")[2] == "schema" for check in asset.checks)
    ):
        return []
    spec = CheckSpec(name="schema(evolve)", check="check.dataops.schema", params={"mode": "evolve"})
    found = _evaluate(
        order,
        [spec],
        parts[0][1].slice(0, 0),
        parts[0][0] if len(parts) == 1 else f"{parts[0][0]}..{parts[-1][0]}",
    )
    return [
        msgspec.structs.replace(one, severity="error" if "changed" in one.measured else "warn")
        for one, _ in found
        if not one.ok
    ]


def _evaluate(
    order: WorkOrder, specs: Sequence[Any], table: pa.Table, partition: str
) -> list[tuple[CheckResult, bytes]]:
    asset = order.asset
    frame = pl.DataFrame(pl.from_arrow(table))
    references = {ref.asset: _reference(ref) for ref in order.references}
    return evaluate(
        specs,
        frame,
        asset=asset.id,
        partition="" if partition == ALL else partition,
        references=references,
        expect_schema=order.spec_as(Written).expect_schema,
        time=table_spec(asset).time,
        now_ns=order.now,
        functions=open_project(order).checks,
        personal=_personal(order, table.column_names),
        tz=order.tz,
    )


def _personal(order: WorkOrder, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the personal columns of what the order makes, or looks at."""
    if order.audit:
        return order.inputs[0].spec_as(Rows).personal
    inputs = {
        ref.asset: known((name for name, _ in ref.spec_as(Rows).schema), ref.spec_as(Rows).personal)
        for ref in order.inputs
    }
    return personal_columns(order.asset, columns, inputs)


_references: OrderedDict[tuple[str, ...], pl.DataFrame] = OrderedDict()
_REFERENCE_ROWS_MAX = 100_000  # larger tables are read each time instead of being held


def _reference(ref: InputRef) -> pl.DataFrame:
    """Return a table that checks compare with. Its files never change, so small ones are held
    between orders."""
    lake = ref.spec_as(Rows).lake
    name = (
        lake,
        *(file.path for set_ in ref.sets for file in set_.files),
        *(partition for set_ in ref.sets for partition in set_.partitions),
    )
    held = _references.get(name)
    if held is not None:
        for file in (file for set_ in ref.sets for file in set_.files):
            frames.confirm(lake, file, ref.asset)
    else:
        held = pl.DataFrame(pl.from_arrow(table_of(ref)))
        if held.height <= _REFERENCE_ROWS_MAX:
            _references[name] = held
            if len(_references) > 16:
                _references.popitem(last=False)
    return held


def _kept(order: WorkOrder, results: list[tuple[CheckResult, bytes]]) -> list[CheckResult]:
    blobs = LocalBlobs(Path(order.blobs)) if order.blobs else None
    return [
        msgspec.structs.replace(result, samples=blobs.put(sample)) if sample and blobs else result
        for result, sample in results
    ]


def _audit(order: WorkOrder) -> WorkResult:
    table = table_of(order.inputs[0])
    results = _kept(order, _evaluate(order, order.asset.checks, table, ""))
    return WorkResult(
        order=order.id, attempt=order.attempt, fence=order.fence, ok=True, checks=tuple(results)
    )
