"""Projects that earlier versions lived in: opened, verified, planned, run and undone by this one."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

LIVED = Path(__file__).parents[1] / "lived"
ARCHIVES = sorted(LIVED.glob("*.tar.gz"))
made_with = runpy.run_path(str(LIVED / "make.py"))["made_with"]


class Lived:
    """An unpacked project and the commands of this Sextant in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "shop"
        self.expected = json.loads((folder / "expected.json").read_text())
        for name in ("revenue", "returned"):
            self.expected[name] = in_order(self.expected[name])

    def do(self, *words: str, exits: int = 0, user: str = "ann") -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", *words, "--json"],
            cwd=self.project,
            env={
                **os.environ,
                "XDG_CONFIG_HOME": str(self.folder / "config"),
                "XDG_STATE_HOME": str(self.folder / "state"),
                "SEXTANT_USER": user,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == exits, (words, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def sees(self) -> dict[str, Any]:
        """Return what people see of its data."""
        return {
            "kpi": self.do("kpi", "average_order", "--by", "shop"),
            "revenue": in_order(self.do("show", "revenue", "--limit", "100")["sample"]),
            "returned": in_order(self.do("show", "returned", "--limit", "100")["sample"]),
        }


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in an order that does not depend on the files that hold them."""
    return sorted(rows, key=json.dumps)


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def lived(request: pytest.FixtureRequest, tmp_path: Path) -> Lived:
    with tarfile.open(request.param) as tar:
        tar.extractall(tmp_path, filter="data")
    return Lived(tmp_path)


def test_there_is_a_project_of_each_layout() -> None:
    """Nothing below would run, and an upgrade could break every project unseen."""
    assert ARCHIVES


def test_a_lived_project_goes_on(lived: Lived) -> None:
    """An upgrade would compute a company's tables again, lose an undo, or call its ledger wrong."""
    assert lived.do("ledger", "verify")["findings"] == []
    plan = lived.do("plan")
    assert plan["steps"] == [], "an upgrade computes nothing by itself"
    assert plan["held"] == lived.expected["held"]
    if lived.expected["made_with"] == made_with():  # else code counts as changed, and is reported
        assert plan["stale"] == lived.expected["plan"]["stale"]
    seen = {name: lived.expected[name] for name in ("kpi", "revenue", "returned")}
    now = lived.sees()
    now["kpi"] = {word: now["kpi"][word] for word in seen["kpi"]}  # an answer may say more by now
    assert now == seen
    assert lived.do("run").get("steps", 0) == 0
    before = lived.do("versions", "orders")
    assert [(v["version"], v["state"]) for v in before] == [
        (v["version"], v["state"]) for v in lived.expected["versions"]
    ]

    source = lived.project / "ops.py"
    kept = source.read_text()
    source.write_text(kept.replace("FACTOR = 7", "FACTOR = 13"))
    assert lived.do("backfill", "orders", "--stale")["state"] == "finished"
    assert lived.sees()["kpi"] != seen["kpi"]
    assert lived.do("rollback", "orders", "--reason", "wrong prices")["state"] == "finished"
    after = lived.sees()
    assert (after["kpi"]["rows"], after["revenue"], after["returned"]) == (
        seen["kpi"]["rows"],
        seen["revenue"],
        seen["returned"],
    )
    held = lived.do("plan")
    assert held["steps"] == []
    assert list(held["held"]) == ["dataset:orders"]
    source.write_text(kept)
    assert lived.do("plan")["steps"] == []
    assert lived.do("ledger", "verify")["findings"] == []


def test_a_copy_in_another_place_is_the_same_project(lived: Lived, tmp_path: Path) -> None:
    """A restored or moved folder would read nothing, or what lies in the old place."""
    moved = tmp_path / "elsewhere"
    shutil.move(lived.project, moved)
    lived.project = moved
    assert lived.do("plan")["steps"] == []
    assert lived.sees()["revenue"] == lived.expected["revenue"]


def test_the_files_of_a_lived_project_are_recorded(
    lived: Lived, request: pytest.FixtureRequest
) -> None:
    """Data of an earlier release would stay without protection, or be called damaged."""
    before = lived.sees()
    done = lived.do("doctor", "--data")
    assert done["findings"] == []
    # since the second layout a run records them itself
    assert (done["recorded"] > 0) == ("[v1]" in request.node.name)
    again = lived.do("doctor", "--data")
    assert (again["findings"], again["recorded"]) == ([], 0)
    assert lived.do("ledger", "verify")["findings"] == []
    assert lived.do("plan")["steps"] == []
    assert lived.sees() == before
    lived.do("backup", "create", "../backup")
    assert lived.do("backup", "verify", "../backup")["ok"]
    for file in (lived.project / ".sextant" / "lake").rglob("*.parquet"):
        file.chmod(0o600)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert lived.do("doctor", "--data", exits=1)["findings"]
