"""Checks of a frame as a whole: how many rows, which columns, how new, and what a query or a
function says. Called by `evaluate`."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from datetime import time as midnight
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sextant.formats.values import plain
from sextant.kernel.clock import NS, from_datetime
from sextant.kernel.errors import ProjectError
from sextant.kinds.dataset.checks.finding import Context, Finding, Unanswerable, need

if TYPE_CHECKING:
    import polars as pl

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def row_count(params: Mapping[str, Any], context: Context) -> Finding:
    """There are at least `low` and at most `high` rows; either may be None."""
    low, high, rows = params.get("low"), params.get("high"), context.frame.height
    ok = (low is None or rows >= low) and (high is None or rows <= high)
    said = (
        f"between {low} and {high} rows"
        if low is not None and high is not None
        else f"at least {low} rows"
        if high is None
        else f"at most {high} rows"
    )
    return Finding(
        failed=0 if ok else 1, measured={"rows": rows}, message=f"{said}: there are {rows}"
    )


def schema(params: Mapping[str, Any], context: Context) -> Finding:
    """The columns are the expected ones: `columns` (name -> type), or those of the live version
    where none are given.

    mode  `freeze`: exactly these; `evolve`: columns may be added and numbers may widen, none may go
    """
    declared = dict(params.get("columns") or {})
    expected, mode = declared or dict(context.expect_schema), params.get("mode", "evolve")
    found = {name: _type_name(name, type_) for name, type_ in context.schema.items()}
    added = (
        [name for name in found if name not in expected] if expected and mode == "freeze" else []
    )
    missing = [name for name in expected if name not in found]
    changed = {
        name: [expected[name], found[name]]
        for name in expected
        if name in found and not fits(expected[name], found[name], mode)
    }
    parts = [f"`{name}` is missing" for name in missing]
    parts += [f"`{name}` is {new} instead of {old}" for name, (old, new) in changed.items()]
    parts += [f"`{name}` is new" for name in added]
    measured = {
        key: value
        for key, value in (("added", added), ("missing", missing), ("changed", changed))
        if value
    }
    return Finding(
        failed=len(parts),
        measured=measured,
        message=f"columns ({mode}): " + (", ".join(parts) or f"{len(found)} as expected"),
    )


def fresh(params: Mapping[str, Any], context: Context) -> Finding:
    """The newest value of the dataset's time column is at most `within` ("36h") old."""
    within = need(params, "within", "fresh")
    length_s, name = _length_s(within), context.time
    if not name:
        raise ProjectError(
            "SX-CHECK-004",
            "check `fresh` needs the dataset's time column",
            hint='declare it: @sx.dataset(time="...")',
        )
    context.column(name)
    newest = _instant(context.frame.get_column(name).max(), name, context.tz)
    if newest is None:
        return Finding(
            failed=1,
            measured={"newest": None},
            message=f"`{name}` within {within}: there is no row with a time",
        )
    age_s = (context.now_ns - from_datetime(newest)) / NS
    message = (
        f"`{name}` within {within}: the newest is {newest:%Y-%m-%d %H:%M} UTC, {_long(age_s)} old"
    )
    return Finding(
        failed=0 if age_s <= length_s else 1,
        measured={"newest": plain(newest), "age_s": round(age_s, 3)},
        message=message,
    )


def sql(params: Mapping[str, Any], context: Context) -> Finding:
    """The DuckDB query returns no row. It reads the dataset by its own name or as `this`; tables
    that other checks refer to go by theirs."""
    import duckdb

    query = need(params, "query", "sql")
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute(f"SET TimeZone = '{context.tz}'")
        connection.execute("SET threads = 1")  # sums of floats depend on their order
        rows = context.frame.to_arrow()
        for name in ("this", context.asset.partition(":")[2]):
            connection.register(name, rows)
        for asset, frame in context.references.items():
            connection.register(asset.partition(":")[2], frame.to_arrow())
        try:
            statements = duckdb.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ProjectError(
                    "SX-CHECK-002",
                    "a check's query must be one SELECT",
                    hint="it returns the rows that fail; an empty result passes",
                )
            failing = _frame(connection.sql(query).to_arrow_table())
        except duckdb.Error as error:
            raise ProjectError(
                "SX-CHECK-002",
                f"the query of a check fails: {error}",
                hint="try it in DuckDB over the dataset's rows",
            ) from error
    return Finding(
        failed=failing.height,
        message="" if failing.height else "the query returns no row",
        rows=failing,
    )


