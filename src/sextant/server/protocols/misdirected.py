"""Hints for requests that came to the wrong port or path: which one takes them. Called by the
ingest endpoint, the SQL endpoint and the API, and for gRPC by the servers' HTTP protocol.

Somebody reads this at three in the morning, in the log of an exporter.
"""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from sextant.http.http2 import SPEAKS_HTTP_1

INGEST_PATHS = (
    "/v1/metrics",
    "/v1/logs",
    "/v1/traces",
    "/api/v1/write",
    "/v1/exposition",
    "/v1/jsonlines",
    "/v1/events",
)
_OTLP = "OTLP goes to {path} as protobuf or JSON"
_LINES = "send logs as OTLP to /v1/logs, or as JSON lines to /v1/jsonlines"
_SPANS = "send spans as OTLP to /v1/traces; a collector's receiver translates what it receives"
_SAMPLES = "send samples by remote write to /api/v1/write, or as OTLP to /v1/metrics"
_KNOWN = (
    # of telemetry: path -> what takes its place
    (r"/(?:v1/)?traces?/?(?:v1/traces/?)?", _OTLP.format(path="/v1/traces")),
    (r"/v1/(?:traces|metrics|logs)/v1/traces/?", _OTLP.format(path="/v1/traces")),
    (r"/v1/(?:traces|metrics|logs)/v1/metrics/?", _OTLP.format(path="/v1/metrics")),
    (r"/v1/(?:traces|metrics|logs)/v1/logs/?", _OTLP.format(path="/v1/logs")),
    (r"/v1/metrics?/?", _OTLP.format(path="/v1/metrics")),
    (r"/v1/logs?/?", _OTLP.format(path="/v1/logs")),
    (r"/opentelemetry\.proto\.collector\..*", SPEAKS_HTTP_1),
    (r"/loki/.*|/_bulk|/services/collector.*|/api/v2/logs", _LINES),
    (r"/api/v[12]/spans|/api/traces|/v0\.[0-9]/traces", _SPANS),
    (r"/api/v2/write|/write|/api/v1/prom/write|/api/v[12]/series|/api/v1/push|/receive", _SAMPLES),
)
_TELEMETRY = tuple((re.compile(pattern), says) for pattern, says in _KNOWN)
_PROMETHEUS = re.compile(r"/api/v1/(?:query|query_range|labels|series|label/.*)")


class Ports(NamedTuple):
    """Where else this server can be asked; "" = not known."""

    api: str = ""
    ingest: str = ""
    sql: str = ""


NOT_KNOWN = Ports()


def ingest_hint(path: str, ports: Ports, paths: Iterable[str]) -> str:
    """Return what somebody needs to know who asked the ingest endpoint for something else.

    paths  those that it takes
    """
    told = _telemetry(path)
    if told:
        return told
    if _PROMETHEUS.fullmatch(path):
        return f"questions are asked in SQL, at {_at(ports.sql, 'sql')}"
    if path.startswith("/api/"):
        return f"this port takes telemetry; the API is at {_at(ports.api, 'api')}"
    near = difflib.get_close_matches(path, list(paths), n=1, cutoff=0.75)
    if near:
        return f"did you mean {near[0]}?"
    return (
        f"this port takes telemetry at {', '.join(paths)}; the API is at {_at(ports.api, 'api')}, "
        f"SQL at {_at(ports.sql, 'sql')}"
    )


def misplaced(path: str, ports: Ports) -> str:
    """Return where telemetry goes, for somebody who sent it to the API or to SQL; "" for a path
    that no sender of telemetry uses."""
    told = path if path in INGEST_PATHS else _telemetry(path)
    if not told:
        return ""
    what = "" if path in INGEST_PATHS else f"; {told}"
    return f"telemetry goes to the ingest address, {_at(ports.ingest, 'ingest')}{what}"


def _telemetry(path: str) -> str:
    return next((says for pattern, says in _TELEMETRY if pattern.fullmatch(path)), "")


def _at(address: str, name: str) -> str:
    """Name an address by its port: the host of a request from elsewhere is not the one here."""
    port = urlsplit(address).port if address else None
    return f"port {port}" if port else f"the address that `sextant up` names `{name}`"
