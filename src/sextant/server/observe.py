"""What telemetry saw becomes part of the graph: services as observed assets, calls between them as
edges, refusals as signals.

An edge points the way that cause travels, so the called service is its source: when it fails, its
callers feel it.
"""

import re
from typing import TYPE_CHECKING

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.nouns import Asset, Edge, Event, Signal
from sextant.kernel.ports import Write
from sextant.ledger.projections import AssetDeclared
from sextant.server.client import TelemetryClient

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

# observed assets that telemetry may bring in: a sender that makes up names is stopped there
_ASSETS_MAX = 5_000
_CALLS_MAX = 20_000  # edges between them
_NAME = re.compile(
    r"[a-z][a-z_]{0,31}:[^\x00-\x1f\x7f]{1,128}"
)  # a sender may call himself anything; the graph takes what can be written in a command
_AGAIN_NS = 24 * 3600 * NS  # an edge that nobody called over for so long has ended
_SIGNALS_PER_LOOK = 20


class Observer:
    """Looks at telemetry again and again. `step` is called by a loop."""

    def __init__(self, platform: "LocalPlatform", client: TelemetryClient) -> None:
        self._p, self._client = platform, client
        self._told: set[tuple[str, str, str]] = set()

    def step(self) -> None:
        """Record what is new. WorldError when telemetry does not answer."""
        self._services()
        self._refused()

    def _services(self) -> None:
        p = self._p
        services = {
            row["asset"]: row
            for row in self._client.query(
                "SELECT asset, owner FROM obs.services ORDER BY asset LIMIT 20000"
            )
        }
        calls = self._client.query(
            "SELECT caller, callee, toUnixTimestamp64Nano(toDateTime64(last_seen, 9)) AS "
            f"last FROM obs.calls LIMIT {_CALLS_MAX}"
        )
        known = {row[0]: msgspec.json.decode(row[1], type=Asset) for row in p.state.read("assets")}
        now = p.clock.now_ns()
        live = {
            (s, t) for s, t, kind, _, _ in p.state.read("edges_at", (now, now)) if kind == "calls"
        }
        seen = {
            (row["callee"], row["caller"])
            for row in calls
            if now - int(row["last"]) < _AGAIN_NS and row["callee"] != row["caller"]
        }
        new = {id_ for id_ in services if id_ not in known and _NAME.fullmatch(id_)}
        if len(known) + len(new) > _ASSETS_MAX:
            self._signal(
                "telemetry.assets",
                "",
                (
                    f"telemetry names {len(new)} assets that are not known; {_ASSETS_MAX} are "
                    "the most that are taken in"
                ),
                "warn",
            )
            new = set(sorted(new)[: max(0, _ASSETS_MAX - len(known))])
        everything = {*known, *new}
        edges: dict[str, tuple[list[Edge], list[Edge]]] = {}
        for source, target in seen - live:
            if source in everything and target in everything:
                edges.setdefault(target, ([], []))[0].append(
                    Edge(source=source, target=target, kind="calls")
                )
        for source, target in live - seen:
            edges.setdefault(target, ([], []))[1].append(
                Edge(source=source, target=target, kind="calls")
            )
        events: list[Event] = []
        for id_ in sorted(new | edges.keys()):
            kind, _, name = id_.partition(":")
            asset = known.get(id_) or Asset(
                kind=kind,
                name=name,
                mode="observed",
                owner=str(services.get(id_, {}).get("owner", "")),
            )
            begun, ended = edges.get(id_, ([], []))
            events.append(
                p.event(
                    "asset.observed",
                    id_,
                    AssetDeclared(asset, tuple(begun), tuple(ended)),
                    p.system,
                    "",
                )
            )
        if events:
            p.state.commit(Write((), tuple(events)))

    def _refused(self) -> None:
        """Raise a signal for what was refused in this hour, once for each sender, protocol and
        reason."""
        found = self._client.query(
            "SELECT owner, protocol, reason, sum(count) AS count, "
            "toUnixTimestamp(max(r.hour)) AS hour FROM obs.refused AS r WHERE r.hour = "
            "toStartOfHour(now()) GROUP BY owner, protocol, reason LIMIT 1000"
        )
        for row in found[:_SIGNALS_PER_LOOK]:
            key = (str(row["owner"]), f"{row['protocol']}/{row['reason']}", str(row["hour"]))
            if key in self._told:
                continue
            if len(self._told) > 10_000:
                self._told.clear()
            self._told.add(key)
            whose = row["owner"] or "a sender without an owner"
            self._signal(
                f"telemetry.{row['reason']}",
                str(row["owner"]),
                (
                    f"telemetry of {whose} by {row['protocol']}: {int(row['count']):,} refused, "
                    f"{row['reason']}"
                ),
                "warn",
            )

    def _signal(self, kind: str, owner: str, message: str, severity: str) -> None:
        p = self._p
        if any(
            s["kind"] == kind and s.get("evidence", {}).get("owner") == owner
            for s in p.views.signals(kind=kind, open_only=True).items
        ):
            return  # somebody has it on the list already
        signal = Signal(
            id=p.ids.new("sig"),
            asset="",
            kind=kind,
            severity=severity,  # type: ignore[arg-type]
            message=message,
            onset=p.clock.now_ns(),
            evidence={"owner": owner},
        )
        p.state.commit(Write((), (p.event("signal.raised", signal.id, signal, p.system, ""),)))
