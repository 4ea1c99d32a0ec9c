"""What was returned is what is read: `PYTHONPATH=src python bench/values.py --examples 20000`.

Runs the ways through the lake that `tests/simulation/roundtrips.py` describes and prints one JSON
line with what was counted. The first difference ends it with its seed.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "simulation")]

import roundtrips  # noqa: E402 - the tests' folders come first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--example", type=int, help="only this one of them, to replay it")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    started_s = time.perf_counter()
    differences = 0
    numbers = range(arguments.examples) if arguments.example is None else [arguments.example]
    with tempfile.TemporaryDirectory(prefix="sextant-values-") as folder:
        world = roundtrips.World(Path(folder))
        for number in numbers:
            try:
                world.example(f"{arguments.seed} {number}")
            except roundtrips.Difference as error:
                differences += 1
                print(error, file=sys.stderr, flush=True)
                if differences >= 10:
                    break
    line = {
        "bench": "values",
        "seed": arguments.seed,
        "differences": differences,
        "wall_s": round(time.perf_counter() - started_s, 1),
        **dict(sorted(world.counts.items())),
    }
    print(json.dumps(line))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
