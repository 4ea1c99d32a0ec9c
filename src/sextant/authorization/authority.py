"""Asks the rules of a project, and records what they deny. Who acts, and who answers for whom.

`decide.py` judges; this knows the project's rules and people, and remembers answers.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from sextant.authorization.decide import DEFAULT, Decision, Known, combine, decide, wanted
from sextant.kernel.clock import NS, Clock, to_datetime
from sextant.kernel.errors import Denied
from sextant.kernel.kinds import kinds
from sextant.kernel.limits import DENIED_AGAIN_S
from sextant.kernel.nouns import Asset, Manifest, Principal, actor_of, person_of
from sextant.kernel.ports import State, Write
from sextant.ledger.events import Events

# verbs that end in a release: an approval is waited for there
_WAITS = ("run", "release", "rollback")
_NOTHING = Manifest(project="", tz="UTC")  # before a project was loaded
_DECISIONS_MAX = 10_000  # remembered answers, and remembered refusals


# what says who may do something, each with its version: all of it must let him
Governing = tuple[tuple[str, Manifest], ...]


class Declared(Protocol):
    """What a project declares: `project.current.CurrentProject`."""

    def manifest(self) -> Manifest: ...

    def manifests(self) -> tuple[Manifest, ...]:
        """Return all that is in force somewhere."""
        ...

    def governing(self, env: str) -> "Governing":
        """Return what says who may do something in an environment."""
        ...

    def is_known(self) -> bool:
        """Say whether there is a manifest, now or in the store."""
        ...

    def record(self) -> None:
        """Record an edit that was only looked at."""
        ...


class Authorization:
    """The rules and people of one project. Any thread."""

    def __init__(
        self, state: State, events: Events, clock: Clock, declared: Declared, principal: Principal
    ) -> None:
        """principal  who opened the project"""
        self._state, self._events, self._clock = state, events, clock
        self._declared = declared
        self.principal = principal
        # kind and name of a token -> the person who answers for it; set by who knows tokens
        self.person_of_token: Callable[[str, str], str | None] = lambda _kind, _name: None
        self._decisions: dict[Any, Decision] = {}
        self._actors: dict[Any, Principal] = {}  # who acts, in his teams of a version
        # refusals -> when one was written, and how many equal ones were not since
        self._denied: dict[Any, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def governing(self, env: str) -> Governing:
        """Return what says who may do something in an environment: to ask about many things at
        once, see `decide`."""
        if not self._declared.is_known():
            return (("", _NOTHING),)
        return self._declared.governing(env)

    def who(self, principal: Principal | None = None) -> Principal:
        """Return who acts: whoever opened the platform, or another. His teams are those that what
        is in force says: see `within`."""
        return principal or self.principal

    def teams_of(self, person: str, named: tuple[str, ...]) -> tuple[str, ...]:
        """Return the teams of a person whose token or account names some: those of them in which
        the project lists him, all of these where none is named. Of a person whom it lists nowhere:
        those that are named, but for teams whose members it lists."""
        if not self._declared.is_known():
            return named
        return _teams_in(self._members(self._declared.manifest()), person, named)

    def within(self, by: Principal, env: str) -> Principal:
        """Return who acts, in the teams in which what is in force in an environment lists him."""
        for version, manifest in self.governing(env):
            by = self._within(version, manifest, by)
        return by

    def _within(self, version: str, manifest: Manifest, by: Principal) -> Principal:
        """Return who acts, in the teams in which a manifest lists him now. A token that is called
        as a member is no member."""
        if by.kind != "person":
            return by
        members = self._members(manifest)
        key = (version, by, tuple(members.items()) if _has_deputies(manifest) else ())
        found = self._actors.get(key)
        if found is None:
            if len(self._actors) > _DECISIONS_MAX:
                self._actors.clear()
            teams = _teams_in(members, by.name, by.teams)
            found = by if teams == by.teams else msgspec.structs.replace(by, teams=teams)
            self._actors[key] = found
        return found

    def _members(self, manifest: Manifest) -> Mapping[str, tuple[str, ...]]:
        """Return team -> its members, and those who stand in for one today."""
        if not _has_deputies(manifest):
            return {team.name: team.members for team in manifest.teams}
        now = to_datetime(self._clock.now_ns()).astimezone(ZoneInfo(manifest.tz))
        today = now.date().isoformat()
        return {
            team.name: (
                *team.members,
                *(person for person, last in team.deputies.items() if today <= last),
            )
            for team in manifest.teams
        }

    def allow(
        self,
        by: Principal,
        verb: str,
        asset: Asset | None,
        env: str,
        context: Mapping[str, Any] | None = None,
        governing: Governing | None = None,
    ) -> Decision:
        """Return what the policy says if it lets `by` do it. Denied, with the rules that say no;
        the refusal is an event."""
        decision = self.decide(by, verb, asset, env, context, governing)
        cannot_wait = decision.verdict == "approval" and verb not in _WAITS
        if decision.verdict == "deny" or cannot_wait:
            subject = asset.id if asset else env
            self._record_denied(by, verb, subject, env, decision)
            raise Denied(
                "SX-POLICY-001",
                f"`{by}` may not {verb} `{subject}`: {'; '.join(decision.reasons)}",
                hint=f"needs {wanted(decision.needs)}: only a release can wait for approval"
                if cannot_wait
                else "ask the owner of the policy",
            )
        self._declared.record()  # what an edit declares has effect from here on
        return decision

    def _record_denied(
        self, by: Principal, verb: str, subject: str, env: str, decision: Decision
    ) -> None:
        """Write the event of a refusal. Equal ones within a minute are one event, and the next
        says how many there were: a flood must not fill a ledger that is never pruned."""
        key = (str(by), verb, subject, env, decision.reasons)
        now = self._clock.now_ns()
        with self._lock:
            at, times = self._denied.pop(key, (0, 0))
            if at and now - at < DENIED_AGAIN_S * NS:
                self._denied[key] = (at, times + 1)
                return
            while len(self._denied) >= _DECISIONS_MAX:
                self._denied.pop(next(iter(self._denied)))
            self._denied[key] = (now, 0)
        data: dict[str, Any] = {
            "verb": verb,
            "asset": subject,
            "env": env,
            "reasons": decision.reasons,
        }
        if times:
            data["times_before"] = times
        self._state.commit(Write((), (self._events.make("decision.denied", subject, data, by),)))

    def decide(
        self,
        by: Principal,
        verb: str,
        asset: Asset | None,
        env: str,
        context: Mapping[str, Any] | None = None,
        governing: Governing | None = None,
    ) -> Decision:
        """Return what the rules say that are in force in the environment: where several speak, all
        must let him. The answer to an equal question is remembered.

        governing  what `governing(env)` returned, for who asks about many things at once
        """
        facts = (asset.id, asset.owner, asset.tier, asset.mode) if asset else None
        told = tuple(sorted((context or {}).items()))
        found: list[Decision] = []
        for version, manifest in governing or self.governing(env):
            actor = self._within(version, manifest, by)
            question = (version, actor, verb, facts, env, told)
            known = self._decisions.get(question)
            if known is None:
                # questions name people and assets: a server meets many
                if len(self._decisions) > _DECISIONS_MAX:
                    self._decisions.clear()
                rules = (*DEFAULT, *manifest.policies)
                known = decide(rules, actor, verb, asset, env, context)
                self._decisions[question] = known
            found.append(known)
        return found[0] if len(found) == 1 else combine(found)

    def person_behind(self, actor: str) -> str | None:
        """Return who answers for an actor of the ledger; "" for the platform itself, None when it
        cannot be told: entries of earlier releases name a token and not its person."""
        kind, _, name = actor.partition(":")
        if kind == "system":
            return ""
        found = person_of(actor)
        if found and found not in {
            team.name for one in self._declared.manifests() for team in one.teams
        }:
            return found
        return self.person_of_token(kind, name.partition(" ")[0]) or found or None

    def is_own(self, by: Principal, actor: str) -> bool:
        """Say whether what an actor of the ledger made is `by`'s: he is it, or the person who
        answers for it. A token has nothing of the other tokens of its person."""
        return by.sender == actor_of(actor).sender or (
            by.is_oneself and self.person_behind(actor) == by.name
        )

    def answers_for(self, by: Principal, actor: str) -> bool:
        """Say whether one person stands behind both, however many tokens lie between: what the one
        did, the other does not judge."""
        return by.sender == actor_of(actor).sender or (
            bool(by.person) and self.person_behind(actor) == by.person
        )


def decide_as(
    manifest: Manifest, by: Principal, verb: str, asset: Asset | None, env: str
) -> Decision:
    """Return what the rules of a manifest would say, were it in force; of a deputy nothing is
    asked: he ends."""
    rules = (*DEFAULT, *manifest.policies)
    members = {team.name: team.members for team in manifest.teams}
    actor = msgspec.structs.replace(by, teams=_teams_in(members, by.name, by.teams))
    return decide(rules, actor, verb, asset, env)


def _has_deputies(manifest: Manifest) -> bool:
    return any(team.deputies for team in manifest.teams)


def _teams_in(
    members: Mapping[str, tuple[str, ...]], person: str, named: tuple[str, ...]
) -> tuple[str, ...]:
    listed = tuple(team for team in members if person in members[team])
    if listed:
        return tuple(team for team in listed if not named or team in named)
    return tuple(team for team in named if not members.get(team))


def known_names(state: State, manifest: Manifest) -> Known:
    """Return what the rules of a manifest may name: what it declares, and what there is."""
    observed = [msgspec.json.decode(row[1], type=Asset) for row in state.read("assets")]
    assets = (*manifest.assets, *observed)
    return Known(
        kinds=frozenset((*kinds(), *(asset.kind for asset in assets))),
        envs=frozenset((*manifest.environments, *(row[0] for row in state.read("envs")))),
        teams=frozenset((*(t.name for t in manifest.teams), *(a.owner for a in assets))),
    )
