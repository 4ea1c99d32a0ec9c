"""Converts native histograms of Prometheus (remote write 1.0) to the cells of an exponential
histogram. Called by `remote_write.py`.

Source: prometheus/prompb/types.proto, `Histogram`; Prometheus documentation, "Native histograms":
bucket i of schema s holds (2^((i-1)/2^s), 2^(i/2^s)], which is cell i-1 of scale s.
"""

import array
import functools
import math
from typing import Any, NamedTuple

from sextant.formats.telemetry.batch import Budget, Cells
from sextant.kernel import limits

_SCHEMA_MIN, _SCHEMA_MAX = -4, 8  # others have bounds of their own
_STALE_BITS = 0x7FF0000000000002
_TYPES = {
    "double": 1, "int64": 3, "uint64": 4, "int32": 5, "message": 11, "uint32": 13, "sint32": 17,
    "sint64": 18,
}  # fmt: skip
_FIELDS = (
    ("count_int", 1, "uint64", False),
    ("count_float", 2, "double", False),
    ("sum", 3, "double", False),
    ("schema", 4, "sint32", False),
    ("zero_threshold", 5, "double", False),
    ("zero_count_int", 6, "uint64", False),
    ("negative_spans", 8, "message", True),
    ("negative_deltas", 9, "sint64", True),
    ("positive_spans", 11, "message", True),
    ("positive_deltas", 12, "sint64", True),
    ("timestamp", 15, "int64", False),
    ("custom_values", 16, "double", True),
)


class Native(NamedTuple):
    """A native histogram: its time in ms, how many values it took, their sum, and where they lie;
    None where it says only that its series has ended."""

    ts: int
    observed: float
    sum: float
    cells: Cells | None


def decode(message: bytes, budget: Budget) -> Native | None:
    """Return a native histogram; None for one that is not taken: of floats, or with bounds of its
    own. DecodeError when it is none."""
    found = _message().FromString(message)
    if math.isnan(found.sum) and array.array("d", [found.sum]).tobytes() == _STALE_BITS.to_bytes(
        8, "little"
    ):
        return Native(found.timestamp, found.sum, found.sum, None)
    if (
        found.count_float
        or found.custom_values
        or not _SCHEMA_MIN <= found.schema <= _SCHEMA_MAX
        or len(found.positive_deltas) + len(found.negative_deltas) > limits.HISTOGRAM_CELLS_MAX
    ):
        return None
    budget.attributes(len(found.positive_deltas) + len(found.negative_deltas))
    all_ = []
    for side, spans, deltas in (
        (-1, found.negative_spans, found.negative_deltas),
        (1, found.positive_spans, found.positive_deltas),
    ):
        index = count = place = 0
        for span in spans:
            index += span.offset
            for _ in range(min(span.length, len(deltas) - place)):
                count += deltas[place]
                place += 1
                if count < 0:
                    return None
                if count:
                    all_.append((side, index - 1, count))
                index += 1
    if found.zero_count_int:
        all_.append((0, 0, found.zero_count_int))
    try:
        cells = Cells(
            found.schema,
            found.zero_threshold if math.isfinite(found.zero_threshold) else 0.0,
            False,
            array.array("b", [side for side, _, _ in all_]).tobytes(),
            array.array("i", [index for _, index, _ in all_]).tobytes(),
            array.array("Q", [count for _, _, count in all_]).tobytes(),
        )
    except OverflowError:  # an index that no number has, or a count beyond 64 bits
        return None
    return Native(found.timestamp, float(found.count_int), found.sum, cells)


@functools.cache
def _message() -> Any:
    """Return the message class `prometheus.Histogram`, of those of its fields that are read."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "sextant.native_histograms"
    file = descriptor_pb2.FileDescriptorProto(
        name="sextant/native_histograms.proto", package=package, syntax="proto3"
    )
    span = file.message_type.add(name="BucketSpan")
    span.field.add(name="offset", number=1, label=1, type=_TYPES["sint32"])
    span.field.add(name="length", number=2, label=1, type=_TYPES["uint32"])
    message = file.message_type.add(name="Histogram")
    for name, number, kind, many in _FIELDS:
        one = message.field.add(name=name, number=number, label=3 if many else 1, type=_TYPES[kind])
        if kind == "message":
            one.type_name = f".{package}.BucketSpan"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Histogram"))
