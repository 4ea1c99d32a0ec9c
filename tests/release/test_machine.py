"""`machine.advance`: every transition, and that nothing else can happen."""

from typing import get_args

import pytest

from sextant.kernel.errors import Conflict
from sextant.kernel.nouns import Move, Release, ReleaseState
from sextant.release.machine import TRANSITIONS, Happening, advance, is_open, may_be_superseded

# state -> what may happen to it -> what it becomes. Written down a second time on purpose: a
# transition that is added or lost must be seen here.
TABLE: dict[str, dict[str, str]] = {
    "proposed": {"gate_passed": "gated", "gate_failed": "rejected", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "gated": {"approval_needed": "waiting", "started": "rolling", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "waiting": {"approved": "gated", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "rolling": {"step_passed": "rolling", "step_failed": "paused", "paused": "paused", "finished": "live", "undone": "rolled_back", "undo_failed": "stuck", "source_moved": "rejected"},
    "paused": {"resumed": "rolling", "undone": "rolled_back", "undo_failed": "stuck"},
    "live": {"undone": "rolled_back"},
    "stuck": {"resolved_live": "live", "resolved_back": "rolled_back"}, "rejected": {},
    "rolled_back": {}, "superseded": {},
}  # fmt: skip


def release(state: str) -> Release:
    return Release(
        id="rel_1",
        state=state,
        moves=(Move(env="prod", asset="thing:a", source="", target="v1"),),
        approvals=("person:ann",),
        step=1,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("happened", get_args(Happening))
@pytest.mark.parametrize("state", get_args(ReleaseState))
def test_every_pair_of_state_and_happening(state: str, happened: Happening) -> None:
    """A release must never reach a state by a way that nobody thought of."""
    expected = TABLE[state].get(happened)
    if expected is None:
        with pytest.raises(Conflict) as caught:
            advance(release(state), happened)
        assert state in caught.value.message
        assert caught.value.code == "SX-RELEASE-001"
    else:
        assert advance(release(state), happened).state == expected


def test_the_table_is_complete() -> None:
    """A transition that exists but stands in no test could be wrong unseen."""
    assert {
        (state, happened): after for state, row in TABLE.items() for happened, after in row.items()
    } == TRANSITIONS


def test_what_a_happening_leaves_behind() -> None:
    """Who approved, which step was reached, why and when: the story must not be lost on the way."""
    approved = advance(release("waiting"), "approved", by="person:bob", at=5)
    assert approved.approvals == ("person:ann", "person:bob")
    assert approved.changed_at == 5
    assert advance(release("rolling"), "step_passed").step == 2
    paused = advance(release("rolling"), "paused", reason="wait for Monday")
    assert (paused.reason, paused.step) == ("wait for Monday", 1)
    assert advance(paused, "resumed").reason == "wait for Monday", (
        "an empty reason must not wipe the last one"
    )


def test_open_and_queued() -> None:
    """A release that rolls is never superseded, and one that ended never blocks the next."""
    assert {s for s in get_args(ReleaseState) if is_open(release(s))} == {
        "proposed",
        "gated",
        "waiting",
        "rolling",
        "paused",
    }
    assert {s for s in get_args(ReleaseState) if may_be_superseded(release(s))} == {
        "proposed",
        "gated",
        "waiting",
    }
