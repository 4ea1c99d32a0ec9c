"""The state store in one schema of a Postgres database: the same tables, statements and writer as
on SQLite.

Each writing transaction first locks the row of `ledger_head`, so the log has one order over all
processes. Rows that are only ever added go in by COPY. A connection lost during COMMIT is not
guessed about: Postgres is asked what became of the transaction.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql as quoted
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sextant.kernel.clock import Clock
from sextant.kernel.errors import (
    Bug,
    Busy,
    Conflict,
    Damaged,
    SextantError,
    StorageError,
    UserError,
)
from sextant.kernel.ports import Receipt, Row, Sealer, Write
from sextant.stores.state import sqlite
from sextant.stores.state.migrate import migrations, refuse_newer, tables
from sextant.stores.state.writer import Batch, Promise, Writer
from sextant.stores.statements import Statements, load

LOCK_WAIT_MS = 15_000  # how long a writer waits for another process
READERS_MAX = 8  # connections for reading: Postgres has a process for each
COPY_ROWS_MIN = 8  # fewer rows are as fast by INSERT
PAGE_ROWS = 10_000  # rows fetched at once from a whole table
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_APPEND = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \([?, ]+\)")


class PostgresReader:
    """Reads a state from any thread; makes, changes and migrates nothing."""

    def __init__(self, address: str) -> None:
        """address  a libpq connection string that names the schema in its `search_path`"""
        self.address = address
        self._sql = _translated()
        self._idle: list[psycopg.Connection[Row]] = []
        self._slots = threading.BoundedSemaphore(READERS_MAX)

    def read(self, name: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a named query, as of the newest commit."""
        sql = self._sql[name]
        assert not sql.table, f"`{name}` writes"
        with self.connection() as connection:
            try:
                found: list[Row] = connection.execute(sql.text, params).fetchall()
            except psycopg.OperationalError:
                if not connection.closed:
                    raise
            else:
                return found
        with connect(self.address) as connection:  # the idle one was cut off
            again: list[Row] = connection.execute(sql.text, params).fetchall()
            return again

    def rows(self, table: str) -> Iterator[list[Row]]:
        """Return all rows of a table in pages, sorted by all columns from the first, text by code
        point."""
        with self.connection() as connection, connection.transaction():
            names = connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = current_schema() AND table_name = %s ORDER BY "
                "ordinal_position",
                (table,),
            ).fetchall()
            order = ", ".join(
                f'{name} COLLATE "C"' if kind == "text" else str(name) for name, kind in names
            )
            yield from pages(connection, f"SELECT * FROM {table} ORDER BY {order}")

    def integrity(self) -> list[str]:
        """Return what the database itself finds wrong: nothing, Postgres checks its pages when it
        reads them."""
        return []

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def connection(self) -> "Iterator[psycopg.Connection[Row]]":
        """Lend a connection. Waits while all READERS_MAX are lent."""
        with self._slots:
            try:
                connection = self._idle.pop() if self._idle else connect(self.address)
                if connection.closed:
                    connection = connect(self.address)
                try:
                    yield connection
                except BaseException:
                    connection.close()  # it may be in the middle of something
                    raise
                if not connection.closed:
                    self._idle.append(connection)
            except psycopg.Error as error:
                raise explain(error) from error


