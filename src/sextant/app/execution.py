"""Executes a plan and publishes what it made: the one path by which anything managed is made,
forward and back."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from sextant.app import permits
from sextant.app.claims import Claim, environment_guard
from sextant.app.compaction import compact
from sextant.app.interrupts import Interrupts
from sextant.app.live_checks import LiveChecks
from sextant.app.plans import Plans, event_of, outputs_of
from sextant.app.progress import Counting, Progress, live_runs
from sextant.core import Core
from sextant.engine import plan as planning
from sextant.engine.execute import Done, Outcome, Task, execute
from sextant.engine.history import History, Record
from sextant.engine.leases import FencedState
from sextant.engine.made import arrived
from sextant.engine.plan import Plan, Request
from sextant.engine.staged import RunAsset
from sextant.engine.work import RunWork
from sextant.kernel.answers import ReleaseSummary, RunReport, StepSummary
from sextant.kernel.errors import (
    Busy,
    Conflict,
    Denied,
    SextantError,
    UserError,
)
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import LEASE_S
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    Manifest,
    Principal,
    Release,
    values_by_definition,
)
from sextant.kernel.ports import Statement, Write
from sextant.ledger.projections import (
    RunChanged,
)
from sextant.release.publish import (
    Published,
    Publisher,
    Publishing,
)

_UNWRITTEN = "what its steps made is kept: run again when the reason is gone"
Ended = Callable[[Task, Done], None]


class Execution:
    """Executes the runs of one platform.

    cancelled  runs that somebody asked to stop
    """

    def __init__(
        self,
        core: Core,
        plans: Plans,
        checks: LiveChecks,
        *,
        publisher: Publisher,
        interrupts: Interrupts,
    ) -> None:
        self.core, self.plans, self.checks = core, plans, checks
        self.executors, self.bundles = checks.executors, checks.bundles
        self.publisher, self.interrupts = publisher, interrupts
        self.cancelled: set[str] = set()

    def execute(
        self,
        env: str,
        manifest: Manifest,
        claimed: Claim,
        run: str,
        *,
        by: Principal,
        trigger: str,
        cause: str,
        ticks: Mapping[str, int],
        progress: Ended,
        told: Progress | None = None,
        request: Request,
        intent: str = "release",
        reason: str = "",
        break_glass: str = "",
        passed: Collection[str] = (),
        resumed: RunChanged | None = None,
        retry_of: str = "",
    ) -> RunReport:
        """Execute a plan and publish what it made.

        progress  told how each step has ended
        told      how far the run is, at each step
        passed    assets that the policy forbids to run, but for the broken glass
        retry_of  the run that this one tries again

        Raises  Busy (SX-RUN-004) when another process took the run over: it is not ours to end any
                more, and nothing of it was written since
        """
        core = self.core
        leases, (plan, overlay, undoes) = claimed.leases, msgspec.structs.astuple(claimed.prepared)
        state = leases.fenced()
        same = environment_guard(core, env)
        assets = {asset.id: asset for asset in manifest.assets}
        started_s, now = core.clock.monotonic_s(), core.clock.now_ns()
        with self.interrupts.stoppable(), contextlib.ExitStack() as using:
            history = History.open(state, run) if resumed else History(run)
            tables = self.plans.tables(env, assets, plan, overlay)
            facts = RunChanged(
                id=run,
                env=env,
                state="running",
                trigger=trigger,
                by=str(by),
                who=msgspec.structs.replace(by, credential=""),
                assets=request.assets,
                bundle=manifest.bundle,
                manifest=core.project.stored(env),
                due=dict(ticks),
                partitions="..".join(request.partitions or ()),
                mode=msgspec.json.encode(request).decode(),
                steps=len(plan.steps),
                started_at=now,
                retry_of=resumed.retry_of if resumed else retry_of,
            )
            started = self.core.events.make("run.started", run, facts, by, cause)
            if not resumed:
                verb = "rollback" if intent == "undo" else "run"
                forbidden = [assets[id_] for id_ in sorted(passed)]
                glass = permits.glass(self.core, verb, env, forbidden, break_glass, by)
                state.commit(Write((same,), (*glass, started)))
            else:
                started = msgspec.structs.replace(started, id=event_of(self.core, run))
            outcome, published = Outcome(), Published()
            try:
                if plan.steps:
                    self.executors.warm()
                    live_runs(core).begin(
                        run, {row[0] for row in core.state.read("runs_open")}, now
                    )
                    work = RunWork(
                        core,
                        plan,
                        manifest,
                        run=run,
                        state=state,
                        executors=self.executors.get,
                        tables=tables,
                        project=str(using.enter_context(self.bundles.unpacked(manifest.bundle))),
                        fence=leases.fence,
                        earlier=outputs_of(history),
                        spare=self.plans.spare(env),
                        held=self.plans.held(env),
                        past_gate=bool(break_glass),
                        as_it_was=intent == "undo",
                        pushed=arrived(core, manifest),
                        settled=lambda id_: self.publisher.begin(tables[id_], assets[id_]),
                        causes=plan.causes,
                    )
                    tasks, slots = work.tasks(), self.executors.get("").slots
                    counting = Counting(
                        core,
                        run,
                        tasks,
                        seconds={step.id: step.seconds for step in plan.steps},
                        slots=slots,
                        told=told,
                    )

                    def has_ended(task: Task, done: Done) -> None:
                        counting.ended(task, done)
                        if not done.skipped:
                            progress(task, done)

                    def is_cancelled() -> bool:
                        counting.look()
                        return self.interrupts.interrupted() or run in self.cancelled or leases.lost

                    outcome = execute(
                        tasks,
                        work,
                        state=state,
                        history=history,
                        clock=core.clock,
                        slots=slots,
                        pools=core.project.config.pools,
                        cancelled=is_cancelled,
                        on_start=counting.started,
                        progress=has_ended,
                    )
                definitions = self._whole_definitions(manifest, plan, outcome, tables)
                if not outcome.cancelled:
                    wanted = Publishing(
                        env=env,
                        tables=self._in_order(tables, manifest),
                        assets=assets,
                        run=run,
                        by=by,
                        decide=permits.decider(self.core, by, env, assets, break_glass, intent),
                        cause=started.id,
                        definitions=definitions,
                        guards=(*leases.guards(), same),
                        untainted=self._untainted(env, tables, intent),
                        intent=intent,
                        undoes=undoes,
                        whole=undoes is not None,
                        reason=reason or break_glass,
                        broke_glass=break_glass,
                        before=lambda moving: permits.glass(
                            self.core,
                            "release",
                            env,
                            [assets[id_] for id_ in sorted(claimed.prepared.writes)],
                            break_glass,
                            by,
                            intent,
                            moving,
                        ),
                    )
                    published = self.publisher.publish(wanted)
            except Exception as error:
                if leases.are_lost():
                    raise self._taken_over(run) from error
                text = error.message if isinstance(error, SextantError) else repr(error)
                # Where even this cannot be written the run stays open, and the next one resumes it.
                with contextlib.suppress(SextantError):
                    if undoes is not None and not isinstance(error, UserError):
                        self._stuck(state, undoes, env, text, started.id)
                    wall_s = core.clock.monotonic_s() - started_s
                    self.finish(
                        state,
                        facts,
                        history,
                        outcome,
                        "failed",
                        ticks,
                        by,
                        started.id,
                        text,
                        wall_s,
                    )
                raise
            try:
                self._record_unwritten(state, history, published, assets)
                broken = self._broken_by(run, published, by, resumed=bool(resumed))
                report = self._report(
                    run, env, outcome, published, tables, started_s, broken, resumed=bool(resumed)
                )
                self.finish(
                    state,
                    facts,
                    history,
                    outcome,
                    report.state,
                    ticks,
                    by,
                    started.id,
                    "",
                    report.wall_s,
                )
            except Conflict as error:
                raise self._taken_over(run) from error
        compact(core, tables, published)
        return report

    def _record_unwritten(
        self,
        state: FencedState,
        history: History,
        published: Published,
        assets: Mapping[str, Asset],
    ) -> None:
        """Record in the run's history which tables could not be written, and why."""
        now = self.core.clock.now_ns()
        records = [
            Record(
                kind="end",
                step=f"write:{id_}",
                at=now,
                started_at=now,
                ok=False,
                asset=id_,
                owner=assets[id_].owner,
                error_code=error.code if isinstance(error, SextantError) else "SX-RUN-009",
                error=error.message if isinstance(error, SextantError) else repr(error),
                hint=error.hint if isinstance(error, SextantError) else _UNWRITTEN,
            )
            for id_, error in published.failed.items()
        ]
        records += [
            Record(
                kind="skip",
                step=f"write:{id_}",
                at=now,
                ok=False,
                asset=id_,
                error="its input failed",
            )
            for id_ in published.skipped
        ]
        if records:
            state.commit(Write(tuple(history.add(record) for record in records)))

    def _broken_by(
        self, run: str, published: Published, by: Principal, *, resumed: bool
    ) -> list[CheckResult]:
        """Return what the releases of a run broke in live tables; also those that it had made
        before it was interrupted, whose children may not have been looked at."""
        releases = [published.release] if published.release else []
        if resumed and not releases:
            rows = self.core.state.read("releases_live_of_run", (run,))
            releases = [msgspec.json.decode(row[0], type=Release) for row in rows]
        return [
            result
            for release in releases
            if release.state == "live"
            for result in self.checks.check_children(release, by=by, run=run)
        ]

    @staticmethod
    def _taken_over(run: str) -> Busy:
        return Busy(
            "SX-RUN-004",
            f"run `{run}` was not heard of for {LEASE_S:g} s, and another process took over",
            hint="`sextant runs` shows it",
        )

    @staticmethod
    def _whole_definitions(
        manifest: Manifest, plan: Plan, outcome: Outcome, tables: Mapping[str, RunAsset]
    ) -> list[planning.Definition]:
        """Leave out a definition whose values could not all be made, and the values too: a KPI is
        never half of one meaning."""
        broken = {
            id_.removeprefix("audit:").partition("[")[0]
            for id_ in (*outcome.failed, *outcome.skipped)
        }
        whole, pairs = [], values_by_definition(manifest.assets)
        for definition in plan.definitions:
            values = pairs.get(definition.asset, "")
            if values not in broken:
                whole.append(definition)
            elif definition.source and values in tables:
                tables[values].staged.clear()
        return whole

    def _in_order(self, tables: Mapping[str, RunAsset], manifest: Manifest) -> dict[str, RunAsset]:
        ordered = [asset.id for asset in planning.order(manifest)]
        return {id_: tables[id_] for id_ in ordered if id_ in tables}

    def _untainted(self, env: str, tables: Mapping[str, RunAsset], intent: str) -> list[Statement]:
        """A run that read what was withdrawn meanwhile must not publish."""
        if intent == "undo":
            return []
        return [
            Statement(
                "withdrawn_live",
                (env, table.asset, table.base, env, table.asset, table.base),
                0,
                f"`{table.asset}` was rolled back while the run read it: run again",
            )
            for table in tables.values()
            if table.base
        ] + [
            Statement(
                "tainted_live",
                (table.asset, table.base, env, table.asset, table.base),
                0,
                f"`{table.asset}` was derived again while the run read it: run again",
            )
            for table in tables.values()
            if table.base
        ]

    def finish(
        self,
        state: FencedState,
        facts: RunChanged,
        history: History,
        outcome: Outcome,
        ended: str,
        ticks: Mapping[str, int],
        by: Principal,
        cause: str,
        error: str,
        wall_s: float,
    ) -> None:
        done = msgspec.structs.replace(
            facts,
            state=ended,
            computed=outcome.done,
            reused=outcome.reused,
            failed=len(outcome.failed),
            rows=outcome.rows,
            wall_s=round(wall_s, 6),
            error=error,
            seal=history.seal,
            finished_at=self.core.clock.now_ns(),
            ticks=dict(ticks),
        )
        state.commit(Write((), (self.core.events.make("run.finished", facts.id, done, by, cause),)))
        self.cancelled.discard(facts.id)
        live_runs(self.core).end(facts.id)

    def _report(
        self,
        run: str,
        env: str,
        outcome: Outcome,
        published: Published,
        tables: Mapping[str, RunAsset],
        started_s: float,
        broken: Sequence[CheckResult],
        *,
        resumed: bool,
    ) -> RunReport:
        core = self.core
        failed = []
        ended_badly = (*outcome.failed, *(f"write:{id_}" for id_ in published.failed))
        if ended_badly:
            last = {
                record.step: record
                for record in History.open(core.state, run).records
                if record.kind == "end" and not record.ok
            }
            failed = [
                StepSummary(
                    step=id_,
                    error=r.error,
                    code=r.error_code,
                    hint=r.hint,
                    where=r.where,
                    log=r.log,
                )
                for id_ in ended_badly
                if (r := last.get(id_)) is not None
            ]
        denied = {
            f"write:{id_}" for id_, error in published.failed.items() if isinstance(error, Denied)
        }
        refused_only = all(step.code == "SX-CHECK-001" or step.step in denied for step in failed)
        state = (
            "cancelled"
            if outcome.cancelled
            else "finished"
            if not failed
            else "refused"
            if refused_only
            else "failed"
        )
        waiting = (
            published.release.id
            if published.release and published.release.state == "waiting"
            else ""
        )
        if published.release and published.release.state == "rejected":
            state = "refused"
        return RunReport(
            id=run,
            env=env,
            state=state,
            steps=outcome.done + outcome.reused + len(outcome.failed),
            computed=outcome.done,
            reused=outcome.reused,
            rows=outcome.rows,
            wall_s=core.clock.monotonic_s() - started_s,
            release=published.release.id if published.release else "",
            published={
                id_: version for id_, version in published.versions.items() if not takes_time(id_)
            },
            rejected={release.moves[0].asset: release.id for release in published.rejected},
            held={
                id_: tuple(sorted(part.partition for part in table.held_back))
                for id_, table in tables.items()
                if table.held_back
            },
            failed=tuple(failed),
            skipped=(*outcome.skipped, *(f"write:{id_}" for id_ in published.skipped)),
            warned=tuple(c for t in tables.values() for c in t.checks if not c.ok),
            broken=tuple(broken),
            refused=tuple(
                c
                for t in tables.values()
                for c in t.refused_checks
                if not c.ok and c.severity == "error"
            ),
            withdrawn_in=published.release.withdrawn_in if published.release else {},
            waiting=waiting,
            releases=tuple(
                ReleaseSummary.of(one)
                for one in (published.release, *published.rolled, *published.rejected)
                if one is not None
            ),
            resumed=resumed,
        )

    def _stuck(
        self, state: FencedState, release: Release, env: str, message: str, cause: str
    ) -> None:
        events, asset = self.core.events, release.moves[0].asset
        text = f"the undo of release {release.id} in {env} failed: {message}"
        raised = events.signal(asset, "undo.failed", "critical", text, env=env, cause=cause)
        opened = events.incident(text, (asset,), (raised.subject,), cause=raised.id)
        state.commit(Write((), (raised, opened)))
