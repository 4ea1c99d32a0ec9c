"""What a collector holds, checked as a whole and turned into the kernel's Manifest.

Called by the loader (with fingerprints) and by workers (without: they only need functions and
queries). The kind of each declaration reads it, first by itself, then among the others. Raises one
ProjectError that lists every mistake of the project.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from sextant.kernel.kinds import authored, kinds
from sextant.kernel.limits import ASSETS_MAX
from sextant.kernel.nouns import Asset, CheckSpec, Code, ColumnRead, Edge, Input, Manifest, Strategy
from sextant.project import weakening
from sextant.project.collect import Collector, Place, near
from sextant.project.fingerprint import Fingerprint
from sextant.project.manifests import MANIFEST_VERSION

_KEEP = "30d"  # undo window where a project says none
Fingerprinter = Callable[[Callable[..., Any]], Fingerprint]


class Draft(NamedTuple):
    """A declaration that was read by itself.

    kind    of the declaration
    id      of what others read
    name    in messages
    owner   the team that it names; "" = the project's
    place   where it stands
    body    what its kind goes on with
    inputs  what it reads
    lines   id of an input -> the line that names it, where that is not the place's
    also    further ids that it takes
    """

    kind: str
    id: str
    name: str
    owner: str
    place: Place
    body: Any = None
    inputs: tuple[Input, ...] = ()
    lines: Mapping[str, int] = {}
    also: tuple[str, ...] = ()

    def place_of(self, upstream: str) -> Place:
        """Return where an input is named."""
        return Place(self.place.file, self.lines.get(upstream, self.place.line))


class Authored(ABC):
    """How a kind reads declarations. What is wrong with one is noted in the project's collector.
    Every kind has its own `draft` and `assets`."""

    @abstractmethod
    def draft(self, declared: Any, project: "Assembly") -> Draft:
        """Read a declaration by itself."""

    @abstractmethod
    def assets(self, draft: Draft, project: "Assembly") -> Iterable[Asset]:
        """Return what a declaration becomes; `project.made` has what it reads. Nothing for one
        that cannot be used."""

    def unknown(self, draft: Draft, upstream: str, project: "Assembly") -> tuple[str, str]:
        """Return a message and a hint for an input that does not exist."""
        return (
            f"`{draft.name}` reads `{upstream}`, which does not exist",
            near(upstream, project.drafts),
        )

    def finish(self, project: "Assembly") -> None:  # noqa: B027 - many kinds have nothing to add
        """Check the kind's assets in `project.made` against all others; fill in what follows from
        them."""

    def column_reads(self, assets: Sequence[Asset], project: "Assembly") -> Iterable[ColumnRead]:  # noqa: ARG002
        """Return the columns that the declarations of these assets name."""
        return ()

    def edges(self, asset: Asset) -> Iterable[Edge]:  # noqa: ARG002
        """Return the edges that an asset draws, beside those from its inputs."""
        return ()

    def weaker(self, before: Asset, after: Asset) -> Iterable[tuple[str, str]]:  # noqa: ARG002
        """Return what only this kind knows that is weaker than before - watches less, or lets more
        happen: the author's word, and what it was and is. See `project.weakening`."""
        return ()

    def asks_as_much(self, before: CheckSpec, after: CheckSpec) -> bool:
        """Say whether a check asks for at least what one of the same name in the registry asked
        for: severity, scope and what it tolerates aside. Where it cannot be told: no."""
        return weakening.is_same(before, after)

    def apart(self, check: CheckSpec) -> Iterable[CheckSpec]:  # noqa: ARG002
        """Return checks that together ask for no less than one that tolerates nothing, where an
        author could write it as several. None: it is one."""
        return ()

    def sees_as_much(self, before: CheckSpec, after: CheckSpec) -> bool:
        """Say whether a check of another scope, which asks for at least as much, still finds all
        that the other one found. Where it cannot be told: no."""
        return before.scope == after.scope

    def said_by(self, asset: Asset, check: CheckSpec) -> str:  # noqa: ARG002
        """Return the author's word that brings a check of an asset; "" for one that follows from
        something else that he says."""
        return "check"

    def content(self, asset: Asset) -> Raw:
        """Return what of its spec decides what an asset holds, or means."""
        return asset.spec

    def names(self, asset: Asset) -> Iterable[str]:  # noqa: ARG002
        """Return ids, or names, of assets that a definition names where no edge says so, as in the
        text of a query."""
        return ()

    def definition(self, asset: Asset) -> str:
        """Return the version of an asset that nothing makes: a digest of what it declares."""
        return hashlib.sha256(asset.spec).hexdigest()


