"""Exemplars of every format: from a number to the trace behind it."""

import contextlib
import json
import struct
import time
from typing import Any

import cramjam
import pytest
from looking import operations
from remote_writer import HEADERS, TYPE, series
from served import Serving
from telemetry_process import Telemetry

from sextant.kernel.answers import MetricFacts
from sextant.formats.telemetry.native import varint
from sextant.kernel.errors import NotFound

NOW = time.time_ns() // 10**6 * 10**6 - 5 * 10**9
MS = NOW // 10**6
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def kept(process: Telemetry, metric: str) -> list[dict[str, Any]]:
    return process.rows(
        "SELECT toString(toUnixTimestamp64Nano(ts)) AS at, value, trace_id, span_id, labels, "
        "attributes, asset, owner, toString(series) AS series FROM obs.exemplars WHERE metric = "
        "{m:String} ORDER BY value",
        m=metric,
    )


def test_of_opentelemetry(process: Telemetry, token: str) -> None:
    """If this fails, a slow request in a histogram does not lead to its trace."""
    at = {"timeUnixNano": str(NOW), "attributes": [
        {"key": "route", "value": {"stringValue": "/buy"}}]}  # fmt: skip
    exemplar = {
        "timeUnixNano": str(NOW - 7), "asDouble": 0.7, "traceId": TRACE, "spanId": SPAN,
        "filteredAttributes": [{"key": "customer", "value": {"intValue": "7"}}],
    }  # fmt: skip
    body = {"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shown"}},
            {"key": "process.pid", "value": {"intValue": "7"}},
            {"key": "sextant.owner", "value": {"stringValue": "web"}}]},
        "scopeMetrics": [{"metrics": [
            {"name": "ex.lat", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {**at, "count": "2", "sum": 1, "bucketCounts": ["1", "1"], "explicitBounds": [0.5],
                 "exemplars": [exemplar, {**exemplar, "timeUnixNano": "0", "asDouble": 0.8}]}]}},
            {"name": "ex.count", "sum": {"isMonotonic": True, "aggregationTemporality": 2,
                "dataPoints": [{**at, "asInt": 7, "exemplars": [{"asInt": "3", "timeUnixNano":
                    str(NOW)}, {**exemplar, "timeUnixNano": "5"}]}]}},
        ]}],
    }]}  # fmt: skip
    answer = process.post(
        "/v1/metrics", json.dumps(body).encode(), token=token, content_type="application/json"
    )
    assert answer.json["partialSuccess"]["errorMessage"] == "1 kept: exemplar_not_kept"
    first, second = kept(process, "ex.lat")
    labels = {"route": "/buy", "service.name": "shown", "sextant.owner": "web"}
    assert first == {
        "at": str(NOW - 7), "value": 0.7, "trace_id": TRACE, "span_id": SPAN, "labels": labels,
        "attributes": {"customer": "7"}, "asset": "service:shown", "owner": "web",
        "series": first["series"],
    }  # fmt: skip
    assert (second["at"], second["value"]) == (str(NOW), 0.8)
    (number,) = kept(process, "ex.count")
    assert (number["value"], number["trace_id"]) == (3, "")


