"""Reads manifests as they are stored, also those that an older Sextant made."""

import msgspec

from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Asset, Manifest
from sextant.ledger.upcast import with_spec

MANIFEST_VERSION = 4  # goes up when the shape of a manifest, or of an asset in it, changes


class _Version(msgspec.Struct):
    v: int = 1


def read_manifest(data: bytes) -> Manifest:
    """Return a stored manifest. ProjectError when a newer Sextant made it."""
    version = msgspec.json.decode(data, type=_Version).v
    if version == MANIFEST_VERSION:
        return msgspec.json.decode(data, type=Manifest)
    if version > MANIFEST_VERSION:
        raise ProjectError(
            "SX-PROJ-092",
            f"the project's manifest has version {version}, this Sextant reads versions up to "
            f"{MANIFEST_VERSION}",
            hint="install the newer sextant-ops that loaded the project",
        )
    if version == 3:  # the queries were not kept
        return msgspec.json.decode(data, type=Manifest)
    older = msgspec.json.decode(data)
    if version == 1:
        older["assets"] = [with_spec(asset) for asset in older.get("assets", [])]
    named = Asset(
        kind="project", name=older["project"], owner=older.get("owner", ""), tier=1, keep="400d"
    )
    older["assets"] = [*older.get("assets", []), msgspec.to_builtins(named)]
    return msgspec.json.decode(msgspec.json.encode(older, order="deterministic"), type=Manifest)
