"""Decoders of the formats that telemetry comes in, and the columns that they produce."""
