"""The picture of the graph: assets, or clusters of them where there are many, with what they stand
on, how they stand, and where they are drawn. Called by `Operations.graph_picture`.

A cluster is named by how it was made, `owner:data/kind:dataset`, and shows how many assets stand
inside, in which states, and the worst. One that is opened shows what is inside, clusters again
where that is much.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from sextant.app.graph_layout import Places, layout
from sextant.app.memory import Memory
from sextant.app.status import STATES
from sextant.core import Core
from sextant.kernel.answers import Picture, PictureNode
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PICTURE_NODES_MAX, PICTURE_OPENED_MAX
from sextant.kernel.nouns import Asset

GROUPS = ("owner", "kind", "prefix")
_Key = tuple[str, Callable[[Asset], str]]


class _Group(NamedTuple):
    """What one node of the picture stands for: an asset (`path` is "") or a cluster."""

    path: str
    assets: tuple[Asset, ...]

    @property
    def id(self) -> str:
        return self.path or self.assets[0].id


def picture(
    core: Core,
    memory: Memory,
    chosen: Collection[str],
    states: Mapping[str, str],
    *,
    state: Collection[str],
    group: str,
    opened: Collection[str],
) -> Picture:
    """Return the picture of some assets (none = of all).

    states  asset -> how it stands
    state   only assets that stand so
    group   what clusters are made by first: owner, kind or prefix (the first word of the name)
    opened  the clusters whose inside is shown
    Raises  UsageError for what is no state, no such group, and for too many opened clusters
    """
    _check(state, group, opened)
    known, edges = core.assets.graph()
    assets = [
        asset
        for id_, asset in known.items()
        if (not chosen or id_ in chosen) and (not state or states.get(id_) in state)
    ]
    keys = _keys(group)
    groups = list(_groups(sorted(assets, key=lambda a: a.id), keys, frozenset(opened), ""))
    of = {asset.id: one.id for one in groups for asset in one.assets}
    counted: Counter[tuple[str, str]] = Counter()
    for edge in edges:
        source, target = of.get(edge.source), of.get(edge.target)
        if source and target and source != target:
            counted[source, target] += 1
    places = _places(memory, sorted(one.id for one in groups), sorted(counted))
    return {
        "nodes": [_node(one, states, places[one.id]) for one in groups],
        "edges": [
            {"source": source, "target": target, "count": count}
            for (source, target), count in sorted(counted.items())
        ],
        "assets": len(assets),
        "columns": max((x for x, _ in places.values()), default=-1) + 1,
        "rows": max((y for _, y in places.values()), default=-1.0) + 1,
    }


def _check(state: Collection[str], group: str, opened: Collection[str]) -> None:
    for one in state:
        if one not in STATES:
            raise UsageError(
                "SX-GRAPH-001", f"`{one}` is not a state", hint=f"one of {', '.join(STATES)}"
            )
    if group not in GROUPS:
        raise UsageError(
            "SX-GRAPH-002",
            f"clusters are not made by `{group}`",
            hint=f"by {', '.join(GROUPS)}",
        )
    if len(opened) > PICTURE_OPENED_MAX:
        raise UsageError(
            "SX-GRAPH-003",
            f"{len(opened)} clusters are opened",
            hint=f"at most {PICTURE_OPENED_MAX}: close some, or select fewer assets",
        )


def _keys(group: str) -> list[_Key]:
    """Return what clusters are made by, one inside the other."""
    made: dict[str, list[_Key]] = {
        "owner": [("owner", lambda asset: asset.owner)],
        "kind": [("kind", lambda asset: asset.kind)],
        "prefix": [
            ("prefix", lambda asset: asset.name.split("_")[0]),
            ("prefix", lambda asset: "_".join(asset.name.split("_")[:2])),
        ],
    }
    return [key for name in (group, *(one for one in GROUPS if one != group)) for key in made[name]]


def _groups(
    assets: Sequence[Asset], keys: Sequence[_Key], opened: Collection[str], path: str
) -> Iterator[_Group]:
    """Yield the nodes that some assets, sorted by id, are shown as: at most PICTURE_NODES_MAX, and
    as many for each opened cluster."""
    if len(assets) <= PICTURE_NODES_MAX:
        yield from (_Group("", (asset,)) for asset in assets)
        return
    for n, (name, key) in enumerate(keys):
        by: dict[str, list[Asset]] = {}
        for asset in assets:
            by.setdefault(key(asset), []).append(asset)
        if 1 < len(by) <= PICTURE_NODES_MAX:
            inside = keys[n + 1 :]
            named = {f"{name}:{value}": by[value] for value in sorted(by)}
            break
    else:  # nothing tells them apart well: by their ids, as the pages of a list
        inside = ()
        size = max(PICTURE_NODES_MAX, -(-len(assets) // PICTURE_NODES_MAX))
        pages = [assets[at : at + size] for at in range(0, len(assets), size)]
        named = {f"from:{page[0].id}": list(page) for page in pages}
    for name, members in named.items():
        within = f"{path}/{name}" if path else name
        if len(members) == 1:
            yield _Group("", (members[0],))
        elif within in opened:
            yield from _groups(members, inside, opened, within)
        else:
            yield _Group(within, tuple(members))


def _node(group: _Group, states: Mapping[str, str], place: tuple[int, float]) -> PictureNode:
    first = group.assets[0]
    counts = Counter(states.get(asset.id, "") for asset in group.assets)
    worst = next((state for state in STATES if counts[state]), "")
    inside = bool(group.path)
    return {
        "id": group.id,
        "name": group.path.rpartition("/")[2] if inside else first.name,
        "kind": "" if inside else first.kind,
        "owner": "" if inside else first.owner,
        "tier": min(asset.tier for asset in group.assets),
        "state": worst,
        "count": len(group.assets),
        "states": {state: counts[state] for state in STATES if counts[state]} if inside else {},
        "column": place[0],
        "row": place[1],
    }


def _places(memory: Memory, nodes: list[str], edges: list[tuple[str, str]]) -> Places:
    """Return where nodes stand: laid out once for each graph."""
    digest = hashlib.sha256(msgspec.json.encode([nodes, edges])).digest()
    return memory.kept.get(("layout", digest), lambda: layout(nodes, edges))
