"""The ingest door: an ASGI application in front of the intake. Who comes in, how large, how packed
- and what each protocol answers.

200 (204) means durable. A body that came before, from the same sender, is answered as it was and
not taken again.

No request keeps the event loop for long: a body is unpacked in pieces, a large one in a thread;
what is not small is decoded by another process; and the intake takes it in slices.
"""

import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from sextant.formats.telemetry.batch import Batch, TooMuch
from sextant.formats.telemetry.remote_write import NotLabels
from sextant.kernel import limits
from sextant.kernel.clock import Clock
from sextant.kernel.errors import (
    BadData,
    Busy,
    Denied,
    NotFound,
    SextantError,
    StorageError,
    UsageError,
)
from sextant.server.decoding import Decoders
from sextant.server.grants import Grants, token_of
from sextant.server.protocols.otlp import PROTOBUF
from sextant.server.protocols.port import (
    Answer,
    Meant,
    Protocol,
    Taken,
    decode,
    defect,
    loop_budget,
    problem,
)
from sextant.server.protocols.table import BY_PATH
from sextant.server.refusals import Refusals
from sextant.server.unpacking import Unpacker, unpacker
from sextant.server.wrong_door import NOT_KNOWN, Ports, ingest_hint
from sextant.stores.telemetry.intake import Accepted, Intake

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Read = Callable[[Callable[[int], None]], Awaitable[bytes]]  # tells of the size of each piece
Inner = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Answer]]

_STATUS = {
    "SX-INTAKE-051": 401,
    "SX-INTAKE-053": 405,
    "SX-INTAKE-054": 415,
    "SX-INTAKE-055": 413,
    "SX-INTAKE-062": 413,
    "SX-INTAKE-063": 413,
    "SX-INTAKE-069": 415,
    "SX-INTAKE-003": 429,
    "SX-INTAKE-004": 429,
}
_REASONS = {
    "SX-INTAKE-053": "method",
    "SX-INTAKE-054": "content_type",
    "SX-INTAKE-055": "too_large",
    "SX-INTAKE-056": "unpacking",
    "SX-INTAKE-059": "defect",
    "SX-INTAKE-062": "too_many_records",
    "SX-INTAKE-063": "too_costly",
    "SX-INTAKE-069": "content_type",
    "SX-INTAKE-003": "queue_full",
    "SX-INTAKE-004": "too_much_at_once",
}
_LOOP_HASH_BYTES = 512 << 10  # of a body whose key is made on the event loop
_SLICE_S = 0.002  # work of one request after which the event loop looks at the others
_UNPACKERS = 2
_COUNT_S = 1.0  # so often what was refused whole is written down
_COUNTED_MAX = 1_000  # senders and reasons in between


class _GoneError(Exception):
    """The sender went away before its request was whole."""


class Outcome(NamedTuple):
    """What became of a message: the answer as HTTP has it, and where it was refused, why, and after
    how many seconds to come again (0 = not)."""

    answer: Answer
    error: SextantError | None = None
    after_s: int = 0


