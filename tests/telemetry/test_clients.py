"""Real clients, unchanged: what they send is there, once, under its asset."""

from seen import views
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from remote_writer import HEADERS, STALE, TYPE, request, series
from served import Serving
from telemetry_process import Telemetry

from sextant.project.config import Scrape
from sextant.kernel.clock import SystemClock
from sextant.server.feed.scrape import Scraper


def until(ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of a question as soon as there are some: growth is counted about once in a
    second, and again after fifteen."""
    end = time.monotonic() + 60
    while not (rows := ask()) and time.monotonic() < end:
        pass
    return rows


def _resource(name: str) -> Any:
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {"service.name": name, "vcs.ref.head.name": "main", "sextant.owner": "shop"}
    )


def test_the_sdk_of_opentelemetry_sends_traces(process: Telemetry, token: str) -> None:
    """If this fails, an application that is instrumented by the book is not seen."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode

    providers = []
    for name in ("checkout", "payment"):
        provider = TracerProvider(resource=_resource(name))
        provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(
                    f"{process.ingest}/v1/traces", headers={"Authorization": f"Bearer {token}"}
                )
            )
        )
        providers.append(provider)
    checkout, payment = (provider.get_tracer("test") for provider in providers)
    with checkout.start_as_current_span("POST /buy", kind=SpanKind.SERVER) as root:
        root.set_attribute("feature_flag.key", "new-cart")
        root.set_attribute("gen_ai.request.model", "small")
        root.set_attribute("gen_ai.usage.input_tokens", 1200)
        with (
            checkout.start_as_current_span("charge", kind=SpanKind.CLIENT),
            payment.start_as_current_span("POST /charge", kind=SpanKind.SERVER) as span,
        ):
            span.record_exception(ValueError("card refused"))
            span.set_status(Status(StatusCode.ERROR, "card refused"))
    assert all(provider.force_flush() for provider in providers)
    trace = f"{root.get_span_context().trace_id:032x}"
    spans = process.rows(
        (
            "SELECT name, asset, owner, kind, status, status_message, parent_span_id, "
            "attributes, resource, events FROM obs.spans WHERE trace_id = {t:String} ORDER BY ts"
        ),
        t=trace,
    )
    assert [(s["name"], s["asset"], s["kind"], s["status"]) for s in spans] == [
        ("POST /buy", "service:checkout", "server", ""),
        ("charge", "service:checkout", "client", ""),
        ("POST /charge", "service:payment", "server", "error"),
    ]
    assert spans[0]["attributes"] == {
        "feature_flag.key": "new-cart",
        "gen_ai.request.model": "small",
        "gen_ai.usage.input_tokens": "1200",
    }
    assert spans[0]["resource"]["vcs.ref.head.name"] == "main"
    assert json.loads(spans[2]["events"])[0]["attributes"]["exception.message"] == "card refused"
    assert {s["owner"] for s in spans} == {"shop"}
    assert process.rows(
        "SELECT caller, callee, count FROM obs.calls WHERE caller = 'service:checkout'"
    ) == [{"caller": "service:checkout", "callee": "service:payment", "count": 1}]


