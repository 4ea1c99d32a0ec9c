"""The canonical Arrow types that are stored and hashed, and their short names.

Names: bool, int32, int64, float32, float64, decimal(p,s), string, binary, date, time, timestamp
(local, without a zone), timestamptz (an instant), list<T>, struct<name: T, ...>, map<K, V>. Called
by `frames`; it never reads files.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sextant.kernel.errors import BadData

if TYPE_CHECKING:
    import pyarrow as pa

PARTITION = "_partition"  # the column in which the lake keeps a row's partition key
Schema = tuple[tuple[str, str], ...]

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s<>,:()"]+|[<>,:()])')
_WORD = re.compile(r"\w+")


def canonical_type(type_: "pa.DataType", column: str) -> "pa.DataType":
    """Return the stored form of an Arrow type. BadData naming the column when Iceberg has none."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(type_):
        return canonical_type(type_.value_type, column)
    if isinstance(type_, (pa.UuidType, pa.JsonType)):
        return pa.large_string()
    if isinstance(type_, pa.Bool8Type):
        return pa.bool_()
    if isinstance(type_, pa.FixedShapeTensorType):
        return canonical_type(type_.storage_type, column)
    if t.is_null(type_):
        raise BadData(
            "SX-LAKE-012",
            f"column `{column}` holds only nulls and has no type",
            hint="cast it to the type that it has when there are values",
        )
    if t.is_boolean(type_) or t.is_float32(type_) or t.is_float64(type_):
        return type_
    if t.is_integer(type_):
        return pa.int32() if type_.bit_width < 32 or t.is_int32(type_) else pa.int64()
    if t.is_float16(type_):
        return pa.float32()
    if t.is_decimal(type_) and type_.precision <= 38:
        return pa.decimal128(type_.precision, type_.scale)
    if t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_):
        return pa.large_string()
    if (
        t.is_binary(type_)
        or t.is_large_binary(type_)
        or t.is_binary_view(type_)
        or t.is_fixed_size_binary(type_)
    ):
        return pa.large_binary()
    if t.is_date(type_):
        return pa.date32()
    if t.is_time(type_):
        return pa.time64("us")
    if t.is_timestamp(type_):
        return pa.timestamp("us", tz="UTC" if type_.tz else None)
    if (
        t.is_list(type_)
        or t.is_large_list(type_)
        or t.is_fixed_size_list(type_)
        or t.is_list_view(type_)
        or t.is_large_list_view(type_)
    ):
        return pa.large_list(pa.field("element", canonical_type(type_.value_type, column)))
    if t.is_map(type_):
        return pa.map_(
            canonical_type(type_.key_type, column), canonical_type(type_.item_type, column)
        )
    if t.is_struct(type_) and type_.num_fields:
        return pa.struct(
            [pa.field(f.name, canonical_type(f.type, f"{column}.{f.name}")) for f in type_.fields]
        )
    hint = (
        "store a number of seconds"
        if t.is_duration(type_) or t.is_interval(type_)
        else "cast it in the step that returns it"
    )
    raise BadData(
        "SX-LAKE-005", f"column `{column}` has type `{type_}`, which a table cannot hold", hint=hint
    )


def canonical(table: "pa.Table") -> "pa.Table":
    """Return the table in canonical types, all columns nullable, without metadata. BadData naming
    the column: no stored form, or a value out of range (see `conform` for what functions return).
    """
    import pyarrow as pa

    if _is_canonical(table.schema):
        return table
    fields, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        target = canonical_type(field.type, field.name)
        fields.append(pa.field(field.name, target))
        columns.append(cast(column, target, field.name))
    return pa.table(columns, schema=pa.schema(fields))


@functools.lru_cache(maxsize=256)
def _is_canonical(schema: "pa.Schema") -> bool:
    """Say whether tables of this schema are in canonical form as they are: most have been here
    before."""
    if schema.metadata is not None or any(
        field.metadata is not None or not field.nullable for field in schema
    ):
        return False
    try:
        return all(canonical_type(field.type, field.name) == field.type for field in schema)
    except BadData:  # said again, with the column, by whoever asked
        return False


