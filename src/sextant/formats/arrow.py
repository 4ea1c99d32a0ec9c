"""Reads what a message of Arrow's IPC format unpacks to from its headers, before anything is
unpacked.

A compressed buffer begins with its length unpacked, and readers allocate that much. Source: Apache
Arrow columnar format (Message.fbs), FlatBuffers' binary format. No I/O.
"""

import struct
from typing import NamedTuple

FILE_MAGIC = b"ARROW1"
FILE_HEAD_BYTES = 8  # the magic and padding; a stream follows
STREAM_MAGIC = b"\xff\xff\xff\xff"
_DICTIONARY, _RECORDS = 2, 3  # MessageHeader
# the way of Arrow 0.17, which pyarrow still reads
_EARLIER_COMPRESSION = b"ARROW:experimental_compression"


class Unpacked(NamedTuple):
    """What a message takes: rows (0 but for a record batch) and bytes of its buffers, unpacked."""

    rows: int
    size: int


def unpacked(metadata: bytes, body: bytes) -> Unpacked:
    """Return what a message takes. ValueError when it is damaged.

    metadata  the message without its prefix: a FlatBuffer
    body      its buffers
    """
    if _EARLIER_COMPRESSION in metadata:
        raise ValueError("it is compressed as Arrow 0.17 did")
    try:
        return _unpacked(metadata, body)
    except (struct.error, IndexError):
        raise ValueError("a message is cut off") from None


def _unpacked(metadata: bytes, body: bytes) -> Unpacked:
    message = _Table(metadata, _u32(metadata, 0))
    kind = metadata[at] if (at := message.field(1)) else 0
    if kind not in (_DICTIONARY, _RECORDS):
        return Unpacked(0, 0)
    records = message.table(2)
    if kind == _DICTIONARY:
        records = records.table(1)
    rows = struct.unpack_from("<q", metadata, at)[0] if (at := records.field(0)) else 0
    packed = bool(records.field(3))
    size = 0
    if at := records.field(2):
        at += _u32(metadata, at)
        count = _u32(metadata, at)
        if count > len(metadata):
            raise ValueError("a message is cut off")
        for place in range(count):
            offset, length = struct.unpack_from("<qq", metadata, at + 4 + 16 * place)
            if offset < 0 or length < 0 or offset + length > len(body):
                raise ValueError("a buffer lies outside of its message")
            plain = -1
            if packed and length >= 8:
                plain = struct.unpack_from("<q", body, offset)[0]
            size += length if plain < 0 else plain
    if rows < 0:
        raise ValueError("a record batch has less than no rows")
    return Unpacked(rows if kind == _RECORDS else 0, size)


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]
        if at < 0 or self._fields < 0:
            raise ValueError("a message points out of itself")

    def field(self, number: int) -> int:
        """Return where a field stands, 0 when it is left out."""
        place = 4 + 2 * number
        (size,) = struct.unpack_from("<H", self._data, self._fields)
        if place >= size:
            return 0
        offset = int(struct.unpack_from("<H", self._data, self._fields + place)[0])
        return self._at + offset if offset else 0

    def table(self, number: int) -> "_Table":
        at = self.field(number)
        if not at:
            raise ValueError("a message lacks a part")
        return _Table(self._data, at + _u32(self._data, at))


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
