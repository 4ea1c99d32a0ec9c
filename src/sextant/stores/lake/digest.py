"""Computes content digests, which tell whether two partitions or datasets are the same. Called by
workers and by `frames`.

A partition's digest is SHA-256 over its columns in the order of their names, its rows sorted by the
key and then by the other columns, so it depends on neither row order, column order, chunks, slices,
dictionaries nor the bytes below nulls. Without a key all columns sort, which makes it a digest of
the multiset of rows. Each column is hashed as its own canonical bytes and not as an IPC message,
whose framing may change between versions of Arrow. A pinned digest in the tests tells when any of
this changes; then `_TAG` must.
"""

import functools
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sextant.stores.lake.types import PARTITION, Schema, canonical, scalar, type_name

if TYPE_CHECKING:
    import pyarrow as pa

_TAG = b"sextant.partition.1\0"
_TAG_VERSION = b"sextant.dataset.1\0"


def digest(table: "pa.Table", key: Sequence[str] = ()) -> str:
    """Return the hex SHA-256 of a partition's content.

    table   any Arrow table whose types have a canonical form; a `_partition` column is not part of
            the content
    key     columns that identify a row; those that the table lacks are left out
    Cost    about 0.5 ms for 900 rows x 19 columns, 0.4 s for 337,000
    """
    return arrange(table, key)[1]


