"""Stands in for the telemetry process where the extra `telemetry` is not installed: a client that
raises the error, and two ports that answer each request with it. Used by the coordinator."""

import asyncio
from collections.abc import Sequence
from email.message import Message
from typing import Any

import msgspec
import uvicorn

from sextant.kernel import extras
from sextant.kernel.limits import BODY_BYTES_MAX
from sextant.server.client import TelemetryClient
from sextant.server.serving import Server
from sextant.server.slow import TimedProtocol

_LOOK_S = 0.005


class NoTelemetry(TelemetryClient):
    """A client that raises MissingExtra for each request."""

    def __init__(self) -> None:
        super().__init__("", "", "")

    def _exchange(self, *_: Any) -> tuple[bytes, Message]:
        raise extras.missing_error("telemetry")


class ClosedPorts:
    """Listens where telemetry and SQL would be, and answers each request with 503 and a problem
    document: a sender that only saw a closed port would not know why.

    addresses  host:port of each
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._servers = [_server(address) for address in addresses]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen; return when all ports are open, or one cannot be."""
        self._tasks = [asyncio.create_task(server.serve()) for server in self._servers]
        while not all(server.started for server in self._servers):
            await asyncio.sleep(_LOOK_S)
            if any(task.done() for task in self._tasks):
                return

    async def stop(self) -> None:
        """Close the ports."""
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _server(address: str) -> Server:
    host, _, port = address.rpartition(":")
    return Server(
        uvicorn.Config(
            _answer,
            host=host.strip("[]"),
            port=int(port),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            limit_concurrency=100,
            server_header=False,
            http=TimedProtocol,
        )
    )


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of any path with the problem document, after its body: many senders read no
    answer before they have sent all."""
    if scope["type"] != "http":
        return
    size = 0
    while size <= BODY_BYTES_MAX:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    error = extras.missing_error("telemetry")
    body = msgspec.json.encode(error.problem())
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
