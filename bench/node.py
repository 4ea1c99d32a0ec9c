"""Unchanged clients of Node, and whether what they sent is what is found: `python -m bench node`.

OpenTelemetry's SDK (protobuf, JSON and gRPC; cumulative and delta; explicit and exponential
histograms; traces and logs), workers of one service, prom-client scraped by Sextant, and
ClickHouse's client with questions that are aborted. Packages come from bench/clients, by `npm ci`.
Prints a table, a row for each comparison; exit code 1 when one is wrong. Without Node 20 or npm
there is nothing to run: it says so, with exit code 0.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from itertools import product
from pathlib import Path
from typing import Any

from own_project import Project, Table, eventually, project

from sextant.server.processes.supervisor import claim

CLIENTS = Path(__file__).resolve().parent / "clients"
_NODE_MIN = 20
WAYS = list(
    product(
        ("http/protobuf", "http/json", "grpc"),
        ("cumulative", "delta"),
        ("explicit", "exponential"),
    )
)
# what OpenTelemetry's SDK has for a histogram that says nothing itself
BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000, math.inf)
WORK = 37


def missing() -> str:
    """Return what keeps the clients from being run, or ""."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return "there is no `node` or no `npm` here: install Node 20 or newer"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    if int(version.stdout.lstrip("v").split(".")[0] or 0) < _NODE_MIN:
        return f"Node {version.stdout.strip()} is too old: the clients need {_NODE_MIN} or newer"
    return ""


def start(folder: Path, program: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["node", program],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> Any:
    """Return what a program printed as JSON, when it has ended."""
    out, _ = process.communicate(timeout=300)
    if process.returncode:
        raise SystemExit(f"{process.args} ended with exit code {process.returncode}")
    return json.loads(out)


def sends(server: Project, protocol: str) -> dict[str, str]:
    """Return what tells a client where to send."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.grpc if protocol == "grpc" else server.ingest,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{server.token}",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
    }


def grown(server: Project, asset: str, metric: str, *, histogram: bool = False) -> Any:
    table, what = ("histograms", "sum(count)") if histogram else ("rates", "sum(increase)")
    return server.one(
        f"SELECT {what} AS n FROM obs.{table} WHERE asset = 'service:{asset}' AND "
        f"metric = '{metric}'"
    )


def measures(server: Project, folder: Path, table: Table) -> None:
    """Run the program once for each way of sending."""
    running = {}
    for protocol, temporality, histogram in WAYS:
        name = f"{protocol}-{temporality}-{histogram}".replace("/", "-")
        running[name] = start(
            folder,
            "measures.mjs",
            OTEL_SERVICE_NAME=name,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
            APP_HISTOGRAM=histogram,
            **sends(server, protocol),
        )
    measured = {name: said(process) for name, process in running.items()}
    for name, sent in measured.items():
        values = sent["values"]
        for metric, wanted in (
            ("app.orders", sent["orders"]),
            ("app.late", sent["late"]),
            ("app.duration_sum", sum(values)),
        ):
            table.add(
                name,
                f"growth of {metric}",
                wanted,
                eventually(lambda m=metric, n=name: grown(server, n, m), wanted),
            )
        found = eventually(
            lambda n=name: grown(server, n, "app.duration", histogram=True), len(values)
        )
        table.add(name, "values of the histogram", len(values), found)
        where = f"WHERE asset = 'service:{name}'"
        for level in (0.5, 0.95):
            true = values[math.ceil(level * len(values)) - 1]
            quantile = server.one(
                f"SELECT histogramQuantile({level}, groupArrayArray(cells)) FROM obs.histograms "
                f"{where} AND metric = 'app.duration'"
            )
            low, high = _cell(true, is_explicit=name.endswith("explicit"))
            right = quantile is not None and low <= quantile <= high
            table.add(name, f"quantile {level}, in its cell", true, quantile, right=right)
        table.add(
            name,
            "up-down counter",
            0,
            server.one(
                f"SELECT {'sum(value)' if '-delta-' in name else 'argMax(value, ts)'} FROM "
                f"obs.metrics {where} AND metric = 'app.waiting'"
            ),
        )
        spans = server.ask(f"SELECT trace_id FROM obs.spans {where} AND name = 'work'")
        same = sorted(row["trace_id"] for row in spans) == sorted(sent["traces"])
        table.add(name, "spans, by their traces", len(sent["traces"]), len(spans), right=same)
        lines = [
            row["body"] for row in server.ask(f"SELECT body FROM obs.logs {where} ORDER BY ts")
        ]
        right = lines == [f"part {n} is done" for n in range(1, 5)]
        table.add(name, "log lines", 4, len(lines), right=right)


def _cell(value: float, *, is_explicit: bool) -> tuple[float, float]:
    if not is_explicit:
        width = 2 ** (2**-3)  # 160 cells hold the range of the values at scale 3
        return value / width, value * width
    return (
        max((bound for bound in BOUNDS if bound < value), default=0),
        min(bound for bound in BOUNDS if bound >= value),
    )


def clusters(server: Project, folder: Path, table: Table) -> None:
    """Workers of one service without an instance id, one of which is killed."""
    for temporality in ("cumulative", "delta"):
        name = f"cluster-{temporality}"
        sent = said(
            start(
                folder,
                "cluster.mjs",
                OTEL_SERVICE_NAME=name,
                OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
                **sends(server, "http/protobuf"),
            )
        )["counted"]
        found = eventually(lambda n=name: grown(server, n, "app.requests"), sent)
        table.add(name, "growth of app.requests", sent, found)
        found = eventually(lambda n=name: grown(server, n, "app.took", histogram=True), sent)
        table.add(name, "values of the histogram", sent, found)


def scraped(server: Project, target: str, table: Table) -> None:
    """prom-client, scraped by Sextant."""
    name = "prom-client"
    eventually(
        lambda: server.one("SELECT count() > 0 FROM obs.metrics WHERE metric = 'jobs_done_total'"),
        1,
    )
    with urllib.request.urlopen(f"http://{target}/work?n={WORK}"):
        pass
    for metric, is_histogram in (("jobs_done_total", False), ("job_took_seconds", True)):
        found = eventually(
            lambda m=metric, h=is_histogram: grown(server, name, m, histogram=h), WORK
        )
        table.add(name, f"growth of {metric}", WORK, found)


def asked(server: Project, folder: Path, table: Table) -> None:
    """ClickHouse's client, every other question of which is aborted."""
    answers = said(start(folder, "asked.mjs", SQL_URL=server.sql, SQL_TOKEN=server.token))
    what = f"answers, {answers['aborted']} aborted between them"
    table.add("@clickhouse/client", what, answers["asked"], answers["right"])


def main() -> int:
    """Run all; return the exit code."""
    if reason := missing():
        print(f"not run: {reason}", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="sextant-node-") as made:
        folder = Path(made) / "clients"
        shutil.copytree(CLIENTS, folder, ignore=shutil.ignore_patterns("node_modules"))
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            cwd=folder,
            check=True,
        )
        target = claim("target", "127.0.0.1:0")
        scrape = f'[[telemetry.scrape]]\njob = "prom-client"\nurl = "http://{target}/metrics"\nevery = "1s"\ntimeout = "1s"\n'
        exporter = start(folder, "scraped.mjs", PORT=target.split(":")[1])
        try:
            with project(Path(made) / "project", scrape) as server:
                table = Table()
                measures(server, folder, table)
                clusters(server, folder, table)
                scraped(server, target, table)
                asked(server, folder, table)
        finally:
            exporter.kill()
            exporter.wait()
    return 1 if table.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
