"""The lists that come in pages, newest first: versions, entries of the ledger, runs, releases,
results of checks, signals, incidents; as one principal may see them."""

from typing import Any

import msgspec

from sextant.app.progress import progress_of
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.kernel.answers import EventSeen, IncidentSeen, Page, SignalSeen, VersionSeen
from sextant.kernel.clock import iso
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import CheckResult, Incident, Release, Signal, Version
from sextant.kernel.pages import next_page, page_start
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import stored_incident, stored_run, stored_signal


def versions(
    core: Core, env: str, name: str, *, limit: int = PAGE_ROWS, after: str = ""
) -> Page[VersionSeen]:
    """Return versions of an asset: what made them, what they changed, how they stand in
    `env`."""
    asset = core.assets.find(name)
    live = core.versions.live_version(env, asset.id)
    withdrawn = {(row[0], row[1]): row[3] for row in core.state.read("withdrawn", (env,))}
    out: list[VersionSeen] = []
    at, last = page_start(after)
    rows = core.state.read("versions_page", (asset.id, at, at, last, limit))
    for digest, doc, locator, expired, _, refused in rows:
        version = msgspec.json.decode(doc, type=Version)
        changed_keys = sorted(row[0] for row in core.state.read("parts_of", (asset.id, digest)))
        mark = (
            "live"
            if digest == live
            else f"withdrawn: {withdrawn[(asset.id, digest)]}"
            if (asset.id, digest) in withdrawn
            else "refused"
            if refused
            else ""
        )
        out.append(
            {
                "version": digest,
                "state": mark,
                "created_at": iso(version.created_at),
                "rows": version.rows,
                "run": version.run,
                "parent": version.parent,
                "changed": changed_keys
                if len(changed_keys) <= 3
                else [
                    changed_keys[0],
                    f"... {len(changed_keys)} partitions ...",
                    changed_keys[-1],
                ],
                "locator": locator,
                "expired": bool(expired),
            }
        )
    return Page(out, next_page(rows, limit, lambda row: (row[4], row[0])))


def events(
    core: Core,
    see: Visibility,
    *,
    subject: str = "",
    kind: str = "",
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[EventSeen]:
    """Return ledger entries: all, those about a subject, those of a type. Those about
    an asset include those of its versions and releases. An erased payload is shown as
    erased."""
    found = entries(
        core.state.read,
        "events_page",
        (page_start(after)[0], subject, subject, subject, subject, kind, kind, limit),
    )
    return Page(
        [see.event(event_seen(entry)) for entry in found],
        f"{found[-1].envelope.seq}:" if len(found) == limit else "",
    )


def runs(
    core: Core,
    see: Visibility,
    *,
    env: str = "",
    state: str = "",
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[dict[str, Any]]:
    at, last = page_start(after)
    rows = core.state.read("runs_page", (at, at, last, env, env, state, state, limit))
    found = []
    for row in rows:
        run = stored_run(row[1])
        facts = msgspec.to_builtins(see.run(run))
        if not run.finished_at:
            facts["progress"] = msgspec.to_builtins(progress_of(core, run))
        found.append(facts)
    return Page(
        found,
        next_page(rows, limit, lambda row: (row[2], row[0])),
    )


def releases(
    core: Core,
    see: Visibility,
    *,
    env: str = "",
    asset: str = "",
    state: str = "",
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[dict[str, Any]]:
    at, last = page_start(after)
    rows = core.state.read(
        "releases_page", (at, at, last, env, env, state, state, asset, asset, limit)
    )
    return Page(
        [
            msgspec.to_builtins(see.release(msgspec.json.decode(row[1], type=Release)))
            for row in rows
        ],
        next_page(rows, limit, lambda row: (row[2], row[0])),
    )


def checks(
    core: Core,
    see: Visibility,
    *,
    asset: str = "",
    failed: bool = False,
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[dict[str, Any]]:
    at, last = page_start(after)
    rows = core.state.read(
        "checks_page", (at, at, int(last or 0), asset, asset, int(failed), limit)
    )
    found = [
        {
            **msgspec.to_builtins(see.check(msgspec.json.decode(doc, type=CheckResult))),
            "run": run,
            "version": version,
        }
        for _, _, doc, run, version in rows
    ]
    return Page(found, next_page(rows, limit, lambda row: (row[0], str(row[1]))))


def signals(
    core: Core,
    see: Visibility,
    *,
    asset: str = "",
    kind: str = "",
    open_only: bool = False,
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[SignalSeen]:
    at, last = page_start(after)
    rows = core.state.read(
        "signals_page", (at, at, last, asset, asset, kind, kind, int(open_only), limit)
    )
    found = [signal_seen(see, stored_signal(row[1], row[4]), row[2]) for row in rows]
    return Page(found, next_page(rows, limit, lambda row: (row[3], row[0])))


def signal_seen(see: Visibility, signal: Signal, closed_at: int) -> SignalSeen:
    """Return a signal as a principal may see it."""
    return {  # type: ignore[typeddict-item]
        **msgspec.to_builtins(see.signal(signal)),  # type: ignore[typeddict-item]
        "env": signal.env,
        "closed_at": iso(closed_at) if closed_at else "",
    }


def incidents(
    core: Core, see: Visibility, *, state: str = "", limit: int = PAGE_ROWS, after: str = ""
) -> Page[IncidentSeen]:
    at, last = page_start(after)
    rows = core.state.read("incidents_page", (at, at, last, state, state, limit))
    found = [incident_seen(see, stored_incident(*row[1:4]), row[3]) for row in rows]
    return Page(found, next_page(rows, limit, lambda row: (row[4], row[0])))


def incident_seen(see: Visibility, incident: Incident, closed_at: int) -> IncidentSeen:
    """Return an incident as a principal may see it."""
    seen = see.incident(incident)
    return {
        "id": seen.id,
        "title": seen.title,
        "assets": list(seen.assets),
        "signals": list(seen.signals),
        "state": seen.state,
        "closed_at": iso(closed_at) if closed_at else "",
        "assignee": seen.assignee,
        "comments": seen.comments,
        "merged_into": seen.merged_into,
        "split_from": seen.split_from,
        "opened_at": seen.opened_at,
    }


def event_seen(entry: Entry) -> EventSeen:
    """Return an entry of the ledger as people and clients see it."""
    seal = entry.envelope
    return {
        "seq": seal.seq,
        "id": seal.id,
        "type": seal.type,
        "at": iso(seal.time),
        "actor": seal.actor,
        "subject": seal.subject,
        "cause": seal.cause,
        "data": entry.shown,
    }
