-- The state store, on SQLite and Postgres alike. BIGINT times are ns since the epoch, UTC.
-- Dialect overrides are listed in the backend: `INTEGER PRIMARY KEY` (SQLite's row id) is BIGINT PRIMARY KEY on Postgres.

-- ------------------------------------------------------------ the ledger
CREATE TABLE event (                -- append-only; `envelope` is what is hashed, the other columns are copies for search
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL, cause TEXT NOT NULL,
  time BIGINT NOT NULL, envelope BYTEA NOT NULL);
CREATE UNIQUE INDEX event_id ON event (id);
CREATE INDEX event_subject ON event (subject, seq);
CREATE INDEX event_cause ON event (cause) WHERE cause <> '';
CREATE TABLE payload (              -- apart from the envelope, so that it can be erased
  seq INTEGER PRIMARY KEY, salt BYTEA NOT NULL, body BYTEA NOT NULL);
CREATE TABLE node (                 -- inner nodes of the tree from level 8 upwards: complete subtrees only
  level BIGINT NOT NULL, idx BIGINT NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (level, idx));
CREATE TABLE checkpoint (           -- signed tree heads, as text (the note is the record)
  size INTEGER PRIMARY KEY, note TEXT NOT NULL, time BIGINT NOT NULL);

-- ------------------------------------------------------------ projections: rebuilt from ledger and payloads
CREATE TABLE project (name TEXT PRIMARY KEY, manifest TEXT NOT NULL, loaded_at BIGINT NOT NULL);
CREATE TABLE asset (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, mode TEXT NOT NULL, owner TEXT NOT NULL, tier BIGINT NOT NULL,
  doc TEXT NOT NULL, declared_at BIGINT NOT NULL, retired_at BIGINT NOT NULL);
CREATE TABLE edge (
  source TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL, valid_from BIGINT NOT NULL, valid_to BIGINT NOT NULL,
  PRIMARY KEY (source, target, kind, valid_from));
CREATE INDEX edge_target ON edge (target);
CREATE TABLE env (name TEXT PRIMARY KEY, parent TEXT NOT NULL, created_at BIGINT NOT NULL, dropped_at BIGINT NOT NULL);
CREATE TABLE pointer (              -- what is live: the catalogue's refs
  env TEXT NOT NULL, asset TEXT NOT NULL, version TEXT NOT NULL, release TEXT NOT NULL, moved_at BIGINT NOT NULL,
  PRIMARY KEY (env, asset));
CREATE TABLE version (
  asset TEXT NOT NULL, digest TEXT NOT NULL, parent TEXT NOT NULL, locator TEXT NOT NULL, run TEXT NOT NULL,
  code TEXT NOT NULL, rows BIGINT NOT NULL, size_bytes BIGINT NOT NULL, doc TEXT NOT NULL, created_at BIGINT NOT NULL,
  expired_at BIGINT NOT NULL, PRIMARY KEY (asset, digest));
CREATE INDEX version_run ON version (run);
CREATE TABLE part (                 -- partitions of a version that differ from its parent; rows = -1: removed
  asset TEXT NOT NULL, version TEXT NOT NULL, partition TEXT NOT NULL, digest TEXT NOT NULL, rows BIGINT NOT NULL,
  code TEXT NOT NULL, inputs TEXT NOT NULL, PRIMARY KEY (asset, version, partition));
CREATE INDEX part_memo ON part (asset, partition, code, inputs);
CREATE TABLE made (                 -- other code or inputs that were found to make content which was there already
  asset TEXT NOT NULL, partition TEXT NOT NULL, code TEXT NOT NULL, inputs TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (asset, partition, code, inputs));
CREATE TABLE provenance (
  asset TEXT NOT NULL, version TEXT NOT NULL, upstream TEXT NOT NULL, upstream_version TEXT NOT NULL,
  PRIMARY KEY (asset, version, upstream, upstream_version));
CREATE INDEX provenance_upstream ON provenance (upstream, upstream_version);
CREATE TABLE withdrawn (
  env TEXT NOT NULL, asset TEXT NOT NULL, version TEXT NOT NULL, release TEXT NOT NULL, reason TEXT NOT NULL,
  withdrawn_at BIGINT NOT NULL, PRIMARY KEY (env, asset, version));
CREATE TABLE held (                 -- what a withdrawn version had been made from: not made again until that changes
  env TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, code TEXT NOT NULL, inputs TEXT NOT NULL,
  version TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (env, asset, partition, code, inputs));
CREATE TABLE tainted (
  asset TEXT NOT NULL, version TEXT NOT NULL, source TEXT NOT NULL, source_version TEXT NOT NULL, tainted_at BIGINT NOT NULL,
  PRIMARY KEY (asset, version, source, source_version));
CREATE TABLE run (
  id TEXT PRIMARY KEY, env TEXT NOT NULL, state TEXT NOT NULL, doc TEXT NOT NULL, started_at BIGINT NOT NULL,
  finished_at BIGINT NOT NULL, seal TEXT NOT NULL);
CREATE TABLE release (
  id TEXT PRIMARY KEY, env TEXT NOT NULL, state TEXT NOT NULL, step BIGINT NOT NULL, intent TEXT NOT NULL, run TEXT NOT NULL, doc TEXT NOT NULL,
  created_at BIGINT NOT NULL, changed_at BIGINT NOT NULL);
CREATE TABLE release_move (
  release TEXT NOT NULL, env TEXT NOT NULL, asset TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
  PRIMARY KEY (release, env, asset));
CREATE INDEX release_move_asset ON release_move (env, asset, target);
CREATE TABLE open_move (            -- at most one open release for each environment and asset
  env TEXT NOT NULL, asset TEXT NOT NULL, release TEXT NOT NULL, PRIMARY KEY (env, asset));
CREATE TABLE check_result (
  seq BIGINT NOT NULL, n BIGINT NOT NULL, run TEXT NOT NULL, asset TEXT NOT NULL, version TEXT NOT NULL, name TEXT NOT NULL,
  partition TEXT NOT NULL, ok BIGINT NOT NULL, severity TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (seq, n));
CREATE INDEX check_result_asset ON check_result (asset, seq);
CREATE TABLE signal (
  id TEXT PRIMARY KEY, asset TEXT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL, doc TEXT NOT NULL, onset BIGINT NOT NULL,
  closed_at BIGINT NOT NULL);
CREATE TABLE incident (id TEXT PRIMARY KEY, state TEXT NOT NULL, doc TEXT NOT NULL, opened_at BIGINT NOT NULL, closed_at BIGINT NOT NULL);
CREATE TABLE tick (                 -- the newest cron instant that has been acted on
  env TEXT NOT NULL, asset TEXT NOT NULL, fired_at BIGINT NOT NULL, PRIMARY KEY (env, asset));

-- ------------------------------------------------------------ run history: per run, pruned by retention, sealed by run.finished
CREATE TABLE history (
  run TEXT NOT NULL, n BIGINT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (run, n));

-- ------------------------------------------------------------ operational: not history, may be lost
CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT NOT NULL, fence BIGINT NOT NULL, expires_at BIGINT NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
