"""ClickHouse's own compressed blocks: what a client gets that asks with `compress=1`, as JDBC
drivers do. Called by the endpoint.

A block is a CityHash128 of the rest, the way of compression, two lengths, and the data. Sources:
ClickHouse, Compression/CompressedReadBufferBase.cpp and Compression/CompressionInfo.h; G. Pike and
J. Alakuijala, CityHash, in its version 1.0.2, which ClickHouse has stayed with.
"""

import struct
from collections.abc import Iterator

_BLOCK_BYTES = 1 << 20  # of data in a block, as ClickHouse makes them
_LZ4 = 0x82
_MASK = (1 << 64) - 1
_K0, _K1, _K2, _K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
_MUL = 0x9DDFEA08EB382D69


def blocks(data: bytes) -> Iterator[bytes]:
    """Cut an answer into compressed blocks."""
    import cramjam

    for start in range(0, len(data), _BLOCK_BYTES):
        piece = data[start : start + _BLOCK_BYTES]
        packed = bytes(cramjam.lz4.compress_block(piece, store_size=False))
        rest = struct.pack("<BII", _LZ4, len(packed) + 9, len(piece)) + packed
        yield struct.pack("<QQ", *city_hash(rest)) + rest


def city_hash(data: bytes) -> tuple[int, int]:
    """Return CityHash128 as its lower and higher half."""
    size = len(data)
    if size >= 16:
        low, high = struct.unpack_from("<QQ", data)
        return _seeded(data[16:], low ^ _K3, high)
    if size >= 8:
        return _seeded(b"", _word(data, 0) ^ (size * _K0 & _MASK), _word(data, size - 8) ^ _K1)
    return _seeded(data, _K0, _K1)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _turn(value: int, by: int) -> int:
    value &= _MASK
    return (value >> by | value << 64 - by) & _MASK


def _mix(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _two(low: int, high: int) -> int:
    """Return a hash of two words."""
    low, high = low & _MASK, high & _MASK
    return _mix((_mix((low ^ high) * _MUL) ^ high) * _MUL) * _MUL & _MASK


def _short(data: bytes) -> int:
    """Return a hash of at most 16 bytes."""
    size = len(data)
    if size > 8:
        last = _word(data, size - 8)
        return _two(_word(data, 0), _turn(last + size, size)) ^ last
    if size >= 4:
        return _two(
            size + (int.from_bytes(data[:4], "little") << 3),
            int.from_bytes(data[size - 4 :], "little"),
        )
    if size:
        return (
            _mix((data[0] + (data[size >> 1] << 8)) * _K2 ^ (size + (data[-1] << 2)) * _K3) * _K2
            & _MASK
        )
    return _K2


def _weak(words: tuple[int, ...], at: int, a: int, b: int) -> tuple[int, int]:
    """Return a quick hash of four words."""
    a += words[at]
    b = _turn(b + a + words[at + 3], 21)
    first = a
    a += words[at + 1] + words[at + 2]
    return a + words[at + 3] & _MASK, b + _turn(a, 44) + first & _MASK


def _seeded(data: bytes, x: int, y: int) -> tuple[int, int]:
    size = len(data)
    if size < 128:
        return _murmur(data, x, y)
    words = struct.unpack_from(f"<{size // 128 * 16}Q", data)
    z = size * _K1 & _MASK
    v = _turn(y ^ _K1, 49) * _K1 + words[0] & _MASK
    v2 = _turn(v, 42) * _K1 + words[1] & _MASK
    w, w2 = _turn(y + z, 35) * _K1 + x & _MASK, _turn(x + words[11], 53) * _K1 & _MASK
    for at in range(0, len(words), 8):
        x = _turn(x + y + v + words[at + 2], 37) * _K1 & _MASK ^ w2
        y = _turn(y + v2 + words[at + 6], 42) * _K1 & _MASK ^ v
        z = _turn(z ^ w, 33)
        v, v2 = _weak(words, at, v2 * _K1 & _MASK, x + w)
        w, w2 = _weak(words, at + 4, z + w2, y)
        z, x = x, z
    y += _turn(w, 37) * _K0 + z
    x += _turn(v + z, 49) * _K0
    left = size - len(words) * 8
    for done in range(32, left + 32, 32):
        start = size - done  # may reach back into what was hashed already
        y = _turn(y - x, 42) * _K0 + v2
        w += _word(data, start + 16)
        x = _turn(x, 49) * _K0 + w
        w += v
        v, v2 = _weak(struct.unpack_from("<4Q", data, start), 0, v, v2)
    x, y = _two(x, v), _two(y, w)
    return _two(x + v2, w2) + y & _MASK, _two(x + w2, y + v2)


def _murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    size = len(data)
    if size <= 16:
        a = _mix(a * _K1) * _K1 & _MASK
        c = b * _K1 + _short(data) & _MASK
        d = _mix(a + (_word(data, 0) if size >= 8 else c))
    else:
        c = _two(_word(data, size - 8) + _K1, a)
        d = _two(b + size, c + _word(data, size - 16))
        a = a + d & _MASK
        for at in range(0, size - 16, 16):
            a = (a ^ _mix(_word(data, at) * _K1) * _K1 & _MASK) * _K1 & _MASK
            b ^= a
            c = (c ^ _mix(_word(data, at + 8) * _K1) * _K1 & _MASK) * _K1 & _MASK
            d ^= c
    a, b = _two(a, c), _two(d, b)
    return a ^ b, _two(b, a)
