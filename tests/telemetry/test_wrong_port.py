"""Requests that came to the wrong port or path are told in words which one takes them."""

import contextlib
import socket
import urllib.parse
from pathlib import Path
from typing import BinaryIO

import pytest
from served import INTERNAL, Serving, serve
from telemetry_process import Telemetry, telemetry

from sextant.app.operations import OPERATIONS
from sextant.app.remote import API
from sextant.kernel.limits import HTTP2_BYTES_MAX, HTTP2_FRAMES_MAX
from sextant.http.http2 import Http2Refusal
from sextant.server.protocols.table import BY_PATH
from sextant.server.processes.supervisor import claim
from sextant.server.protocols.misdirected import INGEST_PATHS, NOT_KNOWN, Ports, misplaced


def port(address: str) -> str:
    return f"port {urllib.parse.urlsplit(address).port}"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/trace", "OTLP goes to /v1/traces"),
        ("/v1/traces/", "OTLP goes to /v1/traces"),
        ("/v1/traces/v1/traces", "OTLP goes to /v1/traces"),
        ("/v1/traces/v1/logs", "OTLP goes to /v1/logs"),
        ("/v1/metric", "OTLP goes to /v1/metrics"),
        ("/v1/log", "OTLP goes to /v1/logs"),
        ("/api/v2/write", "remote write to /api/v1/write"),
        ("/api/v1/prom/write", "remote write to /api/v1/write"),
        ("/loki/api/v1/push", "OTLP to /v1/logs, or as JSON lines to /v1/jsonlines"),
        ("/_bulk", "JSON lines to /v1/jsonlines"),
        ("/api/v2/spans", "OTLP to /v1/traces"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "http/protobuf"),
        ("/v1/jsonline", "did you mean /v1/jsonlines?"),
        ("/api/v1/query_range", "SQL"),
        ("/api/v1/status", "the API is at"),
        ("/nothing", "/v1/traces"),
    ],
)
def test_a_wrong_path_at_the_ingest_port(
    process: Telemetry, token: str, path: str, says: str
) -> None:
    """If this fails, an exporter's log says `not found` and nothing else."""
    answer = process.post(path, b"x", token=token, content_type="application/x-protobuf")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json["hint"], answer.json


