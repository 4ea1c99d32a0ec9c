"""CPU time of `import sextant` and `sextant --help`, beside a bare interpreter, in fresh processes,
interleaved.

Peers, when they are importable in the interpreter given by --peer PYTHON: `import dagster`, `import
prefect`, `import luigi`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys


def cpu_ms(python: str, code: str) -> float | None:
    """Return the CPU time (user + system, ms) of a fresh interpreter that runs `code`; None when it
    fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return None
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=11)
    parser.add_argument("--peer", default="", help="an interpreter that has the peers installed")
    arguments = parser.parse_args()
    cases = {
        "bare interpreter": (sys.executable, "pass", None),
        "import sextant": (sys.executable, "import sextant", 50),
        "sextant --help": (
            sys.executable,
            "from sextant.cli.main import call; raise SystemExit(call(['--help']))",
            100,
        ),
    }
    if arguments.peer:
        cases |= {
            f"import {name} (peer)": (arguments.peer, f"import {name}", None)
            for name in ("dagster", "prefect", "luigi", "dbos")
        }
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(arguments.repeat):
        for name, (python, code, _) in cases.items():
            found = cpu_ms(python, code)
            if found is not None:
                seen[name].append(found)
    for name, values in seen.items():
        if values:
            print(
                json.dumps(
                    {
                        "bench": "startup",
                        "what": name,
                        "unit": "ms CPU",
                        "median": round(statistics.median(values), 1),
                        "min": round(min(values), 1),
                        "max": round(max(values), 1),
                        "n": len(values),
                        "budget": cases[name][2],
                    }
                )
            )


if __name__ == "__main__":
    main()
