"""What should not be taken: each gets its protocol's own error and a counted reason; nothing is
lost, nobody let in."""

from seen import views
from sextant.kernel.nouns import SYSTEM
from seen import views
import gzip
import json
import select
import socket
import time
import urllib.parse
import zlib
from datetime import UTC, datetime
from typing import Any

import cramjam
import pytest
from remote_writer import HEADERS, TYPE, request, series
from served import Serving
from telemetry_process import Telemetry

from sextant.kernel import limits
from sextant.kernel.clock import ManualClock

NOW = time.time_ns()
MS = NOW // 1_000_000


def _log(text: str = "hello", at: int = NOW, **more: Any) -> dict[str, Any]:
    record = {"timeUnixNano": str(at), "body": {"stringValue": text}, **more}
    return {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "bad"}}]
                },
                "scopeLogs": [{"logRecords": [record]}],
            }
        ]
    }


def post_logs(process: Telemetry, token: str, body: Any, **headers: str) -> Any:
    return process.post(
        "/v1/logs",
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        token=token,
        content_type="application/json",
        **headers,
    )


def test_what_is_malformed(process: Telemetry, token: str) -> None:
    """If this fails, garbage is taken, or its sender is told to send it again for ever."""
    before = process.refused()
    cut = gzip.compress(json.dumps(_log()).encode())[:-9]
    cases = (
        ("/v1/traces", "application/x-protobuf", b"\xff\xff\xff", {}, 400),
        ("/v1/metrics", "application/json", b"{", {}, 400),
        ("/v1/metrics", "application/json", b"[]", {}, 400),
        ("/v1/logs", "application/json", cut, {"Content_Encoding": "gzip"}, 400),
        ("/v1/logs", "application/json", b"no gzip", {"Content_Encoding": "gzip"}, 400),
        ("/v1/logs", "application/json", b"{}", {"Content_Encoding": "br"}, 415),
        ("/v1/logs", "text/html", b"{}", {}, 415),
        ("/v1/logs", "", b"{}", {}, 415),
        ("/api/v1/write", TYPE, b"no snappy", {}, 400),
        ("/api/v1/write", TYPE, bytes(cramjam.snappy.compress_raw(b"\xff\xff")), {}, 400),
        ("/api/v1/write", "application/json", b"{}", {}, 415),
        ("/v1/exposition?job=x", "text/plain", b"metric{a=b} 1\n", {}, 400),
        ("/v1/exposition?job=x", "text/plain", b"metric one\n", {}, 400),
        ("/v1/exposition", "text/plain", b"metric 1\n", {}, 400),
        ("/v1/exposition?job=x", "application/openmetrics-text", b"metric 1\n", {}, 400),
        ("/v1/jsonlines?asset=service:x", "application/x-ndjson", b"not json\n", {}, 400),
        ("/v1/jsonlines", "application/x-ndjson", b"{}", {}, 400),
        ("/v1/events", "application/cloudevents+json", b'{"id": "1"}', {}, 400),
        ("/v1/events", "text/plain", b"what", {}, 400),
        ("/v1/nothing", "text/plain", b"", {}, 404),
    )
    for path, kind, body, headers, status in cases:
        answer = process.post(path, body, token=token, content_type=kind, **headers)
        assert answer.status == status, (path, kind, body, answer)
        assert answer.body, path
    assert process.post("/v1/logs", b"", token=token, method="GET").status == 405
    after = process.refused()
    new = {
        key: count - before.get(key, 0)
        for key, count in after.items()
        if count != before.get(key, 0)
    }
    assert new == {
        ("otlp", "malformed"): 3,
        ("otlp", "unpacking"): 2,
        ("otlp", "content_type"): 3,
        ("otlp", "method"): 1,
        ("remote_write", "malformed"): 1,
        ("remote_write", "unpacking"): 1,
        ("remote_write", "content_type"): 1,
        ("exposition", "malformed"): 4,
        ("jsonlines", "malformed"): 2,
        ("cloudevents", "malformed"): 2,
    }


