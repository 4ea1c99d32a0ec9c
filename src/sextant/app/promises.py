"""What a release is expected to do to a business number, and, on the day, what it brought.

A promise is kept with a release, before anybody can know how it ends. When its time is over the
number of that time is derived without the release (`app/waterfall`): the difference is what it
brought, whatever else has moved the number. Called by `Operations` and by a loop of the server.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from sextant.app.derivation.number import decimal_text
from sextant.app.derivation.question import question
from sextant.app.plans import event_of
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.app.waterfall import waterfall
from sextant.core import Core
from sextant.kernel.answers import PromiseSeen, PromisesSeen, TeamPromises
from sextant.kernel.clock import NS, iso
from sextant.kernel.errors import Conflict, Denied, SextantError, UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import PROMISE_LATE_S, PROMISES_OPEN_MAX, PROMISES_PER_RELEASE
from sextant.kernel.nouns import Event, Principal, Release
from sextant.kernel.ports import Write
from sextant.kinds.kpi.measures import OF_A_DAY
from sextant.kinds.kpi.spec import KIND, measure_spec
from sextant.ledger import signals
from sextant.ledger.log import entries
from sextant.ledger.projections import PromiseMade, PromiseSettled
from sextant.release.releases import get_release

MISSED = "promise.missed"
_FORM = re.compile(
    r"\s*(?P<number>[A-Za-z0-9_:./@-]{1,200})\s+(?P<amount>[+-][0-9]{1,15}(\.[0-9]{1,12})?)(?P<percent>%?)"
    r"\s+in\s+(?P<within>[0-9.]{1,9}[smhdw])\s*"
)


def read_promise(core: Core, env: str, text: str) -> PromiseMade:
    """Return what `kpi:NAME -3% in 28d` promises, of no release yet. UsageError, NotFound."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            "SX-PROMISE-001",
            f"`{text[:80]}` is no promise",
            hint='as in --expects "kpi:revenue +3% in 28d", or "kpi:open_orders -250 in 2w"',
        )
    asset = core.assets.find(found["number"], env)
    if asset.kind != KIND:
        raise UsageError(
            "SX-PROMISE-002",
            f"`{asset.id}` is no business number",
            hint="`sextant graph` lists the assets; a KPI is declared with `sx.kpi`",
        )
    if not measure_spec(asset).grain:
        raise UsageError(
            "SX-PROMISE-003",
            f"`{asset.id}` has no values over a part of time",
            hint='give it a grain, as `grain="1d"`',
        )
    if not Decimal(found["amount"]):
        raise UsageError(
            "SX-PROMISE-004", "a promise of no change cannot be kept", hint="leave it out"
        )
    return PromiseMade(
        release="",
        asset="",
        env=env,
        owner="",
        kpi=asset.id,
        amount=found["amount"],
        relative=bool(found["percent"]),
        within_s=length_s(found["within"]),
        text=f"{asset.id} {found['amount']}{found['percent']} in {found['within']}",
    )


def make(core: Core, release: Release, texts: Sequence[str], by: Principal) -> list[PromiseSeen]:
    """Keep what a release is expected to do. Conflict once that can be seen, or is promised
    already."""
    env = release.moves[0].env
    wanted = [read_promise(core, env, text) for text in texts]
    made = [one for one, _ in _kept(core)[0] if one.release == release.id]
    live_at = _live_at(core, release.id)
    now = core.clock.now_ns()
    if live_at and now - live_at > PROMISE_LATE_S * NS:
        raise Conflict(
            "SX-PROMISE-005",
            f"release `{release.id}` is live since {iso(live_at)[:19]}Z: what it does can be seen",
            hint=f"promise within {PROMISE_LATE_S / 3600:g} hours",
        )
    if release.intent == "undo" or release.state in ("rejected", "superseded"):
        raise Conflict(
            "SX-PROMISE-006",
            f"release `{release.id}` brings nothing new: it is an undo, or has ended",
            hint="`sextant releases` lists those that do",
        )
    known = {one.kpi for one in made}
    for one in wanted:
        if one.kpi in known:
            raise Conflict(
                "SX-PROMISE-007",
                f"release `{release.id}` has promised what it does to `{one.kpi}`",
                hint="one promise for each number: `sextant promises` lists them",
            )
        known.add(one.kpi)
    if len(known) > PROMISES_PER_RELEASE or len(_open(core)) + len(wanted) > PROMISES_OPEN_MAX:
        raise UsageError(
            "SX-PROMISE-008",
            f"more than {PROMISES_PER_RELEASE} promises of one release, or {PROMISES_OPEN_MAX:,} "
            "that are open",
            hint="promise the numbers that it is made for",
        )
    # data and not the definition of a number that came along with it
    listed = [core.assets.known(move.asset, move.env) for move in release.moves]
    declared = next((one for one in listed if one is not None and not one.is_definition), listed[0])
    asset = declared.id if declared is not None else release.moves[0].asset
    full = [
        msgspec.structs.replace(
            one,
            release=release.id,
            asset=asset,
            owner=declared.owner if declared is not None else "",
        )
        for one in wanted
    ]
    cause = event_of(core, release.id)
    core.state.commit(
        Write(
            (),
            tuple(core.events.make("promise.made", release.id, one, by, cause) for one in full),
        )
    )
    return [_seen(core, one, None, str(by)) for one in full]


