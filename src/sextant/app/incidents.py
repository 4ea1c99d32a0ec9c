"""Shows an incident with its timeline, and records what people do with it: comment, assign, close,
reopen, merge, split. Each is one write that fails when somebody else was faster."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sextant.app.access import Access
from sextant.app.lists import incident_seen, signal_seen
from sextant.app.signals import breaker, closing
from sextant.app.visibility import Visibility
from sextant.app.why import causal_chain
from sextant.authorization.authority import known_names
from sextant.core import Core
from sextant.kernel.answers import IncidentEvent, IncidentNow, IncidentShown
from sextant.kernel.clock import iso
from sextant.kernel.errors import Conflict, Denied, NotFound, UsageError
from sextant.kernel.limits import (
    INCIDENT_CAUSES_SHOWN_MAX,
    INCIDENT_COMMENTS_MAX,
    INCIDENT_EVENTS_SHOWN_MAX,
    INCIDENT_SIGNALS_MAX,
)
from sextant.kernel.nouns import Event, Incident, Principal, Signal
from sextant.kernel.ports import Write
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import IncidentChanged, IncidentClosed, IncidentFacts
from sextant.ledger.signals import StoredIncident, find_incident, signals_of

_FAR = 1 << 62
_NAMES_SHOWN = 20


def shown(core: Core, see: Visibility, id_: str) -> IncidentShown:
    """Return an incident, its signals, and its events with what caused them. NotFound."""
    stored = _get(core, id_)
    newest = entries(
        core.state.read, "events_of_subject", (id_, _FAR, INCIDENT_EVENTS_SHOWN_MAX + 1)
    )
    signals = signals_of(core.state, stored.incident)
    timeline = newest[:INCIDENT_EVENTS_SHOWN_MAX][::-1]
    return {
        **incident_seen(see, stored.incident, stored.closed_at),
        "signals_seen": [signal_seen(see, *one) for one in signals],
        "timeline": [_event_seen(core, see, stored.incident, entry) for entry in timeline],
        "cut": len(newest) > INCIDENT_EVENTS_SHOWN_MAX,
    }


def _event_seen(core: Core, see: Visibility, incident: Incident, entry: Entry) -> IncidentEvent:
    seal, said = entry.envelope, entry.shown
    data: dict[str, Any] = said if isinstance(said, dict) else {"comment": said}
    facts = data.get("facts", {})
    about = {*incident.assets, *data.get("assets", ()), *facts.get("assets", ())}
    return {
        "event": seal.id,
        "at": iso(seal.time),
        "by": seal.actor,
        "change": data.get("change") or seal.type.removeprefix("incident."),
        "comment": see.text(data.get("comment", ""), *about),
        "assignee": facts.get("assignee", "") if data.get("change") == "assigned" else "",
        "other": data.get("other", ""),
        "because": causal_chain(core, seal.id, INCIDENT_CAUSES_SHOWN_MAX + 1)[1:],
    }


def comment(core: Core, id_: str, text: str, *, by: Principal) -> IncidentNow:
    """Add a comment to an incident, open or closed. Conflict when it has too many."""
    stored = _unmerged(core, id_)
    count = stored.incident.comments + 1
    if count > INCIDENT_COMMENTS_MAX:
        raise Conflict(
            "SX-INCIDENT-004",
            f"incident `{id_}` has {INCIDENT_COMMENTS_MAX:,} comments, the most that one may have",
            hint="comment on another incident, and name this one",
        )
    changed = _changed(
        core, stored.incident, "commented", by, text=_given(text, "a comment"), comments=count
    )
    return _write(core, [stored], [changed])


def assign(
    core: Core, id_: str, assignee: str, *, by: Principal, access: Callable[[], Access]
) -> IncidentNow:
    """Assign an incident to a team or a person, or to nobody (""). NotFound for an unknown name."""
    stored = _unmerged(core, id_)
    if assignee and assignee != by.name:
        _check_name(core, assignee, access)
    return _write(
        core, [stored], [_changed(core, stored.incident, "assigned", by, assignee=assignee)]
    )


def close(
    core: Core, id_: str, reason: str, *, with_signals: bool = False, by: Principal
) -> IncidentNow:
    """Close an incident, and its open signals if asked to. Denied for who broke the glass that one
    of its signals is about."""
    stored = _open(core, id_)
    signals = signals_of(core.state, stored.incident)
    for who in filter(None, (breaker(core, one.signal, by) for one in signals)):
        raise Denied(
            "SX-INCIDENT-003",
            "who broke the glass does not close the incident of its signal"
            if str(by) == who
            else f"`{by.person}` answers for `{who}`, who broke the glass",
            hint="somebody else looks at it and closes it",
        )
    data = IncidentClosed(
        id=id_, assets=stored.incident.assets, comment=_given(reason, "closing an incident")
    )
    closed = core.events.make("incident.closed", id_, data, by)
    open_ones = [one.signal.id for one in signals if not one.closed_at] if with_signals else []
    signals_closed = [closing(core, one, reason, by, cause=closed.id) for one in open_ones]
    return _write(core, [stored], [closed, *signals_closed])


def reopen(core: Core, id_: str, reason: str, *, by: Principal) -> IncidentNow:
    """Open a closed incident again. Conflict when it is open."""
    stored = _unmerged(core, id_)
    if not stored.closed_at:
        raise Conflict(
            "SX-INCIDENT-005",
            f"incident `{id_}` is open",
            hint=f"`sextant incidents {id_}` shows it",
        )
    reason = _given(reason, "reopening an incident")
    return _write(core, [stored], [_changed(core, stored.incident, "reopened", by, text=reason)])


def merge(core: Core, id_: str, into: str, *, by: Principal) -> IncidentNow:
    """Merge an open incident into another, which takes its signals and assets; this one ends.
    Conflict when one of them is closed, or there are too many signals."""
    if id_ == into:
        raise UsageError(
            "SX-INCIDENT-006",
            f"incident `{id_}` cannot be merged into itself",
            hint="`sextant incidents` lists the others",
        )
    source, target = _open(core, id_), _open(core, into)
    signals = _union(target.incident.signals, source.incident.signals)
    if len(signals) > INCIDENT_SIGNALS_MAX:
        raise Conflict(
            "SX-INCIDENT-007",
            f"together they have {len(signals):,} signals, and one incident has at most "
            f"{INCIDENT_SIGNALS_MAX:,}",
            hint="close one of them with a reason that names the other",
        )
    merged = _changed(core, source.incident, "merged", by, other=into, merged_into=into)
    absorbed = _changed(
        core,
        target.incident,
        "absorbed",
        by,
        other=id_,
        cause=merged.id,
        signals=signals,
        assets=_union(target.incident.assets, source.incident.assets),
    )
    return _write(core, [source, target], [merged, absorbed], other=into)


def split(core: Core, id_: str, signals: Sequence[str], *, by: Principal) -> IncidentNow:
    """Move some signals of an open incident to a new one. The incident keeps its assets: what was
    written about them stays with it. NotFound for signals of others, Conflict when none would
    stay."""
    stored = _open(core, id_)
    incident = stored.incident
    moved = _union((), signals)
    strange = [one for one in moved if one not in incident.signals]
    if strange or not moved:
        raise NotFound(
            "SX-INCIDENT-008",
            f"incident `{id_}` has no signal `{strange[0]}`" if strange else "no signal is named",
            hint=f"it has {', '.join(incident.signals[:_NAMES_SHOWN])}",
        )
    stay = tuple(one for one in incident.signals if one not in moved)
    if not stay:
        raise Conflict(
            "SX-INCIDENT-009",
            f"these are all signals of incident `{id_}`",
            hint="name those that are another matter",
        )
    known = {one.signal.id: one.signal for one in signals_of(core.state, incident)}
    about = [known[one] for one in moved if one in known]
    opened = core.events.incident(
        _title(incident, about), _assets(about), moved, split_from=id_, by=by
    )
    changed = _changed(core, incident, "split", by, other=opened.subject, signals=stay)
    opened = msgspec.structs.replace(opened, cause=changed.id)
    return _write(core, [stored], [changed, opened], other=opened.subject)


def _title(incident: Incident, moved: Sequence[Signal]) -> str:
    return moved[0].message if moved else incident.title


def _assets(signals: Sequence[Signal]) -> tuple[str, ...]:
    return _union((), [one.asset for one in signals if one.asset])


def _union(first: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return what is in either, in order, each once."""
    return tuple(dict.fromkeys((*first, *more)))


