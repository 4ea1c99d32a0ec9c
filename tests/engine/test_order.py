"""The order in which a step sees its rows, and so what it makes of them, depends on their content
alone."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import testing
from sextant.kernel.errors import ProjectError

AT = datetime(2026, 1, 8, tzinfo=UTC)
PROJECT = """
import hashlib
import polars as pl, pyarrow.compute as pc, sextant as sx
sx.project("o")
days = sx.daily(start="2026-01-01")

@sx.dataset(partition=days, KEY)
def rows(day: sx.Partition) -> pl.DataFrame:
    n = int(day.key[-2:])
    made = pl.DataFrame({"b": [3, 1, 2], "a": [n * 0.1, n * 0.3, n * 0.7]})
    return made.reverse() if TURNED else made

@sx.dataset()
def seen(rows: pl.DataFrame) -> pl.DataFrame:
    a = rows["a"]
    sums = [a.cum_sum()[-1], a.sum(), a.mean(), pc.sum(a.to_arrow()).as_py(), a.to_pandas().sum()]
    return pl.DataFrame({"rows": [str(rows.rows())], "sums": [str(sums)]})

@sx.dataset(partition=days, inputs={"past": sx.window("rows", "3d")})
def window(past: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"rows": [str(past.rows())]})

sx.sql("total.sql")
"""
TOTAL = "-- partition: none\nselect sum(a) as s, string_agg(b::varchar, ',') as t from rows"


def project(**words: str) -> dict[str, str]:
    text = PROJECT
    for word, value in words.items():
        text = text.replace(word, value)
    return {"ops.py": text, "total.sql": TOTAL}


def run(p: Any, **more: Any) -> Any:
    report = p.runs.run("dev", testing.Request(**more), by=p.core.authorization.who())
    assert report.state == "finished", report
    return report


def versions(p: Any) -> dict[str, str]:
    return {
        name: p.core.versions.live_version("dev", f"dataset:{name}")
        for name in ("rows", "seen", "window", "total")
    }


@settings(max_examples=4, deadline=None)
@given(
    order=st.permutations([f"2026-01-0{day}" for day in range(1, 8)]),
    turned=st.booleans(),
    key=st.sampled_from(["", 'key="b"']),
)
def test_outputs_follow_content_not_files(order: list[str], turned: bool, key: str) -> None:
    """A backfill, a run a day, and a function that returns its rows in another order would each
    give another version of what reads them."""
    found = []
    with testing.platform(project(KEY=key, TURNED="False"), at=AT, executor="inline") as p:
        run(p)
        found.append(versions(p))
    with testing.platform(project(KEY=key, TURNED=str(turned)), at=AT, executor="inline") as p:
        for day in order:
            run(p, assets=("dataset:rows",), partitions=(day, day), downstream=False)
        run(p)
        found.append(versions(p))
        run(p, assets=("dataset:rows",), partitions=(min(order[:3]), max(order[:3])), force=True)
        found.append(versions(p))
    assert found[0] == found[1] == found[2]


WINDOW = """
import polars as pl, sextant as sx
sx.project("w")
@sx.dataset(partition=sx.daily(start="2026-01-01"))
def rows(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"n": [int(day.key[-2:])]})
@sx.dataset()
def whole() -> pl.DataFrame:
    return pl.DataFrame({"n": [1]})
@sx.dataset(inputs={"past": sx.window(SOURCE, "3d")}, PARTITION)
def last(past: pl.DataFrame) -> pl.DataFrame:
    return past
"""


def test_a_window_without_an_end_takes_the_newest_slice() -> None:
    """A table of the last three days would hold all days."""
    text = WINDOW.replace("SOURCE", '"rows"').replace("PARTITION", "")
    with testing.platform({"ops.py": text}, at=AT, executor="inline") as p:
        run(p)
        version = version_as_of(p.core, "dev", "dataset:last", "")
        assert views(p).frame(version)["n"].to_list() == [5, 6, 7]
        assert not p.runs.plan("dev", testing.Request()).steps


@pytest.mark.parametrize("partition", ["", 'partition=sx.daily(start="2026-01-01")'])
def test_a_window_over_what_has_no_slices_is_a_mistake(partition: str) -> None:
    """It would read everything, without a word."""
    text = WINDOW.replace("SOURCE", '"whole"').replace("PARTITION", partition)
    with (
        pytest.raises(ProjectError, match="last 3d of `whole`, which is not sliced by time"),
        testing.platform({"ops.py": text}, at=AT, executor="inline") as p,
    ):
        p.core.project.manifest()


FLOATS = """
import sextant as sx, polars as pl
sx.project("f")
sx.sql("sums.sql")
@sx.dataset()
def groups() -> pl.DataFrame:
    n = pl.int_range(0, 700_000, eager=True)
    rows = pl.DataFrame({"g": n % 3, "x": (n * 7919 % 1000003) / 977.0})
    return rows.group_by("g").agg(pl.col("x").sum(), m=pl.col("x").mean())
"""
SUMS = """-- partition: none
select n % 3 as g, sum((n * 7919 % 1000003) / 977.0e0) as s, avg((n * 31 % 10007) / 7.0e0) as a
from range(1000000) r(n) group by 1
"""


def test_sums_of_floats_come_out_as_they_were(tmp_path: Path) -> None:
    """`It came out as it was` would be true of no sum that several threads add up."""
    files = {"ops.py": textwrap.dedent(FLOATS), "sums.sql": SUMS}
    toml = 'module = "ops"\nworkers = 1\n'
    with testing.platform(files, at=AT, executor="pool", toml=toml) as p:
        found = set()
        for _ in range(3):
            run(p, force=True, assets=("dataset:sums", "dataset:groups"))
            found.add(
                tuple(
                    p.core.versions.live_version("dev", f"dataset:{n}") for n in ("sums", "groups")
                )
            )
        assert len(found) == 1
