"""The telemetry process: the store, the intake, and two endpoints - ingest, and SQL, which answers
in processes of its own. Nothing of the ledger, of accounts or of secrets is here.

Started by the supervisor (`python -m sextant.server.telemetry`), with what it needs on standard
input; confined before anything is opened.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from sextant.kernel.clock import SystemClock
from sextant.kernel.errors import Denied, NotFound, SextantError, StorageError
from sextant.kernel.lengths import length_s
from sextant.server.refusals import Refusals
from sextant.server.serving import Server, resident
from sextant.server.sql.answering import InProcess
from sextant.server.sql.query_process import Begin, Place, serve
from sextant.server.sql.query_processes import QueryProcesses
from sextant.server.sql.starter import Starter
from sextant.server.wire import Ready, end_with_parent, read_start, say_ready
from sextant.server.wrong_door import Ports

if TYPE_CHECKING:
    from sextant.server.otlp_grpc import GrpcServer

_LOOK_S = 1.0
_MEMORY_BYTES = 2 << 30  # what all queries and merges together may use


class TelemetryStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the process gets. `ingest`, `grpc` and `sql` are host:port, `retention` table -> length
    such as `30d`, `secret` opens the inner door."""

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
    apart: bool = True  # strangers' queries run in processes of their own


class TelemetryProcess:
    """Everything of the process; `make` puts it together."""

    def __init__(self, start: TelemetryStart, starter: Starter | None) -> None:
        from sextant.server import ops
        from sextant.server.grants import Grants
        from sextant.server.ingest import IngestDoor
        from sextant.server.sql.endpoint import SqlDoor
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
        self.ingest = IngestDoor(
            self.intake,
            grants,
            clock,
            keep_days=days,
            internal=start.secret,
            inner=self.inner,
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
        self.sql = SqlDoor(
            self.answering,
            self.store.query("SELECT version()", form="TSVRaw").decode().strip(),
            grants.of,
            internal=start.secret,
            refused=lambda who, why: self.refusals.add(who, f"{why} for sql"),
            wrote=self.ingest.wrote,
            ports=ports,
        )

    # ---------------------------------------------------------------- the inner door

    async def inner(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        """Answer the coordinator; in a thread, since the store may take its time."""
        from sextant.server.protocols.port import Answer

        if path in ("/internal/query", "/internal/flush"):  # what was refused is to be seen as well
            for written in self.ingest.write_refusals():
                await asyncio.wrap_future(written)
        made = await asyncio.to_thread(self._inner, method, path, headers, body)
        return Answer(200, made, "application/json")

    def _inner(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        word = path.removeprefix("/internal/")
        if word == "health" and method == "GET":
            return msgspec.json.encode(self.health())
        if word == "flush":
            self.intake.flush()
        elif word == "refusals":
            return msgspec.json.encode(
                [(actor, reason, count) for (actor, reason), count in self.refusals.take().items()]
            )
        elif word == "run":
            self.store.run(msgspec.json.decode(body, type=_Asked).sql)
        elif word == "query":
            asked = msgspec.json.decode(body, type=_Asked)
            self.intake.flush()
            found: bytes = self.store.query(asked.sql, form=asked.form, params=asked.params)
            return found
        elif word == "tables":
            from sextant.server.sql.catalogue import Told

            self.answering.tell(msgspec.json.decode(body, type=Told))
        elif word.startswith("rows/fed."):
            token = headers.get("x-token", "")
            if not token:
                raise Denied("SX-UP-030", "rows come with a token", hint="X-Token")
            self.store.insert(word.removeprefix("rows/"), body, token=token, form="JSONEachRow")
        else:
            raise NotFound("SX-UP-031", f"there is nothing at `{path[:80]}`")
        return b"{}"

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


class _Asked(msgspec.Struct):
    sql: str
    params: dict[str, str] = {}
    form: str = "JSONEachRow"


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
    from sextant.server.otlp_grpc import GrpcServer

    server = GrpcServer(process.ingest, process.start.grpc)
    try:
        await server.start()
    except SextantError as error:
        print("\n".join(error.lines()), file=sys.stderr, flush=True)
        return None
    return server


async def _serve(process: TelemetryProcess, confined: str) -> None:
    import uvicorn

    from sextant.server.slow import TimedProtocol

    stopping = asyncio.Event()

    servers = []
    for app, address in ((process.ingest, process.start.ingest), (process.sql, process.start.sql)):
        host, _, port = address.rpartition(":")
        servers.append(
            Server(
                uvicorn.Config(
                    app,
                    host=host.strip("[]"),
                    port=int(port),
                    log_level="warning",
                    access_log=False,
                    lifespan="off",
                    timeout_keep_alive=75,
                    timeout_graceful_shutdown=3,
                    limit_concurrency=1000,
                    server_header=False,
                    http=TimedProtocol,
                )
            )
        )
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
    from sextant.server.sql.landlock import confine

    starter = Starter(serve)  # before anything is known that queries must not find
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
        confined = confine(Path(start.folder), Path(start.lake), connect=ports)
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
