"""What runs promise, on a small project in a folder: from an edited file to what is live, and back."""

import polars as pl
import pytest

from sextant.engine.plan import Request
from sextant.kernel.errors import Conflict, NotFound

ORDERS = '''
bad_days = ["2026-01-03"]

@sx.dataset(partition=days, key="id", checks=[sx.between("amount", 0, 100)])
def orders(day: sx.Partition) -> pl.DataFrame:
    high = 500.0 if day.key in bad_days else 1.0
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [high, 2.0, 3.0]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)
'''


def parts(p, env, name):
    return {key: part.digest for key, part in p.versions.parts(f"dataset:{name}", p.versions.live_version(env, f"dataset:{name}")).items()}


def test_what_was_refused_is_refused_again(shop, running) -> None:
    """The memo would publish rows that the checks had refused, because it had seen them before."""
    shop.write(ORDERS)
    with shop.open() as p:
        first = running(p)
        assert (first.state, first.exit_code) == ("refused", 1)
        assert parts(p, "dev", "orders") == {}, "a step is one month; nothing of it is live"
        second = running(p)
        assert second.state == "refused"
        assert parts(p, "dev", "orders") == {}
        shop.edit('["2026-01-03"]', "[]")
        p.load()
        assert running(p).state == "finished"
        assert sorted(parts(p, "dev", "orders")) == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


def test_refused_rows_do_not_come_back_beside_new_ones(shop, running) -> None:
    """A version's digest changes with every new day: what was refused must be known by partition, not by version."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        shop.edit('end="2026-01-05"', 'end="2026-01-06"')
        p.load()
        assert running(p).state == "refused"
        assert "2026-01-03" not in parts(p, "dev", "orders")


def test_made_in_one_environment_is_not_made_again_in_another(shop, running) -> None:
    """The same code on the same inputs would be paid for twice."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        made = running(p, "dev")
        again = running(p, "prod")
        assert (made.computed, again.computed, again.reused) == (2, 0, 2)
        assert parts(p, "prod", "doubled") == parts(p, "dev", "doubled") != {}
        assert p.versions.live_version("prod", "dataset:doubled") == p.versions.live_version("dev", "dataset:doubled")
        assert p.views.count("prod", "doubled") == 12


def test_part_of_another_environments_table(shop, running) -> None:
    """A table that begins with some of another one's partitions must not come with all of them."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p, "dev")
        report = running(p, "prod", partitions=("2026-01-02", "2026-01-03"))
        assert report.computed == 0
        assert sorted(parts(p, "prod", "orders")) == ["2026-01-02", "2026-01-03"]
        assert p.views.count("prod", "orders") == 6
        assert p.views.frame(p.views.resolve("prod", "dataset:orders", ""))["id"].str.head(10).unique().sort().to_list() == ["2026-01-02", "2026-01-03"]


def test_held_partitions_do_not_come_back_through_the_memo(shop, running) -> None:
    """An input that is made again to the same content must not bring back what was undone."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        good = parts(p, "dev", "doubled")
        shop.edit("* 2)", "* 3)")
        p.load()
        assert running(p, "dev", stale=True).computed == 1
        bad = parts(p, "dev", "doubled")
        p.runs.undo("dev", "dataset:doubled", by=p.who(), reason="three is wrong")
        assert parts(p, "dev", "doubled") == good
        assert running(p).computed == 0
        assert p.runs.plan("dev", Request()).held == {"dataset:doubled": ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")}
        report = running(p, "dev", "dataset:orders", force=True)
        assert report.computed == 1
        assert parts(p, "dev", "doubled") == good != bad
        shop.edit("* 3)", "* 4)")
        p.load()
        assert running(p, "dev", stale=True).computed == 1, "new code is not held"
        assert parts(p, "dev", "doubled") not in (good, bad)


def test_unhold_lets_it_come_back(shop, running) -> None:
    """A person must be able to lift the mark."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        shop.edit("* 2)", "* 3)")
        p.load()
        running(p, "dev", stale=True)
        bad = p.versions.live_version("dev", "dataset:doubled")
        p.runs.undo("dev", "dataset:doubled", by=p.who(), reason="wrong")
        with pytest.raises(Conflict, match="withdrawn"):
            p.runs.release("dev", p.asset("doubled"), version=bad, by=p.who())
        p.releases.unhold("dev", "dataset:doubled", bad, p.who())
        assert p.runs.release("dev", p.asset("doubled"), version=bad, by=p.who()).state == "live"
        assert p.versions.live_version("dev", "dataset:doubled") == bad


TWO = '''
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [ORDER]})

@sx.dataset(partition=days, key="id")
def stock(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "pieces": [STOCK]})
'''


def test_two_assets_of_one_release_are_undone_one_after_the_other(shop, running) -> None:
    """One release brought both; undoing one must not make the other impossible to undo."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        before = {name: parts(p, "dev", name) for name in ("orders", "stock")}
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 2")
        p.load()
        assert running(p, "dev", stale=True).computed == 2
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong")
        assert parts(p, "dev", "orders") == before["orders"]
        assert parts(p, "dev", "stock") != before["stock"], "only what was asked for"
        p.runs.undo("dev", "dataset:stock", by=p.who(), reason="wrong too")
        assert parts(p, "dev", "stock") == before["stock"]


def test_an_undo_undone_does_not_bring_the_bad_version_back(shop, running) -> None:
    """Twice `rollback` is not `redo`: what was withdrawn stays withdrawn until somebody says so."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", stale=True)
        bad = p.versions.live_version("dev", "dataset:orders")
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong")
        with pytest.raises(Conflict, match="brought back by an undo"):
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="again")
        assert p.versions.live_version("dev", "dataset:orders") != bad


def test_undo_restores_only_what_the_bad_version_changed(shop, running) -> None:
    """A later good write to other days would be lost with the bad one."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p, "dev", partitions=("2026-01-01", "2026-01-02"))
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", "dataset:orders", partitions=("2026-01-02", "2026-01-02"))
        bad = p.versions.live_version("dev", "dataset:orders")
        wrong = parts(p, "dev", "orders")
        running(p, "dev", "dataset:orders", partitions=("2026-01-03", "2026-01-03"))
        later = parts(p, "dev", "orders")
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong", version=bad)
        now = parts(p, "dev", "orders")
        assert now["2026-01-02"] not in (wrong["2026-01-02"], None)
        assert now["2026-01-03"] == later["2026-01-03"], "the later write stays"
        assert now["2026-01-01"] == later["2026-01-01"]
        assert p.runs.plan("dev", Request(assets=("dataset:orders",), partitions=("2026-01-02", "2026-01-02"))).held == {"dataset:orders": ("2026-01-02",)}
        with pytest.raises(NotFound):
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="x", version="abcdef")


def test_a_later_write_to_the_same_partition_is_a_conflict(shop, running) -> None:
    """Undoing under somebody's newer write would lose that write without a word."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        first = p.versions.live_version("dev", "dataset:orders")
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", stale=True)
        live = parts(p, "dev", "orders")
        with pytest.raises(Conflict, match="2026-01-01") as caught:
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="x", version=first)
        assert "undo the later release first" in caught.value.hint
        assert parts(p, "dev", "orders") == live
