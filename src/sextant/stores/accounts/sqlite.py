"""Keeps accounts, tokens, sessions and sign-in links in a SQLite file of their own, which neither
readers of the ledger nor telemetry can open.

Passwords are kept as Argon2id hashes (RFC 9106), tokens and session keys as SHA-256 of 256 random
bits: what leaks from here opens nothing. Called by `app/access.py` only.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import msgspec

from sextant.kernel.errors import Conflict, Damaged, StorageError
from sextant.kernel.limits import SESSIONS_PER_PERSON_MAX, SESSIONS_SHOWN_MAX
from sextant.stores.accounts.records import Account, Link, Session, Token
from sextant.stores.statements import load

_VERSION = 3  # of `schema.sql`


class AccessStore:
    """The file; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sql = load(__package__)
        new = not path.exists()
        try:
            if new:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise Damaged(
                    "SX-ACCESS-001",
                    f"`{path}` was written by a newer Sextant",
                    hint="use that version, or restore the file of this one from a backup",
                )
            if version == 1:
                self._db.executescript(_script("from_version_1.sql"))
            if version in (1, 2):
                self._db.executescript(_script("from_version_2.sql"))
            self._db.executescript(_script("schema.sql"))
        except sqlite3.DatabaseError as error:
            raise Damaged(
                "SX-ACCESS-002",
                f"`{path}` is not a database of accounts: {error}",
                hint=(
                    "restore it from a backup, or move it away: new accounts and tokens are "
                    "made then"
                ),
            ) from error
        self._lock = threading.Lock()

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Hold the lock and a transaction. StorageError when it cannot be committed."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.IntegrityError:
                self._back()
                raise
            except sqlite3.Error as error:
                self._back()
                raise StorageError(
                    "SX-ACCESS-003",
                    f"accounts cannot be written: {error}",
                    hint="free some space, or mend the file's permissions",
                ) from error
            except BaseException:
                self._back()
                raise

    def _back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def _rows(self, name: str, *params: object) -> list[tuple[object, ...]]:
        """Return the rows of a named query."""
        with self._lock:
            return self._run(name, *params).fetchall()

    def _run(self, name: str, *params: object) -> sqlite3.Cursor:
        """Run a named statement; the caller holds the lock."""
        return self._db.execute(self._sql[name].text, params)

    # ------------------------------------------------------------ accounts

    def add_account(self, one: Account) -> None:
        """Conflict when the name is taken."""
        try:
            with self._write():
                self._run("account_add", *_values(one))
        except sqlite3.IntegrityError as error:
            raise Conflict(
                "SX-ACCESS-004",
                f"there is an account `{one.name}` already",
                hint="choose another name",
            ) from error

    def accounts(self) -> list[Account]:
        return [_account(row) for row in self._rows("accounts")]

    def account(self, name: str) -> Account | None:
        return next(
            (_account(row) for row in self._rows("account", name)),
            None,
        )

    def disable_account(self, name: str, at: int) -> bool:
        """Disable it and end its sessions; False when there is none that is enabled."""
        with self._write():
            changed = self._run("account_disable", at, name).rowcount
            self._run("sessions_end_of", name)
            return bool(changed)

    # ------------------------------------------------------------ tokens

    def add_token(self, one: Token) -> None:
        with self._write():
            self._run("token_add", *_values(one))

    def tokens(self) -> list[Token]:
        return [_token(row) for row in self._rows("tokens")]

    def token_by_hash(self, digest: bytes) -> Token | None:
        return next((_token(row) for row in self._rows("token_by_hash", digest)), None)

    def line(self, id_: str, most: int) -> list[Token]:
        """Return a token, the token that it was made with, and so on: itself first, `most` at
        most."""
        return [_token(row) for row in self._rows("token_line", id_, most)]

    def beneath(self, id_: str) -> set[str]:
        """Return the ids of a token and of all that were made with it, and with those."""
        return {str(row[0]) for row in self._rows("tokens_below", id_)}

    def revoke_token(self, id_: str, at: int) -> bool:
        """Revoke a token; False when it was revoked before. Those that were made with it stop with
        it, for whoever asks what they allow follows their line."""
        with self._write():
            return bool(self._run("token_revoke", at, id_).rowcount)

    def place_token(self, id_: str, root: str, parent: str) -> None:
        """Say who answers for a token, and for all that were made with it; and what it hangs on
        from now on. Agents that acted for the one who answered so far act for him."""
        with self._write():
            old = self._run("token_root", id_).fetchone()[0]
            self._run("token_place", parent, id_)
            self._run("tokens_below_hand_over", id_, root, old, old, root, old)

    def token_used(self, id_: str, at: int) -> None:
        with self._write():
            self._run("token_used", at, id_)

    # ------------------------------------------------------------ sessions

    def add_session(self, one: Session, now: int) -> None:
        """Add a session. Those that have expired go, and the oldest of a person beyond
        SESSIONS_PER_PERSON_MAX."""
        with self._write():
            self._run("sessions_end_expired", now)
            self._run("session_add", *_values(one))
            beyond = self._run("sessions_beyond", one.person, SESSIONS_PER_PERSON_MAX).fetchall()
            for (id_,) in beyond:
                self._run("session_end", id_)

    def session(self, digest: bytes) -> Session | None:
        return next((_session(row) for row in self._rows("session", digest)), None)

    def sessions(self, now: int) -> list[Session]:
        """Return the sessions that have not expired, the newest first: SESSIONS_SHOWN_MAX at
        most."""
        return [_session(row) for row in self._rows("sessions", now, SESSIONS_SHOWN_MAX)]

    def end_session(self, id_: str) -> bool:
        """End a session; False when there is none of this id."""
        with self._write():
            return bool(self._run("session_end", id_).rowcount)

    # ------------------------------------------------------------ sign-in links

    def add_link(self, one: Link, now: int) -> None:
        with self._write():
            self._run("links_end_expired", now)
            self._run("link_add", *_values(one))

    def take_link(self, digest: bytes, now: int) -> Link | None:
        """Return a link, and end it: whoever takes it second gets None, as for one that has
        expired."""
        with self._write():
            row = self._run("link", digest).fetchone()
            self._run("link_end", digest)
        if row is None:
            return None
        link = msgspec.convert(dict(zip(Link.__struct_fields__, row, strict=True)), Link)
        return link if link.expires_at > now else None

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _script(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _values(one: Account | Token | Session | Link) -> Iterator[object]:
    """Yield the fields of a record as a row holds them: several words as one text."""
    for value in msgspec.structs.astuple(one):
        yield " ".join(value) if isinstance(value, tuple) else value


def _session(row: tuple[object, ...]) -> Session:
    return msgspec.convert(dict(zip(Session.__struct_fields__, row, strict=True)), Session)


def _words(text: object) -> tuple[str, ...]:
    return tuple(str(text).split())


def _account(row: tuple[object, ...]) -> Account:
    values = dict(zip(Account.__struct_fields__, row, strict=True))
    return msgspec.convert({**values, "teams": _words(values["teams"])}, Account)


def _token(row: tuple[object, ...]) -> Token:
    values = dict(zip(Token.__struct_fields__, row, strict=True))
    return msgspec.convert(
        {**values, "teams": _words(values["teams"]), "scopes": _words(values["scopes"])}, Token
    )