def merged(one: "pa.DataType", other: "pa.DataType") -> "pa.DataType | None":
    """Return the narrowest canonical type that reads both, None if there is none: what Iceberg's
    specification calls a promotion (`Schema Evolution`), fields of structs by name, those of `one`
    first. `null`, a type without values, goes with any."""
    import pyarrow as pa

    t = pa.types
    if one == other or t.is_null(other):
        return one
    if t.is_null(one):
        return other
    for narrow, wide in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64())):
        if {one, other} == {narrow, wide}:
            return wide
    if t.is_decimal(one) and t.is_decimal(other) and one.scale == other.scale:
        return max(one, other, key=lambda type_: int(type_.precision))
    if t.is_large_list(one) and t.is_large_list(other):
        element = merged(one.value_type, other.value_type)
        return None if element is None else pa.large_list(pa.field("element", element))
    if t.is_map(one) and t.is_map(other):
        key, item = merged(one.key_type, other.key_type), merged(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if t.is_struct(one) and t.is_struct(other):
        fields = {field.name: field.type for field in one.fields}
        for field in other.fields:
            both = merged(fields.get(field.name, pa.null()), field.type)
            if both is None:
                return None
            fields[field.name] = both
        return pa.struct([pa.field(name, type_) for name, type_ in fields.items()])
    return None


def cast(column: "pa.ChunkedArray", target: "pa.DataType", name: str) -> "pa.ChunkedArray":
    """Return a column in a canonical type; what is below a microsecond is cut off, no other value
    changes. BadData naming column, row and value."""
    import pyarrow as pa

    if column.type == target:
        return column
    if isinstance(column.type, pa.UuidType):
        import uuid

        values = [
            None
            if value is None
            else str(uuid.UUID(bytes=value) if isinstance(value, bytes) else value)
            for value in column.to_pylist()
        ]
        return pa.chunked_array([pa.array(values, type=target)])
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array(
            [chunk.storage for chunk in column.chunks], type=column.type.storage_type
        )
    # Nanoseconds lose what is below a microsecond; any other cast must keep the value.
    exact = "[ns" not in str(column.type) and "time64[ns]" not in str(column.type)
    try:
        return column.cast(target, safe=exact)
    except pa.ArrowInvalid as error:
        row = first_refused(column, lambda part: part.cast(target, safe=exact))
        raise BadData(
            "SX-LAKE-005",
            f"column `{name}`, row {row}: {said(column, row)} does not fit into "
            f"{type_name(target)}",
            hint="cast it in the step that returns it",
        ) from error
    except pa.ArrowNotImplementedError:
        return pa.chunked_array(
            [pa.array(column.to_pylist(), type=target)]
        )  # rare nestings that Arrow cannot cast


def first_refused(column: Any, convert: Callable[[Any], Any]) -> int:
    """Return the first row (from 0) of a column that cannot be converted, though all of it together
    could not be either. About log2(rows) conversions."""
    import pyarrow as pa

    good, bad = 0, len(column)  # so many rows can, so many cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(column[:middle])
            good = middle
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            bad = middle
    return good


def said(column: "pa.ChunkedArray", row: int) -> str:
    """Return a value as text for a message, also one that Python cannot hold."""
    import pyarrow as pa

    try:
        return f"`{column[row].as_py()}`"[:80]
    except (ValueError, OverflowError):
        try:
            return f"`{column[row : row + 1].cast(pa.string())[0].as_py()}`"
        except pa.ArrowException:
            return "the value"


def type_name(type_: "pa.DataType") -> str:
    """Return the short name of a canonical type."""
    import pyarrow as pa

    t = pa.types
    if t.is_timestamp(type_):
        return "timestamptz" if type_.tz else "timestamp"
    if t.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if t.is_map(type_):
        return f"map<{type_name(type_.key_type)}, {type_name(type_.item_type)}>"
    if t.is_large_list(type_):
        return f"list<{type_name(type_.value_type)}>"
    if t.is_struct(type_):
        return (
            "struct<"
            + ", ".join(f"{_word(f.name)}: {type_name(f.type)}" for f in type_.fields)
            + ">"
        )
    return "null" if t.is_null(type_) else _names()[type_]


@functools.lru_cache(maxsize=1024)
def type_of(name: str) -> "pa.DataType":
    """Return the canonical Arrow type of a short name. BadData when there is no such name."""
    tokens = _TOKEN.findall(name)
    type_, rest = _parse(tokens, name)
    if rest:
        raise _unknown(name)
    return type_


def schema_of(table: "pa.Table | pa.Schema") -> Schema:
    """Return (column, short type) pairs of a canonical table, `_partition` left out."""
    return _schema_of(getattr(table, "schema", table))


@functools.lru_cache(maxsize=256)
def _schema_of(schema: "pa.Schema") -> Schema:
    return tuple((field.name, type_name(field.type)) for field in schema if field.name != PARTITION)


def arrow_schema(schema: Sequence[tuple[str, str]]) -> "pa.Schema":
    """Return the Arrow schema of (column, short type) pairs."""
    import pyarrow as pa

    return pa.schema([pa.field(name, type_of(type_)) for name, type_ in schema])


def scalar(value: bytes, type_: "pa.DataType") -> "pa.Scalar":
    """Return a scalar from the bytes of its value: little-endian for a number, the text itself for
    a string.

    `pa.scalar` and `pa.array` over Python values import pandas, which costs each worker a third of
    a second and 40 MB.
    """
    import pyarrow as pa

    if pa.types.is_large_string(type_) or pa.types.is_large_binary(type_):
        return _texts([value], type_)[0]
    return pa.Array.from_buffers(type_, 1, [None, pa.py_buffer(value)])[0]


def texts(values: Sequence[str]) -> "pa.Array":
    """Return strings as an Arrow array, without pandas (see `scalar`)."""
    import pyarrow as pa

    return _texts([value.encode() for value in values], pa.large_string())


def _texts(values: Sequence[bytes], type_: "pa.DataType") -> "pa.Array":
    import struct

    import pyarrow as pa

    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(value))
    return pa.Array.from_buffers(
        type_,
        len(values),
        [None, pa.py_buffer(struct.pack(f"={len(ends)}q", *ends)), pa.py_buffer(b"".join(values))],
    )


