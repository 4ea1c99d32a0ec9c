"""The telemetry process beside VictoriaMetrics and Prometheus: samples and log lines a second over HTTP, bytes a sample, questions.

All servers get the same bytes over keep-alive connections, one after the other in each repetition, pinned to one processor while the
sender has the other. Durability: Sextant syncs its journal before it answers. VictoriaMetrics answers from memory and writes within
seconds; Prometheus writes its WAL without a sync. The peers are Debian's packages; one that is not installed is left out.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cramjam
from telemetry_data import STEP_MS, Fleet

from sextant.server.client import TelemetryClient
from sextant.server.supervisor import Child, claim, working_environment

SECRET = "bench"
SENDERS = 2  # connections that send at once
SAMPLES = 2_000  # of one request: Prometheus's default
LINES = 1_000  # of one request of OTLP logs


# ---------------------------------------------------------------- requests


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


class Writer:
    """Remote write requests of a fleet, scrape by scrape."""

    def __init__(self, series: int, start_ms: int) -> None:
        self.fleet, self.at = Fleet(series), start_ms
        self._labels = [b"".join(_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in self.fleet.labels(i)) for i in range(series)]
        self._offsets = self.fleet.offset_ms.tolist()

    def scrape(self) -> Iterator[bytes]:
        """Yield the packed requests of the next scrape of everything."""
        values = self.fleet.step().tolist()
        out: list[bytes] = []
        for i, value in enumerate(values):
            number = b"\x09" + struct.pack("<d", value) if value or str(value) == "-0.0" else b""
            body = self._labels[i] + _field(2, number + b"\x10" + _varint(self.at + self._offsets[i]))
            out.append(b"\x0a" + _varint(len(body)) + body)
            if len(out) == SAMPLES:
                yield bytes(cramjam.snappy.compress_raw(b"".join(out)))
                out = []
        if out:
            yield bytes(cramjam.snappy.compress_raw(b"".join(out)))
        self.at += STEP_MS


def log_requests(count: int) -> list[bytes]:
    """Return requests of OTLP logs, as an SDK makes them."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    out = []
    for n in range(count):
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        group.resource.attributes.add(key="service.name").value.string_value = "checkout"
        group.resource.attributes.add(key="host.name").value.string_value = "web-1"
        scope = group.scope_logs.add()
        for line in range(LINES):
            record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=9, trace_id=os.urandom(16), span_id=os.urandom(8))
            record.body.string_value = f"GET /api/orders/{n * LINES + line} took {line % 97} ms for customer {line * 7919 % 100_000}"
            for key, value in (("http.route", "/api/orders/{id}"), ("http.response.status_code", "200"), ("thread.name", f"worker-{line % 8}")):
                record.attributes.add(key=key).value.string_value = value
        out.append(request.SerializeToString())
    return out


# ---------------------------------------------------------------- servers