def test_errors_are_the_protocols_own(process: Telemetry, token: str) -> None:
    """If this fails, a client cannot show what was wrong."""
    answer = process.post(
        "/v1/traces", b"\xff\xff\xff", token=token, content_type="application/x-protobuf"
    )
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.body.startswith(b"\x08\x03\x12")  # google.rpc.Status, INVALID_ARGUMENT
    assert (
        process.post("/v1/traces", b"{", token=token, content_type="application/json").json["code"]
        == 3
    )
    assert (
        process.post(
            "/v1/jsonlines?asset=service:x", b"x", token=token, content_type="application/x-ndjson"
        ).headers["content-type"]
        == "application/problem+json"
    )


def test_a_decompression_bomb(process: Telemetry, token: str) -> None:
    """If this fails, a few kilobytes take the process's memory."""
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
    assert len(packed) < 1 << 20
    assert post_logs(process, token, packed, Content_Encoding="gzip").status == 413
    said_large = b"\xff\xff\xff\xff\x0f" + bytes(
        100
    )  # a snappy block that says it unpacks to 4 GiB
    assert (
        process.post("/api/v1/write", said_large, token=token, content_type=TYPE, **HEADERS).status
        == 413
    )
    assert (
        process.post(
            "/v1/logs", b" " * (33 << 20), token=token, content_type="application/json"
        ).status
        == 413
    )
    assert process.client.health()["memory_bytes"] < 1 << 30


