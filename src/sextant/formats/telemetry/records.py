"""Builds the blocks of tables from log lines, spans and events, for every format that brings
them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sextant.formats.telemetry import native
from sextant.formats.telemetry.batch import Budget, Rows

if TYPE_CHECKING:
    import numpy as np

_NS = "DateTime64(9, 'UTC')"
Pairs = Sequence[tuple[bytes, bytes]]
# what reading JSON raises that somebody else wrote: a ValueError for bytes that are not UTF-8
UNREADABLE_JSON = (msgspec.DecodeError, ValueError, RecursionError)
# OpenTelemetry's severity numbers: 1-4 trace, 5-8 debug, 9-12 info, 13-16 warn, 17-20 error, 21-24
# fatal
SEVERITIES = (
    "",
    *(name for name in ("trace", "debug", "info", "warn", "error", "fatal") for _ in range(4)),
)
SEVERITY_NUMBERS = {
    "trace": 1, "verbose": 1, "debug": 5, "info": 9, "information": 9, "notice": 10, "warn": 13,
    "warning": 13, "error": 17, "err": 17, "critical": 21, "crit": 21, "alert": 22, "emerg": 23,
    "emergency": 23, "panic": 23, "fatal": 21,
    # winston, zap, java.util.logging; abbreviations
    "silly": 1, "http": 7, "dpanic": 21, "finest": 1, "finer": 2, "fine": 5, "config": 7,
    "severe": 17, "trc": 1, "dbg": 5, "inf": 9, "wrn": 13, "ftl": 21, "informational": 9,
    "log": 9, "success": 10,
    "t": 1, "d": 5, "d1": 5, "d2": 5, "d3": 5, "d4": 5, "d5": 5, "i": 9, "w": 13, "e": 17, "f": 21,
}  # fmt: skip


class Log(NamedTuple):
    """One log line. Times in ns since the epoch; ids in hexadecimal."""

    ts: int
    observed: int
    severity_number: int
    severity: bytes
    body: bytes
    event: bytes
    trace_id: bytes
    span_id: bytes
    attributes: Pairs


class SpanRow(NamedTuple):
    """One span, as its table has it."""

    ts: int
    duration_ns: int
    name: bytes
    kind: bytes
    status: bytes
    status_message: bytes
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    trace_state: bytes
    attributes: Pairs
    events: bytes
    links: bytes


class EventRow(NamedTuple):
    """One CloudEvent."""

    ts: int
    id: bytes
    source: bytes
    type: bytes
    subject: bytes
    asset: bytes
    content_type: bytes
    schema: bytes
    extensions: Pairs
    data: bytes


class LogColumns(NamedTuple):
    """Log lines as columns of one length. Times int64 ns; `attributes` is the data of a Map
    column."""

    ts: "np.ndarray[Any, Any]"
    observed: "np.ndarray[Any, Any]"
    severity_number: bytes
    severity: Sequence[bytes]
    body: Sequence[bytes]
    event: Sequence[bytes]
    trace_id: Sequence[bytes]
    span_id: Sequence[bytes]
    attributes: bytes


def json_text(value: Any) -> bytes:
    """Return a value that came as JSON as JSON again, whole numbers of any size included."""
    try:
        return msgspec.json.encode(value)
    except OverflowError:  # an integer of more than 64 bits
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def columns_of(logs: Sequence[Log]) -> LogColumns:
    """Return log lines as columns."""
    import numpy as np

    times, observed, numbers, severities, bodies, events, traces, spans, attributes = zip(
        *logs, strict=True
    )
    return LogColumns(
        np.array(times, np.int64),
        np.array(observed, np.int64),
        bytes(numbers),
        severities,
        bodies,
        events,
        traces,
        spans,
        native.maps(attributes),
    )


def log_rows(
    columns: LogColumns,
    *,
    asset: str,
    owner: str,
    scope: bytes = b"",
    resource: Pairs = (),
    budget: Budget | None = None,
) -> Rows:
    """Return the rows of log lines that one resource sent. TooMuch when they exceed the budget."""
    count = len(columns.ts)
    _spend(budget, count, asset, owner, scope, resource)
    texts = (
        ("severity", columns.severity),
        ("body", columns.body),
        ("event", columns.event),
        ("trace_id", columns.trace_id),
        ("span_id", columns.span_id),
    )
    return Rows(
        "obs.logs",
        count,
        native.block(
            count,
            (
                ("ts", _NS, columns.ts.tobytes()),
                ("observed", _NS, columns.observed.tobytes()),
                ("asset", "String", native.same(asset.encode(), count)),
                ("owner", "String", native.same(owner.encode(), count)),
                ("severity_number", "UInt8", columns.severity_number),
                *((name, "String", native.texts(values)) for name, values in texts),
                ("scope", "String", native.same(scope, count)),
                ("resource", "Map(String, String)", native.same_map(dict(resource), count)),
                ("attributes", "Map(String, String)", columns.attributes),
            ),
        ),
    )


def span_rows(
    spans: Sequence[SpanRow],
    *,
    asset: str,
    owner: str,
    scope: bytes = b"",
    resource: Pairs = (),
    budget: Budget | None = None,
) -> Rows:
    """Return the rows of spans that one resource sent. TooMuch when they exceed the budget."""
    import numpy as np

    count = len(spans)
    _spend(budget, count, asset, owner, scope, resource)
    (
        times,
        durations,
        names,
        kinds,
        statuses,
        messages,
        traces,
        ids,
        parents,
        states,
        attributes,
        events,
        links,
    ) = zip(*spans, strict=True)
    texts = (
        ("name", names),
        ("kind", kinds),
        ("status", statuses),
        ("status_message", messages),
        ("trace_id", traces),
        ("span_id", ids),
        ("parent_span_id", parents),
        ("trace_state", states),
        ("events", events),
        ("links", links),
    )
    return Rows(
        "obs.spans",
        count,
        native.block(
            count,
            (
                ("ts", _NS, np.array(times, np.int64).tobytes()),
                ("duration_ns", "UInt64", np.array(durations, np.uint64).tobytes()),
                ("asset", "String", native.same(asset.encode(), count)),
                ("owner", "String", native.same(owner.encode(), count)),
                *((name, "String", native.texts(values)) for name, values in texts),
                ("scope", "String", native.same(scope, count)),
                ("resource", "Map(String, String)", native.same_map(dict(resource), count)),
                ("attributes", "Map(String, String)", native.maps(attributes)),
            ),
        ),
    )


def _spend(
    budget: Budget | None, rows: int, asset: str, owner: str, scope: bytes, resource: Pairs
) -> None:
    """Spend what every row of a resource repeats, before it is made."""
    if budget is not None:
        shared = len(asset) + len(owner) + len(scope)
        budget.row_bytes(rows * (shared + sum(len(name) + len(value) for name, value in resource)))


def event_rows(events: Sequence[EventRow], *, owner: str) -> Rows:
    """Return the rows of CloudEvents."""
    import numpy as np

    count = len(events)
    times, ids, sources, types, subjects, assets, contents, schemas, extensions, data = zip(
        *events, strict=True
    )
    texts = (
        ("id", ids),
        ("source", sources),
        ("type", types),
        ("subject", subjects),
        ("asset", assets),
        ("content_type", contents),
        ("schema", schemas),
        ("data", data),
    )
    return Rows(
        "obs.events",
        count,
        native.block(
            count,
            (
                ("ts", _NS, np.array(times, np.int64).tobytes()),
                ("owner", "String", native.same(owner.encode(), count)),
                *((name, "String", native.texts(values)) for name, values in texts),
                ("extensions", "Map(String, String)", native.maps(extensions)),
            ),
        ),
    )
