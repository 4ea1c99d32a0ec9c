-- Rows that were pushed into a dataset. Not a projection: what was acknowledged stands here, and in the blobs that `inbox_part` names.
CREATE TABLE inbox (                -- batches as they came; `body` is emptied when the rows have moved into blobs, the batch is remembered for a while
  dataset TEXT NOT NULL, batch TEXT NOT NULL, id TEXT NOT NULL, rows BIGINT NOT NULL, body BYTEA NOT NULL, actor TEXT NOT NULL, taken_at BIGINT NOT NULL, folded_at BIGINT NOT NULL,
  PRIMARY KEY (dataset, batch));
CREATE INDEX inbox_waiting ON inbox (dataset, id) WHERE folded_at = 0;
CREATE TABLE inbox_part (           -- all rows that were ever pushed for a partition: blobs in the order of their ids
  dataset TEXT NOT NULL, partition TEXT NOT NULL, id TEXT NOT NULL, blob TEXT NOT NULL, rows BIGINT NOT NULL, PRIMARY KEY (dataset, partition, id));
