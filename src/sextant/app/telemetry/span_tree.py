"""Arranges the spans of a trace as a tree, and chooses those of a huge one that are shown. Pure;
called by `traces.py`.

Senders make mistakes: parents that never arrive, spans that are their own ancestors. Every span has
a place all the same.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

ORPHAN = "its parent is not here"
CIRCLE = "its parents form a circle"


class Bone(NamedTuple):
    """What of a span gives it a place."""

    id: str
    parent: str
    start_ns: int
    duration_ns: int
    failed: bool


class Place(NamedTuple):
    """A span that is shown.

    depth    how many shown spans it stands under
    skipped  spans between it and the one above it that are not shown
    note     why it stands at the top, where it is no root
    """

    id: str
    depth: int
    skipped: int = 0
    note: str = ""


class SpanTree:
    """The spans of a trace, each under its parent, in the order of their start. A span whose parent
    is not there stands at the top; of a circle the earliest does."""

    def __init__(self, bones: Iterable[Bone]) -> None:
        self._bones = {one.id: one for one in sorted(bones, key=lambda b: (b.start_ns, b.id))}
        self._children: dict[str, list[str]] = {}
        self._notes: dict[str, str] = {}
        for one in self._bones.values():
            if one.parent in self._bones:
                self._children.setdefault(one.parent, []).append(one.id)
            else:
                self._notes[one.id] = ORPHAN if one.parent else ""
        reached = set(self.below(self._notes))
        for id_ in self._bones:
            if id_ not in reached:
                self._notes[id_] = CIRCLE
                reached.update(self.below([id_]))

    def __len__(self) -> int:
        return len(self._bones)

    def find(self, prefix: str) -> list[str]:
        """Return the spans whose id begins so."""
        return [id_ for id_ in self._bones if id_.startswith(prefix)]

    def below(self, heads: Iterable[str]) -> list[str]:
        """Return some spans and all that stand below them."""
        out: dict[str, None] = {}
        waiting = list(heads)
        while waiting:
            id_ = waiting.pop()
            if id_ not in out:
                out[id_] = None
                waiting += self._children.get(id_, ())
        return list(out)

    def failed(self, ids: Iterable[str]) -> int:
        """Return how many of some spans have an error."""
        return sum(self._bones[id_].failed for id_ in ids)

    def choose(self, limit: int, under: str = "") -> list[Place]:
        """Return the spans to show, at most `limit`, in the order of the tree: all, or the tops,
        the errors, then the slowest, with what stands above them.

        under  only this span and those below it
        """
        heads = [under] if under else [id_ for id_ in self._bones if id_ in self._notes]
        scope = self.below(heads)
        chosen = set(scope) if len(scope) <= limit else self._worth_most(scope, heads, limit)
        return self._places(heads, chosen)

    def _worth_most(self, scope: Sequence[str], heads: Sequence[str], limit: int) -> set[str]:
        chosen: set[str] = set()
        top, inside = set(heads), set(scope)
        failed = [one for one in self._bones.values() if one.failed and one.id in inside]
        slowest = sorted(scope, key=lambda id_: -self._bones[id_].duration_ns)
        # many tops must not leave room for nothing else
        for id_ in (*heads[: max(1, limit // 4)], *(one.id for one in failed), *slowest):
            if len(chosen) >= limit:
                break
            path = [] if id_ in chosen else [id_]
            while path and path[-1] not in top:
                above = self._bones[path[-1]].parent
                if above in chosen or above in path:
                    break
                path.append(above)
            # a chain that is too long is shown by its end
            chosen.update(path if len(chosen) + len(path) <= limit else path[:1])
        return chosen

    def _places(self, heads: Sequence[str], chosen: set[str]) -> list[Place]:
        out: list[Place] = []
        seen: set[str] = set()
        waiting = [(id_, 0, 0) for id_ in reversed(heads)]
        while waiting:
            id_, depth, skipped = waiting.pop()
            if id_ in seen:
                continue
            seen.add(id_)
            if id_ in chosen:
                out.append(Place(id_, depth, skipped, self._notes.get(id_, "")))
            below = (depth + 1, 0) if id_ in chosen else (depth, skipped + 1)
            waiting += [(child, *below) for child in reversed(self._children.get(id_, ()))]
        return out
