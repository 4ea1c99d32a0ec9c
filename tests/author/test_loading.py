"""Loading through the child process, and opening a bundle in a worker."""

import subprocess
import sys

import pytest

from sextant.project.bundle import pack, unpack
from sextant.project.config import read_config
from sextant.project.loading import load, unchanged
from sextant.app.opening import open_project
from sextant.kernel.errors import ProjectError

BODY = """
from part import clean
days = sx.daily(start="2024-01-01")
@sx.check()
def positive(rows: pl.LazyFrame) -> bool:
    return True
@sx.dataset(partition=days, time="at", checks=[positive])
def orders(day: sx.Partition) -> pl.DataFrame:
    print("made")
    return clean(pl.DataFrame({"x": [1]}))
totals = sx.sql("totals.sql")
sx.kpi("count", of=orders, measure="count(*)")
print("a word on stdout")
"""


@pytest.fixture
def shop(project):
    project.ops(BODY)
    project.write("part.py", "def clean(frame):\n    return frame\n")
    project.write("totals.sql", "-- partition: none\nselect sum(x) as x from orders\n")
    return project


def test_a_manifest_comes_through_the_child_process(shop, capfd, monkeypatch):
    """What is loaded in tests and what is loaded in truth could differ."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    manifest = load(shop.root, read_config(shop.root))
    assert [a.id for a in manifest.assets] == [
        "dataset:kpi_count",
        "dataset:orders",
        "dataset:totals",
        "kpi:count",
        "project:shop",
    ]
    assert (manifest.project, manifest.tz, manifest.root) == ("shop", "Europe/Berlin", "ops")
    assert sorted(manifest.files) == ["ops.py", "part.py", "sextant.toml", "totals.sql"]
    assert manifest.bundle == pack(shop.root)[0]
    assert len(manifest.lock) == 64
    code = manifest.asset("dataset:orders").build.code
    assert len(code.fingerprint) == 64
    assert [m.partition("==")[0] for m in code.modules] == ["polars"]
    check = manifest.asset("dataset:orders").checks[0]
    assert (check.name, check.check, check.params["function"], check.params["frame"]) == (
        "positive",
        "check.dataops.python",
        "ops:positive",
        "polars_lazy",
    )
    assert len(check.params["fingerprint"]) == 64
    assert not list(
        shop.root.rglob("__pycache__")
    )  # stale bytecode of a file edited twice within a second
    assert "a word on stdout" in capfd.readouterr().err


def test_an_unchanged_project_is_seen_without_a_process(shop, monkeypatch):
    """Every command would pay for an interpreter and the project's imports."""
    manifest = load(shop.root, read_config(shop.root))
    monkeypatch.setattr(subprocess, "Popen", None)
    assert unchanged(shop.root, manifest)
    shop.write(".sextant/state.py", "noise")
    assert unchanged(shop.root, manifest)
    shop.write("part.py", "def clean(frame):\n    return frame  # comment\n")
    assert not unchanged(shop.root, manifest)
    shop.write("part.py", "def clean(frame):\n    return frame\n")
    assert unchanged(shop.root, manifest)
    shop.write("new.py", "")
    assert not unchanged(shop.root, manifest)
    (shop.root / "new.py").unlink()
    shop.write("sextant.toml", 'module = "oops')
    assert not unchanged(shop.root, manifest)


def test_fingerprints_are_those_of_the_files_as_they_are(shop):
    """A second edit within the same second would be answered from stale bytecode."""
    config = read_config(shop.root)
    first = load(shop.root, config).asset("dataset:orders").build.code.fingerprint
    shop.write("part.py", "def clean(frame):\n    return FRAME\n")
    second = load(shop.root, config).asset("dataset:orders").build.code.fingerprint
    shop.write("part.py", "def clean(frame):\n    return frame\n")
    assert load(shop.root, config).asset("dataset:orders").build.code.fingerprint == first != second


def test_a_mistake_comes_through_with_its_place(shop):
    """The coordinator would only know that a process ended."""
    shop.write("part.py", "def clean(frame)\n    return frame\n")
    with pytest.raises(ProjectError) as caught:
        load(shop.root, read_config(shop.root))
    error = caught.value
    assert (error.code, error.where, error.message) == (
        "SX-PROJ-060",
        "part.py:1",
        "syntax error: expected ':' in `def clean(frame)`",
    )


