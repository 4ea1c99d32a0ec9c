"""The worst bodies that are accepted, one protocol after the other, beside a caller who asks
`/healthz` and one who sends a small batch: `python bench/bodies.py [--only NAME] [--mib N]`.

A real telemetry process and real HTTP on this machine. The figures are how long the two callers
waited while the body was worked on: what an event loop that is held makes of everybody else.
"""

import argparse
import gzip
import json
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import cramjam
from served import INTERNAL
from telemetry_process import Telemetry, telemetry
from telemetry_wire import Link, field, labels, post

INSIDE = {"X-Sextant-Internal": INTERNAL}
PROTOBUF, JSON = "application/x-protobuf", "application/json"
NOW = time.time_ns()
AT = b"\x39" + struct.pack("<Q", NOW)  # of a span
BUDGET_MS = 50.0
GAP_S = 0.003  # between two questions


class Body(NamedTuple):
    """A request. `data` is not compressed."""

    path: str
    content_type: str
    data: bytes


def inside(path: tuple[int, ...], data: bytes) -> bytes:
    for number in reversed(path):
        data = field(number, data)
    return data


def fill(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def traces(size: int) -> Iterator[tuple[str, Body]]:
    span = field(1, bytes(16)) + field(2, b"\1" * 8) + AT
    for name, data in (
        ("empty spans", inside((1, 2), fill(b"\x12\x00", size))),
        ("empty scopes", field(1, fill(b"\x12\x00", size))),
        ("attributes of a resource", inside((1, 1), fill(b"\x0a\x00", size))),
        ("100,000 spans", inside((1, 2), field(2, span) * 100_000)),
        (
            "20,000 attributes in each of 20 spans",
            inside((1, 2), fill(field(2, span + b"\x4a\x00" * 20_000), size)),
        ),
        ("a span's events", inside((1, 2), field(2, span + fill(b"\x5a\x00", size)))),
    ):
        yield f"traces: {name}", Body("/v1/traces", PROTOBUF, data)


def logs(size: int) -> Iterator[tuple[str, Body]]:
    record = field(2, b"\x09" + struct.pack("<Q", NOW))
    resource = inside((1, 1), field(1, b"k") + field(2, field(1, b"x" * 600)))
    for name, data in (
        ("empty records", inside((1, 2), fill(b"\x12\x00", size))),
        ("100,000 records of a large resource", field(1, resource + field(2, record * 99_000))),
        (
            "9,000 services",
            b"".join(
                field(
                    1,
                    field(1, field(1, field(1, b"service.name") + field(2, field(1, b"s%d" % n))))
                    + field(2, record),
                )
                for n in range(9_000)
            ),
        ),
        ("one large record", inside((1, 2, 2, 5, 1), bytes(size))),
    ):
        yield f"logs: {name}", Body("/v1/logs", PROTOBUF, data)
    many = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}'
    yield "logs: JSON", Body("/v1/logs", JSON, many % b",".join([b"{}"] * (size // 3)))
    deep = b'{"resourceLogs":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}"
    yield "logs: nested JSON", Body("/v1/logs", JSON, deep)


def metrics(size: int) -> Iterator[tuple[str, Body]]:
    point = b"\x19" + struct.pack("<Q", NOW)
    series = b"".join(
        field(1, point + field(7, field(1, b"n") + field(2, field(1, b"%d" % n))))
        for n in range(60_000)
    )
    for name, data in (
        ("buckets", field(9, field(1, point + field(6, bytes(size))))),
        ("points without time", field(5, fill(b"\x0a\x00", size))),
        ("60,000 new series", field(5, series)),
    ):
        metric = field(2, field(1, b"worst") + data)
        yield f"metrics: {name}", Body("/v1/metrics", PROTOBUF, inside((1, 2), metric))


def write(size: int) -> Iterator[tuple[str, Body]]:
    at = b"\x10" + struct.pack("B", 0x80 | NOW // 10**6 & 0x7F) + _varint_tail(NOW // 10**6)
    for name, data in (
        ("empty series", fill(b"\x0a\x00", size)),
        ("metadata", fill(b"\x1a\x00", size)),
        ("exemplars", field(1, fill(b"\x1a\x00", size))),
        (
            "100,000 new series",
            b"".join(
                field(
                    1,
                    labels([("__name__", "new"), ("n", str(n))])
                    + field(2, b"\x09" + bytes(7) + b"?" + at),
                )
                for n in range(100_000)
            ),
        ),
        (
            "50,000 series of 90 labels",
            b"".join(
                field(
                    1,
                    labels([("__name__", "wide"), ("n", str(n))] + WIDE)
                    + field(2, b"\x09" + bytes(7) + b"?" + at),
                )
                for n in range(min(50_000, size // 900))
            ),
        ),
    ):
        yield f"remote write: {name}", Body("/api/v1/write", PROTOBUF, data)


WIDE = [(f"l{n}", "v") for n in range(88)]


def _varint_tail(number: int) -> bytes:
    out = b""
    number >>= 7
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def texts(size: int) -> Iterator[tuple[str, Body]]:
    exposition, lines = "/v1/exposition?job=worst", "/v1/jsonlines?asset=service:worst"
    new = b"".join(b'new_text{n="%d"} 1\n' % n for n in range(100_000))
    kinds = b"".join(b"# TYPE k%d counter\n" % n for n in range(290_000))
    yield "exposition: comments", Body(exposition, "text/plain", fill(b"#\n", size))
    yield "exposition: quotes", Body(exposition, "text/plain", b"a{" + fill(b'""', size) + b" 1")
    yield "exposition: types", Body(exposition, "text/plain", kinds)
    yield "exposition: 100,000 new series", Body(exposition, "text/plain", new)
    yield "JSON lines: empty", Body(lines, JSON, fill(b"{}\n", size))
    yield "JSON lines: 200,000", Body(lines, JSON, b"{}\n" * 200_000)
    yield (
        "JSON lines: one of many fields",
        Body(lines, JSON, b'{"a":[' + fill(b"{},", size) + b"0]}"),
    )
    batch = "application/cloudevents-batch+json"
    event = b'{"id":"a","source":"b","type":"c","specversion":"1.0"},'
    yield "CloudEvents: empty", Body("/v1/events", batch, b"[" + fill(b"{},", size) + b"{}]")
    yield "CloudEvents: 190,000", Body("/v1/events", batch, b"[" + (event * 190_000)[:-1] + b"]")


class Caller(threading.Thread):
    """Sends one request again and again, and notes how long each took, ms."""

    def __init__(self, host: str, request: Callable[[], bytes]) -> None:
        super().__init__(daemon=True)
        self._host, self._request = host, request
        self.took: list[float] = []
        self.stopping = False

    def run(self) -> None:
        link = Link(self._host)
        while not self.stopping:
            request = self._request()
            began = time.perf_counter()
            link.send(request)
            self.took.append(1000 * (time.perf_counter() - began))
            time.sleep(GAP_S)
        link.close()


def packed(body: Body) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": body.content_type, **INSIDE}
    if body.path == "/api/v1/write":
        return {**headers, "Content-Encoding": "snappy"}, bytes(
            cramjam.snappy.compress_raw(body.data)
        )
    return {**headers, "Content-Encoding": "gzip"}, gzip.compress(body.data, 1)


def small(number: list[int]) -> bytes:
    number[0] += 1
    return b'{"msg": "honest", "n": %d}\n' % number[0]


def warm(process: Telemetry) -> None:
    """Send a first batch, which loads what decodes batches."""
    link = Link(process.start["ingest"])
    path = "/v1/jsonlines?asset=service:honest&owner=honest"
    link.send(post(process.start["ingest"], path, {"Content-Type": JSON, **INSIDE}, small([0])))
    link.close()


def measure(process: Telemetry, name: str, body: Body) -> None:
    host = process.start["ingest"]
    headers, data = packed(body)
    separator = "&" if "?" in body.path else "?"
    request = post(host, f"{body.path}{separator}owner=worst", headers, data)
    del data
    number = [0]
    health = Caller(host, lambda: b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    batch = Caller(
        host,
        lambda: post(
            host,
            "/v1/jsonlines?asset=service:honest&owner=honest",
            {"Content-Type": JSON, **INSIDE},
            small(number),
        ),
    )
    health.start()
    batch.start()
    time.sleep(0.1)
    link = Link(host)
    began = time.perf_counter()
    try:
        status = link.once(request)
    finally:
        took = time.perf_counter() - began
        link.close()
        time.sleep(0.3)
        for caller in (health, batch):
            caller.stopping = True
        for caller in (health, batch):
            caller.join()
    for what, caller in (("/healthz", health), ("a small batch", batch)):
        print(
            json.dumps(
                {
                    "bench": "bodies",
                    "what": f"{what} beside {name}",
                    "unit": "ms",
                    "median": round(statistics.median(caller.took), 1),
                    "p99": round(statistics.quantiles(caller.took, n=100)[98], 1),
                    "max": round(max(caller.took), 1),
                    "n": len(caller.took),
                    "budget": BUDGET_MS if what == "/healthz" else None,
                    "status": status,
                    "took_s": round(took, 2),
                    "mib": round(len(body.data) / (1 << 20), 1),
                }
            ),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that begin with this")
    parser.add_argument("--mib", type=int, default=31, help="size of a body, unpacked")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        with telemetry(Path(folder), series_max=1_000_000) as process:
            warm(process)
            for family in (traces, logs, metrics, write, texts):
                for name, body in family(arguments.mib << 20):
                    if name.startswith(arguments.only):
                        measure(process, name, body)


if __name__ == "__main__":
    main()
