"""Versions of the project: what is in force in an environment, and who decides that."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sextant import testing
from sextant.app.operations import Operations
from sextant.app.watch import tick
from sextant.engine.plan import Request
from sextant.kernel.errors import Conflict, Denied, NotFound, ProjectError
from sextant.kernel.nouns import Principal
from sextant.project.versions import version_digest

AT = datetime(2026, 1, 5, tzinfo=UTC)
ANN, BOB, EVE = (Principal(name=name) for name in ("ann", "bob", "eve"))
HEAD = """
import polars as pl

import sextant as sx

ops = sx.team("ops", members=["ann", "bob"])
sx.project("shop", tz="UTC", owner=ops)
"""
ORDERS = """
@sx.dataset(checks=[sx.between("n", 0, 10)])
def orders() -> pl.DataFrame:
    return pl.DataFrame({"n": [1, 2]})
"""
REVIEWED = """
sx.policy(
    "prod is reviewed",
    when="verb == 'release' && env == 'prod' && asset.kind == 'project'",
    then=sx.approval(1, of=ops),
)
"""


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": HEAD + REVIEWED + ORDERS}, at=AT, user="ann") as one:
        yield one


def write(p: testing.TestedPlatform, text: str) -> None:
    (p.core.project.root / "ops.py").write_text(text)


def run(p: testing.TestedPlatform, by: Principal = ANN, env: str = "prod", **more: Any) -> Any:
    return Operations(p, by).run(env=env, **more)


def in_force(p: testing.TestedPlatform, env: str = "prod") -> str:
    return p.core.versions.live_version(env, "project:shop")


def approved(p: testing.TestedPlatform) -> str:
    """Bring what the folder has to prod: Ann proposes, Bob agrees."""
    with pytest.raises(Denied, match="1 of ops"):
        run(p)
    (waiting,) = (one.id for one in p.runs.releases.open())
    assert Operations(p, BOB).approve(waiting).state == "live"
    return waiting


def test_a_change_cannot_vote_for_itself(p: testing.TestedPlatform) -> None:
    """If this fails, somebody takes the rule out of the file, releases to prod, and puts it back:
    nobody ever looks."""
    approved(p)
    assert run(p).state == "finished"
    good = in_force(p)
    write(p, HEAD + ORDERS.replace("[1, 2]", "[7, 8]"))
    with pytest.raises(Denied, match=r"1 of ops.* has approved") as refused:
        run(p)
    assert refused.value.code == "SX-PROJ-097"
    assert in_force(p) == good
    move = Operations(p, ANN).project_move(env="prod")
    assert move is not None
    assert (move.verdict, move.needs[0].of) == ("approval", "ops")
    assert [one["word"] for one in move.changes["weakens"]] == ["policy"]
    assert run(p, pinned=True).id == "", "what is in force is up to date"
    write(p, HEAD + REVIEWED + ORDERS)
    assert run(p).id == "", "as if nothing had been"
    proposed = Operations(p).events(type="release.proposed").items
    assert {one["actor"] for one in proposed} == {"person:ann"}


def test_who_joins_the_reviewers_by_his_own_edit_is_none(p: testing.TestedPlatform) -> None:
    """If this fails, whoever may edit the folder is everybody in it."""
    approved(p)
    write(p, (HEAD + REVIEWED + ORDERS).replace('"bob"]', '"bob", "eve"]'))
    with pytest.raises(Denied):
        run(p)
    (waiting,) = (one.id for one in p.runs.releases.open())
    with pytest.raises(Denied, match="not in team"):
        Operations(p, EVE).approve(waiting)
    assert Operations(p, BOB).approve(waiting).state == "live"
    write(p, (HEAD + REVIEWED + ORDERS).replace('"bob"]', '"bob", "eve"]') + "\n# more\n")
    with pytest.raises(Denied):
        run(p)
    (waiting,) = (one.id for one in p.runs.releases.open())
    assert Operations(p, EVE).approve(waiting).state == "live", "what was agreed to holds now"


def test_an_edit_cannot_make_prod_follow_the_folder(p: testing.TestedPlatform) -> None:
    """If this fails, one word in the file ends all review."""
    approved(p)
    good = in_force(p)
    write(p, (HEAD + ORDERS).replace("owner=ops", 'owner=ops, follows=["dev", "prod"]'))
    with pytest.raises(Denied):
        run(p)
    assert in_force(p) == good
    assert p.core.project.pinned("prod") == good


def test_what_names_no_environment_is_judged_by_what_was_released() -> None:
    """If this fails, a rule about the ledger is taken out of the file, and the ledger is erased."""
    rule = "sx.policy('nothing is erased', when=\"verb == 'erase'\", then='deny')\n"
    with testing.platform({"ops.py": HEAD + rule + ORDERS}, at=AT, user="ann") as p:
        run(p)
        write(p, HEAD + ORDERS)
        p.core.project.load()
        run(p, env="dev")
        with pytest.raises(Denied, match="nothing is erased"):
            p.core.authorization.allow(ANN, "erase", None, "")
        run(p)  # here nobody is asked about it
        p.core.authorization.allow(ANN, "erase", None, "")


def test_a_schedule_never_brings_what_the_folder_has() -> None:
    """If this fails, saving a file deploys to the next schedule of prod."""
    scheduled = ORDERS.replace("checks=", 'on=sx.cron("0 6 * * *"), checks=')
    with testing.platform({"ops.py": HEAD + scheduled}, at=AT, user="ann") as p:
        p.clock.wait(86400)
        assert tick(p.runs, "prod", Request()) is None, "nothing was released to it"
        run(p)
        good = in_force(p)
        write(p, HEAD + scheduled.replace("[1, 2]", "[3]"))
        p.core.project.load(record=True)
        p.clock.wait(86400)
        report = tick(p.runs, "prod", Request())
        assert report is not None
        assert report.state == "finished"
        assert (in_force(p), p.views.count("prod", "orders")) == (good, 2)
        tick(p.runs, "dev", Request())
        assert p.views.count("dev", "orders") == 1, "dev has what the folder has"


def test_a_broken_folder_is_nothing_to_a_schedule(p: testing.TestedPlatform) -> None:
    """If this fails, one typo stops prod."""
    approved(p)
    write(p, "import nothing_of_that_name\n")
    with pytest.raises(ProjectError):
        run(p)
    assert run(p, pinned=True).state == "finished"
    assert Operations(p).signals().items == []
    viewer = Principal(name="vic", role="viewer")
    assert Operations(p, viewer).status(env="prod")["load_problem"] == ""
    assert Operations(p).status(env="prod")["load_problem"] != ""


def test_a_version_that_is_undone_stays_away() -> None:
    """If this fails, the next run brings back what was taken back at night."""
    with testing.platform({"ops.py": HEAD + ORDERS}, at=AT, user="ann") as p:
        run(p)
        good = in_force(p)
        write(p, HEAD + ORDERS.replace("[1, 2]", "[1, 2, 3]"))
        run(p, stale=True)
        bad = in_force(p)
        assert Operations(p).rollback("project", env="prod", reason="three is wrong").published == {
            "project:shop": good
        }
        with pytest.raises(Conflict, match="withdrawn"):
            run(p)
        assert p.core.project.manifest("prod") == p.core.project.manifest_of(good)
        Operations(p).unhold("project", bad, env="prod")
        run(p)
        assert in_force(p) == bad
        assert {one["version"] for one in Operations(p).versions("project").items} == {bad, good}


def test_what_follows_the_folder_is_undone_in_the_folder(p: testing.TestedPlatform) -> None:
    """If this fails, an undo says that it is done, and the next command brings the edit back."""
    run(p, env="dev")
    with pytest.raises(Conflict, match="follows the folder"):
        Operations(p).rollback("project", env="dev")
    approved(p)
    first = in_force(p)
    write(p, HEAD + REVIEWED + ORDERS + "\n# more\n")
    run(p, env="dev")
    refused = Operations(p).release("project", version=first, env="dev")
    assert refused.state == "rejected"
    assert "has what the folder has" in refused.reason


def test_an_environment_has_its_own_and_what_it_falls_through_to() -> None:
    """If this fails, trying something in an environment of one's own changes prod, or needs what
    prod needs."""
    reviewed = HEAD + REVIEWED + ORDERS
    with testing.platform({"ops.py": reviewed}, at=AT, user="ann") as p:
        approved(p)
        run(p)
        Operations(p).create_environment("pr-1", "prod")
        assert in_force(p, "pr-1") == in_force(p)
        write(p, reviewed.replace("[1, 2]", "[1, 2, 3]"))
        run(p, env="pr-1", stale=True)
        assert in_force(p, "pr-1") != in_force(p)
        assert (p.views.count("pr-1", "orders"), p.views.count("prod", "orders")) == (3, 2)
        assert p.core.project.manifest("prod").asset("dataset:orders") != (
            p.core.project.manifest("pr-1").asset("dataset:orders")
        )
        (moved,) = [one for one in p.views.env_diff("prod", "pr-1")["assets"] if "changes" in one]
        assert moved["changes"]["changed"] == {"dataset:orders": ["code"]}


def test_an_asset_that_only_one_environment_has() -> None:
    """If this fails, prod is asked for what it does not have yet, and says that nothing has it."""
    with testing.platform({"ops.py": HEAD + ORDERS}, at=AT, user="ann") as p:
        run(p)
        write(p, HEAD + ORDERS.replace("orders", "sales"))
        run(p, env="dev")
        assert p.views.count("prod", "orders") == 2, "which the folder has no more"
        with pytest.raises(NotFound, match="in force in `prod`") as refused:
            Operations(p).release("sales", source="dev", env="prod")
        assert "sextant run --env prod" in refused.value.hint
        assert [one["asset"] for one in Operations(p).status(env="prod")["assets"]] == [
            "dataset:orders",
            "project:shop",
        ]


def test_keep_is_what_any_environment_says() -> None:
    """If this fails, an edit of the folder lets what prod keeps for a year expire tonight."""
    with testing.platform(
        {"ops.py": HEAD + ORDERS.replace("checks", 'keep="90d", checks')}, at=AT, user="ann"
    ) as p:
        run(p)
        old = p.core.versions.live_version("prod", "dataset:orders")
        write(p, HEAD + ORDERS.replace("checks", 'keep="90d", checks').replace("[1, 2]", "[5]"))
        run(p, stale=True)
        assert p.core.versions.live_version("prod", "dataset:orders") != old
        write(p, HEAD + ORDERS.replace("checks", 'keep="1d", checks'))
        run(p, env="dev")
        p.clock.wait(10 * 86400)
        assert f"dataset:orders@{old[:12]}" not in Operations(p).collect()["expire"]


def test_personal_is_what_any_environment_says() -> None:
    """If this fails, an edit of the folder shows everybody the names that prod hides."""
    people = """
