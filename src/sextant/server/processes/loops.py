"""The coordinator's steady work: threads that do one thing again and again, say when they cannot,
and go on."""

import sys
import threading
from collections.abc import Callable

from sextant.kernel.errors import SextantError

_BACKOFF_S, _BACKOFF_S_MAX = 0.25, 30.0
# failures in a row before one is said: a process that is started again is not worth a line
_PATIENCE = 3


class Loop:
    """Calls `work` every `every_s` seconds, or as soon as it is woken. What fails again and again
    is said once."""

    def __init__(self, name: str, work: Callable[[], object], *, every_s: float) -> None:
        self.name, self._work, self._every_s = name, work, every_s
        self.problem = ""
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sextant-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failed = 0
        while not self._stopped.is_set():
            try:
                self._work()
                if self.problem and failed >= _PATIENCE:
                    self._say(f"{self.name} works again")
                self.problem, failed = "", 0
            except SextantError as error:
                failed += 1
                self._tell(f"{error.message} ({error.code})", failed)
            except Exception as error:  # a loop that ended would be missed by nobody
                failed += 1
                self._tell(f"{type(error).__name__}: {error}", failed)
            wait = (
                self._every_s
                if not failed
                else min(_BACKOFF_S_MAX, _BACKOFF_S * 2 ** min(failed, 6))
            )
            self._wake.wait(wait)
            self._wake.clear()

    def _tell(self, text: str, failed: int) -> None:
        if failed == _PATIENCE and not self._stopped.is_set():
            self._say(f"{self.name}: {text}")
        self.problem = text

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
