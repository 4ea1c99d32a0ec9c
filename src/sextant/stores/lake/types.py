"""The one canonical Arrow form that is stored and hashed, and the short names of its types.

Names: bool, int32, int64, float32, float64, decimal(p,s), string, binary, date, time, timestamp
(local, without a zone), timestamptz (an instant), list<T>, struct<name: T, ...>, map<K, V>. Called
by `frames`; it never reads files.
"""

import functools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    if isinstance(type_, pa.BaseExtensionType):
        return (
            pa.large_string()
            if isinstance(type_, pa.UuidType)
            else canonical_type(type_.storage_type, column)
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


def canonical(table: "pa.Table", expect: Schema = ()) -> "pa.Table":
    """Return the table in canonical types, all columns nullable, without metadata.

    expect  (column, type) pairs of the table it goes into: gives a type to columns whose values are
            all null, and numbers
            the table's type where that changes no value (pandas turns integers into floats on a day
            that has a null)
    Raises  BadData naming the column: no stored form, a value out of range, a doubled or reserved
            name
    """
    import pyarrow as pa

    names = table.column_names
    if len(set(names)) != len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise BadData(
            "SX-LAKE-007",
            f"column `{doubled}` occurs {names.count(doubled)} times",
            hint="give each column a name of its own",
        )
    if PARTITION in names:
        raise BadData(
            "SX-LAKE-007",
            f"column `{PARTITION}` is the platform's own",
            hint="leave it out, or rename it",
        )
    if not names:
        raise BadData(
            "SX-LAKE-007", "a table without columns was returned", hint="return at least one column"
        )
    if _is_canonical(table.schema, tuple(expect)):
        return table
    expected = dict(expect)
    fields, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_null(field.type):
            if field.name not in expected:
                hint = "cast it to the type that it has when there are values"
                raise BadData(
                    "SX-LAKE-012",
                    f"column `{field.name}` holds only nulls and has no type",
                    hint=hint,
                )
            target = type_of(expected[field.name])
        else:
            target = canonical_type(field.type, field.name)
        fields.append(pa.field(field.name, target))
        column = column if column.type == target else _cast(column, target, field.name)  # noqa: PLW2901 - the same column
        if (
            field.name in expected
            and (number := _as_expected(column, type_of(expected[field.name]))) is not None
        ):
            column, target = number, number.type  # noqa: PLW2901
            fields[-1] = pa.field(field.name, target)
        columns.append(column)
    return pa.table(columns, schema=pa.schema(fields))


@functools.lru_cache(maxsize=256)
def _is_canonical(schema: "pa.Schema", expect: Schema) -> bool:
    """Say whether tables of this schema are in canonical form as they are: most have been here
    before."""
    if schema.metadata is not None or any(
        field.metadata is not None or not field.nullable for field in schema
    ):
        return False
    expected = dict(expect)
    if any(
        schema.field(name).type != type_of(type_)
        for name, type_ in expected.items()
        if name in schema.names
    ):
        return False
    try:
        return all(canonical_type(field.type, field.name) == field.type for field in schema)
    except BadData:  # said again, with the column, by whoever asked
        return False


def _as_expected(column: "pa.ChunkedArray", expected: "pa.DataType") -> "pa.ChunkedArray | None":
    """Return numbers as the expected kind of number; None when a value would change, or they are
    not numbers."""
    import pyarrow as pa

    def is_number(type_: "pa.DataType") -> bool:
        return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))

    if column.type == expected or not is_number(column.type) or not is_number(expected):
        return None
    if pa.types.is_float32(expected) and pa.types.is_float64(column.type):
        return None  # Arrow rounds here without saying so
    try:
        return column.cast(expected, safe=True)
    except pa.ArrowInvalid:
        return None


def _cast(column: "pa.ChunkedArray", target: "pa.DataType", name: str) -> "pa.ChunkedArray":
    import pyarrow as pa

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
        raise BadData(
            "SX-LAKE-005",
            f"column `{name}`: a value does not fit into {type_name(target)}: {error}",
            hint="cast it in the step that returns it",
        ) from error
    except pa.ArrowNotImplementedError:
        return pa.chunked_array(
            [pa.array(column.to_pylist(), type=target)]
        )  # rare nestings that Arrow cannot cast


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
    return _names()[type_]


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
