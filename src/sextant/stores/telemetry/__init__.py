"""The telemetry store: samples, logs, spans and events in ClickHouse's SQL, inside this process or
over HTTP."""
