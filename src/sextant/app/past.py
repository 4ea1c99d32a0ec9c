"""Asks the project's rules again about what is recorded, for a rule that never matched: most often
one that says something else than was meant."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from sextant.app.access import Access
from sextant.authorization.conditions import parse, possible_verbs
from sextant.authorization.decide import VERBS, matches
from sextant.core import Core
from sextant.kernel.errors import NotFound
from sextant.kernel.limits import ACTIONS_REPLAYED_MAX
from sextant.kernel.nouns import Asset, Principal, Release, Rule, actor_of
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import RunChanged
from sextant.ledger.versions import changed
from sextant.release.publish import Publisher

_FAR = 1 << 62
# what an event of a type says that somebody did; runs, releases and decisions say it themselves
_VERBS = {
    "asset.observed": "report",
    "check.reported": "report",
    "release.reported": "report",
    "run.reported": "report",
    "checks.completed": "check",
    "env.created": "env",
    "env.dropped": "env",
    "payload.erased": "erase",
    "ledger.key_rotated": "rotate",
    "ledger.gap_noted": "repair",
    "incident.changed": "signal",
    "incident.closed": "signal",
    "signal.closed": "signal",
    "version.expired": "collect",
    "version.unheld": "unhold",
    "rows.folded": "push",
    "rows.dropped": "drop",
}
_ROLES = ("", "viewer", "operator", "admin")
_SEEN = frozenset({*_VERBS.values(), "run", "release", "rollback"})


class _Action(NamedTuple):
    actor: str
    verb: str
    asset: str
    env: str
    context: dict[str, Any]


def silent_rules(
    core: Core, publisher: Publisher, access: Callable[[], Access]
) -> tuple[int, list[Rule]]:
    """Return how many of the newest recorded actions were looked at (ACTIONS_REPLAYED_MAX at most),
    and the project's rules that matched none of them.

    What the ledger does not record (the role of who acted, say) counts as a match, and a rule whose
    verbs leave no event of their own is not judged.
    """
    judged = {
        rule.name: rule
        for manifest in core.project.manifests()
        for rule in manifest.policies
        if possible_verbs(parse(rule.when), frozenset(VERBS)) & _SEEN
    }
    looked_at = 0
    about = (_FAR, "", "", "", "", "", "", ACTIONS_REPLAYED_MAX)
    assets = {asset.id: asset for asset in core.project.manifest().assets}
    for entry in entries(core.state.read, "events_page", about):
        if entry.is_erased or looked_at >= ACTIONS_REPLAYED_MAX or not judged:
            continue
        for name in _named(entry):
            judged.pop(name, None)
        for action in _actions(core, publisher, entry):
            looked_at += 1
            asset = assets.get(action.asset) or _asset(core, action.asset)
            for name, rule in list(judged.items()):
                if any(
                    matches(rule, principal, action.verb, asset, action.env, action.context)
                    for principal in _principals(core, access, action.actor)
                ):
                    del judged[name]
            if looked_at >= ACTIONS_REPLAYED_MAX:
                break
    return looked_at, list(judged.values())


def _named(entry: Entry) -> Sequence[str]:
    """Return the rules that an event names as those that spoke."""
    if entry.envelope.type == "decision.denied":
        return list(entry.read(dict[str, Any]).get("reasons", ()))
    if entry.envelope.type == "decision.overridden":
        return list(entry.read(dict[str, Any]).get("rules", ()))
    return ()


def _actions(core: Core, publisher: Publisher, entry: Entry) -> Iterator[_Action]:
    """Yield what somebody did by an event, one for each asset."""
    type_, actor = entry.envelope.type, entry.envelope.actor
    if type_ == "run.started":
        run = entry.read(RunChanged)
        verb = "rollback" if run.trigger == "undo" else "run"
        for id_ in run.assets or tuple(asset.id for asset in core.project.manifest().assets):
            yield _Action(run.by or actor, verb, id_, run.env, {})
    elif type_ == "release.proposed":
        yield from _moves(core, publisher, entry.read(Release))
    elif type_ == "decision.denied":
        said = entry.read(dict[str, Any])
        yield _Action(actor, said["verb"], said["asset"], said["env"], {})
    elif type_ in _VERBS and not actor.startswith("system:"):
        said = msgspec.json.decode(entry.body)
        env = str(said.get("env", "")) if isinstance(said, dict) else ""
        subject = entry.envelope.subject.partition("@")[0]
        env = env or (subject if type_.startswith("env.") else "")
        yield _Action(actor, _VERBS[type_], subject if ":" in subject else "", env, {})


def _moves(core: Core, publisher: Publisher, release: Release) -> Iterator[_Action]:
    glass = {"break_glass": bool(release.broke_glass)}
    for move in release.moves:
        try:
            before = core.versions.parts(move.asset, move.source)
            brought, gone = changed(before, core.versions.parts(move.asset, move.target))
        except NotFound:  # a definition has no partitions
            brought, gone = {}, []
        moved = publisher.moved(move.env, move, tuple(brought.values()), gone=len(gone))
        context = {
            **moved.facts(),
            **glass,
            "withdrawn_elsewhere": move.asset in release.withdrawn_in,
        }
        own = {**context, "intent": release.intent}
        yield _Action(release.by, "release", move.asset, move.env, own)
        verb = "rollback" if release.intent == "undo" else "run"
        yield _Action(release.by, verb, move.asset, move.env, context)


def _principals(core: Core, access: Callable[[], Access], actor: str) -> list[Principal]:
    """Return who an actor may have been: his role is not recorded."""
    one = actor_of(actor)
    teams = set(core.authorization.teams_of(one.name, ())) if one.kind == "person" else set()
    if one.kind != "person" and (core.project.folder / "access.db").exists():
        for token in access().store.tokens():
            if (token.kind, token.name) == (one.kind, one.name):
                teams.update(token.teams)
    return [msgspec.structs.replace(one, teams=tuple(sorted(teams)), role=role) for role in _ROLES]


def _asset(core: Core, id_: str) -> Asset | None:
    rows = core.state.read("asset_get", (id_,)) if id_ else []
    return msgspec.json.decode(rows[0][0], type=Asset) if rows else None
