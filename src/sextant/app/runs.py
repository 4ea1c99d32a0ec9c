"""Plans, executes and publishes: the one path by which anything managed is made, forward (`run`)
and back (`undo`)."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.app.claims import Claim, Prepared, Waiting, claim, environment_guard, hold
from sextant.authorization.decide import Decision, combine
from sextant.engine.execute import Done, Outcome, Started, Task, execute
from sextant.engine.history import History, Record
from sextant.engine.leases import FencedState, Leases, is_alive
from sextant.kernel.errors import (
    Busy,
    Conflict,
    NotFound,
    SextantError,
    StepFailed,
    UserError,
    joined,
)
from sextant.kernel.limits import COLUMN_MISTAKES_SHOWN_MAX, DECLARATIONS_READ_MAX, LEASE_S
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    CheckSpec,
    Event,
    Incident,
    Manifest,
    Move,
    Part,
    Principal,
    Release,
    Signal,
    Strategy,
    Version,
    actor_of,
)
from sextant.kernel.ports import Statement, Write
from sextant.kinds.dataset import columns, keys
from sextant.kinds.dataset import plan as planning
from sextant.kinds.dataset.expect import expected
from sextant.kinds.dataset.holds import Holds
from sextant.kinds.dataset.plan import Plan, Request, Scene
from sextant.kinds.dataset.publish import (
    NOTHING_MOVED,
    Decide,
    Moved,
    Moving,
    Published,
    digest_of,
    undo_table,
    withdrawn_in,
)
from sextant.kinds.dataset.reasons import Declared, causes
from sextant.kinds.dataset.tables import RunTable, Staged, merge_schema
from sextant.kinds.dataset.work import DataWork
from sextant.ledger.log import entries
from sextant.ledger.projections import (
    AssetDeclared,
    ChecksCompleted,
    ProjectLoaded,
    RunChanged,
    stored_run,
)
from sextant.ledger.versions import changed
from sextant.release import signals

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_FAR = 1 << 62
_UNWRITTEN = "what its steps made is kept: run again when the reason is gone"
_SPARE_RUNS = 5  # how many runs back one that did not publish still lends what it made
Progress = Callable[[Task, Done], None]


def _silent(_task: Task, _done: Done) -> None:
    """Nobody follows the steps."""


def _no_start(_task: Task, _total: int) -> None:
    """Nobody follows the steps."""


class _Files(msgspec.Struct, frozen=True):
    """Of a manifest, only its files."""

    files: dict[str, str] = {}


class StepSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that did not end well."""

    step: str
    error: str
    code: str = ""
    hint: str = ""
    where: str = ""
    log: str = ""


class RunReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run did. `state`: finished, refused (a check said no), failed, cancelled."""

    id: str
    env: str
    state: str
    steps: int = 0
    computed: int = 0
    reused: int = 0
    rows: int = 0
    wall_s: float = 0.0
    release: str = ""
    published: dict[str, str] = {}
    rejected: dict[str, str] = {}  # asset -> release id
    held: dict[str, tuple[str, ...]] = {}  # asset -> partitions that came out as what was undone
    failed: tuple[StepSummary, ...] = ()
    skipped: tuple[str, ...] = ()
    warned: tuple[CheckResult, ...] = ()
    broken: tuple[CheckResult, ...] = ()  # foreign keys of live tables that this run broke
    refused: tuple[CheckResult, ...] = ()
    # asset -> other environments in which what this run brought was undone
    withdrawn_in: dict[str, tuple[str, ...]] = {}
    waiting: str = ""  # the release waits for approval
    # asset -> how many partitions are stale by their code, and were not asked for
    stale: dict[str, int] = {}
    resumed: bool = False

    @property
    def exit_code(self) -> int:
        return {"finished": 0, "refused": 1, "cancelled": 130}.get(self.state, 3)


class Runs:
    """Runs of one platform."""

    def __init__(self, platform: "LocalPlatform") -> None:
        self._p = platform

    # ------------------------------------------------------------ planning

    def scene(
        self, env: str, manifest: Manifest, overlay: Mapping[str, RunTable] | None = None
    ) -> Scene:
        """Read what is live, held and known."""
        p = self._p
        live = p.versions.live(env)
        ids = [asset.id for asset in manifest.assets]
        parts = {
            id_: p.versions.parts(id_, live[id_].version)
            for id_ in ids
            if id_ in live and not id_.startswith("kpi:")
        }
        for id_, table in (overlay or {}).items():
            parts[id_] = table.parts()
        made: dict[str, dict[tuple[str, str, str], str]] = {}
        for id_ in parts:
            rows = p.state.read("made_of", (id_,))
            if rows:
                made[id_] = {(r[0], r[1], r[2]): r[3] for r in rows}
        held = self._held(env)
        records = {id_: p.versions.get(id_, live[id_].version) for id_ in parts if id_ in live}
        return Scene(
            env=env,
            now=p.clock.now_ns(),
            live=parts,
            records=records,
            pushed={
                id_: {key: keys.pushed_digest(blobs) for key, blobs in mine.items()}
                for id_, mine in p.inbox.parts(manifest).items()
            },
            versions={id_: pointer.version for id_, pointer in live.items()},
            held=held,
            undone_elsewhere=self._undone_elsewhere(env),
            made=made,
            costs=self._costs({**self._newest(i for i in ids if i not in records), **records}),
        )

    def _undone_elsewhere(self, env: str) -> dict[tuple[str, str, str, str], tuple[str, ...]]:
        found: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        for other, asset, partition, code, inputs, *_ in self._p.state.read(
            "held_elsewhere", (env,)
        ):
            key = (asset, partition, code, inputs)
            found[key] = (*found.get(key, ()), other)
        return found

    def _held(self, env: str) -> Holds:
        return Holds(self._p.state.read("held", (env,)), self._p.state.read("answered", (env,)))

    def _spare(self, env: str) -> list[tuple[str, str]]:
        """Return what the newest runs made that ended before they could publish: running again goes
        on from there."""
        found: list[tuple[str, str]] = []
        for row in self._p.state.read("runs", (_FAR, _SPARE_RUNS)):
            if row[1] == env and row[2] in ("cancelled", "failed"):
                found += _outputs(History.open(self._p.state, row[0]))
        return found

    def _newest(self, ids: Iterable[str]) -> dict[str, Version]:
        """Return the newest versions of assets that are not live here: what they cost elsewhere."""
        tables = (id_ for id_ in ids if not id_.startswith("kpi:"))
        found = {id_: self._p.state.read("versions", (id_, _FAR, 1)) for id_ in tables}
        return {
            id_: msgspec.json.decode(rows[0][1], type=Version)
            for id_, rows in found.items()
            if rows
        }

    def _costs(self, records: Mapping[str, Version]) -> dict[str, tuple[float, float]]:
        out = {}
        for id_, version in records.items():
            count = version.meta.get("made", 0)
            whole = len(self._p.versions.parts(id_, version.digest)) or 1
            if count:
                out[id_] = (version.meta.get("wall_s", 0.0) / count, version.size_bytes / whole)
        return out

    def plan(self, env: str, request: Request) -> Plan:
        """Return what would run and why. Changes nothing."""
        manifest = self._p.manifest()
        return planning.plan(manifest, self.scene(env, manifest), request)

    def checked_plan(self, env: str, request: Request) -> Plan:
        """Return what would run and why, for a person: with what changed, what will be reused,
        the columns that could not be looked up and those that are personal by what they are made
        of. ProjectError lists columns that the project names and that are not there."""
        manifest = self._p.manifest()
        scene = self.scene(env, manifest)
        plan = planning.plan(manifest, scene, request)
        unchecked = self._check_columns(manifest, scene, plan, planning.select(manifest, request))
        return msgspec.structs.replace(
            expected(plan, manifest, scene, self._kept),
            causes=causes(plan, manifest, scene, self._declared),
            unchecked=unchecked,
            personal=self._p.personal().undeclared(),
        )

    def _kept(self, asset: str, code: str) -> dict[tuple[str, str], str]:
        """Return (partition, inputs) -> content of what kept versions have that this code made."""
        return {(r[0], r[1]): r[2] for r in self._p.state.read("parts_kept", (asset, code))}

    def _declared(self, asset: str) -> Iterator[Declared]:
        """Yield the declarations of an asset, newest first, with the project's files then."""
        p = self._p
        about = (asset, _FAR, DECLARATIONS_READ_MAX)
        for one in entries(p.state.read, "events_of_subject", about):
            if one.envelope.type == "asset.declared" and not one.is_erased:
                loaded = entries(p.state.read, "event_by_id", (one.envelope.cause,))
                blob = loaded[0].read(ProjectLoaded).manifest if loaded else ""
                files = (
                    msgspec.json.decode(p.blobs.get(blob), type=_Files).files
                    if p.blobs.has(blob)
                    else {}
                )
                yield Declared(one.read(AssetDeclared).asset, files)

    def _check_columns(
        self, manifest: Manifest, scene: Scene, plan: Plan, assets: Collection[str]
    ) -> columns.Unchecked:
        found = columns.check(manifest, scene, plan, assets, self._p.versions.get)
        if found.mistakes:
            raise joined(
                "SX-PLAN-006",
                f"what is planned names {len(found.mistakes)} columns that are not there",
                found.mistakes,
                shown=COLUMN_MISTAKES_SHOWN_MAX,
            )
        return found.unchecked

    # ------------------------------------------------------------ running

    def run(
        self,
        env: str,
        request: Request,
        *,
        by: Principal,
        trigger: str = "manual",
        cause: str = "",
        ticks: Mapping[str, int] | None = None,
        on_start: Started = _no_start,
        progress: Progress = lambda _t, _d: None,
        break_glass: str = "",
        waits: Waiting | None = None,
        resume: bool = True,
        check_columns: bool = False,
    ) -> RunReport:
        """Make what the request asks for and publish it.

        resume  crashed runs of this environment first
        waits   told whom the run waits for when somebody writes the same; without it the run does
                not wait
        check_columns  refuse, before anything starts, when what is planned names columns that are
                not there: for persons. A schedule goes on, and the step that meets it fails
        Raises  Busy when another run writes one of the datasets, Denied, UserError. Failed steps
                are in the report
        """
        p = self._p
        manifest = p.manifest()
        chosen = planning.select(manifest, request)
        passed = set(self._allowed(by, "run", env, manifest, chosen, break_glass))
        if resume:
            self.resume_crashed(env, by=by, progress=progress)
        p.inbox.fold(manifest, p.system, chosen)

        stale: dict[str, int] = {}

        def prepare() -> Prepared | None:
            scene = self.scene(env, manifest)
            plan = planning.plan(manifest, scene, request)
            stale.update({id_: len(found) for id_, found in plan.stale.items()})
            if not plan.steps and not plan.definitions and not ticks:
                return None
            if check_columns:
                self._check_columns(manifest, scene, plan, Prepared(plan=plan).writes)
            moving = _planned(plan)
            passed.update(self._allowed(by, "run", env, manifest, moving, break_glass, moving))
            return Prepared(plan=plan)

        run = p.ids.new("run")
        with claim(p, env, run, prepare, waits=waits) as claimed:
            if claimed is None:
                return RunReport(id="", env=env, state="finished", stale=stale)
            return self._execute(
                env,
                manifest,
                claimed,
                run,
                by=by,
                trigger=trigger,
                cause=cause,
                ticks=ticks or {},
                on_start=on_start,
                progress=progress,
                break_glass=break_glass,
                passed=passed,
                request=request,
            )

    def undo(
        self,
        env: str,
        asset_id: str,
        *,
        by: Principal,
        reason: str,
        version: str = "",
        downstream: bool = True,
        break_glass: str = "",
        on_start: Started = _no_start,
        progress: Progress = lambda _t, _d: None,
        waits: Waiting | None = None,
    ) -> RunReport:
        """Take back what the release of a version changed, and derive again what stands on it; all
        in one release. The release that is undone is the one that was live when this was called,
        however long the undo waits for other runs; crashed runs stay as they are.

        version  the bad version ("" = the live one)
        waits    told whom the undo waits for; without it the undo does not wait
        Raises   NotFound when nothing was released; Conflict when later writes changed the same
                 partitions, with nothing changed; Busy when a run writes the same
        """
        p = self._p
        manifest = p.manifest()
        if manifest.asset(asset_id) is None:
            raise NotFound(
                "SX-PLAN-002",
                f"there is no asset `{asset_id}`",
                hint="`sextant graph` lists the assets",
            )
        passed = set(self._allowed(by, "rollback", env, manifest, {asset_id}, break_glass))
        bad, target = self._undo_target(env, asset_id, version)

        def prepare() -> Prepared:
            prepared = self._prepare_undo(env, manifest, asset_id, bad, target.id, downstream)
            moving = {asset_id: self._taken_back(env, asset_id, prepared)}
            passed.update(self._allowed(by, "rollback", env, manifest, moving, break_glass, moving))
            return prepared

        run = p.ids.new("run")
        with claim(p, env, run, prepare, waits=waits) as claimed:
            assert claimed is not None
            return self._execute(
                env,
                manifest,
                claimed,
                run,
                by=by,
                trigger="undo",
                cause=self._event_of(target.id),
                ticks={},
                on_start=on_start,
                progress=progress,
                request=Request(assets=tuple(claimed.prepared.overlay), look_back=False),
                intent="undo",
                reason=reason,
                break_glass=break_glass,
                passed=passed,
            )

    def _taken_back(self, env: str, asset_id: str, prepared: Prepared) -> Moved:
        """Return what an undo moves of the asset that it is about; of a KPI, of its values."""
        id_ = asset_id if asset_id in prepared.overlay else _values_of(asset_id)
        table = prepared.overlay.get(id_)
        if table is None:
            return NOTHING_MOVED
        move = Move(env=env, asset=id_, source=table.base, target=digest_of(table))
        return self._p.publisher.moving(env, [move], prepared.overlay)[id_]

    def _undo_target(self, env: str, asset_id: str, version: str) -> tuple[str, Release]:
        """Return the version to undo ("" = the one that is live now) and the release that brought
        it. NotFound, Conflict."""
        p = self._p
        live = p.versions.live(env).get(asset_id)
        if version:
            bad = p.versions.find(asset_id, version)
        elif live is None:
            bad = ""
        elif p.releases.get(live.release).intent == "undo":
            raise Conflict(
                "SX-UNDO-005",
                f"what is live of `{asset_id}` was brought back by an undo",
                hint=f"name the version to undo: `sextant versions {asset_id}` lists them",
            )
        elif live.env == env:  # by its pointer: clocks do not say which of two releases is newer
            return live.version, p.releases.get(live.release)
        else:
            bad = live.version
        rows = p.state.read("release_of_move", (env, asset_id, bad)) if bad else []
        if not rows:
            raise NotFound(
                "SX-UNDO-001",
                f"no release brought a version of `{asset_id}` into `{env}`",
                hint=f"`sextant releases --env {env}` lists them",
            )
        return bad, msgspec.json.decode(rows[0][0], type=Release)

    def _prepare_undo(
        self,
        env: str,
        manifest: Manifest,
        asset_id: str,
        bad: str,
        release_id: str,
        downstream: bool,
    ) -> Prepared:
        """Return what has to be done to take a release back, as things are now. Conflict where
        later releases changed the same, or nothing of it is live any more."""
        p = self._p
        release = p.releases.get(release_id)
        assets = {asset.id: asset for asset in manifest.assets}
        for move in release.moves:
            if move.asset == asset_id and move.env == env:
                self._not_expired(asset_id, move.source)
        twin = (
            {
                f"kpi:{asset_id.removeprefix('dataset:kpi_')}",
                f"dataset:kpi_{asset_id.removeprefix('kpi:')}",
            }
            if "kpi" in asset_id
            else set()
        )
        moves = [
            m
            for m in release.moves
            if m.env == env
            and (m.asset == asset_id or (m.asset in twin and asset_id.startswith("kpi:")))
        ]
        tables: dict[str, RunTable] = {}
        definitions: list[planning.Definition] = []
        conflicts: list[str] = []
        for move in moves:
            if move.asset.startswith("kpi:"):
                if p.versions.live_version(env, move.asset) != move.target:
                    conflicts.append(move.asset)
                    continue
                if not move.source:
                    raise Conflict(
                        "SX-UNDO-002",
                        f"`{move.asset}` had no earlier definition",
                        hint="remove it from the project instead",
                    )
                definitions.append(
                    planning.Definition(
                        asset=move.asset,
                        source=p.versions.live_version(env, move.asset),
                        target=move.source,
                    )
                )
                continue
            table = self._table(env, assets[move.asset])
            conflicts += [f"{move.asset}[{name}]" for name in undo_table(table, move, p.versions)]
            if asset_id.startswith(
                "kpi:"
            ):  # what the undone definition made later has no older meaning to go back to
                codes = {
                    part.code for part in p.versions.parts(move.asset, move.target).values()
                } - {part.code for part in p.versions.parts(move.asset, move.source).values()}
                table.removed |= {
                    name
                    for name, part in table.base_parts.items()
                    if part.code in codes and name not in table.staged
                }
            tables[move.asset] = table
        if conflicts:
            shown = ", ".join(conflicts[:5]) + (
                f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
            )
            raise Conflict(
                "SX-UNDO-003",
                f"later releases changed the same: {shown}",
                hint="undo the later release first, or run these partitions again",
            )
        if not any(table.changed for table in tables.values()) and not definitions:
            raise Conflict(
                "SX-UNDO-004", f"nothing of version `{bad[:12]}` of `{asset_id}` is live any more"
            )
        undone = tuple(tables)
        scene = self.scene(env, manifest, tables)
        if downstream:
            scene = self._remove_orphans(env, manifest, tables, scene)
        plan = planning.plan(manifest, scene, Request(assets=undone, look_back=False))
        keep = (
            tuple(
                step
                for step in (_only(step, ("inputs changed", "input runs")) for step in plan.steps)
                if step and step.asset not in undone
            )
            if downstream
            else ()
        )
        ids = {step.id for step in keep}
        keep = tuple(
            msgspec.structs.replace(step, deps=tuple(dep for dep in step.deps if dep in ids))
            for step in keep
        )
        plan = msgspec.structs.replace(plan, steps=keep, definitions=tuple(definitions))
        return Prepared(plan=plan, overlay=tables, undoes=release)

    def _remove_orphans(
        self, env: str, manifest: Manifest, tables: dict[str, RunTable], scene: Scene
    ) -> Scene:
        """Lay removals over what was derived from partitions that are gone, if nothing is left to
        derive it from. Return the scene as it is then."""
        assets = {asset.id: asset for asset in manifest.assets}
        live = dict(scene.live)
        was = {**live, **{id_: table.base_parts for id_, table in tables.items()}}
        before = msgspec.structs.replace(scene, live=was)
        scene = msgspec.structs.replace(scene, live=live)
        for asset in planning.order(manifest):
            if asset.build is None or asset.id in tables or asset.id not in live:
                continue
            if not any(
                bound.asset in tables and tables[bound.asset].removed
                for bound in asset.build.inputs
            ):
                continue
            gone = planning.without_inputs(asset, assets, scene)
            gone -= planning.without_inputs(asset, assets, before)
            if gone:
                table = tables[asset.id] = self._table(env, asset)
                table.removed |= gone
                live[asset.id] = table.parts()
        return scene

    def release(
        self,
        env: str,
        asset: Asset,
        *,
        version: str = "",
        source: str = "",
        by: Principal,
        break_glass: str = "",
        waits: Waiting | None = None,
    ) -> Release:
        """Make a version live: one named by its digest, or what is live in environment `source`.

        A version that descends from what is live, or that was live before, is taken as it is.
        Otherwise only what it changed since the common ancestor is laid over the live one; Conflict
        where both changed a partition. `waits`: see `run`.
        """
        p = self._p
        self._allowed(by, "release", env, p.manifest(), {asset.id}, break_glass)
        if source:
            p.check_env(source)
            target = p.versions.live_version(source, asset.id)
            if not target:
                raise NotFound("SX-VERSION-004", f"`{asset.id}` has no live version in `{source}`")
        else:
            target = p.versions.find(asset.id, version)
        self._not_expired(asset.id, target)
        same = environment_guard(p, env)
        with hold(p, env, p.ids.new("run"), {asset.id}, waits=waits) as leases:
            guards = (*leases.guards(), same)
            release = self._release(env, asset, target, by, break_glass, guards)
        if release.state == "live":
            self.check_children(release, by=by)
        return release

    def _release(
        self,
        env: str,
        asset: Asset,
        target: str,
        by: Principal,
        break_glass: str,
        guards: Sequence[Statement],
    ) -> Release:
        p = self._p
        head = p.versions.live_version(env, asset.id)
        if head == target:
            raise Conflict(
                "SX-RELEASE-009",
                f"version `{target[:12]}` of `{asset.id}` is live in `{env}` already",
            )
        base = p.versions.base_of(asset.id, head, target) if head else ""
        if asset.id.startswith("dataset:") and head and base not in (head, target):
            return self._rebased(env, asset, head, base, target, by, break_glass, guards)
        move = Move(env=env, asset=asset.id, source=head, target=target)
        brought, gone = changed(
            p.versions.parts(asset.id, head), p.versions.parts(asset.id, target)
        )
        moving = {asset.id: p.publisher.moved(env, move, tuple(brought.values()), gone=len(gone))}
        decide_ = self._decider(by, env, {asset.id: asset}, break_glass, "release")
        drafted = p.releases.draft(
            [move],
            by=by,
            decision=decide_([move], moving),
            withdrawn_in=withdrawn_in(moving),
            strategy=Strategy(kind="publish"),
            broke_glass=break_glass,
            reason=break_glass,
        )
        self._refuse_undone(env, asset, brought.values(), break_glass)
        there = Statement(
            "version_expired_is",
            (asset.id, target),
            0,
            f"the rows of version `{target[:12]}` of `{asset.id}` have just expired",
        )
        return p.releases.propose(
            drafted,
            guards=(*guards, there),
            before=self._glass("release", env, [asset], break_glass, by, moving=moving),
            cause=self._event_of(f"{asset.id}@{target}"),
        )

    def _refuse_undone(
        self, env: str, asset: Asset, brought: Iterable[Part], break_glass: str
    ) -> None:
        """Conflict when a version that somebody names brings partitions that were undone here."""
        rows = self._p.state.read("held", (env,))
        held = Holds(rows)
        for part in brought if not break_glass else ():
            if held.keeps_out(asset, part):
                key = (asset.id, part.partition, part.code, part.inputs)
                undone = next(str(row[4]) for row in rows if tuple(row[:4]) == key)
                raise Conflict(
                    "SX-RELEASE-011",
                    f"partition `{part.partition}` of `{asset.id}` was undone in `{env}`, and this "
                    "version brings it back",
                    hint=f"change its code or inputs, or `sextant release {asset.id} {undone[:12]} "
                    "--unhold`",
                )

    def _not_expired(self, asset: str, digest: str) -> None:
        if digest and self._p.state.read("version_expired_is", (asset, digest)):
            raise NotFound(
                "SX-VERSION-007",
                f"the rows of version `{digest[:12]}` of `{asset}` have expired; its record stays",
                hint=(
                    f"`sextant backfill {asset} ...` makes them again; keep= of the asset says "
                    "how long rows are kept"
                ),
            )

    def _rebased(
        self,
        env: str,
        asset: Asset,
        head: str,
        base: str,
        target: str,
        by: Principal,
        break_glass: str,
        guards: Sequence[Statement],
    ) -> Release:
        p = self._p
        before, wanted = p.versions.parts(asset.id, base), p.versions.parts(asset.id, target)
        differs, gone = changed(before, wanted)
        table = self._table(env, asset)
        origin = p.versions.get(asset.id, target)
        self._refuse_undone(env, asset, differs.values(), break_glass)
        for name in [*differs, *gone]:
            live, was = table.base_parts.get(name), before.get(name)
            if (live.digest if live else "") != (was.digest if was else ""):
                raise Conflict(
                    "SX-RELEASE-010",
                    f"partition `{name}` of `{asset.id}` was changed in `{env}` as well",
                    hint=(
                        f"`sextant diff {asset.id}@{head[:12]} {target[:12]}` shows both; run "
                        "it again in the source environment"
                    ),
                )
            if name in wanted:
                table.staged[name] = Staged(part=wanted[name], origin=origin.locator)
            else:
                table.removed.add(name)
        table.schema = merge_schema(table.schema, origin.schema)
        table.made_from = dict(origin.inputs)
        refused = origin.meta.get("refused", ())
        done = p.publisher.publish(
            env,
            {asset.id: table},
            {asset.id: asset},
            run=origin.run,
            by=by,
            decide=self._decider(by, env, {asset.id: asset}, break_glass, "release"),
            cause=self._event_of(f"{asset.id}@{target}"),
            guards=guards,
            broke_glass=break_glass,
            reason=break_glass or f"rebased from {target[:12]}",
            whole=True,
            refused=tuple(refused),
            before=lambda moving: self._glass(
                "release", env, [asset], break_glass, by, moving=moving
            ),
        )
        if done.release is None:
            raise Conflict(
                "SX-RELEASE-009",
                f"what version `{target[:12]}` of `{asset.id}` changed is live in `{env}` already",
            )
        return done.release

    def _glass(
        self,
        verb: str,
        env: str,
        assets: Sequence[Asset],
        reason: str,
        by: Principal,
        intent: str = "release",
        moving: Moving | None = None,
    ) -> list[Event]:
        """Breaking the glass leaves an event for each asset of which it passed a deny, and a signal
        for each owner, which stays open until someone has reviewed it."""
        if not reason:
            return []
        p = self._p
        events = []
        for owner in sorted({asset.owner for asset in assets}):
            theirs = [asset for asset in assets if asset.owner == owner]
            passed = {
                asset.id: p.decide(
                    by,
                    verb,
                    asset,
                    env,
                    {
                        **(moving or {}).get(asset.id, NOTHING_MOVED).facts(),
                        "intent": intent,
                        "break_glass": True,
                    },
                ).passed
                for asset in theirs
            }
            rules = sorted({rule for names in passed.values() for rule in names})
            cause = ""
            for id_, names in passed.items():
                if names:
                    events.append(
                        self._event(
                            "decision.overridden",
                            id_,
                            {
                                "verb": verb,
                                "asset": id_,
                                "env": env,
                                "rules": names,
                                "reason": reason,
                            },
                            by,
                            cause,
                        )
                    )
                    cause = cause or events[-1].id
            against = f", past the policy that denies it ({'; '.join(rules)})" if rules else ""
            message = (
                f"{by} broke the glass to {verb} {', '.join(passed)}{against}: {reason} (review "
                f"it; owner {owner or 'unknown'})"
            )
            signal = Signal(
                id=p.ids.new("sig"),
                asset=theirs[0].id,
                kind=signals.GLASS,
                severity="error" if rules else "warn",
                message=message,
                onset=p.clock.now_ns(),
                evidence={"env": env, "rules": rules} if rules else {},
            )
            events.append(self._event("signal.raised", signal.id, signal, by, cause))
        return events

    def check(self, env: str, asset: Asset, *, by: Principal) -> list[CheckResult]:
        """Run every check of an asset on what is live and record the results; a failed one of
        severity error is a signal, which closes when the check passes.

        Raises NotFound when nothing is live; StepFailed when the checks could not be run.
        """
        p = self._p
        manifest = p.manifest()
        values = manifest.asset(f"dataset:kpi_{asset.name}") if asset.kind == "kpi" else None
        asset = values or asset  # what is checked of a KPI are its values
        self._allowed(by, "check", env, manifest, {asset.id}, "")
        if not p.versions.live_version(env, asset.id):
            raise NotFound(
                "SX-VERSION-004",
                f"`{asset.id}` has no live version in `{env}`",
                hint=f"`sextant run {asset.id}` makes one",
            )
        return self._check_live(env, manifest, asset, asset.checks, by=by, cause="")

    def check_children(
        self, release: Release, *, by: Principal, run: str = ""
    ) -> list[CheckResult]:
        """Check the foreign keys that point into what a release has just taken rows out of, on the
        live tables that hold them. A broken one is a signal on the child. Returns what failed."""
        p = self._p
        manifest = p.manifest()
        cause = self._event_of(release.id)
        broken: list[CheckResult] = []
        for env in sorted({move.env for move in release.moves}):
            parents = {m.asset for m in release.moves if m.env == env and self._took_rows(m)}
            for child in manifest.assets:
                into = tuple(
                    check
                    for check in child.checks
                    if str(check.params.get("to", "")).rpartition(".")[0] in parents
                )
                if not into or not p.versions.live_version(env, child.id):
                    continue
                try:
                    results = self._check_live(
                        env, manifest, child, into, by=by, cause=cause, run=run
                    )
                except SextantError as error:  # what is published is published: said, not raised
                    text = f"could not be checked: {error.message}"
                    results = [
                        CheckResult(asset=child.id, name=check.name, ok=False, message=text)
                        for check in into
                    ]
                broken += [result for result in results if not result.ok]
        return broken

    def _took_rows(self, move: Move) -> bool:
        """Tell whether a move replaced or removed partitions; new ones break nobody."""
        if not move.source or not move.asset.startswith("dataset:"):
            return False
        before = self._p.versions.parts(move.asset, move.source)
        after = self._p.versions.parts(move.asset, move.target)
        return any(
            name not in after or after[name].digest != part.digest for name, part in before.items()
        )

    def _check_live(
        self,
        env: str,
        manifest: Manifest,
        asset: Asset,
        checks: Sequence[CheckSpec],
        *,
        by: Principal,
        cause: str,
        run: str = "",
    ) -> list[CheckResult]:
        """Run checks on the live version of an asset, record the results, raise and close signals.
        StepFailed when they could not be run."""
        p = self._p
        table = self._table(env, asset)
        assets = {a.id: a for a in manifest.assets}
        only = msgspec.structs.replace(
            asset, checks=tuple(msgspec.structs.replace(check, scope="table") for check in checks)
        )
        plan = Plan(env=env, steps=(planning.PlannedStep(id="none", asset=asset.id, items=()),))
        tables = self._tables(env, {**assets, asset.id: only}, plan, {})
        with p.unpacked(manifest.bundle) as project:
            work = DataWork(
                Plan(env=env),
                msgspec.structs.replace(
                    manifest, assets=tuple(only if a.id == asset.id else a for a in manifest.assets)
                ),
                run=p.ids.new("chk"),
                state=p.state,
                versions=p.versions,
                lake=p.lake,
                blobs=p.blobs,
                executors=p.executor,
                clock=p.clock,
                ids=p.ids,
                tables=tables,
                project=str(project),
                blobs_root=str(p.blobs.root),
            )
            result = work.audit_now(only)
        if not result.ok:
            raise StepFailed(result.error_code, result.error, hint=result.hint, where=result.where)
        done = self._event(
            "checks.completed",
            f"{asset.id}@{table.base}",
            ChecksCompleted(run, asset.id, table.base, result.checks),
            by,
            cause,
        )
        events = [done]
        failing = signals.open_checks(p.state, env, asset.id)
        for found in result.checks:
            if not found.ok and found.severity == "error" and found.name not in failing:
                signal = Signal(
                    id=p.ids.new("sig"),
                    asset=asset.id,
                    kind=signals.CHECK_FAILED,
                    severity="error",
                    message=f"{asset.id}: {found.name}: {found.message}",
                    onset=p.clock.now_ns(),
                    evidence=signals.evidence(env, found.name, version=table.base),
                )
                events.append(self._event("signal.raised", signal.id, signal, by, done.id))
        events += signals.close_passed(
            p.state,
            p.ids,
            env,
            asset.id,
            signals.passed(result.checks, whole=True),
            actor=str(by),
            cause=done.id,
        )
        p.state.commit(Write((), tuple(events)))
        return list(result.checks)

    # ------------------------------------------------------------ the one path

    def _execute(
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
        on_start: Started = _no_start,
        progress: Progress,
        request: Request,
        intent: str = "release",
        reason: str = "",
        break_glass: str = "",
        passed: Collection[str] = (),
        resumed: RunChanged | None = None,
    ) -> RunReport:
        """Execute a plan and publish what it made. `passed`: assets that the policy forbids to run,
        but for the broken glass.

        Raises  Busy (SX-RUN-004) when another process took the run over: it is not ours to end any
                more, and nothing of it was written since
        """
        p = self._p
        leases, (plan, overlay, undoes) = claimed.leases, msgspec.structs.astuple(claimed.prepared)
        state = leases.fenced()
        same = environment_guard(p, env)
        assets = {asset.id: asset for asset in manifest.assets}
        started_s, now = p.clock.monotonic_s(), p.clock.now_ns()
        with p.stoppable(), contextlib.ExitStack() as using:
            history = History.open(state, run) if resumed else History(run)
            tables = self._tables(env, assets, plan, overlay)
            facts = RunChanged(
                id=run,
                env=env,
                state="running",
                trigger=trigger,
                by=str(by),
                who=msgspec.structs.replace(by, credential=""),
                assets=request.assets,
                bundle=manifest.bundle,
                manifest=p.manifest_digest,
                due=dict(ticks),
                partitions="..".join(request.partitions or ()),
                mode=msgspec.json.encode(request).decode(),
                steps=len(plan.steps),
                started_at=now,
            )
            started = self._event("run.started", run, facts, by, cause)
            if not resumed:
                verb = "rollback" if intent == "undo" else "run"
                forbidden = [assets[id_] for id_ in sorted(passed)]
                glass = self._glass(verb, env, forbidden, break_glass, by)
                state.commit(Write((same,), (*glass, started)))
            else:
                started = msgspec.structs.replace(started, id=self._event_of(run))
            outcome, published = Outcome(), Published()
            try:
                if plan.steps:
                    p.warm()
                    work = DataWork(
                        plan,
                        manifest,
                        run=run,
                        state=state,
                        versions=p.versions,
                        lake=p.lake,
                        blobs=p.blobs,
                        executors=p.executor,
                        clock=p.clock,
                        ids=p.ids,
                        tables=tables,
                        project=str(using.enter_context(p.unpacked(manifest.bundle))),
                        blobs_root=str(p.blobs.root),
                        fence=leases.fence,
                        earlier=_outputs(history),
                        spare=self._spare(env),
                        held=self._held(env),
                        secrets_file=str(p.secrets_file),
                        past_gate=bool(break_glass),
                        as_it_was=intent == "undo",
                        pushed=p.inbox.parts(manifest),
                        settled=lambda id_: p.publisher.begin(tables[id_], assets[id_]),
                    )
                    outcome = execute(
                        work.tasks(),
                        work,
                        state=state,
                        history=history,
                        clock=p.clock,
                        slots=p.executor("").slots,
                        pools=p.config.pools,
                        cancelled=lambda: p.interrupted() or run in p.cancelled or leases.lost,
                        on_start=on_start,
                        progress=progress,
                    )
                definitions = self._whole_definitions(plan, outcome, tables)
                if not outcome.cancelled:
                    published = p.publisher.publish(
                        env,
                        self._in_order(tables, manifest),
                        assets,
                        run=run,
                        by=by,
                        decide=self._decider(by, env, assets, break_glass, intent),
                        cause=started.id,
                        definitions=definitions,
                        guards=(*leases.guards(), same),
                        untainted=self._untainted(env, tables, intent),
                        intent=intent,
                        undoes=undoes,
                        whole=undoes is not None,
                        reason=reason or break_glass,
                        broke_glass=break_glass,
                        before=lambda moving: self._glass(
                            "release",
                            env,
                            [assets[id_] for id_ in sorted(claimed.prepared.writes)],
                            break_glass,
                            by,
                            intent,
                            moving,
                        ),
                    )
            except Exception as error:
                if leases.are_lost():
                    raise self._taken_over(run) from error
                text = error.message if isinstance(error, SextantError) else repr(error)
                # Where even this cannot be written the run stays open, and the next one resumes it.
                with contextlib.suppress(SextantError):
                    if undoes is not None and not isinstance(error, UserError):
                        self._stuck(state, undoes, env, text, started.id)
                    wall_s = p.clock.monotonic_s() - started_s
                    self._finish(
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
                self._finish(
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
        p.after_run(env, tables, published)
        return report

    def _record_unwritten(
        self,
        state: FencedState,
        history: History,
        published: Published,
        assets: Mapping[str, Asset],
    ) -> None:
        """Record in the run's history which tables could not be written, and why."""
        now = self._p.clock.now_ns()
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
            rows = self._p.state.read("releases_live_of_run", (run,))
            releases = [msgspec.json.decode(row[0], type=Release) for row in rows]
        return [
            result
            for release in releases
            if release.state == "live"
            for result in self.check_children(release, by=by, run=run)
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
        plan: Plan, outcome: Outcome, tables: Mapping[str, RunTable]
    ) -> list[planning.Definition]:
        """Leave out a definition whose values could not all be made, and the values too: a KPI is
        never half of one meaning."""
        broken = {
            id_.removeprefix("audit:").partition("[")[0]
            for id_ in (*outcome.failed, *outcome.skipped)
        }
        whole = []
        for definition in plan.definitions:
            values = definition.asset.replace("kpi:", "dataset:kpi_", 1)
            if values not in broken:
                whole.append(definition)
            elif definition.source and values in tables:
                tables[values].staged.clear()
        return whole

    def _in_order(self, tables: Mapping[str, RunTable], manifest: Manifest) -> dict[str, RunTable]:
        ordered = [asset.id for asset in planning.order(manifest)]
        return {id_: tables[id_] for id_ in ordered if id_ in tables}

    def _tables(
        self, env: str, assets: Mapping[str, Asset], plan: Plan, overlay: Mapping[str, RunTable]
    ) -> dict[str, RunTable]:
        needed = {step.asset for step in plan.steps} | set(overlay)
        for id_ in list(needed):
            asset = assets[id_]
            needed |= {i.asset for i in asset.build.inputs} if asset.build else set()
            needed |= {
                str(check.params["to"]).rpartition(".")[0]
                for check in asset.checks
                if "to" in check.params
            }
        return {
            id_: overlay.get(id_) or self._table(env, assets[id_])
            for id_ in sorted(needed)
            if id_ in assets
        }

    def _table(self, env: str, asset: Asset) -> RunTable:
        p = self._p
        digest = p.versions.live_version(env, asset.id)
        if not digest:
            return RunTable(asset.id, "", "", {}, (), p.lake)
        version = p.versions.get(asset.id, digest)
        return RunTable(
            asset.id,
            digest,
            version.locator,
            p.versions.parts(asset.id, digest),
            version.schema,
            p.lake,
        )

    def _untainted(self, env: str, tables: Mapping[str, RunTable], intent: str) -> list[Statement]:
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

    def _decider(
        self, by: Principal, env: str, assets: Mapping[str, Asset], break_glass: str, intent: str
    ) -> Decide:
        def judge(moves: Sequence[Move], moving: Moving) -> Decision:
            decisions = {
                move.asset: self._p.decide(
                    by,
                    "release",
                    assets.get(move.asset),
                    env,
                    {
                        **moving.get(move.asset, NOTHING_MOVED).facts(),
                        "intent": intent,
                        "break_glass": bool(break_glass),
                    },
                )
                for move in moves
            }
            denied = [
                self._event(
                    "decision.denied",
                    id_,
                    {"verb": "release", "asset": id_, "env": env, "reasons": decision.reasons},
                    by,
                    "",
                )
                for id_, decision in decisions.items()
                if decision.verdict == "deny"
            ]
            if denied:
                self._p.state.commit(Write((), tuple(denied)))
            return combine(list(decisions.values()))

        return judge

    def _allowed(
        self,
        by: Principal,
        verb: str,
        env: str,
        manifest: Manifest,
        ids: Iterable[str],
        break_glass: str,
        moving: Moving | None = None,
    ) -> list[str]:
        """Return the assets of which the broken glass passed a deny. Denied when `by` may not do it
        to one of them. `moving`: what is about to move of them, when that is known."""
        self._p.check_env(env)
        glass = {"break_glass": bool(break_glass)}
        return [
            id_
            for id_ in sorted(ids)
            if self._p.allow(
                by,
                verb,
                manifest.asset(id_),
                env,
                {**moving[id_].facts(), **glass} if moving and id_ in moving else glass,
            ).passed
        ]

    # ------------------------------------------------------------ taking up, finishing

    def resume_crashed(self, env: str, *, by: Principal, progress: Progress = _silent) -> None:
        """Continue the runs of an environment whose process died; leave alone those that another
        process works on. One that fails again is recorded as failed, and stops nobody else."""
        with contextlib.suppress(SextantError):  # one that cannot go on stays open, and is shown
            self._p.releases.resume()
        for facts in self.crashed(env):
            # What became of it is recorded with the run; Busy: somebody else resumes it, or writes
            # the same and comes first.
            with contextlib.suppress(SextantError):
                self.resume(facts, by=by, progress=progress)

    def crashed(self, env: str) -> list[RunChanged]:
        """Return the open runs of an environment that no living process works on."""
        state = self._p.state
        left = state.read("runs_open")
        if left:
            state.flush()  # a lease that this process has just given back must be seen as free
        found = [stored_run(row[3]) for row in left]
        return [one for one in found if one.env == env and not is_alive(state, one.id)]

    def resume(
        self, facts: RunChanged, *, by: Principal, progress: Progress = _silent
    ) -> RunReport | None:
        """Continue a run whose process died, or close it when it makes no sense any more. None when
        there was nothing left to do. Busy when somebody else is at it.

        It stays the run of who started it, also for the policy: `by` closes it at most.
        """
        env = facts.env
        starter = facts.who or actor_of(facts.by)  # earlier releases kept the text alone
        p = self._p
        manifest = p.manifest()
        created = next((row[2] for row in p.state.read("envs") if row[0] == env), 0)
        if facts.trigger == "undo":  # its release is one write: it is live, or nothing happened
            self._end_crashed(facts, "cancelled", by, "the process ended")
            return None
        if facts.started_at < created:
            self._end_crashed(facts, "cancelled", by, f"environment `{env}` was dropped meanwhile")
            return None
        request = self._still_asked(env, _request(facts), facts.started_at)

        def prepare() -> Prepared | None:
            if p.state.read("run_get", (facts.id,))[0][5]:  # somebody else has ended it meanwhile
                return None
            return Prepared(plan=planning.plan(manifest, self.scene(env, manifest), request))

        try:
            prepare()
        except UserError as error:  # the project has changed: the request makes no sense any more
            self._end_crashed(facts, "failed", by, error.message)
            return None
        with claim(p, env, facts.id, prepare) as claimed:
            if claimed is None:
                return None
            return self._execute(
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
        undone = any(row[4] >= since for row in self._p.state.read("withdrawn", (env,)))
        return msgspec.structs.replace(request, force=request.force and not undone)

    def end_crashed(self, env: str, *, by: Principal, reason: str) -> None:
        """Close the crashed runs of an environment: nobody will resume them."""
        for facts in self.crashed(env):
            self._end_crashed(facts, "cancelled", by, reason)

    def _end_crashed(self, facts: RunChanged, state: str, by: Principal, error: str) -> None:
        p = self._p
        with Leases(p.state, facts.id, ()) as leases:
            fenced = leases.fenced()
            if p.state.read("run_get", (facts.id,))[0][5]:
                return
            outcome = Outcome(cancelled=state == "cancelled")
            history = History.open(fenced, facts.id)
            cause = self._event_of(facts.id)
            self._finish(fenced, facts, history, outcome, state, {}, by, cause, error, 0.0)

    def _finish(
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
            finished_at=self._p.clock.now_ns(),
            ticks=dict(ticks),
        )
        state.commit(Write((), (self._event("run.finished", facts.id, done, by, cause),)))
        self._p.cancelled.discard(facts.id)

    def _report(
        self,
        run: str,
        env: str,
        outcome: Outcome,
        published: Published,
        tables: Mapping[str, RunTable],
        started_s: float,
        broken: Sequence[CheckResult],
        *,
        resumed: bool,
    ) -> RunReport:
        p = self._p
        failed = []
        ended_badly = (*outcome.failed, *(f"write:{id_}" for id_ in published.failed))
        if ended_badly:
            last = {
                record.step: record
                for record in History.open(p.state, run).records
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
        checks_only = all(step.code == "SX-CHECK-001" for step in failed)
        state = (
            "cancelled"
            if outcome.cancelled
            else "finished"
            if not failed
            else "refused"
            if checks_only
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
            wall_s=p.clock.monotonic_s() - started_s,
            release=published.release.id if published.release else "",
            published=published.versions,
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
            resumed=resumed,
        )

    def _stuck(
        self, state: FencedState, release: Release, env: str, message: str, cause: str
    ) -> None:
        p = self._p
        asset = release.moves[0].asset
        signal = Signal(
            id=p.ids.new("sig"),
            asset=asset,
            kind="undo.failed",
            severity="critical",
            message=f"the undo of release {release.id} in {env} failed: {message}",
            onset=p.clock.now_ns(),
        )
        raised = p.event("signal.raised", signal.id, signal, p.system, cause)
        incident = Incident(
            id=p.ids.new("inc"),
            title=signal.message,
            assets=(asset,),
            signals=(signal.id,),
            opened_at=p.clock.now_ns(),
        )
        state.commit(
            Write(
                (), (raised, p.event("incident.opened", incident.id, incident, p.system, raised.id))
            )
        )

    def _event(self, type_: str, subject: str, data: Any, by: Principal, cause: str) -> Event:
        return self._p.event(type_, subject, data, by, cause)

    def _event_of(self, subject: str) -> str:
        rows = self._p.state.read("event_newest_of", (subject,))
        return str(rows[0][0]) if rows else ""


def _outputs(history: History) -> list[tuple[str, str]]:
    """Return (asset, output) of every attempt that ended well."""
    return [
        (record.asset, record.output)
        for record in history.records
        if record.kind == "end" and record.ok and record.output
    ]


def _only(step: planning.PlannedStep, reasons: tuple[str, ...]) -> planning.PlannedStep | None:
    items = tuple(item for item in step.items if item.reason in reasons)
    return msgspec.structs.replace(step, items=items) if items else None


def _planned(plan: Plan) -> Moving:
    """Return how many partitions of each asset are planned."""
    count = {definition.asset: 0 for definition in plan.definitions}
    for step in plan.steps:
        count[step.asset] = count.get(step.asset, 0) + len(step.items)
    return {id_: Moved(partitions=partitions) for id_, partitions in count.items()}


def _values_of(kpi: str) -> str:
    """Return the dataset that holds the values of a kpi."""
    return kpi.replace("kpi:", "dataset:kpi_", 1)


def _request(facts: RunChanged) -> Request:
    return msgspec.json.decode(facts.mode, type=Request) if facts.mode else Request()
