"""Queries and bodies of any kind against a running server: `python bench/fuzz.py [--queries 10000]
[--bodies 10000] [--seed N]`.

Two people do harm, one at the SQL endpoint and one at the ingest endpoint, over several connections
at once: honest requests that were changed at random, odd values, nests, formats that cannot hold the
answer, heavy and greedy queries, requests that are left, bodies that unpack to much. Meanwhile an
honest person sends and asks, an administrator reads personal columns, and somebody looks whether
the telemetry process answers. Counted are:

deaths    of the telemetry process
mixed     answers that hold anything of another caller, or are not exactly what was asked for
lost      rows of the honest person that were acknowledged and are not there;  doubled  rows twice
refused   honest requests that were not answered
honest    seconds of an honest query, 99th percentile and longest;  healthz  of the look
defects   errors of ours (5xx but for 503 and 429), by endpoint

Prints one JSON line; 1 when deaths, mixed, lost, doubled, refused or defects is not 0.
"""

from sextant.kernel.nouns import SYSTEM
import argparse
import base64
import contextlib
import gzip
import http.client
import json
import os
import random
import re
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
from telemetry_wire import field, labels

from sextant.project.config import read_config
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.formats.telemetry.native import varint
from sextant.server.feed.telemetry_client import TelemetryClient
from sextant.server.processes.supervisor import Address, Supervisor

HERE = Path(__file__).resolve().parent
TOML = (
    'module = "ops"\nenvironment = "dev"\n[server]\napi = "127.0.0.1:0"\ningest = '
    '"127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)
OPS = """
from datetime import UTC, datetime

import sextant as sx

sx.project("fuzz", tz="UTC", owner=sx.team("bench"), environments=["dev"])


@sx.dataset(time="time_hour")
def flights():
    import polars as pl

    n = range(300)
    return pl.DataFrame(
        {
            "flight": n,
            "origin": [("EWR", "JFK", "LGA")[i % 3] for i in n],
            "carrier": [("UA", "AA")[i % 2] for i in n],
            "delay": [float(i % 40) - 5 if i % 10 else None for i in n],
            "time_hour": [datetime(2013, 1, 1 + i % 28, i % 24, tzinfo=UTC) for i in n],
            "day": [datetime(2013, 1, 1 + i % 28, tzinfo=UTC).date() for i in n],
        }
    )


@sx.dataset()
def airlines():
    import polars as pl

    return pl.DataFrame({"carrier": ["UA", "AA"], "name": ["United", "American"]})


mean_delay = sx.kpi("mean_delay", of=flights, measure="sum(delay) / count(*)", grain="1d", by=["origin"])


@sx.dataset(personal=["email"])
def people():
    import polars as pl

    return pl.DataFrame(
        {
            "id": range(500),
            "city": ["Oslo", "Bern"] * 250,
            "email": [f"classified-{n}@example.org" for n in range(500)],
        }
    )
"""
SECRET = b"classified-"
FORMATS = (
    "TSV", "JSON", "JSONEachRow", "JSONCompact", "CSV", "Native", "RowBinary", "Arrow",
    "ArrowStream", "Parquet", "ORC", "Avro", "MsgPack", "Values", "Pretty", "XML", "Null", "BSONEachRow",
)  # fmt: skip
ODD = (
    "9" * 400, "1e400", "-1e-400", "nan", "inf", "'\\xff'", "'\\0'", "''", "[]", "()", "NULL",
    "{x:UInt8}", "{x:Identifier}", "/*", "--", "'", '"', "`", ";", "\\", "\x00", "\x7f", "é", "🚀",
    "0x" + "f" * 60, "toDate('0000-00-00')", "toDateTime64('2299-12-31', 9)", "now64(18)",
    "arrayReduce('groupArray', range(100))", "sumState(1)", "map(1, 2)", "tuple()", "[[[[]]]]",
    "materialize(1)", "*", "* EXCEPT x", "COLUMNS('.*')", "untuple((1, 2))", "1::Decimal(76, 70)",
)  # fmt: skip
GREEDY = (
    "SELECT groupArray(number) FROM numbers(1000000000)",
    "SELECT number, repeat('x', 1000) FROM numbers(10000000)",
    "SELECT uniqExact(number * 7) FROM numbers(500000000)",
    "SELECT a.number FROM numbers(100000) AS a CROSS JOIN numbers(100000) AS b ORDER BY rand() LIMIT 5",
    "SELECT arrayJoin(range(10000000)) FORMAT JSON",
    "SELECT length(repeat(repeat('x', 1000000), 1000))",
    "SELECT cityHash64(number) AS h FROM numbers(300000000) ORDER BY h LIMIT 3 FORMAT Parquet",
    "SELECT email FROM data.people",
    "SELECT * FROM data.people FORMAT Native",
)


def heavy(luck: random.Random) -> str:
    """Return a query that is one quadratic block: ClickHouse looks at its clock when it has
    ended."""
    size = luck.choice((5_000, 15_000, 30_000))
    return f"SELECT editDistance(repeat('ab', {size}), repeat('cd', {size - luck.randint(1, 9)}))"


def honest_queries() -> list[str]:
    """Return the queries of the tests, those that pass and those that are refused."""
    out = []
    for file in (HERE.parent / "tests" / "sql").glob("*/*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-->")):
                out.append(line)
    return out


