"""Two versions of Sextant side by side: `python bench/versions.py BEFORE [--repeat 3] -- engine.py
--steps 4000 --repeat 1`.

Runs one benchmark of this folder with the sources of a checkout BEFORE and with those of this one,
in turns, with the same interpreter, and prints one JSON line for each figure that both print:
median, least and most of each, and how many times as much it is now. The benchmark is that of each
checkout, for the other's code. Nothing else should run on the machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "benchmark", nargs="+", help="behind `--`: a file of this folder, its words"
    )
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    sides = [("before", arguments.before.resolve()), ("after", HERE)]
    for turn in range(arguments.repeat):
        # who goes second meets a warmer, or busier, machine: they take turns
        for side, tree in sides if turn % 2 == 0 else sides[::-1]:
            for name, value in figures(tree, arguments.benchmark):
                found[side].setdefault(name, []).append(value)
    for name in sorted(found["before"].keys() & found["after"].keys()):
        values_of = {side: found[side][name] for side in found}
        middle = {side: statistics.median(values) for side, values in values_of.items()}
        line: dict[str, Any] = {"what": name}
        for side, values in values_of.items():
            line[side] = [round(middle[side], 6), round(min(values), 6), round(max(values), 6)]
        line["times"] = round(middle["after"] / middle["before"], 3) if middle["before"] else None
        print(json.dumps(line), flush=True)
    return 0


def figures(tree: Path, words: list[str]) -> Iterator[tuple[str, float]]:
    """Run a benchmark with the sources of a checkout, and yield its numbers by name."""
    done = subprocess.run(
        [sys.executable, str(tree / "bench" / words[0]), *words[1:]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree / "bench")])},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {words} ended with {done.returncode}\n{done.stderr[-2000:]}")
    for text in done.stdout.splitlines():
        if text.startswith("{"):
            line = json.loads(text)
            head = str(line.get("what") or line.get("figure") or line.get("name") or "")
            for field, value in line.items():
                if field in ("median", "value", "s", "ms", "us") or not head:
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        yield f"{head} {field}".strip(), float(value)


if __name__ == "__main__":
    sys.exit(main())
