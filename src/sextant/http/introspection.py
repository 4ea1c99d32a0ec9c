"""The principal of a token, as the coordinator knows it: cached for a moment, and for longer while
the coordinator does not answer.

Used by both endpoints of the telemetry process. Source: RFC 7662 (token introspection).
"""

import asyncio
import hashlib
import time
from collections import OrderedDict

import msgspec

from sextant.http.client import Client, NoAnswerError
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


class Grants:
    """Answers of one coordinator. `api` "" = there is none, and no token is good."""

    def __init__(self, api: str, secret: str) -> None:
        self._client = Client(api, timeout_s=_TIMEOUT_S) if api else None
        self._headers = {"Content-Type": "application/json", "X-Sextant-Internal": secret}
        self._known: OrderedDict[bytes, tuple[float, Grant]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Grant]] = {}
        self._reached: tuple[float, asyncio.Future[bool]] | None = None

    async def of(self, token: str) -> Grant | None:
        """Return what a token allows, None when it is no good. WorldError when that cannot be told
        now."""
        if self._client is None or not token:
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
        if self._client is None:
            return False
        try:
            self._ask("")
        except WorldError:
            return False
        return True

    def _ask(self, token: str) -> Grant:
        assert self._client is not None
        body = msgspec.json.encode({"token": token})
        try:
            reply = self._client.send(
                "POST", "/internal/introspect", body, self._headers, resend=True
            )
            if reply.status != 200:
                raise WorldError(
                    "SX-INTAKE-050",
                    f"the coordinator answers {reply.status}",
                    hint="send it again in a moment",
                    retry_after_s=limits.RETRY_AFTER_S,
                )
            return msgspec.json.decode(reply.body, type=Grant)
        except (NoAnswerError, msgspec.DecodeError) as error:
            raise WorldError(
                "SX-INTAKE-050",
                "the coordinator, which knows the tokens, does not answer",
                hint="send it again in a moment",
                retry_after_s=limits.RETRY_AFTER_S,
            ) from error
