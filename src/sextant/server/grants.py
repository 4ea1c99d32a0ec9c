"""Whom a token stands for: asked of the coordinator, remembered for a moment, and for longer while
the coordinator is away.

Used by both doors of the telemetry process. Source: RFC 7662 (token introspection).
"""

import asyncio
import base64
import contextlib
import hashlib
import http.client
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from sextant.kernel import limits
from sextant.kernel.errors import WorldError

_REACHED_S = 1.0  # so long an answer to who asks for readiness is kept
_TIMEOUT_S = 5.0
_REMEMBERED_MAX = 10_000


class Grant(msgspec.Struct, frozen=True):
    """What introspection says of a token."""

    active: bool
    name: str = ""
    person: str = ""  # who answers for it
    kind: str = ""
    teams: tuple[str, ...] = ()
    role: str = ""
    scopes: tuple[str, ...] = ()
    owner: str = ""
    expires_at: int = 0


def token_of(headers: Mapping[str, str]) -> str:
    """Return the token that a request brings: as a bearer, or as the password of Basic; "" when it
    brings none. Names in lower case."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return ""


class Grants:
    """Answers of one coordinator. `api` "" = there is none, and no token is good."""

    def __init__(self, api: str, secret: str) -> None:
        self._api, self._secret = urllib.parse.urlsplit(api), secret
        self._known: OrderedDict[bytes, tuple[float, Grant]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Grant]] = {}
        self._reached: tuple[float, asyncio.Future[bool]] | None = None

    async def of(self, token: str) -> Grant | None:
        """Return what a token allows, None when it is no good. WorldError when that cannot be told
        now."""
        if not self._api.netloc or not token:
            return None
        key = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        known = self._known.get(key)
        if known is None or now - known[0] > limits.GRANT_FRESH_S:
            task = self._asking.get(key)
            if task is None:  # many requests with one token ask once
                task = self._asking[key] = asyncio.ensure_future(
                    asyncio.to_thread(self._ask, token)
                )
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            try:
                grant = await asyncio.shield(task)
                known = (now, grant)
                self._known[key] = known
                self._known.move_to_end(key)
                while len(self._known) > _REMEMBERED_MAX:
                    self._known.popitem(last=False)
            except WorldError:
                if known is None or now - known[0] > limits.GRANT_STALE_S:
                    raise
        grant = known[1]
        return (
            grant
            if grant.active and not (grant.expires_at and grant.expires_at <= time.time_ns())
            else None
        )

    async def reachable(self) -> bool:
        """Say whether the coordinator tells about tokens now. Asked by anybody, so it is asked at
        most once a second."""
        if self._reached is None or time.monotonic() - self._reached[0] > _REACHED_S:
            began = time.monotonic()
            self._reached = (began, asyncio.ensure_future(asyncio.to_thread(self._answers)))
        return await asyncio.shield(self._reached[1])

    def _answers(self) -> bool:
        try:
            self._ask("")
        except WorldError:
            return False
        return True

    def _ask(self, token: str) -> Grant:
        link = http.client.HTTPConnection(self._api.netloc, timeout=_TIMEOUT_S)
        try:
            link.request(
                "POST",
                "/internal/introspect",
                msgspec.json.encode({"token": token}),
                {"Content-Type": "application/json", "X-Sextant-Internal": self._secret},
            )
            answer = link.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise WorldError(
                    "SX-INTAKE-050",
                    f"the coordinator answers {answer.status}",
                    hint="send it again in a moment",
                    retry_after_s=limits.RETRY_AFTER_S,
                )
            return msgspec.json.decode(data, type=Grant)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise WorldError(
                "SX-INTAKE-050",
                "the coordinator, which knows the tokens, does not answer",
                hint="send it again in a moment",
                retry_after_s=limits.RETRY_AFTER_S,
            ) from error
        finally:
            link.close()
