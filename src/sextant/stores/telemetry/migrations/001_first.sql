-- The first schema of the telemetry store. ClickHouse's SQL; chDB and a ClickHouse server run the same text.
-- Statements end with a semicolon at the end of a line. Ages (TTL) are set from the configuration after the migrations.
-- Every table that takes inserts remembers their tokens (non_replicated_deduplication_window) and syncs what it wrote before it
-- answers, since the journal is deleted then. Merged parts are synced as well: the parts they replace are removed later.

-- One row for each sample. A value is mantissa / 10^scale where that gives back exactly the float64 that was sent: decimals then
-- compress as whole numbers do. Scale 255: the mantissa holds the bits of the float64 (floats without a short decimal form, negative
-- zero, infinities, NaNs with their payload, so also Prometheus's staleness marker).
CREATE TABLE IF NOT EXISTS obs.samples (
  metric LowCardinality(String) CODEC(ZSTD(1)),
  series UInt64 CODEC(Delta, ZSTD(1)),
  ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
  mantissa Int64 CODEC(Delta, T64('bit'), ZSTD(1)),
  scale UInt8 CODEC(ZSTD(1)),
  value Float64 ALIAS if(scale = 255, reinterpretAsFloat64(mantissa), mantissa / exp10(scale))
) ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (metric, series, ts)
TTL toDateTime(ts) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- What a series is. A row is sent again when a series was not sent for an hour or its store began anew, so last_seen is right to the hour.
CREATE TABLE IF NOT EXISTS obs.series (
  metric LowCardinality(String),
  series UInt64,
  labels SimpleAggregateFunction(anyLast, Map(String, String)),
  asset SimpleAggregateFunction(anyLast, LowCardinality(String)),
  owner SimpleAggregateFunction(anyLast, LowCardinality(String)),
  kind SimpleAggregateFunction(anyLast, LowCardinality(String)),
  unit SimpleAggregateFunction(anyLast, LowCardinality(String)),
  first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
  last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
) ENGINE = AggregatingMergeTree
ORDER BY (metric, series)
TTL toDateTime(last_seen) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- `newest` serves ORDER BY ts DESC LIMIT, which the order of the table does not. A found line costs the reading of its whole granule, so those
-- of the logs are small.
CREATE TABLE IF NOT EXISTS obs.logs (
  ts DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  observed DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  asset LowCardinality(String),
  owner LowCardinality(String),
  severity_number UInt8,
  severity LowCardinality(String),
  body String CODEC(ZSTD(1)),
  event LowCardinality(String),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  scope LowCardinality(String),
  resource Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  INDEX body_tokens body TYPE text(tokenizer = splitByNonAlpha),
  INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX newest ts TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (asset, ts)
TTL toDateTime(ts) + INTERVAL 14 DAY
SETTINGS index_granularity = 2048, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS obs.spans (
  ts DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  duration_ns UInt64 CODEC(T64, ZSTD(1)),
  asset LowCardinality(String),
  owner LowCardinality(String),
  name LowCardinality(String),
  kind LowCardinality(String),
  status LowCardinality(String),
  status_message String CODEC(ZSTD(1)),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  parent_span_id String CODEC(ZSTD(1)),
  trace_state String CODEC(ZSTD(1)),
  scope LowCardinality(String),
  resource Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  events String CODEC(ZSTD(1)) COMMENT 'JSON: [{"ts_ns", "name", "attributes"}]',
  links String CODEC(ZSTD(1)) COMMENT 'JSON: [{"trace_id", "span_id", "attributes"}]',
  INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX newest ts TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (asset, name, ts)
TTL toDateTime(ts) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- CloudEvents 1.0: the attributes of the specification, extensions, and the data as text (JSON, or base64 when it is not text).
CREATE TABLE IF NOT EXISTS obs.events (
  ts DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  id String CODEC(ZSTD(1)),
  source LowCardinality(String),
  type LowCardinality(String),
  subject String CODEC(ZSTD(1)),
  asset LowCardinality(String),
  owner LowCardinality(String),
  content_type LowCardinality(String),
  schema LowCardinality(String),
  extensions Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  data String CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (type, ts)
TTL toDateTime(ts) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Five minutes of a series. `increase` counts what a counter grew since the last sample before the bucket, resets included (the value
-- after a reset counts as growth), so the increase over any whole number of buckets is their sum. A bucket is made again, under a newer
-- `made`, when samples for it arrive late: read with FINAL.
CREATE TABLE IF NOT EXISTS obs.rollups (
  metric LowCardinality(String) CODEC(ZSTD(1)),
  series UInt64 CODEC(Delta, ZSTD(1)),
  bucket DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
  count UInt32 CODEC(T64, ZSTD(1)),
  sum Float64 CODEC(Gorilla, ZSTD(1)),
  min Float64 CODEC(Gorilla, ZSTD(1)),
  max Float64 CODEC(Gorilla, ZSTD(1)),
  last Float64 CODEC(Gorilla, ZSTD(1)),
  increase Float64 CODEC(Gorilla, ZSTD(1)),
  resets UInt16 CODEC(T64, ZSTD(1)),
  made DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
) ENGINE = ReplacingMergeTree(made)
PARTITION BY toYYYYMM(bucket)
ORDER BY (metric, series, bucket)
TTL bucket + INTERVAL 400 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- What was sent and not kept, by reason. Nothing is dropped without a row here.
CREATE TABLE IF NOT EXISTS obs.refused_counts (
  hour DateTime('UTC'),
  owner LowCardinality(String),
  protocol LowCardinality(String),
  reason LowCardinality(String),
  count UInt64
) ENGINE = SummingMergeTree(count)
ORDER BY (hour, owner, protocol, reason)
TTL hour + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS obs.services_seen (
  asset LowCardinality(String),
  owner SimpleAggregateFunction(anyLast, LowCardinality(String)),
  first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
  last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
) ENGINE = AggregatingMergeTree
ORDER BY asset
TTL toDateTime(last_seen) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS obs.calls_seen (
  caller LowCardinality(String),
  callee LowCardinality(String),
  first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
  last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
  count SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree
ORDER BY (caller, callee)
TTL toDateTime(last_seen) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 2000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- What people and programs read.

CREATE OR REPLACE VIEW obs.metrics AS
SELECT s.metric AS metric, s.ts AS ts, s.value AS value, l.labels AS labels, l.asset AS asset, l.owner AS owner, l.kind AS kind, s.series AS series
FROM (SELECT metric, series, ts, value FROM obs.samples) AS s
INNER JOIN (
  SELECT metric, series, anyLast(labels) AS labels, anyLast(asset) AS asset, anyLast(owner) AS owner, anyLast(kind) AS kind FROM obs.series GROUP BY metric, series
) AS l ON s.metric = l.metric AND s.series = l.series;

CREATE OR REPLACE VIEW obs.rates AS
SELECT r.metric AS metric, r.bucket AS bucket, r.increase / 300 AS rate, r.increase AS increase, l.labels AS labels, l.asset AS asset, l.owner AS owner, r.series AS series
FROM (SELECT metric, series, bucket, increase FROM obs.rollups FINAL) AS r
INNER JOIN (
  SELECT metric, series, anyLast(labels) AS labels, anyLast(asset) AS asset, anyLast(owner) AS owner FROM obs.series GROUP BY metric, series
) AS l ON r.metric = l.metric AND r.series = l.series;

CREATE OR REPLACE VIEW obs.refused AS
SELECT hour, owner, protocol, reason, sum(count) AS count FROM obs.refused_counts GROUP BY hour, owner, protocol, reason;

CREATE OR REPLACE VIEW obs.services AS
SELECT asset, anyLast(owner) AS owner, min(s.first_seen) AS first_seen, max(s.last_seen) AS last_seen FROM obs.services_seen AS s GROUP BY asset;

CREATE OR REPLACE VIEW obs.calls AS
SELECT caller, callee, min(c.first_seen) AS first_seen, max(c.last_seen) AS last_seen, sum(c.count) AS count FROM obs.calls_seen AS c GROUP BY caller, callee;
