"""A WSGI service, as its authors would write it: nothing in it knows Sextant. Served by gunicorn
under `opentelemetry-instrument`, or with a resource of its own that names no process.
"""

import os
import time
from typing import Any

from opentelemetry import metrics
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

if os.environ.get("APP_RESOURCE"):
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    metrics.set_meter_provider(
        MeterProvider(
            resource=Resource({"service.name": os.environ["APP_RESOURCE"]}),
            metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())],
        )
    )


def _serve(environ: Any, start_response: Any) -> list[bytes]:
    time.sleep(0.002)  # its work: while one worker is busy, another one accepts
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


app = OpenTelemetryMiddleware(_serve)
