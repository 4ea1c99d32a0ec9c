"""What one order of rows and one thread cost: `PYTHONPATH=src python bench/order.py`.

Prints JSON lines, medians and ranges of interleaved repetitions: hashing a partition with and
without handing out its sorted rows, reading files whose rows lie in order and such that must be put
in order first, and queries on one thread beside all processors.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from sextant.stores.lake import frames

ROWS = 200_000
QUERIES = {
    "group 5 M rows by 1,000 keys, sum of floats": (
        "select n % 1000 g, sum(x), avg(x), count(*) from t group by 1"
    ),
    "join 5 M rows with 1,000, sum of floats": (
        "select k.g, sum(t.x) from t join (select range g from range(1000)) k on t.n % 1000 = k.g "
        "group by 1"
    ),
    "sort 5 M rows": "select x from t order by x desc limit 10 offset 4000000",
}


def table_of(rows: int) -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table({
        "id": rng.permutation(rows),
        "x": rng.random(rows),
        "s": [f"name {n % 977}" for n in range(rows)],
        "y": rng.random(rows),
    })  # fmt: skip


def measured(what: str, ways: dict[str, Callable[[], object]], times: int) -> None:
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(times):
        for way, do in ways.items():  # interleaved: what slows the machine slows all
            started_s = time.perf_counter()
            do()
            taken[way].append((time.perf_counter() - started_s) * 1000)
    for way, found in taken.items():
        line = {"bench": "order", "what": what, "way": way, "unit": "ms", "n": times}
        line |= {"median": round(statistics.median(found), 1)}
        line |= {"min": round(min(found), 1), "max": round(max(found), 1)}
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    rows = frames.canonical(table_of(ROWS))
    measured(
        f"a partition of {ROWS:,} rows",
        {
            "digest": lambda: frames.digest(rows, ["id"]),
            "digest, and the rows in its order": lambda: frames.arrange([("", rows)], ["id"]),
        },
        times,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (part,) = frames.arrange([("2026-01-01", rows)], ["id"])
        new = frames.write_many([part], root=root, staging="new")[0].files
        key, frames.ORDERED_KEY = frames.ORDERED_KEY, b"none"
        old = frames.write_many([part], root=root, staging="old")[0].files
        frames.ORDERED_KEY = key
        schema = frames.schema_of(rows)
        measured(
            f"read a file of {ROWS:,} rows",
            {
                "in order": lambda: frames.read(root, new, schema=schema, key=["id"]),
                "of an earlier release": lambda: frames.read(root, old, schema=schema, key=["id"]),
            },
            times,
        )
    numbers = pa.table({
        "n": np.arange(5_000_000), "x": np.random.default_rng(2).random(5_000_000)
    })  # fmt: skip
    connection = duckdb.connect()
    connection.register("t", numbers)
    for what, query in QUERIES.items():

        def on(threads: int, query: str = query) -> Callable[[], object]:
            def ask() -> object:
                connection.execute(f"SET threads = {threads}")
                return connection.execute(query).fetchall()

            return ask

        processors = os.cpu_count() or 1
        measured(what, {"1 thread": on(1), f"{processors} threads": on(processors)}, times)


if __name__ == "__main__":
    main()
