"""A real telemetry process, started as the supervisor starts it: what the tests of intake and SQL
stand on."""

import http.client
import json
import signal
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from served import INTERNAL

from sextant.server.feed.telemetry_client import TelemetryClient
from sextant.server.processes.supervisor import Child, claim, working_environment


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Telemetry:
    """One process; `kill` and `begin` as a crash and the supervisor do."""

    def __init__(self, folder: Path, api: str, **more: Any) -> None:
        self.start = {
            "folder": str(folder / "telemetry"),
            "lake": str(folder / "lake"),
            "ingest": claim("ingest", "127.0.0.1:0"),
            "sql": claim("sql", "127.0.0.1:0"),
            "api": api,
            "secret": INTERNAL,
            **more,
        }
        self.ingest, self.sql = f"http://{self.start['ingest']}", f"http://{self.start['sql']}"
        self.child = Child(
            "telemetry", "sextant.server.processes.telemetry", lambda _: self.start, "", print
        )
        self.client = TelemetryClient(self.ingest, self.sql, INTERNAL)

    def begin(self) -> None:
        self.child.begin(working_environment("telemetry"), {})

    def kill(self) -> None:
        assert self.child.process
        self.child.process.send_signal(signal.SIGKILL)
        self.child.process.wait()

    def end(self) -> None:
        self.child.end(time.monotonic() + 20)

    def post(
        self,
        path: str,
        body: bytes,
        *,
        token: str = "",
        content_type: str = "",
        method: str = "POST",
        endpoint: str = "",
        **headers: str,
    ) -> Answer:
        """Send one request, as a client without our help would; headers with _ for -."""
        link = http.client.HTTPConnection(
            urllib.parse.urlsplit(endpoint or self.ingest).netloc, timeout=30
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= ({"Content-Type": content_type} if content_type else {}) | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        link.request(method, path, body, sent)
        answer = link.getresponse()
        out = Answer(
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(),
        )
        link.close()
        return out

    def rows(self, sql: str, **params: str) -> list[dict[str, Any]]:
        return self.client.query(sql, params)

    def one(self, sql: str, **params: str) -> Any:
        """Return the only value of the only row."""
        (row,) = self.rows(sql, **params)
        (value,) = row.values()
        return value

    def refused(self) -> dict[tuple[str, str], int]:
        """Return (protocol, reason) -> how much was not taken."""
        self.client.send("POST", "/internal/flush", b"")
        return {
            (row["protocol"], row["reason"]): int(row["n"])
            for row in self.rows(
                "SELECT protocol, reason, sum(count) AS n FROM obs.refused GROUP BY "
                "protocol, reason"
            )
        }


@contextmanager
def telemetry(folder: Path, *, api: str = "", **more: Any) -> Iterator[Telemetry]:
    """Give a process on a folder; `api` is where tokens are known."""
    one = Telemetry(folder, api, **more)
    one.begin()
    try:
        yield one
    finally:
        one.end()
