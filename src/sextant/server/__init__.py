"""The processes that stay up: supervisor, coordinator (API, live stream, accounts), telemetry
(intake, SQL)."""
