"""`sextant up` as it runs on a machine: real processes, real ports, killed and started again."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sextant.kernel.errors import WorldError
from sextant.server.processes.hold import hold_store
from sextant.server.processes.supervisor import claim

_OPS = '''
import polars as pl
import sextant as sx

team = sx.team("shop", members=["ann"])
sx.project("shop", tz="UTC", owner=team, environments=["dev"])
days = sx.daily(start="2026-01-01", end="2026-01-04")
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id", checks=[sx.between("price", 0, 100)])
mean_price = sx.kpi("mean_price", of=prices, measure="avg(price)", grain="")


@sx.dataset(partition=days, key="id", personal=["email"])
def orders(day: sx.Partition) -> pl.DataFrame:
    """Orders of one day."""
    print("making orders of", day.key)
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(4)], "email": ["a@example.com"] * 4, "amount": [1.0, 2.0, 3.0, 4.0]})
'''
_TOML = 'module = "ops"\n[server]\napi = "127.0.0.1:0"\ningest = "127.0.0.1:0"\ngrpc = "127.0.0.1:0"\nsql = "127.0.0.1:0"\n'


class Up:
    """A running server of a project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(root.parent / "config"),
            "XDG_STATE_HOME": str(root.parent / "state"),
            "SEXTANT_USER": "ann",
        }
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}
        self.token = ""

    def begin(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sextant.cli.main", "--project", str(self.root), "up", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert self.process.stdout
        self.facts = json.loads(self.process.stdout.readline())
        self.token = self.facts["token"] or self.token

    def end(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        return code

    def sx(self, *words: str, code: int = 0, **more: str) -> Any:
        """Run a command at the server and return its JSON."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "sextant.cli.main",
                "--server",
                self.facts["api"],
                *words,
                "--json",
            ],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment | {"SEXTANT_TOKEN": self.token} | more,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else None

    def here(self, *words: str) -> Any:
        """Run a command in the folder, beside the server."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "sextant.cli.main",
                "--project",
                str(self.root),
                *words,
                "--json",
            ],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def until(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        """Ask again and again until there is an answer."""
        end = time.monotonic() + seconds
        while True:
            found = what()
            if found:
                return found
            assert time.monotonic() < end, "it does not come"
            time.sleep(0.05)

    def query(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.sx("query", sql)
        return found

    def children(self) -> dict[str, int]:
        """Return process -> pid."""
        assert self.process
        out = {}
        for pid in (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            out[
                next(word for word in words if word.startswith("sextant.server.")).rpartition(".")[
                    2
                ]
            ] = int(pid)
        return out

    def post(self, path: str, body: bytes, kind: str, **headers: str) -> int:
        request = urllib.request.Request(
            self.facts["ingest"] + path,
            body,
            {"Authorization": f"Bearer {self.token}", "Content-Type": kind, **headers},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    root = tmp_path_factory.mktemp("up") / "shop"
    root.mkdir()
    (root / "ops.py").write_text(_OPS)
    (root / "sextant.toml").write_text(_TOML)
    server = Up(root)
    server.begin()
    yield server
    if server.process and server.process.poll() is None:
        assert server.end() == 0
    assert not (root / ".sextant" / "server.json").exists()


def test_the_first_start_says_a_token_and_serves(up: Up) -> None:
    """If this fails, nobody can come in, or the server is not up when it says so."""
    assert up.token.startswith("sxt_")
    for name in ("api", "ingest"):
        assert _ready(up, name)
    report = up.sx("run")
    assert report["state"] == "finished"
    assert up.sx("status")["project"] == "shop"


def test_sql_sees_data_ledger_and_telemetry(up: Up) -> None:
    """If this fails, the one place where everything can be asked is not one."""
    orders = up.until(
        lambda: up.query("SELECT count() AS n, sum(amount) AS total FROM data.orders")
    )
    assert orders == [{"n": 12, "total": 30}]
    assert (
        up.post(
            "/v1/jsonlines?asset=service:web",
            b'{"msg": "basket is empty", "level": "error"}',
            "application/x-ndjson",
        )
        == 200
    )
    assert up.sx("logs", "--search", "basket empty")["lines"][0]["asset"] == "service:web"
    runs = up.until(
        lambda: up.query(
            "SELECT state, trigger, count() AS n FROM ops.runs WHERE trigger = 'manual' "
            "GROUP BY ALL"
        )
    )
    assert runs == [{"state": "finished", "trigger": "manual", "n": 1}]
    assert up.query("SELECT count() AS n FROM ops.releases WHERE state = 'live'")[0]["n"] >= 1
    assert (
        up.query(
            "SELECT ok, count() AS n FROM ops.checks WHERE asset = 'dataset:orders' GROUP BY ok"
        )[0]["ok"]
        == 1
    )
    assert {row["asset"] for row in up.query("SELECT asset FROM ops.steps WHERE ok = 1")} >= {
        "dataset:orders"
    }
    joined = up.query(
        "SELECT r.state AS state, count() AS lines FROM obs.logs AS l INNER JOIN ops.runs "
        "AS r ON l.attributes['cicd.pipeline.run.id'] = r.id WHERE hasToken(l.body, "
        "'making') GROUP BY state"
    )
    assert joined == [{"state": "finished", "lines": 3}]
    assert up.query("SELECT max(seq) + 1 AS n FROM ops.events")[0]["n"] > 10


def test_personal_columns_are_for_administrators(up: Up) -> None:
    """If this fails, whoever may ask sees what is personal."""
    viewer = up.sx("token", "create", "bi", "--role", "viewer")["secret"]
    assert "email" in up.query("SELECT * FROM data.orders LIMIT 1")[0]
    assert (
        "email" not in up.sx("query", "SELECT * FROM data.orders LIMIT 1", SEXTANT_TOKEN=viewer)[0]
    )
    up.sx("query", "SELECT email FROM data.orders", SEXTANT_TOKEN=viewer, code=2)


def test_a_run_is_a_trace(up: Up) -> None:
    """If this fails, Sextant does not see itself."""
    trace = up.until(
        lambda: [
            t
            for t in up.sx("traces", "--asset", "service:sextant")["traces"]
            if t["root"] == "RUN manual"
        ]
    )[0]
    spans = up.sx("traces", trace["trace_id"])["rows"]
    assert spans[0]["attributes"]["cicd.pipeline.result"] == "success"
    assert any(span["attributes"].get("sextant.asset") == "dataset:orders" for span in spans)
    assert up.until(
        lambda: [m for m in up.sx("metrics")["metrics"] if m["metric"] == "sextant.ledger.events"]
    )
    assert up.until(lambda: up.sx("metrics", "sextant.ledger.events")["series"][0]["last"] > 10)


def test_pushed_rows_are_seen_in_the_kpi(up: Up) -> None:
    """If this fails, pushed rows wait for somebody to run something."""
    request = urllib.request.Request(
        f"{up.facts['api']}/api/v1/datasets/prices/rows",
        b'{"rows": [{"id": "a", "price": 4}, {"id": "b", "price": 8}]}',
        {"Authorization": f"Bearer {up.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["rows"] == 2
    assert up.until(lambda: [row for row in _kpi(up) if row["value"] == 6])
    assert up.until(lambda: _quiet(up, "SELECT value FROM kpi.mean_price")) == [{"value": 6}]
    up.here("push", "prices", _file(up, '{"id": "c", "price": 12}'))
    assert up.until(lambda: [row for row in _kpi(up) if row["value"] == 8])


def _kpi(up: Up) -> list[dict[str, Any]]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sextant.cli.main",
            "--server",
            up.facts["api"],
            "kpi",
            "mean_price",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=up.environment | {"SEXTANT_TOKEN": up.token},
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"] if done.returncode == 0 else []
    return rows


def _quiet(up: Up, sql: str) -> list[dict[str, Any]]:
    try:
        return up.query(sql)
    except AssertionError:
        return []


def _file(up: Up, text: str) -> str:
    file = up.root.parent / "rows.jsonl"
    file.write_text(text)
    return str(file)


def test_a_command_in_the_folder_asks_the_same_server(up: Up) -> None:
    """If this fails, `sextant query` beside a running server opens the store a second time, or
    fails."""
    assert up.here("query", "SELECT count() AS n FROM data.orders") == [{"n": 12}]
    version = up.here("report", "release", "service:cart", "--version", "v9")
    assert up.here(
        "query",
        (
            "SELECT count() AS n FROM ops.events WHERE subject = 'service:cart' AND type = "
            "'release.reported'"
        ),
    ) == [{"n": 1}], version


def test_telemetry_is_killed_and_comes_back(up: Up) -> None:
    """If this fails, one process takes the others with it, or stays dead."""
    pid = up.children()["telemetry"]
    os.kill(pid, signal.SIGKILL)
    assert up.sx("status")["project"] == "shop", "the coordinator goes on"
    assert up.sx("report", "release", "service:web", "--version", "v2")["new"] in (True, False)
    assert up.until(lambda: _quiet(up, "SELECT count() AS n FROM data.orders")) == [{"n": 12}]
    assert up.children()["telemetry"] != pid
    assert up.until(lambda: _ready(up, "api") and _ready(up, "ingest"))
    assert up.until(
        lambda: _quiet(
            up,
            (
                "SELECT count() AS n FROM ops.events WHERE type = 'release.reported' AND "
                "subject = 'service:web'"
            ),
        )
    ) == [{"n": 1}]


def test_the_coordinator_is_killed_and_comes_back(up: Up) -> None:
    """If this fails, telemetry stops being taken while the coordinator is away."""
    assert (
        up.post("/v1/jsonlines?asset=service:web", b'{"msg": "before"}', "application/x-ndjson")
        == 200
    )
    pid = up.children()["coordinator"]
    os.kill(pid, signal.SIGSTOP)  # it is there, and answers nobody
    try:
        assert (
            up.post(
                "/v1/jsonlines?asset=service:web", b'{"msg": "meanwhile"}', "application/x-ndjson"
            )
            == 200
        )
    finally:
        os.kill(pid, signal.SIGKILL)
    assert up.until(lambda: _health(up))
    assert up.children()["coordinator"] != pid
    assert len(up.sx("logs", "--search", "meanwhile")["lines"]) == 1


def test_a_run_that_a_crash_cut_off_is_taken_up(up: Up) -> None:
    """If this fails, a restart forgets what ran."""
    ops = up.root / "ops.py"
    text = ops.read_text()
    gate = up.root.parent / "gate"
    slow = f"""

@sx.dataset(key="id")
def slow(orders: pl.DataFrame) -> pl.DataFrame:
    import time
    from pathlib import Path
    while not Path({str(gate)!r}).exists():
        time.sleep(0.01)
    return orders.head(1)
"""
    ops.write_text(text + slow)
    asked = subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", "--server", up.facts["api"], "run", "slow"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=up.environment | {"SEXTANT_TOKEN": up.token},
    )
    (cut_off,) = up.until(lambda: [one for one in up.sx("runs") if one["state"] == "running"])
    os.kill(up.children()["coordinator"], signal.SIGKILL)
    assert asked.wait(60) == 3, "who asked is told that the connection broke"
    gate.touch()
    up.until(lambda: _health(up))
    done = up.until(
        lambda: [
            one for one in up.sx("runs") if one["id"] == cut_off["id"] and one["state"] != "running"
        ]
    )
    assert done[0]["state"] == "finished"
    assert up.sx("show", "slow", "--count")["rows"] == 1


def _health(up: Up) -> bool:
    try:
        with urllib.request.urlopen(f"{up.facts['api']}/healthz", timeout=5) as answer:
            return bool(json.loads(answer.read())["ok"])
    except OSError:
        return False


def _ready(up: Up, name: str) -> bool:
    try:
        with urllib.request.urlopen(f"{up.facts[name]}/readyz", timeout=5) as answer:
            return bool(json.loads(answer.read()) == {"ready": True, "waits": []})
    except OSError:
        return False


def test_a_second_server_is_told_who_has_the_project(up: Up) -> None:
    """If this fails, two servers work on one project, or the second one fails with a riddle."""
    done = subprocess.run(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(up.root), "up"],
        capture_output=True,
        text=True,
        check=False,
        env=up.environment,
    )
    assert done.returncode == 3
    assert up.process
    assert f"process {up.process.pid}" in done.stderr
    assert (up.root / ".sextant" / "server.json").exists(), (
        "commands in the folder still find the first one"
    )


def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path) -> None:
    """If this fails, a taken port ends in a traceback or a half-started server."""
    (tmp_path / "ops.py").write_text(_OPS)
    (tmp_path / "sextant.toml").write_text(
        _TOML.replace('sql = "127.0.0.1:0"', f'sql = "{up.facts["sql"].removeprefix("http://")}"')
    )
    done = subprocess.run(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(tmp_path), "up"],
        capture_output=True,
        text=True,
        check=False,
        env=up.environment,
    )
    assert done.returncode == 3
    assert "`sql` cannot listen" in done.stderr


def test_an_erased_payload_is_gone_from_sql(up: Up) -> None:
    """If this fails, what was erased from the ledger is still there to be asked for."""
    up.sx(
        "report",
        "check",
        "service:web",
        "--name",
        "smoke",
        "--message",
        "called by eve@example.com",
    )
    (event,) = up.sx("ledger", "show", "service:web", "--type", "check.reported")
    assert up.query(
        f"SELECT data LIKE '%eve@%' AS there FROM ops.events WHERE seq = {event['seq']}"
    ) == [{"there": 1}]
    up.sx("ledger", "erase", str(event["seq"]), "--reason", "asked to")
    assert up.until(
        lambda: up.query(
            f"SELECT data FROM ops.events WHERE seq = {event['seq']} AND data = 'erased'"
        )
    )


def test_our_own_metrics_can_be_scraped(up: Up) -> None:
    """If this fails, a Prometheus that watches the machine cannot watch Sextant, or a stranger
    reads how much it does."""
    from prometheus_client.parser import text_string_to_metric_families

    with pytest.raises(urllib.error.HTTPError) as stranger:
        urllib.request.urlopen(f"{up.facts['api']}/metrics", timeout=30)
    assert stranger.value.code == 401
    asked = urllib.request.Request(
        f"{up.facts['api']}/metrics", headers={"Authorization": f"Bearer {up.token}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        found = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
    assert found["sextant_ledger_events"].type == "counter"
    assert found["sextant_ledger_events"].samples[0].value > 0
    used = found["system_filesystem_usage_bytes"].samples
    assert {one.labels["system_filesystem_state"] for one in used} == {"free", "used"}


def test_otlp_over_grpc_is_served(up: Up) -> None:
    """If this fails, `up` does not listen where its settings say, or takes what has no token."""
    import grpc

    with grpc.insecure_channel(up.facts["grpc"].removeprefix("http://")) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as stranger:
            call(b"", timeout=30)
        assert stranger.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answer = call(b"", metadata=(("authorization", f"Bearer {up.token}"),), timeout=30)
    assert answer == b""


def test_refusals_stand_in_the_ledger(up: Up) -> None:
    """If this fails, somebody tries tokens and nobody can see it."""
    up.sx("status", SEXTANT_TOKEN="sxt_wrong", code=2)
    assert up.until(
        lambda: (
            "token"
            in {
                one["data"]["reason"]
                for one in up.sx("ledger", "show", "--type", "access.refused", "--data")
            }
        )
    )
    for endpoint in ("ingest", "sql"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(
                urllib.request.Request(
                    up.facts[endpoint]
                    + {"ingest": "/v1/logs", "sql": "/?query=SELECT+1"}[endpoint],
                    b"{}",
                    {"Authorization": "Bearer sxt_wrong"},
                ),
                timeout=30,
            )
        assert caught.value.code == 401
    reasons = {"token for ingest", "token for sql"}
    assert up.until(
        lambda: (
            reasons
            <= {
                one["data"]["reason"]
                for one in up.sx("ledger", "show", "--type", "access.refused", "--data")
            }
        )
    )


def test_it_stops_cleanly_and_goes_on(up: Up) -> None:
    """If this fails, a restart loses what was known, or leaves processes behind."""
    children = up.children()
    assert up.end() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())
    alone = up.here(
        "query", "SELECT count() AS n FROM obs.logs WHERE body IN ('before', 'meanwhile')"
    )
    assert alone == [{"n": 2}], "SQL without a server"
    up.begin()
    assert up.facts["token"] == "", "the first token is shown once"
    assert up.until(lambda: _quiet(up, "SELECT count() AS n FROM data.orders")) == [{"n": 12}]


def test_a_server_waits_for_a_command_that_holds_the_store(tmp_path: Path) -> None:
    """If this fails, `sextant up` ends with a riddle while somebody asks a question without a
    server."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "ops.py").write_text(_OPS)
    (tmp_path / "shop" / "sextant.toml").write_text(_TOML)
    (tmp_path / "shop" / ".sextant").mkdir(mode=0o700)
    one = Up(tmp_path / "shop")
    held = hold_store(one.root / ".sextant", unless=lambda: False)
    assert held is not None
    process = subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(one.root), "up", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=one.environment,
    )
    one.until(lambda: (one.root / ".sextant" / "up.lock").exists())
    assert not (one.root / ".sextant" / "telemetry").exists(), "nothing has been opened"
    os.close(held)
    assert process.stdout
    assert json.loads(process.stdout.readline())["pid"] == process.pid
    assert hold_store(one.root / ".sextant", unless=lambda: True) is None, "now the server holds it"
    process.terminate()
    assert process.wait(60) == 0
    process.communicate()


def test_the_processes_end_with_the_supervisor(up: Up) -> None:
    """If this fails, a supervisor that is killed leaves processes that hold the ports."""
    children = up.children()
    assert up.process
    up.process.kill()
    up.process.wait()
    up.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children.values()))
    (up.root / ".sextant" / "server.json").unlink(missing_ok=True)


def test_the_file_of_a_killed_server_misleads_nobody(up: Up) -> None:
    """If this fails, after a kill -9 commands in the folder ask a server that is gone, as soon as
    its number is given to another process."""
    stale = {
        "pid": os.getpid(),
        "api": up.facts["api"],
        "ingest": up.facts["ingest"],
        "sql": up.facts["sql"],
        "secret": "x",
    }
    (up.root / ".sextant" / "server.json").write_text(json.dumps(stale))
    assert up.here("query", "SELECT 1 AS one") == [{"one": 1}]
    (up.root / ".sextant" / "server.json").unlink()


def test_a_folder_that_cannot_be_used_is_named(up: Up) -> None:
    """If this fails, a telemetry folder with wrong permissions, or a broken store, ends in
    tracebacks."""
    folder = up.root / ".sextant" / "telemetry"
    for path in (folder, folder / "store", folder / "store" / "data"):
        if folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not a folder")
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", "--project", str(up.root), "up"],
            capture_output=True,
            text=True,
            check=False,
            env=up.environment,
        )
        assert done.returncode == 3
        assert str(folder) in done.stderr
        assert "Traceback" not in done.stderr
        assert "Stack trace" not in done.stderr
        assert "hint" in done.stderr


@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "another program has that port"), ("192.0.2.1", "no address of this machine")],
)
def test_an_address_that_cannot_be_had(host: str, why: str) -> None:
    """If this fails, a slip in an address reads as a taken port, and its reader looks for a program
    that is not there."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(WorldError) as caught:
            claim("api", f"{host}:{other.getsockname()[1]}")
    assert caught.value.code == "SX-UP-002"
    assert why in caught.value.hint
