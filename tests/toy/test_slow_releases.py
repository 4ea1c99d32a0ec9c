"""Releases that take time, from the author's word to the command line: those of the toy kind."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import toy_kind

from sextant import testing
from sextant.cli.main import call
from sextant.kernel.errors import Conflict, ProjectError
from sextant.kernel.nouns import Principal
from sextant.testing import Request

OPS = """
import polars as pl
import sextant as sx

sx.project("shop")


@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})


sx.notice("counted", of=orders, text="{rows} orders", release=sx.canary(5, 25, every="10m"))
"""
ID = "notice:counted"
# what judges the notice: a file beside the wall
JUDGE = """

import json


class Judged(Released):
    def roll(self, release, fence):
        super().roll(release, fence)
        said = Path(self._core.project.root, "judge.json")
        return plugin.Rolled(**json.loads(said.read_text())) if said.exists() else plugin.HOLDS


KIND = KIND._replace(released=Judged)


def perform(order, of_rows=perform):  # of another notice, too
    ref = order.inputs[0]
    if not ref.asset.startswith(NAME):
        return of_rows(order)
    text = order.asset.spec_as(Spec).text.format(rows=plugin.read(order, ref).decode())
    return plugin.result(order, plugin.written(order, text.encode(), rows=len(text)))
"""
AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
OF_DATA = "plugin.source_of(of).asset"


@contextmanager
def opened(
    folder: Path, ops: str = OPS, *, stands: bool = True
) -> Iterator[testing.TestedPlatform]:
    """A shop whose notice says `2 orders`, live, and whose rows are three by now. `stands`: its
    clock does until somebody moves it."""
    source = toy_kind.SOURCE.read_text() + JUDGE
    source = source.replace(OF_DATA, f"of.id if isinstance(of, Notice) else {OF_DATA}")
    with (
        toy_kind.installed(folder / "packages", source),
        testing.platform({"ops.py": ops}, at=AT if stands else None) as p,
    ):
        run(p)
        p.drive()
        edit(p, "[1, 2]", "[1, 2, 3]")
        yield p


def edit(p: testing.TestedPlatform, old: str, new: str) -> None:
    file = p.core.project.root / "ops.py"
    file.write_text(file.read_text().replace(old, new))
    p.core.project.load()


def run(p: testing.TestedPlatform, *assets: str) -> Any:
    return p.runs.run("dev", Request(assets=assets), by=p.who())


def begin(p: testing.TestedPlatform) -> Any:
    """Begin the canary of `3 orders`, at its first step."""
    (release,) = [one for one in run(p, "dataset:orders").releases if one.assets == (ID,)]
    return p.runs.driving.work(release.id)


def judge(p: testing.TestedPlatform, text: str) -> None:
    (p.core.project.root / "judge.json").write_text(text)


def wall(p: testing.TestedPlatform) -> dict[str, str]:
    return {one.name: one.read_text() for one in (p.core.project.root / "wall").iterdir()}


BAD = '{"says": "bad", "reason": "nobody reads it", "evidence": {"readers": 0}}'


def test_a_canary_goes_live_by_steps(tmp_path: Path) -> None:
    """The author's word would be a promise that nothing keeps."""
    with opened(tmp_path) as p:
        plan = p.runs.plan("dev", Request(assets=("dataset:orders",)))
        strategy = plan.strategies[ID]
        assert (strategy.kind, strategy.steps, strategy.step_s) == ("canary", (5, 25, 100), 600)
        release = begin(p)
        assert wall(p) == {"counted": "2 orders", "counted 5 percent": "3 orders"}
        assert p.views.show("dev", ID)["version"] == release.moves[0].source, "live is what was"
        p.clock.wait(599)
        assert p.runs.driving.work(release.id).step == 0
        p.clock.wait(2)
        assert p.runs.driving.work(release.id).step == 1
        assert wall(p) == {"counted": "2 orders", "counted 25 percent": "3 orders"}
        (done,) = p.drive()
        assert (done.state, wall(p)) == ("live", {"counted": "3 orders"})
        assert p.clock.now_ns() - done.created_at > 1200 * 10**9


