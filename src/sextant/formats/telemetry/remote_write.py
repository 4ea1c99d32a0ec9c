"""Decodes Prometheus remote write 1.0 (`prometheus.WriteRequest`, decompressed protobuf) to
samples.

Speed decides the form: a request of 2,000 samples is 2,000 label sets of 200 bytes that arrived
before, word for word. So the messages inside are declared as `bytes`, which makes the parser cut
them out and no more; nearly every one ends in its one sample, whose 18 or 9 bytes are read for all
at once; what stands before them is the key by which the series is found. Labels are read once for
each new key. A key that was read whole is a sequence of whole fields, so the bytes behind it are a
field as well and the short cut cannot be wrong.

Source: Prometheus remote write specification 1.0; prometheus/prompb/types.proto and remote.proto
for the fields.
"""

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sextant.formats.telemetry import native_histograms
from sextant.formats.telemetry.batch import (
    Batch,
    Budget,
    Cells,
    Exemplar,
    Identity,
    Labels,
    Samples,
    asset_of,
    checked,
    histogram_of,
    kind_by_name,
    owner_of,
)
from sextant.formats.telemetry.native import varint
from sextant.formats.telemetry.native_histograms import Native
from sextant.kernel import limits
from sextant.kernel.errors import BadData

# 12 10 | 09 + float64 | 10 + a 6-byte varint: sample{value, timestamp} with a time between 2004 and
# 2109
# a label of ours in keys: the native histogram that it is a part of. No label of a sender: it is
# not UTF-8
_NATIVE = b"\xffhistogram"
_TAIL = 18
_TAIL_ZERO = 9  # 12 07 | 10 + a 6-byte varint: the value 0 is left out, as proto3 does
_LABEL_FIELDS_MAX = 8  # of one label: a name and a value, and what a later version may add
Kinds = dict[bytes, tuple[str, str]]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS = {
    1: "counter",
    2: "gauge",
    3: "histogram",
    4: "gauge",
    5: "summary",
    6: "gauge",
    7: "gauge",
}  # MetricMetadata.MetricType


def decode(body: bytes, budget: Budget | None = None, kinds: Kinds | None = None) -> Batch:
    """Return the samples of a request.

    body    protobuf, decompressed
    kinds   filled with what the request says of metrics: name -> (kind, unit). Prometheus says it
            once a minute in requests of its own, other senders beside samples
    Raises  BadData when it is not a WriteRequest, TooMuch when it exceeds the budget. Native
            histograms are counted as refused.
    """
    import numpy as np

    budget = budget or Budget()
    series = _timeseries(body, budget, kinds)
    batch = Batch()
    tails = b"".join([message[-_TAIL:] for message in series])
    if len(tails) == _TAIL * len(series):
        end = np.frombuffer(tails, np.uint8).reshape(-1, _TAIL)
        timed = (end[:, 11] == 0x10) & (end[:, 12:17] >= 0x80).all(axis=1) & (end[:, 17] < 0x80)
        with_value = timed & (end[:, 0] == 0x12) & (end[:, 1] == 0x10) & (end[:, 2] == 0x09)
        zero = timed & ~with_value & (end[:, 9] == 0x12) & (end[:, 10] == 0x07)
        ts = (end[:, 12:18] & 0x7F).astype(np.int64) @ (
            np.int64(1) << np.arange(0, 42, 7, dtype=np.int64)
        )
        values = np.where(with_value, np.ascontiguousarray(end[:, 3:11]).view("<f8").ravel(), 0.0)
        cuts = np.where(with_value, -_TAIL, np.where(zero, -_TAIL_ZERO, 0))
    else:
        cuts = np.zeros(len(series), np.int64)
        ts, values = np.zeros(len(series), np.int64), np.zeros(len(series))
    cells: dict[int, Cells] = {}
    if cuts.size and (cuts == -_TAIL).all():
        keys = [message[:-_TAIL] for message in series]
    elif (cuts != 0).all():
        keys = [message[:cut] for message, cut in zip(series, cuts.tolist(), strict=True)]
    else:
        slow = np.flatnonzero(cuts == 0)
        quick = np.flatnonzero(cuts)
        keys = [series[i][: cuts[i]] for i in quick.tolist()]
        more = _whole([series[i] for i in slow.tolist()], batch, budget)
        ts = np.concatenate([ts[quick], np.array(more.ts, np.int64)])
        values = np.concatenate([values[quick], np.array(more.values, np.float64)])
        cells = {len(keys) + place: one for place, one in more.cells.items()}
        keys += more.keys
    if keys:
        batch.samples.append(Samples(keys, ts, values, identify, cells))
    return batch


