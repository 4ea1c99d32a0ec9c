"""Fetches metrics from configured targets and sends them to the ingest endpoint, as Prometheus
does: `up` says whether it worked, and what a target no longer has gets a staleness marker.

One thread for each target would wait most of its time, so a few threads share them; a target that
is slow delays only itself.
"""

import threading
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from sextant.formats.telemetry import exposition
from sextant.http.untrusted import fetch
from sextant.kernel import limits
from sextant.kernel.clock import Clock
from sextant.kernel.errors import BadData, SextantError, UsageError
from sextant.kernel.lengths import length_s
from sextant.project.config import Scrape

_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
_AT_ONCE = 8
_TEXT = "text/plain; version=0.0.4"


class Sender(Protocol):
    """The part of the telemetry client that a scrape needs."""

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes: ...


class Scraper:
    """Scrapes targets on their clocks. `step` starts what is due and returns at once."""

    def __init__(
        self,
        targets: Sequence[Scrape],
        sender: Sender,
        clock: Clock,
        *,
        get: Callable[..., tuple[bytes, str]] = fetch,
    ) -> None:
        self._targets, self._sender, self._clock, self._get = targets, sender, clock, get
        self._due = dict.fromkeys(range(len(targets)), 0.0)
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sextant-scrape")
        self.problems: dict[str, str] = {}
        # (job, URL) -> the series of the last scrape; a target is scraped by one thread at a time
        self._last: dict[tuple[str, str], set[bytes]] = {}

    def step(self) -> None:
        now = self._clock.monotonic_s()
        for n, target in enumerate(self._targets):
            with self._lock:
                if now < self._due[n] or n in self._busy:
                    continue
                self._busy.add(n)
                self._due[n] = now + length_s(target.every)
            self._pool.submit(self._one, n, target)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, n: int, target: Scrape) -> None:
        try:
            self.scrape(target)
        except SextantError as error:
            self.problems[target.job] = error.message
        finally:
            with self._lock:
                self._busy.discard(n)

    def scrape(self, target: Scrape) -> None:
        """Fetch one target and send what it said, and whether and how long it took. Raises what
        sending raises. An exposition that cannot be read is a failed scrape, as in Prometheus."""
        at_ms = self._clock.now_ns() // 1_000_000
        begun = self._clock.monotonic_s()
        up, body, kind = 0, b"", ""
        try:
            body, kind = self._get(
                target.url,
                private=target.private,
                headers={"Accept": _ACCEPT},
                timeout_s=length_s(target.timeout),
            )
            up = 1
            self.problems.pop(target.job, None)
        except SextantError as error:
            self.problems[target.job] = error.message
        took = self._clock.monotonic_s() - begun
        where = {
            "job": target.job,
            "instance": urllib.parse.urlsplit(target.url).netloc,
            "asset": target.asset,
            "owner": target.owner,
            "at": str(at_ms),
        }
        path = "/v1/exposition?" + urllib.parse.urlencode(
            {name: value for name, value in where.items() if value}
        )
        if up:
            try:
                self._sender.send("POST", path, body, {"Content-Type": kind or _TEXT})
            except (BadData, UsageError) as error:
                up = 0
                self.problems[target.job] = error.message
        self._end_series(target, path, body if up else b"")
        own = f"up {up}\nscrape_duration_seconds {took:.6f}\nscrape_body_size_bytes {len(body)}\n"
        self._sender.send("POST", path, own.encode(), {"Content-Type": _TEXT})

    def _end_series(self, target: Scrape, path: str, body: bytes) -> None:
        """Send a staleness marker for each series that the last scrape had and this one has not:
        whoever asks for it gets nothing, and not its last value for minutes."""
        at = (target.job, target.url)
        now = exposition.keys_at_scrape(body, limits.SCRAPE_KEYS_BYTES_MAX)
        gone = exposition.ended(self._last.get(at, set()), now)
        if gone:
            lines = b"".join(key + b" NaN\n" for key in gone)
            self._sender.send("POST", f"{path}&stale=1", lines, {"Content-Type": _TEXT})
        self._last[at] = now
