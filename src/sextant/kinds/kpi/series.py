"""Parts of time of a business number: the span that is asked for and the one to compare it with, a
long series thinned, what each dimension's value has moved, and how each point stands."""

import bisect
import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import KPI_LAST_MAX, KPI_SEGMENTS_MAX
from sextant.kernel.partitions import Partitioning
from sextant.kinds.kpi.measures import OF_A_DAY
from sextant.kinds.kpi.spec import Measure

if TYPE_CHECKING:
    import pyarrow as pa

Compare = Literal["", "previous", "year"]
COMPARES = ("previous", "year")
_YEAR = timedelta(weeks=52)  # the same days of the week
_MINUTES = {"5m": 5, "15m": 15, "1h": 60}
_MONTHS = {"1mo": 1, "1q": 3, "1y": 12}
_NO_VALUE = ("missing", "failed", "refused", "held", "waiting", "due", "running")


class Span(NamedTuple):
    """From `since` until before `until`; None = open. Local times without a zone for buckets that
    are dates, aware ones for buckets that are instants: a bucket belongs to a span by its start."""

    since: datetime | None = None
    until: datetime | None = None

    def condition(self) -> str:
        """Return SQL over `bucket`; "" where all of it counts."""
        sides = ((">=", self.since), ("<", self.until))
        return " AND ".join(f"bucket {op} {_literal(at)}" for op, at in sides if at is not None)

    def texts(self) -> tuple[str, str]:
        """Return both sides as people write them; "" where it is open."""
        return _text(self.since), _text(self.until)

    def as_of_a_day(self, tz: str) -> "Span":
        zone = ZoneInfo(tz)
        return Span(
            *(
                at if at is None or at.tzinfo else at.replace(tzinfo=zone).astimezone(UTC)
                for at in self
            )
        )

    def as_of_days(self, tz: str) -> "Span":
        zone = ZoneInfo(tz)
        return Span(
            *(
                at if at is None or not at.tzinfo else at.astimezone(zone).replace(tzinfo=None)
                for at in self
            )
        )

    def has(self, at: datetime) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def span_of(measure: Measure, tz: str, since_ns: int | None, until_ns: int | None) -> Span:
    """Return the span between two instants, for the buckets that a measure is kept by."""
    zone = ZoneInfo(tz)

    def at(ns: int | None) -> datetime | None:
        if ns is None:
            return None
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
        if measure.grain in OF_A_DAY:
            return found
        return found.astimezone(zone).replace(tzinfo=None)

    return Span(at(since_ns), at(until_ns))


def period(measure: Measure, tz: str, text: str) -> Span:
    """Return a part of time by its name: a year, quarter, month, week, day or hour of the project's
    zone (`2013`, `2013-Q1`, `2013-02`, `2013-W06`, `2013-02-09`, `2013-02-09T05`), or two instants
    as ISO 8601 has intervals, the second not included (`2013-01-01/2013-03-31`). UsageError."""
    found = named_span(tz, text)
    return found.as_of_a_day(tz) if measure.grain in OF_A_DAY else found


def named_span(tz: str, text: str) -> Span:
    """Return a part of time by its name, as `period` reads it, in local times. UsageError."""
    try:
        since, until = _named(text, tz)
    except (ValueError, OverflowError):
        since = until = _start(date.min)
    if since >= until:
        raise UsageError(
            "SX-KPI-012",
            f"`{text[:60]}` is no part of time",
            hint="as in 2013, 2013-Q1, 2013-02, 2013-W06, 2013-02-09 or 2013-01-01/2013-03-31",
        )
    return Span(since, until)


def _named(text: str, tz: str) -> tuple[datetime, datetime]:
    """Return the first instant of a named part of time, and the first one behind it: local times
    without a zone."""
    start, slash, end = text.partition("/")
    if slash:
        zone = ZoneInfo(tz)
        found = [datetime.fromisoformat(one) for one in (start, end)]
        at = [one.astimezone(zone).replace(tzinfo=None) if one.tzinfo else one for one in found]
        return at[0], at[1]
    if re.fullmatch(r"\d{4}", text):
        first = _start(date(int(text), 1, 1))
        return first, _step("1y", first, 1, tz)
    if quarter := re.fullmatch(r"(\d{4})-Q([1-4])", text):
        first = _start(date(int(quarter[1]), int(quarter[2]) * 3 - 2, 1))
        return first, _step("1q", first, 1, tz)
    if week := re.fullmatch(r"(\d{4})-W(\d{2})", text):
        monday = _start(date.fromisocalendar(int(week[1]), int(week[2]), 1))
        return monday, monday + timedelta(days=7)
    if re.fullmatch(r"\d{4}-\d{2}", text):
        first = datetime.fromisoformat(f"{text}-01")
        return first, _step("1mo", first, 1, tz)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        day = datetime.fromisoformat(text)
        return day, day + timedelta(days=1)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}", text):
        hour = datetime.fromisoformat(f"{text}:00")
        return hour, hour + timedelta(hours=1)
    raise ValueError(text)


