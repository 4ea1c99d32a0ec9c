"""Numbers of five trades, through the platform, beside plain SQL over all rows at once."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pytest

from sextant import testing
from sextant.kernel.errors import ProjectError, UsageError

AT = datetime(2026, 4, 12, tzinfo=UTC)
PROJECT = """
import random
from datetime import timedelta
import polars as pl, sextant as sx
sx.project("trades", tz="Australia/Lord_Howe", year_starts=7)
days = sx.daily(start="2026-03-20", end="2026-04-11")

def dice(day, what):
    return random.Random(f"{day.key} {what}")

@sx.dataset(partition=days, time="day")
def subscriptions(day: sx.Partition) -> pl.DataFrame:
    rng = dice(day, "mrr")
    rows = [(day.date, f"c{n}", rng.choice(["basic", "pro"]), rng.randrange(10, 90)) for n in range(rng.randint(3, 9))]
    return pl.DataFrame(rows, schema=["day", "customer", "plan", "price"], orient="row")

@sx.dataset(partition=days, time="at")
def probes(day: sx.Partition) -> pl.DataFrame:
    rng, at, rows = dice(day, "up"), day.start, []
    while at.timestamp() < day.end.timestamp():
        rows.append((at, rng.choice(["eu", "us"]), rng.random() < 0.9))
        at = (at.astimezone(sx_utc) + timedelta(minutes=10)).astimezone(day.start.tzinfo)
    return pl.DataFrame(rows, schema=["at", "region", "up"], orient="row").with_columns(
        pl.col("at").dt.convert_time_zone("UTC"))

@sx.dataset(partition=days, time="at")
def orders(day: sx.Partition) -> pl.DataFrame:
    rng = dice(day, "orders")
    rows = [(day.start + timedelta(minutes=n), rng.choice(["EUR", "USD", "JPY"]), rng.randrange(1, 500),
             rng.random() < 0.2, rng.random() < 0.5) for n in range(rng.randint(0, 12))]
    return pl.DataFrame(rows, schema={"at": pl.Datetime("us", "Australia/Lord_Howe"), "currency": pl.String,
        "amount": pl.Int64, "returned": pl.Boolean, "visited_twice": pl.Boolean}, orient="row")

sx.kpi("mrr", of=subscriptions, measure="sum(price)", by=["plan"], unit="EUR", format=",.0f", over_time="last",
       goal=sx.goal(">= 1", over="7d"))
sx.kpi("customers", of=subscriptions, measure="count(distinct customer)", by=["plan"], over_time="mean")
sx.kpi("churned", of=subscriptions, measure="count(*) filter (where price < 20) / count(*)", by=["plan"],
       goal=sx.goal("<= 5 %", over="7d"))
sx.kpi("peak", of=subscriptions, measure="sum(price)", by=["plan"], over_time="max")
sx.kpi("uptime", of=probes, measure="avg(up::int)", grain="1h", by=["region"])
sx.kpi("uptime_of_days", of=probes, measure="count(*) filter (where up) / count(*)", by=["region"])
sx.kpi("return_rate", of=orders, measure="sum(amount) filter (where returned) / sum(amount)", by=["currency"])
sx.kpi("all_orders", of=orders, measure="median(amount) + count(*)", grain="", goal=sx.goal("> 1", over="7d"))
sx.kpi("all_amounts", of=orders, measure="sum(amount)", grain="", by=["currency"])
sx.kpi("conversion", of=orders, measure="count(*) filter (where visited_twice) / count(*)", by=["currency"])
""".replace("sx_utc", "__import__('datetime').UTC")


@pytest.fixture(scope="module")
def p() -> Iterator[Any]:
    with testing.platform({"ops.py": PROJECT}, at=AT, executor="inline") as platform:
        report = platform.runs.run("dev", testing.Request(), by=platform.core.authorization.who())
        assert report.state == "finished", report.failed
        yield platform


def rows_of(p: Any, name: str) -> Any:
    return views(p).frame(version_as_of(p.core, "dev", f"dataset:{name}", "")).to_arrow()


def plain(p: Any, of: str, query: str) -> list[tuple[Any, ...]]:
    """Return what plain SQL says over all rows, in the project's zone."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Australia/Lord_Howe'")
        connection.register("t", rows_of(p, of))
        return connection.sql(query).fetchall()