def test_the_sdk_of_opentelemetry_sends_metrics(process: Telemetry, token: str) -> None:
    """If this fails, counters and histograms of applications are not there, or wrong."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(
            f"{process.ingest}/v1/metrics", headers={"Authorization": f"Bearer {token}"}
        ),
        export_interval_millis=1e9,
    )
    view = View(
        instrument_type=Histogram,
        instrument_name="wide",
        aggregation=ExponentialBucketHistogramAggregation(),
    )
    provider = MeterProvider(resource=_resource("checkout"), metric_readers=[reader], views=[view])
    meter = provider.get_meter("test")
    meter.create_counter("orders", unit="{order}").add(3, {"shop": "north"})
    meter.create_up_down_counter("open").add(-2)
    for value in (4.0, 20.0, 300.0):
        meter.create_histogram("latency", unit="s").record(value)
        meter.create_histogram("wide", unit="s").record(value)
    assert provider.force_flush()
    provider.shutdown()
    found = {
        row["metric"]: row
        for row in process.rows(
            "SELECT metric, value, kind, labels, asset FROM obs.metrics WHERE asset = "
            "'service:checkout' AND metric NOT LIKE '%bucket' AND ts > now() - 600"
        )
    }
    assert (
        found["orders"]["value"],
        found["orders"]["kind"],
        found["orders"]["labels"]["shop"],
    ) == (3, "counter", "north")
    assert (found["open"]["value"], found["open"]["kind"]) == (-2, "gauge")
    assert [found[f"{name}_count"]["value"] for name in ("latency", "wide")] == [3, 3]
    assert found["latency_sum"]["value"] == 324
    buckets = process.rows(
        "SELECT labels['le'] AS le, value FROM obs.metrics WHERE metric = 'latency_bucket'"
    )
    counts = {float(row["le"].replace("+Inf", "inf")): row["value"] for row in buckets}
    assert counts[float("inf")] == 3
    for value, below in ((4.0, 1), (20.0, 2), (300.0, 3)):
        upper = min(bound for bound in counts if bound >= value)
        assert counts[upper] == below, (value, counts)
    grown = until(
        lambda: process.rows("SELECT increase, rate FROM obs.rates WHERE metric = 'orders'")
    )
    assert grown[0]["increase"] == 3
    for name, error in (("latency", 500 / 250), ("wide", 2 ** (2**-3))):
        (found,) = until(
            lambda name=name: process.rows(  # type: ignore[misc]
                "SELECT sum(count) AS n, histogramQuantile(0.5, groupArrayArray(cells)) AS median "
                "FROM obs.histograms WHERE metric = {m:String} HAVING n > 0",
                m=name,
            )
        )
        count, median = found["n"], found["median"]
        assert count == 3
        assert 20 / error <= median <= 20 * error, (name, median)


def test_the_sdk_of_opentelemetry_sends_logs(process: Telemetry, token: str) -> None:
    """If this fails, Python's own logging does not reach the store."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opentelemetry.sdk._logs import LoggingHandler

        provider = LoggerProvider(resource=_resource("payment"))
        provider.add_log_record_processor(
            BatchLogRecordProcessor(
                OTLPLogExporter(
                    f"{process.ingest}/v1/logs", headers={"Authorization": f"Bearer {token}"}
                )
            )
        )
        logger = logging.getLogger("test.payment")
        logger.propagate = False
        logger.addHandler(LoggingHandler(logger_provider=provider))
        logger.error("card of customer 7 refused", extra={"cicd.pipeline.run.id": "42"})
        assert provider.force_flush()
    (line,) = process.rows(
        "SELECT body, severity, asset, attributes FROM obs.logs WHERE hasAllTokens(body, "
        "'customer refused')"
    )
    assert (line["body"], line["severity"], line["asset"]) == (
        "card of customer 7 refused",
        "error",
        "service:payment",
    )
    assert line["attributes"]["cicd.pipeline.run.id"] == "42"


