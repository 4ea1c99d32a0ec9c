"""Decodes exemplars, single measurements with their trace, to rows of `obs.exemplars_seen`.

Called by the protocols that bring samples. Prometheus's formats gather them while samples are read,
each with the key of its series; in OTLP they stand in the points.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sextant.formats.telemetry import native, otlp, utf8
from sextant.formats.telemetry.batch import (
    Batch,
    Budget,
    Exemplar,
    Identity,
    Rows,
    asset_of,
    checked,
    series_id,
)
from sextant.formats.telemetry.records import Pairs
from sextant.kernel import limits

_BUCKET = b"_bucket"
_TRACE = (b"trace_id", b"traceID", b"traceId", b"trace.id")
_SPAN = (b"span_id", b"spanID", b"spanId", b"span.id")
_COST = 4  # of reading the labels of one, in records
_NS = "DateTime64(9, 'UTC')"
_EXEMPLAR_PAIRS_MAX = 16  # of one: OpenMetrics allows 128 characters of all names and values


class _Row(NamedTuple):
    metric: bytes
    series: int
    ts: int
    value: float
    trace_id: bytes
    span_id: bytes
    labels: Pairs
    attributes: Pairs
    asset: bytes
    owner: bytes


class Window(NamedTuple):
    """Whose exemplars they are, and from when they may be."""

    owner: str
    now_ns: int
    oldest_ns: int

    def has(self, at: int) -> bool:
        return self.oldest_ns <= at <= self.now_ns + int(limits.FUTURE_S * 1e9)


def keep(
    batch: Batch,
    identify: Callable[[bytes], Identity],
    window: Window,
    budget: Budget,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Make rows of the exemplars that a batch has gathered.

    more     labels that the request adds to all its series
    Raises   what reading a key raises; TooMuch when they exceed the budget
    """
    rows: list[_Row] = []
    for exemplar in batch.exemplars:
        budget.records(_COST)
        identity = identify(exemplar.key)
        if identity.refused or not window.has(exemplar.ts_ns):
            batch.notice("exemplar_not_kept")
            continue
        labels = dict(more) | dict(identity.labels)
        owner = identity.owner or window.owner
        rows.append(_row(exemplar, labels, asset_of(labels.items()), owner))
    batch.exemplars.clear()
    _finish(batch, rows, budget)


def of_otlp(request: Any, batch: Batch, window: Window, budget: Budget) -> None:
    """Make rows of the exemplars of an ExportMetricsServiceRequest. TooMuch as above."""
    rows: list[_Row] = []
    for common, metric, point in _points(request):
        budget.records(len(point.exemplars))
        said = otlp.point_labels(common, point.attributes)
        labels = {name.encode(): text.encode() for name, text in said}
        owner = labels.get(b"sextant.owner", b"").decode() or window.owner
        named = {b"__name__": metric.name.encode(), **labels}
        refused = checked(sorted(named.items()))
        for one in point.exemplars:
            at = one.time_unix_nano or point.time_unix_nano
            if refused or not window.has(at):
                batch.notice("exemplar_not_kept")
                continue
            number = float(one.as_int if one.WhichOneof("value") == "as_int" else one.as_double)
            ids = ((b"trace_id", one.trace_id), (b"span_id", one.span_id))
            own = [(name, id_.hex().encode()) for name, id_ in ids if any(id_)]
            own += otlp.pairs(one.filtered_attributes)
            exemplar = Exemplar(b"", number, at, own)
            rows.append(_row(exemplar, named, asset_of(labels.items()), owner))
    _finish(batch, rows, budget)


def _points(request: Any) -> Iterator[tuple[dict[str, str], Any, Any]]:
    """Yield the points that have exemplars, each with the labels of its scope, and its metric."""
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            common: dict[str, str] | None = None  # few have any
            for metric in scope.metrics:
                which = metric.WhichOneof("data")
                if which is None or which == "summary":
                    continue
                for point in getattr(metric, which).data_points:
                    if not len(point.exemplars):
                        continue
                    if common is None:
                        resource = otlp.texts(group.resource.attributes)
                        common = otlp.common_labels(resource, scope.scope.name)
                    yield common, metric, point


def _row(exemplar: Exemplar, labels: dict[bytes, bytes], asset: str, owner: str) -> _Row:
    """Return the row of an exemplar; a bucket's belongs to its histogram."""
    labels = dict(labels)
    metric = labels.pop(b"__name__", b"")
    if metric.endswith(_BUCKET) and b"le" in labels:
        metric = metric.removesuffix(_BUCKET)
        del labels[b"le"]
    own = {name: _text(value) for name, value in exemplar.labels[:_EXEMPLAR_PAIRS_MAX]}
    trace = next((own.pop(name) for name in _TRACE if name in own), b"").lower()
    span = next((own.pop(name) for name in _SPAN if name in own), b"").lower()
    stored = sorted(labels.items())
    return _Row(
        metric,
        series_id(sorted([(b"__name__", metric), *stored]), owner),
        exemplar.ts_ns,
        exemplar.value,
        trace,
        span,
        stored,
        [(_text(name), value) for name, value in own.items()],
        asset.encode(),
        owner.encode(),
    )


def _text(text: bytes) -> bytes:
    text = text[: limits.LABEL_VALUE_BYTES_MAX]
    return text if utf8.is_utf8(text) else utf8.repaired(text)


def _finish(batch: Batch, rows: list[_Row], budget: Budget) -> None:
    import numpy as np

    if not rows:
        return
    for row in rows:
        pairs = (*row.labels, *row.attributes)
        budget.row_bytes(len(row.metric) + sum(len(name) + len(text) for name, text in pairs))
    metrics, series, times, values, traces, spans, labels, attributes, assets, owners = zip(
        *rows, strict=True
    )
    texts = (
        ("metric", metrics),
        ("trace_id", traces),
        ("span_id", spans),
        ("asset", assets),
        ("owner", owners),
    )
    block = native.block(
        len(rows),
        (
            ("series", "UInt64", np.array(series, np.uint64).tobytes()),
            ("ts", _NS, np.array(times, np.int64).tobytes()),
            ("value", "Float64", np.array(values, np.float64).tobytes()),
            *((name, "String", native.texts(column)) for name, column in texts),
            ("labels", "Map(String, String)", native.maps(labels)),
            ("attributes", "Map(String, String)", native.maps(attributes)),
        ),
    )
    batch.rows.append(Rows("obs.exemplars_seen", len(rows), block))
