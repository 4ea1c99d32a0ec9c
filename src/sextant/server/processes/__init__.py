"""The processes of a server: supervisor, coordinator, telemetry; and SQL for a single command."""
