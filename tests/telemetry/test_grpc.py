"""OTLP over gRPC: unchanged clients of OpenTelemetry, refusals as the specification has them, and
what an attacker may send."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from served import Serving
from telemetry_process import Telemetry, telemetry

from sextant.kernel import limits
from sextant.server.ingest import otlp_grpc
from sextant.server.processes.supervisor import claim

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module")
def grpc_process(
    coordinator: Serving, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Telemetry]:
    address = claim("grpc", "127.0.0.1:0")
    with telemetry(tmp_path_factory.mktemp("grpc"), api=coordinator.url, grpc=address) as one:
        assert one.child.ready
        assert one.child.ready.grpc == address
        yield one


def address_of(process: Telemetry) -> str:
    return str(process.start["grpc"])


def spans(name: str, count: int = 1) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = name
    scope = group.scope_spans.add()
    now = time.time_ns()
    for n in range(count):
        scope.spans.add(
            name=f"op{n}",
            trace_id=bytes([1] * 16),
            span_id=(n + 1).to_bytes(8, "big"),
            start_time_unix_nano=now + n,
            end_time_unix_nano=now + n + 5,
        )
    return made


def export(process: Telemetry, body: bytes, token: str = "", **how: Any) -> bytes:
    """Send one message; grpc.RpcError as a client gets it."""
    with grpc.insecure_channel(address_of(process)) as channel:
        call = channel.unary_unary(_EXPORT)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        answer: bytes = call(body, metadata=metadata, timeout=30, **how)
        return answer


def test_the_sdk_of_opentelemetry_sends_everything(grpc_process: Telemetry, token: str) -> None:
    """If this fails, an application with the default exporter is not seen."""
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    to: dict[str, Any] = {
        "endpoint": address_of(grpc_process),
        "insecure": True,
        "headers": (("authorization", f"Bearer {token}"),),
        "compression": grpc.Compression.Gzip,
    }
    resource = Resource.create({"service.name": "by-grpc"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**to)))
    with tracing.get_tracer("test").start_as_current_span("work"):
        pass
    tracing.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(**to), export_interval_millis=1e9)
    metering = MeterProvider(resource=resource, metric_readers=[reader])
    metering.get_meter("test").create_counter("by.grpc").add(3)
    assert metering.force_flush()
    metering.shutdown()
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logged = LoggerProvider(resource=resource)
        logged.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**to)))
        logger = logging.getLogger("by-grpc")
        logger.addHandler(LoggingHandler(logger_provider=logged))
        logger.warning("over there")
        logged.shutdown()
    asset = "asset = 'service:by-grpc'"
    assert grpc_process.rows(f"SELECT name FROM obs.spans WHERE {asset}") == [{"name": "work"}]
    assert (
        grpc_process.one(f"SELECT max(value) FROM obs.metrics WHERE {asset} AND metric = 'by.grpc'")
        == 3
    )
    assert grpc_process.one(f"SELECT body FROM obs.logs WHERE {asset}") == "over there"


def test_who_may_not_send(grpc_process: Telemetry, coordinator: Serving) -> None:
    """If this fails, somebody without a token for it can send over gRPC."""
    reader = coordinator.token("viewer", name="reads", scopes=("query",))
    for token, code in (
        ("", grpc.StatusCode.UNAUTHENTICATED),
        ("sxt_nothing", grpc.StatusCode.UNAUTHENTICATED),
        (reader, grpc.StatusCode.PERMISSION_DENIED),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            export(grpc_process, spans("stranger").SerializeToString(), token)
        assert refused.value.code() == code
        assert refused.value.details()
    asked = "SELECT count() FROM obs.spans WHERE asset = 'service:stranger'"
    assert grpc_process.one(asked) == 0


def test_what_is_refused_is_told(grpc_process: Telemetry, token: str) -> None:
    """If this fails, a bad message is answered as if it had been taken, or a bad span without a
    word."""
    with pytest.raises(grpc.RpcError) as refused:
        export(grpc_process, b"\xff\xff", token)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "no OTLP request" in refused.value.details()
    made = spans("partly", 3)
    made.resource_spans[0].scope_spans[0].spans[1].span_id = b"short"
    answer = ExportTraceServiceResponse.FromString(
        export(grpc_process, made.SerializeToString(), token)
    )
    assert answer.partial_success.rejected_spans == 1
    assert "id_malformed" in answer.partial_success.error_message
    again = ExportTraceServiceResponse.FromString(
        export(grpc_process, made.SerializeToString(), token)
    )
    assert not again.partial_success.rejected_spans
    asked = "SELECT count() FROM obs.spans WHERE asset = 'service:partly'"
    assert grpc_process.one(asked) == 2
    with (
        pytest.raises(grpc.RpcError) as unknown,
        grpc.insecure_channel(address_of(grpc_process)) as channel,
    ):
        channel.unary_unary("/opentelemetry.Nothing/Export")(b"", timeout=30)
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_large_message_and_a_bomb(grpc_process: Telemetry, token: str) -> None:
    """If this fails, a message beyond the limit is taken, or one that unpacks to much more fills
    memory."""
    large = spans("large", 20_000).SerializeToString()
    assert len(large) > 1 << 20
    export(grpc_process, large, token)
    before = grpc_process.client.health()["memory_bytes"]
    for body, how in (
        (b"\0" * (limits.GRPC_MESSAGE_BYTES_MAX + 1), {}),
        (b"\0" * (512 << 20), {"compression": grpc.Compression.Gzip}),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            export(grpc_process, body, token, **how)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused.value
    after = grpc_process.client.health()["memory_bytes"]
    assert after - before < 200 << 20
    assert grpc_process.one("SELECT count() FROM obs.spans WHERE asset = 'service:large'") == 20_000


def test_a_full_queue_says_when_to_come_again() -> None:
    """If this fails, an exporter drops what it was told to send later: without RetryInfo the
    specification has it give up."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    status = Status.FromString(otlp_grpc._details(14, "later", 3))
    assert (status.code, status.message) == (14, "later")
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 3


