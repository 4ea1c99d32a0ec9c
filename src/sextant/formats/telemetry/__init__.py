"""The formats that telemetry comes in, and the columns that they become."""
