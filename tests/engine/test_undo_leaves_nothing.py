"""What was derived from undone partitions goes or is made again, and what is tainted is mended."""

from orders_project import parts

WINDOWED = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [1]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)

@sx.dataset(partition=days, key="id", inputs={"doubled": sx.window("doubled", "2d")})
def recent(day: sx.Partition, doubled: pl.DataFrame) -> pl.DataFrame:
    return doubled.with_columns(id=pl.lit(day.key + "<") + pl.col("id"))

@sx.dataset(key="id")
def total(recent: pl.DataFrame) -> pl.DataFrame:
    return recent
"""


def test_what_reads_a_window_of_what_is_gone_goes_with_it(shop, running) -> None:
    """Rows of the undone days would stay in what reads them through a window, and in totals."""
    shop.write(WINDOWED)
    with shop.open() as p:
        running(p, "dev", "dataset:orders")
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="bad")
        assert {name: parts(p, "dev", name) for name in ("doubled", "recent", "total")} == {
            "doubled": {},
            "recent": {},
            "total": {},
        }


REFUSED = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [1]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)

@sx.dataset(partition=days, key="id", checks=[sx.between("amount", 5, 9)])
def other(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [1]})
"""


def test_a_refused_table_beside_one_that_mends_what_is_tainted(shop, running) -> None:
    """The run would publish, then answer that somebody rolled back what it read, and be recorded
    as failed; the refused version would be lost."""
    shop.write(REFUSED)
    with shop.open() as p:
        running(p)
        good = parts(p, "dev", "doubled")
        shop.edit(
            '"amount": [1]})\n\n@sx.dataset(partition=days, key="id")\ndef doubled',
            '"amount": [7]})\n\n@sx.dataset(partition=days, key="id")\ndef doubled',
        )
        p.core.project.load()
        running(p, "dev", stale=True)
        assert parts(p, "dev", "doubled") != good
        p.runs.undo(
            "dev", "dataset:orders", by=p.core.authorization.who(), reason="bad", downstream=False
        )
        report = running(p)
        assert parts(p, "dev", "doubled") == good
        assert (report.state, set(report.rejected)) == ("refused", {"dataset:other"})
