"""Lists metrics, and shows the series of one. Called by `Operations.metrics` and
`Operations.metric`.

A histogram is stored as NAME_bucket, NAME_count and NAME_sum, a counter often as NAME_total, and
Prometheus writes `_` for the `.` of OpenTelemetry. People know a metric by the name that they gave
it: it is found by that.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sextant.app.telemetry.asking import Asking, Condition, attribute_conditions, where
from sextant.kernel.answers import HistogramSeen, MetricFacts, MetricSeen, MetricsFound, SeriesSeen
from sextant.kernel.errors import NotFound, UsageError, UserError
from sextant.kernel.limits import METRICS_MAX, TELEMETRY_CONDITIONS_MAX

# of the series of a metric, some may not say it
_KIND = "argMax(s.kind, s.kind != '') AS kind"
_UNIT = "argMax(s.unit, s.unit != '') AS unit"
_PARTS = ("_bucket", "_count", "_sum")  # of a histogram; a summary has the last two
_LEVELS = ("0.5", "0.95", "0.99")  # of quantiles, where none is asked for
_POINTS = 24  # of a series, from the beginning of the window to its end
_ROLLUP_S = 300  # growth is kept for each five minutes
_NO_RATE = ("gauge", "summary")  # kinds whose values do not only grow


class Stored(NamedTuple):
    """A name under which samples are stored."""

    metric: str
    kind: str
    unit: str


class Meant(NamedTuple):
    """The metric that somebody means.

    parts  the names that a histogram is stored under; () = it is stored under its own
    """

    metric: str
    kind: str
    unit: str
    parts: tuple[str, ...] = ()


def metrics(asking: Asking, *, search: str, asset: str, since: str, limit: int) -> MetricsFound:
    """Return metrics by their names: those that had a value lately."""
    conditions = []
    if asset:
        conditions.append(Condition("asset = {asset:String}", {"asset": asking.asset(asset)}))
    if search:
        conditions.append(
            Condition("positionCaseInsensitive(metric, {search:String}) > 0", {"search": search})
        )
    condition, params = where(conditions)
    rows = asking.rows(
        f"SELECT metric, {_KIND}, {_UNIT}, uniqExact(series) AS series, "
        "max(s.last_seen) AS last_seen FROM obs.series AS s WHERE "
        f"{condition} GROUP BY metric HAVING last_seen >= now() - toIntervalSecond({{since:Int64}})"
        " ORDER BY metric LIMIT {most:UInt32}",
        # when a series was seen last is right to the hour
        params | {"since": asking.length_s(since) + 3600, "most": METRICS_MAX + 1},
    )
    whole = _families({row["metric"]: row["kind"] for row in rows})
    heads = set(whole.values())
    found: dict[str, MetricSeen] = {}
    for row in rows[:METRICS_MAX]:
        name = whole.get(row["metric"], row["metric"])
        one = found.setdefault(
            name,
            MetricSeen(
                metric=name,
                kind=row["kind"],
                unit=row["unit"],
                series=0,
                last_seen=row["last_seen"],
                stored_as=[],
            ),
        )
        if row["metric"] not in heads or row["kind"] != "histogram":
            one["stored_as"].append(row["metric"])
            one["series"] += int(row["series"])
        one["last_seen"] = max(one["last_seen"], row["last_seen"])
        one["unit"] = one["unit"] or row["unit"]
        if row["metric"].endswith("_bucket") and name != row["metric"]:
            one["kind"] = "histogram"
    listed = sorted(found.values(), key=lambda one: one["metric"])
    return MetricsFound(metrics=listed[:limit], cut=len(listed) > limit or len(rows) > METRICS_MAX)


def _families(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return name -> name of the histogram or summary of which it is a part."""
    heads = {name.removesuffix("_bucket") for name in kinds if name.endswith("_bucket")}
    heads |= {name for name, kind in kinds.items() if kind in ("summary", "histogram")}
    heads = {head for head in heads if head + "_count" in kinds}
    return {head + part: head for head in heads for part in _PARTS if head + part in kinds}


