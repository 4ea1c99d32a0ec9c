-- The rows of a large waiting batch lie in a blob.
ALTER TABLE inbox ADD COLUMN blob TEXT NOT NULL DEFAULT '';  -- digest of the blob that holds the batch, `body` is empty then; '' = the batch stands in `body`, or its rows have moved
