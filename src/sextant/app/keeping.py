"""Which bytes are kept, and the end of the others: the record stays, rows and files go.

Kept is a version that a pointer names, that an open release moves, whose undo window (`keep` of the
asset) has not passed, or that a kept version was made from.
"""

from typing import TYPE_CHECKING

import msgspec

from sextant.app.answers import Collected
from sextant.engine.history import Record
from sextant.kernel.clock import NS
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import Asset, Manifest, Principal, Version
from sextant.kernel.ports import Statement, Write
from sextant.ledger.projections import ProjectLoaded, RunChanged, VersionRelocated

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_FAR = 1 << 62
_GRACE_S = 3600.0  # files younger than this may belong to a run that has not recorded them yet
_BUNDLE_S = 86400.0  # unpacked bundles stay a day after their last use
_WINDOW = "30d"  # undo window of an asset that the project no longer declares


def kept(p: "LocalPlatform", manifest: Manifest) -> set[tuple[str, str]]:
    """Return (asset, digest) of every version whose bytes are kept."""
    now = p.clock.now_ns()
    out = {(row[1], row[2]) for row in p.state.read("pointers_all")}
    for release in p.releases.open():
        out |= {
            (move.asset, digest)
            for move in release.moves
            for digest in (move.source, move.target)
            if digest
        }
    left: dict[tuple[str, str], int] = {}
    for asset, digest, _, created in p.state.read("versions_kept"):
        left[(asset, digest)] = int(created)
    for doc in p.state.read("releases", (_FAR, 1 << 30)):
        from sextant.kernel.nouns import Release

        release = msgspec.json.decode(doc[0], type=Release)
        for move in release.moves:  # a version's window begins when it stops being live
            key = (move.asset, move.source)
            if key in left:
                left[key] = max(left[key], release.changed_at)
    windows: dict[str, int] = {}
    for (asset, digest), since in left.items():
        if asset not in windows:
            declared = manifest.asset(asset)
            windows[asset] = int(
                length_s(declared.keep if isinstance(declared, Asset) else _WINDOW) * NS
            )
        if since + windows[asset] > now:
            out.add((asset, digest))
    stack = list(out)
    while stack:
        asset, digest = stack.pop()
        rows = p.state.read("version_get", (asset, digest))
        for upstream in (
            msgspec.json.decode(rows[0][0], type=Version).inputs if rows else {}
        ).items():
            if upstream not in out:
                out.add(upstream)
                stack.append(upstream)
    return out


def collect(
    p: "LocalPlatform", *, history: str = "", dry_run: bool = False, by: Principal | None = None
) -> Collected:
    """Expire versions that nothing keeps, delete their files and unreferenced blobs, prune run
    history older than `history`."""
    manifest = p.manifest()
    keep = kept(p, manifest)
    gone, locators = [], []
    for asset, digest, locator, _ in p.state.read("versions_kept"):
        if (asset, digest) in keep:
            if locator:
                locators.append(locator)
        else:
            gone.append((asset, digest, locator))
    pruned = _old_runs(p, history) if history else []
    if dry_run:
        return {
            "expire": [f"{asset}@{digest[:12]}" for asset, digest, _ in gone],
            "prune_runs": pruned,
            "freed_bytes": 0,
        }
    by = by or p.who()
    p.allow(by, "collect", None, "")
    events = [
        p.event(
            "version.expired", f"{asset}@{digest}", VersionRelocated(asset, digest, locator), by, ""
        )
        for asset, digest, locator in gone
    ]
    still = [
        Statement(
            "pointed_at",
            (asset, digest),
            0,
            f"version `{digest[:12]}` of `{asset}` was released meanwhile: collect again",
        )
        for asset, digest, _ in gone
    ]
    p.state.commit(
        Write((*still, *(Statement("history_prune", (run,)) for run in pruned)), tuple(events))
    )
    running = [
        int(row[4]) for row in p.state.read("runs_open")
    ]  # what they have staged is named nowhere yet
    before = min([p.clock.now_ns() - int(_GRACE_S * NS), *running])
    freed = p.lake.collect(locators, older_than_ns=before)
    freed += _blobs(p, before)
    freed += p.collect_bundles(min(before, p.clock.now_ns() - int(_BUNDLE_S * NS)))
    return {
        "expire": [f"{asset}@{digest[:12]}" for asset, digest, _ in gone],
        "prune_runs": pruned,
        "freed_bytes": freed,
    }


def _old_runs(p: "LocalPlatform", history: str) -> list[str]:
    before = p.clock.now_ns() - int(length_s(history) * NS)
    runs = (
        msgspec.json.decode(row[3], type=RunChanged)
        for row in p.state.read("runs", (before, 1 << 30))
    )
    return [run.id for run in runs if run.finished_at and run.finished_at < before]


def _blobs(p: "LocalPlatform", before: int) -> int:
    """Delete blobs that neither a manifest, a bundle, a log nor a sample of the kept history
    names."""
    named: set[str] = set()
    for _, _, _, body in p.state.read("events_of_type", ("project.loaded",)):
        if body is not None:
            data = msgspec.json.decode(body, type=ProjectLoaded)
            named |= {
                data.manifest,
                str(msgspec.json.decode(data.bundle).get("blob", "")) if data.bundle else "",
            }
    for row in p.state.read("history_all"):
        record = msgspec.json.decode(row[0], type=Record)
        if record.log:
            named.add(record.log)
    for row in p.state.read("check_results_all"):
        sample = msgspec.json.decode(row[0]).get("samples", "")
        if sample:
            named.add(sample)
    named |= {row[0] for row in p.state.read("inbox_blobs")}
    return p.blobs.collect(named, older_than_ns=before)
