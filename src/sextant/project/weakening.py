"""What of a declaration watches less, or lets more happen, than it did before. Pure.

What every asset has is compared here; a kind adds what only it knows (`Authored.weaker`,
`Authored.asks_as_much`). Where it cannot be told which of two is weaker, they are taken to be: who
reads it decides.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sextant.authorization.conditions import Token, tokens
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
            if name not in before.follows and name in before.environments
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
        if old.then == "allow" and (new is None or new.then != "allow"):
            continue  # less happens
        if new is None:
            if not any(_is_under_another_name(old, one) for one in now.values()):
                yield Weaker(of, "policy", f"is gone: {_says(old)} when {old.when}")
            continue
        if _SAYS[new.then] < _SAYS[old.then]:
            yield Weaker(of, "policy", f"{_says(old)} -> {_says(new)}")
        elif old.then == new.then == "approval" and (
            new.approvals < old.approvals or old.of not in ("", new.of)
        ):
            yield Weaker(of, "approval", f"{_says(old)} -> {_says(new)}")
        if old.absolute and not new.absolute and new.then == "deny":
            yield Weaker(of, "absolute", "a broken glass passes it")
        if _condition(old) != _condition(new):
            yield Weaker(of, "policy", f"when {old.when} -> {new.when}")
    for name in now.keys() - then.keys():
        if now[name].then == "allow" and not any(
            _is_under_another_name(old, now[name]) for old in then.values()
        ):
            yield Weaker(f"policy {name}", "policy", f"is new: allows when {now[name].when}")


def _is_under_another_name(old: Rule, new: Rule) -> bool:
    """Say whether a rule says the same as one that is gone."""
    said = (old.then, old.approvals, old.of, old.absolute, _condition(old))
    return said == (new.then, new.approvals, new.of, new.absolute, _condition(new))


def _condition(rule: Rule) -> list[Token] | str:
    """Return what a rule's condition says: comments and white space do not count."""
    try:
        return tokens(rule.when)
    except ValueError:
        return rule.when


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
        elif team.members and (new := sorted({*now[team.name]} - {*team.members})):
            yield Weaker(of, "members", f"has {', '.join(new)} too")


def _checks(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    """Each check of before must be asked for by those of now, at least as strictly."""
    kind = authored(before.kind) if before.kind in kinds() else None
    for old in before.checks:
        word = kind.said_by(before, old) if kind else "check"
        found = _check(before.kind, old, after.checks, word) if word else []
        if found and kind and (apart := list(kind.apart(old))):
            parts = [one for part in apart for one in _check(before.kind, part, after.checks, word)]
            # of one that is written as several, where only some are weaker: those
            is_several = found[0][0] == word and word not in {said for said, _ in parts}
            if not parts or (is_several and not _tolerated(old)):
                found = parts
        yield from found


def _check(
    kind: str, old: CheckSpec, checks: Sequence[CheckSpec], word: str
) -> list[tuple[str, str]]:
    """Return how what one check asked for is not asked for any more. `word`: the author's for it"""
    alike = [new for new in checks if new.check == old.check]
    asks = authored(kind).asks_as_much if kind in kinds() else is_same
    same = [list(_how(kind, old, new)) for new in alike if asks(old, new)]
    if same:  # the one that is weaker in least
        return min(same, key=len)
    named = [new for new in alike if new.name == old.name or _column(new) == _column(old)]
    if named:
        return [(word, f"{old.name} -> {named[0].name}: {_differs(old, named[0])}")]
    return [(word, f"{old.name} is gone")]


def _how(kind: str, old: CheckSpec, new: CheckSpec) -> Iterator[tuple[str, str]]:
    """Yield how a check that asks for the same is weaker."""
    if old.severity == "error" and new.severity == "warn":
        yield "severity", f"{old.name}: error -> warn"
    if _tolerated(new) > _tolerated(old):
        yield "tolerate", f"{old.name}: {_tolerated(old):g} -> {_tolerated(new):g}"
    if old.scope != new.scope and not (kind in kinds() and authored(kind).sees_as_much(old, new)):
        yield "scope", f"{old.name}: {old.scope} -> {new.scope}"


def _tolerated(check: CheckSpec) -> float:
    return float(check.params.get("tolerate", 0.0))


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
    followed = before.follows_inputs and before.build is not None and before.build.inputs
    if followed and not after.follows_inputs:
        yield "on", "does not follow its inputs any more"
    elif followed and (was := _cooldown(before)) < (now := _cooldown(after)):
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
    is_own = not after.defined_by  # values have these of what defines them: it is said there
    if is_own and before.owner and before.owner != after.owner:
        yield "owner", f"{before.owner} -> {after.owner or 'nobody'}"
    if is_own and before.tier < after.tier:
        yield "tier", f"{before.tier} -> {after.tier}"
    if before.on_change == "rebuild" and after.on_change == "report":
        yield "on_change", "rebuild -> report"
    if before.build is None or after.build is None:
        return
    if before.build.durability == "strict" and after.build.durability != "strict":
        yield "durability", f"strict -> {after.build.durability}"
    for name in sorted(set(after.build.secrets.values()) - set(before.build.secrets.values())):
        yield "secret", f"reads {name}"


# nothing is said of which of two is more careful where they are equal
_CAREFUL: Mapping[str, int] = {"publish": 0, "direct": 0, "blue_green": 1, "shadow": 2, "canary": 2}


def _rollout(before: Asset, after: Asset) -> Iterator[tuple[str, str]]:
    old, new = before.release, after.release
    was, now = _CAREFUL[old.kind], _CAREFUL[new.kind]
    if now < was or (now == was > 0 and old.kind != new.kind):
        yield "release", f"{old.kind} -> {new.kind}"
    elif old.kind == new.kind:
        # each step reaches no more than the one that stood in its place
        if len(new.steps) < len(old.steps) or any(
            one > other for one, other in zip(new.steps, old.steps, strict=False)
        ):
            yield "release", f"steps {old.steps} -> {new.steps}"
        if new.step_s < old.step_s:
            yield "release", f"each step {old.step_s:g} s -> {new.step_s:g} s"
