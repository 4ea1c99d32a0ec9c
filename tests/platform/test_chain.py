"""From a service through a table to a number: one way, along which a report is a cause."""

from typing import Any

import pytest

from sextant.app.operations import Operations
from sextant.kernel.errors import ProjectError

from shop_project import Shop, run

ORDERS = "table:postgres/shop/public.orders"
CODE = """
    import json
    from pathlib import Path
    FILE = Path({file!r})

    @sx.dataset(partition=days, time="at", on=sx.cron("0 5 * * *"), owner=ops,
                reads="postgres://shop/public.orders",
                checks=[sx.not_null("n", severity="warn")])
    def orders(day: sx.Partition) -> pl.DataFrame:
        found = json.loads(FILE.read_text())[day.key]
        return pl.DataFrame([dict(at=day.start, n=n) for n in found],
            schema=dict(at=pl.Datetime("us", "UTC"), n=pl.Int64))

    revenue = sx.kpi("revenue", of=orders, measure="sum(n)", grain="1d")
"""


@pytest.fixture
def opened(shop: Shop) -> Any:
    import json

    file = shop.root.parent / "rows.json"
    rows = {f"2026-01-0{day}": [100, 200] for day in range(1, 5)}
    rows["2026-01-04"] = [None, 200]
    file.write_text(json.dumps(rows))
    shop.write(CODE.format(file=str(file)))
    with shop.open() as p:
        yield p


def moved(p: Any, **more: Any) -> Any:
    asked = {"before": "2026-01-03", "after": "2026-01-04"} | more
    return Operations(p).why("kpi:revenue", **asked)["moved"]


def test_what_is_read_is_in_the_graph(opened: Any) -> None:
    """The graph ends where the project's own assets begin."""
    every = Operations(opened)
    graph = every.graph(assets=["+kpi:revenue"])
    ids = {one["id"]: one for one in graph["assets"]}
    assert ids[ORDERS]["mode"] == "observed"
    assert {"source": ORDERS, "target": "dataset:orders", "kind": "feeds"} in [
        {key: edge[key] for key in ("source", "target", "kind")} for edge in graph["edges"]
    ]
    assert run(opened).state == "finished"
    assert any(one["id"] == ORDERS for one in every.graph(assets=["+kpi:revenue"])["assets"])


def test_a_release_of_a_service_is_a_cause_where_its_way_is_grounded(opened: Any) -> None:
    """The newest report would be blamed, or none."""
    every = Operations(opened)
    every.report("release", "service:pay", version="v7")  # has no way to the number
    every.report("release", "service:basket", version="v2", downstream=[ORDERS])
    assert run(opened).state == "finished"
    every.check("dataset:orders")
    assert moved(opened)["verdict"] in ("none of ours", "not derived")
    every.report("check", ORDERS, name="rows without a price", state="failed")
    found = moved(opened)
    (cause,) = found["causes"]
    assert (found["verdict"], cause["asset"]) == ("likely", "service:basket")
    assert cause["path"] == ["service:basket", ORDERS, "dataset:orders", "kpi:revenue"]
    assert 0 < cause["probability"] < 1
    assert "rows without a price" in cause["grounds"][0]
    assert (
        "service:basket"
        in Operations(opened).why("kpi:revenue", before="2026-01-03", after="2026-01-04")["reason"]
    )


def test_what_was_out_of_the_ordinary_before_is_no_ground(opened: Any) -> None:
    """A release would be blamed for what it came after."""
    every = Operations(opened)
    every.report("check", ORDERS, name="rows without a price", state="failed")
    every.report("release", "service:basket", version="v2", downstream=[ORDERS])
    assert run(opened).state == "finished"
    assert moved(opened)["causes"] == []


def test_a_source_that_is_silent_lowers_the_probability(opened: Any) -> None:
    """What nobody looked at would count as having been looked at."""
    assert run(opened).state == "finished"
    found = moved(opened)
    assert (found["verdict"], found["causes"]) == ("none of ours", [])
    states = {one["asset"]: one["state"] for one in found["coverage"]}
    assert states[ORDERS] == "absent"
    assert found["probability"] < 1


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        ('"orders"', "names no table"),
        ('"postgres://ann:pw@shop/orders"', "a password"),
        ("7", "reads"),
        ('[f"kafka://t{n}" for n in range(21)]', "more than 20"),
    ],
)
def test_what_cannot_be_read(shop: Shop, reads: str, said: str) -> None:
    """It would be found out when somebody asks why."""
    text = CODE.format(file="/nowhere").replace('"postgres://shop/public.orders"', reads)
    shop.write(text)
    with pytest.raises(ProjectError) as refused:
        shop.open()
    assert said in str(refused.value), refused.value
