"""Runs what is due, until told to stop: by cron in the project's zone, and when an input has a new
version.

The scheduler of a server, and of `sextant run --watch`: one loop, one environment. Conditions read
versions, not run times, so what was missed while nobody watched is due at once. With a clock that
is moved by hand the same loop lives through a past year.
"""

import functools
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sextant.app.triggers import due, held_by_incidents, next_tick, pausing
from sextant.core import Core
from sextant.engine import keys
from sextant.engine import plan as planning
from sextant.engine.made import take_in
from sextant.engine.plan import Request
from sextant.kernel.clock import NS
from sextant.kernel.errors import Busy, SextantError, UsageError, UserError
from sextant.kernel.limits import RUNS_SCHEDULED_MAX
from sextant.kernel.nouns import Manifest
from sextant.kernel.partitions import ALL

if TYPE_CHECKING:
    from sextant.app.runs import Runs
    from sextant.kernel.answers import RunReport

Pending = tuple[str, str, str, str]  # asset, partition, code digest, digest of its inputs
_LOOK_S = 0.1  # how often a scheduler whose runs go on looks whether something was written
_AGAIN_S = 1.0  # what could not be run, because somebody else writes it, is tried again so late
_CRASHED_S = 2.0  # how soon a scheduler notices that the process of somebody's run has died
_IDLE_S = 30.0  # longest sleep between two looks, so that an edit of the project is seen


def days_of(core: Core, request: Request) -> list[str]:
    """Return the partition keys, one for each run of `--each`: those of the finest time grain that
    is asked for."""
    assert request.partitions is not None
    manifest = core.project.manifest()
    chosen = planning.select(manifest, request)
    grains = {a.id: keys.partitioning(a) for a in manifest.assets if a.id in chosen and a.build}
    for grain in ("hourly", "daily", "monthly"):
        for slices in grains.values():
            if slices.grain == grain:
                return slices.between(*request.partitions)
    raise UsageError(
        "SX-CLI-005", "none of these assets has partitions in time", hint="leave --each out"
    )


class Due(NamedTuple):
    """Assets that are due and stand on each other: one run makes them."""

    assets: frozenset[str]
    ticks: dict[str, int]  # asset -> the cron instant (ns) that the run acts on
    pending: frozenset[Pending]


def due_now(runs: "Runs", env: str, request: Request, tried: set[Pending]) -> list[Due]:
    """Return what is due now, in groups that have nothing to do with each other: assets whose cron
    has come, and everything behind a changed input.

    tried  what an earlier run tried and is pending still (it failed, or waits for approval): not
           run again by itself before something changed; brought up to date here
    """
    core = runs.core
    if not core.project.has_version(env):
        return []
    manifest = core.project.manifest(env)
    chosen = planning.select(manifest, request)
    now = core.clock.now_ns()
    ticks = due(core, env, manifest, chosen, now)
    by_input = {
        a.id
        for a in manifest.assets
        if a.id in chosen and a.build and (a.build.inputs or a.is_pushed) and a.follows_inputs
    } - pausing(core, env, manifest, chosen, now).keys()
    held = held_by_incidents(core, manifest)
    by_input -= held.keys()
    ticks = {asset: at for asset, at in ticks.items() if asset not in held}
    if any(a.id in by_input and a.is_pushed for a in manifest.assets):
        take_in(runs.core, manifest, by_input)
    pending = _pending(runs, env, manifest, by_input)
    tried &= pending
    if not ticks and pending <= tried:
        return []
    wanted = {*ticks, *(one[0] for one in pending - tried)}
    groups = _connected(manifest, _with_downstream(manifest, wanted, by_input))
    return [
        Due(
            group,
            {asset: at for asset, at in ticks.items() if asset in group},
            frozenset(one for one in pending if one[0] in group),
        )
        for group in groups
        if group & wanted
    ]


