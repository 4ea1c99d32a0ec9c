"""SQL without a server: a telemetry process for as long as a command asks, fed first, with the same catalogue and the same guard."""

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sextant.kernel.errors import Busy
from sextant.server import meter
from sextant.server.client import TelemetryClient
from sextant.server.feed import Feed
from sextant.server.live import live_tables
from sextant.server.supervisor import Child, claim, telemetry_start, working_environment

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_WAIT_S = 30.0  # for another command that asks
_STOP_S = 10.0


def open_alone(platform: "LocalPlatform") -> Callable[[str, str, Mapping[str, str], str], bytes]:
    """Start a telemetry process, feed it, and return what asks it; it ends when the platform closes. Busy while another command asks for long."""
    p = platform
    lock = os.open(p.folder / "query.lock", os.O_CREAT | os.O_RDWR, 0o600)
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > until:
                os.close(lock)
                raise Busy("SX-UP-021", "another command has asked the telemetry store for long", hint="`sextant up` serves many at once") from error
            p.pause(0.05)
    p.at_close(lambda: os.close(lock))
    secret = secrets.token_urlsafe(32)
    start: dict[str, Any] = telemetry_start(p.config, ingest=claim("ingest", "127.0.0.1:0"), sql=claim("sql", "127.0.0.1:0"), api="", secret=secret)
    child = Child("telemetry", "sextant.server.telemetry", lambda _: start, "", lambda _: None)
    p.at_close(lambda: child.end(time.monotonic() + _STOP_S))
    child.begin(working_environment("telemetry"), {})
    client = TelemetryClient(f"http://{start['ingest']}", f"http://{start['sql']}", secret)
    Feed(p, client, tables=lambda: live_tables(p), traces=meter.run_trace).step()
    return client.ask
