-- Tokens of version 1 named who made them and no person; `app/access.py` finds the person in the
-- ledger.
BEGIN IMMEDIATE;
ALTER TABLE token ADD COLUMN root TEXT NOT NULL DEFAULT '';
ALTER TABLE token ADD COLUMN parent TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 2;
COMMIT;
