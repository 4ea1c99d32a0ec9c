"""Reads versions and pointers: which version is live where, and what a version consists of.

A version stores only the partitions that differ from its parent; the whole map is assembled along
the chain of parents and cached by digest (a version never changes).
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from sextant.kernel.errors import NotFound, UserError
from sextant.kernel.nouns import Move, Part, Version
from sextant.kernel.ports import State

_MAPS_CACHED = 512


class Pointer(msgspec.Struct, frozen=True):
    """What is live: `env` is where the pointer was found (an environment falls through to its
    parent)."""

    asset: str
    version: str
    release: str
    moved_at: int
    env: str


class _Announced(threading.local):
    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], Version] = {}


class Versions:
    """The reading side of the catalogue."""

    def __init__(self, state: State) -> None:
        self._state = state
        # by the thread that publishes: others publish something else
        self._announced = _Announced()
        self._lock = threading.Lock()  # of the maps
        self._maps: OrderedDict[tuple[str, str], Mapping[str, Part]] = OrderedDict()

    def live(self, env: str) -> dict[str, Pointer]:
        """Return every pointer that `env` sees, its own before its parents'."""
        return {row[0]: Pointer(*row) for row in self._state.read("pointers", (env,))}

    def live_version(self, env: str, asset: str) -> str:
        """Return the digest that is live, "" if none."""
        rows = self._state.read("pointer_get", (env, asset))
        return str(rows[0][0]) if rows else ""

    def get(self, asset: str, digest: str) -> Version:
        """Return the record of a version, without its partitions. NotFound."""
        if (asset, digest) in self._announced.versions:
            return self._announced.versions[(asset, digest)]
        rows = self._state.read("version_get", (asset, digest))
        if not rows:
            raise NotFound(
                "SX-VERSION-001",
                f"`{asset}` has no version `{digest[:12]}`",
                hint=f"`sextant versions {asset}` lists them",
            )
        version = msgspec.json.decode(rows[0][0], type=Version)
        _, locator, _, parent, created_at, refused = rows[0]
        # Made again in another way, it keeps its first parent: that is what its partitions are
        # stored against.
        return msgspec.structs.replace(
            version,
            locator=locator,
            parent=parent,
            created_at=created_at,
            meta={**version.meta, "refused": msgspec.json.decode(refused)}
            if refused
            else version.meta,
        )

    def announce(self, versions: Iterable[Version]) -> None:
        """Make versions known to this thread that are about to be written in the same transaction
        as their release; () afterwards."""
        self._announced.versions = {
            (version.asset, version.digest): msgspec.structs.replace(version, parts=())
            for version in versions
        }

    def is_announced(self, asset: str, digest: str) -> bool:
        """Say whether this thread is about to write a version, with its release."""
        return (asset, digest) in self._announced.versions

    def find(self, asset: str, prefix: str) -> str:
        """Return the one digest that begins with `prefix` (at least 4 characters). NotFound, or
        UserError if several do."""
        if len(prefix) < 4 or not all(c in "0123456789abcdef" for c in prefix):
            raise UserError(
                "SX-VERSION-002",
                f"`{prefix}` is not a version",
                hint=f"give 4 or more hex digits; `sextant versions {asset}` lists them",
            )
        rows = self._state.read("version_like", (asset, prefix + "%"))
        if not rows:
            raise NotFound(
                "SX-VERSION-001",
                f"`{asset}` has no version `{prefix}`",
                hint=f"`sextant versions {asset}` lists them",
            )
        if len(rows) > 1:
            raise UserError(
                "SX-VERSION-003",
                f"several versions of `{asset}` begin with `{prefix}`",
                hint="give more digits",
            )
        return str(rows[0][0])

    def parts(self, asset: str, digest: str) -> Mapping[str, Part]:
        """Return partition -> Part of a version; empty for "" ."""
        if not digest:
            return {}
        chain: list[tuple[str, list[Part], list[str]]] = []
        at = digest
        known: Mapping[str, Part] = {}
        while at:
            with self._lock:
                cached = self._maps.get((asset, at))
                if cached is not None:
                    self._maps.move_to_end((asset, at))
            if cached is not None:
                known = cached
                break
            rows = self._state.read("parts_of", (asset, at))
            present = [
                Part(partition=p, digest=d, rows=r, code=c, inputs=i)
                for p, d, r, c, i in rows
                if r >= 0
            ]
            chain.append((at, present, [p for p, _, r, _, _ in rows if r < 0]))
            at = self.get(asset, at).parent
        if not chain:
            return known
        whole = dict(known)
        for _, present, removed in reversed(chain):
            for name in removed:
                whole.pop(name, None)
            whole.update((part.partition, part) for part in present)
        self.remember(asset, digest, whole)
        return whole

    def remember(self, asset: str, digest: str, parts: Mapping[str, Part]) -> None:
        """Cache a map that the caller has just built."""
        with self._lock:
            self._maps[(asset, digest)] = parts
            while len(self._maps) > _MAPS_CACHED:
                self._maps.popitem(last=False)

    def ancestors(self, asset: str, digest: str) -> list[str]:
        """Return the chain of parents, the version itself first."""
        out: list[str] = []
        seen: set[str] = set()
        while digest and digest not in seen:
            seen.add(digest)
            out.append(digest)
            digest = self.get(asset, digest).parent
        return out

    def base_of(self, asset: str, one: str, other: str) -> str:
        """Return the newest common ancestor of two versions, "" if they share none."""
        mine = set(self.ancestors(asset, one))
        return next((digest for digest in self.ancestors(asset, other) if digest in mine), "")

    def source_of(self, env: str, asset: str) -> Move | None:
        """Return the move that brought the live version into `env`."""
        from sextant.kernel.nouns import Release

        rows = self._state.read("pointer_get", (env, asset))
        docs = self._state.read("release_get", (rows[0][1],)) if rows else []
        release = msgspec.json.decode(docs[0][0], type=Release) if docs else None
        return next((m for m in release.moves if m.asset == asset), None) if release else None


def changed(
    before: Mapping[str, Part], after: Mapping[str, Part]
) -> tuple[dict[str, Part], list[str]]:
    """Return (partitions of `after` whose content or making differs, partitions that are gone)."""
    differs = {
        name: part for name, part in after.items() if name not in before or before[name] != part
    }
    return differs, sorted(name for name in before if name not in after)
