"""Who or what may do which verb on which asset under which condition: one pure function in front of
every verb.

Rules are data with CEL conditions over known fields (`FIELDS`); a misspelt field is an error when
the rule is loaded. A deny wins over an approval, an approval over an allow, and where no rule
speaks the answer is no (fail closed). Approvals of several teams are needed all. A broken glass
passes approvals and denies, and the answer names the denies that it passed; it does not pass an
absolute deny, and gives nobody what no rule would allow him.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Asset, Need, Principal, Rule

VERBS = (
    "run",
    "release",
    "rollback",
    "approve",
    "check",
    "report",
    "env",
    "erase",
    "backup",
    "unhold",
    "collect",
    "rotate",
    "repair",
    "signal",
    "push",
    "drop",
)
FIELDS: dict[str, tuple[str, ...]] = {
    "verb": (),
    "env": (),
    "asset": ("id", "kind", "name", "owner", "tier", "mode"),
    "principal": ("name", "kind", "teams", "on_behalf_of", "role"),
    "context": (
        "intent",
        "break_glass",
        "checks_failed",
        "rows",
        "partitions",
        "withdrawn_elsewhere",
    ),
}

# The written default: people and their tokens may do everything on what Sextant manages; agents
# need a person's eyes in prod; nobody publishes a version of what another tool manages. An undo
# asks for no more than a release.
DEFAULT: tuple[Rule, ...] = (
    Rule(
        name="people and tokens may operate what Sextant manages",
        when="principal.kind in ['person', 'token', 'system']",
        then="allow",
    ),
    Rule(
        name="agents may operate outside of prod, and undo anywhere",
        when="principal.kind == 'agent' && (env != 'prod' || verb == 'rollback')",
        then="allow",
    ),
    Rule(
        name="an agent's release to prod is seen by a person",
        when="principal.kind == 'agent' && env == 'prod' && verb != 'rollback'",
        then="approval",
        approvals=1,
    ),
    Rule(
        name="what another tool manages is reported, not released",
        when="asset.mode == 'observed' && verb in ['run', 'release', 'rollback']",
        then="deny",
        absolute=True,
    ),
    Rule(name="viewers look", when="principal.role == 'viewer'", then="deny", absolute=True),
    Rule(
        name="a person breaks the glass, not an agent",
        when="principal.kind == 'agent' && context.break_glass",
        then="deny",
        absolute=True,
    ),
    Rule(
        name="what is live of a team's assets is moved by that team, or an administrator",
        when=(
            "principal.role == 'operator' && asset.owner != '' && !(asset.owner in "
            "principal.teams) && verb in ['release', 'rollback', 'unhold', 'drop']"
        ),
        then="deny",
    ),
)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy says: `allow`, `deny`, or `approval` by all of `needs`. `reasons`: the rules'
    names; `passed`: of the denies that a broken glass passed."""

    verdict: str
    reasons: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    passed: tuple[str, ...] = ()


def decide(
    rules: Iterable[Rule],
    principal: Principal,
    verb: str,
    asset: Asset | None,
    environment: str,
    context: Mapping[str, Any] | None = None,
) -> Decision:
    """Return what the rules say to `principal` doing `verb` on `asset` in `environment`. Pure;
    never raises for a rule that cannot be evaluated: that is a deny with the reason."""
    facts = _facts(principal, verb, asset, environment, context or {})
    allows: list[str] = []
    asks: list[Rule] = []
    denies: list[tuple[str, bool]] = []  # what it says, whether it is absolute
    for rule in rules:
        try:
            speaks = compiled(rule.when).execute(facts) is True
        except Exception as error:
            denies.append(
                (f"{rule.name}: its condition cannot be evaluated: {error}", rule.absolute)
            )
            continue
        if speaks and rule.then == "deny":
            denies.append((rule.name, rule.absolute))
        elif speaks and rule.then == "approval":
            asks.append(rule)
        elif speaks:
            allows.append(rule.name)
    glass = bool(facts["context"]["break_glass"])
    blocking = [name for name, absolute in denies if absolute or not glass]
    if blocking:
        return Decision(verdict="deny", reasons=tuple(blocking))
    undo = verb == "rollback" or facts["context"]["intent"] == "undo"
    if asks and not glass and not undo:
        needs = together(Need(count=max(1, rule.approvals), of=rule.of) for rule in asks)
        return Decision(verdict="approval", reasons=tuple(rule.name for rule in asks), needs=needs)
    if allows or asks:
        return Decision(
            verdict="allow", reasons=tuple(allows), passed=tuple(name for name, _ in denies)
        )
    return Decision(verdict="deny", reasons=(f"no rule allows `{principal}` to {verb}",))


