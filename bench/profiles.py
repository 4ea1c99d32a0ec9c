"""Measure what profiles of columns cost: CPU seconds of `sextant run` with and without them, in
turns, and how large they are.

    PYTHONPATH=src python bench/profiles.py [--n 5] [--only million,ten,small]

million  1 M rows x 8 columns, one partition
ten      10 M rows, the same
small    1,000 partitions (days) of 1,000 rows x 8 columns, 33 steps

"Without" is a project whose file turns the writer of profiles off in the worker; nothing else
differs. CPU seconds are those of the command and all of its children (`getrusage`), so the start of
interpreters is in both: `start_s` is that of a project with 8 rows. Where other work takes the
machine these scatter by more than what is measured; `in_steps` is told by the worker itself: CPU
seconds of writing profiles, in all that it took otherwise from one file to the next, run by run. Prints one JSON
object a line.
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
from typing import NamedTuple

_FILE = """
import datetime as dt
import numpy as np
import polars as pl
import sextant as sx
{off}
ops = sx.team("ops", members=["ann"])
sx.project("bench", tz="UTC", owner=ops)
days = sx.daily(start="2020-01-01")
COUNTRIES = np.array(["DE", "FR", "US", "GB", "IT", "ES", "NL", "PL"])

def rows(count, seed, begin):
    r = np.random.default_rng(seed)
    gaps = r.random(count) < 0.05
    at = np.datetime64(begin, "us") + np.sort(r.integers(0, 86_400_000_000, count))
    return pl.DataFrame({{
        "id": np.arange(count) + seed * count,
        "at": pl.Series(at).dt.replace_time_zone("UTC"),
        "amount": np.round(r.lognormal(3, 1, count), 2),
        "quantity": pl.Series(r.integers(1, 20, count)).set(pl.Series(gaps), None),
        "country": COUNTRIES[r.integers(0, 8, count)],
        "mail": pl.Series(r.integers(0, count, count)).cast(pl.String) + "@example.org",
        "paid": r.random(count) < 0.7,
        "score": r.normal(size=count),
    }})

{asset}
"""
_ONE = """
@sx.dataset(on=sx.inputs(), key="id", time="at")
def orders() -> pl.DataFrame:
    return rows({rows}, 1, "2020-01-01")
"""
_DAILY = """
@sx.dataset(partition=days, on=sx.inputs(), key="id", time="at")
def orders(day: sx.Partition) -> pl.DataFrame:
    return rows(1_000, day.start.toordinal(), day.key)
"""
_OFF = """
from sextant.stores.lake import profiles
profiles.write = lambda *_, **__: profiles.Written("", 0)
"""
_MEASURED = """
import time
from sextant.stores.lake import profiles

write, ended = profiles.write, [time.process_time()]

def measured(*args, **more):
    start = time.process_time()
    found = write(*args, **more)
    end = time.process_time()
    with open({log!r}, "a") as log:
        log.write(f"step {{end - ended[0]}}\\nprofiles {{end - start}}\\n")
    ended[0] = end
    return found

if profiles.write.__name__ == "write":
    profiles.write = measured
"""
CASES = {
    "million": (_ONE.format(rows=1_000_000), []),
    "ten": (_ONE.format(rows=10_000_000), []),
    "small": (_DAILY, ["--partition", "2020-01-01..2022-09-26"]),
    "start": (_ONE.format(rows=8), []),
}


class Run(NamedTuple):
    """What a run took and wrote: CPU seconds of all, those of steps and of their profiles as the
    worker tells, bytes of data files and of profiles."""

    spent: float
    steps: float
    profiles: float
    data_bytes: int
    profile_bytes: int


def run(case: str, *, off: bool, root: Path) -> Run:
    """Run one project."""
    asset, arguments = CASES[case]
    with tempfile.TemporaryDirectory(dir=root) as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "sextant.toml").write_text('module = "orders"\n')
        log = Path(folder) / "log"
        log.touch()
        first = _OFF if off else _MEASURED.format(log=str(log))
        (project / "orders.py").write_text(_FILE.format(off=first, asset=asset))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", "run", "orders", *arguments],
            cwd=project,
            env={**os.environ, "HOME": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        sizes = {
            ending: sum(one.stat().st_size for one in project.rglob(f"data/*.{ending}"))
            for ending in ("parquet", "profiles")
        }
        assert bool(sizes["profiles"]) != off
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = [line.split() for line in log.read_text().splitlines()]
        steps, written = (
            sum(float(seconds) for name, seconds in told if name == wanted)
            for wanted in ("step", "profiles")
        )
        return Run(spent, steps, written, sizes["parquet"], sizes["profiles"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--only", default="million,ten,small")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        start = statistics.median(run("start", off=True, root=Path(root)).spent for _ in range(3))
        for case in given.only.split(","):
            runs: dict[bool, list[Run]] = {False: [], True: []}
            for number in range(given.n):
                for off in (False, True) if number % 2 else (True, False):
                    runs[off].append(run(case, off=off, root=Path(root)))
            shares = [one.profiles / (one.steps - one.profiles) for one in runs[False]]
            print(
                json.dumps(
                    {
                        "case": case,
                        "unit": "CPU s",
                        "n": given.n,
                        "with": told([one.spent for one in runs[False]]),
                        "without": told([one.spent for one in runs[True]]),
                        "start_s": round(start, 3),
                        "steps_s": told([one.steps - one.profiles for one in runs[False]]),
                        "profiles_s": told([one.profiles for one in runs[False]]),
                        "in_steps": told(shares),
                        "data_bytes": runs[False][0].data_bytes,
                        "profile_bytes": runs[False][0].profile_bytes,
                    }
                ),
                flush=True,
            )


def told(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