def run_due(runs: "Runs", env: str, request: Request, group: Due) -> "RunReport | None":
    """Run what is due; None when it was nothing after all. Busy when another run writes the
    same."""
    core = runs.core
    asked = msgspec.structs.replace(
        request, assets=tuple(sorted(group.assets)), downstream=False, asked=False
    )
    report = runs.run(
        env,
        asked,
        by=core.authorization.who(),
        trigger="schedule",
        ticks=group.ticks,
        resume=False,
        pinned=True,
    )
    return report if report.id else None


def tick(
    runs: "Runs", env: str, request: Request, tried: set[Pending] | None = None
) -> "RunReport | None":
    """Resume crashed runs and run what is due now, one group after the other. Returns the last
    report, None when nothing was due. `tried`: see `due_now`."""
    core = runs.core
    tried = set() if tried is None else tried
    runs.resuming.resume_crashed(env, by=core.authorization.who())
    last = None
    for group in due_now(runs, env, request, tried):
        try:
            last = run_due(runs, env, request, group) or last
        except UserError:  # the same would be refused again
            tried |= group.pending
            raise
        tried |= group.pending
    return last


def _connected(manifest: Manifest, assets: set[str]) -> list[frozenset[str]]:
    """Return assets in groups: two that read, or are compared with, each other are in one, and so
    are a kpi and its values."""
    group_of = {id_: {id_} for id_ in assets}

    def join(one: str, other: str) -> None:
        if other in group_of and group_of[one] is not group_of[other]:
            group_of[one] |= group_of[other]
            for id_ in group_of[other]:
                group_of[id_] = group_of[one]

    for asset in manifest.assets:
        if asset.id in group_of:
            for bound in asset.build.inputs if asset.build else ():
                join(asset.id, bound.asset)
            for compared in planning.compared_with(asset):
                join(asset.id, compared)
            if asset.defined_by:
                join(asset.id, asset.defined_by)
    return sorted({frozenset(group) for group in group_of.values()}, key=min)


def _with_downstream(manifest: Manifest, start: set[str], allowed: set[str]) -> set[str]:
    out = set(start)
    for asset in planning.order(manifest):
        if asset.id in allowed and asset.build and any(i.asset in out for i in asset.build.inputs):
            out.add(asset.id)
    return out


def _pending(runs: "Runs", env: str, manifest: Manifest, by_input: set[str]) -> set[Pending]:
    """Return what new versions of inputs, or of definitions, have made due."""
    if not by_input:
        return set()
    request = Request(
        assets=tuple(sorted(by_input)), downstream=False, look_back=False, asked=False
    )
    plan = planning.plan(manifest, runs.plans.scene(env, manifest), request)
    return {
        (step.asset, item.partition, item.code, item.inputs)
        for step in plan.steps
        for item in step.items
    } | {(d.asset, ALL, d.target, "") for d in plan.definitions}


def watch(
    runs: "Runs",
    env: str,
    request: Request,
    *,
    say: Callable[[str], None],
    tell: "Callable[[RunReport], None]",
) -> int:
    """Run what is due until interrupted: groups that have nothing to do with each other beside each
    other. Crashed runs are resumed at every look. Errors of a run are said and the watch goes on.
    """
    with runs.interrupts.stoppable(), ThreadPoolExecutor(RUNS_SCHEDULED_MAX, "sextant-run") as pool:
        return _Watch(runs, env, request, pool, say, tell).run()


