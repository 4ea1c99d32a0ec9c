"""Random trees of who made what, beside a model: `PYTHONPATH=src python bench/access.py --examples
10000`.

Grows and judges trees as `tests/simulation/makers.py` describes and prints one JSON line with what
was counted. A difference is printed with its seed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "simulation")]

import makers  # noqa: E402 - the tests' folders come first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--example", type=int, help="only this one of them, to replay it")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    differences = 0
    numbers = range(arguments.examples) if arguments.example is None else [arguments.example]
    with makers.Makers() as world:
        for number in numbers:
            try:
                world.example(f"{arguments.seed} {number}")
            except makers.Difference as error:
                differences += 1
                print(error, file=sys.stderr, flush=True)
                if differences >= 10:
                    break
        counts = dict(sorted(world.counts.items()))
    line = {
        "bench": "access",
        "seed": arguments.seed,
        "differences": differences,
        "wall_s": round(time.perf_counter() - started_s, 1),
        **counts,
    }
    print(json.dumps(line))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
