"""A business number over a part of time: beside the time before, split, thinned, with the states of
its points. The oracle is arithmetic on the rows that the project makes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from sextant import testing
from sextant.app.operations import Operations
from sextant.kernel.errors import UsageError
from sextant.kinds.kpi.series import thinned

AT = datetime(2026, 3, 31, 12, tzinfo=UTC)
PROJECT = """
from datetime import UTC, datetime
import polars as pl, sextant as sx
sx.project("shop", tz="America/New_York")
days = sx.daily(start="2026-01-01", end="2026-03-31")

def rows_of(day):
    n = day.toordinal() - 737791
    return [(day, "ok" if k % 3 else "late", shop, n % 7 + k) for shop in ("a", "b", "c") for k in range(n % 3 + (3 if shop == "a" else 1))]

@sx.dataset(partition=days, time="day")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame(rows_of(day.date), schema=["day", "state", "shop", "amount"], orient="row")

@sx.dataset(partition=sx.daily(start="2026-03-07", end="2026-03-10"), time="at")
def probes(day: sx.Partition) -> pl.DataFrame:
    first, end = (int(at.timestamp()) for at in (day.start, day.end))
    hours = [datetime.fromtimestamp(at, UTC) for at in range(first, end, 3600)]
    return pl.DataFrame({"at": hours, "n": list(range(len(hours)))})

