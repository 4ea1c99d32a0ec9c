"""The token of a request, and what resolves it. No knowledge of accounts is here."""

import base64
import contextlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol


class Caller(Protocol):
    """The principal of a token.

    name    of the token
    person  who answers for it
    owner   the team that owns what it sends, "" for none
    scopes  which endpoints it opens
    """

    @property
    def name(self) -> str: ...

    @property
    def person(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...


# None for a token that is unknown, expired or revoked; WorldError when that cannot be found out
Resolve = Callable[[str], Awaitable[Caller | None]]


def token_of(headers: Mapping[str, str]) -> str:
    """Return the token of a request: of Bearer, or the password of Basic; "" for none.

    headers  with names in lower case
    """
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return ""


def same_secret(one: str, other: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ. An empty one equals
    nothing."""
    return bool(other) and hmac.compare_digest(one.encode(), other.encode())
