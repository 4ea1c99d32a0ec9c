"""A project's folder that is copied to another place, the first one gone: everything goes on
there."""

import os
import shutil
from pathlib import Path

import pytest
from test_up import _OPS, _TOML, Up

_COUNT = "SELECT count() AS n, sum(amount) AS total FROM data.orders"
_ICEBERG = (".metadata.json", ".avro")  # the format keeps absolute paths; Sextant reads none


def _files_that_name(folder: Path, path: Path) -> list[str]:
    return [
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if not name.endswith(_ICEBERG) and str(path).encode() in Path(place, name).read_bytes()
    ]


@pytest.mark.parametrize("lake", ["", 'lake = "lake"\n'])
def test_a_copied_folder_goes_on(tmp_path: Path, lake: str) -> None:
    """If this fails, whoever moves a project cannot query, run, undo, verify or serve it."""
    first, second = Up(tmp_path / "first" / "shop"), Up(tmp_path / "second" / "shop")
    second.environment = first.environment  # the same person, with the same keys
    first.root.mkdir(parents=True)
    (first.root / "ops.py").write_text(_OPS)
    (first.root / "sextant.toml").write_text(lake + _TOML)
    first.here("run")
    assert first.here("query", _COUNT) == [{"n": 12, "total": 30.0}]
    first.begin()  # and served, so that every kind of file is there
    first.until(lambda: first.query(_COUNT) == [{"n": 12, "total": 30.0}])
    assert first.end() == 0
    assert _files_that_name(first.root, first.root) == []

    shutil.copytree(first.root, second.root)
    shutil.rmtree(first.root)
    assert second.here("query", _COUNT) == [{"n": 12, "total": 30.0}]
    assert second.here("plan")["steps"] == []
    (second.root / "ops.py").write_text(_OPS.replace("[1.0, 2.0", "[5.0, 2.0"))
    second.here("backfill", "orders", "2026-01-02..2026-01-02", "--stale")
    assert second.here("query", _COUNT) == [{"n": 12, "total": 34.0}]
    second.here("rollback", "orders", "--reason", "moved")
    assert second.here("query", _COUNT) == [{"n": 12, "total": 30.0}]
    assert second.here("ledger", "verify")["ok"]
    second.begin()
    second.token = second.token or first.token
    second.until(lambda: second.query(_COUNT) == [{"n": 12, "total": 30.0}])
    assert second.end() == 0