# ---------------------------------------------------------------- what it brought


def settle(runs: Runs, by: Principal, told: Progress | None = None) -> list[PromiseSeen]:
    """Say of each promise whose time is over what its release brought; one that was missed is a
    signal on what was released."""
    core = runs.core
    see = Visibility(runs.personal, sees_personal=False)  # everybody reads the report
    out = []
    for promise, actor in _open(core):
        live_at = _live_at(core, promise.release)
        if not live_at or core.clock.now_ns() < live_at + round(promise.within_s * NS):
            continue
        kpi = core.assets.known(promise.kpi, promise.env)
        try:
            core.authorization.allow(by, "derive", kpi, promise.env)
        except Denied:
            continue  # it stays open for whoever may
        settled = _settled(runs, see, promise, live_at, by, told)
        cause = event_of(core, promise.release)
        done = core.events.make("promise.settled", promise.release, settled, by, cause)
        events: list[Event] = [done]
        if settled.outcome in ("missed", "short"):
            events += signals.raise_signal(
                core.state,
                core.events,
                promise.asset,
                MISSED,
                "warn",
                f"{promise.text} was promised by {promise.release}, and it brought "
                f"{_amount(promise, settled.realised)}",
                env=promise.env,
                key=f"{promise.release} {promise.kpi}",
                evidence={"release": promise.release, "number": promise.kpi},
                by=by,
                cause=done.id,
            )
        core.state.commit(Write((), tuple(events)))
        out.append(_seen(core, promise, settled, actor))
    return out


def _settled(
    runs: Runs,
    see: Visibility,
    promise: PromiseMade,
    live_at: int,
    by: Principal,
    told: Progress | None,
) -> PromiseSettled:
    core = runs.core
    blank = PromiseSettled(release=promise.release, kpi=promise.kpi, outcome="unknown")
    if get_release(core.state, promise.release).state == "rolled_back":
        return msgspec.structs.replace(blank, outcome="taken back")
    live = entries(core.state.read, "events_of_both", (promise.release, "release.live", 1))
    try:
        before, after = _spans(core, promise, live_at)
        # as all was known just before it was live
        since = f"#{live[0].envelope.seq - 1}"
        asked = question(core, promise.env, promise.kpi, before, after, since, "", ())
        seen = waterfall(runs, see, asked, derive_as=by, told=told)
    except SextantError as error:
        return msgspec.structs.replace(blank, message=error.message)
    changes = [bar for bar in seen.get("bars", []) if bar["what"] != "movement"]
    bars = [bar for bar in changes if bar["release"] == promise.release]
    amount = sum((Decimal(bar["amount"]) for bar in bars), Decimal(0))
    # what the number had been with nothing changed since: later releases are not its doing
    without = Decimal(seen["after"]["value"]) - sum(Decimal(bar["amount"]) for bar in changes)
    is_apart = not any(bar["what"] == "together" for bar in changes)
    if not is_apart or (promise.relative and not without):
        return msgspec.structs.replace(
            blank, message="what it brought cannot be told apart from the rest", run=seen["run"]
        )
    realised = amount / without * 100 if promise.relative else amount
    realised = realised.quantize(Decimal("1e-6")) if promise.relative else realised
    sure = "proven" if all(bar["sure"] == "proven" for bar in bars) else "likely"
    return PromiseSettled(
        release=promise.release,
        kpi=promise.kpi,
        outcome=outcome_of(Decimal(promise.amount), realised),
        realised=decimal_text(realised),
        amount=decimal_text(amount),
        without=decimal_text(without),
        sure=sure,
        run=seen["run"],
    )