def metric(
    asking: Asking,
    name: str,
    *,
    by: Sequence[str],
    labels: Sequence[str],
    asset: str,
    rate: bool,
    quantiles: Sequence[str],
    since: str,
    until: str,
    limit: int,
) -> MetricFacts:
    """Return the series of a metric. NotFound with names that are near; UsageError for a rate of
    what has none."""
    if len(by) > TELEMETRY_CONDITIONS_MAX:
        raise UsageError(
            "SX-LOOK-020",
            f"grouped by {len(by):,} labels",
            hint=f"at most {TELEMETRY_CONDITIONS_MAX}",
        )
    meant = _meant(asking, name)
    if rate and meant.kind in _NO_RATE:
        raise UsageError(
            "SX-LOOK-021",
            f"`{meant.metric}` is a {meant.kind}: it has no rate",
            hint="rates are of what only grows: counters and histograms; leave --rate out",
        )
    if quantiles and meant.kind != "histogram":
        raise UsageError(
            "SX-LOOK-025",
            f"`{meant.metric}` is {_a(meant.kind)}: it has no quantiles",
            hint="quantiles are of histograms; `sextant metrics` says which metrics are",
        )
    levels = _checked_levels(quantiles or _LEVELS)
    conditions = attribute_conditions(labels, ("labels",), word="label")
    if asset:
        conditions.append(Condition("asset = {asset:String}", {"asset": asking.asset(asset)}))
    question = _Question(by, conditions, since, until, asking.length_s(since, until), limit + 1)
    series: list[SeriesSeen] = []
    histogram: list[HistogramSeen] = []
    if meant.parts:
        histogram = _histogram(asking, meant, question)
        _add_quantiles(asking, meant, question, levels, histogram)
        _add_traces(asking, meant, question, histogram)
    else:
        series = _series(asking, meant, question, rate=rate)
    if not series and not histogram:
        samples = f"{meant.metric}_count" if meant.parts else meant.metric
        raise NotFound(
            "SX-LOOK-022",
            f"no series of `{meant.metric}` had a value since {since}"
            + (" with these labels" if conditions else ""),
            hint="growth is known within a minute; "
            f"`sextant metrics {samples}` shows the samples themselves"
            if rate or meant.parts
            else "`sextant metrics` lists what there is; --since looks further back",
        )
    return MetricFacts(
        metric=meant.metric,
        kind=meant.kind,
        unit=meant.unit,
        stored_as=list(meant.parts or (meant.metric,)),
        rate=rate,
        step_s=question.growth_step_s if meant.parts else question.step_s,
        series=series[:limit],
        histogram=histogram[:limit],
        cut=max(len(series), len(histogram)) > limit,
    )


def _a(kind: str) -> str:
    return f"a {kind}" if kind else "of no known kind"


def _checked_levels(levels: Sequence[str]) -> list[float]:
    """Return levels of quantiles. UsageError for what is none."""
    if len(levels) > TELEMETRY_CONDITIONS_MAX:
        raise UsageError(
            "SX-LOOK-026",
            f"{len(levels):,} quantiles",
            hint=f"at most {TELEMETRY_CONDITIONS_MAX}",
        )
    out = []
    for text in levels:
        try:
            level = float(text)
        except ValueError:
            level = -1.0
        if not 0 <= level <= 1:
            raise UsageError(
                "SX-LOOK-027",
                f"`{text[:40]}` is no level of a quantile",
                hint="a number from 0 to 1, such as 0.95",
            )
        out.append(level)
    return out


