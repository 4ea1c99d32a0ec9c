"""Between the coordinator and a worker: messages of a 4-byte big-endian length, then JSON
(nothing is pickled); and the log."""

import os
import select
from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from sextant.kernel import registry
from sextant.kernel.errors import Bug
from sextant.kernel.limits import (
    LIVE_PIECE_BYTES_MAX,
    STEP_LOG_BYTES_MAX,
    STEP_RESULT_BYTES_MAX,
)
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


class Mask(Protocol):
    """Replaces secrets in a text, also where a cut went through one: see `project.secrets`."""

    def text(self, text: str) -> str: ...
    def before_cut(self, text: str) -> str: ...
    def after_cut(self, text: str) -> str: ...
    def split(self, text: str) -> tuple[str, str]: ...


def mask_of(orders: Collection[WorkOrder]) -> Mask:
    """Return what masks the secrets of the steps of some orders."""
    mask: Mask = registry.load("secrets.redactor")(orders)
    return mask


def head_and_tail(fd: int, mask: Mask) -> str:
    """Return a log's text, masked; of one over limits.STEP_LOG_BYTES_MAX its beginning and its
    end."""
    size = os.fstat(fd).st_size
    half = STEP_LOG_BYTES_MAX // 2
    if size <= STEP_LOG_BYTES_MAX:
        return mask.text(os.pread(fd, size, 0).decode(errors="replace"))
    head, tail = os.pread(fd, half, 0), os.pread(fd, half, size - half)
    return (
        mask.before_cut(_without_torn_end(head).decode(errors="replace"))
        + left_out(size - 2 * half)
        + mask.after_cut(_without_torn_start(tail).decode(errors="replace"))
    )


def left_out(size: int) -> str:
    """Return what stands in a log for so many bytes."""
    return f"\n... {size} bytes left out ...\n"


def _without_torn_end(data: bytes) -> bytes:
    """Return UTF-8 without the character that a cut went through at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:  # begins a character of several bytes
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if back < length else data
        if byte < 0x80:
            break
    return data


def _without_torn_start(data: bytes) -> bytes:
    """Return UTF-8 without the rest of a character at its beginning."""
    start = 0
    while start < min(3, len(data)) and 0x80 <= data[start] < 0xC0:
        start += 1
    return data[start:]


class Tail:
    """Reads what a running step prints from the file that takes it, masked. One thread."""

    def __init__(self, fd: int, orders: Collection[WorkOrder]) -> None:
        self._fd, self._orders = fd, orders
        self._mask: Mask | None = None
        self._at = 0  # bytes of the file that were read
        self._torn = b""  # the beginning of a character
        self._rest = ""  # may be the beginning of a secret
        self.has_told = False  # that anything was printed

    def look(self, *, ended: bool = False) -> str:
        """Return what was printed since the last look, as far as no secret can be cut by it.
        `ended`: nothing more comes."""
        size = os.fstat(self._fd).st_size
        if size <= self._at and not (ended and self._rest):
            return ""
        if self._mask is None:
            self._mask = mask_of(self._orders)
        out, after_cut = "", False
        behind = size - self._at - LIVE_PIECE_BYTES_MAX
        if behind > 0:  # faster than it can be shown
            out = self._mask.before_cut(self._rest) + left_out(behind)
            self._at, self._torn, self._rest, after_cut = self._at + behind, b"", "", True
        data = self._torn + os.pread(self._fd, size - self._at, self._at)
        self._at = size
        if after_cut:
            data = _without_torn_start(data)
        whole = data if ended else _without_torn_end(data)
        self._torn = data[len(whole) :]
        text = whole.decode(errors="replace")
        if after_cut:
            return out + self._mask.after_cut(text)
        if ended:
            return out + self._mask.text(self._rest + text)
        shown, self._rest = self._mask.split(self._rest + text)
        return out + shown


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
