"""A run that is followed on the command line: what is shown, how Ctrl-C ends it, and the exit
codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OPS = """
import os, time
import polars as pl
import sextant as sx
sx.project("shop", tz="UTC")

@sx.dataset(checks=[sx.between("id", 0, 1)])
def slow() -> pl.DataFrame:
    print("begun")
    while not os.path.exists({go!r}):
        time.sleep(0.01)
    print("done")
    return pl.DataFrame({{"id": [1 if os.path.exists({good!r}) else 7]}})
"""


class Folder:
    """A project, and commands that run in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root / "shop"
        self.root.mkdir()
        self.go, self.good = root / "go", root / "good"
        (self.root / "sextant.toml").write_text('module = "ops"\n')
        (self.root / "ops.py").write_text(OPS.format(go=str(self.go), good=str(self.good)))
        self.env = {**os.environ, "HOME": str(root), "SEXTANT_PAGER": "cat"}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "sextant.cli.main", *words],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ended("runs", "--json")[1])
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    yield Folder(tmp_path)


def test_a_run_is_followed_left_and_tried_again(folder: Folder) -> None:
    """If this fails, `--follow` hides what happens, Ctrl-C stops the run or looks like a crash, or
    a script cannot tell how the run ended."""
    going = folder.start("run")
    listed: list[dict[str, Any]] = []
    while not listed:
        listed = folder.runs()
        assert going.poll() is None
    id_ = listed[0]["id"]
    left = folder.start("logs", id_, "slow", "--follow")
    assert left.stdout is not None
    head, line = left.stdout.readline(), left.stdout.readline()
    assert (head[:26], line) == ("--- dataset:slow[all] (atte", "begun\n") or line == "begun\n"
    left.send_signal(signal.SIGINT)
    out, err = left.communicate(timeout=60)
    assert left.returncode == 130
    assert f"left: run {id_} goes on" in err
    assert "Traceback" not in err
    assert going.poll() is None, "it goes on"

    _, shown, _ = folder.ended("runs", id_)
    assert "0/1 steps, 0 rows, never timed before" in shown
    code, _, err = folder.ended("runs", id_, "--retry")
    assert code == 2
    assert "has not ended" in err
    followed, logs = folder.start("runs", id_, "--follow"), folder.start("logs", id_, "--follow")
    folder.go.touch()
    out, _ = followed.communicate(timeout=120)
    assert followed.returncode == going.wait(60) == 1, "refused"
    assert "never made" in out
    printed, err = logs.communicate(timeout=60)
    assert logs.returncode == 1
    assert printed.splitlines()[1:] == ["begun", "done"]
    assert f"run {id_} has ended: refused" in err

    folder.good.touch()
    code, out, _ = folder.ended("runs", id_, "--retry", "--json")
    assert (code, json.loads(out)["state"]) == (0, "finished")
    assert f"tried again by run {json.loads(out)['id']}" in folder.ended("runs", id_)[1]
    code, _, err = folder.ended("runs", json.loads(out)["id"], "--retry")
    assert code == 2
    assert "nothing of run" in err
    for words in (("--follow",), ("--retry",), ("--cancel",)):
        assert folder.ended("runs", *words)[0] == 2
    assert folder.ended("runs", id_, "--retry", "--cancel")[0] == 2
