"""Requests as ASGI gives them: method, path, query, headers, and bodies within a limit.

Source: ASGI 3.0, "HTTP & WebSocket Message Format".
"""

import asyncio
import contextlib
import urllib.parse
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from sextant.kernel.errors import SextantError

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class GoneError(Exception):
    """The client went away before its request was complete, or before it was answered."""


class Request:
    """One request.

    path     decoded
    headers  with names in lower case, as ASGI gives them
    address  of the client, "" when it is not known
    values   of the path's parameters, when a route has been found
    allowed  methods of the path, when a route has been found
    state    what the endpoint's authentication found out, for its handlers
    """

    __slots__ = (
        "_query",
        "address",
        "allowed",
        "headers",
        "method",
        "path",
        "query_string",
        "receive",
        "state",
        "values",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        client = scope.get("client")
        self.address = str(client[0]) if client else ""
        self.receive = receive
        self.values: dict[str, str] = {}
        self.allowed: tuple[str, ...] = ()
        self.state: Any = None
        self._query: dict[str, list[str]] | None = None

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the query, each with all its values; empty values are kept."""
        if self._query is None:
            self._query = urllib.parse.parse_qs(
                self.query_string.decode("latin-1"), keep_blank_values=True
            )
        return self._query

    @property
    def content_type(self) -> str:
        """The content type of the body, without parameters and in lower case."""
        declared = self.headers.get("content-type", "")
        return declared.partition(";")[0].strip().lower()

    async def body(
        self,
        bytes_max: int,
        too_large: Callable[[], SextantError],
        count: Callable[[int], None] = lambda _: None,
    ) -> bytes:
        """Return the body as it was sent.

        bytes_max  a larger one raises `too_large()`, when possible before any of it is read
        count      is called with the size of each piece, before the next one is received
        Raises     GoneError
        """
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > bytes_max:
            raise too_large()
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            piece = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                raise too_large()
            count(len(piece))
            pieces.append(piece)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def until_gone(self) -> None:
        """Return when the client has closed the connection. The body must have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def unless_gone(gone: "asyncio.Future[None]", work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it and raise GoneError when `gone` is done before."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, gone}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    raise GoneError
