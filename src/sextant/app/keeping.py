"""Which bytes are kept, and the end of the others: the record stays, rows and files go. Called by
`sextant gc` and, on a schedule, by the coordinator, while runs go on.

Kept is a version that a pointer names, that an open release moves, whose undo window (`keep` of the
asset) has not passed, or that a kept version was made from. A version expires first; its files go
with a later collection, when no run is left that could have begun to use them.
"""

import contextlib
from collections.abc import Sequence

import msgspec

from sextant.core import Core
from sextant.engine.bodies import blob_of, blobs_of
from sextant.engine.history import Record
from sextant.engine.leases import Leases
from sextant.kernel.answers import Collected
from sextant.kernel.clock import NS
from sextant.kernel.errors import Busy, Conflict, SextantError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import EXPIRED_PER_WRITE
from sextant.kernel.nouns import SYSTEM, Event, Manifest, Principal, Version
from sextant.kernel.ports import Statement, Write
from sextant.ledger.log import entries
from sextant.ledger.projections import VersionRelocated, stored_run
from sextant.project.bundles import Bundles
from sextant.release.releases import open_releases

_FAR = 1 << 62
_GRACE_S = 3600.0  # files younger than this may belong to a run that has not recorded them yet
_BUNDLE_S = 86400.0  # unpacked bundles stay a day after their last use
_WINDOW = "30d"  # undo window of an asset that the project no longer declares
_LEASE = "collect"  # one collection at a time
_COLLECTED_AT = "collected_at"  # when the last one ended, in `meta`
# events that say where a version lies
_LOCATED = ("version.created", "version.reused", "version.restored", "version.relocated")
_Gone = tuple[str, str, str]  # asset, digest, locator


def kept(core: Core, manifests: Sequence[Manifest]) -> set[tuple[str, str]]:
    """Return (asset, digest) of every version whose bytes are kept: so long as one of `manifests`
    says, those in force somewhere."""
    now = core.clock.now_ns()
    out = {(row[1], row[2]) for row in core.state.read("pointers_all")}
    for release in open_releases(core.state):
        out |= {
            (move.asset, digest)
            for move in release.moves
            for digest in (move.source, move.target)
            if digest
        }
    left: dict[tuple[str, str], int] = {}
    for asset, digest, _, created in core.state.read("versions_kept"):
        left[(asset, digest)] = int(created)
    for asset, digest, at in core.state.read("versions_left"):
        key = (asset, digest)
        if key in left:  # a version's window begins when it stops being live
            left[key] = max(left[key], int(at))
    windows: dict[str, int] = {}
    for (asset, digest), since in left.items():
        if asset not in windows:
            declared = [found for one in manifests if (found := one.asset(asset)) is not None]
            words = [found.keep for found in declared] or [_WINDOW]
            windows[asset] = int(max(map(length_s, words)) * NS)
        if since + windows[asset] > now:
            out.add((asset, digest))
    stack = list(out)
    while stack:
        asset, digest = stack.pop()
        rows = core.state.read("version_get", (asset, digest))
        for upstream in (
            msgspec.json.decode(rows[0][0], type=Version).inputs if rows else {}
        ).items():
            if upstream not in out:
                out.add(upstream)
                stack.append(upstream)
    return out


def collect(
    core: Core,
    bundles: Bundles,
    *,
    history: str = "",
    dry_run: bool = False,
    by: Principal | None = None,
) -> Collected:
    """Expire versions that nothing keeps, delete files and blobs that nothing names any more, prune
    run history older than `history`. Busy while another process collects."""
    if dry_run:
        gone = _gone(core, kept(core, core.project.manifests()))
        return _answer(gone, _old_runs(core, history) if history else [], 0)
    by = by or core.authorization.who()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Leases(core.state, core.ids.new("gc"), [_LEASE]))
        except Busy as error:
            raise Busy(
                "SX-KEEP-001",
                "another process collects what nothing keeps",
                hint="wait for it to end",
                retry_after_s=error.retry_after_s,
            ) from error
        return _collect(core, bundles, history, by)


def collect_when_due(core: Core, bundles: Bundles, every_s: float) -> Collected | None:
    """Collect as the platform itself when the last collection, whoever asked for it, ended
    `every_s` ago. None when it is not due, or another process is at it."""
    last = core.state.read("meta_get", (_COLLECTED_AT,))
    if last and core.clock.now_ns() - int(last[0][0]) < every_s * NS:
        return None
    core.authorization.allow(SYSTEM, "collect", None, "")
    try:
        return collect(core, bundles, by=SYSTEM)
    except Busy:
        return None


