"""The settings of declarations, of whatever kind, checked for their form. A value that does not
fit is reported at the author's line, and something that does is returned instead."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import Strategy, Team, Trigger
from sextant.kernel.partitions import Partitioning
from sextant.project.collect import (
    current,
    fitting,
    fitting_list,
    fitting_text,
    fitting_texts,
    name_problem,
    report,
)

Owner = Team | str
Words = str | Sequence[str]
_SIZE = re.compile(r"([1-9]\d*)\s*(MB|GB)")
_BYTES = {"MB": 10**6, "GB": 10**9}
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def register(made: object) -> None:
    """Give a declaration to the open collector, if there is one."""
    collector = current()
    if collector is not None:
        collector.declared.append(made)


def name(what: str, given: str) -> str:
    """Return the name of something; what is no name is reported."""
    wrong = name_problem(what, given) if isinstance(given, str) else ()
    if wrong:
        report("SX-PROJ-003", wrong[0], hint=wrong[1])
    return fitting_text("name", given, "unnamed")


def owner(owner: Owner, setting: str = "owner") -> str:
    """Return the name of the team that owns something."""
    team = fitting(setting, owner, (Team, str), "a team, or its name", "")
    return team.name if isinstance(team, Team) else str(team)


def names(setting: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a list of texts; what is none is reported and left out."""
    return fitting_texts(setting, fitting_list(setting, names, "a list of texts"))


def truth(setting: str, value: bool) -> bool:
    """Return True or False."""
    return bool(fitting(setting, value, bool, "True or False", False))


def mapping(setting: str, value: Any, expected: str) -> dict[str, Any]:
    """Return a mapping of texts; what is none is reported and left out."""
    given = fitting(setting, value, Mapping, expected, {})
    return {key: given[key] for key in fitting_texts(setting, given)}


def partition(partition: Partitioning | None) -> Partitioning | None:
    """Return how something is sliced."""
    expected = 'one of `sx.hourly`, `sx.daily`, `sx.monthly` (`start="2013-01-01"`), `sx.static`'
    kinds = (Partitioning, type(None))
    return fitting("partition", partition, kinds, expected, None)  # type: ignore[no-any-return]


def tier(tier: int) -> int:
    """Return a tier, 1 to 3."""
    if tier not in (1, 2, 3) or isinstance(tier, bool):
        report(
            "SX-PROJ-022",
            f"`{tier}` is not a tier",
            hint="1 (the company stops), 2 or 3 (can wait)",
        )
        return 3
    return tier


def tags(tags: Words) -> tuple[str, ...]:
    """Return tags, each once."""
    listed = (tags,) if isinstance(tags, str) else fitting_list("tags", tags, "a list of words")
    return checked_tags(fitting_texts("tags", listed), report)


def checked_tags(tags: Iterable[str], note: Callable[..., None]) -> tuple[str, ...]:
    """Return the tags that are words, each once; `note` is told of the others."""
    good = []
    for tag in tags:
        if _TAG.fullmatch(tag):
            good.append(tag)
        else:
            note("SX-PROJ-035", f"`{tag}` is not a tag", hint="lower-case letters, digits, - and _")
    return tuple(dict.fromkeys(good))


def triggers(on: Trigger | Sequence[Trigger]) -> tuple[Trigger, ...]:
    """Return when something runs by itself."""
    listed = tuple(on) if isinstance(on, list | tuple) else (on,)
    for one in listed:
        if not isinstance(one, Trigger):
            report(
                "SX-PROJ-017", f"`{one!r}` is not a trigger", hint='write `on=sx.cron("0 5 * * *")`'
            )
    return tuple(one for one in listed if isinstance(one, Trigger))


def strategy(strategy: Strategy | None) -> Strategy | None:
    """Return how releases are rolled out; None = as the kind does by default."""
    kinds = (Strategy, type(None))
    expected = "a strategy, such as `sx.canary(5, 25)`"
    return fitting("release", strategy, kinds, expected, None)  # type: ignore[no-any-return]


def one_of(setting: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return one of several words; the first for any other."""
    if value not in allowed:
        report(
            "SX-PROJ-019",
            f"`{value}` is not a value of `{setting}`",
            hint=f"one of {', '.join(f'`{a}`' for a in allowed if a)}",
        )
        return allowed[0]
    return value


def length(setting: str, text: str) -> float:
    """Return a length of time in seconds; 0 for none."""
    text = fitting_text(setting, text)
    try:
        return length_s(text) if text else 0.0
    except UsageError as error:
        report(
            "SX-PROJ-012",
            f"`{setting}`: {error.message}",
            hint="write it as `3d`, `36h`, `10m` or `30s`",
        )
        return 0.0


def length_text(setting: str, text: str) -> str:
    """Return a length of time as it is written, if it is one."""
    return text if length(setting, text) and isinstance(text, str) else ""


def size(setting: str, text: str) -> int:
    """Return a size in bytes; 0 for none."""
    text = fitting_text(setting, text)
    match = _SIZE.fullmatch(text)
    if text and match is None:
        report(
            "SX-PROJ-012",
            f"`{setting}`: `{text}` is not a size",
            hint="write it as `512MB` or `2GB`",
        )
    return int(match[1]) * _BYTES[match[2]] if match else 0
