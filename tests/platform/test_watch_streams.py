"""How often a schedule publishes a stream: at once after a quiet time, then with pauses that grow
with the cost; people wait for nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sextant import testing
from sextant.app import triggers as watching
from sextant.app.operations import Operations
from sextant.app.watch import tick, watch
from sextant.kinds.dataset import streams
from sextant.engine.plan import Request
from sextant.kernel import limits
from sextant.kernel.clock import NS

OPS = """
import polars as pl
import sextant as sx

sx.project("shop", tz="UTC", environments=["dev", "prod"])
days = sx.daily(start="2026-03-05")
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id", time="at", partition=days,
                   checks=[sx.between("price", 0, 100)])
notes = sx.stream("notes", columns={"text": "string"})
mean = sx.kpi("mean", of=prices, measure="avg(price)", grain="1d")
"""
NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)


@pytest.fixture
def p(tmp_path: Path) -> Any:
    del tmp_path
    with testing.platform({"ops.py": OPS}, at=NOON) as one:
        yield one


def push(p: Any, price: float = 1.0) -> None:
    row = {"id": p.core.ids.new("row"), "at": "2026-03-06T08:00:00Z", "price": price}
    Operations(p).push("prices", [row])


def rows(p: Any) -> int:
    return int(Operations(p).count("prices")["rows"])


def test_the_pause_grows_with_the_cost() -> None:
    """If this fails, a large partition is written again for every row, or a row waits for hours."""
    at = 1_000 * NS
    assert streams.next_publish_at(0, 0.0) == 0, "never published: at once"
    least, most = limits.PUBLISH_EVERY_S_MIN, limits.PUBLISH_EVERY_S_MAX
    assert streams.next_publish_at(at, 0.01) == at + int(least * NS)
    assert streams.next_publish_at(at, 2.0) == at + int(2.0 * limits.PUBLISH_REST_FACTOR * NS)
    assert streams.next_publish_at(at, 3600.0) == at + int(most * NS)
    assert 1 / (1 + limits.PUBLISH_REST_FACTOR) <= 0.1, "a tenth of the time"


def test_rows_wait_while_a_stream_pauses(p: Any) -> None:
    """If this fails, every pushed row is a version, or rows of a pause are never published."""
    push(p)
    report = tick(p.runs, "dev", Request())
    assert report is not None
    assert report.published, "the first row goes out at once"
    for _ in range(3):
        push(p)
        assert tick(p.runs, "dev", Request()) is None
    assert rows(p) == 1
    (waits,) = Operations(p).status()["inbox"]
    assert (waits["batches"], waits["rows"]) == (3, 3), "and can be seen"
    Operations(p).push("notes", [{"text": "x"}])
    report = tick(p.runs, "dev", Request())
    assert report is not None
    assert set(report.published) == {"dataset:notes"}, "another stream does not wait for it"
    p.core.clock.wait(limits.PUBLISH_EVERY_S_MIN)
    assert tick(p.runs, "dev", Request()) is not None
    assert rows(p) == 4
    p.core.clock.wait(limits.PUBLISH_EVERY_S_MIN)
    push(p)
    assert tick(p.runs, "dev", Request()) is not None, "after a quiet time at once again"
    assert rows(p) == 5


def test_a_person_waits_for_nothing(p: Any) -> None:
    """If this fails, `sextant run` leaves out rows that were acknowledged."""
    push(p)
    tick(p.runs, "dev", Request())
    push(p)
    assert tick(p.runs, "dev", Request()) is None
    Operations(p).run()
    assert rows(p) == 2


def test_each_environment_pauses_by_itself(p: Any) -> None:
    """If this fails, a publish in one environment holds up another, or what one folded is
    published by the other before its time."""
    push(p)
    tick(p.runs, "dev", Request())
    assert tick(p.runs, "prod", Request()) is None, "nothing is in force there"
    p.runs.project.move("prod", by=p.who())
    assert tick(p.runs, "prod", Request()) is not None
    p.core.clock.wait(2)
    push(p)
    p.core.clock.wait(limits.PUBLISH_EVERY_S_MIN - 2)
    tick(p.runs, "dev", Request())
    push(p)
    tick(p.runs, "prod", Request())
    assert tick(p.runs, "dev", Request()) is None
    assert not Operations(p).status()["inbox"]


def test_refused_rows_are_not_tried_with_every_push(p: Any) -> None:
    """If this fails, one bad row makes a whole partition be written again and again."""
    push(p)
    tick(p.runs, "dev", Request())
    p.core.clock.wait(limits.PUBLISH_EVERY_S_MIN)
    push(p, 1000.0)
    report = tick(p.runs, "dev", Request())
    assert report is not None
    assert "dataset:prices" in report.rejected
    push(p)
    assert tick(p.runs, "dev", Request()) is None


def test_a_full_inbox_ends_the_pause(p: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, senders get 429 only because a stream pauses."""
    monkeypatch.setattr(watching, "INBOX_BATCHES_EARLY", 2)
    push(p)
    tick(p.runs, "dev", Request())
    push(p)
    assert tick(p.runs, "dev", Request()) is None
    push(p)
    assert tick(p.runs, "dev", Request()) is not None


def test_a_watch_wakes_when_the_pause_ends(p: Any) -> None:
    """If this fails, the last rows before a quiet time are seen half a minute late."""
    push(p)
    seen: list[tuple[float, int]] = []

    def pause(seconds: float) -> None:
        seen.append((seconds, rows(p)))
        if len(seen) == 1:
            push(p)
            return  # woken by the push
        if len(seen) == 3:
            p.runs.interrupts._interrupted.set()
        p.core.clock.wait(seconds)

    p.runs.interrupts.pause = pause
    assert watch(p.runs, "dev", Request(), say=lambda _text: None, tell=lambda _report: None) == 0
    assert seen[0] == (limits.PUBLISH_EVERY_S_MIN, 1)
    assert seen[1] == (limits.PUBLISH_EVERY_S_MIN, 1)
    assert seen[2][1] == 2
