"""The SQL of KPIs: values per bucket and dimensions, and their roll-up, so that a ratio is never
averaged.

A measure is an aggregate over rows. Where its aggregates add up (count, sum, min, max; an average
is sum over count) the stored values carry these *parts* and a roll-up merges parts: sums of sums,
least of least. Where they do not (median, distinct counts) a roll-up goes back to the rows. Used by
the loader, the workers and `sextant kpi`. DuckDB's dialect.
"""

import difflib
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from sextant.formats import values as formatted
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import CONDITION_CHARS_MAX
from sextant.kernel.nouns import CheckResult
from sextant.kernel.partitions import hours_of
from sextant.kinds.kpi.spec import Measure

if TYPE_CHECKING:
    import pyarrow as pa

# grain -> the coarser ones whose buckets are made of whole buckets of it: weeks lie in no month
NESTS: dict[str, tuple[str, ...]] = {
    "5m": ("15m", "1h", "1d", "1w", "1mo", "1q", "1y"),
    "15m": ("1h", "1d", "1w", "1mo", "1q", "1y"),
    "1h": ("1d", "1w", "1mo", "1q", "1y"),
    "1d": ("1w", "1mo", "1q", "1y"),
    "1w": (),
    "1mo": ("1q", "1y"),
    "1q": ("1y",),
    "1y": (),
    "": (),
}
OF_A_DAY = ("5m", "15m", "1h")  # buckets that are instants; those of other grains are dates
OVER_TIME = ("last", "first", "mean", "max", "min")
_MINUTES = {"5m": 5, "15m": 15}
_TRUNCATE = {"1d": "day", "1w": "week", "1mo": "month", "1q": "quarter", "1y": "year"}
# Aggregates that the parser does not know as such.
_AGGREGATES = frozenset({
    "mean", "product", "favg", "fsum", "sumkahan", "kahan_sum", "histogram", "mad", "entropy",
    "kurtosis", "kurtosis_pop", "skewness", "sem", "geomean", "geometric_mean",
    "reservoir_quantile", "bitstring_agg", "approx_top_k", "weighted_avg", "wavg",
})  # fmt: skip
# What a condition may be made of that comes from who asks: names of the parser's nodes, and of
# functions that it does not know as such.
_COMPARED = frozenset({
    "Add", "And", "Between", "Boolean", "Cast", "Column", "CurrentDate", "CurrentTimestamp",
    "DataType", "Day", "DayOfWeek", "DayOfWeekIso", "Dayname", "EQ", "Extract", "GT", "GTE",
    "ILike", "Identifier", "In", "Interval", "Is", "LT", "LTE", "Like", "Literal", "Lower", "Month",
    "Monthname", "NEQ", "Neg", "Not", "Null", "NullSafeEQ", "NullSafeNEQ", "Or", "Paren", "Quarter",
    "Sub", "TimestampTrunc", "Tuple", "Upper", "Var", "Week", "Year",
})  # fmt: skip
_CALLED = frozenset({"now", "weekday"})


class Part(NamedTuple):
    """One additive aggregate of a measure: its SQL over rows, and how stored values of it are
    merged."""

    name: str
    sql: str
    merge: Literal["count", "sum", "min", "max"]


class Parts(NamedTuple):
    """A measure taken apart. `final` is the measure over *merged* parts, with `{p0}`-like names
    standing for them.

    exact_from_rows  some aggregate does not add up: there are no parts, and a roll-up must read
                     rows
    """

    parts: tuple[Part, ...]
    final: str
    exact_from_rows: bool


class MeasureError(ValueError):
    """A measure is not one aggregate expression; the text says why."""


def check_measure(sql: str, of: str = "") -> None:
    """Do nothing for one expression of aggregates over the rows of `of`. MeasureError otherwise."""
    _parse(sql, of)


def check_condition(sql: str) -> None:
    """Do nothing for a condition over the columns of one row. MeasureError otherwise."""
    _condition(sql)