class PostgresState:
    """`State` on Postgres. One object per process and schema."""

    is_local = False

    def __init__(self, dsn: str, sealer: Sealer, *, clock: Clock, schema: str = "sextant") -> None:
        """Connect, create the schema or bring it up to date, start the writer.

        dsn     libpq's `postgresql://...` or `key=value ...`
        schema  one per project
        Raises  UserError when the schema is newer than ours or its name is no identifier;
                StorageError without a server
        """
        if not _SCHEMA.fullmatch(schema):
            raise UserError(
                "SX-STATE-030",
                f"`{schema}` cannot be a Postgres schema",
                hint="use lower-case letters, digits and _",
            )
        self.address = address_of(dsn, schema)
        self.schema = schema
        database = _Transactions(self.address)
        try:
            _migrate(database.connection, schema)
        except BaseException as error:
            database.disconnect()
            if isinstance(error, psycopg.Error):
                raise explain(error) from error
            raise
        self._reader = PostgresReader(self.address)
        self._writer = Writer(database, sealer, clock)
        self.read = self._reader.read
        self.rows = self._reader.rows
        self.integrity = self._reader.integrity

    def now_ns(self) -> int:
        with self._reader.connection() as connection:
            found = connection.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000000000")
            row = found.fetchone()
            assert row is not None
            return int(row[0])

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
        with self._alone() as database:
            if once and database.query("meta_get", mark[:1]) == [mark[1:]]:
                return
            database.execute("meta_set", mark)
            for table in emptied:
                database.connection.execute(f"DELETE FROM {table}")
            Batch(load(__package__)).pour(rows, database)

    def scrub(self) -> None:
        """Overwrite what was deleted."""
        with self._reader.connection() as connection:
            connection.execute("VACUUM payload")

    def backup(self, target: Path) -> None:
        """Write all tables, as of one moment, into a new SQLite state file. StorageError when that
        fails."""
        with (
            self._reader.connection() as connection,
            connection.transaction(),
            sqlite.portable(target) as copy,
        ):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table in tables():
                for page in pages(connection, f"SELECT * FROM {table}"):
                    copy.executemany(
                        f"INSERT INTO {table} VALUES ({', '.join('?' * len(page[0]))})", page
                    )

    def restore(self, source: Path) -> None:
        """Fill this state, which must be empty, from a SQLite state file: a backup, or a project
        that moves here.

        Raises  Conflict when there are events here already; Damaged when the file is no state file
        """
        original = sqlite.prepare(source)
        try:
            with self._alone() as database:
                if database.query("event_head", ()):
                    raise Conflict(
                        "SX-STATE-031",
                        f"the schema `{self.schema}` holds a ledger already",
                        hint="restore into a new schema",
                    )
                for table in tables():
                    with (
                        database.connection.cursor() as cursor,
                        cursor.copy(f"COPY {table} FROM STDIN") as copy,
                    ):
                        for row in original.execute(f"SELECT * FROM {table}"):
                            copy.write_row(row)
                database.connection.execute(
                    "UPDATE ledger_head SET size = (SELECT count(*) FROM event)"
                )
        finally:
            original.close()

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> "Iterator[_Transactions]":
        """Open a writing transaction beside the writer's; committed when the block ends well."""
        database = _Transactions(self.address)
        try:
            database.begin(0)
            yield database
            database.connection.execute("COMMIT")
        except psycopg.Error as error:
            raise explain(error) from error
        finally:
            database.rollback()
            database.disconnect()


