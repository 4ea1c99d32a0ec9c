"""Who may come in: accounts, tokens and sessions of one project, and the principal that each stands
for.

Called by the server for every request and by the commands that make tokens. What changes here is an
event of the ledger, without secrets.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sextant.app.operations.row import ROLES
from sextant.core import Core
from sextant.kernel.answers import AccountSeen, SessionSeen, TokenMade, TokenSeen
from sextant.kernel.clock import NS, iso
from sextant.kernel.errors import Denied, NotFound, UsageError
from sextant.kernel.limits import (
    SESSION_S,
    SIGN_IN_LINK_S,
    TOKEN_DAYS_MAX,
    TOKEN_LINE_MAX,
    TOKENS_PER_AGENT_MAX,
    TOKENS_PER_PERSON_MAX,
)
from sextant.kernel.nouns import SCOPES, SYSTEM, Event, Principal
from sextant.kernel.ports import Write
from sextant.ledger.log import entries
from sextant.project.config import login
from sextant.stores.accounts.records import Account, Link, Session, Token
from sextant.stores.accounts.sqlite import AccessStore

LOOKING = ("api", "query")  # the scopes of who looks
PREFIX = "sxt_"
_ACCOUNT = "account:"  # what hangs on an account instead of a token
_USED_EVERY_NS = 60 * NS  # how exactly the last use of a token is kept
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
# NIST SP 800-63B asks for 8 at least, and more where nothing else protects
_PASSWORD_CHARS_MIN = 12


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token or a session allows: who it stands for, the role, and what it may be used
    for (`scopes`)."""

    principal: Principal
    role: str
    scopes: tuple[str, ...]
    token: str = ""
    csrf: str = ""
    expires_at: int = 0


class Standing(NamedTuple):
    """What a token allows by all that it was made with, and by the project's word about persons.
    `expires_at` in ns."""

    role: str
    scopes: tuple[str, ...]
    teams: tuple[str, ...]
    expires_at: int
    makers: tuple[str, ...]


