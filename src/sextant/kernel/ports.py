"""The ports to the outside, as Protocols: the state store, the lake, blobs, executors, secrets.

Each port has one conformance suite under `tests/ports`, run against every backend.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from sextant.kernel.nouns import Event, FileRef, WorkOrder, WorkResult
from sextant.kernel.partitions import Grain

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """A named statement of `statements.sql` with its parameters.

    expect  None, or the number of rows it must change (for a SELECT: return), a compare-and-swap:
            otherwise the whole `Write` is undone and
            its caller gets `Conflict` with `conflict` as the message; neighbours in the same commit
            are not touched.
    """

    name: str
    params: Sequence[Any]
    expect: int | None = None
    conflict: str = ""


class Write(msgspec.Struct, frozen=True):
    """What becomes durable together or not at all: statements first, in order; then events, sealed
    into the ledger with their projections.

    fence  a query that must return its `expect` rows, else nothing is written and the caller gets
           `Conflict`; looked at once for all writes of a commit that carry the same one, so a long
           series of writes can be fenced at no cost
    """

    statements: tuple[Statement, ...] = ()
    events: tuple[Event, ...] = ()
    fence: Statement | None = None


class Receipt(msgspec.Struct, frozen=True):
    """Where the events of a write stand in the ledger: sequence numbers `first` .. `first + count -
    1`."""

    first: int
    count: int


class Pending(Protocol):
    """A write on its way: the part of `concurrent.futures.Future` that a waiting caller needs."""

    def done(self) -> bool: ...

    def result(self, timeout: float | None = None) -> Receipt:
        """Wait until the write is durable. Raises Conflict, BadData, StorageError; TimeoutError
        after `timeout` seconds."""
        ...

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait, and return what `result` would raise."""
        ...

    def add_done_callback(self, call: "Callable[[Pending], object]") -> None:
        """Call back when done, on the writer thread (at once when done already): never wait in
        it."""
        ...


class Sealer(Protocol):
    """Turns events into rows; the ledger is one. Called by the writer thread only, inside the open
    transaction."""

    def load(self, read: Callable[[str, Sequence[Any]], list[Row]]) -> None:
        """Read the head (called after opening and after a lost transaction)."""
        ...

    def seal(self, events: Sequence[Event]) -> Iterable[tuple[str, Sequence[Any]]]:
        """Return the statements that append these events and update the projections."""
        ...

    def size(self) -> int:
        """Return the number of events sealed so far, the open transaction included."""
        ...

    def rewind(self, size: int) -> None:
        """Forget what was sealed behind `size`: the savepoint that held it was undone."""
        ...


