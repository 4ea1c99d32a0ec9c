-- Orders the log: every writing transaction locks this one row first.
CREATE TABLE ledger_head (one BIGINT PRIMARY KEY, size BIGINT NOT NULL);
INSERT INTO ledger_head (one, size) VALUES (1, 0);
