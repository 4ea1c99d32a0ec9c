"""Who may use an operation: role, scope and policy, asked in one place for commands here and
requests over the network, before anything is done.

What the policy is asked follows from the table of operations (`app/operations`). Runs, releases
and undos ask for each asset that they reach, once they know which; a push when its body has said
where it goes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, assert_never

import msgspec

from sextant.app.observed import check_reported
from sextant.app.operations.row import ROLES, Operation
from sextant.core import Core
from sextant.kernel.errors import Denied
from sextant.kernel.nouns import Asset, Principal
from sextant.kinds.dataset.inbox import Inbox, stream_of
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import RunChanged
from sextant.ledger.signals import find_incident, find_signal, signals_of
from sextant.release.releases import get_release


class Question(NamedTuple):
    """What the policy is asked: a verb, and what it is done to."""

    verb: str
    asset: Asset | None = None
    env: str = ""
    facts: Mapping[str, Any] = {}


def refusal(operation: Operation, by: Principal) -> Denied | None:
    """Return why role or scopes of `by` do not reach; None when they do."""
    if by.role and ROLES.index(by.role) < ROLES.index(operation.role):
        return Denied(
            "SX-API-008",
            f"`{by}` is {by.role}; this needs {operation.role}",
            hint="an administrator can make a token with that role",
        )
    if operation.scope not in by.scopes:
        return Denied(
            "SX-API-003",
            f"the token of `{by}` does not open {operation.scope}",
            hint=f"it is for {', '.join(by.scopes)}; make one with the scope {operation.scope}",
        )
    return None


def ask(
    core: Core,
    inbox: Inbox,
    operation: Operation,
    by: Principal,
    given: Mapping[str, Any],
    env: str,
) -> None:
    """Ask the policy all that an operation needs. Denied; NotFound for what is not there.

    given  the operation's arguments
    env    the environment that it is about
    """
    for question in _questions(core, inbox, operation, by, given, env):
        core.authorization.allow(by, question.verb, question.asset, question.env, question.facts)


def _questions(
    core: Core,
    inbox: Inbox,
    operation: Operation,
    by: Principal,
    given: Mapping[str, Any],
    env: str,
) -> Iterator[Question]:
    verb = operation.verb
    match operation.of:
        case "asset":
            yield Question(verb, core.assets.find(given["asset"], env), env)
        case "batch":
            stream = stream_of(core, given["dataset"])
            found = inbox.batch(stream, given["batch"], given.get("sender", ""), by)
            is_own = found is None or core.authorization.is_own(by, found.by)
            for where in core.project.environments():  # its rows would come to each of them
                asset = core.assets.known(stream.id, where) or stream
                yield Question(verb, asset, where, {"own": is_own})
        case "env":
            name = given["name"]
            is_new = "parent" in given  # also where the name is taken: that is said later
            made = entries(core.state.read, "event_last_of", (name, "env.created"))
            is_own = is_new or _is_theirs(core, by, made)
            yield Question(verb, None, name, {"own": is_own})
        case "release" | "releases":
            ids = given["releases"] if operation.of == "releases" else (given["release"],)
            for id_ in ids:
                for move in get_release(core.state, id_).moves:
                    yield Question(verb, core.assets.known(move.asset, move.env), move.env)
        case "run":
            rows = core.state.read("run_get", (given["run"],))
            facts = msgspec.json.decode(rows[0][3], type=RunChanged) if rows else None
            yield Question(verb, None, facts.env if facts else "")
        case "signal":
            stored = find_signal(core.state, given["signal"])
            if stored is not None:
                signal = stored.signal
                yield Question(verb, core.assets.known(signal.asset, signal.env), signal.env)
            else:
                yield Question(verb)
        case "incident":
            yield from _incident(core, verb, given["incident"])
            if given.get("into"):
                yield from _incident(core, verb, given["into"])
        case "report":
            yield from _report(core, by, given, env)
        case "":
            yield Question(verb)
        case "plan" | "rows":  # asked where it is known what they reach
            return
        case _:
            assert_never(operation.of)


def _incident(core: Core, verb: str, id_: str) -> Iterator[Question]:
    """What is done to an incident is asked of each of its assets, in the environment of each of its
    signals."""
    stored = find_incident(core.state, id_)
    if stored is None:
        yield Question(verb)
        return
    signals = [one.signal for one in signals_of(core.state, stored.incident)]
    places = {(signal.asset, signal.env) for signal in signals}
    envs = {env for _, env in places} or {""}
    without_signal = set(stored.incident.assets) - {asset for asset, _ in places}
    places |= {(asset, env) for asset in without_signal for env in envs}
    for asset, env in sorted(places) or [("", "")]:
        yield Question(verb, core.assets.known(asset, env), env)


def _report(core: Core, by: Principal, given: Mapping[str, Any], env: str) -> Iterator[Question]:
    """A report is asked of the asset as it is known, of the owner that it is given, and of each
    asset into which it draws an edge."""
    id_, owner = str(given["asset"]), str(given.get("owner", ""))
    check_reported(id_)
    known = core.assets.known(id_, env)
    if known is not None:
        yield Question("report", known, env)
    if known is None or owner not in ("", known.owner):
        kind, _, name = id_.partition(":")
        claimed = Asset(kind=kind, name=name, mode="observed", owner=owner)
        first = entries(core.state.read, "events_of_both", (id_, "asset.observed", 1))
        is_own = known is None or known.owner != "" or _is_theirs(core, by, first)
        yield Question("report", claimed, env, {"own": is_own})
    for other in given.get("downstream", ()):
        yield Question("link", core.assets.find(other, env), env)


def _is_theirs(core: Core, by: Principal, found: list[Entry]) -> bool:
    """Say whether the first of some events is `by`'s; no, where there is none: who cannot be told
    is somebody else."""
    return bool(found) and core.authorization.is_own(by, found[0].envelope.actor)
