"""The live stream: entries of the ledger as server-sent events, from where a client left off.

A reader holds no queue here, only a position: it reads the ledger at its own pace, and what is
written meanwhile waits there. One that does not take its bytes for a while is let go; it resumes
with `Last-Event-ID`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

import msgspec

from sextant.app.access import Grant
from sextant.app.platform import LocalPlatform
from sextant.app.views import event_seen
from sextant.app.visibility import Visibility
from sextant.kernel.answers import EventSeen
from sextant.kernel.errors import Busy, UsageError
from sextant.kernel.limits import STREAMS_MAX
from sextant.ledger.log import Entry, entries
from sextant.server.api.door import Receive, Scope, Send, answer_problem

# how often the head of the ledger is looked at while somebody listens: other processes write too
_LOOK_S = 0.25
_LIFE_S = 15.0  # so often a quiet stream sends a comment, so that proxies keep it open
_TAKE_S = 30.0  # a reader that takes nothing for so long is let go
_PAGE = 200


class EventStream:
    """ASGI: GET with `types` and `subject` as filters, `after` or the header Last-Event-ID as the
    position."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._p = platform
        self._head = -1
        self._readers = 0
        # set, and replaced by a new one, whenever the ledger has grown
        self._grown = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def _watch(self) -> None:
        """Follow the head of the ledger while there are readers."""
        while self._readers:
            rows = await asyncio.to_thread(self._p.core.state.read, "event_head")
            head = int(rows[0][0]) if rows else -1
            if head != self._head:
                self._head = head
                self._grown.set()
                self._grown = asyncio.Event()
            await asyncio.sleep(_LOOK_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        query = {
            name: values[-1]
            for name, values in parse_qs(scope.get("query_string", b"").decode("latin-1")).items()
        }
        given = headers.get("last-event-id") or query.get("after", "")
        if given and not re.fullmatch(r"-?[0-9]{1,18}", given):
            await answer_problem(
                send,
                UsageError(
                    "SX-API-013",
                    f"`{given}` is no position in the ledger",
                    hint="pass the id of the last event that you have",
                ),
            )
            return
        if self._readers >= STREAMS_MAX:
            await answer_problem(
                send,
                Busy(
                    "SX-API-014",
                    f"{STREAMS_MAX} streams are open",
                    hint="close one, or read `GET /ledger/events` now and then",
                    retry_after_s=10.0,
                ),
            )
            return
        rows = await asyncio.to_thread(self._p.core.state.read, "event_head")
        position = int(given) + 1 if given else (int(rows[0][0]) + 1 if rows else 0)
        types = {word for word in query.get("types", "").split(",") if word}
        self._readers += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        gone = asyncio.create_task(self._until_gone(receive))
        try:
            await asyncio.wait_for(
                send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [
                            (b"content-type", b"text/event-stream"),
                            (b"x-accel-buffering", b"no"),
                        ],
                    }
                ),
                _TAKE_S,
            )
            await self._send(send, b": here from here on\nretry: 1000\n\n")
            wants = (types, query.get("subject", ""))
            while not gone.done():
                sent_to = await self._deliver(send, position, wants, scope["state"]["still"])
                if sent_to is None:
                    break
                position = sent_to
                await self._wait(position, gone, send)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, OSError):
            return  # it takes nothing, or is gone: it knows how to come back
        finally:
            self._readers -= 1
            gone.cancel()

    async def _wait(self, position: int, gone: "asyncio.Task[None]", send: Send) -> None:
        """Return when there may be more than `position`, or the reader is gone; say now and then
        that the stream lives."""
        if self._head < position and not gone.done():
            grown = asyncio.create_task(self._grown.wait())
            done, _ = await asyncio.wait(
                {gone, grown}, timeout=_LIFE_S, return_when=asyncio.FIRST_COMPLETED
            )
            grown.cancel()
            if not done:
                await self._send(send, b": alive\n\n")

    async def _deliver(
        self,
        send: Send,
        position: int,
        wants: tuple[set[str], str],
        still: Callable[[], Grant | None],
    ) -> int | None:
        """Send what stands at and behind `position`, of the wanted types and subject; return the
        position behind it. None when the reader may read no more: asked of each page when it has
        been read, so that nothing goes out that was written after he was sent away."""
        types, subject = wants
        while True:
            found = await asyncio.to_thread(
                entries, self._p.core.state.read, "events_after", (position, _PAGE)
            )
            grant = await asyncio.to_thread(still)
            if grant is None:
                return None
            see = Visibility(self._p.runs.personal, sees_personal=grant.principal.is_administrator)
            out = []
            shown = await asyncio.to_thread(_shown, found, see)
            for seen in shown:
                if (not types or seen["type"] in types) and (
                    not subject or seen["subject"] == subject
                ):
                    out.append(
                        f"id: {seen['seq']}\nevent: {seen['type']}\ndata: ".encode()
                        + msgspec.json.encode(seen)
                        + b"\n\n"
                    )
                position = seen["seq"] + 1
            if out:
                await self._send(send, b"".join(out))
            if len(found) < _PAGE:
                return position

    @staticmethod
    async def _send(send: Send, data: bytes) -> None:
        await asyncio.wait_for(
            send({"type": "http.response.body", "body": data, "more_body": True}), _TAKE_S
        )

    @staticmethod
    async def _until_gone(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


def _shown(found: Sequence[Entry], see: Visibility) -> list[EventSeen]:
    return [see.event(event_seen(entry)) for entry in found]
