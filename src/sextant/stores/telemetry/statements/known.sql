-- When series began to count, where that is known; when they were seen first; since when they are
-- watched: since there is this store and its schema, or another series of the same labels was seen;
-- and when the first one of their metric and process was seen.
SELECT metric, series, began, first, least(min(first) OVER (PARTITION BY kin), (SELECT toInt64(toUnixTimestamp(max(at))) * 1000 FROM obs.schema_version WHERE name = '002_growth')) AS watched,
  min(first) OVER (PARTITION BY metric, process) AS together
FROM (
  SELECT metric, series, toUnixTimestamp64Milli(max(start)) AS began, max(s.kin) AS kin, toUnixTimestamp64Milli(min(first_seen)) AS first, max(s.process) AS process
  FROM obs.series AS s GROUP BY metric, series HAVING began > 0
)
