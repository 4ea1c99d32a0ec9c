"""Who may come in: accounts, tokens and sessions of one project, and the principal that each stands
for.

Called by the server for every request and by the commands that make tokens. What changes here is an
event of the ledger, without secrets.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sextant.app.answers import AccountSeen, TokenMade, TokenSeen
from sextant.kernel.clock import NS, iso
from sextant.kernel.errors import Denied, NotFound, UsageError
from sextant.kernel.limits import SESSION_S, TOKEN_DAYS_MAX
from sextant.kernel.nouns import Event, Principal
from sextant.kernel.ports import Write
from sextant.stores.access import AccessStore, Account, Session, Token

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

ROLES = ("viewer", "operator", "admin")
SCOPES = ("api", "ingest", "query")
PREFIX = "sxt_"
_USED_EVERY_NS = 60 * NS  # how exactly the last use of a token is kept
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
# NIST SP 800-63B asks for 8 at least, and more where nothing else protects
_PASSWORD_CHARS_MIN = 12


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token or a session allows: who it stands for, the role, and the doors that it opens
    (`scopes`)."""

    principal: Principal
    role: str
    scopes: tuple[str, ...]
    token: str = ""
    csrf: str = ""
    expires_at: int = 0


class Access:
    """Accounts, tokens and sessions of one project."""

    def __init__(self, platform: "LocalPlatform") -> None:
        self._p = platform
        self.store = AccessStore(platform.folder / "access.db")

    def close(self) -> None:
        self.store.close()

    # ------------------------------------------------------------ coming in

    def grant(self, text: str) -> Grant | None:
        """Return what a token allows; None for one that is unknown, expired or revoked."""
        if not text.startswith(PREFIX):
            return None
        now = self._p.clock.now_ns()
        found = self.store.token_by_hash(_hash(text))
        if found is None or found.revoked_at or (found.expires_at and found.expires_at <= now):
            return None
        if now - found.used_at > _USED_EVERY_NS:
            self.store.token_used(found.id, now)
        kind = found.kind if found.kind in ("person", "agent") else "token"
        principal = msgspec.convert(
            {
                "name": found.name,
                "kind": kind,
                "teams": found.teams,
                "on_behalf_of": found.on_behalf_of,
                "role": found.role,
            },
            Principal,
        )
        return Grant(
            principal=principal,
            role=found.role,
            scopes=found.scopes,
            token=found.id,
            expires_at=found.expires_at,
        )

    def sign_in(self, name: str, password: str) -> tuple[str, Session] | None:
        """Return a new session and its cookie; None for a wrong name or password. Costs the same
        time for both."""
        from argon2 import PasswordHasher
        from argon2.exceptions import VerificationError

        hasher = PasswordHasher()
        account = self.store.account(name)
        usable = account is not None and not account.disabled_at
        try:
            hasher.verify(account.password if account and usable else _nobody(), password)
        except VerificationError:
            return None
        if not usable:
            return None
        now = self._p.clock.now_ns()
        cookie = secrets.token_urlsafe(32)
        session = Session(
            hash=_hash(cookie),
            account=name,
            csrf=secrets.token_urlsafe(16),
            created_at=now,
            expires_at=now + SESSION_S * NS,
        )
        self.store.add_session(session, now)
        return cookie, session

    def session(self, cookie: str) -> Grant | None:
        """Return what a browser's session allows; None when it has ended."""
        found = self.store.session(_hash(cookie))
        if found is None or found.expires_at <= self._p.clock.now_ns():
            return None
        account = self.store.account(found.account)
        if account is None or account.disabled_at:
            return None
        principal = msgspec.convert(
            {"name": account.name, "kind": "person", "teams": account.teams, "role": account.role},
            Principal,
        )
        return Grant(
            principal=principal,
            role=account.role,
            scopes=SCOPES,
            csrf=found.csrf,
            expires_at=found.expires_at,
        )

    def sign_out(self, cookie: str) -> None:
        self.store.end_session(_hash(cookie))

    # ------------------------------------------------------------ tokens

    def tokens(self, by: Principal) -> list[TokenSeen]:
        """Return the tokens: all for an administrator (and for who works on the project's folder),
        else one's own."""
        return [_seen(one) for one in self.store.tokens() if by.is_administrator or _mine(one, by)]

    def create_token(
        self,
        name: str,
        *,
        by: Principal,
        kind: str = "token",
        role: str = "viewer",
        scopes: Sequence[str] = (),
        teams: Sequence[str] = (),
        on_behalf_of: str = "",
        days: int = 90,
    ) -> TokenMade:
        """Make a token. Nobody can give what he has not: neither a higher role, nor another team,
        nor another's name."""
        _name(name)
        if role not in ROLES:
            raise UsageError(
                "SX-ACCESS-010", f"`{role}` is not a role", hint=f"one of {', '.join(ROLES)}"
            )
        wrong = [scope for scope in scopes if scope not in SCOPES]
        if wrong:
            raise UsageError(
                "SX-ACCESS-011", f"`{wrong[0]}` is not a scope", hint=f"some of {', '.join(SCOPES)}"
            )
        if not 1 <= days <= TOKEN_DAYS_MAX:
            raise UsageError(
                "SX-ACCESS-012",
                f"a token for {days} days cannot be made",
                hint=f"from 1 to {TOKEN_DAYS_MAX}; make a new one before it expires",
            )
        if not by.is_administrator:
            if ROLES.index(role) > ROLES.index(by.role) or not set(teams) <= set(by.teams):
                raise Denied(
                    "SX-ACCESS-013",
                    f"`{by}` cannot give the role `{role}`"
                    + (f" of {', '.join(teams)}" if teams else ""),
                    hint="an administrator can",
                )
            if kind == "person" and (by.kind != "person" or name != by.name):
                raise Denied(
                    "SX-ACCESS-014",
                    f"`{by}` cannot make a token for `{name}`",
                    hint="only for yourself, or a token for a team or an agent",
                )
        if kind == "agent" and not on_behalf_of:
            on_behalf_of = by.name if by.kind == "person" else str(by)
        if (
            kind == "agent"
            and not by.is_administrator
            and on_behalf_of not in (by.name if by.kind == "person" else str(by), *by.teams)
        ):
            raise Denied(
                "SX-ACCESS-014",
                f"`{by}` cannot send an agent on behalf of `{on_behalf_of}`",
                hint="only on behalf of yourself or your team",
            )
        if not by.is_administrator and any(
            one.name == name and one.kind == kind and not _mine(one, by)
            for one in self.store.tokens()
        ):
            raise Denied(
                "SX-ACCESS-014",
                f"`{kind}:{name}` is somebody else's token",
                hint="take another name",
            )  # the ledger could not tell them apart
        opens = tuple(sorted(set(scopes))) or (("api", "query") if role == "viewer" else SCOPES)
        now = self._p.clock.now_ns()
        id_ = self._p.ids.new("tok")
        secret = PREFIX + secrets.token_urlsafe(32)
        one = Token(
            id=id_,
            hash=_hash(secret),
            name=name,
            kind=kind,
            role=role,
            scopes=opens,
            teams=tuple(teams),
            on_behalf_of=on_behalf_of,
            made_by=str(by),
            created_at=now,
            expires_at=now + days * 86400 * NS,
        )
        self.store.add_token(one)
        said = {
            "id": id_,
            "name": name,
            "kind": kind,
            "role": role,
            "scopes": list(opens),
            "teams": list(teams),
            "on_behalf_of": on_behalf_of,
            "expires_at": one.expires_at,
        }
        self._tell(self._p.event("token.created", id_, said, by, ""))
        return {**_seen(one), "secret": secret}

    def revoke_token(self, id_: str, *, by: Principal) -> None:
        """Revoke a token. NotFound for one that is unknown, revoked, or somebody else's."""
        found = next((one for one in self.store.tokens() if one.id == id_), None)
        if (
            found is None
            or not (by.is_administrator or _mine(found, by))
            or not self.store.revoke_token(id_, self._p.clock.now_ns())
        ):
            raise NotFound(
                "SX-ACCESS-015",
                f"there is no token `{id_}` to revoke",
                hint="`sextant token list` lists them",
            )
        self._tell(self._p.event("token.revoked", id_, {"id": id_, "name": found.name}, by, ""))

    def made_by(self, name: str, by: Principal) -> bool:
        """Say whether `by` made a token for a program of that name."""
        return any(
            one.kind == "token" and one.name == name and one.made_by == str(by)
            for one in self.store.tokens()
        )

    def first(self) -> TokenMade | None:
        """Return a new administrator's token when there has never been one: what the first start
        prints, once."""
        if self.store.tokens():
            return None
        return self.create_token("admin", by=self._p.system, role="admin", days=TOKEN_DAYS_MAX)

    # ------------------------------------------------------------ accounts

    def accounts(self, by: Principal) -> list[AccountSeen]:
        _administrators_only(by)
        return [_account_seen(one) for one in self.store.accounts()]

    def create_account(
        self,
        name: str,
        password: str,
        *,
        by: Principal,
        role: str = "viewer",
        teams: Sequence[str] = (),
    ) -> AccountSeen:
        """Make an account. UsageError for a short password; Conflict for a taken name."""
        from argon2 import PasswordHasher

        _administrators_only(by)
        _name(name)
        if role not in ROLES:
            raise UsageError(
                "SX-ACCESS-010", f"`{role}` is not a role", hint=f"one of {', '.join(ROLES)}"
            )
        if len(password) < _PASSWORD_CHARS_MIN:
            raise UsageError(
                "SX-ACCESS-016",
                f"a password of {len(password)} characters is too short",
                hint=f"at least {_PASSWORD_CHARS_MIN}",
            )
        one = Account(
            name=name,
            role=role,
            teams=tuple(teams),
            password=PasswordHasher().hash(password),
            created_at=self._p.clock.now_ns(),
        )
        self.store.add_account(one)
        self._tell(
            self._p.event(
                "account.created", name, {"name": name, "role": role, "teams": list(teams)}, by, ""
            )
        )
        return _account_seen(one)

    def disable_account(self, name: str, *, by: Principal) -> None:
        """Disable an account. NotFound."""
        _administrators_only(by)
        if not self.store.disable_account(name, self._p.clock.now_ns()):
            raise NotFound(
                "SX-ACCESS-017",
                f"there is no account `{name}` to disable",
                hint="`sextant account list` lists them",
            )
        self._tell(self._p.event("account.disabled", name, {"name": name}, by, ""))

    def _tell(self, event: Event) -> None:
        self._p.state.commit(Write((), (event,)))