def together(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Return one need for each team, the largest that is asked of it."""
    most: dict[str, Need] = {}
    for need in needs:
        if need.of not in most or need.count > most[need.of].count:
            most[need.of] = need
    return tuple(most.values())


def combine(decisions: Sequence[Decision]) -> Decision:
    """Return what several decisions come to, for what happens all at once or not at all: one deny
    denies, all needs are needed."""
    for verdict in ("deny", "approval", "allow"):
        said = [one for one in decisions if one.verdict == verdict]
        if said:
            reasons = tuple(dict.fromkeys(reason for one in said for reason in one.reasons))
            passed = tuple(dict.fromkeys(name for one in decisions for name in one.passed))
            return Decision(
                verdict=verdict,
                reasons=reasons,
                needs=together(need for one in said for need in one.needs),
                passed=passed,
            )
    return Decision(verdict="deny", reasons=("nothing was decided",))


def wanted(needs: Iterable[Need]) -> str:
    """Return whose approvals are missing, as words: `2 of ops, 1 of security`."""
    return ", ".join(
        f"{need.count - len(need.by)} of {need.of or 'anybody else'}"
        for need in needs
        if not need.is_met
    )


def check_rules(rules: Sequence[Rule]) -> None:
    """Refuse rules that do not compile or that name unknown fields. ProjectError with
    `file:line`."""
    for rule in rules:
        where = f"{rule.file}:{rule.line}" if rule.file else f"policy `{rule.name}`"
        try:
            program = compiled(rule.when)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ProjectError(
                "SX-POLICY-010",
                f"the condition of policy `{rule.name}` is not CEL: {str(error).splitlines()[0]}",
                hint="example: verb == 'release' && asset.tier == 1",
                where=where,
            ) from error
        for name in program.variables():
            if name not in FIELDS:
                raise ProjectError(
                    "SX-POLICY-011",
                    f"policy `{rule.name}` names `{name}`, which is not known",
                    hint=_near(name, FIELDS),
                    where=where,
                )
        facts = _facts(Principal(name="x"), "release", None, "prod", {})
        for name in _members(rule.when):
            head, _, field = name.partition(".")
            if head in FIELDS and FIELDS[head] and field not in FIELDS[head]:
                raise ProjectError(
                    "SX-POLICY-011",
                    f"policy `{rule.name}` names `{name}`, which is not known",
                    hint=_near(field, FIELDS[head]),
                    where=where,
                )
        try:
            program.execute(facts)
        except Exception as error:
            raise ProjectError(
                "SX-POLICY-012",
                f"the condition of policy `{rule.name}` fails on a plain case: {error}",
                where=where,
            ) from error


def _members(text: str) -> list[str]:
    import re

    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    return re.findall(r"\b(?:asset|principal|context)\.[A-Za-z_]\w*", bare)


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(names)}"


def _facts(
    principal: Principal,
    verb: str,
    asset: Asset | None,
    environment: str,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    it = asset or Asset(kind="", name="")
    return {
        "verb": verb,
        "env": environment,
        "asset": {
            "id": it.id if asset else "",
            "kind": it.kind,
            "name": it.name,
            "owner": it.owner,
            "tier": it.tier,
            "mode": it.mode,
        },
        "principal": {
            "name": principal.name,
            "kind": principal.kind,
            "teams": list(principal.teams),
            "on_behalf_of": principal.on_behalf_of,
            "role": principal.role,
        },
        "context": {
            "intent": "release",
            "break_glass": False,
            "checks_failed": 0,
            "rows": 0,
            "partitions": 0,
            "withdrawn_elsewhere": False,
            **context,
        },
    }


@lru_cache(maxsize=1024)
def compiled(when: str) -> Any:
    """Return the compiled condition. ValueError for text that is not CEL."""
    import cel

    return cel.compile(when)
