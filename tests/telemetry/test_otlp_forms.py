"""OTLP in every form that senders give it: nothing of it is lost without a word, and one bad thing
costs itself."""

import json
import struct
import time
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from telemetry_process import Answer, Telemetry

from sextant.formats.telemetry.native import varint

NOW = time.time_ns()
TRACE, SPAN = "ab" * 16, "cd" * 8
JSON, PROTOBUF = "application/json", "application/x-protobuf"


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def text(name: bytes, value: bytes) -> bytes:
    """Return a KeyValue of a text."""
    return field(1, name) + field(2, field(1, value))


def resource(name: str) -> dict[str, Any]:
    return {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}


def span(n: int, **more: Any) -> dict[str, Any]:
    one = {
        "traceId": TRACE, "spanId": f"{n + 1:016x}", "name": f"op{n}", "kind": 2,
        "startTimeUnixNano": str(NOW + n), "endTimeUnixNano": str(NOW + n + 5),
    }  # fmt: skip
    return {name: value for name, value in {**one, **more}.items() if value is not ...}


def post(process: Telemetry, token: str, signal: str, body: Any) -> Answer:
    return process.post(
        f"/v1/{signal}",
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        token=token,
        content_type=PROTOBUF if isinstance(body, bytes) else JSON,
    )


def traces(name: str, *spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": resource(name), "scopeSpans": [{"spans": list(spans)}]}]}


def logs(name: str, *records: Any) -> dict[str, Any]:
    return {
        "resourceLogs": [{"resource": resource(name), "scopeLogs": [{"logRecords": list(records)}]}]
    }


def metrics(name: str, *many: Any) -> dict[str, Any]:
    scope = {"scope": {"name": "s"}, "metrics": list(many)}
    return {"resourceMetrics": [{"resource": resource(name), "scopeMetrics": [scope]}]}


def values(process: Telemetry, metric: str) -> list[float]:
    return [
        float(row["value"])
        for row in process.rows(
            "SELECT value FROM obs.metrics WHERE metric = {m:String} ORDER BY ts, labels['le']",
            m=metric,
        )
    ]


def test_metrics_as_the_exporter_of_node_writes_them(process: Telemetry, token: str) -> None:
    """If this fails, a histogram in JSON costs all metrics of its process."""
    at = {"startTimeUnixNano": str(NOW), "timeUnixNano": str(NOW), "attributes": []}
    histogram = {
        **at, "count": 3, "sum": 1.5, "min": 0, "max": 1, "bucketCounts": [1, 1, 1],
        "explicitBounds": [0.1, 1],
    }  # fmt: skip
    exponential = {
        **at, "count": "2", "sum": 3, "scale": 1, "zeroCount": 0,
        "positive": {"offset": 0, "bucketCounts": ["1", "1"]},
        "negative": {"offset": 0, "bucketCounts": []},
    }  # fmt: skip
    summary = {**at, "count": "2", "sum": 3, "quantileValues": [{"quantile": 0.5, "value": "NaN"}]}
    answer = post(
        process,
        token,
        "metrics",
        metrics(
            "node",
            {"name": "n.count", "unit": "", "sum": {
                "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": True,
                "dataPoints": [{**at, "asInt": "7", "exemplars": [], "x_unknown": [1, None]}]}},
            {"name": "n.lat", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {**histogram, "bucketCounts": ["1", "1", "1"]}]}},
            {"name": "n.lat2", "histogram": {"aggregationTemporality": 2, "dataPoints": [histogram]}},
            {"name": "n.exp", "exponentialHistogram": {"aggregationTemporality": 2,
                "dataPoints": [exponential]}},
            {"name": "n.sum", "summary": {"dataPoints": [summary]}},
            {"name": "n.gauge", "gauge": {"dataPoints": [{**at, "asDouble": "Infinity"}]}},
            {"name": "n.snake", "gauge": {"data_points": [
                {"time_unix_nano": NOW, "as_double": 2.5, "attributes": None}]}},
        ),
    )  # fmt: skip
    assert (answer.status, answer.json) == (200, {})
    assert values(process, "n.count") == [7]
    assert values(process, "n.lat_bucket") == values(process, "n.lat2_bucket") == [3, 1, 2]
    assert values(process, "n.exp_count") == values(process, "n.sum_count") == [2]
    assert values(process, "n.snake") == [2.5]
    assert process.one("SELECT isInfinite(value) FROM obs.metrics WHERE metric = 'n.gauge'") == 1


