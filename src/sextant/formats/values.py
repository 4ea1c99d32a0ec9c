"""Formats values of users' data: `plain` for JSON, `text` for people. No digit is lost, rounded or
grouped, and the command line, the API, checks and exports show the same."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

# control characters, ends of lines, and what turns the direction of text
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: nothing but dicts, lists, texts, numbers, bools and None.

    Integers, and decimals without places, are numbers of any size; decimals with places are texts
    with exactly the digits of their scale. Floats are numbers; infinities are the texts `Infinity`
    and `-Infinity`, NaN is None. Dates, times and instants are ISO 8601, UTC as `Z`; bytes are
    hexadecimal.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None if value.is_nan() else plain(float(value))
        return int(value) if int(value.as_tuple().exponent) >= 0 else f"{value:f}"
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        iso = value.isoformat()
        return iso.removesuffix("+00:00") + "Z" if iso.endswith("+00:00") else iso
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value.hex()
    return str(value)


def text(value: Any) -> str:
    """Return a value as people read it, on one line, the same on a terminal and in a pipe.

    None is `null`, the empty text `""`. A text that could be taken for something else (`null`, one
    in quotes, one with blanks around it or with control characters) is written as JSON writes it;
    so are values that hold others.
    """
    value = plain(value)
    if not isinstance(value, str):
        return _quoted(msgspec.json.encode(value).decode())
    mistakable = (
        value in ("", "null")
        or value != value.strip()
        or (value[0] == value[-1] == '"')
        or _CONTROL.search(value)
    )
    return _quoted(msgspec.json.encode(value).decode()) if mistakable else value


def records(table: "pa.Table") -> list[dict[str, Any]]:
    """Return the rows of an Arrow table, each as column -> value as by `plain`."""
    import pyarrow as pa

    columns = []
    for column in table.columns:
        if pa.types.is_float32(column.type):
            # as the shortest text that reads back: 0.1, not the nearest double to its bits
            column = column.cast(pa.string()).cast(pa.float64())  # noqa: PLW2901 - the same column
        values = column.to_pylist()
        columns.append(values if _is_plain(column.type) else [plain(value) for value in values])
    names = table.column_names
    return (
        [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if names
        else [{} for _ in range(table.num_rows)]
    )


def _is_plain(type_: "pa.DataType") -> bool:
    """Say whether every value of a type is in JSON what it is in Python."""
    import pyarrow as pa

    is_text = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return bool(is_text or pa.types.is_integer(type_) or pa.types.is_boolean(type_))


def _quoted(text: str) -> str:
    """Return JSON with the characters escaped that JSON lets stand but a line of text cannot."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
