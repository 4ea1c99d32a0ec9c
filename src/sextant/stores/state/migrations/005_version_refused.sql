-- Why the checks refused a version when it was last made, as a JSON list; '' = they passed. The rest of a version's record is that of the run that first made it.
ALTER TABLE version ADD COLUMN refused TEXT NOT NULL DEFAULT '';