def test_the_other_ports_are_named(process: Telemetry, coordinator: Serving) -> None:
    """If this fails, somebody knows that a port is wrong, and not which one is right."""
    looked = process.post("/", b"", method="GET")
    assert (looked.status, looked.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    for said in ("/v1/traces", port(coordinator.url), port(process.sql)):
        assert said in looked.body.decode()
    assert port(coordinator.url) in process.post("/api/v1/status", b"").json["hint"]
    assert port(process.sql) in process.post("/api/v1/query", b"").json["hint"]


def test_telemetry_at_the_other_ports(process: Telemetry, token: str) -> None:
    """If this fails, telemetry that is sent to the API or to SQL is refused without a word about
    where it goes, or as if the token were wrong."""
    asked = process.post(
        "/v1/traces", b"x", token=token, endpoint=process.sql, X_Sextant_Internal=INTERNAL
    )
    assert (asked.status, port(process.ingest) in asked.json["hint"]) == (404, True)


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/api/v1/write", "/loki/api/v1/push"])
@pytest.mark.parametrize("has_token", [False, True])
def test_telemetry_at_the_api(
    coordinator: Serving, process: Telemetry, token: str, path: str, has_token: bool
) -> None:
    """If this fails, an exporter with the wrong port is told that its token is wrong."""
    ports = Ports(ingest=process.ingest)
    with serve(coordinator.platform, ports=ports) as api:
        answer = process.post(path, b"x", token=token if has_token else "", endpoint=api.url)
    assert (answer.status, answer.json["code"]) == (404, "SX-API-019")
    assert port(process.ingest) in answer.json["hint"]


def test_no_path_of_ours_is_taken_for_misplaced_telemetry() -> None:
    """If this fails, an operation cannot be used over the network, or a path of the ingest endpoint
    is not known to the others."""
    assert set(INGEST_PATHS) == set(BY_PATH)
    for operation in OPERATIONS:
        assert not misplaced(API + operation.path, NOT_KNOWN), operation.name
    for path in ("/", "/healthz", f"{API}/session", f"{API}/stream", f"{API}/openapi.json"):
        assert not misplaced(path, NOT_KNOWN)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def read_frame(file: BinaryIO) -> tuple[int, int, int, bytes]:
    """Return kind, flags, stream and payload of one frame of HTTP/2."""
    head = file.read(9)
    size = int.from_bytes(head[:3], "big")
    return head[3], head[4], int.from_bytes(head[5:9], "big"), file.read(size)


@pytest.mark.parametrize("pieces", [1, 3, 40])
@pytest.mark.parametrize("where", ["ingest", "sql", "api"])
def test_grpc_is_told_what_the_port_speaks(
    process: Telemetry, coordinator: Serving, where: str, pieces: int
) -> None:
    """If this fails, an exporter that speaks gRPC says `connection reset`, hangs, or connects again
    and again without a pause."""
    url = {"ingest": process.ingest, "sql": process.sql, "api": coordinator.url}[where]
    address = urllib.parse.urlsplit(url)
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    sent += frame(1, 4, 1, b"\x83\x86") + frame(0, 1, 1, b"body") + frame(6, 0, 0, b"12345678")
    size = -(-len(sent) // pieces)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        for at in range(0, len(sent), size):
            link.sendall(sent[at : at + size])
        file = link.makefile("rb")
        assert read_frame(file) == (4, 0, 0, b"")
        assert read_frame(file) == (4, 1, 0, b""), "their settings are acknowledged"
        kind, flags, stream, headers = read_frame(file)
        assert (kind, flags, stream) == (1, 5, 1)
        assert b"grpc-status\x0212" in headers, "UNIMPLEMENTED: it is not tried again"
        assert b"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in headers
        assert read_frame(file) == (3, 0, 1, bytes(4))
        assert read_frame(file) == (6, 1, 0, b"12345678")
        link.sendall(frame(1, 4, 3))
        assert read_frame(file)[:3] == (1, 5, 3), "the next call is answered as well"


def test_frames_without_end_are_not_answered_without_end(process: Telemetry) -> None:
    """If this fails, answers that nobody reads fill memory."""
    address = urllib.parse.urlsplit(process.ingest)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        file = link.makefile("rb")
        assert read_frame(file) == (4, 0, 0, b"")
        for _ in range(HTTP2_FRAMES_MAX):
            link.sendall(frame(6, 0, 0, bytes(8)))
            assert read_frame(file) == (6, 1, 0, bytes(8))
        link.sendall(frame(6, 0, 0, bytes(8)))
        assert file.read(1) == b""


def test_a_frame_that_is_too_large_ends_the_connection(process: Telemetry) -> None:
    """If this fails, somebody fills memory by a frame that never ends."""
    address = urllib.parse.urlsplit(process.ingest)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        file = link.makefile("rb")
        assert read_frame(file) == (4, 0, 0, b"")
        answer = b""
        with contextlib.suppress(ConnectionError):  # what it has not read is thrown back
            link.sendall(frame(6, 0, 0, bytes(20_000)))
            answer = file.read(1)
        assert answer == b"", "a ping, had it been taken"


@pytest.mark.parametrize(
    "sent",
    [
        frame(0, 0, 1),  # DATA
        frame(4, 1, 0),  # SETTINGS, an acknowledgement
        frame(8, 0, 0, bytes(4)),  # WINDOW_UPDATE
        frame(99, 0, 0),
    ],
)
def test_frames_that_need_no_answer_end_the_connection_as_well(
    process: Telemetry, sent: bytes
) -> None:
    """If this fails, one connection without a token keeps the event loop busy, or for ever."""
    refusal = Http2Refusal("wrong port")
    assert refusal.answer(sent * HTTP2_FRAMES_MAX) == b""
    assert refusal.answer(sent * (HTTP2_BYTES_MAX // len(sent) // 2)) is None
    assert refusal.frames == HTTP2_FRAMES_MAX
    assert refusal.answer(sent) is None
    address = urllib.parse.urlsplit(process.ingest)
    with socket.create_connection((address.hostname, address.port), timeout=10) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        file = link.makefile("rb")
        assert read_frame(file) == (4, 0, 0, b"")
        with contextlib.suppress(ConnectionError):  # what it has not read is thrown back
            link.sendall(sent * (HTTP2_FRAMES_MAX + 1))
            assert file.read(1) == b"", "closed, without waiting for a request"
    assert process.post("/healthz", b"", method="GET").status == 200


def test_bytes_that_are_no_whole_frame_are_counted() -> None:
    """If this fails, somebody has large frames read as long as he likes."""
    refusal = Http2Refusal("wrong port")
    large = frame(0, 0, 1, bytes(1 << 14))
    taken = 0
    while refusal.answer(large) is not None:
        taken += len(large)
    assert HTTP2_BYTES_MAX - len(large) < taken <= HTTP2_BYTES_MAX
    assert refusal.frames < HTTP2_FRAMES_MAX


@pytest.mark.parametrize("pieces", [1, 2, 9])
def test_requests_that_begin_like_http2_are_answered(process: Telemetry, pieces: int) -> None:
    """If this fails, a request in small pieces, or of a method with a P, is taken for HTTP/2."""
    address = urllib.parse.urlsplit(process.ingest)
    for method in (b"POST", b"PATCH", b"PUT", b"GET"):
        sent = method + b" /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.create_connection((address.hostname, address.port), timeout=20) as link:
            for at in range(0, len(sent), -(-len(sent) // pieces)):
                link.sendall(sent[at : at + -(-len(sent) // pieces)])
            answer = b""
            while piece := link.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 40"), (method, answer)


def test_readiness_of_the_ingest_port(process: Telemetry, tmp_path: Path) -> None:
    """If this fails, a balancer sends telemetry to a server that cannot tell whose it is."""
    ready = process.post("/readyz", b"", method="GET")
    assert (ready.status, ready.json) == (200, {"ready": True, "waits": []})
    nobody = f"http://{claim('api', '127.0.0.1:0')}"
    with telemetry(tmp_path, api=nobody) as alone:
        answer = alone.post("/readyz", b"", method="GET")
        assert (answer.status, answer.json) == (503, {"ready": False, "waits": ["tokens"]})
        assert alone.post("/healthz", b"", method="GET").status == 200


def test_readiness_of_the_api(coordinator: Serving, process: Telemetry) -> None:
    """If this fails, `ready` is said before SQL shows what there is, or not open to a probe."""
    waits = ["sql"]
    with serve(coordinator.platform, readiness=lambda: {"ready": not waits, "waits": waits}) as api:
        answer = process.post("/readyz", b"", method="GET", endpoint=api.url)
        assert (answer.status, answer.json) == (503, {"ready": False, "waits": ["sql"]})
        assert process.post("/healthz", b"", method="GET", endpoint=api.url).status == 200
        waits.clear()
        assert process.post("/readyz", b"", method="GET", endpoint=api.url).status == 200