class Server:
    """One server under test: a name, where it takes remote write, a process."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free()
        self.headers: dict[str, str] = {}

    def pid(self) -> int:
        raise NotImplementedError

    def pin(self) -> None:
        """Give it one processor, as far as the machine lets."""
        for task in os.listdir(f"/proc/{self.pid()}/task"):
            os.sched_setaffinity(int(task), {0})

    def end(self) -> None:
        raise NotImplementedError

    def bytes(self) -> tuple[int, str]:
        """Return what its samples take on the disk, and how that was measured."""
        raise NotImplementedError


class Sextant(Server):
    """Ours."""

    name = "sextant"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sql_address = claim("sql", "127.0.0.1:0")
        start = {"folder": str(folder / "telemetry"), "lake": str(folder / "lake"), "ingest": f"127.0.0.1:{self.port}", "sql": self.sql_address, "api": "", "secret": SECRET}
        self.child = Child("telemetry", "sextant.server.telemetry", lambda _: start, "", print)
        began = time.perf_counter()
        self.child.begin(working_environment("telemetry"), {})
        self.ready_s = time.perf_counter() - began
        self.headers = {"X-Sextant-Internal": SECRET}
        self.client = TelemetryClient(f"http://127.0.0.1:{self.port}", f"http://{self.sql_address}", SECRET)

    def pid(self) -> int:
        assert self.child.process
        return self.child.process.pid

    def end(self) -> None:
        self.child.end(time.monotonic() + 60)

    def bytes(self) -> tuple[int, str]:
        self.client.run("OPTIMIZE TABLE obs.samples FINAL")
        (row,) = self.client.query("SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE active AND database = 'obs' AND table IN ('samples', 'series')")
        return int(row["n"]), "parts of obs.samples and obs.series, merged"


class Peer(Server):
    """Another server, started by a command."""

    def __init__(self, folder: Path, program: str, arguments: Callable[[Path, int], Sequence[str]]) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True)
        self.process = subprocess.Popen([program, *arguments(folder, self.port)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
                link.request("GET", "/metrics")
                link.getresponse().read()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{program} does not start")

    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def bytes(self) -> tuple[int, str]:
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()), "its folder"


class VictoriaMetrics(Peer):
    name = "victoria-metrics"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "victoria-metrics", lambda _, port: [f"-httpListenAddr=127.0.0.1:{port}", "-storageDataPath=data", "-retentionPeriod=2", "-selfScrapeInterval=0"])

    def bytes(self) -> tuple[int, str]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        link.request("GET", "/internal/force_flush")
        link.getresponse().read()
        link.request("GET", "/internal/force_merge")
        link.getresponse().read()
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 20:  # merges go on behind the answer
            now = super().bytes()[0]
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(1)
        return last, "its folder, merged"


class Prometheus(Peer):
    name = "prometheus"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text("global: {}\n")
        shutil.move(folder / "prometheus.yml", folder.parent / "prometheus.yml")
        folder.rmdir()
        super().__init__(
            folder, "prometheus",
            lambda home, port: [f"--config.file={home.parent}/prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"],
        )  # fmt: skip


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def servers(folder: Path) -> list[Server]:
    """Return what is installed here."""
    out: list[Server] = [Sextant(folder / "sextant")]
    for kind in (VictoriaMetrics, Prometheus):
        if shutil.which(kind.name):
            out.append(kind(folder / kind.name))
        else:
            print(f"{kind.name} is not installed: left out", file=sys.stderr)
    return out


# ---------------------------------------------------------------- measuring


def say(what: str, unit: str, values: Sequence[float], *, budget: float | None = None, **facts: Any) -> None:
    """Print one figure."""
    print(json.dumps({"bench": "telemetry", "what": what, "unit": unit, "median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3), "n": len(values), "budget": budget, **facts}), flush=True)


def send(server: Server, path: str, bodies: Sequence[bytes], headers: dict[str, str], *, of_scrape: int = 1) -> float:
    """Send bodies over a few connections; return the seconds until the last was acknowledged.

    of_scrape  requests of one scrape: as in Prometheus, a series always goes over the same connection
    """
    problems: list[str] = []

    def one(mine: Sequence[bytes]) -> None:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for body in mine:
            while True:
                link.request("POST", path, body, {**headers, **server.headers})
                answer = link.getresponse()
                said = answer.read()
                if answer.status < 300:
                    break
                if answer.status not in (429, 503):
                    problems.append(f"{server.name}: {answer.status} {said[:200]!r}")
                    return
                time.sleep(float(answer.getheader("Retry-After") or 1))

    threads = [threading.Thread(target=one, args=([body for at, body in enumerate(bodies) if (at % of_scrape if of_scrape > 1 else at) % SENDERS == n],)) for n in range(SENDERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if problems:
        raise RuntimeError(problems[0])
    return took


REMOTE_WRITE = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}


def writing(folder: Path, repeat: int, series: int) -> None:
    """Samples a second, one processor for the server."""
    everyone = servers(folder)
    scrapes = 40
    writer = Writer(series, time.time_ns() // 1_000_000 - (repeat + 1) * scrapes * STEP_MS)
    os.sched_setaffinity(0, {min(1, (os.cpu_count() or 1) - 1)})
    seen: dict[str, list[float]] = {}
    for n in range(repeat + 1):
        bodies = [body for _ in range(scrapes) for body in writer.scrape()]
        for server in everyone[n % len(everyone) :] + everyone[: n % len(everyone)]:
            server.pin()
            took = send(server, "/api/v1/write", bodies, REMOTE_WRITE, of_scrape=-(-series // SAMPLES))
            if n:  # the first round makes the series known
                seen.setdefault(server.name, []).append(scrapes * series / took)
    for name, rates in seen.items():
        say(f"remote write, {name}", "samples/s", rates, budget=300_000 if name == "sextant" else None, series=series, request=SAMPLES)
    ours = everyone[0]
    logs: list[float] = []
    for _ in range(repeat):
        bodies = log_requests(40)
        logs.append(40 * LINES / send(ours, "/v1/logs", bodies, {"Content-Type": "application/x-protobuf"}))
    say("OTLP logs, sextant", "records/s", logs, budget=100_000, request=LINES)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    for server in everyone:
        server.end()


def storing(folder: Path, millions: float, series: int) -> "Sextant":
    """Bytes a sample on aligned scrapes; return our server, with the data in it."""
    everyone: list[Server] = [server for server in servers(folder) if server.name != "prometheus"]
    scrapes = int(millions * 1_000_000 / series)
    writer = Writer(series, time.time_ns() // 1_000_000 - scrapes * STEP_MS)
    took = dict.fromkeys((server.name for server in everyone), 0.0)
    for _ in range(0, scrapes, 20):
        bodies = [body for _ in range(20) for body in writer.scrape()]
        for server in everyone:
            took[server.name] += send(server, "/api/v1/write", bodies, REMOTE_WRITE, of_scrape=-(-series // SAMPLES))
    for server in everyone:
        size, how = server.bytes()
        say(f"bytes a sample, {server.name}", "B", [size / (scrapes * series)], budget=1.2 if server.name == "sextant" else None, samples=scrapes * series, series=series, how=how, rate=round(scrapes * series / took[server.name]))
        if server.name != "sextant":
            server.end()
    ours = everyone[0]
    assert isinstance(ours, Sextant)
    return ours


def questions(ours: Sextant, repeat: int, lines: int) -> None:
    """Milliseconds of questions at the SQL door, over HTTP, the guard included."""
    client = ours.client
    if lines:
        client.run(
            "INSERT INTO obs.logs (ts, observed, asset, owner, severity_number, severity, body, trace_id) SELECT now64(9) - toIntervalMillisecond((%d - number) * 8) AS ts, ts,"
            " concat('service:s', toString(number %% 40)), 'bench', 9, 'info', concat('GET /api/orders/', toString(number), ' took ', toString(number %% 97), ' ms for customer c', hex(cityHash64(number) %% 1000003),"
            " if(number %% 1000003 = 7, ' needle', '')), hex(sipHash128(intDiv(number, 10))) FROM numbers(%d)" % (lines, lines)
        )
        spans = lines // 2
        client.run(
            "INSERT INTO obs.spans (ts, duration_ns, asset, owner, name, kind, status, trace_id, span_id) SELECT now64(9) - toIntervalMillisecond((%d - number) * 16), cityHash64(number) %% 1000000000,"
            " concat('service:s', toString(number %% 40)), 'bench', concat('op', toString(number %% 200)), 'server', '', lower(hex(sipHash128(intDiv(number, 8)))), lower(hex(cityHash64(number))) FROM numbers(%d)" % (spans, spans)
        )
        client.run("OPTIMIZE TABLE obs.logs FINAL")
        client.run("OPTIMIZE TABLE obs.spans FINAL")
    (trace,) = client.query("SELECT trace_id FROM obs.spans ORDER BY ts LIMIT 1 OFFSET 4000") or [{"trace_id": ""}]
    names = [row["metric"] for row in client.query("SELECT metric, uniqExact(series) AS n FROM obs.series GROUP BY metric ORDER BY metric")]
    twenty = ", ".join(f"'{name}'" for name in names[:20])
    count = client.query(f"SELECT uniqExact(series) AS n FROM obs.series WHERE metric IN ({twenty})")[0]["n"]
    one = client.query(f"SELECT metric, series FROM obs.series WHERE metric = '{names[3]}' LIMIT 1")[0]
    end = "(SELECT max(ts) FROM obs.samples WHERE metric = '%s')" % names[0]
    (newest,) = client.query(f"SELECT toString({end}) AS ts")
    at = f"toDateTime64('{newest['ts']}', 3, 'UTC')"
    cases: dict[str, tuple[str, float | None]] = {
        "SELECT 1, the door alone": ("SELECT 1", None),
        f"rate over {count} series, 1 h, of samples": (f"SELECT metric, series, deltaSumTimestamp(value, toUnixTimestamp64Milli(ts)) / 3600 AS rate FROM obs.samples WHERE metric IN ({twenty}) AND ts > {at} - 3600 GROUP BY metric, series", 40),
        f"rate over {count} series, 24 h, of rollups": (f"SELECT metric, series, sum(increase) / 86400 AS rate FROM obs.rollups FINAL WHERE metric IN ({twenty}) AND bucket > {at} - 86400 GROUP BY metric, series", 100),
        "one series, 1 h": (f"SELECT ts, value FROM obs.samples WHERE metric = '{one['metric']}' AND series = {one['series']} AND ts > {at} - 3600 ORDER BY ts", 5),
        "token search": ("SELECT ts, asset, body FROM obs.logs WHERE hasToken(body, 'needle') LIMIT 100", 5),
        "token search, all words": ("SELECT ts, asset, body FROM obs.logs WHERE hasAllTokens(body, 'needle orders') LIMIT 100", 5),
        "a trace by id": (f"SELECT ts, name, asset FROM obs.spans WHERE trace_id = '{trace['trace_id']}'", 20),
        "the newest 100 lines": ("SELECT ts, asset, body FROM obs.logs ORDER BY ts DESC LIMIT 100", 20),
        "the newest 100 lines of a service": ("SELECT ts, asset, body FROM obs.logs WHERE asset = 'service:s7' ORDER BY ts DESC LIMIT 100", 20),
    }
    link = http.client.HTTPConnection(ours.sql_address, timeout=120)
    seen: dict[str, list[float]] = {}
    rows: dict[str, int] = {}
    for n in range(repeat + 2):
        for name, (sql, _) in cases.items():
            began = time.perf_counter()
            link.request("POST", "/?" + urllib.parse.urlencode({"default_format": "TSV"}), sql, {"X-Sextant-Internal": SECRET, "X-Sextant-Role": "admin"})
            answer = link.getresponse()
            data = answer.read()
            assert answer.status == 200, data[:500]
            if n >= 2:
                seen.setdefault(name, []).append(1000 * (time.perf_counter() - began))
                rows[name] = data.count(b"\n")
    for name, values in seen.items():
        say(name, "ms", values, budget=cases[name][1], rows=rows[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--millions", type=float, default=50.0, help="samples for the bytes of a sample")
    parser.add_argument("--lines", type=int, default=10_000_000, help="log lines for the questions")
    parser.add_argument("--only", default="", choices=["", "write", "store"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as home:
        folder = Path(home).resolve()
        if arguments.only in ("", "write"):
            writing(folder / "write", arguments.repeat, arguments.series)
        if arguments.only in ("", "store"):
            ours = storing(folder / "store", arguments.millions, arguments.series)
            questions(ours, 3 * arguments.repeat, arguments.lines)
            ours.end()


if __name__ == "__main__":
    main()