class State(Protocol):
    """The state store: one writer thread with group commit over SQLite or Postgres.

    is_local  only processes of one machine use it
    """

    is_local: bool

    def submit(self, write: Write) -> Pending:
        """Queue a write; it is done when it is durable, or raises Conflict or StorageError. Waits
        when the queue is full."""
        ...

    def commit(self, write: Write) -> Receipt:
        """Write and wait until it is durable."""
        ...

    def read(self, name: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a named query, as of the newest commit. Any thread."""
        ...

    def flush(self) -> None:
        """Wait until everything submitted so far is durable."""
        ...

    def now_ns(self) -> int:
        """Return the time on the one clock that all processes of this store share: leases are
        measured by it. SQLite: the machine's monotonic clock. Postgres: the server's clock."""
        ...

    def close(self) -> None:
        """Finish the queue and close."""
        ...


class TableCommit(msgspec.Struct, frozen=True, kw_only=True):
    """A written, not yet live, state of a table. `locator` is its Iceberg metadata file, below the
    lake's root."""

    locator: str
    files: tuple[FileRef, ...]


class StoredFile(NamedTuple):
    """A file of a table's state: its path below the lake's root, the hex SHA-256 that was recorded
    when it was written ("" = none was), and the partitions that a data file, or the profiles beside
    it, are of."""

    path: str
    sha256: str
    partitions: tuple[str, ...] = ()


class Lake(Protocol):
    """Iceberg tables as immutable states. It knows files only: which state is live says the state
    store."""

    root: Path

    def warm(self) -> None:
        """Import what the first commit needs."""
        ...

    def commit(
        self,
        table: str,
        base: str,
        *,
        add: Sequence[FileRef],
        replace: Iterable[str],
        arrow_schema: bytes,
        partitioned: Grain = "none",
        properties: Mapping[str, str] | None = None,
    ) -> TableCommit:
        """Write a new state: `base` ("" = a new table) without the partitions `replace`, plus the
        staged files `add`.

        arrow_schema  Arrow IPC schema of the new files; columns are added to the table's schema
                      when it lacks them
        partitioned   the grain, which decides the Iceberg partition spec
        Raises        BadData when a column's type cannot change so; StorageError on a full disk,
                      with nothing half-written
        """
        ...

    def restore(self, table: str, base: str, source: str, partitions: Iterable[str]) -> TableCommit:
        """Write a new state: `base` with these partitions as they are in state `source` (absent
        there = removed)."""
        ...

    def files(self, locator: str, checked: Mapping[str, str] | None = None) -> tuple[FileRef, ...]:
        """Return the data files of a state. `checked`: digests, by path, that its metadata must
        have where none was recorded; Damaged."""
        ...

    def confirm(self, locator: str, *, of: str = "", seen: set[str] | None = None) -> None:
        """Compare the files of a state with what was recorded when they were written; data files
        only those that are not among `seen`, which grows. Damaged."""
        ...

    def stored(self, locator: str) -> tuple[StoredFile, ...]:
        """Return every file that a state stands on."""
        ...

    def record_digests(
        self,
        locator: str,
        digests: Mapping[str, str],
        made: Mapping[str, tuple[str, int]] | None = None,
    ) -> str:
        """Write a state once more with digests of files that have none recorded, among them those
        that its metadata must have, and with profiles that were made for data files. Return its
        locator. Damaged."""
        ...

    def compact(self, table: str, base: str, *, files_max: int = 8) -> TableCommit | None:
        """Merge small files that lie in one Iceberg partition; same rows. None when there is
        nothing worth doing."""
        ...

    def collect(self, keep: Iterable[str], *, older_than_ns: int) -> int:
        """Delete every file that no state in `keep` names and that was last touched before
        `older_than_ns`. Returns bytes freed."""
        ...


class Blobs(Protocol):
    """Content-addressed bytes.

    root  where they lie, for workers of this machine
    """

    root: Path

    def put(self, data: bytes) -> str:
        """Store durably; return the hex SHA-256."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes. NotFound, or Damaged when they no longer have this digest."""
        ...

    def has(self, digest: str) -> bool: ...

    def touch(self, digest: str) -> bool:
        """Make a blob as young as one that is written now, for `collect`. False when it is not
        there."""
        ...

    def delete(self, digest: str) -> None: ...

    def collect(self, keep: Collection[str], *, older_than_ns: int) -> int:
        """Delete what is not in `keep` and older. Returns bytes freed."""
        ...


class Executor(Protocol):
    """Runs work orders somewhere. `submit` never blocks on the work; completions come to `done`
    from any thread."""

    slots: int

    def submit(self, order: WorkOrder, done: Callable[[WorkResult], None]) -> None: ...

    def cancel(self, order_id: str) -> None:
        """Stop the work if it runs; `done` is then called with error_code SX-STEP-CANCELLED."""
        ...

    def close(self) -> None: ...


class Secrets(Protocol):
    """Resolves secret names to values, in the worker only."""

    def get(self, name: str) -> str:
        """Return the value. NotFound says how to set it."""
        ...


class QueryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one question may cost the telemetry store; 0 = no limit."""

    seconds: float = 30.0
    memory_bytes: int = 1 << 30
    rows_read: int = 0
    rows_result: int = 0
    bytes_result: int = 0


class Telemetry(Protocol):
    """The telemetry store: ClickHouse's SQL, in this process (chDB) or over HTTP. Few methods; both
    backends run the same SQL and DDL."""

    def run(self, sql: str, *, beside: bool = False) -> None:
        """Run one statement of ours (DDL, ALTER, OPTIMIZE). StorageError.

        beside  it may take its time: others are run, and rows inserted, meanwhile
        """
        ...

    def insert(self, table: str, rows: bytes, *, token: str, form: str = "Native") -> None:
        """Append rows; durable when it returns.

        rows    whole blocks in a ClickHouse input format that names its columns (`Native`,
                `ArrowStream`, `Parquet`)
        token   the same token for the same table once more adds nothing, as long as the table
                remembers it
        Raises  StorageError, with nothing added to `table`
        """
        ...

    def query(
        self,
        sql: str,
        *,
        form: str = "Arrow",
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
    ) -> bytes:
        """Answer a question of ours in a ClickHouse format. `params` bind `{name:Type}`. BadData
        for wrong SQL, StorageError, Busy beyond limits."""
        ...

    def ask(
        self,
        sql: str,
        *,
        form: str,
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        """Answer a question that is not ours, over a connection that cannot write. The caller has
        had the text and the settings judged first."""
        ...

    def close(self) -> None: ...
