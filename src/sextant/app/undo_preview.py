"""What an undo of an asset's release would do, before it is done. Called by
`Operations.rollback_plan`. Changes nothing, and records nothing."""

from collections.abc import Mapping

from sextant.app.claims import Prepared
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.authorization.decide import Decision, combine
from sextant.core import Core
from sextant.engine.staged import RunAsset
from sextant.kernel.answers import MadeAgain, RollbackPlan, TakenBack
from sextant.kernel.clock import iso
from sextant.kernel.errors import Conflict, NotFound
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import PARTITIONS_DETAILED_MAX
from sextant.kernel.nouns import Manifest, Principal, Release
from sextant.release.publish import Moved, Moving


def rollback_plan(
    runs: Runs,
    see: Visibility,
    env: str,
    asset_id: str,
    *,
    version: str,
    downstream: bool,
    by: Principal,
) -> RollbackPlan:
    """Return what goes back, what is made again, what is in the way, and what the rules say.

    version     the bad version; "" = the live one
    downstream  derive again what stands on it
    """
    core = runs.core
    manifest = core.project.manifest(env)
    if not version and (rolling := runs.driving.rolling(env, asset_id)):
        release = see.release(rolling)
        back = tuple(
            TakenBack(asset=move.asset, version=move.target, before=move.source)
            for move in release.moves
            if move.env == env
        )
        decision = _judged(core, env, manifest, asset_id, {one.asset: Moved() for one in back}, by)
        return _plan(env, asset_id, release, decision, back=back, aborts=True)
    try:
        bad, target = runs.undoing.target(env, asset_id, version)
        downstream = downstream and not takes_time(asset_id)
        prepared = runs.undoing.prepare(env, manifest, asset_id, bad, target.id, downstream)
    except (Conflict, NotFound) as error:
        return RollbackPlan(
            env=env, asset=asset_id, problem=error.message, code=error.code, hint=error.hint
        )
    plan = runs.plans.with_costs(env, manifest, prepared.plan, prepared.overlay)
    again: dict[str, MadeAgain] = {}
    for step in plan.steps:
        one = again.get(step.asset, MadeAgain(asset=step.asset))
        known = step.seconds is not None and one.seconds is not None
        again[step.asset] = MadeAgain(
            asset=step.asset,
            partitions=one.partitions + len(step.items),
            reused=one.reused + sum(item.reused for item in step.items),
            seconds=(one.seconds or 0.0) + (step.seconds or 0.0) if known else None,
        )
    moving: dict[str, Moved] = {id_: Moved(partitions=one.partitions) for id_, one in again.items()}
    moving |= {one.asset: Moved() for one in plan.definitions}
    moving |= {
        id_: Moved(partitions=len(t.staged) + len(t.removed)) for id_, t in _tables(prepared)
    }
    moving[asset_id] = runs.undoing.taken_back(env, manifest, asset_id, prepared)
    return _plan(
        env,
        asset_id,
        see.release(target),
        _judged(core, env, manifest, asset_id, moving, by),
        back=_back(core, env, prepared),
        again=tuple(again.values()),
    )


def _tables(prepared: Prepared) -> list[tuple[str, RunAsset]]:
    return [(id_, table) for id_, table in prepared.overlay.items() if table.changed]


def _back(core: Core, env: str, prepared: Prepared) -> tuple[TakenBack, ...]:
    """Return what goes back: definitions, then rows."""
    assert prepared.undoes is not None
    sources = {move.asset: move.source for move in prepared.undoes.moves if move.env == env}
    out = [
        TakenBack(asset=one.asset, version=one.source, before=one.target)
        for one in prepared.plan.definitions
    ]
    for id_, table in _tables(prepared):
        restored, removed = sorted(table.staged), sorted(table.removed)
        out.append(
            TakenBack(
                asset=id_,
                version=core.versions.live_version(env, id_),
                before=sources.get(id_, ""),
                restored=len(restored),
                removed=len(removed),
                partitions=tuple(sorted([*restored, *removed])[:PARTITIONS_DETAILED_MAX]),
            )
        )
    return tuple(out)


def _judged(
    core: Core, env: str, manifest: Manifest, asset_id: str, moving: Moving, by: Principal
) -> Decision:
    """Return what the rules say to the undo of an asset, and to the release that it becomes."""
    governing = core.authorization.governing(env)
    asked: list[tuple[str, str]] = [("rollback", asset_id), *(("release", id_) for id_ in moving)]
    facts: Mapping[str, bool | str] = {"intent": "undo", "break_glass": False}
    return combine(
        [
            core.authorization.decide(
                by, verb, manifest.asset(id_), env, {**moving[id_].facts(), **facts}, governing
            )
            for verb, id_ in asked
            if id_ in moving
        ]
    )


def _plan(
    env: str,
    asset_id: str,
    release: Release,
    decision: Decision,
    *,
    back: tuple[TakenBack, ...],
    again: tuple[MadeAgain, ...] = (),
    aborts: bool = False,
) -> RollbackPlan:
    return RollbackPlan(
        env=env,
        asset=asset_id,
        release=release.id,
        by=release.by,
        at=iso(release.created_at),
        reason=release.reason,
        aborts=aborts,
        taken_back=back,
        made_again=again,
        verdict=decision.verdict,
        reasons=decision.reasons,
    )