def test_integers_keep_their_digits(process: Telemetry, token: str) -> None:
    """If this fails, an id in an attribute is another id, or a count is changed without a word."""
    large = 2**53 + 1
    attributes = [
        {"key": "text", "value": {"intValue": str(large)}},
        {"key": "number", "value": {"intValue": large}},
        {"key": "least", "value": {"intValue": "-9223372036854775808"}},
        {"key": "inside", "value": {"arrayValue": {"values": [{"intValue": str(large)}]}}},
        {"key": "bytes", "value": {"bytesValue": "AQI="}},
    ]
    assert post(process, token, "traces", traces("wide", span(0, attributes=attributes))).json == {}
    assert process.one("SELECT attributes FROM obs.spans WHERE asset = 'service:wide'") == {
        "text": str(large), "number": str(large), "least": str(-(2**63)),
        "inside": f"[{large}]", "bytes": '"0102"',
    }  # fmt: skip
    points = [
        {"timeUnixNano": str(NOW), "asInt": str(number), "attributes": [
            {"key": "le", "value": {"stringValue": str(n)}}]}
        for n, number in enumerate((2**53, large, 2**62))
    ]  # fmt: skip
    answer = post(
        process,
        token,
        "metrics",
        metrics("wide", {"name": "wide", "gauge": {"dataPoints": points}}),
    )
    assert answer.json["partialSuccess"] == {
        "rejectedDataPoints": "0", "errorMessage": "1 kept: integer_rounded",
    }  # fmt: skip
    assert values(process, "wide") == [2**53, 2**53, 2**62]


def test_ids_in_hexadecimal(process: Telemetry, token: str) -> None:
    """If this fails, spans are not found by their trace, or one bad id costs the batch."""
    sent = traces(
        "ids",
        span(0, traceId=TRACE.upper()),
        span(1, traceId=..., trace_id=TRACE),
        span(2, traceId="zz" * 16),
        span(3, traceId="00" * 16),
        span(4, spanId="00" * 8),
        span(5, spanId="abc"),
        span(6, parentSpanId="00" * 8),
        span(7, parentSpanId="nothing"),
        span(8, parentSpanId=""),
        span(9, parentSpanId=f"{10:016x}"),
        span(10, traceId=12),
    )
    assert post(process, token, "traces", sent).json["partialSuccess"] == {
        "rejectedSpans": "6",
        "errorMessage": "5 id_malformed, 1 record_malformed; the first that cannot be read: "
        + post(process, token, "traces", traces("ids2", span(0), span(1, traceId=12)))
        .json["partialSuccess"]["errorMessage"]
        .partition("read: ")[2]
        .replace("spans[1]", "spans[10]"),
    }
    found = process.rows(
        "SELECT name, trace_id, parent_span_id AS p FROM obs.spans WHERE asset = 'service:ids' "
        "ORDER BY ts"
    )
    assert [(row["name"], row["p"]) for row in found] == [
        ("op0", ""), ("op1", ""), ("op6", ""), ("op8", ""), ("op9", f"{10:016x}"),
    ]  # fmt: skip
    assert {row["trace_id"] for row in found} == {TRACE}
    lines = logs(
        "ids",
        {"timeUnixNano": str(NOW), "traceId": "zz", "body": {"stringValue": "bad"}},
        {"timeUnixNano": str(NOW), "traceId": "00" * 16, "body": {"stringValue": "none"}},
        {"timeUnixNano": str(NOW), "traceId": TRACE, "body": {"stringValue": "good"}},
    )
    said = post(process, token, "logs", lines).json["partialSuccess"]
    assert said == {"rejectedLogRecords": "0", "errorMessage": "1 kept: id_not_kept"}
    assert [
        row["trace_id"]
        for row in process.rows(
            "SELECT trace_id FROM obs.logs WHERE asset = 'service:ids' ORDER BY body"
        )
    ] == ["", TRACE, ""]


