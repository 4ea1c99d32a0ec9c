"""The telemetry store through its endpoints, beside VictoriaMetrics and Prometheus: `python
bench/telemetry.py [--only ingest|logs|bytes|queries]`.

A real telemetry process, started as the supervisor starts it, and real HTTP on this machine. Where
one core is said, the server has one
processor (all its threads and its merges) and the senders the other. `per CPU second` counts the
server's own processor time, which
neighbours on a shared machine do not change. Requests are made before they are timed, except for
`bytes`.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import telemetry_peers
from served import INTERNAL
from telemetry_data import STEP_MS, Fleet
from telemetry_process import Telemetry, telemetry
from telemetry_wire import Link, Scrapes, log_bodies, on_core, post, send_all

WRITE, LOGS = "/api/v1/write", "/v1/logs"
INSIDE = {"X-Sextant-Internal": INTERNAL}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SNAPPY = {**PROTOBUF, "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}


def say(
    what: str, unit: str, values: Sequence[float], budget: float | None = None, **more: object
) -> None:
    """Print one figure."""
    digits = 0 if max(values) > 1000 else 3
    median, low, high = (
        round(one, digits) for one in (statistics.median(values), min(values), max(values))
    )
    print(
        json.dumps(
            {
                "bench": "telemetry",
                "what": what,
                "unit": unit,
                "median": median,
                "min": low,
                "max": high,
                "n": len(values),
                "budget": budget,
                **more,
            }
        ),
        flush=True,
    )


@contextmanager
def started(folder: Path, core: int | None = 0) -> Iterator[Telemetry]:
    """Give a telemetry process; on one core, unless `core` is None."""
    with on_core(core) if core is not None else on_core_any():
        context = telemetry(folder, series_max=1_000_000)
        process = context.__enter__()
    try:
        yield process
    finally:
        context.__exit__(None, None, None)


@contextmanager
def on_core_any() -> Iterator[None]:
    yield


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and of those that it has started and are there."""
    children = [
        int(child)
        for one in Path(f"/proc/{pid}/task").glob("*/children")
        for child in one.read_text().split()
    ]
    return sum(
        int(ticks)
        for one in (pid, *children)
        for ticks in Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()[11:15]
    ) / os.sysconf("SC_CLK_TCK")


def pid_of(process: Telemetry) -> int:
    assert process.child.process
    return process.child.process.pid


# ---------------------------------------------------------------- ingest