@functools.lru_cache(maxsize=1)
def _names() -> dict["pa.DataType", str]:
    import pyarrow as pa

    return {
        pa.bool_(): "bool",
        pa.int32(): "int32",
        pa.int64(): "int64",
        pa.float32(): "float32",
        pa.float64(): "float64",
        pa.large_string(): "string",
        pa.large_binary(): "binary",
        pa.date32(): "date",
        pa.time64("us"): "time",
        pa.timestamp("us"): "timestamp",
        pa.timestamp("us", tz="UTC"): "timestamptz",
    }


def _parse(tokens: list[str], name: str) -> tuple["pa.DataType", list[str]]:
    import pyarrow as pa

    match tokens:
        case ["decimal", "(", precision, ",", scale, ")", *rest]:
            return pa.decimal128(int(precision), int(scale)), rest
        case ["list", "<", *rest]:
            element, rest = _parse(rest, name)
            return pa.large_list(pa.field("element", element)), _after(">", rest, name)
        case ["map", "<", *rest]:
            key, rest = _parse(rest, name)
            value, rest = _parse(_after(",", rest, name), name)
            return pa.map_(key, value), _after(">", rest, name)
        case ["struct", "<", *rest]:
            fields = []
            while rest[:1] != [">"]:
                label, rest = (
                    (rest[0], _after(":", rest[1:], name))
                    if rest
                    else ("", _after(":", rest, name))
                )
                type_, rest = _parse(rest, name)
                fields.append(
                    pa.field(json.loads(label) if label.startswith('"') else label, type_)
                )
                rest = rest[1:] if rest[:1] == [","] else rest
            return pa.struct(fields), rest[1:]
        case [plain, *rest]:
            for type_, known in _names().items():
                if known == plain:
                    return type_, rest
    raise _unknown(name)


def _after(mark: str, tokens: list[str], name: str) -> list[str]:
    if tokens[:1] != [mark]:
        raise _unknown(name)
    return tokens[1:]


def _unknown(name: str) -> BadData:
    known = ", ".join(sorted(_names().values()))
    return BadData(
        "SX-LAKE-008",
        f"`{name}` is not a column type",
        hint=f"known are {known}, decimal(p,s), list<T>, struct<name: T>, map<K, V>",
    )


def _word(name: str) -> str:
    return name if _WORD.fullmatch(name) else json.dumps(name)
