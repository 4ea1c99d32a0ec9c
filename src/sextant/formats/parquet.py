"""Reads what a Parquet file unpacks to from its page headers, before anything is unpacked.

A footer may say what it likes; readers allocate what each page header says. Source: Apache Parquet
format (parquet.thrift), Thrift compact protocol. No I/O.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

MAGIC = b"PAR1"
# of pages whose values cannot take more than the page itself, unpacked: a delta of strings repeats
# a long prefix for each value
ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 5: "DELTA_BINARY_PACKED"} | {
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # PageType
_DEPTH_MAX = 8  # of structs in a page header: three as the format is


class Page(NamedTuple):
    """One page of a column chunk.

    size      bytes, unpacked
    values    how many it says that it holds
    encoding  number of the encoding of its values; -1 for an index page
    """

    size: int
    values: int
    encoding: int


def footer_size(body: bytes) -> int:
    """Return the length of the footer in bytes. ValueError when it is not a Parquet file."""
    size = int.from_bytes(body[-8:-4], "little")
    if len(body) < 12 or body[:4] != MAGIC or body[-4:] != MAGIC or size > len(body) - 12:
        raise ValueError("it does not begin and end as a Parquet file")
    return size


def pages(body: bytes, start: int, size: int) -> Iterator[Page]:
    """Yield the pages of a column chunk of `size` bytes at `start`. ValueError when they do not lie
    in the file one behind the other."""
    at, end = start, start + size
    if start < 0 or size < 0 or end > len(body):
        raise ValueError("a column chunk lies outside of the file")
    while at < end:
        try:
            header, at = _struct(body, at, 0)
        except IndexError:
            raise ValueError("a page header is cut off") from None
        unpacked, packed = header.get(2), header.get(3)
        if (
            not isinstance(unpacked, int)
            or not isinstance(packed, int)
            or min(unpacked, packed) < 0
        ):
            raise ValueError("a page does not say its size")
        at += packed
        if at > end:
            raise ValueError("a page lies outside of its column chunk")
        field, encoding = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_V2: (8, 4)}.get(
            header.get(1, -1), (0, 0)
        )
        inner = header.get(field, {})
        if field and not (isinstance(inner, dict) and isinstance(inner.get(1), int)):
            raise ValueError("a page does not say how many values it holds")
        yield Page(unpacked, inner.get(1, 0), inner.get(encoding, -1))


def _struct(body: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return a struct by field id, and where it ends."""
    if depth > _DEPTH_MAX:
        raise ValueError("a page header nests too deep")
    out: dict[int, Any] = {}
    field = 0
    while body[at]:
        step, kind = body[at] >> 4, body[at] & 15
        at += 1
        if step:
            field += step
        else:
            field, at = _number(body, at)
        value: Any = None
        match kind:
            case 1 | 2:
                value = kind == 1
            case 3:
                at += 1
            case 4 | 5 | 6:
                value, at = _number(body, at)
            case 7:
                at += 8
            case 8:
                length, at = _varint(body, at)
                at += length
            case 12:
                value, at = _struct(body, at, depth + 1)
            case _:  # no field of a page header is a list, set or map
                raise ValueError("a page header holds what it cannot hold")
        out[field] = value
    return out, at + 1


def _number(body: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(body, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = body[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number is too long")
