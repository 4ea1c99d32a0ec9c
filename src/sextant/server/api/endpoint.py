"""The HTTP API: operations, sessions, health, the live stream and the page as one table of
routes."""

import asyncio
import sys
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import msgspec

from sextant.app.access import Access, Grant
from sextant.app.operations import Operations, Platform
from sextant.app.platform import LocalPlatform
from sextant.app.remote import API
from sextant.http.answers import JSON, Answer, json_answer, problem_answer
from sextant.http.application import Application
from sextant.http.introspection import Grant as Introspected
from sextant.http.refusals import Refusals
from sextant.http.request import Receive, Request, Scope, Send
from sextant.http.routing import Route
from sextant.kernel.errors import Denied, SextantError, WorldError
from sextant.kernel.limits import SESSION_S
from sextant.server.api.authentication import COOKIE, LINK, SESSION, Authentication, cookie_of
from sextant.server.api.description import METRICS, FollowLink, SignedIn, SignIn, describe
from sextant.server.api.operations import defect, operation_routes
from sextant.server.api.page import WebPage
from sextant.server.api.parameters import nothing_at, read_json, unreadable
from sextant.server.api.stream import EventStream
from sextant.server.protocols.misdirected import NOT_KNOWN, Ports
from sextant.stores.accounts.records import Session

Health = Callable[[], dict[str, Any]]
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class _Token(msgspec.Struct):
    """The body of an introspection."""

    token: str