@functools.lru_cache(maxsize=256)
def parts(sql: str, of: str = "") -> Parts:
    """Split a measure into additive aggregates p0, p1 ... and an expression over them.

    `avg(x)` becomes sum(x) and count(x); a FILTER stays with its part. MeasureError as in
    `check_measure`.
    """
    from sqlglot import exp

    tree = _parse(sql, of)
    found: dict[str, Part] = {}

    def part(aggregate: Any, merge: Literal["count", "sum", "min", "max"], condition: Any) -> Any:
        text = aggregate.sql("duckdb") + (
            f" FILTER (WHERE {condition.sql('duckdb')})" if condition is not None else ""
        )
        one = found.setdefault(text, Part(f"p{len(found)}", text, merge))
        return exp.column(f"{{{one.name}}}")

    for node in [
        n
        for n in tree.find_all(exp.AggFunc, exp.Anonymous, exp.WithinGroup, bfs=False)
        if _is_aggregate(n)
    ]:
        if node.find_ancestor(exp.AggFunc, exp.WithinGroup):
            continue
        outer = node.parent if isinstance(node.parent, exp.Filter) else node
        condition = outer.expression.this if isinstance(outer, exp.Filter) else None
        kind = _additive(node)
        if kind is None:
            return Parts((), "", exact_from_rows=True)
        if kind == "avg":
            argument = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
            total = part(exp.Sum(this=argument.copy()), "sum", condition)
            new = exp.Paren(
                this=exp.Div(
                    this=total, expression=part(exp.Count(this=argument.copy()), "count", condition)
                )
            )
        else:
            new = part(node, kind, condition)
        if outer is tree:
            tree = new
        else:
            outer.replace(new)
    final = tree.sql("duckdb", identify=False)
    for one in found.values():
        final = final.replace(f'"{{{one.name}}}"', f"{{{one.name}}}")
    return Parts(tuple(found.values()), final, exact_from_rows=False)


def definition(measure: Measure, tz: str) -> str:
    """Return the digest of a metric definition; white space and the goal are no part of it."""
    from sextant.kinds.dataset.declarations.sqlfile import fingerprint

    said = (
        measure.of,
        fingerprint(measure.sql),
        fingerprint(measure.where),
        measure.grain,
        measure.by,
        tz,
        *([measure.over_time] if measure.over_time else []),
        *(
            [measure.year_starts]
            if measure.grain in ("1q", "1y") and measure.year_starts != 1
            else []
        ),
    )
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def values_sql(measure: Measure, *, table: str, tz: str = "UTC", label: str = "") -> str:
    """Return the query for a KPI's stored values, one row per bucket and full set of dimensions.

    table   the name under which the rows of `measure.of` can be read
    tz      the zone of its buckets; instants without a zone are UTC, a DATE is a local day
    label   a column that says which partition a row belongs to, kept apart and handed through: many
            partitions in one query
    Result  columns `bucket` (DATE; TIMESTAMPTZ below a day; absent without a grain), the
            dimensions, `p0` ..., `value`, `definition`; `value` is the measure of just these rows
    """
    split = parts(measure.sql, measure.of)
    select = [f"{bucket_sql(measure, tz)} AS bucket"] if measure.grain else []
    select += [_quoted(column) for column in (*measure.by, *([label] if label else []))]
    groups = len(select)
    select += [f"{part.sql} AS {part.name}" for part in split.parts]
    select += [
        f"(\n{_plain(measure.sql, measure.of)}\n) AS value",
        f"'{definition(measure, tz)}' AS definition",
    ]
    grouped = ", ".join(str(n) for n in range(1, groups + 1))
    where = f"\nWHERE (\n{measure.where}\n)" if measure.where else ""
    tail = f"\nGROUP BY {grouped}\nORDER BY {grouped}" if groups else ""
    return "SELECT " + ",\n  ".join(select) + f"\nFROM {_quoted(table)}{where}{tail}"


def needs_rows(measure: Measure) -> bool:
    """Say whether a roll-up of this measure must read the rows of `measure.of` instead of the
    stored values."""
    return parts(measure.sql, measure.of).exact_from_rows


def clickhouse_sql(measure: Measure, *, merged: bool = False) -> str:
    """Return the measure as an expression over the columns p0, p1 ... of its stored values, in
    ClickHouse's SQL; "" when it needs rows.

    merged  an aggregate over many stored rows (`sum(p0) / sum(p1)`) instead of the value of each
            (`p0 / p1`)
    """
    import sqlglot
    from sqlglot import exp

    split = parts(measure.sql, measure.of)
    if split.exact_from_rows:
        return ""
    final = split.final
    for part in split.parts:
        final = final.replace(f"{{{part.name}}}", _merged(part) if merged else part.name)
    tree = sqlglot.parse_one(final, dialect="duckdb")
    # DuckDB divides in floating point; ClickHouse keeps the scale of a decimal, and would cut an
    # average price to whole cents.
    for division in list(tree.find_all(exp.Div)):
        division.set("this", exp.Cast(this=division.this, to=exp.DataType.build("DOUBLE")))
        nothing = exp.Nullif(this=division.expression.copy(), expression=exp.Literal.number(0))
        division.set("expression", nothing)  # a share of nothing has no value
    return str(tree.sql("clickhouse"))


