"""The state store in one SQLite file: WAL, `synchronous=FULL`, one writer thread, readers beside
it.

Several processes may open the same file: writing transactions exclude each other, and a writer that
finds another's commit reads the ledger's head again.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import Bug, Busy, Conflict, Damaged, SextantError, StorageError
from sextant.kernel.ports import Receipt, Row, Sealer, Write
from sextant.stores.files import make_folder
from sextant.stores.state.migrate import Migration, migrations, refuse_newer
from sextant.stores.state.writer import Batch, Promise, Writer
from sextant.stores.statements import load

APPLICATION_ID = 0x53585431  # "SXT1" in the file's header: this database is ours
BUSY_S = 15.0  # how long a writer waits for another process; a commit takes milliseconds
# 16 MB of WAL between two copies into the file: fewer fsyncs, still a short recovery
CHECKPOINT_PAGES = 4_000
PAGE_ROWS = 10_000  # rows fetched at once from a whole table
STATEMENTS_CACHED = 512  # prepared statements per connection: more than there are


class SqliteReader:
    """Reads a state file from any thread; makes, changes and migrates nothing."""

    def __init__(
        self, path: Path, *, connect: Callable[[Path], sqlite3.Connection] | None = None
    ) -> None:
        """connect  opens the file; None: as a reader beside writers"""
        self.path = Path(path)
        self._connect = connect or reading
        self.address = str(self.path.resolve())
        self._named = load(__package__)
        self._idle: list[
            sqlite3.Connection
        ] = []  # last in, first out: each is in one thread's hands at a time
        self._all: list[sqlite3.Connection] = []

    def read(self, name: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a named query, as of the newest commit."""
        sql = self._named[name]
        assert not sql.table, f"`{name}` writes"
        with self._connection() as connection:
            return connection.execute(sql.text, params).fetchall()

    def rows(self, table: str) -> Iterator[list[Row]]:
        """Return all rows of a table in pages, sorted by all columns from the first, text by code
        point."""
        with self._connection() as connection:
            yield from pages(connection, table)

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with its pages and indexes, at most 100 lines."""
        try:
            with self._connection() as connection:
                return [
                    text
                    for (text,) in connection.execute("PRAGMA integrity_check(100)")
                    if text != "ok"
                ]
        except SextantError as error:
            return [error.message]

    def close(self) -> None:
        self._idle.clear()
        while self._all:
            self._all.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect(self.path)
                self._all.append(connection)
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(ValueError):  # the store was closed meanwhile
                    self._all.remove(connection)
                connection.close()  # it may be in the middle of something
                raise
            self._idle.append(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise explain(error, self.path) from error


class SqliteState:
    """`State` on SQLite. One object per process and file."""

    is_local = True

    def __init__(self, path: Path, sealer: Sealer, *, clock: Clock) -> None:
        """Open or create the file, bring its schema up to date, start the writer.

        Raises  UserError when the schema is newer than ours; Damaged when the file is no state
                database
        """
        self.path = Path(path)
        self.address = str(self.path.resolve())
        make_folder(str(self.path.parent))
        connection = prepare(self.path)
        self._reader = SqliteReader(self.path)
        self._writer = Writer(_Transactions(connection, self.path), sealer, clock)
        self._clock = clock
        self.read = self._reader.read
        self.rows = self._reader.rows
        self.integrity = self._reader.integrity

    def now_ns(self) -> int:
        # CLOCK_MONOTONIC is one clock for all processes of a machine, also in containers, and
        # nobody can set it; a SQLite file is written by one machine at a time.
        return int(self._clock.monotonic_s() * NS)

    def submit(self, write: Write) -> Promise:
        return self._writer.submit(write)

    def commit(self, write: Write) -> Receipt:
        return self._writer.submit(write).result()

    def flush(self) -> None:
        self._writer.submit(Write()).result()

    def refill(
        self,
        emptied: Sequence[str],
        rows: Iterable[tuple[str, Sequence[Any]]],
        *,
        mark: tuple[str, str],
        once: bool = False,
    ) -> None:
        """Empty these tables, run these statements and set the mark, in one transaction."""
        database = _Transactions(connect(self.path), self.path)
        try:
            database.begin(0)
            if once and database.query("meta_get", mark[:1]) == [mark[1:]]:
                return
            for table in emptied:
                database.connection.execute(f"DELETE FROM {table}")
            Batch(load(__package__)).pour(rows, database)
            database.execute("meta_set", mark)
            database.commit(0)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise explain(error, self.path) from error
        finally:
            database.rollback()
            database.disconnect()

    def scrub(self) -> None:
        """Overwrite what was deleted: in the file that is done at once (secure_delete), the log
        beside it is emptied here."""
        connection = connect(self.path)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise explain(error, self.path) from error
        finally:
            connection.close()

    def backup(self, target: Path) -> None:
        """Copy the database as of now into a new file, while others write. StorageError when that
        fails."""
        copy_database(self.path, target)

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Scratch:
    """An empty state in memory and temporary files, to fill and to compare with a real one."""

    def __init__(self) -> None:
        connection = sqlite3.connect("", isolation_level=None, cached_statements=STATEMENTS_CACHED)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for step in migrations("sqlite"):
            for statement in step.statements:
                connection.execute(statement)
        self._database = _Transactions(connection, Path("scratch"))

    def apply(self, rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run these statements. Raises like a write."""
        try:
            Batch(load(__package__)).pour(rows, self._database)
        except sqlite3.Error as error:
            raise explain(error, Path("scratch")) from error

    def rows(self, table: str) -> Iterator[list[Row]]:
        """Return all rows of a table in pages, sorted as a state sorts them."""
        return pages(self._database.connection, table)

    def close(self) -> None:
        self._database.disconnect()


