"""Runs what is due, until told to stop: by cron in the project's zone, and when an input has a new
version.

The scheduler of a server, and of `sextant run --watch`: one loop, one environment. Conditions read
versions, not run times, so what was missed while nobody watched is due at once. With a clock that
is moved by hand the same loop lives through a past year.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from sextant.engine import keys, streams
from sextant.engine import plan as planning
from sextant.engine.plan import Request
from sextant.kernel.clock import NS, from_datetime, to_datetime
from sextant.kernel.errors import Busy, SextantError, UsageError, UserError
from sextant.kernel.limits import INBOX_BATCHES_EARLY
from sextant.kernel.nouns import Asset, Manifest, Release
from sextant.kernel.partitions import ALL
from sextant.ledger.projections import RunChanged

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform
    from sextant.app.runs import RunReport

Pending = tuple[str, str, str, str]  # asset, partition, code digest, digest of its inputs
_IDLE_S = 30.0  # longest sleep between two looks, so that an edit of the project is seen


def days_of(p: "LocalPlatform", request: Request) -> list[str]:
    """Return the partition keys, one for each run of `--each`: those of the finest time grain that
    is asked for."""
    assert request.partitions is not None
    manifest = p.manifest()
    chosen = planning.select(manifest, request)
    grains = {a.id: keys.partitioning(a) for a in manifest.assets if a.id in chosen and a.build}
    for grain in ("hourly", "daily", "monthly"):
        for slices in grains.values():
            if slices.grain == grain:
                return slices.between(*request.partitions)
    raise UsageError(
        "SX-CLI-005", "none of these assets has partitions in time", hint="leave --each out"
    )


def due(
    p: "LocalPlatform", env: str, manifest: Manifest, chosen: set[str], now: int
) -> dict[str, int]:
    """Return asset -> the newest cron instant (ns) that has passed and was not acted on."""
    ticks = {row[0]: int(row[1]) for row in p.state.read("ticks", (env,))}
    out: dict[str, int] = {}
    for asset in manifest.assets:
        if asset.id not in chosen:
            continue
        for trigger in asset.on:
            if (
                trigger.kind == "cron"
                and (at := _newest(trigger.cron, manifest.tz, now))
                and at > ticks.get(asset.id, 0)
            ):
                out[asset.id] = max(out.get(asset.id, 0), at)
    return out


def next_tick(manifest: Manifest, chosen: set[str], now: int) -> int:
    """Return the next cron instant (ns) of any chosen asset; 0 if none has one."""
    found = [
        next(_instants(t.cron, manifest.tz, now))
        for a in manifest.assets
        if a.id in chosen
        for t in a.on
        if t.kind == "cron"
    ]
    return min(found, default=0)


def pausing(
    p: "LocalPlatform", env: str, manifest: Manifest, chosen: set[str], now: int
) -> dict[str, int]:
    """Return stream -> when (ns) its pause ends, for those that were published or refused a short
    while ago. A stream whose inbox fills up does not pause."""
    waiting = {row[0]: int(row[1]) for row in p.state.read("inbox_waits")}
    out: dict[str, int] = {}
    for asset in manifest.assets:
        if (
            asset.id in chosen
            and _is_stream(asset)
            and waiting.get(asset.id, 0) < INBOX_BATCHES_EARLY
            and (at := streams.next_publish_at(*_last_publish(p, env, asset.id))) > now
        ):
            out[asset.id] = at
    return out


def _last_publish(p: "LocalPlatform", env: str, asset: str) -> tuple[int, float]:
    """Return when the last run that published an asset, or was refused, ended, and what it took in
    seconds. (0, 0.0) when none did."""
    rows = p.state.read("release_newest_of", (env, asset))
    if not rows:
        return 0, 0.0
    release = msgspec.json.decode(rows[0][0], type=Release)
    runs = p.state.read("run_get", (release.run,))
    if not runs:  # somebody released a version that was there
        return release.changed_at, 0.0
    facts = msgspec.json.decode(runs[0][3], type=RunChanged)
    if not facts.finished_at:
        return release.changed_at, max(0.0, (release.changed_at - facts.started_at) / NS)
    return facts.finished_at, facts.wall_s


def _is_stream(asset: Asset) -> bool:
    return bool(asset.table and asset.table.columns)


def tick(
    p: "LocalPlatform", env: str, request: Request, tried: set[Pending] | None = None
) -> "RunReport | None":
    """Run what is due now: assets whose cron has come, and everything behind a changed input. None
    when nothing is.

    tried  what an earlier call ran and is pending still (it failed, or waits for approval): not run
           again by itself before
           something changed; brought up to date here
    """
    tried = set() if tried is None else tried
    manifest = p.manifest()
    chosen = planning.select(manifest, request)
    now = p.clock.now_ns()
    ticks = due(p, env, manifest, chosen, now)
    by_input = {
        a.id
        for a in manifest.assets
        if a.id in chosen
        and a.build
        and (a.build.inputs or _is_stream(a))
        and not any(t.kind == "cron" for t in a.on)
    } - pausing(p, env, manifest, chosen, now).keys()
    if any(a.id in by_input and _is_stream(a) for a in manifest.assets):
        p.inbox.fold(manifest, p.system, by_input)
    wanted = _with_downstream(manifest, set(ticks), by_input) | by_input
    pending = _pending(p, env, manifest, by_input)
    tried &= pending
    if not ticks and pending <= tried:
        return None
    asked = msgspec.structs.replace(
        request, assets=tuple(sorted(wanted)), downstream=False, asked=False
    )
    try:
        report = p.runs.run(env, asked, by=p.who(), trigger="schedule", ticks=ticks)
    except UserError:  # the same would be refused again
        tried |= pending
        raise
    tried |= pending
    return report if report.id else None


def _with_downstream(manifest: Manifest, start: set[str], allowed: set[str]) -> set[str]:
    out = set(start)
    for asset in planning.order(manifest):
        if asset.id in allowed and asset.build and any(i.asset in out for i in asset.build.inputs):
            out.add(asset.id)
    return out


def _pending(p: "LocalPlatform", env: str, manifest: Manifest, by_input: set[str]) -> set[Pending]:
    """Return what new versions of inputs, or of definitions, have made due."""
    if not by_input:
        return set()
    request = Request(
        assets=tuple(sorted(by_input)), downstream=False, look_back=False, asked=False
    )
    plan = planning.plan(manifest, p.runs.scene(env, manifest), request)
    return {
        (step.asset, item.partition, item.code, item.inputs)
        for step in plan.steps
        for item in step.items
    } | {(d.asset, ALL, d.target, "") for d in plan.definitions}


def watch(
    p: "LocalPlatform",
    env: str,
    request: Request,
    *,
    say: Callable[[str], None],
    tell: "Callable[[RunReport], None]",
) -> int:
    """Run what is due until interrupted. Errors of a run are said and the watch goes on."""
    with p.stoppable():
        return _watch(p, env, request, say=say, tell=tell)


def _watch(
    p: "LocalPlatform",
    env: str,
    request: Request,
    *,
    say: Callable[[str], None],
    tell: "Callable[[RunReport], None]",
) -> int:
    tried: set[Pending] = set()
    while not p.interrupted():
        try:
            p.load()
            report = tick(p, env, request, tried)
            if report is not None:
                tell(report)
                if report.state == "finished" and not report.waiting:
                    continue  # it took its time: more may be due
        except Busy as error:
            say(error.message)
        except SextantError as error:
            for line in error.lines():
                say(line)
        chosen = planning.select(p.manifest(), request)
        now = p.clock.now_ns()
        upcoming = min(
            (
                at
                for at in (
                    next_tick(p.manifest(), chosen, now),
                    *pausing(p, env, p.manifest(), chosen, now).values(),
                )
                if at
            ),
            default=0,
        )
        wait = min(_IDLE_S, (upcoming - p.clock.now_ns()) / 1e9) if upcoming else _IDLE_S
        p.pause(max(0.05, wait))
    return 0


def _newest(cron: str, tz: str, now: int) -> int:
    """Return the newest instant of a cron expression that is not after `now`."""
    from cronsim import CronSim

    local = to_datetime(now).astimezone(ZoneInfo(tz))
    return from_datetime(next(CronSim(cron, local + timedelta(microseconds=1), reverse=True)))


def _instants(cron: str, tz: str, now: int) -> Iterator[int]:
    from cronsim import CronSim

    local: datetime = to_datetime(now).astimezone(ZoneInfo(tz))
    for at in CronSim(cron, local):
        yield from_datetime(at)
