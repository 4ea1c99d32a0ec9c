"""Runs the benchmarks and prints one JSON line for each figure: `python -m bench [NAME ...]`.

Each benchmark is a script of its own in this folder and can be run alone. Figures are medians and
ranges over interleaved repetitions; what waits for the disk is shown beside the cost of a bare
commit or fsync of the same run.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = (
    "weight",
    "startup",
    "commands",
    "engine",
    "ledger",
    "catalogue",
    "lake",
    "profiles",
    "order",
    "values",
    "kpis",
    "waterfall",
    "access",
    "year",
    "server",
    "streams",
    "telemetry",
    "bodies",
    "decode",
    "fuzz",
    "crash",
    "machine",
    "telemetry_crash",
    "together",
    "mutation",
    "node",
    "prometheus",
    "judge",
    "page",
    "browser",
    "uploads",
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all. Returns the worst exit code."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"there is no benchmark {unknown[0]}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or ALL:
        print(f"-- {name}", file=sys.stderr, flush=True)
        worst = max(
            worst,
            subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode,
        )
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
