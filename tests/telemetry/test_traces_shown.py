"""Traces as people look at them: what is there is counted, errors are never hidden, what is left
out is said; here and at a server."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from looking import Sender, operations, pairs
from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.app.remote import connect
from sextant.app.telemetry.span_tree import CIRCLE, ORPHAN
from sextant.kernel import limits
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound, UsageError, UserError

S = 10**9
NOW = time.time_ns()
HUGE, LATE, RETRY, ROUND, LOST, PAIR = (letter * 32 for letter in "abcdef")


def span(
    sender: Sender, trace: str, id_: str, ago_ms: float, took_ms: float, **more: Any
) -> dict[str, Any]:
    """Return a span of OTLP that began so long ago."""
    start = sender.now - int(ago_ms * 10**6)
    error = more.pop("error", None)
    return {
        "traceId": trace,
        "spanId": id_.rjust(16, "0"),
        "parentSpanId": parent.rjust(16, "0") if (parent := more.pop("parent", "")) else "",
        "name": more.pop("name", id_),
        "kind": more.pop("kind", 2),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(took_ms * 10**6)),
        "attributes": pairs(more.pop("attributes", {})),
        **({"status": {"code": 2, "message": error}} if error is not None else {}),
        **more,
    }


def ago(seconds: int) -> str:
    return iso(NOW - seconds * S)


@pytest.fixture(scope="module")
def here(coordinator: Serving, process: Telemetry, token: str) -> Iterator[Operations]:
    """Give operations on telemetry that has every kind of odd trace."""
    s = Sender(process, token)
    s.now = NOW
    steps = [
        span(s, HUGE, f"{n + 2:x}", 30_000 - n, 1 + n % 90 / 100, parent="1", name=f"step {n}",
             **({"error": "disk full"} if n == 1999 else {}))
        for n in range(2000)
    ]  # fmt: skip
    for at in range(0, len(steps), 500):
        s.spans("batch", *steps[at : at + 500])
    s.spans("batch", span(s, HUGE, "1", 30_000, 12_000, name="ROOT"))

    # began before the window of an hour, and ends within it
    s.spans("night", span(s, LATE, "1", 4_000_000, 3_900_000, name="nightly"))
    s.spans("night", span(s, LATE, "2", 600_000, 5, parent="1", name="last step"))

    once = [
        span(s, RETRY, "1", 20_000, 900, name="GET /cart", attributes={"http.route": "/cart"}),
        span(s, RETRY, "2", 19_900, 100, parent="1", error="no stock",
             events=[{"timeUnixNano": str(s.now), "name": "exception",
                      "attributes": pairs({"exception.type": "StockError",
                                           "exception.message": "none of 4711 left"})}]),
    ]  # fmt: skip
    s.spans("shop", *once, **{"deployment.environment.name": "prod"})
    s.spans("shop", *once, **{"deployment.environment.name": "prod", "again": "yes"})

    s.spans("shop", span(s, ROUND, "3", 15_000, 5, parent="4"))
    s.spans("shop", span(s, ROUND, "4", 14_999, 5, parent="3"))

    # the gateway in front sends nothing here; afterwards work goes on
    s.spans("pay", span(s, LOST, "5", 10_000, 300, parent="9", name="charge"))
    s.spans("pay", span(s, LOST, "6", 9_990, 20, parent="5", name="ledger"))

    s.spans("web", span(s, PAIR, "7", 5_000, 40, name="click"))
    s.spans("web", span(s, PAIR, "8", 4_000, 2_500, parent="7", name="mail later"))
    s.spans("web", span(s, PAIR[:-1] + "0", "9", 3_000, 1))
    yield operations(coordinator, process)


def test_a_huge_trace_hides_nothing(here: Operations) -> None:
    """If this fails, a trace says `0 errors` because the failed span was not among those shown."""
    facts = here.trace_facts(HUGE, limit=40)
    assert (facts["spans"], facts["errors"], facts["shown"], facts["hidden"]) == (2001, 1, 40, 1961)
    assert len(facts["rows"]) == 40
    assert facts["rows"][0]["name"] == "ROOT"
    (failed,) = (row for row in facts["rows"] if row["status"] == "error")
    assert (failed["name"], failed["status_message"]) == ("step 1999", "disk full")
    assert facts["errors_hidden"] == 0
    slow = [row["duration_ns"] for row in facts["rows"][1:] if row is not failed]
    assert min(slow) >= 1_880_000
    offsets = [row["offset_ns"] for row in facts["rows"]]
    assert offsets == sorted(offsets)
    whole = here.trace_facts(HUGE, limit=limits.TRACE_DETAILS_MAX)
    assert (whole["shown"], whole["hidden"]) == (2001, 0)
    only = here.trace_facts(HUGE, under=failed["span_id"])
    assert [row["name"] for row in only["rows"]] == ["step 1999"]
    assert (only["spans"], only["hidden"]) == (2001, 0)


def test_a_trace_larger_than_is_looked_at_still_shows_its_errors(
    here: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, beyond some size errors are counted and nobody can see them."""
    monkeypatch.setattr("sextant.app.telemetry.traces.TRACE_SPANS_MAX", 10)
    facts = here.trace_facts(HUGE)
    assert (facts["spans"], facts["errors"], facts["shown"]) == (2001, 1, 10)
    assert {"ROOT", "step 1999"} <= {row["name"] for row in facts["rows"]}


