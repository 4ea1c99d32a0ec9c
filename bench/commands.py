"""CPU time of commands that people call all day, with all processes that they start, in a fresh
project of `sextant init`, interleaved.

`--before SRC` measures the `src` folder of another state of Sextant beside this one. Processor time
of the whole tree: wall time is less, since some of it runs side by side.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "src"
COMMANDS: dict[str, list[str]] = {
    "--help": ["--help"],
    "status": ["status"],
    "plan": ["plan"],
    "kpi": ["kpi", "average_order"],
    "query": ["query", "select count() from data.orders"],
    "query of a KPI": ["query", "select * from kpi.average_order limit 1"],
}


def cpu_s(source: Path, folder: Path, words: list[str]) -> float:
    """Return the CPU time (user + system, s) of one command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "sextant.cli.main", *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "XDG_CONFIG_HOME": str(folder.parent / "config"),
            "XDG_STATE_HOME": str(folder.parent / "state"),
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--before", type=Path, help="the `src` folder of another state")
    arguments = parser.parse_args()
    sources = {"now": HERE} | ({"before": arguments.before.resolve()} if arguments.before else {})
    seen: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as home:
        for when, source in sources.items():
            (Path(home) / when).mkdir()
            cpu_s(source, Path(home) / when, ["init", "shop"])
            cpu_s(source, Path(home) / when / "shop", ["run"])
        for n in range(arguments.repeat + 1):
            for name, words in COMMANDS.items():
                for when, source in sources.items():
                    found = cpu_s(source, Path(home) / when / "shop", words)
                    if n:  # the first time compiles modules and makes tables
                        seen.setdefault((name, when), []).append(found)
    for (name, when), values in seen.items():
        print(
            json.dumps(
                {
                    "bench": "commands",
                    "what": f"sextant {name}",
                    "when": when,
                    "unit": "s CPU",
                    "median": round(statistics.median(values), 3),
                    "min": round(min(values), 3),
                    "max": round(max(values), 3),
                    "n": len(values),
                }
            )
        )


if __name__ == "__main__":
    main()
