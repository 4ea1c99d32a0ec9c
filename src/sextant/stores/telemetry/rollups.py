"""Samples of five minutes made into one row, when the five minutes are over; and again when samples
for them come late.

Called by the intake's flush. Which buckets are due stands in a folder of empty files, made before
the samples are inserted, so that a crash makes a bucket twice rather than not at all; the table
keeps the newer one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from sextant.kernel import limits
from sextant.kernel.ports import Telemetry
from sextant.stores import files
from sextant.stores.telemetry.series import ROLLUP_S

_DELAY_S = 60  # after its end a bucket waits so long for stragglers
_TOGETHER = 12  # buckets made by one statement: an hour
_BEFORE_S = int(
    limits.SERIES_LIVE_S
    # growth counts from a sample at most so long ago: a series that was silent for longer begins
    # anew
)

# The innermost rows: samples of the buckets, and of each series its last sample before them. Of
# what lies behind the buckets that are due, only the first bucket of a series is made: its growth
# is counted from a sample that may have come late.
_SQL = """
INSERT INTO obs.rollups (metric, series, bucket, count, sum, min, max, last, increase, resets, made)
SELECT metric, series, bucket, n, total, least_value, greatest_value, last_value, grown, fell, fromUnixTimestamp64Milli({made_ms})
FROM (
  SELECT *, min(if(bucket >= toDateTime({end_s}, 'UTC'), bucket, NULL)) OVER (PARTITION BY metric, series) AS next
  FROM (
    SELECT metric, series, toStartOfInterval(at, INTERVAL 300 SECOND) AS bucket, count() AS n, sum(value) AS total, min(value) AS least_value, max(value) AS greatest_value,
      argMax(value, at) AS last_value, sum(if(value >= before, value - before, value)) AS grown, countIf(value < before) AS fell
    FROM (
      SELECT metric, series, at, value, lagInFrame(value, 1, value) OVER (PARTITION BY metric, series ORDER BY at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
      FROM (
        SELECT metric, series, ts AS at, value FROM obs.samples WHERE ts >= fromUnixTimestamp64Milli({start_ms}) AND ts < fromUnixTimestamp64Milli({to_ms}) AND NOT isNaN(value)
        UNION ALL
        SELECT metric, series, max(ts) AS at, argMax(value, ts) AS value FROM (
          SELECT metric, series, ts, value FROM obs.samples WHERE ts >= fromUnixTimestamp64Milli({from_ms}) AND ts < fromUnixTimestamp64Milli({start_ms}) AND NOT isNaN(value)
        ) GROUP BY metric, series
      )
    )
    WHERE at >= fromUnixTimestamp64Milli({start_ms})
    GROUP BY metric, series, bucket
  )
)
WHERE bucket < toDateTime({end_s}, 'UTC') OR bucket = next
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
        """Make buckets that are over, at most `statements` hours of them. Returns how many.
        StorageError leaves them due."""
        over = sorted(
            bucket for bucket in self._due if (bucket + ROLLUP_S + _DELAY_S) * 1000 <= now_ms
        )
        made = 0
        for _ in range(statements):
            if not over:
                break
            group = [
                bucket for bucket in over[:_TOGETHER] if bucket < over[0] + _TOGETHER * ROLLUP_S
            ]
            over = over[len(group) :]
            start, end = group[0], group[-1] + ROLLUP_S
            # buckets before this are over
            ready = (now_ms // 1000 - _DELAY_S) // ROLLUP_S * ROLLUP_S
            to = max(end, min(end + _BEFORE_S, ready))
            self._store.run(
                _SQL.format(
                    made_ms=now_ms,
                    from_ms=(start - _BEFORE_S) * 1000,
                    start_ms=start * 1000,
                    end_s=end,
                    to_ms=to * 1000,
                )
            )
            for bucket in group:
                self._due.discard(bucket)
                files.remove(str(self._folder / str(bucket)))
            made += len(group)
        return made
