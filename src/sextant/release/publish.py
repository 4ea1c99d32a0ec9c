"""Publishes what a run made: builds versions, writes the tables' new states, and moves all pointers
in one release.

Write-audit-publish: rows were written under the run's own prefix and checked before this is called;
nothing here is visible before the one state transaction that holds versions, check results, release
and pointers.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from sextant.authorization.decide import Decision
from sextant.core import Core
from sextant.engine.bodies import Bodies
from sextant.engine.holds import Holds
from sextant.engine.keys import definition_digest
from sextant.engine.plan import Definition, compared_with
from sextant.engine.staged import RunAsset, Staged
from sextant.kernel import kinds
from sextant.kernel.errors import BadData, Conflict, SextantError
from sextant.kernel.kinds import Fact
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    Event,
    Move,
    Part,
    Principal,
    Release,
    Strategy,
    Version,
    values_by_definition,
)
from sextant.kernel.ports import Statement, TableCommit, Write
from sextant.ledger.projections import (
    ChecksCompleted,
    HoldAnswered,
    VersionConfirmed,
    VersionCreated,
    VersionRelocated,
    VersionReused,
)
from sextant.ledger.signals import close_passed, passed
from sextant.ledger.versions import Versions, changed
from sextant.release.releases import Releases, takes_time, unchanged_guard, withdrawn
from sextant.stores.lake.digest import version_digest

_REBASES_MAX = 3  # how often a publish is built again on a head that moved meanwhile
_COMMITS_AT_ONCE = 4  # table states written side by side
PUBLISH, DIRECT = Strategy(kind="publish"), Strategy(kind="direct")


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What a move brings, as the facts that rules ask for.

    rows           of the partitions that become live
    partitions     that change or go
    checks_failed  different checks of the version that failed, of any severity
    withdrawn_in   other environments in which what it brings was undone
    of_kind        what its kind says of it
    """

    rows: int = 0
    partitions: int = 0
    checks_failed: int = 0
    withdrawn_in: tuple[str, ...] = ()
    of_kind: Mapping[str, Fact] = {}

    def facts(self) -> dict[str, Fact]:
        """Return the facts by the names that rules know."""
        return {
            "rows": self.rows,
            "partitions": self.partitions,
            "checks_failed": self.checks_failed,
            "withdrawn_elsewhere": bool(self.withdrawn_in),
            **self.of_kind,
        }


NOTHING_MOVED = Moved()
# (asset, partition, content) -> environments
Undone = Mapping[tuple[str, str, str], set[str]]
Moving = Mapping[str, Moved]  # by asset
Decide = Callable[[Sequence[Move], Moving], Decision]


