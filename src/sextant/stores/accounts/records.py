"""Accounts, tokens and sessions as records. Made by `app/access.py`, kept by the backends."""

import msgspec


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A person's account. `password` is an Argon2id hash; `disabled_at` 0 = may sign in. Times are
    ns since the epoch."""

    name: str
    role: str
    teams: tuple[str, ...]
    password: str
    created_at: int
    disabled_at: int = 0


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token's record. `hash` is SHA-256 of the secret text; `expires_at` and `revoked_at` 0 =
    never.

    root    the person who answers for it; "" = nobody does, and it opens nothing
    parent  what its maker came with: id of a token, or `account:NAME`; "" = he worked on the
            project's folder
    """

    id: str
    hash: bytes
    name: str
    kind: str
    role: str
    scopes: tuple[str, ...]
    teams: tuple[str, ...]
    on_behalf_of: str
    made_by: str
    created_at: int
    expires_at: int
    revoked_at: int = 0
    used_at: int = 0
    root: str = ""
    parent: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in browser. `hash` is SHA-256 of the cookie; `csrf` is what its writes must carry in
    a header.

    person  who signed in
    how     `password`: by an account; `link`: by a link that `sextant up` printed, without one
    """

    hash: bytes
    id: str
    person: str
    how: str
    csrf: str
    created_at: int
    expires_at: int


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link that signs a person in once. `hash` is SHA-256 of its secret."""

    hash: bytes
    person: str
    expires_at: int
