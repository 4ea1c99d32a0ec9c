"""Whether a check of data asks for at least as much as another one did. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import CheckSpec
from sextant.project.weakening import is_same

_Params = Mapping[str, Any]


def asks_as_much(before: CheckSpec, after: CheckSpec) -> bool:
    """Say whether what passes `after` passes `before` too, as far as that can be told."""
    if is_same(before, after):
        return True
    judge = _JUDGES.get(before.check.removeprefix("check.dataops."))
    return judge is not None and judge(before.params, after.params)


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
    """Say whether a bound is there and not below another; no where they do not compare."""
    if less is None or more is None:
        return False
    try:
        return bool(less <= more)
    except TypeError:
        return False


def _accepted_values(before: _Params, after: _Params) -> bool:
    return before["column"] == after["column"] and all(
        any(one == other and type(one) is type(other) for other in before["values"])
        for one in after["values"]
    )


def _schema(before: _Params, after: _Params) -> bool:
    if before.get("mode") == "freeze" and after.get("mode") != "freeze":
        return False
    was, now = before.get("columns", {}), after.get("columns", {})
    if before.get("mode") == "freeze":
        return bool(was == now)
    return all(now.get(name) == type_ for name, type_ in was.items())


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
}
