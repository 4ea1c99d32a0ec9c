"""The HTTP kit: routes, bodies with limits, answers, errors, as an endpoint uses them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from sextant.http import answers
from sextant.http.answers import Answer, json_answer
from sextant.http.application import Application
from sextant.http.pace import Pace
from sextant.http.request import GoneError, Request, unless_gone
from sextant.http.routing import ANY, Route, Router
from sextant.http.tokens import same_secret, token_of
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import (
    BadData,
    Bug,
    Busy,
    Denied,
    NotFound,
    SextantError,
    UsageError,
)

LOST = NotFound("SX-A-001", "there is nothing")


def request(method: str = "GET", path: str = "/", *body: bytes, **more: Any) -> Request:
    """Return a request whose body comes in these pieces; then the client is gone."""
    messages = [
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(body)}
        for index, piece in enumerate(body)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    return Request({**scope, **more}, receive)


async def ok(_request: Request) -> Answer:
    return Answer(200, b"ok")


def route(method: str, path: str) -> Route:
    return Route(method, path, ok)


ROUTES = Router(
    [
        route("GET", "/assets/{asset}"),
        route("GET", "/assets/newest"),
        route("GET", "/assets/{asset}/rows"),
        route("POST", "/assets/{name}/rows"),
        route("GET", "/envs/{a}/diff/{b}"),
        route("DELETE", "/envs/{name}"),
        route("GET", "/envs/{name}/open/now"),
        route("GET", "/{kind}/{name}/open/{day}"),
        route(ANY, "/ping"),
        route("GET", "/"),
    ],
    slashes=True,
)


@pytest.mark.parametrize(
    ("method", "path", "found", "values"),
    [
        ("GET", "/assets/orders", "/assets/{asset}", {"asset": "orders"}),
        ("GET", "/assets/orders/", "/assets/{asset}", {"asset": "orders"}),
        ("GET", "/assets/newest", "/assets/newest", {}),
        ("GET", "/assets/newest/rows", "/assets/{asset}/rows", {"asset": "newest"}),
        ("POST", "/assets/orders/rows", "/assets/{name}/rows", {"name": "orders"}),
        ("GET", "/envs/dev/diff/prod", "/envs/{a}/diff/{b}", {"a": "dev", "b": "prod"}),
        ("DELETE", "/envs/dev", "/envs/{name}", {"name": "dev"}),
        (
            "GET",
            "/envs/dev/open/then",
            "/{kind}/{name}/open/{day}",
            {"kind": "envs", "name": "dev", "day": "then"},
        ),
        ("PURGE", "/ping", "/ping", {}),
        ("GET", "/", "/", {}),
        ("GET", "", "/", {}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, found: str, values: dict[str, str]) -> None:
    """If this fails, a request is answered by another route than its own."""
    one = request(method, path)
    chosen = ROUTES.find(one)
    assert chosen is not None
    assert (chosen.path, one.values) == (found, values)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/assets/orders/rows", ("GET", "POST")),
        ("GET", "/envs/dev", ("DELETE",)),
        ("GET", "/nowhere", ()),
        ("GET", "/assets", ()),
        ("GET", "/assets//rows", ()),
        ("GET", "/envs/dev/diff", ()),
        ("GET", "/assets/a/b/c", ()),
        ("GET", "/envs/a/diff/b/c", ()),
    ],
)
def test_a_path_without_a_route(method: str, path: str, allowed: tuple[str, ...]) -> None:
    """If this fails, a wrong path or method is answered by chance, or called the other."""
    one = request(method, path)
    assert ROUTES.find(one) is None
    assert (one.allowed, one.values) == (allowed, {})


def test_a_slash_behind_a_path_can_matter() -> None:
    """If this fails, a path that an exporter got wrong is taken, or an API is pedantic."""
    assert Router([route("GET", "/a")]).find(request("GET", "/a/")) is None
    assert Router([route("GET", "/a")], slashes=True).find(request("GET", "/a/"))


def test_two_routes_of_one_path_are_a_mistake() -> None:
    """If this fails, one of two routes is dead and nobody notices."""
    with pytest.raises(AssertionError):
        Router([route("GET", "/a/{x}"), route("GET", "/a/{y}")])


# ---------------------------------------------------------------- requests


def too_large() -> SextantError:
    return UsageError("SX-A-002", "too large", status=413)


def read(one: Request, bytes_max: int) -> bytes:
    return asyncio.run(one.body(bytes_max, too_large))


def test_a_body_is_read_to_its_limit() -> None:
    """If this fails, a body fills the memory, or one of exactly the limit is refused."""
    assert read(request("POST", "/", b"abc", b"def"), 6) == b"abcdef"
    with pytest.raises(UsageError):
        read(request("POST", "/", b"abc", b"def"), 5)
    declared = request("POST", "/", headers=[(b"content-length", b"6")])
    with pytest.raises(UsageError):  # before anything is received: the client would be gone
        read(declared, 5)


def test_a_body_that_breaks_off_is_no_body() -> None:
    """If this fails, half a request is taken for a whole one."""
    half = request("POST", "/")
    with pytest.raises(GoneError):
        read(half, 5)


def test_pieces_are_counted_before_the_next_is_received() -> None:
    """If this fails, what all requests hold together is noticed when it is too late."""
    counted: list[int] = []

    def count(size: int) -> None:
        counted.append(size)
        if sum(counted) > 3:
            raise Busy("SX-A-003", "too much at once")

    with pytest.raises(Busy):
        asyncio.run(request("POST", "/", b"ab", b"cd", b"ef").body(100, too_large, count))
    assert counted == [2, 2]


def test_work_ends_with_its_client() -> None:
    """If this fails, what nobody waits for any more goes on."""

    async def main() -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert await unless_gone(gone, asyncio.sleep(0, "done")) == "done"
        work = asyncio.ensure_future(unless_gone(gone, asyncio.sleep(3600)))
        await asyncio.sleep(0)
        gone.set_result(None)
        with pytest.raises(GoneError):
            await work

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer sxt_a", "sxt_a"),
        ("bearer  sxt_a ", "sxt_a"),
        ("Basic bWU6c3h0X2E=", "sxt_a"),
        ("Basic ###", ""),
        ("Basic /w==", ""),
        ("Digest x", ""),
        ("", ""),
    ],
)
def test_the_token_of_a_request(header: str, token: str) -> None:
    """If this fails, a client's way of sending a token is not known, or breaks the endpoint."""
    assert token_of({"authorization": header}) == token


