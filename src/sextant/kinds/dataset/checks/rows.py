"""Checks that look at each row: null, unique, in a range, in a list, of a pattern, in another
table. Called by `evaluate`.

A null passes every check but `not_null` (and `unique`, where nulls are equal), as in SQL: whether a
value may be absent is one question, which values may be there is another.
"""

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from decimal import Context as DecimalContext
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sextant.formats.values import text
from sextant.kernel.errors import ProjectError
from sextant.kinds.dataset.checks.finding import Context, Finding, Probe, Unanswerable, need

if TYPE_CHECKING:
    import polars as pl


_FLOAT_DIGITS_MAX = 400  # beyond it a number is infinite as a float


def not_null(params: Mapping[str, Any], context: Context) -> Probe:
    """No value of `columns` is absent."""
    import polars as pl

    columns = _columns(params, "not_null", context)
    mask = (
        pl.any_horizontal(pl.col(columns).is_null())
        if len(columns) > 1
        else pl.col(columns[0]).is_null()
    )
    counts = {
        "failed": mask.sum(),
        **{f"null:{name}": pl.col(name).null_count() for name in columns},
    }

    def conclude(values: dict[str, Any]) -> Finding:
        empty = {name: values[f"null:{name}"] for name in columns if values[f"null:{name}"]}
        detail = (
            ": " + ", ".join(f"`{name}` {count}" for name, count in empty.items())
            if len(columns) > 1
            else ""
        )
        return Finding(failed=values["failed"], measured=empty, detail=detail, mask=mask)

    return Probe(said=f"{_quoted(columns)} not null", counts=counts, conclude=conclude)


def unique(params: Mapping[str, Any], context: Context) -> Probe:
    """No two rows have the same `columns`. Counted are the rows that would have to go."""
    import polars as pl

    columns = _columns(params, "unique", context)
    value = pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)
    # Equal rows have equal hashes: as many hashes as rows prove that all differ, at a ninth of the
    # time. Only fewer need the exact count. Floats and nestings are counted exactly at once, since
    # there equal values may have several representations.
    hashable = not any(
        context.column(name).is_float() or context.column(name).is_nested() for name in columns
    )

    def conclude(values: dict[str, Any]) -> Finding:
        distinct = values["distinct"]
        if hashable and distinct < context.frame.height:
            distinct = (
                context.frame.lazy().select(value.n_unique()).collect(engine="in-memory").item()
            )
        return Finding(
            failed=context.frame.height - distinct,
            measured={"distinct": distinct},
            mask=value.is_duplicated(),
        )

    distinct = pl.struct(columns).hash().n_unique() if hashable else value.n_unique()
    return Probe(
        said=f"{_quoted(columns)} unique", counts={"distinct": distinct}, conclude=conclude
    )


def between(params: Mapping[str, Any], context: Context) -> Probe:
    """Values of `column` lie between `low` and `high`, both included; either may be None. Infinity
    is a number beyond every bound."""
    import polars as pl

    name = need(params, "column", "between")
    type_ = context.column(name)
    low = _bound(params.get("low"), name, type_, context.tz, math.ceil, ROUND_CEILING)
    high = _bound(params.get("high"), name, type_, context.tz, math.floor, ROUND_FLOOR)
    column = pl.col(name)
    outside = pl.lit(value=False)
    if low is not None:
        outside = outside | (column < low if _holds(type_, low) else pl.lit(value=low > 0))
    if high is not None:
        outside = outside | (column > high if _holds(type_, high) else pl.lit(value=high < 0))
    mask = (outside & column.is_not_null()).fill_null(value=False)

    def conclude(values: dict[str, Any]) -> Finding:
        least, most = values["min"], values["max"]
        above = high is not None and most is not None and most > high
        below = low is not None and least is not None and least < low
        worst = (
            least if below and (not above or low - least > most - high) else most if above else None
        )
        detail = f", worst {text(context.show(name, worst))}" if worst is not None else ""
        return Finding(
            failed=values["failed"],
            measured={"min": context.show(name, least), "max": context.show(name, most)},
            detail=detail,
            mask=mask,
        )

    said = f"`{name}` " + (
        f"between {params['low']} and {params['high']}"
        if low is not None and high is not None
        else f"at least {params['low']}"
        if high is None
        else f"at most {params['high']}"
    )
    return Probe(
        said=said,
        counts={"failed": mask.sum(), "min": column.min(), "max": column.max()},
        conclude=conclude,
    )