def identify(key: bytes) -> Identity:
    """Return what a key (the label fields of a TimeSeries) says. BadData when it is not made of
    label fields only."""
    labels: Labels = []
    histogram = b""
    for count, (number, value, _) in enumerate(_fields(key)):
        if count > limits.LABELS_MAX:
            return Identity([], refused="labels_too_many")
        if number != 1 or not isinstance(value, bytes):
            raise NotLabels(
                "SX-INTAKE-002",
                "the bytes before the last sample are more than labels",
                hint="send the samples of a series in one TimeSeries message",
            )
        name = text = b""
        for fields, (part, piece, _) in enumerate(_fields(value)):
            if fields > _LABEL_FIELDS_MAX:
                return Identity([], refused="labels_too_many")
            if part == 1 and isinstance(piece, bytes):
                name = piece
            elif part == 2 and isinstance(piece, bytes):
                text = piece
        if name == _NATIVE:
            histogram = text
        elif text:
            labels.append((name, text))
    labels.sort()
    metric = dict(labels).get(b"__name__", b"")
    return Identity(
        labels,
        kind=kind_by_name(metric),
        asset=asset_of(labels),
        owner=owner_of(labels),
        refused=checked(labels),
        histogram=histogram or histogram_of(labels),
        is_read=not histogram or metric.endswith(b"_count"),
    )


class NotLabels(BadData):
    """A key was cut in the wrong place: its message has several samples. `decode_whole` reads
    it."""


def decode_whole(body: bytes, budget: Budget | None = None, kinds: Kinds | None = None) -> Batch:
    """Return the same as `decode`, field by field: for requests in which a series has several
    samples, or fields in another order."""
    import numpy as np

    batch, budget = Batch(), budget or Budget()
    keys, ts, values, cells = _whole(_timeseries(body, budget, kinds), batch, budget)
    if keys:
        batch.samples.append(
            Samples(keys, np.array(ts, np.int64), np.array(values, np.float64), identify, cells)
        )
    return batch


def _kinds(metadata: Iterable[bytes]) -> Kinds:
    out: Kinds = {}
    for message in metadata:
        kind, family, unit = 0, b"", b""
        for number, value, _ in _fields(message):
            if number == 1 and isinstance(value, int):
                kind = value
            elif number == 2 and isinstance(value, bytes):
                family = value
            elif number == 5 and isinstance(value, bytes):
                unit = value
        if kind in _KINDS and family:
            out[family] = (_KINDS[kind], unit.decode("utf-8", "replace"))
    return out


def _timeseries(body: bytes, budget: Budget, kinds: Kinds | None) -> list[bytes]:
    from google.protobuf.message import DecodeError

    try:
        request = _request().FromString(body)
    except DecodeError as error:
        raise _malformed("the body is not a WriteRequest") from error
    budget.records(len(request.timeseries) + len(request.metadata))
    if kinds is not None:
        kinds.update(_kinds(request.metadata))
    return list(request.timeseries)


def _whole(series: list[bytes], batch: Batch, budget: Budget) -> "_Whole":
    keys: list[bytes] = []
    ts: list[int] = []
    values: list[float] = []
    cells: dict[int, Cells] = {}
    for message in series:
        budget.field_bytes(len(message))
        labels: list[bytes] = []
        exemplars: list[bytes] = []
        natives: list[Native] = []
        found = 0
        for number, value, raw in _fields(message):
            if number == 1 and isinstance(value, bytes):
                labels.append(raw)
            elif number == 2 and isinstance(value, bytes):
                at, number_sent = 0, 0.0
                for part, piece, _ in _fields(value):
                    if part == 1 and isinstance(piece, float):
                        number_sent = piece
                    elif part == 2 and isinstance(piece, int):
                        at = piece - (1 << 64) if piece >> 63 else piece
                if not -(1 << 63) <= at < 1 << 63:
                    raise _malformed("a time has more than 64 bits")
                ts.append(at)
                values.append(number_sent)
                found += 1
            elif number == 3 and isinstance(value, bytes):
                exemplars.append(value)
            elif number == 4 and isinstance(value, bytes):
                native = _native(value, budget)
                if native is None:
                    batch.refuse("native_histogram")
                else:
                    natives.append(native)
        key = b"".join(labels)
        budget.records(found + len(exemplars))
        batch.exemplars += [_exemplar(key, one) for one in exemplars]
        budget.row_bytes(len(key) * found)
        keys += [key] * found
        if natives:
            counts, sums = (_part_of(labels, part) for part in (b"_count", b"_sum"))
            budget.records(2 * len(natives))
            budget.row_bytes((len(counts) + len(sums)) * len(natives))
            for native in natives:
                if native.cells is not None:
                    budget.row_bytes(13 * len(native.cells.sides))
                    cells[len(keys)] = native.cells
                keys += [counts, sums]
                ts += [native.ts, native.ts]
                values += [native.observed, native.sum]
    return _Whole(keys, ts, values, cells)


