"""Why a business number moved, and how sure that is: the changes that moved it, releases of other
tools whose way to it is grounded, and what was looked at to say so. Called by `app/why`.

*Proven* is what the number was derived without, *likely* what can only be observed, *none of ours*
that the rows moved it and nothing that was changed did.
"""

from collections import deque
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec

from sextant.app import lists
from sextant.app.graph import graph
from sextant.app.instants import instant
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.kernel.answers import Cause, Coverage, Moved, WaterfallBar, WaterfallSeen
from sextant.kernel.clock import NS, iso
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import CAUSES_SHOWN
from sextant.kernel.nouns import Asset, Signal
from sextant.ledger.log import entries

_FAR = 1 << 62
_LIKELY = 0.7  # of a grounded way, or a share that is not proven
_REPORTS_READ = 200
_SIGNALS_READ = 500
_SAID = ("version", "message")
_SIDES: tuple[Literal["before"], Literal["after"]] = ("before", "after")


class _Onset(NamedTuple):
    """When something about an asset was first out of the ordinary, and what it was."""

    asset: str
    at: int
    text: str


def moved(core: Core, see: Visibility, kpi: Asset, seen: WaterfallSeen) -> Moved:
    """Return what moved a number.

    seen  the same difference as a sum, with or without its bars
    """
    upstream = graph(core, core.assets.select([f"+{kpi.id}"]))["assets"]
    since, until = _window(core, seen)
    looked_at = (_coverage(core, seen["env"], node, since) for node in upstream)
    coverage = [one for one in looked_at if one is not None]
    read = _share_read(coverage)
    bars = seen.get("bars")
    causes = [*_ours(bars or []), *_theirs(core, see, kpi, upstream, since, until, read)]
    causes.sort(key=lambda one: (-one["probability"], -abs(Decimal(one["amount"] or 0)), one["at"]))
    verdict, probability = _verdict(seen, causes, read)
    return {
        "before": seen["before"],
        "after": seen["after"],
        "difference": seen["difference"],
        "restated": seen["restated"],
        "verdict": verdict,
        "probability": round(probability, 2),
        "causes": causes[:CAUSES_SHOWN],
        "coverage": coverage,
        "cost": seen["cost"],
        "notes": seen["notes"],
    }


def _verdict(seen: WaterfallSeen, causes: list[Cause], read: float) -> tuple[str, float]:
    """Return the verdict, and how probable it is. A source that was not read lowers that of what
    rests on nothing having been found."""
    if not Decimal(seen["difference"]) and not any(one["amount"] for one in causes):
        return "nothing moved", read
    if causes:
        return causes[0]["sure"], causes[0]["probability"]
    if "bars" not in seen:
        return "not derived", 0.0
    return "none of ours", read


def _ours(bars: list[WaterfallBar]) -> list[Cause]:
    out: list[Cause] = []
    for bar in bars:
        if bar["what"] in ("movement", "not attributed") or not Decimal(bar["amount"]):
            continue
        proven = bar["sure"] == "proven"
        without = bar.get("without")
        out.append(
            {
                "what": bar["what"],
                "text": bar["text"],
                "asset": bar["asset"],
                "owner": bar["owner"],
                "by": bar["by"],
                "at": bar["at"],
                "release": bar["release"],
                "amount": bar["amount"],
                "without": without or "",
                "sure": "proven" if proven else "likely",
                "probability": 1.0 if proven else _LIKELY,
                "path": [],
                "grounds": [f"without it the number is {float(without):,.6g}"] if without else [],
                "undo": bar["undo"],
            }
        )
    return out


# ---------------------------------------------------------------- releases of other tools