def rollup_sql(
    measure: Measure,
    *,
    table: str,
    by: tuple[str, ...] | list[str] = (),
    grain: str | None = None,
    where: str = "",
    tz: str = "UTC",
    since: str = "",
    within: str = "",
    from_rows: bool = False,
) -> str:
    """Return the query for the measure at any coarser level: columns `bucket` (if a grain), `by`,
    `value`.

    A stock (`over_time`) is added up over dimensions for each bucket that is stored, and then taken
    over time: the last and the first are those of the last and first bucket that has any row.

    table  the stored values; for a measure that `needs_rows`, or with `from_rows`, the rows of
           `measure.of`
    by     some of the measure's dimensions
    grain  as declared when None; a coarser one; "" for one value over everything
    where  a condition over `bucket` and the measure's dimensions
    since  SQL of a length of time: only the newest buckets, that long, count
    within SQL of the caller's own over `bucket`: only buckets for which it holds count
    Raises UsageError for a dimension, grain or condition that the measure does not have.
    """
    grain = measure.grain if grain is None else grain
    for dimension in by:
        if dimension not in measure.by:
            raise UsageError(
                "SX-KPI-001",
                f"the measure has no dimension `{dimension}`",
                hint=_near(dimension, measure.by),
            )
    _refuse_grain(measure, grain)
    where = _asked(where, measure)
    split = parts(measure.sql, measure.of)
    whole = split.exact_from_rows or from_rows
    inner = _stored(measure, table, tz, from_rows=whole)
    if whole:
        value = f"(\n{_plain(measure.sql, measure.of)}\n)"
    else:
        value = split.final
        for part in split.parts:
            value = value.replace(f"{{{part.name}}}", _merged(part))
    if since:  # of what is there, whoever asks for a part of it
        newest = f"max(bucket) FROM ({inner}) AS newest"
        inner = f"SELECT * FROM ({inner}) AS all_ WHERE bucket > (SELECT {newest}) - {since}"
    if within:
        inner = f"SELECT * FROM ({inner}) AS all_ WHERE {within}"
    condition = f"\nWHERE (\n{where}\n)" if where else ""
    period = f"{_rebucket(grain, measure, tz)} AS bucket" if grain else ""
    dimensions = [_quoted(dimension) for dimension in by]
    if not measure.over_time:
        return _grouped(
            [period, *dimensions], f"{value} AS value", f"({inner}) AS stored{condition}"
        )
    # one value for each stored bucket first, then over the buckets of a period
    at = _rebucket(grain, measure, tz) if grain else "0"
    each = _grouped(["bucket", *dimensions], f"{value} AS value", f"({inner}) AS stored{condition}")
    # what has no value in a bucket (a share of nothing) has no say over time
    some = "CASE WHEN isfinite(CAST(value AS DOUBLE)) THEN value END AS value"
    ends = "" if not grain else "PARTITION BY period"
    timed = (
        f"SELECT *, min(bucket) OVER ({ends}) AS first_, max(bucket) OVER ({ends}) AS last_ "
        f"FROM (SELECT * REPLACE ({some}), {at} AS period FROM (\n{each}\n) AS each_)"
    )
    taken = {
        "last": "any_value(value) FILTER (WHERE bucket = last_)",
        "first": "any_value(value) FILTER (WHERE bucket = first_)",
        "mean": "avg(value)",
        "max": "max(value)",
        "min": "min(value)",
    }[measure.over_time]
    of = f"(\n{timed}\n) AS timed"
    if measure.over_time in ("last", "first"):
        of += f"\nWHERE bucket = {measure.over_time}_"  # who is not there then has no value
    return _grouped(["period AS bucket" if grain else "", *dimensions], f"{taken} AS value", of)


def newest_sql(measure: Measure, *, table: str, grain: str, tz: str) -> str:
    """Return the query for the newest bucket of a grain, of what `rollup_sql` reads."""
    _refuse_grain(measure, grain)
    stored = _stored(measure, table, tz, from_rows=needs_rows(measure))
    return f"SELECT max({_rebucket(grain, measure, tz)}) AS value FROM ({stored}) AS stored"


