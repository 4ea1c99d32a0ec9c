"""Packages that add checks and kinds: found by their entry points, by the command line and by its
workers. A broken one stops nobody else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from sextant.kernel import registry
from sextant.kernel.errors import ProjectError
from sextant.kernel.kinds import Kind, NothingShown, shown

ACME = """
import polars as pl
from sextant.plugin import CheckSpec, Finding, Instant, Kind, Probe

KIND = Kind("thing", released=lambda core: Instant())

def rows():
    return [("check.acme.even", "acme:even"), ("kind.thing", "acme:KIND"), ("check.acme.gone", "acme:gone")]

def is_even(column):
    return CheckSpec(name=f"even({column})", check="check.acme.even", params={"column": column})

def even(params, context):
    context.column(params["column"])
    odd = pl.col(params["column"]) % 2 != 0
    return Probe(
        said=f"`{params['column']}` even",
        counts={"failed": odd.sum()},
        conclude=lambda values: Finding(failed=values["failed"], mask=odd),
    )
"""
PROJECT = """
import acme
import polars as pl
import sextant as sx

sx.project("shop")

@sx.dataset(checks=[acme.is_even("n")])
def numbers():
    return pl.DataFrame({"n": [2, 4, %s]})
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two installed packages: one that works, one whose module cannot be imported."""
    folder = tmp_path / "packages"
    for name, body, entry in (
        ("acme", ACME, "acme:rows"),
        ("broken", "import there_is_no_such_module", "broken:rows"),
    ):
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{name}.py").write_text(body)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sextant.plugins]\n{name} = {entry}\n")
    return folder


def _run(packages: Path, root: Path, *args: str) -> tuple[int, Any]:
    paths = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(root), *args, "--json"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr


def test_a_package_adds_a_check(packages: Path, tmp_path: Path) -> None:
    """If this fails, what a plug-in brings is not found, or a broken one beside it stops all."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "sextant.toml").write_text('module = "ops"\n')
    (root / "ops.py").write_text(PROJECT % 5)
    code, report = _run(packages, root, "run")
    assert code == 1, report
    assert "`n` even: 1 of 3 rows fail" in report["failed"][0]["error"]
    (root / "ops.py").write_text(PROJECT % 6)
    code, report = _run(packages, root, "run")
    assert code == 0, report
    _, findings = _run(packages, root, "doctor")
    (said,) = [one for one in findings if one["name"] == "plug-ins"]
    assert not said["ok"]
    assert said["found"].startswith("broken: ModuleNotFoundError")


def test_a_package_adds_a_kind(packages: Path) -> None:
    """If this fails, kinds are a list of ours."""
    code = "from sextant.kernel.kinds import kinds; print(sorted(kinds()))"
    paths = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "'thing'" in out


def test_a_kind_shows_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, `show` of an asset of a kind without a face ends with a traceback."""
    found = {
        "thing": Kind("thing"),
        "plain": Kind("plain", shown=lambda _core, _see: NothingShown()),
    }
    monkeypatch.setattr("sextant.kernel.kinds.kinds", lambda: found)
    nothing = cast("Any", None)
    for kind in ("thing", "plain", "gone"):
        face = shown(kind, nothing, nothing)
        assert face.describe("dev", nothing, nothing, limit=1, partition="") == {}
        assert face.compare(nothing, nothing, nothing, ()) == {}
        assert face.difference("plain:one", None, None) == {}
        assert face.total("dev", nothing) is None


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (("check.dataops.unique", "acme:unique"), "SX-REG-001"),
        (("check.acme.x", "no target"), "SX-REG-001"),
        (("check.acme.x",), "SX-REG-005"),
        ("check.acme.x", "SX-REG-005"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(row: Any, code: str) -> None:
    """If this fails, a plug-in replaces a check of ours, or breaks where it is used."""
    before = dict(registry._ROWS)
    with pytest.raises(ProjectError) as error:
        registry.register([("check.acme.y", "acme:y"), row])
    assert error.value.code == code
    assert before == registry._ROWS, "all rows of a plug-in, or none"


def test_what_a_package_does_not_have_is_said(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a plug-in without its attribute ends in a traceback."""
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setattr(registry, "_ROWS", dict(registry._ROWS))
    registry.register([("check.acme.gone", "acme:gone"), ("check.b.x", "broken:x")])
    for name in ("check.acme.gone", "check.b.x"):
        with pytest.raises(ProjectError, match="cannot be loaded from") as error:
            registry.load(name)
        assert error.value.code == "SX-REG-004"
    monkeypatch.delitem(sys.modules, "acme")