class Publishing(msgspec.Struct, frozen=True, kw_only=True):
    """What a run wants to publish, and on whose behalf.

    tables     as the run sees them, upstream first
    decide     asks the policy about some moves
    before     makes the events that stand in front of the release, from what moves
    guards     hold for everything that is written
    untainted  hold until the release is live: that it moves on from what they name is the point
    undoes     the release that this one takes back
    refused    why the checks refused what is published past the gate
    whole      all or nothing: the first table that cannot be written raises its error
    """

    env: str
    tables: Mapping[str, RunAsset]
    assets: Mapping[str, Asset]
    run: str
    by: Principal
    decide: Decide
    cause: str
    definitions: Sequence[Definition] = ()
    guards: Sequence[Statement] = ()
    untainted: Sequence[Statement] = ()
    intent: str = "release"
    undoes: Release | None = None
    reason: str = ""
    broke_glass: str = ""
    refused: Sequence[str] = ()
    before: Callable[[Moving], Sequence[Event]] = lambda _moving: ()
    whole: bool = False


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run's tables: the release of what the pointer makes live, `rolled` ones that
    take time, and one rejected release for each refused asset."""

    release: Release | None = None
    rolled: tuple[Release, ...] = ()
    rejected: tuple[Release, ...] = ()
    versions: dict[str, str] = {}
    files: dict[str, int] = {}  # asset -> how many data files its new state has
    # asset -> why its new state could not be written; nothing of it, or of what read it, is live
    failed: dict[str, Exception] = {}
    skipped: tuple[str, ...] = ()  # what had read something that failed
    rows: int = 0


class Publisher:
    """Builds and publishes the versions of one environment's tables."""

    def __init__(self, core: Core, releases: Releases) -> None:
        self._core, self._state, self._versions = core, core.state, core.versions
        self._clock, self._ids, self._events = core.clock, core.ids, core.events
        self._releases = releases
        self._pool = ThreadPoolExecutor(_COMMITS_AT_ONCE, thread_name_prefix="sextant-commit")
        self._begun: dict[str, tuple[Any, Future[TableCommit]]] = {}

    def publish(self, wanted: Publishing) -> Published:
        """Publish every table with something new: what the pointer alone makes live in one
        release, what takes time in a release of its own for each asset; then record what was
        refused. A table whose new state cannot be written fails by itself, with what read it.

        Raises  Conflict when somebody else published the same partitions meanwhile; nothing is
                then live
        """
        failed: dict[str, Exception] = {}
        skipped: list[str] = []
        for attempt in range(_REBASES_MAX + 1):
            try:
                return self._once(wanted, failed, skipped)
            except Conflict:
                if attempt == _REBASES_MAX or not self._rebase(wanted.env, wanted.tables):
                    raise
        raise AssertionError

    def _once(
        self, wanted: Publishing, failed: dict[str, Exception], skipped: list[str]
    ) -> Published:
        env, tables, assets, run, by, cause = (
            wanted.env,
            wanted.tables,
            wanted.assets,
            wanted.run,
            wanted.by,
            wanted.cause,
        )
        states, unwritten = self._states(
            {id_: table for id_, table in tables.items() if table.changed}, assets
        )
        if wanted.intent == "release" and not wanted.broke_glass:
            unwritten |= self._withdrawn(env, tables)
        if unwritten and wanted.whole:
            raise next(iter(unwritten.values()))
        failed |= unwritten
        skipped += _without(tables, assets, failed)
        values = values_by_definition(assets.values())
        definitions = [
            d for d in wanted.definitions if values.get(d.asset) not in {*failed, *skipped}
        ]
        events: list[Event] = []
        moves: list[Move] = []
        made: dict[str, str] = {}
        built: list[Version] = []
        closing: list[Event] = []  # once the release is live
        rows = 0
        # the release of what goes live at once, and one for each asset whose release takes time
        shared_id = self._ids.new("rel")
        release_ids = {
            id_: self._ids.new("rel") if kinds.takes_time(id_) else shared_id for id_ in assets
        }
        for definition in definitions:
            asset = assets[definition.asset]
            made[asset.id] = definition.target
            moves.append(
                Move(env=env, asset=asset.id, source=definition.source, target=definition.target)
            )
            if definition.target == definition_digest(
                asset
            ):  # not an older one that an undo brings back: that is recorded, with its own measure
                version = Version(
                    asset=asset.id,
                    digest=definition.target,
                    parent=definition.source,
                    run=run,
                    inputs={},
                    spec=asset.spec,
                )
                events.append(self._recorded(version, env, shared_id, by, cause))
        held = Holds(self._state.read("held", (env,)))
        for id_, table in tables.items():
            asset = assets[id_]
            if table.confirmed:
                events.append(
                    self._events.make(
                        "version.confirmed",
                        id_,
                        VersionConfirmed(id_, tuple(table.confirmed)),
                        by,
                        cause,
                    )
                )
            events += self._answers(env, table, held, by, cause)
            if not table.changed:
                continue
            version = self._version(env, table, asset, run, tables, made, states[id_], table.checks)
            if wanted.refused:
                version = msgspec.structs.replace(
                    version, meta={**version.meta, "refused": list(wanted.refused)}
                )
            built.append(version)
            if version.digest != table.base:
                made[id_] = version.digest
                rows += sum(staged.part.rows for staged in table.staged.values())
                moves.append(Move(env=env, asset=id_, source=table.base, target=version.digest))
                recorded = self._recorded(version, env, release_ids[id_], by, cause)
                checked = self._checks(table.checks, run, id_, version.digest, by, recorded.id)
                events += [
                    recorded,
                    *checked,
                    *self._made_otherwise(table, version, by, recorded.id),
                ]
                if not kinds.takes_time(id_):
                    closing += self._closing(env, table, checked)
            else:  # the same content in other files
                events.append(
                    self._events.make(
                        "version.relocated",
                        f"{id_}@{version.digest}",
                        VersionRelocated(id_, version.digest, version.locator),
                        by,
                        cause,
                    )
                )
                events.append(
                    self._events.make(
                        "version.confirmed", id_, VersionConfirmed(id_, version.parts), by, cause
                    )
                )
                checked = self._checks(table.checks, run, id_, table.base, by, cause)
                events += checked
                closing += self._closing(env, table, checked)
        moving = self.moving(env, moves, tables)
        events[:0] = wanted.before(moving)
        guards = (*wanted.guards, *wanted.untainted)
        if wanted.undoes is not None and moves:
            undo_id = release_ids[moves[0].asset]
            events += self._take_back(wanted, wanted.undoes, moves, undo_id)
            if wanted.undoes.state == "live":
                guards = (*guards, unchanged_guard(wanted.undoes))
        at_once = [move for move in moves if not kinds.takes_time(move.asset)]
        over_time = [move for move in moves if kinds.takes_time(move.asset)]
        release = None
        self._versions.announce(built)
        try:
            if at_once:
                drafted = self._draft(wanted, at_once, moving, shared_id)
                release = self._releases.propose(
                    drafted, before=events, cause=cause, guards=guards, when_live=closing
                )
                events, guards = [], (*wanted.guards, *wanted.untainted)  # the undo is written
            elif events and not over_time:
                self._state.commit(Write(guards, (*events, *closing)))
            rolled = self._propose_over_time(
                wanted,
                over_time,
                moving,
                release_ids,
                {version.asset: version for version in built},
                release,
                events=(*events, *closing),
                guards=guards,
                failed=failed,
            )
        finally:
            self._versions.announce(())
        if release is None or release.state == "live":
            for id_, digest in made.items():
                if id_ in tables and not kinds.takes_time(id_):
                    self._versions.remember(id_, digest, tables[id_].parts())
        rejected = self._refuse(wanted, made, failed)
        return Published(
            failed=failed,
            skipped=tuple(skipped),
            release=release,
            rolled=rolled,
            rejected=rejected,
            versions=made,
            files={id_: len(states[id_].files) for id_ in made if id_ in states},
            rows=rows,
        )

    def _draft(
        self,
        wanted: Publishing,
        moves: Sequence[Move],
        moving: Moving,
        id_: str,
        *,
        strategy: Strategy = PUBLISH,
        after: str = "",
    ) -> Release:
        """Return the release of some moves. Denied when the policy says no."""
        undoes = _undone_by(wanted, moves)
        own = {move.asset: moving[move.asset] for move in moves}
        return self._releases.draft(
            moves,
            by=wanted.by,
            decision=wanted.decide(moves, own),
            withdrawn_in=withdrawn_in(own),
            strategy=strategy,
            run=wanted.run,
            reason=wanted.reason,
            intent=wanted.intent if undoes or strategy == PUBLISH else "release",
            undoes=undoes,
            broke_glass=wanted.broke_glass,
            id_=id_,
            after=after,
        )

    def _take_back(
        self, wanted: Publishing, undoes: Release, moves: Sequence[Move], undo_id: str
    ) -> list[Event]:
        """Return the events by which a release is taken back: what it brought is withdrawn, and it
        is rolled back; one that takes time when its undo is live."""
        moved = {move.asset for move in moves}
        bad = [move for move in undoes.moves if move.asset in moved]
        by = str(wanted.by)
        events = self._releases.withdrawals(
            bad if any(wanted.assets[m.asset].is_definition for m in bad) else bad[:1],
            reason=wanted.reason,
            undo=undo_id,
            cause=wanted.cause,
            by=by,
        )
        if undoes.state == "live" and not takes_time(undoes):
            events.append(
                self._releases.mark_undone(undoes, undo=undo_id, cause=wanted.cause, by=by)
            )
        return events

    def _propose_over_time(
        self,
        wanted: Publishing,
        moves: Sequence[Move],
        moving: Moving,
        release_ids: Mapping[str, str],
        built: Mapping[str, Version],
        at_once: Release | None,
        *,
        events: Sequence[Event],
        guards: Sequence[Statement],
        failed: dict[str, Exception],
    ) -> tuple[Release, ...]:
        """Propose one release for each asset whose releases take time; what was made from something
        that is not live yet waits for that. One that cannot be proposed fails by itself.

        at_once  the release of what this run made live at once, or that waits for people
        events   that are not written yet: they are written with the first one
        """
        proposed: list[Release] = []
        for move in moves:
            after = ""
            if at_once is not None and at_once.state != "live":
                brought = {(one.asset, one.target) for one in at_once.moves}
                if not brought.isdisjoint(built[move.asset].inputs.items()):
                    after = at_once.id
            intent = "undo" if _undone_by(wanted, [move]) else "release"
            strategy = strategy_of(wanted.assets[move.asset], move, intent)
            try:
                drafted = self._draft(
                    wanted,
                    [move],
                    moving,
                    release_ids[move.asset],
                    strategy=strategy,
                    after=after,
                )
                proposed.append(
                    self._releases.propose(
                        drafted, before=events, cause=wanted.cause, guards=guards
                    )
                )
            except SextantError as error:
                if events:
                    raise
                failed[move.asset] = error
            events = ()
        return tuple(proposed)

    # ------------------------------------------------------------ versions

    def _bodies(self, asset: Asset) -> Bodies:
        return kinds.made(asset.kind).bodies(self._core)

    def _answers(
        self, env: str, table: RunAsset, held: Holds, by: Principal, cause: str
    ) -> list[Event]:
        """Return the event that says what this run made of what is held."""
        made = (
            *(staged.part for staged in table.staged.values() if not staged.origin),
            *table.confirmed,
            *table.held_back,
        )
        answers = tuple(
            part for part in made if (table.asset, part.partition, part.code, part.inputs) in held
        )
        if not answers:
            return []
        said = HoldAnswered(env, table.asset, answers)
        return [self._events.make("hold.answered", table.asset, said, by, cause)]

    def _version(
        self,
        env: str,
        table: RunAsset,
        asset: Asset,
        run: str,
        tables: Mapping[str, RunAsset],
        made: Mapping[str, str],
        commit: TableCommit,
        refused: Sequence[CheckResult] = (),
    ) -> Version:
        parts = table.parts()
        digest = digest_of(table)
        inputs = dict(table.made_from)
        if asset.build and not inputs:
            for bound in asset.build.inputs:
                upstream = tables.get(bound.asset)
                used = upstream.base if upstream else ""
                if not kinds.takes_time(bound.asset):
                    used = made.get(bound.asset, used)
                if used:
                    inputs[bound.asset] = used
        definition = asset.defined_by
        if definition and (
            by := made.get(definition) or self._versions.live_version(env, definition)
        ):
            inputs[definition] = by
        made_now = sum(not staged.origin for staged in table.staged.values())
        meta: dict[str, Any] = {"wall_s": round(table.wall_s, 6), "made": made_now}
        if not made_now and table.base:  # nothing was computed: what it costs is known from before
            known = self._versions.get(asset.id, table.base).meta
            meta = {name: known[name] for name in ("wall_s", "made") if name in known}
        if refused:
            meta["refused"] = [
                f"{check.name}: {check.message}"
                for check in refused
                if not check.ok and check.severity == "error"
            ][:20]
        return Version(
            asset=asset.id,
            digest=digest,
            parent=table.base,
            locator=commit.locator,
            run=run,
            code=asset.build.code.fingerprint if asset.build else "",
            inputs=inputs,
            parts=tuple(staged.part for staged in table.staged.values()),
            removed=tuple(sorted(table.removed)),
            rows=sum(part.rows for part in parts.values()),
            size_bytes=sum(file.size_bytes for file in commit.files),
            schema=table.schema,
            meta=meta,
            created_at=self._clock.now_ns(),
        )

    def moving(self, env: str, moves: Sequence[Move], tables: Mapping[str, RunAsset]) -> Moving:
        """Return what each of the moves brings: of the tables as a run sees them, nothing for a
        definition."""
        undone = self._undone(env)
        return {
            move.asset: self.moved(
                env,
                move,
                [staged.part for staged in table.staged.values()],
                gone=len(table.removed),
                checks=table.checks,
                # the checks of what was made before are known by the version that it makes up
                look_back=any(staged.origin for staged in table.staged.values()),
                undone=undone,
            )
            if (table := tables.get(move.asset)) is not None
            else self.moved(env, move, (), undone=undone)
            for move in moves
        }

    def moved(
        self,
        env: str,
        move: Move,
        brought: Collection[Part],
        *,
        gone: int = 0,
        checks: Sequence[CheckResult] = (),
        look_back: bool = True,
        undone: Undone | None = None,
    ) -> Moved:
        """Return what a move brings: `brought` partitions, `gone` ones less.

        checks     that ran on it just now
        look_back  take the recorded checks of its version too, where none ran now
        """
        said: dict[str, bool] = {}
        if look_back:
            newest: dict[tuple[str, str], bool] = {}
            about = (move.asset, move.target)
            for name, partition, ok in self._state.read("check_results_of_version", about):
                newest[name, partition] = bool(ok)
            for (name, _), ok in newest.items():
                said[name] = said.get(name, True) and ok
        ran = {check.name for check in checks}
        said = {name: ok for name, ok in said.items() if name not in ran}
        failed = {check.name for check in checks if not check.ok}
        failed |= {name for name, ok in said.items() if not ok}
        return Moved(
            rows=sum(part.rows for part in brought),
            partitions=len(brought) + gone,
            checks_failed=len(failed),
            of_kind=self._releases.facts(move, brought),
            withdrawn_in=self._withdrawn_in(
                env, move, brought, self._undone(env) if undone is None else undone
            ),
        )

    def _undone(self, env: str) -> Undone:
        """Return in which other environments the content of a partition was undone."""
        undone: dict[tuple[str, str, str], set[str]] = {}
        for other, asset, partition, _code, _inputs, _version, content in self._state.read(
            "held_elsewhere", (env,)
        ):
            undone.setdefault((asset, partition, content), set()).add(other)
        return undone

    def _withdrawn_in(
        self, env: str, move: Move, brought: Iterable[Part], undone: Undone
    ) -> tuple[str, ...]:
        """Return the other environments in which what this move brings was undone: the version
        itself, or the content of one of the partitions that it brings."""
        rows = self._state.read("withdrawn_elsewhere", (env, move.asset, move.target))
        where = {str(row[0]) for row in rows}
        for part in brought:
            where |= undone.get((move.asset, part.partition, part.digest), set())
        return tuple(sorted(where))

    def begin(self, table: RunAsset, asset: Asset) -> None:
        """Start writing the new state of a table whose steps are done, while others still work.
        `publish` uses it if the
        table is then still the same; otherwise nothing names it and it is collected."""
        self._begun[table.asset] = (
            _shape(table),
            self._pool.submit(self._bodies(asset).commit, asset, table),
        )

    def close(self) -> None:
        """End the threads that write table states."""
        self._pool.shutdown()

    def _states(
        self, tables: Mapping[str, RunAsset], assets: Mapping[str, Asset]
    ) -> tuple[dict[str, TableCommit], dict[str, Exception]]:
        """Write the new states of several tables side by side: most of the time is waiting for the
        disk. Return them, and why others could not be written, or hold files that are not what was
        written."""
        begun = {
            id_: self._begun.pop(id_) for id_ in tables if id_ in self._begun
        }  # others' runs have begun theirs
        futures = {
            id_: begun[id_][1]
            if id_ in begun and begun[id_][0] == _shape(table)
            else self._pool.submit(self._bodies(assets[id_]).commit, assets[id_], table)
            for id_, table in tables.items()
        }
        states: dict[str, TableCommit] = {}
        failed: dict[str, Exception] = {}
        for id_, future in futures.items():
            error = future.exception()
            if error is None:
                try:
                    self._bodies(assets[id_]).confirm(tables[id_], future.result())
                except Exception as damaged:
                    failed[id_] = damaged
                else:
                    states[id_] = future.result()
            elif isinstance(error, Exception):
                failed[id_] = error
            else:
                raise error
        return states, failed

    def _recorded(
        self, version: Version, env: str, release: str, by: Principal, cause: str
    ) -> Event:
        """Return the event that records what was made: a new version, or that this run reused or
        restored one that another run made first."""
        subject = f"{version.asset}@{version.digest}"
        known = self._state.read("version_get", (version.asset, version.digest))
        if not known:
            return self._events.make("version.created", subject, VersionCreated(version), by, cause)
        is_expired = known[0][2] > 0
        reused = VersionReused(
            asset=version.asset,
            digest=version.digest,
            env=env,
            run=version.run,
            release=release,
            locator=version.locator,
            parts=version.parts,
            inputs=version.inputs,
            refused=tuple(version.meta.get("refused", ())),
        )
        return self._events.make(
            "version.restored" if is_expired else "version.reused", subject, reused, by, cause
        )

    def _withdrawn(self, env: str, tables: Mapping[str, RunAsset]) -> dict[str, Exception]:
        """Return the tables that came out as a version that was withdrawn here: by other code or
        inputs, so that nothing held them. They fail by themselves."""
        found: dict[str, Exception] = {}
        for id_, table in tables.items():
            digest = digest_of(table) if table.changed else table.base
            if digest != table.base and self._state.read("withdrawn_is", (env, id_, digest)):
                found[id_] = withdrawn(env, id_, digest)
        return found

    def _made_otherwise(
        self, table: RunAsset, version: Version, by: Principal, cause: str
    ) -> list[Event]:
        """Return the event that notes what a version was made of this time, where it exists
        already and its record says otherwise."""
        if not self._state.read("version_get", (version.asset, version.digest)):
            return []
        known = self._versions.parts(version.asset, version.digest)
        parts = tuple(
            staged.part
            for name, staged in table.staged.items()
            if name in known and known[name] != staged.part
        )
        if not parts:
            return []
        data = VersionConfirmed(version.asset, parts)
        return [self._events.make("version.confirmed", version.asset, data, by, cause)]

    def _checks(
        self,
        results: Sequence[CheckResult],
        run: str,
        asset: str,
        version: str,
        by: Principal,
        cause: str,
    ) -> list[Event]:
        if not results:
            return []
        return [
            self._events.make(
                "checks.completed",
                f"{asset}@{version}",
                ChecksCompleted(run, asset, version, tuple(results)),
                by,
                cause,
            )
        ]

    def _closing(self, env: str, table: RunAsset, checked: Sequence[Event]) -> list[Event]:
        """Return the events that close the signals of checks that passed on a table's new
        version: the run made all its partitions, or the check is of the whole table."""
        made = {name for name, staged in table.staged.items() if not staged.origin}
        made |= {part.partition for part in table.confirmed}
        names = passed(table.checks, whole=made >= set(table.parts()))
        return [
            closed
            for done in checked
            for closed in close_passed(
                self._state,
                self._events,
                env,
                table.asset,
                names,
                actor=done.actor,
                cause=done.id,
            )
        ]

    def _refuse(
        self, wanted: Publishing, made: Mapping[str, str], failed: dict[str, Exception]
    ) -> tuple[Release, ...]:
        """Keep what the checks refused as a version that is not live, with a rejected release that
        says why. What cannot be kept is added to `failed`."""
        env, tables, assets, run, by, cause = (
            wanted.env,
            wanted.tables,
            wanted.assets,
            wanted.run,
            wanted.by,
            wanted.cause,
        )
        out = []
        for id_, table in tables.items():
            if not table.refused:
                continue
            base = self._versions.live_version(env, id_)
            try:
                candidate, commit = self._keep_refused(table, base, assets[id_])
            except Exception as error:
                failed[id_] = error
                continue
            version = self._version(
                env, candidate, assets[id_], run, tables, made, commit, table.refused_checks
            )
            release_id = self._ids.new("rel")
            recorded = self._recorded(version, env, release_id, by, cause)
            events = [
                recorded,
                *self._checks(table.refused_checks, run, id_, version.digest, by, recorded.id),
            ]
            move = Move(env=env, asset=id_, source=base, target=version.digest)
            moved = self.moved(
                env,
                move,
                [staged.part for staged in candidate.staged.values()],
                checks=table.refused_checks,
            )
            decision = wanted.decide([move], {id_: moved})
            if decision.verdict == "deny" and version.meta.get("refused"):
                # Its gate rejects it, and keeps what the checks said; a rule cannot say more.
                decision = Decision(verdict="allow", reasons=decision.reasons)
            drafted = self._releases.draft(
                [move],
                by=by,
                decision=decision,
                strategy=PUBLISH,
                run=run,
                id_=release_id,
            )
            self._versions.announce([version])  # its gate must see what its checks said now
            try:
                out.append(
                    self._releases.propose(
                        drafted, before=events, cause=cause, guards=wanted.guards
                    )
                )
            finally:
                self._versions.announce(())
        return tuple(out)

    def _keep_refused(
        self, table: RunAsset, base: str, asset: Asset
    ) -> tuple[RunAsset, TableCommit]:
        candidate = self._candidate(table, base, asset)
        try:
            return candidate, self._bodies(asset).commit(asset, candidate)
        except BadData:  # its columns do not fit the live ones: kept as a table of its own
            candidate = self._candidate(table, "", asset)
            return candidate, self._bodies(asset).commit(asset, candidate)

    def _candidate(self, table: RunAsset, base: str, asset: Asset) -> RunAsset:
        """Return what the checks refused, laid over a version ("" = over nothing)."""
        record = (
            self._versions.get(table.asset, base) if base else Version(asset=table.asset, digest="")
        )
        candidate = RunAsset(
            table.asset,
            base,
            record.locator,
            self._versions.parts(table.asset, base),
            record.schema,
            self._bodies(asset).files,
        )
        candidate.staged = dict(table.refused)
        candidate.schema = table.refused_schema
        return candidate

    def _rebase(self, env: str, tables: Mapping[str, RunAsset]) -> bool:
        """Lay the run's partitions over heads that moved; False if somebody changed the same
        partitions, or nothing moved."""
        moved = False
        for id_, table in tables.items():
            if not table.changed:
                continue
            head = self._versions.live_version(env, id_)
            if head == table.base:
                continue
            now = self._versions.parts(id_, head)
            touched = {*table.staged, *table.removed}
            if any(_differs(table.base_parts.get(name), now.get(name)) for name in touched):
                return False
            record = self._versions.get(id_, head)
            table.base, table.locator, table.base_parts = head, record.locator, now
            moved = True
        return moved


