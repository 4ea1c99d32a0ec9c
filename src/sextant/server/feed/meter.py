"""What Sextant tells of itself, as OpenTelemetry: traces and logs of runs, and its own health as
metrics. Pure: facts to OTLP JSON, or to text that is scraped.

Source: OpenTelemetry semantic conventions for CI/CD (`cicd.pipeline.*`), OTLP 1.9 (JSON encoding).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sextant.engine.history import Record
from sextant.kernel.clock import NS
from sextant.ledger.projections import RunChanged

# (name, unit) -> points of (attributes, value)
Measured = dict[tuple[str, str], list[tuple[dict[str, str], float]]]
# units of UCUM -> the end of a name by Prometheus's rules; what counts things has none
_ENDINGS = {"By": "_bytes", "s": "_seconds"}
_RESULTS = {
    "finished": "success",
    "refused": "failure",
    "failed": "error",
    "cancelled": "cancellation",
}
_UNNAMED = re.compile(r"[^a-zA-Z0-9_:]")
_KIND_SERVER, _KIND_INTERNAL = 2, 1
_STATUS_OK, _STATUS_ERROR = 1, 2


def run_trace(run: RunChanged, records: Sequence[Record]) -> bytes:
    """Return the trace of a finished run: one span for the run, one below it for each attempt of a
    step."""
    trace, root = trace_of(run.id), _span_of(run.id, "")
    spans = [
        {
            "traceId": trace,
            "spanId": root,
            "name": f"RUN {run.trigger or 'manual'}",
            "kind": _KIND_SERVER,
            "startTimeUnixNano": str(run.started_at),
            "endTimeUnixNano": str(max(run.finished_at, run.started_at)),
            "status": _status(run.state == "finished", run.error),
            "attributes": _attributes(
                {
                    "cicd.pipeline.name": ",".join(run.assets[:10]) or "all",
                    "cicd.pipeline.run.id": run.id,
                    "cicd.pipeline.result": _RESULTS.get(run.state, "error"),
                    "cicd.pipeline.action.name": "RUN",
                    "deployment.environment.name": run.env,
                    "sextant.run.by": run.by,
                    "sextant.run.computed": run.computed,
                    "sextant.run.reused": run.reused,
                }
            ),
        }
    ]
    for one in records:
        if one.kind != "end":
            continue
        begun = one.started_at or one.at - int(one.resources.wall_s * NS)
        spans.append(
            {
                "traceId": trace,
                "spanId": _span_of(run.id, f"{one.step}#{one.attempt}"),
                "parentSpanId": root,
                "name": one.step,
                "kind": _KIND_INTERNAL,
                "startTimeUnixNano": str(begun),
                "endTimeUnixNano": str(max(one.at, begun)),
                "status": _status(one.ok, one.error),
                "attributes": _attributes(
                    {
                        "cicd.pipeline.task.name": one.step,
                        "cicd.pipeline.task.run.id": f"{run.id}/{one.step}#{one.attempt}",
                        "cicd.pipeline.task.type": "build",
                        "cicd.pipeline.task.run.result": "success" if one.ok else "failure",
                        "sextant.asset": one.asset,
                        "sextant.owner": one.owner,
                        "sextant.rows": one.rows,
                        "process.cpu.time": one.resources.cpu_s,
                        "sextant.memory.peak": one.resources.memory_bytes_peak,
                        **({"error.type": one.error_code} if one.error_code else {}),
                    }
                ),
            }
        )
    return _request("resourceSpans", "scopeSpans", "spans", spans)


def step_logs(run: RunChanged, printed: Sequence[tuple[Record, str]]) -> bytes:
    """Return what the steps of a run printed, a record for each line, tied to the run's trace."""
    trace = trace_of(run.id)
    records = [
        {
            "timeUnixNano": str(one.at + n),
            "observedTimeUnixNano": str(one.at),
            "severityNumber": 9 if one.ok else 17,
            "severityText": "INFO" if one.ok else "ERROR",
            "body": {"stringValue": line},
            "traceId": trace,
            "spanId": _span_of(run.id, f"{one.step}#{one.attempt}"),
            "attributes": _attributes(
                {
                    "cicd.pipeline.run.id": run.id,
                    "cicd.pipeline.task.name": one.step,
                    "sextant.asset": one.asset,
                    "sextant.owner": one.owner,
                }
            ),
        }
        for one, text in printed
        for n, line in enumerate(text.splitlines())
        if line.strip()
    ]
    return _request("resourceLogs", "scopeLogs", "logRecords", records)


def metrics(
    now: int,
    gauges: Measured,
    counters: Measured,
    since: int,
) -> bytes:
    """Return metrics as OTLP. `since`: when the counters began (ns)."""
    out: list[dict[str, Any]] = []
    for (name, unit), points in gauges.items():
        out.append(
            {
                "name": name,
                "unit": unit,
                "gauge": {
                    "dataPoints": [
                        {
                            "timeUnixNano": str(now),
                            "asDouble": value,
                            "attributes": _attributes(labels),
                        }
                        for labels, value in points
                    ]
                },
            }
        )
    for (name, unit), points in counters.items():
        data = [
            {
                "timeUnixNano": str(now),
                "startTimeUnixNano": str(since),
                "asDouble": value,
                "attributes": _attributes(labels),
            }
            for labels, value in points
        ]
        out.append(
            {
                "name": name,
                "unit": unit,
                "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": data},
            }
        )
    return _request("resourceMetrics", "scopeMetrics", "metrics", out)


def exposition(gauges: Measured, counters: Measured) -> bytes:
    """Return metrics as text, with names as Prometheus has them. Source: Prometheus's exposition
    format 0.0.4; OpenTelemetry's "Prometheus and OpenMetrics compatibility"."""
    lines = []
    for kind, found in (("gauge", gauges), ("counter", counters)):
        for (name, unit), points in found.items():
            shown = _UNNAMED.sub("_", name) + _ENDINGS.get(unit, "")
            shown += "_total" if kind == "counter" else ""
            lines.append(f"# TYPE {shown} {kind}")
            for labels, value in points:
                inside = ",".join(
                    f'{_UNNAMED.sub("_", label)}="{_quoted(text)}"'
                    for label, text in labels.items()
                )
                lines.append(f"{shown}{{{inside}}} {value!r}" if inside else f"{shown} {value!r}")
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def trace_of(run: str) -> str:
    """Return the trace id of a run, 32 hex digits."""
    return hashlib.sha256(f"trace {run}".encode()).hexdigest()[:32]


def _span_of(run: str, step: str) -> str:
    return hashlib.sha256(f"span {run} {step}".encode()).hexdigest()[:16]


def _status(ok: bool, message: str) -> dict[str, Any]:
    return {"code": _STATUS_OK} if ok else {"code": _STATUS_ERROR, "message": message[:1000]}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    out = []
    for key, value in values.items():
        word = (
            "boolValue"
            if isinstance(value, bool)
            else "intValue"
            if isinstance(value, int)
            else "doubleValue"
            if isinstance(value, float)
            else "stringValue"
        )
        out.append({"key": key, "value": {word: str(value) if word == "intValue" else value}})
    return out


def _request(resources: str, scopes: str, items: str, what: Sequence[dict[str, Any]]) -> bytes:
    resource = {
        "attributes": _attributes({"service.name": "sextant", "service.namespace": "sextant"})
    }
    return msgspec.json.encode(
        {
            resources: [
                {"resource": resource, scopes: [{"scope": {"name": "sextant"}, items: list(what)}]}
            ]
        }
    )
