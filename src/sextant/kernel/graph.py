"""The typed graph of assets: what is upstream and downstream of an asset at a time. Pure functions
over edges.

An edge points the way that cause travels: `flights feeds features`, so what is *upstream* of an
asset can have caused what is seen there, and what is *downstream* is its blast radius.
"""

from collections.abc import Collection, Iterable

from sextant.kernel.nouns import Edge


def valid_at(edges: Iterable[Edge], at: int) -> list[Edge]:
    """Return the edges that hold at an instant (ns): from `valid_from`, until before `valid_to` (0
    = still)."""
    return [
        edge
        for edge in edges
        if edge.valid_from <= at and (edge.valid_to == 0 or at < edge.valid_to)
    ]


def upstream(
    edges: Iterable[Edge], *starts: str, kinds: Collection[str] = (), far: int | None = None
) -> set[str]:
    """Return `starts` and everything they stand on, by edges of these kinds (none named = all), at
    most `far` edges away (None = however far)."""
    arrows = ((edge.target, edge.source) for edge in edges if not kinds or edge.kind in kinds)
    return _reach(arrows, starts, far)


def downstream(
    edges: Iterable[Edge], *starts: str, kinds: Collection[str] = (), far: int | None = None
) -> set[str]:
    """Return `starts` and everything that stands on them, by edges of these kinds (none named =
    all), at most `far` edges away (None = however far)."""
    arrows = ((edge.source, edge.target) for edge in edges if not kinds or edge.kind in kinds)
    return _reach(arrows, starts, far)


def between(edges: Collection[Edge], starts: Collection[str], ends: Collection[str]) -> set[str]:
    """Return all that lies on a path from one of `starts` to one of `ends`, these included; where
    there is none, on a path the other way; empty where there is neither."""
    for one, other in ((starts, ends), (ends, starts)):
        found = downstream(edges, *one) & upstream(edges, *other)
        if found:
            return found
    return set()


def _reach(arrows: Iterable[tuple[str, str]], starts: Collection[str], far: int | None) -> set[str]:
    beside: dict[str, list[str]] = {}
    for here, there in arrows:
        beside.setdefault(here, []).append(there)
    found, reached = set(starts), list(starts)
    while reached and (far is None or far > 0):
        following = []
        for here in reached:
            for there in beside.get(here, ()):
                if there not in found:
                    found.add(there)
                    following.append(there)
        reached, far = following, None if far is None else far - 1
    return found
