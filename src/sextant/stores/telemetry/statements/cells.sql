-- Of an exponential histogram each row counts, less the row before it where counts go on. Scales
-- may differ: both are then told in the wider cells, of which the narrower ones are parts. What the
-- cell around zero has grown over lies in it.
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
