"""Tokens, sessions and accounts."""

from collections.abc import Sequence
from typing import Any, Literal

from sextant.app.operations.row import Role, operation
from sextant.app.operations.session import Session
from sextant.kernel.answers import AccountSeen, SessionSeen, TokenMade, TokenSeen


class PeopleOperations(Session):
    """Tokens, sessions and accounts."""

    @operation("GET", "/tokens", "viewer", "read")
    def tokens(self) -> list[TokenSeen]:
        """Return the tokens: all for an administrator, else one's own."""
        return self._p.access.tokens(self._who())

    @operation("POST", "/tokens", "viewer", "token")
    def create_token(
        self,
        name: str,
        *,
        kind: Literal["person", "token", "agent"] = "token",
        role: Role = "viewer",
        scopes: Sequence[str] = (),
        teams: Sequence[str] = (),
        on_behalf_of: str = "",
        days: int = 90,
    ) -> TokenMade:
        """Make a token for a person, a team or an agent on behalf of one; its secret is in the
        answer and nowhere else."""
        return self._p.access.create_token(
            name,
            by=self._who(),
            kind=kind,
            role=role,
            scopes=scopes,
            teams=teams,
            on_behalf_of=on_behalf_of,
            days=days,
        )

    @operation("DELETE", "/tokens/{token}", "viewer", "token")
    def revoke_token(self, token: str) -> dict[str, Any]:
        """Revoke a token."""
        self._p.access.revoke_token(token, by=self._who())
        return {"token": token, "revoked": True}

    @operation("POST", "/tokens/{token}/hand", "admin", "hand")
    def hand_token(self, token: str, person: str) -> TokenSeen:
        """Let another person answer for a token, and for all that were made with it: for when
        somebody leaves."""
        return self._p.access.hand_token(token, person, by=self._who())

    @operation("GET", "/sessions", "viewer", "read")
    def sessions(self) -> list[SessionSeen]:
        """Return the signed-in browsers: all for an administrator, else one's own."""
        return self._p.access.sessions(self._who())

    @operation("DELETE", "/sessions/{session}", "viewer", "token")
    def revoke_session(self, session: str) -> dict[str, Any]:
        """Sign a browser out: one of one's own, or for an administrator anybody's."""
        self._p.access.revoke_session(session, by=self._who())
        return {"session": session, "revoked": True}

    @operation("GET", "/accounts", "admin", "read")
    def accounts(self) -> list[AccountSeen]:
        """Return the accounts."""
        return self._p.access.accounts()

    @operation("POST", "/accounts", "admin", "account")
    def create_account(
        self, name: str, password: str, *, role: Role = "viewer", teams: Sequence[str] = ()
    ) -> AccountSeen:
        """Make an account for a person."""
        return self._p.access.create_account(name, password, by=self._who(), role=role, teams=teams)

    @operation("DELETE", "/accounts/{name}", "admin", "account")
    def disable_account(self, name: str) -> dict[str, Any]:
        """Disable an account; its tokens and sessions end."""
        self._p.access.disable_account(name, by=self._who())
        return {"account": name, "disabled": True}