def _given(text: str, what: str) -> str:
    if not text.strip():
        raise UsageError("SX-INCIDENT-010", f"{what} needs a text", hint="say what was found")
    return text


def _check_name(core: Core, name: str, access: Callable[[], Access]) -> None:
    manifest = core.project.manifest()
    names = set(known_names(core.state, manifest).teams) - {""}
    names.update(person for team in manifest.teams for person in (*team.members, *team.deputies))
    if (core.project.folder / "access.db").exists():
        names.update(account["name"] for account in access().accounts())
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise NotFound(
            "SX-INCIDENT-011",
            f"there is no team or person `{name}`",
            hint=f"did you mean `{near[0]}`?"
            if near
            else f"there are {', '.join(sorted(names)[:_NAMES_SHOWN])}"
            if names
            else "the project declares no team, and there is no account",
        )


def _get(core: Core, id_: str) -> StoredIncident:
    stored = find_incident(core.state, id_)
    if stored is None:
        raise NotFound(
            "SX-INCIDENT-001",
            f"there is no incident `{id_}`",
            hint="`sextant incidents` lists them",
        )
    return stored


def _unmerged(core: Core, id_: str) -> StoredIncident:
    stored = _get(core, id_)
    if into := stored.incident.merged_into:
        raise Conflict(
            "SX-INCIDENT-002",
            f"incident `{id_}` was merged into `{into}`",
            hint=f"`sextant incidents {into}` shows that one",
        )
    return stored


