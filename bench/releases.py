"""Releases that take time under people, drivers, crashes and kills: `python bench/releases.py
[--steps 20000] [--kills 1000] [--seed 1]`.

Draws steps of the state machine of `tests/release` (two drivers, a kind that is slow, fails, raises
anything, answers nonsense, dies, is judged bad or inconclusive, clocks that jump), then kills real
driver processes with -9 at random moments. Prints one JSON line with what was counted; what must
not be ends it with the steps that lead there.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "release")]
_STEPS_EACH = 40


def machine(steps: int, seed: int) -> Counter[str]:
    """Run the state machine for so many steps; return how often each state was reached."""
    import random

    from hypothesis import HealthCheck, Phase, seed as seeded, settings
    from hypothesis.stateful import run_state_machine_as_test
    from test_release_machine import ReleaseMachine

    reached: Counter[str] = Counter()

    class Watched(ReleaseMachine):
        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "replay"):
                reached.update(self.replay.states.values())
                reached["steps"] += _STEPS_EACH

    random.seed(seed)
    run_state_machine_as_test(
        seeded(seed)(Watched),
        settings=settings(
            max_examples=max(1, steps // _STEPS_EACH),
            stateful_step_count=_STEPS_EACH,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.steps:
        began = time.perf_counter()
        reached = machine(arguments.steps, arguments.seed)
        say("the machine", arguments.seed, reached, began)
    if arguments.kills:
        from killed_drivers import kill_drivers

        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
            counts = kill_drivers(Path(folder), arguments.kills, arguments.seed)
        say(f"{arguments.kills} kills of drivers", arguments.seed, counts, began)


def say(what: str, seed: int, counts: Counter[str], began: float) -> None:
    """Print what was counted."""
    took = round(time.perf_counter() - began, 1)
    line = {"bench": "releases", "what": what, "seed": seed, "counts": dict(counts), "s": took}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
