-- Names of batches are each sender's own, and a name stands for what was sent with it.
DROP INDEX inbox_waiting;
ALTER TABLE inbox RENAME TO inbox_before;
CREATE TABLE inbox (                -- batches as they came; `body` is emptied when the rows have moved into blobs, the batch is remembered for a while
  dataset TEXT NOT NULL, sender TEXT NOT NULL, batch TEXT NOT NULL, id TEXT NOT NULL, rows BIGINT NOT NULL, body BYTEA NOT NULL, actor TEXT NOT NULL, taken_at BIGINT NOT NULL, folded_at BIGINT NOT NULL,
  refusal TEXT NOT NULL DEFAULT '',  -- why a batch was set aside (JSON); '' = it was not
  blob TEXT NOT NULL DEFAULT '',     -- digest of the blob that holds the batch, `body` is empty then; '' = the batch stands in `body`, or its rows have moved
  digest TEXT NOT NULL DEFAULT '',   -- of what was sent; '' = it was taken before digests were kept
  PRIMARY KEY (dataset, sender, batch));
INSERT INTO inbox (dataset, sender, batch, id, rows, body, actor, taken_at, folded_at, refusal, blob) SELECT dataset, actor, batch, id, rows, body, actor, taken_at, folded_at, refusal, blob FROM inbox_before;
DROP TABLE inbox_before;
CREATE INDEX inbox_waiting ON inbox (dataset, id) WHERE folded_at = 0;