def _open(core: Core, id_: str) -> StoredIncident:
    stored = _unmerged(core, id_)
    if stored.closed_at:
        raise Conflict(
            "SX-INCIDENT-012",
            f"incident `{id_}` is closed",
            hint=f"`sextant incidents {id_} --reopen REASON` opens it again",
        )
    return stored


def _changed(
    core: Core,
    incident: Incident,
    change: str,
    by: Principal,
    *,
    text: str = "",
    other: str = "",
    cause: str = "",
    **facts: Any,
) -> Event:
    """Return the event of one change. `facts`: those that are different after it."""
    before = {name: getattr(incident, name) for name in IncidentFacts.__struct_fields__}
    data = IncidentChanged(
        id=incident.id,
        change=change,  # type: ignore[arg-type]
        facts=IncidentFacts(**before | facts),
        comment=text,
        other=other,
    )
    return core.events.make("incident.changed", incident.id, data, by, cause)


def _write(
    core: Core, changed: Sequence[StoredIncident], events: Sequence[Event], other: str = ""
) -> IncidentNow:
    """Write the events unless somebody else has changed one of the incidents meanwhile; return how
    the first one stands then."""
    core.state.commit(Write(tuple(one.unchanged for one in changed), tuple(events)))
    incident = _get(core, changed[0].incident.id).incident
    signals = signals_of(core.state, incident)
    return {
        "incident": incident.id,
        "state": incident.state,
        "assignee": incident.assignee,
        "comments": incident.comments,
        "open_signals": [one.signal.id for one in signals if not one.closed_at],
        "other": other,
    }
