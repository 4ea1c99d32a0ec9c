"""Frames in, files out, and back: how rows of any library become canonical Arrow, digests and
Parquet files, and how files become the frame that a function asks for. Called by workers, by
`iceberg` and by whoever shows rows.

Nothing here knows which state is live; file references are what goes in and out.
"""

import functools
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sextant.kernel.errors import BadData, Damaged, UsageError
from sextant.kernel.nouns import FileRef, PartOutput
from sextant.kernel.partitions import ALL, Grain, Partitioning
from sextant.stores import files as disk
from sextant.stores.lake.diff import Diff, diff
from sextant.stores.lake.digest import digest, version_digest
from sextant.stores.lake.types import (
    PARTITION,
    Schema,
    arrow_schema,
    canonical,
    scalar,
    schema_of,
    texts,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = [
    "Diff",
    "Frame",
    "canonical",
    "diff",
    "digest",
    "read",
    "schema_of",
    "slot",
    "split",
    "store",
    "table_of",
    "to_arrow",
    "version_digest",
    "write",
    "write_many",
]

Frame = Literal["polars", "polars_lazy", "pandas", "pyarrow", "duckdb"]

# Parquet key-value metadata: which partitions a data file holds, as a JSON list
PARTITIONS_KEY = b"sextant.partitions"
# small enough that a row group is skipped usefully, large enough to compress
_ROW_GROUP_ROWS = 128 * 1024
# dictionaries of fewer rows take longer to write and to read, and more space, than the rows
# themselves
_DICTIONARY_ROWS_MIN = 10_000
_SLOT_CHARS: Mapping[Grain, int] = {
    "hourly": 10,
    "daily": 7,
    "monthly": 4,
}  # hours by day, days by month, months by year
_KEY_FORMAT: Mapping[Grain, str] = {
    "hourly": "%Y-%m-%dT%H%z",
    "daily": "%Y-%m-%d",
    "monthly": "%Y-%m",
}


def slot(grain: Grain, partition: str) -> str:
    """Return the Iceberg partition value under which a partition is filed; "" in an unpartitioned
    table."""
    return "" if grain == "none" else partition[: _SLOT_CHARS.get(grain, len(partition))]


def to_arrow(value: Any) -> "pa.Table":
    """Return what a function returned as an Arrow table, types as they come (see `canonical`).

    value   Polars DataFrame or LazyFrame, pandas DataFrame, PyArrow Table, RecordBatch or
            RecordBatchReader, DuckDB relation
    Raises  BadData saying what came instead, or which column has mixed types. A named pandas index
            becomes columns, an
            unnamed one is dropped; NaN in pandas is null.
    """
    import pyarrow as pa

    kind = (type(value).__module__.partition(".")[0].lstrip("_"), type(value).__name__)
    try:
        match kind:
            case ("polars", "DataFrame"):
                return value.to_arrow()
            case ("polars", "LazyFrame"):
                return value.collect().to_arrow()
            case ("pyarrow", "Table"):
                return value
            case ("pyarrow", "RecordBatch"):
                return pa.Table.from_batches([value])
            case ("pyarrow", "RecordBatchReader"):
                return value.read_all()
            case ("duckdb", "DuckDBPyRelation"):
                return value.to_arrow_table()
            case ("pandas", "DataFrame"):
                odd = [name for name in value.columns if not isinstance(name, str)]
                if odd:
                    raise BadData(
                        "SX-LAKE-006",
                        f"column name {odd[0]!r} is not text",
                        hint="rename the columns: frame.columns = [...]",
                    )
                frame = (
                    value.reset_index()
                    if any(name is not None for name in value.index.names)
                    else value
                )
                return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise BadData(
            "SX-LAKE-006",
            f"the returned {kind[0]} {kind[1]} has a column that is no table column",
            hint="give each column one type",
        ) from error
    returned = (
        "nothing" if value is None else f"`{type(value).__module__}.{type(value).__qualname__}`"
    )
    hint = (
        "return a Polars, pandas or PyArrow table or a DuckDB relation; is a `return` missing?"
        if value is None
        else "return a Polars, pandas or PyArrow table or a DuckDB relation"
    )
    raise BadData(
        "SX-LAKE-006", f"a table was expected, but the function returned {returned}", hint=hint
    )


# ---------------------------------------------------------------- writing


def write(
    table: "pa.Table", partition: str, *, root: Path | str, staging: str, key: Sequence[str] = ()
) -> PartOutput:
    """Write one partition's rows (canonical types) into a file whose path begins with
    `root/staging`; return digest, rows, file.

    No rows is no file. Durable on return. StorageError on a full disk.
    """
    return write_many([(partition, table)], root=root, staging=staging, key=key, grain="static")[0]


def write_many(
    parts: Sequence[tuple[str, "pa.Table"]],
    *,
    root: Path | str,
    staging: str,
    key: Sequence[str] = (),
    grain: Grain = "daily",
) -> list[PartOutput]:
    """Write several partitions, one file for all that share an Iceberg partition of `grain` (days:
    a month).

    parts   (partition, rows in canonical types), each partition once
    Result  one output for each part, in the order given; a file that several share stands in the
            `files` of each
    """
    digests = [digest(table, key) for _, table in parts]
    groups: dict[str, list[int]] = {}
    for index, (partition, table) in enumerate(parts):
        if table.num_rows:
            groups.setdefault(slot(grain, partition), []).append(index)
    written: dict[int, FileRef] = {}
    for members in groups.values():
        members.sort(key=lambda index: parts[index][0])
        names = tuple(parts[index][0] for index in members)
        # The same rows of the same partitions give the same name: a repeated call overwrites its
        # own file with equal content.
        name = hashlib.sha256(
            json.dumps([names, [digests[index] for index in members]]).encode()
        ).hexdigest()[:16]
        rows = _joined([_labelled(parts[index][1], parts[index][0]) for index in members])
        ref = store(rows, names, root=root, path=f"{staging}-{name}.parquet")
        written.update(dict.fromkeys(members, ref))
    if written:
        disk.sync_folder(os.path.dirname(disk.join(root, staging)))
    return [
        PartOutput(
            partition=partition,
            digest=digests[index],
            rows=table.num_rows,
            files=(written[index],) if index in written else (),
        )
        for index, (partition, table) in enumerate(parts)
    ]


def store(table: "pa.Table", partitions: Sequence[str], *, root: Path | str, path: str) -> FileRef:
    """Write a data file that already has its `_partition` column and sync it (not its folder)."""
    import pyarrow.parquet as pq

    place = disk.join(root, path)
    disk.make_folder(os.path.dirname(place))
    metadata = {PARTITIONS_KEY: json.dumps(list(partitions)).encode()}
    try:
        with open(place, "wb") as file:
            pq.write_table(
                table.replace_schema_metadata(metadata),
                file,
                compression="zstd",
                use_dictionary=table.num_rows >= _DICTIONARY_ROWS_MIN,
                store_decimal_as_integer=True,
                row_group_size=_ROW_GROUP_ROWS,
            )
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    except OSError as error:
        disk.remove(place)
        raise disk.refused(error, place) from error
    return FileRef(path=path, rows=table.num_rows, size_bytes=size, partitions=tuple(partitions))


def _labelled(table: "pa.Table", partition: str) -> "pa.Table":
    import pyarrow as pa

    return table.append_column(
        pa.field(PARTITION, pa.large_string()),
        pa.repeat(scalar(partition.encode(), pa.large_string()), table.num_rows),
    )


def _joined(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Return the tables below each other; a column that one lacks is null there."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadData(
            "SX-LAKE-004",
            "partitions made together have columns of one name and different types",
            hint="cast the column to one type",
        ) from error


# ---------------------------------------------------------------- reading


def read(
    root: Path | str,
    files: Sequence[FileRef],
    *,
    partitions: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
    frame: Frame = "polars",
    schema: Schema = (),
    labels: bool = False,
) -> Any:
    """Return the rows of exactly these partitions of the files, as the frame asked for.

    partitions  None = all rows of the files
    columns     which columns, in this order; None = all of `schema`, or of the files where there is
                none
    schema      (column, short type) pairs: a column that a file lacks is null, a narrower type is
                widened; needed for no files
    labels      keep the `_partition` column (last)
    Raises      Damaged for a missing or broken file, UsageError for an unknown column
    """
    wanted = None if partitions is None else frozenset(partitions)
    files = [file for file in files if wanted is None or not wanted.isdisjoint(file.partitions)]
    keep = (
        None
        if wanted is None or all(wanted.issuperset(file.partitions) for file in files)
        else wanted
    )
    if not schema:
        schema = _schema_of_files(root, files)
    known = dict(schema)
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise UsageError(
            "SX-LAKE-009",
            f"there is no column `{unknown[0]}`",
            hint=f"there are {', '.join(list(known)[:20])}",
        )
    chosen = tuple(schema) if columns is None else tuple((name, known[name]) for name in columns)
    if frame in ("polars", "polars_lazy"):
        lazy = _scan(root, files, chosen, keep, labels=labels)
        return lazy if frame == "polars_lazy" else _collect(lazy)
    table = table_of(root, files, chosen, keep, labels=labels)
    if frame == "pandas":
        return table.to_pandas()
    if frame == "duckdb":
        import duckdb

        return duckdb.connect().from_arrow(table)
    return table


def table_of(
    root: Path | str,
    files: Sequence[FileRef],
    schema: Schema,
    keep: Collection[str] | None,
    *,
    labels: bool,
) -> "pa.Table":
    """Return the rows as a canonical Arrow table; `keep`: only rows of these partitions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    target = arrow_schema(_with_label(schema) if labels else schema)
    needed = target.names if labels or keep is None else [*target.names, PARTITION]
    tables = []
    for file in files:
        table = _open(root, file, needed)
        if keep is not None and not set(file.partitions) <= set(keep):
            table = table.filter(pc.is_in(table[PARTITION], value_set=texts(sorted(keep))))
        tables.append(_conformed(table, target))
    return pa.concat_tables(tables) if tables else target.empty_table()


def _open(root: Path | str, file: FileRef, columns: Sequence[str] | None) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = disk.join(root, file.path)
    try:
        with pq.ParquetFile(place) as parquet:
            held = set() if columns is None else set(parquet.schema_arrow.names)
            names = None if columns is None else [name for name in columns if name in held]
            if parquet.metadata.num_rows != file.rows:
                raise Damaged(
                    "SX-LAKE-003",
                    (
                        f"`{place}` has {parquet.metadata.num_rows} rows where {file.rows} were "
                        "written"
                    ),
                    hint=_RESTORE,
                )
            return parquet.read(columns=names, use_threads=file.size_bytes > _THREADS_BYTES_MIN)
    except FileNotFoundError as error:
        raise Damaged("SX-LAKE-002", f"data file `{place}` is missing", hint=_RESTORE) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(
            "SX-LAKE-003", f"data file `{place}` is not what was written", hint=_RESTORE
        ) from error


_THREADS_BYTES_MIN = 4 << 20  # below that waking threads takes longer than reading
_RESTORE = (
    "restore it from a backup: sextant backup restore; or make the partition again: sextant run "
    "--force"
)


def _conformed(table: "pa.Table", target: "pa.Schema") -> "pa.Table":
    """Return the table with exactly these columns, widened or null where they lack."""
    import pyarrow as pa

    if table.schema.equals(target):
        return table.replace_schema_metadata(None)
    have = set(table.column_names)
    columns = [
        pa.nulls(table.num_rows, field.type)
        if field.name not in have
        else table[field.name]
        if table[field.name].type == field.type
        else table[field.name].cast(field.type)
        for field in target
    ]
    return pa.table(columns, schema=target)


def _scan(
    root: Path | str,
    files: Sequence[FileRef],
    schema: Schema,
    keep: Collection[str] | None,
    *,
    labels: bool,
) -> "pl.LazyFrame":
    import polars as pl

    shape = _polars_schema(_with_label(schema))
    if not files:
        return pl.LazyFrame(schema=shape if labels else {name: shape[name] for name, _ in schema})
    widening = pl.ScanCastOptions(
        integer_cast="upcast", float_cast="upcast", missing_struct_fields="insert"
    )
    places = [disk.join(root, file.path) for file in files]
    lazy = pl.scan_parquet(
        places,
        schema=shape,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=widening,
        glob=False,
        hive_partitioning=False,
    )
    if keep is not None:
        lazy = lazy.filter(pl.col(PARTITION).is_in(sorted(keep)))
    return lazy if labels else lazy.drop(PARTITION)


def _collect(lazy: "pl.LazyFrame") -> "pl.DataFrame":
    import polars as pl

    try:
        return lazy.collect()
    except FileNotFoundError as error:
        raise Damaged("SX-LAKE-002", "a data file is missing", hint=_RESTORE) from error
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError, OSError) as error:
        raise Damaged(
            "SX-LAKE-003", "a data file is not what was written", hint=_RESTORE
        ) from error


@functools.lru_cache(maxsize=256)
def _polars_schema(schema: Schema) -> "pl.Schema":
    import polars as pl

    frame = pl.from_arrow(arrow_schema(schema).empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def _with_label(schema: Schema) -> Schema:
    return (*schema, (PARTITION, "string"))


def _schema_of_files(root: Path | str, files: Sequence[FileRef]) -> Schema:
    """Return the columns of the files together, where nobody says which the table has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = []
    for file in files:
        place = disk.join(root, file.path)
        try:
            schemas.append(pq.read_schema(place).remove_metadata())
        except FileNotFoundError as error:
            raise Damaged(
                "SX-LAKE-002", f"data file `{place}` is missing", hint=_RESTORE
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise Damaged(
                "SX-LAKE-003", f"data file `{place}` is not what was written", hint=_RESTORE
            ) from error
    return schema_of(pa.unify_schemas(schemas, promote_options="permissive")) if schemas else ()


# ---------------------------------------------------------------- splitting


def split(
    table: "pa.Table",
    time: str,
    partitioning: Partitioning,
    *,
    wanted: Collection[str] | None = None,
) -> list[tuple[str, "pa.Table"]]:
    """Return the rows sorted into partitions, as (key, rows) in the order of the keys, row order
    kept.

    time    column of instants (timestamptz) that says into which slice a row belongs, or of local
            dates for days and months;
            for static partitions the column that holds their names
    wanted  the only keys that may occur; None = all within the partitioning's bounds
    Raises  BadData when the column is absent or of another type, or when rows have no time or lie
            outside; it counts them
    """
    import polars as pl

    if partitioning.grain == "none":
        return [(ALL, table)]
    if time not in table.column_names:
        raise BadData(
            "SX-LAKE-010",
            f"there is no column `{time}` to say into which partition a row belongs",
            hint=f"there are {', '.join(table.column_names[:20])}",
        )
    times = pl.from_arrow(table.column(time))
    assert isinstance(times, pl.Series)
    keys = _keys(times, time, partitioning)
    _refuse_outside(keys, time, partitioning, wanted)
    groups = (
        pl.DataFrame({"key": keys})
        .with_row_index("row")
        .group_by("key", maintain_order=True)
        .agg("row")
        .sort("key")
    )
    ordered = table.combine_chunks().take(
        groups["row"].explode(empty_as_null=False).to_arrow()
    )  # one copy, then slices of it
    starts = [0, *groups["row"].list.len().cum_sum()]
    return [
        (key, ordered.slice(start, end - start))
        for key, start, end in zip(groups["key"], starts, starts[1:], strict=False)
    ]


def _keys(times: "pl.Series", column: str, partitioning: Partitioning) -> "pl.Series":
    import polars as pl

    if partitioning.grain == "static":
        return times.cast(pl.String)
    if times.dtype == pl.Date and partitioning.grain != "hourly":
        return times.dt.strftime(_KEY_FORMAT[partitioning.grain])
    if not isinstance(times.dtype, pl.Datetime) or times.dtype.time_zone is None:
        hint = (
            "give it a zone: .dt.replace_time_zone(...)"
            if isinstance(times.dtype, pl.Datetime)
            else "make it a timestamp with a zone"
        )
        raise BadData(
            "SX-LAKE-010",
            f"column `{column}` has type {times.dtype}, which names no instants",
            hint=hint,
        )
    return times.dt.convert_time_zone(partitioning.tz).dt.strftime(_KEY_FORMAT[partitioning.grain])


def _refuse_outside(
    keys: "pl.Series", column: str, partitioning: Partitioning, wanted: Collection[str] | None
) -> None:
    empty = keys.null_count()
    found = [
        key for key in keys.unique().drop_nulls().sort() if not _belongs(key, partitioning, wanted)
    ]
    outside = int(keys.is_in(found).sum()) if found else 0
    if not empty and not outside:
        return
    parts = [f"{empty} rows have no `{column}`"] if empty else []
    if outside:
        parts.append(
            f"{outside} rows lie outside the partitions being made, in "
            f"{', '.join(f'`{key}`' for key in found[:5])}{' ...' if len(found) > 5 else ''}"
        )
    raise BadData(
        "SX-LAKE-011",
        f"{' and '.join(parts)}, of {len(keys)}",
        hint="filter such rows out in the step, or widen the partitioning's start and end",
    )


def _belongs(key: str, partitioning: Partitioning, wanted: Collection[str] | None) -> bool:
    if wanted is not None:
        return key in wanted
    if partitioning.grain == "static":
        return key in partitioning.names
    return key in partitioning.between(key, key)
