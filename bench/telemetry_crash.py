"""Kill -9 of the processes of a running server, under load: `python bench/telemetry_crash.py
--kills 200 [--seed N] [--minutes M]`.

`sextant up`'s supervisor runs a coordinator and a telemetry process; again and again one of them,
or both, is killed at a random moment.
Clients send all the time and send again what was not acknowledged: log lines and remote write to
telemetry, under a token, and rows to
a dataset of the coordinator. At the end:

lost     a batch that was acknowledged is not there
doubled  a row of a batch is there twice
ready    from a kill until the process says that it can be asked again. The pause before a start,
         which grows when a process dies often in
         a minute, is left out: this many deaths are the bench's

Prints one JSON line, and the times. `tests/telemetry/test_crash.py` does the same ten times with
one process.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any

import cramjam
from telemetry_wire import field, labels

from sextant.project.config import read_config
from sextant.formats.telemetry.native import varint
from sextant.kernel.errors import SextantError
from sextant.server.feed.telemetry_client import TelemetryClient
from sextant.server.processes.supervisor import Address, Child, Supervisor

TOML = (
    'module = "ops"\nenvironment = "dev"\n[server]\napi = "127.0.0.1:0"\ningest = '
    '"127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)
OPS = """
import sextant as sx

sx.project("crash", tz="UTC", owner=sx.team("bench"), environments=["dev"])
sales = sx.stream("sales", columns={"id": "string", "amount": "float64"})
"""
PROTOBUF = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
EACH = 5  # rows of a batch


class Sender(threading.Thread):
    """Sends numbered batches, each until it is acknowledged."""

    def __init__(self, kind: str, number: int, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.kind, self.number, self.token = kind, number, token
        self.host = urllib.parse.urlsplit(url).netloc
        self.acknowledged = self.again = 0
        self.stopping = False
        self.error = ""

    def batch(self, number: int) -> tuple[str, bytes, dict[str, str]]:
        names = [f"{self.number}-{number}-{n}" for n in range(EACH)]
        now = time.time_ns()
        if self.kind == "lines":
            return (
                "/v1/jsonlines?asset=service:crash",
                "\n".join(json.dumps({"ts": now, "msg": name}) for name in names).encode(),
                {"Content-Type": "application/x-ndjson"},
            )
        if self.kind == "samples":
            at = b"\x10" + varint(now // 1_000_000)
            import struct

            sample = field(2, b"\x09" + struct.pack("<d", number + 1) + at)
            body = b"".join(
                field(
                    1,
                    labels({"__name__": "crash", "sender": str(self.number), "n": str(n)}.items())
                    + sample,
                )
                for n in range(EACH)
            )
            return "/api/v1/write", bytes(cramjam.snappy.compress_raw(body)), PROTOBUF
        rows = [{"id": name, "amount": 1.0} for name in names]
        return (
            "/api/v1/datasets/sales/rows",
            json.dumps({"batch": f"{self.number}-{number}", "rows": rows}).encode(),
            {"Content-Type": "application/json"},
        )

    def run(self) -> None:
        number = 0
        while not self.stopping:
            path, body, headers = self.batch(number)
            while not self.sent(
                path, body, headers
            ):  # also when it is told to stop: what was begun is brought to its end
                self.again += 1
                if self.error:
                    return
                time.sleep(0.01)
            number += 1
            self.acknowledged = number

    def sent(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        link = http.client.HTTPConnection(self.host, timeout=30)
        try:
            link.request("POST", path, body, {**headers, "Authorization": f"Bearer {self.token}"})
            answer = link.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()
        if answer.status in (429, 502, 503):
            return False
        if answer.status >= 300:
            self.error = f"{answer.status}: {said[:300]!r}"
            return False
        return True


def kill(children: list[Child], luck: random.Random, ready: dict[str, list[float]]) -> None:
    """Kill one process, or all, and wait until they are ready again."""
    chosen = luck.sample(children, 1) if luck.random() < 0.9 else children
    before = {child.name: child.process.pid for child in chosen if child.process}
    for child in children:
        child.starts.clear()
    began = time.monotonic()
    for child in chosen:
        child.kill()
    waiting = list(chosen)
    while waiting:
        for child in list(waiting):
            process = child.process
            if process and process.pid != before[child.name] and child.ready is not None:
                ready["both" if len(chosen) > 1 else child.name].append(time.monotonic() - began)
                waiting.remove(child)
        if time.monotonic() - began > 90:
            raise SystemExit(f"{[child.name for child in waiting]} are not ready again")
        time.sleep(0.002)


def found(telemetry: TelemetryClient, sql: str) -> Any:
    """Ask; again while something has just been started."""
    until = time.monotonic() + 60
    while True:
        try:
            return telemetry.query(sql)
        except SextantError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def judge(senders: list[Sender], address: Address) -> tuple[int, int]:
    """Return batches that are lost and rows that are doubled."""
    telemetry = TelemetryClient(address.ingest, address.sql, address.secret)
    there: dict[str, Counter[str]] = {"lines": Counter(), "samples": Counter(), "rows": Counter()}
    for row in found(
        telemetry,
        "SELECT body, count() AS n FROM obs.logs WHERE asset = 'service:crash' GROUP BY body",
    ):
        there["lines"][row["body"]] = int(row["n"])
    for row in found(
        telemetry,
        (
            "SELECT labels['sender'] AS sender, labels['n'] AS n, value, count() AS times FROM "
            "obs.metrics WHERE metric = 'crash' GROUP BY sender, n, value"
        ),
    ):
        there["samples"][f"{row['sender']}-{int(row['value']) - 1}-{row['n']}"] = int(row["times"])
    wanted = {
        kind: {
            f"{one.number}-{batch}-{n}"
            for one in senders
            if one.kind == kind
            for batch in range(one.acknowledged)
            for n in range(EACH)
        }
        for kind in there
    }
    until = time.monotonic() + 120
    while time.monotonic() < until:  # what was pushed is published within seconds
        try:
            data = telemetry.ask(
                "SELECT id, count() AS n FROM data.sales GROUP BY id",
                "JSONEachRow",
                {},
                role="admin",
            )
        except SextantError:
            time.sleep(0.5)
            continue
        rows = [json.loads(line) for line in data.splitlines() if line]
        there["rows"] = Counter({row["id"]: int(row["n"]) for row in rows})
        if wanted["rows"] <= set(there["rows"]):
            break
        time.sleep(0.5)
    lost = {
        (kind, name.rpartition("-")[0])
        for kind, names in wanted.items()
        for name in names
        if not there[kind][name]
    }
    doubled = sum(count - 1 for kind in there for count in there[kind].values() if count > 1)
    for kind, names in wanted.items():
        print(
            f"   {kind}: {len(names)} rows acknowledged, {len(there[kind])} there", file=sys.stderr
        )
    return len(lost), doubled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15.0, help="as many kills as fit")
    arguments = parser.parse_args()
    luck = random.Random(arguments.seed)
    ready: dict[str, list[float]] = {"telemetry": [], "coordinator": [], "both": []}
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        os.environ.update(XDG_CONFIG_HOME=f"{folder}/config", XDG_STATE_HOME=f"{folder}/state")
        root = Path(folder) / "project"
        root.mkdir()
        (root / "sextant.toml").write_text(TOML)
        (root / "ops.py").write_text(OPS)
        sys.stderr = os.fdopen(os.dup(2), "w")  # ours; what the processes say goes into a file
        os.dup2(os.open(f"{folder}/said", os.O_WRONLY | os.O_CREAT, 0o600), 2)
        server = Supervisor(read_config(root), say=lambda _: None)
        address = server.start()
        watching = threading.Thread(target=server.watch, daemon=True)
        watching.start()
        try:
            kinds = (
                [("lines", address.ingest)] * 2
                + [("samples", address.ingest)] * 2
                + [("rows", address.api)]
            )
            senders = [
                Sender(kind, number, url, server.token) for number, (kind, url) in enumerate(kinds)
            ]
            for sender in senders:
                sender.start()
            began, kills = time.monotonic(), 0
            while kills < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
                time.sleep(luck.uniform(0.0, 1.2))
                kill(server.children, luck, ready)
                kills += 1
                problem = next((one.error for one in senders if one.error), "")
                if problem:
                    raise SystemExit(problem)
            took = time.monotonic() - began
            for sender in senders:
                sender.stopping = True
            for sender in senders:
                sender.join(120)
                assert not sender.is_alive(), sender.kind
            lost, doubled = judge(senders, address)
        finally:
            server.stop()
            watching.join()
            server.shut()
    batches = sum(sender.acknowledged for sender in senders)
    print(
        json.dumps(
            {
                "bench": "telemetry_crash",
                "kills": kills,
                "seconds": round(took),
                "acknowledged_batches": batches,
                "sent_again": sum(sender.again for sender in senders),
                "lost": lost,
                "doubled": doubled,
                "budget": 0,
            }
        ),
        flush=True,
    )
    for name, times in ready.items():
        if times:
            print(
                json.dumps(
                    {
                        "bench": "telemetry_crash",
                        "what": f"{name}: kill to ready",
                        "unit": "s",
                        "median": round(statistics.median(times), 3),
                        "min": round(min(times), 3),
                        "max": round(max(times), 3),
                        "n": len(times),
                        "budget": 3.0,
                    }
                )
            )
    return 1 if lost or doubled else 0


if __name__ == "__main__":
    sys.exit(main())
