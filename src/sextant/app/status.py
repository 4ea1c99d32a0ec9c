"""How an environment stands: what is live, stale, held and waiting, and what needs a person."""

from collections.abc import Collection, Iterable

import msgspec

from sextant.app import lists
from sextant.app.approving import may_approve
from sextant.app.progress import running_now
from sextant.app.runs import Runs
from sextant.app.triggers import held_by_incidents
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine.plan import Plan, Request
from sextant.kernel.answers import AssetStatus, SignalSeen, Status
from sextant.kernel.clock import iso
from sextant.kernel.limits import PAGE_ROWS, PAGE_ROWS_MAX
from sextant.kernel.nouns import Principal
from sextant.project.config import telemetry_off
from sextant.release.releases import open_releases

# How an asset stands, the worst first. A picture of many shows the worst of them.
STATES = (
    "failed",  # a signal of severity error or critical about it is open
    "waiting",  # its release waits for approval, is paused or stuck
    "missing",  # nothing is live
    "held",
    "stale",
    "due",  # the next run makes some of it
    "rolling",
    "live",
    "observed",  # another tool manages it, and reports nothing bad
)


def standing_plan(runs: Runs, env: str) -> Plan:
    """Return the plan by which assets stand: what a source looks back to is read by every run, so
    nothing of it is due by that."""
    return runs.plan(env, Request(look_back=False))


def states(runs: Runs, see: Visibility, env: str, plan: Plan) -> dict[str, str]:
    """Return how every asset stands in an environment, those of other tools too: see `STATES`.

    plan  see `standing_plan`
    """
    found = {one["asset"]: one["state"] for one in status(runs, see, env, plan)["assets"]}
    failed = _failed(_open_signals(runs.core, see), env)
    known, _ = runs.core.assets.graph(env)
    for id_ in known:
        if id_ not in found:
            found[id_] = "failed" if id_ in failed else "observed"
    return found


def _open_signals(core: Core, see: Visibility) -> list[SignalSeen]:
    return lists.signals(core, see, open_only=True, limit=PAGE_ROWS_MAX).items


def _failed(signals: Iterable[SignalSeen], env: str) -> set[str]:
    """Return the assets about which a signal says that something failed."""
    return {
        one["asset"]
        for one in signals
        if one["severity"] in ("error", "critical") and one["env"] in ("", env)
    }


def _state(found: AssetStatus, *, failed: bool, stopped: bool) -> str:
    signs = {
        "failed": failed,
        "waiting": stopped,
        "missing": not found["version"],
        "held": found["held"],
        "stale": found["stale"],
        "due": found["to_run"],
        "rolling": found["rolling"],
    }
    return next((state for state, sign in signs.items() if sign), "live")


def status(
    runs: Runs,
    see: Visibility,
    env: str,
    plan: Plan,
    chosen: Collection[str] = (),
    *,
    here: bool = True,
    who: Principal | None = None,
) -> Status:
    """Return what is live, stale, held and waiting in an environment, of the assets `chosen`
    (none = of all), and what needs a person.

    plan  see `standing_plan`
    here  who looks works on the project's folder
    who   whose approvals are told; None = nobody's
    """
    core = runs.core
    core.project.check_environment(env)
    manifest = core.project.manifest(env)
    live = core.versions.live(env)
    planned: dict[str, dict[str, int]] = {}
    for step in plan.steps:
        counts = planned.setdefault(step.asset, {})
        for item in step.items:
            counts[item.reason] = counts.get(item.reason, 0) + 1
    held = held_by_incidents(core, manifest)
    signals = _open_signals(core, see)
    failed = _failed(signals, env)
    waits = [r for r in open_releases(core.state) if r.state in ("waiting", "paused", "stuck")]
    stopped = {move.asset for one in waits for move in one.moves if move.env == env}
    assets: list[AssetStatus] = []
    for asset in sorted(manifest.assets, key=lambda a: a.id):
        if chosen and asset.id not in chosen:
            continue
        pointer = live.get(asset.id)
        version = core.versions.get(asset.id, pointer.version) if pointer else None
        assets.append(
            {
                "asset": asset.id,
                "state": "",
                "owner": asset.owner,
                "tier": asset.tier,
                "version": pointer.version if pointer else "",
                "from_env": pointer.env if pointer else "",
                "published_at": iso(pointer.moved_at) if pointer else "",
                "rows": version.rows if version else 0,
                "partitions": len(core.versions.parts(asset.id, version.digest))
                if version and not asset.is_definition
                else 0,
                "to_run": planned.get(asset.id, {}),
                "looks_back": asset.lookback,
                "stale": len(plan.stale.get(asset.id, {})),
                "held": len(plan.held.get(asset.id, ())),
                "waiting": len(plan.waiting.get(asset.id, ())),
                "held_by_incident": held.get(asset.id, ""),
                "rolling": plan.rolling.get(asset.id, ""),
            }
        )
        assets[-1]["state"] = _state(
            assets[-1], failed=asset.id in failed, stopped=asset.id in stopped
        )
    # of who works on the folder: it is nothing to anybody else
    problem = core.project.problem if here else None
    folder = core.project.folder_version()
    return {
        "project": manifest.project,
        "env": env,
        "assets": assets,
        "signals": signals[:PAGE_ROWS],
        "incidents": lists.incidents(core, see, state="open").items,
        "waiting": [msgspec.to_builtins(see.release(r)) for r in waits],
        "yours": [r.id for r in waits if who and may_approve(core, runs.releases, r, who)],
        "failed_run": _failed_run(core, see, env),
        "runs_open": running_now(core),
        "inbox": runs.inbox.waits(),
        "load_problem": problem.message if problem else "",
        "folder": folder if problem is None and _is_newer(core, env, folder) else "",
        "telemetry_off": telemetry_off(core.project.config),
    }


def _is_newer(core: Core, env: str, folder: str) -> bool:
    """Say whether the folder has another version than an environment that does not follow it, and
    not one that was there before what somebody uploaded since."""
    project = core.project
    if project.follows(env):
        return False
    live = project.pinned(env)
    return live not in ("", folder) and not project.is_older(folder, live)


def _failed_run(core: Core, see: Visibility, env: str) -> str:
    newest = lists.runs(core, see, env=env, limit=1).items
    return str(newest[0]["id"]) if newest and newest[0]["state"] == "failed" else ""
