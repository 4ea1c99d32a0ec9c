"""The one writer thread of a state store: many callers, one transaction at a time, one commit for a
whole group.

Called by both backends. A group is what has queued up while the last one was being made durable.
Writes without an expectation are collected and go to the database as few long batches; a write with
an expectation runs by itself inside a savepoint, so that its failure is its caller's only. A group
that fails as a whole is repeated write by write, so that an error reaches the write that caused it
and no other.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from sextant.kernel import limits
from sextant.kernel.clock import Clock
from sextant.kernel.errors import Bug, Conflict, SextantError, StorageError
from sextant.kernel.nouns import Event
from sextant.kernel.ports import Pending, Receipt, Row, Sealer, Statement, Write
from sextant.stores.statements import Statements, load

_POUR_ROWS = 20_000  # statements held at a time while tables are filled


class Transactions(Protocol):
    """What a database does for the writer. Only the writer thread calls these."""

    def begin(self, size: int) -> bool:
        """Open the writing transaction. True when another process may have written since this one
        last did, so that a ledger of `size` events may no longer be the newest."""
        ...

    def execute(self, name: str, params: Sequence[Any]) -> int:
        """Run one statement; return the rows that it changed or found."""
        ...

    def execute_many(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement with many rows of parameters."""
        ...

    def query(self, name: str, params: Sequence[Any]) -> list[Row]:
        """Return rows as the open transaction sees them."""
        ...

    def savepoint(self) -> None: ...

    def release(self) -> None: ...

    def undo(self) -> None:
        """Undo what was done since the savepoint. Raises when the transaction itself is gone."""
        ...

    def commit(self, size: int) -> None:
        """Make the transaction durable; the ledger now has `size` events."""
        ...

    def rollback(self) -> None:
        """Give up the transaction, if one is open. Never raises."""
        ...

    def is_lost(self) -> bool:
        """Tell whether the connection is gone, and with it, certainly, the transaction: `begin`
        makes a new one."""
        ...

    def explain(self, error: Exception) -> SextantError:
        """Return the error to show for a database's own."""
        ...

    def disconnect(self) -> None: ...