def outcome_of(promised: Decimal, realised: Decimal) -> str:
    """Return kept, short (the right way, not so far) or missed."""
    if promised * realised <= 0:
        return "missed"
    return "kept" if abs(realised) >= abs(promised) else "short"


def _spans(core: Core, promise: PromiseMade, live_at: int) -> tuple[str, str]:
    """Return the time of a promise, and as long a time before, as ISO 8601 intervals of the
    project's zone: whole days for numbers of days and longer."""
    asset = core.assets.find(promise.kpi, promise.env)
    zone = ZoneInfo(core.project.manifest(promise.env).tz)
    start = datetime.fromtimestamp(live_at // NS, zone).replace(tzinfo=None)
    length = timedelta(seconds=promise.within_s)
    if measure_spec(asset).grain in OF_A_DAY:
        start = start.replace(minute=0, second=0, microsecond=0)
    else:
        start = start.replace(hour=0, minute=0, second=0, microsecond=0)
        length = timedelta(days=max(1, round(promise.within_s / 86_400)))
    ends = [at.isoformat() for at in (start - length, start, start + length)]
    return f"{ends[0]}/{ends[1]}", f"{ends[1]}/{ends[2]}"


# ---------------------------------------------------------------- what is kept


def _kept(
    core: Core,
) -> tuple[list[tuple[PromiseMade, str]], dict[tuple[str, str], PromiseSettled]]:
    """Return all promises with who made them, the oldest first, and what became of those whose time
    is over, by release and number."""
    made, settled = [], {}
    for entry in entries(core.state.read, "events_of_promises", ()):
        if entry.is_erased:
            continue
        if entry.envelope.type == "promise.made":
            made.append((entry.read(PromiseMade), entry.envelope.actor))
        else:
            one = entry.read(PromiseSettled)
            settled[one.release, one.kpi] = one
    return made, settled


def _open(core: Core) -> list[tuple[PromiseMade, str]]:
    made, done = _kept(core)
    return [(one, by) for one, by in made if (one.release, one.kpi) not in done]


def _live_at(core: Core, release: str) -> int:
    """Return when a release became live (ns since 1970); 0 = it is not."""
    found = entries(core.state.read, "events_of_both", (release, "release.live", 1))
    return found[0].envelope.time if found else 0


# ---------------------------------------------------------------- the report


def promises(core: Core, *, team: str, env: str) -> PromisesSeen:
    """Return what was promised and what came of it, the newest first; and for each team how it
    keeps what it promises."""
    made, settled = _kept(core)
    listed = [
        _seen(core, promise, settled.get((promise.release, promise.kpi)), actor)
        for promise, actor in reversed(made)
        if team in ("", promise.owner) and env in ("", promise.env)
    ]
    by_team: dict[str, TeamPromises] = {}
    for one in listed:
        mine = by_team.setdefault(
            one["owner"],
            {"team": one["owner"], "open": 0, "kept": 0, "short": 0, "missed": 0, "other": 0},
        )
        word = one["outcome"] if one["outcome"] in ("open", "kept", "short", "missed") else "other"
        mine[word] += 1  # type: ignore[literal-required]
    return {"promises": listed, "teams": [by_team[name] for name in sorted(by_team)]}


def _seen(core: Core, promise: PromiseMade, settled: PromiseSettled | None, by: str) -> PromiseSeen:
    live_at = _live_at(core, promise.release)
    due = live_at + round(promise.within_s * NS) if live_at else 0
    return {
        "release": promise.release,
        "asset": promise.asset,
        "env": promise.env,
        "owner": promise.owner,
        "by": by,
        "number": promise.kpi,
        "promised": _amount(promise, promise.amount),
        "within_s": promise.within_s,
        "text": promise.text,
        "due_at": iso(due) if due else "",
        "outcome": settled.outcome if settled else "open",
        "realised": _amount(promise, settled.realised) if settled and settled.realised else "",
        "without": settled.without if settled else "",
        "sure": settled.sure if settled else "",
        "run": settled.run if settled else "",
        "message": settled.message if settled else "",
    }


def _amount(promise: PromiseMade, text: str) -> str:
    if not text:
        return "nothing that can be told"
    sign = "" if text.startswith(("+", "-")) else "+"
    return f"{sign}{text}{'%' if promise.relative else ''}"