def _undone_by(wanted: Publishing, moves: Sequence[Move]) -> str:
    """Return the release that these moves take back; "" for what is only made again because of
    it."""
    if wanted.undoes is None:
        return ""
    bad = {move.asset for move in wanted.undoes.moves}
    return wanted.undoes.id if any(move.asset in bad for move in moves) else ""


def strategy_of(asset: Asset, move: Move, intent: str = "release") -> Strategy:
    """Return how a move goes live: a first version has nothing beside which it could be rolled
    out, and an undo is for at once."""
    if not kinds.takes_time(asset.id):
        return PUBLISH
    return DIRECT if intent == "undo" or not move.source else asset.release


def withdrawn_in(moving: Moving) -> dict[str, tuple[str, ...]]:
    """Return asset -> the other environments in which what moves was undone."""
    return {id_: moved.withdrawn_in for id_, moved in moving.items() if moved.withdrawn_in}


def _without(
    tables: Mapping[str, RunAsset], assets: Mapping[str, Asset], failed: Collection[str]
) -> tuple[str, ...]:
    """Take what this run made out of the tables that failed, and of those that read one of them;
    return the latter. `tables` are in order: upstream first."""
    out = set(failed)
    for id_, table in tables.items():
        build = assets[id_].build
        read = {bound.asset for bound in build.inputs} if build else set()
        read |= compared_with(assets[id_])
        if table.changed and (id_ in out or not read.isdisjoint(out)):
            out.add(id_)
            table.give_up()
    return tuple(id_ for id_ in tables if id_ in out and id_ not in failed)


