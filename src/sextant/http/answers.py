"""Answers: bytes, JSON, streams of pieces, and errors as problem documents (RFC 9457)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from sextant.http.request import Message, Request, Send
from sextant.kernel.errors import SextantError

Header = tuple[bytes, bytes]
JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
PROBLEM = "application/problem+json"
# a client that takes nothing for so long is disconnected: it would hold the answer in memory
SEND_S = 30.0
_PIECE_BYTES = 256 << 10


class Answer(NamedTuple):
    """An answer.

    body     all of it, or what comes before `pieces`
    pieces   parts of the body: made already, or as they are made. The latter has no Content-Length
    after    is awaited when the answer has been sent, or could not be: releases what it holds
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[Header, ...] = ()
    pieces: AsyncGenerator[bytes, None] | tuple[bytes, ...] = ()
    after: Callable[[], Awaitable[None]] | None = None


def json_answer(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:
    """Return a value that msgspec can encode, as JSON."""
    return Answer(status, msgspec.json.encode(value), JSON, headers)


def status_of(error: SextantError) -> int:
    """Return the HTTP status of an error."""
    return error.status or error.http_status


def problem(
    error: SextantError, status: int = 0, hide: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """Return an error as a problem document.

    status  0 = that of the error
    hide    is applied to every text: removes paths of the server for callers who must not see them
    """
    document = error.problem()
    if hide is not None:
        document = {
            key: hide(value) if isinstance(value, str) else value for key, value in document.items()
        }
    return {**document, "status": status or status_of(error)}


def problem_answer(
    request: Request,
    error: SextantError,
    status: int = 0,
    hide: Callable[[str], str] | None = None,
) -> Answer:
    """Return an error as an answer with a problem document and the headers that belong to it."""
    status = status or status_of(error)
    after_s = getattr(error, "retry_after_s", None) or (1.0 if status == 429 else 0.0)
    headers = refusal_headers(request, status, after_s)
    return Answer(status, msgspec.json.encode(problem(error, status, hide)), PROBLEM, headers)


def refusal_headers(
    request: Request, status: int, after_s: float = 0.0, *, scheme: bytes = b"Bearer"
) -> tuple[Header, ...]:
    """Return the headers that HTTP wants beside an error: how to authenticate (401), which methods
    the path has (405), after how many seconds to retry (0 = not said)."""
    headers: list[Header] = []
    if status == 401:
        headers.append((b"www-authenticate", scheme + b' realm="sextant"'))
    if status == 405 and request.allowed:
        headers.append((b"allow", ", ".join(request.allowed).encode()))
    if after_s:
        headers.append((b"retry-after", str(max(1, round(after_s))).encode()))
    return tuple(headers)


async def send_answer(send: Send, answer: Answer, common: Sequence[Header] = ()) -> None:
    """Send an answer with the headers `common`, unless it has them itself. TimeoutError when
    the client takes nothing for SEND_S seconds."""
    body, pieces = answer.body, answer.pieces
    headers = [*answer.headers]
    if headers:
        names = {name for name, _ in headers}
        headers += [header for header in common if header[0] not in names]
    else:
        headers += common
    if answer.content_type:
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if isinstance(pieces, tuple):
        size = len(body) + sum(map(len, pieces))
        if answer.status not in (204, 304):
            headers.append((b"content-length", b"%d" % size))
        if size <= _PIECE_BYTES:
            await _send_short(send, start, b"".join((body, *pieces)), answer)
            return
    async with asyncio.timeout(SEND_S):
        await send(start)
    await _send_piece(send, body)
    if isinstance(pieces, tuple):
        for piece in pieces:
            await _send_piece(send, piece)
    else:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                await _send_piece(send, piece)
    await send({"type": "http.response.body", "body": b""})


async def _send_short(send: Send, start: Message, body: bytes, answer: Answer) -> None:
    if answer.after is None:  # it holds nothing, so it need not be watched
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    async with asyncio.timeout(SEND_S):
        await send(start)
        await send({"type": "http.response.body", "body": body})


async def _send_piece(send: Send, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        part = bytes(view[:_PIECE_BYTES])
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        view = view[_PIECE_BYTES:]
