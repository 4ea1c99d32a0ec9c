"""What the processes of a server tell each other: one line of JSON on standard input at the start,
one on standard output when ready.

Secrets travel over the pipe, not over the environment or the command line, which others on the
machine can read.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from sextant.kernel.errors import Bug

T = TypeVar("T")


class CoordinatorStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the coordinator gets. `ingest` and `sql` are the URLs of telemetry's endpoints, `secret`
    authenticates the processes to each other."""

    root: str
    api: str
    ingest: str
    sql: str
    secret: str
    restarts: dict[str, int] = {}
    link: bool = False  # make a link that signs in, for a terminal to show


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says when it can be asked. `token`: the administrator's first one, once.
    `link`: the secret of a sign-in link."""

    ready: bool = True
    api: str = ""
    ingest: str = ""
    sql: str = ""
    confined: str = ""
    grpc: str = ""  # host:port where OTLP over gRPC is taken, "" where it is not
    token: str = ""
    link: str = ""


def read_start(kind: type[T]) -> T:
    """Return what the supervisor says at the start. Bug when it is not what this process
    understands."""
    line = sys.stdin.buffer.readline()
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Bug(
            "SX-UP-010",
            f"a process was not started by the supervisor: {error}",
            hint="`sextant up` starts all of them",
        ) from error


def say_ready(ready: Ready) -> None:
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()


def end_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when the supervisor is gone: its end of our standard input closes, whatever ended
    it."""

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 4096):
                pass
        stop()

    threading.Thread(target=watch, name="sextant-parent", daemon=True).start()
