"""An environment is brought to another one as one: data, definitions, the project."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sextant import testing
from sextant.app.operations import Operations
from sextant.kernel.errors import Conflict, Denied, UserError
from sextant.kernel.nouns import Principal
from test_project_versions import BOB, HEAD, REVIEWED, in_force, run, write

AT = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 'days = sx.daily(start="2026-01-01", end="2026-01-04")\n'
ORDERS = """
@sx.dataset(partition=days)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"n": [day.date.day]})

@sx.dataset(partition=days)
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(pl.col("n") * 2)

sx.kpi("total", of=doubled, measure="sum(n)", grain="")
"""
BODY = HEAD + DAYS + ORDERS
TRIPLED = BODY.replace("* 2", "* 3").replace("sum(n)", "max(n)")


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": BODY}, at=AT, user="ann") as one:
        run(one, partition="2026-01-01..2026-01-02")
        Operations(one).create_environment("pr-1", "prod")
        write(one, TRIPLED)
        run(one, env="pr-1", stale=True, partition="2026-01-01..2026-01-02")
        yield one


def totals(p: testing.TestedPlatform, env: str) -> Any:
    return p.views.kpi(env, "total")["rows"][0]["value"]


def test_all_of_it_in_one_release(p: testing.TestedPlatform) -> None:
    """If this fails, prod has new code on old numbers, or half of a change."""
    assert (totals(p, "prod"), totals(p, "pr-1")) == (6, 6)
    (release,) = Operations(p).promote("pr-1", env="prod")
    assert release.state == "live"
    assert {move.asset for move in release.moves} == {
        "dataset:doubled",
        "dataset:kpi_total",
        "kpi:total",
        "project:shop",
    }
    assert p.views.env_diff("prod", "pr-1")["assets"] == []
    assert in_force(p) == in_force(p, "pr-1")
    assert run(p, partition="2026-01-01..2026-01-02").id == "", "nothing is left to be made"
    with pytest.raises(Conflict, match="nothing of its own"):
        Operations(p).promote("pr-1", env="prod")
    Operations(p).rollback("project", env="prod")
    assert in_force(p) != in_force(p, "pr-1"), "each of it can be taken back"


def test_what_came_meanwhile_stays(p: testing.TestedPlatform) -> None:
    """If this fails, an environment of three days takes back what the schedule made since."""
    run(p, pinned=True)
    assert len(p.core.versions.parts("dataset:doubled", _live(p, "prod", "doubled"))) == 3
    (release,) = Operations(p).promote("pr-1", env="prod")
    assert release.state == "live"
    assert "dataset:kpi_total" in release.reason, "which both have made, of different days"
    assert totals(p, "prod") == 12, "in its old meaning, until it is made anew"
    parts = p.core.versions.parts("dataset:doubled", _live(p, "prod", "doubled"))
    assert set(parts) == {"2026-01-01", "2026-01-02", "2026-01-03"}
    assert p.views.frame(p.core.versions.get("dataset:doubled", _live(p, "prod", "doubled")))[
        "n"
    ].to_list() == [3, 6, 6], "the third day is of the code before, and stale"
    run(p, stale=True)
    assert totals(p, "prod") == 9


def test_what_both_changed_is_named(p: testing.TestedPlatform) -> None:
    """If this fails, the second of two people takes back what the first one brought, in silence."""
    ask = Operations(p)
    ask.create_environment("pr-2", "prod")
    write(p, BODY.replace("day.date.day", "day.date.day + 10"))
    run(p, env="pr-2", stale=True, partition="2026-01-01..2026-01-02")
    assert ask.promote("pr-1", env="prod")[0].state == "live"
    first, live = in_force(p), p.core.versions.live("prod")
    with pytest.raises(Conflict, match=r"as well: ops.py") as refused:
        ask.promote("pr-2", env="prod")
    assert first[:12] in refused.value.hint
    assert p.core.versions.live("prod") == live
    merged = TRIPLED.replace("day.date.day", "day.date.day + 10")
    write(p, merged)
    Operations(p).drop_environment("pr-2")
    ask.create_environment("pr-2", "prod")
    run(p, env="pr-2", stale=True, partition="2026-01-01..2026-01-02")
    assert ask.promote("pr-2", env="prod")[0].state == "live"
    assert totals(p, "prod") == 36


def test_merged_files_are_said_to_be() -> None:
    """If this fails, two edits of one file can never both come to prod."""
    with testing.platform({"ops.py": BODY}, at=AT, user="ann") as p:
        run(p)
        ask = Operations(p)
        for name in ("pr-1", "pr-2"):
            ask.create_environment(name, "prod")
        write(p, BODY + "\n# one\n")
        run(p, env="pr-1")
        write(p, BODY + "\n# two\n")
        run(p, env="pr-2")
        ask.promote("pr-1", env="prod")
        write(p, BODY + "\n# one\n# two\n")
        run(p, env="pr-2")
        with pytest.raises(Conflict, match="ops.py"):
            ask.promote("pr-2", env="prod")
        with pytest.raises(Conflict, match="ops.py"):
            ask.promote("pr-2", env="prod", over="0000")
        (done,) = ask.promote("pr-2", env="prod", over=in_force(p)[:12])
        assert (done.state, in_force(p)) == ("live", in_force(p, "pr-2"))


def test_what_is_in_force_judges_the_whole() -> None:
    """If this fails, an environment of one's own is the way past the rules of prod."""
    with testing.platform({"ops.py": HEAD + REVIEWED + DAYS + ORDERS}, at=AT, user="ann") as p:
        with pytest.raises(Denied):
            run(p)
        (waits,) = (one.id for one in p.runs.releases.open())
        Operations(p, BOB).approve(waits)
        run(p)
        Operations(p).create_environment("pr-1", "prod")
        write(p, TRIPLED)
        run(p, env="pr-1", stale=True)
        good = p.core.versions.live("prod")
        (release,) = Operations(p).promote("pr-1", env="prod")
        assert (release.state, release.asked[0].of) == ("waiting", "ops")
        assert p.core.versions.live("prod") == good
        ann = Operations(p, Principal(name="ann"))
        with pytest.raises(Denied, match="cannot approve"):
            ann.approve(release.id)
        assert Operations(p, BOB).approve(release.id).state == "live"
        assert in_force(p) == in_force(p, "pr-1")


def test_a_frozen_environment_is_not_promoted_to(p: testing.TestedPlatform) -> None:
    """If this fails, a signed state moves."""
    Operations(p).create_environment("q4", "prod", frozen=True)
    with pytest.raises(UserError, match="frozen"):
        Operations(p).promote("pr-1", env="q4")


def _live(p: testing.TestedPlatform, env: str, name: str) -> str:
    return p.core.versions.live_version(env, f"dataset:{name}")
