"""OTLP 1.x to samples and spans; `otlp_bodies.py` reads the requests.

Attributes of OpenTelemetry's conventions (`gen_ai.*`, `cicd.*`, `vcs.*`, `feature_flag.*` and all
others) are kept under their names. Source: opentelemetry-proto 1.9 (collector and data messages),
OTLP specification (JSON encoding, partial success).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sextant.formats.batch import Batch, Budget, Identity, Samples, Span, asset_of, checked
from sextant.formats.records import Pairs, SpanRow, span_rows
from sextant.kernel import limits

_KINDS = (b"", b"internal", b"server", b"client", b"producer", b"consumer")
_STATUS = (b"", b"ok", b"error")
_NO_VALUE = 1  # DataPointFlags
_STALE = msgspec.msgpack.decode(
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x02"
)  # Prometheus's staleness marker
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)  # ids that are none
_CUMULATIVE, _DELTA = 2, 1
_BUCKETS_MAX = 40  # of an exponential histogram: neighbours are merged until so many are left
# Attributes of a resource that change with every start of a process: as labels they would make new
# series each time.
_CHURN = ("process.", "telemetry.sdk.", "telemetry.distro.", "os.description")


# ---------------------------------------------------------------- values


def value(any_value: Any) -> bytes:
    """Return an AnyValue as text: JSON for what is nested."""
    which = any_value.WhichOneof("value")
    if which == "string_value":
        return any_value.string_value.encode()  # type: ignore[no-any-return]
    if which is None:
        return b""
    if which == "bool_value":
        return b"true" if any_value.bool_value else b"false"
    if which == "int_value":
        return b"%d" % any_value.int_value
    if which == "double_value":
        return repr(any_value.double_value).encode()
    return msgspec.json.encode(_nested(any_value))


def _nested(any_value: Any) -> Any:
    """Return an AnyValue as JSON has it; protobuf itself reads it to some fifty levels."""
    which = any_value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_nested(one) for one in any_value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _nested(pair.value) for pair in any_value.kvlist_value.values}
    if which == "bytes_value":
        return any_value.bytes_value.hex()
    return getattr(any_value, which)


def pairs(attributes: Any) -> list[tuple[bytes, bytes]]:
    return [(pair.key.encode(), value(pair.value)) for pair in attributes]


def is_label(name: str) -> bool:
    """Say whether an attribute of a resource is a label of its series."""
    return not name.startswith(_CHURN)


def _resource(group: Any) -> list[tuple[bytes, bytes]]:
    return pairs(group.resource.attributes)


def owner_of_resource(resource: Pairs, default: str) -> str:
    return (
        next(
            (
                value.decode("utf-8", "replace")
                for name, value in resource
                if name == b"sextant.owner"
            ),
            "",
        )
        or default
    )


def _seen(batch: Batch, resource: Pairs, owner: str) -> tuple[str, str]:
    """Return asset and owner of a resource, and note that it spoke."""
    asset, whose = asset_of(resource), owner_of_resource(resource, owner)
    if asset:
        batch.services.setdefault(asset, whose)
    return asset, whose


# ---------------------------------------------------------------- traces


def traces(
    request: Any, *, owner: str, now_ns: int, oldest_ns: int, budget: Budget | None = None
) -> Batch:
    """Return the spans of an ExportTraceServiceRequest. TooMuch when they exceed the budget."""
    batch, budget = Batch(), budget or Budget()
    newest_ns = now_ns + int(limits.FUTURE_S * 1e9)
    for group in request.resource_spans:
        budget.group()
        budget.attributes(len(group.resource.attributes))
        resource = _resource(group)
        asset, whose = _seen(batch, resource, owner)
        for scope in group.scope_spans:
            budget.group()
            budget.records(len(scope.spans))
            rows: list[SpanRow] = []
            for span in scope.spans:
                start = span.start_time_unix_nano
                if not oldest_ns <= start <= newest_ns:
                    batch.refuse("too_old" if start < oldest_ns else "too_new")
                    continue
                parent = span.parent_span_id
                if parent == _NO_SPAN:
                    parent = b""
                if (
                    len(span.trace_id) != len(_NO_TRACE)
                    or span.trace_id == _NO_TRACE
                    or len(span.span_id) != len(_NO_SPAN)
                    or span.span_id == _NO_SPAN
                    or len(parent) not in (0, len(_NO_SPAN))
                ):
                    batch.refuse("id_malformed")
                    continue
                if len(span.attributes) > limits.ATTRIBUTES_MAX:
                    batch.refuse("attributes_too_many")
                    continue
                budget.attributes(len(span.attributes))
                for part in (*span.events, *span.links):
                    budget.attributes(4 + len(part.attributes))
                attributes = pairs(span.attributes)
                if span.end_time_unix_nano < start:
                    batch.notice("end_before_start")
                rows.append(
                    SpanRow(
                        start,
                        max(0, span.end_time_unix_nano - start),
                        span.name.encode(),
                        _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else b"",
                        _STATUS[span.status.code] if 0 <= span.status.code < len(_STATUS) else b"",
                        span.status.message.encode(),
                        span.trace_id.hex().encode(),
                        span.span_id.hex().encode(),
                        parent.hex().encode(),
                        span.trace_state.encode(),
                        attributes,
                        _events(span.events),
                        _links(span.links),
                    )
                )
                if span.kind > 1:
                    batch.spans.append(
                        Span(
                            span.trace_id,
                            span.span_id,
                            parent,
                            span.kind,
                            asset,
                            _peer(attributes),
                            start // 1_000_000,
                        )
                    )
            if rows:
                batch.rows.append(
                    span_rows(
                        rows,
                        asset=asset,
                        owner=whose,
                        scope=scope.scope.name.encode(),
                        resource=resource,
                        budget=budget,
                    )
                )
    return batch


def _peer(attributes: Pairs) -> str:
    found = dict(attributes)
    if found.get(b"peer.service"):
        return "service:" + found[b"peer.service"].decode("utf-8", "replace")
    host = found.get(b"server.address") or found.get(b"net.peer.name") or b""
    return "host:" + host.decode("utf-8", "replace") if host else ""


def _events(events: Any) -> bytes:
    return (
        msgspec.json.encode(
            [
                {
                    "ts_ns": one.time_unix_nano,
                    "name": one.name,
                    "attributes": _texts(one.attributes),
                }
                for one in events
            ]
        )
        if events
        else b""
    )


def _links(links: Any) -> bytes:
    return (
        msgspec.json.encode(
            [
                {
                    "trace_id": one.trace_id.hex(),
                    "span_id": one.span_id.hex(),
                    "attributes": _texts(one.attributes),
                }
                for one in links
            ]
        )
        if links
        else b""
    )


def _texts(attributes: Any) -> dict[str, str]:
    return {pair.key: value(pair.value).decode("utf-8", "replace") for pair in attributes}


# ---------------------------------------------------------------- metrics


class _Series(msgspec.Struct, frozen=True, array_like=True):
    """What a key of a sample holds; see `identify`."""

    kind: str
    unit: str
    labels: list[tuple[str, str]]


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
    )


def metrics(request: Any, budget: Budget | None = None) -> Batch:
    """Return the samples of an ExportMetricsServiceRequest.

    A number is a series of the metric's own name. A histogram is `NAME_bucket` by `le` (counts up
    to it), `NAME_count` and `NAME_sum`;
    an exponential one has its buckets merged until few are left. A summary is NAME by `quantile`,
    `NAME_count` and `NAME_sum`. TooMuch when they exceed the budget.
    """
    import numpy as np

    batch, budget = Batch(), budget or Budget()
    out = _Points(batch, budget)
    for group in request.resource_metrics:
        budget.group()
        budget.attributes(len(group.resource.attributes))
        resource = [
            (name, value)
            for name, value in (
                (one.key, value(one.value).decode("utf-8", "replace"))
                for one in group.resource.attributes
            )
            if value and is_label(name)
        ]
        for scope in group.scope_metrics:
            budget.group()
            common = (
                [*resource, ("otel.scope.name", scope.scope.name)] if scope.scope.name else resource
            )
            budget.records(len(scope.metrics))
            for metric in scope.metrics:
                _metric(metric, common, out, batch, budget)
    if out.keys:
        batch.samples.append(
            Samples(
                out.keys, np.array(out.times, np.int64), np.array(out.values, np.float64), identify
            )
        )
    return batch


class _Points:
    """Samples as they are gathered."""

    def __init__(self, batch: Batch, budget: Budget) -> None:
        self._batch, self._budget = batch, budget
        self.keys: list[bytes] = []
        self.times: list[int] = []
        self.values: list[float] = []

    def add(
        self,
        point: Any,
        value: float,
        name: str,
        kind: str,
        unit: str,
        labels: Sequence[tuple[str, str]],
    ) -> None:
        self._budget.records()
        if len(labels) >= limits.LABELS_MAX:
            self._batch.refuse("labels_too_many")
            return
        key = _ENCODE(_Series(kind, unit, sorted([*labels, ("__name__", name)])))
        self._budget.row_bytes(len(key))
        self.keys.append(key)
        self.times.append(point.time_unix_nano // 1_000_000)
        self.values.append(_STALE if point.flags & _NO_VALUE else value)


def _metric(
    metric: Any, common: list[tuple[str, str]], out: _Points, batch: Batch, budget: Budget
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
        own = {pair.key: value(pair.value).decode("utf-8", "replace") for pair in point.attributes}
        labels = [
            (key, value)
            for key, value in ({**dict(common), **own} if own else dict(common)).items()
            if value
        ]
        if not point.time_unix_nano:
            batch.refuse("time_missing")
        elif which in ("gauge", "sum"):
            if not _has_value(point, batch):
                continue
            kind = (
                "gauge"
                if which == "gauge" or not data.is_monotonic
                else "delta"
                if delta
                else "counter"
            )
            out.add(
                point,
                float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double,
                name,
                kind,
                unit,
                labels,
            )
        else:
            kind = "summary" if which == "summary" else "delta" if delta else "histogram"
            out.add(
                point,
                float(point.count),
                f"{name}_count",
                "delta" if delta else "counter",
                "",
                labels,
            )
            if which == "summary" or point.HasField("sum"):
                out.add(
                    point, point.sum, f"{name}_sum", "delta" if delta else "counter", unit, labels
                )
            if which == "summary":
                for quantile in point.quantile_values:
                    out.add(
                        point,
                        quantile.value,
                        name,
                        kind,
                        unit,
                        [*labels, ("quantile", _number(quantile.quantile))],
                    )
                continue
            for bound, count in (
                _exponential(point) if which == "exponential_histogram" else _explicit(point)
            ):
                out.add(
                    point,
                    float(count),
                    f"{name}_bucket",
                    kind,
                    "",
                    [*labels, ("le", _number(bound))],
                )


def _has_value(point: Any, batch: Batch) -> bool:
    """Say whether a number has one, or says that it has none. Count those without, and integers
    that no float64 holds."""
    which = point.WhichOneof("value")
    if which is None and not point.flags & _NO_VALUE:
        batch.refuse("value_missing")
        return False
    if which == "as_int" and int(float(point.as_int)) != point.as_int:
        batch.notice("integer_rounded")
    return True


def _explicit(point: Any) -> Iterable[tuple[float, int]]:
    total = 0
    for n, count in enumerate(point.bucket_counts):
        total += count
        yield (point.explicit_bounds[n] if n < len(point.explicit_bounds) else math.inf), total


def _exponential(point: Any) -> Iterable[tuple[float, int]]:
    """Yield upper bounds and the counts up to them. Bucket i of scale s holds (2^(i/2^s),
    2^((i+1)/2^s)]."""
    scale = point.scale
    positive = {
        point.positive.offset + n: count
        for n, count in enumerate(point.positive.bucket_counts)
        if count
    }
    negative = {
        point.negative.offset + n: count
        for n, count in enumerate(point.negative.bucket_counts)
        if count
    }
    while len(positive) + len(negative) > _BUCKETS_MAX:
        scale -= 1
        positive, negative = _halved(positive), _halved(negative)
    total = 0
    for index in sorted(negative, reverse=True):
        total += negative[index]
        yield -_power(index, scale), total
    total += point.zero_count
    if point.zero_count or negative:
        yield point.zero_threshold, total
    for index in sorted(positive):
        total += positive[index]
        yield _power(index + 1, scale), total
    yield math.inf, total


def _halved(buckets: dict[int, int]) -> dict[int, int]:
    out: dict[int, int] = {}
    for index, count in buckets.items():
        out[index >> 1] = out.get(index >> 1, 0) + count
    return out


def _power(index: int, scale: int) -> float:
    try:
        return float(2.0 ** math.ldexp(index, -scale))
    except OverflowError:
        return math.inf


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
