"""Decodes OTLP's log records to rows of `obs.logs`, a hundred thousand a second.

Speed decides the form: the message is declared with its text and attributes as `bytes`, which is
the same on the wire, so that the parser cuts them out and no more. Attributes repeat from record to
record, word for word, so each is read once in a request and found by its bytes afterwards. Columns
are made for all records of a scope at once. Source: opentelemetry-proto 1.9, logs.proto.
"""

import functools
from typing import Any

from sextant.formats.telemetry import native, otlp_bodies, utf8
from sextant.formats.telemetry.batch import Batch, Budget, asset_of
from sextant.formats.telemetry.otlp import owner_of_resource, pairs, value
from sextant.formats.telemetry.records import SEVERITIES, SEVERITY_NUMBERS, LogColumns, log_rows
from sextant.kernel import limits

_STRING = 0x0A  # AnyValue{string_value}: field 1, length-delimited
_SHORT = 0x80
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_TYPES = {
    "u64": 6,
    "i32": 5,
    "bytes": 12,
    "message": 11,
}  # FieldDescriptorProto.Type: fixed64, int32, bytes, message
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "LogRecord": (
        ("time", 1, "u64", False),
        ("severity_number", 2, "i32", False),
        ("severity_text", 3, "bytes", False),
        ("body", 5, "bytes", False),
        ("attributes", 6, "bytes", True),
        ("trace_id", 9, "bytes", False),
        ("span_id", 10, "bytes", False),
        ("observed", 11, "u64", False),
        ("event_name", 12, "bytes", False),
    ),
    "ScopeLogs": (("scope", 1, "bytes", False), ("log_records", 2, "LogRecord", True)),
    "ResourceLogs": (("resource", 1, "bytes", False), ("scope_logs", 2, "ScopeLogs", True)),
    "Request": (("resource_logs", 1, "ResourceLogs", True),),
}
_Pair = tuple[bytes, bytes]  # name and value, each with its length before it, as a Map has them


class _Known(dict[bytes, _Pair]):
    """Attributes as sent -> as stored. Of one request, which bounds it: a value may be long, and
    never come again."""

    def __missing__(self, sent: bytes) -> _Pair:
        ((name, said),) = pairs([_key_value().FromString(sent)])
        found = self[sent] = (native.texts([name]), native.texts([said]))
        return found


def logs(
    body: bytes, *, owner: str, now_ns: int, oldest_ns: int, budget: Budget | None = None
) -> Batch:
    """Return the log lines of an ExportLogsServiceRequest. Times out of bounds, and what is too
    large, are counted as refused.

    body    protobuf
    Raises  BadData when it is no such request, TooMuch when it exceeds the budget
    """
    from google.protobuf.message import DecodeError

    budget = budget or Budget()
    try:
        return _logs(body, owner, now_ns, oldest_ns, budget)
    except DecodeError:
        again = otlp_bodies.repaired("logs", body, budget)
        whole = again.request.SerializeToString()
        return again.tell(_logs(whole, owner, now_ns, oldest_ns, budget))


def _logs(body: bytes, owner: str, now_ns: int, oldest_ns: int, budget: Budget) -> Batch:
    batch = Batch()
    known = _Known()
    for group in _request().FromString(body).resource_logs:
        attributes = _resource().FromString(group.resource).attributes
        budget.attributes(len(attributes))
        resource = pairs(attributes)
        asset, whose = asset_of(resource), owner_of_resource(resource, owner)
        if asset:
            batch.services.setdefault(asset, whose)
        budget.group()
        for scope in group.scope_logs:
            budget.group()
            budget.records(len(scope.log_records))
            columns = _columns(list(scope.log_records), known, batch, now_ns, oldest_ns)
            if columns is not None:
                name = _scope().FromString(scope.scope).name.encode()
                batch.rows.append(
                    log_rows(
                        columns,
                        asset=asset,
                        owner=whose,
                        scope=name,
                        resource=resource,
                        budget=budget,
                    )
                )
    return batch


