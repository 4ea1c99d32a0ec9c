"""What releases have written of some assets between two moments: each partition as a slot with its
first content and what later changes put there.

A partition that code makes from inputs has as its content the code (what it is made of follows);
what comes from outside has the rows themselves. What an asset had only after the first moment, a
new day, has its first content from the beginning: that more time has passed is no change.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from sextant.core import Core
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import DERIVED_MOVES_MAX
from sextant.kernel.nouns import Asset, Part, Release
from sextant.ledger.log import entries
from sextant.ledger.versions import changed
from sextant.release.records import releases_of

What = Literal["rows", "code", "definition", "version", "undo"]
Slot = tuple[str, str]  # asset, partition


class Held(NamedTuple):
    """Rows that a version holds."""

    version: str
    part: Part


class Made(NamedTuple):
    """What code makes, by its digest, from what is read."""

    code: str


Content = Held | Made | None  # None: there is no such partition


def code_of(content: Content) -> str:
    """Return the digest of the code that made a content; "" where there is none."""
    return content.part.code if isinstance(content, Held) else content.code if content else ""


class Written(msgspec.Struct):
    """The contents of one partition: the first, and (change, content) in the order of time."""

    base: Content
    writes: list[tuple[int, Content]] = []

    def at(self, case: int) -> Content:
        """Return the content in a case: the last that one of its changes wrote."""
        for change, content in reversed(self.writes):
            if case >> change & 1:
                return content
        return self.base

    def contents(self) -> list[Content]:
        return [self.base, *(content for _, content in self.writes)]

    def codes(self) -> set[str]:
        """Return the digests of all code that made it."""
        return {code_of(content) for content in self.contents()} - {""}

    @property
    def mask(self) -> int:
        """The changes that wrote it."""
        mask = 0
        for change, _ in self.writes:
            mask |= 1 << change
        return mask


class Happened(msgspec.Struct, kw_only=True):
    """A change: other rows of a source, other code, another definition, another version by hand,
    an undo.

    release     the first one that brought it
    at          when that became live, ns since 1970
    version     of the asset that it brought
    code        the digests of the code before and after; "" for other changes
    partitions  how many were written
    """

    what: What
    asset: str
    release: Release
    at: int
    version: str
    code: tuple[str, str] = ("", "")
    partitions: int = 0


class Move(NamedTuple):
    """A pointer that moved: when, by which release, from and to which version."""

    seq: int
    at: int
    release: str
    source: str
    target: str


class Past:
    """What became of assets in an environment since a moment, read asset by asset.

    changes  all that were found, in the order of reading; slots name them by their place
    slots    (asset, partition) -> its contents
    """

    def __init__(self, core: Core, env: str, since: int, until: int) -> None:
        """since, until  positions in the ledger (`Envelope.seq`), the second included"""
        self._core, self._since, self._until = core, since, until
        self.changes: list[Happened] = []
        self.slots: dict[Slot, Written] = {}
        self.first: dict[str, str] = {}  # asset -> its version at the beginning, and at the end
        self.last: dict[str, str] = {}
        self.versions: dict[str, list[str]] = {}  # asset -> all that were live meanwhile
        self._releases: dict[str, Release] = {}
        self._by_release: dict[tuple[str, str], int] = {}  # undos, and versions moved by hand
        parents = {name: parent for name, parent, *_ in core.state.read("envs")}
        self._chain: list[str] = []  # the environment, and those that it falls through to
        while env and env not in self._chain:
            self._chain.append(env)
            env = parents.get(env, "")
        self._pointers = {
            (name, asset): version for name, asset, version in core.state.read("pointers_all")
        }

    def _own_moves(self, env: str, asset: str) -> list[Move]:
        """Return the moves of one environment's own pointer after the first moment, also those
        after the last."""
        about = (env, asset, self._since, DERIVED_MOVES_MAX + 1)
        found = self._core.state.read("moves_live_since", about)
        if len(found) > DERIVED_MOVES_MAX:
            raise UsageError(
                "SX-DERIVE-001",
                f"more than {DERIVED_MOVES_MAX:,} releases of `{asset}` lie between",
                hint="choose moments that are closer together",
            )
        return [Move(*row) for row in found]

    def moves(self, asset: str) -> tuple[str, list[Move]]:
        """Return the version of an asset at the beginning, "" = none, and its moves until the end,
        as the environment saw them. UsageError for too many."""
        state: dict[str, str] = {}
        every: list[tuple[Move, str]] = []
        for env in self._chain:
            mine = self._own_moves(env, asset)
            every += [(move, env) for move in mine]
            if not mine:
                state[env] = self._pointers.get((env, asset), "")
            elif len(self._chain) == 1 or self._had(env, asset, mine[0]):
                state[env] = mine[0].source
            else:
                state[env] = ""

        def seen() -> str:
            return next((state[env] for env in self._chain if state[env]), "")

        first = before = seen()
        out: list[Move] = []
        for move, env in sorted(every):
            if move.seq > self._until:
                break
            state[env] = move.target
            now = seen()
            if now != before:
                out.append(move._replace(source=before, target=now))
                before = now
        return first, out

    def _had(self, env: str, asset: str, first: Move) -> bool:
        """Say whether an environment had a pointer of its own before its first move here."""
        read = self._core.state.read
        for release in releases_of(self._core.state, asset):
            if any(move.env == env and move.asset == asset for move in release.moves):
                live = entries(read, "events_of_both", (release.id, "release.live", 1))
                if live and live[0].envelope.seq < first.seq:
                    return True
        return False

    def release(self, id_: str) -> Release:
        if id_ not in self._releases:
            doc = self._core.state.read("release_get", (id_,))[0][0]
            self._releases[id_] = msgspec.json.decode(doc, type=Release)
        return self._releases[id_]

    def read(self, asset: Asset, inputs: Callable[[str], set[str]], *, given: bool) -> set[str]:
        """Read what became of an asset, and return the digests of the code that made it.

        inputs  the assets that code reads, by its digest
        given   its rows are taken as they are: it comes from outside, or is never made again
        """
        core, id_ = self._core, asset.id
        version, moves = self.moves(id_)
        made = {(row[0], row[1], row[2]): row[3] for row in core.state.read("made_of", (id_,))}
        self.first[id_] = version
        self.versions[id_] = [version] if version else []
        now: dict[str, Part] = dict(self._parts(asset, version))
        start = self._in_force(id_, version, now)
        for key, part in now.items():
            # what the code in force made, and came out as it was, is still called by older code
            code = start if (key, start, part.inputs) in made else part.code
            self.slots[id_, key] = Written(base=Held(version, part) if given else Made(code))
        forces: list[tuple[int, Content]] = []  # what has come into force, for partitions to come
        rest: dict[tuple[str, str], int] = {}  # what a release did -> its change
        for move in moves:
            self.versions[id_].append(move.target)
            after = self._parts(asset, move.target)
            differs, gone = changed(now, after)
            confirmed: list[tuple[int, str, str]] = []
            undone: dict[Content, int] = {}  # what an undo took back -> its change
            undo = self.release(move.release).intent == "undo"
            for key in sorted(differs):
                part, before = differs[key], now.get(key)
                slot = self.slots.get((id_, key))
                if given:
                    if slot is None:
                        self.slots[id_, key] = Written(base=Held(move.target, part))
                    elif before is None or before.digest != part.digest:
                        n = self._change(rest, "undo" if undo else "rows", asset, move)
                        self._write(slot, n, Held(move.target, part))
                    continue
                start = start or part.code
                follows = self._follows(move, part, before, inputs(part.code), undo=undo) or (
                    # it came out the same from what is live now
                    before is not None and made.get((key, part.code, before.inputs)) == part.digest
                )
                if slot is None:
                    slot = self.slots[id_, key] = Written(base=Made(start), writes=list(forces))
                    for n, _ in forces:
                        self.changes[n].partitions += 1
                content: Content = Made(part.code) if follows else Held(move.target, part)
                if slot.at(-1) == content:
                    continue
                if undo:
                    n = self._change(rest, "undo", asset, move)
                elif not follows:
                    n = self._change(rest, "version", asset, move)
                else:
                    # the code that is in force; one that comes back after another is a new change
                    n = forces[-1][0] if forces and forces[-1][1] == content else -1
                    if n < 0:
                        n = len(self.changes)
                        self.changes.append(
                            Happened(
                                what="definition" if asset.defined_by else "code",
                                asset=id_,
                                release=self.release(move.release),
                                at=move.at,
                                version=move.target,
                                code=(code_of(slot.at(-1)), part.code),
                            )
                        )
                        forces.append((n, content))
                        # others that came out as they were
                        confirmed += [(n, part.code, key) for key in now.keys() - differs.keys()]
                if undo and follows and (n, content) not in forces:
                    forces.append((n, content))
                if undo and follows:
                    undone[slot.at(-1)] = n
                self._write(slot, n, content)
            for key in gone:
                confirmed = [one for one in confirmed if one[2] != key]
                slot = self.slots[id_, key]
                if given or undo:
                    n = self._change(rest, "undo" if undo else "rows", asset, move)
                    self._write(slot, n, None)
            for key in now.keys() - differs.keys() - set(gone) if undone else ():
                # what came out as it was would be taken back too, had it come out otherwise
                slot = self.slots[id_, key]
                taken = slot.at(-1)
                if taken in undone and code_of(taken) != now[key].code:
                    others = [one for _, one in slot.writes if one != taken]
                    self._write(slot, undone[taken], others[-1] if others else slot.base)
            for n, made_by, key in confirmed:
                if (key, made_by, now[key].inputs) in made:
                    self._write(self.slots[id_, key], n, Made(made_by))
            now = dict(after)
        self.last[id_] = self.versions[id_][-1] if self.versions[id_] else ""
        mine = (slot for (name, _), slot in self.slots.items() if name == id_)
        return {code for slot in mine for code in slot.codes()}

    def _in_force(self, asset: str, version: str, parts: Mapping[str, Part]) -> str:
        """Return the code by which the newest partitions of a version were made; "" for none."""
        rows = self._core.state.read("parts_of", (asset, version)) if version else []
        newest = [code for _, _, count, code, _ in rows if count >= 0]
        return newest[-1] if newest else parts[max(parts)].code if parts else ""

    def _parts(self, asset: Asset, version: str) -> Mapping[str, Part]:
        """Return the partitions of a version. Values are all of one definition: a partition without
        rows may still be called by an older one, for it came out the same."""
        parts = self._core.versions.parts(asset.id, version)
        code = next((part.code for part in parts.values() if part.rows), "")
        if not asset.defined_by or not code:
            return parts
        return {
            key: part if part.rows else msgspec.structs.replace(part, code=code)
            for key, part in parts.items()
        }

    def _follows(
        self, move: Move, part: Part, before: Part | None, inputs: set[str], *, undo: bool
    ) -> bool:
        """Say whether a partition is what its code makes of what was live: not an older version
        that was brought back by hand."""
        if before is None or before.inputs == part.inputs:
            return True
        release = self.release(move.release)
        if release.run and not undo:
            return True
        return any(one.asset in inputs for one in release.moves)

    def _change(
        self, known: dict[tuple[str, str], int], what: What, asset: Asset, move: Move
    ) -> int:
        key = (what, move.release)
        known = known if what == "rows" else self._by_release
        if key not in known:
            known[key] = len(self.changes)
            release = self.release(move.release)
            self.changes.append(
                Happened(
                    what=what, asset=asset.id, release=release, at=move.at, version=move.target
                )
            )
        return known[key]

    def _write(self, slot: Written, change: int, content: Content) -> None:
        slot.writes.append((change, content))
        self.changes[change].partitions += 1

    def befores(self, used: Mapping[int, int], count: int) -> list[int]:
        """Return for each of some changes the set of those that must have come before it: what
        wrote the same partition earlier.

        used   change -> its bit
        count  of bits
        """
        out = [0] * count
        for slot in self.slots.values():
            before = 0
            for change, _ in slot.writes:
                if change in used:
                    out[used[change]] |= before & ~(1 << used[change])
                    before |= 1 << used[change]
        return out
