"""Partitions as a strip: how each stands and why, and that the answer stays small."""

import itertools

import pytest
from shop_project import Shop, run

from sextant.app import partitions as shown
from sextant.app.operations import Operations
from sextant.app.partitions import PARTITION_STATES, strip
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import PartitionsSeen
from sextant.kernel.errors import UsageError
from sextant.kernel.nouns import Principal

OPS = """
BAD = ""
BROKEN = ""
WITHOUT = "x"

@sx.dataset(partition=days, checks=[sx.between("amount", 0, 5)])
def orders(day: sx.Partition) -> pl.DataFrame:
    if day.key == BROKEN:
        raise ValueError(f"no file for {day.key}")
    return pl.DataFrame({"id": [1], "amount": [9.0 if day.key == BAD else 1.0]})

@sx.dataset(partition=days)
def clean(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
"""


def seen(p: LocalPlatform, asset: str = "orders", **more: object) -> PartitionsSeen:
    return Operations(p).partitions(asset, **more)  # type: ignore[arg-type]


def days(p: LocalPlatform, asset: str = "orders") -> list[str]:
    """Return how 2026-01-01 to 2026-01-04 stand, one by one."""
    found = seen(p, asset, details=True)
    assert [one["partition"] for one in found["partitions"]] == [
        f"2026-01-0{n}" for n in range(1, 5)
    ]
    each = [one["state"] for one in found["partitions"]]
    runs = [(run["state"], run["count"]) for run in found["runs"]]
    assert runs == [(state, len(list(same))) for state, same in itertools.groupby(each)]
    assert found["states"] == {s: each.count(s) for s in PARTITION_STATES if s in each}
    assert found["count"] == 4
    return each


def test_each_partition_says_how_it_stands(shop: Shop) -> None:
    """If this fails, a hole in the data looks like data, or what was undone like a hole."""
    shop.write(OPS)
    with shop.open() as p:
        assert days(p) == ["missing"] * 4
        assert days(p, "clean") == ["missing"] * 4
        run(p)
        assert days(p) == ["live"] * 4 == days(p, "clean")
        shop.edit("else 1.0", "else 2.0")
        p.core.project.load()
        assert days(p) == ["stale"] * 4
        run(p, "dev", "dataset:orders", stale=True, partitions=("2026-01-02", "2026-01-02"))
        assert days(p) == ["stale", "live", "stale", "stale"]
        Operations(p).rollback("orders")
        assert days(p) == ["stale", "held", "stale", "stale"]
        held = seen(p, details=True)["partitions"][1]
        assert held["rows"] == 1, "what was there before is live again"
        assert "undone" in held["reason"]


def test_failed_and_refused_attempts_are_shown_with_their_reason(shop: Shop) -> None:
    """If this fails, somebody plans a backfill of what will fail again, and is not told why."""
    shop.write(OPS)
    shop.edit('BAD = ""', 'BAD = "2026-01-03"')
    with shop.open() as p:
        run(p)
        assert "refused" in days(p)
        bad = next(one for one in seen(p, details=True)["partitions"] if one["state"] == "refused")
        assert bad["partition"] == "2026-01-03"
        assert "between" in bad["reason"]
        assert set(days(p, "clean")) <= {"missing", "live"}
        shop.edit('BAD = "2026-01-03"', 'BAD = ""')
        shop.edit('BROKEN = ""', 'BROKEN = "2026-01-03"')
        p.core.project.load()
        run(p)
        broken = next(one for one in seen(p, details=True)["partitions"] if one["reason"])
        assert (broken["state"], "no file" in broken["reason"]) == ("failed", True)
        shop.edit('BROKEN = "2026-01-03"', 'BROKEN = ""')
        p.core.project.load()
        run(p)
        assert seen(p)["states"].keys() <= {"live", "stale"}, "a later attempt went well"


def test_a_range_has_facts(shop: Shop) -> None:
    """If this fails, nobody finds the run that made a partition."""
    shop.write(OPS)
    with shop.open() as p:
        report = run(p)
        found = seen(p, partition="2026-01-02..2026-01-03", details=True)
        assert [one["partition"] for one in found["partitions"]] == ["2026-01-02", "2026-01-03"]
        assert {one["run"] for one in found["partitions"]} == {report.id}
        assert all(one["rows"] == 1 and one["code"] and one["at"] for one in found["partitions"])
        assert not found["cut"]
        assert "partitions" not in seen(p, partition="2026-01-02")
        assert seen(p, partition="2026-01-02")["count"] == 1
        for asset, partition, words in (
            ("kpi:revenue", "", "not made of partitions"),
            ("orders", "January", "is not a daily partition"),
            ("orders", "2026-01-03..2026-01-01", "ends before it starts"),
        ):
            with pytest.raises(UsageError, match=words):
                seen(p, asset, partition=partition)


def test_many_facts_are_cut(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one answer has the facts of a hundred thousand partitions."""
    monkeypatch.setattr(shown, "PARTITIONS_DETAILED_MAX", 3)
    shop.write(OPS)
    with shop.open() as p:
        found = seen(p, details=True)
        assert (len(found["partitions"]), found["cut"], found["count"]) == (3, True, 4)


def test_runs_that_are_too_many_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a strip with many holes is megabytes, or hides the holes."""
    monkeypatch.setattr(shown, "PARTITION_RUNS_MAX", 4)
    order = [f"{n:02}" for n in range(10)]
    states = {key: "live" if n % 2 else "held" for n, key in enumerate(order)}
    found = strip(order, {**states, "05": "missing"})
    assert [(run["first"], run["last"], run["count"]) for run in found] == [
        ("00", "02", 3),
        ("03", "05", 3),
        ("06", "08", 3),
        ("09", "09", 1),
    ]
    assert [run["state"] for run in found] == ["held", "missing", "held", "live"]
    assert found[1]["states"] == {"missing": 1, "held": 1, "live": 1}
    assert "states" not in found[3]
    assert strip([], {}) == []


def test_reasons_of_personal_data_are_hidden(shop: Shop) -> None:
    """If this fails, a viewer reads a name in the error of a step."""
    shop.write(
        """
        @sx.dataset(personal=["name"])
        def people() -> pl.DataFrame:
            raise ValueError("no row for Ann")
        """
    )
    with shop.open() as p:
        run(p)
        viewer = Operations(p, Principal(name="v", role="viewer"))
        mine = seen(p, "people", details=True)["partitions"][0]
        theirs = viewer.partitions("people", details=True)["partitions"][0]
        assert mine["state"] == theirs["state"] == "failed"
        assert "Ann" in mine["reason"]
        assert "Ann" not in theirs["reason"]
