"""Brings all that an environment has of its own to another one, as one release: data, definitions,
the project."""

from collections.abc import Mapping, Sequence

from sextant.app import permits
from sextant.app.claims import Waiting, environment_guard, hold
from sextant.app.releasing import Releasing, refuse_expired
from sextant.core import Core
from sextant.engine.plan import Definition
from sextant.engine.staged import RunAsset
from sextant.kernel.errors import Conflict
from sextant.kernel.nouns import Asset, Principal, values_by_definition
from sextant.ledger.versions import Pointer
from sextant.project.versions import PROJECT, project_id
from sextant.release.publish import Published, Publishing
from sextant.release.records import releases_of

_SHOWN = 10  # conflicts that an error names
_DIGITS_MIN = 4  # by which a version is named


def promote(
    releasing: Releasing,
    source: str,
    env: str,
    *,
    by: Principal,
    over: str = "",
    break_glass: str = "",
    waits: Waiting | None = None,
) -> Published:
    """Release to `env` what `source` has of its own. What both changed is a conflict: nothing is
    moved then.

    over    a version of the project that is in force in `env`, and that somebody says the folder
            of `source` has taken in: its first 4 or more digits
    Raises  Conflict, by name; Denied; NotFound
    """
    core = releasing.core
    core.project.check_environment(source)
    core.project.check_movable(env)
    id_ = project_id(core.project.manifest(env).project)
    own = {one.asset: one for one in core.versions.live(source).values() if one.env == source}
    head = {one.asset: one.version for one in core.versions.live(env).values()}
    new = {a: one.version for a, one in own.items() if one.version != head.get(a)}
    if core.project.follows(env):  # it has what the folder has
        new.pop(id_, None)
    target = core.project.manifest_of(new[id_]) if id_ in new else core.project.manifest(env)
    assets = {asset.id: asset for asset in target.assets if asset.id in new}
    if not assets:
        raise Conflict(
            "SX-RELEASE-023",
            f"`{source}` has nothing of its own that `{env}` does not have",
            hint=f"`sextant env diff {env} {source}` compares them",
        )
    in_force = core.project.manifest(env)
    permits.allowed(core, by, "release", env, in_force, assets, break_glass)
    run = core.ids.new("run")
    with hold(core, releasing.interrupts, env, run, assets, waits=waits) as leases:
        tables, definitions, conflicts, left = _gathered(
            releasing, source, env, assets, own, head, break_glass
        )
        if left and id_ not in assets:  # no new code will make it
            conflicts += left
        if id_ in assets and head.get(id_):
            conflicts += _of_project(core, source, id_, head[id_], new[id_], over)
        if conflicts:
            more = f" and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
            raise Conflict(
                "SX-RELEASE-024",
                f"changed in `{env}` as well: {', '.join(conflicts[:_SHOWN])}{more}",
                hint=f"take it in, run again in `{source}`; files that are merged: `--over "
                f"{head.get(id_, '')[:12]}`",
            )
        # who owns what is what is in force says; of what is new, its own word
        judged = {a: in_force.asset(a) or asset for a, asset in assets.items()}
        publishing = Publishing(
            env=env,
            tables=tables,
            assets=assets,
            run=run,
            by=by,
            decide=permits.decider(core, by, env, judged, break_glass, "release"),
            cause="",
            definitions=definitions,
            guards=(*leases.guards(), environment_guard(core, env)),
            broke_glass=break_glass,
            reason=break_glass or f"all of {source}{_without(left)}",
            whole=True,
            before=lambda moving: permits.glass(
                core, "release", env, list(judged.values()), break_glass, by, moving=moving
            ),
        )
        published = releasing.publisher.publish(publishing)
    if published.release is not None and published.release.state == "live":
        releasing.checks.check_children(published.release, by=by)
    return published


def _without(left: Sequence[str]) -> str:
    names = ", ".join(left)
    return f" but {names}: `sextant backfill {left[0]} --stale` makes it of both" if left else ""


def _gathered(
    releasing: Releasing,
    source: str,
    env: str,
    assets: Mapping[str, Asset],
    own: Mapping[str, Pointer],
    head: Mapping[str, str],
    break_glass: str,
) -> tuple[dict[str, RunAsset], list[Definition], list[str], list[str]]:
    """Return what is to be published, what both changed, and what both have derived: that is left
    out, with its definition, for it must be made of what both brought."""
    core = releasing.core
    tables: dict[str, RunAsset] = {}
    definitions: list[Definition] = []
    conflicts: list[str] = []
    left: list[str] = []
    for id_, asset in assets.items():
        target, live = own[id_].version, head.get(id_, "")
        refuse_expired(core, id_, target)
        if asset.is_definition:
            definitions.append(Definition(asset=id_, source=live, target=target))
            if asset.kind != PROJECT and live != _began(core, source, id_):
                conflicts.append(id_)
            continue
        base = core.versions.base_of(id_, live, target) if live else ""
        table, parts = releasing.laid_over(env, asset, base, target, break_glass)
        if parts and asset.build and asset.build.inputs:
            left.append(id_)
            continue
        tables[id_] = table
        conflicts += [f"{id_}[{name}]" for name in parts]
    values = values_by_definition(assets.values())
    definitions = [one for one in definitions if values.get(one.asset) not in left]
    return tables, definitions, conflicts, left


def _began(core: Core, env: str, asset: str) -> str:
    """Return what an environment saw of an asset before it got a version of its own."""
    created = next((int(row[2]) for row in core.state.read("envs") if row[0] == env), 0)
    moves = [
        move
        for release in releases_of(core.state, asset)
        for move in release.moves
        if move.env == env and move.asset == asset and release.created_at >= created
    ]
    return moves[-1].source if moves else ""


def _of_project(core: Core, source: str, id_: str, live: str, target: str, over: str) -> list[str]:
    """Return the files of the project that were changed on both sides, or that the folder of
    `source` would take back."""
    began = _began(core, source, id_)
    if live == began or (len(over) >= _DIGITS_MIN and live.startswith(over)):
        return []
    of = core.project.manifest_of
    theirs, ours = of(live).files, of(target).files
    base = of(began).files if began else {}
    return [
        path
        for path in sorted({*base, *theirs})
        if theirs.get(path) != base.get(path) and theirs.get(path) != ours.get(path)
    ]
