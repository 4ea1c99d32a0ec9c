"""Lines and spans sent to a real telemetry process, and a platform that asks it: what the tests of
looking into telemetry stand on."""

import json
import time
from typing import Any

from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform


def ask_process(platform: LocalPlatform, process: Telemetry) -> Operations:
    """Let a platform ask this process, as the coordinator does; return its operations."""
    platform.asker = process.client.ask
    return Operations(platform)


class Sender:
    """Sends what a test needs, in JSON of OTLP."""

    def __init__(self, process: Telemetry, token: str) -> None:
        self._process, self._token = process, token
        self.now = time.time_ns()

    def logs(self, service: str, *lines: dict[str, Any]) -> None:
        """Send lines: `body`, and what a log record of OTLP has beside it; `at`: ns before now."""
        records = []
        for n, one in enumerate(lines):
            record = {**one, "body": {"stringValue": one["body"]}}
            at = self.now - int(record.pop("at", 60 * 10**9)) + n
            attributes = record.pop("attributes", {})
            records.append({"timeUnixNano": str(at), "attributes": pairs(attributes), **record})
        self.post(
            "/v1/logs",
            {"resourceLogs": [resource(service, {"scopeLogs": [{"logRecords": records}]})]},
        )

    def spans(self, service: str, *spans: dict[str, Any], **more: str) -> None:
        self.post(
            "/v1/traces",
            {"resourceSpans": [resource(service, {"scopeSpans": [{"spans": spans}]}, **more)]},
        )

    def metrics(self, service: str, *metrics: dict[str, Any]) -> None:
        self.post(
            "/v1/metrics",
            {"resourceMetrics": [resource(service, {"scopeMetrics": [{"metrics": metrics}]})]},
        )

    def post(self, path: str, body: dict[str, Any]) -> None:
        answer = self._process.post(
            path, json.dumps(body).encode(), token=self._token, content_type="application/json"
        )
        assert answer.status == 200, answer
        assert "partialSuccess" not in answer.json, answer


def resource(service: str, more: dict[str, Any], **attributes: str) -> dict[str, Any]:
    return {"resource": {"attributes": pairs({"service.name": service, **attributes})}, **more}


def pairs(attributes: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]


def operations(coordinator: Serving, process: Telemetry) -> Operations:
    return ask_process(coordinator.platform, process)
