"""`ledger verify` finds releases into environments that did not exist when they went live."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Move, Release
from sextant.kernel.ports import Write
from sextant.ledger.log import Ledger, event
from sextant.ledger.projections import EnvCreated
from sextant.ledger.verify import verify
from sextant.stores.state import StateStore, open_state


class Story:
    """A ledger that is written event by event, past everything that would refuse it."""

    def __init__(self, state: StateStore, clock: ManualClock) -> None:
        self.state, self.ids = state, Ids(clock)

    def tell(self, type_: str, subject: str, data: object) -> int:
        """Write an event and return its number."""
        one = event(self.ids, type_, subject, data, actor="person:ann")  # type: ignore[arg-type]
        self.state.commit(Write((), (one,)))
        return int(self.state.read("event_seq", (one.id,))[0][0])

    def environment(self, verb: str, name: str, parent: str = "") -> int:
        return self.tell(f"env.{verb}", name, EnvCreated(name, parent))

    def release(self, id_: str, *envs: str, state: str = "live") -> int:
        moves = tuple(Move(env=env, asset="dataset:a", source="", target="aa") for env in envs)
        return self.tell(f"release.{state}", id_, Release(id=id_, state=state, moves=moves))

    def findings(self, *, projections: bool = True) -> list[tuple[int, str]]:
        report = verify(self.state, projections=projections)
        return [(finding.seq, finding.message) for finding in report.findings]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    clock = ManualClock(1_700_000_000_000_000_000)
    state = open_state(tmp_path / "state.db", Ledger(clock), clock=clock)
    yield Story(state, clock)
    state.close()


def test_a_release_into_an_environment_that_exists(story: Story) -> None:
    """A sound ledger would verify as wrong."""
    story.environment("created", "dev")
    story.environment("created", "pr", "dev")
    story.release("rel_1", "dev", "pr")
    story.environment("dropped", "pr", "dev")
    story.release("rel_2", "dev")
    story.release("rel_3", "pr", state="rejected")
    story.environment("created", "pr", "dev")
    story.release("rel_4", "pr")
    assert story.findings() == []


def test_a_release_into_an_environment_that_did_not_exist(story: Story) -> None:
    """Nobody would learn that data went live where nothing was: after a drop, or before the
    environment was made."""
    early = story.release("rel_early", "dev")
    story.environment("created", "dev")
    story.environment("created", "pr", "dev")
    story.environment("dropped", "pr", "dev")
    late = story.release("rel_late", "dev", "pr")
    never = story.release("rel_never", "prd")
    absent = "which did not exist at that moment"
    assert story.findings() == [
        (early, f"release `rel_early` went live in environment `dev`, {absent}"),
        (late, f"release `rel_late` went live in environment `pr`, {absent}"),
        (never, f"release `rel_never` went live in environment `prd`, {absent}"),
    ]
    assert story.findings(projections=False) == []
