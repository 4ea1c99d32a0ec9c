"""Which bodies are taken, packed how: what is not is answered 415 with what is."""

import time
import zlib

import cramjam
import pytest
from remote_writer import HEADERS, TYPE, request, series
from telemetry_process import Telemetry

LINE = b'{"msg": "packed"}\n'


@pytest.mark.parametrize("encoding", ["zstd", "deflate", "x-gzip", "GZIP"])
def test_packed_bodies(process: Telemetry, token: str, encoding: str) -> None:
    """If this fails, a collector that is set to compress is refused."""
    packed = {
        "zstd": bytes(cramjam.zstd.compress(LINE)),
        "deflate": zlib.compress(LINE)[2:-4],
    }.get(encoding) or zlib.compress(LINE, wbits=31)
    answer = process.post(
        f"/v1/jsonlines?asset=service:{encoding}",
        packed,
        token=token,
        content_type="application/x-ndjson",
        Content_Encoding=encoding,
    )
    assert answer.json == {"taken": 1, "refused": {}}
    assert process.one(f"SELECT body FROM obs.logs WHERE asset = 'service:{encoding}'") == "packed"


def test_a_bomb_of_zstd(process: Telemetry, token: str) -> None:
    """If this fails, a few kilobytes take the process's memory."""
    answer = process.post(
        "/v1/logs",
        bytes(cramjam.zstd.compress(bytes(300 << 20))),
        token=token,
        content_type="application/json",
        Content_Encoding="zstd",
    )
    assert answer.status == 413
    assert process.client.health()["memory_bytes"] < 1 << 30


def test_an_encoding_that_is_not_known(process: Telemetry, token: str) -> None:
    """If this fails, a sender does not know what to change."""
    answer = process.post(
        "/v1/jsonlines?asset=service:x",
        LINE,
        token=token,
        content_type="application/x-ndjson",
        Content_Encoding="br",
    )
    assert (answer.status, answer.json["code"]) == (415, "SX-INTAKE-054")
    assert "gzip, zstd, deflate" in answer.json["hint"]


@pytest.mark.parametrize(
    ("content_type", "headers", "status"),
    [
        (TYPE, HEADERS, 204),
        (f"{TYPE};proto=prometheus.WriteRequest", HEADERS, 204),
        (f'{TYPE}; Proto="prometheus.WriteRequest"', HEADERS, 204),
        (f"{TYPE}; charset=utf-8", HEADERS, 204),
        (TYPE, {"X_Prometheus_Remote_Write_Version": "0.1.0"}, 204),
        (f"{TYPE};proto=io.prometheus.write.v2.Request", HEADERS, 415),
        (
            f"{TYPE};proto=io.prometheus.write.v2.Request",
            {**HEADERS, "X_Prometheus_Remote_Write_Version": "2.0.0"},
            415,
        ),
        (f"{TYPE};proto=something.Else", HEADERS, 415),
        (TYPE, {**HEADERS, "Content_Encoding": "gzip"}, 415),
        (TYPE, {**HEADERS, "Content_Encoding": "zstd"}, 415),
        ("text/plain", HEADERS, 415),
    ],
)
def test_remote_write(
    process: Telemetry, token: str, content_type: str, headers: dict[str, str], status: int
) -> None:
    """If this fails, what remote write 2.0 sends is answered with 204, and lost."""
    now = time.time_ns() // 1_000_000
    before = process.one("SELECT count() FROM obs.samples WHERE metric = 'negotiated'")
    answer = process.post(
        "/api/v1/write",
        request(series({"__name__": "negotiated", "job": "x"}, [(1.0, now)])),
        token=token,
        content_type=content_type,
        **headers,
    )
    assert answer.status == status
    after = process.one("SELECT count() FROM obs.samples WHERE metric = 'negotiated'")
    assert after == before + (status == 204)
    if "v2" in content_type:
        assert b"only remote write 1.0" in answer.body
