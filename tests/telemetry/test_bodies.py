"""Bodies that are small as they are sent and large as they are read: each is refused, or taken
whole, and everybody else's telemetry goes on."""

import gzip
import struct
import threading
import time
import zlib

import cramjam
import pytest
from remote_writer import HEADERS, TYPE
from telemetry_process import Answer, Telemetry

from sextant.formats.telemetry.native import varint
from sextant.kernel import limits

NOW = time.time_ns()
LINES = "/v1/jsonlines?asset=service:bodies"
MIB = 1 << 20


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def inside(path: tuple[int, ...], data: bytes) -> bytes:
    for number in reversed(path):
        data = field(number, data)
    return data


def send(process: Telemetry, token: str, path: str, body: bytes, kind: str) -> Answer:
    """Send a body compressed, as small as it gets."""
    return process.post(
        path, gzip.compress(body), token=token, content_type=kind, Content_Encoding="gzip"
    )


def honest(process: Telemetry, token: str, text: str) -> None:
    body = b'{"msg": "%s"}\n' % text.encode()
    answer = process.post(LINES, body, token=token, content_type="application/jsonl")
    assert answer.status == 200
    assert process.one(f"SELECT count() FROM obs.logs WHERE body = '{text}'") == 1


def deeply_read() -> list[tuple[str, str, str, bytes]]:
    record = b"\x09" + struct.pack("<Q", NOW)
    resource = inside((1, 1), field(1, b"k") + field(2, field(1, b"x" * 8192)))
    batch = "application/cloudevents-batch+json"
    protobuf = "application/x-protobuf"
    many = limits.BODY_RECORDS_MAX + 1
    return [
        ("empty lines", LINES, "application/jsonl", b"{}\n" * many),
        ("lines without end", LINES, "application/jsonl", b"\n" * (31 * MIB)),
        ("samples", "/v1/exposition?job=x", "text/plain", b"a 1\n" * many),
        ("comments", "/v1/exposition?job=x", "text/plain", b"#\n" * (4 * many)),
        ("events", "/v1/events", batch, b"[" + b"{}," * many + b"{}]"),
        ("empty spans", "/v1/traces", protobuf, inside((1, 2), b"\x12\x00" * (15 * MIB))),
        ("empty records", "/v1/logs", protobuf, inside((1, 2), b"\x12\x00" * many)),
        ("scopes", "/v1/logs", protobuf, inside((1,), field(2, field(2, record)) * 30_000)),
        (
            "a resource that stands in each row",
            "/v1/logs",
            protobuf,
            field(1, resource + field(2, field(2, record) * 50_000)),
        ),
        (
            "a job that stands in each row",
            "/v1/exposition?job=" + "x" * 4_000,
            "text/plain",
            b"".join(b'wide{n="%d"} 1\n' % n for n in range(50_000)),
        ),
        (
            "buckets",
            "/v1/metrics",
            protobuf,
            inside(
                (1, 2, 2),
                field(1, b"m")
                + inside(
                    (9, 1),
                    b"\x19"
                    + struct.pack("<Q", NOW)
                    + field(6, bytes(8 * many))
                    + field(7, struct.pack(f"<{many - 1}d", *range(many - 1))),
                ),
            ),
        ),
    ]


@pytest.mark.parametrize("case", deeply_read(), ids=lambda case: case[0])
def test_what_comes_to_too_much(
    process: Telemetry, token: str, case: tuple[str, str, str, bytes]
) -> None:
    """If this fails, a few kilobytes take the memory and the time of everybody's telemetry."""
    name, path, kind, body = case
    before = process.refused()
    answer = send(process, token, path, body, kind)
    assert answer.status == 413, answer
    assert b"smaller batches" in answer.body
    new = {key[1] for key, count in process.refused().items() if count != before.get(key, 0)}
    assert new <= {"too_many_records", "too_costly"}
    assert len(new) == 1
    honest(process, token, f"beside {name}")
    assert process.client.health()["memory_bytes"] < 1 << 30


def test_series_of_a_remote_write_are_counted(process: Telemetry, token: str) -> None:
    """If this fails, a few kilobytes of snappy are millions of series."""
    body = bytes(cramjam.snappy.compress_raw(b"\x0a\x00" * (15 * MIB)))
    answer = process.post("/api/v1/write", body, token=token, content_type=TYPE, **HEADERS)
    assert answer.status == 413


def test_what_unpacks_to_too_much(process: Telemetry, token: str) -> None:
    """If this fails, a request takes more memory than the limit says."""
    for encoding, packed in (
        ("gzip", gzip.compress(b"\n" * (33 * MIB))),
        ("deflate", zlib.compress(b"\n" * (33 * MIB))),
        ("gzip", gzip.compress(b"\n" * MIB) * 33),
    ):
        answer = process.post(
            LINES, packed, token=token, content_type="application/jsonl", Content_Encoding=encoding
        )
        assert answer.status == 413, encoding
        assert b"unpacks to more than 32 MiB" in answer.body


def test_a_body_of_several_members_is_read_to_its_end(process: Telemetry, token: str) -> None:
    """If this fails, what stands behind the first member of a gzip file vanishes without a word."""
    packed = b"".join(gzip.compress(b'{"msg": "member %d"}\n' % n) for n in range(40))
    answer = process.post(
        LINES, packed, token=token, content_type="application/jsonl", Content_Encoding="gzip"
    )
    assert answer.json == {"taken": 40, "refused": {}}
    assert process.one("SELECT count() FROM obs.logs WHERE body LIKE 'member %'") == 40


def test_a_large_request_is_one_batch(process: Telemetry, token: str) -> None:
    """If this fails, a large request that is sent again, or twice at the same moment, doubles what
    it says."""
    body = b"".join(b'{"msg": "large", "n": %d, "ts": %d}\n' % (n, NOW) for n in range(30_000))
    answers: list[Answer] = []
    senders = [
        threading.Thread(
            target=lambda: answers.append(send(process, token, LINES, body, "application/jsonl"))
        )
        for _ in range(3)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    answers.append(send(process, token, LINES, body, "application/jsonl"))
    assert [answer.status for answer in answers] == [200] * 4
    assert sum(answer.json["taken"] for answer in answers) == 30_000
    assert process.one("SELECT count() FROM obs.logs WHERE body = 'large'") == 30_000


def test_more_new_series_than_one_slice(process: Telemetry, token: str) -> None:
    """If this fails, series of a large request are lost, stored twice, or without labels."""
    lines = b"".join(
        b'sliced{n="%d"} %d %d\n' % (n, n, NOW // 10**6 + again)
        for again in range(9)
        for n in range(1_500)
    )
    path = "/v1/exposition?job=sliced"
    answer = send(process, token, path, lines, "text/plain")
    assert answer.json == {"taken": 13_500, "refused": {}}
    assert process.one("SELECT count() FROM obs.samples WHERE metric = 'sliced'") == 13_500
    assert process.rows(
        "SELECT count() AS series, uniqExact(labels['n']) AS labels FROM obs.series "
        "WHERE metric = 'sliced'"
    ) == [{"series": 1500, "labels": 1500}]