def _columns(
    records: list[Any], known: _Known, batch: Batch, now_ns: int, oldest_ns: int
) -> LogColumns | None:
    import numpy as np

    sent = np.array([record.time for record in records], np.uint64).astype(np.int64)
    observed = np.array([record.observed for record in records], np.uint64).astype(np.int64)
    if not (sent | observed).all():
        batch.timed = False
    observed = np.where(observed == 0, now_ns, observed)
    ts = np.where(sent == 0, observed, sent)
    bodies = [_text(record.body) for record in records]
    attributes = [record.attributes for record in records]
    good = np.ones(len(records), bool)
    for reason, bad in (
        ("too_old", ts < oldest_ns),
        ("too_new", ts > now_ns + int(limits.FUTURE_S * 1e9)),
        ("text_too_long", np.fromiter(map(len, bodies), np.int64) > limits.TEXT_BYTES_MAX),
        (
            "attributes_too_many",
            np.fromiter(map(len, attributes), np.int64) > limits.ATTRIBUTES_MAX,
        ),
    ):
        batch.refuse(reason, int((bad & good).sum()))
        good &= ~bad
    if not good.all():
        kept = np.flatnonzero(good).tolist()
        if not kept:
            return None
        records, bodies, attributes = (
            [records[i] for i in kept],
            [bodies[i] for i in kept],
            [attributes[i] for i in kept],
        )
        ts, observed = ts[good], observed[good]
    found = [known[one] for many in attributes for one in many]
    numbers = [record.severity_number for record in records]
    texts = [record.severity_text for record in records]
    severities = [_severity(number, text) for number, text in zip(numbers, texts, strict=True)]
    ends = np.cumsum(np.fromiter(map(len, attributes), "u8", len(attributes)), dtype="u8")
    return LogColumns(
        ts,
        observed,
        bytes([number for number, _ in severities]),
        [name for _, name in severities],
        _utf8(bodies, batch),
        _utf8([record.event_name for record in records], batch),
        _ids([record.trace_id for record in records], _TRACE_BYTES, batch),
        _ids([record.span_id for record in records], _SPAN_BYTES, batch),
        b"".join((ends.tobytes(), *[name for name, _ in found], *[said for _, said in found])),
    )


def _text(body: bytes) -> bytes:
    """Return an AnyValue as text; nearly every one is a string."""
    if not body:
        return b""
    if body[0] == _STRING:
        size = body[1]
        if size < _SHORT and len(body) == size + 2:
            return body[2:]
        if len(body) > 3 and body[2] < _SHORT and len(body) == (size & 0x7F | body[2] << 7) + 3:
            return body[3:]
    return value(_any_value().FromString(body))


def _ids(ids: list[bytes], size: int, batch: Batch) -> list[bytes]:
    """Return ids in hexadecimal; a line whose id is none goes on without it."""
    if all(len(one) == size for one in ids) and bytes(size) not in ids:
        return [one.hex().encode() for one in ids]
    batch.notice("id_not_kept", sum(len(one) not in (0, size) for one in ids))
    none = bytes(size)
    return [one.hex().encode() if len(one) == size and one != none else b"" for one in ids]


def _utf8(texts: list[bytes], batch: Batch) -> list[bytes]:
    """Return texts that are UTF-8: what is not is replaced, as a decoder shows it."""
    try:
        b"\n".join(
            texts
        ).decode()  # apart: half a character at an end and half at a beginning are none
    except UnicodeDecodeError:
        batch.notice("not_utf8_repaired", sum(not utf8.is_utf8(text) for text in texts))
        return [utf8.repaired(text) for text in texts]
    return texts


@functools.lru_cache(maxsize=1024)
def _severity(number: int, text: bytes) -> tuple[int, bytes]:
    said = SEVERITIES[number] if 0 <= number < len(SEVERITIES) else ""
    name = said or text.decode("utf-8", "replace").lower()
    return (
        number if 0 < number < len(SEVERITIES) else SEVERITY_NUMBERS.get(name, 0)
    ), name.encode()


@functools.cache
def _request() -> Any:
    """Return the message class of a request, made from `_MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "sextant.otlp_logs"
    file = descriptor_pb2.FileDescriptorProto(
        name="sextant/otlp_logs.proto", package=package, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, many in fields:
            one = message.field.add(
                name=field,
                number=number,
                label=3 if many else 1,
                type=_TYPES.get(kind, _TYPES["message"]),
            )
            if kind in _MESSAGES:
                one.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))


@functools.cache
def _key_value() -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return KeyValue


@functools.cache
def _any_value() -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    return AnyValue


@functools.cache
def _resource() -> Any:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return Resource


@functools.cache
def _scope() -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

    return InstrumentationScope