def changed_query(luck: random.Random, known: list[str]) -> str:
    """Return a query that nobody would write."""
    kind = luck.random()
    if kind < 0.01:
        return heavy(luck)
    if kind < 0.03:
        return luck.choice(GREEDY)
    sql = luck.choice(known)
    if kind < 0.08:
        depth = luck.choice((10, 100, 1_000, 20_000))
        left, right = luck.choice(
            (("(", ")"), ("[", "]"), ("(SELECT ", ")"), ("-", ""), ("NOT ", ""))
        )
        return f"SELECT {left * depth}1{right * depth}"[:250_000]
    parts = re.findall(r"\w+|\s+|'[^']*'|.", sql)
    for _ in range(luck.choice((0, 0, 1, 1, 2, 4))):
        at = luck.randrange(len(parts))
        what = luck.random()
        if what < 0.25:
            parts[at] = luck.choice(ODD)
        elif what < 0.4:
            del parts[at : at + luck.randint(1, 4)]
            parts = parts or ["SELECT"]
        elif what < 0.55:
            parts[at:at] = parts[luck.randrange(len(parts)) :][:6]
        elif what < 0.75:
            other = re.findall(r"\w+|\s+|'[^']*'|.", luck.choice(known))
            parts[at:at] = other[luck.randrange(len(other)) :][: luck.randint(1, 12)]
        elif what < 0.85:
            parts[at] = "".join(
                chr(luck.choice((luck.randrange(32, 127), luck.randrange(0x250)))) for _ in range(6)
            )
        else:
            parts[at] = str(luck.choice((-1, 0, 2**31, 2**63, 2**64, 2**256, 10**30)))
    out = "".join(parts)
    if luck.random() < 0.3:
        out += f" FORMAT {luck.choice(FORMATS)}"
    if luck.random() < 0.1:
        out += f" SETTINGS {luck.choice(('max_execution_time', 'max_threads', 'readonly', 'max_memory_usage'))} = {luck.choice(ODD)}"
    return out