class _Question(NamedTuple):
    by: Sequence[str]
    conditions: list[Condition]
    since: str
    until: str
    length_s: int
    limit: int

    @property
    def step_s(self) -> int:
        return max(1, self.length_s // _POINTS)

    @property
    def growth_step_s(self) -> int:
        """Whole five minutes: what grew is known for these."""
        return max(1, round(self.length_s / _POINTS / _ROLLUP_S)) * _ROLLUP_S

    def group(self) -> Condition:
        """Return what the series of one answer have in common: some labels, or all."""
        if not self.by:
            return Condition("mapFilter((k, v) -> k != '__name__', labels)")
        pairs = ", ".join(f"{{b{n}:String}}, labels[{{b{n}:String}}]" for n in range(len(self.by)))
        return Condition(f"map({pairs})", {f"b{n}": label for n, label in enumerate(self.by)})


def _series(asking: Asking, meant: Meant, question: _Question, *, rate: bool) -> list[SeriesSeen]:
    """Return for each group the values of its series: one for each series and step of time, then
    the sum over the series."""
    table, at, value, of_step = (
        ("obs.rates", "bucket", "rate", "avg(rate)")
        if rate
        else ("obs.metrics", "ts", "value", "argMax(value, ts)")
    )
    group = question.group()
    condition, params = where(
        [
            Condition("metric = {name:String}", {"name": meant.metric}),
            *question.conditions,
            *asking.window(question.since, question.until, at),
        ]
    )
    rows = asking.rows(
        "SELECT of, argMax(total, slot) AS last, min(total) AS low, max(total) AS high, max(n) AS "
        "series, arraySort(groupArray((slot, total))) AS points FROM (SELECT of, slot, sum(v) AS "
        f"total, count() AS n FROM (SELECT {group.sql} AS of, intDiv(toUnixTimestamp({at}), "
        f"{{step:UInt32}}) AS slot, series, {of_step} AS v FROM {table} WHERE {condition} AND "
        f"isFinite({value}) GROUP BY of, slot, series) GROUP BY of, slot) GROUP BY of "
        "ORDER BY last DESC, of LIMIT {limit:UInt32}",
        {**params, **group.params, "step": question.step_s, "limit": question.limit},
    )
    return [
        SeriesSeen(
            of=_labels(row["of"]),
            last=row["last"],
            lowest=row["low"],
            highest=row["high"],
            series=int(row["series"]),
            points=[(int(slot) * question.step_s, total) for slot, total in row["points"]],
            trace="",
        )
        for row in rows
    ]


def _histogram(asking: Asking, meant: Meant, question: _Question) -> list[HistogramSeen]:
    """Return how many values a histogram took, their sum and average: in the window, and in each
    step of it."""
    group = question.group()
    counts, sums = (
        next((one for one in meant.parts if one.endswith(part)), "") for part in ("_count", "_sum")
    )
    condition, params = where(
        [
            Condition(
                "metric IN ({counts:String}, {sums:String})", {"counts": counts, "sums": sums}
            ),
            *question.conditions,
            # five minutes that the beginning of the window cuts belong to it
            *asking.window(question.since, "", "bucket", wider_s=_ROLLUP_S),
            *asking.window("", question.until, "bucket"),
        ]
    )
    rows = asking.rows(
        "SELECT of, sum(c) AS count, sum(s) AS total, arraySort(groupArray((slot, c, s))) AS "
        f"points FROM (SELECT {group.sql} AS of, intDiv(toUnixTimestamp(bucket), {{step:UInt32}}) "
        "AS slot, sumIf(increase, metric = {counts:String}) AS c, sumIf(increase, metric = "
        f"{{sums:String}}) AS s FROM obs.rates WHERE {condition} GROUP BY of, slot) GROUP BY of "
        "ORDER BY count DESC, of LIMIT {limit:UInt32}",
        {**params, **group.params, "step": question.growth_step_s, "limit": question.limit},
    )
    return [
        HistogramSeen(
            of=_labels(row["of"]),
            count=_whole(row["count"]),
            sum=row["total"] if sums else None,
            average=_average(row["total"], row["count"]) if sums else None,
            points=[
                (
                    int(slot) * question.growth_step_s,
                    _whole(count),
                    _average(total, count) if sums else None,
                    None,
                )
                for slot, count, total in row["points"]
            ],
            quantiles={},
            trace="",
            trace_value=None,
        )
        for row in rows
    ]


def _add_quantiles(
    asking: Asking,
    meant: Meant,
    question: _Question,
    levels: Sequence[float],
    histograms: Sequence[HistogramSeen],
) -> None:
    """Add quantiles of the window, and the first one of each step."""
    group = question.group()
    condition, params = where(
        [
            Condition("metric = {name:String}", {"name": meant.metric}),
            *question.conditions,
            *asking.window(question.since, "", "bucket", wider_s=_ROLLUP_S),
            *asking.window("", question.until, "bucket"),
        ]
    )
    asked = ", ".join(
        f"histogramQuantile({{q{n}:Float64}}, groupArrayArray(found))" for n in range(len(levels))
    )
    rows = asking.rows(
        f"SELECT of, [{asked}] AS quantiles, arraySort(groupArray((slot, histogramQuantile("
        "{q0:Float64}, found)))) AS points FROM (SELECT of, slot, groupArray((low, high, n)) AS "
        "found FROM (SELECT of, slot, cell.1 AS low, cell.2 AS high, sum(cell.3) AS n FROM (SELECT "
        f"{group.sql} AS of, intDiv(toUnixTimestamp(bucket), {{step:UInt32}}) AS slot, cells FROM "
        f"obs.histograms WHERE {condition}) ARRAY JOIN cells AS cell GROUP BY of, slot, low, high) "
        "GROUP BY of, slot) GROUP BY of",
        {
            **params,
            **group.params,
            **{f"q{n}": level for n, level in enumerate(levels)},
            "step": question.growth_step_s,
        },
    )
    found = {_key(row["of"]): row for row in rows}
    for one in histograms:
        row = found.get(_key(one["of"]), {"quantiles": [None] * len(levels), "points": []})
        one["quantiles"] = {
            f"{level:g}": value for level, value in zip(levels, row["quantiles"], strict=True)
        }
        steps = {int(slot) * question.growth_step_s: value for slot, value in row["points"]}
        one["points"] = [(*point[:3], steps.get(point[0])) for point in one["points"]]


def _add_traces(
    asking: Asking, meant: Meant, question: _Question, histograms: Sequence[HistogramSeen]
) -> None:
    """Add the trace behind the largest value that has one."""
    group = question.group()
    condition, params = where(
        [
            Condition("metric = {name:String} AND trace_id != ''", {"name": meant.metric}),
            *question.conditions,
            *asking.window(question.since, question.until),
        ]
    )
    rows = asking.rows(
        f"SELECT mapFilter((k, v) -> k != 'le', {group.sql}) AS of, argMax(trace_id, value) AS "
        f"trace, max(value) AS most FROM obs.exemplars WHERE {condition} GROUP BY of",
        {**params, **group.params},
    )
    found = {_key(row["of"]): row for row in rows}
    for one in histograms:
        row = found.get(_key(one["of"]))
        if row is not None:
            one["trace"], one["trace_value"] = row["trace"], row["most"]


def _key(of: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in of.items() if name != "__name__"))


