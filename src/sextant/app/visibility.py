"""What a principal may see: the columns of versions, and texts that may quote them. Every view, the
API and the live stream ask here.

Administrators, and who works on the project's own folder, see everything. For others, the personal
columns of a version are hidden, and so are errors, logs and results of checks of an asset that has
personal columns or reads some: a library's message may quote a value. Counts stay.
"""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.engine.history import Record
from sextant.kernel.answers import EventSeen
from sextant.kernel.hidden import HIDDEN, STOPPED, TEXTS
from sextant.kernel.kinds import kinds
from sextant.kernel.nouns import CheckResult, Incident, Release, Signal, Version
from sextant.kinds.dataset.personal import PersonalColumns
from sextant.ledger.projections import RunChanged

if TYPE_CHECKING:
    from sextant.kernel.answers import RunReport

_PLAIN_EVIDENCE = ("env", "check", "version", "release", "run", "batch", "by")


class Visibility:
    """What one principal may see."""

    def __init__(
        self,
        personal: Callable[[], PersonalColumns],
        *,
        sees_personal: bool = True,
        ask: Callable[..., Any] | None = None,
    ) -> None:
        """personal  says which columns are personal, by what the project declares now
        ask       answers as an operation does, by its name and arguments
        """
        self._of_now = personal
        self.sees_personal = sees_personal
        self._ask = ask

    def ask(self, operation: str, **given: Any) -> Any:
        """Return what an operation answers to this principal. Denied, NotFound."""
        assert self._ask is not None, "nobody asks here"
        return self._ask(operation, **given)

    def personal_columns(self, version: Version) -> tuple[str, ...]:
        """Return the columns of a version that are personal, whoever looks."""
        return self._personal.of(version)

    def hidden_columns(self, version: Version) -> tuple[str, ...]:
        """Return the columns of a version that are left out or masked."""
        return () if self.sees_personal else self._personal.of(version)

    def hides(self, *assets: str) -> bool:
        """Say whether texts of one of these assets are hidden."""
        return not self.sees_personal and not self._personal.guarded.isdisjoint(assets)

    def text(self, text: str, *assets: str) -> str:
        """Return a text about assets, or the word that it is hidden."""
        return HIDDEN if text and self.hides(*assets) else text

    # ------------------------------------------------------------ nouns

    def check(self, result: CheckResult) -> CheckResult:
        if not self.hides(result.asset):
            return result
        message = (
            f"all {result.rows} rows pass"
            if result.ok and not result.failed
            else f"{result.failed} of {result.rows} rows fail ({HIDDEN})"
        )
        return msgspec.structs.replace(result, message=message, measured={}, samples="")

    def run(self, run: RunChanged) -> RunChanged:
        """Return a run; one that names no assets may have made any. Who started it is in `by`."""
        run = msgspec.structs.replace(run, who=None)
        hides = self.hides(*run.assets) or (not run.assets and self._hides_some())
        return msgspec.structs.replace(run, error=HIDDEN) if hides and run.error else run

    def record(self, record: Record) -> Record:
        if not self.hides(record.asset):
            return record
        return msgspec.structs.replace(
            record,
            error=self.text(record.error, record.asset),
            hint=self.text(record.hint, record.asset),
            log="",
        )

    def release(self, release: Release) -> Release:
        assets = [move.asset for move in release.moves]
        if not self.hides(*assets):
            return release
        reason = release.reason
        if release.state in STOPPED:
            reason = self.text(reason, *assets)
        error = self.text(release.error, *assets)
        return msgspec.structs.replace(release, reason=reason, error=error, evidence={})

    def signal(self, signal: Signal) -> Signal:
        if not self.hides(signal.asset):
            return signal
        evidence = {k: v for k, v in signal.evidence.items() if k in _PLAIN_EVIDENCE}
        return msgspec.structs.replace(signal, message=HIDDEN, evidence=evidence)

    def incident(self, incident: Incident) -> Incident:
        hides = self.hides(*incident.assets)
        return msgspec.structs.replace(incident, title=HIDDEN) if hides else incident

    def report(self, report: "RunReport") -> "RunReport":
        """Return what a run did, for the one who asked for it."""
        if self.sees_personal:
            return report
        return msgspec.structs.replace(
            report,
            failed=tuple(
                msgspec.structs.replace(step, error=HIDDEN, hint="", log="")
                if self._names_guarded(step.step)
                else step
                for step in report.failed
            ),
            warned=tuple(map(self.check, report.warned)),
            broken=tuple(map(self.check, report.broken)),
            refused=tuple(map(self.check, report.refused)),
            releases=tuple(
                msgspec.structs.replace(one, reason=self.text(one.reason, *one.assets))
                for one in report.releases
            ),
        )

    # ------------------------------------------------------------ events

    def event(self, event: EventSeen) -> EventSeen:
        """Return an entry of the ledger as the principal may see it."""
        return {**event, "data": self._without_texts(event)} if self.hides_event(event) else event

    def hides_event(self, event: EventSeen) -> bool:
        """Say whether an entry has texts about an asset whose texts are hidden."""
        if self.sees_personal or not self._hides_some() or not isinstance(event["data"], dict):
            return False
        if event["type"].startswith("run.") and not event["data"].get("assets"):
            return True
        said = msgspec.json.encode([event["subject"], event["data"]]).decode()
        return self._names_guarded(said)

    def _without_texts(self, event: EventSeen) -> Any:
        stopped = event["type"].removeprefix("release.") in STOPPED
        return _without(event["data"], (*TEXTS, "reason") if stopped else TEXTS)

    def _names_guarded(self, text: str) -> bool:
        """Say whether a text names an asset whose texts are hidden."""
        return not self.sees_personal and any(
            found in self._personal.guarded for found in _ids().findall(text)
        )

    def _hides_some(self) -> bool:
        return not self.sees_personal and bool(self._personal.guarded)

    @property
    def _personal(self) -> PersonalColumns:
        return self._of_now()


@functools.cache
def _ids() -> re.Pattern[str]:
    """Return what finds the ids of assets in a text."""
    return re.compile(rf"\b(?:{'|'.join(kinds())}):\w+")


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """Return a payload with what these names hold hidden, wherever they stand."""
    if isinstance(value, list):
        return [_without(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _hidden(name, one) if name in names else _without(one, names)
        for name, one in value.items()
    }


def _hidden(name: str, value: Any) -> Any:
    """Return what stands for a hidden value, of the same form."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if name == "evidence" and k in _PLAIN_EVIDENCE}
    if isinstance(value, list):
        return [HIDDEN for _ in value]
    return HIDDEN if value else value
