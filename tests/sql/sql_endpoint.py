"""What the tests of the SQL endpoint stand on: a telemetry store with a few tables, a lake with
published versions, and the endpoint on a loopback port.

A process has room for one path of chDB at a time, so a module opens its world, and closes it before
the next one.
"""

import http.client
import os
import random
import shutil
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import uvicorn

from sextant.kernel.clock import ManualClock, from_datetime
from sextant.kernel.ids import Ids
from sextant.kinds.kpi.spec import Measure
from sextant.kernel.ports import TableCommit
from sextant.server.sql import system
from sextant.server.sql.catalogue import Catalogue, LiveKpi, LiveTable, live_kpi
from sextant.server.sql.answering import InProcess
from sextant.server.sql.endpoint import SqlEndpoint
from sextant.server.sql.guard import Guard, Judged
from sextant.stores.lake import frames
from sextant.stores.lake.iceberg import IcebergLake
from sextant.stores.telemetry.chdb import ChdbStore

_OBS = """
CREATE TABLE obs.logs (time DateTime64(9, 'UTC'), service LowCardinality(String), level LowCardinality(String), body String, attributes Map(String, String), file String)
ENGINE = MergeTree ORDER BY (service, time);
CREATE TABLE obs.samples (metric LowCardinality(String), time DateTime64(3, 'UTC'), value Float64, labels Map(String, String)) ENGINE = MergeTree ORDER BY (metric, time);
CREATE TABLE ops.events (seq UInt64, time DateTime64(3, 'UTC'), type LowCardinality(String), subject String, data String) ENGINE = MergeTree ORDER BY seq;
INSERT INTO obs.logs SELECT toDateTime64('2026-01-01 00:00:00', 9, 'UTC') + toIntervalSecond(number), ['api', 'web'][number % 2 + 1], ['info', 'error'][toUInt8(number % 5 = 0) + 1],
    concat('request ', toString(number), ' took ', toString(number % 97), ' ms'), map('path', concat('/', toString(number % 3))), 'a.py' FROM numbers(500);
INSERT INTO obs.samples SELECT ['cpu', 'memory'][number % 2 + 1], toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalMinute(number), sin(number), map('host', toString(number % 4)) FROM numbers(500);
INSERT INTO ops.events SELECT number, toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalHour(number), ['run.started', 'run.finished'][number % 2 + 1], concat('run:', toString(number)), '{"rows": 3, "env": "dev"}' FROM numbers(100)
"""
DIGESTS = [f"{n:x}" * 64 for n in range(16)]


class Caller(NamedTuple):
    name: str
    role: str = "viewer"
    scopes: tuple[str, ...] = ("api", "query")

    @property
    def person(self) -> str:
        return self.name


TOKENS = {
    "sxt_viewer": Caller("viewer"),
    "sxt_other": Caller("other"),
    "sxt_admin": Caller("boss", "admin"),
    "sxt_ingest": Caller("shipper", "operator", ("ingest",)),
}
SECRET = "secret-of-the-processes"


