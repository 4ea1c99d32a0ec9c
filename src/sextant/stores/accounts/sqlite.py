"""Accounts, tokens and sessions: a SQLite file of their own, which neither the ledger's readers nor
telemetry can open.

Passwords are kept as Argon2id hashes (RFC 9106), tokens and session keys as SHA-256 of 256 random
bits: what leaks from here opens nothing. Called by `app/access.py` only.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sextant.kernel.errors import Conflict, Damaged, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, teams TEXT NOT NULL, password TEXT NOT NULL, created_at INTEGER NOT NULL, disabled_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS token (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT NOT NULL, teams TEXT NOT NULL,
  on_behalf_of TEXT NOT NULL, made_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL, used_at INTEGER NOT NULL,
  root TEXT NOT NULL DEFAULT '', parent TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS session (
  hash BLOB PRIMARY KEY, account TEXT NOT NULL, csrf TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS token_parent ON token (parent);
PRAGMA user_version = 2;
"""
# tokens of version 1 named who made them and no person; `app/access.py` finds him in the ledger
_FROM_1 = """
ALTER TABLE token ADD COLUMN root TEXT NOT NULL DEFAULT '';
ALTER TABLE token ADD COLUMN parent TEXT NOT NULL DEFAULT '';
"""
_BENEATH = """
WITH RECURSIVE below (id) AS (
  SELECT ? UNION SELECT token.id FROM below JOIN token ON token.parent = below.id)
"""


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
    a header."""

    hash: bytes
    account: str
    csrf: str
    created_at: int
    expires_at: int


class AccessStore:
    """The file; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        new = not path.exists()
        try:
            if new:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > 2:
                raise Damaged(
                    "SX-ACCESS-001",
                    f"`{path}` was written by a newer Sextant",
                    hint="use that version, or restore the file of this one from a backup",
                )
            if version == 1:
                self._db.executescript(f"BEGIN IMMEDIATE;{_FROM_1}PRAGMA user_version = 2;COMMIT")
            self._db.executescript(_SCHEMA)
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
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
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

    def _rows(self, sql: str, *params: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._db.execute(sql, params).fetchall()

    # ------------------------------------------------------------ accounts

    def add_account(self, one: Account) -> None:
        """Conflict when the name is taken."""
        try:
            with self._write() as db:
                db.execute(
                    "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        one.name,
                        one.role,
                        " ".join(one.teams),
                        one.password,
                        one.created_at,
                        one.disabled_at,
                    ),
                )
        except sqlite3.IntegrityError as error:
            raise Conflict(
                "SX-ACCESS-004",
                f"there is an account `{one.name}` already",
                hint="choose another name",
            ) from error

    def accounts(self) -> list[Account]:
        return [_account(row) for row in self._rows("SELECT * FROM account ORDER BY name")]

    def account(self, name: str) -> Account | None:
        return next(
            (_account(row) for row in self._rows("SELECT * FROM account WHERE name = ?", name)),
            None,
        )

    def disable_account(self, name: str, at: int) -> bool:
        """Disable it and end its sessions; False when there is none that is enabled."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE account SET disabled_at = ? WHERE name = ? AND disabled_at = 0", (at, name)
            ).rowcount
            db.execute("DELETE FROM session WHERE account = ?", (name,))
            return bool(changed)

    # ------------------------------------------------------------ tokens

    def add_token(self, one: Token) -> None:
        with self._write() as db:
            db.execute(
                f"INSERT INTO token VALUES ({', '.join('?' * len(Token.__struct_fields__))})",
                (
                    one.id,
                    one.hash,
                    one.name,
                    one.kind,
                    one.role,
                    " ".join(one.scopes),
                    " ".join(one.teams),
                    one.on_behalf_of,
                    one.made_by,
                    one.created_at,
                    one.expires_at,
                    one.revoked_at,
                    one.used_at,
                    one.root,
                    one.parent,
                ),
            )

    def tokens(self) -> list[Token]:
        return [
            _token(row) for row in self._rows("SELECT * FROM token ORDER BY created_at DESC, id")
        ]

    def token_by_hash(self, digest: bytes) -> Token | None:
        return next(
            (_token(row) for row in self._rows("SELECT * FROM token WHERE hash = ?", digest)), None
        )

    def line(self, id_: str, most: int) -> list[Token]:
        """Return a token, the token that it was made with, and so on: itself first, `most` at
        most."""
        found = self._rows(
            "WITH RECURSIVE up (n, id) AS (SELECT 0, ? UNION ALL SELECT up.n + 1, token.parent "
            "FROM up JOIN token ON token.id = up.id WHERE up.n + 1 < ?) "
            "SELECT token.* FROM up JOIN token ON token.id = up.id ORDER BY up.n",
            id_,
            most,
        )
        return [_token(row) for row in found]

    def beneath(self, id_: str) -> set[str]:
        """Return the ids of a token and of all that were made with it, and with those."""
        return {str(row[0]) for row in self._rows(f"{_BENEATH} SELECT id FROM below", id_)}

    def revoke_token(self, id_: str, at: int) -> bool:
        """Revoke a token; False when it was revoked before. Those that were made with it stop with
        it, for whoever asks what they allow follows their line."""
        with self._write() as db:
            return bool(
                db.execute(
                    "UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at = 0", (at, id_)
                ).rowcount
            )

    def place_token(self, id_: str, root: str, parent: str) -> None:
        """Say who answers for a token, and for all that were made with it; and what it hangs on
        from now on. Agents that acted for the one who answered so far act for him."""
        with self._write() as db:
            old = db.execute("SELECT root FROM token WHERE id = ?", (id_,)).fetchone()[0]
            db.execute("UPDATE token SET parent = ? WHERE id = ?", (parent, id_))
            db.execute(
                f"{_BENEATH} UPDATE token SET root = ?, on_behalf_of = CASE WHEN on_behalf_of = ? "
                "AND ? <> '' THEN ? ELSE on_behalf_of END WHERE root = ? AND id IN below",
                (id_, root, old, old, root, old),
            )

    def token_used(self, id_: str, at: int) -> None:
        with self._write() as db:
            db.execute("UPDATE token SET used_at = ? WHERE id = ?", (at, id_))

    # ------------------------------------------------------------ sessions

    def add_session(self, one: Session, now: int) -> None:
        with self._write() as db:
            db.execute("DELETE FROM session WHERE expires_at <= ?", (now,))
            db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?)",
                (one.hash, one.account, one.csrf, one.created_at, one.expires_at),
            )

    def session(self, digest: bytes) -> Session | None:
        rows = self._rows(
            "SELECT hash, account, csrf, created_at, expires_at FROM session WHERE hash = ?", digest
        )
        return next(
            (
                msgspec.convert(dict(zip(Session.__struct_fields__, row, strict=True)), Session)
                for row in rows
            ),
            None,
        )

    def end_session(self, digest: bytes) -> None:
        with self._write() as db:
            db.execute("DELETE FROM session WHERE hash = ?", (digest,))

    def close(self) -> None:
        with self._lock:
            self._db.close()


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
