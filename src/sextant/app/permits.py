"""Asks the rules about what a run, an undo or a release reaches, and records a broken glass."""

from collections.abc import Iterable, Mapping, Sequence

from sextant.authorization.decide import Decision, combine
from sextant.core import Core
from sextant.kernel.nouns import (
    Asset,
    Event,
    Manifest,
    Move,
    Principal,
)
from sextant.kernel.ports import Write
from sextant.ledger import signals
from sextant.release.publish import (
    NOTHING_MOVED,
    Decide,
    Moving,
)


def allowed(
    core: Core,
    by: Principal,
    verb: str,
    env: str,
    manifest: Manifest,
    ids: Iterable[str],
    break_glass: str,
    moving: Moving | None = None,
) -> list[str]:
    """Return the assets of which the broken glass passed a deny. Denied when `by` may not do it
    to one of them. `moving`: what is about to move of them, when that is known."""
    if verb == "check":
        core.project.check_environment(env)
    else:
        core.project.check_movable(env)
    governing = core.authorization.governing(env)
    glass = {"break_glass": bool(break_glass)}
    return [
        id_
        for id_ in sorted(ids)
        if core.authorization.allow(
            by,
            verb,
            manifest.asset(id_),
            env,
            {**moving[id_].facts(), **glass} if moving and id_ in moving else glass,
            governing,
        ).passed
    ]


def decider(
    core: Core, by: Principal, env: str, assets: Mapping[str, Asset], break_glass: str, intent: str
) -> Decide:
    def judge(moves: Sequence[Move], moving: Moving) -> Decision:
        governing = core.authorization.governing(env)
        decisions = {
            move.asset: core.authorization.decide(
                by,
                "release",
                assets.get(move.asset),
                env,
                {
                    **moving.get(move.asset, NOTHING_MOVED).facts(),
                    "intent": intent,
                    "break_glass": bool(break_glass),
                },
                governing,
            )
            for move in moves
        }
        denied = [
            core.events.make(
                "decision.denied",
                id_,
                {"verb": "release", "asset": id_, "env": env, "reasons": decision.reasons},
                by,
                "",
            )
            for id_, decision in decisions.items()
            if decision.verdict == "deny"
        ]
        if denied:
            core.state.commit(Write((), tuple(denied)))
        return combine(list(decisions.values()))

    return judge


def glass(
    core: Core,
    verb: str,
    env: str,
    assets: Sequence[Asset],
    reason: str,
    by: Principal,
    intent: str = "release",
    moving: Moving | None = None,
) -> list[Event]:
    """Breaking the glass leaves an event for each asset of which it passed a deny, and a signal
    for each owner, which stays open until someone has reviewed it."""
    if not reason:
        return []
    events = []
    for owner in sorted({asset.owner for asset in assets}):
        theirs = [asset for asset in assets if asset.owner == owner]
        passed = {
            asset.id: core.authorization.decide(
                by,
                verb,
                asset,
                env,
                {
                    **(moving or {}).get(asset.id, NOTHING_MOVED).facts(),
                    "intent": intent,
                    "break_glass": True,
                },
            ).passed
            for asset in theirs
        }
        rules = sorted({rule for names in passed.values() for rule in names})
        cause = ""
        for id_, names in passed.items():
            if names:
                events.append(
                    core.events.make(
                        "decision.overridden",
                        id_,
                        {
                            "verb": verb,
                            "asset": id_,
                            "env": env,
                            "rules": names,
                            "reason": reason,
                        },
                        by,
                        cause,
                    )
                )
                cause = cause or events[-1].id
        against = f", past the policy that denies it ({'; '.join(rules)})" if rules else ""
        message = (
            f"{by} broke the glass to {verb} {', '.join(passed)}{against}: {reason} (review "
            f"it; owner {owner or 'unknown'})"
        )
        events.append(
            core.events.signal(
                theirs[0].id,
                signals.GLASS,
                "error" if rules else "warn",
                message,
                env=env,
                evidence={"env": env, "rules": rules} if rules else {},
                by=by,
                cause=cause,
            )
        )
    return events
