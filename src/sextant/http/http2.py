"""Answers clients that speak HTTP/2 to a port of HTTP/1.1, so that a gRPC exporter logs why: each
call gets the status UNIMPLEMENTED with words, which exporters show and do not repeat. Called by
`connections.py`.

Closing the connection would be simpler, and an exporter would then log `connection reset`; after a
GOAWAY some connect again at once, without a pause. Headers are not read: whatever is called, the
answer is the same. Source: RFC 9113, RFC 7541, and the gRPC protocol over HTTP/2.
"""

from sextant.kernel.limits import HTTP2_BYTES_MAX, HTTP2_FRAMES_MAX

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SPEAKS_HTTP_1 = (
    "this port speaks HTTP/1.1, not gRPC or HTTP/2: send OTLP over gRPC to the grpc address of "
    "`sextant up` (4317), or over HTTP to the ingest address (4318), paths /v1/traces, /v1/metrics "
    "and /v1/logs, by OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf; in a collector `otlphttp`"
)
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
        self._bytes = 0
        self.frames = 0  # that were looked at
        self.greeting = _frame(_SETTINGS, 0, 0, b"")

    def answer(self, data: bytes) -> bytes | None:
        """Return what is answered to bytes; None: the connection is to be closed."""
        self._bytes += len(data)
        if self._bytes > HTTP2_BYTES_MAX:
            self._rest = b""
            return None
        buffer = self._rest + data
        at = 0
        out = []
        while len(buffer) - at >= _HEAD:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if size > _FRAME_BYTES_MAX or self.frames >= HTTP2_FRAMES_MAX:
                return None
            end = at + _HEAD + size
            if len(buffer) < end:
                break
            self.frames += 1
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + _HEAD], "big") & 0x7FFF_FFFF
            out.append(self._answer_frame(kind, flags, stream, buffer[at + _HEAD : end]))
            at = end
        self._rest = buffer[at:]
        return b"".join(out)

    def _answer_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            return _frame(kind, _ACK, 0, payload if kind == _PING else b"")
        if kind == _HEADERS:
            trailers = _frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, self._headers)
            # the rest of the request need not be sent
            return trailers + _frame(_RST_STREAM, 0, stream, bytes(4))
        return b""


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
