"""Answers clients that speak HTTP/2 to a port of HTTP/1.1, so that a gRPC exporter logs why: each
call gets the status UNIMPLEMENTED with words, which exporters show and do not repeat. Called by
`slow.py`.

Closing the connection would be simpler, and an exporter would then log `connection reset`; after a
GOAWAY some connect again at once, without a pause. Headers are not read: whatever is called, the
answer is the same. Source: RFC 9113, RFC 7541, and the gRPC protocol over HTTP/2.
"""

from sextant.kernel.limits import HTTP2_ANSWERS_MAX

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9  # bytes in front of each frame
_FRAME_BYTES_MAX = 1 << 14  # what a peer may send until it is told otherwise
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_ACK, _END_STREAM, _END_HEADERS = 0x1, 0x1, 0x4
_UNIMPLEMENTED = b"12"


class Http2Refusal:
    """One connection, from behind the preface."""

    def __init__(self, message: str) -> None:
        """message  printable ASCII without `%`, which gRPC would have to escape"""
        self._headers = b"\x88" + b"".join(  # :status 200, as the table of HPACK has it
            b"\0" + _text(name) + _text(value)
            for name, value in (
                (b"content-type", b"application/grpc"),
                (b"grpc-status", _UNIMPLEMENTED),
                (b"grpc-message", message.encode()),
            )
        )
        self._rest = b""
        self._answered = 0
        self.greeting = _frame(_SETTINGS, 0, 0, b"")

    def answer(self, data: bytes) -> bytes | None:
        """Return what is answered to bytes; None: the connection is to be closed."""
        self._rest += data
        out = b""
        while len(self._rest) >= _HEAD:
            size = int.from_bytes(self._rest[:3], "big")
            if size > _FRAME_BYTES_MAX or self._answered > HTTP2_ANSWERS_MAX:
                return None
            if len(self._rest) < _HEAD + size:
                break
            kind, flags = self._rest[3], self._rest[4]
            stream = int.from_bytes(self._rest[5:_HEAD], "big") & 0x7FFF_FFFF
            payload, self._rest = self._rest[_HEAD : _HEAD + size], self._rest[_HEAD + size :]
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._answered += 1
                out += _frame(kind, _ACK, 0, payload if kind == _PING else b"")
            elif kind == _HEADERS:
                self._answered += 1
                out += _frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, self._headers)
                # the rest of the request need not be sent
                out += _frame(_RST_STREAM, 0, stream, bytes(4))
        return out


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def _text(text: bytes) -> bytes:
    """Return a text as HPACK writes it, not packed."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    size -= 127
    out = b"\x7f"
    while size >= 128:
        out += bytes((size & 127 | 128,))
        size >>= 7
    return out + bytes((size,)) + text
