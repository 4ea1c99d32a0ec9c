"""The names that known loggers give to time, severity, text and trace of a JSON log line.

Called by `jsonlines.py` for each line. Known are pino, bunyan, winston, structlog,
python-json-logger, loguru, the standard library's names, zap, zerolog, slog, Rust's tracing,
logback (its own encoder and logstash's), log4j2, Serilog, .NET, Monolog, GELF, the journal,
Docker's files, Fluent Bit, Elastic's common schema, OpenTelemetry's own names, Google Cloud,
PostgreSQL and MongoDB. What is not read here stays an attribute under its own name.
"""

import functools
import re
from typing import Any, NamedTuple

from sextant.formats.telemetry.records import SEVERITIES, SEVERITY_NUMBERS, json_text
from sextant.formats.telemetry.times import is_instant, time_ns

_TIME = (
    "ts", "time", "timestamp", "@timestamp", "asctime", "@t", "instant", "timeMillis", "eventTime",
    "__REALTIME_TIMESTAMP", "Timestamp",
)  # fmt: skip
# these may as well be a day, or something else of the program's: they count when they are a time
_TIME_PERHAPS = ("date", "datetime", "T", "t")
_TEXT = (
    "formattedMessage", "message", "msg", "body", "log", "short_message", "event", "MESSAGE", "@m",
    "M", "RenderedMessage", "Message", "@mt", "MessageTemplate", "Body", "text",
)  # fmt: skip
_TEXT_OF_ANY_KIND = ("message", "msg", "body", "Body")
# a name before its number: both stand in a line of some loggers
_LEVEL = (
    "level_name", "levelname", "level", "severity", "lvl", "loglevel", "logLevel", "log.level",
    "log_level", "severity_text", "severityText", "SeverityText", "Level", "LogLevel", "@l", "L",
    "error_severity", "sev", "PRIORITY", "levelno", "severity_number", "severityNumber",
    "SeverityNumber", "severityLevel", "level_value", "s",
)  # fmt: skip
_OTEL_NUMBERS = ("severity_number", "severityNumber", "SeverityNumber")
_PYTHON_NUMBERS = {10: "debug", 20: "info", 30: "warn", 40: "error", 50: "fatal"}
_PINO = ("", "trace", "debug", "info", "warn", "error", "fatal")  # 10, 20, ...; bunyan's as well
_SYSLOG = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
_MONOLOG = {
    100: "debug", 200: "info", 250: "notice", 300: "warn", 400: "error", 500: "crit",
    550: "alert", 600: "emerg",
}  # fmt: skip
_GOOGLE = {
    100: "debug", 200: "info", 300: "notice", 400: "warn", 500: "error", 600: "crit",
    700: "alert", 800: "emerg",
}  # fmt: skip
_AZURE = ("trace", "info", "warn", "error", "fatal")  # 0 to 4
_LOG4J = {5: "trace", 10: "debug", 20: "info", 30: "warn", 40: "error", 50: "fatal"}  # thousands
_TRACE = ("trace_id", "traceId", "traceid", "trace.id", "TraceId", "otelTraceID", "@tr")
_SPAN = ("span_id", "spanId", "spanid", "span.id", "SpanId", "otelSpanID", "@sp")
_SLOG = re.compile(r"(debug|info|warn|error)([+-]\d{1,3})", re.ASCII)
_NONE = re.compile(r"0*", re.ASCII)
_NS = 1_000_000_000
_LEVEL_CHARS_MAX = 100  # of a severity


class _Present(NamedTuple):
    """Names that a line has, of each kind, in the order in which they count."""

    times: tuple[str, ...]
    perhaps: tuple[str, ...]
    levels: tuple[str, ...]
    texts: tuple[str, ...]
    traces: tuple[str, ...]
    spans: tuple[str, ...]


@functools.lru_cache(maxsize=1024)
def _present(names: tuple[str, ...]) -> _Present:
    """Return what a line with these names has; a program's lines are of few kinds."""
    there = frozenset(names)
    kinds = (_TIME, _TIME_PERHAPS, _LEVEL, _TEXT, _TRACE, _SPAN)
    return _Present(*(tuple(name for name in kind if name in there) for kind in kinds))


class Line(NamedTuple):
    """What was found; the fields that it was found in are gone."""

    at_ns: int | None
    is_time_malformed: bool
    severity_number: int
    severity: bytes
    text: bytes
    trace_id: bytes
    span_id: bytes


def read(fields: dict[str, Any], number_text: "Any" = None) -> Line:
    """Take out of a line's fields what is known by name.

    number_text   name -> the number as it stood in the line; asked for floats only
    """
    if isinstance(fields.get("record"), dict):
        _unwrap_loguru(fields, fields["record"])
    there = _present(tuple(fields))
    at, malformed = _time(fields, there, number_text)
    number, severity = _severity(fields, there.levels)
    text = _text(fields, there.texts)
    trace, span = _id(fields, there.traces, "trace"), _id(fields, there.spans, "span")
    return Line(at, malformed, number, severity, text, trace, span)


