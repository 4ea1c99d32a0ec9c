"""Unpacks what senders have compressed, piece by piece, and never more than is taken: a small body
may unpack to a very large one."""

import zlib
from typing import Protocol, cast

from sextant.kernel import limits
from sextant.kernel.errors import BadData, UsageError

_PIECE = 64 << 10  # of the packed body: what lies behind the end of a member is copied
_OUT = 1 << 20  # of the unpacked one
_LOOP_MEMBERS = 8
_LOOP_PACKED = 16 << 10  # of zstd: a fraction of a millisecond, whatever it unpacks to


class Unpacker(Protocol):
    """A body that is being unpacked."""

    def on_loop(self) -> bytes | None:
        """Return the body when that takes less than a millisecond, else None."""
        ...

    def whole(self) -> bytes:
        """Return the body, or a view of it when it is large. Any thread; the interpreter is free
        meanwhile. BadData when it is cut off or damaged, UsageError when it is larger than is
        taken."""
        ...


def unpacker(body: bytes, encoding: str) -> Unpacker | None:
    """Return what unpacks a body; None when it is not packed. UsageError for an encoding that is
    not known."""
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflated(body, encoding)
    if encoding == "zstd":
        return _Zstandard(body)
    if encoding == "snappy":
        return _Snappy(body)
    raise UsageError(
        "SX-INTAKE-054",
        f"`{encoding[:40]}` is no content encoding that is taken",
        hint="gzip, zstd, deflate, or none",
        status=415,
    )


class _Inflated:
    """A gzip body of one or several members (RFC 1952), or a deflated one: RFC 9110 means zlib's
    (RFC 1950), and some senders leave its frame out (RFC 1951)."""

    def __init__(self, body: bytes, encoding: str) -> None:
        self._body, self._encoding = body, encoding
        self._at = 0
        self._waiting = b""  # taken from the body, not unpacked yet
        self._is_full = False  # the last piece was as long as it might be: more may come of it
        is_raw = encoding == "deflate" and not _has_frame(body)
        self._member = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
        self._members = 1
        self._out: list[bytes] = []
        self._size = 0

    def on_loop(self) -> bytes | None:
        done = self._run(limits.LOOP_UNPACKED_BYTES_MAX, _LOOP_MEMBERS)
        return b"".join(self._out) if done else None

    def whole(self) -> bytes:
        if not self._run(limits.BODY_UNPACKED_BYTES_MAX, limits.BODY_MEMBERS_MAX):
            raise too_large_unpacked()
        return b"".join(self._out)

    def _run(self, most: int, members: int) -> bool:
        """Unpack up to `most` bytes; return whether that was all."""
        while self._size <= most and self._members <= members:
            if self._member.eof:
                if not self._next_member():
                    return True
                continue
            if not self._waiting and not self._is_full:
                self._take()
                if not self._waiting:
                    raise BadData(
                        "SX-INTAKE-056",
                        f"the {self._encoding} body is cut off",
                        hint="send it again",
                    )
            room = min(_OUT, most - self._size + 1)
            try:
                piece = self._member.decompress(self._waiting, room)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
            self._is_full = len(piece) == room
            self._waiting = (
                self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            )
            self._size += len(piece)
            self._out.append(piece)
        return False

    def _next_member(self) -> bool:
        """Begin what stands behind the end of a member; False when nothing does."""
        self._waiting = self._waiting.lstrip(b"\0")  # tapes and block devices fill up with it
        if not self._waiting:
            self._take()
            return bool(self._waiting)
        if self._encoding == "deflate":
            raise self._damaged("something stands behind its end")
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._members += 1
        self._is_full = False
        return True

    def _take(self) -> None:
        self._waiting = self._body[self._at : self._at + _PIECE]
        self._at += _PIECE

    def _damaged(self, why: str) -> BadData:
        return BadData(
            "SX-INTAKE-056", f"the body is no {self._encoding}: {why}", hint="send it again"
        )


class _Zstandard:
    """A body of one or several Zstandard frames (RFC 8878), which need not say their size."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def on_loop(self) -> bytes | None:
        if len(self._body) > _LOOP_PACKED:
            return None
        return self._unpacked(limits.LOOP_UNPACKED_BYTES_MAX)

    def whole(self) -> bytes:
        whole = self._unpacked(limits.BODY_UNPACKED_BYTES_MAX)
        if whole is None:
            raise too_large_unpacked()
        return whole

    def _unpacked(self, most: int) -> bytes | None:
        """Return the body, None when it is larger than `most`: the library fills a buffer of that
        size and no more, without the interpreter."""
        import cramjam
        import numpy as np

        # memory that is not written to is none
        out = np.empty(most, np.uint8).data
        try:
            size = cramjam.zstd.decompress_into(self._body, out)
        except cramjam.DecompressionError as error:
            if "whole buffer" in str(error):
                return None
            raise BadData(
                "SX-INTAKE-056", f"the body is no zstd: {error}", hint="send it again"
            ) from error
        whole = out[:size]
        return bytes(whole) if size <= limits.LOOP_UNPACKED_BYTES_MAX else cast("bytes", whole)


def _has_frame(body: bytes) -> bool:
    """Say whether a deflated body begins as zlib's or gzip's do."""
    is_zlib = len(body) > 1 and body[0] & 0xF == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return is_zlib or body.startswith(b"\x1f\x8b") or len(body) < 2


class _Snappy:
    """A body in snappy's block format, which says its size first."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.size = _snappy_size(body)
        if self.size > limits.BODY_UNPACKED_BYTES_MAX:
            raise too_large_unpacked()

    def on_loop(self) -> bytes | None:
        return self.whole() if self.size <= limits.LOOP_UNPACKED_BYTES_MAX else None

    def whole(self) -> bytes:
        import cramjam

        try:
            whole = cramjam.snappy.decompress_raw(self._body)
        except cramjam.DecompressionError as error:
            raise _no_snappy() from error
        if self.size <= limits.LOOP_UNPACKED_BYTES_MAX:
            return bytes(whole)
        # a copy of 32 MiB holds the interpreter for 20 ms, and a large body is only sent on
        return cast("bytes", memoryview(whole))


def too_large_unpacked() -> UsageError:
    return UsageError(
        "SX-INTAKE-055",
        f"the body unpacks to more than {limits.BODY_UNPACKED_BYTES_MAX >> 20} MiB",
        hint="send smaller batches",
        status=413,
    )


def _snappy_size(body: bytes) -> int:
    """Return the size that a snappy block says it unpacks to (its first varint); BadData when there
    is none."""
    out = 0
    for n, byte in enumerate(body[:5]):
        out |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            return out
    raise _no_snappy()


def _no_snappy() -> BadData:
    return BadData("SX-INTAKE-056", "the body is no snappy (block format)", hint="send it again")