class Rate:
    """Rates of repetitions: by the clock, by the clock until everything is in the tables, and by
    the server's processor time."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.tables: list[float] = []
        self.processor: list[float] = []

    def take(
        self,
        count: int,
        pid: int,
        host: str,
        lanes: Sequence[Sequence[bytes]],
        settle: Callable[[], object],
    ) -> None:
        began, before = time.perf_counter(), cpu_s(pid)
        took, _ = send_all(host, lanes)
        settle()
        self.clock.append(count / took)
        self.tables.append(count / (time.perf_counter() - began))
        self.processor.append(count / (cpu_s(pid) - before))


def ready(
    host: str, path: str, headers: dict[str, str], lanes: Sequence[Sequence[bytes]]
) -> list[list[bytes]]:
    return [[post(host, path, headers, body) for body in lane] for lane in lanes]


def ingest(repeat: int, series: int = 20_000, steps: int = 100) -> None:
    """Remote write: known series, 2,000 samples a request, four connections."""
    scrapes = Scrapes(Fleet(series), int(time.time() * 1000) - (steps + 4) * STEP_MS)
    first = scrapes.step()
    lanes: list[list[bytes]] = [[], [], [], []]
    for _ in range(steps):
        for lane, bodies in zip(lanes, scrapes.step(), strict=True):
            lane += bodies
    count = series * steps
    rates = {"sextant": Rate()}
    new: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        try:
            programs = telemetry_peers.programs(Path(folder))
        except telemetry_peers.NotHere as error:
            print(f"no peers: {error}", file=sys.stderr)
            programs = {}
        rates |= {name: Rate() for name in programs}
        for number in range(repeat):
            with started(Path(folder) / f"store{number}") as process, on_core(1):
                host, path, headers = (
                    process.start["ingest"],
                    f"{WRITE}?owner=bench",
                    {**SNAPPY, **INSIDE},
                )
                took, _ = send_all(host, ready(host, path, headers, first))
                new.append(series / took)
                flush = lambda: process.client.send("POST", "/internal/flush", b"")  # noqa: E731
                flush()
                rates["sextant"].take(
                    count, pid_of(process), host, ready(host, path, headers, lanes), flush
                )
                assert int(process.one("SELECT count() AS n FROM obs.samples")) == count + series
            shutil.rmtree(Path(folder) / f"store{number}")
            for name, program in programs.items():
                with telemetry_peers.peer(name, program) as peer, on_core(1):
                    send_all(peer.host, ready(peer.host, WRITE, SNAPPY, first))
                    rates[name].take(
                        count,
                        peer.process.pid,
                        peer.host,
                        ready(peer.host, WRITE, SNAPPY, lanes),
                        lambda: None,
                    )
        about = {name: telemetry_peers.version(program) for name, program in programs.items()}
    for name, rate in rates.items():
        more = {"durability": telemetry_peers.DURABILITY[name], "version": about.get(name, "")}
        say(
            f"{name}: remote write, acknowledged, one core",
            "samples/s",
            rate.clock,
            300_000 if name == "sextant" else None,
            **more,
        )
        if name == "sextant":
            say(
                f"{name}: the same until all are in the tables",
                "samples/s",
                rate.tables,
                300_000,
                **more,
            )
        say(
            f"{name}: samples per CPU second of the server",
            "samples/s",
            rate.processor,
            None,
            **more,
        )
    say("sextant: series never seen before, acknowledged", "series/s", new)


def logs(repeat: int, lines: int = 400_000) -> None:
    """OTLP logs: 1,000 lines a request, 266 bytes each, four connections."""
    rate = Rate()
    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder,
        started(Path(folder)) as process,
    ):
        host = process.start["ingest"]
        for number in range(repeat + 1):
            bodies = list(
                log_bodies(
                    lines,
                    per_request=1000,
                    start_ns=time.time_ns() - (number + 2) * lines * 50_000,
                    seed=number,
                )
            )
            with on_core(1):
                send = ready(
                    host,
                    f"{LOGS}?owner=bench",
                    {**PROTOBUF, **INSIDE},
                    [bodies[lane::4] for lane in range(4)],
                )
                (rate if number else Rate()).take(
                    lines,
                    pid_of(process),
                    host,
                    send,
                    lambda: process.client.send("POST", "/internal/flush", b""),
                )
        assert int(process.one("SELECT count() AS n FROM obs.logs")) == (repeat + 1) * lines
    durability = telemetry_peers.DURABILITY["sextant"]
    say(
        "OTLP logs, acknowledged, one core", "records/s", rate.clock, 100_000, durability=durability
    )
    say(
        "the same until all are in the tables",
        "records/s",
        rate.tables,
        100_000,
        durability=durability,
    )
    say("records per CPU second of the server", "records/s", rate.processor)


# ---------------------------------------------------------------- bytes


def streamed(
    host: str, path: str, headers: dict[str, str], scrapes: Scrapes, steps: int, together: int = 20
) -> None:
    """Send scrapes as they are made."""
    for first in range(0, steps, together):
        lanes: list[list[bytes]] = [[], [], [], []]
        for _ in range(min(together, steps - first)):
            for lane, bodies in zip(lanes, scrapes.step(), strict=True):
                lane += bodies
        send_all(host, ready(host, path, headers, lanes))


def size_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def settle(process: Telemetry, table: str, seconds: float = 120) -> None:
    """Wait until no merge of a table runs and its parts stay as they are."""
    before, until = "", time.monotonic() + seconds
    while time.monotonic() < until:
        now = json.dumps(
            process.rows(
                "SELECT name FROM system.parts WHERE active AND database = 'obs' AND table "
                f"= '{table}' ORDER BY name"
            )
        )
        if now == before and not process.rows(
            f"SELECT 1 FROM system.merges WHERE database = 'obs' AND table = '{table}'"
        ):
            return
        before = now
        time.sleep(3)


def fill(process: Telemetry, series: int, steps: int) -> int:
    """Store `series` * `steps` samples that end now; return the time of the last, ms."""
    start = int(time.time() * 1000) // STEP_MS * STEP_MS - steps * STEP_MS
    scrapes = Scrapes(Fleet(series), start)
    streamed(process.start["ingest"], f"{WRITE}?owner=bench", {**SNAPPY, **INSIDE}, scrapes, steps)
    process.client.send("POST", "/internal/flush", b"")
    return scrapes.at_ms


def said_bytes(process: Telemetry, name: str, count: int) -> None:
    (parts,) = process.rows(
        "SELECT sum(bytes_on_disk) AS b, sum(rows) AS n, count() AS parts FROM system.parts "
        "WHERE active AND database = 'obs' AND table = 'samples'"
    )
    say(
        f"sextant: bytes a sample on disk, {name}",
        "bytes",
        [int(parts["b"]) / int(parts["n"])],
        1.2,
        parts=int(parts["parts"]),
        samples=int(parts["n"]),
    )


def columns(process: Telemetry, table: str) -> None:
    """Print what each column takes."""
    for row in process.rows(
        "SELECT column, sum(column_data_compressed_bytes) / sum(rows) AS b FROM "
        f"system.parts_columns WHERE active AND database = 'obs' AND table = '{table}' "
        "GROUP BY column ORDER BY b DESC"
    ):
        print(f"   {table}.{row['column']}: {float(row['b']):.4f}", file=sys.stderr)


def compact(process: Telemetry, series: int, steps: int) -> None:
    """Bytes a sample: aligned scrapes of a realistic mix, ours and VictoriaMetrics'."""
    count = series * steps
    began = time.perf_counter()
    fill(process, series, steps)
    say(
        "remote write, all cores, senders and the making of requests beside it",
        "samples/s",
        [count / (time.perf_counter() - began)],
    )
    settle(process, "samples")
    said_bytes(process, "as merges leave it", count)
    columns(process, "samples")
    (labels,) = process.rows(
        "SELECT sum(bytes_on_disk) AS b FROM system.parts WHERE active AND database = 'obs' "
        "AND table = 'series'"
    )
    say(
        "sextant: labels and what is known of a series",
        "bytes a series",
        [int(labels["b"]) / series],
    )
    process.client.run("OPTIMIZE TABLE obs.samples FINAL")
    said_bytes(process, "merged whole", count)
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        try:
            program = telemetry_peers.programs(Path(folder))["victoria-metrics"]
        except telemetry_peers.NotHere as error:
            print(f"no peer: {error}", file=sys.stderr)
            return
        with telemetry_peers.peer("victoria-metrics", program) as peer:
            streamed(
                peer.host,
                WRITE,
                SNAPPY,
                Scrapes(
                    Fleet(series), int(time.time() * 1000) // STEP_MS * STEP_MS - steps * STEP_MS
                ),
                steps,
            )
            peer.get("/internal/force_flush")
            time.sleep(30)
            say(
                "victoria-metrics: bytes a sample on disk, as merges leave it, without its index",
                "bytes",
                [size_of(peer.folder / "data") / count],
            )
            peer.get("/internal/force_merge")
            time.sleep(5)
            say(
                "victoria-metrics: bytes a sample on disk, merged whole, without its index",
                "bytes",
                [size_of(peer.folder / "data") / count],
            )
            say(
                "victoria-metrics: its index",
                "bytes a series",
                [size_of(peer.folder / "indexdb") / series],
            )


