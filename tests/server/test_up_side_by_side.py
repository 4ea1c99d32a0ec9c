"""`sextant up` beside runs of other processes: what is due goes out while a slow step works, and a
run whose process was killed is resumed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_up import Up

_OPS = """
import pathlib
import time

import polars as pl
import sextant as sx

sx.project("shop", tz="UTC", owner=sx.team("shop", members=["ann"]), environments=["dev"])
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id")
notes = sx.stream("notes", columns={"id": "string"}, key="id")
GATE = pathlib.Path("GATE_FOLDER")


def wait_at_gate(name):
    (GATE / name).mkdir(exist_ok=True)
    (GATE / name / str(time.time_ns())).touch()
    for _ in range(6_000):
        if (GATE / "open").exists():
            return
        time.sleep(0.01)
    raise TimeoutError("nobody opened the gate")


@sx.dataset()
def source() -> pl.DataFrame:
    return pl.DataFrame({"id": ["a"]})
"""
_SLOW = """

@sx.dataset()
def slow(INPUTS) -> pl.DataFrame:
    wait_at_gate("slow")
    return pl.DataFrame({"n": [1]})
"""
_TOML = (
    'module = "ops"\nworkers = 1\n'
    '[server]\napi = "127.0.0.1:0"\ningest = "127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)


class Gate:
    """Where the slow step waits: how often it has begun, and what lets it go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def begun(self) -> int:
        return len(list(self.folder.glob("slow/*")))

    def open(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def up(tmp_path: Path, gate: Gate) -> Iterator[Up]:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "ops.py").write_text(_OPS.replace("GATE_FOLDER", str(gate.folder)))
    (root / "sextant.toml").write_text(_TOML)
    server = Up(root)
    server.begin()
    yield server
    gate.open()
    assert server.end() == 0


def add_slow(up: Up, inputs: str) -> None:
    ops = up.root / "ops.py"
    ops.write_text(ops.read_text() + _SLOW.replace("INPUTS", inputs))


def push(up: Up, stream: str, row: str) -> None:
    file = up.root.parent / "rows.jsonl"
    file.write_text(row)
    up.sx("push", stream, str(file))


def test_pushed_rows_go_out_while_a_slow_step_works(up: Up, gate: Gate) -> None:
    """If this fails, one slow table holds up every other one of a server."""
    up.sx("run", "source")
    add_slow(up, "source: pl.DataFrame")
    push(up, "notes", '{"id": "a"}')  # wakes the scheduler, which finds the new table too
    up.until(gate.begun)
    push(up, "prices", '{"id": "a", "price": 1}')
    assert up.until(lambda: up.sx("versions", "prices"))
    (slow,) = [run for run in up.sx("runs") if run["state"] == "running"]
    assert slow["trigger"] == "schedule"
    gate.open()
    assert up.until(lambda: up.sx("versions", "slow"))
    assert gate.begun() == 1


def test_a_killed_run_is_resumed_by_the_scheduler(up: Up, gate: Gate) -> None:
    """If this fails, a run whose process died stays open until something else is due, half a minute
    later or never."""
    add_slow(up, inputs="")  # neither a schedule nor an input makes it due
    dead = subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(up.root), "run", "slow"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=up.environment,
    )
    up.until(gate.begun)
    (run,) = [one["id"] for one in up.sx("runs") if one["state"] == "running"]
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait(60)
    up.until(lambda: gate.begun() == 2, seconds=10)
    gate.open()
    assert up.until(
        lambda: [one for one in up.sx("runs") if one["id"] == run and one["state"] == "finished"]
    )
    assert [one["id"] for one in up.sx("runs") if one["state"] == "running"] == []
    assert len(up.sx("versions", "slow")) == 1
