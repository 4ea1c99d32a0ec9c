"""Takes back what one actor did since a time: every release of his, newest first, each asset to
what it was before.

A plan comes first, and names what cannot be taken back; what is then done must be that plan. Each
release is undone by itself, so an undo that broke off is asked for again and goes on with what is
left. At the end what reads the assets, and was made meanwhile by others, is derived again.
"""

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from sextant.app import permits
from sextant.app.instants import instant
from sextant.app.runs import Runs
from sextant.engine import plan as planning
from sextant.engine.plan import Request
from sextant.kernel.answers import ReleaseSummary, UndoDone, UndoItem, UndoPlan, UndoReport
from sextant.kernel.errors import Conflict, NotFound, SextantError
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import PAGE_ROWS_MAX
from sextant.kernel.nouns import (
    Asset,
    Move,
    Part,
    Principal,
    Release,
    person_of,
    values_by_definition,
)
from sextant.ledger.log import entries
from sextant.ledger.versions import changed

_FAR = 1 << 62
# What people do that no release is about, and that has no undo.
_LEFT = (
    "env.created",
    "env.dropped",
    "payload.erased",
    "rows.dropped",
    "version.unheld",
    "signal.closed",
    "incident.changed",
    "incident.closed",
    "token.created",
    "token.handed",
    "token.revoked",
    "account.created",
    "account.disabled",
    "ledger.key_rotated",
    "release.reported",
    "run.reported",
    "check.reported",
)


class _Simulated:
    """The live parts and definitions of assets, as they are while releases are taken back."""

    def __init__(self, runs: Runs) -> None:
        self._versions = runs.core.versions
        self._parts: dict[tuple[str, str], dict[str, Part]] = {}
        self._pointers: dict[tuple[str, str], str] = {}

    def pointer(self, move: Move) -> str:
        key = (move.env, move.asset)
        if key not in self._pointers:
            self._pointers[key] = self._versions.live_version(*key)
        return self._pointers[key]

    def redefine(self, move: Move) -> None:
        self._pointers[move.env, move.asset] = move.source

    def _of(self, move: Move) -> tuple[dict[str, Part], Mapping[str, Part], Mapping[str, Part]]:
        """Return the parts that are live, those before a move and those after it."""
        key = (move.env, move.asset)
        if key not in self._parts:
            live = self._versions.live_version(*key)
            self._parts[key] = dict(self._versions.parts(move.asset, live)) if live else {}
        before = self._versions.parts(move.asset, move.source) if move.source else {}
        return self._parts[key], before, self._versions.parts(move.asset, move.target)

    def take_back(self, move: Move) -> list[str]:
        """Take a move of rows back; return the partitions that a later release changed again, with
        nothing changed then."""
        now, before, bad = self._of(move)
        differs, gone = changed(before, bad)
        touched = [*differs, *gone]
        again = [name for name in touched if _digest(now.get(name)) != _digest(bad.get(name))]
        if not again:
            for name in touched:
                if name in before:
                    now[name] = before[name]
                else:
                    now.pop(name, None)
        return sorted(again)


def undo_plan(runs: Runs, who: str, since: str, env: str) -> UndoPlan:
    """Return what would be taken back of what an actor did since a time, newest first. Changes
    nothing. NotFound when he did nothing; UsageError for what is no time.

    who    `person:ann`, or the name of a person: also what his tokens and agents did
    since  a time, or a length of time back from now
    env    "" = every environment
    """
    start = instant(runs.core, since)
    found, undone = _releases(runs, who, start, env)
    left = _left(runs, who, start)
    if not found and not left:
        raise NotFound(
            "SX-UNDO-006",
            f"`{who}` has done nothing since {since}",
            hint="`sextant ledger show` says who did what; names are as there: person:ann",
        )
    items: list[UndoItem] = []
    simulated = _Simulated(runs)
    for release in found:
        items += _items(runs, release, simulated, undone)
    done = [item for item in items if not item.problem]
    text = msgspec.json.encode([(one.release, one.asset, one.action) for one in done])
    return UndoPlan(
        who=who,
        since=start,
        env=env,
        impossible=tuple(item for item in items if item.problem),
        items=tuple(done),
        left=left,
        digest=hashlib.sha256(text).hexdigest(),
    )


