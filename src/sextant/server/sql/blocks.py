"""ClickHouse's own compressed blocks: what a client gets that asks with `compress=1`, as JDBC
drivers do. Called by the endpoint.

A block is a CityHash128 of the rest, the way of compression, two lengths, and the data. Source:
ClickHouse, Compression/CompressedReadBufferBase.cpp and Compression/CompressionInfo.h; the hash is
CityHash in its version 1.0.2, which ClickHouse has stayed with.
"""

import struct
from collections.abc import Iterator

from sextant.kernel import extras

_BLOCK_BYTES = 1 << 20  # of data in a block, as ClickHouse makes them
_LZ4 = 0x82
_WORD = (1 << 64) - 1


def blocks(data: bytes) -> Iterator[bytes]:
    """Cut an answer into compressed blocks."""
    import cramjam

    for start in range(0, len(data), _BLOCK_BYTES):
        piece = data[start : start + _BLOCK_BYTES]
        packed = bytes(cramjam.lz4.compress_block(piece, store_size=False))
        rest = struct.pack("<BII", _LZ4, len(packed) + 9, len(piece)) + packed
        yield struct.pack("<QQ", *city_hash(rest)) + rest


def city_hash(data: bytes) -> tuple[int, int]:
    """Return CityHash128 as its lower and higher half. MissingExtra without its library."""
    try:
        from clickhouse_cityhash.cityhash import CityHash128
    except ModuleNotFoundError as error:
        raise extras.missing_error("telemetry") from error

    both = CityHash128(data)
    return both >> 64, both & _WORD