def python(params: Mapping[str, Any], context: Context) -> Finding:
    """The function says so: it gets the frame and returns a bool, the failing rows, or something
    with `ok` and `message`."""
    import polars as pl

    name = need(params, "function", "python")
    if name not in context.functions:
        raise ProjectError(
            "SX-CHECK-005",
            f"there is no check function `{name}`",
            hint=f"there are {', '.join(sorted(context.functions)) or 'none'}",
        )
    try:
        said = context.functions[name](context.frame)
        said = said.collect() if isinstance(said, pl.LazyFrame) else said
    except Exception as error:
        raise Unanswerable(f"`{name}` raised {type(error).__name__}: {error}") from error
    if isinstance(said, pl.DataFrame):
        return Finding(failed=said.height, rows=said)
    if hasattr(said, "to_arrow_table") or type(said).__module__.partition(".")[0] in (
        "pandas",
        "pyarrow",
    ):
        rows = _frame(said.to_arrow_table() if hasattr(said, "to_arrow_table") else said)
        return Finding(failed=rows.height, rows=rows)
    if isinstance(said, bool) or type(said).__name__ == "bool":  # NumPy's bool is called so too
        return Finding(failed=0 if said else 1, message=f"`{name}` says {'yes' if said else 'no'}")
    if hasattr(said, "ok"):
        failed = 0 if said.ok else max(1, int(getattr(said, "failed", 1)))
        return Finding(
            failed=failed,
            measured=plain(dict(getattr(said, "measured", {}))),
            message=str(getattr(said, "message", ""))
            or f"`{name}` says {'yes' if said.ok else 'no'}",
        )
    hint = "return True or False, a frame of the failing rows, or an object with `ok` and `message`"
    raise ProjectError(
        "SX-CHECK-006", f"check function `{name}` returned `{type(said).__name__}`", hint=hint
    )


def _type_name(column: str, type_: "pl.DataType") -> str:
    """Return the short name under which the lake stores a Polars type."""
    import polars as pl

    from sextant.stores.lake.types import canonical_type, type_name

    if type_ == pl.Null:
        return "null"
    return type_name(canonical_type(pl.Series([], dtype=type_).to_arrow().type, column))


def fits(expected: str, found: str, mode: str) -> bool:
    """Say whether a column may have the type `found` where `expected` is declared or live: with
    `evolve` one that the lake widens to, or from."""
    from sextant.stores.lake.types import merged, type_of

    if found in {expected, "null"}:  # a column of nulls takes the table's type
        return True
    return mode != "freeze" and merged(type_of(expected), type_of(found)) is not None


def _length_s(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    if match is None:
        raise ProjectError(
            "SX-CHECK-009",
            f"`{text}` is not a length of time",
            hint="write it as 90s, 30m, 36h, 3d or 2w",
        )
    return float(match[1]) * _SECONDS[match[2]]


def _long(seconds: float) -> str:
    """Return a length for people: "45 min", "35.2 h", "4.1 days"."""
    if abs(seconds) < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if abs(seconds) < 172800 else f"{seconds / 86400:.1f} days"


def _instant(value: Any, name: str, tz: str) -> datetime | None:
    """Return a time as an instant; without a zone it is one of the project's, a date is its first
    moment there."""
    if value is None:
        return None
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(tz))
        return zoned.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, midnight(), tzinfo=ZoneInfo(tz)).astimezone(UTC)
    raise Unanswerable(f"`{name}` holds no times")


def _frame(value: Any) -> "pl.DataFrame":
    import polars as pl

    frame = (
        pl.from_pandas(value)
        if type(value).__module__.partition(".")[0] == "pandas"
        else pl.from_arrow(value)
    )
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()
