"""What an undo would do, held against what it does then; and what is in its way."""

from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import RollbackPlan
from sextant.kernel.nouns import Principal

OPS = """
@sx.dataset(partition=days)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [1], "amount": [1.0]})

@sx.dataset(partition=days)
def clean(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

sx.kpi("revenue", of=clean, measure="sum(amount)", grain="", owner=ops)
"""


def planned(p: LocalPlatform, asset: str = "orders", **more: object) -> RollbackPlan:
    return Operations(p).rollback_plan(asset, **more)  # type: ignore[arg-type]


def worsen(shop: Shop, p: LocalPlatform, *days: str) -> None:
    shop.edit("[1.0]", "[2.0]")
    p.core.project.load()
    for day in days:
        run(p, "dev", "dataset:orders", stale=True, partitions=(day, day))


def test_a_plan_is_what_the_undo_does(shop: Shop) -> None:
    """If this fails, somebody agrees to one undo and gets another."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        good = p.core.versions.live_version("dev", "dataset:orders")
        worsen(shop, p, "2026-01-02")
        bad = p.core.versions.live_version("dev", "dataset:orders")
        events = p.ledger.size()
        plan = planned(p)
        assert p.ledger.size() == events, "looking changes nothing"
        assert (plan.problem, plan.verdict, plan.by) == ("", "allow", "person:ann")
        back = {one.asset: one for one in plan.taken_back}
        assert set(back) == {"dataset:orders"}
        one = back["dataset:orders"]
        assert (one.version, one.before) == (bad, good)
        assert (one.restored, one.removed, one.partitions) == (1, 0, ("2026-01-02",))
        again = {one.asset: one for one in plan.made_again}
        assert again["dataset:clean"].partitions == again["dataset:clean"].reused == 1
        report = Operations(p).rollback("orders")
        assert set(report.published) == {*back, *again}
        assert p.core.versions.live_version("dev", "dataset:orders") == good
        release = p.runs.releases.get(report.release)
        assert release.undoes == plan.release


def test_what_was_not_there_before_goes(shop: Shop) -> None:
    """If this fails, the plan of undoing a first version does not say that rows vanish."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        plan = planned(p)
        orders = next(one for one in plan.taken_back if one.asset == "dataset:orders")
        assert (orders.restored, orders.removed, orders.before) == (0, 4, "")
        derived = next(one for one in plan.taken_back if one.asset == "dataset:clean")
        assert derived.removed == 4, "nothing is left to derive it from"
        only = planned(p, downstream=False)
        assert [one.asset for one in only.taken_back] == ["dataset:orders"]


def test_what_is_in_the_way_is_said(shop: Shop) -> None:
    """If this fails, the page offers an undo that fails when it is pressed."""
    shop.write(OPS)
    with shop.open() as p:
        assert planned(p).code == "SX-UNDO-001"
        run(p)
        worsen(shop, p, "2026-01-02")
        bad = p.core.versions.live_version("dev", "dataset:orders")
        shop.edit("[2.0]", "[3.0]")
        p.core.project.load()
        run(p, "dev", "dataset:orders", stale=True, partitions=("2026-01-02", "2026-01-02"))
        plan = planned(p, version=bad)
        assert "later releases changed the same: dataset:orders[2026-01-02]" in plan.problem
        assert (plan.code, bool(plan.hint), plan.taken_back) == ("SX-UNDO-003", True, ())
        assert planned(p, "kpi:revenue").code == "SX-UNDO-002"
        Operations(p).rollback("orders")
        assert planned(p).code == "SX-UNDO-005"


def test_what_the_rules_say_is_said(shop: Shop) -> None:
    """If this fails, somebody learns only from the undo itself that it is refused."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        asks = (
            "sx.policy(\"two pairs\", when=\"verb == 'release' && context.intent == 'undo'\", "
            "then=sx.approval(1, of=ops))\n"
        )
        shop.write(OPS + asks)
        p.core.project.load()
        assert p.core.project.problem is None
        assert planned(p).verdict == "allow", "an undo waits for nobody"
        shop.write(OPS + 'sx.policy("never", when="verb == \'rollback\'", then="deny")\n')
        p.core.project.load()
        events = p.ledger.size()
        plan = planned(p)
        assert (plan.verdict, plan.reasons) == ("deny", ("never",))
        assert plan.taken_back, "it says all the same what would be done"
        assert p.ledger.size() == events, "a refusal that nobody ran into is no event"


def test_a_viewer_may_look_and_reads_no_personal_text(shop: Shop) -> None:
    """If this fails, who may not undo cannot see what it would do."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        viewer = Operations(p, Principal(name="v", role="viewer"))
        plan = viewer.rollback_plan("orders")
        assert plan.taken_back
        assert plan.release
