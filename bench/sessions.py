"""Undo by actor and time: `python bench/sessions.py [--examples 100] [--seed 1]`.

In each example somebody works with every kind of asset, in two environments, for some minutes; all
of it is then undone by name and time. Counts what was done and undone; what is not exactly as it
was before, but for what the plan named as impossible, is printed with its seed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "toy")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    from undone_sessions import undo_session

    counts: Counter[str] = Counter()
    began, differences = time.perf_counter(), 0
    for number in range(arguments.examples):
        with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
            try:
                counts += undo_session(Path(folder), arguments.seed * 1_000_003 + number)
            except AssertionError as error:
                differences += 1
                print(error, file=sys.stderr, flush=True)
    line = {
        "bench": "sessions",
        "seed": arguments.seed,
        "examples": arguments.examples,
        "differences": differences,
        "counts": dict(counts),
        "s": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line), flush=True)
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
