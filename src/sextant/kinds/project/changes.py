"""What differs between two versions of the project: assets, what is weaker, and who watches what
changes. Pure."""

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from sextant.authorization.conditions import Token, comparisons, parse, tokens
from sextant.kernel.kinds import authored, kinds, made
from sextant.kernel.nouns import Asset, Manifest, Rule
from sextant.kinds.project.spec import KIND
from sextant.project.edges import declared_edges
from sextant.project.weakening import Weaker, weaker_project

# what may be said differently of an asset that makes the same
_ASIDE: Mapping[str, Any] = {
    "owner": "", "tier": 3, "description": "", "tags": (), "checks": (), "on": (), "keep": "",
    "on_change": "report", "lookback": "", "file": "", "line": 0,
}  # fmt: skip
# how it is run
_RUN: Mapping[str, Any] = {
    "retries": 0, "backoff_s": 0.0, "pool": "", "timeout_s": 0.0, "memory_bytes": 0,
    "durability": "grouped", "executor": "",
}  # fmt: skip
# methods of texts in conditions: whether a text has a part
_PART: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
    "matches": lambda text, pattern: True,  # noqa: ARG005 - of another dialect: it may
}
# fields of a condition whose text names an asset
_ASSET = ("asset.id", "asset.name")
Columns = Mapping[str, tuple[str, ...]]


class Blinded(NamedTuple):
    """Something that watches what changes: it may go on in silence, and see nothing.

    watch  `check unique(id) of dataset:orders`, `board:sales`, `policy no Friday releases`
    reads  the asset that changes
    why    how it changes, and through what it is seen
    """

    watch: str
    reads: str
    why: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions of the project.

    changed  asset -> what of it differs, in words
    project  what of the project itself does
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = {}
    project: tuple[str, ...] = ()
    weakens: tuple[Weaker, ...] = ()
    blinds: tuple[Blinded, ...] = ()


def changes(before: Manifest | None, after: Manifest, lost: Columns | None = None) -> Changes:
    """Return what differs. Nothing is weaker or blind where nothing was before.

    lost  asset -> columns that it had and that its new code does not make, where that is known
    """
    if before is None:
        return Changes(added=tuple(one.id for one in after.assets if one.kind != KIND))
    was = {asset.id: asset for asset in before.assets if asset.kind != KIND}
    now = {asset.id: asset for asset in after.assets if asset.kind != KIND}
    changed = {
        id_: said
        for id_, asset in now.items()
        if id_ in was and (said := tuple(_what(was[id_], asset)))
    }
    return Changes(
        added=tuple(sorted(now.keys() - was.keys())),
        removed=tuple(sorted(was.keys() - now.keys())),
        changed=changed,
        project=tuple(_of_project(before, after)),
        weakens=tuple(weaker_project(before, after)),
        blinds=tuple(_blinds(before, after, lost or {})),
    )


def _of_project(before: Manifest, after: Manifest) -> Iterator[str]:
    for word in ("tz", "owner", "environments", "follows"):
        one, other = getattr(before, word), getattr(after, word)
        if one != other:
            yield f"{word}: {_text(one)} -> {_text(other)}"
    if before.lock != after.lock:
        yield "what is installed"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _what(before: Asset, after: Asset) -> Iterator[str]:
    """Yield what differs of an asset, in words."""
    if before.build and after.build:
        one, other = before.build, after.build
        if one.code.fingerprint != other.code.fingerprint or one.code.entry != other.code.entry:
            yield "code"
        for word in ("inputs", "params", "secrets"):
            if getattr(one, word) != getattr(other, word):
                yield word
        how = {"code": after.build.code, "inputs": (), "params": {}, "secrets": {}}
        if msgspec.structs.replace(one, **how) != msgspec.structs.replace(other, **how):
            yield "how it is run"
    elif before.build != after.build:
        yield "how it is made"
    said = made(after.kind).changes(before, after) if _is_made(after) else []
    yield from said
    if before.spec != after.spec and not said:
        yield "definition"
    for word in ("owner", "tier", "description", "tags", "checks", "on", "keep", "on_change",
                 "lookback", "release"):  # fmt: skip
        if getattr(before, word) != getattr(after, word):
            yield word


def _is_made(asset: Asset) -> bool:
    return asset.build is not None and asset.kind in kinds()


# ---------------------------------------------------------------- who watches


class _Watch(NamedTuple):
    """What watches: its label, and the assets that it reads or names."""

    label: str
    reads: frozenset[str]