def pages(connection: sqlite3.Connection, table: str) -> Iterator[list[Row]]:
    """Return all rows of a table in pages, sorted by all columns from the first."""
    columns = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    cursor = connection.execute(
        f"SELECT * FROM {table} ORDER BY {', '.join(str(n) for n in range(1, columns + 1))}"
    )
    while page := cursor.fetchmany(PAGE_ROWS):
        yield page


class _Transactions:
    """What the writer thread asks of SQLite."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self._path = path
        self._sql = load(__package__)
        self._version = -1  # changes when another connection has committed

    def begin(self, size: int) -> bool:  # noqa: ARG002 - Postgres compares the size, SQLite has a counter of its own
        self.connection.execute("BEGIN IMMEDIATE")
        version = int(self.connection.execute("PRAGMA data_version").fetchone()[0])
        moved = version != self._version
        self._version = version
        return moved

    def execute(self, name: str, params: Sequence[Any]) -> int:
        cursor = self.connection.execute(self._sql[name].text, params)
        return len(cursor.fetchall()) if cursor.description is not None else cursor.rowcount

    def execute_many(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        self.connection.executemany(self._sql[name].text, rows)

    def query(self, name: str, params: Sequence[Any]) -> list[Row]:
        return self.connection.execute(self._sql[name].text, params).fetchall()

    def savepoint(self) -> None:
        self.connection.execute("SAVEPOINT one")

    def release(self) -> None:
        self.connection.execute("RELEASE one")

    def undo(self) -> None:
        self.connection.execute("ROLLBACK TO one")
        self.connection.execute("RELEASE one")

    def commit(self, size: int) -> None:  # noqa: ARG002
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.Error:  # a transaction that SQLite has rolled back itself
                return

    def is_lost(self) -> bool:
        return False

    def explain(self, error: Exception) -> SextantError:
        return explain(error, self._path)

    def disconnect(self) -> None:
        self.connection.close()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection with our settings, in autocommit mode, usable from any one thread at a
    time."""
    # a reader makes no file; it may have to mend a WAL
    uri = f"{path.resolve().as_uri()}?mode={'rw' if read_only else 'rwc'}"
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_CACHED,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def reading(path: Path) -> sqlite3.Connection:
    """Return a connection that reads beside writers."""
    return connect(path, read_only=True)