class Access:
    """Accounts, tokens and sessions of one project."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.store = AccessStore(core.project.folder / "access.db")
        self._find_persons()

    def close(self) -> None:
        self.store.close()

    # ------------------------------------------------------------ coming in

    def grant(self, text: str) -> Grant | None:
        """Return what a token allows; None for one that is unknown or does not hold any more."""
        if not text.startswith(PREFIX):
            return None
        now = self._core.clock.now_ns()
        found = self.store.token_by_hash(_hash(text))
        standing = self._standing(found, now) if found else None
        if found is None or not isinstance(standing, Standing):
            return None
        if now - found.used_at > _USED_EVERY_NS:
            self.store.token_used(found.id, now)
        return Grant(
            principal=_principal(found, standing),
            role=standing.role,
            scopes=standing.scopes,
            token=found.id,
            expires_at=standing.expires_at,
        )

    def _standing(self, token: Token, now: int) -> "Standing | str":
        """Return what a token allows: no more than each that it was made with, and no longer. Why
        it allows nothing, as words."""
        line = self.store.line(token.id, TOKEN_LINE_MAX + 1)
        first = line[-1]
        if len(line) > TOKEN_LINE_MAX:
            return f"more than {TOKEN_LINE_MAX} tokens were made one with the other"
        holder: Principal | None = None  # who made the next one
        role = "admin"
        scopes: tuple[str, ...] = SCOPES
        ends = 0
        if first.parent.startswith(_ACCOUNT):
            account = self.store.account(first.parent.removeprefix(_ACCOUNT))
            if account is None or account.disabled_at:
                return f"the account `{first.parent.removeprefix(_ACCOUNT)}` is disabled"
            holder = self._person(account)
            role, scopes = account.role, holder.scopes
        elif first.parent:
            return "the token that it was made with is gone"
        for one in reversed(line):
            itself = one.id == token.id
            wrong = self._ended(one, now)
            if wrong:
                return wrong if itself else f"`{one.kind}:{one.name}`, its maker: {wrong}"
            teams = one.teams
            if one.kind == "person":
                teams = self._core.authorization.teams_of(one.name, teams)
            if holder is not None and not holder.is_administrator:
                teams = tuple(team for team in teams if team in holder.teams)
            makers: tuple[str, ...] = _first_maker(one)
            if holder is not None:
                makers = (*holder.makers, holder.sender)
            role = min(role, one.role, key=ROLES.index)
            scopes = tuple(scope for scope in scopes if scope in one.scopes)
            ends = min((end for end in (ends, one.expires_at) if end), default=0)
            standing = Standing(role, scopes, teams, ends, tuple(dict.fromkeys(makers)))
            holder = _principal(one, standing)
        return standing

    def _ended(self, one: Token, now: int) -> str:
        """Return why a token does not hold by itself, "" when it does."""
        if one.revoked_at:
            return f"revoked {iso(one.revoked_at)[:10]}"
        if one.expires_at and one.expires_at <= now:
            return f"ended {iso(one.expires_at)[:10]}"
        if not one.root:
            return "nobody answers for it"
        account = self.store.account(one.root)
        if account is not None and account.disabled_at:
            return f"the account `{one.root}`, who answers for it, is disabled"
        return ""

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
        if account is None or not usable:
            return None
        return self._begin_session(name, "password", self._person(account))

    def create_link(self) -> str:
        """Return the secret of a link that signs in whoever works on the project's folder, as an
        administrator: once, within SIGN_IN_LINK_S seconds. Only a hash of it is kept."""
        now = self._core.clock.now_ns()
        secret = secrets.token_urlsafe(32)
        link = Link(hash=_hash(secret), person=login(), expires_at=now + SIGN_IN_LINK_S * NS)
        self.store.add_link(link, now)
        return secret

    def follow_link(self, secret: str) -> tuple[str, Session] | None:
        """Return a new session and its cookie; None for a link that was used, has expired, or is
        not known."""
        link = self.store.take_link(_hash(secret), self._core.clock.now_ns())
        if link is None or self._is_disabled(link.person):
            return None
        return self._begin_session(link.person, "link", self._person_of_link(link.person))

    def _begin_session(self, person: str, how: str, by: Principal) -> tuple[str, Session]:
        now = self._core.clock.now_ns()
        cookie = secrets.token_urlsafe(32)
        session = Session(
            hash=_hash(cookie),
            id=self._core.ids.new("ses"),
            person=person,
            how=how,
            csrf=secrets.token_urlsafe(16),
            created_at=now,
            expires_at=now + SESSION_S * NS,
        )
        self.store.add_session(session, now)
        said = {"id": session.id, "person": person, "how": how}
        self._tell(self._core.events.make("session.started", session.id, said, by, ""))
        return cookie, session

    def session(self, cookie: str) -> Grant | None:
        """Return what a browser's session allows; None when it has ended."""
        found = self._found_session(cookie)
        by = self._person_of_session(found) if found else None
        if found is None or by is None:
            return None
        return Grant(
            principal=by,
            role=by.role,
            scopes=by.scopes,
            csrf=found.csrf,
            expires_at=found.expires_at,
        )

    def _found_session(self, cookie: str) -> Session | None:
        found = self.store.session(_hash(cookie))
        return found if found and found.expires_at > self._core.clock.now_ns() else None

    def _person_of_session(self, session: Session) -> Principal | None:
        """Return whom a session stands for; None when it does not hold any more."""
        if session.how == "link":
            disabled = self._is_disabled(session.person)
            return None if disabled else self._person_of_link(session.person)
        account = self.store.account(session.person)
        return None if account is None or account.disabled_at else self._person(account)

    def _is_disabled(self, person: str) -> bool:
        account = self.store.account(person)
        return account is not None and bool(account.disabled_at)

    def _person(self, account: Account) -> Principal:
        return Principal(
            name=account.name,
            teams=self._core.authorization.teams_of(account.name, account.teams),
            role=account.role,
            scopes=LOOKING if account.role == "viewer" else SCOPES,
            root=account.name,
            credential=f"{_ACCOUNT}{account.name}",
        )

    def _person_of_link(self, name: str) -> Principal:
        """Return who signed in by a link: he works on the project's folder, where he may do
        everything, so that what he makes hangs on nothing."""
        teams = self._core.authorization.teams_of(name, ())
        return Principal(name=name, teams=teams, role="admin", root=name)

    def sign_out(self, cookie: str) -> None:
        found = self._found_session(cookie)
        by = self._person_of_session(found) if found else None
        if found and by:
            self._end_session(found, by)

    def sessions(self, by: Principal) -> list[SessionSeen]:
        """Return the sessions that have not ended: all for an administrator (and for who works on
        the project's folder), a person's own, nobody's for programs and agents."""
        found = self.store.sessions(self._core.clock.now_ns())
        return [self._session_seen(one) for one in found if _is_own(one, by)]

    def revoke_session(self, id_: str, *, by: Principal) -> None:
        """End a session. NotFound for one that is unknown, has ended, or is somebody else's."""
        found = self.store.sessions(self._core.clock.now_ns())
        session = next((one for one in found if one.id == id_ and _is_own(one, by)), None)
        if session is None or not self._end_session(session, by):
            raise NotFound(
                "SX-ACCESS-028",
                f"there is no session `{id_}` to revoke",
                hint="`sextant session list` lists them",
            )

    def _end_session(self, session: Session, by: Principal) -> bool:
        if not self.store.end_session(session.id):
            return False
        said = {"id": session.id, "person": session.person, "how": session.how}
        self._tell(self._core.events.make("session.ended", session.id, said, by, ""))
        return True

    def _session_seen(self, one: Session) -> SessionSeen:
        by = self._person_of_session(one)
        return {
            "id": one.id,
            "person": one.person,
            "role": by.role if by else "",
            "how": one.how,
            "created_at": iso(one.created_at),
            "expires_at": iso(one.expires_at),
        }

    # ------------------------------------------------------------ tokens

    def tokens(self, by: Principal) -> list[TokenSeen]:
        """Return the tokens: all for an administrator (and for who works on the project's folder);
        for a person those that he answers for; else its own and what was made with it."""
        return [self._seen(one) for one in self.store.tokens() if self._is_under(one, by)]

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
        """Make a token. Nobody can give what he has not: no higher role, no other scope or team, no
        longer life, nobody else's name; and an agent makes only agents for the same person."""
        _name(name)
        if on_behalf_of:
            _name(on_behalf_of)
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
        now = self._core.clock.now_ns()
        ends = self._may_make(by, kind, name, role, scopes, teams, on_behalf_of, now)
        root = self._root_of_new(by, kind, name, on_behalf_of)
        self._check_root(root, by, now)
        wanted = tuple(sorted(set(scopes))) or (LOOKING if role == "viewer" else SCOPES)
        one = Token(
            id=self._core.ids.new("tok"),
            hash=_hash(secret := PREFIX + secrets.token_urlsafe(32)),
            name=name,
            kind=kind,
            role=role,
            scopes=tuple(scope for scope in wanted if scope in by.scopes),
            teams=tuple(teams),
            on_behalf_of=(on_behalf_of or root) if kind == "agent" else on_behalf_of,
            made_by=str(by),
            created_at=now,
            expires_at=min(end for end in (now + days * 86400 * NS, ends) if end),
            root=root,
            parent=by.credential,
        )
        self.store.add_token(one)
        said = {
            "id": one.id,
            "name": name,
            "kind": kind,
            "role": role,
            "scopes": list(one.scopes),
            "teams": list(teams),
            "on_behalf_of": one.on_behalf_of,
            "root": root,
            "parent": one.parent,
            "expires_at": one.expires_at,
        }
        self._tell(self._core.events.make("token.created", one.id, said, by, ""))
        return {**self._seen(one), "secret": secret}

    def _may_make(
        self,
        by: Principal,
        kind: str,
        name: str,
        role: str,
        scopes: Sequence[str],
        teams: Sequence[str],
        on_behalf_of: str,
        now: int,
    ) -> int:
        """Return when what the maker came with ends (ns, 0 = never). Denied for what he cannot
        give."""
        if by.kind == "agent" and (kind != "agent" or on_behalf_of not in ("", by.on_behalf_of)):
            raise Denied(
                "SX-ACCESS-020",
                f"`{by}` makes only agents, for whom it acts itself",
                hint=f"a token for a program is made by `{by.person}`",
            )
        lacks = [f"the scope {scope}" for scope in scopes if scope not in by.scopes]
        if ROLES.index(role) > ROLES.index(by.role or "admin"):
            lacks.append(f"the role {role}")
        if not by.is_administrator:
            lacks += [f"the team {team}" for team in teams if team not in by.teams]
        if lacks:
            raise Denied(
                "SX-ACCESS-013",
                f"`{by}` cannot give {', '.join(lacks)}",
                hint="whoever has it can, and an administrator can name a team",
            )
        if not by.is_administrator:
            if kind == "person" and (by.kind != "person" or name != by.name):
                raise Denied(
                    "SX-ACCESS-014",
                    f"`{by}` cannot make a token for `{name}`",
                    hint="only for yourself, or a token for a team or an agent",
                )
            oneself = by.person if by.is_oneself or by.kind == "token" else ""
            if on_behalf_of not in ("", oneself, by.on_behalf_of, *by.teams):
                raise Denied(
                    "SX-ACCESS-014",
                    f"`{by}` cannot send an agent on behalf of `{on_behalf_of}`",
                    hint="only on behalf of yourself or your team",
                )
            if any(
                (one.name, one.kind) == (name, kind)
                and not _is_over(one, now)
                and not self._is_under(one, by)
                for one in self.store.tokens()
            ):
                raise Denied(
                    "SX-ACCESS-014",
                    f"`{kind}:{name}` is somebody else's token",
                    hint="take another name",
                )  # the ledger could not tell them apart
        if not by.credential or by.credential.startswith(_ACCOUNT):
            return 0
        line = self.store.line(by.credential, TOKEN_LINE_MAX)
        if len(line) >= TOKEN_LINE_MAX:
            raise UsageError(
                "SX-ACCESS-021",
                f"`{by}` came with a token at the end of {len(line)}, each made with the one "
                "before",
                hint=f"at most {TOKEN_LINE_MAX} hang together: make it with an earlier one",
            )
        standing = self._standing(line[0], now) if line else "it is gone"
        if not isinstance(standing, Standing):
            raise Denied(
                "SX-ACCESS-026",
                f"`{by}` came with a token that does not hold any more: {standing}",
                hint="come with another one",
            )
        return standing.expires_at

    def _root_of_new(self, by: Principal, kind: str, name: str, on_behalf_of: str) -> str:
        """Return who answers for a new token: whoever answers for its maker, also when an
        administrator makes it in somebody's name, until he hands it over. On the project's folder
        it is the person that the token is for."""
        if by.role:
            return by.person
        if kind == "person":
            return name
        if kind == "agent" and on_behalf_of and not self._is_team(on_behalf_of):
            return on_behalf_of
        return by.person or self._core.authorization.principal.person or login()

    def _is_team(self, name: str) -> bool:
        is_loaded = bool(self._core.state.read("project_get"))
        return is_loaded and any(team.name == name for team in self._core.project.manifest().teams)

    def _check_root(self, root: str, by: Principal, now: int) -> None:
        """Refuse a token for somebody who is sent away, or who has too many."""
        account = self.store.account(root)
        if account is not None and account.disabled_at:
            raise Denied(
                "SX-ACCESS-023",
                f"the account `{root}`, who would answer for the token, is disabled",
                hint="make it for somebody else",
            )
        held = sum(one.root == root and not _is_over(one, now) for one in self.store.tokens())
        made = sum(
            one.parent == by.credential and not _is_over(one, now) for one in self.store.tokens()
        )
        if by.kind == "agent" and made >= TOKENS_PER_AGENT_MAX:
            raise UsageError(
                "SX-ACCESS-027",
                f"`{by}` has made {made} tokens that have not ended",
                hint=f"an agent makes at most {TOKENS_PER_AGENT_MAX}; revoke those that are unused",
            )
        if held >= TOKENS_PER_PERSON_MAX:
            raise UsageError(
                "SX-ACCESS-022",
                f"`{root}` answers for {held} tokens",
                hint="revoke those that nothing uses: `sextant token list` says when each was used",
            )

    def revoke_token(self, id_: str, *, by: Principal) -> None:
        """Revoke a token; all that were made with it stop. NotFound for one that is unknown,
        revoked, or somebody else's."""
        found = next((one for one in self.store.tokens() if one.id == id_), None)
        if (
            found is None
            or not self._is_under(found, by)
            or not self.store.revoke_token(id_, self._core.clock.now_ns())
        ):
            raise NotFound(
                "SX-ACCESS-015",
                f"there is no token `{id_}` to revoke",
                hint="`sextant token list` lists them",
            )
        self._tell(
            self._core.events.make("token.revoked", id_, {"id": id_, "name": found.name}, by, "")
        )

    def hand_token(self, id_: str, person: str, *, by: Principal) -> TokenSeen:
        """Let another person answer for a token, and for all that were made with it: it hangs on
        his account from then on, or on nobody's when he has none. NotFound, UsageError."""
        _name(person)
        now = self._core.clock.now_ns()
        found = next((one for one in self.store.tokens() if one.id == id_), None)
        if found is None or _is_over(found, now):
            raise NotFound(
                "SX-ACCESS-024",
                f"there is no token `{id_}` to hand over",
                hint="one that was revoked or has ended is replaced by a new one",
            )
        if found.kind == "person" and found.name != person:
            raise UsageError(
                "SX-ACCESS-025",
                f"`{id_}` says that `{found.name}` is there",
                hint=f"`sextant token create {person} --kind person` makes one for `{person}`",
            )
        self._check_root(person, by, now)
        parent = f"{_ACCOUNT}{person}" if self.store.account(person) else ""
        self.store.place_token(id_, person, parent)
        said = {"id": id_, "name": found.name, "from": found.root, "to": person}
        self._tell(self._core.events.make("token.handed", id_, said, by, ""))
        return self._seen(self.store.line(id_, 1)[0])

    def _is_under(self, one: Token, by: Principal) -> bool:
        """Say whether a token is `by`'s to see and to revoke: an administrator's all, a person's
        those that he answers for, else what was made with what it came with."""
        if by.kind != "agent" and by.is_administrator:
            return True
        if by.is_oneself and one.root == by.name:
            return True
        line = self.store.line(one.id, TOKEN_LINE_MAX)
        return bool(by.credential) and by.credential in (above.id for above in line)

    def person_of_token(self, kind: str, name: str) -> str | None:
        """Return who answers for the tokens of a name; None when there is none, or several do."""
        roots = {one.root for one in self.store.tokens() if (one.kind, one.name) == (kind, name)}
        return roots.pop() or None if len(roots) == 1 else None

    def without_person(self) -> list[TokenSeen]:
        """Return the tokens that hold by themselves and open nothing, for nobody answers for
        them."""
        now = self._core.clock.now_ns()
        return [
            self._seen(one)
            for one in self.store.tokens()
            if not one.root and not _is_over(one, now)
        ]

    def _find_persons(self) -> None:
        """Give the tokens of earlier releases, which named their maker as text, the person of their
        making event, and what they hang on. Where that cannot be told they open nothing."""
        placed: list[Token] = []
        for one in reversed(self.store.tokens()):
            known = one
            if not one.root:
                root, parent = self._maker_of(one, placed)
                if root:
                    self.store.place_token(one.id, root, parent)
                    known = msgspec.structs.replace(one, root=root, parent=parent)
            placed.append(known)

    def _maker_of(self, one: Token, earlier: Sequence[Token]) -> tuple[str, str]:
        """Return who answers for a token of an earlier release and what it was made with; ("", "")
        when that cannot be told."""
        about = entries(self._core.state.read, "events_of_subject", (one.id, 1 << 62, 100))
        actor = next((e.envelope.actor for e in about if e.envelope.type == "token.created"), "")
        who, _, _ = actor.partition(" ")
        kind, _, name = who.partition(":")
        makers = [before for before in earlier if (before.kind, before.name) == (kind, name)]
        if kind == "person":
            root = one.name if one.kind == "person" else name
            if self.store.account(name):
                return root, f"{_ACCOUNT}{name}"
            return root, makers[-1].id if makers else ""
        if kind not in ("token", "agent") or (kind == "agent" and one.kind != "agent"):
            return "", ""
        roots = {before.root for before in makers}
        if len(roots) != 1 or "" in roots:
            return "", ""
        return (one.name if one.kind == "person" else roots.pop()), makers[-1].id

    def first(self) -> TokenMade | None:
        """Return a new administrator's token when there has never been one: what the first start
        prints, once. Whoever starts the server answers for it."""
        if self.store.tokens():
            return None
        return self.create_token("admin", by=SYSTEM, role="admin", days=TOKEN_DAYS_MAX)

    def _seen(self, one: Token) -> TokenSeen:
        standing = self._standing(one, self._core.clock.now_ns())
        return {
            "id": one.id,
            "name": one.name,
            "kind": one.kind,
            "role": one.role,
            "scopes": list(one.scopes),
            "teams": list(one.teams),
            "on_behalf_of": one.on_behalf_of,
            "root": one.root,
            "made_by": one.made_by,
            "created_at": iso(one.created_at),
            "expires_at": iso(one.expires_at) if one.expires_at else "",
            "revoked_at": iso(one.revoked_at) if one.revoked_at else "",
            "used_at": iso(one.used_at) if one.used_at else "",
            "stopped": standing if isinstance(standing, str) else "",
        }

    # ------------------------------------------------------------ accounts

    def accounts(self) -> list[AccountSeen]:
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
            created_at=self._core.clock.now_ns(),
        )
        self.store.add_account(one)
        self._tell(
            self._core.events.make(
                "account.created", name, {"name": name, "role": role, "teams": list(teams)}, by, ""
            )
        )
        return _account_seen(one)

    def disable_account(self, name: str, *, by: Principal) -> None:
        """Disable an account. NotFound."""
        if not self.store.disable_account(name, self._core.clock.now_ns()):
            raise NotFound(
                "SX-ACCESS-017",
                f"there is no account `{name}` to disable",
                hint="`sextant account list` lists them",
            )
        self._tell(self._core.events.make("account.disabled", name, {"name": name}, by, ""))

    def _tell(self, event: Event) -> None:
        self._core.state.commit(Write((), (event,)))


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


def _is_own(one: Session, by: Principal) -> bool:
    """Say whether a session is `by`'s to see and to end."""
    if by.kind != "agent" and by.is_administrator:
        return True
    return by.is_oneself and one.person == by.name


def _is_over(one: Token, now: int) -> bool:
    return bool(one.revoked_at) or bool(one.expires_at and one.expires_at <= now)


def _first_maker(one: Token) -> tuple[str, ...]:
    """Return who made a token on the project's folder, or has taken it over; nobody but himself for
    a person's."""
    return () if one.kind == "person" else (f"person:{one.root}",)


def _principal(one: Token, standing: Standing) -> Principal:
    return msgspec.convert(
        {
            "name": one.name,
            "kind": one.kind if one.kind in ("person", "agent") else "token",
            "teams": standing.teams,
            "on_behalf_of": one.on_behalf_of,
            "role": standing.role,
            "scopes": standing.scopes,
            "root": one.root,
            "makers": standing.makers,
            "credential": one.id,
        },
        Principal,
    )


def _account_seen(one: Account) -> AccountSeen:
    return {
        "name": one.name,
        "role": one.role,
        "teams": list(one.teams),
        "created_at": iso(one.created_at),
        "disabled": bool(one.disabled_at),
    }