def moved_sql(
    measure: Measure,
    *,
    table: str,
    by: Sequence[str],
    where: str = "",
    tz: str = "UTC",
    sides: tuple[str, str],
) -> str:
    """Return the query for what each value of dimensions has moved a measure between two times; ""
    where parts do not add up, or not over time.

    sides  conditions over `bucket`: the time that is looked at, and the one before
    """
    from sextant.kinds.kpi.series import contributions_sql

    split = parts(measure.sql, measure.of)
    if split.exact_from_rows or measure.over_time:
        return ""
    value = split.final
    for part in split.parts:
        value = value.replace(f"{{{part.name}}}", _merged(part))
    stored = _stored(measure, table, tz, from_rows=False)
    where = _asked(where, measure)
    stored += f" WHERE (\n{where}\n)" if where else ""
    merged = [(part.name, _merged(part)) for part in split.parts]
    return contributions_sql(stored, merged, value, [_quoted(one) for one in by], sides)


def _stored(measure: Measure, table: str, tz: str, *, from_rows: bool) -> str:
    """Return the query for what a roll-up reads, with `bucket` where there is a grain."""
    if not from_rows:
        return f"SELECT * FROM {_quoted(table)}"
    bucket = f", {bucket_sql(measure, tz)} AS bucket" if measure.grain else ""
    where = f" WHERE (\n{measure.where}\n)" if measure.where else ""
    return f"SELECT *{bucket} FROM {_quoted(table)}{where}"


def _grouped(groups: list[str], value: str, of: str) -> str:
    """Return a query of a value for each group, in the order of the groups."""
    groups = [one for one in groups if one]
    numbers = ", ".join(str(n) for n in range(1, len(groups) + 1))
    tail = f"\nGROUP BY {numbers}\nORDER BY {numbers}" if groups else ""
    return "SELECT " + ",\n  ".join([*groups, value]) + f"\nFROM {of}{tail}"


def _refuse_grain(measure: Measure, grain: str) -> None:
    fit = [measure.grain, *NESTS[measure.grain]] if measure.grain else []
    if not grain or grain in fit:
        return
    hint = f"it is kept by {measure.grain or 'nothing'}; choose {', '.join(fit) or 'no grain'}"
    if measure.grain == "1w" and grain in NESTS["1d"]:
        hint = 'a week lies in two months and years: keep it by `grain="1d"`'
    raise UsageError("SX-KPI-002", f"the measure has no values by `{grain}`", hint=hint)


def reconcile(
    asset: str,
    params: Mapping[str, Any],
    rows: "pa.Table",
    values: "pa.Table",
    *,
    tz: str,
) -> CheckResult:
    """Check that the stored parts, put together over everything, say the same as the measure over
    all rows at once.

    params  its `measure`
    rows    what the values were made from; values: what is about to be stored
    Result  a failed check when they differ by more than rounding
    """
    import math

    import duckdb

    measure = msgspec.convert(params["measure"], Measure)
    with duckdb.connect() as connection:
        connection.register("rows_", rows)
        connection.register("values_", values)
        connection.execute(f"SET TimeZone = '{tz}'")
        connection.execute("SET threads = 1")  # sums of floats depend on their order

        def asked(table: str, *, from_rows: bool) -> Any:
            query = rollup_sql(measure, table=table, grain="", tz=tz, from_rows=from_rows)
            found = connection.sql(query).to_arrow_table().column("value")
            return found[0].as_py() if len(found) else None

        one = asked("rows_", from_rows=True)
        other = one if needs_rows(measure) else asked("values_", from_rows=False)
    one, other = _defined(one), _defined(other)
    same = one == other or (
        one is not None
        and other is not None
        and math.isclose(float(one), float(other), rel_tol=1e-9, abs_tol=1e-12)
    )
    said, added_up = formatted.text(one), formatted.text(other)
    message = f"over all rows the measure is {said}, the stored parts add up to {added_up}"
    return CheckResult(
        name="reconciles",
        asset=asset,
        ok=same,
        failed=int(not same),
        rows=rows.num_rows,
        measured={"rows": formatted.plain(one), "parts": formatted.plain(other)},
        message=message,
    )


def _defined(value: Any) -> Any:
    """Return a measure's value; None where it has none, as 0/0 and 1/0 have not."""
    import math

    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------- reading


