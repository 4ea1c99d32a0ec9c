"""OTLP over HTTP: metrics, logs, traces. Source: OTLP specification 1.9, "OTLP/HTTP"."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sextant.formats.telemetry import exemplars, otlp, otlp_bodies, otlp_logs, otlp_metrics
from sextant.formats.telemetry.batch import Batch, Budget, lost, noticed
from sextant.http.answers import Answer
from sextant.kernel.errors import SextantError
from sextant.server.protocols.port import Identify, Incoming, Parsed, content_encoding

_JSON, PROTOBUF = "application/json", "application/x-protobuf"
_NAMES = {
    "metrics": ("rejectedDataPoints", "rejected_data_points"),
    "logs": ("rejectedLogRecords", "rejected_log_records"),
    "traces": ("rejectedSpans", "rejected_spans"),
}
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 415: 3, 429: 8, 503: 14}  # google.rpc.Code
_SMALL, _SMALL_LOGS = 8 << 10, 32 << 10
_SMALL_MESSAGES = 200


class Otlp:
    """The three signals."""

    name = "otlp"
    paths: tuple[str, ...] = ("/v1/metrics", "/v1/logs", "/v1/traces")
    types: tuple[str, ...] = (PROTOBUF, _JSON)
    identify: Identify = staticmethod(otlp_metrics.identify)

    def encoding(self, headers: Mapping[str, str]) -> str:
        return content_encoding(headers)

    def is_small(self, incoming: Incoming) -> bool:
        if incoming.content_type == _JSON:  # protobuf's JSON is read by Python: 10 us a message
            return len(incoming.body) <= _SMALL and incoming.body.count(b"{") <= _SMALL_MESSAGES
        return len(incoming.body) <= (_SMALL_LOGS if incoming.path == "/v1/logs" else _SMALL)

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:  # noqa: ARG002 - keys are of our own making
        signal = incoming.path.rpartition("/")[2]
        is_json = incoming.content_type == _JSON
        if signal == "logs" and not is_json:
            return Parsed(_logs(incoming, incoming.body, budget))
        body = otlp_bodies.read(signal, incoming.body, json=is_json, budget=budget)
        if signal == "logs":
            batch = _logs(incoming, body.request.SerializeToString(), budget)
        elif signal == "metrics":
            batch = otlp_metrics.metrics(body.request, budget)
            window = exemplars.Window(incoming.owner, incoming.now_ns, incoming.oldest_ns["spans"])
            exemplars.of_otlp(body.request, batch, window, budget)
        else:
            batch = otlp.traces(
                body.request,
                owner=incoming.owner,
                now_ns=incoming.now_ns,
                oldest_ns=incoming.oldest_ns["spans"],
                budget=budget,
            )
        return Parsed(body.tell(batch))

    def accepted(
        self,
        incoming: Incoming,
        count: int,  # noqa: ARG002
        refused: Mapping[str, int],
        *,
        first: str = "",
    ) -> Answer:
        signal = incoming.path.rpartition("/")[2]
        rejected = sum(lost(refused).values())
        # with nothing rejected the message is a warning, as the specification has it
        parts = [f"{number} {reason}" for reason, number in lost(refused).items()]
        parts += [f"{number} kept: {reason}" for reason, number in noticed(refused).items()]
        message = ", ".join(parts) + (f"; {first}" if first else "")
        if incoming.content_type == _JSON:
            partly: dict[str, Any] = (
                {
                    "partialSuccess": {
                        _NAMES[signal][0]: str(rejected),
                        "errorMessage": message,
                    }
                }
                if message
                else {}
            )
            return Answer(200, msgspec.json.encode(partly), _JSON)
        if not message:
            return Answer(200, b"", PROTOBUF)
        said = message.encode()
        partial = (
            b"\x08" + _varint(rejected) + b"\x12" + _varint(len(said)) + said
        )  # Export*PartialSuccess{rejected = 1, error_message = 2}
        return Answer(200, b"\x0a" + _varint(len(partial)) + partial, PROTOBUF)

    def rejected(self, content_type: str, status: int, error: SextantError) -> Answer:
        message = error.message + (f"; {error.hint}" if error.hint else "")
        code = _CODES.get(status, 13)
        if content_type == _JSON:
            return Answer(status, msgspec.json.encode({"code": code, "message": message}), _JSON)
        text = message.encode()
        return Answer(
            status, b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text, PROTOBUF
        )  # google.rpc.Status{code = 1, message = 2}


def _logs(incoming: Incoming, body: bytes, budget: Budget) -> Batch:
    return otlp_logs.logs(
        body,
        owner=incoming.owner,
        now_ns=incoming.now_ns,
        oldest_ns=incoming.oldest_ns["logs"],
        budget=budget,
    )


def _varint(number: int) -> bytes:
    from sextant.formats.telemetry.native import varint

    return varint(number)
