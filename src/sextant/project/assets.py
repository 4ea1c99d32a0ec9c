"""The assets of a project and those that other tools manage, by name, by selection, as a graph."""

from collections.abc import Sequence

import msgspec

from sextant.kernel.clock import Clock
from sextant.kernel.errors import NotFound, UserError
from sextant.kernel.nouns import Asset, Edge
from sextant.kernel.ports import State
from sextant.project.current import CurrentProject
from sextant.project.edges import declared_edges, in_order
from sextant.project.selection import selected


class Assets:
    """Looks assets up. Any thread."""

    def __init__(self, project: CurrentProject, state: State, clock: Clock) -> None:
        self._project, self._state, self._clock = project, state, clock

    def find(self, name: str) -> Asset:
        """Return an asset by id, or by name when only one kind has it. NotFound lists near
        names."""
        import difflib

        found = [a for a in self._project.manifest().assets if name in (a.id, a.name)]
        observed = self._state.read("asset_get", (name,)) if not found else []
        if observed:
            return msgspec.json.decode(observed[0][0], type=Asset)
        exact = [a for a in found if a.id == name] or found
        if len(exact) == 1:
            return exact[0]
        if exact:
            raise UserError(
                "SX-PLAN-004",
                f"`{name}` is {' and '.join(a.id for a in exact)}",
                hint="write the kind too",
            )
        names = [a.id if ":" in name else a.name for a in self._project.manifest().assets]
        near = difflib.get_close_matches(name, names, n=3)
        raise NotFound(
            "SX-PLAN-002",
            f"there is no asset `{name}`",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else "`sextant graph` lists the assets",
        )

    def known(self, id_: str) -> Asset | None:
        """Return an asset by its id: as the project declares it, else as it was last seen; None
        when there never was one."""
        declared = self._project.manifest().asset(id_)
        rows = [] if declared else self._state.read("asset_get", (id_,))
        return msgspec.json.decode(rows[0][0], type=Asset) if rows else declared

    def graph(self) -> tuple[dict[str, Asset], list[Edge]]:
        """Return the assets by id, those that the project declares first, and the edges that hold
        now."""
        manifest = self._project.manifest()
        now = self._clock.now_ns()
        known = {asset.id: asset for asset in manifest.assets}
        for id_, doc, _ in self._state.read("assets"):
            known.setdefault(id_, msgspec.json.decode(doc, type=Asset))
        edges = [
            Edge(source=s, target=t, kind=k, valid_from=f, valid_to=u)
            for s, t, k, f, u in self._state.read("edges_at", (now, now))
        ]
        if self._project.draft is not None:  # not in the store yet
            before = declared_edges(self._project.recorded())
            edges = [
                edge
                for edge in edges
                if Edge(source=edge.source, target=edge.target, kind=edge.kind) not in before
            ]
            edges += in_order(declared_edges(manifest))
        return known, edges

    def select(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the assets that a person names, none for no text: see
        `project.selection`."""
        if not texts:
            return ()
        known, edges = self.graph()
        return selected(texts, known, edges, find=lambda word: self.find(word).id)
