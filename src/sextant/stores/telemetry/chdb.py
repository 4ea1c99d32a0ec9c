"""The telemetry store inside this process, on chDB: ClickHouse as a library.

Opened by the telemetry process only: chDB allows one path per process and one process per path, and
a process that has used it must not fork. A connection runs one statement at a time, so there is one
for writing, a few for questions of ours, and for those of others some that are read-only (a
connection's `readonly=1` cannot be lifted again, not even by the question's own SETTINGS).
"""

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sextant.kernel.errors import StorageError, UsageError
from sextant.kernel.ports import QueryLimits
from sextant.stores import files
from sextant.stores.telemetry import answers, tokens

# kept for each kind of question; opening one costs a quarter of a millisecond
_IDLE_CONNECTIONS_MAX = 4
# kinds of questions (combinations of limits and settings) for which connections are kept; the one
# asked longest ago is let go
_KINDS_MAX = 12
_UUID = re.compile(r"UUID '([0-9a-f-]{36})'")  # in the file that describes a database
# ClickHouse takes tables on a disk that cannot be written for far away, and reads ahead in threads
_NEAR = (
    "remote_filesystem_read_method='read'",
    "remote_filesystem_read_prefetch=0",
    "allow_prefetched_read_pool_for_remote_filesystem=0",
)
_OLD_PARTS_S = 60  # parts that were merged stay: twice as long as the longest query
_NO_LIMITS = QueryLimits(seconds=0.0, memory_bytes=0)


class _Kind(NamedTuple):
    """What a connection is for."""

    strange: bool
    limits: QueryLimits
    settings: tuple[tuple[str, str], ...]


