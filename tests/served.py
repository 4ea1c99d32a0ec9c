"""A real HTTP server in a thread: what the tests of the API and of its clients stand on."""

from sextant.kernel.nouns import SYSTEM
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from sextant.app.platform import LocalPlatform
from sextant.server.api.endpoint import ApiEndpoint
from sextant.http.refusals import Refusals
from sextant.http.connections import TimedProtocol

INTERNAL = "between-our-processes"


class Serving:
    """Where it can be asked, and what it refused."""

    def __init__(
        self, url: str, platform: LocalPlatform, refusals: Refusals, api: ApiEndpoint
    ) -> None:
        self.url, self.platform, self.refusals, self.api = url, platform, refusals, api

    def token(self, role: str = "admin", **more: Any) -> str:
        """Return the secret of a new token."""
        return self.platform.access.create_token(
            more.pop("name", role), by=SYSTEM, role=role, **more
        )["secret"]


@contextmanager
def serve(platform: LocalPlatform, *, port: int = 0, **more: Any) -> Iterator[Serving]:
    """Serve a platform's API. port 0 = a free one."""
    refusals = Refusals()
    app = ApiEndpoint(
        platform,
        health=lambda: {"ok": True},
        metrics=lambda: b"",
        hosts=("127.0.0.1", "localhost"),
        internal=INTERNAL,
        refusals=refusals,
        **more,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            http=TimedProtocol,
        )
    )
    started = threading.Event()
    original = server.startup

    async def startup(sockets: Any = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(30), "the server does not start"
    bound = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Serving(f"http://127.0.0.1:{bound}", platform, refusals, app)
    finally:
        server.should_exit = True
        thread.join(30)
