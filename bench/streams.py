"""A stream that grows by one row every half second, in a partition of 100,000: how often it is
published, what that writes, and what a collection a day later leaves.

The scheduler of a server (`app/watch.py`) in this process, on the machine's clock; for the
collection the clock is put ahead. Bytes and files are those of lake and blobs, found on the disk.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from sextant.project.config import read_config
from sextant.app.keeping import collect
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.watch import watch
from sextant.engine.plan import Request
from sextant.kernel.clock import NS, SystemClock
from sextant.kernel.limits import PUSHED_CUT_ROWS

OPS = """
import sextant as sx

sx.project("bench", tz="UTC", owner=sx.team("bench"), environments=["dev"])
days = sx.daily(start="2026-01-01")
sales = sx.stream("sales", columns={"id": "string", "at": "timestamptz", "amount": "float64"}, key="id", time="at", partition=days,
                  checks=[sx.between("amount", 0, 1000)])
total = sx.kpi("total", of=sales, measure="sum(amount)", grain="1d")
"""
DAY_S = 86400


class AheadClock(SystemClock):
    """The machine's clock, put ahead by hand."""

    ahead_s = 0.0

    def now_ns(self) -> int:
        return super().now_ns() + int(self.ahead_s * NS)


def say(what: str, unit: str, value: float, budget: float | None = None) -> None:
    """Print one figure."""
    figure = {"bench": "streams", "what": what, "unit": unit, "value": round(value, 3), "budget": budget}  # fmt: skip
    print(json.dumps(figure), flush=True)


def rows(first: int, count: int) -> list[dict[str, object]]:
    return [
        {"id": f"s{n}", "at": f"2026-01-01T{n % 24:02}:{n % 60:02}:00Z", "amount": n % 997 + 0.25}
        for n in range(first, first + count)
    ]


class Disk:
    """What lake and blobs hold, and what was ever there."""

    def __init__(self, *roots: Path) -> None:
        self.roots, self.seen = roots, dict[str, int]()

    def look(self) -> int:
        """Return the bytes that are there now."""
        there = {
            str(path): path.stat().st_size
            for root in self.roots
            for path in root.rglob("*")
            if path.is_file()
        }
        self.seen |= there
        return sum(there.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="that lie in the partition")
    parser.add_argument("--seconds", type=float, default=65.0)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        os.environ.update(XDG_CONFIG_HOME=f"{folder}/config", XDG_STATE_HOME=f"{folder}/state")
        root = Path(folder) / "project"
        root.mkdir()
        (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        (root / "ops.py").write_text(OPS)
        clock = AheadClock()
        with LocalPlatform(read_config(root), clock=clock, executor="pool") as p:
            measure(p, clock, arguments.rows, arguments.seconds, arguments.every)


def measure(p: LocalPlatform, clock: AheadClock, there: int, seconds: float, every: float) -> None:
    """Fill the partition, let rows come while the scheduler runs, then collect."""
    ops = Operations(p)
    for first in range(0, there, PUSHED_CUT_ROWS):
        ops.push("sales", rows(first, min(PUSHED_CUT_ROWS, there - first)))
    ops.run()
    disk = Disk(Path(p.core.lake.root), Path(p.core.blobs.root))
    live = disk.look()
    known = len(disk.seen)
    versions = len(ops.versions("sales", limit=10_000).items)
    scheduler = threading.Thread(
        target=watch,
        args=(p.runs, "dev", Request()),
        kwargs={"say": print, "tell": lambda _report: None},
    )
    scheduler.start()
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        ops.push("sales", rows(there + number, 1))
        number += 1
        time.sleep(max(0.0, began + number * every - time.monotonic()))
    passed = time.monotonic() - began
    after = disk.look()
    published = len(ops.versions("sales", limit=10_000).items) - versions
    p.interrupts.interrupt()
    scheduler.join()
    say(f"publishes in {passed:.0f} s, {number} rows", "1", published, passed / 5)
    say("written a day at this rate", "GB", (after - live) / passed * DAY_S / 1e9)
    say("files a day at this rate", "1", (len(disk.seen) - known) / passed * DAY_S)
    say("lake and blobs before a collection", "MB", disk.look() / 1e6)
    for hours in (26.0, 2.0):  # versions expire with the first, their files go with the second
        clock.ahead_s += hours * 3600
        collect(p.core, p.runs.bundles)
    say("after it, 28 h later", "MB", disk.look() / 1e6)
    p.interrupts._interrupted.clear()
    ops.run()
    assert ops.count("sales")["rows"] == there + number, "no row is lost"


if __name__ == "__main__":
    main()
