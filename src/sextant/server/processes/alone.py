"""SQL without a server: a telemetry process for as long as a command asks, fed first, with the same
catalogue and the same guard."""

import os
import re
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sextant.project.config import telemetry_missing
from sextant.server.feed import meter
from sextant.server.feed.feed import Feed
from sextant.server.feed.live import live_tables
from sextant.server.feed.telemetry_client import Ask, TelemetryClient
from sextant.server.processes.hold import hold_store
from sextant.server.processes.supervisor import (
    Child,
    claim,
    running,
    telemetry_start,
    working_environment,
)

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_STOP_S = 10.0
# What a query says that names a KPI, or lists what there is.
_MAY_SEE_KPIS = re.compile(r"kpi|show|desc|exists|system|schema", re.IGNORECASE)


def open_alone(platform: "LocalPlatform") -> Ask | None:
    """Start a telemetry process, feed it, and return what asks it; it ends when the platform
    closes. None when a server has come up meanwhile. Busy while another command asks for long;
    MissingExtra without chDB."""
    p = platform
    if error := telemetry_missing(p.core.project.config):
        raise error
    lock = hold_store(
        p.core.project.folder,
        unless=lambda: p.interrupts.interrupted() or running(p.core.project.folder) is not None,
        pause=p.interrupts.pause,
    )
    if lock is None:  # a server has come up meanwhile, or the command was interrupted
        if running(p.core.project.folder) is None:
            raise KeyboardInterrupt
        return None
    p.at_close(lambda: os.close(lock))
    secret = secrets.token_urlsafe(32)
    start: dict[str, Any] = telemetry_start(
        p.core.project.config,
        ingest=claim("ingest", "127.0.0.1:0"),
        sql=claim("sql", "127.0.0.1:0"),
        api="",
        secret=secret,
    ) | {"apart": False}  # nobody else asks it, and it ends with the command
    child = Child(
        "telemetry", "sextant.server.processes.telemetry", lambda _: start, "", lambda _: None
    )
    p.at_close(lambda: child.end(time.monotonic() + _STOP_S))
    child.begin(working_environment("telemetry"), {})
    client = TelemetryClient(f"http://{start['ingest']}", f"http://{start['sql']}", secret)
    shown: set[str] = set()  # which kinds of tables telemetry was told

    def ask(sql: str, form: str, params: Mapping[str, str], role: str, person: str) -> bytes:
        text = " ".join((sql, *params.values()))
        wanted = {"live"}
        if _MAY_SEE_KPIS.search(text):
            wanted.add("kpis")
        if "@" in text:
            wanted.add("versions")
        if not wanted <= shown:
            is_first = not shown
            shown.update(wanted)
            (feed.step if is_first else feed.show)()
        return client.ask(sql, form, params, role, person)

    feed = Feed(
        p,
        client,
        tables=lambda: live_tables(
            p, kpis_wanted="kpis" in shown, versions_wanted="versions" in shown
        ),
        traces=meter.run_trace,
    )
    return ask
