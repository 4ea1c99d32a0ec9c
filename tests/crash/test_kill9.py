"""Kill -9 in the middle: what was recorded stays, nothing is done twice, nobody sees half a
publish."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sextant

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import crash

SRC = str(Path(sextant.__file__).parents[1])


def test_twenty_kills(tmp_path: Path) -> None:
    """If this failed, a power cut could lose or repeat work, or show readers one half of a
    publish."""
    found = crash.harness(20, seed=20, root=tmp_path)
    assert found["kills"] == 20
    assert found["resumed"] >= 8, "the kills must hit runs, not only their start-up"
    assert found["recorded"] >= 8, "and some of them after a result was recorded"
    assert found["looks"] > 500
    for fault in ("lost", "doubled", "left_open", "failed", "wrong_seal", "torn"):
        assert found[fault] == 0, found
    assert found["ledger_findings"] == []


SLOW = crash.OPS.replace(
    "made = Path",
    (
        "(Path(os.environ['CRASH_GENERATION']).parent / f'pid{os.getpid()}').touch(); "
        "__import__('time').sleep(60); made = Path"
    ),
)


def test_workers_do_not_outlive_the_one_who_started_them(tmp_path: Path) -> None:
    """Steps of a killed run would go on in the background and write beside the run that takes it
    up."""
    (tmp_path / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
    (tmp_path / "ops.py").write_text(SLOW)
    (tmp_path / "generation").write_text("1")
    environment = {
        **os.environ,
        "PYTHONPATH": SRC,
        "CRASH_GENERATION": str(tmp_path / "generation"),
    }
    run = subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(tmp_path), "run"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    worker = int(_soon(lambda: next((path.name[3:] for path in tmp_path.glob("pid*")), "")))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert _soon(
        lambda: (
            not Path(f"/proc/{worker}").exists()
            or Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        )
    )


def _soon(found):
    for _ in range(1000):
        value = found()
        if value:
            return value
        threading.Event().wait(0.02)
    pytest.fail("it never came")
