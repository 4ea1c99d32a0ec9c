"""Answers `why`: the reason in words, then the events behind it. Called by `Operations.why`.

For an id (run, release, signal, incident, event): the chain of events that caused it. For an asset:
the release of its live version, and the newest changes upstream.
"""

from collections.abc import Callable

from sextant.app import lists
from sextant.app.graph import graph
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.kernel.answers import Change, GraphNode, Link, Moved, Why
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound
from sextant.kernel.nouns import Asset, Release
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import stored_run
from sextant.ledger.signals import CHECK_FAILED, find_incident, find_signal
from sextant.ledger.versions import changed
from sextant.release.releases import get_release

_FAR = 1 << 62
_REPORTS_SHOWN = 20  # newest events of an observed asset
_CAUSES_MAX = 50  # events of one chain of causes: longer is a loop in somebody's reporting
_MOVES_NAMED = 3
_NEXT_STEPS = {  # what can be done about a release in a state; the others go on by themselves
    "waiting": "`sextant approve {id}` lets it go on, with --deny it ends",
    "paused": "`sextant incidents` shows what needs a person",
    "live": "`sextant rollback {asset} --env {env}` undoes it",
    "rejected": "mend the cause and run again: `sextant run {asset} --env {env}`",
    "stuck": "`sextant incidents` shows what needs a person",
}


def why(
    core: Core,
    see: Visibility,
    env: str,
    subject: str,
    moved: Callable[[Asset], Moved | None] = lambda _asset: None,
) -> Why:
    """Return why something is as it is, as the principal may see it. NotFound for an id that the
    ledger does not know.

    moved  says what moved a business number; None for what is none, or has no past
    """
    if not subject.startswith(("rel_", "run_", "ev_", "sig_", "inc_")):
        asset = core.assets.find(subject, env)
        return _of_asset(core, see, env, asset, moved(asset))
    chain = causal_chain(core, subject)
    if not chain:
        raise NotFound(
            "SX-LEDGER-054",
            f"the ledger knows no `{subject}`",
            hint="`sextant ledger show`, `sextant runs` and `sextant releases` list ids",
        )
    say = {"run": _run, "rel": _release, "sig": _signal, "inc": _incident}.get(
        subject.partition("_")[0], _event
    )
    return {"reason": say(core, see, subject, chain), "subject": subject, "chain": chain}


# ---------------------------------------------------------------- ids, in words


def _run(core: Core, see: Visibility, id_: str, chain: list[Link]) -> str:
    rows = core.state.read("run_get", (id_,))
    if not rows:  # its payload was erased
        return _event(core, see, id_, chain)
    run = see.run(stored_run(rows[0][3]))
    what = f" to make {', '.join(run.assets)}" if run.assets else ""
    words = [
        (
            f"{run.by or 'somebody'} started run {id_} ({run.trigger or 'manual'}) in {run.env} at "
            f"{_at(run.started_at)}{what}{_because(chain, 'run.started')}."
        )
    ]
    counts = f"{run.computed} steps computed, {run.reused} reused, {run.failed} failed"
    if run.state == "running":
        words.append(f"It has not ended yet: `sextant runs {id_}` shows how far it is.")
    elif run.state == "finished":
        words.append(f"It finished: {counts}. `sextant runs {id_}` shows its steps.")
    else:
        outcome = {"refused": "The checks refused what it made"}.get(run.state, f"It {run.state}")
        cause = f": {run.error}" if run.error else f": {counts}"
        words.append(
            f"{outcome}{cause}. `sextant runs {id_}` shows where; what it made is used by the next "
            f"`sextant run --env {run.env}`."
        )
    return " ".join(words)


def _release(core: Core, see: Visibility, id_: str, chain: list[Link]) -> str:
    if not core.state.read("release_get", (id_,)):
        return _event(core, see, id_, chain)
    release = see.release(get_release(core.state, id_))
    env, asset = release.moves[0].env, release.moves[0].asset
    verb = "undid" if release.intent == "undo" else "proposed"
    run = f" of run {release.run}" if release.run else ""
    state = release.state.replace("_", " ")
    reason = f": {release.reason}" if release.reason else ""
    words = [
        (
            f"{release.by or 'somebody'} {verb} {_moves(release)} in {env} at "
            f"{_at(release.created_at)}, by release {id_}{run}"
            f"{_because(chain, 'release.proposed')}."
        ),
        f"It is {state} since {_at(release.changed_at)}{reason}.",
    ]
    if step := _NEXT_STEPS.get(release.state):
        words.append(_sentence(step.format(id=id_, asset=asset, env=env)))
    return " ".join(words)


