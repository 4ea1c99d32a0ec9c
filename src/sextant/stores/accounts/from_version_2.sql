-- Sessions of version 2 had no id and could not be listed; whoever was signed in signs in again.
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS session;
PRAGMA user_version = 3;
COMMIT;