class ApiEndpoint:
    """The ASGI application.

    health     what GET /healthz answers; `ok` decides between 200 and 503
    metrics    what GET /metrics answers: the server's own, as text
    readiness  what GET /readyz answers; `ready` decides likewise
    hosts      names under which the server may be called
    secure     cookies go over https only
    internal   the secret of Sextant's own processes; "" = none of them may call
    ports      where telemetry is sent that came here
    catch_up   brings SQL up to the head of the ledger, for a command that asks beside the server
    """

    def __init__(
        self,
        platform: LocalPlatform,
        *,
        health: Health,
        metrics: Callable[[], bytes] = bytes,
        readiness: Health | None = None,
        hosts: tuple[str, ...],
        secure: bool = False,
        internal: str = "",
        refusals: Refusals | None = None,
        catch_up: Callable[[], None] = lambda: None,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        self._platform, self._access = platform, platform.access
        self._health, self._metrics, self._readiness = health, metrics, readiness
        self._catch_up, self._secure = catch_up, secure
        self._refusals = refusals or Refusals()
        self._description: bytes | None = None
        self._page = WebPage()
        self.authentication = Authentication(
            platform.access,
            platform.core.clock,
            hosts=hosts,
            internal=internal,
            refusals=self._refusals,
            hide=platform.sealing.without_paths,
            ports=ports,
            is_open=self._page.serves,
        )
        self._application = Application(
            [*operation_routes(self._operations_for), *self._routes()],
            admit=self.authentication.admit,
            missing=self._missing,
            refuse=_refuse,
            foreign=_foreign,
            headers=_HEADERS,
            slashes=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)

    def _routes(self) -> list[Route]:
        """Return the routes beside the operations."""
        return [
            Route("GET", "/healthz", self._answer_health),
            Route("GET", "/readyz", self._answer_readiness),
            Route("GET", "/metrics", self._answer_metrics),
            Route("POST", SESSION, self._sign_in),
            Route("POST", LINK, self._follow_link),
            Route("GET", SESSION, self._show_session),
            Route("DELETE", SESSION, self._sign_out),
            Route("GET", f"{API}/stream", EventStream(self._platform).answer),
            Route("GET", f"{API}/openapi.json", self._answer_description),
            Route("POST", "/internal/introspect", self._introspect),
            Route("POST", "/internal/catch-up", self._answer_catch_up),
            *self._page.routes(),
        ]

    def _missing(self, request: Request) -> Answer:
        return (None if request.allowed else self._page.place(request)) or _missing(request)

    def _operations_for(self, request: Request) -> Platform:
        by = request.state.grant.principal
        return Operations(self._platform, by, refused=lambda why: self._refusals.add(str(by), why))

    async def _answer_health(self, _request: Request) -> Answer:
        found = self._health()
        return json_answer(found, 200 if found.get("ok") else 503)

    async def _answer_readiness(self, _request: Request) -> Answer:
        if self._readiness is None:
            found: dict[str, Any] = {"ready": bool(self._health().get("ok")), "waits": []}
        else:
            found = self._readiness()
        return json_answer(found, 200 if found["ready"] else 503)

    async def _answer_metrics(self, _request: Request) -> Answer:
        return Answer(200, await asyncio.to_thread(self._metrics), METRICS)

    async def _answer_description(self, _request: Request) -> Answer:
        if self._description is None:
            self._description = msgspec.json.encode(await asyncio.to_thread(describe))
        return Answer(200, self._description, JSON)

    async def _sign_in(self, request: Request) -> Answer:
        given = await read_json(request, SignIn)
        found = await asyncio.to_thread(self._access.sign_in, given.name, given.password)
        if found is None:
            self._refusals.add(request.address, "password")
            raise Denied(
                "SX-API-009",
                "the name or the password is wrong",
                hint="an administrator can make an account: `sextant account create NAME`",
                status=401,
            )
        return self._signed_in(*found, _role(self._access, given.name))

    async def _follow_link(self, request: Request) -> Answer:
        given = await read_json(request, FollowLink)
        found = await asyncio.to_thread(self._access.follow_link, given.link)
        if found is None:
            self._refusals.add(request.address, "link")
            raise Denied(
                "SX-API-021",
                "the sign-in link was used, has expired, or is not this server's",
                hint="sign in by name and password, or start `sextant up` again for a new link",
                status=401,
            )
        return self._signed_in(*found, "admin")

    def _signed_in(self, cookie: str, session: Session, role: str) -> Answer:
        signed_in = SignedIn(
            name=session.person,
            role=role,
            csrf=session.csrf,
            expires_at=session.expires_at,
        )
        header = (b"set-cookie", _cookie(cookie, secure=self._secure).encode())
        return json_answer(signed_in, headers=(header,))

    async def _show_session(self, request: Request) -> Answer:
        grant: Grant | None = request.state.grant
        if grant is None:
            raise Denied(
                "SX-API-001", "nobody is signed in", hint="sign in, or send a token", status=401
            )
        return json_answer(
            SignedIn(
                name=str(grant.principal),
                role=grant.role,
                csrf=grant.csrf,
                expires_at=grant.expires_at,
            )
        )

    async def _sign_out(self, request: Request) -> Answer:
        cookie = cookie_of(request.headers)
        if cookie and request.state.grant is not None:
            await asyncio.to_thread(self._access.sign_out, cookie)
        return Answer(204)

    async def _introspect(self, request: Request) -> Answer:
        given = await read_json(request, _Token)
        return json_answer(await asyncio.to_thread(self._introspected, given.token))

    def _introspected(self, token: str) -> Introspected:
        grant = self._access.grant(token)
        if grant is None:
            return Introspected(active=False)
        principal = self._platform.core.authorization.who(grant.principal)
        return Introspected(
            active=True,
            name=principal.name,
            person=principal.person,
            kind=principal.kind,
            teams=principal.teams,
            role=grant.role,
            scopes=grant.scopes,
            owner=principal.teams[0] if principal.teams else "",
            expires_at=grant.expires_at,
        )

    async def _answer_catch_up(self, _request: Request) -> Answer:
        await asyncio.to_thread(self._catch_up)
        return Answer(204)


def _role(access: Access, name: str) -> str:
    account = access.store.account(name)
    return account.role if account else ""


def _cookie(value: str, *, secure: bool) -> str:
    """Return the header that sets the session's cookie."""
    cookie = SimpleCookie({COOKIE: value})[COOKIE]
    cookie["max-age"], cookie["path"] = SESSION_S, "/"
    cookie["httponly"], cookie["samesite"], cookie["secure"] = True, "strict", secure
    return cookie.OutputString()


def _missing(request: Request) -> Answer:
    if not request.allowed:
        raise nothing_at(request)
    request.allowed = (*request.allowed, "OPTIONS")
    allowed = ", ".join(request.allowed)
    if request.method == "OPTIONS":
        return Answer(204, headers=((b"allow", allowed.encode()),))
    raise unreadable(f"`{request.path}` takes {allowed}, not {request.method}", 405)


def _refuse(request: Request, error: SextantError) -> Answer:
    return problem_answer(request, error, hide=request.state.hide if request.state else None)


def _foreign(error: Exception) -> SextantError:
    if not isinstance(error, OSError):
        return defect()
    why = error.strerror or "it did not say why"
    print(f"{why}: {error.filename or error}", file=sys.stderr, flush=True)
    return WorldError(
        "SX-API-017",
        f"the server's machine refused: {why}",
        hint=(
            "mend what the system says (a full disk, a missing permission), and ask again; "
            "the server's log names the file"
        ),
    )
