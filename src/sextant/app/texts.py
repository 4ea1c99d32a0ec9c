"""Every text that an operation of `Platform` is given is checked before anything else happens: its
length, and that it can be shown; and that a number is one that a database holds. What is said once
stands in the ledger for good."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sextant.app.operations.row import Operation
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import (
    CONDITION_CHARS_MAX,
    EDGES_REPORTED_MAX,
    INTEGER_MAX,
    LABEL_CHARS_MAX,
    LABEL_VALUE_BYTES_MAX,
    LINE_CHARS_MAX,
    LIST_ITEMS_MAX,
    NAME_CHARS_MAX,
    PASSWORD_CHARS_MAX,
    PATH_CHARS_MAX,
    REASON_CHARS_MAX,
    SQL_BODY_BYTES_MAX,
    URL_CHARS_MAX,
    WITNESS_CHARS_MAX,
)
from sextant.kernel.texts import Kind, check_text


class TextRule(NamedTuple):
    """What a text may be, and how many there may be of it."""

    kind: Kind
    most: int
    items: int = LIST_ITEMS_MAX


_LINE = TextRule("line", LINE_CHARS_MAX)  # what is only looked up
_LABEL = TextRule("line", LABEL_CHARS_MAX)  # what is kept
_NAME = TextRule("line", NAME_CHARS_MAX)
_PROSE = TextRule("prose", REASON_CHARS_MAX)
_EDGES = TextRule("line", LABEL_CHARS_MAX, EDGES_REPORTED_MAX)
_RULES = {
    "reason": _PROSE,
    "message": _PROSE,
    "comment": _PROSE,
    "break_glass": _PROSE,
    "url": TextRule("link", URL_CHARS_MAX),
    "name": _LABEL,
    "version": _LABEL,
    "owner": _LABEL,
    "assignee": _LABEL,
    "trigger": _NAME,
    "batch": _NAME,
    "teams": _NAME,
    "on_behalf_of": _LABEL,
    "upstream": _EDGES,
    "downstream": _EDGES,
    "folder": TextRule("line", PATH_CHARS_MAX),
    # not kept, and in a language that has its own rules
    "sql": TextRule("raw", SQL_BODY_BYTES_MAX),
    "params": TextRule("raw", SQL_BODY_BYTES_MAX),
    "where": TextRule("raw", CONDITION_CHARS_MAX),
    "password": TextRule("raw", PASSWORD_CHARS_MAX),
    "search": TextRule("raw", LINE_CHARS_MAX),
    "attributes": TextRule("raw", LABEL_VALUE_BYTES_MAX),
    "labels": TextRule("raw", LABEL_VALUE_BYTES_MAX),
    "witness": TextRule("raw", WITNESS_CHARS_MAX),
    "since": TextRule("raw", WITNESS_CHARS_MAX),
}


@functools.cache
def text_rules(method: Callable[..., Any]) -> dict[str, TextRule]:
    """Return the rule of each parameter of a method that is a text, or several."""
    hints = typing.get_type_hints(method)
    return {
        name: _RULES.get(name, _LINE)
        for name, hint in hints.items()
        if name != "return" and hint in (str, Sequence[str], dict[str, str] | None)
    }


def checks_texts(operations: type, rows: Iterable[Operation]) -> None:
    """Let every operation of a class check its texts first."""
    for row in rows:
        setattr(operations, row.name, _checked(getattr(operations, row.name)))


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(*args: Any, **given: Any) -> Any:
        rules = text_rules(method)
        for name, value in _signature(method).bind(*args, **given).arguments.items():
            if name in rules and value:
                _check(name, value, rules[name])
            elif isinstance(value, int) and abs(value) > INTEGER_MAX:
                raise UsageError(
                    "SX-TEXT-005", f"`{name}` is {value}", hint="a whole number of at most 64 bits"
                )
        return method(*args, **given)

    return checked


_signature = functools.cache(inspect.signature)


def _check(name: str, value: Any, rule: TextRule) -> None:
    if isinstance(value, str):
        check_text(rule.kind, name, value, rule.most)
        return
    if len(value) > rule.items:
        raise UsageError(
            "SX-TEXT-004", f"`{name}` has {len(value):,} entries", hint=f"at most {rule.items:,}"
        )
    texts = (*value.keys(), *value.values()) if isinstance(value, dict) else value
    for text in texts:
        check_text(rule.kind, name, text, rule.most)
