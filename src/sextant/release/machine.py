"""The life of a release, for every kind of asset: a pure function from (release, what happened) to
the next release.

    proposed -> gated -> rolling -> live -> rolled_back
       |          |        |  ^
       |          |        v  |
       |          |      paused --------> rolled_back
       |          v        |
       |       waiting     +------------> stuck -> rolled_back | live
       v          v
    rejected   rejected            any open state -> superseded (before rolling) | rejected (its
               source moved)

`gated` means the checks passed; `waiting` that people must approve; `rolling` that the strategy is
at step `step`.
"""

from typing import Literal

import msgspec

from sextant.kernel.errors import Conflict
from sextant.kernel.nouns import OPEN_STATES, Release, ReleaseState

Happening = Literal[
    "gate_passed",
    "gate_failed",
    "approval_needed",
    "approved",
    "denied",
    "started",
    "step_passed",
    "step_failed",
    "finished",
    "paused",
    "resumed",
    "undone",
    "undo_failed",
    "source_moved",
    "superseded",
    "resolved_live",
    "resolved_back",
]

# (state, what happened) -> next state. What is not here cannot happen.
TRANSITIONS: dict[tuple[ReleaseState, Happening], ReleaseState] = {
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
    ("rolling", "step_failed"): "paused",
    ("rolling", "paused"): "paused",
    ("rolling", "finished"): "live",
    ("rolling", "undone"): "rolled_back",
    ("rolling", "undo_failed"): "stuck",
    ("rolling", "source_moved"): "rejected",
    ("paused", "resumed"): "rolling",
    ("paused", "undone"): "rolled_back",
    ("paused", "undo_failed"): "stuck",
    ("live", "undone"): "rolled_back",
    ("stuck", "resolved_live"): "live",
    ("stuck", "resolved_back"): "rolled_back",
}


def advance(
    release: Release, happened: Happening, *, reason: str = "", by: str = "", at: int = 0
) -> Release:
    """Return the release after `happened`. Conflict if that cannot happen in its state."""
    state = TRANSITIONS.get((release.state, happened))
    if state is None:
        raise Conflict(
            "SX-RELEASE-001",
            f"release `{release.id}` is {release.state}: `{happened}` cannot happen to it",
            hint=f"`sextant releases {release.id}` shows where it stands",
        )
    changes: dict[str, object] = {"state": state, "changed_at": at}
    if reason:
        changes["reason"] = reason
    if happened == "approved":
        changes["approvals"] = (*release.approvals, by)
    if happened == "step_passed":
        changes["step"] = release.step + 1
    return msgspec.structs.replace(release, **changes)


def is_open(release: Release) -> bool:
    """Say whether the release may still move a pointer."""
    return release.state in OPEN_STATES


def may_be_superseded(release: Release) -> bool:
    """Say whether a newer release takes its place; one that is rolling finishes or is undone
    first."""
    return release.state in ("proposed", "gated", "waiting")
