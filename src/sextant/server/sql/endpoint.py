"""The SQL endpoint: speaks ClickHouse's HTTP interface, read-only. Part of the telemetry process.

Source: ClickHouse documentation, "HTTP interface". A query is judged by the guard, runs on a
connection that cannot write, under limits, and is stopped when the client goes away.
"""

import asyncio
import collections
import contextlib
import json
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import msgspec

from sextant.http.answers import PROBLEM, Answer, Header, problem, refusal_headers
from sextant.http.application import Application
from sextant.http.request import Receive, Request, Scope, Send, unless_gone
from sextant.http.routing import ANY, Route
from sextant.http.tokens import Caller, Resolve, same_secret, token_of
from sextant.kernel import limits
from sextant.kernel.errors import Bug, Denied, NotFound, SextantError, UsageError
from sextant.server.protocols.misdirected import NOT_KNOWN, Ports, misplaced
from sextant.server.sql import answering, replies
from sextant.server.sql.question import Question, read_question
from sextant.server.sql.turns import Turns

_TEXT = "text/plain; charset=UTF-8"


class _Internal(NamedTuple):
    """The coordinator, which has checked the rights of the caller."""

    name: str
    person: str
    role: str
    owner: str = ""
    scopes: tuple[str, ...] = ("query",)


class _Query:
    """What is known of a request: who asks, and the id of the query, once it has been read."""

    __slots__ = ("caller", "id")

    def __init__(self, caller: Caller) -> None:
        self.caller, self.id = caller, ""


class Answering(Protocol):
    """What answers questions: processes of their own, or this one."""

    async def answer(self, one: answering.Query, gone: "asyncio.Future[None]") -> answering.Answer:
        """Return the answer. GoneError when `gone` is done before."""
        ...

    def health(self) -> dict[str, int]: ...

    def close(self) -> None: ...


