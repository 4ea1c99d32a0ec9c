"""A sender of remote write 1.0, written from the specification alone: protobuf by hand, snappy from
the library."""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import cramjam

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def series(labels: Mapping[str, str], samples: Iterable[tuple[float, int]]) -> bytes:
    """Return a TimeSeries; samples are (value, ms)."""
    out = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels.items())
    )
    for value, at in samples:
        number = b"" if struct.pack("<d", value) == bytes(8) else b"\x09" + struct.pack("<d", value)
        out += _field(2, number + b"\x10" + _varint(at))
    return out


def _zigzag(number: int) -> int:
    return number << 1 ^ number >> 63


def native_histogram(labels: Mapping[str, str], at: int, **said: Any) -> bytes:
    """Return a TimeSeries with one native histogram of integers: `schema`, `sum`, `zero` (count and
    threshold), `positive` and `negative` (index -> count)."""
    inside = b"\x08" + _varint(said["count"]) + b"\x19" + struct.pack("<d", said["sum"])
    inside += b"\x20" + _varint(_zigzag(said["schema"]))
    count, threshold = said.get("zero", (0, 0.0))
    inside += b"\x29" + struct.pack("<d", threshold) + b"\x30" + _varint(count)
    for number, buckets in ((8, said.get("negative", {})), (11, said.get("positive", {}))):
        spans, deltas, before, reached = b"", b"", 0, 0
        for index in sorted(buckets):
            spans += _field(number, b"\x08" + _varint(_zigzag(index - reached)) + b"\x10\x01")
            deltas += _varint(_zigzag(buckets[index] - before))
            before, reached = buckets[index], index + 1
        inside += spans + (_field(number + 1, deltas) if deltas else b"")
    inside += b"\x78" + _varint(at)
    out = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels.items())
    )
    return out + _field(4, inside)


def request(*many: bytes) -> bytes:
    """Return a WriteRequest, packed as it is sent."""
    return bytes(cramjam.snappy.compress_raw(b"".join(_field(1, one) for one in many)))


HEADERS = {"Content_Encoding": "snappy", "X_Prometheus_Remote_Write_Version": "0.1.0"}
TYPE = "application/x-protobuf"
