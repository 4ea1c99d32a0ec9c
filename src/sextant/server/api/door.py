"""The door of the API: who comes in, how often, and what every answer carries. Plain ASGI around
the routes.

A request comes with a token (`Authorization: Bearer`, or the password of Basic) or with a browser's
session cookie, whose writes must carry the session's CSRF token in a header. Refusals are events of
the ledger, summed up so that a flood of them stays small.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import msgspec

from sextant.app.access import Access, Grant, same
from sextant.kernel.clock import Clock
from sextant.kernel.errors import Denied, NotFound, SextantError, UsageError
from sextant.kernel.limits import REQUESTS_PER_S_MAX, SIGN_INS_BURST, SIGN_INS_PER_S_MAX
from sextant.server.grants import token_of
from sextant.server.refusals import Refusals
from sextant.server.wrong_door import NOT_KNOWN, Ports, misplaced

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "sextant_session"
SESSION = "/api/v1/session"
_HOST = re.compile(r":\d*$")  # the port behind a host's name; an IPv6 address stands in brackets
_OPEN = {
    "/healthz",
    "/readyz",
    SESSION,
}  # health for whoever supervises; signing in must be possible for who is not in yet
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_BUCKETS_MAX = 10_000  # callers whose pace is remembered; the oldest are forgotten


class Pace:
    """A token bucket for each caller: so many requests a second, and a burst (of twice as many,
    unless it is said)."""

    def __init__(self, clock: Clock, per_s: float = REQUESTS_PER_S_MAX, burst: float = 0) -> None:
        self._clock, self._per_s, self._burst = clock, per_s, burst
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, caller: str) -> float:
        """Return 0 and count the request, or how long the caller has to wait."""
        now = self._clock.monotonic_s()
        most = self._burst or 2 * self._per_s
        left, since = self._left.pop(caller, (most, now))
        left = min(most, left + (now - since) * self._per_s)
        if len(self._left) >= _BUCKETS_MAX:
            self._left.pop(next(iter(self._left)))
        self._left[caller] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / self._per_s


class Door:
    """ASGI middleware; `scope["state"]["grant"]` is who came in."""

    def __init__(
        self,
        app: App,
        access: Access,
        clock: Clock,
        *,
        hosts: tuple[str, ...],
        internal: str = "",
        refusals: Refusals | None = None,
        ports: Ports = NOT_KNOWN,
    ) -> None:
        """ports  where telemetry is sent that came here
        hosts  names under which the server may be asked: a page of another site cannot reach it
        by its own name (DNS rebinding)"""
        self.app, self._access, self._hosts, self._internal = app, access, hosts, internal
        self.refusals = refusals or Refusals()
        self._ports = ports
        self._pace = Pace(clock)
        self._sign_ins = Pace(clock, SIGN_INS_PER_S_MAX, SIGN_INS_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there is nothing else here

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name, value) for name, value in _HEADERS if name not in there),
                ]
            await send(message)

        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        try:
            await self._let_in(scope, headers)
        except SextantError as error:
            await answer_problem(sealed, error, status=self._status(error))
            return
        await self.app(scope, receive, sealed)

    @staticmethod
    def _status(error: SextantError) -> int:
        return {"SX-API-001": 401, "SX-API-002": 429}.get(error.code, error.http_status)

    async def _let_in(self, scope: Scope, headers: dict[str, str]) -> None:
        host = _HOST.sub("", headers.get("host", "")).strip("[]").lower()
        if host not in self._hosts:
            self.refusals.add("", "host")
            raise UsageError(
                "SX-API-006",
                f"this server is not called `{host}`",
                hint="name it under `hosts` of [server] in sextant.toml",
            )
        address = str((scope.get("client") or ("", 0))[0])
        state = scope.setdefault("state", {})
        path = scope["path"].rstrip("/")
        if (
            "//" in path
        ):  # the router takes it for one: what is judged here must be what is asked there
            raise NotFound("SX-API-010", f"there is nothing at `{path}`")
        if path.startswith("/internal/"):
            if not self._internal or not same(
                headers.get("x-sextant-internal", ""), self._internal
            ):
                self.refusals.add(address, "internal")
                raise Denied("SX-API-001", "this door is for Sextant's own processes")
            return
        grant = self._grant(headers)
        caller = str(grant.principal) if grant else address
        wait = self._pace.wait_s(caller)
        if wait:
            self.refusals.add(caller, "pace")
            raise UsageError(
                "SX-API-002",
                f"more than {REQUESTS_PER_S_MAX:g} requests a second",
                hint=f"wait {wait:.1f} s",
            )
        if (
            path == SESSION
            and scope["method"] == "POST"
            and (wait := self._sign_ins.wait_s(address))
        ):  # passwords are guessed; and each costs much
            self.refusals.add(address, "pace of signing in")
            raise UsageError(
                "SX-API-002",
                f"more than {SIGN_INS_BURST} tries to sign in",
                hint=f"wait {wait:.1f} s",
            )
        state["grant"] = grant
        # asked again by an answer that goes on: a token may be revoked or handed over meanwhile
        state["still"] = lambda: self._grant(headers)
        signs_in = path == SESSION and scope["method"] == "POST"  # with an older cookie, perhaps
        if grant is not None and not signs_in:
            self._check_csrf(scope["method"], headers, grant, caller)
        if path in _OPEN:
            return
        elsewhere = misplaced(path, self._ports)
        if elsewhere:  # an exporter with the wrong port: its token may be for telemetry only
            raise NotFound(
                "SX-API-019", f"the API takes no telemetry: `{path[:80]}`", hint=elsewhere
            )
        if grant is None:
            self.refusals.add(address, "token")
            raise Denied(
                "SX-API-001",
                "this needs a token that is valid",
                hint=(
                    "Authorization: Bearer sxt_..., for commands SEXTANT_TOKEN; `sextant token "
                    "create NAME` makes one"
                ),
            )
        if "api" not in grant.scopes:
            self.refusals.add(caller, "scope")
            raise Denied(
                "SX-API-003",
                f"the token of `{grant.principal}` does not open the API",
                hint=f"it is for {', '.join(grant.scopes)}; make one with the scope api",
            )

    def _check_csrf(self, method: str, headers: dict[str, str], grant: Grant, caller: str) -> None:
        if (
            grant.csrf
            and method not in ("GET", "HEAD", "OPTIONS")
            and not same(headers.get("x-csrf-token", ""), grant.csrf)
        ):
            self.refusals.add(caller, "csrf")
            raise Denied(
                "SX-API-007",
                "a write of a browser must carry the session's X-CSRF-Token",
                hint="signing in gives it",
            )

    def _grant(self, headers: dict[str, str]) -> Grant | None:
        if "authorization" in headers:
            return self._access.grant(token_of(headers))
        cookie = cookie_of(headers)
        return self._access.session(cookie) if cookie else None


def cookie_of(headers: dict[str, str]) -> str:
    """Return the session's cookie, "" when there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def answer_problem(send: Send, error: SextantError, *, status: int = 0) -> None:
    """Answer a request with an error as a problem document (RFC 9457)."""
    body = msgspec.json.encode({**error.problem(), "status": status or error.http_status})
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if (status or error.http_status) == 401:
        headers.append((b"www-authenticate", b'Bearer realm="sextant"'))
    after = getattr(error, "retry_after_s", None) or (1.0 if status == 429 else None)
    if after:
        headers.append((b"retry-after", str(max(1, round(after))).encode()))
    await send(
        {"type": "http.response.start", "status": status or error.http_status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": body})
