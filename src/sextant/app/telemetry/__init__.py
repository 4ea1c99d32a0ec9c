"""What people look up in telemetry, as operations: `logs.py` searches lines, `traces.py` lists and
shows traces, `metrics.py` lists and shows metrics. All SQL of these stands there."""
