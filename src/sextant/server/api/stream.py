"""The live stream: entries of the ledger as server-sent events, from where a client left off.

A reader holds no queue here, only a position: it reads the ledger at its own pace, and what is
written meanwhile waits there. One that does not take its bytes for a while is disconnected; it
resumes with `Last-Event-ID`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec

from sextant.app.access import Grant
from sextant.app.lists import event_seen
from sextant.app.platform import LocalPlatform
from sextant.app.visibility import Visibility
from sextant.http.answers import EVENT_STREAM, Answer
from sextant.http.request import Request
from sextant.kernel.answers import EventSeen
from sextant.kernel.errors import Busy, UsageError
from sextant.kernel.limits import STREAMS_MAX
from sextant.ledger.log import Entry, entries

# how often the head of the ledger is read while somebody listens: other processes write too
_LOOK_S = 0.25
_LIFE_S = 15.0  # so often a quiet stream sends a comment, so that proxies keep it open
_PAGE = 200


class _Filter(NamedTuple):
    """Which events a reader wants: of these types (none = all), about this subject ("" = any)."""

    types: frozenset[str]
    subject: str

    def matches(self, event: EventSeen) -> bool:
        return (not self.types or event["type"] in self.types) and (
            not self.subject or event["subject"] == self.subject
        )


class EventStream:
    """GET with `types` and `subject` as filters, `after` or the header Last-Event-ID as the
    position."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._platform = platform
        self._head = -1
        self._readers = 0
        # set, and replaced by a new one, whenever the ledger has grown
        self._grown = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def answer(self, request: Request) -> Answer:
        """Return a stream. UsageError for a malformed position, Busy when too many are open."""
        after = request.headers.get("last-event-id") or _last(request, "after")
        if after and not re.fullmatch(r"-?[0-9]{1,18}", after):
            raise UsageError(
                "SX-API-013",
                f"`{after}` is no position in the ledger",
                hint="pass the id of the last event that you have",
            )
        if self._readers >= STREAMS_MAX:
            raise Busy(
                "SX-API-014",
                f"{STREAMS_MAX} streams are open",
                hint="close one, or read `GET /ledger/events` now and then",
                retry_after_s=10.0,
            )
        position = int(after) + 1 if after else await asyncio.to_thread(self._read_head) + 1
        wanted = _Filter(
            frozenset(word for word in _last(request, "types").split(",") if word),
            _last(request, "subject"),
        )
        return Answer(
            200,
            b": here from here on\nretry: 1000\n\n",
            EVENT_STREAM,
            ((b"x-accel-buffering", b"no"),),
            self._events(request, position, wanted),
        )

    def _read_head(self) -> int:
        rows = self._platform.core.state.read("event_head")
        return int(rows[0][0]) if rows else -1

    async def _watch(self) -> None:
        """Follow the head of the ledger while there are readers."""
        while self._readers:
            head = await asyncio.to_thread(self._read_head)
            if head != self._head:
                self._head = head
                self._grown.set()
                self._grown = asyncio.Event()
            await asyncio.sleep(_LOOK_S)

    async def _events(
        self, request: Request, position: int, wanted: _Filter
    ) -> AsyncGenerator[bytes, None]:
        """Yield events from a position on, until the reader is gone or may not read any more."""
        self._readers += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        gone = asyncio.create_task(request.until_gone())
        try:
            while not gone.done():
                page = await asyncio.to_thread(
                    entries, self._platform.core.state.read, "events_after", (position, _PAGE)
                )
                # asked again for each page, after it was read: nothing goes out that was written
                # after the token was revoked
                grant = await asyncio.to_thread(request.state.renew)
                if grant is None:
                    return
                shown = await asyncio.to_thread(self._shown, page, grant)
                if shown:
                    position = shown[-1]["seq"] + 1
                    events = b"".join(_encoded(event) for event in shown if wanted.matches(event))
                    if events:
                        yield events
                if len(page) < _PAGE and await self._is_quiet(position, gone):
                    yield b": alive\n\n"
        finally:
            self._readers -= 1
            gone.cancel()

    async def _is_quiet(self, position: int, gone: "asyncio.Task[None]") -> bool:
        """Return when there may be an event at `position` or the reader is gone: False; or True
        after _LIFE_S seconds."""
        if self._head >= position or gone.done():
            return False
        grown = asyncio.create_task(self._grown.wait())
        done, _ = await asyncio.wait(
            {gone, grown}, timeout=_LIFE_S, return_when=asyncio.FIRST_COMPLETED
        )
        grown.cancel()
        return not done

    def _shown(self, page: Sequence[Entry], grant: Grant) -> list[EventSeen]:
        visibility = Visibility(
            self._platform.runs.personal, sees_personal=grant.principal.is_administrator
        )
        return [visibility.event(event_seen(entry)) for entry in page]


def _last(request: Request, name: str) -> str:
    return request.query.get(name, [""])[-1]


def _encoded(event: EventSeen) -> bytes:
    head = f"id: {event['seq']}\nevent: {event['type']}\ndata: ".encode()
    return head + msgspec.json.encode(event) + b"\n\n"
