"""The ingest endpoint: takes telemetry, by the protocols of a table, into the intake.

200 (204) means durable. A body that came before, from the same sender, is answered as it was and
not taken again.

No request keeps the event loop for long: a body is unpacked in pieces, a large one in a thread;
what is not small is decoded by another process; and the intake takes it in slices.
"""

import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from sextant.formats.telemetry.batch import Batch, TooMuch
from sextant.formats.telemetry.remote_write import NotLabels
from sextant.http.answers import JSON, Answer, refusal_headers
from sextant.http.application import Application, log_exception
from sextant.http.introspection import Grants
from sextant.http.refusals import Refusals
from sextant.http.request import Receive, Request, Scope, Send
from sextant.http.routing import ANY, Route
from sextant.http.tokens import same_secret, token_of
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
from sextant.server.ingest.decode_processes import Decoders
from sextant.server.ingest.unpacking import Unpacker, unpacker
from sextant.server.protocols.misdirected import NOT_KNOWN, Ports, ingest_hint
from sextant.server.protocols.otlp import PROTOBUF
from sextant.server.protocols.port import (
    Incoming,
    Parsed,
    Protocol,
    decode,
    defect,
    loop_budget,
    problem,
)
from sextant.server.protocols.table import BY_PATH
from sextant.stores.telemetry.intake import Accepted, Intake

Read = Callable[[Callable[[int], None]], Awaitable[bytes]]  # is told the size of each piece

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


class Sender(NamedTuple):
    """Who sends: the team that owns what comes, and the person who answers for the token."""

    owner: str
    person: str = ""


class Outcome(NamedTuple):
    """What became of a message: the answer as HTTP has it, and where it was refused, why, and after
    how many seconds to retry (0 = not)."""

    answer: Answer
    error: SextantError | None = None
    after_s: float = 0.0


