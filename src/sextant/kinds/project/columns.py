"""What differs between two recorded versions of the project, with the columns that its code does
not make any more, as far as runs have shown it."""

import msgspec

from sextant.core import Core
from sextant.kernel.kinds import kinds
from sextant.kernel.nouns import Asset, Manifest, Version
from sextant.kinds.project.changes import Changes, changes

_LOOKED_AT = 20  # newest versions of an asset


def changes_of(core: Core, source: str, target: str) -> Changes:
    """Return what differs between two versions; `source` "" = there was none."""
    before = core.project.manifest_of(source) if source else None
    after = core.project.manifest_of(target)
    return changes(before, after, lost_columns(core, before, after))


def lost_columns(
    core: Core, before: Manifest | None, after: Manifest
) -> dict[str, tuple[str, ...]]:
    """Return asset -> columns that its code made, and that are gone, or of another type, in what
    its new code made, in whatever environment. Nothing is known of code that has not run yet."""
    found = {}
    for asset in before.assets if before else ():
        new = after.asset(asset.id)
        if new is None or new.kind not in kinds() or _code(new) == _code(asset):
            continue
        had, has = _made_by(core, asset), _made_by(core, new)
        if had is None or has is None:
            continue
        now = dict(has.schema)
        lost = tuple(name for name, type_ in had.schema if now.get(name) != type_)
        if lost:
            found[asset.id] = lost
    return found


def _code(asset: Asset) -> str:
    return asset.build.code.fingerprint if asset.build else ""


def _made_by(core: Core, asset: Asset) -> Version | None:
    """Return the newest version that an asset's code has made."""
    for row in core.state.read("versions", (asset.id, 1 << 62, _LOOKED_AT)):
        version = msgspec.json.decode(row[1], type=Version)
        if version.code == _code(asset):
            return version
    return None
