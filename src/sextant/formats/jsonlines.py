"""Log lines as JSON objects, one on each line, as most loggers write them.

Known under several names: time (`ts`, `time`, `timestamp`, `@timestamp`), text (`message`, `msg`,
`body`, `log`), severity (`level`, `severity`, `lvl`),
`trace_id`, `span_id`, `logger`. Everything else becomes an attribute under its own name; what is
nested stays JSON.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from sextant.formats.batch import Batch, Budget
from sextant.formats.records import (
    SEVERITIES,
    SEVERITY_NUMBERS,
    UNREADABLE_JSON,
    Log,
    columns_of,
    json_text,
    log_rows,
)
from sextant.kernel import limits
from sextant.kernel.errors import BadData

_TIME = ("ts", "time", "timestamp", "@timestamp")
_TEXT = ("message", "msg", "body", "log")
_LEVEL = ("level", "severity", "lvl", "log.level")
_NS = 1_000_000_000
_NUMBERED = {
    10: "debug",
    20: "info",
    30: "warn",
    40: "error",
    50: "fatal",
    60: "fatal",
}  # Python's and Bunyan's numbers


def decode(
    body: bytes,
    *,
    asset: str,
    owner: str,
    now_ns: int,
    oldest_ns: int,
    budget: Budget | None = None,
) -> Batch:
    """Return the log lines of a body, UTF-8.

    asset   `kind:name` of the program that wrote them
    Raises  BadData with the first line that is no JSON object; nothing is taken then. TooMuch when
            they exceed the budget
    """
    batch, budget = Batch(), budget or Budget()
    budget.records(body.count(b"\n") + (not body.endswith(b"\n")))
    rows: list[Log] = []
    newest_ns = now_ns + int(limits.FUTURE_S * _NS)
    decode_line = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            fields = decode_line(line)
        except UNREADABLE_JSON as error:
            raise BadData(
                "SX-INTAKE-030",
                f"line {number} is no JSON object: {str(error)[:200]}",
                hint="one JSON object on each line",
            ) from error
        said = _take(fields, _TIME)
        at = _time(said)
        if said is None:
            batch.timed = False
        if said is not None and at is None:
            batch.refuse("time_malformed")
            continue
        at = now_ns if at is None else at
        if not oldest_ns <= at <= newest_ns:
            batch.refuse("too_old" if at < oldest_ns else "too_new")
            continue
        text = _text(_take(fields, _TEXT))
        if len(text) > limits.TEXT_BYTES_MAX or len(fields) > limits.ATTRIBUTES_MAX:
            batch.refuse(
                "text_too_long" if len(text) > limits.TEXT_BYTES_MAX else "attributes_too_many"
            )
            continue
        level = _take(fields, _LEVEL)
        name = _NUMBERED.get(level, "") if isinstance(level, int) else str(level or "").lower()
        severity = SEVERITY_NUMBERS.get(name, 0)
        trace, span = _text(fields.pop("trace_id", "")), _text(fields.pop("span_id", ""))
        rows.append(
            Log(
                at,
                now_ns,
                severity,
                (SEVERITIES[severity] or name).encode(),
                text,
                b"",
                trace,
                span,
                [(key.encode(), _text(value)) for key, value in fields.items()],
            )
        )
    if rows:
        batch.services.setdefault(asset, owner)
        batch.rows.append(log_rows(columns_of(rows), asset=asset, owner=owner, budget=budget))
    return batch


def _take(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields.pop(name) for name in names if name in fields), None)


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b"" if value is None else json_text(value)


def _time(value: Any) -> int | None:
    """Return ns since the epoch of RFC 3339 text or of a number in s, ms, us or ns; None for what
    is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        size = abs(value)
        unit = _NS if size < 1e11 else 1_000_000 if size < 1e14 else 1000 if size < 1e17 else 1
        return int(value * unit) if isinstance(value, float) else value * unit
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return int(at.timestamp()) * _NS + at.microsecond * 1000
    return None
