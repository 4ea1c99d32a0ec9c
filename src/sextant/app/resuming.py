"""Continues runs whose process died, or closes those that make no sense any more."""

import contextlib

import msgspec

from sextant.app.claims import Prepared, claim
from sextant.app.execution import Ended, Execution
from sextant.app.plans import DERIVATION, Plans, event_of
from sextant.core import Core
from sextant.engine import plan as planning
from sextant.engine.execute import Done, Outcome, Task
from sextant.engine.history import History
from sextant.engine.leases import Leases, is_alive
from sextant.engine.plan import Request
from sextant.kernel.answers import RunReport
from sextant.kernel.errors import (
    SextantError,
    UserError,
)
from sextant.kernel.nouns import (
    Principal,
    actor_of,
)
from sextant.ledger.projections import (
    RunChanged,
    stored_run,
)
from sextant.release.releases import Releases


def _silent(_task: Task, _done: Done) -> None:
    """Nobody follows the steps."""


class Resuming:
    """Crashed runs of one platform."""

    def __init__(self, core: Core, plans: Plans, execution: Execution, releases: Releases) -> None:
        self.core, self.plans, self.execution = core, plans, execution
        self.releases, self.interrupts = releases, execution.interrupts

    def resume_crashed(self, env: str, *, by: Principal, progress: Ended = _silent) -> None:
        """Continue the runs of an environment whose process died; leave alone those that another
        process works on. One that fails again is recorded as failed, and stops nobody else."""
        with contextlib.suppress(SextantError):  # one that cannot go on stays open, and is shown
            self.releases.resume(env)
        for facts in self.crashed(env):
            # What became of it is recorded with the run; Busy: somebody else resumes it, or writes
            # the same and comes first.
            with contextlib.suppress(SextantError):
                self.resume(facts, by=by, progress=progress)

    def crashed(self, env: str) -> list[RunChanged]:
        """Return the open runs of an environment that no living process works on."""
        state = self.core.state
        left = state.read("runs_open")
        if left:
            state.flush()  # a lease that this process has just given back must be seen as free
        found = [stored_run(row[3]) for row in left]
        return [one for one in found if one.env == env and not is_alive(state, one.id)]

    def resume(
        self, facts: RunChanged, *, by: Principal, progress: Ended = _silent
    ) -> RunReport | None:
        """Continue a run whose process died, or close it when it makes no sense any more. None when
        there was nothing left to do. Busy when somebody else is at it.

        It stays the run of who started it, also for the policy: `by` closes it at most.
        """
        env = facts.env
        starter = facts.who or actor_of(facts.by)  # earlier releases kept the text alone
        core = self.core
        manifest = core.project.manifest(env)
        created = next((row[2] for row in core.state.read("envs") if row[0] == env), 0)
        # the release of an undo is one write: it is live, or nothing happened; what was derived is
        # for who asked
        if facts.trigger in ("undo", DERIVATION):
            self._end_crashed(facts, "cancelled", by, "the process ended")
            return None
        if facts.started_at < created:
            self._end_crashed(facts, "cancelled", by, f"environment `{env}` was dropped meanwhile")
            return None
        request = self._still_asked(env, _request(facts), facts.started_at)

        def prepare() -> Prepared | None:
            if core.state.read("run_get", (facts.id,))[0][
                5
            ]:  # somebody else has ended it meanwhile
                return None
            scene = self.plans.scene(env, manifest)
            plan = planning.plan(manifest, scene, request)
            return Prepared(plan=self.plans.with_causes(plan, manifest, scene))

        try:
            prepare()
        except UserError as error:  # the project has changed: the request makes no sense any more
            self._end_crashed(facts, "failed", by, error.message)
            return None
        with claim(core, self.interrupts, env, facts.id, prepare) as claimed:
            if claimed is None:
                return None
            return self.execution.execute(
                env,
                manifest,
                claimed,
                facts.id,
                by=starter,
                trigger=facts.trigger,
                cause="",
                ticks=facts.due,
                progress=progress,
                request=request,
                resumed=facts,
            )

    def _still_asked(self, env: str, request: Request, since: int) -> Request:
        """Return a crashed run's request as it is to be resumed: what was forced before something
        was undone is not forced past that undo."""
        undone = any(row[4] >= since for row in self.core.state.read("withdrawn", (env,)))
        return msgspec.structs.replace(request, force=request.force and not undone)

    def end_crashed(self, env: str, *, by: Principal, reason: str) -> None:
        """Close the crashed runs of an environment: nobody will resume them."""
        for facts in self.crashed(env):
            self._end_crashed(facts, "cancelled", by, reason)

    def _end_crashed(self, facts: RunChanged, state: str, by: Principal, error: str) -> None:
        core = self.core
        with Leases(core.state, facts.id, ()) as leases:
            fenced = leases.fenced()
            if core.state.read("run_get", (facts.id,))[0][5]:
                return
            outcome = Outcome(cancelled=state == "cancelled")
            history = History.open(fenced, facts.id)
            cause = event_of(self.core, facts.id)
            self.execution.finish(fenced, facts, history, outcome, state, {}, by, cause, error, 0.0)


def _request(facts: RunChanged) -> Request:
    return msgspec.json.decode(facts.mode, type=Request) if facts.mode else Request()