def asked(p: Any, name: str, **more: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in views(p).kpi("dev", name, **more)["rows"]]


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    def comparable(rows: list[tuple[Any, ...]]) -> list[Any]:
        return sorted(tuple(str(v)[:10] if isinstance(v, date) else v for v in row) for row in rows)

    one, other = comparable(found), comparable(expected)
    assert [row[:-1] for row in one] == [row[:-1] for row in other]
    assert [row[-1] for row in one] == pytest.approx([row[-1] for row in other])


def test_recurring_revenue_is_that_of_the_last_day(p: Any) -> None:
    """Revenue a month of 23 days would be added up to 23 times what it is."""
    same(
        asked(p, "mrr"),
        plain(p, "subscriptions", "select sum(price) from t where day = (select max(day) from t)"),
    )
    by_month = (
        "with d as (select date_trunc('month', day)::date m, plan, day, sum(price) v from t group by all) "
        "select m, plan, v from d where day = (select max(day) from d e where e.m = d.m)"
    )
    same(asked(p, "mrr", by=["plan"], grain="1mo"), plain(p, "subscriptions", by_month))
    total = sum(row[1] for row in asked(p, "mrr", by=["plan"]))
    assert total == asked(p, "mrr")[0][0]


def test_other_ways_over_time(p: Any) -> None:
    """A mean of customers would count each of them once for every day."""
    each = "select day, count(distinct customer) v from t group by 1"
    same(asked(p, "customers"), plain(p, "subscriptions", f"select avg(v) from ({each})"))
    peak = (
        "select plan, max(v) from (select day, plan, sum(price) v from t group by all) group by 1"
    )
    same(asked(p, "peak", by=["plan"]), plain(p, "subscriptions", peak))


def test_rates_and_shares(p: Any) -> None:
    """A share of a month would be the mean of its days' shares."""
    for name, of, column, share in (
        ("churned", "subscriptions", "plan", "count(*) filter (where price < 20) / count(*)"),
        ("return_rate", "orders", "currency", "sum(amount) filter (where returned) / sum(amount)"),
        ("conversion", "orders", "currency", "count(*) filter (where visited_twice) / count(*)"),
    ):
        same(
            asked(p, name, by=[column]), plain(p, of, f"select {column}, {share} from t group by 1")
        )
        same(asked(p, name), plain(p, of, f"select {share} from t"))


def test_a_number_without_a_grain(p: Any) -> None:
    """One value in all would need a column of instants."""
    same(asked(p, "all_orders"), plain(p, "orders", "select median(amount) + count(*) from t"))
    by_currency = "select currency, sum(amount) from t group by 1"
    same(asked(p, "all_amounts", by=["currency"]), plain(p, "orders", by_currency))
    assert views(p).kpi("dev", "all_orders")["goal_met"] is True


def test_uptime_of_hours_and_days_over_a_clock_change(p: Any) -> None:
    """The hour that lasts half an hour would lie in two days, or be lost."""
    local = "timezone('Australia/Lord_Howe', \"at\")"
    by_day = f"select {local}::date d, avg(up::int) from t group by 1"
    same(asked(p, "uptime", grain="1d"), plain(p, "probes", by_day))
    same(asked(p, "uptime_of_days", grain="1d"), plain(p, "probes", by_day))
    # an hour of the wall clock, told apart by its offset
    by_hour = (
        f"select date_trunc('hour', {local}) h, {local} - timezone('UTC', \"at\") o, avg(up::int) v from t "
        "group by 1, 2"
    )
    hours = plain(p, "probes", f"select v from ({by_hour})")
    assert sorted(row[1] for row in asked(p, "uptime", grain="1h")) == pytest.approx(
        sorted(row[0] for row in hours)
    )
    assert len(plain(p, "probes", f"select 1 from ({by_hour}) where h = '2026-04-05 01:00'")) == 2


