"""The life of a release, for every kind of asset: a pure function from (release, what happened) to
the next release.

    proposed -> gated -> rolling ------------> live -> rolled_back
       |          |      |  ^  |
       |          |      v  |  v
       |          |    paused  undoing -------> rolled_back
       |          v      |     ^    |
       |       waiting   +-----+    v
       v          v               stuck -> undoing | rolling | rolled_back | live
    rejected   rejected

`gated` means the checks passed; `waiting` that people must approve; `rolling` that the strategy is
at step `step`; `undoing` that what was rolled out is taken back; `stuck` that a step or an undo
failed again and again. A release that was not rolled out yet is `superseded` by a newer one, and
`rejected` when the pointer that it moves has moved.
"""

from typing import Literal

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import Conflict
from sextant.kernel.limits import (
    RELEASE_BACKOFF_S,
    RELEASE_BACKOFF_S_MAX,
    RELEASE_ERRORS_MAX,
)
from sextant.kernel.nouns import OPEN_STATES, Release, ReleaseState

Happening = Literal[
    "gate_passed",
    "gate_failed",
    "approval_needed",
    "approved",
    "denied",
    "started",
    "step_passed",
    "not_yet",
    "failed",
    "inconclusive",
    "finished",
    "paused",
    "resumed",
    "taken_back",
    "undone",
    "gave_up",
    "source_moved",
    "superseded",
    "resolved_live",
    "resolved_back",
]

# (state, what happened) -> next state. What is not here cannot happen.
TRANSITIONS: dict[tuple[ReleaseState, Happening], ReleaseState] = {
    ("proposed", "not_yet"): "proposed",
    ("proposed", "failed"): "proposed",
    ("proposed", "gave_up"): "rejected",
    ("proposed", "gate_passed"): "gated",
    ("proposed", "gate_failed"): "rejected",
    ("proposed", "denied"): "rejected",
    ("proposed", "source_moved"): "rejected",
    ("proposed", "superseded"): "superseded",
    ("gated", "approval_needed"): "waiting",
    ("gated", "started"): "rolling",
    ("gated", "denied"): "rejected",
    ("gated", "source_moved"): "rejected",
    ("gated", "superseded"): "superseded",
    ("waiting", "approved"): "gated",
    ("waiting", "denied"): "rejected",
    ("waiting", "source_moved"): "rejected",
    ("waiting", "superseded"): "superseded",
    ("rolling", "step_passed"): "rolling",
    ("rolling", "not_yet"): "rolling",
    ("rolling", "failed"): "rolling",
    ("rolling", "gave_up"): "stuck",
    ("rolling", "inconclusive"): "paused",
    ("rolling", "paused"): "paused",
    ("rolling", "finished"): "live",
    ("rolling", "taken_back"): "undoing",
    ("rolling", "source_moved"): "rejected",
    ("paused", "resumed"): "rolling",
    ("paused", "taken_back"): "undoing",
    ("undoing", "not_yet"): "undoing",
    ("undoing", "failed"): "undoing",
    ("undoing", "gave_up"): "stuck",
    ("undoing", "undone"): "rolled_back",
    ("live", "undone"): "rolled_back",
    ("stuck", "resumed"): "rolling",
    ("stuck", "taken_back"): "undoing",
    ("stuck", "resolved_live"): "live",
    ("stuck", "resolved_back"): "rolled_back",
}
_TRIES_END: tuple[Happening, ...] = (
    "step_passed",
    "not_yet",
    "started",
    "resumed",
    "taken_back",
    "undone",
    "finished",
)


def advance(
    release: Release,
    happened: Happening,
    *,
    reason: str = "",
    by: str = "",
    at: int = 0,
    due_at: int = 0,
) -> Release:
    """Return the release after `happened`. Conflict if that cannot happen in its state.

    at      now (ns since 1970)
    due_at  when a driver works on it again (ns since 1970); 0 = now
    """
    state = TRANSITIONS.get((release.state, happened))
    if state is None:
        raise Conflict(
            "SX-RELEASE-001",
            f"release `{release.id}` is {release.state}: `{happened}` cannot happen to it",
            hint=f"`sextant releases {release.id}` shows where it stands",
        )
    if happened == "resumed" and release.taken_back:
        raise Conflict(
            "SX-RELEASE-012",
            f"release `{release.id}` is taken back, and cannot go on",
            hint=f"`sextant releases {release.id} --abort --reason TEXT` tries the undo again",
        )
    changes: dict[str, object] = {"state": state, "changed_at": at, "due_at": due_at}
    # why an attempt failed is its `error`: the reason says why the release is where it is
    if reason and happened != "failed" and state != "stuck":
        changes["reason"] = reason
    if happened == "approved":
        changes["approvals"] = (*release.approvals, by)
    if happened == "step_passed":
        changes["step"] = release.step + 1
    if happened == "taken_back":
        changes["taken_back"] = True
    is_new_step = happened in ("step_passed", "started", "resumed")
    clock_was_ahead = release.step_at > at
    if clock_was_ahead or (is_new_step and release.strategy.kind != "publish"):
        changes["step_at"] = at
    if happened in ("failed", "gave_up"):
        changes |= {"errors": release.errors + 1, "error": reason}
    elif happened in _TRIES_END:
        changes |= {"errors": 0, "error": ""}
    if happened == "failed":
        changes["due_at"] = at + backoff_ns(release.errors + 1)
    return msgspec.structs.replace(release, **changes)


def failing(release: Release) -> Happening:
    """Return what one more failed attempt is: `gave_up` once there were too many."""
    return "gave_up" if release.errors + 1 >= RELEASE_ERRORS_MAX else "failed"


def backoff_ns(errors: int) -> int:
    """Return how long a driver waits after so many failed attempts in a row, in ns."""
    return int(min(RELEASE_BACKOFF_S * 2 ** (errors - 1), RELEASE_BACKOFF_S_MAX) * NS)


def is_open(release: Release) -> bool:
    """Say whether the release may still move a pointer, or is not taken back yet."""
    return release.state in OPEN_STATES


def may_be_superseded(release: Release) -> bool:
    """Say whether a newer release takes its place; one that is rolling finishes or is undone
    first."""
    return release.state in ("proposed", "gated", "waiting")
