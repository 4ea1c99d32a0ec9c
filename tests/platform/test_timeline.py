"""What happened to an asset, and what changed upstream of it: nothing is missing, nothing is of
another asset or environment, pages fit together."""

from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import Change, TimelineItem
from sextant.kernel.errors import UsageError

OPS = """
@sx.dataset(checks=[sx.between("amount", 0, 5)])
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0]})

@sx.dataset
def other() -> pl.DataFrame:
    return pl.DataFrame({"id": [7]})

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
""".replace("@sx.dataset\n", "@sx.dataset()\n")


def items(p: LocalPlatform, asset: str = "orders", **more: Any) -> list[TimelineItem]:
    return Operations(p).timeline(asset, **more).items


def what(found: list[TimelineItem]) -> list[str]:
    return [f"{one['noun']} {one['change']}" for one in found]


def changed(p: LocalPlatform, asset: str = "kpi:revenue", **more: Any) -> list[Change]:
    return Operations(p).changes(asset, **more).items


def edit(shop: Shop, p: LocalPlatform, old: str, new: str) -> None:
    shop.edit(old, new)
    p.core.project.load()
    run(p, stale=True)


def test_a_timeline_has_what_happened_with_who_and_why(shop: Shop) -> None:
    """If this fails, somebody looks for the cause of a bad number where it is not shown."""
    shop.write(OPS)
    with shop.open() as p:
        first = run(p)
        edit(shop, p, "2.0]", "9.0]")  # the check refuses it
        edit(shop, p, "9.0]", "3.0]")
        Operations(p).rollback("orders", reason="wrong prices")
        found = items(p)
        assert [one["seq"] for one in found] == sorted((one["seq"] for one in found), reverse=True)
        said = what(found)
        for word in (
            "release live",
            "release undo live",
            "release rejected",
            "release rolled_back",
            "version created",
            "version withdrawn",
            "check failed",
            "run finished",
            "declaration declared",
        ):
            assert word in said, (word, said)
        assert {one["by"] for one in found} <= {"person:ann", "system:sextant"}
        undone = next(one for one in found if one["change"] == "undo live")
        assert undone["reason"] == "wrong prices"
        assert undone["because"], "it names what brought it about"
        bad = next(one for one in found if one["noun"] == "check")
        assert "between" in bad["reason"]
        assert bad["run"].startswith("run_")
        assert first.id in {one["subject"] for one in found if one["noun"] == "run"}
        assert not any("dataset:other" in one["subject"] for one in found)
        assert "check failed" not in what(items(p, "other"))


def test_signals_incidents_and_reports_stand_in_it(shop: Shop) -> None:
    """If this fails, the timeline of a service misses the night that it was down."""
    shop.write(OPS)
    with shop.open() as p:
        asked = Operations(p)
        asked.report("check", "service:pay", owner="ops", name="smoke", state="failed")
        signal = asked.signals(asset="service:pay").items[0]["id"]
        from sextant.kernel.ports import Write

        opened = p.core.events.incident("pay is down", ["service:pay"], [signal])
        p.core.state.commit(Write((), (opened,)))
        asked.comment_incident(opened.subject, "looking")
        asked.close_incident(opened.subject, "it was the network")
        found = items(p, "service:pay")
        assert {
            "signal raised",
            "incident opened",
            "incident commented",
            "incident closed",
            "check reported",
        } <= set(what(found))
        assert "it was the network" in {one["reason"] for one in found}


def test_pages_and_spans_of_time_fit_together(shop: Shop) -> None:
    """If this fails, a page repeats or leaves out what stood at its edge."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        edit(shop, p, "2.0]", "3.0]")
        asked = Operations(p)
        for operation, key in ((asked.timeline, "seq"), (asked.changes, "asset")):
            whole = operation("kpi:revenue" if key == "asset" else "orders").items
            assert len(whole) > 3
            for size in (1, 2, 3):
                pages, after = [], ""
                while True:
                    page = operation(
                        "kpi:revenue" if key == "asset" else "orders", limit=size, after=after
                    )
                    pages += page.items
                    after = page.next
                    if not after:
                        break
                assert pages == whole, (key, size)
        everything = items(p)
        middle = everything[len(everything) // 2]["at"]
        since, until = items(p, since=middle), items(p, until=middle)
        assert since + until == everything
        assert since[-1]["at"] == middle
        assert items(p, since="2999-01-01") == []
        with pytest.raises(UsageError, match="is no time"):
            items(p, since="yesterdy")


def test_changes_are_those_of_everything_upstream(shop: Shop) -> None:
    """If this fails, the chart of a number does not mark what changed it."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        edit(shop, p, "2.0]", "3.0]")
        Operations(p).rollback("orders", reason="wrong prices")
        found = changed(p)
        orders = [one for one in found if one["asset"] == "dataset:orders"]
        assert [one["changed"] for one in orders][:2] == ["undo", "code"]
        assert "declaration edited" in {one["changed"] for one in orders}
        assert orders[0]["reason"] == "wrong prices"
        assert all(one["partitions"] == ["all"] for one in orders[:2])
        assert {"project edited"} == {
            one["changed"] for one in found if one["asset"].startswith("project:")
        }
        assert not any(one["asset"] == "dataset:other" for one in found)
        marked = changed(p, additions=False)
        assert marked == [one for one in found if one["changed"] not in ("data", "definition")]
        newest = {one["asset"]: one for one in reversed(found) if one["release"]}
        for one in Operations(p).why("kpi:revenue")["changes"]:
            if one["release"]:
                assert newest[one["asset"]]["release"] == one["release"], "why says the same"
                assert newest[one["asset"]]["partitions"] == one["partitions"]


def test_environments_are_told_apart(shop: Shop) -> None:
    """If this fails, what somebody tried in an environment of his own is marked in prod's chart."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        Operations(p).create_environment("mine", "dev")
        run(p, "mine", force=True)
        edit(shop, p, "2.0]", "3.0]")
        mine = items(p, env="mine")
        assert "release live" not in what(mine)
        assert changed(p, env="prod") == []
        Operations(p).release("orders", source="dev", env="prod")
        assert [one["asset"] for one in changed(p, env="prod") if one["release"]] == [
            "dataset:orders"
        ]