def assemble(
    collector: Collector,
    *,
    fingerprint: Fingerprinter | None = None,
    bundle: str = "",
    files: dict[str, str] | None = None,
    lock: str = "",
    root: str = "",
) -> Manifest:
    """Return the manifest of what was declared, and fill the collector's functions, queries and
    checks.

    fingerprint  function -> what it reaches; None leaves that empty
    """
    return Assembly(collector, fingerprint).manifest(bundle, files or {}, lock, root)


class Assembly:
    """One project while it is assembled.

    drafts  what was declared, by the id that others read
    made    the assets, by id: what an asset reads stands before it
    """

    def __init__(self, collector: Collector, fingerprint: Fingerprinter | None) -> None:
        self.collector = collector
        self.fingerprint = fingerprint
        self.drafts: dict[str, Draft] = {}
        self.made: dict[str, Asset] = {}
        self._taken: dict[str, Place] = {}
        self.tz = collector.project.tz if collector.project else "UTC"
        self.year_starts = collector.project.year_starts if collector.project else 1

    def note(self, code: str, message: str, *, place: Place, hint: str = "") -> None:
        self.collector.note(code, message, place=place, hint=hint)

    def owner(self, draft: Draft) -> str:
        """Return the team that owns what a declaration becomes."""
        info = self.collector.project
        return draft.owner or (info.owner if info else "")

    def code(self, function: Callable[..., Any], place: Place) -> Code:
        """Return a function as code: where it stands, and what it reaches."""
        found = self.fingerprint(function) if self.fingerprint else Fingerprint("", (), (), {})
        return Code(
            language="python",
            entry=f"{function.__module__}:{function.__qualname__}",
            file=self.collector.relative(place.file),
            line=place.line,
            fingerprint=found.digest,
            modules=found.modules,
            warnings=found.warnings,
            files=found.files,
        )

    def manifest(self, bundle: str, files: dict[str, str], lock: str, root: str) -> Manifest:
        collector = self.collector
        if collector.project is None:
            collector.note(
                "SX-PROJ-006",
                "the project has no name",
                place=Place("sextant.toml", 1),
                hint='call `sx.project("name", tz="Europe/Berlin")` once',
            )
        for declared in collector.declared:
            self._add(authored(declared.of_kind).draft(declared, self))
        self._unknown_upstreams()
        if not self._cycle():
            self._make()
        collector.raise_problems()
        assert collector.project is not None
        info = collector.project
        assets = list(self.made.values())
        return Manifest(
            project=info.name,
            tz=info.tz,
            owner=info.owner,
            environments=info.environments,
            follows=info.follows,
            teams=tuple(t for t, _ in collector.teams),
            assets=tuple(sorted(assets, key=lambda a: a.id)),
            column_reads=self._column_reads(assets),
            # workers have them already, with the code
            queries=dict(sorted(collector.queries.items())) if self.fingerprint else {},
            policies=tuple(
                msgspec.structs.replace(rule, file=collector.relative(rule.file))
                for rule, _ in collector.rules
            ),
            secrets=tuple(sorted(collector.secrets)),
            bundle=bundle,
            files=files,
            lock=lock,
            root=root,
            v=MANIFEST_VERSION,
        )

    def _add(self, draft: Draft) -> None:
        ids = (*draft.also, draft.id)
        for id_ in ids:
            if id_ in self._taken:
                self.note(
                    "SX-PROJ-005",
                    f"two assets are called `{id_}`",
                    place=draft.place,
                    hint=f"the other stands at {self.collector.where(self._taken[id_])}; "
                    "give one another name",
                )
                return
        self._taken |= dict.fromkeys(ids, draft.place)
        self.drafts[draft.id] = draft

    def _unknown_upstreams(self) -> None:
        for draft in self.drafts.values():
            for one in draft.inputs:
                if one.asset not in self.drafts:
                    message, hint = authored(draft.kind).unknown(draft, one.asset, self)
                    place = draft.place_of(one.asset)
                    self.note("SX-PROJ-008", message, place=place, hint=hint)

    def _make(self) -> None:
        for id_ in self._in_order():
            draft = self.drafts[id_]
            if all(one.asset in self.made for one in draft.inputs):  # else noted before
                made = authored(draft.kind).assets(draft, self)
                self.made |= {asset.id: self._strategy(asset, draft) for asset in made}
        for kind in sorted({draft.kind for draft in self.drafts.values()}):
            authored(kind).finish(self)
        for id_, asset in self.made.items():
            if not asset.keep:
                self.made[id_] = msgspec.structs.replace(asset, keep=_KEEP)
        self._owners()
        if len(self.made) > ASSETS_MAX:
            self.note(
                "SX-PROJ-007",
                f"the project has {len(self.made)} assets",
                place=Place("sextant.toml", 1),
                hint=f"at most {ASSETS_MAX}: split it",
            )

    def _strategy(self, asset: Asset, draft: Draft) -> Asset:
        """Return an asset with the strategy of its releases; one that its kind cannot do is
        noted."""
        can = kinds()[asset.kind].strategies if asset.kind in kinds() else ()
        if not can or asset.release.kind in can:
            return asset
        default = Strategy(kind=can[0])
        if asset.release != Strategy():  # the author said so
            self.note(
                "SX-PROJ-094",
                f"`{draft.name}` cannot be released by `{asset.release.kind}`",
                place=draft.place,
                hint=f"assets of the kind `{asset.kind}` can: {', '.join(can)}",
            )
        return msgspec.structs.replace(asset, release=default)

    def _column_reads(self, assets: Sequence[Asset]) -> tuple[ColumnRead, ...]:
        """Return the columns that declarations name. Workers do not need them."""
        if self.fingerprint is None:
            return ()
        return tuple(
            read
            for kind in sorted({asset.kind for asset in assets})
            for read in authored(kind).column_reads(
                [asset for asset in assets if asset.kind == kind], self
            )
        )

    def _cycle(self) -> bool:
        """Note a circle of inputs; say whether there is one."""
        done: set[str] = set()
        for start in self.drafts:
            trail: dict[str, None] = {}  # the way down to where we are
            stack = [(start, False)]
            while stack:
                id_, leaving = stack.pop()
                if leaving:
                    del trail[id_]
                    done.add(id_)
                elif id_ in trail:
                    walked = list(trail)
                    circle = [*walked[walked.index(id_) :], id_]
                    path = " -> ".join(self.drafts[one].name for one in reversed(circle))
                    self.collector.note(
                        "SX-PROJ-009",
                        f"the assets feed each other in a circle: {path}",
                        place=self.drafts[id_].place,
                        hint="one of them must not read the next",
                    )
                    return True
                elif id_ not in done and id_ in self.drafts:
                    trail[id_] = None
                    stack.append((id_, True))
                    stack += [(one.asset, False) for one in self.drafts[id_].inputs]
        return False

    def _owners(self) -> None:
        teams = {team.name for team, _ in self.collector.teams}
        info = self.collector.project
        said = [(draft.owner, draft.place) for draft in self.drafts.values()]
        said += [(rule.of, place) for rule, place in self.collector.rules] + (
            [(info.owner, info.place)] if info else []
        )
        for owner, place in said:
            if owner and owner not in teams:
                self.collector.note(
                    "SX-PROJ-026",
                    f"there is no team `{owner}`",
                    place=place,
                    hint=near(owner, teams) if teams else f'declare it: `sx.team("{owner}")`',
                )

    def _in_order(self) -> list[str]:
        """Return the drafts' ids, upstream first."""
        order: dict[str, None] = {}
        stack = list(reversed(self.drafts))
        while stack:
            id_ = stack[-1]
            waiting = [
                one.asset
                for one in self.drafts[id_].inputs
                if one.asset in self.drafts and one.asset not in order
            ]
            if waiting and id_ not in order:
                stack += waiting
            else:
                order[stack.pop()] = None
        return list(order)