def _signal(core: Core, see: Visibility, id_: str, chain: list[Link]) -> str:
    stored = find_signal(core.state, id_)
    if stored is None:
        return _event(core, see, id_, chain)
    signal = see.signal(stored.signal)
    of = f" of {signal.asset}" if signal.asset else ""
    of += f" in {signal.env}" if signal.env else ""
    began = _first(core, id_, "signal.raised")
    actor = f" by {began[0]['actor']}" if began else ""
    words = [
        (
            f"Signal {id_} ({signal.kind}, {signal.severity}){of} was raised{actor} at "
            f"{_at(signal.onset)}{_because(began, 'signal.raised')}: {signal.message}."
        )
    ]
    if signal.repeats:
        words.append(f"That was met {signal.repeats:,} times more, last at {_at(signal.last_at)}.")
    if stored.closed_at:
        closed = entries(core.state.read, "events_of_subject", (id_, _FAR, 1))[0]
        facts = closed.data if isinstance(closed.data, dict) else {}
        reason = f": {facts['reason']}" if facts.get("reason") else ""
        words.append(
            f"It was closed by {closed.envelope.actor} at {_at(stored.closed_at)}"
            f"{reason or _because(chain, 'signal.closed')}."
        )
    elif signal.kind == CHECK_FAILED:
        words.append(
            "It is open, and closes when the check passes: "
            + (
                f"mend the data or the code, then `sextant check {signal.asset}`."
                if "version" in signal.evidence
                else f"`sextant report check {signal.asset} --state ok`."
            )
        )
    else:
        words.append(f"It is open: `sextant signals {id_} --close REASON` closes it.")
    return " ".join(words)


def _incident(core: Core, see: Visibility, id_: str, chain: list[Link]) -> str:
    stored = find_incident(core.state, id_)
    if stored is None:
        return _event(core, see, id_, chain)
    incident = see.incident(stored.incident)
    began = _first(core, id_, "incident.opened")
    words = [
        (
            f"Incident {id_} of {', '.join(incident.assets)} was opened at "
            f"{_at(incident.opened_at)}{_because(began, 'incident.opened')}: {incident.title}."
        )
    ]
    if incident.merged_into:
        words.append(f"It was merged into {incident.merged_into}.")
    elif stored.closed_at:
        words.append(f"It was closed at {_at(stored.closed_at)}{_closing_words(core, see, id_)}.")
    else:
        whose = f", assigned to {incident.assignee}" if incident.assignee else ""
        words.append(f"It is open{whose}.")
    words.append(f"`sextant incidents {id_}` shows its timeline.")
    return " ".join(words)


def _closing_words(core: Core, see: Visibility, id_: str) -> str:
    """Return who closed an incident and why, as the end of a sentence."""
    newest = entries(core.state.read, "events_of_subject", (id_, _FAR, 100))
    for entry in newest:
        if entry.envelope.type == "incident.closed":
            said = see.event(lists.event_seen(entry))["data"]
            reason = said.get("comment", "") if isinstance(said, dict) else ""
            return f" by {entry.envelope.actor}" + (f": {reason}" if reason else "")
    return ""


def _event(_core: Core, _see: Visibility, _id: str, chain: list[Link]) -> str:
    head = chain[0]
    return (
        f"{head['actor']} wrote `{head['type']}` of {head['subject']} at "
        f"{head['at'][:19]}Z{_because(chain, head['type'])}. `sextant ledger show "
        f"{head['subject']} --data` shows what it says."
    )


def _first(core: Core, subject: str, type_: str) -> list[Link]:
    """Return the first event of a type about a subject, and its causes."""
    found = entries(core.state.read, "events_of_both", (subject, type_, 1))
    return causal_chain(core, found[0].envelope.id) if found else []


def _because(chain: list[Link], type_: str) -> str:
    """Return what caused the event of a type in a chain, as the end of a sentence."""
    at = next((n for n, link in enumerate(chain) if link["type"] == type_), len(chain))
    if at + 1 >= len(chain):
        return ""
    cause = chain[at + 1]
    return f", because of `{cause['type']}` of {cause['subject']} by {cause['actor']}"


