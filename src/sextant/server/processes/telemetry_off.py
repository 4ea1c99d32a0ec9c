"""Stands in for the telemetry process where the extra `telemetry` is not installed: a client that
raises the error, and two ports that answer each request with it. Used by the coordinator."""

import asyncio
import contextlib
from collections.abc import Sequence
from email.message import Message
from typing import Any

from sextant.http.answers import Answer
from sextant.http.application import Application
from sextant.http.request import Request
from sextant.http.server import Server, serving
from sextant.kernel import extras
from sextant.kernel.errors import SextantError
from sextant.kernel.limits import BODY_BYTES_MAX
from sextant.server.feed.telemetry_client import TelemetryClient
from sextant.server.protocols.port import defect

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
        app = Application((), admit=_drain, missing=_missing, foreign=lambda _: defect())
        self._servers = [
            Server(serving(app, address, keep_alive_s=5, connections_max=100))
            for address in addresses
        ]
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


async def _drain(request: Request) -> None:
    """Read the body first: many senders read no answer before they have sent all."""
    with contextlib.suppress(SextantError):
        await request.body(BODY_BYTES_MAX, lambda: extras.missing_error("telemetry"))


def _missing(_request: Request) -> Answer:
    raise extras.missing_error("telemetry")
