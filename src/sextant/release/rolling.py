"""Rolls releases out that take time, one step after the other, and takes them back: what a driver
does while it holds the lease of a release.

A kind's `roll` and `undo` may fail in any way: the release stays where it is with its error, and is
tried again with growing waits, until it is `stuck` and an incident says so. Nothing that a kind
raises leaves this module.

What was judged bad is marked as withdrawn in the same write that ends its roll-out, before anything
is taken back: a driver that dies in between leaves a release that the next one takes back, and a
version that nothing chooses again.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import BadData, Bug, Conflict, SextantError
from sextant.kernel.kinds import Instant, Released, Rolled, RolledOut
from sextant.kernel.limits import (
    EVIDENCE_BYTES_MAX,
    REASON_CHARS_MAX,
    RELEASE_LOOK_S_MAX,
    RELEASE_LOOK_S_MIN,
)
from sextant.kernel.nouns import SYSTEM, Event, Move, Release
from sextant.kernel.ports import Statement
from sextant.release.machine import failing
from sextant.release.records import BAD, Records
from sextant.release.withdrawing import withdrawals


class Rolling:
    """Works on releases of kinds that are rolled out.

    kind_of_move  how versions of a move's kind become live; raises SextantError where the kind is
                  gone
    pointers      what must hold when the pointers of a release move
    """

    def __init__(
        self,
        records: Records,
        kind_of_move: Callable[[Move], Released],
        pointers: Callable[[Release], list[Statement]],
    ) -> None:
        self._records, self._kind, self._pointers = records, kind_of_move, pointers

    def roll(self, release: Release, fence: int) -> Release:
        """Bring the step that a release is at about, and write what its kind said."""
        try:
            kind = self._rolled_out(release)
            answer = _understood(kind.roll(release, fence), release)
        except Exception as error:
            return self.fail(release, error)
        match answer.says:
            case "holds":
                return self._go_on(release)
            case "not_before":
                return self._wait(release, answer)
            case "bad" if release.intent == "release":
                return self.take_back(
                    release, _cut(answer.reason) or "judged bad", evidence=answer.evidence
                )
            case _:  # the version before is no better: nobody but a person can tell what is
                return self._records.step(
                    release,
                    "inconclusive",
                    reason=_cut(answer.reason) or f"its kind answers `{answer.says}`",
                    evidence=answer.evidence,
                )

    def undo(self, release: Release, fence: int) -> Release:
        """Take back what was rolled out, and write how far that is."""
        try:
            kind = self._rolled_out(release)
            answer = _understood(kind.undo(release, fence), release, undo=True)
        except Exception as error:
            return self.fail(release, error)
        if answer.says == "not_before":
            return self._wait(release, answer)
        return self._records.step(release, "undone")

    def take_back(
        self,
        release: Release,
        reason: str,
        *,
        by: str = "",
        evidence: Mapping[str, Any] | None = None,
        withdraw: bool = True,
    ) -> Release:
        """Write that a release is to be undone: its version is withdrawn, and what was made from it
        tainted, with a signal where its judge said so.

        by        who takes it back; "" = its judge, or nobody: the system
        withdraw  False where nothing is wrong with the version itself
        """
        records, by = self._records, by or str(SYSTEM)

        def then(undoing: Release, cause: str) -> list[Event]:
            events = []
            if withdraw and release.intent == "release":
                events += self._withdrawals(undoing, cause, by)
            if evidence is not None:
                events.append(records.signal(undoing, BAD, cause))
            return events

        return records.step(
            release, "taken_back", reason=reason, by=by, evidence=evidence, then=then
        )

    def _withdrawals(self, release: Release, cause: str, by: str) -> list[Event]:
        """Return the events that mark what a release brought. Where its kind cannot say what must
        not be made again, or too much was made from it, the versions themselves are marked, and a
        signal says what could not be: nothing may keep them live."""
        records = self._records
        mark = functools.partial(
            withdrawals,
            records.state,
            records.events,
            moves=release.moves,
            reason=release.reason,
            undo=release.id,
            cause=cause,
            by=by,
        )
        try:
            return mark(self._kind)
        except Exception as error:
            move = release.moves[0]
            raised = records.events.signal(
                move.asset,
                "taint.failed",
                "error",
                f"release {release.id} is taken back, but what was made from `{move.asset}` could "
                f"not be marked: {_cut(str(error))}",
                env=move.env,
                key=release.id,
                evidence={"env": move.env, "release": release.id, "version": move.target},
                cause=cause,
            )
            return [*mark(lambda _move: Instant(), taints=False), raised]

    def fail(self, release: Release, error: Exception) -> Release:
        """Write that an attempt failed."""
        text = error.message if isinstance(error, SextantError) else ""
        return self._records.step(
            release,
            failing(release),
            reason=_cut(text or f"{type(error).__name__}: {error}"),
        )

    def _rolled_out(self, release: Release) -> RolledOut:
        kinds = {id(kind): kind for kind in map(self._kind, release.moves)}
        if len(kinds) != 1:
            raise Bug("SX-RELEASE-013", "a release that takes time moves several kinds")
        return next(iter(kinds.values()))  # type: ignore[return-value]

    def _go_on(self, release: Release) -> Release:
        """Write that a step held: the next one begins when this one has lasted long enough, and
        after the last one the pointers move."""
        records, strategy = self._records, release.strategy
        if release.step + 1 < len(strategy.steps):
            now = records.clock.now_ns()
            until = min(release.step_at, now) + int(strategy.step_s * NS)
            if now < until:
                return records.step(release, "not_yet", due_at=self._bounded(until))
            return records.step(release, "step_passed")
        try:
            self._rolled_out(release).confirm(release)
        except Exception as error:
            return self.fail(release, error)
        try:
            return records.step(release, "finished", also=self._pointers(release))
        except Conflict as error:
            current = records.get(release.id)
            if (current.state, current.step) != (release.state, release.step):
                raise  # somebody else moved it on meanwhile
            return self.take_back(release, error.message, withdraw=False)

    def _wait(self, release: Release, answer: Rolled) -> Release:
        return self._records.step(
            release, "not_yet", reason=_cut(answer.reason), due_at=self._bounded(answer.at)
        )

    def _bounded(self, at: int) -> int:
        now = self._records.clock.now_ns()
        soonest, latest = int(RELEASE_LOOK_S_MIN * NS), int(RELEASE_LOOK_S_MAX * NS)
        return min(max(at, now + soonest), now + latest)


def _understood(answer: object, release: Release, *, undo: bool = False) -> Rolled:
    """Return what a kind answered. BadData for what is no answer."""
    allowed = ("holds", "not_before") if undo else ("holds", "not_before", "bad", "inconclusive")
    size = -1
    if (
        isinstance(answer, Rolled)
        and answer.says in allowed
        and type(answer.at) is int
        and isinstance(answer.reason, str)
    ):
        with contextlib.suppress(TypeError, ValueError, OverflowError, msgspec.MsgspecError):
            size = len(msgspec.json.encode(dict(answer.evidence)))
    if not isinstance(answer, Rolled) or size < 0:
        what, said = "undo" if undo else "roll", _cut(repr(answer), 80)
        raise BadData(
            "SX-RELEASE-014",
            f"the kind of `{release.moves[0].asset}` answered `{what}` with {said}",
            hint="a `Rolled` with evidence that is JSON; an undo cannot be bad",
        )
    if size > EVIDENCE_BYTES_MAX:
        raise BadData(
            "SX-RELEASE-015",
            f"the evidence about `{release.moves[0].asset}` has {size:,} bytes, more than "
            f"{EVIDENCE_BYTES_MAX:,}",
            hint="evidence is a summary of what was measured",
        )
    return answer


def _cut(text: str, most: int = REASON_CHARS_MAX) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