def _moves(release: Release) -> str:
    named = [
        f"{move.asset} {move.source[:12] or 'new'} -> {move.target[:12] or 'nothing'}"
        for move in release.moves[:_MOVES_NAMED]
    ]
    more = len(release.moves) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _at(time: int) -> str:
    return f"{iso(time)[:19]}Z"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


# ---------------------------------------------------------------- assets


def _of_asset(core: Core, see: Visibility, env: str, asset: Asset, moved: Moved | None) -> Why:
    changes: list[Change] = []
    live = core.versions.live(env)
    for node in graph(core, core.assets.select([f"+{asset.id}"]))["assets"]:
        if node["mode"] == "observed":
            changes += _reported(core, see, node)
        if node["id"] in live:
            changes.append(_change(core, see, env, node))
    changes.sort(key=lambda c: c["at"], reverse=True)
    found: Why = {
        "reason": _asset_reason(core, env, asset, changes),
        "asset": asset.id,
        "env": env,
        "changes": changes,
    }
    if moved is not None:
        found["reason"] = f"{verdict_words(asset, moved)} {found['reason']}"
        found["moved"] = moved
    return found


def verdict_words(asset: Asset, moved: Moved) -> str:
    """Return what moved a number and how sure that is, in a sentence or two."""
    before, after = moved["before"], moved["after"]
    spans = [
        f"{one['since'][:10]}, as known {one['known_at'][:10]}" if one["since"] else "all of it"
        for one in (before, after)
    ]
    course = (
        f"{asset.name} was {_digits(before['value'])} ({spans[0]}) and is "
        f"{_digits(after['value'])} ({spans[1]})"
    )
    sure = f"{moved['probability']:.0%}"
    if moved["verdict"] == "nothing moved":
        return f"{course}: nothing moved."
    if moved["verdict"] == "none of ours":
        return (
            f"{course}: none of ours ({sure} sure). The rows moved it by "
            f"{_digits(moved['difference'])}, and nothing that was changed did."
        )
    if moved["verdict"] == "not derived":
        cost = moved["cost"]
        return (
            f"{course}. What was changed meanwhile has not been told apart yet: "
            f"`sextant why {asset.id} --prove FILE` derives it, in about {cost['seconds']:,.0f} s."
        )
    first = moved["causes"][0]
    amount = f", by {_digits(first['amount'])}" if first["amount"] else ""
    ground = f"; {first['grounds'][0]}" if first["grounds"] else ""
    return f"{course}: {moved['verdict']} ({sure}), {first['text']}{amount}{ground}."


def _digits(text: str) -> str:
    """Return a decimal with six digits that say something: all of them are in `moved`."""
    return f"{float(text):,.6g}" if text else "nothing"


def _asset_reason(core: Core, env: str, asset: Asset, changes: list[Change]) -> str:
    own = next((c for c in changes if c["asset"] == asset.id), None)
    words = []
    if own is None and asset.mode == "managed":
        words.append(
            f"{asset.id} has no live version in {env}: `sextant run {asset.id} --env {env}` makes "
            "one."
        )
    elif own is None:
        words.append(f"{asset.id} is managed by another tool, which has reported nothing yet.")
    elif not own["release"]:
        said = f" ({own['reason']})" if own["reason"] else ""
        words.append(
            f"{own['by']} reported {own['changed']} of {asset.id} at {own['at'][:19]}Z{said}."
        )
    else:
        said = f" ({own['reason']})" if own["reason"] else ""
        words.append(
            f"{asset.id} in {env} is at version {own['version'][:12]} since {own['at'][:19]}Z: "
            f"{own['by']} {'brought it back' if own['intent'] == 'undo' else 'released it'}{said}, "
            f"by release {own['release']}."
        )
        version = core.versions.get(asset.id, own["version"])
        if version.run:
            words.append(f"Run {version.run} made it first, at {_at(version.created_at)}.")
    newest = changes[0] if changes else None
    if newest is not None and newest is not own:
        words.append(
            f"The newest change upstream is of {newest['asset']}: {what_changed(newest)} by "
            f"{newest['by']} at {newest['at'][:19]}Z."
        )
    if newest is not None and newest["release"] and newest["intent"] != "undo":
        words.append(f"`{newest['undo']}` undoes it.")
    return " ".join(words)