class ChdbStore:
    """`Telemetry` on chDB. Safe to call from several threads.

    folder        where the database lies; made when absent
    memory_bytes  what all queries and merges together may use
    threads       of one query; 0 = one for each core
    reads         the store is for questions: it merges nothing
    """

    def __init__(
        self, folder: Path, *, memory_bytes: int = 2 << 30, threads: int = 0, reads: bool = False
    ) -> None:
        from chdb import _chdb

        if set("?&%") & set(str(folder)):  # they would be read as options of the connection
            raise UsageError(
                "SX-TELEMETRY-005",
                f"the telemetry store cannot lie in `{folder}`",
                hint="use a folder whose path has no `?`, `&` or `%`",
            )
        files.make_folder(str(folder))
        config = folder / "config.xml"
        files.write(str(config), _config(memory_bytes, reads=reads).encode(), whole=True)
        self._engine: Any = _chdb
        self._data = folder / "data"
        self._address = f"{self._data}?config-file={config}"
        self._threads = threads
        self._more = _NEAR if reads else ()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._idle: dict[_Kind, list[Any]] = {}
        self._closed = False
        self._changed: dict[str, tuple[int, float]] = {}
        _link_again(self._data)
        tokens.forget_unkept(self._data)
        try:
            self._writer = self._open(_Kind(False, _NO_LIMITS, ()))
        except RuntimeError as error:
            raise StorageError(
                "SX-TELEMETRY-006",
                (
                    f"the telemetry store in `{folder}` does not open: "
                    f"{answers.message_of(str(error))}"
                ),
                hint=(
                    "another process may hold it: stop that one first. Where it is broken, move "
                    "the folder away: a new one is made, and what SQL shows of data and ledger "
                    "is fed again"
                ),
            ) from None

    def run(self, sql: str, *, beside: bool = False) -> None:
        what = f"`{sql.split('(', maxsplit=1)[0].strip()[:80]}`"
        if not beside:
            with self._writing:
                self._write(sql, what)
            return
        connection = self._open(_Kind(False, _NO_LIMITS, ()))
        try:
            connection.query(sql, "Null")
        except RuntimeError as error:
            raise answers.of_writing(str(error), what) from error
        finally:
            connection.close()

    def insert(self, table: str, rows: bytes, *, token: str, form: str = "Native") -> None:
        with _as_file(rows) as path, self._writing:
            # one block for each insert, so that the token stands for all of it; the setting must
            # not depend on the machine
            sql = (
                f"INSERT INTO {table} FROM INFILE '{path}' SETTINGS {INSERT_SETTINGS}, "
                f"insert_deduplication_token='{_quoted(token)}' FORMAT {form}"
            )
            self._write(sql, f"rows of `{table}`")
            tokens.sync(self._data, table)
            self._changed[table] = self._changed.get(table, (0, 0.0))[0] + 1, time.monotonic()

    def changed(self) -> dict[str, tuple[int, float]]:
        """Return how often rows were inserted into a table since the start, and when last
        (monotonic seconds)."""
        return dict(self._changed)

    def query(
        self,
        sql: str,
        *,
        form: str = "Arrow",
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
    ) -> bytes:
        return self._answer(sql, form, params, limits or _NO_LIMITS, strange=False)

    def ask(
        self,
        sql: str,
        *,
        form: str,
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        return self._answer(
            sql,
            form,
            params,
            limits or QueryLimits(),
            strange=True,
            settings=tuple(sorted((settings or {}).items())),
        )

    def close(self) -> None:
        with self._writing, self._lock:
            if self._closed:
                return
            self._closed = True
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()
            self._writer.close()

    def _answer(
        self,
        sql: str,
        form: str,
        params: Mapping[str, str] | None,
        limits: QueryLimits,
        *,
        strange: bool,
        settings: tuple[tuple[str, str], ...] = (),
    ) -> bytes:
        kind = _Kind(strange, limits, settings)
        with self._lock:
            idle = self._idle[kind] = self._idle.pop(kind, [])  # moved to the end: the newest
            while len(self._idle) > _KINDS_MAX:
                for old in self._idle.pop(next(iter(self._idle))):
                    old.close()
            connection = idle.pop() if idle else self._open(kind)
        try:
            answer: bytes = connection.query(sql, form, params=dict(params or {})).bytes()
        except BaseException as error:
            # what the query had written until it failed would come with the next one's answer
            connection.close()
            if isinstance(error, RuntimeError):
                raise answers.of_question(str(error)) from error
            raise
        with self._lock:
            if (
                self._closed
                or len(idle) >= _IDLE_CONNECTIONS_MAX
                or self._idle.get(kind) is not idle
            ):
                connection.close()
            else:
                idle.append(connection)
        return answer

    def _write(self, sql: str, what: str) -> None:
        """Run a statement that changes something; `what` it is, for an error. A connection on which
        one failed is not used again. The writer's lock is held."""
        try:
            self._writer.query(sql, "Null")
        except BaseException as error:
            failed, self._writer = self._writer, self._open(_Kind(False, _NO_LIMITS, ()))
            failed.close()
            if isinstance(error, RuntimeError):
                raise answers.of_writing(str(error), what) from error
            raise

    def _open(self, kind: _Kind) -> Any:
        connection = self._engine.connect(self._address)
        try:
            for setting in (
                *settings_of(kind.limits, self._threads),
                *(f"{name}='{_quoted(value)}'" for name, value in kind.settings),
                *self._more,
            ):
                connection.query(f"SET {setting}", "Null")
        except RuntimeError as error:
            connection.close()
            raise answers.of_question(str(error)) from error
        if kind.strange:  # last: nothing can be set after it
            connection.query("SET readonly=1", "Null")
        return connection


# An insert is one block: a token then stands for all its rows, and a repetition is cut in the same
# way.
# rows of one key in one insert become one when parts are merged, and are read as one: to do it at
# the insert takes a sixth of its time
INSERT_SETTINGS = (
    "optimize_on_insert=0, "
    "min_insert_block_size_rows=0, min_insert_block_size_bytes=4000000000, "
    "max_insert_block_size=100000000, max_insert_threads=1, "
    "deduplicate_blocks_in_dependent_materialized_views=1, "
    "max_partitions_per_insert_block=0, async_insert=0"
)


def settings_of(limits: QueryLimits, threads: int) -> list[str]:
    """Return the limits of a question as ClickHouse settings, `name=value`."""
    out = [
        f"max_threads={threads}" if threads else "",
        f"max_execution_time={limits.seconds}" if limits.seconds else "",
        f"max_memory_usage={limits.memory_bytes}" if limits.memory_bytes else "",
        f"max_rows_to_read={limits.rows_read}" if limits.rows_read else "",
        f"max_result_rows={limits.rows_result}" if limits.rows_result else "",
        f"max_result_bytes={limits.bytes_result}" if limits.bytes_result else "",
    ]
    return [setting for setting in out if setting]


def _link_again(data: Path) -> None:
    """Remove the folders that a copy of the store made of ClickHouse's links: of a database's
    metadata, and of its tables. ClickHouse refuses them, and makes the links again itself.

    What the links lead to lies in `store/`, and came along.
    """
    for described in (data / "metadata").glob("*.sql"):
        copied = described.with_suffix("")
        found = _UUID.search(described.read_text(encoding="utf-8"))
        if copied.is_symlink() or not copied.is_dir() or found is None:
            continue
        if (data / "store" / found[1][:3] / found[1]).is_dir():
            for table in (data / "data" / copied.name).glob("*"):
                if not table.is_symlink() and table.is_dir():
                    shutil.rmtree(table)
            shutil.rmtree(copied)  # last: while it is there, the next opening goes on


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


@contextlib.contextmanager
def _as_file(rows: bytes) -> Iterator[str]:
    """Show bytes to chDB as a file: in memory where the system can, since they are durable
    elsewhere."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rows")
        path = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, path = tempfile.mkstemp()
    try:
        view = memoryview(rows)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield path
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):
            os.unlink(path)


def _config(memory_bytes: int, *, reads: bool) -> str:
    # Caches are bounded because the process shares a laptop with everything else; UTC because times
    # are instants here. Who only reads needs no threads for merges and inserts. Query processes
    # read parts until they have noticed that these were merged, and for as long as a query takes.
    pools = (
        """
  <background_pool_size>1</background_pool_size>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_common_pool_size>1</background_common_pool_size>
  <background_schedule_pool_size>2</background_schedule_pool_size>"""
        if reads
        else ""
    )
    return f"""<clickhouse>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <mark_cache_size>{64 << 20}</mark_cache_size>
  <index_mark_cache_size>{16 << 20}</index_mark_cache_size>
  <primary_index_cache_size>{64 << 20}</primary_index_cache_size>
  <mmap_cache_size>0</mmap_cache_size>
  <max_thread_pool_size>256</max_thread_pool_size>
  <max_thread_pool_free_size>8</max_thread_pool_free_size>{pools}
  <merge_tree><old_parts_lifetime>{_OLD_PARTS_S}</old_parts_lifetime></merge_tree>
</clickhouse>
"""