def newest_period(measure: Measure, slices: Partitioning, key: str, tz: str) -> Span:
    """Return the part of time of the newest partition of a number's values."""
    slice_ = slices.partition(key)
    if slice_.start is None or slice_.end is None:
        return Span()
    found = Span(slice_.start, slice_.end)
    return found.as_of_a_day(tz) if measure.grain in OF_A_DAY else found.as_of_days(tz)


def before_period(measure: Measure, span: Span, tz: str) -> Span:
    """Return the part of time before another one, of equal length by the calendar."""
    if span.since is None or span.until is None:
        return Span()
    local = span.as_of_days(tz)
    assert local.since is not None
    assert local.until is not None
    months = (local.until.year - local.since.year) * 12 + local.until.month - local.since.month
    if months and _step("1mo", local.since, months, tz) == local.until:
        found = Span(_step("1mo", local.since, -months, tz), local.since)
    else:
        found = Span(local.since - (local.until - local.since), local.since)
    return found.as_of_a_day(tz) if measure.grain in OF_A_DAY else found


def newest(measure: Measure, tz: str, grain: str, bucket: Any, last: int) -> Span:
    """Return the span of the `last` buckets of a grain up to the newest one."""
    try:
        since = None if not 0 < last <= KPI_LAST_MAX else _step(grain, _start(bucket), 1 - last, tz)
    except (ValueError, OverflowError):  # before there were years
        since = None
    if since is None:
        raise UsageError(
            "SX-KPI-008",
            f"`{last}` is no number of points",
            hint=f"1 to {KPI_LAST_MAX}",
        )
    found = Span(since, _step(grain, _start(bucket), 1, tz))
    return found.as_of_a_day(tz) if measure.grain in OF_A_DAY else found


def compared(tz: str, span: Span, compare: str, grain: str, last: int) -> Span:
    """Return the span to compare another with: the one before it of equal length, or the same
    weekdays 52 weeks earlier."""
    if compare not in COMPARES:
        raise UsageError(
            "SX-KPI-006",
            f"`{compare}` is nothing to compare with",
            hint=f"choose {' or '.join(COMPARES)}",
        )
    if span.since is None or span.until is None:
        raise UsageError(
            "SX-KPI-007",
            "all of the time has nothing to compare it with",
            hint="say from when, as in `--since 2013-02-01 --until 2013-03-01`",
        )
    try:
        if compare == "year":
            return Span(_back(span.since, tz), _back(span.until, tz))
        if last:
            return Span(_step(grain, span.since, -last, tz), span.since)
        return Span(span.since - (span.until - span.since), span.since)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "SX-KPI-011", "there was no time before", hint="choose a later one, or a shorter"
        ) from error


def _back(at: datetime, tz: str) -> datetime:
    """Return the same time of the clock 52 weeks earlier."""
    if at.tzinfo is None:
        return at - _YEAR
    return (at.astimezone(ZoneInfo(tz)) - _YEAR).astimezone(UTC)


def thinned(series: "pa.Table", points: int) -> "pa.Table":
    """Return at most so many rows of a series by time (`bucket`, `value`): the first and the last,
    and the least and the greatest of each cell of neighbours, of equally many rows; of a cell
    without any number its first. `all_` is how many there were."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(series)
    series = series.append_column("all_", pa.array(np.full(rows, rows)))
    if rows <= points:
        return series
    kind = series["value"].type
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = pc.cast(series["value"], pa.float64(), safe=False).to_numpy()  # null is NaN
    else:  # a text has no greatest point
        values = np.full(rows, np.nan)
    finite = np.isfinite(values)
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    cells = max(1, points // 2 - 1)
    ends = -(-np.arange(cells + 1) * rows // cells)
    kept = {0, rows - 1}
    for start, end in itertools.pairwise(ends.tolist()):
        kept |= {start + int(low[start:end].argmin()), start + int(high[start:end].argmax())}
    return series.take(pa.array(sorted(kept)))


def contributions_sql(
    stored: str,
    parts: Sequence[tuple[str, str]],
    value: str,
    dims: Sequence[str],
    sides: Sequence[str],
) -> str:
    """Return a query for what each value of some dimensions has moved a measure: the measure over
    the time before, had only this one changed, less the measure over the time before.

    stored  a query of stored values, with the parts of the measure
    parts   name and merging SQL of each part
    value   the measure over merged parts
    sides   conditions over `bucket`: the time that is looked at, and the one before
    """
    named = ", ".join(dims)
    merged = ", ".join(f"{sql} AS {name}" for name, sql in parts)
    after, before = (
        f"SELECT {named}, {merged}, {text} AS after_ FROM ({stored}) AS s WHERE {side} "
        f"GROUP BY {named}"
        for side, text in zip(sides, ("true", "false"), strict=True)
    )
    same = " AND ".join(f"x.{one} IS NOT DISTINCT FROM d.{one}" for one in dims)
    grouped = ", ".join(f"d.{one}" for one in dims)
    return f"""WITH both_ AS ({after} UNION ALL {before}),
