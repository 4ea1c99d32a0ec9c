"""The operations in any order, by two people whose processes die and stand still: the seeded minute
of what `bench/machine.py` does by the thousand."""

import contextlib
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from machine import STEPS, WEIGHTS, World

ORDINARY = [name for name in STEPS for _ in range(WEIGHTS.get(name, 1))]


class Machine(RuleBasedStateMachine):
    """`World`, with hypothesis to choose."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self.world: World | None = None

    @initialize(together=st.booleans())
    def open(self, together: bool) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sextant-machine-"))
        self.world = self._stack.enter_context(World(Path(folder), "hypothesis", together=together))

    @rule(name=st.sampled_from(ORDINARY), seed=st.integers(0, 2**32))
    def step(self, name: str, seed: int) -> None:
        assert self.world is not None
        self.world.step(name, random.Random(seed))

    def teardown(self) -> None:
        try:
            if self.world is not None:
                self.world.finish()
        finally:
            self._stack.close()


def test_any_order() -> None:
    """If this fails, some order of runs, edits, undos, releases and crashes leaves a table that is
    not what its inputs make, brings back what was undone, or loses rows."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
