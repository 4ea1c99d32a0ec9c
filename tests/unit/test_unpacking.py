"""Bodies as senders compress them: unpacked to the last byte, or refused, and never beyond the
limit."""

import gzip
import random
import zlib

import cramjam
import pytest

from sextant.kernel import limits
from sextant.kernel.errors import BadData, UsageError
from sextant.server.ingest.unpacking import unpacker

MIB = 1 << 20


def unpack(body: bytes, encoding: str) -> bytes:
    """Unpack as the endpoint does: what does not end on the loop goes on in a thread."""
    packed = unpacker(body, encoding)
    assert packed is not None
    early = packed.on_loop()
    return packed.whole() if early is None else early


def raw(body: bytes) -> bytes:
    """Deflate without a frame, as some senders understand `deflate`."""
    packed = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return packed.compress(body) + packed.flush()


def zstd(body: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(body))


def streamed(*parts: bytes) -> bytes:
    """Return one frame that does not say its size."""
    packed = cramjam.zstd.Compressor()
    out = b""
    for part in parts:
        packed.compress(part)
        out += bytes(packed.flush())
    return out + bytes(packed.finish())


SKIPPED = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"  # a frame of zstd to be skipped


def test_what_comes_out_is_what_went_in() -> None:
    """If this fails, telemetry is lost or changed on its way in."""
    luck = random.Random(1)
    for size in (0, 1, limits.LOOP_UNPACKED_BYTES_MAX, limits.LOOP_UNPACKED_BYTES_MAX + 1, 5 * MIB):
        for body in (bytes(size), luck.randbytes(size)):
            assert unpack(gzip.compress(body, 1), "gzip") == body
            assert unpack(gzip.compress(body, 1), "x-gzip") == body
            assert unpack(zlib.compress(body, 1), "deflate") == body
            assert unpack(raw(body), "deflate") == body
            assert unpack(zstd(body), "zstd") == body
            assert unpack(streamed(body, b"", body), "zstd") == body * 2
            assert unpack(bytes(cramjam.snappy.compress_raw(body)), "snappy") == body
    assert unpacker(b"x", "identity") is unpacker(b"x", "") is None


def test_members_are_joined() -> None:
    """If this fails, what stands behind the first member of a gzip body is lost."""
    parts = [b"a" * 100_000, b"", b"b", b"c" * 700_000] * 30
    packed = b"".join(gzip.compress(part, 1) for part in parts)
    assert unpack(packed, "gzip") == b"".join(parts)
    assert unpack(packed + bytes(1000), "gzip") == b"".join(parts), "padding is no member"
    frames = SKIPPED + SKIPPED.join(zstd(part) for part in parts) + SKIPPED
    assert unpack(frames, "zstd") == b"".join(parts)


def test_the_limit_is_exact() -> None:
    """If this fails, a limit of the reference is not the one that holds."""
    most = limits.BODY_UNPACKED_BYTES_MAX
    assert len(unpack(gzip.compress(bytes(most), 1), "gzip")) == most
    assert len(unpack(zstd(bytes(most)), "zstd")) == most
    for body, encoding in (
        (gzip.compress(bytes(most + 1), 1), "gzip"),
        (gzip.compress(bytes(most // 2 + 1), 1) * 2, "gzip"),
        (zlib.compress(bytes(most + 1), 1), "deflate"),
        (raw(bytes(most + 1)), "deflate"),
        (zstd(bytes(most + 1)), "zstd"),
        (zstd(bytes(most // 2 + 1)) * 2, "zstd"),
        (streamed(*[bytes(MIB)] * 33), "zstd"),
        (b"\x81\x80\x80\x10" + bytes(9), "snappy"),
        (gzip.compress(b"") * (limits.BODY_MEMBERS_MAX + 1), "gzip"),
    ):
        with pytest.raises(UsageError) as caught:
            unpack(body, encoding)
        assert caught.value.code == "SX-INTAKE-055"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "gzip"),
        (b"no gzip", "gzip"),
        (gzip.compress(b"cut off" * 1000)[:-1], "gzip"),
        (gzip.compress(b"x") + b"garbage", "gzip"),
        (gzip.compress(b"x") + gzip.compress(b"y")[:-1], "gzip"),
        (gzip.compress(b"x")[:-4] + b"\xff\xff\xff\xff", "gzip"),
        (zlib.compress(b"x") + zlib.compress(b"y"), "deflate"),
        (b"no deflate at all", "deflate"),
        (raw(b"cut off" * 1000)[:-1], "deflate"),
        (b"", "deflate"),
        (b"", "zstd"),
        (b"no zstd", "zstd"),
        (zstd(b"cut off" * 1000)[:-1], "zstd"),
        (zstd(b"x") + b"garbage", "zstd"),
        (b"", "snappy"),
        (b"\xff\xff\xff\xff\xff\xff", "snappy"),
        (b"\x05\xff\xff", "snappy"),
    ],
    ids=[
        "nothing",
        "no gzip",
        "cut off",
        "garbage behind",
        "second member cut off",
        "wrong length",
        "two of deflate",
        "no deflate",
        "deflate cut off",
        "nothing deflated",
        "nothing of zstd",
        "no zstd",
        "zstd cut off",
        "garbage behind zstd",
        "no snappy",
        "endless length",
        "snappy cut off",
    ],
)
def test_what_is_damaged_is_an_error(body: bytes, encoding: str) -> None:
    """If this fails, half a body is taken for a whole one."""
    with pytest.raises(BadData) as caught:
        unpack(body, encoding)
    assert caught.value.code == "SX-INTAKE-056"


def test_an_unknown_encoding_is_named() -> None:
    """If this fails, a sender does not know what to change."""
    with pytest.raises(UsageError, match="`br` is no content encoding"):
        unpacker(b"x", "br")
