"""What flows between the ledger and telemetry: tables, observed assets, metrics, scrapes."""
