"""The ingest endpoint: takes telemetry, unpacks and decodes it."""
