"""Samples of five minutes made into one row, while the five minutes last, when they are over, and
again when samples for them come late. Growth is counted here, of numbers and of histograms.

Called by the intake's flush. Which buckets are due stands in a folder of empty files, made before
the samples are inserted, so that a crash makes a bucket twice rather than not at all; the table
keeps the newer one.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sextant.kernel import limits
from sextant.kernel.errors import StorageError
from sextant.kernel.ports import Telemetry
from sextant.stores import files
from sextant.stores.telemetry.series import ROLLUP_S, TAKEN_BACK

_DELAY_S = 60  # after its end a bucket waits so long for stragglers
_TOGETHER = 12  # buckets made by one statement: an hour
# growth counts from a sample at most so long ago: a series that was silent for longer begins anew
_BEFORE_S = int(limits.SERIES_LIVE_S)
_BEFORE_OPEN_S = 900  # the same while a bucket is not over: reading two hours each time is dear
_OPEN_REST_FACTOR = 20.0  # a bucket that is not over is made again after so many times its cost
_OPEN_EVERY_S = 15.0  # and not sooner than this
_OPEN_EVERY_S_MAX = 45.0  # nor later: growth is seen within its first minute

# The innermost rows: samples of the buckets, and of each series its last sample before them. Of
# what lies behind the buckets that are due, only the first bucket of a series is made: its growth
# is counted from a sample that may have come late.
#
# Where it is not known when a series began to count, a value below the one before it is a reset,
# after which all of it is growth. Where it is known, a reset is another series: the first value is
# growth, and what falls a little has only taken some back; what falls below half was reset by a
# sender that does not say so. But the first value of a process that began when nobody watched yet
# is none: years may be in it.
_GROWTH = """
INSERT INTO obs.made (metric, series, bucket, count, sum, min, max, last, increase, resets, seconds)
SELECT metric, series, bucket, n, total, least_value, greatest_value, last_value,
  if(began = 0, after_resets, net + if({first_counts}, first_value, 0)), if(began = 0, fell, fell_far), (last_ms - if({first_counts}, began, since_ms)) / 1000
