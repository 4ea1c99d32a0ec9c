"""A run whose input is withdrawn while its steps work does not publish what it derived."""

from seen import views
from sextant.release.as_of import version_as_of
import pytest
from orders_project import parts

from sextant.kernel.errors import Conflict

BODY = """
AMOUNT, FACTOR, ADDED = 1, 2, 0

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [AMOUNT]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * FACTOR)

@sx.dataset(partition=days, key="id")
def shown(doubled: pl.DataFrame) -> pl.DataFrame:
    return doubled.with_columns(pl.col("amount") + ADDED)
"""


@pytest.fixture
def bad(shop, running):
    """A platform on which a second, bad version of orders and all that reads it are live."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        shop.edit("AMOUNT, FACTOR, ADDED = 1, 2, 0", "AMOUNT, FACTOR, ADDED = 9, 2, 0")
        p.core.project.load()
        running(p, "dev", stale=True)
        yield p


def undo_orders(p) -> None:
    """Take back the bad version of orders alone, as somebody else does meanwhile."""
    p.runs.undo(
        "dev",
        "dataset:orders",
        by=p.core.authorization.who(),
        reason="nine is wrong",
        downstream=False,
    )


def test_an_input_that_is_withdrawn_while_it_is_read(shop, running, bad) -> None:
    """What was derived of rolled back rows would go live after the rollback."""
    p = bad
    before = parts(p, "dev", "doubled")
    shop.edit("9, 2, 0", "9, 3, 0")
    p.core.project.load()
    with pytest.raises(Conflict, match="`dataset:orders` was rolled back while the run read it"):
        running(
            p,
            "dev",
            "dataset:doubled",
            stale=True,
            downstream=False,
            progress=lambda _task, _done: undo_orders(p),
        )
    assert parts(p, "dev", "doubled") == before
    assert sorted(run["state"] for run in views(p).runs().items) == ["failed", *["finished"] * 3]
    running(p, "dev", "dataset:doubled", stale=True)
    assert views(p).frame(version_as_of(p.core, "dev", "dataset:doubled", ""))[
        "amount"
    ].unique().to_list() == [3], "the next run reads what is live"


def test_an_input_that_is_derived_again_while_it_is_read(shop, running, bad) -> None:
    """What was derived of rows that stand on a rolled back version would go live after they were
    derived again."""
    p = bad
    before = parts(p, "dev", "shown")

    def derive_again(task, _done) -> None:
        if task.asset == "dataset:shown":
            undo_orders(p)
            assert running(p, "dev", "dataset:doubled", downstream=False).published

    shop.edit("9, 2, 0", "9, 2, 5")
    p.core.project.load()
    with pytest.raises(Conflict, match="`dataset:doubled` was derived again while the run read it"):
        running(p, "dev", "dataset:shown", stale=True, progress=derive_again)
    assert parts(p, "dev", "shown") == before
    running(p, "dev", "dataset:shown", stale=True)
    assert views(p).frame(version_as_of(p.core, "dev", "dataset:shown", ""))[
        "amount"
    ].unique().to_list() == [7], "the next run reads what is live"
