"""Signals, incidents, and reports of other tools."""

from collections.abc import Sequence
from typing import Any, Literal

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session, page_limit
from sextant.kernel.answers import (
    IncidentNow,
    IncidentSeen,
    IncidentShown,
    Page,
    Reported,
    SignalSeen,
)
from sextant.kernel.limits import PAGE_ROWS


class SignalOperations(Session):
    """Signals, incidents, and reports of other tools."""

    @operation("GET", "/signals", "viewer", "read")
    def signals(
        self,
        *,
        asset: str = "",
        kind: str = "",
        open_only: bool = False,
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[SignalSeen]:
        """Return signals."""
        from sextant.app import lists

        return lists.signals(
            self._core,
            self._see,
            asset=asset,
            kind=kind,
            open_only=open_only,
            limit=page_limit(limit),
            after=after,
        )

    @operation("POST", "/signals/{signal}/close", "operator", "signal", "signal")
    def close_signal(self, signal: str, reason: str) -> dict[str, Any]:
        """Close a signal: somebody has looked at it."""
        from sextant.app import signals

        signals.close(self._core, signal, reason, by=self._who())
        return {"signal": signal, "closed": True}

    @operation("GET", "/incidents", "viewer", "read")
    def incidents(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[IncidentSeen]:
        """Return incidents."""
        from sextant.app import lists

        return lists.incidents(
            self._core, self._see, state=state, limit=page_limit(limit), after=after
        )

    @operation("GET", "/incidents/{incident}", "viewer", "read")
    def incident_facts(self, incident: str) -> IncidentShown:
        """Return an incident with its signals and its timeline: what people and Sextant did with
        it, and what caused that."""
        from sextant.app import incidents

        return incidents.shown(self._core, self._see, incident)

    @operation("POST", "/incidents/{incident}/close", "operator", "signal", "incident")
    def close_incident(
        self, incident: str, reason: str, *, with_signals: bool = False
    ) -> IncidentNow:
        """Close an incident: people are done with it.

        Its signals stay open unless `with_signals` closes them too; `open_signals` says which."""
        from sextant.app import incidents

        return incidents.close(
            self._core, incident, reason, with_signals=with_signals, by=self._who()
        )

    @operation("POST", "/incidents/{incident}/reopen", "operator", "signal", "incident")
    def reopen_incident(self, incident: str, reason: str) -> IncidentNow:
        """Open a closed incident again."""
        from sextant.app import incidents

        return incidents.reopen(self._core, incident, reason, by=self._who())

    @operation("POST", "/incidents/{incident}/comments", "operator", "signal", "incident")
    def comment_incident(self, incident: str, comment: str) -> IncidentNow:
        """Add a comment to an incident."""
        from sextant.app import incidents

        return incidents.comment(self._core, incident, comment, by=self._who())

    @operation("POST", "/incidents/{incident}/assign", "operator", "signal", "incident")
    def assign_incident(self, incident: str, assignee: str) -> IncidentNow:
        """Assign an incident to a team or a person; "" = to nobody."""
        from sextant.app import incidents

        return incidents.assign(
            self._core, incident, assignee, by=self._who(), access=lambda: self._p.access
        )

    @operation("POST", "/incidents/{incident}/merge", "operator", "signal", "incident")
    def merge_incident(self, incident: str, into: str) -> IncidentNow:
        """Merge an incident into another, which takes its signals and assets."""
        from sextant.app import incidents

        return incidents.merge(self._core, incident, into, by=self._who())

    @operation("POST", "/incidents/{incident}/split", "operator", "signal", "incident")
    def split_incident(self, incident: str, signals: Sequence[str]) -> IncidentNow:
        """Move some signals of an incident to a new one."""
        from sextant.app import incidents

        return incidents.split(self._core, incident, signals, by=self._who())

    @operation("POST", "/reports", "operator", "report", "report")
    def report(
        self,
        kind: Literal["release", "run", "check"],
        asset: str,
        *,
        version: str = "",
        state: str = "",
        name: str = "",
        message: str = "",
        url: str = "",
        owner: str = "",
        upstream: Sequence[str] = (),
        downstream: Sequence[str] = (),
        cause: str = "",
        env: str = "",
    ) -> Reported:
        """Record what another tool did: a release, run or check of an observed asset."""
        from sextant.app import reports

        return reports.report(
            self._core,
            self._env(env),
            kind,
            asset,
            version=version,
            state=state,
            name=name,
            message=message,
            url=url,
            owner=owner,
            upstream=tuple(upstream),
            downstream=tuple(downstream),
            cause=cause,
            by=self._who(),
        )
