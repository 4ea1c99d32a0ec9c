"""The graph of assets as people and clients see it."""

from collections import Counter
from collections.abc import Collection

from sextant.core import Core
from sextant.engine.plan import order
from sextant.kernel.answers import GraphSeen


def graph(core: Core, chosen: Collection[str] = ()) -> GraphSeen:
    """Return assets and the edges between them: of those `chosen` (none = of all)."""
    manifest = core.project.manifest()
    known, edges = core.assets.graph()
    chosen = set(chosen or known)
    live_in: dict[str, list[str]] = {}
    for env, id_, _ in core.state.read("pointers_all"):
        live_in.setdefault(id_, []).append(env)
    ordered = [asset.id for asset in order(manifest)]
    place = {id_: n for n, id_ in enumerate(ordered)}
    nodes = sorted(
        (known[id_] for id_ in chosen if id_ in known),
        key=lambda a: (place.get(a.id, len(place)), a.id),
    )
    return {
        "assets": [
            {
                "id": a.id,
                "kind": a.kind,
                "owner": a.owner,
                "tier": a.tier,
                "mode": a.mode,
                "description": a.description,
                "tags": list(a.tags),
                "live_in": live_in.get(a.id, []),
            }
            for a in nodes
        ],
        "edges": [
            {"source": e.source, "target": e.target, "kind": e.kind}
            for e in edges
            if e.source in chosen and e.target in chosen
        ],
        "kinds": dict(sorted(Counter(a.kind for a in nodes).items())),
    }
