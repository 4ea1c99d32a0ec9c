"""How a command of this machine asks SQL questions: at the server that runs for the project, or at
a store opened for the question."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sextant.server.feed.telemetry_client import Ask, TelemetryClient
from sextant.server.processes.supervisor import running

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform


def asker(platform: "LocalPlatform") -> Ask:
    """Return what answers questions for a project."""
    there = running(platform.core.project.folder)
    if there is not None:
        client = TelemetryClient(there.ingest, there.sql, there.secret)

        def ask(sql: str, form: str, params: Mapping[str, str], role: str, person: str) -> bytes:
            client.send(
                "POST", "/internal/catch-up", url=there.api
            )  # what was acknowledged is seen
            return client.ask(sql, form, params, role, person)

        return ask
    from sextant.server.processes.alone import open_alone

    return open_alone(platform) or asker(platform)
