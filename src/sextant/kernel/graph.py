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


def upstream(edges: Iterable[Edge], *starts: str, kinds: Collection[str] = ()) -> set[str]:
    """Return `starts` and everything they stand on, by edges of these kinds (none named = all)."""
    return _reach(
        ((edge.target, edge.source) for edge in edges if not kinds or edge.kind in kinds), starts
    )


def downstream(edges: Iterable[Edge], *starts: str, kinds: Collection[str] = ()) -> set[str]:
    """Return `starts` and everything that stands on them, by edges of these kinds (none named =
    all)."""
    return _reach(
        ((edge.source, edge.target) for edge in edges if not kinds or edge.kind in kinds), starts
    )


def _reach(arrows: Iterable[tuple[str, str]], starts: Collection[str]) -> set[str]:
    beside: dict[str, list[str]] = {}
    for here, there in arrows:
        beside.setdefault(here, []).append(there)
    found, stack = set(starts), list(starts)
    while stack:
        for there in beside.get(stack.pop(), ()):
            if there not in found:
                found.add(there)
                stack.append(there)
    return found
