-- What was made, kept: the table keeps the newer one of a bucket.
INSERT INTO obs.rollups (metric, series, bucket, count, sum, min, max, last, increase, resets, seconds, exact, made)
SELECT metric, series, bucket, count, sum, min, max, last, increase, resets, seconds, 1, fromUnixTimestamp64Milli({made_ms}) FROM obs.made
