"""What a step costs: `PYTHONPATH=src python bench/engine.py [--steps 10000] [--repeat 5] [--peers
DIR]`.

grouped, strict   10,000 no-op steps, 20 wide (20 chains), on the real state store
chain             1,000 strict steps one behind the other, beside a bare commit of one row on the
                  same disk in the same process
unchanged         10,000 partitions of ten datasets planned with nothing to do, and 10,000 steps
                  that the engine reuses; warm
dbos, dagster, luigi   the same on fewer steps, each in an environment of its own below DIR (made
when it is missing, from
                  `bench/peers/*.txt`); figures are per step

Durability: SQLite in WAL with synchronous=FULL for ours, for the bare commit and for DBOS (its own
database file, put into WAL before); Luigi writes one file a step without fsync; Dagster in process
writes to its temporary instance. A strict step's start is durable before it runs, its result before
a dependent starts; independent strict steps share commits. Every repetition is a process of its
own, all kinds interleaved. One JSON line for each figure: median, least, most; `memory_mb` is the
peak of the process.
"""

import argparse
import json
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sextant.engine import keys
from sextant.engine.execute import Done, Task, execute
from sextant.engine.history import History
from sextant.engine.leases import Leases
from sextant.engine.plan import Request, Scene, plan
from sextant.kernel.clock import SystemClock, from_datetime
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Asset, Build, Code, Input, Manifest, Part, spec_of
from sextant.kinds.dataset.spec import Table
from sextant.kernel.partitions import Partitioning
from sextant.ledger.log import Ledger
from sextant.stores.state.sqlite import SqliteState

HERE = Path(__file__).resolve().parent
WIDE = 20
PEERS = {"dbos": 1000, "dagster": 200, "luigi": 1000}  # steps: fewer for the slow ones
BUDGET = {
    "grouped": 0.1,
    "strict": 0.15,
    "chain_over_bare": 3.0,
    "plan_unchanged": 200.0,
    "reuse_unchanged": 200.0,
    "memory_mb": 300.0,
}


class NoOp:
    """Work that is done at once."""

    def __init__(self, reuse: Done | None = None) -> None:
        self._reuse = reuse

    def prepare(self, task: Task) -> Done | None:
        return self._reuse

    def submit(self, task: Task, attempt: int, done: Callable[[Any], None]) -> None:
        done(None)

    def finish(self, task: Task, attempt: int, result: Any) -> Done:
        return Done(output="x", key=task.id)

    def cancel(self, task: Task) -> None: ...


def open_state(folder: str) -> SqliteState:
    clock = SystemClock()
    return SqliteState(Path(folder) / "state.db", Ledger(clock), clock=clock)


def timed(tasks: list[Task], work: NoOp, state: SqliteState, run: str) -> float:
    """Return the milliseconds of a whole run, its last commit included, every write behind the
    fence of the run's lease."""
    with Leases(state, run, ()) as leases:
        fenced = leases.fenced()
        started = time.perf_counter()
        outcome = execute(
            tasks, work, state=fenced, history=History(run), clock=SystemClock(), slots=64
        )
        state.flush()
        spent = (time.perf_counter() - started) * 1e3
    assert outcome.done + outcome.reused == len(tasks)
    return spent


def columns(steps: int, durability: Any) -> list[Task]:
    return [
        Task(id=f"t{n}", deps=(f"t{n - WIDE}",) if n >= WIDE else (), durability=durability)
        for n in range(steps)
    ]


