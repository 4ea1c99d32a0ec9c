"""The installation without the extra `telemetry`: real commands and a real server in an environment
in which chDB and pandas cannot be imported."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_up import Up

_COMMAND = 'pip install "sextant-ops[telemetry]"'
_BLOCKED = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (
            "chdb", "_chdb", "pandas", "grpc", "clickhouse_cityhash"
        ):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Blocked())
"""
_TOML = (
    'module = "ops"\n[server]\napi = "127.0.0.1:0"\ningest = "127.0.0.1:0"\n'
    'grpc = "127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a process that finds neither chDB nor pandas."""
    folder = tmp_path_factory.mktemp("off")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(_BLOCKED)
    path = [str(folder / "hook"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "SEXTANT_USER": "ann",
    }


class Folder:
    """A project's folder, and commands in it."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment

    def sx(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run a command; return what it printed: the answer, and what it says beside it."""
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            cwd=self.root,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Folder:
    """Return the project that `sextant init` writes, after a run."""
    parent = tmp_path_factory.mktemp("projects")
    Folder(parent, environment).sx("init", "shop")
    project = Folder(parent / "shop", environment)
    project.sx("run")
    return project


def test_nothing_here_can_import_chdb(environment: dict[str, str]) -> None:
    """If this fails, the tests of this file prove nothing."""
    for module in ("chdb", "pandas"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], capture_output=True, env=environment
        )
        assert b"ModuleNotFoundError" in done.stderr


def test_data_releases_and_ledger_work(shop: Folder) -> None:
    """If this fails, what needs no telemetry needs its extra."""
    shop.sx("plan")
    assert "orders" in shop.sx("show", "orders")[0]
    dataset = next(
        one["asset"]
        for one in json.loads(shop.sx("status", "--json")[0])["assets"]
        if one["asset"].startswith("dataset:orders")
    )
    shop.sx("export", dataset, "--format", "CSVWithNames")
    shop.sx("backfill", dataset, "--force")
    shop.sx("rollback", dataset)
    shop.sx("ledger", "verify")


def test_status_and_doctor_say_that_it_is_off(shop: Folder) -> None:
    """If this fails, nobody is told why there is no telemetry before it is needed."""
    assert _COMMAND in json.loads(shop.sx("status", "--json")[0])["telemetry_off"]
    lines = [line for line in shop.sx("status")[0].splitlines() if "telemetry" in line]
    assert len(lines) == 1
    assert _COMMAND in lines[0]
    done = subprocess.run(
        [sys.executable, "-m", "sextant.cli.main", "doctor", "--json"],
        capture_output=True,
        env=shop.environment,
        cwd=shop.root,
    )
    found = [one for one in json.loads(done.stdout) if one["name"] == "telemetry"]
    assert [(one["ok"], one["warn"], one["hint"]) for one in found] == [(True, True, _COMMAND)]


@pytest.mark.parametrize(
    "words", [("query", "SELECT 1"), ("logs", "--search", "x"), ("traces",), ("metrics",)]
)
def test_what_needs_telemetry_says_how_to_install_it(shop: Folder, words: tuple[str, ...]) -> None:
    """If this fails, a command ends with a traceback, or with an error that helps nobody."""
    said = shop.sx(*words, code=3)[1]
    assert "SX-EXTRA-001" in said
    assert _COMMAND in said
    assert "Traceback" not in said


def test_settings_for_telemetry_are_not_passed_over(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """If this fails, a server whose project file asks for telemetry comes up without it."""
    Folder(tmp_path, environment).sx("init", "shop")
    file = tmp_path / "shop" / "sextant.toml"
    file.write_text(file.read_text() + '\n[telemetry.keep]\nlogs = "7d"\n')
    said = Folder(tmp_path / "shop", environment).sx("up", code=3)[1]
    assert "SX-EXTRA-001" in said
    assert _COMMAND in said


def test_a_clickhouse_server_needs_no_extra(tmp_path: Path, environment: dict[str, str]) -> None:
    """If this fails, who keeps telemetry on a ClickHouse server has to install chDB as well, or a
    server without gRPC's library ends at its start."""
    program = (
        "import sys, pathlib, clickhouse_shim\n"
        f"with clickhouse_shim.clickhouse(pathlib.Path({str(tmp_path / 'store')!r})) as url:\n"
        "    print(url, flush=True)\n    sys.stdin.read()\n"
    )
    shim = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1] / "telemetry",
    )
    assert shim.stdout
    assert shim.stdin
    try:
        url = shim.stdout.readline().strip()
        Folder(tmp_path, environment).sx("init", "shop")
        project = Folder(tmp_path / "shop", environment)
        file = project.root / "sextant.toml"
        file.write_text(file.read_text() + f'\n[telemetry]\nclickhouse = "{url}"\n')
        assert json.loads(project.sx("status", "--json", code=0)[0])["telemetry_off"] == ""
        answer = project.sx("query", "SELECT count() AS n FROM obs.services", "--json")[0]
        assert json.loads(answer) == [{"n": 0}]
        file.write_text(_TOML + f'[telemetry]\nclickhouse = "{url}"\n')
        server = Up(project.root)
        server.environment = environment
        server.begin()
        assert server.facts["grpc"] == ""
        assert server.query("SELECT count() < 9 AS few FROM obs.services") == [{"few": 1}]
        assert server.end() == 0
    finally:
        shim.stdin.close()
        shim.wait(30)
        shim.stdout.close()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("import pandas as pd", "SX-PROJ-061"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas as pd", ""),
    ],
)
def test_frames_of_pandas_are_refused_at_load(
    tmp_path: Path, environment: dict[str, str], head: str, code: str
) -> None:
    """If this fails, a project that needs pandas loads, and fails in the middle of a run."""
    (tmp_path / "sextant.toml").write_text(_TOML)
    (tmp_path / "ops.py").write_text(
        f"from __future__ import annotations\n{head}\nimport sextant as sx\n"
        'team = sx.team("shop")\nsx.project("shop", owner=team, environments=["dev"])\n\n'
        "@sx.check()\ndef is_good(frame: pd.DataFrame) -> bool:\n    return True\n\n"
        "@sx.dataset()\ndef made() -> pd.DataFrame:\n    ...\n\n"
        "@sx.dataset()\ndef read(made: pd.DataFrame) -> pl.DataFrame:\n    ...\n\n"
        "@sx.dataset(checks=[is_good])\ndef checked():\n    ...\n"
    )
    said = Folder(tmp_path, environment).sx("plan", code=2)[1]
    assert _COMMAND in said
    if code:
        assert code in said
    else:
        assert said.count("SX-PROJ-038") == 3, said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Up]:
    root = tmp_path_factory.mktemp("up") / "shop"
    root.mkdir()
    (root / "ops.py").write_text(
        "import polars as pl\nimport sextant as sx\n"
        'team = sx.team("shop", members=["ann"])\n'
        'sx.project("shop", owner=team, environments=["dev"])\n\n\n'
        '@sx.dataset(key="id")\ndef orders() -> pl.DataFrame:\n'
        '    return pl.DataFrame({"id": [1, 2]})\n'
    )
    (root / "sextant.toml").write_text(_TOML)
    server = Up(root)
    server.environment = {**server.environment, "PYTHONPATH": environment["PYTHONPATH"]}
    server.begin()
    yield server
    if server.process and server.process.poll() is None:
        assert server.end() == 0
    assert not (root / ".sextant" / "server.json").exists()


