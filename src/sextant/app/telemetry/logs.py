"""Searches log lines. Called by `Operations.search_logs`.

A search text has words, and phrases in double quotes; a line has to have all of them. Each is
looked for as a part of the line's text or of one of its attributes' values, in any case. That is
read from the lines: the store's index knows whole words only, as they are written. `exact` asks for
those, and is answered by the index.
"""

import re
from collections.abc import Sequence
from typing import Any

from sextant.app.telemetry.asking import Asking, Condition, attribute_conditions, where
from sextant.formats.telemetry.records import SEVERITIES
from sextant.kernel.answers import LogLine, LogsFound
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import TELEMETRY_CONDITIONS_MAX

LEVELS = {name: SEVERITIES.index(name) for name in dict.fromkeys(SEVERITIES) if name}
_TERM = re.compile(r'"([^"]*)"(?!\S)|(\S+)')
# what ClickHouse's tokenizer `splitByNonAlpha` takes for a word; bytes beyond ASCII belong to it
_TOKEN = re.compile(rb"[0-9A-Za-z\x80-\xff]+")


def search_logs(
    asking: Asking,
    *,
    search: str,
    exact: bool,
    asset: str,
    attributes: Sequence[str],
    level: str,
    trace: str,
    since: str,
    until: str,
    limit: int,
) -> LogsFound:
    """Return the newest lines that meet all conditions. UsageError for a level that there is not,
    a time that is none, too many words."""
    if level and level not in LEVELS:
        raise UsageError(
            "SX-LOOK-006",
            f"there is no level `{level[:60]}`",
            hint=f"one of {', '.join(LEVELS)}",
        )
    wanted = terms(search)
    conditions = asking.window(since, until)
    if asset:
        conditions.append(Condition("asset = {asset:String}", {"asset": asking.asset(asset)}))
    if level:
        conditions.append(Condition("severity_number >= {level:UInt8}", {"level": LEVELS[level]}))
    if trace:
        conditions.append(Condition("trace_id = {trace:String}", {"trace": trace.lower()}))
    conditions += attribute_conditions(attributes, ("attributes", "resource"))
    conditions += _whole_words(wanted) if exact else _parts(wanted)
    condition, params = where(conditions)
    found = asking.found(
        "SELECT ts AS at, asset, severity AS level, body, trace_id, span_id, attributes FROM "
        f"obs.logs WHERE {condition} ORDER BY ts DESC LIMIT {{limit:UInt32}}",
        params | {"limit": limit + 1},
    )
    return LogsFound(
        lines=[_line(row) for row in found.rows[:limit]],
        cut=len(found.rows) > limit,
        scanned=bool(wanted) and not (exact and any(map(tokens, wanted))),
        lines_read=found.read,
    )


def terms(search: str) -> list[str]:
    """Return the words and phrases of a search text. A quote that is not closed is a character."""
    found = [match[1] if match[1] is not None else match[2] for match in _TERM.finditer(search)]
    wanted = list(dict.fromkeys(one for one in found if one))
    if len(wanted) > TELEMETRY_CONDITIONS_MAX:
        raise UsageError(
            "SX-LOOK-007",
            f"a search for {len(wanted):,} words",
            hint=f'at most {TELEMETRY_CONDITIONS_MAX}; put a phrase in quotes: "payment refused"',
        )
    return wanted


def tokens(term: str) -> list[str]:
    """Return the words of a term as the index has them."""
    return [one.decode("utf-8", "replace") for one in _TOKEN.findall(term.encode())]


def _parts(wanted: Sequence[str]) -> list[Condition]:
    """Each term stands in the text, or in an attribute's value, in any case."""
    out = []
    for n, term in enumerate(wanted):
        name = f"{{t{n}:String}}"
        if term.isascii():
            body, value = (f"positionCaseInsensitive({one}, {name}) > 0" for one in ("body", "v"))
        else:
            body, value = (
                f"position(lowerUTF8({one}), lowerUTF8({name})) > 0" for one in ("body", "v")
            )
        out.append(
            Condition(
                f"({body} OR arrayExists(v -> {value}, mapValues(attributes)))", {f"t{n}": term}
            )
        )
    return out


def _whole_words(wanted: Sequence[str]) -> list[Condition]:
    """Each term stands in the text as it is written, and its words are whole words there."""
    out = []
    for n, term in enumerate(wanted):
        words = tokens(term)
        if words:  # the index finds the lines
            out.append(
                Condition(f"hasAllTokens(body, {{w{n}:String}})", {f"w{n}": " ".join(words)})
            )
        if words != [term]:
            out.append(Condition(f"position(body, {{t{n}:String}}) > 0", {f"t{n}": term}))
    return out


def _line(row: dict[str, Any]) -> LogLine:
    return LogLine(
        at=row["at"],
        asset=row["asset"],
        level=row["level"],
        body=row["body"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        attributes=row["attributes"],
    )