def same(one: str, other: str) -> bool:
    """Compare two secrets in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _nobody() -> str:
    """Return a hash that no password has: verifying it takes as long as a real one."""
    return (
        "$argon2id$v=19$m=65536,t=3,p=4$bm9ib2R5bm9ib2R5MTIzNA"
        "$u0WwW1uJX3lX0n1uTq2TnUO3o1m8XzBvN3bGkZ0v1gA"
    )


def _name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            "SX-ACCESS-018",
            f"`{name}` is not a name",
            hint="letters, digits, _ . @ and -, starting with a letter or digit",
        )


def _administrators_only(by: Principal) -> None:
    if not by.is_administrator:
        raise Denied(
            "SX-ACCESS-019",
            f"`{by}` is no administrator",
            hint="an administrator's token is needed",
        )


def _mine(one: Token, by: Principal) -> bool:
    return one.made_by == str(by) or (one.kind == by.kind == "person" and one.name == by.name)


def _seen(one: Token) -> TokenSeen:
    return {
        "id": one.id,
        "name": one.name,
        "kind": one.kind,
        "role": one.role,
        "scopes": list(one.scopes),
        "teams": list(one.teams),
        "on_behalf_of": one.on_behalf_of,
        "created_at": iso(one.created_at),
        "expires_at": iso(one.expires_at) if one.expires_at else "",
        "revoked_at": iso(one.revoked_at) if one.revoked_at else "",
        "used_at": iso(one.used_at) if one.used_at else "",
    }


def _account_seen(one: Account) -> AccountSeen:
    return {
        "name": one.name,
        "role": one.role,
        "teams": list(one.teams),
        "created_at": iso(one.created_at),
        "disabled": bool(one.disabled_at),
    }
