"""Undo by actor and time."""

from pathlib import Path

import pytest
from test_slow_releases import ID, edit, opened, wall
from undone_sessions import undo_session

from sextant.app.undo_by import undo_by, undo_plan
from sextant.cli.main import call
from sextant.kernel.errors import Conflict, NotFound, UsageError
from sextant.kernel.nouns import Principal
from sextant.testing import Request


@pytest.mark.parametrize("seed", [1, 5, 7, 11])
def test_a_session_is_undone_exactly(tmp_path: Path, seed: int) -> None:
    """What an intruder or an agent did would have to be found and taken back release by release."""
    assert undo_session(tmp_path, seed)["undone"] or seed == 11


def test_what_is_rolled_out_or_waits_is_taken_back_too(tmp_path: Path) -> None:
    """The undo of a person's work would be followed by the rest of it."""
    with opened(tmp_path) as p:
        eve = Principal(name="bot", kind="agent", on_behalf_of="eve")
        p.runs.run("dev", Request(assets=("dataset:orders",)), by=eve)
        p.runs.driving.work(p.runs.releases.open()[0].id)
        assert "counted 5 percent" in wall(p)
        plan = undo_plan(p.runs, "eve", "1d", "dev")
        assert [(one.action, one.asset) for one in plan.items] == [
            ("abort", ID),
            ("undo", "dataset:orders"),
        ]
        report = undo_by(p.runs, "eve", "1d", "dev", plan=plan.digest, reason="fired", by=p.who())
        assert [one.error for one in report.done] == ["", ""]
        assert wall(p) == {"counted": "2 orders"}
        withdrawn = p.views.events(limit=50).items
        assert {one["actor"] for one in withdrawn if one["type"] == "version.withdrawn"} == {
            "person:tester"
        }


def test_what_somebody_changed_again_is_named_first(tmp_path: Path) -> None:
    """Another person's work would be taken back with it, or the rest not at all."""
    with opened(tmp_path) as p:
        request = Request(assets=("dataset:orders",), downstream=False)
        p.runs.run("dev", request, by=Principal(name="eve"))
        edit(p, "[1, 2, 3]", "[1, 2, 3, 4]")
        p.runs.run("dev", request, by=Principal(name="bob"))
        plan = undo_plan(p.runs, "eve", "1d", "")
        assert plan.items == ()
        assert [one.problem for one in plan.impossible] == ["later releases changed the same: all"]


def test_only_what_was_shown_is_done(tmp_path: Path) -> None:
    """Somebody would take back what came after the plan that he looked at."""
    with opened(tmp_path) as p:
        p.runs.run("dev", Request(assets=("dataset:orders",)), by=Principal(name="eve"))
        plan = undo_plan(p.runs, "eve", "1d", "")
        p.drive()
        edit(p, "[1, 2, 3]", "[1]")
        p.runs.run("dev", Request(assets=("dataset:orders",)), by=Principal(name="eve"))
        with pytest.raises(Conflict, match="not what would be undone now"):
            undo_by(p.runs, "eve", "1d", "", plan=plan.digest, reason="", by=p.who())


@pytest.mark.parametrize(("since", "error"), [("soon", UsageError), ("2026-99-01", UsageError)])
def test_a_time_that_is_none(tmp_path: Path, since: str, error: type[Exception]) -> None:
    with opened(tmp_path) as p, pytest.raises(error, match="is no time"):
        undo_plan(p.runs, "eve", since, "")


def test_nobody_did_anything(tmp_path: Path) -> None:
    """A misspelt name would look like a clean record."""
    with opened(tmp_path) as p, pytest.raises(NotFound, match="has done nothing"):
        undo_plan(p.runs, "evve", "1d", "")


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "sextant.toml").write_text('module = "ops"\n')
    text = 'import polars as pl\nimport sextant as sx\n\nsx.project("shop")\n\n\n@sx.dataset()\ndef orders():\n    return pl.DataFrame({"id": [1]})\n'
    (root / "ops.py").write_text(text)
    monkeypatch.chdir(root)
    monkeypatch.setenv("SEXTANT_USER", "bob")
    assert call(["run"]) == 0
    (root / "ops.py").write_text(text.replace("[1]", "[1, 2]"))
    monkeypatch.setenv("SEXTANT_USER", "eve")
    assert call(["run", "orders"]) == 0
    monkeypatch.setenv("SEXTANT_USER", "bob")
    capsys.readouterr()
    assert call(["undo", "--by", "eve", "--since", "1h"]) == 0
    shown = capsys.readouterr().out
    assert "dataset:orders" in shown
    digest = shown.rpartition("--plan ")[2].partition("`")[0].partition(" ")[0]
    assert call(["undo", "--by", "eve", "--since", "1h", "--plan", "0" * 64]) == 2
    assert call(["undo", "--by", "eve", "--since", "1h", "--plan", digest]) == 0
    assert "ok  undo dataset:orders in dev" in capsys.readouterr().out
    assert call(["show", "orders", "--count"]) == 0
    assert capsys.readouterr().out == "1\n"
    assert call(["undo", "--by", "eve", "--since", "1h"]) == 0
    assert "nothing is left to undo" in capsys.readouterr().out
