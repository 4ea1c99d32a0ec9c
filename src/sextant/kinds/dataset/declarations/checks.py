"""Constructors of checks: each returns a CheckSpec, data only; the evaluation lives in
`kinds/dataset/checks`.

severity  `error` stops the release, `warn` is shown and lets it pass
tolerate  share of rows, 0..1, that may fail before the check does
scope     `partition` looks at the rows being made, `table` at the whole dataset, `live` runs on the
          clock and never gates
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, Never

from sextant.kernel.errors import BadData, UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import CheckSpec, Severity
from sextant.kinds.dataset.declarations.declared import P, PythonCheck, R
from sextant.project.collect import (
    caller,
    fitting,
    fitting_text,
    fitting_texts,
    refuse_unknown,
    report,
)
from sextant.stores.lake.types import type_of

Scope = Literal["partition", "table"]
Bound = int | float | Decimal | str | date | datetime


def not_null(
    *columns: str, severity: Severity = "error", tolerate: float = 0.0, **unknown: Never
) -> CheckSpec:
    """No empty value in these columns."""
    columns = fitting_texts("not_null", columns)
    return _spec(
        "not_null",
        _join(columns),
        {"columns": _columns("not_null", columns)},
        severity,
        tolerate,
        unknown=unknown,
    )


def unique(
    *columns: str,
    severity: Severity = "error",
    tolerate: float = 0.0,
    scope: Scope = "partition",
    **unknown: Never,
) -> CheckSpec:
    """No two rows agree in all these columns. `key=` of a dataset adds this check by itself."""
    columns = fitting_texts("unique", columns)
    return _spec(
        "unique",
        _join(columns),
        {"columns": _columns("unique", columns)},
        severity,
        tolerate,
        scope=scope,
        unknown=unknown,
    )


def between(
    column: str,
    low: Bound | None = None,
    high: Bound | None = None,
    *,
    severity: Severity = "error",
    tolerate: float = 0.0,
    **unknown: Never,
) -> CheckSpec:
    """Values lie between `low` and `high`, both included; None leaves a side open. Empty values
    pass."""
    column = fitting_text("between", column)
    kinds = {_kind("between", column, bound, "bound") for bound in (low, high) if bound is not None}
    if not kinds:
        report(
            "SX-PROJ-010",
            f"`between({column})` has neither a low nor a high bound",
            hint=f'write `between("{column}", 0, 100)`',
        )
    elif len(kinds) > 1:
        report(
            "SX-PROJ-010",
            f"`between({column})` mixes {' and '.join(sorted(kinds))}",
            hint="both bounds of one kind",
        )
    elif (
        low is not None and high is not None and "" not in kinds and _instant(low) > _instant(high)
    ):
        report(
            "SX-PROJ-010",
            f"`between({column}, {low}, {high})` is empty",
            hint="the low bound comes first",
        )
    name = ", ".join([column, *(str(b) for b in (low, high) if b is not None)])
    return _spec(
        "between",
        name,
        {"column": column, "low": _plain(low), "high": _plain(high)},
        severity,
        tolerate,
        unknown=unknown,
    )


def accepted_values(
    column: str,
    values: "list[Any] | tuple[Any, ...] | set[Any]",
    *,
    severity: Severity = "error",
    tolerate: float = 0.0,
    **unknown: Never,
) -> CheckSpec:
    """Only these values. Empty values pass."""
    column = fitting_text("accepted_values", column)
    given = fitting("values", values, (list, tuple, set, frozenset), 'a list: `["a", "b"]`', [])
    listed = sorted(given, key=str) if isinstance(given, set | frozenset) else list(given)
    kinds = {
        _kind("accepted_values", column, value, "value") for value in listed if value is not None
    } - {""}
    if len(kinds) > 1:
        report(
            "SX-PROJ-010",
            f"`accepted_values({column})` mixes {' and '.join(sorted(kinds))}",
            hint="list values of one kind, that of the column",
        )
    if not listed:
        report(
            "SX-PROJ-010",
            f"`accepted_values({column})` accepts nothing",
            hint="list at least one value",
        )
    return _spec(
        "accepted_values",
        column,
        {"column": column, "values": [_plain(value) for value in listed]},
        severity,
        tolerate,
        unknown=unknown,
    )


def matches(
    column: str,
    pattern: str,
    *,
    severity: Severity = "error",
    tolerate: float = 0.0,
    **unknown: Never,
) -> CheckSpec:
    """The regular expression is found in the text; write `^` and `$` where the whole text is meant.
    Empty values pass."""
    column, pattern = fitting_text("matches", column), fitting_text("pattern", pattern)
    try:
        re.compile(pattern)
    except re.error as error:
        report(
            "SX-PROJ-010",
            f"`{pattern}` is not a regular expression: {error}",
            hint='write it raw, as r"N\\d+"',
        )
    else:
        _other_dialect(pattern)
    return _spec(
        "matches",
        f"{column}, {pattern}",
        {"column": column, "pattern": pattern},
        severity,
        tolerate,
        unknown=unknown,
    )


def foreign_key(
    column: str, *, to: str, severity: Severity = "error", tolerate: float = 0.0, **unknown: Never
) -> CheckSpec:
    """Every value stands in the column `to` (`airlines.carrier`) of another dataset. Empty values
    pass."""
    column, to = fitting_text("foreign_key", column), fitting_text("to", to, "rows.column")
    asset, dot, target = to.removeprefix("dataset:").partition(".")
    if not (asset and dot and target) or "." in target:
        report(
            "SX-PROJ-011",
            f"`{to}` does not name a column of a dataset",
            hint='write `to="airlines.carrier"`',
        )
    name = f"{column}, {asset}.{target}"
    return _spec(
        "foreign_key",
        name,
        {"column": column, "to": f"dataset:{asset}.{target}"},
        severity,
        tolerate,
        unknown=unknown,
    )


def row_count(
    low: int | None = None,
    high: int | None = None,
    *,
    severity: Severity = "error",
    scope: Scope = "partition",
    **unknown: Never,
) -> CheckSpec:
    """The number of rows lies between `low` and `high`, both included; None leaves a side open."""
    if low is None and high is None:
        report(
            "SX-PROJ-010",
            "`row_count` has neither a low nor a high bound",
            hint="write `row_count(1)` for at least one row",
        )
    elif isinstance(low, int) and isinstance(high, int) and low > high:
        report(
            "SX-PROJ-010", f"`row_count({low}, {high})` is empty", hint="the low bound comes first"
        )
    for bound in (low, high):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            report(
                "SX-PROJ-010",
                f"`row_count` has the bound {bound!r}",
                hint="a whole number of rows",
            )
    name = ", ".join(str(b) for b in (low, high) if b is not None)
    return _spec(
        "row_count", name, {"low": low, "high": high}, severity, 0.0, scope=scope, unknown=unknown
    )


def schema(
    columns: Mapping[str, str],
    *,
    mode: Literal["evolve", "freeze"] = "freeze",
    severity: Severity = "error",
    **unknown: Never,
) -> CheckSpec:
    """These columns (name -> type) exist with these types; with `freeze` there are no others."""
    columns = fitting("schema", columns, Mapping, "a mapping of columns to types", {})
    columns = {
        fitting_text("schema", column): fitting_text("schema", type_, "string")
        for column, type_ in columns.items()
    }
    for column, type_ in columns.items():
        try:
            type_of(type_)
        except BadData as error:
            report("SX-PROJ-010", f"`schema`, column `{column}`: {error.message}", hint=error.hint)
    if mode not in ("evolve", "freeze"):
        report("SX-PROJ-010", f"`{mode}` is not a mode of `schema`", hint="evolve or freeze")
    return _spec(
        "schema", mode, {"columns": dict(columns), "mode": mode}, severity, 0.0, unknown=unknown
    )


def fresh(*, within: str, severity: Severity = "error", **unknown: Never) -> CheckSpec:
    """The newest data is at most this old (`36h`), looked at on the clock while the dataset is
    live."""
    within = fitting_text("within", within, "1d")
    try:
        length_s(within)
    except UsageError as error:
        report("SX-PROJ-012", f"`within`: {error.message}", hint="write it as `36h`, `3d` or `10m`")
    return _spec("fresh", within, {"within": within}, severity, 0.0, scope="live", unknown=unknown)


def sql_check(
    name: str,
    query: str,
    *,
    severity: Severity = "error",
    tolerate: float = 0.0,
    scope: Scope = "partition",
    **unknown: Never,
) -> CheckSpec:
    """The DuckDB query returns the failing rows: none is good. It reads the rows by the dataset's
    own name, or as `this`."""
    name, query = fitting_text("sql_check", name), fitting_text("query", query, "select 1")
    spec = _spec("sql", name, {"query": query}, severity, tolerate, scope=scope, unknown=unknown)
    return CheckSpec(
        name=name, check=spec.check, params=spec.params, severity=spec.severity, scope=spec.scope
    )


def check(
    *,
    name: str = "",
    severity: Severity = "error",
    tolerate: float = 0.0,
    scope: Scope = "partition",
    **unknown: Never,
) -> Callable[[Callable[P, R]], PythonCheck[P, R]]:
    """Make a check of a function of the rows. It returns True or False, or the failing rows as a
    frame.

    @sx.check(severity="warn")
    def early(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("dep_delay") < -30)
    """

    name = fitting_text("name", name)

    def decorate(function: Callable[P, R]) -> PythonCheck[P, R]:
        entry = f"{function.__module__}:{function.__qualname__}"
        spec = _spec(
            "python",
            name or function.__name__,
            {"function": entry},
            severity,
            tolerate,
            scope=scope,
            unknown=unknown,
        )
        spec = CheckSpec(
            name=name or function.__name__,
            check=spec.check,
            params=spec.params,
            severity=spec.severity,
            scope=spec.scope,
        )
        return PythonCheck(function, spec, caller())

    return decorate


CONSTRUCTORS: dict[str, Callable[..., CheckSpec]] = {
    "not_null": not_null,
    "unique": unique,
    "between": between,
    "accepted_values": accepted_values,
    "matches": matches,
    "foreign_key": foreign_key,
    "row_count": row_count,
    "schema": schema,
    "fresh": fresh,
    "sql_check": sql_check,
}


def _spec(
    kind: str,
    text: str,
    params: dict[str, Any],
    severity: Severity,
    tolerate: float,
    *,
    scope: Literal["partition", "table", "live"] = "partition",
    unknown: Mapping[str, Any],
) -> CheckSpec:
    verb = {"sql": "sql_check", "python": "check"}.get(kind, kind)
    refuse_unknown(verb, unknown, _keywords(verb))
    if severity not in ("warn", "error"):
        report("SX-PROJ-010", f"`{severity}` is not a severity of `{verb}`", hint="warn or error")
    if scope not in ("partition", "table", "live"):
        report("SX-PROJ-010", f"`{scope}` is not a scope of `{verb}`", hint="partition or table")
    if not isinstance(tolerate, int | float) or not 0 <= tolerate < 1:
        report(
            "SX-PROJ-010",
            f"`{verb}` cannot tolerate a share of {tolerate}",
            hint="a share of rows from 0 up to but not 1: `tolerate=0.2`",
        )
    elif tolerate:
        params = {**params, "tolerate": float(tolerate)}
    return CheckSpec(
        name=f"{kind}({text})",
        check=f"check.dataops.{kind}",
        params=params,
        severity=severity,
        scope=scope,
    )


def _kind(verb: str, column: str, value: object, what: str) -> str:
    """Return which kind of value a check compares with; "" when there is no such kind, which is
    reported."""
    if isinstance(value, bool):
        kind = "" if what == "bound" else "truth values"
    elif isinstance(value, int | float | Decimal):
        kind = "numbers" if math.isfinite(value) else ""
    elif isinstance(value, str):
        kind = "text"
    else:
        kind = (
            "times" if isinstance(value, datetime) else "dates" if isinstance(value, date) else ""
        )
    if not kind:
        report(
            "SX-PROJ-010",
            f"`{verb}({column})` has the {what} {value!r}",
            hint="a finite number, text, a date or a time"
            + (", or None for an open side" if what == "bound" else ", True or False"),
        )
    return kind


def _instant(bound: Any) -> Any:
    """Return a bound in a form in which those of one kind compare."""
    naive = isinstance(bound, datetime) and bound.tzinfo is None
    return bound.replace(tzinfo=UTC) if naive else bound


def _plain(value: Any) -> Any:
    """Return a value as a manifest holds it: decimals, dates and times as text."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _other_dialect(pattern: str) -> None:
    """Report a pattern that Python understands and the engine of the checks does not."""
    import polars as pl

    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        report(
            "SX-PROJ-010",
            f"`{pattern}` is not a regular expression of this check",
            hint="look-around and back-references are not supported",
        )


def _keywords(verb: str) -> list[str]:
    code = (check if verb == "check" else CONSTRUCTORS[verb]).__code__
    return [
        name
        for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if name != "columns"
    ]


def _columns(verb: str, columns: tuple[str, ...]) -> list[str]:
    if not columns:
        report("SX-PROJ-010", f"`{verb}` names no column", hint=f'write `{verb}("origin", "dest")`')
    return list(columns)


def _join(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)
