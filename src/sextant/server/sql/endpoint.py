"""The SQL door: an ASGI application that speaks ClickHouse's HTTP interface, read-only. Mounted by
the telemetry process.

Source: ClickHouse documentation, "HTTP interface". What is asked is judged by the guard, runs on a
connection that cannot write, under limits, and is stopped when the client goes away.
"""

import asyncio
import collections
import contextlib
import hmac
import json
import secrets
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from sextant.kernel import limits
from sextant.kernel.errors import Bug, Denied, NotFound, SextantError, UsageError
from sextant.server.grants import token_of
from sextant.server.sql import asked, replies
from sextant.server.sql.answering import Answer, Asked, GoneError
from sextant.server.sql.turns import Turns
from sextant.server.wrong_door import NOT_KNOWN, Ports, misplaced

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[None, None, None]]

_SEND_S = 30.0  # a reader that takes nothing for so long is let go
_SEND_BYTES = 256 << 10


class Caller(Protocol):
    """Whom a token stands for: what token introspection says."""

    @property
    def name(self) -> str: ...

    @property
    def person(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...


Authorise = Callable[[str], Awaitable[Caller | None]]


class _Internal(NamedTuple):
    """The coordinator, which has asked for rights already."""

    name: str
    person: str
    role: str
    scopes: tuple[str, ...] = ("query",)


class Answering(Protocol):
    """What answers questions: processes of their own, or this one."""

    async def answer(self, one: Asked, gone: "asyncio.Future[None]") -> Answer:
        """Return the answer. GoneError when `gone` is done before."""
        ...

    def health(self) -> dict[str, int]: ...

    def close(self) -> None: ...


class SqlDoor:
    """The ASGI application; `queue` tells how many queries run and wait.

    answering  answers what is asked
    version    ClickHouse's, which clients are told
    authorise  returns whom a token stands for; None for one that is unknown, expired or revoked;
               WorldError when that cannot be told
    internal   the secret of Sextant's own processes (`X-Sextant-Internal`); "" closes their door.
               `X-Sextant-Role` and `X-Sextant-Person` say for whom they ask
    refused    is told who was not let in and why
    wrote      says whether a person has sent telemetry in the last seconds, which he is to see
    ports      where a request is sent that came to the wrong one
    """

    def __init__(
        self,
        answering: Answering,
        version: str,
        authorise: Authorise,
        *,
        internal: str = "",
        refused: Callable[[str, str], None] = lambda _who, _why: None,
        wrote: Callable[[str], bool] = lambda _person: True,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        self._answering, self._version, self._authorise = answering, version, authorise
        self._internal, self._refused, self._wrote = internal, refused, wrote
        self._ports = ports
        self._turns = Turns(
            at_once=limits.SQL_AT_ONCE_MAX,
            of_one=limits.SQL_OF_ONE_MAX,
            of_person=(limits.SQL_OF_PERSON_MAX, limits.SQL_WAITING_OF_PERSON_MAX),
            waiting=limits.SQL_WAITING_MAX,
            wait_s=limits.SQL_WAIT_S,
        )
        self._failed: collections.Counter[str] = collections.Counter()  # by code

    def queue(self) -> tuple[int, int]:
        """Return how many queries run and how many wait."""
        return self._turns.busy()

    def health(self) -> dict[str, Any]:
        """Return how many queries run and wait, and how many ended in an error of ours, by its
        code."""
        running, waiting = self.queue()
        return {
            "queries_running": running,
            "queries_waiting": waiting,
            "queries_failed": dict(self._failed),
            **self._answering.health(),
        }

    def close(self) -> None:
        """End what answers."""
        self._answering.close()

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
            _only_root(scope, self._ports)
            caller = await self._let_in(headers, scope)
            question = asked.read(scope["query_string"], headers, await _body(receive))
            id_ = question.id or secrets.token_hex(16)
            gone = asyncio.ensure_future(_until_gone(receive))
            try:
                async with contextlib.AsyncExitStack() as held:
                    await _unless(gone, held.enter_async_context(self._turns.of(*_share(caller))))
                    answer = self._hello(question) or await self._answering.answer(
                        Asked(
                            question,
                            admin=caller.role == "admin",
                            recent=isinstance(caller, _Internal) or self._wrote(caller.person),
                            accepted=headers.get("accept-encoding", ""),
                        ),
                        gone,
                    )
                    await self._say(send, answer, id_)
            finally:
                gone.cancel()
        except GoneError:
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
            return _Internal(
                "internal",
                unquote(headers.get("x-sextant-person", "")),
                headers.get("x-sextant-role", "viewer"),
            )
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

    def _hello(self, question: asked.Question) -> Answer | None:
        """Return the answer to the first question of clients that have a revision of the
        protocol."""
        if (
            question.revision
            and question.form == "Native"
            and question.sql.strip() == replies.HELLO
        ):
            return Answer([replies.hello(self._version, question.revision)], "Native", "", 0)
        return None

    # ---------------------------------------------------------------- answers

    async def _say(self, send: Send, answer: Answer, id_: str) -> None:
        summary = json.dumps(
            {
                "result_bytes": str(sum(map(len, answer.pieces))),
                "elapsed_ns": str(answer.elapsed_ns),
            }
        )
        headers = [
            *self._common(id_),
            (b"content-type", replies.content_type(answer.form).encode()),
            (b"x-clickhouse-format", answer.form.encode()),
            (b"x-clickhouse-summary", summary.encode()),
        ]
        if answer.encoding:
            headers.append((b"content-encoding", answer.encoding.encode()))
        await _send(send, 200, headers, *answer.pieces)

    async def _say_no(
        self, send: Send, error: SextantError, headers: Mapping[str, str], id_: str
    ) -> None:
        said = replies.refusal(error, self._version)
        if said.status >= 500:
            self._failed[error.code] += 1
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


def _share(caller: Caller) -> tuple[str, str]:
    """Return by whom queries are counted, and in which way he asks: a person, however many tokens
    he has. Who asks through the API has a share of his own there."""
    return caller.person or caller.name, "API" if isinstance(caller, _Internal) else ""


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("", 0))[0])


def _only_root(scope: Scope, ports: Ports) -> None:
    if scope["path"] != "/" or scope["method"] not in ("GET", "POST"):
        raise NotFound(
            "SX-SQL-018",
            f"there is nothing at {scope['method']} {scope['path'][:80]}",
            hint=misplaced(scope["path"], ports) or "queries go to GET or POST /",
        )


async def _body(receive: Receive) -> bytes:
    out = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
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
    raise GoneError


async def _send(
    send: Send,
    status: int,
    headers: list[tuple[bytes, bytes]],
    *pieces: bytes,
    bare: bool = False,
) -> None:
    """Send an answer in pieces. A reader that does not take one in time is let go: the server
    closes what is not sent to its end."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(sum(map(len, pieces))).encode())],
        }
    )
    for piece in () if bare else pieces:
        view = memoryview(piece)
        while view:
            message = {
                "type": "http.response.body",
                "body": bytes(view[:_SEND_BYTES]),
                "more_body": True,
            }
            try:
                await asyncio.wait_for(send(message), _SEND_S)
            except TimeoutError as error:
                raise GoneError from error
            view = view[_SEND_BYTES:]
    await send({"type": "http.response.body", "body": b""})