def undo_by(
    runs: Runs, who: str, since: str, env: str, *, plan: str, reason: str, by: Principal
) -> UndoReport:
    """Do what a plan says; an item that fails is reported, and the others go on. Denied when the
    policy forbids any of it; Conflict when it is not the plan of now."""
    now = undo_plan(runs, who, since, env)
    for name in {item.env for item in now.items}:  # refused as a whole, before anything is done
        assets = {item.asset for item in now.items if item.env == name}
        manifest = runs.core.project.manifest(name)
        permits.allowed(runs.core, by, "rollback", name, manifest, assets, "")
    if plan != now.digest:
        raise Conflict(
            "SX-UNDO-007",
            "this is not what would be undone now",
            hint="look at the plan again: `sextant undo` without --plan shows it",
        )
    done = [_undo(runs, item, reason, by) for item in now.items]
    ran = []
    for name in dict.fromkeys(one.item.env for one in done if not one.error):
        undone = {one.item.asset for one in done if one.item.env == name and not one.error}
        _lift_marks(runs, name, undone, by)
        ran += _derive_again(runs, name, undone, by)
    return UndoReport(plan=now, done=tuple(done), runs=tuple(ran))


def _is_by(actor: str, who: str) -> bool:
    return who in (actor, actor.partition(":")[2], person_of(actor))


def _releases(
    runs: Runs, who: str, start: int, env: str
) -> tuple[list[Release], set[tuple[str, str]]]:
    """Return an actor's releases since an instant, newest first, and which assets of which releases
    somebody has undone since."""
    theirs: list[Release] = []
    undone: set[tuple[str, str]] = set()
    last, id_ = _FAR, ""
    while rows := runs.core.state.read(
        "releases_page", (last, last, id_, env, env, "", "", "", "", PAGE_ROWS_MAX)
    ):
        for _, doc, created_at in rows:
            if created_at < start:
                return theirs, undone
            release = msgspec.json.decode(doc, type=Release)
            if release.undoes and release.state == "live":
                undone |= {(release.undoes, move.asset) for move in release.moves}
            if _is_by(release.by, who):
                theirs.append(release)
        id_, _, last = rows[-1]
    return theirs, undone


def _left(runs: Runs, who: str, start: int) -> dict[str, int]:
    """Return what else an actor did, by the type of event: no undo takes it back."""
    found: dict[str, int] = {}
    for type_ in _LEFT:
        for entry in entries(runs.core.state.read, "events_of_type", (type_,)):
            if entry.envelope.time >= start and _is_by(entry.envelope.actor, who):
                found[type_] = found.get(type_, 0) + 1
    return found


def _items(
    runs: Runs, release: Release, simulated: _Simulated, undone: set[tuple[str, str]]
) -> Iterator[UndoItem]:
    """Yield what is to be done about a release, asset by asset: what stands on others first. What
    was undone of it is not; the rest may be live still."""
    if release.state in ("rejected", "superseded", "undoing") or release.taken_back:
        return
    manifest = runs.core.project.manifest(release.moves[0].env if release.moves else "")
    assets = {asset.id: asset for asset in manifest.assets}
    if release.state not in ("live", "rolled_back"):
        is_rolling = release.state in ("rolling", "paused", "stuck")
        for move in release.moves:
            yield _item(release, move, "abort" if is_rolling else "refuse")
        return
    places = {asset.id: place for place, asset in enumerate(planning.order(manifest))}
    values = {id_: definition for definition, id_ in values_by_definition(manifest.assets).items()}
    moved = {move.asset for move in release.moves}
    # definitions go first, with the values that they made
    ordered = sorted(release.moves, key=lambda m: -places.get(m.asset, 1 << 30))
    for move in ordered:
        if (release.id, move.asset) in undone:
            continue
        problem = _problem(runs, release, move, assets, simulated)
        if problem or values.get(move.asset) not in moved:
            yield _item(release, move, "undo", problem)


