"""The protocols of the ingest door: one module for each, behind the port `Protocol`. The door does
what all of them share."""
