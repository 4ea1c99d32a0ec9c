"""The API put together: routes, sessions, health, the stream, the door around all of them, and its
description (OpenAPI)."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, asgi, delete, get, post
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import JSONBody

from sextant.app.access import Grant
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.port import Platform
from sextant.app.remote import API
from sextant.kernel.errors import Bug, Denied, NotFound, SextantError, UsageError, WorldError
from sextant.kernel.limits import REQUEST_BYTES_MAX, SESSION_S
from sextant.kernel.nouns import Principal
from sextant.server.api.door import COOKIE, Door, cookie_of
from sextant.server.api.routes import handlers, problem_shown
from sextant.server.api.stream import EventStream
from sextant.server.grants import Grant as Introspected
from sextant.server.refusals import Refusals
from sextant.server.wrong_door import NOT_KNOWN, Ports

Health = Callable[[], dict[str, Any]]


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Name and password of an account."""

    name: str
    password: str


class SignedIn(msgspec.Struct):
    """A browser's session. Its writes carry `csrf` in the header X-CSRF-Token."""

    name: str
    role: str
    csrf: str
    expires_at: int


class Asked(msgspec.Struct):
    token: str


def make_api(
    platform: LocalPlatform,
    *,
    health: Health,
    metrics: Callable[[], bytes] = bytes,
    readiness: Health | None = None,
    hosts: tuple[str, ...],
    secure: bool = False,
    internal: str = "",
    refusals: Refusals | None = None,
    catch_up: Callable[[], None] | None = None,
    ports: Ports = NOT_KNOWN,
) -> Door:
    """Return the ASGI application.

    health    what GET /healthz answers; `ok` decides between 200 and 503
    metrics   what GET /metrics answers: the server's own, as text
    readiness what GET /readyz answers; `ready` decides likewise
    hosts     names under which the server may be asked
    secure    cookies go over https only
    internal  the secret of Sextant's own processes; "" closes their door
    ports     where telemetry is sent that came here
    catch_up  brings SQL up to the head of the ledger, for a command that asks beside the server
    """
    access = platform.access
    refused = refusals or Refusals()

    def operations_for(request: Request[Any, Any, Any]) -> Platform:
        by: Principal = request.scope["state"]["grant"].principal
        if not by.is_administrator:
            request.scope["state"]["hide"] = platform.sealing.without_paths
        return Operations(platform, by, refused=lambda why: refused.add(str(by), why))

    @get(
        "/healthz",
        sync_to_thread=False,
        summary="Say whether the server works",
        operation_id="health",
        tags=["health"],
    )
    def healthz() -> Response[dict[str, Any]]:
        found = health()
        return Response(found, status_code=200 if found.get("ok") else 503)

    @get(
        "/metrics",
        sync_to_thread=True,
        summary="Show the server's own metrics, to be scraped",
        operation_id="own_metrics",
        tags=["health"],
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )
    def own_metrics() -> bytes:
        return metrics()

    @get(
        "/readyz",
        sync_to_thread=False,
        summary="Say whether the server can be used: API, telemetry and SQL",
        operation_id="readiness",
        tags=["health"],
    )
    def readyz() -> Response[dict[str, Any]]:
        found = readiness() if readiness else {"ready": bool(health().get("ok")), "waits": []}
        return Response(found, status_code=200 if found["ready"] else 503)

    @post(
        f"{API}/session",
        summary="Sign in",
        operation_id="sign_in",
        tags=["session"],
        status_code=200,
    )
    async def sign_in(
        data: JSONBody[SignIn], request: Request[Any, Any, Any]
    ) -> Response[SignedIn]:
        found = await asyncio.to_thread(access.sign_in, data.name, data.password)
        if found is None:
            refused.add(request.client.host if request.client else "", "password")
            raise Denied(
                "SX-API-009",
                "the name or the password is wrong",
                hint="an administrator can make an account: `sextant account create NAME`",
            )
        cookie, session = found
        account = access.store.account(data.name)
        answer = Response(
            SignedIn(
                name=data.name,
                role=account.role if account else "",
                csrf=session.csrf,
                expires_at=session.expires_at,
            )
        )
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=secure,
            path="/",
        )
        return answer

    @get(
        f"{API}/session",
        sync_to_thread=False,
        summary="Say who is signed in",
        operation_id="session",
        tags=["session"],
    )
    def session(request: Request[Any, Any, Any]) -> SignedIn:
        grant: Grant | None = request.scope["state"]["grant"]
        if grant is None:
            raise Denied("SX-API-001", "nobody is signed in", hint="sign in, or send a token")
        return SignedIn(
            name=str(grant.principal), role=grant.role, csrf=grant.csrf, expires_at=grant.expires_at
        )

    @delete(
        f"{API}/session",
        sync_to_thread=True,
        summary="Sign out",
        operation_id="sign_out",
        tags=["session"],
        status_code=204,
    )
    def sign_out(request: Request[Any, Any, Any]) -> None:
        cookie = cookie_of(dict(request.headers))
        grant: Grant | None = request.scope["state"]["grant"]
        if cookie and grant is not None:
            access.sign_out(cookie)

    @post("/internal/introspect", sync_to_thread=True, include_in_schema=False, status_code=200)
    def introspect(data: JSONBody[Asked]) -> Introspected:
        grant = access.grant(data.token)
        if grant is None:
            return Introspected(active=False)
        one: Principal = platform.core.authorization.who(grant.principal)
        owner = one.teams[0] if one.teams else ""
        return Introspected(
            active=True,
            name=one.name,
            person=one.person,
            kind=one.kind,
            teams=one.teams,
            role=grant.role,
            scopes=grant.scopes,
            owner=owner,
            expires_at=grant.expires_at,
        )

    @post("/internal/catch-up", sync_to_thread=True, include_in_schema=False, status_code=204)
    def catching_up() -> None:
        if catch_up is not None:
            catch_up()

    @get(f"{API}/openapi.json", sync_to_thread=False, include_in_schema=False)
    def description(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(
            msgspec.json.encode(request.app.openapi_schema.to_schema()),
            media_type="application/json",
        )

    stream = EventStream(platform)

    @asgi(f"{API}/stream", is_mount=False, copy_scope=False)
    async def events(scope: Any, receive: Any, send: Any) -> None:
        await stream(scope, receive, send)

    app = Litestar(
        [
            *handlers(operations_for),
            healthz,
            own_metrics,
            readyz,
            sign_in,
            session,
            sign_out,
            introspect,
            catching_up,
            description,
            events,
        ],
        exception_handlers={
            SextantError: _problem,
            HTTPException: _foreign,
            RecursionError: _deep,
            OSError: _machine,
            Exception: _bug,
        },
        openapi_config=describe(),
        request_max_body_size=REQUEST_BYTES_MAX,
        logging_config=None,
    )
    return Door(
        app,  # type: ignore[arg-type]
        access,
        platform.core.clock,
        hosts=hosts,
        internal=internal,
        refusals=refused,
        ports=ports,
    )


def describe() -> OpenAPIConfig:
    """Return how the API is described. Litestar's own pages for it lie behind the inner door: they
    would answer every path below theirs."""
    from litestar.openapi.plugins import JsonRenderPlugin

    return OpenAPIConfig(
        title="Sextant",
        version="1",
        path="/internal/openapi",
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=False,
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer"),
                "session": SecurityScheme(type="apiKey", name=COOKIE, security_scheme_in="cookie"),
            }
        ),
        security=[{"token": []}, {"session": []}],
    )