def metadata_of(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def silent(until: threading.Event) -> Iterator[bytes]:
    """A call that sends nothing until the event, and then ends."""
    until.wait()
    yield from ()


def retry_of(error: grpc.RpcError) -> int:
    """Return the code of the status that says when to come again; 0 without."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    sent = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    status = Status.FromString(sent)
    retry = RetryInfo()
    return status.code if status.details and status.details[0].Unpack(retry) else 0


def test_calls_without_a_message_hold_up_only_their_own_token(
    grpc_process: Telemetry, coordinator: Serving, token: str
) -> None:
    """If this fails, one broken exporter keeps everybody from sending over gRPC."""
    other = coordinator.token("operator", name="other-ci", teams=("shop",), scopes=("ingest",))
    for each in (token, other):  # known from now on: the order of calls is that of their turns
        export(grpc_process, spans("before").SerializeToString(), each)
    over = threading.Event()
    with grpc.insecure_channel(address_of(grpc_process)) as channel:
        stream, single = channel.stream_unary(_EXPORT), channel.unary_unary(_EXPORT)
        try:
            calls = [
                stream.future(silent(over), metadata=metadata_of(token))
                for _ in range(limits.GRPC_READING_MAX)
            ]
            single(spans("meanwhile").SerializeToString(), metadata=metadata_of(other), timeout=20)
            with pytest.raises(grpc.RpcError) as own:
                single(spans("own").SerializeToString(), metadata=metadata_of(token), timeout=20)
            assert own.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "at once" in own.value.details()
            assert retry_of(own.value) == 14
            said = [call.exception(timeout=60) for call in calls]
        finally:
            over.set()
    assert {one.code() for one in said} == {grpc.StatusCode.UNAVAILABLE}
    assert {retry_of(one) for one in said} == {14}
    late = [one for one in said if "did not arrive" in one.details()]
    assert len(late) == limits.GRPC_READING_OF_ONE_MAX
    assert export(grpc_process, spans("after").SerializeToString(), token) is not None


def test_a_call_brings_one_message(grpc_process: Telemetry, token: str) -> None:
    """If this fails, a second message is answered OK and lost."""
    one, two = (spans(name).SerializeToString() for name in ("first-of-two", "second-of-two"))
    with grpc.insecure_channel(address_of(grpc_process)) as channel:
        call = channel.stream_unary(_EXPORT)
        for messages, says in (((), "no message"), ((one, two), "more than one message")):
            with pytest.raises(grpc.RpcError) as refused:
                call(iter(messages), metadata=metadata_of(token), timeout=20)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert says in refused.value.details()
    assert grpc_process.one("SELECT count() FROM obs.spans WHERE asset LIKE '%-of-two'") == 0


async def greeted(links: int, sent: bytes, *, ends: bool) -> int:
    """Return how many of so many connections to a server of its own are greeted.

    ends  wait until the server closes the first of them
    """
    address = claim("grpc", "127.0.0.1:0")
    host, _, port = address.rpartition(":")
    server = otlp_grpc.GrpcServer(None, address)  # type: ignore[arg-type]  # nobody calls
    await server.start()
    try:
        out = 0
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(links)]
        for reader, writer in opened:
            with contextlib.suppress(ConnectionError):
                writer.write(sent)
                async with asyncio.timeout(20):
                    out += bool(await reader.read(1))
        if ends:
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    await opened[0][0].read()
        for _, writer in opened:
            writer.close()
        return out
    finally:
        await server.stop()


@pytest.mark.parametrize("limit", ["GRPC_IDLE_S", "GRPC_AGE_S", "REQUEST_HEAD_S"])
def test_a_connection_without_calls_ends(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, somebody without a token takes all files of the process, and keeps them."""
    for name in ("GRPC_IDLE_S", "GRPC_AGE_S", "REQUEST_HEAD_S"):
        monkeypatch.setattr(limits, name, 1.0 if name == limit else 3600.0)
    monkeypatch.setattr(limits, "GRPC_AGE_GRACE_S", 0.1)
    asyncio.run(greeted(1, b"" if limit == "REQUEST_HEAD_S" else _HELLO, ends=True))


def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, connections take all files of the process, and HTTP gets none."""
    monkeypatch.setattr(limits, "GRPC_CONNECTIONS_MAX", 2)
    assert asyncio.run(greeted(3, _HELLO, ends=False)) == 2


def test_a_taken_port_is_told(
    tmp_path: Path, coordinator: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, another collector on the machine keeps Sextant from starting, or takes half of
    what is sent."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with telemetry(tmp_path, api=coordinator.url, grpc=address) as one:
            assert one.child.ready
            assert one.child.ready.grpc == ""
            assert one.post("/healthz", b"", method="GET").status == 200
    assert f"cannot listen at {address}" in capfd.readouterr().err
