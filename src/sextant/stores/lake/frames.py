"""Converts rows of any library to canonical Arrow, digests and Parquet files, and files to the
frame that a function asks for. Called by workers, by `iceberg` and by whoever shows rows.

Nothing here knows which state is live; file references are what goes in and out.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from sextant.kernel.errors import BadData, Damaged, UsageError
from sextant.kernel.nouns import FileRef, PartOutput
from sextant.kernel.partitions import ALL, Grain, Partitioning
from sextant.stores import files as disk
from sextant.stores.lake import digest as digests
from sextant.stores.lake import profiles
from sextant.stores.lake.conform import conform, finite
from sextant.stores.lake.diff import Diff, diff
from sextant.stores.lake.digest import digest, version_digest
from sextant.stores.lake.types import (
    PARTITION,
    Schema,
    arrow_schema,
    canonical,
    first_refused,
    scalar,
    schema_of,
    texts,
)
from sextant.stores.verified import compared, stamp

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from _typeshed import ReadableBuffer

__all__ = [
    "Diff",
    "Frame",
    "Rows",
    "arrange",
    "canonical",
    "confirm",
    "conform",
    "diff",
    "digest",
    "finite",
    "read",
    "read_compared",
    "schema_of",
    "slot",
    "split",
    "store",
    "table_of",
    "to_arrow",
    "to_frame",
    "version_digest",
    "write",
    "write_many",
]

_T = TypeVar("_T")

Frame = Literal["polars", "polars_lazy", "pandas", "pyarrow", "duckdb"]

# Parquet key-value metadata: which partitions a data file holds, as a JSON list
PARTITIONS_KEY = b"sextant.partitions"
# and that its rows lie in order; files of earlier releases are put in order when they are read
ORDERED_KEY = b"sextant.ordered"
_SHOWN_CHARS = 60  # of a value in a message
# small enough that a row group is skipped usefully, large enough to compress
_ROW_GROUP_ROWS = 128 * 1024
# dictionaries of fewer rows take longer to write and to read, and more space, than the rows
# themselves
_DICTIONARY_ROWS_MIN = 10_000
_WRITTEN_BYTES = 1 << 20  # hashed and written at once
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
                return _of_polars(value)
            case ("polars", "LazyFrame"):
                return _of_polars(value.collect())
            case ("pyarrow", "Table"):
                return value
            case ("pyarrow", "RecordBatch"):
                return pa.Table.from_batches([value])
            case ("pyarrow", "RecordBatchReader"):
                return value.read_all()
            case ("duckdb", "DuckDBPyRelation"):
                return value.to_arrow_table()
            case ("pandas", "DataFrame"):
                return _of_pandas(value)
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


def _of_polars(frame: "pl.DataFrame") -> "pa.Table":
    import polars as pl

    for name, type_ in frame.schema.items():
        if type_.is_object() or (type_.is_nested() and "Object" in str(type_)):
            values = (value for value in frame.get_column(name) if value is not None)
            raise _objects(name, next(values, None))
        if type_ in (pl.Int128, pl.UInt128):
            raise BadData(
                "SX-LAKE-005",
                f"column `{name}` has type `{type_}`, which a table cannot hold",
                hint="cast it to pl.Int64 or to pl.Decimal(38, 0)",
            )
    return frame.to_arrow()


def _of_pandas(frame: Any) -> "pa.Table":
    import pyarrow as pa

    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise BadData(
            "SX-LAKE-006",
            f"column name {odd[0]!r} is not text",
            hint="rename the columns: frame.columns = [...]",
        )
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index(allow_duplicates=True)
    arrays = []
    for place, name in enumerate(frame.columns):  # by place: two may have one name
        column = frame.iloc[:, place]
        if column.dtype == object:
            sets = (value for value in column if isinstance(value, (set, frozenset)))
            if (found := next(sets, None)) is not None:
                raise _objects(name, found)
        try:
            arrays.append(pa.array(column, from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            row = first_refused(column, lambda some: pa.array(some, from_pandas=True))
            value = column.iloc[row]
            raise BadData(
                "SX-LAKE-006",
                f"column `{name}`, row {row}: {_shown(value)} of type {type(value).__name__} "
                "cannot be kept beside the values before it",
                hint="give the column one type that a table can hold",
            ) from error
    return pa.Table.from_arrays(
        [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays],
        names=list(frame.columns),
    )


def _objects(column: str, value: object) -> BadData:
    of = f" ({type(value).__name__})" if value is not None else ""
    return BadData(
        "SX-LAKE-005",
        f"column `{column}` holds Python objects{of}, which a table cannot hold",
        hint="make them text, numbers or lists in the step that returns it",
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def to_frame(table: "pa.Table", frame: str) -> Any:
    """Return canonical rows as the frame asked for (a `Frame`; anything else is Arrow).

    Pandas gets whole numbers and truths with gaps in its nullable types, and as objects where they
    lie inside of lists and structs: as floats they would be rounded.
    """
    # libraries add up each piece by itself, so the pieces would show in a sum's last digits
    table = table.combine_chunks()
    if frame == "pandas":
        return _to_pandas(table)
    if frame == "duckdb":
        import duckdb

        return duckdb.connect().from_arrow(table)
    if frame in ("polars", "polars_lazy"):
        import polars as pl

        polars = pl.DataFrame(pl.from_arrow(table))
        return polars.lazy() if frame == "polars_lazy" else polars
    return table


def _to_pandas(table: "pa.Table") -> Any:
    import pandas as pd
    import pyarrow as pa

    nullable = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    made = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.type in nullable and column.null_count:
            made[field.name] = column.to_pandas(types_mapper=nullable.get)
        elif _has_gaps(column):
            made[field.name] = pd.Series(map(_as_objects, column.to_pylist()), dtype=object)
    if not made:
        return table.to_pandas()
    rest = table.drop_columns(list(made)).to_pandas()
    return pd.concat([rest, pd.DataFrame(made, index=rest.index)], axis=1)[table.column_names]


def _has_gaps(column: "pa.ChunkedArray") -> bool:
    """Say whether whole numbers or truths inside of a nesting are missing."""
    import pyarrow as pa

    t = pa.types
    if t.is_struct(column.type):
        parts = column.flatten()
    elif t.is_large_list(column.type):
        parts = [pa.chunked_array([chunk.flatten() for chunk in column.chunks] or [[]])]
    else:
        return False
    return any(
        (part.null_count and (t.is_integer(part.type) or t.is_boolean(part.type)))
        or (t.is_nested(part.type) and _has_gaps(part))
        for part in parts
    )


def _as_objects(value: Any) -> Any:
    """Return a nested value as pandas holds it: lists as arrays, of objects."""
    import numpy as np

    if isinstance(value, dict):
        return {name: _as_objects(inner) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    out = np.empty(len(value), dtype=object)
    out[:] = [_as_objects(inner) for inner in value]
    return out


class Rows(NamedTuple):
    """The rows of one partition in the order of their digest."""

    partition: str
    table: "pa.Table"
    digest: str


def arrange(parts: Sequence[tuple[str, "pa.Table"]], key: Sequence[str] = ()) -> list[Rows]:
    """Return partitions (canonical types) with their digests, rows in the one order that their
    content has: by the key, then by the other columns in the order of their names."""
    return [Rows(partition, *digests.arrange(table, key)) for partition, table in parts]


def write(
    table: "pa.Table", partition: str, *, root: Path | str, staging: str, key: Sequence[str] = ()
) -> PartOutput:
    """Write one partition's rows (canonical types) into a file whose path begins with
    `root/staging`; return digest, rows, file.

    No rows is no file. Durable on return. StorageError on a full disk.
    """
    parts = arrange([(partition, table)], key)
    return write_many(parts, root=root, staging=staging, grain="static")[0]


def write_many(
    parts: Sequence[Rows],
    *,
    root: Path | str,
    staging: str,
    grain: Grain = "daily",
    profiled: bool = True,
) -> list[PartOutput]:
    """Write several partitions, one file for all that share an Iceberg partition of `grain` (days:
    a month), partition by partition.

    parts   each partition once
    Result  one output for each part, in the order given; a file that several share stands in the
            `files` of each
    """
    groups: dict[str, list[Rows]] = {}
    for part in parts:
        if part.table.num_rows:
            groups.setdefault(slot(grain, part.partition), []).append(part)
    written: dict[str, FileRef] = {}
    for members in groups.values():
        members.sort(key=lambda part: part.partition)
        names = tuple(part.partition for part in members)
        # The same rows of the same partitions give the same name: a repeated call overwrites its
        # own file with equal content.
        name = hashlib.sha256(
            json.dumps([names, [part.digest for part in members]]).encode()
        ).hexdigest()[:16]
        rows = _joined([_labelled(part.table, part.partition) for part in members])
        path = f"{staging}-{name}.parquet"
        sizes = [(part.partition, part.table.num_rows) for part in members]
        file = store(rows, names, root=root, path=path, sizes=sizes, profiled=profiled)
        written.update(dict.fromkeys(names, file))
    if written:
        disk.sync_folder(os.path.dirname(disk.join(root, staging)))
    return [
        PartOutput(
            partition=part.partition,
            digest=part.digest,
            rows=part.table.num_rows,
            files=(written[part.partition],) if part.partition in written else (),
        )
        for part in parts
    ]


def store(
    table: "pa.Table",
    partitions: Sequence[str],
    *,
    root: Path | str,
    path: str,
    ordered: bool = True,
    sizes: Sequence[tuple[str, int]] = (),
    profiled: bool = True,
) -> FileRef:
    """Write a data file that already has its `_partition` column, and (`profiled`) the profiles of
    its columns beside it; sync them (not their folder). The rows lie partition by partition.

    ordered  the rows of each partition lie in their order
    sizes    how many rows each partition has; () = the rows say it
    """
    import pyarrow.parquet as pq

    place = disk.join(root, path)
    disk.make_folder(os.path.dirname(place))
    metadata = {PARTITIONS_KEY: json.dumps(list(partitions)).encode()}
    if ordered:
        metadata[ORDERED_KEY] = b"1"
    try:
        hashing = _Hashing(disk.create(place, final=True))
        with io.BufferedWriter(hashing, _WRITTEN_BYTES) as file:
            pq.write_table(
                table.replace_schema_metadata(metadata),
                file,
                compression="zstd",
                use_dictionary=table.num_rows >= _DICTIONARY_ROWS_MIN,
                store_decimal_as_integer=True,
                row_group_size=_ROW_GROUP_ROWS,
            )
            file.flush()
            os.fsync(hashing.fileno())
    except OSError as error:
        disk.remove(place)
        raise disk.refused(error, place) from error
    beside = profiles.Written("", 0)
    if profiled:
        beside = profiles.write(table, sizes or profiles.sizes_of(table), root=root, path=path)
    return FileRef(
        path=path,
        rows=table.num_rows,
        size_bytes=hashing.size,
        partitions=tuple(partitions),
        sha256=hashing.hexdigest(),
        profiles=beside.sha256,
        profiles_bytes=beside.size_bytes,
    )


class _Hashing(io.FileIO):
    """A new file that is written from its beginning to its end, with the digest of what was
    written. Hashing what is written and not what lies on the disk finds a disk that wrote something
    else."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")
        self.size = 0
        self._sha = hashlib.sha256()

    def write(self, data: "ReadableBuffer", /) -> int:
        written = super().write(data)
        self._sha.update(memoryview(data)[:written])
        self.size += written
        return written

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


