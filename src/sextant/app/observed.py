"""How many assets of other tools the graph takes in: a share for each owner, so that invented names
crowd out nobody else's, and none for good.

A name that no team has counts as no owner: whoever makes up owners has one share with all others
who do.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from sextant.core import Core
from sextant.kernel.clock import NS
from sextant.kernel.errors import UserError
from sextant.kernel.limits import (
    NAME_CHARS_MAX,
    OBSERVED_KEPT_S,
    OBSERVED_PER_OWNER_MAX,
    OBSERVED_SILENT_S,
)
from sextant.kernel.nouns import SYSTEM, Asset, Edge, Event
from sextant.ledger.projections import AssetDeclared


class Seen(NamedTuple):
    """An observed asset that is in the graph.

    at        when something was last heard of it, in ns
    reported  whether that was a report
    """

    at: int
    asset: Asset
    reported: bool


_ASSET = re.compile(r"[a-z][a-z0-9_]*:[A-Za-z0-9][A-Za-z0-9_./@-]{0,127}")


def check_reported(asset: str) -> None:
    """Refuse what is no asset's id, and what the ledger's own entries are about."""
    if not _ASSET.fullmatch(asset) or asset.startswith("ledger:"):
        raise UserError(
            "SX-REPORT-002",
            f"`{asset[:NAME_CHARS_MAX]}` is not an asset's id",
            hint="write kind:name, such as service:checkout; `ledger` is no kind",
        )


class ObservedAssets:
    """The observed assets of a project, as they are when this is made."""

    def __init__(self, core: Core, heard: Mapping[str, int] | None = None) -> None:
        """heard  asset -> when telemetry last heard of it, in ns; None = not known here, and what
        only telemetry has seen stays"""
        self._core = core
        manifest = core.project.manifest()
        declared = {asset.id for asset in manifest.assets}
        self._teams = {team.name for team in manifest.teams} | {a.owner for a in manifest.assets}
        # what a declared asset reads stays; an edge that was only reported keeps nothing
        pinned = declared | {
            bound.asset for a in manifest.assets if a.build for bound in a.build.inputs
        }
        self._count: dict[str, int] = {}
        self._free: dict[str, list[Seen]] = {}  # by owner: those that may go, the oldest first
        for id_, doc, at, type_ in core.state.read("observed_seen"):
            if id_ in declared:
                continue
            asset = msgspec.json.decode(doc, type=Asset)
            owner = self.owner(asset.owner)
            self._count[owner] = self._count.get(owner, 0) + 1
            one = Seen(max(at, (heard or {}).get(id_, 0)), asset, str(type_).endswith(".reported"))
            if id_ not in pinned and (heard is not None or one.reported):
                self._free.setdefault(owner, []).append(one)
        for found in self._free.values():
            found.sort(key=lambda one: (one.at, one.asset.id))

    def owner(self, name: str) -> str:
        """Return whose share an asset counts against."""
        return name if name in self._teams else ""

    def take(self, owner: str) -> list[Event] | None:
        """Return the events that make room for one more of an owner's assets; None when there is
        none: its share is full of assets that were seen lately."""
        owner = self.owner(owner)
        count = self._count.get(owner, 0)
        if count < OBSERVED_PER_OWNER_MAX:
            self._count[owner] = count + 1
            return []
        free = self._free.get(owner, [])
        if not free or free[0].at > self._core.clock.now_ns() - OBSERVED_SILENT_S * NS:
            return None
        return self._retire([free.pop(0).asset])

    def forget(self) -> list[Event]:
        """Return the events that retire what was not seen for OBSERVED_KEPT_S."""
        before = self._core.clock.now_ns() - OBSERVED_KEPT_S * NS
        gone: list[Asset] = []
        for owner, free in self._free.items():
            old = [one.asset for one in free if one.at < before]
            self._free[owner] = free[len(old) :]
            self._count[owner] -= len(old)
            gone += old
        return self._retire(gone)

    def _retire(self, assets: Iterable[Asset]) -> list[Event]:
        core = self._core
        gone = list(assets)
        if not gone:
            return []
        now = core.clock.now_ns()
        edges = [
            Edge(source=source, target=target, kind=kind)
            for source, target, kind, _, _ in core.state.read("edges_at", (now, now))
        ]
        return [
            core.events.make(
                "asset.retired",
                asset.id,
                AssetDeclared(
                    asset, (), tuple(e for e in edges if asset.id in (e.source, e.target))
                ),
                SYSTEM,
                "",
            )
            for asset in gone
        ]