def _asked(url: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of an answer."""
    request = urllib.request.Request(url, **more)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_server_comes_up_without_a_telemetry_process(up: Up) -> None:
    """If this fails, `sextant up` needs the extra."""
    assert set(up.children()) == {"coordinator"}
    assert up.sx("run")["state"] == "finished"
    assert up.sx("status")["assets"][0]["rows"] == 2
    assert _COMMAND in up.sx("status")["telemetry_off"]
    up.sx("rollback", "orders")


def test_readiness_and_health_say_that_telemetry_is_off(up: Up) -> None:
    """If this fails, a server without telemetry is never ready, or does not say what it lacks."""
    status, found = _asked(f"{up.facts['api']}/readyz")
    assert (status, found["ready"], found["waits"]) == (200, True, [])
    assert _COMMAND in found["note"]
    status, found = _asked(f"{up.facts['api']}/healthz")
    assert (status, found["ok"], found["telemetry"], found["failing"]) == (200, True, "off", [])
    request = urllib.request.Request(
        f"{up.facts['api']}/metrics", headers={"Authorization": f"Bearer {up.token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert b"sextant_ledger_events" in answer.read()


def test_queries_at_the_api_get_503_and_the_command(up: Up) -> None:
    """If this fails, a remote caller does not learn why there is no SQL."""
    status, problem = _asked(
        f"{up.facts['api']}/api/v1/query",
        data=b'{"sql": "SELECT 1"}',
        headers={"Authorization": f"Bearer {up.token}", "Content-Type": "application/json"},
    )
    assert (status, problem["code"], problem["hint"]) == (503, "SX-EXTRA-001", _COMMAND)
    for words in (("query", "SELECT 1"), ("logs", "--search", "x"), ("traces",), ("metrics",)):
        up.sx(*words, code=3)


@pytest.mark.parametrize("port", ["ingest", "sql"])
@pytest.mark.parametrize("path", ["/", "/v1/logs", "/?query=SELECT+1"])
def test_the_ports_of_telemetry_answer_why_it_is_off(up: Up, port: str, path: str) -> None:
    """If this fails, whoever sends telemetry or asks SQL sees a closed port, or no reason."""
    assert not up.facts["grpc"]
    for data in (None, b"x" * 1_000_000):
        status, problem = _asked(up.facts[port] + path, data=data)
        assert (status, problem["code"], problem["hint"]) == (503, "SX-EXTRA-001", _COMMAND)


def test_the_server_ends_cleanly(up: Up) -> None:
    """If this fails, the server without telemetry hangs when it is told to end."""
    assert up.end() == 0