def _parse(sql: str, of: str) -> Any:
    """Return the tree of a measure, with the dataset's own name taken off its columns."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError as error:
        raise MeasureError(f"it is not SQL: {str(error).splitlines()[0]}") from error
    if isinstance(tree, exp.Alias):
        raise MeasureError(f"it gives itself the name `{tree.alias}`; leave `as {tree.alias}` out")
    if isinstance(tree, exp.Query) or tree.find(exp.Query) is not None:
        raise MeasureError(
            "it reads a table of its own; a measure is an expression over the rows of one dataset"
        )
    if tree.find(exp.Window) is not None:
        raise MeasureError("it has a window (`over`), which depends on rows outside of its group")
    aggregates = [
        n for n in tree.find_all(exp.AggFunc, exp.Anonymous, exp.WithinGroup) if _is_aggregate(n)
    ]
    if not aggregates:
        raise MeasureError("it has no aggregate such as count(*) or sum(x)")
    for node in aggregates:
        if node.find_ancestor(exp.Where) is not None:
            raise MeasureError(f"it takes the aggregate `{node.sql('duckdb')}` inside of a filter")
        above = node.parent
        while above is not None and not (
            _is_aggregate(above)
            and not isinstance(above, exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls)
        ):
            above = above.parent
        if above is not None:
            raise MeasureError(f"it takes the aggregate `{node.sql('duckdb')}` inside of another")
    for column in tree.find_all(exp.Column):
        above = column.parent
        while above is not None and not _is_aggregate(above) and not isinstance(above, exp.Filter):
            above = above.parent
        if above is None:
            raise MeasureError(
                f"the column `{column.sql('duckdb')}` stands outside of an aggregate"
            )
        if column.table:
            if column.table != of.removeprefix("dataset:"):
                raise MeasureError(
                    f"`{column.sql('duckdb')}` names another table; a measure reads the "
                    "rows of one dataset"
                )
            column.set("table", None)
    return tree


def _is_aggregate(node: Any) -> bool:
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return node.name.lower() in _AGGREGATES
    return isinstance(node, exp.AggFunc | exp.WithinGroup)


def _additive(node: Any) -> "Literal['count', 'sum', 'min', 'max', 'avg'] | None":
    from sqlglot import exp

    argument = node.args.get("this")
    wrapped = isinstance(node.parent, exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls)
    if (
        wrapped
        or isinstance(argument, exp.Distinct | exp.Order)
        or (not isinstance(node, exp.Anonymous) and node.expressions)
    ):
        return None
    kinds: dict[Any, Any] = {
        exp.Count: "count",
        exp.Sum: "sum",
        exp.Min: "min",
        exp.Max: "max",
        exp.Avg: "avg",
        exp.CountIf: "sum",
    }
    if isinstance(node, exp.Anonymous):
        return "avg" if node.name.lower() == "mean" and len(node.expressions) == 1 else None
    if isinstance(node, exp.Min | exp.Max) and node.args.get("expression") is not None:
        return None
    return kinds.get(type(node))


def _condition(sql: str) -> Any:
    """Return the tree of a condition over one row."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError as error:
        raise MeasureError(f"it is not SQL: {str(error).splitlines()[0]}") from error
    if (
        isinstance(tree, exp.Alias)
        or not isinstance(tree, exp.Expression)
        or tree.find(exp.Query, exp.Command, exp.DDL, exp.AggFunc, exp.Window) is not None
    ):
        raise MeasureError("it is more than a comparison of columns of one row")
    return tree


def _asked(where: str, measure: Measure) -> str:
    """Return a condition that somebody asks with, over `bucket` and the measure's dimensions,
    written anew from what was understood: no text of a caller reaches the database, and nothing
    that computes more than a comparison. UsageError."""
    from sqlglot import exp

    if not where:
        return ""
    hint = "as in `origin = 'EWR' and bucket >= '2013-02-01'`"
    if len(where) > CONDITION_CHARS_MAX:
        raise UsageError(
            "SX-KPI-003",
            f"a condition of {len(where)} characters is too long",
            hint=f"at most {CONDITION_CHARS_MAX}",
        )
    try:
        tree = _condition(where)
        more = next((node for node in tree.walk() if not _compares(node)), None)
    except RecursionError as error:
        raise UsageError("SX-KPI-003", "a condition so deep cannot be read", hint=hint) from error
    except MeasureError as error:
        raise UsageError(
            "SX-KPI-003", f"`{where}` cannot be a condition: {error}", hint=hint
        ) from error
    if more is not None:
        raise UsageError(
            "SX-KPI-003",
            (
                f"`{where}` cannot be a condition: `{more.sql('duckdb')[:80]}` is more than a "
                "comparison"
            ),
            hint=hint,
        )
    known = (*measure.by, *(("bucket",) if measure.grain else ()))
    for column in tree.find_all(exp.Column):
        if column.name not in known or column.table:
            raise UsageError(
                "SX-KPI-001",
                f"the measure has no dimension `{column.sql('duckdb')}`",
                hint=_near(column.name, known),
            )
    return str(tree.sql("duckdb", comments=False))


