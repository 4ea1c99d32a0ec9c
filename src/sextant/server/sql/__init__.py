"""The read-only SQL endpoint: ClickHouse's HTTP interface over the telemetry store, for people and
BI tools. Runs in the telemetry process."""
