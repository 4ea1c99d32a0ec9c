"""What a span says of an exception is hidden from viewers where it may quote personal columns."""

from sextant.kernel.nouns import SYSTEM
import json
from typing import Any

import msgspec
import pytest
from looking import Sender, operations, pairs
from served import Serving
from telemetry_process import Telemetry

from sextant.kernel.hidden import HIDDEN

_SECRET = 'Zq7u said "no" \\ \n\t{"exception.message":"Zq7u"} Zq7ué'
_TRACE = "7a" * 16
_SENDERS = ("dataset:people", "service:sextant", "service:open")


@pytest.fixture(scope="module")
def guarded(process: Telemetry, token: str) -> Telemetry:
    """A process that knows one asset with personal columns, and has spans of it and of others."""
    about: dict[str, Any] = {"env": "dev", "tables": [], "kpis": [], "guarded": ["dataset:people"]}
    process.client.send("POST", "/internal/tables", json.dumps(about).encode())
    sender = Sender(process, token)
    texts = {"exception.message": _SECRET, "exception.stacktrace": f"at\n{_SECRET}"}
    for n, asset in enumerate(_SENDERS):
        of_step = {"sextant.asset": "dataset:people"} if asset == "service:sextant" else {}
        span = {
            "traceId": _TRACE,
            "spanId": f"{n + 1:016x}",
            "name": asset,
            "startTimeUnixNano": str(sender.now),
            "endTimeUnixNano": str(sender.now + 5),
            "status": {"code": 2, "message": _SECRET},
            "attributes": pairs({"error.message": _SECRET, "kept": "yes", **of_step}),
            "events": [
                {"name": "retry", "attributes": pairs({"reason": "slow"})},
                {"name": "exception", "attributes": pairs({"exception.type": "Odd", **texts})},
                {"name": "exception", "attributes": pairs({**texts, "left": "3"})},
            ],
        }
        more = {"sextant.asset": asset} if asset.startswith("dataset") else {}
        sender.spans(asset.partition(":")[2], span, **more)
    return process


def asked(process: Telemetry, role: str) -> dict[str, dict[str, Any]]:
    rows = process.client.ask(
        "SELECT name, status_message, attributes, events, toTypeName(attributes) AS type FROM "
        "obs.spans WHERE trace_id = {t:String}",
        "JSONEachRow",
        {"t": _TRACE},
        role,
    )
    return {row["name"]: row for row in map(json.loads, rows.splitlines())}


def test_a_viewer_reads_no_text_of_an_exception(guarded: Telemetry) -> None:
    """If this fails, a value of a person leaves in a stack trace."""
    whole, seen = asked(guarded, "admin"), asked(guarded, "viewer")
    assert "Zq7u" in json.dumps(whole["dataset:people"])
    assert seen["service:open"] == whole["service:open"], "others are shown as they are"
    for asset in ("dataset:people", "service:sextant"):
        row = seen[asset]
        assert "Zq7u" not in json.dumps(row), row
        assert row["type"] == whole[asset]["type"]
        events = json.loads(row["events"])
        expected = json.loads(whole[asset]["events"])
        for one in expected[1:]:
            one["attributes"] |= dict.fromkeys(
                ("exception.message", "exception.stacktrace"), HIDDEN
            )
        assert events == expected, "what else the events say stays"
        expected = whole[asset]["attributes"] | {"error.message": HIDDEN}
        assert row["attributes"] == expected


def test_the_operation_hides_the_same(guarded: Telemetry, coordinator: Serving) -> None:
    """If this fails, `sextant traces` shows what SQL withholds."""
    looks = operations(coordinator, guarded)
    by = msgspec.structs.replace(SYSTEM, name="ann", role="viewer")
    seen = type(looks)(coordinator.platform, by).trace_facts(_TRACE)
    assert len(seen["rows"]) == len(_SENDERS)
    texts = {one["name"]: json.dumps(one) for one in seen["rows"]}
    assert "Zq7u" in texts.pop("service:open")
    assert "Zq7u" not in "".join(texts.values())
    assert "Odd" in texts["dataset:people"]