def test_a_project_that_hangs_or_dies_is_an_error(shop):
    """The coordinator would hang or die with it."""
    config = read_config(shop.root)
    shop.write("part.py", "import time\ntime.sleep(60)\n")
    with pytest.raises(ProjectError) as caught:
        load(shop.root, config, timeout_s=0.5)
    assert (caught.value.code, caught.value.message) == (
        "SX-LOAD-001",
        "importing `ops` took longer than 0.5 s",
    )
    shop.write("part.py", "import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(ProjectError) as caught:
        load(shop.root, config)
    assert (caught.value.code, caught.value.message) == (
        "SX-LOAD-002",
        "importing `ops` took the loader's process down (signal 9)",
    )


def test_a_package_loads_like_plain_modules(project):
    """Both layouts are promised."""
    project.write("sextant.toml", 'module = "shop/ops.py"\n')
    project.write("shop/__init__.py", "")
    project.write(
        "shop/ops.py",
        (
            "import sextant as sx\nfrom .part import f\nfrom . import "
            'more\nsx.project("p")\n@sx.dataset()\ndef a():\n    return f()\n'
        ),
    )
    project.write("shop/part.py", "def f(): return 1\n")
    project.write("shop/more.py", "import sextant as sx\n@sx.dataset()\ndef b(): ...\n")
    manifest = load(project.root, read_config(project.root))
    assert [(a.id, a.file, a.build.code.entry) for a in manifest.assets if a.build] == [
        ("dataset:a", "shop/ops.py", "shop.ops:a"),
        ("dataset:b", "shop/more.py", "shop.more:b"),
    ]


def test_a_worker_opens_a_bundle_and_finds_everything(shop, tmp_path):
    """A step would not find its function, query or check."""
    _, data = pack(shop.root)
    unpack(data, tmp_path / "unpacked")
    collector = open_project(tmp_path / "unpacked", "ops")
    assert collector.functions["dataset:orders"](None).height == 1
    assert collector.queries["dataset:totals"].endswith("from orders\n")
    assert "count(*)" in collector.queries["dataset:kpi_count"]
    assert collector.checks["ops:positive"](None) is True


def test_a_process_that_opens_two_states_of_a_project_gets_the_code_of_each(shop, tmp_path):
    """The inline executor would run yesterday's functions."""
    values = []
    for number in (1, 2):
        shop.write("part.py", f"def clean(frame):\n    return {number}\n")
        unpack(pack(shop.root)[1], tmp_path / str(number))
        values.append(open_project(tmp_path / str(number), "ops").functions["dataset:orders"])
    assert [f(None) for f in values] == [1, 2]
    (tmp_path / "2" / "part.py").unlink()
    with pytest.raises(
        ProjectError, match="there is no module `part`"
    ):  # and not the other folder's
        open_project(tmp_path / "2", "ops")


def test_a_name_of_the_project_does_not_unload_sextant(project):
    """A folder `sextant` or `json` beside the project's modules would tear the process apart."""
    project.ops("")
    project.write("json/notes.txt", "")
    project.write("sextant/notes.txt", "")
    import json

    project.collect()
    assert sys.modules["json"] is json
    assert sys.modules["sextant"].__file__.endswith("sextant/__init__.py")


def test_the_loader_finds_sextant_from_anywhere(shop, monkeypatch, tmp_path):
    """`sextant --project DIR` is called from other folders, also from a source tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert load(shop.root, read_config(shop.root)).project == "shop"


def test_the_distribution_of_a_module() -> None:
    """If this fails, an upgrade of a library is not seen, or all seems changed where nothing is."""
    from importlib import metadata

    from sextant.project.fingerprint import _distribution

    known = metadata.packages_distributions()
    for top in (*known, "os", "nothing", "pola", "_pytest.x"):
        names = sorted(set(known.get(top, [])))
        told = " ".join(f"{name}=={metadata.version(name)}" for name in names)
        assert (_distribution(top) or "") == told, top
