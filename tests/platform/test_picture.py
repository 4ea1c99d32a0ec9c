"""The picture of the graph: states, clusters that open, what lies between, what a change
reaches."""

import pytest
from shop_project import Shop, run

from sextant.app import graph_picture
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import Picture, PictureNode
from sextant.kernel.errors import NotFound, UsageError

OPS = """
web = sx.team("web", members=["eve"])

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 9.0]})

@sx.dataset(owner=web)
def orders_daily(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

@sx.dataset(owner=web)
def orders_late(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

@sx.dataset(owner=web, tier=1)
def report(orders_daily: pl.DataFrame, orders_late: pl.DataFrame) -> pl.DataFrame:
    return orders_daily

@sx.dataset(owner=ops)
def other() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})

sx.kpi("revenue", of=report, measure="sum(amount)", grain="", owner=ops)
"""


def nodes(found: Picture) -> dict[str, PictureNode]:
    return {one["id"]: one for one in found["nodes"]}


def shown(p: LocalPlatform, **more: object) -> dict[str, PictureNode]:
    return nodes(Operations(p).graph_picture(**more))  # type: ignore[arg-type]


def test_every_asset_has_a_place_and_a_state(shop: Shop) -> None:
    """If this fails, the picture shows something as sound that is not."""
    shop.write(OPS)
    with shop.open() as p:
        assert shown(p)["dataset:orders"]["state"] == "missing"
        run(p)
        found = Operations(p).graph_picture()
        one = nodes(found)
        assert {n["state"] for n in one.values()} == {"live"}
        assert [one[f"dataset:{n}"]["column"] for n in ("orders", "orders_daily", "report")] == [
            0,
            1,
            2,
        ]
        assert found["assets"] == len(p.core.project.manifest().assets) == len(one)
        edges = {(e["source"], e["target"]) for e in found["edges"]}
        assert ("dataset:orders", "dataset:orders_late") in edges
        shop.edit("[1.0, 9.0]", "[2.0, 9.0]")
        p.core.project.load()
        assert shown(p)["dataset:orders"]["state"] == "stale"
        Operations(p).report("check", "service:pay", owner="ops", name="smoke", state="failed")
        assert shown(p)["service:pay"]["state"] == "failed"
        assert set(shown(p, state=["failed", "stale"])) == {"service:pay", "dataset:orders"}
        Operations(p).rollback("report")
        assert shown(p)["dataset:report"]["state"] == "held"
        states = {one["asset"]: one["state"] for one in Operations(p).status()["assets"]}
        assert states["dataset:report"] == "held"


def test_many_are_shown_as_clusters_that_open(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a large graph cannot be looked at, or a cluster hides what is bad inside."""
    monkeypatch.setattr(graph_picture, "PICTURE_NODES_MAX", 3)
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        Operations(p).rollback("report")
        found = Operations(p).graph_picture()
        one = nodes(found)
        assert set(one) <= {"owner:ops", "owner:web", "project:shop", "owner:"}
        assert (one["owner:web"]["count"], one["owner:web"]["state"]) == (3, "held")
        assert one["owner:web"]["states"] == {"held": 1, "live": 2}
        assert one["owner:web"]["tier"] == 1
        counts = {(e["source"], e["target"]): e["count"] for e in found["edges"]}
        assert counts["owner:ops", "owner:web"] == 2, "two read orders"
        opened = shown(p, opened=["owner:web"])
        assert {"dataset:report", "dataset:orders_daily"} <= set(opened)
        assert "owner:web" not in opened
        inside = shown(p, opened=["owner:ops"])
        assert "owner:ops/kind:dataset" in inside, "it is clusters again where it is much"
        assert "dataset:orders" in shown(p, opened=["owner:ops", "owner:ops/kind:dataset"])
        monkeypatch.setattr(graph_picture, "PICTURE_NODES_MAX", 6)
        assert shown(p, group="prefix")["prefix:orders"]["count"] == 3
        same = shown(p, assets=["owner:web"])
        assert set(same) == {"dataset:report", "dataset:orders_daily", "dataset:orders_late"}


def test_clusters_end_where_nothing_tells_assets_apart(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a folder of a thousand names without a pattern cannot be opened, or all of
    them come at once."""
    monkeypatch.setattr(graph_picture, "PICTURE_NODES_MAX", 2)
    shop.write(
        "".join(
            f"@sx.dataset()\ndef {name}() -> pl.DataFrame:\n    return pl.DataFrame({{'x': [1]}})\n"
            for name in ("a", "b", "c", "d", "e")
        )
    )
    with shop.open() as p:
        found = shown(p, assets=["kind:dataset"])
        assert list(found) == ["from:dataset:a", "from:dataset:d"]
        assert [one["count"] for one in found.values()] == [3, 2]
        inside = shown(p, assets=["kind:dataset"], opened=["from:dataset:a", "from:dataset:d"])
        assert {"dataset:d", "dataset:e"} <= set(inside)


def test_what_lies_between_and_what_a_change_reaches(shop: Shop) -> None:
    """If this fails, somebody is not told of an asset that his change reaches."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        asked = Operations(p)
        through = {one["id"] for one in asked.graph(assets=["orders"], to="report")["assets"]}
        assert through == {
            "dataset:orders",
            "dataset:orders_daily",
            "dataset:orders_late",
            "dataset:report",
        }
        back = {one["id"] for one in asked.graph(assets=["report"], to="orders")["assets"]}
        assert back == through
        with pytest.raises(NotFound, match="nothing leads from `other` to `report`"):
            asked.graph(assets=["other"], to="report")
        reached = asked.graph(assets=["orders+1"])
        assert {one["id"] for one in reached["assets"]} == {
            "dataset:orders",
            "dataset:orders_daily",
            "dataset:orders_late",
        }
        assert reached["kinds"] == {"dataset": 3}
        assert {tuple(one["live_in"]) for one in reached["assets"]} == {("dev",)}
        asked.release("orders", source="dev", env="prod")
        live = {one["id"]: one["live_in"] for one in asked.graph(assets=["orders"])["assets"]}
        assert live == {"dataset:orders": ["dev", "prod"]}


def test_what_is_asked_wrongly_is_said(shop: Shop) -> None:
    """If this fails, a mistyped state shows an empty picture."""
    shop.write(OPS)
    with shop.open() as p:
        for given, words in (
            ({"state": ["fialed"]}, "is not a state"),
            ({"group": "colour"}, "are not made by"),
            ({"opened": [str(n) for n in range(21)]}, "21 clusters are opened"),
        ):
            with pytest.raises(UsageError, match=words):
                shown(p, **given)
