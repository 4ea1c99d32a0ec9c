-- The tables of accounts, tokens, sessions and sign-in links, version 3. Times are ns since the epoch, 0 = never;
-- teams and scopes are words with blanks between them.
CREATE TABLE IF NOT EXISTS account (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, teams TEXT NOT NULL, password TEXT NOT NULL,
  created_at INTEGER NOT NULL, disabled_at INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS token (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,
  role TEXT NOT NULL, scopes TEXT NOT NULL, teams TEXT NOT NULL, on_behalf_of TEXT NOT NULL,
  made_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL, used_at INTEGER NOT NULL, root TEXT NOT NULL DEFAULT '',
  parent TEXT NOT NULL DEFAULT '');

CREATE TABLE IF NOT EXISTS session (
  hash BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, person TEXT NOT NULL, how TEXT NOT NULL,
  csrf TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS link (
  hash BLOB PRIMARY KEY, person TEXT NOT NULL, expires_at INTEGER NOT NULL);

CREATE INDEX IF NOT EXISTS token_parent ON token (parent);

PRAGMA user_version = 3;