def test_an_empty_secret_opens_nothing() -> None:
    """If this fails, an endpoint without a secret takes everybody for our own process."""
    assert same_secret("a", "a")
    assert not same_secret("a", "b")
    assert not same_secret("", "")


def test_a_pace_is_kept_for_each_caller() -> None:
    """If this fails, one caller uses up the requests of another."""
    clock = ManualClock(0)
    pace = Pace(clock, 2.0)
    assert [pace.wait_s("a") > 0 for _ in range(6)] == [False] * 4 + [True] * 2
    assert pace.wait_s("b") == 0
    clock.wait(0.5)
    assert pace.wait_s("a") == 0
    assert pace.wait_s("a") == pytest.approx(0.5)


# ---------------------------------------------------------------- answers


class Sent:
    """What an application sent; `slow` from that message on nothing is taken."""

    def __init__(self, slow: int = 1_000_000) -> None:
        self.messages: list[Any] = []
        self._slow = slow

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.messages) >= self._slow:
            await asyncio.sleep(3600)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        pairs = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        assert len(dict(pairs)) == len(pairs), "a header stands twice"
        return dict(pairs)

    @property
    def body(self) -> bytes:
        assert not self.messages[-1].get("more_body"), "the answer has no end"
        return b"".join(message["body"] for message in self.messages[1:])


def call(one: Request, sent: Sent, *routes: Route, **more: Any) -> None:
    """Send a request to an application."""

    def missing(request: Request) -> Answer:
        if request.allowed:
            raise UsageError("SX-A-004", "not that method", status=405)
        raise LOST

    app = Application(
        routes,
        **{"missing": missing, "foreign": lambda _: Bug("SX-A-005", "a defect"), **more},
    )
    scope = {
        "type": "http",
        "method": one.method,
        "path": one.path,
        "query_string": one.query_string,
        "headers": [],
    }
    asyncio.run(app(scope, one.receive, sent))


def answered(answer: Answer | Exception, **more: Any) -> Sent:
    async def handle(_request: Request) -> Answer:
        if isinstance(answer, Exception):
            raise answer
        return answer

    sent = Sent()
    call(request(), sent, Route("GET", "/", handle), **more)
    return sent