def test_a_span_that_was_sent_again_is_one(here: Operations) -> None:
    """If this fails, a retry of an exporter doubles spans and errors."""
    facts = here.trace_facts(RETRY)
    assert (facts["spans"], facts["errors"], facts["shown"]) == (2, 1, 2)
    (listed,) = here.traces(asset="shop", name="cart")["traces"]
    assert (listed["spans"], listed["errors"], listed["root"]) == (2, 1, "GET /cart")


def test_details_of_a_span_are_there(here: Operations) -> None:
    """If this fails, the reason of an error has to be asked for in SQL."""
    root, failed = here.trace_facts(RETRY)["rows"]
    assert root["attributes"] == {"http.route": "/cart"}
    assert root["resource"]["deployment.environment.name"] == "prod"
    assert failed["status_message"] == "no stock"
    assert failed["events"][0]["attributes"]["exception.message"] == "none of 4711 left"


def test_circles_and_lost_parents_are_shown(here: Operations) -> None:
    """If this fails, spans vanish, or the command never ends."""
    rows = here.trace_facts(ROUND)["rows"]
    assert [(row["name"], row["depth"], row["note"]) for row in rows] == [
        ("3", 0, CIRCLE),
        ("4", 1, ""),
    ]
    rows = here.trace_facts(LOST)["rows"]
    assert [(row["name"], row["depth"], row["note"]) for row in rows] == [
        ("charge", 0, ORPHAN),
        ("ledger", 1, ""),
    ]


def test_a_trace_is_meant_by_its_first_digits(here: Operations) -> None:
    """If this fails, two traces are mixed, or a right id is refused."""
    assert here.trace_facts(HUGE[:6])["trace_id"] == HUGE
    assert here.trace_facts(RETRY.upper())["trace_id"] == RETRY
    assert here.trace_facts(f"00-{RETRY}-{'1' * 16}-01")["trace_id"] == RETRY
    with pytest.raises(UserError, match="several traces begin with `ffff`") as error:
        here.trace_facts("ffff")
    assert PAIR in error.value.message
    assert PAIR[:-1] + "0" in error.value.message
    with pytest.raises(NotFound, match="no trace"):
        here.trace_facts("0123456789")
    with pytest.raises(NotFound, match="no spans of trace"):
        here.trace_facts(RETRY, under="ffff")
    with pytest.raises(NotFound, match="2 spans of trace"):
        here.trace_facts(RETRY, under="0000")
    for wrong in ("abc", "xyzw", "a" * 33):
        with pytest.raises(UsageError, match="not the id of a trace"):
            here.trace_facts(wrong)


def test_the_newest_traces_are_listed_with_their_roots(here: Operations) -> None:
    """If this fails, a list shows what its window cut as if it were whole, or the wrong root."""
    found = here.traces()
    listed = {one["trace_id"]: one for one in found["traces"]}
    assert list(listed) == [PAIR[:-1] + "0", PAIR, LOST, ROUND, RETRY, HUGE, LATE]
    assert not found["cut"]
    assert (listed[HUGE]["spans"], listed[HUGE]["errors"]) == (2001, 1)
    late = listed[LATE]
    assert (late["root"], late["spans"], late["duration_ns"]) == ("nightly", 2, 3900 * S)
    assert (listed[PAIR]["root"], listed[PAIR]["duration_ns"]) == ("click", 40 * 10**6)
    assert (listed[LOST]["root"], listed[LOST]["rooted"]) == ("charge", False)
    few = here.traces(limit=2)
    assert [one["trace_id"] for one in few["traces"]] == [PAIR[:-1] + "0", PAIR]
    assert few["cut"]


