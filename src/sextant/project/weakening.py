"""What of a declaration watches less, or lets more happen, than it did before. Pure.

What every asset has is compared here; a kind adds what only it knows (`Authored.weaker`,
`Authored.asks_as_much`). Where it cannot be told which of two is weaker, they are taken to be: who
reads it decides.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sextant.kernel.kinds import authored, kinds
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import Asset, CheckSpec, Manifest, Rule

_SAYS = {"allow": 0, "approval": 1, "deny": 2}


class Weaker(NamedTuple):
    """One thing that became weaker.

    of    the asset, or what it is called: `policy no Friday releases`, `team ops`
    word  the author's word for it: `check`, `tolerate`, `keep` ...
    text  what was, and what is
    """

    of: str
    word: str
    text: str


def weaker_project(before: Manifest, after: Manifest) -> list[Weaker]:
    """Return what of a project is weaker than before."""
    found = [
        *_rules(before.policies, after.policies),
        *_people(before, after),
        *(
            Weaker(f"environment {name}", "follows", "has what the folder has at once, unreleased")
            for name in after.follows
            if name not in before.follows
        ),
        *(
            Weaker(
                f"environment {name}", "environments", "is not declared any more: can be dropped"
            )
            for name in before.environments
            if name not in after.environments
        ),
    ]
    now = {asset.id: asset for asset in after.assets}
    for asset in before.assets:
        if asset.id in now:
            found += weaker_asset(asset, now[asset.id])
    return found


def weaker_asset(before: Asset, after: Asset) -> list[Weaker]:
    """Return what of an asset is weaker than before."""
    id_ = before.id
    said = [
        *_checks(before, after),
        *_times(before, after),
        *_settings(before, after),
        *_rollout(before, after),
    ]
    if before.kind in kinds():
        said += authored(before.kind).weaker(before, after)
    return [Weaker(id_, word, text) for word, text in said]


def _rules(before: Iterable[Rule], after: Iterable[Rule]) -> Iterator[Weaker]:
    then = {rule.name: rule for rule in before}
    now = {rule.name: rule for rule in after}
    for name, old in then.items():
        new = now.get(name)
        of = f"policy {name}"
        if new is None:
            if old.then != "allow":
                yield Weaker(of, "policy", f"is gone: {_says(old)} when {old.when}")
            continue
        if _SAYS[new.then] < _SAYS[old.then]:
            yield Weaker(of, "policy", f"{_says(old)} -> {_says(new)}")
        elif old.then == new.then == "approval" and (
            new.approvals < old.approvals or new.of != old.of
        ):
            yield Weaker(of, "approval", f"{_says(old)} -> {_says(new)}")
        if old.absolute and not new.absolute and new.then == "deny":
            yield Weaker(of, "absolute", "a broken glass passes it")
        if old.when != new.when:
            yield Weaker(of, "policy", f"when {old.when} -> {new.when}")
    for name in now.keys() - then.keys():
        if now[name].then == "allow":
            yield Weaker(f"policy {name}", "policy", f"is new: allows when {now[name].when}")


def _says(rule: Rule) -> str:
    if rule.then == "approval":
        return f"asks {rule.approvals} of {rule.of or 'anybody else'}"
    return {"deny": "denies", "allow": "allows"}[rule.then]


def _people(before: Manifest, after: Manifest) -> Iterator[Weaker]:
    now = {team.name: team.members for team in after.teams}
    stand_in = {team.name: team.deputies for team in after.teams}
    for team in before.teams:
        of = f"team {team.name}"
        for person, last in stand_in.get(team.name, {}).items():
            if person not in team.members and last > team.deputies.get(person, ""):
                yield Weaker(of, "deputies", f"has {person} until {last}")
        if team.name not in now:
            if team.members:
                yield Weaker(of, "team", f"is gone: {', '.join(team.members)}")
            continue
        if team.members and not now[team.name]:
            yield Weaker(of, "members", "lists nobody: whoever has a token of it is in it")
        elif new := [name for name in now[team.name] if name not in team.members]:
            yield Weaker(of, "members", f"has {', '.join(new)} too")


def _checks(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    """Each check of before must be asked for by one of now, at least as strictly."""
    asks = authored(before.kind).asks_as_much if before.kind in kinds() else is_same
    for old in before.checks:
        alike = [new for new in after.checks if new.check == old.check]
        same = [new for new in alike if asks(old, new)]
        if any(not list(_how(old, new)) for new in same):
            continue
        if same:  # the one that is weaker in least
            yield from min((list(_how(old, new)) for new in same), key=len)
            continue
        named = [new for new in alike if new.name == old.name or _column(new) == _column(old)]
        if named:
            yield "check", f"{old.name} -> {named[0].name}: {_differs(old, named[0])}"
        else:
            yield "check", f"{old.name} is gone"


def _how(old: CheckSpec, new: CheckSpec) -> Iterator[tuple[str, str]]:
    """Yield how a check that asks for the same is weaker."""
    if old.severity == "error" and new.severity == "warn":
        yield "severity", f"{old.name}: error -> warn"
    was, now = old.params.get("tolerate", 0.0), new.params.get("tolerate", 0.0)
    if now > was:
        yield "tolerate", f"{old.name}: {was:g} -> {now:g}"
    if old.scope != new.scope and (old.scope, new.scope) != ("partition", "table"):
        yield "scope", f"{old.name}: {old.scope} -> {new.scope}"


def is_same(old: CheckSpec, new: CheckSpec) -> bool:
    """Say whether two checks ask for the same, whatever they tolerate."""
    return _asked(old) == _asked(new)


def _asked(check: CheckSpec) -> dict[str, object]:
    return {name: value for name, value in check.params.items() if name != "tolerate"}


def _column(check: CheckSpec) -> object:
    return check.params.get("column", check.params.get("columns", check.name))


def _differs(old: CheckSpec, new: CheckSpec) -> str:
    was, now = _asked(old), _asked(new)
    words = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return ", ".join(f"{name} {was.get(name)} -> {now.get(name)}" for name in words)


def _times(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    crons = [trigger.cron for trigger in after.on if trigger.kind == "cron"]
    for trigger in before.on:
        if trigger.kind == "cron" and trigger.cron not in crons:
            yield "on", f"the schedule {trigger.cron} {_instead(crons)}"
    if before.follows_inputs and not after.follows_inputs:
        yield "on", "does not follow its inputs any more"
    elif before.follows_inputs and (was := _cooldown(before)) < (now := _cooldown(after)):
        yield "cooldown", f"{was:g} s -> {now:g} s"
    if _seconds(after.keep) < _seconds(before.keep):
        yield "keep", f"{before.keep} -> {after.keep}"
    if _seconds(after.lookback) < _seconds(before.lookback):
        yield "lookback", f"{before.lookback} -> {after.lookback or 'none'}"


def _instead(crons: list[str]) -> str:
    return f"-> {', '.join(crons)}" if crons else "is gone"


def _cooldown(asset: Asset) -> float:
    return max(
        (trigger.cooldown_s for trigger in asset.on if trigger.kind == "inputs"), default=0.0
    )


def _seconds(length: str) -> float:
    return length_s(length) if length else 0.0


def _settings(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    if before.owner != after.owner:
        yield "owner", f"{before.owner or 'nobody'} -> {after.owner or 'nobody'}"
    if before.tier < after.tier:
        yield "tier", f"{before.tier} -> {after.tier}"
    if before.on_change == "rebuild" and after.on_change == "report":
        yield "on_change", "rebuild -> report"
    if before.build is None or after.build is None:
        return
    if before.build.durability == "strict" and after.build.durability != "strict":
        yield "durability", f"strict -> {after.build.durability}"
    for name in sorted(set(after.build.secrets.values()) - set(before.build.secrets.values())):
        yield "secret", f"reads {name}"


def _rollout(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    careful: Mapping[str, int] = {
        "publish": 0,
        "direct": 0,
        "blue_green": 1,
        "shadow": 1,
        "canary": 2,
    }
    old, new = before.release, after.release
    if careful[new.kind] < careful[old.kind]:
        yield "release", f"{old.kind} -> {new.kind}"
    elif old.kind == new.kind == "canary":
        if new.steps[0] > old.steps[0] or len(new.steps) < len(old.steps):
            yield "release", f"steps {old.steps} -> {new.steps}"
        if new.step_s < old.step_s:
            yield "release", f"each step {old.step_s:g} s -> {new.step_s:g} s"
