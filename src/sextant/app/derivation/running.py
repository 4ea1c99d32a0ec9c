"""Runs the steps of a derivation: a run like any other, that releases nothing."""

import contextlib
from collections.abc import Sequence

import msgspec

from sextant.app.derivation.deriving import Deriving, DerivingWork
from sextant.app.plans import DERIVATION, event_of
from sextant.app.progress import Counting, Progress, live_runs
from sextant.app.runs import Runs
from sextant.engine.execute import Outcome, Task, execute
from sextant.engine.history import History
from sextant.engine.leases import Leases
from sextant.kernel.errors import SextantError, StepFailed
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Write
from sextant.ledger.projections import RunChanged

_AHEAD = 4


def derive(
    runs: Runs,
    env: str,
    asset: str,
    deriving: Deriving,
    tasks: Sequence[Task],
    by: Principal,
    told: Progress | None,
) -> tuple[str, str]:
    """Make what has to be derived for an asset. Returns the id of the run, and why its first step
    failed ("" = none did). StepFailed when somebody stops it."""
    core, execution, executor = runs.core, runs.execution, runs.executors.get("")
    run, manifest = core.ids.new("run"), core.project.manifest(env)
    with (
        Leases(core.state, run, ()) as leases,
        runs.interrupts.stoppable(),
        contextlib.ExitStack() as using,
    ):
        state, started_s = leases.fenced(), core.clock.monotonic_s()
        now = core.clock.now_ns()
        facts = RunChanged(
            id=run,
            env=env,
            state="running",
            trigger=DERIVATION,
            by=str(by),
            who=msgspec.structs.replace(by, credential=""),
            assets=(asset,),
            bundle=manifest.bundle,
            manifest=core.project.stored(env),
            steps=len(tasks),
            started_at=now,
        )
        started = core.events.make("run.started", run, facts, by, event_of(core, asset))
        state.commit(Write((), (started,)))
        runs.executors.warm()
        live_runs(core).begin(run, {row[0] for row in core.state.read("runs_open")}, now)
        work = DerivingWork(
            core,
            deriving,
            env=env,
            run=run,
            fence=leases.fence,
            executors=runs.executors.get,
            bundles=runs.bundles,
            using=using,
        )
        history, outcome, error = History(run), Outcome(), ""
        counting = Counting(
            core,
            run,
            tasks,
            seconds=dict.fromkeys((task.id for task in tasks), None),
            slots=executor.slots,
            told=told,
        )

        def is_cancelled() -> bool:
            counting.look()
            return runs.interrupts.interrupted() or run in execution.cancelled or leases.lost

        try:
            outcome = execute(
                tasks,
                work,
                state=state,
                history=history,
                clock=core.clock,
                # more than run at once: workers choose those whose code they have loaded
                slots=executor.slots * _AHEAD,
                pools=core.project.config.pools,
                cancelled=is_cancelled,
                on_start=counting.started,
                progress=counting.ended,
            )
            error = work.error if outcome.failed else ""
        except Exception as raised:
            error = raised.message if isinstance(raised, SextantError) else repr(raised)
            raise
        finally:
            ended = "cancelled" if outcome.cancelled else "failed" if error else "finished"
            wall_s = core.clock.monotonic_s() - started_s
            # where even this cannot be written the run stays open, and the next one closes it
            with contextlib.suppress(SextantError):
                execution.finish(
                    state, facts, history, outcome, ended, {}, by, started.id, error, wall_s
                )
    if outcome.cancelled:
        raise StepFailed("SX-DERIVE-015", f"the derivation {run} was stopped", hint="ask again")
    return run, error