def _blinds(before: Manifest, after: Manifest, lost: Columns) -> Iterator[Blinded]:
    """Yield what watches something that is gone, or is made differently, and stays as a watch."""
    was = {asset.id: asset for asset in before.assets}
    now = {asset.id: asset for asset in after.assets}
    how: dict[str, str] = {}  # asset -> how it changes
    for id_, asset in was.items():
        if asset.kind == KIND:
            continue
        if id_ not in now:
            how[id_] = "is gone"
        elif columns := lost.get(id_):
            how[id_] = f"has no {', '.join(columns)} any more"
        elif _makes(asset) != _makes(now[id_]):
            how[id_] = "is made differently"
    through = _downstream(after, how)
    known = {asset.id: asset.name for asset in (*was.values(), *now.values()) if asset.kind != KIND}
    watches = {one.label: one for one in _watches(before, known)}
    seen: set[tuple[str, str]] = set()
    for watch in _watches(after, known):
        old = watches.get(watch.label, watch)
        for id_ in sorted(watch.reads | old.reads):
            source = id_ if id_ in how else through.get(id_, "")
            if source and (watch.label, source) not in seen:
                seen.add((watch.label, source))
                by = f", which {id_} is made of" if source != id_ else ""
                yield Blinded(watch.label, source, f"{source} {how[source]}{by}")


def _makes(asset: Asset) -> Asset:
    """Return an asset with only what decides what it holds, or means."""
    build = asset.build
    if build is not None:
        code = msgspec.structs.replace(build.code, entry="", file="", line=0, warnings=())
        build = msgspec.structs.replace(build, code=code, **_RUN)
    spec = authored(asset.kind).content(asset) if asset.kind in kinds() else asset.spec
    return msgspec.structs.replace(asset, build=build, spec=spec, **_ASIDE)


def _downstream(manifest: Manifest, changed: Iterable[str]) -> dict[str, str]:
    """Return asset -> what of `changed` it is made of, over any number of steps."""
    readers: dict[str, list[str]] = {}
    for edge in declared_edges(manifest):
        readers.setdefault(edge.source, []).append(edge.target)
    found: dict[str, str] = {}
    for source in sorted(changed):
        stack = [source]
        while stack:
            for target in readers.get(stack.pop(), ()):
                if target not in found and target != source:
                    found[target] = source
                    stack.append(target)
    return found


def _watches(manifest: Manifest, known: Mapping[str, str]) -> Iterator[_Watch]:
    """Yield what watches. `known`: id -> name of the assets that it may name."""
    shown: dict[str, set[str]] = {}
    for edge in declared_edges(manifest):
        if edge.kind not in ("feeds", "contains"):
            shown.setdefault(edge.target, set()).add(edge.source)
    for asset in manifest.assets:
        if asset.kind == KIND:
            continue
        if asset.is_definition:
            named = _named(
                authored(asset.kind).names(asset) if asset.kind in kinds() else (), known
            )
            yield _Watch(asset.id, frozenset(shown.get(asset.id, set()) | named - {asset.id}))
        for check in asset.checks:
            # a text that names a column may be the name of an asset too: only ids count
            named = _named((one for one in _texts(check.params) if ":" in one), known)
            yield _Watch(f"check {check.name} of {asset.id}", frozenset({asset.id, *named}))
    for rule in manifest.policies:
        yield _Watch(f"policy {rule.name}", frozenset(_reached(rule, known)))


def _reached(rule: Rule, known: Mapping[str, str]) -> Iterator[str]:
    """Yield the assets that a rule names, by id or name or by a part of them."""
    try:
        found, compared = tokens(rule.when), list(comparisons(parse(rule.when)))
    except ValueError:  # as a text that is not understood: it may name any
        yield from known
        return
    said = Counter(one.text for one in found if one.kind == "string")
    # `prod` in `env == 'prod'` names no asset
    said -= Counter(one.literal for one in compared if one.field not in _ASSET)
    parts = [found[at : at + 5] for at in range(len(found) - 4) if found[at + 2].text in _PART]
    begins = tuple(one for one in said if ":" in one and not one.endswith(":"))
    for id_, name in known.items():
        if (
            id_.startswith(begins)
            or said[id_] > 0
            or said[name] > 0
            or any(_is_part(one, id_, name) for one in parts)
        ):
            yield id_


def _is_part(call: list[Token], id_: str, name: str) -> bool:
    """Say whether a call such as `name.startsWith('kpi_')` holds for an asset."""
    field, literal = call[0].text, call[4].text
    if call[4].kind != "string" or field not in ("id", "name", "]") or literal.endswith(":"):
        return False
    has = _PART[call[2].text]
    return (field != "name" and has(id_, literal)) or (field != "id" and has(name, literal))


def _named(said: Iterable[str], known: Mapping[str, str]) -> set[str]:
    """Return the assets that are meant by ids (`dataset:orders`, `dataset:orders.id`) or names."""
    words = {one.partition(".")[0] for one in said}
    return {id_ for id_, name in known.items() if id_ in words or name in words}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
