"""Between the coordinator and a worker: messages of a 4-byte big-endian length, then JSON
(nothing is pickled); and the log."""

import os
import select
from typing import Any

import msgspec

from sextant.kernel.errors import Bug
from sextant.kernel.limits import STEP_LOG_BYTES_MAX, STEP_RESULT_BYTES_MAX
from sextant.kernel.nouns import WorkOrder, WorkResult

_ORDER = msgspec.json.Decoder(WorkOrder)
_RESULT = msgspec.json.Decoder(WorkResult)
_ENCODER = msgspec.json.Encoder()


def send(fd: int, message: WorkOrder | WorkResult) -> None:
    """Write one message. Bug if it is larger than limits.STEP_RESULT_BYTES_MAX; BrokenPipeError if
    nobody reads."""
    body = _ENCODER.encode(message)
    if len(body) > STEP_RESULT_BYTES_MAX:
        raise Bug(
            "SX-STEP-010",
            f"a work order or result of {len(body)} bytes",
            hint="data travels as files, not in messages",
        )
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int, timeout_s: float | None = None, wake_fd: int = -1) -> bytes | None:
    """Return one message's bytes; b"" when the other side closed; None when the time is up or
    `wake_fd` is readable."""
    if timeout_s is not None or wake_fd >= 0:
        readable, _, _ = select.select(
            [fd] + ([wake_fd] if wake_fd >= 0 else []), [], [], timeout_s
        )
        if fd not in readable:
            return None
    head = _exactly(fd, 4)
    return _exactly(fd, int.from_bytes(head, "big")) if len(head) == 4 else b""


def _exactly(fd: int, size: int) -> bytes:
    chunks: list[bytes] = []
    while size:
        chunk = os.read(fd, min(size, 1 << 20))
        if not chunk:
            return b""
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def order_from(body: bytes) -> WorkOrder:
    return _ORDER.decode(body)


def result_from(body: bytes) -> WorkResult:
    return _RESULT.decode(body)


def head_and_tail(fd: int) -> str:
    """Return a log's text; of one over limits.STEP_LOG_BYTES_MAX its beginning and its end."""
    size = os.fstat(fd).st_size
    half = STEP_LOG_BYTES_MAX // 2
    if size <= STEP_LOG_BYTES_MAX:
        return os.pread(fd, size, 0).decode(errors="replace")
    head, tail = os.pread(fd, half, 0), os.pread(fd, half, size - half)
    return (
        head.decode(errors="replace")
        + f"\n... {size - 2 * half} bytes left out ...\n"
        + tail.decode(errors="replace")
    )


def failed(order: WorkOrder, code: str, message: str, **more: Any) -> WorkResult:
    """Return the result of an attempt that did not come to its end; `where` is the asset's
    declaration."""
    more.setdefault("where", f"{order.asset.file}:{order.asset.line}" if order.asset.file else "")
    return WorkResult(
        order=order.id,
        attempt=order.attempt,
        fence=order.fence,
        ok=False,
        error_code=code,
        error=message,
        **more,
    )
