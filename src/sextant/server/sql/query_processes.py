"""The query processes of a telemetry process: started when they are needed, a few kept, killed when
a query is not ended in time or nobody wants its answer any more.

One question at a time and process, so that killing one harms nobody else, and nothing of one answer
can come with another. Used by the endpoint, on its event loop.
"""

import asyncio
import collections
import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sextant.http.request import GoneError
from sextant.kernel import limits
from sextant.kernel.errors import BadData, SextantError, StorageError, from_problem
from sextant.server.sql.answering import LATE_S, Answer, Query, too_late
from sextant.server.sql.catalogue import Published, check
from sextant.server.sql.query_process import FOLDER, SIZE, Begin, Head, Order
from sextant.server.sql.starter import Started, Starter

_BEGIN_S = 30.0  # for a process to be ready
_LOOK_S = 5.0  # so often those that nobody needs are looked for
_READ_BYTES = 1 << 20
_HEAD_BYTES_MAX = 1 << 20
_DEAD_S = 0.1  # a process that ends so soon may have been dead before it was asked


class _Process:
    """One process and our end of its socket."""

    def __init__(self, started: Started) -> None:
        self.pid, self._socket = started
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.began = self.used = time.monotonic()
        self.published_number = -1  # of the list that it knows

    async def begin(self, begin: Begin) -> None:
        """Wait until it is ready. EOFError when it ends."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._socket, limit=_READ_BYTES
        )
        await self._send(msgspec.msgpack.encode(begin))
        await self._head()

    async def ask(self, order: Order) -> tuple[Head, list[bytes]]:
        """Return what it answers: the data in pieces. EOFError when it ends."""
        await self._send(msgspec.msgpack.encode(order))
        head = await self._head()
        pieces, left = [], head.size
        while left:
            try:
                piece = await self._reader.read(min(left, _READ_BYTES))
            except ConnectionError as error:
                raise EOFError from error
            if not piece:
                raise EOFError
            pieces.append(piece)
            left -= len(piece)
        return head, pieces

    def has_ended(self) -> bool:
        """Say whether it has ended while nobody asked it: killed by the system, say."""
        return self._reader.at_eof()

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            self._writer.transport.abort()
        self._socket.close()

    async def _send(self, message: bytes) -> None:
        try:
            self._writer.write(SIZE.pack(len(message)) + message)
            await self._writer.drain()
        except ConnectionError as error:
            raise EOFError from error

    async def _head(self) -> Head:
        try:
            (size,) = SIZE.unpack(await self._reader.readexactly(SIZE.size))
            if size > _HEAD_BYTES_MAX:
                raise EOFError
            head = msgspec.msgpack.decode(await self._reader.readexactly(size), type=Head)
        except (ConnectionError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
            raise EOFError from error
        if head.size > 2 * limits.SQL_RESULT_BYTES_MAX:  # what cannot be packed grows a little
            raise EOFError
        return head


class QueryProcesses:
    """The processes.

    starter  starts and kills them
    folder   the telemetry folder, in which each has files of its own
    begin    what each is told first
    flush    puts what was acknowledged into the tables; called in a thread
    changed  returns table -> (how often it was written to, when last: monotonic seconds)
    """

    def __init__(
        self,
        starter: Starter,
        folder: Path,
        begin: Begin,
        flush: Callable[[], None],
        changed: Callable[[], Mapping[str, tuple[int, float]]],
    ) -> None:
        self._starter, self._folder, self._begin = starter, folder, begin
        self._flush, self._changed = flush, changed
        self._idle: list[_Process] = []
        self._busy = 0  # that answer, or are being started
        self._published, self._published_number = Published(), 0
        self._telling = threading.Lock()
        self._used = float("-inf")  # when a question came last
        self._warming: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._counts: collections.Counter[str] = collections.Counter()
        for left in (folder / "tmp").glob(f"{FOLDER}*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)

    def publish(self, published: Published) -> None:
        """Say what is live from now on; any thread. Every question that comes later is answered by
        it, in whatever process. BadData for a list that contradicts itself."""
        check(published.tables)
        with self._telling:
            self._published, self._published_number = published, self._published_number + 1

    async def answer(self, one: Query, gone: "asyncio.Future[None]") -> Answer:
        """Answer, and kill the process when the client is gone or the time is up."""
        self._used = time.monotonic()
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        if one.recent and _may_read_telemetry(one):
            await asyncio.to_thread(self._flush)
        began = time.monotonic()
        try:
            head, pieces = await self._ask(one, gone)
        except EOFError:
            if time.monotonic() - began > _DEAD_S:
                raise self._died() from None
            try:
                head, pieces = await self._ask(one, gone)
            except EOFError:
                raise self._died() from None
        if head.problem is not None:
            raise from_problem(head.problem, head.status)
        return Answer(pieces, head.form, head.encoding, head.elapsed_ns)

    async def _ask(self, one: Query, gone: "asyncio.Future[None]") -> tuple[Head, list[bytes]]:
        """Have a process answer. EOFError when it ends."""
        process = await self._take()
        if self._busy > 1:  # many ask: the next one need not wait for a process to begin
            self._start_ahead()
        is_good = False
        try:
            work = asyncio.ensure_future(process.ask(self._order(process, one)))
            first: set[asyncio.Future[Any]] = {work, gone}
            await asyncio.wait(
                first, timeout=limits.SQL_SECONDS_MAX + LATE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not work.done():
                work.cancel()
                self._counts["stopped"] += 1
                if gone.done():
                    raise GoneError
                raise too_late()
            found = work.result()
            is_good = not found[0].last
            return found
        finally:
            self._busy -= 1
            if is_good:
                process.used = time.monotonic()
                self._idle.append(process)
            else:
                await self._end(process)
                self._start_ahead()

    def _died(self) -> BadData:
        self._counts["died"] += 1
        return BadData(
            "SX-SQL-034",
            "the query ended the process that answered it: it took too much memory, or met a "
            "defect of ClickHouse",
            hint="ask for less, or in another way; nobody else was disturbed",
        )

    def health(self) -> dict[str, int]:
        """Return how many processes there are, and how many ended before their time, by why."""
        return {
            "query_processes": len(self._idle) + self._busy,
            "queries_stopped": self._counts["stopped"],
            "query_processes_died": self._counts["died"],
        }

    def close(self) -> None:
        """End all of them."""
        self._starter.close()

    def _order(self, process: _Process, one: Query) -> Order:
        is_new = process.published_number != self._published_number
        process.published_number = self._published_number
        now = time.monotonic()
        return Order(
            query=one,
            changed={
                table: number
                for table, (number, at) in self._changed().items()
                if now - at < limits.SQL_BEHIND_S
            }
            if one.recent
            else {},
            published=self._published if is_new else None,
        )

    async def _take(self) -> _Process:
        """Return a process that is ready: the one used last, or a new one."""
        self._busy += 1
        try:
            while self._idle:
                process = self._idle.pop()
                is_old = time.monotonic() - process.began > limits.SQL_PROCESS_S_MAX
                if not is_old and not process.has_ended():
                    return process
                await self._end(process)
            return await self._start()
        except BaseException:
            self._busy -= 1
            raise

    async def _start(self) -> _Process:
        process = _Process(await asyncio.to_thread(self._starter.start))
        try:
            await asyncio.wait_for(process.begin(self._begin), _BEGIN_S)
        except (EOFError, TimeoutError) as error:
            await self._end(process)
            raise StorageError(
                "SX-SQL-035",
                "the process that was to answer the query did not begin",
                hint="the server's log says why",
            ) from error
        except BaseException:
            await self._end(process)
            raise
        return process

    async def _end(self, process: _Process) -> None:
        process.close()
        await asyncio.to_thread(self._starter.kill, process.pid)
        await asyncio.to_thread(
            shutil.rmtree, self._folder / "tmp" / f"{FOLDER}{process.pid}", ignore_errors=True
        )

    def _start_ahead(self) -> None:
        """See that one process is idle, so that the next question need not wait for it to begin."""
        if not self._idle and not self._warming and self._busy < limits.SQL_AT_ONCE_MAX:
            task = asyncio.ensure_future(self._warm())
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)

    async def _warm(self) -> None:
        try:
            self._idle.insert(0, await self._start())
        except SextantError as error:  # the next question tries it again, and says so
            print("\n".join(error.lines()), file=sys.stderr, flush=True)

    async def _look(self) -> None:
        """End processes that are not needed, again and again: beyond those that are kept at once,
        and all of them when no question has come for long."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            kept = limits.SQL_WARM_MAX if now - self._used < limits.SQL_IDLE_S else 0
            while len(self._idle) > kept and self._idle[0].used < now - _LOOK_S:
                await self._end(self._idle.pop(0))


def _may_read_telemetry(one: Query) -> bool:
    question = one.question
    texts = (question.sql, question.database, *question.params.values())
    return any("obs" in text.lower() for text in texts)
