"""Upkeep: what is wrong, what is kept, backups."""

from pathlib import Path
from typing import Any

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Session
from sextant.kernel.answers import Collected, DataChecked, Finding


class UpkeepOperations(Session):
    """Upkeep: what is wrong, what is kept, backups."""

    @operation("GET", "/doctor", "viewer", "read")
    def doctor(self) -> list[Finding]:
        """Look for what is wrong with the project and its machine."""
        from sextant.app.doctor import examine

        p = self._p
        return examine(
            self._core,
            sealing=p.sealing,
            publisher=p.runs.publisher,
            access=lambda: p.access,
            ask=p.ask,
            paths=self._who().is_administrator,
        )

    @operation("POST", "/doctor/data", "admin", "inspect")
    def check_data(self, *, progress: Progress | None = None) -> DataChecked:
        """Read every file of the lake that a kept version names, compare it with what was recorded
        when it was written, and its rows with the version's content. Files of which nothing was
        recorded get a digest when their rows are right."""
        from sextant.app.data_check import check_data

        return check_data(self._core, by=self._who(), progress=progress)

    @operation("POST", "/collect", "admin", "collect")
    def collect(self, *, history: str = "", dry_run: bool = False) -> Collected:
        """Delete the bytes that nothing keeps: no pointer, open release, undo window or provenance.
        Records stay."""
        from sextant.app.environments import drop_expired
        from sextant.app.keeping import collect

        if not dry_run:
            drop_expired(self._core, self._p.runs)
        return collect(
            self._core, self._p.runs.bundles, history=history, dry_run=dry_run, by=self._who()
        )

    @operation("POST", "/backups", "admin", "backup")
    def backup(self, folder: str) -> dict[str, Any]:
        """Write a backup into a new folder (of the machine where the project is), while runs go
        on."""
        from sextant.app.backup import create

        return create(self._core, self._p.sealing, Path(folder))
