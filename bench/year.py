"""The year of flights, cold, after installation: as 365 daily runs, as one backfill; an unchanged
re-run; an edit; an undo.

Every figure is wall time in this process with its worker processes, imports of the workers
included. WAL, synchronous=FULL; every data, manifest and metadata file is synced.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = "2013-01-01", "2013-12-31"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", choices=["", "daily", "backfill"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as home:
        os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_STATE_HOME"] = str(Path(home).resolve())
        seen: dict[str, list[float]] = {}
        facts: dict[str, object] = {}
        for n in range(arguments.repeat):
            for way in ("daily", "backfill"):
                if arguments.only in ("", way):
                    folder = Path(home).resolve() / f"{way}{n}"
                    shutil.copytree(
                        ROOT / "examples" / "flights",
                        folder,
                        ignore=shutil.ignore_patterns("__pycache__", ".sextant"),
                    )
                    one(
                        folder,
                        way,
                        seen,
                        facts,
                        # its folder stays until the end: ext4 passes over the inodes of files just
                        # deleted, one by one, with each new file
                    )
    budgets = {"365 daily runs": 30, "one backfill": 15, "unchanged re-run": 2}
    for name, values in seen.items():
        print(
            json.dumps(
                {
                    "bench": "year",
                    "what": name,
                    "unit": "s",
                    "median": round(statistics.median(values), 3),
                    "min": round(min(values), 3),
                    "max": round(max(values), 3),
                    "n": len(values),
                    "budget": budgets.get(name),
                    **({"facts": facts[name]} if name in facts else {}),
                }
            )
        )


def one(folder: Path, way: str, seen: dict[str, list[float]], facts: dict[str, object]) -> None:
    """Live through one cold year and what follows it."""
    from sextant.app.platform import LocalPlatform
    from sextant.app.watch import days_of
    from sextant.engine.plan import Request

    def timed(name: str, do: Callable[[], object]) -> object:
        at = time.perf_counter()
        out = do()
        seen.setdefault(name, []).append(time.perf_counter() - at)
        return out

    def cold() -> None:
        with LocalPlatform.open(folder) as p:
            p.runs.executors.warm()
            year = Request(partitions=(FIRST, LAST))
            keys = (
                [(day, day) for day in days_of(p.core, year)] if way == "daily" else [(FIRST, LAST)]
            )
            for span in keys:
                p.runs.run("dev", Request(partitions=span), by=p.core.authorization.who())

    timed("365 daily runs" if way == "daily" else "one backfill", cold)

    def again() -> int:
        with LocalPlatform.open(folder) as p:
            return p.runs.run("dev", Request(), by=p.core.authorization.who()).computed

    steps = timed("unchanged re-run", again)
    facts["unchanged re-run"] = {"steps": steps}
    if way == "daily":
        return
    code = folder / "flights" / "delays.py"
    code.write_text(code.read_text().replace("LATE_MIN = 15", "LATE_MIN = 20"))
    with LocalPlatform.open(folder) as p:
        plan = timed("plan after an edit", lambda: p.runs.plan("dev", Request()))
        facts["plan after an edit"] = {
            "stale": {k: len(v) for k, v in plan.stale.items()},
            "expected_s": {k: round(v, 2) for k, v in plan.stale_seconds.items()},
        }  # type: ignore[attr-defined]
        report = timed(
            "backfill --stale after an edit of one function",
            lambda: p.runs.run(
                "dev",
                Request(assets=("dataset:features",), stale=True),
                by=p.core.authorization.who(),
            ),
        )
        facts["backfill --stale after an edit of one function"] = {
            "steps": report.computed,
            "published": sorted(report.published),
        }  # type: ignore[attr-defined]
        timed(
            "rollback of that table",
            lambda: p.runs.undo(
                "dev", "dataset:features", by=p.core.authorization.who(), reason="bench"
            ),
        )


if __name__ == "__main__":
    main()
