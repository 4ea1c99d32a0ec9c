"""When assets run by themselves: at instants of cron, when an input has a new version; and what
holds them back."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from sextant.core import Core
from sextant.kernel.clock import NS, from_datetime, to_datetime
from sextant.kernel.limits import INBOX_BATCHES_EARLY
from sextant.kernel.nouns import Manifest, Release
from sextant.kinds.dataset import streams
from sextant.ledger.projections import stored_run
from sextant.ledger.signals import open_incidents


def due(
    core: Core, env: str, manifest: Manifest, chosen: Collection[str], now: int
) -> dict[str, int]:
    """Return asset -> the newest cron instant (ns) that has passed and was not acted on."""
    ticks = {row[0]: int(row[1]) for row in core.state.read("ticks", (env,))}
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


def next_tick(manifest: Manifest, chosen: Collection[str], now: int) -> int:
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
    core: Core, env: str, manifest: Manifest, chosen: Collection[str], now: int
) -> dict[str, int]:
    """Return asset -> when (ns) its pause ends, for those that were published or refused a short
    while ago: streams, and what has a cooldown. A stream whose inbox fills up does not pause."""
    waiting = {row[0]: int(row[1]) for row in core.state.read("inbox_waits")}
    out: dict[str, int] = {}
    for asset in manifest.assets:
        if asset.id not in chosen:
            continue
        cooldown = max((t.cooldown_s for t in asset.on if t.kind == "inputs"), default=0.0)
        at = 0
        if asset.is_pushed and waiting.get(asset.id, 0) < INBOX_BATCHES_EARLY:
            at = streams.next_publish_at(*_last_publish(core, env, asset.id))
        if cooldown:
            ended_at, _ = _last_publish(core, env, asset.id)
            at = max(at, ended_at + int(cooldown * NS) if ended_at else 0)
        if at > now:
            out[asset.id] = at
    return out


def _last_publish(core: Core, env: str, asset: str) -> tuple[int, float]:
    """Return when the last run that published an asset, or was refused, ended, and what it took in
    seconds. (0, 0.0) when none did."""
    rows = core.state.read("release_newest_of", (env, asset))
    if not rows:
        return 0, 0.0
    release = msgspec.json.decode(rows[0][0], type=Release)
    runs = core.state.read("run_get", (release.run,))
    if not runs:  # somebody released a version that was there
        return release.changed_at, 0.0
    facts = stored_run(runs[0][3])
    if not facts.finished_at:
        return release.changed_at, max(0.0, (release.changed_at - facts.started_at) / NS)
    return facts.finished_at, facts.wall_s


def held_by_incidents(core: Core, manifest: Manifest) -> dict[str, str]:
    """Return asset -> an open incident about one of its inputs: it does not run by itself before
    that is closed."""
    about = {id_: one.id for one in open_incidents(core.state) for id_ in one.assets}
    return {
        asset.id: about[bound.asset]
        for asset in manifest.assets
        for bound in (asset.build.inputs if asset.build and about else ())
        if bound.asset in about
    }


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