def arrange(table: "pa.Table", key: Sequence[str] = ()) -> tuple["pa.Table", str]:
    """Return a partition's rows in the order in which they are hashed, and their digest: rows of
    one digest have one order, wherever they came from."""
    table = canonical(table.drop_columns([PARTITION]) if PARTITION in table.column_names else table)
    names = sorted(table.column_names)
    columns = table.column_names
    table = _plain_floats(table.select(names).combine_chunks())
    order = [name for name in key if name in names]
    if table.num_rows > 1:
        table = table.take(sorted_by(table, order))
    hasher = hashlib.sha256(_TAG)
    _put(hasher, repr((tuple(order), table.num_rows)).encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        _put(hasher, field.name.encode())
        _put(hasher, type_name(field.type).encode())
        _feed(hasher, _single(column))
    return table.select(columns), hasher.hexdigest()


def sorted_by(table: "pa.Table", first: Sequence[str]) -> "pa.Array":
    """Return row numbers in the order of some columns, then of the others by their names."""
    rest = [name for name in sorted(table.column_names) if name not in first]
    return _order(table, [*(name for name in first if name in table.column_names), *rest])


def version_digest(schema: Schema, parts: Mapping[str, str]) -> str:
    """Return the content digest of a dataset: its columns in order, and each partition's digest."""
    hasher = hashlib.sha256(_TAG_VERSION)
    for name, type_ in schema:
        _put(hasher, name.encode())
        _put(hasher, type_.encode())
    _put(hasher, b"")
    for partition in sorted(parts):
        _put(hasher, partition.encode())
        _put(hasher, parts[partition].encode())
    return hasher.hexdigest()


def _order(table: "pa.Table", names: Sequence[str]) -> "pa.Array":
    """Return row numbers in the order of these columns, nulls and NaN last. Equal rows are equal,
    so ties do not matter."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not any(pa.types.is_nested(field.type) for field in table.schema):
        return pc.sort_indices(table, sort_keys=[(name, "ascending", "at_end") for name in names])
    import polars as pl  # sorts lists and structs, which Arrow does not

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return (
        frame.select(pl.arg_sort_by([pl.col(name) for name in names], nulls_last=True))
        .to_series()
        .to_arrow()
    )


def _plain_floats(table: "pa.Table") -> "pa.Table":
    """Return the table with one kind of zero and one kind of NaN."""
    import pyarrow as pa

    fields = list(table.schema)
    if not any(holds_floats(field.type) for field in fields):
        return table
    columns = [
        with_floats(_single(column), _plain) if holds_floats(field.type) else column
        for field, column in zip(fields, table.columns, strict=True)
    ]
    return pa.table(columns, schema=table.schema)


def holds_floats(type_: "pa.DataType") -> bool:
    """Say whether values of a type are floats, or have floats inside."""
    import pyarrow as pa

    return pa.types.is_floating(type_) or any(
        holds_floats(type_.field(i).type) for i in range(type_.num_fields)
    )


def with_floats(array: "pa.Array", change: "Callable[[pa.Array], pa.Array]") -> "pa.Array":
    """Return a canonical array with its floats changed, those inside of nestings too."""
    import pyarrow as pa

    if not holds_floats(array.type) or not len(array):
        return array
    if pa.types.is_floating(array.type):
        return change(array)
    mask = array.is_null() if array.null_count else None
    if pa.types.is_struct(array.type):
        return pa.StructArray.from_arrays(
            [with_floats(child, change) for child in array.flatten()],
            fields=array.type.fields,
            mask=mask,
        )
    if pa.types.is_map(array.type):
        offsets, pairs = _offsets(array), array.cast(_pairs(array.type)).flatten()
        return pa.MapArray.from_arrays(
            offsets,
            with_floats(pairs.field(0), change),
            with_floats(pairs.field(1), change),
            type=array.type,
        )
    return pa.LargeListArray.from_arrays(
        _offsets(array), with_floats(array.flatten(), change), type=array.type
    )


def _plain(array: "pa.Array") -> "pa.Array":
    import pyarrow.compute as pc

    nan, zero = _plain_values(array.type)
    return pc.if_else(pc.is_nan(array), nan, pc.add(array, zero))  # -0.0 + 0.0 is 0.0


@functools.lru_cache(maxsize=2)
def _plain_values(type_: "pa.DataType") -> tuple["pa.Scalar", "pa.Scalar"]:
    """Return NaN and zero of a floating type."""
    form = "<f" if type_.bit_width == 32 else "<d"
    return scalar(struct.pack(form, float("nan")), type_), scalar(struct.pack(form, 0.0), type_)


def plain_zero(type_: "pa.DataType") -> "pa.Scalar":
    """Return 0.0 of a floating type."""
    return _plain_values(type_)[1]


def _offsets(array: "pa.Array") -> "pa.Array":
    """Return the offsets of a list or map whose values are its `flatten()`, null where the entry is
    null."""
    import numpy as np
    import pyarrow as pa

    small = pa.types.is_map(array.type)
    listed = array.cast(_pairs(array.type)) if small else array
    lengths = _lengths(listed).to_numpy(zero_copy_only=False)
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    mask = np.append(array.is_null().to_numpy(zero_copy_only=False), False)
    return pa.array(
        ends, type=pa.int32() if small else pa.int64(), mask=mask if mask.any() else None
    )


def _lengths(array: "pa.Array") -> "pa.Array":
    """Return the lengths of lists, 0 where the entry is null."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array)
    return lengths.fill_null(_filler(lengths.type)) if lengths.null_count else lengths


def _pairs(type_: "pa.DataType") -> "pa.DataType":
    """Return a map's type as a list of (key, value)."""
    import pyarrow as pa

    return pa.list_(
        pa.field(
            "entries",
            pa.struct([pa.field("key", type_.key_type, nullable=False), type_.item_field]),
            nullable=False,
        )
    )


def _feed(hasher: "hashlib._Hash", array: "pa.Array") -> None:
    """Hash one column: which entries are null, then lengths and values with a fixed filler under
    the nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.null_count:
        _put(hasher, _bytes(array.is_valid().cast(pa.uint8())))
    else:
        _put(hasher, b"")
    type_ = array.type
    if pa.types.is_map(type_):
        array = array.cast(_pairs(type_))
        type_ = array.type
    if pa.types.is_struct(type_):
        for child in array.flatten():
            _feed(hasher, child)
    elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
        _put(hasher, _bytes(_lengths(array).cast(pa.int64())))
        _feed(hasher, array.flatten())
    elif pa.types.is_large_string(type_) or pa.types.is_large_binary(type_):
        filled = array.fill_null(_filler(type_)) if array.null_count else array
        _put(hasher, _bytes(pc.binary_length(filled).cast(pa.int64())))
        _put(hasher, _text(filled))
    elif pa.types.is_boolean(type_):
        _put(hasher, _bytes(array.cast(pa.uint8()).fill_null(_filler(pa.uint8()))))
    else:
        _put(hasher, _bytes(array.fill_null(_filler(type_)) if array.null_count else array))


@functools.lru_cache(maxsize=64)
def _filler(type_: "pa.DataType") -> "pa.Scalar":
    import pyarrow as pa

    if pa.types.is_large_string(type_) or pa.types.is_large_binary(type_):
        return scalar(b"", type_)
    return scalar(bytes(type_.bit_width // 8), type_)


def _bytes(array: "pa.Array") -> memoryview:
    """Return the values of a fixed-width array without nulls."""
    width = array.type.bit_width // 8
    if not len(array):
        return memoryview(b"")
    return memoryview(array.buffers()[1])[
        array.offset * width : (array.offset + len(array)) * width
    ]


def _text(array: "pa.Array") -> memoryview:
    """Return the bytes of all strings of an array without nulls, one behind the other."""
    import numpy as np

    if not len(array) or array.buffers()[2] is None:
        return memoryview(b"")
    offsets = np.frombuffer(
        array.buffers()[1], dtype=np.int64, count=len(array) + 1, offset=array.offset * 8
    )
    return memoryview(array.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


def _put(hasher: "hashlib._Hash", data: bytes | memoryview) -> None:
    """Hash the bytes behind their length, so that no two different sequences of parts hash
    alike."""
    hasher.update(len(data).to_bytes(8, "little"))
    hasher.update(data)


def _single(column: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