def test_an_answer_has_its_length_and_common_headers() -> None:
    """If this fails, a client waits for more than comes, or a browser guesses and stores."""
    sent = answered(json_answer({"a": 1}))
    assert (sent.status, sent.body) == (200, b'{"a":1}')
    assert sent.headers == {
        "content-type": "application/json",
        "content-length": "7",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    own = answered(Answer(200, b"", headers=((b"cache-control", b"max-age=60"),)))
    assert own.headers["cache-control"] == "max-age=60"
    assert "content-length" not in answered(Answer(204)).headers


def test_a_large_answer_goes_in_pieces() -> None:
    """If this fails, a slow client holds all of a large answer in the server's buffers."""
    sent = answered(Answer(200, bytes(600_000), pieces=(b"x", bytes(300_000))))
    assert sent.headers["content-length"] == "900001"
    assert len(sent.body) == 900_001
    assert max(len(message["body"]) for message in sent.messages[1:]) <= 256 << 10


def test_a_stream_has_no_length_and_an_end() -> None:
    """If this fails, a client takes a stream that broke off for a whole one."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"b"
        yield b"c"

    sent = answered(Answer(200, b"a", pieces=pieces()))
    assert "content-length" not in sent.headers
    assert sent.body == b"abc"


@pytest.mark.parametrize("slow", [1, 2, 3])
def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch, slow: int) -> None:
    """If this fails, clients that never read hold answers, turns and streams until the server
    ends."""
    monkeypatch.setattr(answers, "SEND_S", 0.01)
    released: list[str] = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"more"
        finally:
            released.append("pieces")

    async def after() -> None:
        released.append("after")

    async def handle(_request: Request) -> Answer:
        return Answer(200, b"a", pieces=pieces(), after=after)

    sent = Sent(slow)
    call(request(), sent, Route("GET", "/", handle))
    assert sent.messages[-1]["type"] != "http.response.body" or sent.messages[-1]["more_body"]
    assert released == (["pieces", "after"] if slow == 3 else ["after"])


def test_what_a_short_answer_holds_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a client that never reads keeps the turn of its query."""
    monkeypatch.setattr(answers, "SEND_S", 0.01)
    released: list[str] = []

    async def after() -> None:
        released.append("after")

    async def handle(_request: Request) -> Answer:
        return Answer(200, b"a", pieces=(b"b",), after=after)

    for slow in (1, 2, 1_000):
        sent = Sent(slow)
        call(request(), sent, Route("GET", "/", handle))
    assert sent.body == b"ab"
    assert len(released) == 3


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (BadData("SX-A-006", "bad"), 422, {}),
        (Denied("SX-A-007", "no"), 403, {}),
        (Denied("SX-A-007", "no", status=401), 401, {"www-authenticate": 'Bearer realm="sextant"'}),
        (UsageError("SX-A-008", "slower", status=429), 429, {"retry-after": "1"}),
        (Busy("SX-A-009", "later", retry_after_s=4.2), 503, {"retry-after": "4"}),
    ],
)
def test_an_error_is_a_problem_document(
    error: SextantError, status: int, headers: dict[str, str]
) -> None:
    """If this fails, a client cannot tell what is wrong, or when to retry."""
    sent = answered(error)
    document = json.loads(sent.body)
    assert (sent.status, document["status"], document["code"]) == (status, status, error.code)
    assert sent.headers["content-type"] == "application/problem+json"
    known = {"www-authenticate", "retry-after", "allow"}
    assert {name: value for name, value in sent.headers.items() if name in known} == headers


def test_a_defect_is_answered_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a defect leaves a client without an answer, the log without a traceback, or
    tells the client what is inside."""
    for error in (RuntimeError("at 0x7f"), Bug("SX-A-005", "at 0x7f")):
        sent = answered(error)
        assert (sent.status, b"0x7f" in sent.body) == (500, False)
        assert "0x7f" in capsys.readouterr().err


def test_paths_and_methods_without_a_route_are_told_apart() -> None:
    """If this fails, a wrong method looks like a wrong path."""
    sent = Sent()
    call(request("PUT", "/a"), sent, route("GET", "/a"), route("POST", "/a"))
    assert (sent.status, sent.headers["allow"]) == (405, "GET, POST")
    sent = Sent()
    call(request("GET", "/b"), sent, route("GET", "/a"))
    assert sent.status == 404


def test_who_is_not_admitted_learns_nothing_of_routes() -> None:
    """If this fails, somebody without a token finds out which paths there are."""

    async def admit(_request: Request) -> None:
        raise Denied("SX-A-010", "no token", status=401)

    for path in ("/a", "/b"):
        sent = Sent()
        call(request("GET", path), sent, route("GET", "/a"), admit=admit)
        assert sent.status == 401