def _collect(core: Core, bundles: Bundles, history: str, by: Principal) -> Collected:
    keep = kept(core, core.project.manifests())
    expired = _expire(core, _gone(core, keep), by)
    pruned = _old_runs(core, history) if history else []
    if pruned:
        core.state.commit(Write(tuple(Statement("history_prune", (run,)) for run in pruned)))
    # what open runs have staged is named nowhere yet
    running = [int(row[4]) for row in core.state.read("runs_open")]
    before = min([core.clock.now_ns() - int(_GRACE_S * NS), *running])
    locators = {row[2] for row in core.state.read("versions_kept") if row[2]}
    located = locators | _in_use(core, before, locators)
    bodies = blobs_of(located)
    in_lake = {locator for locator in located if not blob_of(locator)}
    freed = core.lake.collect(in_lake, older_than_ns=before)
    freed += _blobs(core, before, bodies)
    freed += bundles.collect(min(before, core.clock.now_ns() - int(_BUNDLE_S * NS)))
    core.state.commit(Write((Statement("meta_set", (_COLLECTED_AT, str(core.clock.now_ns()))),)))
    return _answer(expired, pruned, freed)


def _answer(gone: Sequence[_Gone], pruned: list[str], freed: int) -> Collected:
    return {
        "expire": [f"{asset}@{digest[:12]}" for asset, digest, _ in gone],
        "prune_runs": pruned,
        "freed_bytes": freed,
    }


def _gone(core: Core, keep: set[tuple[str, str]]) -> list[_Gone]:
    return [
        (asset, digest, locator)
        for asset, digest, locator, _ in core.state.read("versions_kept")
        if (asset, digest) not in keep
    ]


def _expire(core: Core, gone: Sequence[_Gone], by: Principal) -> list[_Gone]:
    """Expire versions, each only if nothing has taken it up since it was judged. Returns those that
    expired; the others are judged again by the next collection."""
    out: list[_Gone] = []
    waiting = [
        gone[start : start + EXPIRED_PER_WRITE] for start in range(0, len(gone), EXPIRED_PER_WRITE)
    ]
    while waiting:
        some = waiting.pop()
        try:
            core.state.commit(_expiry(core, some, by))
        except Conflict:
            if len(some) > 1:  # one of them is in use again: the halves tell which
                half = len(some) // 2
                waiting += [some[:half], some[half:]]
            continue
        out += some
    return sorted(out)


def _expiry(core: Core, gone: Sequence[_Gone], by: Principal) -> Write:
    unused = tuple(
        Statement(
            "version_unused",
            one,
            1,
            f"version `{one[1][:12]}` of `{one[0]}` was taken up meanwhile",
        )
        for one in gone
    )
    events: list[Event] = [
        core.events.make(
            "version.expired", f"{asset}@{digest}", VersionRelocated(asset, digest, locator), by, ""
        )
        for asset, digest, locator in gone
    ]
    return Write(unused, tuple(events))


def _in_use(core: Core, since: int, named: set[str]) -> set[str]:
    """Return the states that a run which was open at `since`, or has begun after it, may have read
    and that are not `named` any more: of versions that have expired since, and the earlier files of
    versions that were merged or made again since."""
    found = {row[0] for row in core.state.read("versions_expired_since", (since,)) if row[0]}
    for (subject,) in core.state.read("located_since", (since,) * 4):
        for entry in entries(core.state.read, "events_of_subject", (subject, _FAR, _FAR)):
            if entry.envelope.type in _LOCATED and not entry.is_erased:
                data = entry.read(_Located)
                found |= {data.locator, data.version.locator} - {""}
    out = set()
    for locator in found - named:
        if blob_of(locator):
            out.add(locator)
            continue
        with contextlib.suppress(SextantError):  # gone, or damaged and made again
            core.lake.files(locator)
            out.add(locator)
    return out


class _Locator(msgspec.Struct, frozen=True):
    locator: str = ""


class _Located(msgspec.Struct, frozen=True):
    """What an event says of a version's place: in `version` when it was created, else itself."""

    locator: str = ""
    version: _Locator = _Locator()


def _old_runs(core: Core, history: str) -> list[str]:
    before = core.clock.now_ns() - int(length_s(history) * NS)
    runs = (stored_run(row[3]) for row in core.state.read("runs", (before, 1 << 30)))
    return [run.id for run in runs if run.finished_at and run.finished_at < before]


def _blobs(core: Core, before: int, bodies: set[str]) -> int:
    """Delete blobs that neither a version of the project, a log nor a sample of the kept history
    names, and that are no body of a version that is kept."""
    named = bodies | core.project.blobs()
    for row in core.state.read("history_all"):
        record = msgspec.json.decode(row[0], type=Record)
        if record.log:
            named.add(record.log)
    for row in core.state.read("check_results_all"):
        sample = msgspec.json.decode(row[0]).get("samples", "")
        if sample:
            named.add(sample)
    named |= {row[0] for row in core.state.read("inbox_blobs")}
    return core.blobs.collect(named, older_than_ns=before)
