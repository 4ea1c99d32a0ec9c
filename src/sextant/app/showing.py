"""One asset, and what differs between two of its states, or between two environments: what is said
of every kind, with what a kind adds."""

import contextlib
from typing import Any

import msgspec

from sextant.app import lists
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.kernel.answers import ProfileSeen
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound, UsageError, UserError
from sextant.kernel.kinds import shown
from sextant.kernel.nouns import Asset, Release, Version, values_by_definition
from sextant.ledger.versions import changed
from sextant.release.as_of import version_as_of


def show(
    core: Core,
    see: Visibility,
    env: str,
    name: str,
    *,
    as_of: str = "",
    limit: int = 20,
    partition: str = "",
) -> dict[str, Any]:
    """Return an asset's facts and the first rows of a version."""
    asset = core.assets.find(name)
    facts: dict[str, Any] = {
        "asset": asset.id,
        "owner": asset.owner,
        "tier": asset.tier,
        "mode": asset.mode,
        "description": asset.description,
        "tags": list(asset.tags),
        "file": f"{asset.file}:{asset.line}" if asset.file else "",
        "checks": [
            {"name": c.name, "severity": c.severity, "scope": c.scope} for c in asset.checks
        ],
        "inputs": [i.asset for i in asset.build.inputs] if asset.build else [],
    }
    if asset.mode == "observed":
        facts["reports"] = lists.events(core, see, subject=asset.id, limit=20).items
        return facts
    version = version_as_of(core, env, asset.id, as_of)
    parts = core.versions.parts(asset.id, version.digest)
    facts |= {
        "version": version.digest,
        "created_at": iso(version.created_at),
        "run": version.run,
        "rows": version.rows,
        "size_bytes": version.size_bytes,
        "partitions": len(parts),
        "schema": [list(column) for column in version.schema],
        "made_from": version.inputs,
        "locator": version.locator,
        "refused": [see.text(one, asset.id) for one in version.meta.get("refused", [])],
    }
    return facts | shown(asset.kind, core, see).describe(
        env, asset, version, limit=limit, partition=partition
    )


def diff(core: Core, see: Visibility, env: str, one: str, other: str = "") -> dict[str, Any]:
    """Return what differs between two states, each `asset`, `asset@version`, `asset@time` or
    `asset@env:name`.

    other   a version of the same asset may be named alone; "" = what is live, and an `asset`
            alone is then compared with what was live before
    Result  schema, partitions, and rows by key (counts and samples)
    """
    asset, before = _state(core, env, one)
    asset_b, after = _state(
        core,
        env,
        other
        if "@" in other or ":" in other
        else f"{asset.id}@{other}"
        if other not in ("", asset.name)
        else asset.id,
    )
    if not other and "@" not in one:
        before = _live_before(core, env, asset)
    if asset.id != asset_b.id:
        raise UserError(
            "SX-DIFF-001",
            f"`{asset.id}` and `{asset_b.id}` are two assets",
            hint="compare two versions of one",
        )
    a, b = (
        core.versions.parts(asset.id, before.digest),
        core.versions.parts(asset.id, after.digest),
    )
    differs, gone = changed(
        {k: msgspec.structs.replace(v, code="", inputs="") for k, v in a.items()},
        {k: msgspec.structs.replace(v, code="", inputs="") for k, v in b.items()},
    )
    touched = sorted({*differs, *gone})
    out: dict[str, Any] = {
        "asset": asset.id,
        "before": before.digest,
        "after": after.digest,
        "partitions": touched,
    }
    return out | shown(asset.kind, core, see).compare(asset, before, after, touched)


