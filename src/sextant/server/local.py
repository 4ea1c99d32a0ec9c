"""How a command of this machine asks SQL questions: at the server that runs for the project, or at
a store opened for the question."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sextant.server.client import TelemetryClient
from sextant.server.supervisor import running

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform


def asker(platform: "LocalPlatform") -> Callable[[str, str, Mapping[str, str], str], bytes]:
    """Return what answers (sql, format, parameters, role) for a project."""
    there = running(platform.folder)
    if there is not None:
        client = TelemetryClient(there.ingest, there.sql, there.secret)

        def ask(sql: str, form: str, params: Mapping[str, str], role: str) -> bytes:
            client.send(
                "POST", "/internal/catch-up", door=there.api
            )  # what was acknowledged is seen
            return client.ask(sql, form, params, role)

        return ask
    from sextant.server.alone import open_alone

    return open_alone(platform)
