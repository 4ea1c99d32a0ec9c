"""Whether a check of data asks for at least as much as another one did. Pure."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import CheckSpec
from sextant.kinds.dataset.declarations.sqlfile import fingerprint
from sextant.project.weakening import is_same

_Params = Mapping[str, Any]


def asks_as_much(before: CheckSpec, after: CheckSpec) -> bool:
    """Say whether what passes `after` passes `before` too, as far as that can be told."""
    if is_same(before, after):
        return True
    judge = _JUDGES.get(before.check.removeprefix("check.dataops."))
    return judge is not None and judge(before.params, after.params)


def apart(check: CheckSpec) -> Iterator[CheckSpec]:
    """Yield what a check asks for one by one: columns that have no empty value, bounds."""
    word, params = check.check.removeprefix("check.dataops."), check.params
    if word == "not_null":
        split: list[tuple[str, dict[str, Any]]] = [
            (name, {"columns": [name]}) for name in params["columns"]
        ]
    elif word in ("between", "row_count"):
        split = [
            (f"{side} {params[side]}", {**params, "low": None, "high": None, side: params[side]})
            for side in ("low", "high")
            if params[side] is not None
        ]
    else:
        return
    if len(split) > 1:
        for name, asked in split:
            asked.pop("tolerate", None)
            yield msgspec.structs.replace(check, name=f"{check.name}, {name}", params=asked)


def sees_as_much(before: CheckSpec, after: CheckSpec) -> bool:
    """Say whether a check of another scope still finds all that was found: what no two rows of the
    table share no two of a partition do. Shares of rows, and the least number, are of the whole."""
    if (before.scope, after.scope) != ("partition", "table"):
        return before.scope == after.scope
    word = before.check.removeprefix("check.dataops.")
    return (word == "unique" and not after.params.get("tolerate")) or (
        word == "row_count" and before.params["low"] is None
    )


def _not_null(before: _Params, after: _Params) -> bool:
    return set(before["columns"]) <= set(after["columns"])


def _unique(before: _Params, after: _Params) -> bool:
    return set(after["columns"]) <= set(before["columns"])


def _between(before: _Params, after: _Params) -> bool:
    return before["column"] == after["column"] and _within(before, after)


def _within(before: _Params, after: _Params) -> bool:
    low, high = before["low"], before["high"]
    return (low is None or _reaches(low, after["low"])) and (
        high is None or _reaches(after["high"], high)
    )


def _reaches(less: Any, more: Any) -> bool:
    """Say whether a bound is there and not below another; no where they do not compare. What is
    written as text may be a number or an instant: it must be so however it can be read."""
    if less is None or more is None:
        return False
    if less == more:
        return True
    read: list[tuple[Any, Any]] = [(as_(less), as_(more)) for as_ in (_text, _number, _instant)]
    read = [(one, other) for one, other in read if one is not None and other is not None]
    try:
        return bool(read) and all(one <= other for one, other in read)
    except TypeError:  # an instant of no zone
        return False


def _text(bound: Any) -> str | None:
    return bound if isinstance(bound, str) else None


def _number(bound: Any) -> Decimal | None:
    try:
        number = Decimal(str(bound))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _instant(bound: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(bound)
    except (TypeError, ValueError):
        return None


def _accepted_values(before: _Params, after: _Params) -> bool:
    return before["column"] == after["column"] and all(
        any(one == other and type(one) is type(other) for other in before["values"])
        for one in after["values"]
        if one is not None  # empty values pass anyway
    )


def _schema(before: _Params, after: _Params) -> bool:
    if before.get("mode") == "freeze" and after.get("mode") != "freeze":
        return False
    was, now = before.get("columns", {}), after.get("columns", {})
    if before.get("mode") == "freeze":
        return bool(was == now)
    return all(now.get(name) == type_ for name, type_ in was.items())


def _sql(before: _Params, after: _Params) -> bool:
    return fingerprint(before["query"]) == fingerprint(after["query"])


def _fresh(before: _Params, after: _Params) -> bool:
    return length_s(after["within"]) <= length_s(before["within"])


_JUDGES: dict[str, Callable[[_Params, _Params], bool]] = {
    "not_null": _not_null,
    "unique": _unique,
    "between": _between,
    "accepted_values": _accepted_values,
    "row_count": _within,
    "schema": _schema,
    "fresh": _fresh,
    "sql": _sql,
}
