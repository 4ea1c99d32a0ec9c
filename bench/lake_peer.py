"""Stock pyiceberg's append over growing history, for `bench/lake.py --peer PYTHON`: runs in an
environment of its own (`pip install "pyiceberg[sql-sqlite,pyarrow]"`), so it imports nothing of
ours. Same rows and columns, data file included, no fsync.
"""

import json
import statistics
import sys
import tempfile
import time

import pyarrow as pa
import pyiceberg
from pyiceberg.catalog.sql import SqlCatalog

ROWS, COLUMNS, COMMITS = 900, 15, int(sys.argv[1])


def rows(seed: int) -> pa.Table:
    table = {
        f"n{i}": pa.array([row * (i + 7) % (seed + 101) for row in range(ROWS)])
        for i in range(COLUMNS - 3)
    }
    return pa.table(
        {
            **table,
            "id": [row + seed * ROWS for row in range(ROWS)],
            "who": [f"who{row % 97}" for row in range(ROWS)],
            "x": [row / 3 for row in range(ROWS)],
        }
    )


with tempfile.TemporaryDirectory() as folder:
    catalog = SqlCatalog(
        "stock", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}"
    )
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=rows(0).schema)
    taken = []
    for index in range(COMMITS):
        data = rows(index)
        start = time.perf_counter()
        table.append(data)
        taken.append((time.perf_counter() - start) * 1e3)
for what, part in (("first 10", taken[1:11]), (f"last 10 of {COMMITS}", taken[-10:])):
    print(
        json.dumps(
            {
                "what": (
                    f"stock pyiceberg {pyiceberg.__version__} append (data file included, no "
                    f"fsync): {what}"
                ),
                "unit": "ms",
                "n": len(part),
                "median": round(statistics.median(part), 3),
                "min": round(min(part), 3),
                "max": round(max(part), 3),
            }
        )
    )
