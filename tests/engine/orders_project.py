"""The project that the tests of runs share: orders by day, and what is made of them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sextant.engine.leases import Leases, this_process

ORDERS = """
bad_days = ["2026-01-03"]

@sx.dataset(partition=days, key="id", checks=[sx.between("amount", 0, 100)])
def orders(day: sx.Partition) -> pl.DataFrame:
    high = 500.0 if day.key in bad_days else 1.0
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [high, 2.0, 3.0]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)
"""


def parts(p, env, name):
    return {
        key: part.digest
        for key, part in p.core.versions.parts(
            f"dataset:{name}", p.core.versions.live_version(env, f"dataset:{name}")
        ).items()
    }


OTHER = this_process()._replace(pid=1, since="1")


def expire(p, name: str) -> None:
    """Let a lease expire, as when its holder was not heard of for long."""
    with closing(sqlite3.connect(p.core.state.address)) as database, database:
        assert database.execute("UPDATE lease SET expires_at = 1 WHERE name = ?", (name,)).rowcount


@contextmanager
def takes_over(p, leases: Leases) -> Iterator[Leases]:
    """Hold a run's leases as another process does that takes this one for dead."""
    for name in leases._names:
        expire(p, name)
    run = leases._holder.partition(" ")[0]
    with Leases(p.core.state, run, leases._names[1:], process=OTHER) as taken:
        yield taken


def take_over(p, leases: Leases) -> None:
    with takes_over(p, leases):
        pass


TWO = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [ORDER]})

@sx.dataset(partition=days, key="id")
def stock(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "pieces": [STOCK]})
"""

CUT = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [1, 2, 3]})

@sx.dataset(partition=days, key="id")
def cleaned(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") + 0)

@sx.dataset(partition=days, key="id")
def shown(cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned

@sx.dataset(key="day")
def total(cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned.group_by(day=pl.col("id").str.head(10)).agg(pl.col("amount").sum()).sort("day")
"""
