"""How versions of datasets become live."""

from sextant.kernel.nouns import Release
from sextant.release.made import MadeRelease


class DatasetRelease(MadeRelease):
    """Files that are not what was written do not become live."""

    def confirm(self, release: Release) -> None:
        """Compare all files of the versions that become live with what was recorded when they were
        written; also those that are live already, as part of another version. `Publisher` did so
        for what this release's own write records. Damaged."""
        for move in release.moves:
            if not move.target:
                continue
            if self._versions.is_announced(move.asset, move.target):
                continue
            version = self._versions.get(move.asset, move.target)
            if version.locator:
                self._core.lake.confirm(version.locator, of=f"{move.asset}@{move.target[:12]}")