class World:
    """A store, a lake, a catalogue and a guard in a temporary folder, which is the working
    directory meanwhile."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sextant-sql-")).resolve()
        (self.folder / "lake").mkdir()
        self._was = os.getcwd()
        os.chdir(self.folder / "lake")
        clock = ManualClock(from_datetime(datetime(2013, 6, 1, tzinfo=UTC)))
        self.lake = IcebergLake(self.folder / "lake", clock=clock, ids=Ids(clock, random.Random(1)))
        self.store = ChdbStore(self.folder / "telemetry")
        system.install(self.store)
        for statement in _OBS.split(";\n"):
            self.store.run(statement.strip())
        self.catalogue = Catalogue(self.store, self.lake.root)
        self.guard = Guard(self.store)
        self._attempts = 0
        self.tables, self.kpis = self._published()

    def put(self, name: str, table: pa.Table, base: str = "") -> TableCommit:
        """Write a state of a table, as the coordinator does."""
        self._attempts += 1
        outs = frames.write_many(
            frames.arrange([("", table)]),
            root=self.lake.root,
            staging=f"{name}/data/a{self._attempts}",
            grain="none",
        )
        files = [file for out in outs for file in out.files]
        return self.lake.commit(
            name,
            base,
            add=files,
            replace=[""],
            arrow_schema=table.schema.serialize().to_pybytes(),
            partitioned="none",
        )

    def live(
        self,
        name: str,
        table: pa.Table,
        digest: str,
        *,
        env: str = "dev",
        personal: tuple[str, ...] = (),
        live: bool = True,
    ) -> LiveTable:
        return LiveTable(
            env=env,
            asset=f"dataset:{name}",
            name=name,
            version=digest,
            locator=self.put(name, table).locator,
            personal=personal,
            live=live,
        )

    def _published(self) -> tuple[list[LiveTable], list[LiveKpi]]:
        """Write three datasets and the values of a KPI."""
        n = list(range(300))
        flights = pa.table(
            {
                "flight": n,
                "origin": [("EWR", "JFK", "LGA")[i % 3] for i in n],
                "carrier": [("UA", "AA")[i % 2] for i in n],
                "delay": [float(i % 40) - 5 if i % 10 else None for i in n],
                "time_hour": [datetime(2013, 1, 1 + i % 28, i % 24, tzinfo=UTC) for i in n],
                "day": [datetime(2013, 1, 1 + i % 28, tzinfo=UTC).date() for i in n],
            }
        )
        airlines = pa.table({"carrier": ["UA", "AA"], "name": ["United", "American"]})
        people = pa.table(
            {"id": [1, 2, 3], "city": ["Oslo", "Bern", "Oslo"], "email": ["a@x", "b@x", "c@x"]}
        )
        values = pa.table(
            {
                "bucket": [datetime(2013, 1, d, tzinfo=UTC) for d in (1, 2, 3)],
                "origin": ["EWR", "JFK", "LGA"],
                "p0": [1.0, 3.0, 0.0],
                "p1": [2, 4, 5],
            }
        )
        measure = Measure(
            of="dataset:flights", sql="sum(delay) / count(*)", grain="1d", by=("origin",)
        )
        tables = [
            self.live("flights", flights.slice(0, 200), DIGESTS[1], live=False),
            self.live("flights", flights, DIGESTS[2]),
            self.live("flights", flights.slice(0, 10), DIGESTS[3], env="prod"),
            self.live("airlines", airlines, DIGESTS[4]),
            self.live("people", people, DIGESTS[5], personal=("email",)),
            self.live("kpi_mean_delay", values, DIGESTS[6]),
        ]
        return tables, [live_kpi("dev", "mean_delay", measure)]

    def show(self) -> None:
        """Show what is published at the endpoint."""
        applied = self.catalogue.apply("dev", self.tables, self.kpis)
        assert not applied.left_out

    def judge(self, sql: str, *, admin: bool = False, **more: Any) -> Judged:
        with self.catalogue.reading(admin=admin) as names:
            return self.guard.judge(sql, names, **more)

    def ask(self, sql: str, *, admin: bool = False, form: str = "TSV", **more: Any) -> str:
        """Judge and answer."""
        with self.catalogue.reading(admin=admin) as names:
            return self.store.ask(
                self.guard.judge(sql, names, **more).sql, form=form, params=more.get("params")
            ).decode()

    def close(self) -> None:
        self.store.close()
        os.chdir(self._was)
        shutil.rmtree(self.folder)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def version(store: ChdbStore) -> str:
    return store.query("SELECT version()", form="TSVRaw").decode().strip()


class Served:
    """The SQL endpoint of a world on a loopback port, as the telemetry process serves it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flushed = 0
        self.refused: list[tuple[str, str]] = []

        async def authorise(token: str) -> Caller | None:
            return TOKENS.get(token)

        def flush() -> None:
            self.flushed += 1

        self.answering = InProcess(world.store, flush, world.catalogue)
        self.app = SqlEndpoint(
            self.answering,
            version(world.store),
            authorise,
            internal=SECRET,
            refused=lambda who, why: self.refused.append((who, why)),
        )
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        ready = threading.Event()
        startup = self._server.startup

        async def started(sockets: Sequence[socket.socket] | None = None) -> None:
            await startup(sockets=list(sockets or []))
            ready.set()

        self._server.startup = started
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        assert ready.wait(30)

    def send(
        self,
        method: str = "POST",
        path: str = "/",
        body: bytes | str = b"",
        *,
        token: str = "sxt_viewer",
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {**({"X-ClickHouse-Key": token} if token else {}), **(headers or {})}
        try:
            link.request(
                method,
                f"{path}?{urllib.parse.urlencode(query)}" if query else path,
                body.encode() if isinstance(body, str) else body,
                sent,
            )
            answer = link.getresponse()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            link.close()

    def ask(self, sql: str, **more: Any) -> Answer:
        return self.send("POST", "/", sql, **more)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.app.close()
        self._socket.close()


def cases(file: Path) -> list[tuple[str, str]]:
    """Return (name, query) of a file in which `# name` stands before each query."""
    out = []
    for block in f"\n{file.read_text(encoding='utf-8')}".split("\n# ")[1:]:
        name, _, query = block.partition("\n")
        out.append((name, query.rstrip("\n")))
    return out
