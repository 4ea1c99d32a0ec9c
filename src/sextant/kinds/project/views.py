"""What people see of a version of the project."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.core import Core
from sextant.kernel.kinds import NothingShown
from sextant.kernel.nouns import Asset, Version
from sextant.kinds.project.columns import changes_of
from sextant.project.versions import ProjectVersion


class ShownProject(NothingShown):
    """What a version is made of, and how two differ."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def describe(
        self,
        env: str,
        asset: Asset,  # noqa: ARG002
        version: Version,
        *,
        limit: int,  # noqa: ARG002
        partition: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return commit, files that it does not have, bundle and lock, what the version declares,
        and whether the environment follows the folder."""
        known = msgspec.json.decode(version.spec, type=ProjectVersion)
        manifest = self._core.project.manifest_of(version.digest)
        return {
            "commit": known.commit,
            "uncommitted": list(known.uncommitted),
            "bundle": known.bundle,
            "lock": known.lock,
            "assets": len(manifest.assets),
            "policies": [rule.name for rule in manifest.policies],
            "files": len(manifest.files),
            "follows": self._core.project.follows(env),
        }

    def compare(
        self,
        asset: Asset,
        before: Version,
        after: Version,
        touched: Sequence[str],  # noqa: ARG002
    ) -> dict[str, Any]:
        return self.difference(asset.id, before, after)

    def difference(
        self,
        asset: str,  # noqa: ARG002
        before: Version | None,
        after: Version | None,
    ) -> dict[str, Any]:
        """Return what differs: assets, what is weaker, what is blind."""
        if after is None:
            return {}
        found = changes_of(self._core, before.digest if before else "", after.digest)
        return {
            "changes": {
                "added": list(found.added),
                "removed": list(found.removed),
                "changed": {id_: list(what) for id_, what in found.changed.items()},
                "project": list(found.project),
                "weakens": [one._asdict() for one in found.weakens],
                "blinds": [one._asdict() for one in found.blinds],
            }
        }
