"""Who may open a project's telemetry store: one process at a time, a server's or that of a command
that asks without one."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from sextant.kernel.errors import Busy

_WAIT_S = 30.0
_LOOK_S = 0.05


def hold_store(
    folder: Path, *, unless: Callable[[], bool], pause: Callable[[float], object] = time.sleep
) -> int | None:
    """Wait until nobody else holds the store of a `.sextant` folder, and hold it: until the
    descriptor that is returned is closed.

    unless  ends the wait; None is returned then
    Raises  Busy when somebody holds it for long
    """
    lock = os.open(folder / "query.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            late = time.monotonic() > until
            if late or unless():
                os.close(lock)
                if late:
                    raise Busy(
                        "SX-UP-021",
                        "another command has asked the telemetry store for long",
                        hint="let it end, and try again; `sextant up` serves many at once",
                    ) from None
                return None
            pause(_LOOK_S)
        else:
            return lock