class _Transactions:
    """What the writer thread asks of Postgres."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._sql = _translated()
        self._copies = {
            name: copy for name, sql in load(__package__).items() if (copy := _copy(sql.text))
        }
        self._transaction = 0  # id of the open one, to ask for its fate
        self.connection = connect(address)

    def begin(self, size: int) -> bool:
        try:
            self.connection.execute("BEGIN")
        except psycopg.OperationalError:  # the server was restarted, or has thrown us out
            if not self.connection.closed:
                raise
            self.connection = connect(self._address)
            self.connection.execute("BEGIN")
        found = self.connection.execute(
            "SELECT size, pg_current_xact_id()::text FROM ledger_head WHERE one = 1 FOR UPDATE"
        ).fetchone()
        if found is None:
            raise Damaged(
                "SX-STATE-032",
                "the row of `ledger_head` is missing",
                hint="restore the last backup: `sextant backup restore`",
            )
        self._size, self._transaction = int(found[0]), int(found[1])
        return self._size != size

    def execute(self, name: str, params: Sequence[Any]) -> int:
        count: int = self.connection.execute(self._sql[name].text, params).rowcount
        return count

    def execute_many(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        copy_text = self._copies.get(name)
        with self.connection.cursor() as cursor:
            if copy_text is None or len(rows) < COPY_ROWS_MIN:
                cursor.executemany(self._sql[name].text, rows)
                return
            with cursor.copy(copy_text) as copy:
                for row in rows:
                    copy.write_row(row)

    def query(self, name: str, params: Sequence[Any]) -> list[Row]:
        found: list[Row] = self.connection.execute(self._sql[name].text, params).fetchall()
        return found

    def savepoint(self) -> None:
        self.connection.execute("SAVEPOINT one")

    def release(self) -> None:
        self.connection.execute("RELEASE SAVEPOINT one")

    def undo(self) -> None:
        self.connection.execute("ROLLBACK TO SAVEPOINT one")
        self.connection.execute("RELEASE SAVEPOINT one")

    def commit(self, size: int) -> None:
        if size != self._size:
            self.connection.execute("UPDATE ledger_head SET size = %s WHERE one = 1", (size,))
        try:
            self.connection.execute("COMMIT")
        except psycopg.OperationalError:
            if not self.connection.closed or not self._is_committed():
                raise

    def _is_committed(self) -> bool:
        """Ask on another connection what became of a transaction whose COMMIT was not answered."""
        with connect(self._address) as other:
            for _ in range(LOCK_WAIT_MS // 50):
                row = other.execute(
                    "SELECT pg_xact_status(%s::text::xid8)", (str(self._transaction),)
                ).fetchone()
                if row is None or row[0] != "in progress":
                    return row is not None and row[0] == "committed"
                other.execute(
                    "SELECT pg_sleep(0.05)"
                )  # the server has not noticed yet that we are gone
        return False

    def rollback(self) -> None:
        try:
            if not self.connection.closed:
                self.connection.execute("ROLLBACK")
        except psycopg.Error:
            self.connection.close()

    def is_lost(self) -> bool:
        return bool(self.connection.closed)

    def explain(self, error: Exception) -> SextantError:
        return explain(error)

    def disconnect(self) -> None:
        self.connection.close()


def connect(address: str) -> "psycopg.Connection[Row]":
    """Return a connection in autocommit mode that prepares what it runs twice."""
    try:
        connection = psycopg.connect(address, autocommit=True)
    except psycopg.OperationalError as error:
        raise StorageError(
            "SX-STATE-033",
            f"Postgres does not answer: {str(error).strip()}",
            hint="check the address in sextant.toml and that the server runs",
            retry_after_s=1.0,
        ) from error
    connection.prepare_threshold = 1
    connection.prepared_max = 512
    return connection


def address_of(dsn: str, schema: str) -> str:
    """Return the connection string of a state: server, schema and our settings."""
    address: str = make_conninfo(
        dsn,
        options=f"-c search_path={schema} -c lock_timeout={LOCK_WAIT_MS} -c synchronous_commit=on",
    )
    return address


def place_of(dsn: str, schema: str) -> str:
    """Return which state an address means, without what changes when a password does: host, port,
    database and schema."""
    said = conninfo_to_dict(dsn)
    names = ("host", "hostaddr", "port", "dbname")
    return " ".join([*(f"{name}={said[name]}" for name in names if said.get(name)), schema])


def pages(connection: "psycopg.Connection[Row]", query: str) -> Iterator[list[Row]]:
    """Return the rows of a query in pages, from inside a transaction."""
    with connection.cursor(name="pages") as cursor:
        cursor.execute(query)
        while page := cursor.fetchmany(PAGE_ROWS):
            yield page


def _translated() -> Statements:
    return Statements(
        (name, sql._replace(text=sql.text.replace("%", "%%").replace("?", "%s")))
        for name, sql in load(__package__).items()
    )


def _copy(text: str) -> str:
    """Return the COPY for an INSERT that only appends, "" for other statements."""
    match = _APPEND.fullmatch(text)
    return f"COPY {match.group(1)} ({match.group(2)}) FROM STDIN" if match else ""


def _migrate(connection: "psycopg.Connection[Row]", schema: str) -> None:
    """Take all missing steps in one transaction; processes that start at once take turns."""
    steps = migrations("postgres")
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"sextant.{schema}",))
        connection.execute(
            quoted.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(quoted.Identifier(schema))
        )
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (number BIGINT NOT NULL)")
        row = connection.execute("SELECT coalesce(max(number), 0) FROM schema_version").fetchone()
        found = int(row[0]) if row else 0
        refuse_newer(found, len(steps), f"schema {schema}")
        for step in steps[found:]:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version (number) VALUES (%s)", (step.number,))


def explain(error: Exception) -> SextantError:
    """Return the error to show for Postgres' own."""
    text = str(error).strip()
    if isinstance(error, psycopg.errors.IntegrityError):
        return Conflict(
            "SX-STATE-002",
            "a row with this key exists already, or a value is missing",
            hint="the write was repeated, or two writers made the same id",
        )
    if isinstance(
        error,
        (
            psycopg.errors.LockNotAvailable,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.TooManyConnections,
        ),
    ):
        return Busy(
            "SX-STATE-003",
            f"another process holds the ledger: {text}",
            hint="`sextant doctor` shows who holds the project",
            retry_after_s=1.0,
        )
    if isinstance(error, (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)):
        return Damaged(
            "SX-STATE-004",
            f"the database is damaged: {text}",
            hint="restore the last backup: `sextant backup restore`",
        )
    if isinstance(
        error,
        (
            psycopg.OperationalError,
            psycopg.errors.InsufficientResources,
            psycopg.InterfaceError,
            sqlite3.Error,
            OSError,
        ),
    ):
        full = isinstance(error, psycopg.errors.DiskFull)
        return StorageError(
            "SX-STATE-005",
            f"the state could not be written or read: {text}",
            retry_after_s=1.0,
            hint="the server's disk is full: free space and repeat" if full else "check the server",
        )
    return Bug("SX-STATE-006", "a statement does not fit its database")