def _labelled(table: "pa.Table", partition: str) -> "pa.Table":
    import pyarrow as pa

    return table.append_column(
        pa.field(PARTITION, pa.large_string()),
        pa.repeat(scalar(partition.encode(), pa.large_string()), table.num_rows),
    )


def _joined(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Return tables of one schema below each other."""
    import pyarrow as pa

    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


# ---------------------------------------------------------------- reading


def read(
    root: Path | str,
    files: Sequence[FileRef],
    *,
    partitions: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
    frame: Frame = "polars",
    schema: Schema = (),
    key: Sequence[str] = (),
    labels: bool = False,
    of: str = "",
) -> Any:
    """Return the rows of exactly these partitions of the files, by partition and then in the order
    of their content, as the frame asked for.

    partitions  None = all rows of the files
    columns     which columns, in this order; None = all of `schema`, or of the files where there is
                none
    schema      (column, short type) pairs: a column that a file lacks is null, a narrower type is
                widened; needed for no files
    key         of the table, for files that an earlier release wrote in no order
    labels      keep the `_partition` column (last)
    of          asset and version that the files belong to, for messages
    Raises      Damaged for a file that is missing or not as it was written, UsageError for an
                unknown column
    """
    wanted = None if partitions is None else frozenset(partitions)
    files = [file for file in files if wanted is None or not wanted.isdisjoint(file.partitions)]
    if not schema:
        schema = _schema_of_files(root, files, of)
    known = dict(schema)
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise UsageError(
            "SX-LAKE-009",
            f"there is no column `{unknown[0]}`",
            hint=f"there are {', '.join(list(known)[:20])}",
        )
    chosen = tuple(schema) if columns is None else tuple((name, known[name]) for name in columns)
    table = table_of(root, files, tuple(schema), wanted, key=key, labels=labels, of=of)
    if columns is not None:
        table = table.select([*(name for name, _ in chosen), *([PARTITION] if labels else [])])
    return to_frame(table, frame)


def table_of(
    root: Path | str,
    files: Sequence[FileRef],
    schema: Schema,
    keep: Collection[str] | None,
    *,
    key: Sequence[str] = (),
    labels: bool,
    of: str = "",
) -> "pa.Table":
    """Return the rows as a canonical Arrow table, in order; `keep`: only rows of these
    partitions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    target = arrow_schema(_with_label(schema) if labels else schema)
    held = [_kept(file, keep) for file in files]
    places = sorted(range(len(files)), key=lambda n: held[n][:1])
    mixed = are_mixed([held[n] for n in places])
    read_as = arrow_schema(_with_label(schema)) if mixed else target
    tables = []
    for n in places:
        file, names = files[n], held[n]
        filtered = len(names) < len(file.partitions)
        table, ordered = _open(root, file, [*target.names, PARTITION], of)
        if filtered:
            table = table.filter(pc.is_in(table[PARTITION], value_set=texts(names)))
        if not ordered:
            table = table.take(digests.sorted_by(table, [PARTITION, *key]))
        tables.append(_conformed(table, read_as))
    if not tables:
        return target.empty_table()
    rows = pa.concat_tables(tables)
    if mixed:
        rows = in_order(rows, held, key)
    return rows.select(target.names)


def _kept(file: FileRef, keep: Collection[str] | None) -> list[str]:
    """Return the partitions of a file whose rows are wanted, in their order."""
    return sorted(name for name in file.partitions if keep is None or name in keep)


def are_mixed(held: Sequence[Sequence[str]]) -> bool:
    """Say whether partitions of several files or sets, sorted by their first, lie between each
    other."""
    ends = [names[-1] for names in held if names]
    return any(
        names[0] <= end for end, names in zip(ends, [one for one in held if one][1:], strict=False)
    )


def in_order(rows: "pa.Table", held: Sequence[Sequence[str]], key: Sequence[str]) -> "pa.Table":
    """Return labelled rows by partition. Those of a partition lie in order already, unless it has
    several pieces in `held`."""
    import pyarrow.compute as pc

    names = [name for some in held for name in some]
    whole = len(names) == len(set(names))
    return rows.take(
        pc.sort_indices(rows[PARTITION])  # stable: the order within a partition stays
        if whole
        else digests.sorted_by(rows, [PARTITION, *key])
    )


def confirm(root: Path | str, file: FileRef, of: str = "") -> bytes:
    """Compare a data file with what was recorded when it was written; read only when it may have
    changed since it was last compared. One of which nothing was recorded only has to be there.
    Return the stamp that it had (`stores.verified`); who reads it uses `read_compared`.

    of      asset and version that it belongs to, for the message
    Raises  Damaged
    """
    place = disk.join(root, file.path)
    try:
        if not file.sha256:
            return stamp(os.stat(place))
        found = compared(place, file.sha256)
    except FileNotFoundError as error:
        raise _missing(place, file, of) from error
    except OSError as error:
        raise disk.refused(error, place) from error
    if found is None:
        raise _differs(place, file, of)
    return found


def read_compared(root: Path | str, file: FileRef, read: Callable[[str], _T], of: str = "") -> _T:
    """Return what `read` makes of a data file that was compared: the file has the same stamp
    after the read as when it was compared. Damaged."""
    place = disk.join(root, file.path)
    for _ in range(_READS_MAX):
        before = confirm(root, file, of)
        try:
            found = read(place)
            if stamp(os.stat(place)) == before:
                return found
        except FileNotFoundError as error:
            raise _missing(place, file, of) from error
    raise _differs(place, file, of)  # changed while it was read, each time


def _missing(place: str, file: FileRef, of: str) -> Damaged:
    return Damaged("SX-LAKE-002", f"data file `{place}`{_about(file, of)} is missing", hint=RESTORE)


def _differs(place: str, file: FileRef, of: str) -> Damaged:
    return Damaged(
        "SX-LAKE-003",
        f"data file `{place}`{_about(file, of)} is not what was written",
        hint=RESTORE,
    )


def _about(file: FileRef, of: str) -> str:
    """Return of what a file is: ` of dataset:orders@0c4e96527cf8, 2013-06-10 .. 2013-06-30`."""
    names = sorted(file.partitions)
    span = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}" if names else ""
    about = ", ".join(filter(None, (of, "" if span == ALL else span)))
    return f" of {about}" if about else ""