class Promise:
    """The outcome of a write, cheap to make (0.3 us; `concurrent.futures.Future` is 1.8 us)."""

    __slots__ = ("_callbacks", "_done", "_error", "_receipt", "_waiting", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self._done = False
        self._receipt: Receipt | None = None
        self._error: Exception | None = None
        self._waiting: list[threading.Lock] = []
        self._callbacks: list[Callable[[Pending], object]] = []

    def settle(self, outcome: Receipt | Exception) -> None:
        """Set the outcome and wake who waits. Called once, by the writer thread."""
        if isinstance(outcome, Exception):
            self._error = outcome
        else:
            self._receipt = outcome
        self._done = True  # before looking for waiters: who registers later sees it
        for lock in self._waiting:
            lock.release()
        if self._callbacks:
            self._call_back()

    def done(self) -> bool:
        return self._done

    def exception(self, timeout: float | None = None) -> Exception | None:
        if not self._done:
            lock = threading.Lock()
            lock.acquire()
            self._waiting.append(lock)
            if not self._done and not lock.acquire(timeout=-1 if timeout is None else timeout):
                raise TimeoutError("the write is not durable yet")
        return self._error

    def result(self, timeout: float | None = None) -> Receipt:
        error = self.exception(timeout)
        if error is not None:
            raise error
        assert self._receipt is not None
        return self._receipt

    def add_done_callback(self, call: Callable[[Pending], object]) -> None:
        self._callbacks.append(call)
        if self._done:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                call = self._callbacks.pop(0)
            except IndexError:  # another thread was faster
                return
            try:
                call(self)
            except Exception as error:  # a caller's mistake must not stop the writer
                threading.excepthook(
                    threading.ExceptHookArgs((type(error), error, error.__traceback__, None))
                )


class Batch:
    """Statements of one transaction, collected into runs of one statement each.

    A write touches one table only (`statements.parse` refuses others), so writes to different
    tables commute: each table has its runs in order, and a run goes on as long as its table gets
    the same statement.
    """

    def __init__(self, named: Statements) -> None:
        self._named = named
        self._runs: list[tuple[str, list[Sequence[Any]]]] = []
        self._open: dict[str, tuple[str, list[Sequence[Any]]]] = {}

    def add(self, rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
        open_runs, named = self._open, self._named
        for name, params in rows:
            table = named[name].table
            run = open_runs.get(table)
            if run is not None and run[0] == name:
                run[1].append(params)
            else:
                run = open_runs[table] = (name, [params])
                self._runs.append(run)

    def flush(self, database: Transactions) -> None:
        for name, rows in self._runs:
            if len(rows) == 1:
                database.execute(name, rows[0])
            else:
                database.execute_many(name, rows)
        self._runs.clear()
        self._open.clear()

    def pour(self, rows: Iterable[tuple[str, Sequence[Any]]], database: Transactions) -> None:
        """Run any number of statements, holding few of them at a time."""
        rows = iter(rows)
        while chunk := list(itertools.islice(rows, _POUR_ROWS)):
            self.add(chunk)
            self.flush(database)


class Writer:
    """Queue, thread and group commit over a database's transactions."""

    def __init__(self, database: Transactions, sealer: Sealer, clock: Clock) -> None:
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._grouped = 0  # writes in the last group
        self._stale = True  # the sealer's head must be read before it is used
        self._queue: SimpleQueue[Promise | None] = SimpleQueue()
        self._room = threading.Condition()
        self._closing = threading.Lock()
        self._closed = False
        self._named = load(__package__)
        self._thread = threading.Thread(target=self._run, name="sextant-state-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> Promise:
        """Queue a write. Waits while limits.WRITES_QUEUED_MAX writes are waiting."""
        promise = Promise(write)
        if (
            self._queue.qsize() >= limits.WRITES_QUEUED_MAX
            and threading.current_thread() is not self._thread
        ):
            with self._room:
                while self._queue.qsize() >= limits.WRITES_QUEUED_MAX and not self._closed:
                    self._room.wait()
        self._queue.put(promise)
        if (
            self._closed
        ):  # after the put: a close that this call did not see yet finds the write in the queue
            self._refuse()
        return promise

    def close(self) -> None:
        """Finish what is queued, then stop the thread and disconnect it."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._refuse()

    def _refuse(self) -> None:
        """Wait for the thread's end; what it did not take any more is refused."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join()
        try:
            while True:
                promise = self._queue.get_nowait()
                if promise is not None:
                    promise.settle(
                        StorageError(
                            "SX-STATE-008",
                            "the state store is closed",
                            hint="open the project again",
                        )
                    )
        except Empty:
            return

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._take()
            if group:
                try:
                    self._commit(group)
                except BaseException as error:  # a bug here must reach the callers, not hang them
                    with contextlib.suppress(Exception):
                        self._lose(
                            group, Bug("SX-STATE-099", f"the state writer failed: {error!r}")
                        )
        self._database.disconnect()

    def _take(self) -> tuple[list[Promise], bool]:
        """Wait for a write; return it with those behind it, and whether more may come."""
        queue = self._queue
        first = queue.get()
        if self._grouped > 1:
            # The last commit woke several callers, and they are about to write again: one commit
            # for all of them is worth the few switches of thread (21 k instead of 16 k writes/s
            # from 32 waiting callers).
            waiting = -1
            while waiting < queue.qsize() < self._grouped:
                waiting = queue.qsize()
                self._clock.wait(0)
        group: list[Promise] = []
        open_ = first is not None
        if first is not None:
            group.append(first)
        try:
            while len(group) < limits.GROUP_WRITES_MAX:
                promise = queue.get_nowait()
                if promise is None:
                    open_ = False
                else:
                    group.append(promise)
        except Empty:
            pass
        self._grouped = len(group)
        with self._room:
            self._room.notify_all()
        return group, open_

    def _commit(self, group: list[Promise], *, is_repeated: bool = False) -> None:
        """Make a group durable and tell its callers; when it fails as a whole, each write by
        itself."""
        try:
            self._begin()
        except Exception as error:  # nothing was tried: the reason is the same for all
            self._lose(group, self._explain(error))
            return
        try:
            outcomes = self._apply(group)
            self._database.commit(self._sealer.size())
        except Exception as error:
            explained = self._explain(error)
            self._database.rollback()
            self._stale = True
            if self._database.is_lost() and not is_repeated:
                self._commit(group, is_repeated=True)
            elif len(group) == 1:
                group[0].settle(explained)
            else:
                for promise in group:
                    self._commit([promise])
            return
        for promise, outcome in zip(group, outcomes, strict=True):
            promise.settle(outcome)

    def _lose(self, group: list[Promise], error: SextantError) -> None:
        self._stale = True
        try:
            self._database.rollback()
        finally:  # whatever happens, nobody waits for ever
            for promise in group:
                if not promise.done():
                    promise.settle(error)

    def _begin(self) -> None:
        moved = self._database.begin(self._sealer.size())
        if moved or self._stale:
            self._sealer.load(self._database.query)
            self._stale = False

    def _apply(self, group: list[Promise]) -> list[Receipt | Exception]:
        """Do all writes of a group inside the open transaction; return the outcome of each."""
        database, sealer = self._database, self._sealer
        batch = Batch(self._named)
        unsealed: list[Event] = []
        size = sealer.size()  # with the unsealed
        outcomes: list[Receipt | Exception] = []
        fences: dict[Statement, Conflict | None] = {}  # looked at since the last guarded write
        for promise in group:
            write = promise.write
            if write.fence is not None:
                if write.fence not in fences:
                    batch.flush(database)
                    fences[write.fence] = self._fenced_off(write.fence)
                fenced_off = fences[write.fence]
                if fenced_off is not None:
                    outcomes.append(fenced_off)
                    continue
            if write.statements:
                # Statements see the projections of all earlier events.
                if unsealed:
                    batch.add(sealer.seal(unsealed))
                    unsealed = []
                if any(statement.expect is not None for statement in write.statements):
                    batch.flush(database)
                    outcome = self._guarded(write)
                    outcomes.append(outcome)
                    size = sealer.size()
                    fences.clear()  # it may have been about a lease
                    continue
                batch.add((statement.name, statement.params) for statement in write.statements)
            count = len(write.events)
            if count:
                unsealed.extend(write.events)
            outcomes.append(Receipt(size, count))
            size += count
        if unsealed:
            batch.add(sealer.seal(unsealed))
        batch.flush(database)
        assert sealer.size() == size
        return outcomes

    def _fenced_off(self, fence: Statement) -> Conflict | None:
        """Return why a write with this fence must not happen, None when it may."""
        if self._database.execute(fence.name, fence.params) == fence.expect:
            return None
        return Conflict("SX-STATE-001", fence.conflict, hint="somebody else has taken over")

    def _guarded(self, write: Write) -> Receipt | Exception:
        """Do one write inside a savepoint; return its receipt, or why it was undone."""
        database, sealer = self._database, self._sealer
        first = sealer.size()
        database.savepoint()
        try:
            for name, params, expect, conflict in write.statements:
                count = database.execute(name, params)
                if expect is not None and count != expect:
                    raise Conflict(  # noqa: TRY301 - undone below like any other failure
                        "SX-STATE-001",
                        conflict or f"`{name}` met {count} rows where {expect} were expected",
                        hint="read again and decide anew: somebody was faster",
                    )
            for name, params in sealer.seal(write.events):
                database.execute(name, params)
        except Exception as error:
            explained = self._explain(error)
            database.undo()
            sealer.rewind(first)
            return explained
        database.release()
        return Receipt(first, len(write.events))

    def _explain(self, error: Exception) -> SextantError:
        if isinstance(error, SextantError):
            return error
        explained = self._database.explain(error)
        explained.__cause__ = error
        return explained
