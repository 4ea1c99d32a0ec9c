-- A source is held by content: the same code and inputs may have several contents that were undone. Filled when the projections are made again.
DROP TABLE held;
CREATE TABLE held (                 -- what a withdrawn version had been made from: not made again until that changes
  env TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, code TEXT NOT NULL, inputs TEXT NOT NULL,
  version TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (env, asset, partition, code, inputs, digest));
CREATE TABLE answered (             -- what was made last of what is held: a source that was mended
  env TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, code TEXT NOT NULL, inputs TEXT NOT NULL,
  digest TEXT NOT NULL, PRIMARY KEY (env, asset, partition, code, inputs));
