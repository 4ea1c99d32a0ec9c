"""Runs: forward (`run`) and back (`undo`), and what a crash has left of them."""

from collections.abc import Callable, Mapping

import msgspec

from sextant.app import permits
from sextant.app.claims import Prepared, Waiting, claim
from sextant.app.driving import Driving
from sextant.app.execution import Ended, Execution
from sextant.app.interrupts import Interrupts
from sextant.app.live_checks import LiveChecks
from sextant.app.plans import Plans, event_of
from sextant.app.progress import Progress
from sextant.app.project_releases import ProjectReleases
from sextant.app.releasing import Releasing
from sextant.app.resuming import Resuming
from sextant.app.undoing import Undoing
from sextant.core import Core
from sextant.engine import plan as planning
from sextant.engine.executors.chosen import Executors
from sextant.engine.made import take_in
from sextant.engine.plan import Plan, Request
from sextant.kernel.answers import RunReport
from sextant.kernel.errors import NotFound
from sextant.kernel.kinds import takes_time
from sextant.kernel.nouns import Principal
from sextant.kinds.dataset.inbox import Inbox
from sextant.kinds.dataset.personal import PersonalColumns
from sextant.project.bundles import Bundles
from sextant.release.publish import Moved, Moving, Publisher
from sextant.release.releases import Releases


