"""Scrapes and what Prometheus says of metrics: what is there no longer ends, an exposition that
cannot be read is a target that is down, and a kind that becomes known late is the right one."""

import struct
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import cramjam
import pytest
from remote_writer import HEADERS, TYPE, request, series
from telemetry_process import Telemetry

from sextant.project.config import Scrape
from sextant.formats.telemetry import exposition
from sextant.kernel import limits
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import WorldError
from sextant.server.feed.scrape import Scraper

STALE = "7FF0000000000002"


class Target:
    """Answers scrapes with what it is told to."""

    def __init__(self, process: Telemetry, job: str) -> None:
        self.target = Scrape(job=job, url=f"http://127.0.0.1:1/{job}", private=True)
        self.clock = ManualClock(time.time_ns() - 300 * 10**9)
        self.answer: tuple[bytes, str] | None = None
        self.scraper = Scraper([self.target], process.client, self.clock, get=self._get)

    def _get(self, url: str, **_: Any) -> tuple[bytes, str]:
        if self.answer is None:
            raise WorldError("SX-OUT-002", f"{url} does not answer", hint="start it")
        return self.answer

    def scrape(self, body: bytes | None, kind: str = "text/plain; version=0.0.4") -> None:
        self.clock.wait(15)
        self.answer = None if body is None else (body, kind)
        self.scraper.scrape(self.target)


def values(process: Telemetry, job: str, metric: str) -> list[str]:
    """Return values of a metric in the order of time, a staleness marker as its bits."""
    return [
        row["v"]
        for row in process.rows(
            "SELECT if(isNaN(value), hex(reinterpretAsUInt64(value)), toString(value)) AS v "
            "FROM obs.metrics WHERE labels['job'] = {j:String} AND metric = {m:String} ORDER BY ts",
            j=job,
            m=metric,
        )
    ]


def test_series_that_end(process: Telemetry) -> None:
    """If this fails, what a target no longer has goes on with its last value."""
    target = Target(process, "ending")
    target.scrape(b'a{x="1",y="2"} 1\nb 2\nc 3\nd 4 1700000000000\n'.replace(
        b"1700000000000", str(time.time_ns() // 10**6).encode()
    ))  # fmt: skip
    target.scrape(b'a{y="2",x="1"} 1\nb 2\n')  # the same series, written otherwise
    target.scrape(b'a{y="2",x="1"} 1\nb NaN\n')
    target.scrape(None)
    target.scrape(None)
    target.scrape(b"b 7\n")
    assert values(process, "ending", "a") == ["1", "1", "1", STALE]
    assert values(process, "ending", "b") == ["2", "2", "7FF8000000000000", STALE, "7"]
    assert values(process, "ending", "c") == ["3", STALE]
    assert values(process, "ending", "d") == ["4"], "it brings its own time, so it does not end"
    assert values(process, "ending", "up") == ["1", "1", "1", "0", "0", "1"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"a 2\nthis is no exposition\n", "text/plain"),
        (b"<html></html>", "text/html"),
        (b"a 2\n", "application/openmetrics-text; version=1.0.0"),
    ],
    ids=["bad line", "a page", "cut off"],
)
def test_an_exposition_that_cannot_be_read(process: Telemetry, body: bytes, kind: str) -> None:
    """If this fails, a target that answers nonsense counts as up, or says nothing at all."""
    job = f"nonsense-{len(body)}"
    target = Target(process, job)
    target.scrape(b"a 1\n")
    target.scrape(body, kind)
    assert values(process, job, "up") == ["1", "0"]
    assert values(process, job, "a") == ["1", STALE]
    assert job in target.scraper.problems
    target.scrape(b"a 3\n")
    assert values(process, job, "a") == ["1", STALE, "3"]
    assert job not in target.scraper.problems


def test_a_target_with_very_many_series() -> None:
    """If this fails, a target takes as much memory as it likes."""
    line = b'm{n="%d"} 1\n'
    few = b"".join(line % n for n in range(1000))
    assert len(exposition.keys_at_scrape(few, limits.SCRAPE_KEYS_BYTES_MAX)) == 1000
    assert exposition.keys_at_scrape(few, 10_000) == set()


def metadata(family: bytes, kind: int, unit: bytes = b"") -> bytes:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    inner = bytes([8, kind]) + field(2, family) + (field(5, unit) if unit else b"")
    return bytes(cramjam.snappy.compress_raw(field(3, inner)))


def write(process: Telemetry, token: str, body: bytes) -> None:
    headers: Mapping[str, str] = HEADERS
    answer = process.post("/api/v1/write", body, token=token, content_type=TYPE, **headers)
    assert answer.status == 204


def kinds(process: Telemetry, metric: str) -> set[tuple[str, str]]:
    return {
        (row["kind"], row["unit"])
        for row in process.rows(
            "SELECT anyLast(kind) AS kind, anyLast(unit) AS unit FROM obs.series WHERE metric = "
            "{m:String} GROUP BY metric, series",
            m=metric,
        )
    }


def test_a_kind_that_is_known_late(process: Telemetry, token: str) -> None:
    """If this fails, a gauge is taken for a counter for an hour, because Prometheus says once a
    minute what a metric is."""
    now = time.time_ns() // 1_000_000

    def samples(at: int) -> bytes:
        return request(
            *(
                series({"__name__": name, "job": "late", "n": str(n)}, [(1.0, at)])
                for name in ("queue_total", "took_seconds", "other_total")
                for n in range(3)
            )
        )

    write(process, token, samples(now))
    process.rows("SELECT 1")
    assert kinds(process, "queue_total") == kinds(process, "other_total") == {("counter", "")}
    assert kinds(process, "took_seconds") == {("", "")}
    write(process, token, metadata(b"queue_total", 2))
    write(process, token, metadata(b"took_seconds", 2, b"s"))
    write(process, token, samples(now + 1))
    assert kinds(process, "queue_total") == {("gauge", "")}
    assert kinds(process, "took_seconds") == {("gauge", "s")}
    assert kinds(process, "other_total") == {("counter", "")}
    write(process, token, metadata(b"queue", 1))  # a family is named without its suffix as well
    write(process, token, metadata(b"other", 2))
    write(process, token, samples(now + 2))
    beside = cramjam.snappy.decompress_raw(metadata(b"beside_total", 2))
    row = cramjam.snappy.decompress_raw(request(series({"__name__": "beside_total"}, [(1.0, now)])))
    write(process, token, bytes(cramjam.snappy.compress_raw(bytes(row) + bytes(beside))))
    assert kinds(process, "beside_total") == {("gauge", "")}
    assert kinds(process, "other_total") == {("gauge", "")}