def _whole(count: Any) -> Any:
    """Return a count as a whole number, where it is one: growth is a float."""
    return int(count) if isinstance(count, float) and count.is_integer() else count


def _average(total: Any, count: Any) -> float | None:
    """Return an average; None of nothing, or where the sum is no number."""
    if not count or not isinstance(total, int | float):
        return None
    return float(total) / float(count)


def _labels(of: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(of.items()) if name != "__name__"}


# ---------------------------------------------------------------- which metric


def _meant(asking: Asking, name: str) -> Meant:
    """Return the metric of a name: its own name wins, then the parts of a histogram, then other
    spellings. UserError where several are meant, NotFound where none is."""
    plain = _plain(name)
    spellings = {plain, plain.removesuffix("_total")}
    spellings |= {one + part for one in tuple(spellings) for part in (*_PARTS, "_total")}
    rows = asking.rows(
        f"SELECT metric, {_KIND}, {_UNIT} FROM obs.series AS s WHERE "
        "has(splitByChar(',', {spellings:String}), replaceRegexpAll(lower(metric), '[^a-z0-9]+', "
        "'_')) GROUP BY metric ORDER BY metric LIMIT {most:UInt32}",
        {"spellings": ",".join(sorted(spellings)), "most": METRICS_MAX},
    )
    stored = {row["metric"]: Stored(row["metric"], row["kind"], row["unit"]) for row in rows}
    found = named_exactly(name, stored)
    if found is not None:
        return found
    whole = _families({one.metric: one.kind for one in stored.values()})
    names = sorted({whole.get(one, one) for one in stored})
    if len(names) == 1:
        near = named_exactly(names[0], stored)
        if near is not None:
            return near
    if names:
        raise UserError(
            "SX-LOOK-023",
            f"`{name}` may be {' or '.join(f'`{one}`' for one in names[:10])}",
            hint="write it as it is stored",
        )
    raise NotFound("SX-LOOK-024", f"there is no metric `{name}`", hint=_near(asking, name))


def named_exactly(name: str, stored: Mapping[str, Stored]) -> Meant | None:
    """Return the metric that is stored under a name, or under the parts of a histogram with it."""
    own = stored.get(name)
    parts = tuple(name + part for part in _PARTS if name + part in stored)
    is_histogram = name + "_bucket" in parts or (own is not None and own.kind == "histogram")
    if own is not None and not (is_histogram and name + "_count" in parts):
        return Meant(own.metric, own.kind, own.unit)
    if name + "_count" not in parts:
        return None
    units = (stored[one].unit for one in (*([name] if own else []), *parts))
    unit = next((one for one in units if one), "")
    return Meant(name, "histogram" if is_histogram else "summary", unit, parts)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name.lower())


def _near(asking: Asking, name: str) -> str:
    rows = asking.rows(
        f"SELECT metric, {_KIND} FROM obs.series AS s GROUP BY metric ORDER BY metric "
        "LIMIT {most:UInt32}",
        {"most": METRICS_MAX},
    )
    kinds = {row["metric"]: row["kind"] for row in rows}
    whole = _families(kinds)
    plain = {_plain(one): one for one in dict.fromkeys(whole.get(one, one) for one in kinds)}
    begins = [one for key, one in plain.items() if key.startswith(_plain(name))][:3]
    near = begins or [
        plain[one] for one in difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.7)
    ]
    listed = " or ".join(f"`{one}`" for one in near)
    return (
        f"did you mean {listed}?" if near else "`sextant metrics --since 30d` lists what there is"
    )