def profile(
    core: Core,
    see: Visibility,
    env: str,
    name: str,
    *,
    as_of: str = "",
    span: tuple[str, str] | None = None,
    against: str = "",
) -> ProfileSeen:
    """Return what the values of each column of a version are like.

    span     first and last partition; None = all
    against  another version, as `as_of`; `before` = what was live before, or what the version that
             `as_of` names was made over
    """
    asset = core.assets.find(name)
    version = version_as_of(core, env, asset.id, as_of) if asset.mode != "observed" else None
    before = None
    if version is not None and against == _BEFORE:
        if not as_of:
            before = _live_before(core, env, asset)
        elif version.parent:
            before = core.versions.get(asset.id, version.parent)
        else:
            raise NotFound(
                "SX-VERSION-010",
                f"version `{version.digest[:12]}` of `{asset.id}` was made over no other",
                hint=f"`sextant versions {asset.id}` lists those to compare it with",
            )
    elif version is not None and against:
        before = version_as_of(core, env, asset.id, against)
    found = (
        shown(asset.kind, core, see).profile(asset, version, before, span)
        if version is not None
        else {}
    )
    if not found:
        raise UsageError(
            "SX-VERSION-011",
            f"`{asset.id}` has no columns",
            hint="profiles are of datasets; the values of a KPI are the dataset `kpi_NAME`",
        )
    return {"asset": asset.id, "env": env, **found}  # type: ignore[typeddict-item]


_BEFORE = "before"


def _live_before(core: Core, env: str, asset: Asset) -> Version:
    """Return what was live before the live version."""
    move = core.versions.source_of(env, asset.id)
    if move is None or not move.source:
        raise NotFound(
            "SX-VERSION-009",
            f"the live version of `{asset.id}` is the first in `{env}`: there is nothing to "
            "compare it with",
            hint=f"`sextant versions {asset.id}` lists all there are",
        )
    return core.versions.get(asset.id, move.source)


def _state(core: Core, env: str, text: str) -> tuple[Asset, Version]:
    name, _, at = text.partition("@")
    asset = core.assets.find(name)
    if at.startswith("env:"):
        core.project.check_environment(at.removeprefix("env:"))
        return asset, version_as_of(core, at.removeprefix("env:"), asset.id, "")
    return asset, version_as_of(core, env, asset.id, at)


def env_diff(core: Core, see: Visibility, one: str, other: str) -> dict[str, Any]:
    """Return what differs between two environments: per asset versions, partitions and rows;
    KPI values where both have them."""
    core.project.check_environment(one)
    core.project.check_environment(other)
    a, b = core.versions.live(one), core.versions.live(other)
    assets = []
    for id_ in sorted({*a, *b}):
        before, after = a[id_].version if id_ in a else "", b[id_].version if id_ in b else ""
        if before == after:
            continue
        entry: dict[str, Any] = {"asset": id_, "before": before, "after": after}
        left, right = _version(core, id_, before), _version(core, id_, after)
        entry["code_changed"] = bool(left and right and left.code != right.code)
        entry |= shown(id_.partition(":")[0], core, see).difference(id_, left, right)
        assets.append(entry)
    kpis, differ = [], {entry["asset"] for entry in assets}
    declared = core.project.manifest(other).assets
    values = values_by_definition(declared)
    for asset in declared:
        if values.get(asset.id) in differ:
            of = shown(asset.kind, core, see)
            kpis.append(
                {
                    asset.kind: asset.id,
                    "before": of.total(one, asset),
                    "after": of.total(other, asset),
                }
            )
    return {"before": one, "after": other, "assets": assets, "kpis": kpis}


def declared_changes(core: Core, see: Visibility, release: Release) -> dict[str, Any]:
    """Return what a release changes of what is declared - the project, KPIs, boards - by asset."""
    out: dict[str, Any] = {}
    for move in release.moves:
        asset = core.assets.known(move.asset, move.env)
        if asset is not None and asset.is_definition:
            left, right = (_version(core, asset.id, one) for one in (move.source, move.target))
            with contextlib.suppress(NotFound):  # of a version that is not stored any more
                out[asset.id] = shown(asset.kind, core, see).difference(asset.id, left, right)
    return out


def _version(core: Core, asset: str, digest: str) -> Version | None:
    return core.versions.get(asset, digest) if digest else None