class Person(threading.Thread):
    """Somebody who sends requests until there is nothing left to do."""

    def __init__(self, url: str, token: str, next_one: Callable[[], bool], seed: int) -> None:
        super().__init__(daemon=True)
        address = urllib.parse.urlsplit(url)
        self.host, self.port = str(address.hostname), int(address.port or 0)
        self.token, self.next_one, self.luck = token, next_one, random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.defects: Counter[str] = Counter()
        self.mixed: list[str] = []

    def run(self) -> None:
        while self.next_one():
            self.step()

    def step(self) -> None:
        raise NotImplementedError

    def send(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Send a request; (0, b"") when there was no answer."""
        link = http.client.HTTPConnection(self.host, self.port, timeout=120)
        try:
            link.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            link.close()

    def leave(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a request and go away at some moment: within it, or before the answer has come."""
        head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        head += [f"Content-Length: {len(body)}", "", ""]
        data = "\r\n".join(head).encode("latin-1", "replace") + body
        if self.luck.random() < 0.3:
            data = data[: self.luck.randrange(len(data))]
        with (
            contextlib.suppress(OSError),
            socket.create_connection((self.host, self.port), 30) as one,
        ):
            one.settimeout(30)
            one.sendall(data)
            time.sleep(self.luck.choice((0.0, 0.005, 0.05, 0.3)))

    def note(self, status: int, said: bytes, what: str) -> None:
        self.statuses[status] += 1
        if status >= 500 and status != 503:
            self.defects[f"{status} {what[:300]} -> {said[:200].decode(errors='replace')}"] += 1


class Asking(Person):
    """Does harm at the SQL endpoint."""

    known = honest_queries()

    def step(self) -> None:
        luck = self.luck
        sql = changed_query(luck, self.known)
        query = {"query": "", "default_format": luck.choice((*FORMATS, "x"))}
        headers = {}
        if luck.random() < 0.1:
            query[
                luck.choice(
                    (
                        "compress",
                        "param_x",
                        "session_id",
                        "max_result_rows",
                        "database",
                        "decompress",
                        "client_protocol_version",
                    )
                )
            ] = luck.choice(("1", *ODD))
        body = sql.encode("utf-8", "surrogatepass")
        if luck.random() < 0.05:
            headers["Content-Encoding"] = luck.choice(("gzip", "deflate", "lz4", "zstd", "x"))
            body = luck.choice(
                (
                    gzip.compress(body),
                    zlib.compress(body),
                    os.urandom(50),
                    gzip.compress(b" " * 3_000_000),
                )
            )
        if luck.random() < 0.1:
            headers["Accept-Encoding"] = luck.choice(("gzip", "lz4", "zstd", "\x01", "br;q=nan"))
        path = "/?" + urllib.parse.urlencode(query, errors="surrogatepass")
        if luck.random() < 0.1:
            self.leave(path, body, headers)
            return
        status, said = self.send("POST", path, body, headers)
        self.note(status, said, sql)
        if b"honest-" in said or SECRET in said:
            self.mixed.append(f"{sql[:200]} -> {said[:200]!r}")


def honest_bodies(now: int, name: str) -> list[tuple[str, str, bytes]]:
    """Return a small body of every protocol: path, content type, body."""
    lines = b"\n".join(
        json.dumps(
            {"ts": now + n, "msg": f"{name} {n}", "level": "info", "a": {"b": [1, n]}}
        ).encode()
        for n in range(5)
    )
    at = b"\x10" + varint(now // 1_000_000)
    sample = field(2, b"\x09" + struct.pack("<d", 1.5) + at)
    write = b"".join(
        field(1, labels({"__name__": name, "n": str(n), "job": "fuzz"}.items()) + sample)
        for n in range(5)
    )
    attributes = [{"key": "service.name", "value": {"stringValue": "fuzz"}}]
    record = {
        "timeUnixNano": str(now),
        "body": {"stringValue": name},
        "severityNumber": 9,
        "traceId": "ab" * 16,
        "attributes": attributes,
    }
    logs = {
        "resourceLogs": [
            {
                "resource": {"attributes": attributes},
                "scopeLogs": [{"scope": {"name": "s"}, "logRecords": [record] * 3}],
            }
        ]
    }
    point = {"timeUnixNano": str(now), "asDouble": 1.5, "attributes": attributes}
    histogram = {
        "timeUnixNano": str(now),
        "count": "3",
        "sum": 4.5,
        "bucketCounts": ["1", "2"],
        "explicitBounds": [1.0],
    }
    metrics = {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes},
                "scopeMetrics": [
                    {
                        "metrics": [
                            {"name": name, "gauge": {"dataPoints": [point]}},
                            {
                                "name": f"{name}.h",
                                "histogram": {
                                    "aggregationTemporality": 2,
                                    "dataPoints": [histogram],
                                },
                            },
                        ]
                    }
                ],
            }
        ]
    }
    span = {
        "traceId": "cd" * 16,
        "spanId": "ef" * 8,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 5),
    }
    traces = {
        "resourceSpans": [
            {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]}
        ]
    }
    event = {
        "specversion": "1.0",
        "id": name,
        "source": "/fuzz",
        "type": "x.y",
        "time": "2026-11-29T00:00:00Z",
        "data": {"a": 1},
    }
    text = f'# TYPE {name} counter\n{name}_total{{a="b"}} 5\n{name}_total{{a="c"}} 6.5 {now // 1_000_000}\n'
    return [
        ("/v1/jsonlines?asset=service:fuzz", "application/x-ndjson", lines),
        ("/api/v1/write", "application/x-protobuf", bytes(cramjam.snappy.compress_raw(write))),
        ("/v1/logs", "application/json", json.dumps(logs).encode()),
        ("/v1/metrics", "application/json", json.dumps(metrics).encode()),
        ("/v1/traces", "application/json", json.dumps(traces).encode()),
        ("/v1/logs", "application/x-protobuf", protobuf("logs", logs)),
        ("/v1/metrics", "application/x-protobuf", protobuf("metrics", metrics)),
        ("/v1/traces", "application/x-protobuf", protobuf("traces", traces)),
        ("/v1/events", "application/cloudevents+json", json.dumps(event).encode()),
        ("/v1/exposition", "text/plain", text.encode()),
    ]  # fmt: skip