def _unwrap_loguru(fields: dict[str, Any], record: dict[str, Any]) -> None:
    """Take what loguru says twice, as a text and in its record, out of the record."""
    level, at = record.get("level"), record.get("time")
    if isinstance(level, dict) and isinstance(at, dict) and isinstance(record.get("message"), str):
        fields["message"] = record.pop("message")
        fields["level"] = level.get("name")
        fields["time"] = at.get("repr") or at.get("timestamp")
        fields.pop("text", None)


def as_text(value: Any) -> bytes:
    """Return a value as an attribute has it: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float) and value - value != 0:  # JSON has neither infinities nor NaN
        return repr(value).encode()
    return b"" if value is None else json_text(value)


def _time(fields: dict[str, Any], there: _Present, number_text: Any) -> tuple[int | None, bool]:
    malformed = False
    for name in there.times:
        value = fields.get(name)
        if value is None or value == "":
            continue
        text = number_text(name) if number_text and isinstance(value, float) else ""
        at = time_ns(value, text)
        if at is not None:
            del fields[name]
            return _with_nanoseconds(at, fields), False
        malformed = True
    for name in there.perhaps:
        value = fields.get(name)
        if value is None or not is_instant(value):
            continue
        text = number_text(name) if number_text and isinstance(value, float) else ""
        at = time_ns(value, text)
        if at is not None:
            del fields[name]
            return at, False
    return None, malformed


def _with_nanoseconds(at: int, fields: dict[str, Any]) -> int:
    """Return a time of milliseconds with the nanoseconds that logback writes beside it."""
    more = fields.get("nanoseconds")
    if isinstance(more, int) and 0 <= more < _NS and more // 1_000_000 * 1_000_000 == at % _NS:
        del fields["nanoseconds"]
        return at // _NS * _NS + more
    return at


def _severity(fields: dict[str, Any], names: tuple[str, ...]) -> tuple[int, bytes]:
    for name in names:
        value = fields.get(name)
        if value is None or isinstance(value, bool | dict | list):
            continue
        if name == "s" and not (isinstance(value, str) and len(value) <= 2):  # MongoDB's
            continue
        del fields[name]
        return _named(name, str(value)[:_LEVEL_CHARS_MAX])
    nested = fields.get("log")  # Elastic's common schema
    if isinstance(nested, dict) and isinstance(nested.get("level"), str):
        value = nested.pop("level")
        if not nested:
            del fields["log"]
        return _named("level", value[:_LEVEL_CHARS_MAX])
    return 0, b""


@functools.lru_cache(maxsize=1024)
def _named(name: str, value: str) -> tuple[int, bytes]:
    """Return the number and the name of a severity that a logger wrote."""
    text = value.strip().lower()
    if text.isascii() and text.isdigit() and len(text) <= 6:
        number = int(text)
        if name in _OTEL_NUMBERS and number < len(SEVERITIES):
            return number, SEVERITIES[number].encode()
        text = _of_number(name, number) or text
    relative = _SLOG.fullmatch(text)
    if relative:  # slog counts debug -4, info 0, warn 4, error 8
        number = max(1, min(24, SEVERITY_NUMBERS[relative[1]] + int(relative[2])))
        return number, SEVERITIES[number].encode()
    number = SEVERITY_NUMBERS.get(text, 0)
    return number, (SEVERITIES[number] or ("" if text == "default" else text)).encode()


def _of_number(name: str, number: int) -> str:
    if name == "levelno":
        return _PYTHON_NUMBERS.get(number, "")
    if name == "severity" and number in _GOOGLE:
        return _GOOGLE[number]
    if name == "severityLevel" and number < len(_AZURE):
        return _AZURE[number]
    if number < len(_SYSLOG):
        return _SYSLOG[number]
    if 10 <= number < 70:
        return _PINO[number // 10]
    return _MONOLOG.get(number) or _LOG4J.get(number // 1000, "")


def _text(fields: dict[str, Any], names: tuple[str, ...]) -> bytes:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str):
            del fields[name]
            if name == "log" and "stream" in fields:  # Docker keeps the end of the line
                value = value.removesuffix("\n").removesuffix("\r")
            return value.encode()
    inner = fields.get("fields")  # Rust's tracing
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        text = inner.pop("message")
        if not inner:
            del fields["fields"]
        return bytes(text, "utf-8")
    for name in _TEXT_OF_ANY_KIND:
        if fields.get(name) is not None:
            return as_text(fields.pop(name))
    return b""


def _id(fields: dict[str, Any], names: tuple[str, ...], nested: str) -> bytes:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str):
            del fields[name]
            return b"" if _NONE.fullmatch(value) else _lower(value)
    inner = fields.get(nested)
    if isinstance(inner, dict) and isinstance(inner.get("id"), str):
        value = inner.pop("id")
        if not inner:
            del fields[nested]
        return _lower(value)
    return b""


def _lower(text: str) -> bytes:
    try:
        bytes.fromhex(text)
    except ValueError:
        return text.encode()
    return text.lower().encode()