class IngestDoor:
    """The application.

    keep_days  table -> days that its rows are kept: what is older is refused
    inner      answers paths below /internal/ to who has the secret
    ports      what a request is told that came to the wrong one
    """

    def __init__(
        self,
        intake: Intake,
        grants: Grants,
        clock: Clock,
        *,
        keep_days: Mapping[str, int],
        internal: str,
        inner: Inner,
        refusals: Refusals,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        self._intake, self._grants, self._clock, self._keep, self._internal, self._inner = (
            intake,
            grants,
            clock,
            keep_days,
            internal,
            inner,
        )
        self._refused: dict[tuple[str, str, str], int] = {}
        self._refusals = refusals
        self._ports = ports
        self._held = 0  # bytes of the requests at hand
        self._wrote: dict[str, float] = {}  # person -> when he sent last, monotonic seconds
        self._turn = asyncio.Lock()  # one piece of work between two looks at the connections
        self._deciding: dict[bytes, asyncio.Event] = {}  # keys of the requests that are decoded
        self._unpacking = asyncio.Semaphore(_UNPACKERS)
        self._threads = ThreadPoolExecutor(_UNPACKERS, thread_name_prefix="unpack")
        self.decoders = Decoders()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        protocol = BY_PATH.get(path)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        more: list[tuple[bytes, bytes]] = []
        try:
            answer = await (
                self._protocol(
                    protocol, scope, headers, content_type, partial(_read, receive, headers)
                )
                if protocol
                else self._other(scope, headers, receive)
            )
        except _GoneError:
            return
        except SextantError as error:
            answer, after = self._say_no(protocol, content_type, scope.get("owner", ""), error)
            if after:
                more.append((b"retry-after", after))
            if answer.status == 401:
                more.append((b"www-authenticate", b'Bearer realm="sextant"'))
        except Exception:  # a defect must be answered too, and be seen in the log
            import sys
            import traceback

            traceback.print_exc(file=sys.stderr)
            answer, _ = self._say_no(protocol, content_type, scope.get("owner", ""), defect())
        await _send(send, answer, more)

    async def take(
        self, path: str, headers: Mapping[str, str], client: str, read: Read
    ) -> "Outcome":
        """Take a message of OTLP that came another way than HTTP, from `client`; `read` returns
        it."""
        protocol = BY_PATH[path]
        scope: dict[str, Any] = {
            "path": path,
            "method": "POST",
            "query_string": b"",
            "client": (client, 0),
        }
        try:
            return Outcome(await self._protocol(protocol, scope, headers, PROTOBUF, read))
        except SextantError as error:
            refused = error
        except Exception:  # a defect must be answered too, and be seen in the log
            import sys
            import traceback

            traceback.print_exc(file=sys.stderr)
            refused = defect()
        answer, after = self._say_no(protocol, PROTOBUF, str(scope.get("owner", "")), refused)
        return Outcome(answer, refused, int(after or 0))

    def wrote(self, person: str) -> bool:
        """Say whether a person has sent something within the last seconds, which may not be seen by
        all query processes yet."""
        return time.monotonic() - self._wrote.get(person, float("-inf")) < limits.SQL_BEHIND_S

    async def _other(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer:
        path = scope["path"]
        if path == "/healthz":
            return Answer(200, b'{"ok":true}', "application/json")
        if path == "/readyz":
            if await self._grants.reachable():
                return Answer(200, b'{"ready":true,"waits":[]}', "application/json")
            return Answer(503, b'{"ready":false,"waits":["tokens"]}', "application/json")
        if path == "/" and scope["method"] in ("GET", "HEAD"):  # a browser, or somebody who looks
            words = ingest_hint(path, self._ports, BY_PATH)
            return Answer(200, f"Sextant: {words}\n".encode(), "text/plain; charset=utf-8")
        if path.startswith("/internal/") and self._inside(headers):
            return await self._inner(scope["method"], path, headers, await _read(receive, headers))
        raise NotFound(
            "SX-INTAKE-057",
            f"there is nothing at `{path[:80]}`",
            hint=ingest_hint(path, self._ports, BY_PATH),
        )

    async def _protocol(
        self,
        protocol: Protocol,
        scope: Scope,
        headers: Mapping[str, str],
        content_type: str,
        read: Read,
    ) -> Answer:
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode("latin-1")))
        owner = scope["owner"] = await self._owner(scope, headers, query)
        if scope["method"] != "POST":
            raise UsageError(
                "SX-INTAKE-053", f"{scope['method']} is not for `{scope['path']}`", hint="POST"
            )
        if protocol.types and content_type not in protocol.types:
            raise UsageError(
                "SX-INTAKE-054",
                f"`{content_type[:80] or 'nothing'}` is no content type of {protocol.name}",
                hint=" or ".join(protocol.types),
            )
        self._intake.room()
        hand = _Hand(self)
        try:
            answer = await self._take(
                protocol,
                scope["path"],
                content_type,
                headers,
                query,
                await read(hand.take),
                owner,
                hand,
            )
        finally:
            self._held -= hand.bytes
        self._note(scope.get("person", ""))
        return answer

    # ---------------------------------------------------------------- who

    def _inside(self, headers: Mapping[str, str]) -> bool:
        import hmac

        return bool(self._internal) and hmac.compare_digest(
            headers.get("x-sextant-internal", "").encode(), self._internal.encode()
        )

    async def _owner(
        self, scope: Scope, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        """Return the team that what comes belongs to. Denied for who may not send."""
        if self._inside(headers):
            return query.get("owner", "")
        grant = await self._grants.of(token_of(headers))
        if grant is None:
            self._refusals.add(str((scope.get("client") or ("", 0))[0]), "token for ingest")
            raise Denied(
                "SX-INTAKE-051",
                "this needs a token that is valid",
                hint=(
                    "Authorization: Bearer sxt_..., or the token as the password of basic "
                    "authentication"
                ),
            )
        if "ingest" not in grant.scopes:
            self._refusals.add(grant.name, "scope ingest")
            raise Denied(
                "SX-INTAKE-052",
                f"the token of `{grant.name}` does not open this door",
                hint=f"it is for {', '.join(grant.scopes)}; make one with the scope ingest",
            )
        scope["person"] = grant.person
        return grant.owner or grant.name

    def _note(self, person: str) -> None:
        """Note that a person sends, in the order of time."""
        self._wrote.pop(person, None)
        self._wrote[person] = time.monotonic()
        if len(self._wrote) > _COUNTED_MAX:
            del self._wrote[next(iter(self._wrote))]

    # ---------------------------------------------------------------- what

    async def _take(
        self,
        protocol: Protocol,
        path: str,
        content_type: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        body: bytes,
        owner: str,
        hand: "_Hand",
    ) -> Answer:
        intake, now_ns = self._intake, self._clock.now_ns()
        packed = unpacker(body, protocol.encoding(headers))
        # a CloudEvent in binary mode is said by its headers
        events = sorted(item for item in headers.items() if item[0].startswith("ce-"))
        batch_id = headers.get("idempotency-key", "")
        about = f"{path}?{sorted(query.items())} {content_type} {events} {batch_id}"
        unpacked, key = await self._unpack(body, packed, about, owner, hand)
        oldest = {table: now_ns - days * 86_400_000_000_000 for table, days in self._keep.items()}
        taken = Taken(path, content_type, headers, query, unpacked, owner, now_ns, oldest)
        async with self._deciding_alone(key):
            before = intake.known(key)
            if before is not None:
                intake.counters["repeated"] += 1
                await asyncio.wrap_future(before)
                return protocol.yes(taken, 0, {})
            try:
                accepted = await self._decode(protocol, taken, key)
            except NotLabels:
                accepted = await self._decode(protocol, taken, key, again=True)
        await asyncio.wrap_future(accepted.durable)
        return protocol.yes(taken, accepted.taken, accepted.refused, first=accepted.first)

    async def _unpack(
        self, body: bytes, packed: Unpacker | None, about: str, owner: str, hand: "_Hand"
    ) -> tuple[bytes, bytes]:
        """Return a body unpacked, and the key of the request."""
        intake = self._intake
        unpacked: bytes | None = body
        if packed is not None:
            unpacked = packed.on_loop()
        if unpacked is not None and len(unpacked) <= _LOOP_HASH_BYTES:
            if packed is not None:
                hand.take(len(unpacked))
            return unpacked, intake.key(about, owner, unpacked)

        def work() -> tuple[bytes, bytes]:
            whole = unpacked
            if whole is None:
                assert packed is not None
                whole = packed.whole()
            return whole, intake.key(about, owner, whole)

        async with self._unpacking:
            if packed is not None:
                hand.take(limits.BODY_UNPACKED_BYTES_MAX)
            whole, key = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            if packed is not None:
                hand.give(limits.BODY_UNPACKED_BYTES_MAX - len(whole))
            return whole, key

    @asynccontextmanager
    async def _deciding_alone(self, key: bytes) -> AsyncIterator[None]:
        """Wait until no other request with this key is being decoded: then the intake knows it, or
        it was not taken."""
        while key in self._deciding:
            await self._deciding[key].wait()
        done = self._deciding[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._deciding[key]
            done.set()

    async def _decode(
        self, protocol: Protocol, taken: Taken, key: bytes, *, again: bool = False
    ) -> Accepted:
        """Give the intake what a request means: a small one is decoded on the loop, what turns out
        to be large in another process."""
        meant: Meant | None = None
        if protocol.is_small(taken):
            async with self._turn:
                with contextlib.suppress(TooMuch):
                    meant = decode(protocol, taken, loop_budget(protocol), again=again)
        if meant is not None:
            return await self._accept(protocol, taken, meant, key)
        async with self.decoders.turn():
            meant = await self.decoders.decode(protocol, taken, again=again)
            return await self._accept(protocol, taken, meant, key)

    async def _accept(self, protocol: Protocol, taken: Taken, meant: Meant, key: bytes) -> Accepted:
        """Give the intake what a request means, a slice at a time."""
        steps = self._intake.steps(
            meant.batch,
            protocol=protocol.name,
            owner=taken.owner,
            key=key if meant.batch.timed else b"",
            more=meant.more,
            kinds=meant.kinds,
        )
        while True:
            async with self._turn:
                began = time.perf_counter()
                try:
                    while time.perf_counter() - began < _SLICE_S:
                        next(steps)
                except StopIteration as end:
                    accepted: Accepted = end.value
                    return accepted
            await asyncio.sleep(0)

    def _say_no(
        self, protocol: Protocol | None, content_type: str, owner: str, error: SextantError
    ) -> tuple[Answer, bytes]:
        status = _STATUS.get(error.code) or (
            400
            if isinstance(error, BadData | UsageError)
            else 429
            if isinstance(error, Busy)
            else 503
            if isinstance(error, StorageError)
            else error.http_status
        )
        after = getattr(error, "retry_after_s", None) or (
            limits.RETRY_AFTER_S if status in (429, 503) else None
        )
        if protocol is not None and status not in (401, 403):
            key = (
                owner,
                protocol.name,
                _REASONS.get(error.code, "malformed" if status == 400 else "not_now"),
            )
            if key in self._refused or len(self._refused) < _COUNTED_MAX:
                self._refused[key] = self._refused.get(key, 0) + 1
        answer = protocol.no(content_type, status, error) if protocol else problem(status, error)
        return answer, str(max(1, round(after))).encode() if after else b""

    def close(self) -> None:
        """End the processes and threads that it has started."""
        self.decoders.close()
        self._threads.shutdown()

    async def count(self) -> None:
        """Write down what was refused whole, again and again, summed up: a flood of it stays small.
        Until cancelled."""
        while True:
            await asyncio.sleep(_COUNT_S)
            self.write_refusals()

    def write_refusals(self) -> "list[Future[None]]":
        """Write down what was refused whole since the last time; return what is done when it is
        durable. On the event loop's thread."""
        found, self._refused = self._refused, {}
        out: list[Future[None]] = []
        for (owner, name, reason), number in found.items():
            try:
                out.append(
                    self._intake.accept(
                        Batch(refused={reason: number}, timed=False), protocol=name, owner=owner
                    ).durable
                )
            except Busy:
                self._refused[owner, name, reason] = (
                    self._refused.get((owner, name, reason), 0) + number
                )
        return out


class _Hand:
    """What one request holds of the memory that all requests share."""

    def __init__(self, door: IngestDoor) -> None:
        self._door = door
        self.bytes = 0

    def take(self, size: int) -> None:
        """Raise Busy when many requests have come at once, each of them right by itself."""
        if self._door._held + size > limits.BODIES_BYTES_MAX:
            raise Busy(
                "SX-INTAKE-004",
                "too much is being sent at once",
                hint="send again later, or smaller batches; nothing was taken",
                retry_after_s=limits.RETRY_AFTER_S,
            )
        self._door._held += size
        self.bytes += size

    def give(self, size: int) -> None:
        """Hold less."""
        self._door._held -= size
        self.bytes -= size


async def _read(
    receive: Receive, headers: Mapping[str, str], take: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return a request's body, as sent; `take` hears of each piece of it. UsageError when it is
    larger than is taken."""
    said = headers.get("content-length", "")
    if said.isdigit() and int(said) > limits.BODY_BYTES_MAX:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limits.BODY_BYTES_MAX:
            raise _too_large()
        take(len(part))
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> UsageError:
    return UsageError(
        "SX-INTAKE-055",
        f"the request is larger than {limits.BODY_BYTES_MAX >> 20} MiB",
        hint="send smaller batches",
    )


async def _send(send: Send, answer: Answer, more: list[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *more,
    ]
    if answer.content_type:
        headers.append((b"content-type", answer.content_type.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