class SqlEndpoint:
    """The ASGI application; `queue` tells how many queries run and wait.

    answering  answers queries
    version    ClickHouse's, which clients are told
    resolve    returns the caller of a token
    internal   the secret of Sextant's own processes (`X-Sextant-Internal`); "" = none may call.
               `X-Sextant-Role` and `X-Sextant-Person` say for whom they ask
    refused    is called with who was refused and why
    wrote      says whether a person has sent telemetry in the last seconds, which he is to see
    ports      where a request is sent that came to the wrong one
    """

    def __init__(
        self,
        answering: Answering,
        version: str,
        resolve: Resolve,
        *,
        internal: str = "",
        refused: Callable[[str, str], None] = lambda _who, _why: None,
        wrote: Callable[[str], bool] = lambda _person: True,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        self._answering, self._version, self._resolve = answering, version, resolve
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
        self._application = Application(
            [
                Route(ANY, "/ping", _answer_ping),
                Route(ANY, "/replicas_status", _answer_ping),
                Route("HEAD", "/", self._answer_root),
                Route("GET", "/", self._answer_root),
                Route("POST", "/", self._answer_query),
            ],
            admit=self._admit,
            missing=self._missing,
            refuse=self._refuse,
            foreign=lambda _: _defect(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)

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

    # ---------------------------------------------------------------- who

    async def _admit(self, request: Request) -> None:
        """Set the `state` of a query to its _Query."""
        if request.path == "/" and request.method in ("GET", "POST") and not _is_ping(request):
            request.state = _Query(await self._caller(request))

    async def _caller(self, request: Request) -> Caller:
        headers = request.headers
        secret = headers.get("x-sextant-internal", "")
        if secret:
            if not same_secret(secret, self._internal):
                self._refused(request.address, "internal")
                raise Denied(
                    "SX-SQL-011", "this path is for Sextant's own processes", hint="send a token"
                )
            person = unquote(headers.get("x-sextant-person", ""))
            return _Internal("internal", person, headers.get("x-sextant-role", "viewer"))
        token = token_of(headers) or headers.get("x-clickhouse-key", "")
        caller = await self._resolve(token) if token else None
        if caller is None:
            self._refused(request.address, "token")
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
                f"the token of `{caller.name}` does not open the SQL endpoint",
                hint=f"it is for {', '.join(caller.scopes)}; make one with the scope query",
            )
        return caller

    # ---------------------------------------------------------------- answers

    def _missing(self, request: Request) -> Answer:
        raise NotFound(
            "SX-SQL-018",
            f"there is nothing at {request.method} {request.path[:80]}",
            hint=misplaced(request.path, self._ports) or "queries go to GET or POST /",
        )

    async def _answer_root(self, request: Request) -> Answer:
        if _is_ping(request):
            return await _answer_ping(request)
        if request.method == "HEAD":
            return self._missing(request)
        return await self._answer_query(request)

    async def _answer_query(self, request: Request) -> Answer:
        query: _Query = request.state
        caller = query.caller
        body = await request.body(limits.SQL_BODY_BYTES_MAX, _too_large)
        question = read_question(request.query_string, request.headers, body)
        query.id = question.id or secrets.token_hex(16)
        async with contextlib.AsyncExitStack() as held:
            gone = asyncio.ensure_future(request.until_gone())
            held.callback(gone.cancel)
            turn = held.enter_async_context(self._turns.of(*_share(caller)))
            await unless_gone(gone, turn)
            answer = self._hello(question) or await self._answering.answer(
                answering.Query(
                    question,
                    admin=caller.role == "admin",
                    recent=isinstance(caller, _Internal) or self._wrote(caller.person),
                    accepted=request.headers.get("accept-encoding", ""),
                ),
                gone,
            )
            # the turn ends when the client has taken the answer, which stays in memory until then
            return _answered(answer, query.id, held.pop_all().aclose)

    def _hello(self, question: Question) -> answering.Answer | None:
        """Return the answer to the first question of clients that have a revision of the
        protocol."""
        if (
            question.revision
            and question.form == "Native"
            and question.sql.strip() == replies.HELLO
        ):
            hello = replies.hello(self._version, question.revision)
            return answering.Answer([hello], "Native", "", 0)
        return None

    def _refuse(self, request: Request, error: SextantError) -> Answer:
        refusal = replies.refusal(error, self._version)
        if refusal.status >= 500:
            self._failed[error.code] += 1
        after_s = getattr(error, "retry_after_s", None) if refusal.status == 503 else None
        headers = (
            *_common(request.state.id if request.state else ""),
            (b"x-clickhouse-exception-code", str(refusal.number).encode()),
            *refusal_headers(request, refusal.status, after_s or 0.0, scheme=b"Basic"),
        )
        if request.headers.get("x-sextant-internal"):
            body = msgspec.json.encode(problem(error, refusal.status))
            return Answer(refusal.status, body, PROBLEM, headers)
        return Answer(refusal.status, refusal.text.encode(), _TEXT, headers)


async def _answer_ping(_request: Request) -> Answer:
    return Answer(200, b"Ok.\n", _TEXT)


def _is_ping(request: Request) -> bool:
    """Say whether a request asks whether the server is there, as clients do."""
    return request.method in ("GET", "HEAD") and not request.query_string


def _answered(answer: answering.Answer, id_: str, after: Callable[[], Any]) -> Answer:
    summary = json.dumps(
        {
            "result_bytes": str(sum(map(len, answer.pieces))),
            "elapsed_ns": str(answer.elapsed_ns),
        }
    )
    headers = [
        *_common(id_),
        (b"x-clickhouse-format", answer.form.encode()),
        (b"x-clickhouse-summary", summary.encode()),
    ]
    if answer.encoding:
        headers.append((b"content-encoding", answer.encoding.encode()))
    kind = replies.content_type(answer.form)
    return Answer(200, b"", kind, tuple(headers), tuple(answer.pieces), after)


def _common(id_: str) -> tuple[Header, ...]:
    plain = "".join(char for char in id_ if char.isascii() and char.isprintable())
    return (
        (b"x-clickhouse-query-id", plain.encode()),
        (b"x-clickhouse-timezone", b"UTC"),
        (b"x-clickhouse-server-display-name", b"sextant"),
    )


def _share(caller: Caller) -> tuple[str, str]:
    """Return by whom queries are counted, and in which way he asks: a person, however many tokens
    he has. Who asks through the API has a share of his own there."""
    return caller.person or caller.name, "API" if isinstance(caller, _Internal) else ""


def _too_large() -> UsageError:
    return UsageError(
        "SX-SQL-014",
        f"the request is larger than {limits.SQL_BODY_BYTES_MAX >> 10} KiB",
        hint="put long lists of values into a table, and join with it",
    )


def _defect() -> Bug:
    return Bug(
        "SX-SQL-019",
        "a promise inside Sextant was broken",
        hint="please report it; the server's log has the traceback",
    )
