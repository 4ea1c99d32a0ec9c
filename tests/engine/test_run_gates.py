"""Gates, people, and what others do, on a small project in a folder."""

from seen import views
from sextant.app.operations import Operations
from sextant.app import reports
import pytest
from orders_project import CUT, ORDERS, parts

from sextant.kernel.errors import Conflict, Denied, NotFound, ProjectError, UserError


def test_a_relaxed_check_lets_the_same_rows_through(shop, running) -> None:
    """What was refused once would be refused for ever, though its check was wrong."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        shop.edit("0, 100", "0, 1000")
        p.core.project.load()
        report = running(p)
        assert report.state == "finished"
        assert len(parts(p, "dev", "orders")) == 4
        assert views(p).show("dev", "orders")["refused"] == []
        assert running(p, "prod").state == "finished"


def test_breaking_the_glass(shop, running) -> None:
    """An emergency would find itself refused; or leave no trace."""
    shop.write(ORDERS)
    with shop.open() as p:
        running(p)
        report = running(p, "dev", break_glass="the board meets in ten minutes")
        assert report.state == "finished"
        assert len(parts(p, "dev", "orders")) == 4
        signals = [s for s in views(p).signals().items if not s["closed_at"]]
        assert [s["kind"] for s in signals] == ["glass.broken"]
        assert "the board meets" in signals[0]["message"]
        assert "owner ops" in signals[0]["message"]
        release = p.runs.releases.get(report.release)
        assert release.broke_glass == "the board meets in ten minutes"


FREEZE = (
    ORDERS
    + """
sx.policy("nobody runs orders now", when="verb == 'run' && asset.name == 'orders'", then="deny")
sx.policy("freeze", when="verb == 'release' && env == 'dev'", then="deny")
sx.policy("never this one", when="verb == 'run' && env == 'prod'", then="deny", absolute=True)
"""
)


def test_breaking_the_glass_passes_a_deny_and_says_so(shop, running) -> None:
    """A freeze would hold even while the house burns; or somebody passes it and nobody ever hears
    of it."""
    shop.write(FREEZE)
    with shop.open() as p:
        with pytest.raises(Denied, match="nobody runs orders now"):
            running(p)
        report = running(p, "dev", break_glass="the house burns")
        assert report.state == "finished"
        release = p.runs.releases.get(report.release)
        assert (release.state, release.passed, release.broke_glass) == (
            "live",
            ("freeze",),
            "the house burns",
        )
        told = sorted(
            (e["subject"], e["data"]["verb"], *e["data"]["rules"], e["data"]["reason"])
            for e in views(p).events(kind="decision.overridden").items
        )
        assert told == [
            ("dataset:doubled", "release", "freeze", "the house burns"),
            ("dataset:orders", "release", "freeze", "the house burns"),
            ("dataset:orders", "run", "nobody runs orders now", "the house burns"),
        ]
        signals = [s for s in views(p).signals().items if not s["closed_at"]]
        assert {(s["kind"], s["severity"]) for s in signals} == {("glass.broken", "error")}
        assert all(
            "past the policy that denies it" in s["message"] and "owner ops" in s["message"]
            for s in signals
        )


def test_an_undo_past_a_deny(shop, running) -> None:
    """Whoever is awake at night could not take back what another team broke; or nobody would learn
    that he did."""
    shop.write(
        CUT
        + """
sx.policy("only by day", when="verb == 'rollback'", then="deny")
sx.policy("freeze", when="verb == 'release' && context.intent == 'undo' && asset.name == 'cleaned'", then="deny")
"""
    )
    with shop.open() as p:
        running(p)
        good = p.core.versions.live_version("dev", "dataset:cleaned")
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.core.project.load()
        running(p, "dev", stale=True)
        with pytest.raises(Denied, match="only by day"):
            p.runs.undo(
                "dev", "dataset:cleaned", by=p.core.authorization.who(), reason="five is wrong"
            )
        report = p.runs.undo(
            "dev",
            "dataset:cleaned",
            by=p.core.authorization.who(),
            reason="five is wrong",
            break_glass="it is night",
        )
        release = p.runs.releases.get(report.release)
        assert (release.intent, release.passed, release.broke_glass) == (
            "undo",
            ("freeze",),
            "it is night",
        )
        assert p.core.versions.live_version("dev", "dataset:cleaned") == good
        told = sorted(
            (e["subject"], e["data"]["verb"], *e["data"]["rules"])
            for e in views(p).events(kind="decision.overridden").items
        )
        assert told == [
            ("dataset:cleaned", "release", "freeze"),
            ("dataset:cleaned", "rollback", "only by day"),
        ]
        assert {s["kind"] for s in views(p).signals(open_only=True).items} == {"glass.broken"}


def test_an_absolute_deny_holds_when_the_glass_breaks(shop, running) -> None:
    """What must never be, whatever the reason, would be one option away."""
    shop.write(FREEZE)
    with shop.open() as p, pytest.raises(Denied, match="never this one"):
        running(p, "prod", break_glass="the house burns")
    with shop.open() as p:
        assert not views(p).signals().items, "nothing was done, and nothing is to be reviewed"


def test_a_second_pair_of_eyes(shop, running) -> None:
    """A release that needs approval would go live without; or never."""
    shop.write(
        CUT
        + """
