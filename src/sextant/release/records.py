"""Writes the steps of releases: each is one durable write, guarded by compare-and-swaps, with its
event and what follows from it."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import msgspec

from sextant.kernel.clock import Clock, iso
from sextant.kernel.errors import NotFound
from sextant.kernel.ids import Ids
from sextant.kernel.limits import LAST_ACTS_READ_MAX, PAGE_ROWS_MAX
from sextant.kernel.nouns import Event, Incident, Release, Signal, person_of
from sextant.kernel.ports import State, Statement, Write
from sextant.ledger.events import Events
from sextant.ledger.log import entries
from sextant.ledger.projections import Closed, IncidentClosed
from sextant.ledger.signals import open_incidents, open_signals, signals_of
from sextant.release.machine import Happening, advance

_FAR = 1 << 62
# what follows by itself from what a person decided
_FOLLOWS = tuple(f"release.{one}" for one in ("gated", "live", "rolling", "superseded"))
STUCK, BAD, INCONCLUSIVE = "release.stuck", "release.bad", "release.inconclusive"


class Records:
    """Reads releases, and writes what happens to them.

    guards  hold for everything that is written: the lease of a driver
    """

    def __init__(
        self, state: State, clock: Clock, ids: Ids, guards: Sequence[Statement] = ()
    ) -> None:
        self.state, self.clock, self.ids = state, clock, ids
        self.events = Events(ids, clock)
        self._guards = tuple(guards)

    def under(self, guards: Sequence[Statement]) -> Self:
        """Return the same, which writes only while these guards hold."""
        return type(self)(self.state, self.clock, self.ids, guards)

    def get(self, id_: str) -> Release:
        """Return a release. NotFound."""
        return get_release(self.state, id_)

    def commit(self, statements: Sequence[Statement], events: Sequence[Event]) -> None:
        """Write both, or nothing. Conflict when a guard does not hold."""
        self.state.commit(Write((*self._guards, *statements), tuple(events)))

    def step(
        self,
        release: Release,
        happened: Happening,
        *,
        reason: str = "",
        by: str = "",
        due_at: int = 0,
        evidence: Mapping[str, Any] | None = None,
        also: Sequence[Statement] = (),
        then: Callable[[Release, str], Sequence[Event]] = lambda _release, _cause: (),
    ) -> Release:
        """Write that something happened to a release, and return it as it is then. Conflict when
        somebody else was faster.

        also  guards beside that the release is where it was read
        then  returns the events that are written with it, of the release as it is then and the id
              of its event
        """
        following = advance(
            release, happened, reason=reason, by=by, at=self.clock.now_ns(), due_at=due_at
        )
        if evidence is not None:
            following = msgspec.structs.replace(following, evidence=dict(evidence))
        event = self.event(following, self.cause_of(release.id), by)
        self.commit(
            (unchanged_guard(release), *also),
            (
                event,
                *self._consequences(release, following, happened, event),
                *then(following, event.id),
            ),
        )
        return following

    def event(self, release: Release, cause: str, by: str = "") -> Event:
        """Return the event of a release's state. `by`: who brought it about, "" = who proposed
        it."""
        return self.events.make(
            f"release.{release.state}", release.id, release, by or release.by, cause
        )

    def cause_of(self, release: str) -> str:
        """Return the id of the newest event of a release."""
        rows = self.state.read("event_newest_of", (release,))
        return str(rows[0][0]) if rows else ""

    def closing(self, release: Release, cause: str, *, all_of_asset: bool = False) -> list[Event]:
        """Return the events that close the signals which ask people to look at a release, and the
        incidents that it opened.

        all_of_asset  also those of earlier releases of its assets in its environments
        """
        places = {(move.env, move.asset) for move in release.moves}
        ids: set[str] = set()
        for kind in (STUCK, BAD, INCONCLUSIVE):
            for env, asset in sorted(places):
                for signal in open_signals(self.state, asset, kind):
                    said = signal.evidence
                    is_own = said.get("release") == release.id
                    if is_own or (all_of_asset and said.get("env") == env):
                        ids.add(signal.id)
        closed = [
            self.events.make("signal.closed", id_, Closed(id_), cause=cause) for id_ in sorted(ids)
        ]
        closed += [
            self.events.make(
                "incident.closed", one.id, IncidentClosed(id=one.id, assets=one.assets), cause=cause
            )
            for one in open_incidents(self.state)
            if self._ends_with(one, release, ids)
        ]
        return closed

    def _ends_with(self, incident: Incident, release: Release, closing: Collection[str]) -> bool:
        """Say whether an incident is about a release, and has no open signal left once these are
        closed: people may have merged others into it, or closed a signal themselves."""
        is_about = False
        for signal, closed_at in signals_of(self.state, incident):
            if not closed_at and signal.id not in closing:
                return False
            is_about |= signal.id in closing or signal.evidence.get("release") == release.id
        return is_about

    def signal(self, release: Release, kind: str, cause: str) -> Event:
        """Return the event that asks people to look at a release."""
        said = {STUCK: "is stuck", BAD: "was judged bad", INCONCLUSIVE: "needs a decision"}[kind]
        why = release.error if kind == STUCK else release.reason
        return self.events.signal(
            release.moves[0].asset,
            kind,
            {STUCK: "critical", BAD: "error", INCONCLUSIVE: "warn"}[kind],  # type: ignore[arg-type]
            f"release {release.id} {said}: {why}",
            env=release.moves[0].env,
            key=release.id,
            evidence={
                "env": release.moves[0].env,
                "release": release.id,
                "version": release.moves[0].target,
                **({"measured": release.evidence} if release.evidence else {}),
            },
            cause=cause,
        )

    def incident(self, release: Release, cause: str) -> tuple[Event, ...]:
        """Return the events that raise a signal about a release that nothing brings on any more,
        and open an incident of it."""
        raised = self.signal(release, STUCK, cause)
        title = msgspec.json.decode(raised.data, type=Signal).message
        assets = [move.asset for move in release.moves]
        return raised, self.events.incident(title, assets, [raised.subject], cause=raised.id)

    def _consequences(
        self, before: Release, release: Release, happened: Happening, event: Event
    ) -> list[Event]:
        """Return the events that follow from the state that a release has reached."""
        if release.state == "stuck":
            return list(self.incident(release, event.id))
        if happened == "inconclusive":
            return [self.signal(release, INCONCLUSIVE, event.id)]
        if release.state == "live" and release.strategy.kind != "publish":
            undone = self._undone(release, event.id)
            return [*self.closing(release, event.id, all_of_asset=True), *undone]
        if before.state == "stuck" or happened == "resumed":
            return self.closing(release, event.id)
        return []

    def _undone(self, release: Release, cause: str) -> list[Event]:
        """Return the event by which the release that this one undoes is rolled back, now that this
        one is live."""
        if release.intent != "undo" or not release.undoes:
            return []
        undone = self.get(release.undoes)
        if undone.state != "live":
            return []
        return [self.undone(undone, by_release=release.id, cause=cause, by=release.by)]

    def undone(self, release: Release, *, by_release: str, cause: str, by: str) -> Event:
        """Return the event by which a live release becomes rolled back."""
        after = advance(release, "undone", reason=f"undone by {by_release}", at=self.clock.now_ns())
        return self.event(after, cause, by)


def last_act(state: State, release: Release) -> str:
    """Return who decided last about a release, how and when: `eve: rejected,
    2026-03-01T10:00:00.000Z`, or who approved it; "" when nothing is known of it."""
    if release.approvals and release.state not in ("rejected", "rolled_back"):
        return f"{', '.join(person_of(one) or one for one in release.approvals)}: approved"
    found = entries(state.read, "events_of_subject", (release.id, _FAR, LAST_ACTS_READ_MAX))
    acts = [one.envelope for one in found if one.envelope.type not in _FOLLOWS]
    if not acts:
        return ""
    word = acts[0].type.partition(".")[2].replace("_", " ")
    return f"{person_of(acts[0].actor) or acts[0].actor}: {word}, {iso(acts[0].time)}"


def get_release(state: State, id_: str) -> Release:
    """Return a release. NotFound."""
    rows = state.read("release_get", (id_,))
    if not rows:
        raise NotFound(
            "SX-RELEASE-002",
            f"there is no release `{id_}`",
            hint="`sextant releases` lists them",
        )
    return msgspec.json.decode(rows[0][0], type=Release)


def open_releases(state: State) -> list[Release]:
    """Return the releases that have not ended."""
    return [msgspec.json.decode(row[0], type=Release) for row in state.read("releases_open")]


def unchanged_guard(release: Release) -> Statement:
    """Return the guard by which a write fails when a release is no longer where it was read."""
    return Statement(
        "release_in_state",
        (release.id, release.state, release.step),
        1,
        f"release `{release.id}` was moved on by somebody else",
    )


def releases_of(state: State, asset: str) -> list[Release]:
    """Return the releases of an asset, newest first."""
    rows = state.read("releases_of_asset", (asset, PAGE_ROWS_MAX))
    return [msgspec.json.decode(row[0], type=Release) for row in rows]


def batch_digest(releases: Sequence[Release]) -> str:
    """Return the digest of what several releases are about to do, in whatever order."""
    each = sorted(f"{one.id} {plan_digest(one)}" for one in releases)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def plan_digest(release: Release) -> str:
    """Return the digest of what a release is about to do, which never changes: what people are
    shown, and approve."""
    shown = (
        release.intent,
        release.undoes,
        release.strategy,
        release.moves,
        sorted(release.withdrawn_in.items()),
    )
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()
