"""Samples of five minutes made into one row, when the five minutes are over; and again when samples for them come late.

Called by the intake's flush. Which buckets are due stands in a folder of empty files, made before the samples are inserted, so that a
crash makes a bucket twice rather than not at all; the table keeps the newer one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from sextant.kernel.ports import Telemetry
from sextant.stores import files
from sextant.stores.telemetry.series import ROLLUP_S

_DELAY_S = 60  # after its end a bucket waits so long for stragglers
_TOGETHER = 12  # buckets made by one statement: an hour
_SQL = """
INSERT INTO obs.rollups (metric, series, bucket, count, sum, min, max, last, increase, resets, made)
SELECT metric, series, bucket, count(), sum(value), min(value), max(value), argMax(value, ts), sum(if(value >= before, value - before, value)), countIf(value < before),
  fromUnixTimestamp64Milli({made_ms})
FROM (
  SELECT metric, series, ts, toStartOfInterval(ts, INTERVAL 300 SECOND) AS bucket, value,
    lagInFrame(value, 1, value) OVER (PARTITION BY metric, series ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
  FROM (SELECT metric, series, ts, value FROM obs.samples WHERE ts >= fromUnixTimestamp64Milli({from_ms}) AND ts < fromUnixTimestamp64Milli({to_ms}) AND NOT isNaN(value))
)
WHERE ts >= fromUnixTimestamp64Milli({start_ms})
GROUP BY metric, series, bucket
"""


class Rollups:
    """The buckets that are due."""

    def __init__(self, folder: Path, store: Telemetry) -> None:
        files.make_folder(str(folder))
        self._folder = folder
        self._store = store
        self._due = {int(name) for name in os.listdir(folder) if name.isdigit()}

    def __len__(self) -> int:
        return len(self._due)

    def mark(self, buckets: Iterable[int]) -> None:
        """Note buckets (their start, seconds) that will get samples. Durable when it returns."""
        new = set(buckets) - self._due
        if not new:
            return
        for bucket in new:
            try:
                os.close(os.open(self._folder / str(bucket), os.O_WRONLY | os.O_CREAT, 0o600))
            except OSError as error:
                raise files.refused(error, str(self._folder)) from error
        files.sync_folder(str(self._folder))
        self._due |= new

    def make(self, now_ms: int, *, statements: int = 1) -> int:
        """Make buckets that are over, at most `statements` hours of them. Returns how many. StorageError leaves them due."""
        over = sorted(bucket for bucket in self._due if (bucket + ROLLUP_S + _DELAY_S) * 1000 <= now_ms)
        made = 0
        for _ in range(statements):
            if not over:
                break
            group = [bucket for bucket in over[:_TOGETHER] if bucket < over[0] + _TOGETHER * ROLLUP_S]
            over = over[len(group) :]
            # a late sample is what the bucket after it starts from
            start, end = group[0], group[-1] + ROLLUP_S
            if (end + 2 * ROLLUP_S) * 1000 < now_ms:
                end += ROLLUP_S
            self._store.run(_SQL.format(made_ms=now_ms, from_ms=(start - ROLLUP_S) * 1000, start_ms=start * 1000, to_ms=end * 1000))
            for bucket in group:
                self._due.discard(bucket)
                files.remove(str(self._folder / str(bucket)))
            made += len(group)
        return made
