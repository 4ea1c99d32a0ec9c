"""Writes ClickHouse's `Native` format: columns as they lie in memory, so that a million numbers
cost one copy.

Called by the intake for every batch. Both backends of the telemetry store read it; it names its
columns and types, and ClickHouse converts a type that differs from the table's (`String` into
`LowCardinality(String)`). Source: ClickHouse's documentation of formats, section Native, and of the
serialisation of `LowCardinality` and `Map`.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_LENGTHS_KNOWN = 1 << 14  # lengths whose variable-length form is looked up rather than made
_DICTIONARY = 1  # version of LowCardinality: a dictionary that is shared, plus keys of this block
_OWN_KEYS = 0x600  # index flags: this block brings its own keys, and they replace those before
_INDEX = ((1 << 8, "u1", 0), (1 << 16, "u2", 1), (1 << 32, "u4", 2))


def _made(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_LENGTHS = [_made(number) for number in range(_LENGTHS_KNOWN)]


def varint(number: int) -> bytes:
    """Return a number as LEB128, least significant group first."""
    return _LENGTHS[number] if number < _LENGTHS_KNOWN else _made(number)


def block(rows: int, columns: Iterable[tuple[str, str, bytes]]) -> bytes:
    """Return one block. `columns` are (name, ClickHouse type, data as made by the functions below).
    Blocks may be joined end to end."""
    parts = []
    for name, kind, data in columns:
        label, form = name.encode(), kind.encode()
        parts += [varint(len(label)), label, varint(len(form)), form, data]
    return b"".join([varint(len(parts) // 5), varint(rows), *parts])


def text(value: bytes) -> bytes:
    """Return one value of a `String` column: its length, and itself."""
    return varint(len(value)) + value


def texts(values: Iterable[bytes]) -> bytes:
    """Return a `String` column."""
    values = list(values)
    sizes = list(map(len, values))
    if sizes and max(sizes) >= _LENGTHS_KNOWN:
        return b"".join(map(text, values))
    out = [b""] * (2 * len(values))
    out[::2] = map(_LENGTHS.__getitem__, sizes)
    out[1::2] = values
    return b"".join(out)


def same(value: bytes, rows: int) -> bytes:
    """Return a `String` column with one value in every row."""
    return text(value) * rows


def numbers(values: "np.ndarray[Any, Any]") -> bytes:
    """Return a column of a fixed width (`UInt64`, `Int64`, `Float64`, `DateTime64`, `UInt8`):
    little-endian, as in memory."""
    return values.tobytes()


def words(keys: Sequence[bytes], index: "np.ndarray[Any, Any]") -> bytes:
    """Return a `LowCardinality(String)` column: row i has `keys[index[i]]`. Keys are distinct."""
    kind, code = next((kind, code) for limit, kind, code in _INDEX if len(keys) <= limit)
    # key 0 of a dictionary is the type's default, so the empty text goes first
    return b"".join(
        (
            struct.pack("<QQQ", _DICTIONARY, _OWN_KEYS | code, len(keys)),
            texts(keys),
            struct.pack("<Q", len(index)),
            index.astype(kind).tobytes(),
        )
    )


def maps(rows: Sequence[Sequence[tuple[bytes, bytes]]]) -> bytes:
    """Return a `Map(String, String)` column: each row is its pairs."""
    import numpy as np

    ends = np.cumsum(np.fromiter(map(len, rows), dtype="u8", count=len(rows)), dtype="u8")
    return (
        ends.tobytes()
        + texts(key for row in rows for key, _ in row)
        + texts(value for row in rows for _, value in row)
    )


def same_map(pairs: Mapping[bytes, bytes], rows: int) -> bytes:
    """Return a `Map(String, String)` column with the same pairs in every row."""
    import numpy as np

    ends = np.arange(1, rows + 1, dtype="u8") * np.uint64(len(pairs))
    return ends.tobytes() + texts(pairs) * rows + texts(pairs.values()) * rows
