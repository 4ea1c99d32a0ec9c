"""uvicorn as the processes of a server run it."""

import contextlib
import os
from collections.abc import Iterator

import uvicorn

from sextant.http.connections import TimedProtocol
from sextant.http.request import App


def serving(app: App, address: str, *, keep_alive_s: int, connections_max: int) -> uvicorn.Config:
    """Return how an application is served at host:port, with timeouts and limits of connections."""
    host, _, port = address.rpartition(":")
    return uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=int(port),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=3,
        limit_concurrency=connections_max,
        server_header=False,
        http=TimedProtocol,
    )


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which would end the process before the rest of it
    has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def resident() -> int:
    """Return this process's resident memory in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
