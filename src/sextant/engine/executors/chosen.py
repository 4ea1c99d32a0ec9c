"""The executors of one platform, made when they are first asked for."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from sextant.engine.executors.inline import InlineExecutor
from sextant.engine.executors.process import Printed, ProcessExecutor
from sextant.kernel.errors import UserError
from sextant.kernel.limits import STAND_BY_S
from sextant.kernel.ports import Executor


class Executors:
    """Executors by kind. Any thread."""

    def __init__(
        self,
        default: str,
        *,
        workers: int,
        unpack: Callable[[str, Path], None],
        warm: Callable[[], None],
        printed: Printed,
    ) -> None:
        """
        default  kind that "" stands for
        workers  how many processes; 0 = as many as there are processors, four at most
        unpack   unpacks a bundle (its digest) into a folder
        warm     imports what the first commit needs
        printed  is told what orders print while they run, without secrets; any thread
        """
        self._printed = printed
        self._default, self._workers, self._unpack, self._import = default, workers, unpack, warm
        self._executors: dict[str, Executor] = {}
        self._warm = False
        self._lock = threading.Lock()

    def get(self, kind: str) -> Executor:
        """Return the executor of a kind: inline, pool, subprocess; "" = the platform's default."""
        kind = kind or self._default
        with self._lock:
            if kind not in self._executors:
                if kind == "inline":
                    self._executors[kind] = InlineExecutor()
                elif kind in ("pool", "subprocess"):
                    self._executors[kind] = ProcessExecutor(
                        self._workers or min(4, os.cpu_count() or 1),
                        keep=kind == "pool",
                        unpack=self._unpack,
                        printed=self._printed,
                    )
                else:
                    raise UserError(
                        "SX-RUN-002",
                        f"there is no executor `{kind}`",
                        hint="inline, pool or subprocess",
                    )
            return self._executors[kind]

    def warm(self) -> None:
        """Start the workers, and import what the first commit needs, while something else is being
        done. Once is enough."""
        if self._warm:
            return
        self._warm = True
        pool = self.get("")
        if isinstance(pool, ProcessExecutor):
            pool.warm()
        threading.Thread(target=self._import, name="sextant-warm", daemon=True).start()

    def stand_by(self) -> None:
        """Have a worker ready for code that is about to come."""
        pool = self.get("")
        if isinstance(pool, ProcessExecutor):
            pool.stand_by(STAND_BY_S)

    def close(self) -> None:
        """End the workers."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()