class _Watch:
    """One scheduler: one environment, several runs at once."""

    def __init__(
        self,
        runs: "Runs",
        env: str,
        request: Request,
        pool: ThreadPoolExecutor,
        say: Callable[[str], None],
        tell: "Callable[[RunReport], None]",
    ) -> None:
        self._runs, self._core = runs, runs.core
        self._env, self._request, self._pool = env, request, pool
        self._say, self._tell = say, tell
        self._tried: set[Pending] = set()
        self._waits_for_version = False  # and has said so
        # what goes on -> the assets that it makes (or the crashed run that it resumes), and what
        # was pending of them
        self._running: dict[Future[RunReport | None], Due] = {}
        # assets that could not be run just now -> when (s) to try them again
        self._again_at_s: dict[frozenset[str], float] = {}

    def run(self) -> int:
        core = self._core
        while not self._runs.interrupts.interrupted():
            seen = self._written()
            try:
                core.project.load(record=True)
                self._resume()
                self._start()
            except SextantError as error:
                self._fail(error)
            if self._running:
                self._wait_for_end(seen)
            else:
                self._runs.interrupts.pause(self._idle_s())
        wait(self._running)
        self._collect()
        return 0

    def _written(self) -> tuple[Any, ...]:
        """Return what changes whenever anybody writes something that may make assets due."""
        state = self._core.state
        return (*state.read("event_head"), *state.read("inbox_waits"))

    def _resume(self) -> None:
        for facts in self._runs.resuming.crashed(self._env):
            if not any(facts.id in one.assets for one in self._running.values()):
                self._submit(  # the run itself stands for what it makes
                    Due(frozenset({facts.id}), {}, frozenset()),
                    functools.partial(
                        self._runs.resuming.resume, facts, by=self._core.authorization.who()
                    ),
                )

    def _start(self) -> None:
        if not self._core.project.has_version(self._env):
            if not self._waits_for_version:
                self._say(
                    f"no version of the project is in force in {self._env} yet: "
                    f"`sextant run --env {self._env}` of a person releases what the folder has"
                )
            self._waits_for_version = True
            return
        self._waits_for_version = False
        for group in due_now(self._runs, self._env, self._request, self._tried):
            busy = frozenset().union(*(one.assets for one in self._running.values()))
            if group.assets.isdisjoint(busy):
                self._submit(
                    group, functools.partial(run_due, self._runs, self._env, self._request, group)
                )

    def _submit(self, group: Due, work: "Callable[[], RunReport | None]") -> None:
        now_s = self._core.clock.monotonic_s()
        self._again_at_s = {one: at for one, at in self._again_at_s.items() if at > now_s}
        if len(self._running) < RUNS_SCHEDULED_MAX and group.assets not in self._again_at_s:
            self._running[self._pool.submit(work)] = group

    def _wait_for_end(self, seen: tuple[Any, ...]) -> None:
        """Wait until a run has ended, or something was written that may make others due."""
        while not any(one.done() for one in self._running):
            wait(self._running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            if self._runs.interrupts.interrupted() or self._written() != seen:
                break
        self._collect()

    def _collect(self) -> None:
        for one in [one for one in self._running if one.done()]:
            group = self._running.pop(one)
            try:
                report = one.result()
            except SextantError as error:
                self._fail(error)
                if isinstance(error, UserError):  # the same would be refused again
                    self._tried |= group.pending
                else:
                    now_s = self._core.clock.monotonic_s()
                    self._again_at_s[group.assets] = now_s + _AGAIN_S
            else:
                self._tried |= group.pending
                if report is not None:
                    self._tell(report)

    def _fail(self, error: SextantError) -> None:
        for line in [error.message] if isinstance(error, Busy) else error.lines():
            self._say(line)

    def _idle_s(self) -> float:
        """Return how long nothing can become due that nobody writes."""
        core = self._core
        manifest, now = core.project.manifest(self._env), core.clock.now_ns()
        chosen = planning.select(manifest, self._request)
        instants = [
            next_tick(manifest, chosen, now),
            *pausing(core, self._env, manifest, chosen, now).values(),
        ]
        now_s = core.clock.monotonic_s()
        soon = [at_s - now_s for at_s in self._again_at_s.values() if at_s > now_s]
        idle = min(_CRASHED_S if core.state.read("runs_open") else _IDLE_S, *soon, _IDLE_S)
        upcoming = min((at for at in instants if at), default=0)
        return max(0.05, min(idle, (upcoming - now) / NS) if upcoming else idle)
