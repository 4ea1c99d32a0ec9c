"""Finds out what has to be done to take a release back."""

import msgspec

from sextant.app.claims import Prepared
from sextant.app.plans import Plans
from sextant.app.releasing import refuse_expired
from sextant.core import Core
from sextant.engine import plan as planning
from sextant.engine.plan import Request, Scene
from sextant.engine.staged import RunAsset
from sextant.kernel.errors import (
    Conflict,
    NotFound,
)
from sextant.kernel.nouns import (
    Manifest,
    Move,
    Release,
    values_by_definition,
)
from sextant.release.publish import (
    NOTHING_MOVED,
    Moved,
    Publisher,
    digest_of,
    undo_table,
)
from sextant.release.records import last_act
from sextant.release.releases import Releases


class Undoing:
    """Prepares undos. Changes nothing."""

    def __init__(
        self, core: Core, plans: Plans, *, releases: Releases, publisher: Publisher
    ) -> None:
        self.core, self.plans = core, plans
        self.releases, self.publisher = releases, publisher

    def taken_back(self, env: str, manifest: Manifest, asset_id: str, prepared: Prepared) -> Moved:
        """Return what an undo moves of the asset that it is about; of a definition, of its
        values."""
        values = values_by_definition(manifest.assets)
        id_ = asset_id if asset_id in prepared.overlay else values.get(asset_id, "")
        table = prepared.overlay.get(id_)
        if table is None:
            return NOTHING_MOVED
        move = Move(env=env, asset=id_, source=table.base, target=digest_of(table))
        return self.publisher.moving(env, [move], prepared.overlay)[id_]

    def target(
        self, env: str, asset_id: str, version: str, release: str = ""
    ) -> tuple[str, Release]:
        """Return the version to undo ("" = the one that is live now) and the release that brought
        it: `release`, or the newest one. NotFound, Conflict."""
        core = self.core
        if release:
            return version, self.releases.get(release)
        live = core.versions.live(env).get(asset_id)
        if version:
            bad = core.versions.find(asset_id, version)
        elif live is None:
            bad = ""
        elif not live.release:
            raise Conflict(
                "SX-UNDO-009",
                f"what is in force of `{asset_id}` in `{env}` was not released: it follows the "
                "folder, or was there before",
                hint="undo the edit, or release an earlier version: "
                f"`sextant versions {asset_id}` lists them",
            )
        elif (undo := self.releases.get(live.release)).intent == "undo":
            raise Conflict(
                "SX-UNDO-005",
                f"what is live of `{asset_id}` was brought back by an undo of `{undo.by}`",
                hint=f"name the version to undo: `sextant versions {asset_id}` lists them",
            )
        elif live.env == env:  # by its pointer: clocks do not say which of two releases is newer
            return live.version, self.releases.get(live.release)
        else:
            bad = live.version
        rows = core.state.read("release_of_move", (env, asset_id, bad)) if bad else []
        if not rows:
            raise NotFound(
                "SX-UNDO-001",
                f"no release brought a version of `{asset_id}` into `{env}`",
                hint=f"`sextant releases --env {env}` lists them",
            )
        return bad, msgspec.json.decode(rows[0][0], type=Release)

    def prepare(
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
        core = self.core
        release = self.releases.get(release_id)
        assets = {asset.id: asset for asset in manifest.assets}
        for move in release.moves:
            if move.asset == asset_id and move.env == env:
                refuse_expired(self.core, asset_id, move.source)
        # a definition goes back with the values that it made
        values = values_by_definition(manifest.assets).get(asset_id)
        moves = [m for m in release.moves if m.env == env and m.asset in (asset_id, values)]
        tables: dict[str, RunAsset] = {}
        definitions: list[planning.Definition] = []
        conflicts: list[str] = []
        for move in moves:
            if assets[move.asset].is_definition:
                if core.versions.live_version(env, move.asset) != move.target:
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
                        source=core.versions.live_version(env, move.asset),
                        target=move.source,
                    )
                )
                continue
            table = self.plans.table(env, assets[move.asset])
            conflicts += [
                f"{move.asset}[{name}]" for name in undo_table(table, move, core.versions)
            ]
            if (
                assets[asset_id].is_definition
            ):  # what the undone definition made later has no older meaning to go back to
                codes = {
                    part.code for part in core.versions.parts(move.asset, move.target).values()
                } - {part.code for part in core.versions.parts(move.asset, move.source).values()}
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
                "SX-UNDO-004",
                f"nothing of version `{bad[:12]}` of `{asset_id}` is live any more",
                hint=f"the last to act on its release was {last_act(core.state, release)}",
            )
        undone = tuple(tables)
        scene = self.plans.scene(env, manifest, tables)
        if downstream:
            scene = self._remove_orphans(env, manifest, tables, scene)
        request = Request(assets=undone, look_back=False, undo=True)
        plan = planning.plan(manifest, scene, request)
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
        self, env: str, manifest: Manifest, tables: dict[str, RunAsset], scene: Scene
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
                table = tables[asset.id] = self.plans.table(env, asset)
                table.removed |= gone
                live[asset.id] = table.parts()
        return scene


def _only(step: planning.PlannedStep, reasons: tuple[str, ...]) -> planning.PlannedStep | None:
    items = tuple(item for item in step.items if item.reason in reasons)
    return msgspec.structs.replace(step, items=items) if items else None
