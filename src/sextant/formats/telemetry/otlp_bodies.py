"""Parses the body of an OTLP request, protobuf or JSON, and drops only the records that cannot be
read.

Called by the protocol for every request. In protobuf one text that is not UTF-8 makes a whole
request unreadable: it is read once more with texts declared as bytes, which is the same on the
wire, and repaired. In JSON one field of a wrong kind does: the records that hold one are left out.
Source: opentelemetry-proto 1.9; OTLP specification 1.9, "JSON Protobuf Encoding".
"""

import base64
import functools
import json as lenient
from typing import Any, NamedTuple

import msgspec

from sextant.formats.telemetry import utf8
from sextant.formats.telemetry.batch import Batch, Budget
from sextant.formats.telemetry.records import UNREADABLE_JSON
from sextant.kernel.errors import BadData

# in JSON ids are hexadecimal; senders that write the names of the messages write these, too
_IDS = {"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"}
_NO_ID = base64.b64encode(b"\0").decode()  # what is no hexadecimal has the length of no id
# the lists on the way from a request to its records
_WAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "logs": (("resourceLogs",), ("scopeLogs",), ("logRecords",)),
    "traces": (("resourceSpans",), ("scopeSpans",), ("spans",)),
    "metrics": (
        ("resourceMetrics",),
        ("scopeMetrics",),
        ("metrics",),
        ("gauge", "sum", "histogram", "exponentialHistogram", "summary"),
        ("dataPoints",),
    ),
}
_STRING, _BYTES = 9, 12  # FieldDescriptorProto.Type
_NESTED_MAX = 45  # lists and maps inside each other; protobuf reads 100 messages


class Body(NamedTuple):
    """A request, and what had to be done to read it: as of a batch."""

    request: Any
    refused: dict[str, int]
    first: str

    def tell(self, batch: Batch) -> Batch:
        """Return a batch with what became of its body."""
        for reason, count in self.refused.items():
            batch.refuse(reason, count)
        batch.first = batch.first or self.first
        return batch


def read(signal: str, body: bytes, *, json: bool, budget: Budget | None = None) -> Body:
    """Return the request of a signal (`metrics`, `logs`, `traces`). BadData when the body is
    none."""
    from google.protobuf.message import DecodeError

    if json:
        return _read_json(signal, body)
    try:
        return Body(message(signal).FromString(body), {}, "")
    except DecodeError:
        return repaired(signal, body, budget)


def repaired(signal: str, body: bytes, budget: Budget | None = None) -> Body:
    """Return a request of protobuf whose texts may not be UTF-8. BadData when it is not to be read
    that way either."""
    from google.protobuf.message import DecodeError

    budget = budget or Budget()
    kind, texts = _with_bytes(signal)
    try:
        request = kind.FromString(body)
        count = _repair(request, texts, budget)
        whole = message(signal).FromString(request.SerializeToString())
    except DecodeError as error:
        raise BadData(
            "SX-INTAKE-020",
            f"the body is no OTLP request for {signal}: {error}",
            hint=(
                "send protobuf as application/x-protobuf, or OTLP's JSON as application/json; "
                f"values may be nested {_NESTED_MAX} deep"
            ),
        ) from error
    budget.begin_again()
    return Body(whole, {"not_utf8_repaired": count}, "")


@functools.cache
def message(signal: str) -> Any:
    """Return the message class of a signal's requests."""
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceRequest,
        )

        return ExportMetricsServiceRequest
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        return ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return ExportTraceServiceRequest


# ---------------------------------------------------------------- protobuf


