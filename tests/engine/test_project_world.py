"""Whatever people do, in whatever order: nothing comes to prod that the rules in force there did
not allow. A longer one is `bench/project_rules.py`."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import project_world
from project_world import STEPS, World
from sextant.project import current
from shop_project import load_here


class Machine(RuleBasedStateMachine):
    """A world whose steps hypothesis chooses."""

    world: World | None = None

    @initialize(seed=st.integers(0, 1 << 20))
    def open(self, seed: int) -> None:
        self.world = World(seed).__enter__()

    @rule(name=st.sampled_from(STEPS))
    def step(self, name: str) -> None:
        assert self.world is not None
        self.world.step(name)

    def teardown(self) -> None:
        if self.world is not None:
            self.world.__exit__()


def test_nothing_comes_to_prod_that_its_rules_did_not_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, somebody found an order of commands that passes everybody's review."""
    monkeypatch.setattr(current.loading, "load", load_here)
    Machine.TestCase.settings = settings(
        max_examples=8,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    Machine.TestCase().runTest()


def test_people_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, see the last commands in the message."""
    monkeypatch.setattr(current.loading, "load", load_here)
    counts: Counter[str] = Counter()
    for seed in (1, 2):
        counts.update(project_world.drive(seed, 120))
    assert counts["moved in prod"] >= 6, counts
    assert any(what.endswith("SX-PROJ-097") for what in counts), counts
