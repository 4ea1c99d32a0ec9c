"""The SQL of KPIs: values per bucket and dimensions, and their roll-up, so that a ratio is never
averaged.

A measure is an aggregate over rows. Where its aggregates add up (count, sum, min, max; an average
is sum over count) the stored values carry these *parts* and a roll-up merges parts: sums of sums,
least of least. Where they do not (median, distinct counts) a roll-up goes back to the rows. Used by
the loader, the workers and `sextant kpi`. DuckDB's dialect.
"""

import difflib
import hashlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from sextant.formats import values as formatted
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import CONDITION_CHARS_MAX
from sextant.kernel.nouns import CheckResult, Measure

if TYPE_CHECKING:
    import pyarrow as pa

GRAINS = ("1h", "1d", "1w", "1mo", "")
_ORDER = {"1h": 0, "1d": 1, "1w": 2, "1mo": 3, "": 4}
_TRUNCATE = {"1d": "day", "1w": "week", "1mo": "month"}
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
    from sextant.author.sqlfile import fingerprint

    said = (
        measure.of,
        fingerprint(measure.sql),
        fingerprint(measure.where),
        measure.grain,
        measure.by,
        tz,
    )
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def values_sql(
    measure: Measure, *, table: str, time: str = "", tz: str = "UTC", label: str = ""
) -> str:
    """Return the query for a KPI's stored values, one row per bucket and full set of dimensions.

    table   the name under which the rows of `measure.of` can be read
    time    their column of instants (naive ones are UTC; a DATE is a local day), needed unless
            `grain` is ""
    label   a column that says which partition a row belongs to, kept apart and handed through: many
            partitions in one query
    Result  columns `bucket` (DATE; TIMESTAMPTZ for 1h; absent without a grain), the dimensions,
            `p0` ..., `value`,
            `definition`; `value` is the measure of just these rows
    """
    split = parts(measure.sql, measure.of)
    select = [f"{_bucket(time, measure.grain, tz)} AS bucket"] if measure.grain else []
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
    time: str = "",
    tz: str = "UTC",
) -> str:
    """Return the query for the measure at any coarser level: columns `bucket` (if a grain), `by`,
    `value`.

    table  the stored values; for a measure that `needs_rows`, the rows of `measure.of` (then `time`
           is their column of instants)
    by     some of the measure's dimensions
    grain  as declared when None; a coarser one; "" for one value over everything
    where  a condition over `bucket` and the measure's dimensions
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
    if (
        grain not in GRAINS
        or _ORDER[grain] < _ORDER[measure.grain]
        or (grain and not measure.grain)
    ):
        fit = [g for g in GRAINS if g and measure.grain and _ORDER[g] >= _ORDER[measure.grain]]
        raise UsageError(
            "SX-KPI-002",
            f"the measure has no values by `{grain}`",
            hint=(
                f"it is kept by {measure.grain or 'nothing'}; choose {', '.join(fit) or 'no grain'}"
            ),
        )
    where = _asked(where, measure)
    split = parts(measure.sql, measure.of)
    if split.exact_from_rows:
        inner = (
            f"SELECT *, {_bucket(time, measure.grain, tz)} AS bucket FROM {_quoted(table)}"
            if measure.grain
            else f"SELECT * FROM {_quoted(table)}"
        )
        inner += f" WHERE (\n{measure.where}\n)" if measure.where else ""
        value = f"(\n{_plain(measure.sql, measure.of)}\n)"
    else:
        inner = f"SELECT * FROM {_quoted(table)}"
        value = split.final
        for part in split.parts:
            value = value.replace(f"{{{part.name}}}", _merged(part))
    select = [f"{_rebucket(grain, measure.grain, tz)} AS bucket"] if grain else []
    select += [_quoted(dimension) for dimension in by]
    groups = ", ".join(str(n) for n in range(1, len(select) + 1))
    tail = f"\nGROUP BY {groups}\nORDER BY {groups}" if groups else ""
    condition = f"\nWHERE (\n{where}\n)" if where else ""
    return (
        "SELECT "
        + ",\n  ".join([*select, f"{value} AS value"])
        + f"\nFROM ({inner}) AS stored{condition}{tail}"
    )


def reconcile(
    asset: str, measure: Measure, rows: "pa.Table", values: "pa.Table", *, of: str, tz: str
) -> CheckResult:
    """Check that the stored parts, added up over everything, say the same as the measure over all
    rows at once.

    rows    what the values were made from; values: what is about to be stored
    Result  a failed check when they differ by more than rounding
    """
    import math

    import duckdb

    with duckdb.connect() as connection:
        connection.register("rows_", rows)
        connection.register("values_", values)
        connection.execute(f"SET TimeZone = '{tz}'")
        connection.execute("SET threads = 1")  # sums of floats depend on their order
        where = f" WHERE (\n{measure.where}\n)" if measure.where else ""
        one = (
            connection.sql(f"SELECT (\n{_plain(measure.sql, of)}\n) AS value FROM rows_{where}")
            .to_arrow_table()
            .column("value")[0]
            .as_py()
        )
        other = (
            one
            if needs_rows(measure)
            else connection.sql(rollup_sql(measure, table="values_", grain="", tz=tz))
            .to_arrow_table()
            .column("value")[0]
            .as_py()
        )
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
    written anew from what was understood: no text of a stranger reaches the database, and nothing
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


def _bucket(time: str, grain: str, tz: str) -> str:
    """Return the bucket of a row. The branches are there because a column may be TIMESTAMPTZ, a
    naive UTC TIMESTAMP or a local DATE; none depends on the session's time zone."""
    column, zone = _quoted(time), tz.replace("'", "''")
    instant = (
        f"CASE typeof({column}) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST({column} AS "
        f"TIMESTAMPTZ) ELSE timezone('UTC', CAST({column} AS TIMESTAMP)) END"
    )
    if grain == "1h":
        return f"time_bucket(INTERVAL '1 hour', {instant})"
    local = (
        f"CASE typeof({column}) WHEN 'DATE' THEN CAST({column} AS TIMESTAMP) ELSE "
        f"timezone('{zone}', {instant}) END"
    )
    return f"CAST(date_trunc('{_TRUNCATE[grain]}', {local}) AS DATE)"


def _rebucket(grain: str, stored: str, tz: str) -> str:
    if grain == stored:
        return "bucket"
    local = f"timezone('{tz}', bucket)" if stored == "1h" else "bucket"
    return f"CAST(date_trunc('{_TRUNCATE[grain]}', {local}) AS DATE)"


def _merged(part: Part) -> str:
    if (
        part.merge == "count"
    ):  # no rows at all is a count of 0, not empty; a sum of counts is wider than a count
        return f"CAST(COALESCE(SUM({part.name}), 0) AS BIGINT)"
    return f"{part.merge.upper()}({part.name})"


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