def accepted_values(params: Mapping[str, Any], context: Context) -> Probe:
    """Values of `column` are among `values`."""
    import polars as pl

    name, accepted = (
        need(params, "column", "accepted_values"),
        list(need(params, "values", "accepted_values")),
    )
    type_ = context.column(name)
    found = [_literal(value, name, type_, context.tz) for value in accepted if value is not None]
    listed = pl.Series([value for value in found if value is not None], dtype=type_)
    said = (
        f"`{name}` among "
        f"{', '.join(str(value) for value in accepted[:10])}{' ...' if len(accepted) > 10 else ''}"
    )
    return _among(name, listed, said, context)


def foreign_key(params: Mapping[str, Any], context: Context) -> Probe:
    """Values of `column` occur in the column that `to` names (`dataset:airlines.carrier`)."""

    name, to = need(params, "column", "foreign_key"), need(params, "to", "foreign_key")
    asset, _, target = to.rpartition(".")
    type_ = context.column(name)
    if asset not in context.references:
        raise Unanswerable(f"there are no rows of `{asset}` to compare with; publish it first")
    reference = context.references[asset]
    if target not in reference.columns:
        raise Unanswerable(f"`{asset}` has no column `{target}`")
    there = reference.schema[target]
    if _kind(there) != _kind(type_):
        raise Unanswerable(f"`{name}` has type {type_} and `{to}` {there}: they cannot be compared")
    known = _in_type(reference.get_column(target).drop_nulls(), type_)
    return _among(name, known, f"`{name}` in `{to}`", context)


def matches(params: Mapping[str, Any], context: Context) -> Probe:
    """The regular expression `pattern` is found in the texts of `column`; write ^ and $ where the
    whole text is meant."""
    import polars as pl

    name, pattern = need(params, "column", "matches"), need(params, "pattern", "matches")
    if context.column(name) != pl.String:
        raise Unanswerable(f"`{name}` has type {context.column(name)}, not text")
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise ProjectError(
            "SX-CHECK-003",
            f"`{pattern}` is not a regular expression",
            hint="look-around and back-references are not supported",
        ) from error
    mask = (~pl.col(name).str.contains(pattern)).fill_null(value=False)
    return Probe(
        said=f"`{name}` matches `{pattern}`",
        counts={"failed": mask.sum()},
        conclude=lambda values: Finding(failed=values["failed"], mask=mask),
    )


def _among(name: str, known: "pl.Series", said: str, context: Context) -> Probe:
    import polars as pl

    mask = (~pl.col(name).is_in(known.implode())).fill_null(value=False)

    def conclude(values: dict[str, Any]) -> Finding:
        if not values["failed"]:
            return Finding(failed=0)
        odd = context.frame.filter(mask).get_column(name).value_counts(sort=True).head(5)
        found = [context.show(name, value) for value in odd.get_column(name)]
        shown = list(dict.fromkeys(found))
        return Finding(
            failed=values["failed"],
            measured={"found": shown},
            detail=f": {', '.join(text(value) for value in shown)}",
            mask=mask,
        )

    return Probe(said=said, counts={"failed": mask.sum()}, conclude=conclude)


def _columns(params: Mapping[str, Any], check: str, context: Context) -> list[str]:
    columns = list(need(params, "columns", check))
    if not columns:
        raise ProjectError(
            "SX-CHECK-008", f"check `{check}` names no column", hint=f'name one: {check}("id")'
        )
    for name in columns:
        context.column(name)
    return columns


def _in_type(values: "pl.Series", type_: "pl.DataType") -> "pl.Series":
    """Return those values that exist in another type of the same kind, in that type: what only the
    wider of two types can hold is equal to nothing in the narrower."""
    import polars as pl

    if values.dtype == type_:
        return values
    cast = values.cast(type_, strict=False)
    back = values.dtype
    if isinstance(back, pl.Decimal):  # a number that was rounded up may have one more digit
        back = pl.Decimal(38, back.scale)
    same = cast.cast(back, strict=False) == values.cast(back)
    return cast.filter(same.fill_null(value=False))


def _kind(type_: "pl.DataType") -> str:
    """Return which types can be compared with each other."""
    import polars as pl

    if type_.is_numeric():
        return "number"
    if isinstance(type_, pl.Datetime):
        return "instant" if type_.time_zone else "local time"
    return "text" if type_ in (pl.String, pl.Categorical, pl.Enum) else str(type_)


def _literal(value: Any, name: str, type_: "pl.DataType", tz: str) -> Any:
    """Return a listed value as the column holds it; None when it can hold no such value."""
    import polars as pl

    if type_.is_numeric():
        number = _number(value, name, type_)
        if type_.is_float():
            listed = value if isinstance(value, float) else number
            return _float(listed, single=type_ == pl.Float32)
        if type_.is_integer():
            return int(number) if number == int(number) and _holds(type_, int(number)) else None
        assert isinstance(type_, pl.Decimal)
        rounded = _quantized(number, type_, ROUND_FLOOR)
        return rounded if rounded == number and _holds(type_, rounded) else None
    if type_ == pl.Boolean and isinstance(value, bool):
        return value
    if _kind(type_) == "text" and isinstance(value, str):
        return value
    if type_ == pl.Date or isinstance(type_, pl.Datetime):
        return _time(value, name, type_, tz)
    raise Unanswerable(f"`{name}` has type {type_}, which does not compare with {value!r}")


