"""OTLP over gRPC: the same requests as over HTTP, taken by the same endpoint.

A message is asked for only once its sender is known, so an unknown caller makes nobody hold one;
and one token has only some of the turns, so it holds up nobody else. A connection without calls
ends. Source: OTLP specification 1.9, "OTLP/gRPC": UNAVAILABLE with RetryInfo for what may be sent
again; gRPC's "Status codes and their use".
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sextant.formats.telemetry.native import varint
from sextant.http.tokens import token_of
from sextant.kernel import limits
from sextant.kernel.errors import Busy, UsageError, WorldError
from sextant.server.ingest.endpoint import IngestEndpoint
from sextant.server.protocols.port import defect

_SERVICES = {
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "/v1/metrics",
    "opentelemetry.proto.collector.logs.v1.LogsService": "/v1/logs",
    "opentelemetry.proto.collector.trace.v1.TraceService": "/v1/traces",
}
# HTTP's status -> gRPC's code
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 8, 415: 3, 429: 14, 503: 14}
_INTERNAL = 13
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_METADATA_BYTES_MAX = 16 << 10


class GrpcServer:
    """The server. `address` is host:port."""

    def __init__(self, endpoint: IngestEndpoint, address: str) -> None:
        self._endpoint, self._address = endpoint, address
        self._server: Any = None
        self._turns = _Turns()

    async def start(self) -> None:
        """Listen. WorldError when the address cannot be used."""
        # what forks is not this process: handlers would only hold it up
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        import grpc

        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=limits.GRPC_AT_ONCE_MAX,
            options=[
                ("grpc.so_reuseport", 0),  # a second server at the same port would take half
                ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
                ("grpc.max_concurrent_streams", 100),
                ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
                ("grpc.max_allowed_incoming_connections", _connections_max()),
                ("grpc.server_handshake_timeout_ms", round(limits.REQUEST_HEAD_S * 1e3)),
                ("grpc.max_connection_idle_ms", round(limits.GRPC_IDLE_S * 1e3)),
                ("grpc.max_connection_age_ms", round(limits.GRPC_AGE_S * 1e3)),
                ("grpc.max_connection_age_grace_ms", round(limits.GRPC_AGE_GRACE_S * 1e3)),
            ],
        )
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service, {"Export": grpc.stream_unary_rpc_method_handler(self._export(path))}
                )
                for service, path in _SERVICES.items()
            )
        )
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            port = 0
        if not port:
            raise WorldError(
                "SX-UP-032",
                f"OTLP over gRPC cannot listen at {self._address}: another program does, or it is "
                "no address of this machine",
                hint='choose another `grpc` under [server], or "" for none',
            )
        await self._server.start()

    async def stop(self) -> None:
        """Answer what is being answered, and end."""
        if self._server is not None:
            await self._server.stop(limits.GRPC_GRACE_S)

    def _export(self, path: str) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
        async def export(messages: AsyncIterator[bytes], context: Any) -> bytes:
            headers = {
                name: value
                for name, value in context.invocation_metadata() or ()
                if isinstance(value, str)
            }
            read = _Read(messages, self._turns, token_of(headers))
            outcome = await self._endpoint.take(path, headers, context.peer(), read)
            error = outcome.error
            if error is None:
                return outcome.answer.body
            import grpc

            code = _CODES.get(outcome.answer.status, _INTERNAL)
            said = error.message + (f"; {error.hint}" if error.hint else "")
            if outcome.after_s:
                context.set_trailing_metadata(
                    (("grpc-status-details-bin", _details(code, said, round(outcome.after_s))),)
                )
            status = next(one for one in grpc.StatusCode if one.value[0] == code)
            await context.abort(status, said)
            raise defect()  # abort raises

        return export


class _Turns:
    """Which calls receive their message now: so many at once, and so many of one token."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(limits.GRPC_READING_MAX)
        self._of: dict[str, _OfToken] = {}  # of those who have calls

    @asynccontextmanager
    async def turn(self, token: str) -> AsyncIterator[None]:
        """Wait for a turn and keep it. Busy when none came in time."""
        own = self._of.setdefault(token, _OfToken())
        if own.calls >= limits.GRPC_CALLS_OF_ONE_MAX:
            raise _no_turn()
        own.calls += 1
        try:
            async with AsyncExitStack() as turns:
                try:
                    async with asyncio.timeout(limits.GRPC_TURN_S):
                        # its own first: who waits for that holds up nobody else
                        await turns.enter_async_context(own.turns)
                        await turns.enter_async_context(self._all)
                except TimeoutError:
                    raise _no_turn() from None
                yield
        finally:
            own.calls -= 1
            if not own.calls:
                del self._of[token]


class _OfToken:
    """The calls of one token that wait for a turn or have one."""

    def __init__(self) -> None:
        self.calls = 0
        self.turns = asyncio.Semaphore(limits.GRPC_READING_OF_ONE_MAX)


class _Read:
    """Reads the one message of a call, when it is its turn. The sender is known by then."""

    def __init__(self, messages: AsyncIterator[bytes], turns: _Turns, token: str) -> None:
        self._messages, self._turns, self._token = messages, turns, token

    async def __call__(self, take: Callable[[int], None]) -> bytes:
        """Return the message; `take` hears of its size. UsageError when it is not one, Busy when it
        did not arrive in time."""
        async with self._turns.turn(self._token):
            try:
                async with asyncio.timeout(limits.GRPC_MESSAGE_S):
                    message = await anext(self._messages)
                    take(len(message))
                    # the answer is for one: another would be lost behind it
                    another = await anext(self._messages, None)
            except StopAsyncIteration:
                raise UsageError(
                    "SX-INTAKE-067",
                    "the call brought no message",
                    hint="send one Export...ServiceRequest in each call",
                ) from None
            except TimeoutError:
                raise Busy(
                    "SX-INTAKE-071",
                    f"the message did not arrive within {limits.GRPC_MESSAGE_S:.0f} s",
                    hint="send smaller batches, and end the call after the message; nothing was "
                    "taken",
                    retry_after_s=limits.RETRY_AFTER_S,
                ) from None
        if another is not None:
            raise UsageError(
                "SX-INTAKE-072",
                "the call brought more than one message; nothing was taken",
                hint="send one Export...ServiceRequest in each call",
            )
        return message


def _connections_max() -> int:
    """Return how many connections may be open: files must be left for HTTP and the store."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return limits.GRPC_CONNECTIONS_MAX
    return min(limits.GRPC_CONNECTIONS_MAX, files // 2)


def _no_turn() -> Busy:
    return Busy(
        "SX-INTAKE-070",
        "too many messages of this token, or of all, are being received at once",
        hint="send again later; nothing was taken",
        retry_after_s=limits.RETRY_AFTER_S,
    )


def _details(code: int, message: str, after_s: int) -> bytes:
    """Return a google.rpc.Status{code = 1, message = 2, details = 3} with a
    RetryInfo{retry_delay = 1}."""
    retry = _field(1, b"\x08" + varint(after_s))  # Duration{seconds = 1}
    return (
        b"\x08"
        + varint(code)
        + _field(2, message.encode())
        + _field(3, _field(1, _RETRY_INFO) + _field(2, retry))
    )


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data
