"""Proposes releases, and brings on what people decide: gate, approval, pointer - for every kind of
asset.

Each step is one durable write, guarded by compare-and-swaps: the release is still in the state it
was read in, the pointer still equals the move's source, nobody withdrew what it stands on. So any
number of processes, and one that dies anywhere, leave one story. Where the pointer is all, a
release is live in the write that proposes it; where it takes time, a `Driver` rolls it out.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from sextant.authorization.decide import Decision, wanted
from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import Conflict, Denied, ProjectError, SextantError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.kinds import Fact, Released, Verdict, kinds
from sextant.kernel.limits import RELEASE_LOOK_S_MAX, RELEASE_WAITS_S
from sextant.kernel.nouns import (
    SYSTEM,
    Event,
    Move,
    Need,
    Part,
    Principal,
    Release,
    Strategy,
    kind_of,
    person_of,
)
from sextant.kernel.ports import State, Statement
from sextant.release.machine import Happening, advance, is_open, may_be_superseded
from sextant.release.records import (
    Records,
    get_release,
    last_act,
    open_releases,
    unchanged_guard,
)
from sextant.release.rolling import Rolling
from sextant.release.withdrawing import unhold, withdrawals


class Releases:
    """The general mechanism. `kinds`: kind of asset -> how its versions become live."""

    def __init__(
        self,
        state: State,
        kinds: Mapping[str, Released],
        clock: Clock,
        ids: Ids,
        records: Records | None = None,
    ) -> None:
        """records  writes what happens; by default without the guards of a driver"""
        self._state, self._kinds, self._clock, self._ids = state, kinds, clock, ids
        self._records = records or Records(state, clock, ids)
        self.events = self._records.events
        self._rolling = Rolling(self._records, self._kind, self._pointers)

    def under(self, guards: Sequence[Statement]) -> "Releases":
        """Return the same, which writes only while these guards hold: for a driver."""
        records = self._records.under(guards)
        return Releases(self._state, self._kinds, self._clock, self._ids, records)

    # ------------------------------------------------------------ reading

    def get(self, id_: str) -> Release:
        """Return a release. NotFound."""
        return self._records.get(id_)

    def open(self) -> list[Release]:
        """Return the releases that have not ended."""
        return open_releases(self._state)

    def due(self, *, env: str = "") -> list[Release]:
        """Return the releases that a driver is to work on now, of one environment or of all."""
        return [one for one in self.open() if env in ("", one.moves[0].env) and self.is_due(one)]

    def is_due(self, release: Release) -> bool:
        """Say whether a driver is to work on a release now."""
        return is_driven(release) and self.due_at(release) <= self._clock.now_ns()

    def goes_on(self, release: Release) -> bool:
        """Say whether a driver brings a release on without a person."""
        return is_driven(release) and release.state != "waiting" and not self._waits(release)

    def _waits(self, release: Release) -> bool:
        """Say whether what a release was made from is not live yet."""
        return (
            release.state == "proposed" and bool(release.after) and is_open(self.get(release.after))
        )

    def due_at(self, release: Release) -> int:
        """Return when a driver works on a release (ns since 1970); 0 = now."""
        if self._waits(release):
            return self._clock.now_ns() + int(RELEASE_LOOK_S_MAX * NS)
        if release.due_at > self._clock.now_ns() + int(RELEASE_LOOK_S_MAX * NS):
            # nobody writes so late an instant: the clock was ahead when this one was written
            return 0 if release.state != "waiting" else release.due_at
        return release.due_at

    # ------------------------------------------------------------ proposing

    def draft(
        self,
        moves: Sequence[Move],
        *,
        by: Principal,
        decision: Decision,
        strategy: Strategy,
        run: str = "",
        reason: str = "",
        intent: str = "release",
        undoes: str = "",
        broke_glass: str = "",
        withdrawn_in: Mapping[str, tuple[str, ...]] | None = None,
        id_: str = "",
        after: str = "",
    ) -> Release:
        """Return a proposed release that is not written yet. Denied when the policy says no;
        Conflict for a withdrawn target.

        id_    the id it is to have; "" = a new one
        after  the release that must be live first; "" = none
        """
        if not moves:
            raise UserError("SX-RELEASE-003", "a release without a move")
        if decision.verdict == "deny":
            raise Denied(
                "SX-POLICY-001",
                f"not allowed: {'; '.join(decision.reasons)}",
                hint=(
                    "ask the owner of the policy; in an emergency --break-glass REASON passes a "
                    "deny that is not absolute"
                ),
            )
        if not broke_glass and intent == "release":
            for move in moves:
                if self._state.read("withdrawn_is", (move.env, move.asset, move.target)):
                    raise withdrawn(move.env, move.asset, move.target)
        return Release(
            id=id_ or self._ids.new("rel"),
            state="proposed",
            moves=tuple(moves),
            intent="undo" if intent == "undo" else "release",
            strategy=strategy,
            run=run,
            reason=reason,
            undoes=undoes,
            by=str(by),
            needs=decision.needs if decision.verdict == "approval" and not broke_glass else (),
            broke_glass=broke_glass,
            passed=decision.passed,
            withdrawn_in=dict(withdrawn_in or {}),
            after=after,
            created_at=self._clock.now_ns(),
            changed_at=self._clock.now_ns(),
        )

    def propose(
        self,
        release: Release,
        *,
        before: Sequence[Event] = (),
        cause: str = "",
        guards: Sequence[Statement] = (),
        when_live: Sequence[Event] = (),
    ) -> Release:
        """Write the release, superseding queued ones on the same assets, as far as it goes without
        people and without anything outside. One that its gate rejects at once supersedes nobody:
        what waits may be good.

        when_live  events that are written with it if it is live at once
        """
        for other in self.open():
            if (
                other.state == "waiting"
                and other.moves == release.moves
                and other.intent == release.intent
                and not release.broke_glass
            ):
                return other  # the same moves wait for the same people already
        cause = before[-1].id if before else cause
        proposed = self._records.event(release, cause)
        through, more, checks = self._fold_immediate_steps(release, proposed.id)
        statements: list[Statement] = list(guards)
        superseded: list[Event] = []
        if through.state != "rejected":
            others = self._in_the_way(release)
            for other in others:
                statements.append(unchanged_guard(other))
                superseded.append(
                    self._records.event(
                        advance(
                            other, "superseded", reason=f"by {release.id}", at=self._clock.now_ns()
                        ),
                        cause,
                    )
                )
            for move in release.moves:
                known = next(
                    (
                        other.id
                        for other in others
                        if any((m.env, m.asset) == (move.env, move.asset) for m in other.moves)
                    ),
                    "",
                )
                statements.append(
                    Statement(
                        "open_move_none_but",
                        (move.env, move.asset, known),
                        0,
                        f"another release of `{move.asset}` was proposed",
                    )
                )
        after = when_live if through.state == "live" else ()
        events = (*before, *superseded, proposed, *more, *after)
        self._records.commit((*statements, *checks), events)
        return through

    def _in_the_way(self, release: Release) -> list[Release]:
        found: dict[str, Release] = {}
        for move in release.moves:
            for (id_,) in self._state.read("open_move_get", (move.env, move.asset)):
                if id_ != release.id and id_ not in found:
                    found[id_] = self.get(id_)
        for other in found.values():
            if not may_be_superseded(other):
                raise Conflict(
                    "SX-RELEASE-005",
                    f"release `{other.id}` of the same asset is {other.state}",
                    hint=f"wait for it, or `sextant releases {other.id} --abort --reason TEXT`",
                )
        return list(found.values())

    def _fold_immediate_steps(
        self, release: Release, cause: str
    ) -> tuple[Release, list[Event], list[Statement]]:
        """Fold the steps that need nobody and nothing outside into the write that proposes: the
        usual publish is one commit."""
        now = self._clock.now_ns()
        events: list[Event] = []

        def step(
            current: Release, happened: Happening, reason: str = "", due_at: int = 0
        ) -> Release:
            following = advance(current, happened, reason=reason, at=now, due_at=due_at)
            cause_ = events[-1].id if events else cause
            events.append(self._records.event(following, cause_))
            return following

        if release.after:
            return release, [], []
        try:
            verdict = self._verdict(release)
        except Exception:
            if not takes_time(release):
                raise
            return release, [], []  # its driver asks again
        if not verdict.ok and not release.broke_glass:
            return step(release, "gate_failed", "; ".join(verdict.reasons)), events, []
        release = step(release, "gate_passed")
        if missing := wanted(release.asked):
            return (
                step(release, "approval_needed", f"needs {missing}", self._expires_at()),
                events,
                [],
            )
        release = step(release, "started")
        if takes_time(release):
            return release, events, []
        self._confirm(release)
        checks = self._pointers(release)
        release = step(release, "finished")
        return release, events, checks

    def _expires_at(self) -> int:
        """Return when a release that begins to wait for approval now is rejected."""
        return self._clock.now_ns() + int(RELEASE_WAITS_S * NS)

    # ------------------------------------------------------------ driving

    def drive(self, release: Release) -> Release:
        """Bring a release as far as it goes without people and without its driver. Safe to call
        again at any time, from anywhere."""
        while (
            release.state in ("proposed", "gated", "rolling", "undoing")
            and not (takes_time(release) and release.state in ("rolling", "undoing"))
            and not (release.state == "proposed" and release.after)
        ):
            try:
                release = self._forward(release)
            except Conflict:
                now = self.get(release.id)
                if (now.state, now.step) == (release.state, release.step):
                    raise
                release = now
        return release

    def work(self, release: Release, fence: int) -> Release:
        """Bring a release that is due one step further: what its driver does, under its lease.

        Raises  Conflict when somebody else moved it on; nothing that its kind raises
        """
        if release.state == "waiting":
            days = RELEASE_WAITS_S / 86_400
            return self._records.step(
                release,
                "denied",
                by=str(SYSTEM),
                reason=f"nobody approved it within {days:.0f} days",
            )
        if release.state == "rolling":
            return self._rolling.roll(release, fence)
        if release.state == "undoing":
            return self._rolling.undo(release, fence)
        if release.after and (before := self.get(release.after)).state != "live":
            return self._records.step(
                release,
                "source_moved",
                reason=f"it was made from what release {before.id} brings, which is {before.state}",
            )
        try:
            return self._forward(release)
        except Conflict:
            raise
        except Exception as error:  # of its gate
            return self._rolling.fail(release, error)

    def _forward(self, release: Release) -> Release:
        """Take the next step of a release that needs nobody. Conflict when somebody else took
        it."""
        step = self._records.step
        if release.state == "proposed":
            verdict = self._verdict(release)
            if verdict.ok or release.broke_glass:
                return step(release, "gate_passed")
            return step(release, "gate_failed", reason="; ".join(verdict.reasons))
        if release.state == "gated":
            if missing := wanted(release.asked):
                due_at = self._expires_at()
                return step(release, "approval_needed", reason=f"needs {missing}", due_at=due_at)
            return step(release, "started")
        if release.state == "undoing":
            return step(release, "undone")
        try:
            self._confirm(release)
        except SextantError as error:
            return step(release, "inconclusive", reason=error.message)
        try:
            return step(release, "finished", also=self._pointers(release))
        except Conflict as error:
            now = self.get(release.id)
            if (now.state, now.step) != (release.state, release.step):
                raise  # somebody else drove it on meanwhile
            return step(release, "source_moved", reason=error.message)

    def _confirm(self, release: Release) -> None:
        for kind, own in self._by_kind(release):
            kind.confirm(own)

    def _verdict(self, release: Release) -> Verdict:
        reasons: list[str] = []
        for kind, own in self._by_kind(release):
            verdict = kind.gate(own)
            reasons += verdict.reasons if not verdict.ok else ()
        return Verdict(ok=not reasons, reasons=tuple(reasons))

    def facts(self, move: Move, brought: Collection[Part]) -> dict[str, Fact]:
        """Return what the kind of an asset says of a move, by the names that it declares."""
        named = kinds()[kind_of(move.asset)].facts
        return {
            name: value
            for name, value in (self._kind(move).facts(move, brought) if named else {}).items()
            if name in named
        }

    def _kind(self, move: Move) -> Released:
        found = self._kinds.get(kind_of(move.asset))
        if found is None:
            raise ProjectError(
                "SX-RELEASE-016",
                f"nothing releases assets of the kind `{kind_of(move.asset)}`",
                hint="is the package that brings it installed? `sextant doctor` says",
            )
        return found

    def _by_kind(self, release: Release) -> list[tuple[Released, Release]]:
        """Return each kind that a release moves, with the release as far as it is about it."""
        by_kind: dict[str, list[Move]] = {}
        for move in release.moves:
            by_kind.setdefault(kind_of(move.asset), []).append(move)
        return [
            (self._kind(moves[0]), msgspec.structs.replace(release, moves=tuple(moves)))
            for _, moves in sorted(by_kind.items())
        ]

    def _pointers(self, release: Release) -> list[Statement]:
        out = []
        for move in release.moves:
            out.append(
                Statement(
                    "pointer_is",
                    (move.env, move.asset, move.source),
                    1,
                    (
                        f"`{move.asset}` in `{move.env}` is no longer at "
                        f"`{move.source[:12] or 'nothing'}`"
                    ),
                )
            )
            if release.intent == "release" and not release.broke_glass:
                out.append(
                    Statement(
                        "withdrawn_is",
                        (move.env, move.asset, move.target),
                        0,
                        f"version `{move.target[:12]}` of `{move.asset}` was withdrawn meanwhile",
                    )
                )
                out.append(
                    Statement(
                        "tainted_since",
                        (move.asset, move.target, release.created_at),
                        0,
                        (
                            f"what version `{move.target[:12]}` of `{move.asset}` was made from "
                            "was rolled back meanwhile: run again"
                        ),
                    )
                )
        return out

    # ------------------------------------------------------------ people

    def approve(
        self,
        id_: str,
        by: Principal,
        *,
        deny: bool = False,
        reason: str = "",
        proposer: str | None = "",
    ) -> Release:
        """Record an approval (or refusal) and drive on. Denied for a person outside the teams, or
        who answers for what proposed it, or twice.

        proposer  the person who answers for that, None when it cannot be told; "" = as the release
                  says

        Somebody of several teams that are asked agrees for each of them; it goes on when all needs
        are met.
        """
        cause = self._records.cause_of(id_)
        release = self.check_approval(id_, by, deny=deny, proposer=proposer)
        theirs = _theirs(release, by)
        unchanged = Statement(
            "event_newest_is",
            (id_, cause),
            1,
            f"release `{id_}` was approved by somebody else at the same moment",
        )
        if deny:
            return self.drive(
                self._records.step(release, "denied", by=str(by), reason=reason, also=(unchanged,))
            )
        needs = tuple(
            msgspec.structs.replace(need, by=(*need.by, str(by)))
            if need in theirs and not need.is_met
            else need
            for need in release.asked
        )
        return self.drive(
            self._records.step(
                msgspec.structs.replace(release, needs=needs),
                "approved",
                by=str(by),
                reason=reason,
                also=(unchanged,),
            )
        )

    def check_approval(
        self, id_: str, by: Principal, *, deny: bool = False, proposer: str | None = ""
    ) -> Release:
        """Return the release that somebody may approve (or refuse); see `approve`. Denied,
        Conflict."""
        release = self.get(id_)
        if release.state != "waiting":
            raise Conflict(
                "SX-RELEASE-001",
                f"release `{id_}` is {release.state} and waits for nobody",
                hint=f"the last to act on it was {last_act(self._state, release)}",
            )
        proposer = person_of(release.by) if proposer == "" else proposer
        proposed = str(by) == release.by or (bool(proposer) and proposer == by.person)
        if not deny and proposed:
            oneself = str(by) == release.by
            raise Denied(
                "SX-POLICY-003",
                "who proposed a release cannot approve it"
                if oneself
                else f"`{by.person}` answers for `{release.by}`, who proposed the release, and "
                "cannot approve it",
                hint="ask a second pair of eyes",
            )
        if not deny and proposer is None:
            raise Denied(
                "SX-POLICY-006",
                f"nobody can tell who answers for `{release.by}`, who proposed the release",
                hint=f"`sextant approve {id_} --deny`, then propose it again",
            )
        if not deny and by.kind != "person":
            raise Denied(
                "SX-POLICY-005",
                f"`{by}` is no person, and cannot approve",
                hint="a second pair of eyes has a token with `--kind person`, or an account",
            )
        if not deny and by.person in map(person_of, release.approvals):
            raise Denied("SX-POLICY-004", f"`{by.person}` has approved already")
        theirs = _theirs(release, by)
        if not any(deny or not need.is_met for need in theirs) and not (deny and proposed):
            teams = " or ".join(f"`{need.of}`" for need in release.asked if deny or not need.is_met)
            raise Denied(
                "SX-POLICY-002",
                f"`{by}` is not in team {teams}",
                hint=f"someone of {teams} must approve",
            )
        if not deny and self._has_expired(release):
            raise Conflict(
                "SX-RELEASE-017",
                f"release `{id_}` waited for approval too long",
                hint="run again: what it brings is kept, and proposed anew",
            )
        return release

    def _has_expired(self, release: Release) -> bool:
        return 0 < release.due_at <= self._clock.now_ns()

    def pause(self, id_: str, by: Principal, reason: str) -> Release:
        """Hold a release at the step that it has reached. Conflict when it is not rolling."""
        return self._records.step(self.get(id_), "paused", by=str(by), reason=reason)

    def go_on(self, id_: str, by: Principal, reason: str = "") -> Release:
        """Let a release go on that is paused or stuck, at the step that it has reached. Conflict
        when it is neither, or is taken back."""
        return self.drive(self._records.step(self.get(id_), "resumed", by=str(by), reason=reason))

    def abort(self, id_: str, by: Principal, reason: str) -> Release:
        """Take back a release that is rolling, paused or stuck: its version is withdrawn, and its
        driver undoes what was rolled out. Refuse one that has not started. Conflict for one that
        has ended: what is live is taken back by a release of its own."""
        release = self.get(id_)
        if release.state in ("rolling", "paused", "stuck"):
            # it may have been taken back before without fault of its version: its pointer had moved
            is_marked = all(
                self._state.read("withdrawn_is", (move.env, move.asset, move.target))
                for move in release.moves
            )
            undoing = self._rolling.take_back(release, reason, by=str(by), withdraw=not is_marked)
            return self.drive(undoing)
        if not is_open(release) or release.state == "undoing":
            hint = (
                f"`sextant rollback {release.moves[0].asset}` takes back what is live"
                if release.state == "live"
                else ""
            )
            raise Conflict(
                "SX-RELEASE-018",
                f"release `{id_}` is {release.state}: there is nothing to abort",
                hint=hint,
            )
        return self._records.step(release, "denied", by=str(by), reason=reason)

    def resolve(self, id_: str, by: Principal, *, live: bool, reason: str) -> Release:
        """Record what a person made of a stuck release: brought to its end by hand (`live`), or
        taken back by hand.

        Raises Conflict when it is not stuck, or when `live` is said and a pointer no longer equals
        its move's source.
        """
        release = self.get(id_)
        return self._records.step(
            release,
            "resolved_live" if live else "resolved_back",
            by=str(by),
            reason=reason,
            also=self._pointers(release) if live else (),
        )

    # ------------------------------------------------------------ undo

    def withdrawals(
        self, moves: Sequence[Move], *, reason: str, undo: str, cause: str, by: str
    ) -> list[Event]:
        """Return the events that mark what these live moves brought as withdrawn, and what was made
        from it as tainted. `by`: who takes it back."""
        return withdrawals(
            self._state,
            self.events,
            self._kind,
            moves=moves,
            reason=reason,
            undo=undo,
            cause=cause,
            by=by,
        )

    def mark_undone(self, release: Release, *, undo: str, cause: str, by: str) -> Event:
        """Return the event by which a live release becomes rolled back."""
        return self._records.undone(release, by_release=undo, cause=cause, by=by)

    def unhold(self, env: str, asset: str, version: str, by: Principal) -> None:
        """Lift the mark from a withdrawn version. NotFound if it has none."""
        unhold(self._state, self.events, env, asset, version, by)

    def resume(self, env: str = "") -> list[Release]:
        """Continue the open releases of an environment ("" = of all) for which the pointer is all,
        after a crash: those that take time have drivers. One that cannot go on does not stop the
        others: its error comes last."""
        done: list[Release] = []
        problem: SextantError | None = None
        for release in self.open():
            if takes_time(release) or release.state in ("waiting", "paused"):
                continue
            if env and env != release.moves[0].env:
                continue
            try:
                done.append(self.drive(release))
            except SextantError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return done


def _theirs(release: Release, by: Principal) -> list[Need]:
    """Return what is asked of people that somebody can answer."""
    return [need for need in release.asked if not need.of or need.of in by.teams]


def takes_time(release: Release) -> bool:
    """Say whether a release is rolled out by a driver; else its pointer is all."""
    return release.strategy.kind != "publish"


def is_driven(release: Release) -> bool:
    """Say whether a driver works on a release in its state, now or later."""
    if release.state == "waiting":
        return release.due_at > 0  # it expires
    return takes_time(release) and release.state in ("proposed", "gated", "rolling", "undoing")


def withdrawn(env: str, asset: str, version: str) -> Conflict:
    """Return the error of a version that was withdrawn in an environment."""
    return Conflict(
        "SX-RELEASE-004",
        f"version `{version[:12]}` of `{asset}` was withdrawn in `{env}`",
        hint=f"`sextant release {asset} {version[:12]} --unhold` lifts the mark",
    )


__all__ = [
    "Releases",
    "get_release",
    "is_driven",
    "open_releases",
    "takes_time",
    "unchanged_guard",
    "withdrawn",
]