def test_the_sdk_of_opentelemetry_leads_to_the_trace(
    process: Telemetry, coordinator: Serving, token: str
) -> None:
    """If this fails, nobody whose application uses an SDK gets from a slow request to its trace."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    to = f"{process.ingest}/v1/metrics"
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(to, headers={"Authorization": f"Bearer {token}"}),
        export_interval_millis=1e9,
    )
    resource = Resource.create(
        {"service.name": "by-sdk", "service.instance.id": "one", "process.pid": 7, "empty": ""}
    )
    provider = MeterProvider(resource=resource, metric_readers=[reader])
    latency = provider.get_meter("io.example.http", "1.0").create_histogram("sdk.latency")
    tracer = TracerProvider(resource=resource).get_tracer("test")
    with tracer.start_as_current_span("slow") as span:
        latency.record(4.0, {"route": "/buy", "nothing": ""})
    assert provider.force_flush()
    provider.shutdown()
    trace = f"{span.get_span_context().trace_id:032x}"
    (row,) = kept(process, "sdk.latency")
    assert row["trace_id"] == trace
    stored = process.rows(
        "SELECT mapFilter((k, v) -> k != '__name__', labels) AS labels, owner, asset FROM "
        "obs.series WHERE metric = 'sdk.latency_count'"
    )
    assert stored == [{name: row[name] for name in ("labels", "owner", "asset")}]
    assert row["labels"]["otel.scope.name"] == "io.example.http"
    looks = operations(coordinator, process)
    found: MetricFacts | None = None
    end = time.monotonic() + 60
    while found is None and time.monotonic() < end:  # growth is counted a second later
        with contextlib.suppress(NotFound):
            found = looks.metric("sdk.latency")
    assert found
    (one,) = found["histogram"]
    assert (one["trace"], one["trace_value"]) == (trace, 4.0)


def test_exemplars_have_the_owner_and_the_labels_of_their_series(
    process: Telemetry, token: str
) -> None:
    """If this fails, an exemplar is shown beside a series that it is not of, or belongs to another
    team."""

    def text(name: str, value: str) -> dict[str, Any]:
        return {"key": name, "value": {"stringValue": value}}

    def point(*attributes: dict[str, Any]) -> dict[str, Any]:
        exemplar = {"timeUnixNano": str(NOW), "asDouble": 1.0, "traceId": TRACE, "spanId": SPAN}
        own = {"attributes": list(attributes), "exemplars": [exemplar]}
        return {"timeUnixNano": str(NOW), "startTimeUnixNano": "5", "asDouble": 7.0, **own}

    points = [
        point(text("otel.scope.name", "its own"), text("sextant.owner", "ops")),
        point(text("room", ""), text("service.name", "other")),
        point(text("long", "x" * 5_000)),
    ]
    metric = {"name": "ex.own", "sum": {"isMonotonic": True, "aggregationTemporality": 2,
        "dataPoints": points}}  # fmt: skip
    scopes = [{"scope": {"name": "a scope"}, "metrics": [metric]}]
    shown = [text("service.name", "shown"), text("room", "blue"), text("process.pid", "7")]
    body = {"resourceMetrics": [{"resource": {"attributes": shown}, "scopeMetrics": scopes}]}
    answer = process.post(
        "/v1/metrics", json.dumps(body).encode(), token=token, content_type="application/json"
    )
    assert answer.status == 200
    found = process.rows(
        "SELECT labels, owner, asset FROM obs.exemplars WHERE metric = 'ex.own' ORDER BY owner, asset"
    )
    assert found == process.rows(
        "SELECT mapFilter((k, v) -> k != '__name__', s.labels) AS labels, owner, asset FROM "
        "obs.series AS s WHERE metric = 'ex.own' ORDER BY owner, asset"
    )
    assert [one["owner"] for one in found] == ["ops", "shop"]


def test_of_openmetrics(process: Telemetry, token: str) -> None:
    """If this fails, exemplars of scraped targets are lost, or counted once for each scrape."""
    body = (
        "# TYPE lat histogram\n"
        f'lat_bucket{{le="0.5",route="/a"}} 1 # {{trace_id="{TRACE.upper()}",span_id="{SPAN}",u="x y"}} 0.25 {MS / 1000}\n'
        f'lat_bucket{{le="+Inf",route="/a"}} 2 # {{traceID="{TRACE}"}} 0.75\n'
        f'jobs_total{{a="}} # {{"}} 7 # {{trace_id="{TRACE}"}} 1.0 {MS / 1000:.9f}\n'
        "odd_total 1 # {trace_id=} 1\n"
        'old_total 1 # {trace_id="a"} 1 1000000000.5\n'
        "# EOF\n"
    ).encode()
    for _ in range(3):
        answer = process.post(
            f"/v1/exposition?job=shown&asset=service:shown&at={MS}",
            body,
            token=token,
            content_type="application/openmetrics-text",
        )
        assert answer.status == 200
        body = body.replace(b"# EOF", b"# HELP x y\n# EOF")  # another body with the same exemplars
    assert answer.json["noticed"] == {"exemplar_not_kept": 2}
    first, second = kept(process, "lat")
    assert first == {
        "at": str(NOW), "value": 0.25, "trace_id": TRACE, "span_id": SPAN,
        "labels": {"route": "/a", "job": "shown", "asset": "service:shown"},
        "attributes": {"u": "x y"}, "asset": "service:shown", "owner": "shop",
        "series": second["series"],
    }  # fmt: skip
    assert (second["at"], second["trace_id"]) == (str(NOW), TRACE)
    (job,) = kept(process, "jobs_total")
    assert job["labels"]["a"] == "} # {"


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def exemplar(value: float, at_ms: int, **labels: bytes) -> bytes:
    pairs = b"".join(
        field(1, field(1, name.encode()) + field(2, text)) for name, text in labels.items()
    )
    time_ = b"\x18" + varint(at_ms) if at_ms >= 0 else b""
    return field(3, pairs + b"\x11" + struct.pack("<d", value) + time_)


@pytest.mark.parametrize("alone", [True, False])
def test_of_remote_write(process: Telemetry, token: str, alone: bool) -> None:
    """If this fails, exemplars that Prometheus forwards are lost: it sends them without samples."""
    name = f"rw{int(alone)}_total"
    labels = {"__name__": name, "job": "shown"}
    one = series(labels, [] if alone else [(1.0, MS)])
    one += exemplar(0.5, MS, trace_id=TRACE.encode(), extra=b"caf\xe9")
    one += exemplar(0.6, 5, trace_id=b"old") + exemplar(0.7, -1)
    other = series({"__name__": f"{name}2", "job": "shown"}, [(2.0, MS)])
    body = bytes(cramjam.snappy.compress_raw(field(1, one) + field(1, other)))
    answer = process.post("/api/v1/write", body, token=token, content_type=TYPE, **HEADERS)
    assert answer.status == 204
    (row,) = kept(process, name)
    assert (row["value"], row["trace_id"], row["at"]) == (0.5, TRACE, str(NOW))
    assert row["attributes"] == {"extra": "caf\ufffd"}
    assert (row["asset"], row["labels"]) == ("service:shown", {"job": "shown"})
    counted = "SELECT count() FROM obs.samples WHERE metric = {m:String}"
    assert process.one(counted, m=name) == (0 if alone else 1)
    assert process.one(counted, m=f"{name}2") == 1


def test_whoever_reads(process: Telemetry, token: str) -> None:
    """If this fails, exemplars are kept and nobody can ask for them."""
    answer = process.post(
        "/v1/exposition?job=read",
        f'read_total 1 # {{trace_id="{TRACE}"}} 0.5 {MS / 1000}\n# EOF\n'.encode(),
        token=token,
        content_type="application/openmetrics-text",
    )
    assert answer.json == {"taken": 2, "refused": {}}
    asked = process.client.ask(
        "SELECT trace_id, labels['job'] AS job FROM obs.exemplars WHERE metric = {m:String}",
        "JSONEachRow",
        {"m": "read_total"},
        "viewer",
    )
    assert json.loads(asked) == {"trace_id": TRACE, "job": "read"}
    assert process.one(
        "SELECT create_table_query LIKE '%toIntervalDay(14)%' FROM system.tables WHERE database = "
        "'obs' AND name = 'exemplars_seen'"
    )
