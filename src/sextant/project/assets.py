"""The assets of a project and those that other tools manage, by name, by selection, as a graph."""

from collections.abc import Iterable, Sequence

import msgspec

from sextant.kernel.clock import Clock
from sextant.kernel.errors import NotFound, UserError
from sextant.kernel.nouns import Asset, Edge, Manifest
from sextant.kernel.ports import State
from sextant.project.current import CurrentProject
from sextant.project.edges import declared_edges, in_order
from sextant.project.selection import selected
from sextant.project.versions import PROJECT


class Assets:
    """Looks assets up. Any thread."""

    def __init__(self, project: CurrentProject, state: State, clock: Clock) -> None:
        self._project, self._state, self._clock = project, state, clock

    def find(self, name: str, env: str = "", manifest: Manifest | None = None) -> Asset:
        """Return an asset by id, or by name when only one kind has it, as it is declared in
        `manifest`: None = in an environment ("" = in the folder, else anywhere). NotFound lists
        near names."""
        import difflib

        declared = (manifest or self._project.manifest(env)).assets
        found = _named(name, declared)
        if not found and not env:
            everywhere = self._project.manifests() if self._project.is_known() else ()
            anywhere = {a.id: a for one in everywhere for a in one.assets}
            found = _named(name, anywhere.values())
        observed = self._state.read("asset_get", (name,)) if not found else []
        if observed:
            return msgspec.json.decode(observed[0][0], type=Asset)
        read = read_outside(declared).get(name) if not found else None
        if read is not None:
            return read
        # the project itself gives way: it often has the name of what it is about
        others = [a for a in found if a.kind != PROJECT]
        exact = [a for a in found if a.id == name] or others or found
        if len(exact) == 1:
            return exact[0]
        if exact:
            raise UserError(
                "SX-PLAN-004",
                f"`{name}` is {' and '.join(a.id for a in exact)}",
                hint="write the kind too",
            )
        names = [a.id if ":" in name else a.name for a in declared]
        near = difflib.get_close_matches(name, names, n=3)
        if env and _named(name, self._project.manifest().assets):
            raise NotFound(
                "SX-PLAN-010",
                f"the version of the project that is in force in `{env}` has no asset `{name}`",
                hint=f"the folder has it: `sextant run --env {env}` brings it there",
            )
        raise NotFound(
            "SX-PLAN-002",
            f"there is no asset `{name}`",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else "`sextant graph` lists the assets",
        )

    def known(self, id_: str, env: str = "") -> Asset | None:
        """Return an asset by its id: as the project declares it in an environment ("" = in the
        folder), else as it was last seen; None when there never was one."""
        declared = self._project.manifest(env).asset(id_)
        rows = [] if declared else self._state.read("asset_get", (id_,))
        return msgspec.json.decode(rows[0][0], type=Asset) if rows else declared

    def graph(
        self, env: str = "", manifest: Manifest | None = None
    ) -> tuple[dict[str, Asset], list[Edge]]:
        """Return the assets by id, those that `manifest` declares first (None = that of an
        environment, "" = of the folder), and the edges that hold now."""
        manifest = manifest or self._project.manifest(env)
        is_stored = self._project.draft is None and manifest is self._project.manifest()
        now = self._clock.now_ns()
        known = {asset.id: asset for asset in manifest.assets}
        for id_, doc, _ in self._state.read("assets"):
            if id_ not in known:
                asset = msgspec.json.decode(doc, type=Asset)
                if is_stored or asset.mode == "observed":
                    known[id_] = asset
        known = read_outside(manifest.assets) | known
        edges = [
            Edge(source=s, target=t, kind=k, valid_from=f, valid_to=u)
            for s, t, k, f, u in self._state.read("edges_at", (now, now))
        ]
        if not is_stored:  # what the store says was declared is that of another version
            before = declared_edges(self._project.recorded())
            edges = [
                edge
                for edge in edges
                if Edge(source=edge.source, target=edge.target, kind=edge.kind) not in before
            ]
            edges += in_order(declared_edges(manifest))
        return known, edges

    def select(
        self, texts: Sequence[str], env: str = "", manifest: Manifest | None = None
    ) -> tuple[str, ...]:
        """Return the ids of the assets that a person names, none for no text: see
        `project.selection`."""
        if not texts:
            return ()
        known, edges = self.graph(env, manifest)
        return selected(texts, known, edges, find=lambda word: self.find(word, env, manifest).id)


def _named(name: str, assets: Iterable[Asset]) -> list[Asset]:
    """Return the assets of an id or a name; the project itself for `project`, too."""
    listed = list(assets)
    return [a for a in listed if name in (a.id, a.name)] or [
        a for a in listed if name == a.kind == PROJECT
    ]


def read_outside(assets: Iterable[Asset]) -> dict[str, Asset]:
    """Return the tables and topics of others that assets declare to read, by id: nobody need have
    seen them. Each is of the team that reads it first."""
    out: dict[str, Asset] = {}
    for asset in assets:
        for id_ in asset.build.reads if asset.build else ():
            kind, _, name = id_.partition(":")
            out.setdefault(id_, Asset(kind=kind, name=name, mode="observed", owner=asset.owner))
    return out
