"""The protocols of the ingest endpoint: one module for each family, behind the port `Protocol`. The
endpoint does what all of them share."""
