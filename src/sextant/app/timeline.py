"""What happened to an asset in an environment, and what changed upstream of it, in a range of time:
two lists, newest first. Called by `Operations.timeline` and `Operations.changes`.

A timeline has everything that the ledger says about one asset. Changes are what `why` shows of what
is live now, of any time: what a chart of a business number marks.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from sextant.app import lists
from sextant.app.graph import graph
from sextant.app.visibility import Visibility
from sextant.app.why import causal_chain, change_of, declared_change
from sextant.core import Core
from sextant.kernel.answers import Change, GraphNode, Page, TimelineItem
from sextant.kernel.clock import iso
from sextant.kernel.limits import TIMELINE_CAUSES_MAX, TIMELINE_READ_MAX
from sextant.kernel.nouns import Release
from sextant.kernel.pages import page_start
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import ProjectLoaded

Span = tuple[int, int]  # from, until before: ns since 1970
_NOUNS = {  # what an event of a type is about; of others it is the word before the dot
    "asset": "declaration",
    "checks": "check",
    "decision": "decision",
}


def timeline(
    core: Core, see: Visibility, env: str, asset: str, span: Span, *, limit: int, after: str
) -> Page[TimelineItem]:
    """Return what happened to an asset: versions, releases with each state that they came to, the
    runs that made it, failed checks, signals, incidents, refusals, reports, edits.

    What only repeats another event of the list is left out: states that a release only passes
    through, checks that passed.
    """
    at, _ = page_start(after)
    items: list[TimelineItem] = []
    like = f'%"{asset}"%'
    for _ in range(TIMELINE_READ_MAX // limit + 1):
        found = entries(
            core.state.read,
            "timeline_page",
            (at, *span, asset, asset, env, asset, asset, env, asset, asset, like, like, limit),
        )
        for entry in found:
            at = entry.envelope.seq
            item = _item(core, see, env, asset, entry)
            if item is not None:
                items.append(item)
                if len(items) == limit:
                    return Page(items, f"{at}:")
        if len(found) < limit:
            return Page(items)
    return Page(items, f"{at}:")


def _item(core: Core, see: Visibility, env: str, asset: str, entry: Entry) -> TimelineItem | None:
    """Return an event as an item; None for one that says nothing new, or is of another
    environment."""
    seal, said = entry.envelope, see.event(lists.event_seen(entry))["data"]
    data: dict[str, Any] = said if isinstance(said, dict) else {}
    noun, _, change = seal.type.partition(".")
    in_env = data.get("env") or (data.get("evidence") or {}).get("env") or ""
    if noun in ("signal", "run", "decision", "version") and in_env not in ("", env):
        return None
    version = data.get("version") or data.get("digest") or ""
    reason = data.get("reason") or data.get("message") or data.get("error") or ""
    if noun == "version" and not version:
        version = seal.subject.partition("@")[2]
    if isinstance(version, dict):  # of `version.created` it is the whole record
        version = version.get("digest", "")
    if noun == "release":
        move: dict[str, Any] = next((m for m in data.get("moves", ()) if m["asset"] == asset), {})
        if change != "reported":
            version = move.get("target", "")
        change = f"undo {change}" if data.get("intent") == "undo" else change
    if noun == "checks":
        bad = [one for one in data.get("results", ()) if not one["ok"]]
        if not bad:
            return None
        change = "failed"
        reason = "; ".join(f"{one['name']}: {one.get('message', '')}" for one in bad[:3])
        reason += f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    if noun == "incident":
        change = data.get("change", change)
        reason = data.get("comment") or data.get("title") or ""
    if noun == "decision":
        reason = ", ".join(data.get("reasons", ()))
    return {
        "seq": seal.seq,
        "event": seal.id,
        "at": iso(seal.time),
        "noun": _NOUNS.get(noun, noun),
        "change": change,
        "subject": seal.subject,
        "by": seal.actor,
        "reason": str(reason),
        "version": str(version),
        "run": seal.subject if noun == "run" else str(data.get("run", "")),
        "because": causal_chain(core, seal.id, TIMELINE_CAUSES_MAX + 1)[1:],
    }


def changes(
    core: Core,
    see: Visibility,
    env: str,
    asset: str,
    span: Span,
    *,
    additions: bool = True,
    limit: int,
    after: str,
) -> Page[Change]:
    """Return what became live, or was undone, of an asset and of all that it is made of, and edits
    of their declarations and of the project. Without `additions` none that only adds partitions:
    those are most, and change nothing that was there."""
    nodes = {node["id"]: node for node in graph(core, core.assets.select([f"+{asset}"]))["assets"]}
    project = core.project.manifest(env).project
    at, skip = page_start(after)
    passed = int(skip or 0)  # changes of the event `at` that the page before had
    out: list[Change] = []
    read = 0
    cursor = at + 1 if passed else at
    while read < TIMELINE_READ_MAX:
        rows = core.state.read("changes_page", (cursor, *span, limit))
        read += len(rows)
        for seq, type_, subject, time in rows:
            cursor = seq
            event = (seq, type_, subject, time)
            of_event = _of_event(core, see, env, nodes, project, event, additions=additions)
            for n, change in enumerate(of_event):
                if seq == at and n < passed:
                    continue
                out.append(change)
                if len(out) == limit:
                    return Page(out, f"{seq}:{n + 1}")
        if len(rows) < limit:
            return Page(out)
    return Page(out, f"{cursor}:")


def _of_event(
    core: Core,
    see: Visibility,
    env: str,
    nodes: dict[str, GraphNode],
    project: str,
    event: Sequence[Any],
    *,
    additions: bool,
) -> Iterator[Change]:
    """Yield the changes that an event says: a release those of its assets that matter here."""
    seq, type_, subject, time = event
    if type_ == "release.live":
        moved = core.state.read("moves_of_release", (subject, env))
        ours = [row for row in moved if row[0] in nodes or row[0] == f"project:{project}"]
        if not additions:
            ours = [row for row in ours if not _only_adds(core, *row)]
        if not ours:
            return
        doc = core.state.read("release_get", (subject,))
        release = see.release(msgspec.json.decode(doc[0][0], type=Release))
        for name, source, target in ours:
            node = nodes.get(name) or graph(core, [name])["assets"][0]
            yield change_of(core, env, node, release, source=source, target=target, at=time)
        return
    if type_ == "project.loaded":
        entry = entries(core.state.read, "event_by_seq", (seq,))[0]
        if entry.is_erased or env not in entry.read(ProjectLoaded).envs:
            return
        name = f"project:{project}"
        found = graph(core, [name])["assets"]
        if found:
            version = entry.read(ProjectLoaded).version
            yield declared_change(core, found[0], entry, "project edited", version)
        return
    if subject in nodes and core.project.follows(env):
        entry = entries(core.state.read, "event_by_seq", (seq,))[0]
        word = "retired" if type_ == "asset.retired" else "declaration edited"
        yield declared_change(core, nodes[subject], entry, word, "")


def _only_adds(core: Core, asset: str, source: str, target: str) -> bool:
    """Say whether a move brings nothing but partitions of which there was no version before."""
    if not source or not target:
        return not source
    version = core.versions.get(asset, target)
    if version.parent != source:  # an undo, or what was made beside it
        return False
    return not core.state.read("part_made_before", (asset, target))
