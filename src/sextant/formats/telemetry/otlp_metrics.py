"""Decodes OTLP's metrics to samples.

A number is a series of the metric's own name. A histogram is `NAME_bucket` by `le` (counts up to
it), `NAME_count` and `NAME_sum`; an exponential one has cells of changing width instead of buckets,
which ride on the samples of `NAME_count`. A summary is NAME by `quantile`, `NAME_count` and
`NAME_sum`.

What does not stand in the labels, and still makes series of its own: the process, which attributes
of its resource tell; when a cumulative counting began, since it begins anew at nought; and whether
values are increments. A first point whose start is its own time says that the start is not known:
growth is counted from its value on. Not so of an SDK, which always knows it: the clock of Node has
milliseconds, and a program may count and export in one. Source: opentelemetry-proto 1.9,
metrics.proto; OpenTelemetry's metrics data model, "Temporality", "Resets and gaps",
"Single-writer", "ExponentialHistogram".
"""

import array
import hashlib
import math
from bisect import insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from sextant.formats.telemetry import otlp
from sextant.formats.telemetry.batch import (
    Batch,
    Budget,
    Cells,
    Identity,
    Samples,
    asset_of,
    checked,
)
from sextant.kernel import limits

_NO_VALUE = 1  # DataPointFlags
_STALE = msgspec.msgpack.decode(
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x02"
)  # Prometheus's staleness marker
_CUMULATIVE, _DELTA = 2, 1
_INDEX_MIN, _INDEX_MAX = -(1 << 31), (1 << 31) - 1
_SCALE_MIN, _SCALE_MAX = -11, 20  # OpenTelemetry's SDKs use -10 to 20


class _Series(msgspec.Struct, frozen=True, array_like=True):
    """What a key of a sample holds; see `identify`."""

    kind: str
    unit: str
    labels: list[tuple[str, str]]
    stream: bytes
    start_ns: int
    is_reference: bool
    histogram: tuple[str, str, bytes, bool]  # name, unit, layout, whether it is read from this
    is_count: bool


_ENCODE, _DECODE = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Series).decode


def identify(key: bytes) -> Identity:
    """Return what a key says: the labels of a series, sorted, with its kind and unit."""
    said = _DECODE(key)
    labels = [(name.encode(), value.encode()) for name, value in said.labels]
    owner = next((value for name, value in said.labels if name == "sextant.owner"), "")
    return Identity(
        labels,
        kind=said.kind,
        unit=said.unit,
        asset=asset_of(labels),
        owner=owner,
        refused=checked(labels),
        stream=said.stream,
        start_ns=said.start_ns,
        is_reference=said.is_reference,
        histogram=said.histogram[0].encode(),
        histogram_unit=said.histogram[1],
        layout=said.histogram[2],
        is_read=said.histogram[3],
        is_kind_said=True,
        is_count=said.is_count,
    )


def metrics(request: Any, budget: Budget | None = None) -> Batch:
    """Return the samples of an ExportMetricsServiceRequest. TooMuch when they exceed the budget."""
    import numpy as np

    batch, budget = Batch(), budget or Budget()
    out = _Points(batch, budget)
    for group in request.resource_metrics:
        budget.group()
        budget.attributes(len(group.resource.attributes))
        said = otlp.texts(group.resource.attributes)
        out.process = _process(said)
        out.is_sdk = any(key.startswith("telemetry.sdk.") and text for key, text in said)
        for scope in group.scope_metrics:
            budget.group()
            common = otlp.common_labels(said, scope.scope.name)
            budget.records(len(scope.metrics))
            for metric in scope.metrics:
                _metric(metric, common, out, batch, budget)
    if out.keys:
        batch.samples.append(
            Samples(
                out.keys,
                np.array(out.times, np.int64),
                np.array(out.values, np.float64),
                identify,
                out.cells,
                out.starts,
            )
        )
    return batch


def _process(resource: list[tuple[str, str]]) -> bytes:
    """Return what tells processes of one service apart that have the same labels."""
    said = sorted(one for one in resource if one[0].startswith(otlp.CHURN))
    if not said:
        return b""
    return hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=8).digest()


