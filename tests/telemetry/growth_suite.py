"""What the platform finds of made-up services, beside what is true of them. Run in a process of its
own, since chDB has one path for a process. Arguments: folder, seed, number of scenarios.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import cramjam
import msgspec
from growth_scenarios import Scenario, Sent, scenarios
from remote_writer import request, series

from sextant.formats.telemetry import otlp_metrics, remote_write
from sextant.kernel.clock import SystemClock
from sextant.stores.telemetry import migrate
from sextant.stores.telemetry.chdb import ChdbStore
from sextant.stores.telemetry.intake import Accepted, Intake

LEVELS = (0.5, 0.95, 0.99)


class Platform:
    """A telemetry store and its intake, opened anew when asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ChdbStore(folder / "store")
        migrate.migrate(self.store)
        # it is there for long: the observations lie in the past
        self.store.run(
            "ALTER TABLE obs.schema_version UPDATE at = at - 86400 WHERE 1 SETTINGS mutations_sync = 2"
        )
        self.open()

    def open(self) -> None:
        self.intake = Intake(self.store, self.folder / "intake", SystemClock(), background=False)

    def send(self, sent: Sent) -> Accepted:
        if sent.otlp is not None:
            return self.intake.accept(
                otlp_metrics.metrics(sent.otlp), protocol="otlp", owner="shop"
            )
        body = request(*(series(labels, samples) for labels, samples in sent.remote_write))
        return self.intake.accept(
            remote_write.decode(bytes(cramjam.snappy.decompress_raw(body))),
            protocol="remote_write",
            owner="shop",
        )

    def roll_up(self) -> None:
        self.intake.flush()
        now_ms = time.time_ns() // 1_000_000
        while self.intake._rollups.make(now_ms):
            pass
        self.intake._rollups.make_open(now_ms)

    def rows(self, sql: str) -> list[list[Any]]:
        found: list[list[Any]] = msgspec.json.decode(self.store.query(sql, form="JSONCompact"))[
            "data"
        ]
        return found


def main(folder: Path, seed: int, count: int) -> int:
    """Return how many scenarios came out wrong; say which."""
    platform = Platform(folder)
    base = int(time.time()) // 300 * 300 - 1800
    all_ = list(scenarios(seed, count, base))
    told: dict[str, dict[str, int]] = {}
    for half in (0, 1):
        last: Accepted | None = None
        for one in all_:
            # who takes turns with whom is not remembered over a restart
            is_whole = one.told or "at_once" in one.name
            middle = len(one.requests) if is_whole else len(one.requests) // 2
            for sent in one.requests[middle:] if half else one.requests[:middle]:
                last = platform.send(sent)
                for reason, number in last.refused.items():
                    told.setdefault(one.name, {})[reason] = number
        assert last is not None
        last.durable.result(30)
        platform.roll_up()
        if not half:
            platform.intake.close()
            platform.open()
    wrong = [said for one in all_ if (said := judged(platform, one, told.get(one.name, {})))]
    for said in wrong:
        print(said)
    print(f"{count} scenarios, {len(wrong)} wrong")
    return len(wrong)


def judged(platform: Platform, one: Scenario, told: dict[str, int]) -> str:
    """Return what is wrong, "" when all is right."""
    counted = one.metric if one.kind == "sum" else one.metric + "_count"
    ((grown,),) = platform.rows(
        f"SELECT sum(increase) FROM obs.rates WHERE metric = '{counted}' AND exact"
    )
    if one.told:
        if grown > one.truth + 1e-6 or not told.get("processes_mixed"):
            return f"{one.name}: {grown} of {one.truth}, told {told}"
        return ""
    if abs(grown - one.truth) > 1e-6:
        return f"{one.name}: grew {grown}, not {one.truth}; {told}"
    if one.kind == "sum":
        return ""
    levels = ", ".join(f"histogramQuantile({level}, groupArrayArray(cells))" for level in LEVELS)
    ((observed, *found),) = platform.rows(
        f"SELECT sum(count), {levels} FROM obs.histograms WHERE metric = '{one.metric}'"
    )
    if abs(observed - one.truth) > 1e-6:
        return f"{one.name}: observed {observed}, not {one.truth}"
    values = sorted(one.values)
    for level, said in zip(LEVELS, found, strict=True):
        if values and not _near(one, values, level, said):
            return f"{one.name}: quantile {level} is {said}, scale {one.scale}"
    return ""


def _near(one: Scenario, values: list[float], level: float, said: float) -> bool:
    """Say whether a quantile is as near as the histogram can tell it: in the same cell of an
    exponential one or between the same bounds of one that has some."""
    true = values[max(0, math.ceil(level * len(values)) - 1)]
    if one.kind == "exponential":
        error = 2 ** (2.0**-one.scale)
        return true / error <= said <= true * error
    # of two histograms, the value lies between bounds of either
    low = min(max([0.0, *(b for b in bounds if b < true)]) for bounds in one.bounds)
    high = max(min([math.inf, *(b for b in bounds if b >= true)]) for bounds in one.bounds)
    return low <= said <= high


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
