"""Drives releases that take time, and brings about what follows from their end.

In a server a loop calls `step`, and `sextant run --watch` has one (`keep_on`); whoever follows a
release calls `work`.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from sextant.app.plans import event_of
from sextant.core import Core
from sextant.engine.plan import Request
from sextant.kernel.answers import ReleaseSummary, RunReport
from sextant.kernel.errors import Busy, SextantError
from sextant.kernel.nouns import Principal, Release
from sextant.release.driver import Driver
from sextant.release.releases import Releases

if TYPE_CHECKING:
    from sextant.app.runs import Runs


_LOOK_S = 1.0  # how often a release that is due is noticed


class Driving:
    """The releases of one platform that take time."""

    def __init__(self, core: Core, releases: Releases, runs: "Runs") -> None:
        self._core, self._releases, self._runs = core, releases, runs
        self._driver = Driver(core, releases)
        self.close = self._driver.close

    def work(self, id_: str) -> Release:
        """Bring one release as far as it goes now; as it is where another driver works on it.
        NotFound."""
        before = self._releases.get(id_)
        try:
            release = self._driver.work(id_)
        except Busy:
            return self._releases.get(id_)
        if release.state != before.state:
            self._ended(release)
        return release

    def rolling(self, env: str, asset: str) -> Release | None:
        """Return the release of an asset that is being rolled out, or is paused or stuck."""
        for (id_,) in self._core.state.read("open_move_get", (env, asset)):
            release = self._releases.get(id_)
            if release.state in ("rolling", "paused", "stuck"):
                return release
        return None

    def abort(self, release: Release, by: Principal, reason: str) -> RunReport:
        """Take a release back that is not live yet, as far as it goes now."""
        self._releases.abort(release.id, by, reason)
        after = ReleaseSummary.of(self.work(release.id))
        return RunReport(id="", env=release.moves[0].env, state="finished", releases=(after,))

    def undo_now(self, report: RunReport) -> RunReport:
        """Bring the undo of what takes time as far as it goes: nobody waits for a driver while the
        wrong version serves."""
        releases = tuple(
            ReleaseSummary.of(self.work(one.id))
            if one.intent == "undo" and one.state == "rolling"
            else one
            for one in report.releases
        )
        return msgspec.structs.replace(report, releases=releases)

    def step(
        self, *, env: str = "", told: Callable[[Release], None] = lambda _release: None
    ) -> None:
        """Begin to work on every release that is due, of one environment or of all.

        told    called with each of them when no more can be done for it now
        Raises  what ended such work since the last call
        """

        def ended(release: Release) -> None:
            self._ended(release)
            told(release)

        self._driver.work_on_due(env=env, told=ended)

    def keep_on(self, *, env: str, told: Callable[[Release], None]) -> None:
        """Work on what is due, in a thread of its own, until interrupted; return at once."""
        interrupts = self._runs.interrupts

        def work() -> None:
            while not interrupts.interrupted():
                with contextlib.suppress(SextantError):  # tried again: what it is shows elsewhere
                    self.step(env=env, told=told)
                interrupts.pause(_LOOK_S)

        threading.Thread(target=work, name="sextant-releases", daemon=True).start()

    def _ended(self, release: Release) -> None:
        """After an undo is live, derive again what reads the asset, in a run that it causes. Where
        that fails, or this process dies, the next run finds the changed input."""
        if release.state != "live" or release.intent != "undo":
            return
        manifest = self._core.project.manifest(release.moves[0].env)
        moved = {move.asset for move in release.moves}
        readers = tuple(
            asset.id
            for asset in manifest.assets
            if asset.build and any(bound.asset in moved for bound in asset.build.inputs)
        )
        if readers:
            with contextlib.suppress(SextantError):
                self._runs.run(
                    release.moves[0].env,
                    Request(assets=readers, asked=False, look_back=False),
                    by=self._core.authorization.who(),
                    trigger="undo",
                    cause=event_of(self._core, release.id),
                    resume=False,
                    pinned=True,
                )
