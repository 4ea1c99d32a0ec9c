"""What a release is expected to do to a number, and what it did: derived without it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sextant.app.operations import Operations
from sextant.app.promises import outcome_of
from sextant.kernel.clock import NS, ManualClock, from_datetime
from sextant.kernel.errors import SextantError
from sextant.kernel.nouns import Principal

from shop_project import HEAD, Shop, run

DAY_NS = 86_400 * NS
CODE = """
    @sx.dataset(partition=days, time="at", on=sx.cron("0 5 * * *"), owner=ops)
    def sales(day: sx.Partition) -> pl.DataFrame:
        # more every day, whatever is released
        return pl.DataFrame([dict(at=day.start, n=100 + day.start.day)],
            schema=dict(at=pl.Datetime("us", "UTC"), n=pl.Int64))

    @sx.dataset(partition=days, time="at", owner=ops)
    def offers(sales: pl.DataFrame) -> pl.DataFrame:
        return sales.with_columns(n=pl.col("n") * 1)

    revenue = sx.kpi("revenue", of=offers, measure="sum(n)", grain="1d")
    all_time = sx.kpi("all_time", of=offers, measure="sum(n)", grain="")
"""


class Company:
    """A company on the tenth of January whose numbers grow by themselves."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.clock = ManualClock(from_datetime(datetime(2026, 1, 10, 6, tzinfo=UTC)))
        shop.write(CODE, head=HEAD.replace("2026-01-05", "2026-02-01"))
        self.p = shop.open(clock=self.clock)
        self.every = Operations(self.p)
        run(self.p)

    def doubled(self) -> str:
        """Release code that doubles the number; return its release."""
        self.shop.edit("* 1)", "* 2)")
        self.p.core.project.load()
        report = run(self.p, stale=True)
        assert report.state == "finished", report
        return report.release

    def pass_days(self, count: int) -> None:
        for _ in range(count):
            self.clock.wait(86_400)
            assert run(self.p).state == "finished"

    def settled(self, *promises: str) -> list[Any]:
        release = self.doubled()
        self.every.promise(release, list(promises))
        self.pass_days(3)
        return self.every.settle_promises()


@pytest.fixture
def company(shop: Shop) -> Iterator[Company]:
    made = Company(shop)
    yield made
    made.p.close()


def test_what_a_release_brought_is_told_from_what_moved_anyway(company: Company) -> None:
    """The number has grown since the release, and all of it would be counted as its doing."""
    (seen,) = company.settled("kpi:revenue +100% in 3d")
    assert (seen["outcome"], seen["realised"], seen["sure"]) == ("kept", "+100%", "proven")
    assert Decimal(seen["without"]) == 110 + 111 + 112
    assert not company.every.signals(kind="promise.missed").items
    assert company.every.settle_promises() == [], "once"


def test_a_promise_that_is_missed_is_a_signal(company: Company) -> None:
    """Nobody would hear of what was promised and did not come."""
    release = company.doubled()
    company.every.promise(release, ["revenue +150% in 3d"])
    company.pass_days(2)
    assert company.every.settle_promises() == [], "its time is not over"
    assert company.every.promises()["promises"][0]["outcome"] == "open"
    company.pass_days(1)
    (seen,) = company.every.settle_promises()
    assert (seen["outcome"], seen["realised"]) == ("short", "+100%")
    (signal,) = company.every.signals(kind="promise.missed").items
    assert "it brought +100%" in signal["message"]
    found = company.every.promises(team="ops")
    assert found["promises"] == [seen]
    assert found["teams"] == [
        {"team": "ops", "open": 0, "kept": 0, "short": 1, "missed": 0, "other": 0}
    ]
    assert company.every.promises(team="others")["promises"] == []


def test_an_absolute_promise_and_one_of_a_release_that_was_undone(company: Company) -> None:
    """A percentage would be taken of it, or an undone release be blamed."""
    (seen,) = company.settled("kpi:revenue +333 in 3d")
    assert (seen["outcome"], seen["promised"], seen["realised"]) == ("kept", "+333", "+333")
    p = company.p
    again = company.every.promises()["promises"]
    assert again == [seen]
    company.shop.edit("* 2)", "* 5)")
    p.core.project.load()
    release = run(p, stale=True).release
    company.every.promise(release, ["kpi:revenue +1% in 1d"])
    p.runs.undo("dev", "dataset:offers", by=p.core.authorization.who(), reason="it was wrong")
    company.clock.wait(86_400)
    (undone,) = company.every.settle_promises()
    assert undone["outcome"] == "taken back"


def test_what_cannot_be_promised(company: Company) -> None:
    """It would be found out in four weeks that nobody knows what was meant."""
    release = company.doubled()
    every = company.every
    for code, text in (
        ("SX-PROMISE-001", "revenue will grow"),
        ("SX-PROMISE-001", "kpi:revenue 3% in 28d"),
        ("SX-PROMISE-001", "kpi:revenue +3% in 28 days"),
        ("SX-PROMISE-002", "dataset:offers +3% in 28d"),
        ("SX-PROMISE-003", "all_time +3% in 28d"),
        ("SX-PROMISE-004", "revenue +0% in 28d"),
    ):
        with pytest.raises(SextantError) as refused:
            every.promise(release, [text])
        assert refused.value.code == code, text
    every.promise(release, ["revenue +3% in 28d"])
    with pytest.raises(SextantError) as refused:
        every.promise(release, ["revenue +4% in 28d"])
    assert refused.value.code == "SX-PROMISE-007"
    company.clock.wait(2 * 86_400)
    with pytest.raises(SextantError) as refused:
        every.promise(release, ["revenue +4% in 28d"])
    assert refused.value.code == "SX-PROMISE-005", "by now it can be seen"
    assert len(every.promises()["promises"]) == 1
    undo = company.p.runs.undo("dev", "dataset:offers", by=Principal(name="ann"), reason="wrong")
    with pytest.raises(SextantError) as refused:
        every.promise(undo.release, ["revenue +4% in 28d"])
    assert refused.value.code == "SX-PROMISE-006"


def test_a_release_with_a_promise(company: Company) -> None:
    """A promise that cannot be read would release something first."""
    p, every = company.p, company.every
    company.doubled()
    live = p.core.versions.live_version("dev", "dataset:offers")
    (first,) = {one["version"] for one in every.versions("offers").items} - {live}
    with pytest.raises(SextantError) as refused:
        every.release("offers", version=first, expects=["nonsense"])
    assert refused.value.code == "SX-PROMISE-001"
    assert p.core.versions.live_version("dev", "dataset:offers") == live
    done = every.release("offers", version=first, expects=["revenue -50% in 1d"])
    (seen,) = every.promises()["promises"]
    assert (seen["release"], seen["promised"]) == (done.id, "-50%")
    company.pass_days(1)
    (settled,) = every.settle_promises()
    # the next run has released the newer code again: that is not the doing of this one
    assert (settled["outcome"], settled["realised"]) == ("kept", "-50%")


@pytest.mark.parametrize(
    ("promised", "realised", "outcome"),
    [
        ("3", "3", "kept"),
        ("3", "2.9", "short"),
        ("3", "-3", "missed"),
        ("3", "0", "missed"),
        ("-3", "-4", "kept"),
        ("-3", "-1", "short"),
        ("-3", "1", "missed"),
    ],
)
def test_outcomes(promised: str, realised: str, outcome: str) -> None:
    """A fall that was promised counts as missed because it is less."""
    assert outcome_of(Decimal(promised), Decimal(realised)) == outcome