@pytest.mark.parametrize(
    ("signal", "body", "kept"),
    [
        ("traces", traces("left", span(0), span(1, startTimeUnixNano="soon"), span(2)), 2),
        ("traces", traces("left", span(0), None, span(2, attributes=[1])), 1),
        ("traces", {"resourceSpans": [*traces("left", span(0))["resourceSpans"], 7]}, 1),
        ("logs", logs("left", {"timeUnixNano": str(NOW)}, {"severityNumber": "LOUD"}, 5), 2),
        ("logs", logs("left", {"timeUnixNano": NOW}, {"traceId": []}), 1),
        ("metrics", metrics(
            "left",
            {"name": "left", "gauge": {"dataPoints": [
                {"timeUnixNano": NOW, "asInt": 1}, {"timeUnixNano": NOW, "asInt": "many"}]}},
            {"name": "left2", "sum": 7},
        ), 1),
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_kind(
    process: Telemetry, token: str, signal: str, body: Any, kept: int
) -> None:
    """If this fails, one record with a mistake costs all beside it."""
    table = {"traces": "spans", "logs": "logs", "metrics": "samples"}[signal]
    where = "metric LIKE 'left%'" if signal == "metrics" else "asset = 'service:left'"
    before = process.one(f"SELECT count() FROM obs.{table} WHERE {where}")
    answer = post(process, token, signal, body)
    assert answer.status == 200
    assert "record_malformed; the first that cannot be read: " in answer.body.decode()
    assert process.one(f"SELECT count() FROM obs.{table} WHERE {where}") == before + kept


def deep_protobuf(depth: int) -> bytes:
    """Return spans of which one has lists inside each other."""
    value = field(1, b"x")
    for _ in range(depth):
        value = field(5, field(1, value))
    ids = field(1, bytes(15) + b"\1") + field(2, bytes(7) + b"\1")
    at = b"\x39" + struct.pack("<Q", NOW) + b"\x41" + struct.pack("<Q", NOW)
    one = ids + at + field(9, field(1, b"deep") + field(2, value))
    name = field(1, field(1, text(b"service.name", b"deep%d" % depth)))
    return field(1, name + field(2, field(2, one)))


def test_values_inside_each_other(process: Telemetry, token: str) -> None:
    """If this fails, what is nested is stored as nothing, or takes the process down."""
    for depth in (25, 40):
        assert post(process, token, "traces", deep_protobuf(depth)).status == 200
        found = process.one(
            f"SELECT attributes['deep'] FROM obs.spans WHERE asset = 'service:deep{depth}'"
        )
        assert found == "[" * depth + '"x"' + "]" * depth
    answer = post(process, token, "traces", deep_protobuf(5_000))
    assert answer.status == 400
    assert b"nested 45 deep" in answer.body
    for depth in (40, 200, 900):
        name = f"nested{depth}"
        inside = '{"arrayValue":{"values":[' * depth + '{"stringValue":"x"}' + "]}}" * depth
        sent = json.dumps(
            traces(name, span(0), span(1, attributes=[{"key": "deep", "value": "here"}]))
        ).replace('"here"', inside)
        answer = process.post("/v1/traces", sent.encode(), token=token, content_type=JSON)
        rows = process.rows(
            f"SELECT attributes['deep'] AS deep FROM obs.spans WHERE asset = 'service:{name}' "
            "ORDER BY ts"
        )
        if depth == 900:  # more than JSON itself may be nested
            assert (answer.status, rows) == (400, [])
        elif depth == 200:
            assert b"1 record_malformed" in answer.body
            assert [row["deep"] for row in rows] == [""]
        else:
            assert [row["deep"] for row in rows] == ["", "[" * depth + '"x"' + "]" * depth]
    for body in (b'{"resourceSpans":' + b"[" * 100_000, b"[" * 100_000):
        answer = process.post("/v1/traces", body, token=token, content_type=JSON)
        assert answer.status == 400


def broken_texts() -> list[tuple[str, bytes, str]]:
    """Return requests with a text that is not UTF-8 in each place that has texts."""
    bad, times = b"caf\xe9", struct.pack("<Q", NOW)
    ids = field(1, bytes(15) + b"\1") + field(2, bytes(7) + b"\1")
    span_times = b"\x39" + times + b"\x41" + times
    good = field(5, b"good") + ids + span_times
    spans = {
        "name": field(5, bad) + ids + span_times,
        "attribute": good + field(9, text(b"k", bad)),
        "attribute's name": good + field(9, text(bad, b"v")),
        "message": good + field(15, field(2, bad)),
        "state": good + field(3, bad),
        "event": good + field(11, field(2, bad)),
        "link": good + field(13, field(1, bytes(15) + b"\1") + field(4, text(b"k", bad))),
        "list": good + field(9, field(1, b"k") + field(2, field(5, field(1, field(1, bad))))),
    }
    named = field(1, field(1, text(b"service.name", b"broken")))
    out = [
        ("traces", field(1, named + field(2, field(2, one) + field(2, good))), where)
        for where, one in spans.items()
    ]
    other = field(1, field(1, text(b"service.name", b"broken") + b"") + field(1, text(b"k", bad)))
    scope = field(1, field(1, bad))
    line = b"\x09" + times
    records = {
        "body": line + field(5, field(1, bad)),
        "attribute": line + field(6, text(b"k", bad)),
        "event": line + field(12, bad),
        "map": line + field(5, field(6, field(1, text(b"k", bad)))),
    }
    out += [
        ("logs", field(1, named + field(2, field(2, one) + field(2, line))), where)
        for where, one in records.items()
    ]
    out += [
        ("logs", field(1, other + field(2, field(2, line) * 2)), "resource"),
        ("logs", field(1, named + field(2, scope + field(2, line) * 2)), "scope"),
        ("traces", field(1, other + field(2, field(2, good) * 2)), "resource"),
        ("traces", field(1, named + field(2, scope + field(2, good) * 2)), "scope"),
    ]
    point = b"\x19" + times + b"\x21" + struct.pack("<d", 1.5)
    two = field(1, point) + field(1, point + field(7, text(b"n", b"2")))
    gauge = field(1, b"broken_gauge")
    for where, metric in (
        ("unit", gauge + field(3, bad) + field(5, two)),
        ("help", gauge + field(2, bad) + field(5, two)),
        ("attribute", gauge + field(5, field(1, point + field(7, text(b"k", bad))) + field(1, point))),
    ):  # fmt: skip
        out.append(("metrics", field(1, named + field(2, field(2, metric))), where))
    return out


@pytest.mark.parametrize("case", broken_texts(), ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_text_that_is_not_utf8(
    process: Telemetry, token: str, case: tuple[str, bytes, str]
) -> None:
    """If this fails, one byte of one text costs a batch, or is changed without a word."""
    signal, body, _ = case
    table = {"traces": "spans", "logs": "logs", "metrics": "samples"}[signal]
    # the unit makes no series: each case has a metric of its own
    metric = f"broken_{case[2][:4]}"
    body = body.replace(b"broken_gauge", metric.ljust(len("broken_gauge"), "_").encode())
    where = f"metric LIKE '{metric}%'" if signal == "metrics" else "asset = 'service:broken'"
    count = f"SELECT count() FROM obs.{table} WHERE {where}"
    before = process.one(count)
    answer = post(process, token, signal, body)
    assert answer.status == 200
    kind = {
        "traces": ExportTraceServiceResponse,
        "logs": ExportLogsServiceResponse,
        "metrics": ExportMetricsServiceResponse,
    }[signal]
    partial = kind.FromString(answer.body).partial_success
    assert partial.error_message == "1 kept: not_utf8_repaired"
    assert not any(number for _, number in partial.ListFields() if isinstance(number, int))
    assert process.one(count) == before + 2
    assert process.one(f"SELECT countIf(isValidUTF8(toString(tuple(*))) = 0) FROM obs.{table}") == 0


def test_json_that_is_not_utf8(process: Telemetry, token: str) -> None:
    """If this fails, an emoji that a limit cut in half costs a batch of JavaScript."""
    body = json.dumps(traces("half", span(0, name="a\ud83d"), span(1))).encode()
    marked = b"\xef\xbb\xbf" + body
    for n, sent in enumerate((body, body.replace(b"\\ud83d", b"\xe9"), marked)):
        answer = process.post("/v1/traces", sent, token=token, content_type=JSON)
        assert answer.json["partialSuccess"] == {
            "rejectedSpans": "0", "errorMessage": "1 kept: not_utf8_repaired",
        }  # fmt: skip
        assert (
            process.one("SELECT count() FROM obs.spans WHERE asset = 'service:half'") == 2 * n + 2
        )
    for sent in (b"\xef\xbb\xbf" + json.dumps(traces("bom", span(0))).encode(), json.dumps(
        metrics("nan", {"name": "nan", "gauge": {"dataPoints": [
            {"timeUnixNano": NOW, "asDouble": float("nan")}]}})).encode()):  # fmt: skip
        path = "/v1/metrics" if b"dataPoints" in sent else "/v1/traces"
        answer = process.post(path, sent, token=token, content_type=JSON)
        assert (answer.status, answer.json) == (200, {})
    assert process.one("SELECT isNaN(value) FROM obs.metrics WHERE metric = 'nan'") == 1
    assert process.one("SELECT max(name) FROM obs.spans WHERE asset = 'service:half'") == "op1"
    assert process.rows(
        "SELECT DISTINCT name FROM obs.spans WHERE asset = 'service:half' AND name != 'op1'"
    ) == [{"name": "a\ufffd"}]


def test_records_without_what_they_need(process: Telemetry, token: str) -> None:
    """If this fails, a record that means nothing is stored as a zero, or vanishes."""
    at = {"timeUnixNano": str(NOW)}
    sent = metrics(
        "bare",
        {"name": "", "gauge": {"dataPoints": [{**at, "asInt": 1}]}},
        {"name": "bare1"},
        {"name": "bare2", "gauge": {"dataPoints": [at]}},
        {"name": "bare3", "gauge": {"dataPoints": [{"asInt": 1}]}},
        {"name": "bare4", "gauge": {"dataPoints": [{**at, "flags": 1}]}},
        {"name": "bare5", "gauge": {"dataPoints": [{**at, "asInt": 0}]}},
    )
    said = post(process, token, "metrics", sent).json["partialSuccess"]
    assert said["rejectedDataPoints"] == "4"
    assert said["errorMessage"] == "1 metric_unnamed, 2 value_missing, 1 time_missing"
    assert process.one("SELECT count() FROM obs.samples WHERE metric LIKE 'bare%'") == 2
    spans = traces(
        "bare",
        span(0, endTimeUnixNano=str(NOW - 5)),
        span(1, parentSpanId=f"{2:016x}"),
        span(2, parentSpanId=f"{4:016x}"),
        span(3, parentSpanId=f"{3:016x}"),
    )
    said = post(process, token, "traces", spans).json["partialSuccess"]
    assert said == {"rejectedSpans": "0", "errorMessage": "1 kept: end_before_start"}
    assert process.one("SELECT count() FROM obs.spans WHERE asset = 'service:bare'") == 4
