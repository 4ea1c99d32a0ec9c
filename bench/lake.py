"""Measure the lake: commits over history, restore, files of a state; beside stock pyiceberg's
append in the same run.

    PYTHONPATH=src python bench/lake.py [--commits 1000] [--peer PYTHON]

Prints one JSON object a line: what, unit, n, median, min, max, and what it was made of. Durability:
data files, manifests, lists, states and their folder are fsynced before a commit returns; stock
pyiceberg does not fsync. The cost of an fsync is measured in the same run, before and after.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sextant.kernel.clock import NS, ManualClock, SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import FileRef
from sextant.stores import files as disk, verified
from sextant.stores.lake import frames
from sextant.stores.lake.iceberg import IcebergLake

ROWS, COLUMNS = 900, 15


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return (time.perf_counter() - start) * 1e3, value


def report(what: str, values: list[float], **more: Any) -> None:
    low, high = min(values), max(values)
    print(
        json.dumps(
            {
                "what": what,
                "unit": "ms",
                "n": len(values),
                "median": round(statistics.median(values), 3),
                "min": round(low, 3),
                "max": round(high, 3),
                **more,
            }
        ),
        flush=True,
    )


def repeat(what: str, times: int, call: Callable[[], Any], **more: Any) -> Any:
    """Report `times` calls after one that warms up; return the last value."""
    call()
    measured = [timed(call) for _ in range(times)]
    report(what, [ms for ms, _ in measured], **more)
    return measured[-1][1]


def day_of_rows(seed: int) -> pa.Table:
    frame = pl.DataFrame(
        {
            f"n{i}": pl.int_range(ROWS, eager=True) * (i + 7) % (seed + 101)
            for i in range(COLUMNS - 3)
        }
    )
    return frames.canonical(
        frame.with_columns(
            id=pl.int_range(ROWS) + seed * ROWS,
            who=pl.format("who{}", pl.int_range(ROWS) % 97),
            x=pl.int_range(ROWS) / 3,
        ).to_arrow()
    )


def fsync_cost(folder: Path, when: str) -> None:
    def once() -> None:
        disk.write(str(folder / "fsync.bin"), b"x" * 30_000, whole=False)

    repeat("one 30 kB file written and fsynced", 50, once, when=when)


def measure_ours(folder: Path, commits: int) -> None:
    clock = SystemClock()
    lake = IcebergLake(folder / "lake", clock=clock, ids=Ids(clock))
    days = [str(date(2013, 1, 1) + timedelta(days=index)) for index in range(commits)]
    schema = day_of_rows(0).schema.serialize().to_pybytes()
    write_ms, commit_ms, states = [], [], [""]
    staged: list[tuple[FileRef, ...]] = []
    for index, day in enumerate(days):
        rows = day_of_rows(index)
        ms, out = timed(
            lambda rows=rows, day=day, index=index: frames.write(
                rows, day, root=lake.root, staging=f"t/data/a{index}", key=["id"]
            )
        )
        write_ms.append(ms)
        staged.append(out.files)
        ms, commit = timed(
            lambda out=out, day=day: lake.commit(
                "t",
                states[-1],
                add=out.files,
                replace=[day],
                arrow_schema=schema,
                partitioned="daily",
            )
        )
        commit_ms.append(ms)
        states.append(commit.locator)
    size = f"{ROWS} rows x {COLUMNS} columns a commit"
    report("write, digest and fsync one day's file", write_ms[1:], size=size)
    report("commit: first 50 of the history", commit_ms[1:51], size=size)
    report(f"commit: last 50 of {commits}", commit_ms[-50:], size=size)
    report(
        "commit: all but the first, which imports pyiceberg",
        commit_ms[1:],
        size=size,
        first=round(commit_ms[0], 1),
    )
    extra = frames.write(
        day_of_rows(7), "2030-01-01", root=lake.root, staging="t/data/extra", key=["id"]
    )
    full, before = states[-1], states[-2]
    repeat(
        f"commit on a state of {commits} files",
        30,
        lambda: lake.commit(
            "t",
            full,
            add=extra.files,
            replace=["2030-01-01"],
            arrow_schema=schema,
            partitioned="daily",
        ),
    )
    repeat(
        f"restore one day on a state of {commits} files",
        30,
        lambda: lake.restore("t", full, before, [days[-1]]),
    )
    half = states[commits // 2]
    repeat(
        f"restore {commits - commits // 2} days (all that came later)",
        10,
        lambda: lake.restore("t", full, half, days[commits // 2 :]),
    )
    if commits >= 365:
        repeat(
            "files(locator) at 365 files",
            50,
            lambda: lake.files(states[365]),
            manifests=len(lake._load(states[365]).manifests),
        )
    repeat(
        f"files(locator) at {commits} files",
        50,
        lambda: lake.files(full),
        manifests=len(lake._load(full).manifests),
    )
    repeat(
        "read one day, Polars",
        50,
        lambda: frames.read(lake.root, staged[5], schema=frames.schema_of(day_of_rows(0))),
    )
    measure_digests(folder, lake, full)
    compacted = timed(lambda: lake.compact("t", full))
    report(
        f"compact {commits} day files into months",
        [compacted[0]],
        files=len(compacted[1].files if compacted[1] else ()),
    )
    months = compacted[1].locator if compacted[1] else full
    repeat(
        "overwrite one day of a compacted month",
        20,
        lambda: lake.commit(
            "t",
            months,
            add=staged[40],
            replace=[days[40]],
            arrow_schema=schema,
            partitioned="daily",
        ),
    )
    data = sum(file.size_bytes for file in lake.files(full))
    metadata = sum(entry.stat().st_size for entry in os.scandir(lake.root / "t/metadata"))
    print(
        json.dumps(
            {
                "what": "bytes before garbage collection",
                "data": data,
                "metadata": metadata,
                "metadata_per_commit": metadata // commits,
            }
        )
    )


def measure_digests(folder: Path, lake: IcebergLake, full: str) -> None:
    """Measure what it costs that bytes are what was written: at the write, at each open, as a
    whole."""
    files = lake.files(full)[:365]
    size = sum(file.size_bytes for file in files)
    of = f"{len(files)} files, {size:,} bytes"
    data = (lake.root / files[0].path).read_bytes()
    repeat("SHA-256 of one day's file in memory", 200, lambda: hashlib.sha256(data), size=len(data))
    block = os.urandom(16 << 20)
    for name in ("sha256", "blake2b", "sha512"):
        repeat(f"{name} of 16 MiB", 5, lambda name=name: hashlib.new(name, block))

    def bytes_only() -> None:
        for file in files:
            (lake.root / file.path).read_bytes()

    def stat_only() -> None:
        for file in files:
            os.stat(lake.root / file.path)

    def confirm() -> None:
        for file in files:
            frames.confirm(lake.root, file)

    plain = verified.memory
    try:
        # at its clock no file counts as settled: nothing is remembered
        nothing = verified.Verified(folder / "nothing", ManualClock(0))
        verified.memory = lambda: nothing  # type: ignore[assignment]
        repeat("open a year of files: all hashed", 5, confirm, of=of)
        later = ManualClock(SystemClock().now_ns() + 3_600 * NS)  # the files count as settled
        known = verified.Verified(folder / "verified", later)
        verified.memory = lambda: known  # type: ignore[assignment]
        repeat("open a year of files: none has changed", 20, confirm, of=of)
    finally:
        verified.memory = plain
    repeat("beside it: stat of each", 20, stat_only, of=of)
    repeat("beside it: read each", 5, bytes_only, of=of)
    schema = frames.schema_of(day_of_rows(0))
    repeat(
        "beside it: the rows of all, Polars",
        3,
        lambda: frames.read(lake.root, files, schema=schema),
        of=of,
    )
    rows = frames.read(lake.root, files[:1], schema=schema, frame="pyarrow")
    repeat("content digest of one day's rows", 20, lambda: frames.digest(rows, ["id"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument(
        "--peer",
        default="",
        help="a Python that has pyiceberg[sql-sqlite]; without it the peer is left out",
    )
    parser.add_argument("--peer-commits", type=int, default=100)
    parser.add_argument(
        "--folder", default=None, help="where to write; default: a temporary folder"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        fsync_cost(folder, "before")
        measure_ours(folder, options.commits)
        if options.peer:
            subprocess.run(
                [
                    options.peer,
                    str(Path(__file__).with_name("lake_peer.py")),
                    str(options.peer_commits),
                ],
                check=True,
            )
        fsync_cost(folder, "after")


if __name__ == "__main__":
    main()