@functools.cache
def _with_bytes(signal: str) -> tuple[Any, frozenset[str]]:
    """Return the message class of a signal with its texts as bytes, and the names of those
    fields."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool, texts, known = descriptor_pool.DescriptorPool(), set[str](), set[str]()

    def change(one: Any, prefix: str) -> None:
        name = f"{prefix}.{one.name}"
        for field in one.field:
            if field.type == _STRING:
                field.type = _BYTES
                texts.add(f"{name}.{field.name}")
        for inner in one.nested_type:
            change(inner, name)

    def add(file: Any) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for other in file.dependencies:
            add(other)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for one in proto.message_type:
            change(one, file.package)
        pool.Add(proto)

    top = message(signal).DESCRIPTOR
    add(top.file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(top.full_name)),
        frozenset(texts),
    )


def _repair(request: Any, texts: frozenset[str], budget: Budget) -> int:
    """Make the texts of a message UTF-8; return how many were not."""
    count = 0
    waiting = [request]
    while waiting:
        one = waiting.pop()
        fields = one.ListFields()
        budget.records(1 + len(fields) // 4)
        for field, value in fields:
            if field.message_type is not None:
                waiting += value if field.is_repeated else [value]
            elif field.full_name not in texts:
                continue
            elif field.is_repeated:
                bad = [n for n, text in enumerate(value) if not utf8.is_utf8(text)]
                for n in bad:
                    value[n] = utf8.repaired(value[n])
                count += len(bad)
            elif not utf8.is_utf8(value):
                setattr(one, field.name, utf8.repaired(value))
                count += 1
    return count


# ---------------------------------------------------------------- JSON


def _read_json(signal: str, body: bytes) -> Body:
    refused: dict[str, int] = {}
    try:
        try:
            value = msgspec.json.decode(body)
        except UNREADABLE_JSON:
            whole = utf8.without_bom(body)
            fixed = utf8.repaired_json(whole)
            # senders in Python write NaN, which protobuf's JSON wants as a text
            value = lenient.loads(fixed, strict=False, parse_constant=str)
            if fixed != whole:
                refused["not_utf8_repaired"] = 1
    except UNREADABLE_JSON as error:
        raise _malformed(signal, str(error)) from error
    if not isinstance(value, dict):
        raise _malformed(signal, "it is no JSON object")
    _hexadecimal(value)
    request, why = _parsed(value, message(signal))
    if request is not None:
        return Body(request, refused, "")
    left_out = _LeftOut()
    kept = left_out.without(value, message(signal), _WAYS[signal])
    request, _ = _parsed(kept, message(signal)) if kept else (None, "")
    if request is None:
        raise _malformed(signal, why)
    return Body(request, {**refused, "record_malformed": left_out.count}, left_out.first)


def _malformed(signal: str, why: str) -> BadData:
    return BadData(
        "SX-INTAKE-020",
        f"the body is no OTLP request for {signal}: {why[:200]}",
        hint="send protobuf as application/x-protobuf, or OTLP's JSON as application/json",
    )


def _parsed(value: Any, kind: Any) -> tuple[Any, str]:
    """Return a message that came as JSON; None, and why, when it is none."""
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(value, kind(), ignore_unknown_fields=True), ""
    except (
        json_format.ParseError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
        OverflowError,
    ) as error:
        return None, str(error)


class _LeftOut:
    """The records of a request in JSON that cannot be read."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def without(self, value: Any, kind: Any, way: tuple[tuple[str, ...], ...]) -> Any:
        """Return a value without the parts that cannot be read; None when it cannot itself."""
        request, why = _parsed(value, kind)
        if request is not None:
            return value
        if isinstance(value, dict) and way:
            kept = dict(value)
            for name, field in _fields(kind, way[0]):
                inner = value.get(name)
                if isinstance(inner, list):
                    kept[name] = [
                        part
                        for part in (self.without(one, field, way[1:]) for one in inner)
                        if part is not None
                    ]
                elif isinstance(inner, dict):
                    kept[name] = self.without(inner, field, way[1:])
                    if kept[name] is None:
                        return None
            request, why = _parsed(kept, kind)
            if request is not None:
                return kept
            value = kept
        self.count += max(1, _records(value, way))
        self.first = self.first or f"the first that cannot be read: {why[:200]}"
        return None


def _fields(kind: Any, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return the fields of a message by both names that JSON may give them, with their classes."""
    from google.protobuf import message_factory

    fields = [field for field in kind.DESCRIPTOR.fields if field.json_name in names]
    return [
        (name, message_factory.GetMessageClass(field.message_type))
        for field in fields
        for name in dict.fromkeys((field.json_name, field.name))
    ]


def _records(value: Any, way: tuple[tuple[str, ...], ...]) -> int:
    """Count the records below a value."""
    if not way:
        return 1
    if not isinstance(value, dict):
        return 0
    out = 0
    for name in way[0]:
        inner = value.get(name)
        for one in inner if isinstance(inner, list) else [inner]:
            out += _records(one, way[1:]) if one is not None else 0
    return out


def _hexadecimal(value: Any) -> None:
    """Turn ids into the base64 that protobuf's JSON has for bytes."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += [inner for inner in one if isinstance(inner, dict | list)]
            continue
        for name, inner in one.items():
            if name in _IDS and isinstance(inner, str):
                try:
                    one[name] = base64.b64encode(bytes.fromhex(inner)).decode()
                except ValueError:
                    one[name] = _NO_ID
            elif isinstance(inner, dict | list):
                waiting.append(inner)
