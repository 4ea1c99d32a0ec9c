"""The SQL door: an ASGI application that speaks ClickHouse's HTTP interface, read-only. Mounted by
the telemetry process.

Source: ClickHouse documentation, "HTTP interface". What is asked is judged by the guard, runs on a
connection that cannot write, under limits, and is stopped when the client goes away.
"""

import asyncio
import contextlib
import hmac
import json
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from sextant.kernel import limits
from sextant.kernel.errors import Bug, Busy, Denied, NotFound, SextantError, UsageError
from sextant.kernel.ports import Telemetry
from sextant.server.grants import token_of
from sextant.server.sql import asked, replies
from sextant.server.sql.blocks import blocks
from sextant.server.sql.catalogue import Catalogue
from sextant.server.sql.guard import Guard
from sextant.server.sql.turns import Turns

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[None, None, None]]

_SEND_S = 30.0  # a reader that takes nothing for so long is let go
_SEND_BYTES = 256 << 10
# after its time a query is stopped from outside: ClickHouse looks at its clock only between blocks
_LATE_S = 2.0
_STOP_EVERY_S = 0.2


class Caller(Protocol):
    """Whom a token stands for: what token introspection says."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...


Authorise = Callable[[str], Awaitable[Caller | None]]


class _Internal(NamedTuple):
    """The coordinator, which has asked for rights already."""

    name: str
    role: str
    scopes: tuple[str, ...] = ("query",)


class _Answer(NamedTuple):
    data: bytes
    form: str
    encoding: str
    elapsed_ns: int


class _GoneError(Exception):
    """The client went away."""


def make_sql_app(
    store: Telemetry,
    flush: Callable[[], None],
    authorise: Authorise,
    catalogue: Catalogue,
    *,
    internal: str = "",
    refused: Callable[[str, str], None] | None = None,
) -> "SqlDoor":
    """Return the ASGI application.

    flush      puts what was acknowledged and waits into the tables; called in a thread, before
               queries of telemetry
    authorise  returns whom a token stands for; None for one that is unknown, expired or revoked;
               WorldError when that cannot be told
    internal   the secret of Sextant's own processes (`X-Sextant-Internal`); "" closes their door.
               `X-Sextant-Role` says for whom they ask
    refused    is told who was not let in and why
    """
    return SqlDoor(
        store, flush, authorise, catalogue, internal, refused or (lambda _who, _why: None)
    )


class SqlDoor:
    """The application; `queue` tells how many queries run and wait."""

    def __init__(
        self,
        store: Telemetry,
        flush: Callable[[], None],
        authorise: Authorise,
        catalogue: Catalogue,
        internal: str,
        refused: Callable[[str, str], None],
    ) -> None:
        (
            self._store,
            self._flush,
            self._authorise,
            self._catalogue,
            self._internal,
            self._refused,
        ) = store, flush, authorise, catalogue, internal, refused
        self._guard = Guard(store)
        self._version = store.query("SELECT version()", form="TSVRaw").decode().strip()
        self._turns = Turns(
            at_once=limits.SQL_AT_ONCE_MAX,
            of_one=limits.SQL_OF_ONE_MAX,
            waiting=limits.SQL_WAITING_MAX,
            wait_s=limits.SQL_WAIT_S,
        )
        self._threads = ThreadPoolExecutor(limits.SQL_AT_ONCE_MAX, thread_name_prefix="sextant-sql")
        self._stoppers = ThreadPoolExecutor(2, thread_name_prefix="sextant-sql-stop")

    def queue(self) -> tuple[int, int]:
        """Return how many queries run and how many wait."""
        return self._turns.busy()

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._stoppers.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        id_ = ""
        try:
            if scope["path"] in ("/ping", "/replicas_status") or (
                scope["path"] == "/"
                and scope["method"] in ("GET", "HEAD")
                and not scope["query_string"]
            ):
                await _send(
                    send,
                    200,
                    [(b"content-type", b"text/plain; charset=UTF-8")],
                    b"Ok.\n",
                    bare=scope["method"] == "HEAD",
                )
                return
            _only_root(scope)
            caller = await self._let_in(headers, scope)
            question = asked.read(scope["query_string"], headers, await _body(receive))
            id_ = question.id or secrets.token_hex(16)
            gone = asyncio.ensure_future(_until_gone(receive))
            try:
                async with contextlib.AsyncExitStack() as held:
                    await _unless(gone, held.enter_async_context(self._turns.of(caller.name)))
                    answer = await self._run(
                        question, caller, headers.get("accept-encoding", ""), gone
                    )
                    await self._say(send, answer, id_)
            finally:
                gone.cancel()
        except _GoneError:
            return
        except SextantError as error:
            await self._say_no(send, error, headers, id_)
        except Exception as error:  # a defect must be answered too, and be seen in the log
            print("".join(traceback.format_exception(error)), file=sys.stderr)
            await self._say_no(
                send,
                Bug(
                    "SX-SQL-019",
                    "a promise inside Sextant was broken",
                    hint="please report it; the server's log has the traceback",
                ),
                headers,
                id_,
            )

    # ---------------------------------------------------------------- who

    async def _let_in(self, headers: Mapping[str, str], scope: Scope) -> Caller:
        inside = headers.get("x-sextant-internal", "")
        if inside:
            if not self._internal or not hmac.compare_digest(
                inside.encode(), self._internal.encode()
            ):
                self._refused(_address(scope), "internal")
                raise Denied(
                    "SX-SQL-011", "this door is for Sextant's own processes", hint="send a token"
                )
            return _Internal("internal", headers.get("x-sextant-role", "viewer"))
        token = token_of(headers) or headers.get("x-clickhouse-key", "")
        caller = await self._authorise(token) if token else None
        if caller is None:
            self._refused(_address(scope), "token")
            raise Denied(
                "SX-SQL-011",
                "this needs a token that is valid",
                hint=(
                    "send it as the password (any user), as Bearer, or as X-ClickHouse-Key; "
                    "`sextant token create NAME` makes one"
                ),
            )
        if "query" not in caller.scopes:
            self._refused(caller.name, "scope")
            raise Denied(
                "SX-SQL-012",
                f"the token of `{caller.name}` does not open the SQL door",
                hint=f"it is for {', '.join(caller.scopes)}; make one with the scope query",
            )
        return caller

    # ---------------------------------------------------------------- what

    async def _run(
        self, question: asked.Question, caller: Caller, accepted: str, gone: "asyncio.Future[None]"
    ) -> _Answer:
        """Answer, and stop answering when the client is gone or the time is up."""
        mark = f"/* {secrets.token_hex(8)} */"
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._answer, question, caller, accepted, mark)
        first: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(
            first, timeout=limits.SQL_SECONDS_MAX + _LATE_S, return_when=asyncio.FIRST_COMPLETED
        )
        late = not work.done() and not gone.done()
        while not work.done():
            with contextlib.suppress(SextantError):
                await loop.run_in_executor(self._stoppers, self._stop, mark)
            await asyncio.wait({work}, timeout=_STOP_EVERY_S)
        try:
            return work.result()
        except SextantError as error:
            if gone.done():
                raise _GoneError from error
            if late:
                raise Busy(
                    "SX-SQL-015",
                    f"the query was stopped after {limits.SQL_SECONDS_MAX:g} s",
                    hint="ask for less: a shorter time range, fewer rows, or a LIMIT",
                ) from error
            raise

    def _answer(
        self, question: asked.Question, caller: Caller, accepted: str, mark: str
    ) -> _Answer:
        started = time.monotonic_ns()
        if (
            question.revision
            and question.form == "Native"
            and question.sql.strip() == replies.HELLO
        ):
            return _Answer(
                replies.hello(self._version, question.revision),
                "Native",
                "",
                time.monotonic_ns() - started,
            )
        with self._catalogue.reading(admin=caller.role == "admin") as names:
            try:
                judged = self._guard.judge(
                    question.sql, names, database=question.database, params=question.params
                )
                if any(table.startswith("obs.") for table in judged.tables):
                    self._flush()
                form = judged.form or question.form
                limit, settings = asked.granted((*question.settings, *judged.settings))
                data = self._store.ask(
                    f"{mark} {judged.sql}",
                    form=form,
                    params=question.params,
                    limits=limit,
                    settings=settings,
                )
            except SextantError as error:
                raise _readable(error, names.plain, mark) from error.__cause__
        if len(data) > limits.SQL_RESULT_BYTES_MAX:
            raise UsageError(
                "SX-SQL-017",
                f"the answer is larger than {limits.SQL_RESULT_BYTES_MAX >> 20} MiB",
                hint=(
                    "ask for fewer rows or columns, or in a format that packs more, such as Parquet"
                ),
            )
        packed, encoding = (
            (b"".join(blocks(data)), "") if question.blocks else replies.packed(data, accepted)
        )
        return _Answer(packed, form, encoding, time.monotonic_ns() - started)

    def _stop(self, mark: str) -> None:
        self._store.query(
            "KILL QUERY WHERE startsWith(query, {mark:String}) ASYNC",
            form="Null",
            params={"mark": mark},
        )

    # ---------------------------------------------------------------- answers

    async def _say(self, send: Send, answer: _Answer, id_: str) -> None:
        summary = json.dumps(
            {"result_bytes": str(len(answer.data)), "elapsed_ns": str(answer.elapsed_ns)}
        )
        headers = [
            *self._common(id_),
            (b"content-type", replies.content_type(answer.form).encode()),
            (b"x-clickhouse-format", answer.form.encode()),
            (b"x-clickhouse-summary", summary.encode()),
        ]
        if answer.encoding:
            headers.append((b"content-encoding", answer.encoding.encode()))
        await _send(send, 200, headers, answer.data)

    async def _say_no(
        self, send: Send, error: SextantError, headers: Mapping[str, str], id_: str
    ) -> None:
        said = replies.refusal(error, self._version)
        out = [*self._common(id_), (b"x-clickhouse-exception-code", str(said.number).encode())]
        if headers.get("x-sextant-internal"):
            out.append((b"content-type", b"application/problem+json"))
            body = msgspec.json.encode({**error.problem(), "status": said.status})
        else:
            out.append((b"content-type", b"text/plain; charset=UTF-8"))
            body = said.text.encode()
        if said.status == 401:
            out.append((b"www-authenticate", b'Basic realm="sextant"'))
        after = getattr(error, "retry_after_s", None)
        if after and said.status == 503:
            out.append((b"retry-after", str(max(1, round(after))).encode()))
        await _send(send, said.status, out, body)

    def _common(self, id_: str) -> list[tuple[bytes, bytes]]:
        plain = "".join(char for char in id_ if char.isascii() and char.isprintable())
        return [
            (b"x-clickhouse-query-id", plain.encode()),
            (b"x-clickhouse-timezone", b"UTC"),
            (b"x-clickhouse-server-display-name", b"sextant"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]


def _readable(error: SextantError, plain: Callable[[str], str], mark: str) -> SextantError:
    """Say an error in the names that were asked for, without the mark and without paths."""
    error.message = plain(error.message.replace(f"{mark} ", ""))
    error.args = (error.message,)
    return error


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("", 0))[0])


def _only_root(scope: Scope) -> None:
    if scope["path"] != "/" or scope["method"] not in ("GET", "POST"):
        raise NotFound(
            "SX-SQL-018",
            f"there is nothing at {scope['method']} {scope['path'][:80]}",
            hint="queries go to GET or POST /",
        )


async def _body(receive: Receive) -> bytes:
    out = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        out += message.get("body", b"")
        if len(out) > limits.SQL_BODY_BYTES_MAX:
            raise UsageError(
                "SX-SQL-014",
                f"the request is larger than {limits.SQL_BODY_BYTES_MAX >> 10} KiB",
                hint="put long lists of values into a table, and join with it",
            )
        if not message.get("more_body"):
            return bytes(out)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: "asyncio.Future[None]", waits: Coroutine[Any, Any, T]) -> T:
    """Wait for something, unless the client goes away before."""
    task = asyncio.ensure_future(waits)
    first: set[asyncio.Future[Any]] = {task, gone}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    raise _GoneError


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], data: bytes, *, bare: bool = False
) -> None:
    """Send an answer in pieces. A reader that does not take one in time is let go: the server
    closes what is not sent to its end."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(data)).encode())],
        }
    )
    view = memoryview(b"" if bare else data)
    while len(view) > _SEND_BYTES:
        try:
            await asyncio.wait_for(
                send(
                    {
                        "type": "http.response.body",
                        "body": bytes(view[:_SEND_BYTES]),
                        "more_body": True,
                    }
                ),
                _SEND_S,
            )
        except TimeoutError as error:
            raise _GoneError from error
        view = view[_SEND_BYTES:]
    await send({"type": "http.response.body", "body": bytes(view)})
