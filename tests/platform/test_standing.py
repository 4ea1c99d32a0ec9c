"""How assets stand is worked out once for all who look at a moment, and is never of an earlier one."""

from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.kernel.clock import NS, ManualClock

OPS = """
@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})

@sx.dataset(owner=ops)
def totals(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(pl.len())
"""


def test_it_is_planned_once_for_a_moment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, each open page plans all assets again with each event."""
    shop.write(OPS)
    with shop.open(clock=ManualClock(1_800_000_000 * NS)) as p:  # a minute does not pass meanwhile
        planned: list[str] = []
        plan = p.runs.plan

        def counted(env: str, *more: Any, **given: Any) -> Any:
            planned.append(env)
            return plan(env, *more, **given)

        monkeypatch.setattr(p.runs, "plan", counted)
        for _ in range(3):
            Operations(p).status()
            Operations(p).graph_picture()
        assert planned == ["dev"]


def test_it_follows_events_and_edits(shop: Shop) -> None:
    """If this fails, a page shows how assets stood before."""
    shop.write(OPS)

    def standing(asset: str) -> tuple[str, dict[str, int]]:
        ops = Operations(p)
        (found,) = (one for one in ops.status()["assets"] if one["asset"] == asset)
        (node,) = (one for one in ops.graph_picture()["nodes"] if one["id"] == asset)
        assert node["state"] == found["state"]
        return found["state"], found["to_run"]

    with shop.open() as p:
        assert standing("dataset:orders")[0] == "missing"
        run(p)
        assert standing("dataset:orders") == ("live", {})
        shop.edit("[1, 2]", "[1, 2, 3]")
        p.core.project.load()
        assert standing("dataset:orders")[0] == "stale"
