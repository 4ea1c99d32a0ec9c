"""Prometheus: remote write 1.0, and exposition text (text format 0.0.4, OpenMetrics) that somebody
has fetched.

Source: Prometheus remote write specification 1.0: 204 when durable, 400 for what must not be sent
again, 429 and 5xx for what may be.
"""

from collections.abc import Mapping

from sextant.formats.telemetry import exemplars, exposition, remote_write
from sextant.formats.telemetry.batch import Budget, lost
from sextant.http.answers import Answer
from sextant.kernel import limits
from sextant.kernel.errors import SextantError, UsageError
from sextant.server.protocols.port import (
    Identify,
    Incoming,
    Labels,
    Parsed,
    content_encoding,
    counted,
    problem,
)

_MESSAGE = "prometheus.WriteRequest"  # of remote write 1.0
_TIME_DIGITS_MAX = 18  # of milliseconds since 1970 in 64 bits
_SMALL_COLUMNS = 512 << 10  # cut out by C: a request of 2,000 samples takes a millisecond
_SMALL_TEXT = 32 << 10


class RemoteWrite:
    """POST /api/v1/write."""

    name = "remote_write"
    paths: tuple[str, ...] = ("/api/v1/write",)
    types: tuple[str, ...] = ("application/x-protobuf",)
    identify: Identify = staticmethod(remote_write.identify)

    def encoding(self, headers: Mapping[str, str]) -> str:
        # Remote-Write 2.0 specification: a receiver answers 415 to a message that it does not know
        proto = _parameter(headers.get("content-type", ""), "proto")
        if proto not in ("", _MESSAGE):
            raise UsageError(
                "SX-INTAKE-069",
                f"`{proto[:80]}` is not taken: only remote write 1.0 is",
                hint=f"in Prometheus, `protobuf_message: {_MESSAGE}` of remote_write",
                status=415,
            )
        # as Prometheus: old senders of 1.0 do not say how they pack
        packed = content_encoding(headers) if headers.get("content-encoding") else "snappy"
        if packed != "snappy":
            raise UsageError(
                "SX-INTAKE-054",
                f"`{packed[:40]}` is no content encoding of remote write",
                hint="snappy, in its block format",
                status=415,
            )
        return packed

    def is_small(self, incoming: Incoming) -> bool:
        return len(incoming.body) <= _SMALL_COLUMNS

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:
        read = remote_write.decode_whole if again else remote_write.decode
        kinds: remote_write.Kinds = {}
        batch = read(incoming.body, budget, kinds)
        exemplars.keep(batch, remote_write.identify, _window(incoming), budget)
        return Parsed(batch, kinds=kinds)

    def accepted(
        self,
        incoming: Incoming,  # noqa: ARG002
        count: int,
        refused: Mapping[str, int],
        *,
        first: str = "",  # noqa: ARG002
    ) -> Answer:
        reasons = lost(refused)
        if not reasons:
            return Answer(204)
        return Answer(
            400,
            (
                f"{count} samples were taken, "
                f"{', '.join(f'{number} not: {reason}' for reason, number in reasons.items())}\n"
            ).encode(),
            "text/plain",
        )

    def rejected(self, content_type: str, status: int, error: SextantError) -> Answer:  # noqa: ARG002
        return Answer(status, f"{error.message}; {error.hint}\n".encode(), "text/plain")


class Exposition:
    """POST /v1/exposition?job=...&instance=...&asset=...&at=MS; with `stale=1` its series have
    ended."""

    name = "exposition"
    paths: tuple[str, ...] = ("/v1/exposition",)
    types: tuple[str, ...] = ("text/plain", "application/openmetrics-text")
    identify: Identify = staticmethod(exposition.identify)

    def encoding(self, headers: Mapping[str, str]) -> str:
        return content_encoding(headers)

    def is_small(self, incoming: Incoming) -> bool:
        return len(incoming.body) <= _SMALL_TEXT

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:  # noqa: ARG002
        at = incoming.query.get("at", "")
        if at and not (at.isascii() and at.isdigit() and len(at) <= _TIME_DIGITS_MAX):
            raise UsageError(
                "SX-INTAKE-060", f"`at={at[:40]}` is no time", hint="milliseconds since 1970"
            )
        if not incoming.query.get("job"):
            raise UsageError(
                "SX-INTAKE-061",
                "the exposition has no `job`",
                hint="/v1/exposition?job=NAME&instance=HOST:PORT",
            )
        open_metrics = incoming.content_type == "application/openmetrics-text"
        batch, kinds = exposition.decode(
            incoming.body,
            at_ms=int(at) if at else incoming.now_ns // 1_000_000,
            openmetrics=open_metrics,
            stale=incoming.query.get("stale") == "1",
            budget=budget,
        )
        if not at:
            batch.timed = False
        more: Labels = tuple(
            (name.encode(), incoming.query[name].encode())
            for name in ("asset", "instance", "job")
            if incoming.query.get(name)
        )
        if any(len(value) > limits.LABEL_VALUE_BYTES_MAX for _, value in more):
            raise UsageError(
                "SX-INTAKE-066",
                "`job`, `instance` or `asset` of the exposition is too long",
                hint=f"{limits.LABEL_VALUE_BYTES_MAX:,} bytes at most",
            )
        # they stand in the row of each series
        count = sum(len(samples.keys) for samples in batch.samples)
        budget.row_bytes(count * sum(len(value) for _, value in more))
        exemplars.keep(batch, exposition.identify, _window(incoming), budget, more)
        return Parsed(batch, more, kinds)

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


def _window(incoming: Incoming) -> exemplars.Window:
    return exemplars.Window(incoming.owner, incoming.now_ns, incoming.oldest_ns["spans"])


def _parameter(content_type: str, name: str) -> str:
    """Return a parameter of a content type, "" when it has none of that name."""
    for part in content_type.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return ""
