"""A store, a guard and a catalogue for the tests of the SQL door: one chDB for the whole session, since a process has room for one path."""

import atexit
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import uvicorn

from sextant.server.sql import system
from sextant.server.sql.catalogue import Catalogue
from sextant.server.sql.endpoint import make_sql_app
from sextant.server.sql.guard import Guard
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
_folder = ""
_store: ChdbStore | None = None


def store() -> ChdbStore:
    """Return the session's store, with tables in `obs` and `ops`."""
    global _folder, _store
    if _store is None:
        _folder = tempfile.mkdtemp(prefix="sextant-sql-")
        _store = ChdbStore(Path(_folder) / "telemetry")
        system.install(_store)
        for statement in _OBS.split(";\n"):
            _store.run(statement.strip())
        atexit.register(_close)
    return _store


def lake() -> Path:
    """Return the folder below which the session's store may read tables."""
    return Path(_folder) / "lake"


def _close() -> None:
    assert _store is not None
    _store.close()
    shutil.rmtree(_folder, ignore_errors=True)


_guard: Guard | None = None


def guard() -> Guard:
    global _guard
    if _guard is None:
        _guard = Guard(store())
    return _guard


class Caller(NamedTuple):
    name: str
    role: str = "viewer"
    scopes: tuple[str, ...] = ("api", "query")


TOKENS = {
    "sxt_viewer": Caller("viewer"),
    "sxt_admin": Caller("boss", "admin"),
    "sxt_ingest": Caller("shipper", "operator", ("ingest",)),
}
SECRET = "secret-of-the-processes"


class Served:
    """The SQL door on a loopback port, as the telemetry process serves it."""

    def __init__(self) -> None:
        self.flushed = 0
        self.refused: list[tuple[str, str]] = []
        self.catalogue = Catalogue(store(), lake(), "dev")

        async def authorise(token: str) -> Caller | None:
            return TOKENS.get(token)

        def flush() -> None:
            self.flushed += 1

        self.app = make_sql_app(store(), flush, authorise, self.catalogue, internal=SECRET, refused=lambda who, why: self.refused.append((who, why)))
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            threading.Event().wait(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.app.close()
        self.socket.close()
