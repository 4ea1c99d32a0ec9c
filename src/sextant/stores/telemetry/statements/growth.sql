-- The growth of numbers in each bucket, and what else is kept of their samples.
--
-- The innermost rows: samples of the buckets, and of each series its last sample before them. Of
-- what lies behind the buckets that are due, only the first bucket of a series is made: its growth
-- is counted from a sample that may have come late.
--
-- Where it is not known when a series began to count, a value below the one before it is a reset,
-- after which all of it is growth. Where it is known, a reset is another series: the first value is
-- growth, and what falls a little has only taken some back; what falls below half was reset by a
-- sender that does not say so. But the first value of a process that began when nobody watched yet
-- is none: years may be in it. Increments add up.
--
-- What is made while a bucket lasts has grown in the seconds since the sample before it.
INSERT INTO obs.made (metric, series, bucket, count, sum, min, max, last, increase, resets, seconds)
SELECT metric, series, bucket, n, total, least_value, greatest_value, last_value,
  multiIf((metric, series) IN (SELECT metric, series FROM obs.series WHERE kind = 'delta'), total, began = 0, after_resets, net + if({first_counts}, first_value, 0)),
  if(began = 0, fell, fell_far),
  if({made_ms} < toUnixTimestamp(bucket + 300) * 1000 AND (last_ms - if({first_counts}, began, since_ms) AS grew_ms) > 0, greatest(grew_ms / 1000, 1), 300)
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