def _float(number: Decimal | float, *, single: bool) -> float | None:
    """Return a listed number as a column of floats holds it: the nearest one for a fraction, as
    0.1; None for a whole number that no such float is equal to."""
    value = float(number)
    if single and math.isfinite(value):
        try:
            value = float(struct.unpack("f", struct.pack("f", value))[0])
        except OverflowError:
            return None
    exact = Decimal(number)
    if not exact.is_finite():
        return value
    is_whole = exact == exact.to_integral_value()
    is_lost = math.isinf(value) or (is_whole and Decimal(value) != exact)
    return None if is_lost else value


def _bound(
    value: Any,
    name: str,
    type_: "pl.DataType",
    tz: str,
    whole: Callable[[Any], int],
    rounding: str,
) -> Any:
    """Return a bound as the column's kind of value: the nearest one inside of it that the column's
    type can tell apart. Unanswerable when the two do not compare."""
    import polars as pl

    if value is None:
        return None
    if type_.is_numeric():
        number = _number(value, name, type_)
        if type_.is_integer():
            return whole(number)
        if isinstance(type_, pl.Decimal):
            return _quantized(number, type_, rounding)
        # a fraction, as 0.1, is its nearest float; a whole number is meant exactly
        is_near = number.is_finite() and number.adjusted() < _FLOAT_DIGITS_MAX
        is_whole = is_near and number == number.to_integral_value()
        return _inside(int(number), rounding) if is_whole else float(number)
    if type_ == pl.Date or isinstance(type_, pl.Datetime):
        return _time(value, name, type_, tz)
    if _kind(type_) == "text" and isinstance(value, str):
        return value
    raise Unanswerable(f"`{name}` has type {type_}, which does not compare with {value!r}")


def _number(value: Any, name: str, type_: "pl.DataType") -> Decimal:
    """Return a number of a check exactly; decimals are text in a manifest."""
    try:
        if isinstance(value, float) and value.is_integer():
            return Decimal(int(value))  # beyond 2^53 its text is that of another number
        if not isinstance(value, (bool, date)):
            return Decimal(value if isinstance(value, int) else str(value))
    except InvalidOperation:
        pass
    raise Unanswerable(f"`{name}` has type {type_}, which does not compare with {value!r}")


def _inside(value: int, rounding: str) -> float:
    """Return the nearest float inside of a bound: beyond 2^53 not every whole number is one."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
    if rounding == ROUND_CEILING and nearest < value:
        return math.nextafter(nearest, math.inf)
    if rounding == ROUND_FLOOR and nearest > value:
        return math.nextafter(nearest, -math.inf)
    return nearest


def _quantized(number: Decimal, type_: "pl.Decimal", rounding: str) -> Decimal:
    step = Decimal(1).scaleb(-type_.scale)
    digits = max(1, number.adjusted() + 1) + type_.scale + 1
    return number.quantize(step, rounding=rounding, context=DecimalContext(prec=digits))


def _holds(type_: "pl.DataType", value: Any) -> bool:
    """Say whether a type can hold a whole number or a decimal of its scale at all."""
    import polars as pl

    if type_.is_integer():
        bits = int(str(type_).lstrip("UInt"))
        unsigned = str(type_).startswith("U")
        low, high = (0, 1 << bits) if unsigned else (-(1 << bits - 1), 1 << bits - 1)
        return bool(low <= value < high)
    if isinstance(type_, pl.Decimal):
        return bool(abs(value) < Decimal(10) ** (type_.precision - type_.scale))
    return True


def _time(value: Any, name: str, type_: "pl.DataType", tz: str) -> Any:
    """Return a date or an instant; one without a zone is one of the project's."""
    import polars as pl

    try:
        if isinstance(type_, pl.Datetime) and not isinstance(value, datetime):
            value = datetime.fromisoformat(str(value))
        elif type_ == pl.Date and not isinstance(value, date):
            value = date.fromisoformat(str(value))
    except ValueError as error:
        raise Unanswerable(f"`{name}` has type {type_}, but `{value}` is not a time") from error
    if isinstance(type_, pl.Datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(tz))
        return zoned.astimezone(UTC) if type_.time_zone else value.replace(tzinfo=None)
    return value


def _quoted(columns: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)
