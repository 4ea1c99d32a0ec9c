-- Why the checks refused a version when it was last made, as a JSON list; '' = they passed. The rest of a version's record is that of the run that first made it.
ALTER TABLE version ADD COLUMN refused TEXT NOT NULL DEFAULT '';

DROP INDEX event_located;           -- with the types of events by which a run makes again what exists
CREATE INDEX event_located ON event (time) WHERE type = 'version.created' OR type = 'version.reused' OR type = 'version.restored' OR type = 'version.relocated';
