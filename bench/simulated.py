"""What the benchmarks that judge drawn examples have in common (`values`, `kpis`, `access`): runs
many, prints one JSON line with what was counted, and each difference with its seed. The
simulations themselves stand in `tests/simulation`.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "simulation")]
DIFFERENCES_MAX = 10  # after so many it ends


class World(Protocol):
    """What draws and judges an example, and counts."""

    counts: Counter[str]

    def example(self, seed: str) -> None: ...


def judge(
    name: str,
    make: Callable[[ExitStack], World],
    difference: type[Exception],
    *,
    about: str | None,
    examples: int,
) -> int:
    """Judge as many examples as the command line says (`examples` unless it does); return the exit
    code.

    make        gives the world; what it enters is left at the end
    difference  what it raises when something is not as it must be
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--examples", type=int, default=examples)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--example", type=int, help="only this one of them, to replay it")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    differences = 0
    numbers = range(arguments.examples) if arguments.example is None else [arguments.example]
    with ExitStack() as stack:
        world = make(stack)
        for number in numbers:
            try:
                world.example(f"{arguments.seed} {number}")
            except difference as error:
                differences += 1
                print(error, file=sys.stderr, flush=True)
                if differences >= DIFFERENCES_MAX:
                    break
    line = {
        "bench": name,
        "seed": arguments.seed,
        "differences": differences,
        "wall_s": round(time.perf_counter() - started_s, 1),
        **dict(sorted(world.counts.items())),
    }
    print(json.dumps(line))
    return 1 if differences else 0