sx.policy("eyes", when="verb == 'release' && env == 'prod' && asset.kind == 'dataset'", then=sx.approval(1, of=ops))
"""
    )
    with shop.open("ann") as p:
        report = running(p, "prod")
        assert report.waiting
        assert p.core.versions.live_version("prod", "dataset:orders") == ""
        with pytest.raises(Denied, match="cannot approve"):
            Operations(p).approve(report.waiting)
        again = running(p, "prod")
        assert (again.computed, again.waiting) == (0, report.waiting), (
            "what waits is not made and proposed twice"
        )
    with shop.open("mallory") as p, pytest.raises(Denied, match="not in team"):
        Operations(p).approve(report.waiting)
    with shop.open("bob") as p:
        assert Operations(p).approve(report.waiting).state == "live"
        assert views(p).count("prod", "orders") == 12
        p.runs.undo(
            "prod", "dataset:cleaned", by=p.core.authorization.who(), reason="an undo asks nobody"
        )


def test_what_waits_on_bad_data_does_not_go_live(shop, running) -> None:
    """A derived table that waits for its approval would go live after what it was made from was
    undone."""
    shop.write(
        CUT
        + """
sx.policy("eyes", when="verb == 'release' && env == 'prod' && asset.name == 'total'", then=sx.approval(1, of=ops))
"""
    )
    with shop.open("ann") as p, shop.open("bob") as other:
        assert Operations(other).approve(running(p, "prod").waiting).state == "live"
        good = p.core.versions.live_version("prod", "dataset:total")
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.core.project.load()
        running(p, "prod", "dataset:cleaned", stale=True, downstream=False)
        waiting = running(p, "prod", "dataset:total").waiting
        assert waiting
        p.runs.undo(
            "prod",
            "dataset:cleaned",
            by=p.core.authorization.who(),
            reason="five is wrong",
            downstream=False,
        )
        done = Operations(other).approve(waiting)
        assert (done.state, p.core.versions.live_version("prod", "dataset:total")) == (
            "rejected",
            good,
        )
        assert "rolled back meanwhile" in done.reason


KPI = (
    CUT
    + """
per_order = sx.kpi("per_order", of=orders, measure="sum(amount) / count(*)", grain="1d")
"""
)


def test_a_definition_changes_and_is_undone(shop, running) -> None:
    """A number would change its meaning unseen, or keep the new values under the old meaning."""
    shop.write(
        KPI.replace('key="id")\ndef orders', 'key="id", time="at")\ndef orders').replace(
            '"amount": [1, 2, 3]}', '"amount": [1, 2, 3], "at": [day.start] * 3}'
        )
    )
    with shop.open() as p:
        running(p)

        def value() -> float:
            return views(p).kpi("dev", "per_order")["rows"][0]["value"]

        assert value() == 2.0
        first = p.core.versions.live_version("dev", "kpi:per_order")
        shop.edit("sum(amount) / count(*)", "max(amount)")
        p.core.project.load()
        report = running(p)
        assert {"kpi:per_order", "dataset:kpi_per_order"} <= set(report.published)
        assert value() == 3.0
        second = p.core.versions.live_version("dev", "kpi:per_order")
        p.runs.undo(
            "dev", "kpi:per_order", by=p.core.authorization.who(), reason="not what we mean"
        )
        assert p.core.versions.live_version("dev", "kpi:per_order") == first
        assert value() == 2.0
        assert running(p).published == {}, "undone stays undone"
        shop.edit("max(amount)", "min(amount)")
        p.core.project.load()
        running(p)
        assert value() == 1.0
        with pytest.raises((Conflict, NotFound)):
            p.runs.undo(
                "dev", "kpi:per_order", by=p.core.authorization.who(), reason="x", version=second
            )
        assert value() == 1.0


def test_what_others_do_is_part_of_the_answer(shop, running) -> None:
    """A deployment by another tool would be missing when one asks why."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
        done = reports.report(
            p.core,
            "dev",
            "release",
            "service:checkout",
            version="v42",
            upstream=("dataset:total",),
            owner="web",
        )
        assert done["new"]
        bad = reports.report(
            p.core,
            "dev",
            "run",
            "service:checkout",
            state="failed",
            message="timeout",
            cause=done["event"],
        )
        assert not bad["new"]
        assert p.core.assets.find("service:checkout").mode == "observed"
        assert [s["asset"] for s in views(p).signals().items] == ["service:checkout"]
        assert "service:checkout" in {
            a["id"] for a in views(p).graph(p.core.assets.select(["orders+"]))["assets"]
        }
        with pytest.raises(UserError, match="managed"):
            reports.report(p.core, "dev", "release", "dataset:total")
        with pytest.raises(NotFound, match="no event"):
            reports.report(p.core, "dev", "release", "service:checkout", cause="ev_nothing")


def test_a_broken_edit_keeps_the_last_good_state(shop, running) -> None:
    """One typo would stop everything that runs."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
    shop.edit("def shown(cleaned:", "def shown(cleand:")
    with shop.open() as p:
        assert p.core.project.problem is not None
        assert "cleand" in p.core.project.problem.message
        assert views(p).count("dev", "shown") == 12
        with pytest.raises(ProjectError, match="cleand"):
            running(p)
        assert running(p, pinned=True).state == "finished", "a schedule goes on"
        p.core.project.load()
        assert not views(p).signals().items, "it is nothing to anybody else"
        shop.edit("def shown(cleand:", "def shown(cleaned:")
        p.core.project.load()
        assert p.core.project.problem is None, "an open platform sees that it is mended"
    with shop.open() as p:
        assert p.core.project.problem is None
