"""Rolls the samples of five minutes up into one row: while they last, when they are over, and when
samples come late. Growth is counted here, of numbers and of histograms.

Called by the intake's flush. Which buckets are due stands in a folder of empty files, made before
the samples are inserted, so that a crash makes a bucket twice rather than not at all; the table
keeps the newer one.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path

from sextant.kernel import limits
from sextant.kernel.errors import StorageError
from sextant.kernel.ports import Telemetry
from sextant.stores import files
from sextant.stores.telemetry.migrate import statements
from sextant.stores.telemetry.series import ROLLUP_S, TAKEN_BACK

_DELAY_S = 60  # after its end a bucket waits so long for stragglers
_TOGETHER = 12  # buckets made by one statement: an hour
# growth counts from a sample at most so long ago: a series that was silent for longer begins anew
_BEFORE_S = int(limits.SERIES_LIVE_S)
_BEFORE_OPEN_S = 900  # the same while a bucket is not over: reading two hours each time is dear
_OPEN_REST_FACTOR = 20.0  # a bucket that is not over is made again after so many times its cost
_OPEN_EVERY_S = 15.0  # and not sooner than this
_OPEN_EVERY_S_MAX = 45.0  # nor later: growth is seen within its first minute

# Whether the first value of a series that began at a known time is growth: it is the first one
# ever, and it began under our eyes, or its process counted other things before.
_FIRST_COUNTS = (
    "(began > 0 AND began < {at} AND first >= {at} AND ((began >= {{began_ms}} AND began >= "
    "watched) OR together < {at}))"
)
_EMPTY = "TRUNCATE TABLE obs.made"


def _statement(name: str) -> str:
    """Return a statement of the folder `statements`."""
    file = resources.files("sextant.stores.telemetry") / "statements" / f"{name}.sql"
    (statement,) = statements(file.read_text(encoding="utf-8"))
    return statement


_KNOWN = _statement("known")
_GROWTH, _KEEP, _BUCKETS, _CELLS = map(_statement, ("growth", "keep", "buckets", "cells"))
_ARE_CELLS = "SELECT count() > 0 FROM obs.histogram_cells"


class Rollups:
    """The buckets that are due. One thread makes them; another may mark buckets and insert samples
    meanwhile."""

    def __init__(self, folder: Path, store: Telemetry) -> None:
        files.make_folder(str(folder))
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._due = {int(name) for name in os.listdir(folder) if name.isdigit()}
        self._fresh = set(self._due)  # those that got samples since they were made last
        self._inserting: set[int] = set()  # those whose samples are on their way to the tables
        self._made_ms = 0
        self._open_again = 0.0  # when those that are not over may be made, monotonic seconds

    def __len__(self) -> int:
        return len(self._due)

    @contextlib.contextmanager
    def getting(self, buckets: Iterable[int]) -> Iterator[None]:
        """Note buckets (their start, seconds) that get samples, which are inserted within. Durable
        when it begins; StorageError."""
        wanted = set(buckets)
        with self._lock:
            self._inserting |= wanted
            new = wanted - self._due
        try:
            for bucket in new:
                try:
                    os.close(os.open(self._folder / str(bucket), os.O_WRONLY | os.O_CREAT, 0o600))
                except OSError as error:
                    raise files.refused(error, str(self._folder)) from error
            if new:
                files.sync_folder(str(self._folder))
            with self._lock:
                self._due |= new
            yield
        finally:
            with self._lock:
                self._fresh |= wanted
                self._inserting -= wanted

    def make(self, now_ms: int, *, statements: int = 1) -> int:
        """Make buckets that are over, at most `statements` hours of them. Returns how many.
        StorageError leaves them due."""
        over = self._ready(lambda bucket: _ends_ms(bucket) <= now_ms, self._due)
        made = 0
        for _ in range(statements):
            if not over:
                break
            group = [
                bucket for bucket in over[:_TOGETHER] if bucket < over[0] + _TOGETHER * ROLLUP_S
            ]
            over = over[len(group) :]
            self._make(group, now_ms, _BEFORE_S)
            with self._lock:  # what got samples meanwhile is made once more
                done = set(group) - self._fresh - self._inserting
                self._due -= done
                for bucket in done:
                    files.remove(str(self._folder / str(bucket)))
            made += len(group)
        return made

    def make_open(self, now_ms: int) -> int:
        """Make the buckets that are not over and have got samples, as far as they are: growth is
        seen before its five minutes are over. Returns how many; they stay due."""
        if time.monotonic() < self._open_again:
            return 0
        group = self._ready(
            lambda bucket: bucket * 1000 <= now_ms < _ends_ms(bucket), self._fresh & self._due
        )
        if not group:
            return 0
        began = time.monotonic()
        self._make(group, now_ms, _BEFORE_OPEN_S)
        pause = _OPEN_REST_FACTOR * (time.monotonic() - began)
        self._open_again = began + min(_OPEN_EVERY_S_MAX, max(_OPEN_EVERY_S, pause))
        return len(group)

    def _ready(self, wanted: Callable[[int], bool], of: Iterable[int]) -> list[int]:
        """Return buckets that can be made now, in the order of time."""
        with self._lock:
            return sorted(b for b in set(of) - self._inserting if wanted(b))

    def _has_cells(self) -> bool:
        """Say whether an exponential histogram was ever sent: most stores have none."""
        return self._store.query(_ARE_CELLS, form="TSV").strip() == b"1"

    def _make(self, group: list[int], now_ms: int, before_s: int) -> None:
        start, end = group[0], group[-1] + ROLLUP_S
        # buckets before this are over
        ready = (now_ms // 1000 - _DELAY_S) // ROLLUP_S * ROLLUP_S
        to = max(end, min(end + _BEFORE_S, ready))
        # a bucket that is made again is newer, wherever the clock has gone
        self._made_ms = max(now_ms, self._made_ms + 1)
        began_ms = (start - _BEFORE_S) * 1000
        first = {
            name: _FIRST_COUNTS.format(at=of).format(began_ms=began_ms)
            for name, of in (
                ("first_counts", "first_ms"),
                ("first_cells_count", "toUnixTimestamp64Milli(at)"),
            )
        }
        at = {
            **first,
            "taken_back": TAKEN_BACK,
            "made_ms": self._made_ms,
            "from_ms": (start - before_s) * 1000,
            "start_ms": start * 1000,
            "end_s": end,
            "to_ms": to * 1000,
            "known": _KNOWN,
        }
        with self._lock:
            self._fresh -= set(group)
        try:
            for statement in (_EMPTY, _GROWTH, _KEEP, _BUCKETS):
                self._store.run(statement.format(**at), beside=True)
            if self._has_cells():
                self._store.run(_CELLS.format(**at), beside=True)
            self._store.run(_EMPTY, beside=True)
        except StorageError:
            with self._lock:
                self._fresh |= set(group)
            raise


def _ends_ms(bucket: int) -> int:
    """Return when a bucket is over, stragglers included."""
    return (bucket + ROLLUP_S + _DELAY_S) * 1000