def _open(
    root: Path | str, file: FileRef, columns: Sequence[str], of: str
) -> "tuple[pa.Table, bool]":
    """Return columns of a data file, as far as it has them (all where its rows must be put in order
    first), and whether they lie in order."""
    return read_compared(root, file, lambda place: _read(place, file, columns, of), of)


def _read(place: str, file: FileRef, columns: Sequence[str], of: str) -> "tuple[pa.Table, bool]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(place) as parquet:
            ordered = ORDERED_KEY in (parquet.metadata.metadata or {})
            held = set(parquet.schema_arrow.names)
            names = [name for name in columns if name in held] if ordered else None
            if parquet.metadata.num_rows != file.rows:
                raise Damaged(
                    "SX-LAKE-003",
                    (
                        f"`{place}` has {parquet.metadata.num_rows} rows where {file.rows} were "
                        "written"
                    ),
                    hint=RESTORE,
                )
            rows = parquet.read(columns=names, use_threads=file.size_bytes > _THREADS_BYTES_MIN)
            return rows, ordered
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise _differs(place, file, of) from error


_READS_MAX = 3  # another process may touch a file that it takes up again
_THREADS_BYTES_MIN = 4 << 20  # below that waking threads takes longer than reading
RESTORE = (
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


def _with_label(schema: Schema) -> Schema:
    return (*schema, (PARTITION, "string"))


def _schema_of_files(root: Path | str, files: Sequence[FileRef], of: str) -> Schema:
    """Return the columns of the files together, where nobody says which the table has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = []
    for file in files:
        try:
            schemas.append(read_compared(root, file, pq.read_schema, of).remove_metadata())
        except (pa.ArrowInvalid, OSError) as error:
            raise _differs(disk.join(root, file.path), file, of) from error
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
