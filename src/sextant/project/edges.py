"""The edges that a manifest implies."""

from collections.abc import Iterable

from sextant.kernel.kinds import authored
from sextant.kernel.nouns import Edge, Manifest


def declared_edges(manifest: Manifest | None) -> set[Edge]:
    """Return the edges that a manifest implies: what feeds what, and what measures what."""
    out: set[Edge] = set()
    for asset in manifest.assets if manifest else ():
        if asset.build:
            out |= {Edge(source=i.asset, target=asset.id, kind="feeds") for i in asset.build.inputs}
        out |= set(authored(asset.kind).edges(asset))
        if asset.defined_by:
            out.add(Edge(source=asset.defined_by, target=asset.id, kind="contains"))
    return out


def in_order(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda e: (e.source, e.target, e.kind)))
