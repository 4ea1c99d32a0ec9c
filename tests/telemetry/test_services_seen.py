"""Services by what their spans say, here and at a server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from looking import Sender, operations
from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.app.remote import connect
from sextant.cli.main import call
from sextant.kernel.errors import UsageError

MS = 10**6


def span(sender: Sender, n: int, ago_ms: int, took_ms: int, **more: Any) -> dict[str, Any]:
    start = sender.now - ago_ms * MS
    return {
        "traceId": f"{n:032x}",
        "spanId": f"{n:016x}",
        "name": "GET /",
        "kind": 2,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + took_ms * MS),
        **more,
    }


@pytest.fixture(scope="module")
def here(coordinator: Serving, process: Telemetry, token: str) -> Iterator[Operations]:
    """Give operations on telemetry of a service that fails, a busy one, and one without requests."""
    s = Sender(process, token)
    failed = {"status": {"code": 2, "message": "no"}}
    s.spans("pay", *(span(s, n, 1000, n, **(failed if n % 10 == 0 else {})) for n in range(1, 101)))
    # a client's side of a request is not a request that it answers
    s.spans("web", *(span(s, 1000 + n, 1000, 1) for n in range(200)))
    s.spans("web", *(span(s, 2000 + n, 1000, 900, kind=3) for n in range(50)))
    s.spans("cron", span(s, 3000, 1000, 5, kind=1))
    # before the window of half an hour
    s.spans("pay", span(s, 4000, 2_400_000, 60_000, **failed))
    yield operations(coordinator, process)


def test_services_say_how_they_answer(here: Operations) -> None:
    """If this fails, the bridge shows a service as healthy whose requests fail."""
    found = here.services(since="30m")
    assert [(one["asset"], one["requests"], one["errors"]) for one in found["services"]] == [
        ("service:pay", 100, 10),
        ("service:web", 200, 0),
        ("service:cron", 0, 0),
    ]
    pay, web, cron = found["services"]
    assert pay["p95_ns"] == pytest.approx(95 * MS, rel=0.02)
    assert web["p95_ns"] == MS
    assert cron["p95_ns"] is None
    assert (found["length_s"], pay["requests_per_s"]) == (1800, 100 / 1800)
    assert pay["last_seen"]
    longer = here.services(since="1h")["services"][0]
    assert (longer["requests"], longer["errors"]) == (101, 11)
    short = here.services(limit=1)
    assert (len(short["services"]), short["cut"], found["cut"]) == (1, True, False)


def test_a_window_that_is_none_is_refused(here: Operations) -> None:
    """If this fails, a typing error answers with services of some other time."""
    with pytest.raises(UsageError, match="`since` is `soon`"):
        here.services(since="soon")
    assert here.services(since="2m", until="1m")["services"][0]["requests"] == 0


def test_services_at_a_server(
    here: Operations,
    coordinator: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, the command shows something else at a server than beside the folder."""
    secret = coordinator.token("viewer", name="sv", scopes=("api", "query"))
    monkeypatch.setenv("SEXTANT_TOKEN", secret)
    there = connect(coordinator.url, secret)
    found = here.services(since="30m")["services"]
    assert there.services(since="30m")["services"] == found
    there.close()
    look = ("--server", coordinator.url, "services", "--since", "30m")
    assert call([*look]) == 0
    said = capfd.readouterr()
    assert "service:pay" in said.out
    assert "10 (10.0%)" in said.out
    assert "--failed" in said.err
    assert call([*look, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["services"] == found
