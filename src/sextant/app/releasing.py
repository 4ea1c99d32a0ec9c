"""Makes a version live that exists: one that somebody names, or what is live in another
environment."""

from collections.abc import Iterable, Sequence

from sextant.app import permits
from sextant.app.claims import Waiting, environment_guard, hold
from sextant.app.interrupts import Interrupts
from sextant.app.live_checks import LiveChecks
from sextant.app.plans import Plans, event_of
from sextant.core import Core
from sextant.engine.holds import Holds
from sextant.engine.staged import RunAsset, Staged, merge_schema
from sextant.kernel.errors import (
    Conflict,
    NotFound,
)
from sextant.kernel.kinds import takes_time
from sextant.kernel.nouns import (
    Asset,
    Move,
    Part,
    Principal,
    Release,
)
from sextant.kernel.ports import Statement
from sextant.ledger.versions import changed
from sextant.release.publish import (
    Publisher,
    Publishing,
    strategy_of,
    withdrawn_in,
)
from sextant.release.releases import Releases


class Releasing:
    """Releases of versions that exist."""

    def __init__(
        self,
        core: Core,
        plans: Plans,
        checks: LiveChecks,
        *,
        releases: Releases,
        publisher: Publisher,
        interrupts: Interrupts,
    ) -> None:
        self.core, self.plans, self.checks = core, plans, checks
        self.releases, self.publisher, self.interrupts = releases, publisher, interrupts

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
        core = self.core
        permits.allowed(
            self.core, by, "release", env, core.project.manifest(env), {asset.id}, break_glass
        )
        if source:
            core.project.check_environment(source)
            target = core.versions.live_version(source, asset.id)
            if not target:
                raise NotFound("SX-VERSION-004", f"`{asset.id}` has no live version in `{source}`")
        else:
            target = core.versions.find(asset.id, version)
        refuse_expired(self.core, asset.id, target)
        same = environment_guard(core, env)
        with hold(
            core, self.interrupts, env, core.ids.new("run"), {asset.id}, waits=waits
        ) as leases:
            guards = (*leases.guards(), same)
            release = self._release(env, asset, target, by, break_glass, guards)
        if release.state == "live":
            self.checks.check_children(release, by=by)
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
        core = self.core
        head = core.versions.live_version(env, asset.id)
        if head == target:
            raise Conflict(
                "SX-RELEASE-009",
                f"version `{target[:12]}` of `{asset.id}` is live in `{env}` already",
            )
        base = core.versions.base_of(asset.id, head, target) if head else ""
        parted = not asset.is_definition and not takes_time(asset.id)
        if parted and head and base not in (head, target):
            return self._rebased(env, asset, head, base, target, by, break_glass, guards)
        move = Move(env=env, asset=asset.id, source=head, target=target)
        brought, gone = changed(
            core.versions.parts(asset.id, head), core.versions.parts(asset.id, target)
        )
        moving = {
            asset.id: self.publisher.moved(env, move, tuple(brought.values()), gone=len(gone))
        }
        decide_ = permits.decider(self.core, by, env, {asset.id: asset}, break_glass, "release")
        drafted = self.releases.draft(
            [move],
            by=by,
            decision=decide_([move], moving),
            withdrawn_in=withdrawn_in(moving),
            strategy=strategy_of(asset, move),
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
        return self.releases.propose(
            drafted,
            guards=(*guards, there),
            before=permits.glass(
                self.core, "release", env, [asset], break_glass, by, moving=moving
            ),
            cause=event_of(self.core, f"{asset.id}@{target}"),
        )

    def _refuse_undone(
        self, env: str, asset: Asset, brought: Iterable[Part], break_glass: str
    ) -> None:
        """Conflict when a version that somebody names brings partitions that were undone here."""
        rows = self.core.state.read("held", (env,))
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
        core = self.core
        origin = core.versions.get(asset.id, target)
        table, conflicts = self.laid_over(env, asset, base, target, break_glass)
        if conflicts:
            raise Conflict(
                "SX-RELEASE-010",
                f"partition `{conflicts[0]}` of `{asset.id}` was changed in `{env}` as well",
                hint=(
                    f"`sextant diff {asset.id}@{head[:12]} {target[:12]}` shows both; run "
                    "it again in the source environment"
                ),
            )
        refused = origin.meta.get("refused", ())
        publishing = Publishing(
            env=env,
            tables={asset.id: table},
            assets={asset.id: asset},
            run=origin.run,
            by=by,
            decide=permits.decider(self.core, by, env, {asset.id: asset}, break_glass, "release"),
            cause=event_of(self.core, f"{asset.id}@{target}"),
            guards=guards,
            broke_glass=break_glass,
            reason=break_glass or f"rebased from {target[:12]}",
            whole=True,
            refused=tuple(refused),
            before=lambda moving: permits.glass(
                self.core, "release", env, [asset], break_glass, by, moving=moving
            ),
        )
        done = self.publisher.publish(publishing)
        if done.release is None:
            raise Conflict(
                "SX-RELEASE-009",
                f"what version `{target[:12]}` of `{asset.id}` changed is live in `{env}` already",
            )
        return done.release

    def laid_over(
        self, env: str, asset: Asset, base: str, target: str, break_glass: str
    ) -> tuple[RunAsset, list[str]]:
        """Return a live table with what a version changed since `base` laid over it, and the
        partitions that were changed on both sides. Conflict for what was undone here."""
        core = self.core
        before, wanted = core.versions.parts(asset.id, base), core.versions.parts(asset.id, target)
        differs, gone = changed(before, wanted)
        table = self.plans.table(env, asset)
        origin = core.versions.get(asset.id, target)
        self._refuse_undone(env, asset, differs.values(), break_glass)
        conflicts = []
        for name in [*differs, *gone]:
            live, was = table.base_parts.get(name), before.get(name)
            now = wanted.get(name)
            if _digest(live) == _digest(now):
                continue  # the same on both sides
            if _digest(live) != _digest(was):
                conflicts.append(name)
            elif now is not None:
                table.staged[name] = Staged(part=now, origin=origin.locator)
            else:
                table.removed.add(name)
        table.schema = merge_schema(table.schema, origin.schema)
        table.made_from = dict(origin.inputs)
        return table, conflicts


def _digest(part: Part | None) -> str:
    return part.digest if part else ""


def refuse_expired(core: Core, asset: str, digest: str) -> None:
    if digest and core.state.read("version_expired_is", (asset, digest)):
        raise NotFound(
            "SX-VERSION-007",
            f"the rows of version `{digest[:12]}` of `{asset}` have expired; its record stays",
            hint=(
                f"`sextant backfill {asset} ...` makes them again; keep= of the asset says "
                "how long rows are kept"
            ),
        )