# ---------------------------------------------------------------- queries


def asked(process: Telemetry, link: Link, sql: str, repeat: int) -> tuple[list[float], list[float]]:
    """Return milliseconds over HTTP at the SQL endpoint, and of the same question put to the store
    itself, through the inner endpoint."""
    door, inner = [], []
    host = urllib.parse.urlsplit(process.sql).netloc
    request = post(host, "/?default_format=RowBinary", INSIDE, sql.encode())
    for _ in range(repeat):
        began = time.perf_counter()
        link.send(request)
        door.append(1000 * (time.perf_counter() - began))
    for _ in range(repeat):
        began = time.perf_counter()
        process.client.send(
            "POST", "/internal/query", json.dumps({"sql": sql, "form": "RowBinary"}).encode()
        )
        inner.append(1000 * (time.perf_counter() - began))
    return door, inner


def question(process: Telemetry, what: str, sql: str, budget: float, repeat: int) -> None:
    link = Link(urllib.parse.urlsplit(process.sql).netloc)
    door, inner = asked(process, link, sql, repeat)
    say(
        what,
        "ms",
        door[2:],
        budget,
        without_the_door=round(statistics.median(inner), 2),
        first=round(door[0], 1),
    )
    link.close()


SPANS = (  # eight of a trace, two hours of them
    "INSERT INTO obs.spans (ts, duration_ns, asset, owner, name, kind, trace_id, span_id) "
    "SELECT now64(9) - toIntervalMicrosecond(({spans} - number) * 1400), cityHash64(number) "
    "% 1000000000, "
    "concat('service:service-', toString(cityHash64(number) % 40)), 'bench', concat('op', "
    "toString(number % 200)), 'server', lower(hex(sipHash128(intDiv(number, 8)))), "
    "lower(hex(cityHash64(number))) FROM numbers({spans})"
)