def protobuf(signal: str, value: dict[str, Any]) -> bytes:
    from sextant.formats.telemetry import otlp_bodies

    body = otlp_bodies.read(signal, json.dumps(value).encode(), json=True)
    made: bytes = body.request.SerializeToString()
    return made


ODD_JSON = (
    b"9" * 5_000, b"1e400", b"-0", b"NaN", b'"\\ud800"', b'"0000-01-01T00:00:00Z"', b'"99999-01-01"',
    b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59.999999-23:59"', b"9223372036854775807",
    b"18446744073709551616", b"-9223372036854775809", b"null", b"true", b"[]", b"{}", b'""',
    b'"' + b"x" * 300_000 + b'"', b'{"stringValue": 5}', b'{"arrayValue": {"values": [{}]}}',
    b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"\xff\xfe", b"'", b"\x00",
)  # fmt: skip


def changed_body(luck: random.Random, name: str) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers of a request that nobody would send."""
    now = time.time_ns() + luck.choice((0, 0, 0, -(10**18), 10**18))
    path, kind, body = luck.choice(honest_bodies(now, name))
    headers = {"Content-Type": kind}
    is_json = "json" in kind
    if path == "/api/v1/write":
        body = bytes(cramjam.snappy.decompress_raw(body))
    what = luck.random()
    if what < 0.01:  # much in few bytes
        unit = luck.choice(
            (b"{}\n", b'{"a":1}\n', b"\n", b"\x0a\x00", b"[", b"a 1\n", b"\x0a\x02\x0a\x00")
        )
        body = unit * (luck.choice((1, 8, 40, 130)) * (1 << 20) // len(unit))
    elif is_json and what < 0.55:
        values = list(re.finditer(rb'"[^"]*"|-?\d[\d.]*', body))
        for found in sorted(
            luck.sample(values, min(len(values), luck.randint(1, 3))), key=lambda one: -one.start()
        ):
            body = body[: found.start()] + luck.choice(ODD_JSON) + body[found.end() :]
    else:
        data = bytearray(body)
        for _ in range(luck.choice((0, 1, 1, 2, 8))):
            at = luck.randrange(len(data) + 1)
            change = luck.random()
            if change < 0.4 and data:
                data[at % len(data)] = luck.randrange(256)
            elif change < 0.6:
                del data[at : at + luck.randint(1, 20)]
            elif change < 0.8:
                data[at:at] = luck.choice(
                    (b"\xff" * 9, b"\x00" * 9, b"\x80" * 11, luck.choice(ODD_JSON)[:200])
                )
            else:
                data[at:at] = data[luck.randrange(len(data) + 1) :][:40]
        body = bytes(data)
    if path == "/api/v1/write":
        headers["Content-Encoding"] = "snappy"
        if luck.random() < 0.9:
            body = bytes(cramjam.snappy.compress_raw(body))
    elif len(body) > 1 << 20 or luck.random() < 0.2:
        headers["Content-Encoding"] = luck.choice(("gzip", "gzip", "deflate"))
        body = (
            gzip.compress(body, 1)
            if headers["Content-Encoding"] == "gzip"
            else zlib.compress(body, 1)
        )
        if luck.random() < 0.1:
            body = body[: luck.randrange(len(body))]
    if luck.random() < 0.05:
        headers["Content-Type"] = luck.choice(
            ("application/json", "text/plain", "", "x/y; charset=\xff")
        )
    if luck.random() < 0.05:
        path += luck.choice(("?", "&", "%")) + luck.choice(
            ("asset=%ff", "owner=%00", "a=%", "a=" + "x" * 5_000)
        )
    return path, body, headers


class Sending(Person):
    """Does harm at the ingest endpoint."""

    def step(self) -> None:
        path, body, headers = changed_body(self.luck, f"fuzz_{self.luck.randrange(50)}")
        if self.luck.random() < 0.05:
            self.leave(path, body, headers)
            return
        status, said = self.send("POST", path, body, headers)
        self.note(status, said, f"{path} {headers} {body[:100]!r}")


class Honest(threading.Thread):
    """Sends rows and asks for them, and for what has one right answer in many formats; and somebody
    with more rights does the same beside it."""

    def __init__(self, address: Address, token: str, admin: str) -> None:
        super().__init__(daemon=True)
        self.address, self.token, self.admin = address, token, admin
        self.stopping = False
        self.sent = 0
        self.seconds: list[float] = []
        self.refused: list[str] = []
        self.mixed: list[str] = []

    def post(self, url: str, body: bytes, token: str, headers: dict[str, str]) -> bytes | None:
        link = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)
        try:
            link.request("POST", url, body, {"Authorization": f"Bearer {token}", **headers})
            answer = link.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.refused.append(repr(error))
            return None
        finally:
            link.close()
        if answer.status != 200:
            self.refused.append(f"{answer.status} {said[:300]!r}")
            return None
        return said

    def ask(self, sql: str, wanted: bytes, token: str) -> None:
        began = time.monotonic()
        said = self.post(f"{self.address.sql}/", sql.encode(), token, {})
        self.seconds.append(time.monotonic() - began)
        if said is not None and said != wanted:
            self.mixed.append(f"{sql} -> {said[:200]!r}")

    def run(self) -> None:
        n = 0
        while not self.stopping:
            n += 1
            lines = b"\n".join(b'{"msg":"honest-%d-%d"}' % (n, k) for k in range(5))
            if self.post(f"{self.address.ingest}/v1/jsonlines?asset=service:honest", lines, self.token, {"Content-Type": "application/x-ndjson"}) is not None:  # fmt: skip
                self.sent += 5
            self.ask(f"SELECT count() FROM obs.logs WHERE startsWith(body, 'honest-{n}-')", b"5\n", self.token)  # fmt: skip
            self.ask(f"SELECT 'honest-{n}', number FROM numbers(3)", b"".join(b"honest-%d\t%d\n" % (n, k) for k in range(3)), self.token)  # fmt: skip
            self.ask(f"SELECT 'honest-{n}' AS a FORMAT JSONEachRow", b'{"a":"honest-%d"}\n' % n, self.token)  # fmt: skip
            self.ask(f"SELECT 'honest-{n}' FORMAT RowBinary", bytes([len(f"honest-{n}")]) + b"honest-%d" % n, self.token)  # fmt: skip
            self.ask("SELECT count() FROM data.people", b"500\n", self.token)
            self.ask(f"SELECT email FROM data.people WHERE id = {n % 500}", b"classified-%d@example.org\n" % (n % 500), self.admin)  # fmt: skip
            time.sleep(0.05)


class Watcher(threading.Thread):
    """Looks whether the telemetry process answers."""

    def __init__(self, address: Address) -> None:
        super().__init__(daemon=True)
        self.host = urllib.parse.urlsplit(address.ingest).netloc
        self.stopping = False
        self.seconds: list[float] = []
        self.failures = 0

    def run(self) -> None:
        while not self.stopping:
            began = time.monotonic()
            link = http.client.HTTPConnection(self.host, timeout=30)
            try:
                link.request("GET", "/healthz")
                link.getresponse().read()
            except (OSError, http.client.HTTPException):
                self.failures += 1
            link.close()
            self.seconds.append(time.monotonic() - began)
            time.sleep(0.1)


def counter(total: int) -> Callable[[], bool]:
    left, lock = [total], threading.Lock()

    def next_one() -> bool:
        with lock:
            left[0] -= 1
            return left[0] >= 0

    return next_one


def tokens(root: Path) -> list[str]:
    """Return tokens of four people: two who do harm, an honest one, an administrator."""
    with LocalPlatform.open(root) as platform:
        return [
            platform.access.create_token(
                name, by=SYSTEM, kind="person", role=role, scopes=("query", "ingest")
            )["secret"]
            for name, role in (
                ("mal", "viewer"),
                ("mel", "viewer"),
                ("ann", "viewer"),
                ("eve", "admin"),
            )
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=3, help="of each who does harm")
    parser.add_argument("--said", default="", help="a file for what the processes say")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        os.environ.update(XDG_CONFIG_HOME=f"{folder}/config", XDG_STATE_HOME=f"{folder}/state")
        root = Path(folder) / "project"
        root.mkdir()
        (root / "sextant.toml").write_text(TOML)
        (root / "ops.py").write_text(OPS)
        sys.stderr = os.fdopen(os.dup(2), "w")  # ours; what the processes say goes into a file
        said = arguments.said or f"{folder}/said"
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        with LocalPlatform.open(root) as platform:
            Operations(platform).run()
        harm_sql, harm_ingest, honest_token, admin = tokens(root)
        server = Supervisor(read_config(root), say=lambda _: None)
        address = server.start()
        threading.Thread(target=server.watch, daemon=True).start()
        telemetry = next(one for one in server.children if one.name == "telemetry")
        pid = telemetry.process.pid if telemetry.process else 0
        honest, watcher = Honest(address, honest_token, admin), Watcher(address)
        queries, bodies = counter(arguments.queries), counter(arguments.bodies)
        asking = [
            Asking(address.sql, harm_sql, queries, arguments.seed * 100 + n)
            for n in range(arguments.connections)
        ]
        sending = [
            Sending(address.ingest, harm_ingest, bodies, arguments.seed * 200 + n)
            for n in range(arguments.connections)
        ]
        began = time.monotonic()
        try:
            for one in (honest, watcher, *asking, *sending):
                one.start()
            for one in (*asking, *sending):
                one.join()
            wall = time.monotonic() - began
            honest.stopping = watcher.stopping = True
            honest.join()
            watcher.join()
            client = TelemetryClient(address.ingest, address.sql, address.secret)
            (there,) = client.query(
                "SELECT count() AS n, uniqExact(body) AS u FROM obs.logs WHERE startsWith(body, 'honest-')"
            )
            health = client.health()
        finally:
            server.stop()
            server.shut()
    defects = sum((one.defects for one in (*asking, *sending)), Counter[str]())
    for what, count in defects.most_common(20):
        print(f"   {count} {what}", file=sys.stderr)
    mixed = [*honest.mixed, *(line for one in asking for line in one.mixed)]
    for line in (*mixed[:10], *honest.refused[:10]):
        print(f"   {line}", file=sys.stderr)
    out = {
        "bench": "fuzz",
        "queries": arguments.queries,
        "bodies": arguments.bodies,
        "seconds": round(wall),
        "deaths": telemetry.restarts
        + int(bool(telemetry.process and telemetry.process.pid != pid)),
        "mixed": len(mixed),
        "acknowledged": honest.sent,
        "lost": honest.sent - int(there["u"]),
        "doubled": int(there["n"]) - int(there["u"]),
        "refused": len(honest.refused),
        "honest": len(honest.seconds),
        "honest_p50_s": round(statistics.median(honest.seconds), 3),
        "honest_p99_s": round(sorted(honest.seconds)[int(len(honest.seconds) * 0.99)], 3),
        "honest_max_s": round(max(honest.seconds), 3),
        "healthz_p99_s": round(sorted(watcher.seconds)[int(len(watcher.seconds) * 0.99)], 3),
        "healthz_max_s": round(max(watcher.seconds), 3),
        "healthz_failures": watcher.failures,
        "defects": sum(defects.values()),
        "sql": dict(sum((one.statuses for one in asking), Counter[int]())),
        "ingest": dict(sum((one.statuses for one in sending), Counter[int]())),
        **{
            name: health[name]
            for name in ("queries_stopped", "query_processes_died")
            if name in health
        },
    }
    print(json.dumps(out))
    bad = ("deaths", "mixed", "lost", "doubled", "refused", "defects", "healthz_failures")
    return int(any(out[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
