"""Measure what it takes to say what moved a number: `PYTHONPATH=src python bench/waterfall.py`.

quarter    a quarter of the flights of New York, day by day, with ten changes: four days that came
           late, five edits of code, a definition. The first answer derives; asked again, all is
           known. `expected_s` is what the platform says before it begins
histories  random histories of rows, rates, code, definitions and undos: how many add up to the last
           digit, and how many numbers without a change a model in plain Python confirms
           (`--histories 1000 --seed 1`). The first that does not ends it with its seed
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "platform")]

_FILE = """
import json
from pathlib import Path
import polars as pl
import sextant as sx
from .delays import download

ops = sx.team("ops", members=["ann"])
sx.project("bench", tz="UTC", owner=ops)
days = sx.daily(start="2013-01-01", end="2013-04-01")
LATE = Path({late!r})

@sx.dataset(partition=days, time="at", on=sx.cron("0 5 * * *"), whole_range=True, owner=ops)
def flights(day: sx.Partition) -> pl.DataFrame:
    found = download(day.start, day.end).rename({{"time_hour": "at"}})
    late = pl.Series(json.loads(LATE.read_text()), dtype=pl.String).str.to_date()
    keep = ~pl.col("at").dt.date().is_in(late.implode()) | (pl.int_range(pl.len()) % 3 != 0)
    return found.filter(keep).select("at", "carrier", "origin", "dep_delay", "distance")

@sx.dataset(partition=days, time="at", owner=ops)
def known(flights: pl.DataFrame) -> pl.DataFrame:
    return flights.filter(pl.col("distance") > {a})

@sx.dataset(partition=days, time="at", owner=ops)
def marked(known: pl.DataFrame) -> pl.DataFrame:
    return known.with_columns(late=pl.col("dep_delay").fill_null(999) >= {b})

@sx.dataset(partition=days, time="at", owner=ops)
def scored(marked: pl.DataFrame) -> pl.DataFrame:
    return marked.with_columns(weight=1.0 + pl.col("distance") / {c})

@sx.dataset(partition=days, time="at", owner=ops)
def grouped(scored: pl.DataFrame) -> pl.DataFrame:
    return scored.with_columns(long=pl.col("distance") > {d})

@sx.dataset(partition=days, time="at", owner=ops)
def final(grouped: pl.DataFrame) -> pl.DataFrame:
    return grouped.filter(pl.col("carrier") != {e!r})

on_time = sx.kpi("on_time", of=final, measure={measure!r}, grain="1d", by=["origin", "carrier"])
"""
_START = {
    "a": 0,
    "b": 15,
    "c": 1000,
    "d": 1000,
    "e": "ZZ",
    "measure": "sum(weight) filter (where not late) / sum(weight)",
}
_EDITS: tuple[dict[str, Any], ...] = (
    {"a": 150},
    {"b": 20},
    {"c": 800},
    {"d": 900, "c": 800},
    {"e": "OO"},
    {"measure": "sum(weight) filter (where not late and long) / sum(weight) filter (where long)"},
)
_LATE = ("2013-01-15", "2013-02-03", "2013-02-20", "2013-03-11")


def quarter(n: int) -> None:
    from sextant.app.operations import Operations
    from sextant.app.platform import LocalPlatform
    from sextant.engine.plan import Request

    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as name:
        folder = Path(name)
        late = folder / "late.json"
        late.write_text(json.dumps(_LATE))
        (folder / "ops").mkdir()
        shutil.copy(ROOT / "examples/flights/flights/delays.py", folder / "ops" / "delays.py")
        (folder / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        settings = dict(_START)

        def write() -> None:
            (folder / "ops" / "__init__.py").write_text(_FILE.format(late=str(late), **settings))

        write()
        with LocalPlatform.open(folder, home=folder / "home") as p:
            by = p.core.authorization.who()
            report = p.runs.run("dev", Request(), by=by)
            assert report.state == "finished", report
            start = report.release
            missing = list(_LATE)
            for edit in _EDITS:
                settings |= edit
                write()
                p.core.project.load()
                assert p.runs.run("dev", Request(stale=True), by=by).state == "finished"
                if missing:
                    day = missing.pop()
                    late.write_text(json.dumps(missing))
                    request = Request(
                        assets=("dataset:flights",), partitions=(day, day), force=True
                    )
                    assert p.runs.run("dev", request, by=by).state == "finished"
            every = Operations(p)
            asked: dict[str, Any] = {"after": "2013-Q1", "known_from": start}
            began = time.perf_counter()
            plan = every.waterfall("on_time", **asked)
            planned_s = time.perf_counter() - began
            began = time.perf_counter()
            seen = every.derive_waterfall("on_time", **asked)
            derived_s = time.perf_counter() - began
            again = []
            for _ in range(n):
                began = time.perf_counter()
                assert every.waterfall("on_time", **asked)["bars"] == seen["bars"]
                again.append(time.perf_counter() - began)
            total = sum((Decimal(bar["amount"]) for bar in seen["bars"]), Decimal(0))
            assert total == Decimal(seen["difference"])
            line = {
                "bench": "waterfall",
                "what": "quarter",
                "changes": len(seen["changes"]),
                "cases": seen["cases"],
                "sampled": seen["sampled"],
                "partitions": plan["cost"]["partitions"],
                "steps": plan["cost"]["steps"],
                "planned_s": round(planned_s, 2),
                "expected_s": plan["cost"]["seconds"],
                "derived_s": round(derived_s, 2),
                "again_s": round(statistics.median(again), 2),
                "again_range_s": [round(min(again), 2), round(max(again), 2)],
                "notes": seen["notes"],
            }
            print(json.dumps(line), flush=True)


def histories(count: int, seed: int) -> None:
    import shop_project
    import test_waterfall
    from waterfall_world import Company, NothingToUndo, SameAgain, some_ops

    shop_project.composition.loading.load = shop_project.load_here  # type: ignore[assignment]
    sys.dont_write_bytecode = True
    asked = compared = operations = ended = 0
    began = time.perf_counter()
    for n in range(count):
        rng = random.Random(f"{seed} {n}")
        with tempfile.TemporaryDirectory(prefix="sextant-waterfall-") as name:
            folder = Path(name) / "shop"
            folder.mkdir()
            company = Company(shop_project.Shop(folder), rng)
            try:
                for op in some_ops(rng, rng.randint(2, 8), company.world.measure):
                    company.do(op)
                    operations += 1
                for _ in range(2):
                    compared += test_waterfall.judge(company, rng)
                    asked += 1
            except (NothingToUndo, SameAgain):
                ended += 1
            except Exception:
                print(f"history {n} of seed {seed}: {company.ops}", file=sys.stderr, flush=True)
                raise
            finally:
                company.p.close()
    line = {
        "bench": "waterfall",
        "what": "histories",
        "seed": seed,
        "histories": count,
        "ended_early": ended,
        "operations": operations,
        "answers": asked,
        "numbers_without": compared,
        "wall_s": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--histories", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.histories:
        histories(arguments.histories, arguments.seed)
    else:
        quarter(arguments.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