def what_changed(change: Change) -> str:
    """Return what kind of change it is, in words."""
    kind = change["changed"]
    return f"{kind} changed" if kind in ("code", "data", "definition") else kind


def _change(core: Core, see: Visibility, env: str, node: GraphNode) -> Change:
    """Return the move that brought the live version of an asset."""
    live = core.versions.live(env)[node["id"]]
    release = see.release(get_release(core.state, live.release))
    source = next(
        (m.source for m in release.moves if m.asset == node["id"]),
        core.versions.get(node["id"], live.version).parent,
    )  # an undo moved from another version than the parent
    return change_of(core, env, node, release, source=source, target=live.version, at=live.moved_at)


def change_of(
    core: Core,
    env: str,
    node: GraphNode,
    release: Release,
    *,
    source: str,
    target: str,
    at: int,
) -> Change:
    """Return what one move of a release changed of an asset.

    release  as the principal may see it
    source   the version before, and `target` that after; "" = none
    at       when it became live, ns since 1970
    """
    version = core.versions.get(node["id"], target) if target else None
    parent = core.versions.parts(node["id"], source)
    differs, gone = changed(parent, core.versions.parts(node["id"], target))
    code = [
        part
        for part in differs.values()
        if part.partition in parent and parent[part.partition].code != part.code
    ]
    return {
        "asset": node["id"],
        "owner": node["owner"],
        "at": iso(at),
        "release": release.id,
        "intent": release.intent,
        "by": release.by,
        "reason": release.reason,
        "run": (version.run if version else "") or release.run,
        "version": target,
        "partitions": sorted({*differs, *gone}),
        "changed": "undo"
        if release.intent == "undo"
        else "definition"
        if _is_definition(core, node["id"])
        else "code"
        if code
        else "data",
        "chain": causal_chain(core, release.id),
        "undo": f"sextant rollback {node['id']} --env {env}",
    }


def declared_change(
    core: Core, node: GraphNode, entry: Entry, changed_: str, version: str
) -> Change:
    """Return an edit of the project's files as a change that is undone in the folder."""
    return {
        "asset": node["id"],
        "owner": node["owner"],
        "at": iso(entry.envelope.time),
        "release": "",
        "intent": "edit",
        "by": entry.envelope.actor,
        "reason": "",
        "run": "",
        "version": version,
        "partitions": [],
        "changed": changed_,
        "chain": causal_chain(core, entry.envelope.id),
        "undo": "undo the edit in the project's folder",
    }


def _is_definition(core: Core, id_: str) -> bool:
    asset = core.assets.known(id_)
    return asset is not None and asset.is_definition


def _reported(core: Core, see: Visibility, node: GraphNode) -> list[Change]:
    """Return the newest reports of another tool about an asset, as changes that we cannot undo."""
    out: list[Change] = []
    for event in lists.events(core, see, subject=node["id"], limit=_REPORTS_SHOWN).items:
        data = event["data"]
        if not event["type"].endswith(".reported") or not isinstance(data, dict):
            continue
        kind = event["type"].partition(".")[0]
        said = ", ".join(
            str(data[word]) for word in ("version", "name", "message", "url") if data.get(word)
        )
        out.append(
            {
                "asset": node["id"],
                "owner": node["owner"],
                "at": event["at"],
                "release": "",
                "intent": kind,
                "by": event["actor"],
                "reason": said,
                "run": "",
                "version": data.get("version", ""),
                "partitions": [],
                "changed": f"{kind} {data['state']}",
                "chain": causal_chain(core, event["id"]),
                "undo": "by the tool that manages it",
            }
        )
    return out


def causal_chain(core: Core, subject: str, most: int = _CAUSES_MAX) -> list[Link]:
    """Return the newest event of a subject, or the event of this id, and its causes."""
    found = entries(core.state.read, "events_of_subject", (subject, _FAR, 1)) or entries(
        core.state.read, "event_by_id", (subject,)
    )
    out: list[Link] = []
    while found and len(out) < most:
        seal = found[0].envelope
        out.append(
            {
                "event": seal.id,
                "type": seal.type,
                "subject": seal.subject,
                "actor": seal.actor,
                "at": iso(seal.time),
                "seq": seal.seq,
            }
        )
        found = entries(core.state.read, "event_by_id", (seal.cause,)) if seal.cause else []
    return out
