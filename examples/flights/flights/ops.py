"""An airline's operations, as one graph."""

import polars as pl

import sextant as sx

from .delays import (  # our own code is part of the fingerprint
    download,
    download_weather,
    is_late,
    read_airlines,
    read_airports,
    read_planes,
)

ops = sx.team("ops", members=["ann", "bob"])
data = sx.team("data")
sx.project("flights", tz="America/New_York", owner=ops, environments=["dev", "prod"])
days = sx.daily(start="2013-01-01", end="2014-01-01")  # days of the project's zone


# ---------------------------------------------------------------- what comes from outside


@sx.dataset(
    partition=days,
    key=["carrier", "flight", "time_hour", "origin"],
    time="time_hour",
    on=sx.cron("0 5 * * *"),
    lookback="3d",
    whole_range=True,
    owner=data,
    tier=1,
    checks=[
        sx.not_null("origin", "dest", "carrier"),
        sx.not_null(
            "dep_time", tolerate=0.1, severity="warn"
        ),  # cancelled flights have no times; a day with many is worth a look
        sx.between("dep_delay", -60, 1800),
        sx.accepted_values("origin", ["EWR", "JFK", "LGA"]),
        sx.foreign_key("carrier", to="airlines.carrier"),
        sx.foreign_key(
            "tailnum", to="planes.tailnum", tolerate=0.2, severity="warn"
        ),  # about 16 % are unknown, and stay so
        sx.foreign_key(
            "dest", to="airports.faa", tolerate=0.05, severity="warn"
        ),  # four airports of the Caribbean are missing
        sx.row_count(500),
    ],
)
def flights(day: sx.Partition) -> pl.DataFrame:
    """Every departure from New York. `key` is checked for uniqueness without being asked."""
    assert day.start is not None
    assert day.end is not None
    return download(day.start, day.end)


@sx.dataset(
    partition=days,
    key=["origin", "time_hour"],
    time="time_hour",
    on=sx.cron("0 5 * * *"),
    lookback="3d",
    whole_range=True,
    owner=data,
    checks=[
        sx.not_null("temp", "wind_speed", tolerate=0.02),
        sx.between("temp", -40, 120),
        sx.between("precip", 0, 5),
        sx.row_count(
            66, 75, severity="warn"
        ),  # three airports by the hour are 72; the change of clocks makes 69 and 75 of it
    ],
)
def weather(day: sx.Partition) -> pl.DataFrame:
    """Hourly weather at the three airports. Some hours were never measured, and the last day of the
    year is missing."""
    assert day.start is not None
    assert day.end is not None
    return download_weather(day.start, day.end)


@sx.dataset(key="tailnum", on=sx.cron("0 4 * * 1"), owner=data)
def planes() -> pl.DataFrame:
    """The planes that are known by tail number."""
    return read_planes()


@sx.dataset(
    key="carrier",
    on=sx.cron("0 4 * * 1"),
    owner=data,
    checks=[sx.not_null("name"), sx.matches("carrier", "[0-9A-Z]{2}")],
)
def airlines() -> pl.DataFrame:
    """The carriers' codes and names."""
    return read_airlines()


@sx.dataset(
    key="faa",
    on=sx.cron("0 4 * * 1"),
    owner=data,
    checks=[sx.between("lat", -90, 90), sx.between("lon", -180, 180)],
)
def airports() -> pl.DataFrame:
    """Where flights go."""
    return read_airports()


# ---------------------------------------------------------------- what is made of it


@sx.check(severity="warn")
def knows_the_weather(rows: pl.DataFrame) -> pl.DataFrame:
    """Nearly every departure finds weather of its hour or an earlier one; the rows without are
    shown."""
    unknown = rows.filter(pl.col("temp").is_null())
    return unknown if unknown.height > 0.05 * rows.height else unknown.clear()


@sx.dataset(
    partition=days,
    key=["carrier", "flight", "time_hour", "origin"],
    time="time_hour",
    owner=data,
    checks=[sx.not_null("late", "origin", "dest"), knows_the_weather],
)
def features(flights: pl.LazyFrame, weather: pl.LazyFrame) -> pl.LazyFrame:
    """What is known before a departure, with the weather as of the hour: an hour without weather
    takes the last one of the day."""
    known = flights.select(
        "time_hour",
        "origin",
        "carrier",
        "flight",
        "dest",
        "distance",
        "hour",
        late=is_late(pl.col("dep_delay")),
    )
    seen = weather.select("time_hour", "origin", "temp", "humid", "wind_speed", "precip", "visib")
    return known.sort("time_hour").join_asof(
        seen.sort("time_hour"), on="time_hour", by="origin", check_sortedness=False
    )


daily_delays = sx.sql(
    "sql/daily_delays.sql", owner=data
)  # analysts: inputs are read from the SQL, settings and checks from its header


# ---------------------------------------------------------------- what the company looks at

on_time_rate = sx.kpi(
    "on_time_rate",
    of=flights,
    measure="count(*) filter (where dep_delay < 15) / count(*)",
    grain="1d",
    by=["origin", "carrier"],
    goal=sx.goal(">= 0.75", over="28d"),
    description=(
        "Share of departures less than 15 minutes late. A cancelled flight is not on time, and "
        "one can read that here."
    ),
    owner=ops,
    tier=1,
    checks=[sx.between("value", 0, 1)],
)
cancellation_rate = sx.kpi(
    "cancellation_rate",
    of=flights,
    measure="count(*) filter (where dep_time is null) / count(*)",
    by=["origin", "carrier"],
    goal=sx.goal("<= 3 %", over="28d"),
    description="Share of departures that never left.",
    owner=ops,
    checks=[sx.between("value", 0, 1)],
)
mean_delay = sx.kpi(
    "mean_delay",
    of=flights,
    measure="avg(dep_delay)",
    by=["origin", "carrier"],
    unit="min",
    description=(
        "Mean delay of the flights that left. It hides the days on which few did: read it "
        "beside the cancellations."
    ),
    owner=ops,
)

sx.policy(
    "a second pair of eyes",
    when="verb == 'release' && asset.tier == 1 && env == 'prod'",
    then=sx.approval(1, of=ops),
)
