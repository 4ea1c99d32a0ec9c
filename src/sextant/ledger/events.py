"""Makes the events of one project: with new ids, an actor and a cause. Signals and incidents are
raised here and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from sextant.kernel.clock import Clock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import SYSTEM, Event, Incident, Principal, Signal
from sextant.ledger.log import event


class Events:
    """Makes events that are not written yet, ready for `Write.events`."""

    def __init__(self, ids: Ids, clock: Clock) -> None:
        self._ids, self._clock = ids, clock

    def make(
        self,
        type_: str,
        subject: str,
        data: msgspec.Struct | dict[str, Any],
        by: Principal | str = SYSTEM,
        cause: str = "",
    ) -> Event:
        """Return an event as `ledger.log.event` makes it. `by`: the actor, or its text as the
        ledger has it."""
        return event(self._ids, type_, subject, data, actor=str(by), cause=cause)

    def signal(
        self,
        asset: str,
        kind: str,
        severity: Literal["info", "warn", "error", "critical"],
        message: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        by: Principal | str = SYSTEM,
        cause: str = "",
    ) -> Event:
        """Return the event that raises a new signal about an asset, from now on; its subject is
        the signal's id."""
        raised = Signal(
            id=self._ids.new("sig"),
            asset=asset,
            kind=kind,
            severity=severity,
            message=message,
            onset=self._clock.now_ns(),
            evidence=dict(evidence or {}),
        )
        return self.make("signal.raised", raised.id, raised, by, cause)

    def incident(
        self,
        title: str,
        assets: Sequence[str],
        signals: Sequence[str],
        *,
        split_from: str = "",
        by: Principal | str = SYSTEM,
        cause: str = "",
    ) -> Event:
        """Return the event that opens a new incident of signals; its subject is the incident's
        id."""
        opened = Incident(
            id=self._ids.new("inc"),
            title=title,
            assets=tuple(assets),
            signals=tuple(signals),
            opened_at=self._clock.now_ns(),
            split_from=split_from,
        )
        return self.make("incident.opened", opened.id, opened, by, cause)