def test_quarters_and_years_begin_with_the_financial_year(p: Any) -> None:
    """A financial year that begins in July would be reported by calendar years."""
    (only,) = asked(p, "conversion", grain="1y")
    assert only[0] == date(2025, 7, 1)
    quarters = [row[0] for row in asked(p, "conversion", grain="1q")]
    assert quarters == [date(2026, 1, 1), date(2026, 4, 1)]


def test_a_goal_says_whether_it_is_met_over_its_own_window(p: Any) -> None:
    """A target would stand beside the number of all time, and nobody know which of them holds."""
    found = views(p).kpi("dev", "churned", by=["plan"], grain="1mo")
    window = "where day > (select max(day) from t) - interval 7 day"
    share = "select count(*) filter (where price < 20) / count(*) from t"
    assert found["goal_value"] == pytest.approx(
        plain(p, "subscriptions", f"{share} {window}")[0][0]
    )
    assert found["goal_met"] == (found["goal_value"] <= 0.05)
    found = views(p).kpi("dev", "mrr")
    assert (found["goal_met"], found["unit"], found["goal_value"]) == (
        True,
        "EUR",
        asked(p, "mrr")[0][0],
    )
    assert views(p).kpi("dev", "peak")["goal_met"] is None


WRONG = """
import polars as pl, sextant as sx
sx.project("w")
@sx.dataset(partition=sx.monthly(start="2026-01"), time="day")
def months(month: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"day": [month.date], "n": [1]})
@sx.dataset(time="day")
def whole() -> pl.DataFrame:
    from datetime import date
    return pl.DataFrame({"day": [date(2026, 1, 31), date(2026, 2, 1)], "n": [1, 2]})
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('sx.kpi("k", of=months, measure="sum(n)", grain="1w")', "1w of `k` would lie in several"),
        ('sx.kpi("k", of=months, measure="sum(n)", grain="1q")', "1q of `k` would lie in several"),
        ('sx.kpi("k", of=months, measure="sum(n)", grain="2h")', "`2h` is not a value of `grain`"),
        (
            'sx.kpi("k", of=months, measure="sum(n)", grain=None)',
            "`None` is not a value of `grain`",
        ),
        ('sx.kpi("k", of=months, measure="sum(n)", over_time="sum")', "not a value of `over_time`"),
        ('sx.kpi("k", of=whole, measure="sum(n)", grain="", over_time="last")', "has no grain"),
        ('sx.kpi("k", of=whole, measure="sum(n)", format="%d")', "not a value of `format`"),
    ],
)
def test_a_number_that_cannot_be_is_refused_when_the_project_is_loaded(
    line: str, said: str
) -> None:
    """A week would be kept twice, or the loader end with a KeyError."""
    with (
        pytest.raises(ProjectError, match=said),
        testing.platform({"ops.py": WRONG + line}, at=AT, executor="inline") as p,
    ):
        p.core.project.manifest()


def test_weeks_are_not_asked_by_month() -> None:
    """The week of 26 January would count for January as a whole."""
    text = WRONG + 'sx.kpi("k", of=whole, measure="sum(n)", grain="1w")'
    with testing.platform({"ops.py": text}, at=AT, executor="inline") as p:
        assert (
            p.runs.run("dev", testing.Request(), by=p.core.authorization.who()).state == "finished"
        )
        with pytest.raises(UsageError, match="no values by `1mo`") as error:
            views(p).kpi("dev", "k", grain="1mo")
        assert "a week lies in two months" in error.value.hint
        assert asked(p, "k", grain="1w") == [(date(2026, 1, 26), 3)]