class IngestEndpoint:
    """The application.

    keep_days        table -> days that its rows are kept: what is older is refused
    internal         the secret of Sextant's own processes
    internal_routes  below /internal/, for callers with the secret
    ports            what a request is told that came to the wrong one
    """

    def __init__(
        self,
        intake: Intake,
        grants: Grants,
        clock: Clock,
        *,
        keep_days: Mapping[str, int],
        internal: str,
        internal_routes: Iterable[Route] = (),
        refusals: Refusals,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        self._intake, self._grants, self._clock = intake, grants, clock
        self._keep, self._internal = keep_days, internal
        self._refused: dict[tuple[str, str, str], int] = {}
        self._refusals = refusals
        self._ports = ports
        self._held = 0  # bytes of the requests that are being read or decoded
        self._wrote: dict[str, float] = {}  # person -> the last message, monotonic seconds
        self._turn = asyncio.Lock()  # one piece of work between two looks at the connections
        self._deciding: dict[bytes, asyncio.Event] = {}  # keys of the requests that are decoded
        self._unpacking = asyncio.Semaphore(_UNPACKERS)
        self._threads = ThreadPoolExecutor(_UNPACKERS, thread_name_prefix="unpack")
        self.decoders = Decoders()
        self._application = Application(
            [*self._routes(), *internal_routes],
            admit=self._admit,
            missing=self._missing,
            refuse=self._refuse,
            foreign=lambda _: defect(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)

    async def take(self, path: str, headers: Mapping[str, str], client: str, read: Read) -> Outcome:
        """Take a message of OTLP that came another way than HTTP, from `client`; `read` returns
        it."""
        protocol = BY_PATH[path]
        owner = ""
        try:
            sender = await self._sender(headers, {}, client)
            owner = sender.owner
            self._intake.room()
            return Outcome(await self._take(protocol, path, PROTOBUF, headers, {}, read, sender))
        except SextantError as error:
            refused = error
        except Exception as error:  # a defect is answered too, and its traceback logged
            log_exception(error)
            refused = defect()
        answer, after_s = self._refusal(protocol, PROTOBUF, owner, refused)
        return Outcome(answer, refused, after_s)

    def wrote(self, person: str) -> bool:
        """Say whether a person has sent something within the last seconds, which may not be seen by
        all query processes yet."""
        return time.monotonic() - self._wrote.get(person, float("-inf")) < limits.SQL_BEHIND_S

    # ---------------------------------------------------------------- routes

    def _routes(self) -> list[Route]:
        return [
            *(
                Route("POST", path, partial(self._answer, protocol))
                for path, protocol in BY_PATH.items()
            ),
            Route(ANY, "/healthz", self._answer_health),
            Route(ANY, "/readyz", self._answer_readiness),
            Route("GET", "/", self._answer_hint),
            Route("HEAD", "/", self._answer_hint),
        ]

    async def _answer(self, protocol: Protocol, request: Request) -> Answer:
        content_type = request.content_type
        if protocol.types and content_type not in protocol.types:
            raise UsageError(
                "SX-INTAKE-054",
                f"`{content_type[:80] or 'nothing'}` is no content type of {protocol.name}",
                hint=" or ".join(protocol.types),
                status=415,
            )
        self._intake.room()
        read = partial(request.body, limits.BODY_BYTES_MAX, too_large)
        path, headers, query = request.path, request.headers, _query(request)
        return await self._take(protocol, path, content_type, headers, query, read, request.state)

    async def _answer_health(self, _request: Request) -> Answer:
        return Answer(200, b'{"ok":true}', JSON)

    async def _answer_readiness(self, _request: Request) -> Answer:
        if await self._grants.reachable():
            return Answer(200, b'{"ready":true,"waits":[]}', JSON)
        return Answer(503, b'{"ready":false,"waits":["tokens"]}', JSON)

    async def _answer_hint(self, request: Request) -> Answer:
        """Answer a browser, or somebody who looks."""
        hint = ingest_hint(request.path, self._ports, BY_PATH)
        return Answer(200, f"Sextant: {hint}\n".encode(), "text/plain; charset=utf-8")

    def _missing(self, request: Request) -> Answer:
        if request.path in BY_PATH:
            raise UsageError(
                "SX-INTAKE-053",
                f"{request.method} is not for `{request.path}`",
                hint="POST",
                status=405,
            )
        raise self._nothing_at(request.path)

    def _nothing_at(self, path: str) -> NotFound:
        return NotFound(
            "SX-INTAKE-057",
            f"there is nothing at `{path[:80]}`",
            hint=ingest_hint(path, self._ports, BY_PATH),
        )

    # ---------------------------------------------------------------- who

    async def _admit(self, request: Request) -> None:
        """Set the `state` of a request to its Sender, where one is needed."""
        path = request.path
        if path in BY_PATH:
            request.state = await self._sender(request.headers, _query(request), request.address)
        elif path.startswith("/internal/") and not self._is_internal(request.headers):
            raise self._nothing_at(path)

    def _is_internal(self, headers: Mapping[str, str]) -> bool:
        return same_secret(headers.get("x-sextant-internal", ""), self._internal)

    async def _sender(
        self, headers: Mapping[str, str], query: Mapping[str, str], address: str
    ) -> Sender:
        """Return who sends. Denied for a token that may not."""
        if self._is_internal(headers):
            return Sender(query.get("owner", ""))
        grant = await self._grants.of(token_of(headers))
        if grant is None:
            self._refusals.add(address, "token for ingest")
            raise Denied(
                "SX-INTAKE-051",
                "this needs a token that is valid",
                hint=(
                    "Authorization: Bearer sxt_..., or the token as the password of basic "
                    "authentication"
                ),
                status=401,
            )
        if "ingest" not in grant.scopes:
            self._refusals.add(grant.name, "scope ingest")
            raise Denied(
                "SX-INTAKE-052",
                f"the token of `{grant.name}` does not open this endpoint",
                hint=f"it is for {', '.join(grant.scopes)}; make one with the scope ingest",
            )
        return Sender(grant.owner or grant.name, grant.person)

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
        read: Read,
        sender: Sender,
    ) -> Answer:
        reservation = _Reservation(self)
        try:
            body = await read(reservation.add)
            incoming, key = await self._unpacked(
                protocol, path, content_type, headers, query, body, sender.owner, reservation
            )
            answer = await self._accept_once(protocol, incoming, key)
        finally:
            self._held -= reservation.bytes
        self._note(sender.person)
        return answer

    async def _unpacked(
        self,
        protocol: Protocol,
        path: str,
        content_type: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        body: bytes,
        owner: str,
        reservation: "_Reservation",
    ) -> tuple[Incoming, bytes]:
        """Return a request with its body unpacked, and its key."""
        now_ns = self._clock.now_ns()
        packed = unpacker(body, protocol.encoding(headers))
        # a CloudEvent in binary mode is said by its headers
        events = sorted(item for item in headers.items() if item[0].startswith("ce-"))
        batch_id = headers.get("idempotency-key", "")
        about = f"{path}?{sorted(query.items())} {content_type} {events} {batch_id}"
        unpacked, key = await self._unpack(body, packed, about, owner, reservation)
        oldest = {table: now_ns - days * 86_400_000_000_000 for table, days in self._keep.items()}
        return Incoming(path, content_type, headers, query, unpacked, owner, now_ns, oldest), key

    async def _accept_once(self, protocol: Protocol, incoming: Incoming, key: bytes) -> Answer:
        """Give a request to the intake, unless it came before, and wait until it is durable."""
        async with self._deciding_alone(key):
            before = self._intake.known(key)
            if before is not None:
                self._intake.counters["repeated"] += 1
                await asyncio.wrap_future(before)
                return protocol.accepted(incoming, 0, {})
            try:
                accepted = await self._decode(protocol, incoming, key)
            except NotLabels:
                accepted = await self._decode(protocol, incoming, key, again=True)
        await asyncio.wrap_future(accepted.durable)
        return protocol.accepted(incoming, accepted.taken, accepted.refused, first=accepted.first)

    async def _unpack(
        self,
        body: bytes,
        packed: Unpacker | None,
        about: str,
        owner: str,
        reservation: "_Reservation",
    ) -> tuple[bytes, bytes]:
        """Return a body unpacked, and the key of the request."""
        intake = self._intake
        unpacked: bytes | None = body
        if packed is not None:
            unpacked = packed.on_loop()
        if unpacked is not None and len(unpacked) <= _LOOP_HASH_BYTES:
            if packed is not None:
                reservation.add(len(unpacked))
            return unpacked, intake.key(about, owner, unpacked)

        def work() -> tuple[bytes, bytes]:
            whole = unpacked
            if whole is None:
                assert packed is not None
                whole = packed.whole()
            return whole, intake.key(about, owner, whole)

        async with self._unpacking:
            if packed is not None:
                reservation.add(limits.BODY_UNPACKED_BYTES_MAX)
            whole, key = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            if packed is not None:
                reservation.release(limits.BODY_UNPACKED_BYTES_MAX - len(whole))
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
        self, protocol: Protocol, incoming: Incoming, key: bytes, *, again: bool = False
    ) -> Accepted:
        """Give the intake what a request means: a small one is decoded on the loop, what turns out
        to be large in another process."""
        parsed: Parsed | None = None
        if protocol.is_small(incoming):
            async with self._turn:
                with contextlib.suppress(TooMuch):
                    parsed = decode(protocol, incoming, loop_budget(protocol), again=again)
        if parsed is not None:
            return await self._accept(protocol, incoming, parsed, key)
        async with self.decoders.turn():
            parsed = await self.decoders.decode(protocol, incoming, again=again)
            return await self._accept(protocol, incoming, parsed, key)

    async def _accept(
        self, protocol: Protocol, incoming: Incoming, parsed: Parsed, key: bytes
    ) -> Accepted:
        """Give the intake what a request means, a slice at a time."""
        steps = self._intake.steps(
            parsed.batch,
            protocol=protocol.name,
            owner=incoming.owner,
            key=key if parsed.batch.timed else b"",
            more=parsed.more,
            kinds=parsed.kinds,
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

    # ---------------------------------------------------------------- refusals

    def _refuse(self, request: Request, error: SextantError) -> Answer:
        protocol = BY_PATH.get(request.path)
        owner = request.state.owner if request.state else ""
        answer, after_s = self._refusal(protocol, request.content_type, owner, error)
        return answer._replace(headers=refusal_headers(request, answer.status, after_s))

    def _refusal(
        self, protocol: Protocol | None, content_type: str, owner: str, error: SextantError
    ) -> tuple[Answer, float]:
        """Return the answer to a refused request, counted, and when to retry."""
        status = _status(error)
        after_s = getattr(error, "retry_after_s", None) or (
            limits.RETRY_AFTER_S if status in (429, 503) else 0.0
        )
        if protocol is not None and status not in (401, 403):
            key = (
                owner,
                protocol.name,
                _REASONS.get(error.code, "malformed" if status == 400 else "not_now"),
            )
            if key in self._refused or len(self._refused) < _COUNTED_MAX:
                self._refused[key] = self._refused.get(key, 0) + 1
        answer = (
            protocol.rejected(content_type, status, error) if protocol else problem(status, error)
        )
        return answer, after_s

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


class _Reservation:
    """What one request holds of the memory that all requests share."""

    def __init__(self, endpoint: IngestEndpoint) -> None:
        self._endpoint = endpoint
        self.bytes = 0

    def add(self, size: int) -> None:
        """Hold more. Busy when many requests have come at once, each of them right by itself."""
        if self._endpoint._held + size > limits.BODIES_BYTES_MAX:
            raise Busy(
                "SX-INTAKE-004",
                "too much is being sent at once",
                hint="send again later, or smaller batches; nothing was taken",
                retry_after_s=limits.RETRY_AFTER_S,
            )
        self._endpoint._held += size
        self.bytes += size

    def release(self, size: int) -> None:
        """Hold less."""
        self._endpoint._held -= size
        self.bytes -= size


def too_large() -> UsageError:
    """Return the error of a body that is larger than is taken."""
    return UsageError(
        "SX-INTAKE-055",
        f"the request is larger than {limits.BODY_BYTES_MAX >> 20} MiB",
        hint="send smaller batches",
        status=413,
    )


def _query(request: Request) -> dict[str, str]:
    """Return the parameters of a query that have a value."""
    if not request.query_string:
        return {}
    return dict(urllib.parse.parse_qsl(request.query_string.decode("latin-1")))


def _status(error: SextantError) -> int:
    """Return the status that makes senders do what is right: 4xx is not sent again, 429 and 503
    are."""
    if error.status:
        return error.status
    if isinstance(error, BadData | UsageError):
        return 400
    if isinstance(error, Busy):
        return 429
    return 503 if isinstance(error, StorageError) else error.http_status
