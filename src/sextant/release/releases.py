"""Drives releases: gate, approval, roll-out, pointer, undo - for every kind of asset, through a
small port.

Each step is one durable write, guarded by compare-and-swaps: the release is still in the state it
was read in, the pointer still equals the move's source, nobody withdrew what it stands on. So any
number of drivers, and a driver that dies anywhere, leave one story; `resume` continues open
releases after a crash.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from sextant.authorization.decide import Decision, wanted
from sextant.kernel.clock import Clock
from sextant.kernel.errors import Conflict, Denied, NotFound, SextantError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.kinds import Fact, Released, Verdict, kinds
from sextant.kernel.nouns import (
    Event,
    Move,
    Part,
    Principal,
    Release,
    Strategy,
    kind_of,
    person_of,
)
from sextant.kernel.ports import State, Statement, Write
from sextant.ledger.events import Events
from sextant.ledger.projections import VersionTainted, VersionUnheld, VersionWithdrawn
from sextant.release.machine import Happening, advance, is_open, may_be_superseded

_TAINT_MAX = 100_000  # versions that one withdrawal may taint


class Releases:
    """The general mechanism. `kinds`: kind of asset -> how its versions become live."""

    def __init__(self, state: State, kinds: Mapping[str, Released], clock: Clock, ids: Ids) -> None:
        self._state = state
        self._kinds = kinds
        self._clock = clock
        self._ids = ids
        self._events = Events(ids, clock)

    # ------------------------------------------------------------ reading

    def get(self, id_: str) -> Release:
        """Return a release. NotFound."""
        return get_release(self._state, id_)

    def open(self) -> list[Release]:
        """Return the releases that have not ended."""
        return open_releases(self._state)

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
    ) -> Release:
        """Return a proposed release that is not written yet. Denied when the policy says no;
        Conflict for a withdrawn target. `id_`: the id it is to have; "" = a new one."""
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
        """Write the release, superseding queued ones on the same assets, and drive it as far as it
        goes. One that its gate rejects at once supersedes nobody: what waits may be good.

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
        proposed = self._event(release, cause)
        through, more, checks = self._at_once(release, proposed.id)
        statements: list[Statement] = list(guards)
        superseded: list[Event] = []
        if through.state != "rejected":
            others = self._in_the_way(release)
            for other in others:
                statements.append(still(other))
                superseded.append(
                    self._event(
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
        self._state.commit(Write((*statements, *checks), events))
        return self.drive(through)

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
                    hint=f"wait for it, or `sextant rollback` it (release {other.id})",
                )
        return list(found.values())

    def _at_once(
        self, release: Release, cause: str
    ) -> tuple[Release, list[Event], list[Statement]]:
        """Fold the steps that need nobody and nothing outside into the write that proposes: the
        usual publish is one commit."""
        if not all(kind.instant for kind, _ in self._by_kind(release)):
            return release, [], []
        now = self._clock.now_ns()
        verdict = self._verdict(release)
        events: list[Event] = []

        def step(current: Release, happened: Happening, reason: str = "") -> Release:
            following = advance(current, happened, reason=reason, at=now)
            events.append(self._event(following, events[-1].id if events else cause))
            return following

        if not verdict.ok and not release.broke_glass:
            return step(release, "gate_failed", "; ".join(verdict.reasons)), events, []
        release = step(release, "gate_passed")
        if missing := wanted(release.asked):
            return step(release, "approval_needed", f"needs {missing}"), events, []
        release = step(release, "started")
        self._each(release, "roll")
        checks = self._pointers(release)
        release = step(release, "finished")
        return release, events, checks

    # ------------------------------------------------------------ driving

    def drive(self, release: Release) -> Release:
        """Bring a release as far as it goes without people. Safe to call again at any time, from
        anywhere."""
        while release.state in ("proposed", "gated", "rolling"):
            try:
                release = self._forward(release)
            except Conflict:
                now = self.get(release.id)
                if (now.state, now.step) == (release.state, release.step):
                    raise
                if release.state == "rolling" and now.state in ("rolled_back", "rejected"):
                    self._again(now)
                release = now
            if release.state in ("waiting", "paused"):
                break
        return release

    def _again(self, release: Release) -> None:
        """Undo a release that somebody took back while this driver rolled it on. It has ended: a
        failure opens an incident."""
        try:
            self._each(release, "undo")
        except Exception as error:
            why = msgspec.structs.replace(
                release, reason=f"taken back while it was rolled on, and the undo failed: {error}"
            )
            self._state.commit(Write((), self._incident(why, self._cause_of(release.id))))

    def _forward(self, release: Release) -> Release:
        """Take the next step of a release that needs nobody. Conflict when somebody else took
        it."""
        if release.state == "proposed":
            verdict = self._verdict(release)
            if verdict.ok or release.broke_glass:
                return self._step(release, "gate_passed")
            return self._step(release, "gate_failed", reason="; ".join(verdict.reasons))
        if release.state == "gated":
            if missing := wanted(release.asked):
                return self._step(release, "approval_needed", reason=f"needs {missing}")
            return self._step(release, "started")
        return self._roll(release)

    def _verdict(self, release: Release) -> Verdict:
        reasons: list[str] = []
        for kind, own in self._by_kind(release):
            verdict = kind.gate(own)
            reasons += verdict.reasons if not verdict.ok else ()
        return Verdict(ok=not reasons, reasons=tuple(reasons))

    def _roll(self, release: Release) -> Release:
        try:
            holds, why = (
                self._each(release, "roll"),
                f"step {release.step + 1} of {len(release.strategy.steps)} did not hold",
            )
        except SextantError as error:
            holds, why = False, error.message
        if not holds:
            return self._step(release, "step_failed", reason=why)
        if release.step + 1 < len(release.strategy.steps):
            return self._step(release, "step_passed")
        try:
            return self._step(release, "finished", also=self._pointers(release))
        except Conflict as error:
            now = self.get(release.id)
            if (now.state, now.step) != (
                release.state,
                release.step,
            ):  # somebody else drove it on meanwhile
                raise
            return self._take_back(release, "source_moved", error.message)

    def facts(self, move: Move, brought: Collection[Part]) -> dict[str, Fact]:
        """Return what the kind of an asset says of a move, by the names that it declares."""
        named = kinds()[kind_of(move.asset)].facts
        return {
            name: value
            for name, value in (self._kind(move).facts(move, brought) if named else {}).items()
            if name in named
        }

    def _kind(self, move: Move) -> Released:
        return self._kinds[move.asset.partition(":")[0]]

    def _by_kind(self, release: Release) -> list[tuple[Released, Release]]:
        """Return each kind that a release moves, with the release as far as it is about it."""
        names = sorted({move.asset.partition(":")[0] for move in release.moves})
        return [
            (
                self._kinds[name],
                msgspec.structs.replace(
                    release,
                    moves=tuple(m for m in release.moves if m.asset.partition(":")[0] == name),
                ),
            )
            for name in names
        ]

    def _each(self, release: Release, verb: str) -> bool:
        ok = True
        for kind, own in self._by_kind(release):
            ok = getattr(kind, verb)(own) is not False and ok
        return ok

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

    def _step(
        self,
        release: Release,
        happened: Happening,
        *,
        reason: str = "",
        by: str = "",
        also: Sequence[Statement] = (),
        events: Sequence[Event] = (),
    ) -> Release:
        following = advance(release, happened, reason=reason, by=by, at=self._clock.now_ns())
        event = self._event(following, self._cause_of(release.id), actor=by)
        more: tuple[Event, ...] = ()
        if following.state == "stuck":
            more = self._incident(following, event.id)
        self._state.commit(Write((still(release), *also), (event, *more, *events)))
        return following

    def _incident(self, release: Release, cause: str) -> tuple[Event, ...]:
        assets = [move.asset for move in release.moves]
        raised = self._events.signal(
            assets[0],
            "release.stuck",
            "critical",
            f"release {release.id} is stuck: {release.reason}",
            evidence={"release": release.id},
            cause=cause,
        )
        message = f"release {release.id} is stuck: {release.reason}"
        return raised, self._events.incident(message, assets, [raised.subject], cause=raised.id)

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
        cause = self._cause_of(id_)
        release = self.get(id_)
        if release.state != "waiting":
            raise Conflict(
                "SX-RELEASE-001", f"release `{id_}` is {release.state} and waits for nobody"
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
        theirs = [need for need in release.asked if not need.of or need.of in by.teams]
        if not any(deny or not need.is_met for need in theirs) and not (deny and proposed):
            teams = " or ".join(f"`{need.of}`" for need in release.asked if deny or not need.is_met)
            raise Denied(
                "SX-POLICY-002",
                f"`{by}` is not in team {teams}",
                hint=f"someone of {teams} must approve",
            )
        unchanged = Statement(
            "event_newest_is",
            (id_, cause),
            1,
            f"release `{id_}` was approved by somebody else at the same moment",
        )
        if deny:
            return self.drive(
                self._step(release, "denied", by=str(by), reason=reason, also=(unchanged,))
            )
        needs = tuple(
            msgspec.structs.replace(need, by=(*need.by, str(by)))
            if need in theirs and not need.is_met
            else need
            for need in release.asked
        )
        return self.drive(
            self._step(
                msgspec.structs.replace(release, needs=needs),
                "approved",
                by=str(by),
                reason=reason,
                also=(unchanged,),
            )
        )

    def pause(self, id_: str, by: Principal, reason: str) -> Release:
        return self._step(self.get(id_), "paused", by=str(by), reason=reason)

    def go_on(self, id_: str, by: Principal) -> Release:
        return self.drive(self._step(self.get(id_), "resumed", by=str(by)))

    def abort(self, id_: str, by: Principal, reason: str) -> Release:
        """Undo a release that is rolling or paused; refuse one that has not started. Conflict for
        one that has ended: what is live is taken back by a release of its own."""
        release = self.get(id_)
        if release.state in ("rolling", "paused"):
            return self._take_back(release, "undone", reason, by=str(by))
        if not is_open(release):
            hint = (
                f"`sextant rollback {release.moves[0].asset}` takes back what is live"
                if release.state == "live"
                else ""
            )
            raise Conflict(
                "SX-RELEASE-001",
                f"release `{id_}` is {release.state}: there is nothing to abort",
                hint=hint,
            )
        return self._step(release, "denied", by=str(by), reason=reason)

    def resolve(self, id_: str, by: Principal, *, live: bool, reason: str) -> Release:
        """Record what a person made of a stuck release: brought to its end by hand (`live`), or
        taken back by hand.

        Raises Conflict when it is not stuck, or when `live` is said and a pointer no longer equals
        its move's source.
        """
        release = self.get(id_)
        return self._step(
            release,
            "resolved_live" if live else "resolved_back",
            by=str(by),
            reason=reason,
            also=self._pointers(release) if live else (),
        )

    def _take_back(
        self, release: Release, happened: Happening, reason: str, *, by: str = ""
    ) -> Release:
        """Undo what was rolled out and record why; stuck when the undo fails in any way."""
        try:
            self._each(release, "undo")
        except Exception as error:
            return self._step(release, "undo_failed", by=by, reason=f"{reason}: {error}")
        return self._step(release, happened, by=by, reason=reason)

    # ------------------------------------------------------------ undo

    def withdrawals(
        self, moves: Sequence[Move], *, reason: str, undo: str, cause: str, by: str
    ) -> list[Event]:
        """Return the events that mark what these live moves brought as withdrawn and what was made
        from it as tainted. `by`: who takes it back."""
        events: list[Event] = []
        for move in moves:
            if not move.target:
                continue
            kind = self._kind(move)
            marked = VersionWithdrawn(
                env=move.env,
                asset=move.asset,
                version=move.target,
                release=undo,
                reason=reason,
                held=kind.held(move),
            )
            event = self._events.make(
                "version.withdrawn", f"{move.asset}@{move.target}", marked, by, cause
            )
            events.append(event)
            for asset, version in self.reached(move.asset, move.target):
                tainted = VersionTainted(
                    asset=asset, version=version, source=move.asset, source_version=move.target
                )
                events.append(
                    self._events.make(
                        "version.tainted", f"{asset}@{version}", tainted, by, event.id
                    )
                )
        return events

    def reached(self, asset: str, version: str) -> list[tuple[str, str]]:
        """Return every version whose provenance reaches this one, or a later version that still
        holds its partitions."""
        found: dict[tuple[str, str], None] = {}
        stack = [
            (asset, version),
            *((asset, later) for later in self._still_holding(asset, version)),
        ]
        found.update((key, None) for key in stack[1:])
        while stack:
            for row in self._state.read("provenance_downstream", stack.pop()):
                key = (str(row[0]), str(row[1]))
                if key not in found and key != (asset, version):
                    found[key] = None
                    stack.append(key)
            if len(found) > _TAINT_MAX:
                raise UserError(
                    "SX-RELEASE-007",
                    f"more than {_TAINT_MAX} versions stand on `{asset}@{version[:12]}`",
                    hint="undo the assets below it first",
                )
        return list(found)

    def _still_holding(self, asset: str, version: str) -> list[str]:
        """Return the later versions of an asset in which some partition that `version` brought has
        not been replaced."""
        out: list[str] = []
        left = {row[0] for row in self._state.read("parts_of", (asset, version))}
        stack = [(version, left)]
        while stack and len(out) < _TAINT_MAX:
            parent, holds = stack.pop()
            for (child,) in self._state.read("version_children", (asset, parent)):
                remaining = holds - {row[0] for row in self._state.read("parts_of", (asset, child))}
                if remaining and child not in out and child != version:
                    out.append(str(child))
                    stack.append((str(child), remaining))
        return out

    def mark_undone(self, release: Release, *, undo: str, cause: str, by: str) -> Event:
        """Return the event by which a live release becomes rolled back."""
        return self._event(
            advance(release, "undone", reason=f"undone by {undo}", at=self._clock.now_ns()),
            cause,
            by,
        )

    def unhold(self, env: str, asset: str, version: str, by: Principal) -> None:
        """Lift the mark from a withdrawn version. NotFound if it has none."""
        if not self._state.read("withdrawn_is", (env, asset, version)):
            raise NotFound(
                "SX-RELEASE-008",
                f"version `{version[:12]}` of `{asset}` is not withdrawn in `{env}`",
            )
        self._state.commit(
            Write(
                (),
                (
                    self._events.make(
                        "version.unheld",
                        f"{asset}@{version}",
                        VersionUnheld(env, asset, version),
                        by,
                    ),
                ),
            )
        )

    def resume(self) -> list[Release]:
        """Continue every open release, after a crash. One that cannot go on does not stop the
        others: its error comes last."""
        done: list[Release] = []
        problem: SextantError | None = None
        for release in self.open():
            if release.state in ("waiting", "paused"):
                continue
            try:
                done.append(self.drive(release))
            except SextantError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return done

    # ------------------------------------------------------------ events

    def _event(self, release: Release, cause: str, actor: str = "") -> Event:
        return self._events.make(
            f"release.{release.state}", release.id, release, actor or release.by, cause
        )

    def _cause_of(self, release: str) -> str:
        rows = self._state.read("event_newest_of", (release,))
        return str(rows[0][0]) if rows else ""


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


def withdrawn(env: str, asset: str, version: str) -> Conflict:
    """Return the error of a version that was withdrawn in an environment."""
    return Conflict(
        "SX-RELEASE-004",
        f"version `{version[:12]}` of `{asset}` was withdrawn in `{env}`",
        hint=f"`sextant release {asset} {version[:12]} --unhold` lifts the mark",
    )


def still(release: Release) -> Statement:
    """Return the guard by which a write fails when a release is no longer where it was read."""
    return Statement(
        "release_in_state",
        (release.id, release.state, release.step),
        1,
        f"release `{release.id}` was moved on by somebody else",
    )


__all__ = [
    "Releases",
    "Verdict",
    "get_release",
    "is_open",
    "open_releases",
    "still",
    "withdrawn",
]