def test_times_far_off(process: Telemetry, token: str) -> None:
    """If this fails, a wrong clock fills partitions of other years, or its samples vanish without a
    word."""
    for at, reason in (
        (NOW - 400 * 86_400 * 10**9, "too_old"),
        (NOW + 3 * 86_400 * 10**9, "too_new"),
    ):
        answer = post_logs(process, token, _log("far", at))
        assert answer.json == {
            "partialSuccess": {"rejectedLogRecords": "1", "errorMessage": f"1 {reason}"}
        }
        written = process.post(
            "/api/v1/write",
            request(series({"__name__": "far", "job": "bad"}, [(1.0, at // 1_000_000)])),
            token=token,
            content_type=TYPE,
            **HEADERS,
        )
        assert written.status == 400
        assert reason in written.body.decode()
    assert process.one("SELECT count() FROM obs.samples WHERE metric = 'far'") == 0
    counted = process.refused()
    assert {counted["otlp", "too_old"], counted["remote_write", "too_new"]} == {1}


def test_labels_beyond_limits(process: Telemetry, token: str) -> None:
    """If this fails, one sender's mistake makes the index useless for all."""
    cases = {
        "labels_too_many": {f"l{n}": "x" for n in range(120)},
        "label_too_long": {"a": "x" * 5000},
        "label_unnamed": {"": "x"},
    }
    for reason, labels in cases.items():
        good = series({"__name__": "beside", "why": reason, "job": "bad"}, [(1.0, MS)])
        answer = process.post(
            "/api/v1/write",
            request(series({"__name__": "beyond", **labels}, [(1.0, MS)]), good),
            token=token,
            content_type=TYPE,
            **HEADERS,
        )
        assert answer.status == 400, reason
        assert reason in answer.body.decode()
    assert process.one("SELECT count() FROM obs.metrics WHERE metric = 'beside'") == 3
    long = post_logs(process, token, _log("x" * (300 << 10)))
    assert "text_too_long" in long.json["partialSuccess"]["errorMessage"]


def test_a_budget_of_series(process: Telemetry, token: str) -> None:
    """If this fails, a label with an id in it takes the store, or samples are dropped without a
    word."""
    first = request(
        *(
            series({"__name__": "flood", "id": str(n), "job": "bad"}, [(1.0, MS)])
            for n in range(1500)
        )
    )
    more = request(
        *(
            series({"__name__": "flood", "id": str(n), "job": "bad"}, [(2.0, MS + 1)])
            for n in range(4000)
        )
    )
    assert (
        process.post("/api/v1/write", first, token=token, content_type=TYPE, **HEADERS).status
        == 204
    )
    answer = process.post("/api/v1/write", more, token=token, content_type=TYPE, **HEADERS)
    assert answer.status == 400
    assert "series_budget" in answer.body.decode()
    kept = process.one("SELECT uniqExact(series) FROM obs.samples WHERE metric = 'flood'")
    assert 1500 <= kept <= 2000, "those that were there go on, new ones up to the budget"
    lost = process.refused()["remote_write", "series_budget"]
    assert lost + kept == 4000
    assert (
        process.one(
            "SELECT value FROM obs.metrics WHERE metric = "
            "'sextant_samples_over_series_budget_total' AND owner = 'shop'"
        )
        == lost
    )


def test_the_budget_is_a_signal(process: Telemetry, coordinator: Serving) -> None:
    """If this fails, the owner is not told that telemetry is refused."""
    from sextant.server.feed.observe import Observer

    p = coordinator.platform
    observer = Observer(p, process.client)
    observer.step()
    observer.step()
    mine = [s for s in views(p).signals(kind="telemetry.series_budget").items]
    assert len(mine) == 1
    assert "shop" in mine[0]["message"]


def test_a_name_that_nobody_can_write_is_no_asset(
    process: Telemetry, coordinator: Serving, token: str
) -> None:
    """If this fails, whoever may send telemetry puts anything into the ledger and onto the
    terminals of its readers."""
    from urllib.parse import quote

    from sextant.server.feed.observe import Observer

    for name in (
        "service:a\x1b[2Jb",
        "service:two\nlines",
        "service:" + "x" * 500,
        "Service With:spaces",
    ):
        assert (
            process.post(
                f"/v1/jsonlines?asset={quote(name)}",
                b'{"msg": "x"}',
                token=token,
                content_type="application/x-ndjson",
            ).status
            == 200
        )
    Observer(coordinator.platform, process.client).step()
    names = {asset["id"] for asset in views(coordinator.platform).graph()["assets"]}
    assert not any(bad in name for name in names for bad in ("\x1b", "\n", "xxxxx", "With"))


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "other scope"])
def test_a_token_that_is_no_good(process: Telemetry, coordinator: Serving, kind: str) -> None:
    """If this fails, somebody sends, or asks, who may not."""
    p = coordinator.platform
    text = {"none": "", "wrong": "sxt_" + "A" * 43}.get(kind) or p.access.create_token(
        f"t-{kind[:2]}",
        by=SYSTEM,
        scopes=("api",) if kind == "other scope" else (),
        role="operator",
        days=1,
    )["secret"]
    text = "" if kind == "none" else text
    clock = p.core.clock
    if kind == "expired":
        late = ManualClock(clock.now_ns() + 2 * 86_400 * 10**9)
        p.access._core = p.core._replace(clock=late)
    try:
        sent = post_logs(process, text, _log())
        asked = process.post("/?query=SELECT%201", b"", token=text, endpoint=process.sql)
        inside = process.post("/internal/health", b"", token=text, method="GET")
    finally:
        p.access._core = p.core
    wanted = 403 if kind == "other scope" else 401
    assert (sent.status, asked.status, inside.status) == (wanted, wanted, 404)


def test_a_repetition_is_answered_and_not_taken_again(process: Telemetry, token: str) -> None:
    """If this fails, a client that got no answer and sends again doubles what it sent."""
    body = json.dumps(_log("only once")).encode()
    for packed in (body, body, gzip.compress(body)):
        answer = post_logs(
            process,
            token,
            packed,
            **({"Content_Encoding": "gzip"} if packed[:2] == b"\x1f\x8b" else {}),
        )
        assert (answer.status, answer.json) == (200, {})
    assert process.one("SELECT count() FROM obs.logs WHERE body = 'only once'") == 1


def test_bodies_that_come_at_once_are_bounded(process: Telemetry, token: str) -> None:
    """If this fails, requests that are each small enough take all memory together."""
    address = urllib.parse.urlsplit(process.ingest)
    body = b" " * (limits.BODY_BYTES_MAX - 1)
    head = (
        f"POST /v1/logs HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer "
        f"{token}\r\nContent-Type: application/json\r\nContent-Length: "
        f"{limits.BODY_BYTES_MAX}\r\n\r\n"
    )
    links = []
    for _ in range(limits.BODIES_BYTES_MAX // limits.BODY_BYTES_MAX + 1):  # one more than fit
        link = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)
        link.sendall(head.encode() + body)  # all but its last byte
        links.append(link)
    # any of them can be the one, for the last of each is still on its way
    refused, _, _ = select.select(links, [], [], limits.REQUEST_BODY_S)
    assert len(refused) == 1
    answer = b""
    while b"sent at once" not in answer and (part := refused[0].recv(1 << 16)):
        answer += part
    assert answer.startswith(b"HTTP/1.1 429") and b"retry-after: 1\r\n" in answer
    assert b"too much is being sent at once" in answer
    for link in links:
        if link is not refused[0]:  # what fits is taken, and judged when it is whole
            link.sendall(b"x")
            assert link.recv(12) == b"HTTP/1.1 400"
        link.close()
    assert post_logs(process, token, _log("x" * 1000)).status == 200


def test_the_queue_is_bounded(here: Any, coordinator: Serving) -> None:
    """If this fails, senders that are faster than the tables take all memory and disk."""
    from sextant.formats.telemetry.batch import Batch
    from sextant.formats.telemetry.records import Log, columns_of, log_rows
    from sextant.kernel.clock import SystemClock
    from sextant.kernel.errors import Busy
    from sextant.stores.telemetry.intake import Intake

    class Full:
        """A store that takes nothing."""

        def insert(self, *_: Any, **__: Any) -> None:
            raise AssertionError

        def query(self, *_: Any, **__: Any) -> bytes:
            return b""

        run = ask = close = insert

    intake = Intake(Full(), here / "full", SystemClock(), bytes_max=10_000, background=False)  # type: ignore[arg-type]
    rows = log_rows(
        columns_of([Log(NOW, NOW, 9, b"info", b"x" * 1000, b"", b"", b"", ())]),
        asset="service:x",
        owner="shop",
    )
    with pytest.raises(Busy) as caught:
        for _ in range(20):
            intake.accept(
                Batch(rows=[rows], timed=False), protocol="otlp", owner="shop"
            ).durable.result(10)
    assert caught.value.retry_after_s
    assert intake.health()["busy"] == 1


def test_invented_services_fill_one_share_and_make_room(
    process: Telemetry, coordinator: Serving, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a sender that makes up names fills the graph for good, or writes to the ledger
    for ever."""
    from urllib.parse import quote

    from sextant.app import observed
    from sextant.server.feed.observe import Observer

    p = coordinator.platform
    observer = Observer(p, process.client)
    observer.step()
    there = {
        id_
        for id_, asset in p.core.assets.graph()[0].items()
        if asset.owner == "shop" and asset.mode == "observed"
    }
    monkeypatch.setattr(observed, "OBSERVED_PER_OWNER_MAX", len(there) + 2)

    def send(*names: str) -> None:
        for name in names:
            assert (
                process.post(
                    f"/v1/jsonlines?asset={quote(name)}",
                    b'{"msg": "x"}',
                    token=token,
                    content_type="application/x-ndjson",
                ).status
                == 200
            )

    send("service:made-up-1", "service:made-up-2", "service:made-up-3", "service:turned\u202eround")
    observer.step()
    made_up = {id_ for id_ in p.core.assets.graph()[0] if "made-up" in id_}
    assert len(made_up) == 2
    assert not any("\u202e" in id_ for id_ in p.core.assets.graph()[0])
    (signal,) = views(p).signals(kind="telemetry.assets", open_only=True).items
    assert "1 services of shop" in signal["message"]
    size = p.ledger.size()
    observer.step()
    assert p.ledger.size() == size, "what was not taken in is not recorded again and again"
    monkeypatch.setattr(observed, "OBSERVED_SILENT_S", 0.0)
    observer.step()
    retired = [e["subject"] for e in views(p).events(kind="asset.retired").items]
    assert len(retired) == 1
    assert {id_ for id_ in p.core.assets.graph()[0] if "made-up" in id_} - made_up


def test_events_that_only_their_headers_tell_apart_are_all_taken(
    process: Telemetry, token: str
) -> None:
    """CloudEvents in binary mode: the event stands in `ce-` headers."""
    for name in ("one", "two", "three", "two"):
        answer = process.post(
            "/v1/events",
            b"{}",
            token=token,
            content_type="application/json",
            ce_specversion="1.0",
            ce_id=f"binary-{name}",
            ce_source="/shop",
            ce_type="binary",
            ce_time=f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}",
        )
        assert answer.status == 200, answer
    process.client.send("POST", "/internal/flush", b"")
    found = process.rows("SELECT id FROM obs.events WHERE type = 'binary' ORDER BY id")
    assert [row["id"] for row in found] == ["binary-one", "binary-three", "binary-two"]
