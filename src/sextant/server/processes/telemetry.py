"""The telemetry process: the store, the intake, and two endpoints - ingest, and SQL, which answers
in processes of its own. Nothing of the ledger, of accounts or of secrets is here.

Started by the supervisor (`python -m sextant.server.processes.telemetry`), with what it needs on
standard input; confined before anything is opened.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from sextant.http.answers import JSON, Answer, json_answer
from sextant.http.refusals import Refusals
from sextant.http.request import Request
from sextant.http.routing import Route
from sextant.http.server import Server, resident, serving
from sextant.kernel.clock import SystemClock
from sextant.kernel.errors import Denied, NotFound, SextantError, StorageError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import BODY_BYTES_MAX
from sextant.server.processes.wire import Ready, end_with_parent, read_start, say_ready
from sextant.server.protocols.misdirected import Ports
from sextant.server.sql.answering import InProcess
from sextant.server.sql.query_process import Begin, Place, serve
from sextant.server.sql.query_processes import QueryProcesses
from sextant.server.sql.starter import Starter

if TYPE_CHECKING:
    from sextant.server.ingest.otlp_grpc import GrpcServer

_LOOK_S = 1.0
_MEMORY_BYTES = 2 << 30  # what all queries and merges together may use


class TelemetryStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the process gets. `ingest`, `grpc` and `sql` are host:port, `retention` table -> length
    such as `30d`, `secret` authenticates the coordinator."""

    folder: str
    lake: str
    ingest: str
    sql: str
    api: str
    secret: str
    grpc: str = ""  # "" = OTLP over gRPC is not taken
    env: str = ""
    retention: dict[str, str] = {}
    clickhouse: str = ""
    series_max: int = 0
    apart: bool = True  # untrusted queries run in processes of their own