def test_a_scrape_of_the_client_of_prometheus(process: Telemetry) -> None:
    """If this fails, a target that Prometheus can scrape cannot be scraped here."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("jobs", "Jobs done", ["queue"], registry=registry).labels(
        'a "quoted" \\ name'
    ).inc(7)
    prometheus_client.Histogram(
        "took_seconds", "Time", buckets=(0.1, 1), registry=registry
    ).observe(0.5)
    prometheus_client.Info("build", "Build", registry=registry).info({"version": "1.2"})
    server, thread = prometheus_client.start_http_server(0, addr="127.0.0.1", registry=registry)
    target = Scrape(
        job="batch",
        url=f"http://127.0.0.1:{server.server_port}/metrics",
        private=True,
        owner="shop",
    )
    scraper = Scraper([target], process.client, SystemClock())
    scraper.scrape(target)
    found = {
        (row["metric"], row["labels"].get("le", "")): row
        for row in process.rows(
            "SELECT metric, labels, value, kind, asset, owner FROM obs.metrics WHERE "
            "labels['job'] = 'batch'"
        )
    }
    assert found["jobs_total", ""]["value"] == 7
    assert found["jobs_total", ""]["labels"] == {
        "queue": 'a "quoted" \\ name',
        "job": "batch",
        "instance": f"127.0.0.1:{server.server_port}",
    }
    assert (
        found["jobs_total", ""]["kind"],
        found["jobs_total", ""]["asset"],
        found["jobs_total", ""]["owner"],
    ) == ("counter", "service:batch", "shop")
    assert [found["took_seconds_bucket", le]["value"] for le in ("0.1", "1.0", "+Inf")] == [0, 1, 1]
    assert found["build_info", ""]["labels"]["version"] == "1.2"
    assert found["up", ""]["value"] == 1
    server.shutdown()
    thread.join()
    server.server_close()
    scraper.scrape(target)
    assert process.rows(
        "SELECT value FROM obs.metrics WHERE metric = 'up' ORDER BY ts DESC LIMIT 1"
    ) == [{"value": 0}]
    assert "batch" in scraper.problems


def test_remote_write(process: Telemetry, token: str) -> None:
    """If this fails, Prometheus cannot send here, or a value changes on the way."""
    now = time.time_ns() // 1_000_000
    values = [
        0.0,
        -0.0,
        1.5,
        0.1,
        1e300,
        123456789.25,
        float("inf"),
        float("-inf"),
        2**53 + 2.0,
        1 / 3,
    ]
    body = request(
        *(
            series({"__name__": "exact", "n": str(n), "job": "web"}, [(value, now)])
            for n, value in enumerate(values)
        ),
        series({"__name__": "gone", "job": "web"}, [(STALE, now)]),
    )
    answer = process.post("/api/v1/write", body, token=token, content_type=TYPE, **HEADERS)
    assert (answer.status, answer.body) == (204, b"")
    found = process.rows(
        "SELECT hex(reinterpretAsUInt64(value)) AS bits FROM obs.metrics WHERE metric = "
        "'exact' ORDER BY toUInt32(labels['n'])"
    )
    import struct

    assert [int(row["bits"], 16) for row in found] == [
        struct.unpack("<Q", struct.pack("<d", value))[0] for value in values
    ]
    assert (
        process.one("SELECT hex(reinterpretAsUInt64(value)) FROM obs.metrics WHERE metric = 'gone'")
        == "7FF0000000000002"
    )


def test_remote_write_of_several_samples_in_a_series(process: Telemetry, token: str) -> None:
    """If this fails, a sender that catches up is read wrong: its series hold many samples."""
    now = time.time_ns() // 1_000_000
    body = request(
        series(
            {"__name__": "many", "job": "web"},
            [(1.0, now - 30_000), (2.0, now - 15_000), (3.0, now)],
        ),
        series({"__name__": "other", "job": "web"}, [(9.0, now)]),
    )
    assert (
        process.post("/api/v1/write", body, token=token, content_type=TYPE, **HEADERS).status == 204
    )
    assert [
        row["value"]
        for row in process.rows("SELECT value FROM obs.metrics WHERE metric = 'many' ORDER BY ts")
    ] == [1, 2, 3]


def test_prometheus_itself(process: Telemetry, token: str, here: Path) -> None:
    """If this fails, Debian's Prometheus cannot send its own metrics here."""
    import shutil
    import subprocess

    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    (here / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: prometheus, "
        "static_configs: [{targets: ['127.0.0.1:19090']}]}]\n"
        f"remote_write: [{{url: '{process.ingest}/api/v1/write', authorization: "
        f"{{credentials: '{token}'}}}}]\n"
    )
    server = subprocess.Popen(
        [
            program,
            f"--config.file={here}/prometheus.yml",
            f"--storage.tsdb.path={here}/tsdb",
            "--web.listen-address=127.0.0.1:19090",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not process.rows(
            "SELECT 1 FROM obs.series WHERE metric = 'prometheus_build_info' LIMIT 1"
        ):
            assert time.monotonic() < until, "nothing came"
    finally:
        server.kill()
        server.wait()


def test_json_lines(process: Telemetry, token: str) -> None:
    """If this fails, the log lines of a program that knows no OpenTelemetry are lost."""
    now = time.time()
    lines = [
        {
            "ts": now,
            "level": "WARNING",
            "msg": "slow query of table plums",
            "ms": 1200,
            "ok": True,
            "tags": ["a"],
        },
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "severity": "info",
            "message": "started plums",
            "trace_id": "ab" * 16,
        },
        {"@timestamp": int(now * 1000), "level": 50, "log": "out of plums"},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    answer = process.post(
        "/v1/jsonlines?asset=service:fruit", body, token=token, content_type="application/x-ndjson"
    )
    assert answer.json == {"taken": 3, "refused": {}}
    found = process.rows(
        "SELECT severity, body, attributes, trace_id, asset, owner FROM obs.logs WHERE "
        "hasToken(body, 'plums') ORDER BY body"
    )
    assert [(row["severity"], row["body"]) for row in found] == [
        ("error", "out of plums"),
        ("warn", "slow query of table plums"),
        ("info", "started plums"),
    ]
    assert found[1]["attributes"] == {"ms": "1200", "ok": "true", "tags": '["a"]'}
    assert (found[2]["trace_id"], found[2]["asset"], found[2]["owner"]) == (
        "ab" * 16,
        "service:fruit",
        "shop",
    )


def test_cloud_events_in_all_three_modes(process: Telemetry, token: str) -> None:
    """If this fails, an event broker that follows the specification cannot deliver here."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/ci",
        "type": "dev.cdevents.build.finished",
        "subject": "service:web",
        "time": at,
        "data": {"ok": True},
        "partition": "7",
    }
    batch = json.dumps([{**event, "id": "2"}, {**event, "id": "3", "data": "text"}]).encode()
    binary = {
        "ce_specversion": "1.0",
        "ce_id": "4",
        "ce_source": "/ci",
        "ce_type": "x",
        "ce_time": at,
    }
    answers = [
        process.post(
            "/v1/events",
            json.dumps(event).encode(),
            token=token,
            content_type="application/cloudevents+json",
        ),
        process.post(
            "/v1/events",
            batch,
            token=token,
            content_type="application/cloudevents-batch+json; charset=utf-8",
        ),
        process.post("/v1/events", b"plain", token=token, content_type="text/plain", **binary),
    ]
    assert [answer.json["taken"] for answer in answers] == [1, 2, 1]
    found = process.rows(
        "SELECT id, asset, data, content_type, extensions FROM obs.events ORDER BY id"
    )
    assert [(row["id"], row["data"]) for row in found] == [
        ("1", '{"ok":true}'),
        ("2", '{"ok":true}'),
        ("3", "text"),
        ("4", "plain"),
    ]
    assert (found[0]["asset"], found[0]["extensions"]) == ("service:web", {"partition": "7"})


def test_otlp_as_json(process: Telemetry, token: str) -> None:
    """If this fails, a browser or a small device that sends OTLP's JSON is not understood."""
    now = str(time.time_ns())
    spans = [
        {
            "traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "EEE19B7EC3C1B174",
            "name": "click",
            "kind": 3,
            "startTimeUnixNano": now,
            "endTimeUnixNano": now,
            "unknownField": 1,
        }
    ]
    body = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]
                },
                "scopeSpans": [{"spans": spans}],
            }
        ]
    }
    answer = process.post(
        "/v1/traces", json.dumps(body).encode(), token=token, content_type="application/json"
    )
    assert (answer.status, answer.json) == (200, {})
    assert process.rows(
        "SELECT name, asset FROM obs.spans WHERE trace_id = '5b8efff798038103d269b633813fc60c'"
    ) == [{"name": "click", "asset": "service:web"}]


