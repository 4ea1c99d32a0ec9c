"""A day without values in a column, wherever it falls and however the days are made."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
from datetime import UTC, datetime
from typing import Any

import pytest

from sextant import testing

AT = datetime(2026, 1, 5, tzinfo=UTC)
PROJECT = """
import pandas as pd, polars as pl, sextant as sx
from datetime import timedelta
sx.project("v")
days = sx.daily(start="2026-01-01")

def rows(day):
    at = [day.start + timedelta(hours=1)]
    empty = day.key in EMPTY
    if KIND == "nulls":
        return pl.DataFrame({"at": at, "c": [None if empty else "x"]})
    if KIND == "lists":
        return pl.DataFrame({"at": at, "c": [[] if empty else [{"a": None}, {"a": 1}]]})
    if KIND == "pandas":
        return pd.DataFrame({"at": pd.Series(at), "c": pd.Series([None if empty else "x"], dtype=object)})
    return pl.DataFrame() if empty else pl.DataFrame({"at": at, "c": ["x"]})

@sx.dataset(partition=days, SETTINGS)
def made(day: sx.Partition) -> pl.DataFrame:
    if WHOLE:
        spans, start = [], day.start
        while start < day.end:
            key = start.date().isoformat()
            spans.append(rows(sx.Partition(key, start, start + timedelta(days=1))))
            start += timedelta(days=1)
        full = [one for one in spans if len(one.columns)]
        if KIND == "pandas":
            return pd.concat(full)
        return pl.concat(full, how="vertical_relaxed") if full else pl.DataFrame()
    return rows(day)

@sx.dataset(partition=days, inputs={"past": sx.window("made", "2d")})
def window(past: pl.DataFrame) -> pl.DataFrame:
    return past.select(n=pl.len(), values=pl.col("c").count())
"""


def run(p: Any, *days: str) -> None:
    more = {"partitions": (days[0], days[-1])} if days else {}
    report = p.runs.run("dev", testing.Request(**more), by=p.core.authorization.who())
    assert report.state == "finished", report.failed


@pytest.mark.parametrize("kind", ["nulls", "lists", "pandas", "no rows"])
@pytest.mark.parametrize("settings", ["", 'time="at"', 'time="at", whole_range=True'])
@pytest.mark.parametrize("how", ["one step", "first day later", "empty day later", "declared"])
def test_a_day_without_values_has_the_tables_type(kind: str, settings: str, how: str) -> None:
    """A backfill would fail at its first day, or a daily run at the day that has nothing."""
    whole = "whole_range" in settings
    if how == "declared":
        type_ = "list<struct<a: int64>>" if kind == "lists" else "string"
        settings += f'{", " if settings else ""}columns={{"at": "timestamptz", "c": "{type_}"}}'
    empty = {"empty day later": ["2026-01-04"]}.get(how, ["2026-01-01"])
    text = PROJECT.replace("SETTINGS", settings).replace("WHOLE", str(whole))
    text = text.replace("KIND", repr(kind)).replace("EMPTY", repr(empty))
    with testing.platform({"ops.py": text}, at=AT, executor="inline") as p:
        if how == "first day later":
            run(p, "2026-01-02", "2026-01-04")
            run(p, "2026-01-01")
        elif how == "declared":
            run(p, "2026-01-01")
        elif how == "empty day later":
            run(p, "2026-01-01", "2026-01-03")
        run(p)
        frame = views(p).frame(version_as_of(p.core, "dev", "dataset:made", ""))
        assert frame["c"].count() == 3 + (kind == "lists")
        windows = views(p).frame(version_as_of(p.core, "dev", "dataset:window", ""))
        assert windows["values"].sum() >= 5
