"""Metrics as people look at them: found by the name that they gave them, with kind and unit; here
and at a server."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from looking import Sender, operations, pairs
from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.app.remote import connect
from sextant.app.telemetry.metrics import Meant, Stored, named_exactly
from sextant.kernel.errors import NotFound, UsageError, UserError

S = 10**9


def points(sender: Sender, values: list[float], **labels: str) -> list[dict[str, Any]]:
    """Return points a quarter of a minute apart, the last one ten minutes ago: whole five minutes
    of them are over."""
    first = sender.now - 600 * S - 15 * S * (len(values) - 1)
    return [
        {
            "attributes": pairs(labels),
            "startTimeUnixNano": str(first - 15 * S),
            "timeUnixNano": str(first + n * 15 * S),
            "asDouble": value,
        }
        for n, value in enumerate(values)
    ]


def total(name: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "{request}",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": points},
    }


def histogram(name: str, sender: Sender, n: int, **labels: str) -> dict[str, Any]:
    """Return a histogram that takes each quarter of a minute one value of 0.5 and one of 2."""
    found = points(sender, [0.0] * n, **labels)
    for at, point in enumerate(found):
        del point["asDouble"]
        point |= {
            "count": str(2 * at),
            "sum": 2.5 * at,
            "bucketCounts": ["0", str(at), str(at)],
            "explicitBounds": [0.1, 1],
        }
    return {
        "name": name,
        "unit": "s",
        "histogram": {"aggregationTemporality": 2, "dataPoints": found},
    }


@pytest.fixture(scope="module")
def here(coordinator: Serving, process: Telemetry, token: str) -> Iterator[Operations]:
    s = Sender(process, token)
    s.metrics(
        "shop",
        total("http.requests", [
            *points(s, [float(15 * n) for n in range(80)], code="200"),
            *points(s, [0.0] * 79 + [30.0], code="500"),
        ]),
        total("orders_total", points(s, [1.0, 2.0])),
        {"name": "queue.length", "unit": "{job}", "gauge": {"dataPoints": points(s, [3.0, 7.0, 5.0])}},
        histogram("my.latency", s, 80, route="/buy"),
        histogram("my.latency", s, 80, route="/pay"),
        total("a.b", points(s, [1.0])),
        total("a_b", points(s, [2.0])),
        total("lonely_bucket", points(s, [2.0])),
    )  # fmt: skip
    s.metrics("other", {"name": "queue.length", "gauge": {"dataPoints": points(s, [1.0])}})
    for _ in range(20_000):  # the process makes them once a second
        process.client.send("POST", "/internal/flush", b"")
        if not process.client.health()["rollups_due"]:
            break
    yield operations(coordinator, process)


def test_metrics_are_listed_by_the_names_people_gave_them(here: Operations) -> None:
    """If this fails, a histogram is three metrics that nobody knows, or one is missing."""
    found = {one["metric"]: one for one in here.metrics(limit=1000)["metrics"]}
    latency = found["my.latency"]
    assert (latency["kind"], latency["unit"]) == ("histogram", "s")
    assert latency["stored_as"] == ["my.latency_bucket", "my.latency_count", "my.latency_sum"]
    assert "my.latency_count" not in found
    assert (found["queue.length"]["kind"], found["queue.length"]["series"]) == ("gauge", 2)
    assert found["orders_total"]["stored_as"] == ["orders_total"]
    few = here.metrics(limit=2)
    assert [one["metric"] for one in few["metrics"]] == ["a.b", "a_b"]
    assert few["cut"]
    assert [one["metric"] for one in here.metrics(search="QUEUE")["metrics"]] == ["queue.length"]
    assert [one["metric"] for one in here.metrics(asset="other")["metrics"]] == ["queue.length"]


def test_a_histogram_is_found_by_its_own_name(here: Operations) -> None:
    """If this fails, an application's latency cannot be looked at by the name that it has."""
    for name in ("my.latency", "my_latency", "My.Latency"):
        facts = here.metric(name)
        assert (facts["metric"], facts["kind"], facts["unit"]) == ("my.latency", "histogram", "s")
    assert facts["series"] == []
    assert [one["of"]["route"] for one in facts["histogram"]] == ["/buy", "/pay"]
    for one in facts["histogram"]:
        assert 2 * 75 <= one["count"] <= 2 * 79
        assert one["sum"] == 1.25 * one["count"]
        assert one["average"] == 1.25
        assert sum(count for _, count, *_ in one["points"]) == one["count"]
        assert all(at % facts["step_s"] == 0 for at, *_ in one["points"])
        # half of the values lie in (0.1, 1], the others above all bounds
        assert one["quantiles"] == {"0.5": 1, "0.95": 1, "0.99": 1}
        assert {median for _, count, _, median in one["points"] if count} == {1}
    (quarter,) = here.metric("my.latency", by=["none"], quantiles=["0.25"])["histogram"]
    assert quarter["quantiles"] == {"0.25": pytest.approx(0.55)}
    (both,) = here.metric("my.latency", by=["service.name"])["histogram"]
    assert both["of"] == {"service.name": "shop"}
    assert both["count"] == sum(one["count"] for one in facts["histogram"])
    (buy,) = here.metric("my.latency", labels=["route=/buy"])["histogram"]
    assert buy == facts["histogram"][0]
    assert len(here.metric("my.latency_bucket", labels=["route=/buy"])["series"]) == 3


def test_quantiles_that_cannot_be_asked(here: Operations) -> None:
    """If this fails, somebody who mistypes a quantile gets a number all the same."""
    for levels in (["95"], ["-0.1"], ["p95"], ["nan"], [""], ["0.5"] * 100):
        with pytest.raises(UsageError):
            here.metric("my.latency", quantiles=levels)
    with pytest.raises(UsageError, match="has no quantiles"):
        here.metric("queue.length", quantiles=["0.5"])


