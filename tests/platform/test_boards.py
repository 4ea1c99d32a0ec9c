"""Boards: declared, shown with the data of now, released and undone."""

from typing import Any

import pytest
from seen import views
from shop_project import Shop

from sextant.app.operations import Operations
from sextant.engine.plan import Request
from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Principal

OPS = """
@sx.dataset(checks=[sx.between("amount", 0, 5, severity="warn")], personal=["name"])
def orders() -> pl.DataFrame:
    return pl.DataFrame({"shop": ["north", "south", "north"], "name": ["Zq7uAnne", "Bo", "Cy"],
                         "amount": [1, 2, 9]})


revenue = sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", by=["shop"],
                 goal=sx.goal(">= 100"), unit="EUR")
sx.board("desk", description="What we look at.", panels=[PANELS])
"""
PANELS = """
    sx.panel(kpi=revenue, by="shop"),
    sx.panel("Newest checks", checks=[orders]),
    sx.panel("Failed", checks="orders", failed=True),
    sx.panel("No such metric", metric="nothing_sends_this"),
"""


def run(p: Any) -> Any:
    return p.runs.run("dev", Request(), by=p.core.authorization.who())


def shown(p: Any, by: Principal | None = None) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = Operations(p, by).show("board:desk")["panels"]
    return panels


def test_a_board_shows_the_data_of_now(shop: Shop) -> None:
    """People would look at yesterday's numbers, or at none because one panel has no answer."""
    shop.write(OPS.replace("PANELS", PANELS))
    with shop.open() as p:
        assert "board:desk" in run(p).published
        kpi, checks, failed, metric = shown(p)
        assert kpi["rows"] == [{"shop": "north", "value": 10}, {"shop": "south", "value": 2}]
        assert (kpi["title"], kpi["unit"], kpi["goal_met"]) == ("kpi:revenue", "EUR", False)
        assert [(row["check"], row["ok"]) for row in checks["rows"]] == [
            ("between(amount, 0, 5)", False)
        ]
        assert len(failed["rows"]) == 1
        assert metric["rows"] == []
        assert metric["error"]
        shop.write(OPS.replace("PANELS", PANELS).replace("9]", "3]"))
        p.core.project.load()
        p.runs.run("dev", Request(assets=("dataset:orders",)), by=p.core.authorization.who())
        assert shown(p)[0]["rows"][0]["value"] == 4
        assert len(views(p).versions("dev", "board:desk").items) == 1, "its definition is the same"


def test_a_board_is_released_and_undone(shop: Shop) -> None:
    """A bad edit of a board could not be taken back."""
    shop.write(OPS.replace("PANELS", PANELS))
    with shop.open() as p:
        run(p)
        shop.write(OPS.replace("PANELS", "sx.panel(kpi=revenue)"))
        p.core.project.load()
        assert set(run(p).published) == {"board:desk"}
        assert len(shown(p)) == 1
        found = Operations(p).diff("board:desk")
        assert (len(found["panels"]["before"]), found["panels"]["after"]) == (4, ["kpi:revenue"])
        p.runs.undo("dev", "board:desk", by=p.core.authorization.who(), reason="too little")
        assert len(shown(p)) == 4
        assert "board:desk" not in run(p).published, "undone stays undone"
        assert p.runs.plan("dev", Request()).held == {"board:desk": ("all",)}


def test_a_board_shows_each_what_he_may_see(shop: Shop) -> None:
    """A board would be a way around what is personal."""
    panels = 'sx.panel(kpi=names, by="name"), sx.panel("Who", sql="select name from data.orders")'
    kpi = 'names = sx.kpi("names", of=orders, measure="count(*)", grain="", by=["name"])\n'
    shop.write(OPS.replace("sx.board", kpi + "sx.board").replace("PANELS", panels))
    with shop.open() as p:
        run(p)
        assert "Zq7uAnne" in str(shown(p))
        found = shown(p, Principal(name="eve", role="viewer", credential="account:eve"))
        assert "Zq7uAnne" not in str(found)
        assert found[0]["hidden"] == ["name"]
        no_sql = Principal(name="tool", kind="token", role="viewer", scopes=("api",), root="eve")
        kpi, sql = shown(p, no_sql)
        assert kpi["rows"]
        assert (sql["rows"], "does not open query" in sql["error"]) == ([], True)


def test_what_is_on_a_board_is_upstream_of_it(shop: Shop) -> None:
    """Nobody would know which boards a change reaches."""
    shop.write(OPS.replace("PANELS", PANELS))
    with shop.open() as p:
        run(p)
        edges = {
            (e["source"], e["kind"])
            for e in Operations(p).graph()["edges"]
            if e["target"] == "board:desk"
        }
        assert edges == {("kpi:revenue", "shows"), ("dataset:orders", "shows")}


@pytest.mark.parametrize(
    ("panels", "said"),
    [
        ("sx.panel()", "a panel shows nothing"),
        ('sx.panel(kpi=revenue, sql="select 1")', "a panel shows kpi and sql"),
        ('sx.panel(sql="select 1", by="shop")', "a panel of `sql` has no `by`"),
        ('sx.panel(kpi="revenu")', "shows `revenu`, which does not exist"),
        ('sx.panel(checks="nothing")', "shows `nothing`, which does not exist"),
        ("sx.panel(kpi=5)", "not a value of `kpi`"),
        ("sx.panel(colour=1)", "`panel` has no setting `colour`"),
        ('"revenue"', "is not a panel"),
        ("", "has 0 panels"),
        ("sx.panel(kpi=revenue)," * 25, "has 25 panels"),
    ],
)
def test_a_board_that_cannot_be_shown_is_refused(shop: Shop, panels: str, said: str) -> None:
    """A mistake would be met by whoever looks, not by who wrote it."""
    shop.write(OPS.replace("PANELS", panels))
    with pytest.raises(ProjectError) as caught, shop.open():
        pass
    assert said in str(caught.value)
