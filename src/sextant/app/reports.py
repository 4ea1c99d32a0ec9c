"""What other tools say that they did with the assets that they manage."""

from typing import Any

import msgspec

from sextant.app.observed import ObservedAssets, check_reported
from sextant.core import Core
from sextant.kernel.answers import Reported
from sextant.kernel.errors import Busy, NotFound, UserError
from sextant.kernel.limits import OBSERVED_PER_OWNER_MAX
from sextant.kernel.nouns import Asset, Edge, Event, Principal
from sextant.kernel.ports import Write
from sextant.ledger.projections import AssetDeclared
from sextant.ledger.signals import close_passed, evidence, raise_signal


def report(
    core: Core,
    env: str,
    kind: str,
    asset: str,
    *,
    version: str = "",
    state: str = "",
    name: str = "",
    message: str = "",
    url: str = "",
    owner: str = "",
    upstream: tuple[str, ...] = (),
    downstream: tuple[str, ...] = (),
    cause: str = "",
    by: Principal | None = None,
) -> Reported:
    """Record what another tool did with an observed asset; the asset joins the graph when it is
    seen first.

    upstream, downstream  assets that it stands on, and that stand on it
    Raises UserError for a managed asset, an unknown state or a cause that is no event.
    """
    by = by or core.authorization.who()
    states = {
        "release": ("live", "rolled_back", "rejected"),
        "run": ("finished", "failed"),
        "check": ("ok", "failed"),
    }[kind]
    state = state or states[0]
    if state not in states:
        raise UserError(
            "SX-REPORT-001",
            f"`{state}` is not a state of a {kind}",
            hint=f"one of {', '.join(states)}",
        )
    check_reported(asset)
    managed = core.project.manifest().asset(asset)
    if managed is not None and managed.mode == "managed":
        raise UserError(
            "SX-REPORT-003",
            f"`{asset}` is managed by Sextant: what it does is recorded by itself",
            hint="report on assets that other tools manage",
        )
    if cause and not core.state.read("event_seq", (cause,)):
        raise NotFound(
            "SX-REPORT-004",
            f"there is no event `{cause}`",
            hint="`sextant ledger show` lists events",
        )
    kind_, _, short = asset.partition(":")
    rows = core.state.read("asset_get", (asset,))
    last = msgspec.json.decode(rows[0][0], type=Asset) if rows else None
    known = last if rows and not rows[0][1] else None
    noun = Asset(kind=kind_, name=short, mode="observed", owner=owner)
    if last is not None and not owner:
        noun = msgspec.structs.replace(noun, owner=last.owner)
    edges = tuple(
        Edge(source=core.assets.find(id_).id, target=asset, kind="feeds") for id_ in upstream
    )
    edges += tuple(
        Edge(source=asset, target=core.assets.find(id_).id, kind="feeds") for id_ in downstream
    )
    events: list[Event] = [] if known else _room_for(core, noun)
    if known is None or edges or known.owner != noun.owner:
        events.append(
            core.events.make("asset.observed", asset, AssetDeclared(noun, edges), by, cause)
        )
    data = {
        "asset": asset,
        "env": env,
        "version": version,
        "state": state,
        "name": name,
        "message": message,
        "url": url,
    }
    done = core.events.make(
        f"{kind}.reported",
        asset,
        {k: v for k, v in data.items() if v},
        by,
        cause or (events[-1].id if events else ""),
    )
    events.append(done)
    check = evidence(env, name) if kind == "check" else {}
    if check and state == "ok":
        events += close_passed(
            core.state, core.events, env, asset, {name}, actor=str(by), cause=done.id
        )
    bad = state in ("failed", "rejected", "rolled_back")
    if bad:
        said = f"{asset}: {name or kind} {state}" + (f": {message}" if message else "")
        signal_kind = f"{kind}.{state}"
        more: dict[str, Any] = {"env": env, "evidence": check, "by": by, "cause": done.id}
        if check and name:
            events += raise_signal(
                core.state, core.events, asset, signal_kind, "error", said, key=name, **more
            )
        else:
            events.append(core.events.signal(asset, signal_kind, "error", said, **more))
    core.state.commit(Write((), tuple(events)))
    return {"asset": asset, "type": done.type, "event": done.id, "new": known is None}


def _room_for(core: Core, observed: Asset) -> list[Event]:
    """Return the events that make room for one more observed asset. Busy when its owner has too
    many."""
    room = ObservedAssets(core).take(observed.owner)
    if room is None:
        whose = f"`{observed.owner}`" if observed.owner else "no owner"
        raise Busy(
            "SX-REPORT-005",
            f"the graph has {OBSERVED_PER_OWNER_MAX:,} observed assets of {whose}, each seen "
            "within a day",
            hint="report under fewer names, and with the --owner whose assets they are",
        )
    return room
