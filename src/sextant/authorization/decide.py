"""Who or what may do which verb on which asset under which condition: one pure function in front of
every verb.

Rules are data with CEL conditions over known fields (`FIELDS`); a misspelt field or value, and a
fact that no verb of the condition has (`FACT_VERBS`), is an error when the rule is loaded. A deny
wins over an approval, an approval over an allow, and where no rule speaks the answer is no (fail
closed). Approvals of several teams are needed all. A broken glass
passes approvals and denies, and the answer names the denies that it passed; it does not pass an
absolute deny, and gives nobody what no rule would allow him.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args, get_type_hints

import msgspec

from sextant.authorization import conditions
from sextant.kernel import kinds
from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import ASSET_KINDS, Asset, Need, Principal, Rule

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
    "derive",
    "inspect",
    "rotate",
    "pin",
    "repair",
    "signal",
    "push",
    "drop",
    "link",
    "checkpoint",
    "token",
    "hand",
    "account",
)
FIELDS: dict[str, tuple[str, ...]] = {
    "verb": (),
    "env": (),
    "asset": ("id", "kind", "name", "owner", "tier", "mode"),
    "principal": ("name", "kind", "teams", "on_behalf_of", "role", "root", "makers"),
    "context": (
        "intent",
        "break_glass",
        "checks_failed",
        "rows",
        "partitions",
        "withdrawn_elsewhere",
        "own",
    ),
}

# The verbs at which a fact is known; at the others it is empty, 0 or false, and `own` true. The
# policy is asked twice: before it is planned what moves, and with what is about to move.
FACT_VERBS: dict[str, tuple[str, ...]] = {
    "intent": ("run", "release", "rollback"),
    "break_glass": ("run", "release", "rollback"),
    "partitions": ("run", "release", "rollback"),
    "rows": ("release", "rollback"),
    "checks_failed": ("release", "rollback"),
    "withdrawn_elsewhere": ("release", "rollback"),
    "own": ("env", "drop", "report"),
}
_MOVES = ("release", "rollback")  # at which the facts that kinds bring are known
_NAMES_SHOWN = 20
_INTENTS = {"run": "release", "release": "release", "rollback": "undo"}

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
    Rule(
        name="viewers look, and make tokens that do",
        when="principal.role == 'viewer' && verb != 'token'",
        then="deny",
        absolute=True,
    ),
    Rule(
        name="a person breaks the glass, not an agent",
        when="principal.kind == 'agent' && context.break_glass",
        then="deny",
        absolute=True,
    ),
    Rule(
        name="a person, not an agent, says who somebody is, and tends ledger and bytes",
        when=(
            "principal.kind == 'agent' && verb in ['account', 'hand', 'erase', 'rotate', 'pin', "
            "'repair', 'collect', 'inspect', 'backup']"
        ),
        then="deny",
        absolute=True,
    ),
    Rule(
        name="what a team owns is moved, filled and reported on by it, or an administrator",
        when=(
            "principal.role == 'operator' && asset.owner != '' && !(asset.owner in "
            "principal.teams) && verb in ['release', 'rollback', 'unhold', 'drop', 'push', "
            "'report', 'link', 'signal']"
        ),
        then="deny",
    ),
    Rule(
        name="what feeds an asset of the project is said by its team, or an administrator",
        when=(
            "principal.role == 'operator' && verb == 'link' && asset.mode == 'managed' && "
            "!(asset.owner in principal.teams)"
        ),
        then="deny",
    ),
    Rule(
        name="what others made is dropped or claimed by its team, or an administrator",
        when=(
            "principal.role == 'operator' && !context.own && verb in ['env', 'drop', 'report'] && "
            "!(asset.owner in principal.teams && verb == 'drop')"
        ),
        then="deny",
    ),
)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to name in a condition, beside the verbs.

    kinds   of assets that are declared or were observed; those that ship are known anyway
    envs    declared by the project, or created since
    teams   declared, or owners of something
    """

    kinds: frozenset[str] = frozenset()
    envs: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()


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


def matches(
    rule: Rule,
    principal: Principal,
    verb: str,
    asset: Asset | None,
    environment: str,
    context: Mapping[str, Any],
) -> bool:
    """Say whether a rule speaks, or cannot be evaluated: `decide` denies then."""
    try:
        value = compiled(rule.when).execute(_facts(principal, verb, asset, environment, context))
    except Exception:
        return True
    return value is True


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


