"""Reads signals and incidents, raises a signal or counts that its condition was met again, and
closes signals of failed checks when the same check passes.

Checks' results are recorded by the publisher, by `sextant check`, and for reports of other tools.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sextant.kernel.nouns import SYSTEM, CheckResult, Event, Incident, Principal, Signal
from sextant.kernel.ports import State, Statement
from sextant.ledger.events import Events, Severity
from sextant.ledger.projections import stored_incident, stored_signal

CHECK_FAILED = "check.failed"
GLASS = "glass.broken"


def evidence(env: str, check: str, **more: str) -> dict[str, str]:
    """Return what a signal of a failed check says of it, so that it can be closed."""
    return {"env": env, "check": check, **more}


def passed(results: Iterable[CheckResult], *, whole: bool) -> set[str]:
    """Return the names of the checks that passed on a whole version.

    whole  the results are of all its partitions; else a check that looked at some of them says
           nothing about the others
    """
    by_name: dict[str, list[CheckResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    return {
        name
        for name, found in by_name.items()
        if all(result.ok for result in found)
        and (whole or any(not result.partition for result in found))
    }


def open_signals(state: State, asset: str, kind: str) -> list[Signal]:
    """Return the open signals of a kind about an asset."""
    return [stored_signal(*row) for row in state.read("signals_open", (asset, kind))]


def raise_signal(
    state: State,
    events: Events,
    asset: str,
    kind: str,
    severity: Severity,
    message: str,
    *,
    env: str = "",
    key: str,
    evidence: Mapping[str, Any] | None = None,
    by: Principal | str = SYSTEM,
    cause: str = "",
) -> list[Event]:
    """Return the event that raises a signal; where one of the same kind, asset, environment and key
    is open, the event that counts it, if any: see `Events.repeated`."""
    for signal in open_signals(state, asset, kind):
        if (signal.env, signal.key) == (env, key):
            return events.repeated(signal, message, evidence, by, cause)
    raised = events.signal(
        asset, kind, severity, message, env=env, key=key, evidence=evidence, by=by, cause=cause
    )
    return [raised]


class StoredSignal(NamedTuple):
    """A signal and when it was closed (ns since 1970), 0 = it is open."""

    signal: Signal
    closed_at: int


class StoredIncident(NamedTuple):
    """An incident, when it was closed (ns since 1970; 0 = it is open), and the guard by which a
    write fails when somebody else has changed it since it was read."""

    incident: Incident
    closed_at: int
    unchanged: Statement


def find_signal(state: State, id_: str) -> StoredSignal | None:
    """Return a signal; None where there is none of this id."""
    rows = state.read("signal_get", (id_,))
    if not rows:
        return None
    doc, closed_at, repeated = rows[0]
    return StoredSignal(stored_signal(doc, repeated), closed_at)


def find_incident(state: State, id_: str) -> StoredIncident | None:
    """Return an incident as its newest change left it; None where there is none of this id."""
    rows = state.read("incident_get", (id_,))
    if not rows:
        return None
    doc, changed, closed_at = rows[0]
    unchanged = Statement(
        "incident_as_read",
        (id_, closed_at, changed),
        1,
        f"incident `{id_}` was changed by somebody else",
    )
    return StoredIncident(stored_incident(doc, changed, closed_at), closed_at, unchanged)


def signals_of(state: State, incident: Incident) -> list[StoredSignal]:
    """Return the signals of an incident, without those whose payload was erased."""
    found = [find_signal(state, id_) for id_ in incident.signals]
    return [one for one in found if one is not None]


def open_incidents(state: State) -> list[Incident]:
    """Return the incidents that nobody has closed."""
    return [stored_incident(*row) for row in state.read("incidents_open")]


def close_passed(
    state: State,
    events: Events,
    env: str,
    asset: str,
    checks: Collection[str],
    *,
    actor: str,
    cause: str,
) -> list[Event]:
    """Return the events that close the open signals of these checks of an asset in an environment.

    cause  the event that records that they passed
    """
    if not checks:
        return []
    return [
        events.make("signal.closed", signal.id, {"id": signal.id}, actor, cause)
        for signal in open_signals(state, asset, CHECK_FAILED)
        if _is_of(state, signal, env, checks)
    ]


def _is_of(state: State, signal: Signal, env: str, checks: Collection[str]) -> bool:
    if "check" in signal.evidence:
        return signal.evidence["check"] in checks and signal.evidence.get("env") == env
    # Older versions named the check in the message only, and the environment not at all: it is one
    # into which the version was released.
    named = any(signal.message.startswith(f"{signal.asset}: {check}: ") for check in checks)
    version = signal.evidence.get("version", "")
    return named and bool(state.read("release_of_move", (env, signal.asset, version)))