def test_a_strategy_that_the_kind_cannot_do(tmp_path: Path) -> None:
    """A release would be rolled out in another way than its author wrote."""
    for word, message in (
        ("sx.canary(50, 20)", "are not the shares of a canary"),
        ("sx.canary()", "are not the shares of a canary"),
        ("sx.canary(5, every='soon')", "`every`"),
        ("sx.canary(5, evry='1m')", "evry"),
        ("'canary'", "is not a value of `release`"),
        ("Strategy(kind='publish')", "cannot be released by `publish`"),
    ):
        ops = OPS.replace('sx.canary(5, 25, every="10m")', word)
        ops = ops.replace(
            "import sextant as sx\n", "import sextant as sx\nfrom sextant.plugin import Strategy\n"
        )
        with (
            pytest.raises(ProjectError, match=re.escape(message)),
            toy_kind.installed(tmp_path / re.sub(r"\W", "", word)),
            testing.platform({"ops.py": ops}),
        ):
            pass


def test_what_is_judged_bad_comes_down_and_stays_down(tmp_path: Path) -> None:
    """The next run would hang the bad text up again."""
    with opened(tmp_path) as p:
        judge(p, BAD)
        release = begin(p)
        assert (release.state, release.reason) == ("rolled_back", "nobody reads it")
        assert wall(p) == {"counted": "2 orders"}
        assert [one["kind"] for one in p.views.signals(open_only=True).items] == ["release.bad"]
        plan = p.runs.plan("dev", Request())
        assert plan.held == {ID: ("all",)}
        assert not plan.steps
        (p.core.project.root / "judge.json").unlink()
        edit(p, "{rows} orders", "now {rows}")
        run(p, ID)
        p.drive()
        assert wall(p) == {"counted": "now 3"}
        assert p.views.signals(open_only=True).items == []


def test_nothing_is_made_while_a_release_is_on_its_way(tmp_path: Path) -> None:
    """A second version would be made on top of one of which nobody knows whether it is good."""
    with opened(tmp_path) as p:
        release = begin(p)
        edit(p, "{rows} orders", "now {rows}")
        assert p.runs.plan("dev", Request(assets=(ID,))).rolling == {ID: release.id}
        report = run(p, ID)
        assert (report.id, report.rolling) == ("", {ID: release.id})
        with pytest.raises(Conflict, match="is rolling"):
            version = release.moves[0].target
            p.runs.release("dev", p.core.assets.known(ID), version=version, by=p.who())


def test_rollback_takes_a_release_back_that_is_rolling(tmp_path: Path) -> None:
    """Who sees that it goes wrong would have to wait until it is live."""
    with opened(tmp_path) as p:
        release = begin(p)
        report = p.runs.undo("dev", ID, by=p.who(), reason="a typo")
        assert [(one.id, one.state) for one in report.releases] == [(release.id, "rolled_back")]
        assert report.exit_code == 0
        assert wall(p) == {"counted": "2 orders"}
        assert p.runs.plan("dev", Request()).held == {ID: ("all",)}


READ = (
    OPS.replace("sx.notice(", "counted = sx.notice(")
    + """
sx.notice("read", of=counted, text="read: {rows}")
"""
)


def test_a_reader_reads_what_is_live(tmp_path: Path) -> None:
    """A number would be made from a model of which nobody knows yet whether it is good."""
    with opened(tmp_path, READ) as p:
        assert wall(p) == {"counted": "2 orders"}, "nothing to read was live yet"
        run(p)
        p.drive()
        assert wall(p)["read"] == "read: 2 orders"
        release = begin(p)
        made = p.core.versions.get(ID, release.moves[0].target)
        data = p.core.versions.live_version("dev", "dataset:orders")
        assert made.inputs == {"dataset:orders": data}, "of data that is live with the same run"
        assert p.runs.plan("dev", Request()).up_to_date["notice:read"] == 1
        assert run(p).id == ""
        p.drive()
        assert p.runs.plan("dev", Request()).steps[0].items[0].reason == "inputs changed"
        run(p)
        p.drive()
        assert wall(p) == {"counted": "3 orders", "read": "read: 3 orders"}


