"""One business number in one zone: kept by one grain in partitions of another, asked by a third, and
judged by plain SQL over all rows at once, whose buckets Python's calendar made.

`bench/kpis.py` does many, `test_business_numbers.py` some.
"""

import math
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from sextant.kinds.kpi import measures
from sextant.kinds.kpi.spec import Measure
from sextant.kernel.partitions import Partitioning
from sextant.stores.lake import frames

# around these, clocks change: by an hour, by half an hour, at midnight, over the date line
ZONES = {
    "UTC": "2026-03-29T01:00",
    "America/New_York": "2026-11-01T06:00",
    "Europe/Berlin": "2026-03-29T01:00",
    "Asia/Kolkata": "2026-01-31T18:30",
    "Asia/Kathmandu": "2026-02-28T18:15",
    "Australia/Lord_Howe": "2026-04-04T15:00",
    "Australia/Adelaide": "2025-10-04T16:30",
    "Pacific/Chatham": "2026-04-04T14:00",
    "America/St_Johns": "2026-03-08T05:30",
    "Africa/Cairo": "2026-04-23T22:00",
    "Pacific/Apia": "2011-12-30T10:00",
    "America/Havana": "2026-11-01T05:00",
    "Asia/Beirut": "2026-03-28T22:00",
}
# what is measured, and whether it is a stock's way over time
MEASURES = (
    "count(*)",
    "sum(x)",
    "sum(x) / count(*)",
    "avg(x)",
    "count(*) filter (where x > 5) / count(*)",
    "sum(x) filter (where x > 8) / sum(y)",
    "min(x)",
    "max(x) - min(x)",
    "median(x)",
    "count(distinct x)",
)
IN_PARTITIONS = {"none": "", "hourly": "1h", "daily": "1d", "monthly": "1mo"}


class Difference(AssertionError):
    """The number is not what plain SQL says."""


