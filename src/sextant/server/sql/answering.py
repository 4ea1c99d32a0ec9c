"""Runs untrusted queries: judged by the guard, under limits, packed. In a query process
(`query_process.py`), or in this one, where that is enough.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from sextant.http.request import GoneError
from sextant.kernel import limits
from sextant.kernel.errors import Busy, SextantError, UsageError
from sextant.kernel.ports import Telemetry
from sextant.server.sql import replies
from sextant.server.sql.blocks import blocks
from sextant.server.sql.catalogue import Catalogue, Published
from sextant.server.sql.guard import Guard
from sextant.server.sql.question import Question, granted

# after its time a query is stopped from outside: ClickHouse looks at its clock only between blocks
LATE_S = 2.0
_STOP_EVERY_S = 0.2
_LOOKS_AROUND = ("system", "information_schema", "INFORMATION_SCHEMA")


class Query(msgspec.Struct, frozen=True):
    """A question and who asks it.

    admin     sees personal columns
    recent    what was written until now is to be seen
    accepted  how the answer may be compressed: the header `Accept-Encoding`
    """

    question: Question
    admin: bool
    recent: bool
    accepted: str


class Answer(NamedTuple):
    """An answer as it is sent: in pieces, so that a large one is not copied. `form` is ClickHouse's
    name of the format."""

    pieces: list[bytes]
    form: str
    encoding: str
    elapsed_ns: int


class Answerer:
    """Answers one question after the other, or several from several threads.

    prepare  is told which tables a judged question reads (`obs.logs`), before it runs
    """

    def __init__(
        self, store: Telemetry, catalogue: Catalogue, prepare: Callable[[Iterable[str]], None]
    ) -> None:
        self._store, self._catalogue, self._prepare = store, catalogue, prepare
        self._guard = Guard(store)

    def answer(self, one: Query, mark: str = "") -> Answer:
        """Return the answer; `mark` is a comment by which the query can be found."""
        started = time.monotonic_ns()
        question = one.question
        with self._catalogue.reading(admin=one.admin) as names:
            try:
                judged = self._guard.judge(
                    question.sql, names, database=question.database, params=question.params
                )
                if any(table.partition(".")[0] in _LOOKS_AROUND for table in judged.tables):
                    self._catalogue.look_around()
                self._prepare(judged.tables)
                form = judged.form or question.form
                limit, settings = granted((*question.settings, *judged.settings))
                data = self._store.ask(
                    f"{mark} {judged.sql}",
                    form=form,
                    params=question.params,
                    limits=limit,
                    settings=settings,
                )
            except SextantError as error:
                raise _readable(error, names.plain, mark) from error.__cause__
        if len(data) > limits.SQL_RESULT_BYTES_MAX:
            raise UsageError(
                "SX-SQL-017",
                f"the answer is larger than {limits.SQL_RESULT_BYTES_MAX >> 20} MiB",
                hint=(
                    "ask for fewer rows or columns, or in a format that packs more, such as Parquet"
                ),
            )
        packed, encoding = (
            (b"".join(blocks(data)), "") if question.blocks else replies.packed(data, one.accepted)
        )
        return Answer([packed], form, encoding, time.monotonic_ns() - started)


class InProcess:
    """Answers in threads of this process: where the store is a ClickHouse elsewhere, which has
    limits of its own, or whoever asks has the process to himself."""

    def __init__(self, store: Telemetry, flush: Callable[[], None], catalogue: Catalogue) -> None:
        def prepare(tables: Iterable[str]) -> None:
            if any(table.startswith("obs.") for table in tables):
                flush()

        self._store, self._catalogue = store, catalogue
        self._answerer = Answerer(store, catalogue, prepare)
        self._threads = ThreadPoolExecutor(limits.SQL_AT_ONCE_MAX, thread_name_prefix="sextant-sql")
        self._stoppers = ThreadPoolExecutor(2, thread_name_prefix="sextant-sql-stop")

    def publish(self, published: Published) -> None:
        """Say what is live from now on. BadData for a list that contradicts itself."""
        self._catalogue.apply(published.env, published.tables, published.kpis, published.guarded)

    async def answer(self, one: Query, gone: "asyncio.Future[None]") -> Answer:
        """Answer, and stop answering when the client is gone or the time is up."""
        mark = f"/* {secrets.token_hex(8)} */"
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._answerer.answer, one, mark)
        first: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(
            first, timeout=limits.SQL_SECONDS_MAX + LATE_S, return_when=asyncio.FIRST_COMPLETED
        )
        is_late = not work.done() and not gone.done()
        while not work.done():
            with contextlib.suppress(SextantError):
                await loop.run_in_executor(self._stoppers, self._stop, mark)
            await asyncio.wait({work}, timeout=_STOP_EVERY_S)
        try:
            return work.result()
        except SextantError as error:
            if gone.done():
                raise GoneError from error
            if is_late:
                raise too_late() from error
            raise

    def health(self) -> dict[str, int]:
        """Return nothing: there are no processes."""
        return {}

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._stoppers.shutdown(wait=False, cancel_futures=True)

    def _stop(self, mark: str) -> None:
        self._store.query(
            "KILL QUERY WHERE startsWith(query, {mark:String}) ASYNC",
            form="Null",
            params={"mark": mark},
        )


def too_late() -> Busy:
    return Busy(
        "SX-SQL-015",
        f"the query was stopped after {limits.SQL_SECONDS_MAX:g} s",
        hint="ask for less: a shorter time range, fewer rows, or a LIMIT",
    )


def _readable(error: SextantError, plain: Callable[[str], str], mark: str) -> SextantError:
    """Say an error in the names that were asked for, without the mark and without paths."""
    error.message = plain(error.message.replace(f"{mark} ", "") if mark else error.message)
    error.args = (error.message,)
    return error