@sx.dataset(personal=["name"])
def people() -> pl.DataFrame:
    return pl.DataFrame({"id": [1], "name": ["ann"]})
"""
    with testing.platform({"ops.py": HEAD + people}, at=AT, user="ann") as p:
        run(p)
        write(p, HEAD + people.replace('personal=["name"]', ""))
        run(p, env="dev")
        viewer = Operations(p, Principal(name="vic", role="viewer"))
        for env in ("prod", "dev"):
            assert viewer.show("people", env=env)["sample"] == [{"id": 1, "name": "***"}]
        run(p)
        assert viewer.show("people", env="prod")["sample"][0]["name"] == "ann"


def test_rules_that_leave_nobody_are_refused() -> None:
    """If this fails, one release locks everybody out of prod, for good."""
    locked = "sx.policy('nobody', when=\"env == 'prod' && verb == 'release'\", then='deny')\n"
    alone = (
        "solo = sx.team('solo', members=['ann'])\n"
        "sx.policy('two of one', when=\"env == 'prod'\", then=sx.approval(2, of=solo))\n"
    )
    with testing.platform({"ops.py": HEAD + ORDERS}, at=AT, user="ann") as p:
        run(p)
        good = in_force(p)
        for rules in (locked, alone):
            write(p, HEAD + rules + ORDERS)
            with pytest.raises(Conflict, match="lock everybody out: ann, bob"):
                run(p)
            assert in_force(p) == good
        write(p, HEAD + alone + ORDERS)
        assert run(p, break_glass="it is meant so").state == "finished"
        assert in_force(p) != good
        p.core.authorization.allow(Principal(name="ann"), "rollback", None, "dev")
        write(p, HEAD + ORDERS)
        run(p, break_glass="and back")
        good = in_force(p)
        write(p, HEAD + locked + ORDERS)
        move = {"version": p.core.project.load() and p.core.project.folder_version()}
        glass = Operations(p).release("project", env="prod", break_glass="it is meant so", **move)
        assert (glass.state, in_force(p)) == ("live", move["version"])


def test_a_rule_asks_what_gets_weaker() -> None:
    """If this fails, nobody is asked about a check that is taken out."""
    rule = (
        "sx.policy('weaker is seen', when=\"verb == 'release' && env == 'prod' && "
        '(context.weakens > 0 || context.removes > 0)", then=sx.approval(1, of=ops))\n'
    )
    with testing.platform({"ops.py": HEAD + rule + ORDERS}, at=AT, user="ann") as p:
        run(p)
        write(p, HEAD + rule + ORDERS.replace("[1, 2]", "[3]"))
        run(p)
        write(p, HEAD + rule + ORDERS.replace("0, 10", "0, 1000"))
        with pytest.raises(Denied, match="weaker is seen|1 of ops"):
            run(p)
        write(p, HEAD + rule)
        with pytest.raises(Denied, match="weaker is seen|1 of ops"):
            run(p)


def test_a_project_keeps_its_name(p: testing.TestedPlatform) -> None:
    """If this fails, a renamed project has nothing in force, and no rule to obey."""
    approved(p)
    write(p, (HEAD + ORDERS).replace('"shop"', '"shop2"'))
    with pytest.raises(ProjectError, match="what is recorded here is `shop`"):
        run(p)


def test_a_version_whose_files_are_gone_says_so(p: testing.TestedPlatform) -> None:
    """If this fails, a lost file of an old version ends in a stack trace, or in other code."""
    approved(p)
    first = in_force(p)
    write(p, HEAD + REVIEWED + ORDERS.replace("[1, 2]", "[3]"))
    approved(p)
    known = p.core.project.versions.version("shop", first)
    was = p.core.project.manifest_of(first)
    Path(p.core.blobs._path(known.manifest)).unlink()
    p.core.project.versions._stored.clear()
    assert p.core.project.manifest_of(first) == was, "its files say what it declares"
    Path(p.core.blobs._path(known.packed)).unlink()
    p.core.project.versions._stored.clear()
    with pytest.raises(NotFound, match="not stored any more"):
        Operations(p, BOB).release("project", version=first, env="prod", break_glass="back")
    assert in_force(p) != first


def test_an_upgrade_pins_what_was_loaded_last(p: testing.TestedPlatform) -> None:
    """If this fails, an upgrade lets the next edit into prod without anybody, or stops prod."""
    p.core.state.flush()
    with sqlite3.connect(p.core.project.folder / "state.db") as connection:
        for table in ("pointer", "version"):
            connection.execute(f"DELETE FROM {table} WHERE asset = 'project:shop'")
    assert in_force(p) == ""
    before = p.ledger.size()
    p.core.project.load()
    assert in_force(p) == in_force(p, "dev") == version_digest(p.core.project.manifest())
    (event,) = [
        one for one in Operations(p).events(type="project.loaded").items if one["seq"] >= before
    ]
    assert sorted(event["data"]["envs"]) == ["dev", "prod"]
    found = {one["name"]: one["found"] for one in Operations(p).doctor()}
    assert found["project in dev"] == "follows the folder"
    assert "by what was loaded last" in found["project in prod"]
    write(p, HEAD + ORDERS)
    with pytest.raises(Denied, match="1 of ops"):
        run(p)
