"""Makes the events of one project: with new ids, an actor and a cause. Signals and incidents are
raised here and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from sextant.kernel.clock import NS, Clock
from sextant.kernel.ids import Ids
from sextant.kernel.limits import SIGNAL_REPEATED_S, SIGNALS_COUNTED_MAX
from sextant.kernel.nouns import SYSTEM, Event, Incident, Principal, Signal
from sextant.ledger.log import event
from sextant.ledger.projections import SignalRepeated

Severity = Literal["info", "warn", "error", "critical"]


class Events:
    """Makes events that are not written yet, ready for `Write.events`."""

    def __init__(self, ids: Ids, clock: Clock) -> None:
        self._ids, self._clock = ids, clock
        # signal -> how often its condition was met again since its last event; lost with the
        # process
        self._unwritten: dict[str, int] = {}

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
        severity: Severity,
        message: str,
        *,
        env: str = "",
        key: str = "",
        evidence: Mapping[str, Any] | None = None,
        by: Principal | str = SYSTEM,
        cause: str = "",
    ) -> Event:
        """Return the event that raises a new signal about an asset, from now on; its subject is
        the signal's id. See `ledger.signals.raise_signal` for a condition that is met again and
        again."""
        raised = Signal(
            id=self._ids.new("sig"),
            asset=asset,
            kind=kind,
            severity=severity,
            message=message,
            onset=self._clock.now_ns(),
            evidence=dict(evidence or {}),
            env=env,
            key=key,
        )
        return self.make("signal.raised", raised.id, raised, by, cause)

    def repeated(
        self,
        signal: Signal,
        message: str,
        evidence: Mapping[str, Any] | None = None,
        by: Principal | str = SYSTEM,
        cause: str = "",
    ) -> list[Event]:
        """Return the event that counts that an open signal's condition was met again; none within
        SIGNAL_REPEATED_S of the one before, the next one counts it then."""
        now = self._clock.now_ns()
        if 0 <= now - (signal.last_at or signal.onset) < SIGNAL_REPEATED_S * NS:
            if len(self._unwritten) >= SIGNALS_COUNTED_MAX:
                self._unwritten.clear()
            self._unwritten[signal.id] = self._unwritten.get(signal.id, 0) + 1
            return []
        data = SignalRepeated(
            id=signal.id,
            asset=signal.asset,
            at=now,
            count=signal.repeats + self._unwritten.pop(signal.id, 0) + 1,
            message=message,
            evidence=dict(evidence or {}),
        )
        return [self.make("signal.repeated", signal.id, data, by, cause)]

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