class Runs:
    """Runs of one platform."""

    def __init__(
        self,
        core: Core,
        *,
        releases: Releases,
        publisher: Publisher,
        inbox: Inbox,
        executors: Executors,
        bundles: Bundles,
        interrupts: Interrupts,
        personal: Callable[[], PersonalColumns],
    ) -> None:
        """personal  says which columns are personal, by what the project declares now"""
        self.core, self.releases, self.publisher, self.inbox = core, releases, publisher, inbox
        self.executors, self.bundles, self.interrupts = executors, bundles, interrupts
        self.personal = personal
        self.plans = Plans(core, personal)
        self.checks = LiveChecks(core, self.plans, executors, bundles)
        self.undoing = Undoing(core, self.plans, releases=releases, publisher=publisher)
        self.releasing = releasing = Releasing(
            core,
            self.plans,
            self.checks,
            releases=releases,
            publisher=publisher,
            interrupts=interrupts,
        )
        self.execution = Execution(
            core,
            self.plans,
            self.checks,
            publisher=publisher,
            interrupts=interrupts,
        )
        self.project = ProjectReleases(core, publisher, releasing)
        self.resuming = Resuming(core, self.plans, self.execution, releases)
        self.driving = Driving(core, releases, self)
        self.plan, self.release, self.check = self.plans.plan, releasing.release, self.checks.check

    def close(self) -> None:
        self.driving.close()
        self.project.uploads.close()
        self.executors.close()
        self.publisher.close()

    def run(
        self,
        env: str,
        request: Request,
        *,
        by: Principal,
        trigger: str = "manual",
        cause: str = "",
        ticks: Mapping[str, int] | None = None,
        progress: Ended = lambda _t, _d: None,
        told: Progress | None = None,
        break_glass: str = "",
        waits: Waiting | None = None,
        resume: bool = True,
        check_columns: bool = False,
        pinned: bool = False,
        version: str = "",
        retry_of: str = "",
    ) -> RunReport:
        """Make what the request asks for and publish it.

        pinned  by the version of the project that is in force there. Otherwise `version`, or ("")
                what the folder has, is released there first, as a person asks for it; a schedule
                never does
        resume  crashed runs of this environment first
        waits   told whom the run waits for; without it the run does not wait
        retry_of  the run that this one tries again
        check_columns  refuse to start when what is planned names columns that are not there: for
                persons. Of a schedule, the step that meets it fails
        Raises  Busy when another run writes one of the datasets, Denied, UserError. Failed steps
                are in the report
        """
        core = self.core
        moved = ""
        if not pinned:
            moved = self.project.move(
                env, by=by, version=version, break_glass=break_glass, waits=waits
            )
        self.project.check_in_force(env)
        manifest = core.project.manifest(env)
        chosen = planning.select(manifest, request)
        passed = set(permits.allowed(self.core, by, "run", env, manifest, chosen, break_glass))
        if resume:
            self.resuming.resume_crashed(env, by=by, progress=progress)
        take_in(core, manifest, chosen)

        stale: dict[str, int] = {}
        rolling: dict[str, str] = {}

        def prepare() -> Prepared | None:
            scene = self.plans.scene(env, manifest)
            plan = planning.plan(manifest, scene, request)
            stale.update({id_: len(found) for id_, found in plan.stale.items()})
            rolling.update(plan.rolling)
            if not plan.steps and not plan.definitions and not ticks:
                return None
            if check_columns:
                self.plans.check_columns(manifest, scene, plan, Prepared(plan=plan).writes)
            moving = _planned(plan)
            passed.update(
                permits.allowed(self.core, by, "run", env, manifest, moving, break_glass, moving)
            )
            return Prepared(plan=self.plans.with_causes(plan, manifest, scene))

        run = core.ids.new("run")
        with claim(core, self.interrupts, env, run, prepare, waits=waits) as claimed:
            if claimed is None:
                return RunReport(
                    id="", env=env, state="finished", stale=stale, rolling=rolling, project=moved
                )
            report = self.execution.execute(
                env,
                manifest,
                claimed,
                run,
                by=by,
                trigger=trigger,
                cause=cause,
                ticks=ticks or {},
                progress=progress,
                told=told,
                break_glass=break_glass,
                passed=passed,
                request=request,
                retry_of=retry_of,
            )
            return msgspec.structs.replace(report, project=moved)

    def undo(
        self,
        env: str,
        asset_id: str,
        *,
        by: Principal,
        reason: str,
        version: str = "",
        release: str = "",
        downstream: bool = True,
        break_glass: str = "",
        progress: Ended = lambda _t, _d: None,
        told: Progress | None = None,
        waits: Waiting | None = None,
    ) -> RunReport:
        """Take back what the release of a version changed, and derive again what stands on it; all
        in one release. The release that is undone is the one that was live when this was called,
        however long the undo waits for other runs; crashed runs stay as they are.

        version  the bad version ("" = the live one)
        release  that brought it; "" = the newest one that did
        waits    told whom the undo waits for; without it, it does not
        Raises   NotFound when nothing was released; Conflict when later writes changed the same
                 partitions, with nothing changed; Busy when a run writes the same
        """
        core = self.core
        manifest = core.project.manifest(env)
        if manifest.asset(asset_id) is None:
            raise NotFound(
                "SX-PLAN-002",
                f"there is no asset `{asset_id}`",
                hint="`sextant graph` lists the assets",
            )
        passed = set(
            permits.allowed(self.core, by, "rollback", env, manifest, {asset_id}, break_glass)
        )
        if not version and (rolling := self.driving.rolling(env, asset_id)):
            return self.driving.abort(rolling, by, reason)
        bad, target = self.undoing.target(env, asset_id, version, release)
        downstream = downstream and not takes_time(asset_id)  # a second run, when it is undone

        def prepare() -> Prepared:
            prepared = self.undoing.prepare(env, manifest, asset_id, bad, target.id, downstream)
            moving = {asset_id: self.undoing.taken_back(env, manifest, asset_id, prepared)}
            passed.update(
                permits.allowed(
                    self.core, by, "rollback", env, manifest, moving, break_glass, moving
                )
            )
            return prepared

        run = core.ids.new("run")
        with claim(core, self.interrupts, env, run, prepare, waits=waits) as claimed:
            assert claimed is not None
            report = self.execution.execute(
                env,
                manifest,
                claimed,
                run,
                by=by,
                trigger="undo",
                cause=event_of(self.core, target.id),
                ticks={},
                progress=progress,
                told=told,
                request=Request(assets=tuple(claimed.prepared.overlay), look_back=False),
                intent="undo",
                reason=reason,
                break_glass=break_glass,
                passed=passed,
            )
        return self.driving.undo_now(report)


def _planned(plan: Plan) -> Moving:
    """Return how many partitions of each asset are planned."""
    count = {definition.asset: 0 for definition in plan.definitions}
    for step in plan.steps:
        count[step.asset] = count.get(step.asset, 0) + len(step.items)
    return {id_: Moved(partitions=partitions) for id_, partitions in count.items()}