def _theirs(
    core: Core,
    see: Visibility,
    kpi: Asset,
    upstream: list[Any],
    since: int,
    until: int,
    read: float,
) -> list[Cause]:
    """Return releases that other tools reported and whose way to the number is grounded: the edges
    were valid then, and something on the way was out of the ordinary after it, in this order."""
    observed = [node for node in upstream if node["mode"] == "observed"]
    if not observed:
        return []
    onsets = _onsets(core, see, {node["id"] for node in upstream}, until)
    out: list[Cause] = []
    for node in observed:
        for report in _releases(core, see, node["id"], since, until):
            path = _path(core, node["id"], kpi.id, report["at"])
            on_path = [one for one in onsets if one.asset in path and one.at >= report["at"]]
            if not path or not on_path:
                continue
            first = min(on_path, key=lambda one: (one.at, path.index(one.asset)))
            out.append(
                {
                    "what": "release of another tool",
                    "text": f"release of {node['id']}{report['said']}",
                    "asset": node["id"],
                    "owner": node["owner"],
                    "by": report["by"],
                    "at": iso(report["at"]),
                    "release": "",
                    "amount": "",
                    "without": "",
                    "sure": "likely",
                    "probability": round(_LIKELY * read, 2),
                    "path": path,
                    "grounds": [f"{first.text}, {_after(first.at - report['at'])} after it"],
                    "undo": "by the tool that manages it",
                }
            )
    return out


def _releases(core: Core, see: Visibility, asset: str, since: int, until: int) -> list[Any]:
    """Return the releases of an observed asset that were reported in a time, the newest first."""
    out = []
    for entry in entries(core.state.read, "events_of_subject", (asset, _FAR, _REPORTS_READ)):
        at = entry.envelope.time
        if entry.envelope.type != "release.reported" or not since <= at <= until:
            continue
        data = see.event(lists.event_seen(entry))["data"]
        words = (
            [str(data[name]) for name in _SAID if data.get(name)] if isinstance(data, dict) else []
        )
        said = f" ({', '.join(words)})" if words else ""
        out.append({"at": at, "by": entry.envelope.actor, "said": said})
    return out


def _onsets(core: Core, see: Visibility, assets: set[str], until: int) -> list[_Onset]:
    """Return what was out of the ordinary about some assets: their signals."""
    out = []
    for row in core.state.read("signals", (until + 1, _SIGNALS_READ)):
        signal = see.signal(msgspec.json.decode(row[0], type=Signal))
        if signal.asset in assets:
            out.append(_Onset(signal.asset, signal.onset, signal.message or signal.kind))
    return out


def _path(core: Core, source: str, target: str, at: int) -> list[str]:
    """Return the shortest way from one asset to another over the edges that were valid at a time;
    [] where there was none."""
    to: dict[str, list[str]] = {}
    for start, end, *_ in core.state.read("edges_at", (at, at)):
        to.setdefault(start, []).append(end)
    came: dict[str, str] = {source: ""}
    todo = deque([source])
    while todo and target not in came:
        here = todo.popleft()
        for next_ in sorted(to.get(here, ())):
            if next_ not in came:
                came[next_] = here
                todo.append(next_)
    if target not in came:
        return []
    path = [target]
    while came[path[-1]]:
        path.append(came[path[-1]])
    return path[::-1]


def _window(core: Core, seen: WaterfallSeen) -> tuple[int, int]:
    """Return the time in which a cause may lie, ns since 1970: from the beginning of the time
    before, or when that was known, until the time after was known."""
    known = [
        entries(core.state.read, "event_by_seq", (seen[side]["known"],))[0].envelope.time
        for side in _SIDES
    ]
    began = instant(core, seen["before"]["since"]) if seen["before"]["since"] else known[0]
    return min(began, *known), known[1]


def _after(ns: int) -> str:
    """Return a length of time in words."""
    seconds = ns / NS
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


# ---------------------------------------------------------------- what was looked at


def _coverage(core: Core, env: str, node: Any, since: int) -> Coverage | None:
    """Return whether what stands upstream was there to look at; None for what has nothing."""
    if node["mode"] == "observed":
        heard = entries(core.state.read, "events_of_subject", (node["id"], _FAR, 1))
        at = heard[0].envelope.time if heard else 0
        state = "absent" if not at else "read" if at >= since else "stale"
        return {"asset": node["id"], "state": state, "at": iso(at) if at else ""}
    if takes_time(node["id"]):
        return None
    live = core.versions.live(env).get(node["id"])
    if live is None:
        return {"asset": node["id"], "state": "absent", "at": ""}
    return {"asset": node["id"], "state": "read", "at": iso(live.moved_at)}


def _share_read(coverage: list[Coverage]) -> float:
    """Return how much of what stands upstream was read: what is stale counts half."""
    weights = {"read": 1.0, "stale": 0.5, "absent": 0.0}
    found = [weights[one["state"]] for one in coverage]
    return sum(found) / len(found) if found else 1.0
