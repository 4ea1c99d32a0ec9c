"""What was undone in one environment and comes into another is said, and policies see it."""

from sextant.app.operations import Operations
from sextant.app import environments
import pytest
from orders_project import parts

from sextant.engine.plan import Request

BODY = """
AMOUNT = 1

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [AMOUNT]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)
"""
POLICY = """
reviewers = sx.team("reviewers", members=["bob"])
sx.policy("what was undone is looked at", when="context.withdrawn_elsewhere && verb == 'release'",
          then=sx.approval(1, of=reviewers))
"""


@pytest.fixture
def undone(shop, running):
    """A project whose bad version was undone in dev, and is declared still."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        running(p, "prod")
        shop.edit("AMOUNT = 1", "AMOUNT = 9")
        p.core.project.load()
        running(p, "dev", stale=True)
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="bad")
    return shop


def test_a_run_says_that_it_brings_what_was_undone_elsewhere(undone, running) -> None:
    """A version that was withdrawn in one environment would go live in another without a word."""
    with undone.open() as p:
        report = running(p, "prod", stale=True)
        assert report.withdrawn_in == {"dataset:orders": ("dev",)}
        assert p.runs.releases.get(report.release).withdrawn_in["dataset:orders"] == ("dev",)
        from sextant.cli.work import report_lines

        assert any("was undone in dev" in line for line in report_lines(report))
        p.runs.undo("prod", "dataset:orders", by=p.core.authorization.who(), reason="bad here too")
        environments.create(p.core, "pr", "dev")
        assert running(p, "pr", stale=True).id == "", "an environment falls through to what is held"


def test_a_single_partition_is_recognised_in_another_version(undone, running) -> None:
    """With other partitions around it the version is another one; the bad rows are the same."""
    with undone.open() as p:
        day = ("2026-01-02", "2026-01-02")
        report = running(p, "prod", "dataset:orders", partitions=day)
        assert report.withdrawn_in["dataset:orders"] == ("dev",)
        assert len(parts(p, "prod", "orders")) == 4


def test_a_plan_says_it_before(shop, running) -> None:
    """One would learn it when it is live."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        running(p, "prod")
        shop.edit('pl.col("amount") * 2', 'pl.col("amount") * 3')
        p.core.project.load()
        running(p, "dev", stale=True)
        p.runs.undo("dev", "dataset:doubled", by=p.core.authorization.who(), reason="bad")
        found = Operations(p).plan(stale=True, env="prod")
        assert [text for text in found.warnings if "undone in dev" in text] == [
            "dataset:doubled: 4 partitions (2026-01-01 .. 2026-01-04) would be made of what was "
            "undone in dev"
        ]


def test_a_policy_can_ask_for_eyes(undone, running) -> None:
    """A rule about withdrawn versions could not be written."""
    undone.edit("AMOUNT = 9", "AMOUNT = 9\n" + POLICY)
    with undone.open() as p:
        report = running(p, "prod", stale=True)
        assert report.waiting
        assert p.runs.releases.get(report.release).state == "waiting"
    undone.edit("AMOUNT = 9", "AMOUNT = 8")
    with undone.open() as p:
        assert not running(p, "prod", stale=True).waiting