def send_spans(process: Telemetry, token: str, service: str, *spans: dict[str, Any]) -> None:
    now = str(time.time_ns())
    body = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": service}}]
                },
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "d4" * 16,
                                "spanId": f"{n + 1:016x}",
                                "name": "of a client",
                                "kind": one.get("kind", 3),
                                "startTimeUnixNano": now,
                                "endTimeUnixNano": now,
                                "attributes": [
                                    {"key": key, "value": {"stringValue": value}}
                                    for key, value in one["attributes"].items()
                                ],
                            }
                            for n, one in enumerate(spans)
                        ]
                    }
                ],
            }
        ]
    }
    answer = process.post(
        "/v1/traces", json.dumps(body).encode(), token=token, content_type="application/json"
    )
    assert answer.status == 200, answer


def test_tables_and_topics_are_seen(process: Telemetry, coordinator: Serving, token: str) -> None:
    """The chain of causes ends at the database, and goes on in nobody's sight."""
    from sextant.server.feed.observe import Observer

    shop = {"db.system.name": "postgresql", "db.namespace": "shop"}
    topic = {"messaging.system": "kafka", "messaging.destination.name": "paid"}
    send_spans(
        process,
        token,
        "basket",
        {"attributes": {**shop, "db.query.text": "INSERT INTO orders VALUES (1)"}},
        {"attributes": topic, "kind": 4},
    )
    send_spans(
        process,
        token,
        "invoices",
        {"attributes": {**shop, "db.query.text": "SELECT * FROM orders"}},
        {"attributes": topic, "kind": 5},
    )
    p = coordinator.platform
    observer = Observer(p, process.client)
    observer.step()
    graph = views(p).graph()
    edges = {(edge["source"], edge["target"]) for edge in graph["edges"] if edge["kind"] == "calls"}
    assert {
        ("service:basket", "table:postgres/shop/public.orders"),
        ("table:postgres/shop/public.orders", "service:invoices"),
        ("service:basket", "topic:kafka/paid"),
        ("topic:kafka/paid", "service:invoices"),
    } <= edges
    size = p.ledger.size()
    observer.step()
    assert p.ledger.size() == size, "what is known is not recorded again"
    listed = {one["asset"] for one in views(p).services()["services"]}
    assert not any(asset.startswith("table:") for asset in listed), "a table is no service"