class TelemetryProcess:
    """Everything of the process; `make` puts it together."""

    def __init__(self, start: TelemetryStart, starter: Starter | None) -> None:
        from sextant.http.introspection import Grants
        from sextant.server.feed import ops
        from sextant.server.ingest.endpoint import IngestEndpoint
        from sextant.server.sql.endpoint import SqlEndpoint
        from sextant.stores.telemetry import migrate
        from sextant.stores.telemetry.intake import Intake
        from sextant.stores.telemetry.series import Series

        self.start, self.starter = start, starter
        self.boot = secrets.token_hex(8)
        self.refusals = Refusals()
        clock = SystemClock()
        ports = Ports(start.api, f"http://{start.ingest}", f"http://{start.sql}")
        folder = Path(start.folder)
        days = migrate.DAYS | {
            table: max(1, round(length_s(length) / 86_400))
            for table, length in start.retention.items()
        }
        self.store = _open_store(start, folder)
        migrate.migrate(self.store, days)
        for statement in ops.ddl():
            self.store.run(statement)
        series = Series(per_owner=start.series_max) if start.series_max else Series()
        self.intake = Intake(
            self.store, folder, clock, retention_days=days["samples"], series=series
        )
        grants = Grants(start.api, start.secret)
        self.ingest = IngestEndpoint(
            self.intake,
            grants,
            clock,
            keep_days=days,
            internal=start.secret,
            internal_routes=self._internal_routes(),
            refusals=self.refusals,
            ports=ports,
        )
        self.answering: QueryProcesses | InProcess
        if starter is None:
            from sextant.server.sql.catalogue import Catalogue

            catalogue = Catalogue(self.store, Path(start.lake), elsewhere=bool(start.clickhouse))
            self.answering = InProcess(self.store, self.intake.flush, catalogue)
        else:
            from sextant.server.sql.attached import functions_of, tables_of

            begin = Begin(tables_of(self.store), functions_of(self.store))
            self.answering = QueryProcesses(
                starter, folder, begin, self.intake.flush, self.store.changed
            )
        self.sql = SqlEndpoint(
            self.answering,
            self.store.query("SELECT version()", form="TSVRaw").decode().strip(),
            grants.of,
            internal=start.secret,
            refused=lambda who, why: self.refusals.add(who, f"{why} for sql"),
            wrote=self.ingest.wrote,
            ports=ports,
        )

    # ---------------------------------------------------------------- the internal API

    def _internal_routes(self) -> list[Route]:
        """Return the routes for the coordinator."""
        return [
            Route("GET", "/internal/health", self._answer_health),
            Route("POST", "/internal/refusals", self._answer_refusals),
            Route("POST", "/internal/flush", self._answer_flush),
            Route("POST", "/internal/run", self._answer_run),
            Route("POST", "/internal/query", self._answer_query),
            Route("POST", "/internal/tables", self._answer_tables),
            Route("POST", "/internal/rows/{table}", self._answer_rows),
        ]

    async def _answer_health(self, _request: Request) -> Answer:
        return json_answer(await asyncio.to_thread(self.health))

    async def _answer_refusals(self, _request: Request) -> Answer:
        taken = self.refusals.take()
        return json_answer([(actor, reason, count) for (actor, reason), count in taken.items()])

    async def _answer_flush(self, _request: Request) -> Answer:
        await self._write_refusals()
        await asyncio.to_thread(self.intake.flush)
        return json_answer({})

    async def _answer_run(self, request: Request) -> Answer:
        statement = msgspec.json.decode(await _body(request), type=_Statement)
        await asyncio.to_thread(self.store.run, statement.sql)
        return json_answer({})

    async def _answer_query(self, request: Request) -> Answer:
        asked = msgspec.json.decode(await _body(request), type=_Statement)
        await self._write_refusals()
        await asyncio.to_thread(self.intake.flush)
        rows: bytes = await asyncio.to_thread(
            self.store.query, asked.sql, form=asked.form, params=asked.params
        )
        return Answer(200, rows, JSON)

    async def _answer_tables(self, request: Request) -> Answer:
        from sextant.server.sql.catalogue import Published

        published = msgspec.json.decode(await _body(request), type=Published)
        await asyncio.to_thread(self.answering.publish, published)
        return json_answer({})

    async def _answer_rows(self, request: Request) -> Answer:
        table, token = request.values["table"], request.headers.get("x-token", "")
        if not table.startswith("fed."):
            raise NotFound("SX-UP-031", f"there is nothing at `{request.path[:80]}`")
        if not token:
            raise Denied("SX-UP-030", "rows come with a token", hint="X-Token")
        rows = await _body(request)
        await asyncio.to_thread(self.store.insert, table, rows, token=token, form="JSONEachRow")
        return json_answer({})

    async def _write_refusals(self) -> None:
        """Make what was refused visible to queries."""
        for written in self.ingest.write_refusals():
            await asyncio.wrap_future(written)

    def health(self) -> dict[str, Any]:
        """Return what the coordinator meters: numbers of queues and counters, sizes in bytes, and
        which start of the process this is."""
        return {
            "boot": self.boot,
            **self.intake.health(),
            **self.sql.health(),
            "memory_bytes": resident(),
            "disk_bytes": _disk(Path(self.start.folder)),
        }

    def close(self) -> None:
        """Put what has arrived into the tables and close the store."""
        with contextlib.suppress(SextantError):
            self.ingest.write_refusals()
        self.ingest.close()
        self.intake.close()
        self.sql.close()
        self.store.close()


class _Statement(msgspec.Struct):
    sql: str
    params: dict[str, str] = {}
    form: str = "JSONEachRow"


async def _body(request: Request) -> bytes:
    from sextant.server.ingest.endpoint import too_large

    return await request.body(BODY_BYTES_MAX, too_large)


def _place(start: TelemetryStart) -> bytes:
    """Return what the starter is told."""
    store = Path(start.folder) / "store" / "data"
    return msgspec.msgpack.encode(Place(start.folder, str(store), start.lake))


