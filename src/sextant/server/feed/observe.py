"""What telemetry saw becomes part of the graph: services as observed assets, calls between them as
edges, refusals as signals.

An edge points the way that cause travels, so the called service is its source: when it fails, its
callers feel it.
"""

import re
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.app.observed import ObservedAssets
from sextant.formats.telemetry.batch import NOTICES
from sextant.kernel.clock import NS
from sextant.kernel.limits import (
    NAME_CHARS_MAX,
    OBSERVED_KEPT_S,
    OBSERVED_PER_OWNER_MAX,
    OBSERVED_SILENT_S,
    USED_PER_SERVICE_MAX,
)
from sextant.kernel.nouns import SYSTEM, Asset, Edge, Event, kind_of
from sextant.kernel.ports import Write
from sextant.kernel.texts import is_line
from sextant.ledger.events import Severity
from sextant.ledger.projections import AssetDeclared
from sextant.ledger.signals import raise_signal
from sextant.server.feed.telemetry_client import TelemetryClient

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_SERVICES_READ = 20_000  # of those that telemetry names; the newest
_CALLS_MAX = 20_000  # edges between them
# a sender may call himself anything; the graph takes what can be written in a command
_KIND = re.compile(r"[a-z][a-z_]{0,31}")
_AGAIN_NS = 24 * 3600 * NS  # an edge that nobody called over for so long has ended
_SIGNALS_PER_LOOK = 20
_OUTSIDE = ("table", "topic")


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
        now = p.core.clock.now_ns()
        services = {
            row["asset"]: row
            for row in self._client.query(
                "SELECT asset, owner, toUnixTimestamp64Nano(toDateTime64(first_seen, 9)) AS first, "
                "toUnixTimestamp64Nano(toDateTime64(last_seen, 9)) AS last FROM obs.services "
                f"WHERE toUnixTimestamp(last_seen) > {now // NS - int(OBSERVED_KEPT_S)} "
                f"ORDER BY last_seen DESC, asset LIMIT {_SERVICES_READ}"
            )
        }
        calls = self._client.query(
            "SELECT caller, callee, toUnixTimestamp64Nano(toDateTime64(first_seen, 9)) AS first, "
            "toUnixTimestamp64Nano(toDateTime64(last_seen, 9)) AS last "
            f"FROM obs.calls ORDER BY last_seen DESC, caller, callee LIMIT {_CALLS_MAX}"
        )
        services = self._outside(calls, services) | services
        known = {
            row[0]: msgspec.json.decode(row[1], type=Asset) for row in p.core.state.read("assets")
        }
        live = {
            (s, t)
            for s, t, kind, _, _ in p.core.state.read("edges_at", (now, now))
            if kind == "calls"
        }
        seen = {
            (row["callee"], row["caller"])
            for row in calls
            if now - int(row["last"]) < _AGAIN_NS and row["callee"] != row["caller"]
        }
        # what feeds an asset of the project is said by its team, not by who sends spans
        seen = {(s, t) for s, t in seen if p.core.project.manifest().asset(t) is None}
        events, new = self._taken_in(services, known)
        known = {id_: asset for id_, asset in known.items() if id_ not in _subjects(events)}
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
        for id_ in sorted(new | (edges.keys() & everything)):
            kind, _, name = id_.partition(":")
            asset = known.get(id_) or Asset(
                kind=kind,
                name=name,
                mode="observed",
                owner=_shown(services[id_]["owner"]),
            )
            begun, ended = edges.get(id_, ([], []))
            events.append(
                p.core.events.make(
                    "asset.observed",
                    id_,
                    AssetDeclared(asset, tuple(begun), tuple(ended)),
                    SYSTEM,
                    "",
                )
            )
        if events:
            p.core.state.commit(Write((), tuple(events)))

    def _outside(
        self, calls: list[dict[str, Any]], services: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Return the tables and topics that services use, as if they had spoken themselves: each
        counts to the owner of the service that named it first. One that names too many is a
        signal."""
        out: dict[str, dict[str, Any]] = {}
        named: dict[str, int] = {}
        for row in sorted(calls, key=lambda row: (int(row["first"]), row["caller"], row["callee"])):
            for asset, service in (
                (row["caller"], row["callee"]),
                (row["callee"], row["caller"]),
            ):
                if kind_of(asset) not in _OUTSIDE or service not in services:
                    continue
                named[service] = named.get(service, 0) + 1
                if asset in out:
                    out[asset]["last"] = max(int(out[asset]["last"]), int(row["last"]))
                elif named[service] <= USED_PER_SERVICE_MAX:
                    out[asset] = {**row, "owner": services[service]["owner"]}
        for service, count in named.items():
            if count >= USED_PER_SERVICE_MAX:
                self._signal(
                    "telemetry.tables",
                    _shown(services[service]["owner"]),
                    (
                        f"{service} names {count} tables and topics or more: what comes after "
                        f"{USED_PER_SERVICE_MAX} is not taken into the graph"
                    ),
                    "warn",
                )
        return out

    def _taken_in(
        self, services: dict[str, dict[str, Any]], known: dict[str, Asset]
    ) -> tuple[list[Event], set[str]]:
        """Return the events that retire assets, and the services that join the graph: those that
        spoke first come first. A full share is a signal."""
        p = self._p
        lately = p.core.clock.now_ns() - OBSERVED_SILENT_S * NS
        room = ObservedAssets(p.core, {id_: int(row["last"]) for id_, row in services.items()})
        events = room.forget()
        new: set[str] = set()
        refused: dict[str, int] = {}
        for id_, row in sorted(services.items(), key=lambda item: (int(item[1]["first"]), item[0])):
            if id_ in known or int(row["last"]) < lately or not _is_asset(id_):
                continue
            made = room.take(_shown(row["owner"]))
            if made is None:
                owner = room.owner(_shown(row["owner"]))
                refused[owner] = refused.get(owner, 0) + 1
                continue
            events += made
            new.add(id_)
        for owner, count in refused.items():
            self._signal(
                "telemetry.assets",
                owner,
                (
                    f"{count} services of {owner or 'no team'} are not taken into the graph: it "
                    f"has {OBSERVED_PER_OWNER_MAX:,} of theirs, each seen within a day"
                ),
                "warn",
            )
        return events, new

    def _refused(self) -> None:
        """Raise a signal for what was refused in this hour, once for each sender, protocol and
        reason."""
        found = self._client.query(
            "SELECT owner, protocol, reason, sum(count) AS count, "
            "toUnixTimestamp(max(r.hour)) AS hour FROM obs.refused AS r WHERE r.hour = "
            f"toStartOfHour(now()) AND reason NOT IN ({', '.join(map(repr, sorted(NOTICES)))}) "
            "GROUP BY owner, protocol, reason LIMIT 1000"
        )
        for row in found[:_SIGNALS_PER_LOOK]:
            row["owner"] = _shown(row["owner"])
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

    def _signal(self, kind: str, owner: str, message: str, severity: Severity) -> None:
        core = self._p.core
        raised = raise_signal(
            core.state,
            core.events,
            "",
            kind,
            severity,
            message,
            key=owner or "nobody",
            evidence={"owner": owner},
        )
        if raised:
            core.state.commit(Write((), tuple(raised)))


def _is_asset(id_: str) -> bool:
    kind, _, name = id_.partition(":")
    return kind != "ledger" and bool(_KIND.fullmatch(kind)) and is_line(name, NAME_CHARS_MAX)


def _shown(owner: object) -> str:
    """Return the owner that a sender names; "" for a text that is no name."""
    return str(owner) if is_line(str(owner), NAME_CHARS_MAX) else ""


def _subjects(events: list[Event]) -> set[str]:
    return {event.subject for event in events}