def _compares(node: Any) -> bool:
    from sqlglot import exp

    return (
        node.name.lower() in _CALLED
        if isinstance(node, exp.Anonymous)
        else type(node).__name__ in _COMPARED
    )


# ---------------------------------------------------------------- writing


def bucket_sql(measure: Measure, tz: str) -> str:
    """Return the bucket of a row. The branches are there because a column may be TIMESTAMPTZ, a
    naive UTC TIMESTAMP or a local DATE; none depends on the session's time zone."""
    column, zone, grain = _quoted(measure.time), tz.replace("'", "''"), measure.grain
    instant = (
        f"CASE typeof({column}) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST({column} AS "
        f"TIMESTAMPTZ) ELSE timezone('UTC', CAST({column} AS TIMESTAMP)) END"
    )
    if grain in OF_A_DAY:
        return _of_a_day(grain, instant, tz)
    local = (
        f"CASE typeof({column}) WHEN 'DATE' THEN CAST({column} AS TIMESTAMP) ELSE "
        f"timezone('{zone}', {instant}) END"
    )
    return _of_days(grain, local, measure.year_starts)


def _of_a_day(grain: str, instant: str, tz: str) -> str:
    """Return the bucket of an instant below a day. Hours are those of the wall clock."""
    if grain in _MINUTES:  # zones differ from UTC by quarters of an hour
        return f"time_bucket(INTERVAL '{_MINUTES[grain]} minutes', {instant})"
    whole, odd = hours_of(tz)
    if whole:
        return f"time_bucket(INTERVAL '1 hour', {instant})"
    local = f"timezone('{tz.replace(chr(39), chr(39) * 2)}', {instant})"
    start = f"{instant} - ({local} - date_trunc('hour', {local}))"
    if not odd:
        return start
    changes = ", ".join(f"'{change:%Y-%m-%d %H:%M:%S}+00'" for change in odd)
    since = f"list_filter(CAST([{changes}] AS TIMESTAMPTZ[]), lambda x : x <= {instant})"
    return f"greatest({start}, list_max({since}))"  # an hour begins anew where clocks change in it


def _of_days(grain: str, local: str, year_starts: int) -> str:
    shift = (year_starts - 1) % (3 if grain == "1q" else 12)
    if grain not in ("1q", "1y") or not shift:
        return f"CAST(date_trunc('{_TRUNCATE[grain]}', {local}) AS DATE)"
    month = f"date_trunc('month', {local}) - INTERVAL {shift} MONTH"
    return f"CAST(date_trunc('{_TRUNCATE[grain]}', {month}) + INTERVAL {shift} MONTH AS DATE)"


def _rebucket(grain: str, measure: Measure, tz: str) -> str:
    if grain == measure.grain:
        return "bucket"
    if grain in OF_A_DAY:
        return _of_a_day(grain, "bucket", tz)
    zone = tz.replace("'", "''")
    local = f"timezone('{zone}', bucket)" if measure.grain in OF_A_DAY else "bucket"
    return _of_days(grain, local, measure.year_starts)


def _merged(part: Part) -> str:
    if (
        part.merge == "count"
    ):  # no rows at all is a count of 0, not empty; a sum of counts is wider than a count
        return f"CAST(COALESCE(SUM({part.name}), 0) AS BIGINT)"
    return f"{part.merge.upper()}({part.name})"


@functools.lru_cache(maxsize=256)
def _plain(sql: str, of: str) -> str:
    """Return the measure as written; rendered anew only where the dataset's name had to be taken
    off its columns."""
    import sqlglot
    from sqlglot import exp

    written = sqlglot.parse_one(sql, dialect="duckdb")
    if any(column.table for column in written.find_all(exp.Column)):
        return str(_parse(sql, of).sql("duckdb"))
    return sql


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _near(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"it has {', '.join(known) or 'none'}"