def _open_store(start: TelemetryStart, folder: Path) -> Any:
    if start.clickhouse:
        from sextant.stores.telemetry.clickhouse import ClickHouseStore

        return ClickHouseStore(start.clickhouse)
    from sextant.stores.telemetry.chdb import ChdbStore

    return ChdbStore(folder / "store", memory_bytes=_MEMORY_BYTES)


def _disk(folder: Path) -> int:
    """Return the bytes of a folder's files; one that goes meanwhile is not counted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, name), follow_symlinks=False).st_size
    return total


async def _until_lost(starter: Starter) -> None:
    """Return when no query process can be started any more."""
    while not starter.has_ended():  # noqa: ASYNC110 - a process's end is no event of this loop
        await asyncio.sleep(_LOOK_S)


async def _listen_grpc(process: TelemetryProcess) -> "GrpcServer | None":
    """Return the server of OTLP over gRPC; None when there is none, or its port is taken."""
    if not process.start.grpc:
        return None
    from sextant.server.ingest.otlp_grpc import GrpcServer

    server = GrpcServer(process.ingest, process.start.grpc)
    try:
        await server.start()
    except SextantError as error:
        print("\n".join(error.lines()), file=sys.stderr, flush=True)
        return None
    return server


async def _serve(process: TelemetryProcess, confined: str) -> None:
    stopping = asyncio.Event()
    servers = [
        Server(serving(app, address, keep_alive_s=75, connections_max=1000))
        for app, address in (
            (process.ingest, process.start.ingest),
            (process.sql, process.start.sql),
        )
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def end() -> None:
        loop.call_soon_threadsafe(stopping.set)

    end_with_parent(end)
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    steady = [asyncio.create_task(process.ingest.count())]
    if process.starter is not None:
        lost = asyncio.create_task(_until_lost(process.starter))
        lost.add_done_callback(lambda _: stopping.set())  # the supervisor starts us again
        steady.append(lost)
    while not all(server.started for server in servers):
        await asyncio.sleep(0.005)
        if any(task.done() for task in tasks):
            return
    grpc = await _listen_grpc(process)
    say_ready(
        Ready(
            grpc=process.start.grpc if grpc else "",
            ingest=f"http://{process.start.ingest}",
            sql=f"http://{process.start.sql}",
            confined=confined,
        )
    )
    await stopping.wait()
    for task in steady:
        task.cancel()
    if grpc is not None:
        await grpc.stop()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Run until told to stop."""
    from sextant.server.feed import ops
    from sextant.server.sql.landlock import confine

    starter = Starter(serve)  # before anything is known that queries must not find
    ops.tables()  # kinds of packages, which may lie where this process cannot read when confined
    start = read_start(TelemetryStart)
    try:
        ports = [
            port
            for port in (urlsplit(url).port for url in (start.api, start.clickhouse) if url)
            if port
        ]
        os.umask(0o077)  # chDB makes files and folders by it
        apart: Starter | None = None
        if start.apart and not start.clickhouse:
            apart = starter
            apart.begin(_place(start))
        else:
            starter.close()
        confined = confine(Path(start.folder), Path(start.lake), connect=ports, starts_python=True)
        process = TelemetryProcess(start, apart)
        gc.freeze()  # what is here stays: the collector, which stops all else, need not look at it
        gc.set_threshold(50_000, 20, 20)  # batches are large and have no cycles
    except OSError as error:
        refused = StorageError(
            "SX-TELEMETRY-007",
            f"the telemetry store's folder cannot be used: {error.strerror}: `{error.filename}`",
            hint=(
                "mend its owner and permissions, or move it away: a new one is made then, and "
                "what SQL shows of data and ledger is fed again"
            ),
        )
        print("\n".join(refused.lines()), file=sys.stderr, flush=True)
        return refused.exit_code
    except SextantError as error:
        print("\n".join(error.lines()), file=sys.stderr, flush=True)
        return error.exit_code
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(process, confined))
    finally:
        process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
