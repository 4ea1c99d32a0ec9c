"""Who may use the API, and how often.

A request comes with a token (`Authorization: Bearer`, or the password of Basic) or with a browser's
session cookie, whose writes must carry the session's CSRF token in a header. Refusals are events of
the ledger, summed up so that a flood of them stays small.
"""

import re
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from sextant.app.access import Access, Grant
from sextant.app.remote import API
from sextant.http.pace import Pace
from sextant.http.refusals import Refusals
from sextant.http.request import Request
from sextant.http.tokens import same_secret, token_of
from sextant.kernel.clock import Clock
from sextant.kernel.errors import Denied, NotFound, UsageError
from sextant.kernel.limits import REQUESTS_PER_S_MAX, SIGN_INS_BURST, SIGN_INS_PER_S_MAX
from sextant.server.protocols.misdirected import NOT_KNOWN, Ports, misplaced

COOKIE = "sextant_session"
SESSION = f"{API}/session"
LINK = f"{SESSION}/link"  # signing in by a link that `sextant up` printed
INTERNAL = "/internal/"
# health for whoever supervises; signing in must be possible without a token
_OPEN = {"/healthz", "/readyz", SESSION, LINK}
_PORT = re.compile(r":\d*$")  # behind a host's name; an IPv6 address stands in brackets


class Admission(NamedTuple):
    """What is known of the caller of a request.

    grant  None where the path is open to everybody, or internal
    renew  looks the grant up again: a token may be revoked while a stream goes on
    hide   removes from an error's text what this caller must not see; None = nothing
    """

    grant: Grant | None
    renew: Callable[[], Grant | None]
    hide: Callable[[str], str] | None


class Authentication:
    """Admits requests: sets their `state` to an Admission, or raises.

    hosts     names under which the server may be called: a page of another site cannot reach it
              by its own name (DNS rebinding)
    internal  the secret of Sextant's own processes; "" = none of them may call
    hide      applied to errors of callers who are not administrators
    ports     where telemetry is sent that came here
    is_open   says of a request that it is for what everybody may read: the page's files
    """

    def __init__(
        self,
        access: Access,
        clock: Clock,
        *,
        hosts: tuple[str, ...],
        internal: str,
        refusals: Refusals,
        hide: Callable[[str], str],
        ports: Ports = NOT_KNOWN,
        is_open: Callable[[Request], bool] = lambda _: False,
    ) -> None:
        self._access, self._hosts, self._internal = access, hosts, internal
        self._refusals, self._hide, self._ports = refusals, hide, ports
        self._is_open = is_open
        self._pace = Pace(clock, REQUESTS_PER_S_MAX)
        self._sign_ins = Pace(clock, SIGN_INS_PER_S_MAX, SIGN_INS_BURST)

    async def admit(self, request: Request) -> None:
        """Raise Denied (401, 403), UsageError (429) or NotFound for a request that is refused."""
        self._check_host(request)
        path = request.path.rstrip("/")
        if "//" in path:  # what is judged here must be what is routed
            raise NotFound("SX-API-010", f"there is nothing at `{path}`")
        if path.startswith(INTERNAL):
            self._check_internal(request)
            return
        grant = self._grant(request.headers)
        caller = str(grant.principal) if grant else request.address
        signs_in = path in (SESSION, LINK) and request.method == "POST"
        self._check_pace(request, caller, signs_in=signs_in)
        sees_all = grant is None or grant.principal.is_administrator
        request.state = Admission(
            grant, lambda: self._grant(request.headers), None if sees_all else self._hide
        )
        if grant is not None and not signs_in:  # signing in may come with an older cookie
            self._check_csrf(request, grant, caller)
        if path not in _OPEN and not self._is_open(request):
            self._check_grant(request, path, grant, caller)

    def _check_host(self, request: Request) -> None:
        host = _PORT.sub("", request.headers.get("host", "")).strip("[]").lower()
        if host not in self._hosts:
            self._refusals.add("", "host")
            raise UsageError(
                "SX-API-006",
                f"this server is not called `{host}`",
                hint="name it under `hosts` of [server] in sextant.toml",
            )

    def _check_internal(self, request: Request) -> None:
        if not same_secret(request.headers.get("x-sextant-internal", ""), self._internal):
            self._refusals.add(request.address, "internal")
            raise Denied("SX-API-001", "this path is for Sextant's own processes", status=401)

    def _check_pace(self, request: Request, caller: str, *, signs_in: bool) -> None:
        wait = self._pace.wait_s(caller)
        if wait:
            self._refusals.add(caller, "pace")
            raise UsageError(
                "SX-API-002",
                f"more than {REQUESTS_PER_S_MAX:g} requests a second",
                hint=f"wait {wait:.1f} s",
                status=429,
            )
        if signs_in:
            self._check_origin(request)
        # passwords are guessed; and each try is expensive
        if signs_in and (wait := self._sign_ins.wait_s(request.address)):
            self._refusals.add(request.address, "pace of signing in")
            raise UsageError(
                "SX-API-002",
                f"more than {SIGN_INS_BURST} tries to sign in",
                hint=f"wait {wait:.1f} s",
                status=429,
            )

    def _check_origin(self, request: Request) -> None:
        """Refuse a sign-in that a page of another site sends: its reader would act as somebody
        else without knowing (login CSRF). Programs do not send the header."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            self._refusals.add(request.address, "origin")
            raise Denied(
                "SX-API-022",
                "a page of another site cannot sign anybody in here",
                hint="open the address of this server, and sign in there",
            )

    def _check_csrf(self, request: Request, grant: Grant, caller: str) -> None:
        is_write = request.method not in ("GET", "HEAD", "OPTIONS")
        if (
            grant.csrf
            and is_write
            and not same_secret(request.headers.get("x-csrf-token", ""), grant.csrf)
        ):
            self._refusals.add(caller, "csrf")
            raise Denied(
                "SX-API-007",
                "a write of a browser must carry the session's X-CSRF-Token",
                hint="signing in gives it",
            )

    def _check_grant(self, request: Request, path: str, grant: Grant | None, caller: str) -> None:
        elsewhere = misplaced(path, self._ports)
        if elsewhere:  # an exporter with the wrong port: its token may be for telemetry only
            raise NotFound(
                "SX-API-019", f"the API takes no telemetry: `{path[:80]}`", hint=elsewhere
            )
        if grant is None:
            self._refusals.add(request.address, "token")
            raise Denied(
                "SX-API-001",
                "this needs a token that is valid",
                hint=(
                    "Authorization: Bearer sxt_..., for commands SEXTANT_TOKEN; `sextant token "
                    "create NAME` makes one"
                ),
                status=401,
            )
        if "api" not in grant.scopes:
            self._refusals.add(caller, "scope")
            raise Denied(
                "SX-API-003",
                f"the token of `{grant.principal}` does not open the API",
                hint=f"it is for {', '.join(grant.scopes)}; make one with the scope api",
            )

    def _grant(self, headers: Mapping[str, str]) -> Grant | None:
        if "authorization" in headers:
            return self._access.grant(token_of(headers))
        cookie = cookie_of(headers)
        return self._access.session(cookie) if cookie else None


def cookie_of(headers: Mapping[str, str]) -> str:
    """Return the session's cookie, "" when there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
