"""Who brings what to prod: `python bench/project_rules.py [--steps 10000] [--seed 1]`.

People of two teams edit rules and code, upload, release, run, undo, approve, promote and break the
glass in drawn orders (the world of `tests/engine/project_world.py`). An oracle that reads the texts of the
project alone says of each version that comes into force in prod whether the rules that were in
force there allowed it. Prints one JSON line with what happened; what must not be ends it with the
commands that lead there.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "engine")]
_STEPS_EACH = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    import project_world
    from shop_project import load_here

    from sextant.project import current

    current.loading.load = load_here  # type: ignore[attr-defined]
    found: Counter[str] = Counter()
    started, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        tempfile.tempdir = folder
        while done < arguments.steps:
            seed = arguments.seed * 1_000_000 + done
            found.update(project_world.drive(seed, _STEPS_EACH))
            done += _STEPS_EACH
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"steps": done, "seconds": seconds, **dict(sorted(found.items()))}))


if __name__ == "__main__":
    main()