class _Points:
    """Samples as they are gathered."""

    def __init__(self, batch: Batch, budget: Budget) -> None:
        self._batch, self._budget = batch, budget
        self.process = b""
        self.is_sdk = False  # it counted by itself, and knows since when
        self.keys: list[bytes] = []
        self.times: list[int] = []
        self.values: list[float] = []
        self.cells: dict[int, Cells] = {}
        self.starts: dict[int, int] = {}

    def add(
        self,
        point: Any,
        number: float,
        name: str,
        kind: str,
        unit: str,
        labels: Sequence[tuple[str, str]],
        *more: tuple[str, str],
        histogram: tuple[str, str] = ("", ""),
        layout: bytes = b"",
        is_count: bool = False,
        cells: Cells | None = None,
    ) -> None:
        """Add a sample. `labels` are sorted and have `more` added to them; `is_count` says that
        it only grows."""
        self._budget.records()
        if len(labels) + len(more) >= limits.LABELS_MAX:
            self._batch.refuse("labels_too_many")
            return
        named = list(labels)
        for label in (*more, ("__name__", name)):
            insort(named, label)
        counts = kind in ("counter", "histogram")
        start_ns = point.start_time_unix_nano if counts else 0
        key = _ENCODE(
            _Series(
                kind,
                unit,
                named,
                self.process + b"delta" * (kind == "delta"),
                start_ns if start_ns <= point.time_unix_nano else 0,
                start_ns == point.time_unix_nano and not self.is_sdk,
                (*histogram, layout, bool(layout) or cells is not None),
                is_count,
            )
        )
        self._budget.row_bytes(len(key))
        if cells is not None:
            self._budget.row_bytes(13 * len(cells.sides))
            self.cells[len(self.keys)] = cells
        if kind == "delta":
            # with what the time loses, which differs between processes that flush at once
            self.starts[len(self.keys)] = (
                point.start_time_unix_nano * 1_000_000 + point.time_unix_nano % 1_000_000
            ) % (1 << 63)
        self.keys.append(key)
        self.times.append(point.time_unix_nano // 1_000_000)
        self.values.append(_STALE if point.flags & _NO_VALUE else number)


def _metric(
    metric: Any, common: dict[str, str], out: _Points, batch: Batch, budget: Budget
) -> None:
    which, name, unit = metric.WhichOneof("data"), metric.name, metric.unit
    if which is None or not name:
        batch.refuse("value_missing" if which is None else "metric_unnamed")
        return
    data = getattr(metric, which)
    delta = getattr(data, "aggregation_temporality", _CUMULATIVE) == _DELTA
    budget.records(len(data.data_points))
    for point in data.data_points:
        budget.attributes(len(point.attributes))
        if which == "exponential_histogram":
            buckets = len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
            budget.attributes(buckets)
        elif which == "histogram":
            budget.attributes(len(point.bucket_counts) + len(point.explicit_bounds))
        labels = otlp.point_labels(common, point.attributes)
        if not point.time_unix_nano:
            batch.refuse("time_missing")
        elif which in ("gauge", "sum"):
            _number_point(point, data, which, name, unit, labels, out, batch, delta=delta)
        elif which == "summary":
            _summary(point, name, unit, labels, out)
        else:
            _histogram(point, which, name, unit, labels, out, batch, delta=delta)


def _number_point(
    point: Any,
    data: Any,
    which: str,
    name: str,
    unit: str,
    labels: list[tuple[str, str]],
    out: _Points,
    batch: Batch,
    *,
    delta: bool,
) -> None:
    said = point.WhichOneof("value")
    if said is None and not point.flags & _NO_VALUE:
        batch.refuse("value_missing")
        return
    if said == "as_int" and int(float(point.as_int)) != point.as_int:
        batch.notice("integer_rounded")
    counts = which == "sum" and data.is_monotonic and not delta
    out.add(
        point,
        float(point.as_int) if said == "as_int" else point.as_double,
        name,
        "counter" if counts else "delta" if which == "sum" and delta else "gauge",
        unit,
        labels,
        is_count=counts,
    )


def _summary(point: Any, name: str, unit: str, labels: list[tuple[str, str]], out: _Points) -> None:
    out.add(point, float(point.count), f"{name}_count", "counter", "", labels, is_count=True)
    out.add(point, point.sum, f"{name}_sum", "counter", unit, labels)
    for quantile in point.quantile_values:
        of = ("quantile", _number(quantile.quantile))
        out.add(point, quantile.value, name, "summary", unit, labels, of)


def _histogram(
    point: Any,
    which: str,
    name: str,
    unit: str,
    labels: list[tuple[str, str]],
    out: _Points,
    batch: Batch,
    *,
    delta: bool,
) -> None:
    kind = "delta" if delta else "counter"
    cells: Cells | None = None
    bounds: list[float] = []
    is_right = True
    if point.flags & _NO_VALUE:  # it says that its series have ended
        pass
    elif which == "exponential_histogram":
        cells = _cells(point, delta=delta)
        is_right = cells is not None
    else:
        bounds = [*point.explicit_bounds, math.inf] if point.bucket_counts else []
        is_right = len(bounds) == len(point.bucket_counts) and all(
            low < high for low, high in pairwise(bounds)
        )
    if not is_right:
        batch.refuse("histogram_malformed")
        return
    out.add(
        point,
        float(point.count),
        f"{name}_count",
        kind,
        "",
        labels,
        histogram=(name, unit),
        is_count=not delta,
        cells=cells,
    )
    if point.HasField("sum") or point.flags & _NO_VALUE:
        out.add(point, point.sum, f"{name}_sum", kind, unit, labels, histogram=(name, unit))
    layout = hashlib.blake2b(repr(bounds).encode(), digest_size=4).digest()
    total = 0
    for place, bound in enumerate(bounds):
        total += point.bucket_counts[place]
        out.add(
            point,
            float(total),
            f"{name}_bucket",
            "delta" if delta else "histogram",
            "",
            labels,
            ("le", _number(bound)),
            histogram=(name, unit),
            layout=layout,
        )


def _cells(point: Any, *, delta: bool) -> Cells | None:
    """Return the cells of an exponential histogram that hold something, fewer and wider ones where
    they are too many; None when they cannot be right."""
    scale = point.scale
    if not _SCALE_MIN <= scale <= _SCALE_MAX:
        return None
    sides = []
    for side, buckets in ((-1, point.negative), (1, point.positive)):
        counts = {
            buckets.offset + n: count for n, count in enumerate(buckets.bucket_counts) if count
        }
        if counts and not _INDEX_MIN <= min(counts) <= max(counts) <= _INDEX_MAX:
            return None
        sides.append((side, counts))
    while sum(len(counts) for _, counts in sides) > limits.HISTOGRAM_CELLS_MAX:
        scale -= 1
        sides = [(side, _halved(counts)) for side, counts in sides]
    zero = {0: point.zero_count} if point.zero_count else {}
    all_ = [(side, *one) for side, counts in (*sides, (0, zero)) for one in counts.items()]
    return Cells(
        scale,
        point.zero_threshold if math.isfinite(point.zero_threshold) else 0.0,
        delta,
        array.array("b", [side for side, _, _ in all_]).tobytes(),
        array.array("i", [index for _, index, _ in all_]).tobytes(),
        array.array("Q", [count for _, _, count in all_]).tobytes(),
    )


def _halved(buckets: dict[int, int]) -> dict[int, int]:
    out: dict[int, int] = {}
    for index, count in buckets.items():
        out[index >> 1] = out.get(index >> 1, 0) + count
    return out


def _number(value: float) -> str:
    """Return a bound as Prometheus writes it."""
    return (
        "+Inf"
        if value == math.inf
        else "-Inf"
        if value == -math.inf
        else repr(float(value)).removesuffix(".0")
        if abs(value) < 1e15
        else repr(float(value))
    )