sx.kpi("share", of=orders, measure="count(*) filter (where state = 'ok') / count(*)", by=["shop", "state"])
sx.kpi("revenue", of=orders, measure="sum(amount)", by=["shop"])
sx.kpi("middle", of=orders, measure="median(amount)", by=["shop"])
sx.kpi("shops", of=orders, measure="count(distinct shop)", over_time="mean")
sx.kpi("all_time", of=orders, measure="sum(amount)", grain="")
sx.kpi("seen", of=probes, measure="sum(n)", grain="1h")
"""
Row = tuple[date, str, str, int]
FIRST, END = date(2026, 1, 1), date(2026, 3, 31)


def made(since: date, until: date) -> list[Row]:
    space: dict[str, Any] = {}
    text = PROJECT.partition("def rows_of")[2].partition("@sx")[0]
    exec("def rows_of" + text, space)
    return [
        row
        for n in range((until - since).days)
        for row in space["rows_of"](since + timedelta(days=n))
    ]


def share(rows: list[Row]) -> float:
    return sum(row[1] == "ok" for row in rows) / len(rows)


@pytest.fixture(scope="module")
def p() -> Iterator[Operations]:
    with testing.platform({"ops.py": PROJECT}, at=AT, executor="inline") as platform:
        for days in (("2026-01-01", "2026-03-09"), ("2026-03-11", "2026-03-30")):
            request = testing.Request(partitions=days)
            platform.runs.run("dev", request, by=platform.core.authorization.who())
        yield Operations(platform)


FEB, MAR = date(2026, 2, 1), date(2026, 3, 1)
RANGE = {"since": "2026-02-01", "until": "2026-03-01"}


def test_a_range_is_half_open_and_a_ratio_is_of_its_rows(p: Operations) -> None:
    """If this fails, the last day of a span counts twice, or a month is the mean of its days."""
    found = p.kpi("share", **RANGE)
    assert found["rows"] == [{"value": pytest.approx(share(made(FEB, MAR)))}]
    assert found["total"] == pytest.approx(share(made(FEB, MAR)))
    by_day = p.kpi("share", grain="1d", **RANGE)["rows"]
    assert [row["bucket"] for row in by_day] == [
        (FEB + timedelta(days=n)).isoformat() for n in range(28)
    ]
    after = p.kpi("revenue", since="2026-03-01")
    assert (after["since"], after["until"]) == ("2026-03-01", "")
    assert p.kpi("share")["rows"][0]["value"] == pytest.approx(
        share([row for row in made(FIRST, END) if row[0] != date(2026, 3, 10)])
    )


def test_the_time_before_is_as_long_and_a_year_has_the_same_weekdays(p: Operations) -> None:
    """If this fails, a month is compared with a longer one, or a Monday with a Sunday."""
    found = p.kpi("revenue", compare="previous", **RANGE)
    before = found["compared"]
    assert (before["since"], before["until"]) == ("2026-01-04", "2026-02-01")
    assert before["total"] == sum(row[3] for row in made(date(2026, 1, 4), FEB))
    year = p.kpi("revenue", compare="year", **RANGE)["compared"]
    assert (year["since"], year["until"]) == ("2025-02-02", "2025-03-02")
    assert date.fromisoformat(year["since"]).weekday() == FEB.weekday()
    last = p.kpi("revenue", grain="1mo", last=1, compare="previous")
    assert (last["since"], last["until"]) == ("2026-03-01", "2026-04-01")
    assert (last["compared"]["since"], last["compared"]["until"]) == ("2026-02-01", "2026-03-01")
    assert last["compared"]["total"] == sum(row[3] for row in made(FEB, MAR))
    days = p.kpi("revenue", last=7)
    assert days["grain"] == "1d"
    assert len(p.kpi("all_time", last=7, points=50, compare="previous")["rows"]) == 1
    assert [row["bucket"] for row in days["rows"]][::6] == ["2026-03-24", "2026-03-30"]


def test_hours_over_a_clock_change(p: Operations) -> None:
    """If this fails, the day of 23 hours is compared with 24, or lies an hour beside itself."""
    found = p.kpi("seen", grain="1h", since="2026-03-08", until="2026-03-09", compare="previous")
    assert len(found["rows"]) == 23
    assert found["since"] == "2026-03-08T05:00:00+00:00"
    assert found["compared"]["since"] == "2026-03-07T06:00:00+00:00"
    whole = p.kpi("seen", grain="1d", last=1)
    assert (whole["since"], whole["until"]) == (
        "2026-03-09T04:00:00+00:00",
        "2026-03-10T04:00:00+00:00",
    )
    assert whole["total"] == sum(range(24))
    states = p.kpi("seen", grain="1d", last=3, states=True)["rows"]
    assert [(row["bucket"], row["state"]) for row in states] == [
        (f"2026-03-0{n}", "live") for n in (7, 8, 9)
    ]


def test_what_each_value_of_a_dimension_moved(p: Operations) -> None:
    """If this fails, the wrong shop is blamed for a number that fell."""
    found = p.kpi("share", by=["shop"], compare="previous", **RANGE)
    before, after = made(date(2026, 1, 4), FEB), made(FEB, MAR)
    alone = {
        shop: share([r for r in before if r[2] != shop] + [r for r in after if r[2] == shop])
        - share(before)
        for shop in "abc"
    }
    assert {row["shop"]: row["value"] for row in found["moved"]} == pytest.approx(alone)
    sizes = [abs(row["value"]) for row in found["moved"]]
    assert sizes == sorted(sizes, reverse=True)
    added = p.kpi("revenue", by=["shop"], compare="previous", **RANGE)
    total = added["total"] - added["compared"]["total"]
    assert sum(row["value"] for row in added["moved"]) == total, "sums add up"
    only = p.kpi("revenue", by=["shop"], compare="previous", where="shop <> 'a'", **RANGE)
    assert {row["shop"] for row in only["moved"]} == {"b", "c"}
    assert "moved" not in p.kpi("middle", by=["shop"], compare="previous", **RANGE)
    median = p.kpi("middle", **RANGE)["total"]
    assert median == sorted(r[3] for r in after)[len(after) // 2] or len(after) % 2 == 0


def test_a_long_series_keeps_its_extremes(p: Operations) -> None:
    """If this fails, a chart of many points does not show the one day that was bad."""
    whole = p.kpi("revenue", grain="1d")["rows"]
    thin = p.kpi("revenue", grain="1d", points=12)
    assert thin["thinned_from"] == len(whole) == 88
    assert len(thin["rows"]) <= 12
    values = [row["value"] for row in whole]
    kept = [row["value"] for row in thin["rows"]]
    assert (min(kept), max(kept)) == (min(values), max(values))
    assert all(row in whole for row in thin["rows"])
    assert (thin["rows"][0], thin["rows"][-1]) == (whole[0], whole[-1])
    few = p.kpi("revenue", grain="1d", points=88)
    assert few["rows"] == whole
    assert "thinned_from" not in few


@pytest.mark.parametrize("kind", ["float", "decimal", "text"])
@pytest.mark.parametrize("rows", [3, 12, 13, 100, 1001])
def test_thinning_keeps_each_cells_least_and_greatest(kind: str, rows: int) -> None:
    """If this fails, a spike between two neighbours is drawn as if it had not been."""
    numbers = [(n * 7919) % 1009 / 8 for n in range(rows)]
    numbers[1::5] = [float("nan")] * len(numbers[1::5])
    values: Any = {
        "float": pa.array(numbers),
        "decimal": pa.array(
            [None if n != n else Decimal(n) for n in numbers], pa.decimal128(12, 3)
        ),
        "text": pa.array([str(n) for n in numbers]),
    }[kind]
    found = thinned(pa.table({"bucket": range(rows), "value": values}), 12)
    at = found["bucket"].to_pylist()
    assert at == sorted(set(at))
    assert set(found["all_"].to_pylist()) == {rows}
    assert len(at) <= max(12, min(rows, 12))
    assert (at[0], at[-1]) == (0, rows - 1)
    if rows <= 12:
        assert at == list(range(rows))
        return
    for cell in range(5):
        inside = [n for n in range(rows) if n * 5 // rows == cell]
        assert set(at) & set(inside)
        if kind != "text":
            finite = [n for n in inside if numbers[n] == numbers[n]]
            least, most = min(finite, key=numbers.__getitem__), max(finite, key=numbers.__getitem__)
            assert {least, most} <= set(at)


def test_a_number_that_was_asked_for_before_is_right(p: Operations) -> None:
    """If this fails, what one reader was given is changed by the next, or outlives its version."""
    first = p.kpi("revenue", grain="1d", states=True)
    again = p.kpi("revenue", grain="1d", states=True)
    assert again == first
    again["rows"][0]["value"] = "mine"
    assert p.kpi("revenue", grain="1d", states=True) == first
    assert p.kpi("revenue", grain="1w")["rows"] != first["rows"]


def test_a_point_says_how_its_partitions_stand(p: Operations) -> None:
    """If this fails, a day that is missing is drawn as if it were there."""
    rows = {r["bucket"]: r for r in p.kpi("revenue", grain="1d", states=True)["rows"]}
    assert rows["2026-03-10"]["value"] is None
    assert rows["2026-03-10"]["state"] != "live"
    assert rows["2026-03-09"]["state"] == rows["2026-03-11"]["state"] == "live"
    assert len(rows) == 89
    months = {r["bucket"]: r for r in p.kpi("revenue", grain="1mo", states=True)["rows"]}
    assert [months[f"2026-0{n}-01"]["state"] == "live" for n in (1, 2, 3)] == [True, True, False]
    assert months["2026-03-01"]["value"] is not None
    inside = p.kpi("revenue", grain="1d", states=True, **RANGE)["rows"]
    assert {row["state"] for row in inside} == {"live"}
    assert len(inside) == 28


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"compare": "previous"}, "nothing to compare it with"),
        ({"compare": "lustrum", **RANGE}, "is nothing to compare with"),
        ({"last": 9000, "grain": "1y"}, "is no number of points"),
        ({"since": "0001-02-01", "until": "2026-01-01", "compare": "previous"}, "no time before"),
        ({"last": 3, "grain": "1d", **RANGE}, "no values over such a part of time"),
        ({"last": -1, "grain": "1d"}, "is no number of points"),
        ({"points": 50}, "cannot be thinned"),
        ({"points": 50, "grain": "1d", "by": ["shop"]}, "cannot be thinned"),
        ({"points": 1, "grain": "1d"}, "cannot be thinned"),
        ({"since": "yesterdy"}, "is no time"),
    ],
)
def test_what_cannot_be_asked_is_said(p: Operations, asked: dict[str, Any], says: str) -> None:
    """If this fails, a mistake in a question is answered with other numbers than were meant."""
    with pytest.raises(UsageError, match=says):
        p.kpi("revenue", **asked)
    with pytest.raises(UsageError, match="no values over such a part of time"):
        p.kpi("all_time", **RANGE)
