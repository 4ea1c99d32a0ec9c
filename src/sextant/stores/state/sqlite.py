"""The state store in one SQLite file: WAL, `synchronous=FULL`, one writer thread, readers beside it.

Several processes may open the same file: writing transactions exclude each other, and a writer that finds another's
commit reads the ledger's head again.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from sextant.kernel.clock import Clock
from sextant.kernel.errors import Bug, Busy, Conflict, Damaged, SextantError, StorageError
from sextant.kernel.ports import Receipt, Row, Sealer, Write
from sextant.stores.state.migrate import Migration, migrations, refuse_newer
from sextant.stores.state.statements import statements
from sextant.stores.state.writer import Promise, Writer

APPLICATION_ID = 0x53585431  # "SXT1" in the file's header: this database is ours
BUSY_S = 15.0  # how long a writer waits for another process; a commit takes milliseconds
CHECKPOINT_PAGES = 4_000  # 16 MB of WAL between two copies into the file: fewer fsyncs, still a short recovery
STATEMENTS_CACHED = 512  # prepared statements per connection: more than there are


class SqliteState:
    """`State` on SQLite. One object per process and file."""

    def __init__(self, path: Path, sealer: Sealer, *, clock: Clock) -> None:
        """Open or create the file, bring its schema up to date, start the writer.

        Raises  UserError when the schema is newer than ours; Damaged when the file is no state database
        """
        self.path = Path(path)
        self._clock = clock
        self._idle: list[sqlite3.Connection] = []
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._named = statements()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = prepare(self.path)
        self._writer = Writer(_Transactions(connection, self.path), sealer)

    def submit(self, write: Write) -> Promise:
        return self._writer.submit(write)

    def commit(self, write: Write) -> Receipt:
        return self._writer.submit(write).result()

    def flush(self) -> None:
        self._writer.submit(Write()).result()

    def read(self, name: str, params: Sequence[Any] = ()) -> list[Row]:
        sql = self._named[name]
        assert not sql.table, f"`{name}` writes"
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._open_reader()
        try:
            return connection.execute(sql.text, params).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._idle.append(connection)

    def backup(self, target: Path) -> None:
        """Copy the database as of now into a new file, while others write. StorageError when that fails."""
        copy_database(self.path, target)

    def close(self) -> None:
        self._writer.close()
        with self._lock:
            self._idle.clear()
            for connection in self._all:
                connection.close()
            self._all.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_reader(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.execute("PRAGMA query_only = ON")
        with self._lock:
            self._all.append(connection)
        return connection


class _Transactions:
    """What the writer thread asks of SQLite."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._sql = statements()
        self._version = -1  # changes when another connection has committed

    def begin(self, size: int) -> bool:  # noqa: ARG002 - Postgres compares the size, SQLite has a counter of its own
        self._connection.execute("BEGIN IMMEDIATE")
        version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        moved = version != self._version
        self._version = version
        return moved

    def execute(self, name: str, params: Sequence[Any]) -> int:
        cursor = self._connection.execute(self._sql[name].text, params)
        return len(cursor.fetchall()) if cursor.description is not None else cursor.rowcount

    def execute_many(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(self._sql[name].text, rows)

    def query(self, name: str, params: Sequence[Any]) -> list[Row]:
        return self._connection.execute(self._sql[name].text, params).fetchall()

    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT one")

    def release(self) -> None:
        self._connection.execute("RELEASE one")

    def undo(self) -> None:
        self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")

    def commit(self, size: int) -> None:  # noqa: ARG002
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:  # a transaction that SQLite has rolled back itself
                return

    def explain(self, error: Exception) -> SextantError:
        return explain(error, self._path)

    def disconnect(self) -> None:
        self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection with our settings, in autocommit mode, usable from any one thread at a time."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def prepare(path: Path) -> sqlite3.Connection:
    """Open a state file, or make one, with the newest schema."""
    steps = migrations("sqlite")
    try:
        _refuse_foreign(path)
        connection = connect(path)
        try:
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            refuse_newer(found, len(steps), str(path))
            if found < len(steps):
                _migrate(connection, path, steps)
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explain(error, path) from error
    return connection


def _refuse_foreign(path: Path) -> None:
    """Raise Damaged for a file that is no database, another program's, or shorter than its header says."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"SQLite format 3\0"):
        raise Damaged("SX-STATE-011", "the state file is not a database", where=str(path),
                      hint="restore it: `sextant backup restore`; if this file is yours, move it away")  # fmt: skip
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise Damaged("SX-STATE-012", "the state file is a database of another program", where=str(path), hint="move it away, or choose another data folder")
    page_bytes = int.from_bytes(head[16:18], "big")
    expected = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(head[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    if path.stat().st_size < expected and not (wal.exists() and wal.stat().st_size):
        raise Damaged("SX-STATE-013", f"the state file is cut off: {path.stat().st_size} of {expected} bytes", where=str(path),
                      hint="restore it: `sextant backup restore`")  # fmt: skip


def _migrate(connection: sqlite3.Connection, path: Path, steps: list[Migration]) -> None:
    """Take all missing steps, each in a transaction of its own and after a copy of the file."""
    for step in steps:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if found < step.number:  # another process may have been faster
                if found:
                    copy_database(path, path.with_name(f"{path.name}.before-{step.number:03d}"))
                for statement in step.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {step.number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as of one moment, durably; `target` appears only when it is whole."""
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        reader = sqlite3.connect(source, timeout=BUSY_S)
        copy = sqlite3.connect(partial)
        try:
            reader.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        finally:
            copy.close()
            reader.close()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise explain(error, target) from error


def explain(error: Exception, path: Path) -> SextantError:
    """Return the error to show for SQLite's own."""
    where = str(path)
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("SX-STATE-002", f"a row with this key exists already, or a value is missing: {error}", where=where,
                        hint="the write was repeated, or two writers made the same id")  # fmt: skip
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy("SX-STATE-003", f"another process has been writing for over {BUSY_S:.0f} s", where=where,
                    hint="`sextant doctor` shows who holds the project", retry_after_s=1.0)  # fmt: skip
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Damaged("SX-STATE-004", f"the state file is damaged: {error}", where=where,
                       hint="`sextant ledger verify` says what is wrong, `sextant backup restore` brings back the last copy")  # fmt: skip
    if isinstance(error, (sqlite3.OperationalError, OSError)):
        full = name.startswith("SQLITE_FULL") or getattr(error, "errno", 0) == 28
        return StorageError("SX-STATE-005", f"the state could not be written or read: {error}", where=where,
                            hint="the disk is full: free space and repeat" if full else "check the disk and the folder's permissions")  # fmt: skip
    return Bug("SX-STATE-006", f"a statement does not fit its database: {error}", where=where)
