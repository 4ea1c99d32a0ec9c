-- What changes about an incident beside its state, as the newest `incident.changed` says it (JSON); '' = it is as it was opened.
ALTER TABLE incident ADD COLUMN changed TEXT NOT NULL DEFAULT '';