def _parameter(name: str) -> str:
    """Return what a caller calls what the routes call `name`."""
    return "body" if name == "data" else name.removeprefix("q_").removeprefix("p_")


def _wrong(message: str) -> str:
    """Return what is wrong with a parameter. Of a body that is missing Litestar says `'data'`."""
    return "it is missing" if message == "'data'" else message


def _problem(request: Any, error: SextantError) -> Response[Any]:
    headers = (
        {"retry-after": str(max(1, round(after)))}
        if (after := getattr(error, "retry_after_s", None))
        else {}
    )
    if isinstance(error, Bug):
        _log(error)
    status = 401 if error.code in ("SX-API-001", "SX-API-009") else error.http_status
    hide = request.scope["state"].get("hide") if request is not None else None
    return Response(
        {**problem_shown(error, hide), "status": status},
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def _foreign(request: Any, error: HTTPException) -> Response[Any]:
    """Say in our own words what Litestar found wrong with a request."""
    ours: SextantError
    if error.status_code == 404:
        ours = NotFound(
            "SX-API-010",
            f"there is nothing at `{request.scope['path']}`",
            hint=f"{API}/openapi.json describes what there is",
        )
    elif isinstance(error, ValidationException):
        extra = error.extra if isinstance(error.extra, list) else []
        what = (
            "; ".join(
                f"{_parameter(str(one.get('key', '')))}: {_wrong(str(one.get('message', '')))}"
                for one in extra
                if isinstance(one, dict)
            )
            or error.detail
        )
        ours = UsageError(
            "SX-API-011",
            f"the request is not what this takes: {what}",
            hint=f"{API}/openapi.json describes it",
        )
    else:
        ours = UsageError(
            "SX-API-012",
            f"the request cannot be read: {error.detail}",
            hint=f"{API}/openapi.json describes the API",
        )
    return Response(
        {**ours.problem(), "status": error.status_code},
        status_code=error.status_code,
        media_type="application/problem+json",
        headers=error.headers or {},
    )


def _deep(request: Any, error: RecursionError) -> Response[Any]:
    if "deserializing" not in str(error):  # not the request's, then
        return _bug(request, error)
    return _problem(
        request, UsageError("SX-API-016", "the request nests too deep", hint="send plain rows")
    )


def _machine(request: Any, error: OSError) -> Response[Any]:
    import sys

    what = error.strerror or "it did not say why"
    print(f"{what}: {error.filename or error}", file=sys.stderr, flush=True)
    return _problem(
        request,
        WorldError(
            "SX-API-017",
            f"the server's machine refused: {what}",
            hint=(
                "mend what the system says (a full disk, a missing permission), and ask again; "
                "the server's log names the file"
            ),
        ),
    )


def _bug(request: Any, error: Exception) -> Response[Any]:
    _log(error)
    bug = Bug(
        "SX-API-005",
        "a promise inside Sextant was broken",
        hint="please report it; the server's log has the traceback",
    )
    del request
    return _problem(None, bug)


def _log(error: Exception) -> None:
    import sys
    import traceback

    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
