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
  on_behalf_of TEXT NOT NULL, made_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL, used_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS session (
  hash BLOB PRIMARY KEY, account TEXT NOT NULL, csrf TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
PRAGMA user_version = 1;
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
    never."""

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
            if version > 1:
                raise Damaged(
                    "SX-ACCESS-001",
                    f"`{path}` was written by a newer Sextant",
                    hint="use that version, or restore the file of this one from a backup",
                )
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
        """Disable it, revoke its tokens, end its sessions; False when there is none that is
        enabled."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE account SET disabled_at = ? WHERE name = ? AND disabled_at = 0", (at, name)
            ).rowcount
            db.execute(
                (
                    "UPDATE token SET revoked_at = ? WHERE revoked_at = 0 AND (made_by = ? OR "
                    "(kind = 'person' AND name = ?))"
                ),
                (at, f"person:{name}", name),
            )
            db.execute("DELETE FROM session WHERE account = ?", (name,))
            return bool(changed)

    # ------------------------------------------------------------ tokens

    def add_token(self, one: Token) -> None:
        with self._write() as db:
            db.execute(
                "INSERT INTO token VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

    def revoke_token(self, id_: str, at: int) -> bool:
        with self._write() as db:
            return bool(
                db.execute(
                    "UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at = 0", (at, id_)
                ).rowcount
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