def test_the_series_of_a_metric(here: Operations) -> None:
    """If this fails, a value, a sum over labels or a rate is not right, or not of what was asked."""
    facts = here.metric("http.requests", by=["code"])
    assert (facts["kind"], facts["unit"], facts["rate"]) == ("counter", "{request}", False)
    ok, failed = facts["series"]
    assert (ok["of"], ok["last"], ok["series"]) == ({"code": "200"}, 1185, 1)
    assert (failed["last"], failed["lowest"], failed["highest"]) == (30, 0, 30)
    (ok,) = here.metric("http.requests", labels=["code=200"], rate=True)["series"]
    assert ok["highest"] == 1
    gauge = here.metric("queue.length", asset="shop")
    assert (gauge["kind"], gauge["unit"]) == ("gauge", "{job}")
    assert gauge["series"][0]["last"] == 5
    assert here.metric("queue.length", by=["x"])["series"][0]["series"] == 2
    cut = here.metric("queue.length", limit=1)
    assert cut["cut"]
    assert len(cut["series"]) == 1
    assert (
        here.metric("orders")["metric"] == here.metric("orders_total")["metric"] == "orders_total"
    )
    assert here.metric("http_requests_total")["metric"] == "http.requests"
    assert here.metric("a.b")["series"][0]["last"] == 1, "its own name wins"
    assert here.metric("a_b")["series"][0]["last"] == 2
    assert here.metric("lonely")["metric"] == "lonely_bucket", "a histogram has a count"


def test_what_is_not_there_is_said(here: Operations) -> None:
    """If this fails, a person does not learn why there is no answer, or how to get one."""
    with pytest.raises(UsageError, match="`queue.length` is a gauge: it has no rate"):
        here.metric("queue.length", rate=True)
    with pytest.raises(UserError, match="may be `a.b` or `a_b`"):
        here.metric("A-B")
    with pytest.raises(NotFound) as error:
        here.metric("queue_lenght")
    assert "did you mean `queue.length`?" in error.value.hint
    with pytest.raises(NotFound) as error:
        here.metric("my.lat")
    assert error.value.hint == "did you mean `my.latency`?"
    with pytest.raises(NotFound, match="had a value since 1h with these labels"):
        here.metric("queue.length", labels=["code=200"])
    with pytest.raises(NotFound, match="had a value since 1m"):
        here.metric("queue.length", since="1m")
    with pytest.raises(NotFound) as error:
        here.metric("my.latency", since="5m")
    assert "`sextant metrics my.latency_count` shows the samples" in error.value.hint
    for wrong in ({"labels": ["code"]}, {"by": ["x"] * 33}, {"since": "x"}, {"limit": 0}):
        with pytest.raises(UsageError):
            here.metric("queue.length", **wrong)  # type: ignore[arg-type]


def test_the_command_shows_kind_unit_and_averages(
    here: Operations,
    coordinator: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, the numbers of a metric cannot be read, or the API answers something else."""
    from sextant.cli.main import call

    secret = coordinator.token("viewer", name="me", scopes=("api", "query"))
    monkeypatch.setenv("SEXTANT_TOKEN", secret)

    def out(*words: str, code: int = 0) -> str:
        assert call(["--server", coordinator.url, "metrics", *words]) == code
        told = capfd.readouterr()
        return told.out if code == 0 else told.err

    lines = out("my.latency", "--by", "route").splitlines()
    assert lines[0].startswith("my.latency: histogram in s, stored as my.latency_bucket, ")
    assert re.search(r"route=/buy +\d+ +1.25 +1 +1 +1", lines[2])
    assert out("queue.length").startswith("queue.length: gauge in {job}\n")
    assert re.search(r"my.latency +histogram +s ", out())
    assert "is a gauge" in out("queue.length", "--rate", code=2)
    assert "about one metric" in out("--rate", code=2)
    facts = json.loads(out("my.latency", "--json"))
    there = connect(coordinator.url, secret)
    assert there.metric("my.latency") == here.metric("my.latency")
    assert facts["histogram"] == json.loads(json.dumps(here.metric("my.latency")["histogram"]))
    assert there.metrics() == here.metrics()
    there.close()


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ({"x": ("gauge", "s")}, Meant("x", "gauge", "s")),
        ({"x": ("gauge", "s"), "x_count": ("counter", "")}, Meant("x", "gauge", "s")),
        (
            {"x": ("summary", "s"), "x_count": ("counter", ""), "x_sum": ("counter", "s")},
            Meant("x", "summary", "s"),
        ),
        (
            {"x": ("histogram", "s"), "x_count": ("counter", ""), "x_sum": ("counter", "")},
            Meant("x", "histogram", "s", ("x_count", "x_sum")),
        ),
        ({"x_count": ("counter", "")}, Meant("x", "summary", "", ("x_count",))),
        (
            {"x_bucket": ("histogram", ""), "x_count": ("", ""), "x_sum": ("", "ms")},
            Meant("x", "histogram", "ms", ("x_bucket", "x_count", "x_sum")),
        ),
        ({"x_bucket": ("histogram", "")}, None),
        ({"x_total": ("counter", "")}, None),
    ],
)
def test_the_metric_of_a_name(stored: dict[str, tuple[str, str]], meant: Meant | None) -> None:
    """If this fails, a name means another metric than the one that was sent under it."""
    rows = {name: Stored(name, kind, unit) for name, (kind, unit) in stored.items()}
    assert named_exactly("x", rows) == meant