def glance(path: Path) -> sqlite3.Connection:
    """Return a connection for a quick look: it writes nothing at all, no file beside it either, and
    waits for nobody. Of a file that is open elsewhere it sees what that one has committed."""
    log = path.with_name(path.name + "-wal")
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{how}",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(path: Path) -> sqlite3.Connection:
    """Open a state file, or make one, with the newest schema."""
    steps = migrations("sqlite")
    try:
        _refuse_foreign(path)
        _create(path)
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
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explain(error, path) from error
    return connection


def _create(path: Path) -> None:
    """Make the file when it is absent, no more open than its folder: SQLite gives what stands
    beside it the same mode."""
    if not path.exists():
        mode = path.parent.stat().st_mode & 0o666
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))


def _refuse_foreign(path: Path) -> None:
    """Raise Damaged for a file that is no database, another program's, or shorter than its header
    says."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"SQLite format 3\0"):
        raise Damaged(
            "SX-STATE-011",
            "the state file is not a database",
            where=str(path),
            hint="restore it: `sextant backup restore`; if this file is yours, move it away",
        )
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise Damaged(
            "SX-STATE-012",
            "the state file is a database of another program",
            where=str(path),
            hint="move it away, or choose another data folder",
        )
    page_bytes = int.from_bytes(head[16:18], "big")
    expected = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(head[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    if path.stat().st_size < expected and not (wal.exists() and wal.stat().st_size):
        raise Damaged(
            "SX-STATE-013",
            f"the state file is cut off: {path.stat().st_size} of {expected} bytes",
            where=str(path),
            hint="restore it: `sextant backup restore`",
        )


def _migrate(connection: sqlite3.Connection, path: Path, steps: list[Migration]) -> None:
    """Take all missing steps, each in a transaction of its own and after a copy of the file - of
    one that is not new."""
    new = not int(connection.execute("PRAGMA user_version").fetchone()[0])
    for step in steps:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if found < step.number:  # another process may have been faster
                if not new:
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
    with _appearing(target) as partial:
        reader = sqlite3.connect(source, timeout=BUSY_S)
        _create(partial)
        copy = sqlite3.connect(partial)
        try:
            reader.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        finally:
            copy.close()
            reader.close()


@contextmanager
def portable(target: Path) -> Iterator[sqlite3.Connection]:
    """Give a new, empty state file to fill; `target` appears, durably, when the block ends well."""
    with _appearing(target) as partial:
        copy = prepare(partial)
        try:
            copy.execute("BEGIN")
            yield copy
            copy.execute("COMMIT")
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise explain(error, target) from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def explain(error: Exception, path: Path) -> SextantError:
    """Return the error to show for SQLite's own."""
    where = str(path)
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(
            "SX-STATE-002",
            "a row with this key exists already, or a value is missing",
            where=where,
            hint="the write was repeated, or two writers made the same id",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(
            "SX-STATE-003",
            f"another process has been writing for over {BUSY_S:.0f} s",
            where=where,
            hint="`sextant doctor` shows who holds the project",
            retry_after_s=1.0,
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or isinstance(
        error, UnicodeDecodeError
    ):  # a schema that is no text
        return Damaged(
            "SX-STATE-004",
            f"the state file is damaged: {error}",
            where=where,
            hint=(
                "`sextant ledger verify` says what is wrong, `sextant backup restore` brings "
                "back the last copy"
            ),
        )
    if isinstance(error, (sqlite3.OperationalError, OSError)):
        full = name.startswith("SQLITE_FULL") or getattr(error, "errno", 0) == 28
        return StorageError(
            "SX-STATE-005",
            f"the state could not be written or read: {error}",
            where=where,
            hint="the disk is full: free space and repeat"
            if full
            else "check the disk and the folder's permissions",
        )
    return Bug("SX-STATE-006", "a statement does not fit its database", where=where)