def wide(durability: str, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(folder)
        timed(columns(WIDE, durability), NoOp(), state, "warm")
        spent = timed(columns(steps, durability), NoOp(), state, "run")
        state.close()
    return {durability: spent / steps}


def chain(steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(folder)
        bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB)")
        spent = committed = 0.0
        block = 100  # in turns, so that both meet the same disk
        for at in range(0, steps, block):
            tasks = [
                Task(id=f"t{n}", deps=(f"t{n - 1}",) if n else (), durability="strict")
                for n in range(block)
            ]
            spent += timed(tasks, NoOp(), state, f"run{at}")
            started = time.perf_counter()
            for n in range(block):
                bare.execute("INSERT INTO t VALUES (?, ?)", (at + n, b"x" * 120))
            committed += (time.perf_counter() - started) * 1e3
        bare.close()
        state.close()
    return {
        "chain": spent / steps,
        "bare_commit": committed / steps,
        "chain_over_bare": spent / committed,
    }


def unchanged(steps: int) -> dict[str, float]:
    days = Partitioning(grain="daily", start="2020-01-01", end="2022-09-27")
    names = days.between("2020-01-01", "2022-09-26")[: steps // 10]
    assets, live = [], {}
    for n in range(10):
        inputs = (Input(name="up", asset=f"dataset:a{n - 1}"),) if n else ()
        asset = Asset(
            kind="dataset",
            name=f"a{n}",
            build=Build(
                code=Code(language="python", entry="ops:a", file="ops.py", fingerprint="f"),
                inputs=inputs,
            ),
            spec=spec_of(
                Table(
                    partitioning=Partitioning(grain="daily", start=names[0], end=_after(names[-1]))
                )
            ),
        )
        assets.append(asset)
        code = keys.code_digest(asset)
        live[asset.id] = {
            day: Part(
                partition=day,
                digest=f"{n}-{day}",
                rows=1,
                code=code,
                inputs=keys.inputs_digest([("up", day, f"{n - 1}-{day}")] if n else []),
            )
            for day in names
        }
    manifest = Manifest(project="bench", tz="UTC", assets=tuple(assets))
    scene = Scene(env="prod", now=from_datetime(_utc(2030)), live=live, versions={})
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(folder)
        work = NoOp(Done(reused=True, key="k"))
        for warm in (True, False):
            started = time.perf_counter()
            found = plan(manifest, scene, Request())
            planned = (time.perf_counter() - started) * 1e3
            assert not found.steps
            assert sum(found.up_to_date.values()) == 10 * len(names)
            reused = timed(columns(steps, "grouped"), work, state, f"run{warm}")
        state.close()
    return {"plan_unchanged": planned, "reuse_unchanged": reused}


def _after(day: str) -> str:
    from datetime import date, timedelta

    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _utc(year: int) -> Any:
    from datetime import UTC, datetime

    return datetime(year, 1, 1, tzinfo=UTC)


def one(name: str, steps: int) -> dict[str, float]:
    """Measure one kind in this process."""
    random.seed(1)
    found = {
        "grouped": lambda: wide("grouped", steps),
        "strict": lambda: wide("strict", steps),
        "chain": lambda: chain(steps // 10),
        "unchanged": lambda: unchanged(steps),
    }[name]()
    return {**found, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def peer(name: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, made when it is missing."""
    home = folder / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "-r", HERE / "peers" / f"{name}.txt"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return python


def measured(command: list[Any]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return {}
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--peers",
        type=Path,
        help="a folder for the peers' environments; without it they are left out",
    )
    parser.add_argument("--one", default="", help="one kind, once, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.steps)))
        return
    commands: dict[str, list[Any]] = {
        name: [sys.executable, __file__, "--one", name, "--steps", str(arguments.steps)]
        for name in ("grouped", "strict", "chain", "unchanged")
    }
    if arguments.peers:
        commands |= {
            name: [peer(name, arguments.peers.resolve()), HERE / "engine_peer.py", name, str(steps)]
            for name, steps in PEERS.items()
        }
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.repeat):
        for name, command in commands.items():
            for what, value in measured(command).items():
                seen.setdefault((name, what), []).append(value)
    for (name, what), values in seen.items():
        unit = {
            "memory_mb": "MB",
            "chain_over_bare": "times",
            "plan_unchanged": "ms",
            "reuse_unchanged": "ms",
            "start_s": "s",
        }.get(what, "ms/step")
        steps = PEERS.get(name, arguments.steps // 10 if name == "chain" else arguments.steps)
        print(
            json.dumps(
                {
                    "bench": "engine",
                    "kind": name,
                    "what": what,
                    "unit": unit,
                    "median": round(statistics.median(values), 4),
                    "min": round(min(values), 4),
                    "max": round(max(values), 4),
                    "n": len(values),
                    "steps": steps,
                    "budget": BUDGET.get(what) if name not in PEERS else None,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
