"""Two people, one project, any order: `PYTHONPATH=src python bench/machine.py --steps 1000 --seed 1`.

Runs the operations that `tests/simulation/machine.py` describes, in sequences of a few dozen steps,
each in a project of its own, and prints one JSON line with what was counted: the lines of several
seeds add up. The first difference ends it with the seed and the operations so far; the same
arguments replay it.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "simulation")]

import machine  # noqa: E402 - the tests' folders come first

SEQUENCE = 40  # steps of one project


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sequence", type=int, help="only this one of them, to replay it")
    parser.add_argument("--going-on", action="store_true", help="go on after a difference")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    started_s = time.perf_counter()
    differences = 0
    numbers = range(-(-arguments.steps // SEQUENCE))
    for number in numbers if arguments.sequence is None else [arguments.sequence]:
        steps = min(SEQUENCE, arguments.steps - number * SEQUENCE)
        rng = random.Random(f"{arguments.seed} {number}")
        with (
            tempfile.TemporaryDirectory(prefix="sextant-machine-") as folder,
            machine.World(
                Path(folder), f"{arguments.seed} {number}", together=rng.random() < 0.5
            ) as world,
        ):
            try:
                machine.drive(world, rng, steps)
            except machine.Difference as error:
                differences += 1
                print(error, file=sys.stderr, flush=True)
            counts += world.counts
        if differences and not arguments.going_on:
            break
    line = {
        "bench": "machine",
        "seed": arguments.seed,
        "differences": differences,
        "wall_s": round(time.perf_counter() - started_s, 1),
        **dict(sorted(counts.items())),
    }
    print(json.dumps(line))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