def queries(process: Telemetry, series: int, steps: int, lines: int, repeat: int) -> None:
    """A metric of 1,000 series for 24 hours among the others; log lines and spans."""
    end = int(time.time() * 1000) // STEP_MS * STEP_MS
    fleet = Fleet(1_000, metrics=1, seed=5, only="counter", prefix="asked")
    streamed(
        process.start["ingest"],
        f"{WRITE}?owner=bench",
        {**SNAPPY, **INSIDE},
        Scrapes(fleet, end - 24 * 240 * STEP_MS),
        24 * 240,
    )
    name = dict(fleet.labels(0))["__name__"]
    began = time.time_ns() - lines * 50_000
    bodies = log_bodies(lines, per_request=5_000, start_ns=began)
    host = process.start["ingest"]
    send_all(
        host, [(post(host, f"{LOGS}?owner=bench", {**PROTOBUF, **INSIDE}, body) for body in bodies)]
    )
    process.client.send("POST", "/internal/flush", b"")
    process.client.run(SPANS.format(spans=lines // 2))
    for table in ("samples", "logs", "spans"):
        settle(process, table, 300)
    until = time.monotonic() + 600
    while process.client.health()["rollups_due"] > 3 and time.monotonic() < until:
        time.sleep(1)
    rates(process, name, end, repeat)
    lines_and_traces(process, repeat)


def rates(process: Telemetry, name: str, end: int, repeat: int) -> None:
    hour, day = end - 3_600_000, end - 86_400_000
    raw = (
        "SELECT series, toStartOfMinute(ts) AS minute, sum(if(value >= before, value - "
        "before, value)) / 60 AS rate FROM (SELECT series, ts, value, lagInFrame(value, 1, "
        "value) OVER "
        "(PARTITION BY series ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS "
        "before FROM obs.samples WHERE metric = '{name}' AND ts >= "
        "fromUnixTimestamp64Milli({start})) GROUP BY series, minute"
    )
    rolled = (
        "SELECT series, bucket, rate FROM obs.rates WHERE metric = '{name}' AND bucket >= "
        "fromUnixTimestamp64Milli({start})"
    )
    summed = (
        "SELECT bucket, labels['instance'] AS instance, sum(rate) AS rate FROM obs.rates WHERE "
        "metric = '{name}' AND bucket >= fromUnixTimestamp64Milli({start}) GROUP BY bucket, "
        "instance"
    )
    one = (
        "SELECT ts, value FROM obs.samples WHERE metric = '{name}' AND series = {series} AND ts "
        ">= fromUnixTimestamp64Milli({start})"
    )
    series = process.one(
        f"SELECT toString(min(series)) AS s FROM obs.series WHERE metric = '{name}'"
    )
    question(process, "SELECT 1: the door alone", "SELECT 1", 5, repeat)
    say(
        "rows of 24 hours of 1,000 series",
        "samples",
        [float(process.one(f"SELECT count() AS n FROM obs.samples WHERE metric = '{name}'"))],
    )
    question(
        process,
        "rate of 1,000 series, 1 h, by the minute, from samples",
        raw.format(name=name, start=hour),
        40,
        repeat,
    )
    question(
        process,
        "rate of 1,000 series, 1 h, by five minutes",
        rolled.format(name=name, start=hour),
        40,
        repeat,
    )
    question(
        process,
        "rate of 1,000 series, 24 h, by five minutes",
        rolled.format(name=name, start=day),
        100,
        repeat,
    )
    question(
        process, "the same, summed by a label", summed.format(name=name, start=day), 100, repeat
    )
    question(
        process,
        "one series, 1 h, its samples",
        one.format(name=name, series=series, start=hour),
        5,
        repeat,
    )
    question(
        process,
        "one series, 24 h, its samples",
        one.format(name=name, series=series, start=day),
        5,
        repeat,
    )


def lines_and_traces(process: Telemetry, repeat: int) -> None:
    say("log lines", "lines", [float(process.one("SELECT count() AS n FROM obs.logs"))])
    (size,) = process.rows(
        "SELECT sum(bytes_on_disk) / sum(rows) AS b, count() AS parts FROM system.parts "
        "WHERE active AND database = 'obs' AND table = 'logs'"
    )
    say("bytes a line on disk", "bytes", [float(size["b"])], parts=int(size["parts"]))
    columns(process, "logs")
    trace = process.one(
        "SELECT trace_id AS t FROM obs.logs WHERE trace_id != '' ORDER BY ts DESC LIMIT 1 "
        "OFFSET 100000"
    )
    question(
        process,
        "token search, all lines: count",
        "SELECT count() FROM obs.logs WHERE hasAllTokens(body, 'needle haystack')",
        5,
        repeat,
    )
    question(
        process,
        "token search, all lines: the newest hundred lines",
        (
            "SELECT ts, asset, body FROM obs.logs WHERE hasAllTokens(body, 'needle haystack') "
            "ORDER BY ts DESC LIMIT 100"
        ),
        5,
        repeat,
    )
    question(
        process,
        "token search, all lines: ten lines",
        "SELECT ts, asset, body FROM obs.logs WHERE hasAllTokens(body, 'needle haystack') LIMIT 10",
        5,
        repeat,
    )
    question(
        process,
        "lines of a trace by its id",
        f"SELECT ts, asset, body FROM obs.logs WHERE trace_id = '{trace}' ORDER BY ts",
        20,
        repeat,
    )
    say("spans", "spans", [float(process.one("SELECT count() AS n FROM obs.spans"))])
    trace = process.one("SELECT trace_id AS t FROM obs.spans ORDER BY ts LIMIT 1 OFFSET 100000")
    question(
        process,
        "spans of a trace by its id",
        (
            f"SELECT ts, asset, name, duration_ns FROM obs.spans WHERE trace_id = '{trace}' "
            "ORDER BY ts"
        ),
        20,
        repeat,
    )
    question(
        process,
        "the newest 100 lines",
        "SELECT ts, asset, severity, body FROM obs.logs ORDER BY ts DESC LIMIT 100",
        20,
        repeat,
    )
    question(
        process,
        "the newest 100 lines of a service",
        (
            "SELECT ts, severity, body FROM obs.logs WHERE asset = 'service:service-7' ORDER BY "
            "ts DESC LIMIT 100"
        ),
        20,
        repeat,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("ingest", "logs", "bytes", "queries"), default="")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument(
        "--folder",
        default="",
        help="keep the store of bytes and queries here; one that is there is asked again",
    )
    arguments = parser.parse_args()
    if arguments.only in ("", "ingest"):
        ingest(arguments.repeat)
    if arguments.only in ("", "logs"):
        logs(arguments.repeat)
    if arguments.only in ("", "bytes", "queries"):
        with tempfile.TemporaryDirectory(prefix="sextant-bench-") as temporary:
            with started(Path(arguments.folder or temporary), core=None) as process:
                if arguments.only != "queries":
                    compact(process, arguments.series, arguments.steps)
                if arguments.only != "bytes":
                    queries(
                        process,
                        arguments.series,
                        arguments.steps,
                        arguments.lines,
                        4 * arguments.repeat,
                    )


if __name__ == "__main__":
    main()
