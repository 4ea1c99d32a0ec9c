-- Buckets of histograms count up to their bound; the cells of a histogram are the steps between
-- them. A count never falls with its bound, but that of a target whose bounds changed within the
-- bucket: then the steps of both are in one another.
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
    SELECT of.name AS name, of.histogram AS histogram, m.bucket AS bucket, of.bound AS bound, max(m.increase) AS grown
    FROM obs.made AS m
    INNER JOIN (
      SELECT metric, series, max(part.histogram) AS histogram, toFloat64OrNull(anyLast(part.labels)['le']) AS bound, substring(metric, 1, length(metric) - 7) AS name
      FROM obs.series AS part WHERE part.histogram != 0 AND endsWith(metric, '_bucket') GROUP BY metric, series HAVING bound IS NOT NULL
    ) AS of ON m.metric = of.metric AND m.series = of.series
    GROUP BY name, histogram, bucket, bound
  )
  GROUP BY name, histogram, bucket
)
