"""HTTP connections that end when a request does not arrive: uvicorn itself waits for it forever,
and its places are counted."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sextant.kernel.limits import REQUEST_BODY_S, REQUEST_HEAD_S


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a time for the head of each request, and one for its body."""

    _late: asyncio.TimerHandle | None = None

    def _within(self, seconds: float) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(seconds, self.transport.close) if seconds else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._within(REQUEST_HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._within(0)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._within(REQUEST_HEAD_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._within(REQUEST_BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._within(0)
        super().on_message_complete()
