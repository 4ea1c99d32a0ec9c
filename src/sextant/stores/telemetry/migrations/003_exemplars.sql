-- Single measurements behind a sample, with the trace in which they were made. A target shows the same exemplar in every scrape until it
-- has a newer one: equal rows become one, at the latest when they are read. `series` is a hash of the metric, its labels and its owner.
-- Rows are kept as long as spans, without which they lead nowhere.
CREATE TABLE IF NOT EXISTS obs.exemplars_seen (
  metric LowCardinality(String) CODEC(ZSTD(1)),
  series UInt64 CODEC(Delta, ZSTD(1)),
  ts DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  value Float64 CODEC(ZSTD(1)),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  asset LowCardinality(String),
  owner LowCardinality(String),
  INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(ts)
ORDER BY (metric, series, ts, trace_id, span_id)
TTL toDateTime(ts) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE OR REPLACE VIEW obs.exemplars AS
SELECT metric, ts, value, trace_id, span_id, labels, attributes, asset, owner, series FROM obs.exemplars_seen FINAL;