def test_what_reads_it_is_derived_again_after_an_undo(tmp_path: Path) -> None:
    """What was made from a bad model would stay until somebody notices."""
    with opened(tmp_path, READ) as p:
        begin(p)
        p.drive()
        run(p)
        p.drive()
        assert wall(p)["read"] == "read: 3 orders"
        report = p.runs.undo("dev", ID, by=p.who(), reason="wrong")
        assert [(one.intent, one.state) for one in report.releases] == [("undo", "live")]
        p.drive()
        assert wall(p) == {"counted": "2 orders", "read": "read: 2 orders"}
        caused = p.views.runs(limit=1).items[0]
        assert (caused["trigger"], caused["id"] != report.id) == ("undo", True)
        started = p.views.events(subject=caused["id"], limit=5).items[-1]
        undo = p.views.events(subject=report.releases[0].id, limit=1).items[0]
        assert started["cause"] == undo["id"], "the ledger says why it ran"


APPROVED = (
    OPS
    + """
sx.team("ops", members=["ann"])
sx.policy(
    "data", when="asset.kind == 'dataset' && verb == 'release'", then=sx.approval(of="ops")
)
"""
)


def test_what_it_was_made_from_must_be_approved_first(tmp_path: Path) -> None:
    """A text would hang that was made from rows which somebody refuses a minute later."""
    with (
        toy_kind.installed(tmp_path / "packages"),
        testing.platform({"ops.py": APPROVED}, at=AT) as p,
    ):
        data, notice = run(p).releases
        assert (data.state, notice.state, notice.after) == ("waiting", "proposed", data.id)
        assert p.drive() == []
        ann = Principal(name="ann", teams=("ops",))
        p.runs.releases.approve(data.id, ann)
        assert [one.state for one in p.drive()] == ["live"]
        assert wall(p) == {"counted": "2 orders"}


def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release would be started, and nobody could see or stop it."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "sextant.toml").write_text('module = "ops"\n')
    (root / "ops.py").write_text(OPS.replace('every="10m"', 'every="1s"'))
    monkeypatch.chdir(root)
    with toy_kind.installed(tmp_path / "packages", toy_kind.SOURCE.read_text() + JUDGE):

        def edit(old: str, new: str) -> None:
            (root / "ops.py").write_text((root / "ops.py").read_text().replace(old, new))

        def said(*words: str, code: int = 0) -> str:
            assert call(list(words)) == code, capsys.readouterr()
            out, err = capsys.readouterr()
            return out + err

        assert "release notice:counted by direct" in said("plan")
        said("run", "--wait")
        edit("[1, 2]", "[1, 2, 3]")
        assert "release notice:counted by canary (5, 25, 100 %, each for 1.0 s" in said(
            "plan", "orders"
        )
        ran = said("run", "orders")
        (id_,) = re.findall(r"rolling notice:counted  release (rel_\w+) step 1 of 3", ran)
        assert f"`sextant releases {id_} --follow` stays with it" in ran
        assert "paused" in said("releases", id_, "--pause", "--reason", "lunch", code=1)
        assert "is paused" in said("releases", id_, "--pause", "--reason", "x", code=2)
        assert "needs a reason" in said("releases", id_, "--abort", code=2)
        assert "needs a release" in said("releases", "--abort", "--reason", "x", code=2)
        assert "paused" in said("status", code=1)
        said("releases", id_, "--continue", "--reason", "fed")
        followed = said("releases", id_, "--follow")
        assert re.findall(r"step (\d) of 3", followed) == ["1", "2", "3"] or "step 2" in followed
        assert f"release {id_} is live" in followed
        assert "canary, step 3 of 3" in said("releases", id_)
        assert (root / "wall" / "counted").read_text() == "3 orders"
        edit("{rows} orders", "now {rows}")
        ran = said("run", "counted", "--wait")
        assert "live" in ran
        edit("now {rows}", "then {rows}")
        (root / "judge.json").write_text(BAD)
        assert "nobody reads it" in said("run", "counted", "--wait", code=1)
        assert "no release is on its way" in said("releases", "--drive")
        (root / "judge.json").unlink()
        edit("then {rows}", "at last {rows}")
        said("run", "counted")
        driven = said("releases", "--drive")
        assert re.search(r"release rel_\w+ is live", driven)
        edit("at last {rows}", "no: {rows}")
        (id_,) = re.findall(r"rolling notice:counted  release (rel_\w+)", said("run", "counted"))
        assert "rolled_back" in said("rollback", "counted", "--reason", "typo")
        assert f"release {id_}" in said("why", id_)
