-- The newest `signal.repeated` of a signal (JSON); '' = its condition was not met again.
ALTER TABLE signal ADD COLUMN repeated TEXT NOT NULL DEFAULT '';