def check_rules(rules: Sequence[Rule], known: Known) -> None:
    """Refuse rules that do not compile, that name a field or a value which is not known, or that
    can never match. ProjectError with `file:line`."""
    for rule in rules:
        where = f"{rule.file}:{rule.line}" if rule.file else f"policy `{rule.name}`"
        try:
            program = compiled(rule.when)
            node = conditions.parse(rule.when)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ProjectError(
                "SX-POLICY-010",
                f"the condition of policy `{rule.name}` is not CEL: {str(error).splitlines()[0]}",
                hint="example: verb == 'release' && asset.tier == 1",
                where=where,
            ) from error
        unknown = set(program.variables()) - FIELDS.keys() - set(conditions.bound_names(node))
        _check_fields(rule, [*sorted(unknown), *conditions.fields(node)], unknown, where)
        _check_literals(rule, node, known, where)
        _check_facts(rule, node, where)
        try:
            value = program.execute(_facts(Principal(name="x"), "release", None, "prod", {}))
        except Exception as error:
            raise ProjectError(
                "SX-POLICY-012",
                f"the condition of policy `{rule.name}` fails on a plain case: {error}",
                where=where,
            ) from error
        if not isinstance(value, bool):
            raise ProjectError(
                "SX-POLICY-015",
                f"the condition of policy `{rule.name}` is neither true nor false: it would never "
                "match",
                hint="compare something: asset.tier == 1",
                where=where,
            )


def _check_fields(rule: Rule, paths: Iterable[str], unknown: Collection[str], where: str) -> None:
    for path in paths:
        head, _, rest = path.partition(".")
        field = rest.partition(".")[0]
        if head in unknown:
            named, hint = head, _near(head, FIELDS)
        elif FIELDS.get(head) and field and field not in (known := _fields(head)):
            named, hint = f"{head}.{field}", _near(field, known)
        else:
            continue  # it is known, or a function, or what a macro calls an element
        raise ProjectError(
            "SX-POLICY-011",
            f"policy `{rule.name}` names `{named}`, which is not known",
            hint=hint,
            where=where,
        )


def _check_literals(rule: Rule, node: conditions.Node, known: Known, where: str) -> None:
    teams = (known.teams, "declare it: sx.team('NAME', members=[...])")
    env = (
        "declare it in sx.project(environments=[...]) or create it first; for environments that "
        "come and go there is env.startsWith('pr-')"
    )
    kind = "asset.id.startsWith('KIND:') holds for kinds that are yet to be observed"
    values: dict[str, tuple[Collection[str], str]] = {
        "verb": (VERBS, ""),
        "env": (known.envs, env),
        "asset.kind": (known.kinds | set(ASSET_KINDS), kind),
        "asset.mode": (_choices(Asset, "mode"), ""),
        "asset.owner": teams,
        "principal.teams": teams,
        "principal.kind": (_choices(Principal, "kind"), ""),
        "principal.role": (("viewer", "operator", "admin"), ""),
        "context.intent": (("release", "undo"), ""),
    }
    for field, literal in conditions.comparisons(node):
        names, otherwise = values.get(field, ((), ""))
        if field not in values or literal in names or not literal:
            continue
        hint = _near(literal, sorted(names))
        raise ProjectError(
            "SX-POLICY-013",
            f"policy `{rule.name}` compares `{field}` with '{literal}', which is not known: it "
            "would never match",
            hint=f"{hint}; {otherwise}" if otherwise else hint,
            where=where,
        )


def _check_facts(rule: Rule, node: conditions.Node, where: str) -> None:
    verbs = frozenset(VERBS)
    if not conditions.possible_verbs(node, verbs):
        raise ProjectError(
            "SX-POLICY-014",
            f"policy `{rule.name}` can never match: no verb fulfils its condition",
            hint="verb in ['release', 'rollback'] holds for either",
            where=where,
        )
    for path, asked in conditions.read_under(node, verbs):
        _, _, fact = path.partition("context.")
        known = FACT_VERBS.get(fact) or (_MOVES if fact in kinds.facts() else ())
        if known and asked.isdisjoint(known):
            raise ProjectError(
                "SX-POLICY-014",
                f"policy `{rule.name}` asks for `{path}` at {', '.join(sorted(asked))}, where it "
                "is not known",
                hint=f"it is known at {', '.join(known)}",
                where=where,
            )


def _fields(head: str) -> tuple[str, ...]:
    """Return the fields of something that a condition names; facts are what kinds bring too."""
    return (*FIELDS[head], *kinds.facts()) if head == "context" else FIELDS[head]


def _choices(noun: type, field: str) -> tuple[str, ...]:
    return get_args(get_type_hints(noun)[field])


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"known are {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "none is known"


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
            "root": principal.person,
            "makers": list(principal.makers),
        },
        "context": {
            "intent": _INTENTS.get(verb, ""),
            "break_glass": False,
            "checks_failed": 0,
            "rows": 0,
            "partitions": 0,
            "withdrawn_elsewhere": False,
            "own": True,
            **kinds.facts(),
            **context,
        },
    }


@lru_cache(maxsize=1024)
def compiled(when: str) -> Any:
    """Return the compiled condition. ValueError for text that is not CEL."""
    import cel

    return cel.compile(when)
