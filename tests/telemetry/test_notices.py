"""What is kept otherwise than it was sent: the sender is told, it is counted, and nobody is
alarmed; and one bad event or series costs itself."""

from seen import views
import json
import time
from typing import Any

from remote_writer import HEADERS, TYPE, request, series
from served import Serving
from telemetry_process import Answer, Telemetry

from sextant.formats.telemetry.batch import NOTICES, lost, noticed

NOW = time.time_ns()
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


def event(id_: str, **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": id_, "source": "/notices", "type": "t", **more}


def send(process: Telemetry, token: str, body: Any, kind: str = BATCH, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return process.post("/v1/events", data, token=token, content_type=kind, **headers)


def ids(process: Telemetry) -> list[str]:
    return [
        row["id"]
        for row in process.rows("SELECT id FROM obs.events WHERE source = '/notices' ORDER BY id")
    ]


def test_one_bad_event(process: Telemetry, token: str) -> None:
    """If this fails, an event without an id costs those beside it."""
    sent = [event("a"), event(""), 7, None, event("b", time="never"), {"id": "c"}]
    said = send(process, token, sent).json
    assert said == {
        "taken": 2,
        "refused": {"event_malformed": 4},
        "noticed": {"time_malformed": 1},
        "first": "event 2 of 6 has no `id`",
    }
    assert ids(process) == ["a", "b"]
    answer = send(process, token, [7, event("")])
    assert (answer.status, answer.json["code"]) == (400, "SX-INTAKE-041")
    broken = json.dumps(event("d", data="caf?")).encode().replace(b"caf?", b"caf\xe9")
    for number, (body, kind, headers) in enumerate(
        (
            (broken, STRUCTURED, {}),
            (b"[" + broken.replace(b'"d"', b'"e"') + b"]", BATCH, {}),
            (
                b"caf\xe9",
                "text/plain",
                {"ce_specversion": "1.0", "ce_id": "f", "ce_source": "/notices", "ce_type": "t"},
            ),
        )
    ):
        answer = send(process, token, body, kind, **headers)
        assert answer.json["noticed"] == {"not_utf8_repaired": 1}, number
    assert ids(process) == ["a", "b", "d", "e", "f"]
    texts = "SELECT DISTINCT data FROM obs.events WHERE id IN ('d', 'e', 'f')"
    assert process.rows(texts) == [{"data": "caf\ufffd"}]


def test_times_of_events_to_the_nanosecond(process: Telemetry, token: str) -> None:
    """If this fails, the order of events is lost."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    assert send(process, token, [event("ns", time=f"{at}.123456789Z")]).json["taken"] == 1
    assert (
        process.one("SELECT toUnixTimestamp64Nano(ts) % 1000000000 FROM obs.events WHERE id = 'ns'")
        == 123456789
    )


def test_a_label_that_is_not_utf8(process: Telemetry, token: str) -> None:
    """If this fails, one broken label costs a whole scrape or request."""
    body = b'beside_label{a="x"} 1\nbeside_label{a="caf\xe9"} 2\nbeside_label{a="y"} 3\n'
    answer = process.post("/v1/exposition?job=n", body, token=token, content_type="text/plain")
    assert answer.json == {"taken": 2, "refused": {"label_not_utf8": 1}}
    bad = series({"__name__": "beside_label", "a": "here"}, [(1.0, NOW // 10**6)])
    good = series({"__name__": "beside_label", "a": "z"}, [(1.0, NOW // 10**6)])
    body = request(bad.replace(b"here", b"caf\xe9"), good)
    answer = process.post("/api/v1/write", body, token=token, content_type=TYPE, **HEADERS)
    assert (answer.status, b"1 not: label_not_utf8" in answer.body) == (400, True)
    assert process.one("SELECT count() FROM obs.samples WHERE metric = 'beside_label'") == 3


def test_notices_are_counted_and_are_no_signals(
    process: Telemetry, coordinator: Serving, token: str
) -> None:
    """If this fails, a repaired text raises an alarm, or leaves no trace."""
    from sextant.server.feed.observe import Observer

    said = {reason: 1 for reason in NOTICES} | {"too_old": 2}
    assert lost(said) == {"too_old": 2}
    assert noticed(said).keys() == NOTICES
    send(process, token, [event("g", time="never"), event("h", time="2001-01-01T00:00:00Z")])
    refused = process.refused()
    assert refused["cloudevents", "time_malformed"] >= 1
    assert refused["cloudevents", "not_utf8_repaired"] >= 1
    health = process.client.health()
    assert health["refused"] == sum(
        count for (_, reason), count in refused.items() if reason not in NOTICES
    )
    p = coordinator.platform
    Observer(p, process.client).step()
    kinds = {signal["kind"] for signal in views(p).signals().items}
    assert "telemetry.too_old" in kinds
    assert not kinds & {f"telemetry.{reason}" for reason in NOTICES}