FROM (
  SELECT *, min(if(bucket >= toDateTime({end_s}, 'UTC'), bucket, NULL)) OVER (PARTITION BY metric, series) AS next
  FROM (
    SELECT metric, series, toStartOfInterval(at, INTERVAL 300 SECOND) AS bucket, count() AS n, sum(value) AS total, min(value) AS least_value, max(value) AS greatest_value,
      argMax(value, at) AS last_value, sum(if(has_fallen, value, greatest(value - before, 0))) AS after_resets, countIf(has_fallen) AS fell,
      sum(if(value < before / 2, value, value - before)) AS net, countIf(value < before / 2) AS fell_far,
      sumIf(value, is_first) AS first_value, toUnixTimestamp64Milli(maxIf(at, is_first)) AS first_ms,
      toUnixTimestamp64Milli(max(at)) AS last_ms, toUnixTimestamp64Milli(min(if(is_first, at, before_at))) AS since_ms
    FROM (
      SELECT metric, series, at, value, lagInFrame(value, 1, value) OVER w AS before, lagInFrame(at, 1, at) OVER w AS before_at, row_number() OVER w = 1 AS is_first,
        value < before * (1 - 1e-9) AS has_fallen
      FROM (
        SELECT metric, series, ts AS at, value FROM obs.samples FINAL
        WHERE ts >= fromUnixTimestamp64Milli({start_ms}) AND ts < fromUnixTimestamp64Milli({to_ms}) AND NOT isNaN(value)
        UNION ALL
        SELECT metric, series, max(ts) AS at, argMax(value, ts) AS last_value FROM (
          SELECT metric, series, ts, value FROM obs.samples FINAL
          WHERE ts >= fromUnixTimestamp64Milli({from_ms}) AND ts < fromUnixTimestamp64Milli({start_ms}) AND NOT isNaN(value)
        ) GROUP BY metric, series
      )
      WINDOW w AS (PARTITION BY metric, series ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WHERE at >= fromUnixTimestamp64Milli({start_ms})
    GROUP BY metric, series, bucket
  )
) AS made
LEFT JOIN ({known}) AS known USING (metric, series)
WHERE bucket < toDateTime({end_s}, 'UTC') OR bucket = next
"""
# When series began to count, where that is known; when they were seen first; since when they are
# watched: since there is this store and its schema, or another series of the same labels was seen;
# and when the first one of their metric and process was seen.
_KNOWN = """
  SELECT metric, series, began, first, least(min(first) OVER (PARTITION BY kin), (SELECT toInt64(toUnixTimestamp(max(at))) * 1000 FROM obs.schema_version WHERE name = '002_growth')) AS watched,
    min(first) OVER (PARTITION BY metric, process) AS together
  FROM (
    SELECT metric, series, toUnixTimestamp64Milli(max(start)) AS began, max(s.kin) AS kin, toUnixTimestamp64Milli(min(first_seen)) AS first, max(s.process) AS process
    FROM obs.series AS s GROUP BY metric, series HAVING began > 0
  )
"""
# Whether the first value of a series that began at a known time is growth: it is the first one
# ever, and it began under our eyes, or its process counted other things before.
_FIRST_COUNTS = (
    "(began > 0 AND began < {at} AND first >= {at} AND ((began >= {{began_ms}} AND began >= "
    "watched) OR together < {at}))"
)
_EMPTY = "TRUNCATE TABLE obs.made"
_KEEP = """
INSERT INTO obs.rollups (metric, series, bucket, count, sum, min, max, last, increase, resets, seconds, exact, made)
SELECT metric, series, bucket, count, sum, min, max, last, increase, resets, seconds, 1, fromUnixTimestamp64Milli({made_ms}) FROM obs.made
"""
# Buckets of histograms count up to their bound; the cells of a histogram are the steps between them.
# A count never falls with its bound, but that of a target whose bounds changed within the bucket:
# then the steps of both are in one another.
_BUCKETS = """
INSERT INTO obs.histogram_rollups (metric, series, bucket, cells, made)
SELECT name, histogram, bucket,
  arrayFilter(cell -> cell.3 > 0, arrayMap(
    (one, n) -> (if(n > 1, steps[n - 1].1, if(one.1 > 0, 0, -inf)), one.1, reached[n] - if(n > 1, reached[n - 1], 0)),
    steps, arrayEnumerate(steps)
  )),
  fromUnixTimestamp64Milli({made_ms})
FROM (
  SELECT name, histogram, bucket, arraySort(groupArray((bound, grown))) AS steps, arrayMap(n -> arrayMax(arraySlice(steps.2, 1, n)), arrayEnumerate(steps)) AS reached
  FROM (
    SELECT of.name AS name, of.histogram AS histogram, m.bucket AS bucket, of.bound AS bound, max(if(of.kind = 'delta', m.sum, m.increase)) AS grown
    FROM obs.made AS m
    INNER JOIN (
      SELECT metric, series, max(part.histogram) AS histogram, toFloat64OrNull(anyLast(part.labels)['le']) AS bound, anyLast(part.kind) AS kind,
        substring(metric, 1, length(metric) - 7) AS name
      FROM obs.series AS part WHERE part.histogram != 0 AND endsWith(metric, '_bucket') GROUP BY metric, series HAVING bound IS NOT NULL
    ) AS of ON m.metric = of.metric AND m.series = of.series
    GROUP BY name, histogram, bucket, bound
  )
  GROUP BY name, histogram, bucket
)
"""
# Of an exponential histogram each row counts, less the row before it where counts go on. Scales
# may differ: both are then told in the wider cells, of which the narrower ones are parts. What the
# cell around zero has grown over lies in it.
_CELLS = """
INSERT INTO obs.histogram_rollups (metric, series, bucket, cells, made)
SELECT metric, series, bucket,
  groupArray((
    if(side = 0, -zero, if(side > 0, exp2(index * exp2(-width)), -exp2((index + 1) * exp2(-width)))),
    if(side = 0, zero, if(side > 0, exp2((index + 1) * exp2(-width)), -exp2(index * exp2(-width)))),
    toFloat64(n)
  )),
  fromUnixTimestamp64Milli({made_ms})
FROM (
  SELECT metric, series, bucket, if(side = 0, 0, wide) AS width, side, index, max(zero) AS zero, sum(n) AS n
  FROM (
    SELECT *, min(if(bucket >= toDateTime({end_s}, 'UTC'), bucket, NULL)) OVER (PARTITION BY metric, series) AS next
    FROM (
      SELECT metric, series, toStartOfInterval(at, INTERVAL 300 SECOND) AS bucket, at, zero, wide,
        arrayConcat(
          if(follows OR fell OR delta OR {first_cells_count},
            arrayMap((side, index, count) -> (side, if(side = 0, 0, bitShiftRight(toInt64(index), scale - wide)), toInt64(count)), sides, indexes, counts), []),
          if(follows AND NOT delta,
            arrayMap((side, index, count) -> (if(exp2((index + 1) * exp2(-before.1)) > zero * (1 + 1e-9), side, 0) AS now,
              if(now = 0, 0, bitShiftRight(toInt64(index), before.1 - wide)), -toInt64(count)), before.2, before.3, before.4), [])
        ) AS cells
      FROM (
        SELECT *, if(follows AND NOT delta, least(scale, before.1), scale) AS wide
        FROM (
          SELECT *, count_before IS NOT NULL AND (began > 0 OR arraySum(counts) >= count_before) AS follows, count_before IS NOT NULL AND NOT follows AS fell
          FROM (
            SELECT metric, series, at, scale, zero, delta, sides, indexes, counts, lagInFrame((scale, sides, indexes, counts), 1) OVER w AS before,
              lagInFrame(toNullable(arraySum(counts)), 1) OVER w AS count_before
            FROM (
              SELECT metric, series, ts AS at, scale, zero, delta, sides, indexes, counts FROM obs.histogram_cells FINAL
              WHERE ts >= fromUnixTimestamp64Milli({start_ms}) AND ts < fromUnixTimestamp64Milli({to_ms}) AND scale != {taken_back}
              UNION ALL
              SELECT metric, series, max(ts) AS at, argMax(scale, ts), argMax(zero, ts), argMax(delta, ts), argMax(sides, ts), argMax(indexes, ts), argMax(counts, ts) FROM (
                SELECT * FROM obs.histogram_cells FINAL WHERE ts >= fromUnixTimestamp64Milli({from_ms}) AND ts < fromUnixTimestamp64Milli({start_ms}) AND scale != {taken_back}
              ) GROUP BY metric, series
            )
            WINDOW w AS (PARTITION BY metric, series ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
          ) AS sent
          LEFT JOIN ({known}) AS known USING (metric, series)
        )
      )
      WHERE at >= fromUnixTimestamp64Milli({start_ms})
    )
  )
  ARRAY JOIN cells.1 AS side, cells.2 AS index, cells.3 AS n
  WHERE bucket < toDateTime({end_s}, 'UTC') OR bucket = next
  GROUP BY metric, series, bucket, width, side, index
  HAVING n > 0
)
GROUP BY metric, series, bucket
"""


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
            for statement in (_EMPTY, _GROWTH, _KEEP, _BUCKETS, _CELLS, _EMPTY):
                self._store.run(statement.format(**at), beside=True)
        except StorageError:
            with self._lock:
                self._fresh |= set(group)
            raise


def _ends_ms(bucket: int) -> int:
    """Return when a bucket is over, stragglers included."""
    return (bucket + ROLLUP_S + _DELAY_S) * 1000