def bucket_of(at: datetime, grain: str, zone: ZoneInfo, year_starts: int) -> Any:
    """Return what names the bucket of an instant, by Python's calendar; buckets sort by it."""
    local = at.astimezone(zone)
    if grain in ("5m", "15m"):
        minutes = int(grain[:-1])
        return at - timedelta(minutes=at.minute % minutes, seconds=at.second)
    if grain == "1h":
        # the earlier of two equal hours of the wall clock has the larger offset
        return (local.strftime("%Y-%m-%d %H"), -local.utcoffset().total_seconds())  # type: ignore[union-attr]
    day = local.date()
    if grain == "1d":
        return day
    if grain == "1w":
        return day - timedelta(days=day.weekday())
    if grain == "1mo":
        return day.replace(day=1)
    months = 3 if grain == "1q" else 12
    since = (day.year * 12 + day.month - 1 - (year_starts - 1)) // months * months + year_starts - 1
    return date(since // 12, since % 12 + 1, 1)


def plain(value: Any, grain: str, zone: ZoneInfo) -> Any:
    """Return the name of a bucket that an answer has."""
    if grain == "1h":
        return bucket_of(value, "1h", zone, 1)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def fit(rng: random.Random, slices: str) -> str:
    """Return a grain by which a KPI of a dataset in such partitions can be kept."""
    finest = IN_PARTITIONS[slices]
    return rng.choice(
        [
            g
            for g in measures.NESTS
            if g and (not finest or g == finest or finest in measures.NESTS[g])
        ]
    )


class Numbers:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seed = ""
        self.duck = duckdb.connect()
        self.duck.execute("SET threads = 1")

    def example(self, seed: str) -> None:
        """Make, keep and ask one number. Difference."""
        rng = random.Random(seed)
        self.seed = seed
        tz, near = rng.choice(list(ZONES.items()))
        zone, year_starts = ZoneInfo(tz), rng.choice([1, 1, 4, 7, 12])
        slices = rng.choice(list(IN_PARTITIONS))
        kept = fit(rng, slices)
        asked = rng.choice(["", kept, *measures.NESTS[kept]])
        over_time = rng.choice(["", "", *measures.OVER_TIME])
        by = rng.choice([(), ("d",)])
        measure = Measure(
            of="dataset:t",
            sql=rng.choice(MEASURES),
            grain=kept,
            by=("d",),
            time="at",
            year_starts=year_starts,
            over_time=over_time,
        )
        self.counts["examples"] += 1
        self.counts[f"zone {tz}"] += 1
        self.counts[f"{kept} asked by {asked or 'nothing'}"] += 1
        self.counts[f"over time {over_time or 'added up'}"] += 1
        rows = self._rows(rng, datetime.fromisoformat(near).replace(tzinfo=UTC))
        values = self._values(measure, rows, slices, tz)
        found = self._found(measure, rows, values, by, asked, tz)
        expected = self._expected(measure, rows, by, asked, zone)
        if found.keys() != expected.keys() or any(
            not _same(found[key], expected[key]) for key in expected
        ):
            raise Difference(
                f"{seed}: {measure.sql} over {over_time!r} in {tz}, {slices}, kept by {kept}, asked by "
                f"{asked!r} {by}: {found} and not {expected}"
            )

    def _rows(self, rng: random.Random, near: datetime) -> list[tuple[datetime, str, int, int]]:
        spread = rng.choice([3, 40, 900, 20_000])  # hours: a clock change, days, months, years
        out = []
        for _ in range(rng.randint(1, 14)):
            away = timedelta(seconds=rng.randrange(-spread * 3600, spread * 3600))
            at = near + away
            if rng.random() < 0.3:  # on a boundary
                at = at.replace(minute=rng.choice([0, 15, 30, 45]), second=0)
            out.append((at, rng.choice("ab"), rng.randrange(12), rng.choice([0, 0, 1, 3])))
        return out

    def _values(self, measure: Measure, rows: Any, slices: str, tz: str) -> pa.Table:
        """Return the stored values, made partition by partition, as a worker makes them."""
        table = pa.table({
            "at": pa.array([row[0] for row in rows], pa.timestamp("us", "UTC")),
            "d": [row[1] for row in rows],
            "x": [row[2] for row in rows],
            "y": [row[3] for row in rows],
        })  # fmt: skip
        table = frames.canonical(table)
        partitioning = Partitioning(
            grain=slices,
            start="" if slices == "none" else "1990-01-01",
            tz=tz,  # type: ignore[arg-type]
        )
        parts = frames.split(table, "at", partitioning)
        self.duck.execute(f"SET TimeZone = '{tz}'")
        made = []
        for key, some in parts:
            self.duck.register("t", some)
            query = measures.values_sql(measure, table="t", tz=tz)
            values = self.duck.sql(query).to_arrow_table()
            if slices != "none":
                slice_ = partitioning.partition(key)
                for bucket in values["bucket"].to_pylist():
                    self._inside(bucket, slice_, key)
            made.append(values)
        return pa.concat_tables(made, promote_options="permissive")

    def _inside(self, bucket: Any, slice_: Any, key: str) -> None:
        """A bucket that begins outside of its partition is another partition's, or is there
        twice."""
        if isinstance(bucket, datetime):
            at = bucket.astimezone(UTC)  # those of one zone would be compared by the wall clock
            if not slice_.start.astimezone(UTC) <= at < slice_.end.astimezone(UTC):
                raise Difference(f"{self.seed}: bucket {bucket} is kept in partition {key}")
        elif (
            not slice_.start.date()
            <= bucket
            < max(slice_.end.date(), slice_.start.date() + timedelta(days=1))
        ):
            raise Difference(f"{self.seed}: bucket {bucket} is kept in partition {key}")

    def _found(
        self, measure: Measure, rows: Any, values: pa.Table, by: Any, asked: str, tz: str
    ) -> dict[Any, Any]:
        of = values
        if measures.needs_rows(measure):
            of = pa.table({
                "at": pa.array([row[0] for row in rows], pa.timestamp("us", "UTC")),
                "d": [row[1] for row in rows],
                "x": [row[2] for row in rows],
                "y": [row[3] for row in rows],
            })  # fmt: skip
        self.duck.register("v", of)
        query = measures.rollup_sql(measure, table="v", by=by, grain=asked, tz=tz)
        table = frames.finite(self.duck.sql(query).to_arrow_table(), "value")
        out = {}
        for row in table.to_pylist():
            key = (
                plain(row["bucket"], asked, ZoneInfo(tz)) if asked else None,
                row.get("d") if by else None,
            )
            if key in out:
                raise Difference(f"{key} is answered twice")
            out[key] = row["value"]
        return out

    def _expected(
        self, measure: Measure, rows: Any, by: Any, asked: str, zone: ZoneInfo
    ) -> dict[Any, Any]:
        named = [
            (
                bucket_of(row[0], asked, zone, measure.year_starts) if asked else None,
                bucket_of(row[0], measure.grain, zone, measure.year_starts),
                row[1] if by else None,
                row,
            )
            for row in rows
        ]
        groups: dict[Any, list[Any]] = {}
        for period, bucket, d, row in named:
            kept = bucket if measure.over_time else None
            groups.setdefault((period, d, kept), []).append(row)
        measured = self._measured(measure, groups)
        if not measure.over_time:
            return {(period, d): value for (period, d, _), value in measured.items()}
        each: dict[Any, dict[Any, Any]] = {}
        for (period, d, bucket), value in measured.items():
            each.setdefault((period, d), {})[bucket] = value
        ends: dict[Any, list[Any]] = {}
        for period, bucket, _, _ in named:
            ends.setdefault(period, []).append(bucket)
        out = {}
        for (period, d), values in each.items():
            there = [value for value in values.values() if value is not None]
            if measure.over_time in ("last", "first"):
                end = (max if measure.over_time == "last" else min)(ends[period])
                if end in values:
                    out[period, d] = values[end]
            elif measure.over_time == "mean":
                out[period, d] = sum(there) / len(there) if there else None
            else:
                out[period, d] = (max if measure.over_time == "max" else min)(there, default=None)
        return out

    def _measured(self, measure: Measure, groups: dict[Any, list[Any]]) -> dict[Any, Any]:
        """Return the measure over the rows of each group, by plain SQL."""
        rows = [(n, *row[1:]) for n, some in enumerate(groups.values()) for row in some]
        columns = {name: [row[place] for row in rows] for place, name in enumerate("kdxy")}
        self.duck.register("plain", pa.table(columns))
        found = dict(self.duck.sql(f"SELECT k, {measure.sql} FROM plain GROUP BY k").fetchall())
        out = {}
        for n, key in enumerate(groups):
            value = found[n]
            # a ratio of nothing has no value
            out[key] = None if value is None or not math.isfinite(value) else float(value)
        return out


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return math.isclose(float(one), float(other), rel_tol=1e-9, abs_tol=1e-9)
