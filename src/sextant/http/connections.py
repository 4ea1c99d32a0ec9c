"""HTTP connections that end when a request does not arrive: uvicorn itself waits for it forever,
and its places are counted. One address takes only so many of them without sending a request.
Clients that speak HTTP/2 get an answer that says what this port speaks."""

import asyncio
import ipaddress

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sextant.http.http2 import PREFACE, SPEAKS_HTTP_1, Http2Refusal
from sextant.kernel.limits import HALF_OPEN_PER_ADDRESS_MAX, REQUEST_BODY_S, REQUEST_HEAD_S


class HalfOpen:
    """The connections of a process that have not sent the head of a request, by address."""

    def __init__(self) -> None:
        self._of: dict[str, dict[TimedProtocol, None]] = {}  # the longest waiting first

    def add(self, address: str, one: "TimedProtocol") -> "TimedProtocol | None":
        """Count a connection. Return the one to close for it, if its address has too many."""
        waiting = self._of.setdefault(address, {})
        waiting[one] = None
        if len(waiting) <= HALF_OPEN_PER_ADDRESS_MAX:
            return None
        oldest = next(iter(waiting))
        del waiting[oldest]
        return oldest

    def remove(self, address: str, one: "TimedProtocol") -> None:
        waiting = self._of.get(address, {})
        waiting.pop(one, None)
        if not waiting:
            self._of.pop(address, None)

    def count(self) -> int:
        """Return how many there are."""
        return sum(len(waiting) for waiting in self._of.values())


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a time for the head of each request, and one for its body; and a
    limit on connections without a head."""

    half_open = HalfOpen()  # of all servers of the process; only their one event loop uses it
    _late: asyncio.TimerHandle | None = None
    _address = ""
    _first: bytes | None = b""  # what came, until it is known not to be HTTP/2
    _http2: Http2Refusal | None = None

    def _within(self, seconds: float) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(seconds, self.transport.close) if seconds else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = network_of(self.client[0]) if self.client else ""
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._http2 is not None:
            self._answer_http2(data)
        elif self._first is None:
            super().data_received(data)
        else:
            self._first += data
            if PREFACE.startswith(self._first[: len(PREFACE)]):
                if len(self._first) >= len(PREFACE):
                    self._http2 = Http2Refusal(SPEAKS_HTTP_1)
                    self.transport.write(self._http2.greeting)
                    self._answer_http2(self._first[len(PREFACE) :])
                return
            data, self._first = self._first, None
            super().data_received(data)

    def _answer_http2(self, data: bytes) -> None:
        assert self._http2 is not None
        answer = self._http2.answer(data)
        if answer is None:
            self.transport.close()
        elif answer:
            self.transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._within(0)
        self.half_open.remove(self._address, self)
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._within(REQUEST_HEAD_S)
        if self._address:
            oldest = self.half_open.add(self._address, self)
            if oldest is not None:
                oldest.transport.abort()

    def on_message_begin(self) -> None:
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._within(REQUEST_BODY_S)
        self.half_open.remove(self._address, self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._within(0)
        super().on_message_complete()


def network_of(address: str) -> str:
    """Return what one sender has of addresses: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