def test_the_list_is_narrowed_down(here: Operations) -> None:
    """If this fails, a condition does not hold, or hides what meets it."""

    def ids(**more: Any) -> list[str]:
        return [one["trace_id"] for one in here.traces(**more)["traces"]]

    assert ids(slowest=True, limit=3) == [LATE, HUGE, RETRY]
    assert ids(failed=True) == [RETRY, HUGE]
    assert ids(failed=True, asset="batch") == [HUGE]
    assert ids(min_duration="500ms") == [RETRY, HUGE, LATE]
    assert ids(min_duration="250ms", asset="pay", slowest=True) == [LOST]
    assert ids(min_duration="13s", asset="service:batch") == []
    assert ids(name="LATER") == [PAIR]
    assert ids(attributes=["http.route=/cart"]) == [RETRY]
    assert ids(attributes=["deployment.environment.name=prod"]) == [RETRY]
    assert ids(attributes=["http.route=/cart", "service.name=pay"]) == []
    assert ids(until=ago(25)) == [HUGE, LATE]
    assert ids(since=ago(11), until=ago(6)) == [LOST]


def test_it_is_said_when_not_all_spans_were_looked_at(
    here: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a list of a busy day is taken for complete."""
    assert not here.traces(asset="batch")["looked_at_some"]
    monkeypatch.setattr("sextant.app.telemetry.traces.TRACES_SPANS_MAX", 100)
    found = here.traces(asset="batch")
    assert found["looked_at_some"]
    assert [one["trace_id"] for one in found["traces"]] == [HUGE]
    assert here.traces(slowest=True, limit=1)["traces"][0]["trace_id"] == LATE
    roots = [one["trace_id"] for one in here.traces()["traces"] if one["rooted"]]
    assert roots == [PAIR[:-1] + "0", PAIR, RETRY, HUGE], "roots are found whatever else there is"


@pytest.mark.parametrize(
    "given",
    [{"limit": 0}, {"limit": 10**6}, {"min_duration": "fast"}, {"attributes": ["x"]},
     {"since": "soon"}],
)  # fmt: skip
def test_what_cannot_be_listed_is_said(here: Operations, given: dict[str, Any]) -> None:
    """If this fails, a mistake ends in an empty answer, or in a defect."""
    with pytest.raises(UsageError):
        here.traces(**given)


def test_the_command_shows_the_errors_of_a_huge_trace(
    here: Operations,
    coordinator: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, the first line of a waterfall lies, or its end does not say what is missing."""
    from sextant.cli.main import call

    secret = coordinator.token("viewer", name="tr", scopes=("api", "query"))
    monkeypatch.setenv("SEXTANT_TOKEN", secret)
    look = ("--server", coordinator.url, "traces")

    def out(*words: str) -> str:
        assert call([*look, *words]) == 0
        return capfd.readouterr().out

    lines = out(HUGE, "--limit", "30").splitlines()
    assert lines[0] == f"trace {HUGE}: 2,001 spans, 1 error, 12.0 s"
    assert any("step 1999" in line and "disk full" in line for line in lines)
    assert lines[-1] == "... 1,971 more spans are not shown: --all, or --under SPAN"
    assert len(out(HUGE, "--all").splitlines()) == 2003
    facts = json.loads(out(HUGE, "--limit", "30", "--json"))
    assert (facts["spans"], facts["errors"], facts["shown"]) == (2001, 1, 30)
    retry = out(RETRY, "--attributes")
    assert "http.route=/cart" in retry
    assert "no stock  StockError: none of 4711 left" in retry
    detail = out(RETRY, "--under", "0000000000000002")
    assert "resource service.name" in detail
    assert "exception.message=none of 4711 left" in detail
    assert CIRCLE in out(ROUND)
    assert "(its root is not here)" in out("--asset", "pay")
    assert json.loads(out("--slowest", "--limit", "1", "--json"))["traces"][0]["trace_id"] == LATE
    there = connect(coordinator.url, secret)
    assert there.trace_facts(RETRY) == here.trace_facts(RETRY)
    assert there.traces(failed=True) == here.traces(failed=True)
    there.close()