d AS (SELECT DISTINCT {named} FROM both_),
total_ AS (SELECT {value} AS value FROM both_ WHERE NOT after_)
SELECT {grouped}, ({value}) - any_value(total_.value) AS value
FROM d JOIN both_ AS x ON x.after_ = ({same}), total_
WHERE (SELECT count(*) FROM d) <= {KPI_SEGMENTS_MAX}
GROUP BY {grouped} ORDER BY abs(({value}) - any_value(total_.value)) DESC NULLS LAST, {grouped}"""


def stated(
    rows: Sequence[Mapping[str, Any]],
    span: Span,
    grain: str,
    slices: Partitioning,
    states: Mapping[str, str],
    worst: Sequence[str],
) -> list[dict[str, Any]]:
    """Return a series with the state of each point: the worst of the partitions that it is of; and
    with a point without a value where partitions are not there (of many in a row the first and the
    last).

    states  partition -> how it stands
    worst   all states, the worst first
    """
    rank = {state: n for n, state in enumerate(worst)}
    of_a_day = grain in OF_A_DAY  # otherwise the buckets are dates
    span = span.as_of_a_day(slices.tz) if of_a_day else span.as_of_days(slices.tz)
    found: list[tuple[datetime, datetime, str]] = []
    for key, state in states.items():
        if state == "live":
            continue
        slice_ = slices.partition(key)
        if slice_.start is None or slice_.end is None:  # one partition of all time
            return [{**row, "state": state} for row in rows]
        ends = (slice_.start, slice_.end)
        start, end = (at.astimezone(UTC) if of_a_day else at.replace(tzinfo=None) for at in ends)
        found.append((start, end, state))
    found.sort()
    starts = [one[0] for one in found]
    out: list[dict[str, Any]] = []
    taken: set[int] = set()
    for row in rows:
        start = _start(row["bucket"])
        end = _step(grain, start, 1, slices.tz)
        at = max(0, bisect.bisect_right(starts, start) - 1)
        here = ["live"]
        while at < len(found) and found[at][0] < end:
            if found[at][1] > start:
                here.append(found[at][2])
                taken.add(at)
            at += 1
        out.append({**row, "state": min(here, key=lambda state: rank.get(state, 0))})
    gaps: list[tuple[datetime, int, str]] = []
    for n, (start, _, state) in enumerate(found):
        if n not in taken and state in _NO_VALUE and span.has(start):
            gaps.append((start, n, state))
    for at, (start, n, state) in enumerate(gaps):
        beside = (gaps[at - 1] if at else None, gaps[at + 1] if at + 1 < len(gaps) else None)
        inner = [one for one in beside if one and abs(one[1] - n) == 1 and one[2] == state]
        if len(inner) < 2:
            bucket = start if of_a_day else start.date()
            out.append({"bucket": bucket, "value": None, "state": state})
    return sorted(out, key=lambda row: _start(row["bucket"]))


def _start(bucket: Any) -> datetime:
    if isinstance(bucket, datetime):
        return bucket.astimezone(UTC) if bucket.tzinfo else bucket
    assert isinstance(bucket, date)
    return datetime.combine(bucket, time())


def _step(grain: str, at: datetime, n: int, tz: str) -> datetime:
    """Return the start of the bucket `n` after (before) the one that starts at an instant."""
    if grain in _MINUTES:
        return at + timedelta(minutes=_MINUTES[grain] * n)
    local = at.astimezone(ZoneInfo(tz)) if at.tzinfo else at
    if grain in _MONTHS:
        months = local.year * 12 + local.month - 1 + _MONTHS[grain] * n
        local = local.replace(year=months // 12, month=months % 12 + 1, day=1)
    else:
        local += timedelta(days=(7 if grain == "1w" else 1) * n)
    return local.astimezone(UTC) if at.tzinfo else local


def _literal(at: datetime) -> str:
    if at.tzinfo is None:
        return f"TIMESTAMP '{at:%Y-%m-%d %H:%M:%S.%f}'"
    return f"TIMESTAMPTZ '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"


def _text(at: datetime | None) -> str:
    if at is None:
        return ""
    if at.tzinfo is None and not (at.hour or at.minute or at.second or at.microsecond):
        return at.date().isoformat()
    return at.isoformat()
