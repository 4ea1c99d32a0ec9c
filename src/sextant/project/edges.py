"""The edges that a manifest implies."""

from collections.abc import Iterable

from sextant.kernel.kinds import authored
from sextant.kernel.nouns import Edge, Manifest


def declared_edges(manifest: Manifest | None) -> set[Edge]:
    """Return the edges that a manifest implies: what feeds what, and what measures what."""
    out: set[Edge] = set()
    for asset in manifest.assets if manifest else ():
        if asset.build:
            sources = {*(i.asset for i in asset.build.inputs), *asset.build.reads}
            out |= {Edge(source=source, target=asset.id, kind="feeds") for source in sources}
        out |= set(authored(asset.kind).edges(asset))
        if asset.defined_by:
            out.add(Edge(source=asset.defined_by, target=asset.id, kind="contains"))
    return out


def in_order(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda e: (e.source, e.target, e.kind)))


def by_target(edges: Iterable[Edge]) -> dict[str, list[Edge]]:
    """Return asset -> the edges that lead to it."""
    out: dict[str, list[Edge]] = {}
    for edge in edges:
        out.setdefault(edge.target, []).append(edge)
    return out


def by_end(edges: Iterable[Edge]) -> dict[str, list[Edge]]:
    """Return asset -> the edges that lead to it or from it."""
    out: dict[str, list[Edge]] = {}
    for edge in edges:
        for end in {edge.source, edge.target}:
            out.setdefault(end, []).append(edge)
    return out
