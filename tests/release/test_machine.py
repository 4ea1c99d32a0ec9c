"""`machine.advance`: every transition, and that nothing else can happen."""

from typing import get_args

import msgspec
import pytest

from sextant.kernel.errors import Conflict
from sextant.kernel.nouns import Move, Release, ReleaseState, Strategy
from sextant.release.machine import (
    TRANSITIONS,
    Happening,
    advance,
    failing,
    is_open,
    may_be_superseded,
)

# state -> what may happen to it -> what it becomes. Written down a second time on purpose: a
# transition that is added or lost must be seen here.
TABLE: dict[str, dict[str, str]] = {
    "proposed": {"not_yet": "proposed", "failed": "proposed", "gave_up": "rejected", "gate_passed": "gated", "gate_failed": "rejected", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "gated": {"approval_needed": "waiting", "started": "rolling", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "waiting": {"approved": "gated", "denied": "rejected", "source_moved": "rejected", "superseded": "superseded"},
    "rolling": {"step_passed": "rolling", "not_yet": "rolling", "failed": "rolling", "gave_up": "stuck", "inconclusive": "paused", "paused": "paused", "finished": "live", "taken_back": "undoing", "source_moved": "rejected"},
    "paused": {"resumed": "rolling", "taken_back": "undoing"},
    "undoing": {"not_yet": "undoing", "failed": "undoing", "gave_up": "stuck", "undone": "rolled_back"},
    "live": {"undone": "rolled_back"},
    "stuck": {"resumed": "rolling", "taken_back": "undoing", "resolved_live": "live", "resolved_back": "rolled_back"},
    "rejected": {}, "rolled_back": {}, "superseded": {},
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
    assert advance(release("rolling"), "step_passed", at=7).step == 2
    assert advance(release("rolling"), "step_passed", at=7).step_at == 7
    paused = advance(release("rolling"), "paused", reason="wait for Monday")
    assert (paused.reason, paused.step) == ("wait for Monday", 1)
    assert advance(paused, "resumed").reason == "wait for Monday", (
        "an empty reason must not wipe the last one"
    )


def test_failed_attempts_are_counted_and_wait_longer_and_longer() -> None:
    """A service that is down would be called without a pause, or given up at once."""
    waits, one = [], release("rolling")
    while failing(one) == "failed":
        one = advance(one, "failed", reason="no route", at=10)
        waits.append((one.due_at - 10) / 1e9)
    assert waits == [2, 4, 8, 16, 32, 64, 128]
    assert (one.errors, one.error, one.reason) == (7, "no route", "")
    stuck = advance(one, failing(one), reason="no route", at=10)
    assert (stuck.state, stuck.errors) == ("stuck", 8)
    again = advance(one, "not_yet", at=20, due_at=30)
    assert (again.errors, again.error, again.due_at) == (0, "", 30), "it answers again"
    assert advance(stuck, "resumed").errors == 0


def test_what_is_taken_back_cannot_go_on() -> None:
    """A person would send traffic to a version that was judged bad, and is withdrawn."""
    undoing = advance(release("rolling"), "taken_back", reason="errors")
    assert undoing.taken_back
    for _ in range(8):
        undoing = advance(undoing, failing(undoing), reason="no route")
    assert undoing.state == "stuck"
    with pytest.raises(Conflict, match="taken back"):
        advance(undoing, "resumed")
    assert advance(undoing, "taken_back").state == "undoing"


def test_data_has_no_more_to_record() -> None:
    """Each publish of the pointer alone would carry what only a roll-out needs."""
    one = msgspec.structs.replace(release("gated"), strategy=Strategy(kind="publish"))
    rolling = advance(one, "started", at=5)
    assert (rolling.step_at, rolling.due_at) == (0, 0)
    assert advance(release("gated"), "started", at=5).step_at == 5


def test_open_and_queued() -> None:
    """A release that rolls is never superseded, and one that ended never blocks the next."""
    assert {s for s in get_args(ReleaseState) if is_open(release(s))} == {
        "proposed",
        "gated",
        "waiting",
        "rolling",
        "paused",
        "undoing",
        "stuck",
    }
    assert {s for s in get_args(ReleaseState) if may_be_superseded(release(s))} == {
        "proposed",
        "gated",
        "waiting",
    }