def _problem(
    runs: Runs,
    release: Release,
    move: Move,
    assets: Mapping[str, Asset],
    simulated: _Simulated,
) -> str:
    """Return why a live move cannot be taken back, "" when it can; it is then, in the
    simulation."""
    asset = assets.get(move.asset)
    if asset is None:
        return "it is not in the project any more"
    if release.intent == "undo":
        return (
            "it was an undo itself: `sextant release ASSET VERSION --unhold`, then a release of "
            "that version, brings back what it took"
        )
    if move.source and runs.core.state.read("version_expired_is", (move.asset, move.source)):
        return "the rows of the version before have expired"
    if asset.is_definition:
        if not move.source:
            return "it had no earlier definition: remove it from the project instead"
        if simulated.pointer(move) != move.target:
            return "a later release defined it again"
        simulated.redefine(move)
        return ""
    if takes_time(move.asset) and not move.source:
        return "it had no earlier version"
    again = simulated.take_back(move)
    if not again:
        return ""
    more = f" and {len(again) - 3} more" if len(again) > 3 else ""
    return f"later releases changed the same: {', '.join(again[:3])}{more}"


def _item(release: Release, move: Move, action: str, problem: str = "") -> UndoItem:
    return UndoItem(
        env=move.env,
        asset=move.asset,
        release=release.id,
        action=action,
        version=move.target,
        before=move.source,
        by=release.by,
        at=release.created_at,
        problem=problem,
    )


def _undo(runs: Runs, item: UndoItem, reason: str, by: Principal) -> UndoDone:
    try:
        if item.action == "undo":
            report = runs.undo(
                item.env,
                item.asset,
                by=by,
                reason=reason,
                version=item.version,
                release=item.release,
                downstream=False,
            )
            return UndoDone(item=item, releases=report.releases)
        runs.releases.abort(item.release, by, reason)
        after = ReleaseSummary.of(runs.driving.work(item.release))
        return UndoDone(item=item, releases=(after,))
    except SextantError as error:
        return UndoDone(item=item, error=error.message, code=error.code)


def _lift_marks(runs: Runs, env: str, undone: set[str], by: Principal) -> None:
    """Lift the mark of versions that are live again: who went back to what was there before, and on
    again, made the good one a version that was taken back."""
    core = runs.core
    for asset in sorted(undone):
        live = core.versions.live_version(env, asset)
        if live and core.state.read("withdrawn_is", (env, asset, live)):
            runs.releases.unhold(env, asset, live, by)


def _derive_again(runs: Runs, env: str, undone: set[str], by: Principal) -> list[str]:
    """Derive what stands on these assets again, by the code and definitions that made what is live:
    those of today may be what was to be undone. Return the runs."""
    core = runs.core
    manifest = core.project.manifest(env)
    readers = tuple(
        asset.id
        for asset in manifest.assets
        if asset.build and any(bound.asset in undone for bound in asset.build.inputs)
    )
    if not readers:
        return []
    try:
        plan = runs.plan(env, Request(assets=readers, asked=False, look_back=False, undo=True))
        values = values_by_definition(manifest.assets)
        other = {values.get(one.asset, one.asset) for one in plan.definitions}
        for step in plan.steps:
            live = core.versions.live_version(env, step.asset)
            parts = core.versions.parts(step.asset, live) if live else {}
            if any(_code(parts.get(item.partition)) != item.code for item in step.items):
                other.add(step.asset)
        same = tuple({step.asset: None for step in plan.steps if step.asset not in other})
        if not same:
            return []
        request = Request(assets=same, downstream=False, asked=False, look_back=False)
        report = runs.run(env, request, by=by, trigger="undo", resume=False, pinned=True)
    except SextantError:  # the next run finds the changed inputs
        return []
    return [report.id] if report.id else []


def _code(part: Part | None) -> str:
    return part.code if part else ""


def _digest(part: Part | None) -> str:
    return part.digest if part else ""
