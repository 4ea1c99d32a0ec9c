"""Log lines as JSON objects, and CloudEvents 1.0."""

from collections.abc import Mapping

from sextant.formats.telemetry import cloudevents, jsonlines
from sextant.formats.telemetry.batch import Budget
from sextant.http.answers import Answer
from sextant.kernel.errors import SextantError, UsageError
from sextant.server.protocols.port import (
    Identify,
    Incoming,
    Parsed,
    content_encoding,
    counted,
    problem,
)

_SMALL = 16 << 10


class JsonLines:
    """POST /v1/jsonlines?asset=KIND:NAME. A sender that repeats what was not answered names its
    batch, by `Idempotency-Key` or `batch=NAME`."""

    name = "jsonlines"
    paths: tuple[str, ...] = ("/v1/jsonlines",)
    types: tuple[str, ...] = (
        "application/x-ndjson",
        "application/jsonl",
        "application/json",
        "text/plain",
    )

    identify: Identify = None

    def encoding(self, headers: Mapping[str, str]) -> str:
        return content_encoding(headers)

    def is_small(self, incoming: Incoming) -> bool:
        return len(incoming.body) <= _SMALL

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:  # noqa: ARG002
        asset = incoming.query.get("asset", "")
        if ":" not in asset:
            raise UsageError(
                "SX-INTAKE-031",
                "the lines do not say who wrote them",
                hint="/v1/jsonlines?asset=service:NAME",
            )
        batch = jsonlines.decode(
            incoming.body,
            asset=asset,
            owner=incoming.owner,
            now_ns=incoming.now_ns,
            oldest_ns=incoming.oldest_ns["logs"],
            budget=budget,
        )
        named = incoming.headers.get("idempotency-key") or incoming.query.get("batch")
        batch.timed = batch.timed or bool(named)
        return Parsed(batch)

    def accepted(
        self,
        incoming: Incoming,  # noqa: ARG002
        count: int,
        refused: Mapping[str, int],
        *,
        first: str = "",
    ) -> Answer:
        return counted(count, refused, first)

    def rejected(self, content_type: str, status: int, error: SextantError) -> Answer:  # noqa: ARG002
        return problem(status, error)


class CloudEvents:
    """POST /v1/events."""

    name = "cloudevents"
    paths: tuple[str, ...] = ("/v1/events",)
    types: tuple[str, ...] = ()  # in binary mode the type is that of the data

    identify: Identify = None

    def encoding(self, headers: Mapping[str, str]) -> str:
        return content_encoding(headers)

    def is_small(self, incoming: Incoming) -> bool:
        return len(incoming.body) <= _SMALL

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:  # noqa: ARG002
        return Parsed(
            cloudevents.decode(
                incoming.body,
                incoming.content_type,
                incoming.headers,
                owner=incoming.owner,
                now_ns=incoming.now_ns,
                oldest_ns=incoming.oldest_ns["events"],
                budget=budget,
            )
        )

    def accepted(
        self,
        incoming: Incoming,  # noqa: ARG002
        count: int,
        refused: Mapping[str, int],
        *,
        first: str = "",
    ) -> Answer:
        return counted(count, refused, first)

    def rejected(self, content_type: str, status: int, error: SextantError) -> Answer:  # noqa: ARG002
        return problem(status, error)
