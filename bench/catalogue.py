"""Pointers and releases at size: an environment over 1,000 tables, an atomic publish of 100 with
their events, an undo.

SQLite in WAL mode with synchronous=FULL; a bare commit of the same run stands beside. No data files
are written here: what the files cost is in `lake.py`.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from sextant.ledger.versions import Versions
from sextant.kernel.clock import SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Event, Move, Part, Principal, Strategy, Version
from sextant.kernel.ports import Statement, Write
from sextant.ledger import log
from sextant.ledger.log import Ledger
from sextant.ledger.projections import EnvCreated, VersionCreated
from sextant.authorization.decide import Decision
from sextant.kernel.kinds import Instant
from sextant.release.releases import Releases
from sextant.stores.lake.iceberg import IcebergLake
from sextant.stores.state.sqlite import SqliteState

TABLES, PUBLISHED, REPEAT = 1000, 100, 9


def main() -> None:
    clock = SystemClock()
    ids = Ids(clock)
    me = Principal(name="bench")
    seen: dict[str, list[float]] = {
        "bare commit": [],
        "environment over 1,000 tables": [],
        "publish of 100 tables with events": [],
        "resolve 1,000 pointers": [],
    }
    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
        SqliteState(Path(folder) / "state.db", Ledger(clock), clock=clock) as state,
    ):

        def event(type_: str, subject: str, data: msgspec.Struct | dict[str, Any]) -> Event:
            return log.event(ids, type_, subject, data, actor="person:bench")

        def version(table: int, n: int, parent: str) -> Version:
            digest = f"{table:08x}{n:056x}"
            return Version(
                asset=f"dataset:t{table}",
                digest=digest,
                parent=parent,
                parts=(Part(partition=f"2013-{n:02d}", digest=digest, rows=1),),
                rows=n,
            )

        versions = Versions(state)
        lake = IcebergLake(Path(folder) / "lake", clock=clock, ids=ids)
        releases = Releases(state, {"dataset": Instant()}, clock, ids)
        allow = Decision(verdict="allow")
        state.commit(Write((), (event("env.created", "prod", EnvCreated("prod")),)))
        heads = ["" for _ in range(TABLES)]

        def publish(tables: range, n: int) -> None:
            made = [version(table, n, heads[table]) for table in tables]
            moves = [
                Move(env="prod", asset=v.asset, source=heads[table], target=v.digest)
                for table, v in zip(tables, made, strict=True)
            ]
            versions.announce(made)
            drafted = releases.draft(
                moves, by=me, decision=allow, strategy=Strategy(kind="publish")
            )
            done = releases.propose(
                drafted, before=[event("version.created", v.asset, VersionCreated(v)) for v in made]
            )
            assert done.state == "live"
            for table, v in zip(tables, made, strict=True):
                heads[table] = v.digest

        for start in range(0, TABLES, PUBLISHED):
            publish(range(start, start + PUBLISHED), 0)
        for n in range(1, REPEAT + 1):
            at = time.perf_counter()
            state.commit(Write((Statement("meta_set", ("bench", str(n))),)))
            seen["bare commit"].append(time.perf_counter() - at)
            at = time.perf_counter()
            state.commit(
                Write((), (event("env.created", f"pr-{n}", EnvCreated(f"pr-{n}", "prod")),))
            )
            seen["environment over 1,000 tables"].append(time.perf_counter() - at)
            at = time.perf_counter()
            assert len(versions.live(f"pr-{n}")) == TABLES
            seen["resolve 1,000 pointers"].append(time.perf_counter() - at)
            at = time.perf_counter()
            publish(range(PUBLISHED), n)
            seen["publish of 100 tables with events"].append(time.perf_counter() - at)
    budgets = {"environment over 1,000 tables": 10, "publish of 100 tables with events": 50}
    for name, values in seen.items():
        ms = [1000 * value for value in values]
        print(
            json.dumps(
                {
                    "bench": "catalogue",
                    "what": name,
                    "unit": "ms",
                    "median": round(statistics.median(ms), 2),
                    "min": round(min(ms), 2),
                    "max": round(max(ms), 2),
                    "n": len(ms),
                    "budget": budgets.get(name),
                    "durability": "WAL, synchronous=FULL",
                }
            )
        )


if __name__ == "__main__":
    main()
