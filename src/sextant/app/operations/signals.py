"""Signals, incidents, and reports of other tools."""

from collections.abc import Sequence
from typing import Any, Literal

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session, page_limit
from sextant.kernel.answers import IncidentSeen, Page, Reported, SignalSeen
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
