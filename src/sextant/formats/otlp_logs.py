"""OTLP log records to rows of `obs.logs`, by the bytes that they came in.

Called by the protocol with a request that `otlp.parse` has found to be well-formed. Speed decides the form: here the messages inside a
record are declared as `bytes`, so the parser cuts them out and no more. Protobuf writes the length of a text before it just as ClickHouse's
Native format does: what was sent is what is written. Attributes repeat from record to record and are read once in a request.

Source: opentelemetry-proto 1.9 (logs/v1/logs.proto, common/v1/common.proto); protobuf encoding, "Length-Delimited Records".
"""

import functools
import itertools
from binascii import hexlify
from typing import Any

from sextant.formats import native, otlp
from sextant.formats.batch import Batch, Rows
from sextant.formats.records import SEVERITIES, SEVERITY_NUMBERS
from sextant.kernel import limits

_HEADS_KNOWN = 1 << 12
_NS = "DateTime64(9, 'UTC')"
_TEXT, _KEY, _VALUE = 0x0A, 0x0A, 0x12  # tags: AnyValue.string_value, KeyValue.key, KeyValue.value
# The first bytes of an AnyValue of n bytes that is one text and nothing else. No text makes 130 bytes.
_HEADS = [b"\x0a" + native.varint(n - 2 if n < 130 else n - 3) for n in range(2, _HEADS_KNOWN)]
_HEADS[:0] = [b"-", b"-"]
_SEVERITIES = [native.varint(len(name)) + name.encode() for name in SEVERITIES]


def logs(body: bytes, *, owner: str, now_ns: int, oldest_ns: int) -> Batch:
    """Return the log lines of an ExportLogsServiceRequest. Times out of bounds, and what is too large, are counted as refused.

    body    protobuf, decompressed, that `otlp.parse` has read
    """
    batch = Batch()
    newest_ns = now_ns + int(limits.FUTURE_S * 1e9)
    read = _Pairs()
    for group in _request().FromString(body).resource_logs:
        resource = [(_plain(key), _plain(value)) for key, value in map(read.__getitem__, group.resource.attributes)]
        asset, whose = otlp.seen(batch, resource, owner)
        same = native.text(asset.encode()), native.text(whose.encode())
        for scope in group.scope_logs:
            records = list(scope.log_records)
            times = [record.time_unix_nano or record.observed_time_unix_nano for record in records]
            if not all(times):
                batch.timed = False
                times = [at or now_ns for at in times]
            sizes = [len(record.attributes) for record in records]
            if times and not (min(times) >= oldest_ns and max(times) <= newest_ns and max(sizes) <= limits.ATTRIBUTES_MAX and max([len(record.body) for record in records]) <= limits.TEXT_BYTES_MAX):
                kept = [n for n, record in enumerate(records) if _taken(batch, times[n], oldest_ns, newest_ns, record.body, sizes[n])]
                records, times, sizes = [records[n] for n in kept], [times[n] for n in kept], [sizes[n] for n in kept]
            if records:
                batch.rows.append(_rows(records, times, sizes, now_ns, read, (*same, native.text(scope.scope.name)), resource))
    return batch


def _taken(batch: Batch, at: int, oldest_ns: int, newest_ns: int, body: bytes, attributes: int) -> bool:
    """Return whether a record is taken; count it when it is not."""
    if not oldest_ns <= at <= newest_ns:
        batch.refuse("too_old" if at < oldest_ns else "too_new")
    elif len(body) > limits.TEXT_BYTES_MAX and len(_plain(_text(body))) > limits.TEXT_BYTES_MAX:
        batch.refuse("text_too_long")
    elif attributes > limits.ATTRIBUTES_MAX:
        batch.refuse("attributes_too_many")
    else:
        return True
    return False


