"""Search over everything that has a name or an id. Called by `Operations.search`.

What has a name stands in an index in memory, which follows the project and the ledger: an event
that changes no name costs nothing, a release only its columns. Ids are looked up in the state.
"""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from sextant.app.text_index import Entry, TextIndex, prepare
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.kernel.answers import Search, SearchHit
from sextant.kernel.clock import iso
from sextant.kernel.limits import SEARCH_EVENTS_MAX, SEARCH_TEXT_CHARS_MAX
from sextant.kernel.nouns import Asset, Manifest, Release
from sextant.ledger.projections import stored_incident, stored_run, stored_signal

_ID = re.compile(r"(run|rel|sig|inc)_([0-9a-z]{0,26})")
_DIGEST = re.compile(r"[0-9a-f]{4,64}")
_NOUNS = ("asset", "team", "environment", "policy", "check")  # the order of equally good ones


class _Columns(msgspec.Struct):
    """The columns of a version; nothing else of it is decoded."""

    schema: tuple[tuple[str, str], ...] = ()


class SearchIndex:
    """The names of a project. Any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._index = TextIndex(())
        self._at = -1  # the newest event that it knows
        self._of: Any = None  # the versions of the project that it was made from
        self._columns: dict[str, tuple[str, ...]] = {}
        # asset -> what its entries were made from, and they themselves
        self._made: dict[str, tuple[Any, list[Any]]] = {}

    def current(self) -> TextIndex:
        """Return the index as things are now."""
        with self._lock:
            of = self._versions()
            if self._is_stale(of):
                self._make(of)
            return self._index

    def _versions(self) -> Any:
        """Return what says which declarations are in force."""
        project = self._core.project
        project.manifest()  # loads it where nobody has yet
        envs = project.environments()
        return project.digest, tuple((env, project.pinned(env)) for env in envs)

    def _is_stale(self, of: Any) -> bool:
        """Say whether an event has changed a name since; follow those that changed columns."""
        if self._at < 0 or of != self._of:
            return True
        events = self._core.state.read("event_types_after", (self._at, SEARCH_EVENTS_MAX))
        if len(events) == SEARCH_EVENTS_MAX:
            return True
        changed = False
        for _, type_, subject in events:
            if type_ == "release.live":
                moved = _columns(self._core.state.read("columns_moved", (subject,)))
                changed |= any(self._columns.get(id_) != names for id_, names in moved.items())
            elif type_.partition(".")[0] in ("asset", "env", "project"):
                return True
        if events and not changed:
            self._at = events[-1][0]
        return changed

    def _make(self, of: Any) -> None:
        head = self._core.state.read("event_head")  # before the rest: what comes between is newer
        self._columns = _columns(self._core.state.read("columns_live"))
        manifests = self._core.project.manifests()
        made = {}
        for asset in self._assets(manifests):
            source = (asset, self._columns.get(asset.id, ()))
            known = self._made.get(asset.id)
            if known is None or known[0] != source:
                known = (source, [(one, prepare(one)) for one in _of_asset(*source)])
            made[asset.id] = known
        entries = [entry for _, known in made.values() for entry in known]
        entries += [(one, prepare(one)) for one in self._others(manifests)]
        entries.sort(key=lambda one: _place(one[0]))
        self._index, self._made = TextIndex(entries), made
        self._at, self._of = (int(head[0][0]) if head else 0), of

    def _assets(self, manifests: Iterable[Manifest]) -> Iterator[Asset]:
        """Yield every asset that is declared somewhere, the folder's first, and those of other
        tools."""
        seen: set[str] = set()
        for manifest in manifests:
            for asset in manifest.assets:
                if asset.id not in seen:
                    seen.add(asset.id)
                    yield asset
        for id_, doc, _ in self._core.state.read("assets"):
            if id_ not in seen:
                asset = msgspec.json.decode(doc, type=Asset)
                if asset.mode == "observed":
                    yield asset

    def _others(self, manifests: Iterable[Manifest]) -> Iterator[Entry]:
        """Yield teams, policies and environments."""
        found: dict[tuple[str, str], Entry] = {}
        for name, parent, *_ in self._core.state.read("envs"):
            title = f"falls through to {parent}" if parent else ""
            found["environment", name] = Entry("environment", name, name, title)
        for manifest in manifests:
            for team in manifest.teams:
                members = tuple(("member", one) for one in team.members)
                title = ", ".join(team.members)
                entry = Entry("team", team.name, team.name, title, fields=members)
                found.setdefault(("team", team.name), entry)
            for rule in manifest.policies:
                where = (("file", f"{rule.file}:{rule.line}"),) if rule.file else ()
                fields = (("when", rule.when[:SEARCH_TEXT_CHARS_MAX]), *where)
                entry = Entry("policy", rule.name, rule.name, rule.then, fields=fields)
                found.setdefault(("policy", rule.name), entry)
        yield from found.values()


def _columns(rows: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """Return asset -> the columns of its live versions, in all environments."""
    found: dict[str, dict[str, None]] = {}
    for id_, doc in rows:
        names = found.setdefault(id_, {})
        names.update(dict.fromkeys(c for c, _ in msgspec.json.decode(doc, type=_Columns).schema))
    return {id_: tuple(sorted(names)) for id_, names in found.items()}


def _of_asset(asset: Asset, columns: tuple[str, ...]) -> Iterator[Entry]:
    """Yield what can be found of an asset: itself, and its checks."""
    texts = [
        ("owner", asset.owner),
        *(("tag", tag) for tag in asset.tags),
        *(("column", name) for name in columns),
        ("documentation", asset.description[:SEARCH_TEXT_CHARS_MAX]),
        ("file", asset.file),
    ]
    fields = tuple((name, text) for name, text in texts if text)
    title = asset.description.strip().partition("\n")[0]
    yield Entry("asset", asset.id, asset.name, title, asset.id, fields)
    for check in asset.checks:
        yield Entry("check", check.name, check.name, f"{check.severity} of {asset.id}", asset.id)


def _place(entry: Entry) -> tuple[int, int, str, str]:
    return _NOUNS.index(entry.noun), len(entry.name), entry.name, entry.asset


def search(core: Core, see: Visibility, index: SearchIndex, query: str, limit: int) -> Search:
    """Return what a query finds: what has such an id, then what has such a name, then what has
    its words in a field, then near spellings."""
    hits = _by_id(core, see, query.strip().casefold(), limit + 1)
    if len(hits) <= limit:
        for match in index.current().find(query, limit + 1 - len(hits)):
            entry = match.entry
            hits.append(
                _hit(entry.noun, entry.id, entry.title, entry.asset, match.field, match.text)
            )
    return {"hits": hits[:limit], "cut": len(hits) > limit}


def _by_id(core: Core, see: Visibility, text: str, limit: int) -> list[SearchHit]:
    """Return the runs, releases, incidents, signals or versions whose id begins so."""
    named = _ID.fullmatch(text)
    if named:
        # ids are of equal length, so a range of them is what begins so, in any collation
        span = tuple(text + end * (26 - len(named[2])) for end in "0z")
        found = _READ[named[1]](core, see, (*span, limit))
        return [_hit(noun, id_, title, asset, "id", id_) for noun, id_, title, asset in found]
    if not _DIGEST.fullmatch(text):
        return []
    span = (text.ljust(64, "0"), text.ljust(64, "f"))
    return [
        _hit("version", f"{asset}@{digest[:12]}", f"version of {asset}", asset, "id", digest)
        for asset, digest in core.state.read("versions_between", (*span, limit))
    ]


def _hit(noun: str, id_: str, title: str, asset: str, matched: str, text: str) -> SearchHit:
    return {
        "noun": noun,
        "id": id_,
        "title": title,
        "asset": asset,
        "matched": matched,
        "text": text,
    }


_Found = Iterator[tuple[str, str, str, str]]  # noun, id, title, asset


def _runs(core: Core, see: Visibility, span: tuple[Any, ...]) -> _Found:
    for id_, doc in core.state.read("runs_between", span):
        run = see.run(stored_run(doc))
        title = f"{run.state} in {run.env}, {run.trigger or 'manual'} by {run.by}"
        yield "run", id_, f"{title}, {iso(run.started_at)[:19]}Z", ""


def _releases(core: Core, see: Visibility, span: tuple[Any, ...]) -> _Found:
    for id_, doc in core.state.read("releases_between", span):
        release = see.release(msgspec.json.decode(doc, type=Release))
        move, more = release.moves[0], len(release.moves) - 1
        what = f"{move.asset}{f' and {more} more' if more else ''} in {move.env}"
        yield "release", id_, f"{release.intent}, {release.state}: {what}", move.asset


def _signals(core: Core, see: Visibility, span: tuple[Any, ...]) -> _Found:
    for id_, doc, repeated in core.state.read("signals_between", span):
        signal = see.signal(stored_signal(doc, repeated))
        yield "signal", id_, f"{signal.severity}: {signal.message}", signal.asset


def _incidents(core: Core, see: Visibility, span: tuple[Any, ...]) -> _Found:
    for id_, doc, changed, closed_at in core.state.read("incidents_between", span):
        incident = see.incident(stored_incident(doc, changed, closed_at))
        asset = incident.assets[0] if incident.assets else ""
        yield "incident", id_, f"{incident.state}: {incident.title}", asset


_READ: Mapping[str, Any] = {"run": _runs, "rel": _releases, "sig": _signals, "inc": _incidents}
