"""`sextant up` on a small project: from start to ready, memory when idle, from a pushed row to the
KPI, from a write to the live stream.

Real processes and real HTTP on this machine. What is acknowledged is fsynced. Memory: RSS counts
shared pages once for each process, PSS shares them out.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sextant.kernel.limits import PUBLISH_EVERY_S_MIN, SQL_IDLE_S, WORKER_IDLE_S

TOML = (
    'module = "ops"\nenvironment = "dev"\n[server]\napi = "127.0.0.1:0"\ningest = '
    '"127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)
OPS = """
import sextant as sx

sx.project("bench", tz="UTC", owner=sx.team("bench"), environments=["dev"])
sales = sx.stream("sales", columns={"id": "string", "amount": "float64"}, key="id", checks=[sx.between("amount", 0, 1000)])
total = sx.kpi("total", of=sales, measure="count(*)", grain="")
"""


class Up:
    """One server."""

    def __init__(self, root: Path) -> None:
        self.root, self.token = root, ""

    def begin(self) -> float:
        """Start it; return the seconds until it said that it is ready, the interpreter's start
        included."""
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "sextant.cli.main",
            "--project",
            str(self.root),
            "up",
            "--json",
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout
        facts = json.loads(self.process.stdout.readline())
        took = time.perf_counter() - began
        self.api, self.token = (
            urllib.parse.urlsplit(facts["api"]).netloc,
            facts["token"] or self.token,
        )
        return took

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.api, timeout=60)

    def ask(
        self, link: http.client.HTTPConnection, method: str, path: str, body: Any = None
    ) -> Any:
        link.request(
            method,
            f"/api/v1{path}",
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        answer = link.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return json.loads(data)

    def memory(self) -> tuple[float, float]:
        """Return RSS and PSS of all processes together, MB."""
        rss = pss = 0
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            waiting += [
                int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
            said = dict(
                line.split(":", 1)
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            )
            rss += int(said["Rss"].split()[0])
            pss += int(said["Pss"].split()[0])
        return rss / 1024, pss / 1024


def say(what: str, unit: str, values: Sequence[float], budget: float | None = None) -> None:
    """Print one figure."""
    print(
        json.dumps(
            {
                "bench": "server",
                "what": what,
                "unit": unit,
                "median": round(statistics.median(values), 4),
                "min": round(min(values), 4),
                "max": round(max(values), 4),
                "n": len(values),
                "budget": budget,
            }
        ),
        flush=True,
    )


def pushes(up: Up, repeat: int) -> list[float]:
    """Return the seconds from a push to a quiet stream to the KPI that has it."""
    link, out = up.connect(), []
    for number in range(repeat):
        time.sleep(PUBLISH_EVERY_S_MIN)  # else its pause would be measured
        began = time.perf_counter()
        up.ask(
            link, "POST", "/datasets/sales/rows", {"rows": [{"id": f"s{number}", "amount": 1.0}]}
        )
        while True:
            try:
                if up.ask(link, "GET", "/kpis/total")["rows"][0]["value"] == number + 1:
                    break
            except AssertionError:  # it has no value yet
                continue
        out.append(time.perf_counter() - began)
    return out


def stream(up: Up, repeat: int) -> list[float]:
    """Return the seconds from the request of a write to its event on the live stream."""
    link, listening, out = up.connect(), up.connect(), []
    listening.request(
        "GET",
        "/api/v1/stream?types=release.reported",
        headers={"Authorization": f"Bearer {up.token}"},
    )
    answer = listening.getresponse()
    for number in range(repeat):
        began = time.perf_counter()
        up.ask(
            link,
            "POST",
            "/reports",
            {"kind": "release", "asset": "service:web", "version": f"v{number}"},
        )
        while not answer.readline().startswith(b"data:"):
            pass
        out.append(time.perf_counter() - began)
    listening.close()
    return out


def first_query(up: Up, question: Any) -> list[float]:
    """Return the seconds of the first query after the start."""
    return [one / 1000 for one in requests(up, "POST", "/query", question, 1)]


def requests(up: Up, method: str, path: str, body: Any, repeat: int) -> list[float]:
    """Return the milliseconds of single requests, one after the other on one connection."""
    link, out = up.connect(), []
    for _ in range(repeat):
        began = time.perf_counter()
        up.ask(link, method, path, body)
        out.append(1000 * (time.perf_counter() - began))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="starts")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds before memory is read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        os.environ.update(XDG_CONFIG_HOME=f"{folder}/config", XDG_STATE_HOME=f"{folder}/state")
        root = Path(folder) / "project"
        root.mkdir()
        (root / "sextant.toml").write_text(TOML)
        (root / "ops.py").write_text(OPS)
        up = Up(root)
        say("first start to ready", "s", [up.begin()], 2.0)
        time.sleep(arguments.idle)
        rss, pss = up.memory()
        say("idle, never ran anything: RSS of all processes", "MB", [rss], 500)
        say("idle, never ran anything: PSS of all processes", "MB", [pss], 500)
        question = {"sql": "SELECT count() AS n FROM ops.events"}
        say("first query, with the start of its process", "s", first_query(up, question))
        _, warm = up.memory()
        say("one query process more: PSS", "MB", [warm - pss])
        say("pushed row to KPI", "s", pushes(up, 15), 5.0)
        say("write to live stream", "s", stream(up, 50))
        say("GET /status", "ms", requests(up, "GET", "/status", None, 100))
        say(
            "POST /query, SELECT count() FROM ops.events",
            "ms",
            requests(up, "POST", "/query", question, 100),
        )
        time.sleep(max(WORKER_IDLE_S, SQL_IDLE_S) + 10 + arguments.idle)
        rss, pss = up.memory()
        say("idle after runs: RSS of all processes", "MB", [rss], 500)
        say("idle after runs: PSS of all processes", "MB", [pss])
        up.end()
        starts = []
        for _ in range(arguments.repeat):
            starts.append(up.begin())
            up.end()
        say("start to ready", "s", starts, 2.0)


if __name__ == "__main__":
    main()