class _Whole(NamedTuple):
    keys: list[bytes]
    ts: list[int]
    values: list[float]
    cells: dict[int, Cells]


def _native(message: bytes, budget: Budget) -> Native | None:
    from google.protobuf.message import DecodeError

    try:
        return native_histograms.decode(message, budget)
    except DecodeError as error:
        raise _malformed("a native histogram cannot be read") from error


def _part_of(labels: list[bytes], part: bytes) -> bytes:
    """Return the key of a native histogram's count or sum: labels of which the name has an end,
    and one more, which says of what."""
    out = []
    for raw in labels:
        _, value, _ = next(_fields(raw))
        name, text = _label(value) if isinstance(value, bytes) else (b"", b"")
        if name == b"__name__":
            out += [_label_field(name, text + part), _label_field(_NATIVE, text)]
        else:
            out.append(raw)
    return b"".join(out)


def _label_field(name: bytes, text: bytes) -> bytes:
    inside = b"".join(
        head + varint(len(data)) + data for head, data in ((b"\x0a", name), (b"\x12", text))
    )
    return b"\x0a" + varint(len(inside)) + inside


def _exemplar(key: bytes, message: bytes) -> Exemplar:
    labels: Labels = []
    number, at = 0.0, 0
    for part, piece, _ in _fields(message):
        if part == 1 and isinstance(piece, bytes):
            if len(labels) < limits.LABELS_MAX:
                labels.append(_label(piece))
        elif part == 2 and isinstance(piece, float):
            number = piece
        elif part == 3 and isinstance(piece, int):
            at = piece - (1 << 64) if piece >> 63 else piece
    return Exemplar(key, number, at * 1_000_000, labels)


def _label(message: bytes) -> tuple[bytes, bytes]:
    name = text = b""
    for part, piece, _ in _fields(message):
        if part == 1 and isinstance(piece, bytes):
            name = piece
        elif part == 2 and isinstance(piece, bytes):
            text = piece
    return name, text


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes, bytes]]:
    """Yield (field number, value, the field's own bytes). BadData when the message ends inside a
    field."""
    at, end = 0, len(message)
    while at < end:
        start = at
        tag, at = _varint(message, at)
        value: int | float | bytes
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES:
            size, at = _varint(message, at)
            value = message[at : at + size]
            at += size
        elif wire == _FIXED64:
            if at + 8 > end:
                raise _malformed("a field is cut off")
            value = struct.unpack_from("<d", message, at)[0]
            at += 8
        elif wire == _FIXED32:
            value = message[at : at + 4]
            at += 4
        else:
            raise _malformed("a field has a form that protobuf 3 does not know")
        if at > end:
            raise _malformed("a field is cut off")
        yield tag >> 3, value, message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    out = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise _malformed("a number is cut off")
        byte = message[at]
        at += 1
        out |= (byte & 0x7F) << shift
        if byte < 0x80:
            return out, at
        shift += 7


def _malformed(what: str) -> BadData:
    return BadData(
        "SX-INTAKE-001",
        f"not a remote write 1.0 request: {what}",
        hint="send prometheus.WriteRequest as protobuf, compressed by snappy (block format)",
    )


@functools.cache
def _request() -> Any:
    """Return the message class: prometheus.WriteRequest with its inner messages as bytes, which is
    the same on the wire."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="sextant/remote_write.proto", package="sextant.remote_write", syntax="proto3"
    )
    message = file.message_type.add(name="WriteRequest")
    many, octets = (
        descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
        descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    )
    message.field.add(name="timeseries", number=1, label=many, type=octets)
    message.field.add(name="metadata", number=3, label=many, type=octets)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("sextant.remote_write.WriteRequest")
    )