def _rows(
    records: list[Any], times: list[int], sizes: list[int], now_ns: int, read: "_Pairs", same: tuple[bytes, bytes, bytes], resource: list[tuple[bytes, bytes]],
) -> Rows:  # fmt: skip
    import numpy as np

    count = len(records)
    numbers = [record.severity_number for record in records]
    if 0 < min(numbers) and max(numbers) < len(_SEVERITIES):
        severities = b"".join([_SEVERITIES[number] for number in numbers])
    else:
        names = [SEVERITIES[number] if 0 <= number < len(SEVERITIES) else "" for number in numbers]
        names = [name or record.severity_text.decode().lower() for name, record in zip(names, records, strict=True)]
        numbers = [number & 255 or SEVERITY_NUMBERS.get(name, 0) for number, name in zip(numbers, names, strict=True)]
        severities = native.texts([name.encode() for name in names])
    pairs = [read[sent] for record in records for sent in record.attributes]
    ends = np.array(list(itertools.accumulate(sizes)), np.uint64)
    return Rows("obs.logs", count, native.block(count, (
        ("ts", _NS, np.array(times, np.int64).tobytes()), ("observed", _NS, np.array([record.observed_time_unix_nano or now_ns for record in records], np.int64).tobytes()),
        ("asset", "String", same[0] * count), ("owner", "String", same[1] * count), ("severity_number", "UInt8", bytes(numbers)), ("severity", "String", severities),
        ("body", "String", b"".join([_text(record.body) for record in records])), ("event", "String", native.texts([record.event_name for record in records])),
        ("trace_id", "String", native.texts([hexlify(record.trace_id) for record in records])), ("span_id", "String", native.texts([hexlify(record.span_id) for record in records])),
        ("scope", "String", same[2] * count), ("resource", "Map(String, String)", native.same_map(dict(resource), count)),
        ("attributes", "Map(String, String)", b"".join((ends.tobytes(), *[key for key, _ in pairs], *[value for _, value in pairs]))),
    )))  # fmt: skip


# ---------------------------------------------------------------- texts that carry their length


def _text(sent: bytes) -> bytes:
    """Return an AnyValue as a text with its length before it."""
    size = len(sent)
    if size < _HEADS_KNOWN and sent.startswith(_HEADS[size]):
        return sent[1:]
    return native.text(otlp.value(_any_value().FromString(sent)))


def _plain(text: bytes) -> bytes:
    """Return a text without its length."""
    at = 0
    while text[at] >= 0x80:
        at += 1
    return text[at + 1 :]


class _Pairs(dict[bytes, tuple[bytes, bytes]]):
    """A KeyValue as sent -> its key and its value, each with its length before it. For one request: as large as that, at most."""

    def __missing__(self, sent: bytes) -> tuple[bytes, bytes]:
        pair = self[sent] = _pair(sent)
        return pair


def _pair(sent: bytes) -> tuple[bytes, bytes]:
    size = len(sent)
    if size > 4 and sent[0] == _KEY:
        at = sent[1] + 2  # where the value begins, when the key is as short as keys are
        # the value is one message of at most 127 bytes to the end, and is itself one text to the end
        if sent[1] < 0x80 and at + 3 < size and sent[at] == _VALUE and sent[at + 1] == size - at - 2 < 0x80 and sent[at + 2] == _TEXT and sent[at + 3] == size - at - 4:
            return sent[1:at], sent[at + 3 :]
    read = _key_value().FromString(sent)
    return native.text(read.key.encode()), native.text(otlp.value(read.value))


def _any_value() -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    return AnyValue


def _key_value() -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return KeyValue


@functools.cache
def _request() -> Any:
    """Return the message class: ExportLogsServiceRequest, in which what is not needed apart is bytes, which is the same on the wire."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "sextant.otlp_logs"
    file = descriptor_pb2.FileDescriptorProto(name="sextant/otlp_logs.proto", package=package, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in {
        "Resource": (("attributes", 1, kinds.TYPE_BYTES, True),),
        "Scope": (("name", 1, kinds.TYPE_BYTES, False),),
        "Record": (
            ("time_unix_nano", 1, kinds.TYPE_FIXED64, False), ("severity_number", 2, kinds.TYPE_INT32, False), ("severity_text", 3, kinds.TYPE_BYTES, False),
            ("body", 5, kinds.TYPE_BYTES, False), ("attributes", 6, kinds.TYPE_BYTES, True), ("trace_id", 9, kinds.TYPE_BYTES, False),
            ("span_id", 10, kinds.TYPE_BYTES, False), ("observed_time_unix_nano", 11, kinds.TYPE_FIXED64, False), ("event_name", 12, kinds.TYPE_BYTES, False),
        ),
        "ScopeLogs": (("scope", 1, "Scope", False), ("log_records", 2, "Record", True)),
        "ResourceLogs": (("resource", 1, "Resource", False), ("scope_logs", 2, "ScopeLogs", True)),
        "Request": (("resource_logs", 1, "ResourceLogs", True),),
    }.items():  # fmt: skip
        message = file.message_type.add(name=name)
        for field, number, kind, many in fields:
            label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            if isinstance(kind, str):
                message.field.add(name=field, number=number, label=label, type=kinds.TYPE_MESSAGE, type_name=f".{package}.{kind}")
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))