def digest_of(table: RunAsset) -> str:
    """Return the digest of the version that a table would be."""
    return version_digest(table.schema, {n: part.digest for n, part in table.parts().items()})


def _shape(table: RunAsset) -> tuple[Any, ...]:
    """Return what a table's new state follows from."""
    return (
        table.locator,
        tuple(
            sorted(
                (name, staged.part.digest, staged.origin) for name, staged in table.staged.items()
            )
        ),
        tuple(sorted(table.removed)),
    )


def _differs(one: Part | None, other: Part | None) -> bool:
    return (one.digest if one else "") != (other.digest if other else "")


def undo_table(table: RunAsset, move: Move, versions: Versions) -> list[str]:
    """Lay over a live table what it was before `move`, partition by partition. Returns the
    partitions that a later write changed again: they are left alone and shown as conflicts."""
    before = versions.parts(move.asset, move.source)
    bad = versions.parts(move.asset, move.target)
    differs, gone = changed(before, bad)
    source = versions.get(move.asset, move.source).locator if move.source else ""
    conflicts = []
    for name in [*differs, *gone]:
        live, wrong, right = table.base_parts.get(name), bad.get(name), before.get(name)
        if _differs(live, wrong):
            conflicts.append(name)
        elif right is None:
            table.removed.add(name)
        elif _differs(right, live):
            table.staged[name] = Staged(part=right, origin=source)
    if move.source and {name: part.digest for name, part in table.parts().items()} == {
        name: part.digest for name, part in before.items()
    }:
        table.schema = versions.get(
            move.asset, move.source
        ).schema  # all of it is as it was: so are its columns
    return sorted(conflicts)


__all__ = [
    "NOTHING_MOVED",
    "Moved",
    "Moving",
    "Published",
    "Publisher",
    "Publishing",
    "digest_of",
    "strategy_of",
    "undo_table",
    "withdrawn_in",
]
