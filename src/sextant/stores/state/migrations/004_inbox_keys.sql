-- Where the keys of pushed rows lie, batches that cannot become rows, one fold of a stream at a time, and its newest release; versions whose files moved of late.
ALTER TABLE inbox ADD COLUMN refusal TEXT NOT NULL DEFAULT '';  -- why a batch was set aside (JSON); '' = it was not
CREATE TABLE inbox_key (            -- partitions that hold rows of a key, by the digest of its columns and values
  dataset TEXT NOT NULL, key BYTEA NOT NULL, partition TEXT NOT NULL, PRIMARY KEY (dataset, key, partition));
CREATE TABLE inbox_stream (         -- `folds` counts the folds, each guarded by the count it found; `keyed`: the key that inbox_key is filled for
  dataset TEXT NOT NULL PRIMARY KEY, folds BIGINT NOT NULL, keyed TEXT NOT NULL);
CREATE INDEX release_move_newest ON release_move (env, asset, release);
CREATE INDEX event_located ON event (time) WHERE type = 'version.created' OR type = 'version.relocated';
