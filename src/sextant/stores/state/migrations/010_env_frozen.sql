-- frozen: nothing moves in it. expires_at: when it goes by itself (ns since 1970); 0 = never.
ALTER TABLE env ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE env ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
