"""Drives releases that take time: one step after the other, each release under a lease of its own.

Any number of processes may have a driver: who holds the lease of a release works on it, and what he
writes is fenced by it. A driver that dies, or sleeps past the end of its lease, is followed by
another one, which asks the kind again.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sextant.core import Core
from sextant.engine.leases import Leases
from sextant.kernel.errors import Busy, Conflict
from sextant.kernel.limits import RELEASES_DRIVEN_MAX
from sextant.kernel.nouns import Release
from sextant.release.releases import Releases

_STEPS_AT_ONCE = 100  # of one release under one hold of its lease


class Driver:
    """Works on the releases of one project."""

    def __init__(self, core: Core, releases: Releases) -> None:
        self._core, self._releases = core, releases
        self._pool: ThreadPoolExecutor | None = None
        self._working: dict[str, Future[Release]] = {}
        self._lock = threading.Lock()

    def work(self, id_: str) -> Release:
        """Bring one release as far as it goes now, and return it.

        Raises  Busy (SX-RUN-001) while another driver works on it; NotFound
        """
        release = self._releases.get(id_)
        if not self._releases.is_due(release):
            return release
        with Leases(
            self._core.state, self._core.ids.new("drv"), (), own=f"release/{id_}"
        ) as leases:
            held = self._releases.under(leases.guards())
            release = held.get(id_)
            for _ in range(_STEPS_AT_ONCE):
                if not held.is_due(release):
                    break
                try:
                    release = held.work(release, leases.fence)
                except Conflict as error:
                    if leases.are_lost():
                        raise Busy(
                            "SX-RELEASE-019",
                            f"another driver has taken release `{id_}` over",
                            hint=f"`sextant releases {id_}` shows where it stands",
                        ) from error
                    release = held.get(id_)  # a person paused or aborted it meanwhile
        return release

    def work_on_due(
        self, *, env: str = "", told: Callable[[Release], None] = lambda _release: None
    ) -> None:
        """Begin to work on every release that is due, in threads of their own; return at once.

        told    called with each release when no more can be done for it now
        Raises  what ended such a thread since the last call, after the others were begun
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(RELEASES_DRIVEN_MAX, "sextant-release")
            ended = {id_: one for id_, one in self._working.items() if one.done()}
            for id_ in ended:
                del self._working[id_]
            for release in self._releases.due(env=env):
                if release.id not in self._working:
                    self._working[release.id] = self._pool.submit(self._work, release.id, told)
        for one in ended.values():
            error = one.exception()
            if error is not None and not isinstance(error, Busy):
                raise error

    def close(self) -> None:
        """Let what is under way end, and begin nothing more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _work(self, id_: str, told: Callable[[Release], None]) -> Release:
        release = self.work(id_)
        told(release)
        return release