def test_a_thousand_tables_of_one_service(
    process: Telemetry, coordinator: Serving, token: str
) -> None:
    """Names with an id in each would fill the graph."""
    from sextant.server.feed.observe import Observer

    shop = {"db.system.name": "postgresql", "db.namespace": "many"}
    for start in range(0, 1000, 250):
        send_spans(
            process,
            token,
            "loose",
            *(
                {"attributes": {**shop, "db.collection.name": f"tmp_{n}"}}
                for n in range(start, start + 250)
            ),
        )
    p = coordinator.platform
    Observer(p, process.client).step()
    graph = views(p).graph()
    named = [one["id"] for one in graph["assets"] if one["id"].startswith("table:postgres/many/")]
    assert len(named) == 100
    (signal,) = views(p).signals(kind="telemetry.tables").items
    assert "service:loose" in signal["message"]


def test_services_are_seen(process: Telemetry, coordinator: Serving, token: str) -> None:
    """If this fails, the graph does not learn of services from what they send."""
    from sextant.server.feed.observe import Observer

    now = time.time_ns()
    for service, kind, id_, parent in (("till", 3, "a1" * 8, ""), ("bank", 2, "b2" * 8, "a1" * 8)):
        span = {
            "traceId": "c3" * 16,
            "spanId": id_,
            "parentSpanId": parent,
            "name": "charge",
            "kind": kind,
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + 1000),
        }
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        body = json.dumps(
            {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
        ).encode()
        assert (
            process.post("/v1/traces", body, token=token, content_type="application/json").status
            == 200
        )
    p = coordinator.platform
    observer = Observer(p, process.client)
    observer.step()
    graph = views(p).graph()
    assert {"service:till", "service:bank"} <= {asset["id"] for asset in graph["assets"]}
    assert {"source": "service:bank", "target": "service:till", "kind": "calls"} in [
        {key: edge[key] for key in ("source", "target", "kind")} for edge in graph["edges"]
    ]
    size = p.ledger.size()
    observer.step()
    assert p.ledger.size() == size, "what is known is not recorded again"
