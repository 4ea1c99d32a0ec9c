"""Growth of counters and quantiles of histograms: what the platform finds is what was sent."""

import subprocess
import sys
from pathlib import Path

import pytest

from sextant import testing
from seen import examined
from sextant.formats.telemetry import otlp_bodies, otlp_metrics
from sextant.formats.telemetry.batch import Batch, Samples
from sextant.kernel import limits
from sextant.server.ingest.decode_process import parsed_from, reply_of
from sextant.server.protocols.port import Parsed
from sextant.stores.telemetry.series import Series

OPS = (
    'import sextant as sx\n\nsx.project("shop", tz="UTC", owner=sx.team("shop", '
    'members=["ann"]), environments=["dev"])\n'
)
NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize("seed", [1, 2])
def test_growth_is_what_was_sent(seed: int, tmp_path: Path) -> None:
    """If this fails, a counter's growth or a histogram's quantile is not that of the observations:
    something is counted twice, lost, or taken for another process's."""
    suite = Path(__file__).with_name("growth_suite.py")
    done = subprocess.run(
        [sys.executable, str(suite), str(tmp_path), str(seed), "162"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "162 scenarios, 0 wrong" in done.stdout, done.stdout + done.stderr[-2000:]


def test_single_questions(tmp_path: Path) -> None:
    """If this fails, see which question of `growth_questions.py` it is."""
    suite = Path(__file__).with_name("growth_questions.py")
    done = subprocess.run(
        [sys.executable, str(suite), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("ok\n"), done.stdout + done.stderr[-2000:]


def test_doctor_says_since_when_rates_are_right(tmp_path: Path) -> None:
    """If this fails, nobody learns that growth from before an upgrade was counted otherwise."""
    with testing.platform({"ops.py": OPS}) as platform:
        assert not [one for one in examined(platform) if one["name"] == "rates"]
        made = "from growth_questions import older; import pathlib, sys; "
        subprocess.run(
            [
                sys.executable,
                "-c",
                made + "older(pathlib.Path(sys.argv[1]))",
                str(platform.core.project.folder / "telemetry" / "store"),
            ],
            check=True,
            cwd=Path(__file__).parent,
        )
        (found,) = [one for one in examined(platform) if one["name"] == "rates"]
    assert found["ok"]
    assert found["found"].startswith("right from 20")


def test_cells_travel_between_processes() -> None:
    """If this fails, an exponential histogram in a large request loses its cells on the way from
    the process that decodes it."""
    request = otlp_bodies.message("metrics")()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    for n in range(3):
        point = metric.exponential_histogram.data_points.add(
            time_unix_nano=NOW_MS * 1_000_000 + n,
            count=5,
            zero_count=1,
            scale=3,
            zero_threshold=0.5,
        )
        point.positive.offset = -3
        point.positive.bucket_counts.extend([1, 0, 2])
        point.negative.bucket_counts.extend([1])
    batch = otlp_metrics.metrics(request)
    assert len(batch.samples[0].cells) == 3
    reply, parts = reply_of(Parsed(batch))
    left = iter(parts)
    again = parsed_from(reply, lambda _: next(left), otlp_metrics.identify).batch
    assert again.samples[0].cells == batch.samples[0].cells
    assert again.samples[0].keys == batch.samples[0].keys


def _taken(series: Series, start_ns: int, *values: tuple[int, float]) -> dict[str, int]:
    """Give series the values (ms, value) of one counter; return what was refused."""
    refused: dict[str, int] = {}
    for ts, value in values:
        request = otlp_bodies.message("metrics")()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
        metric.sum.data_points.add(
            time_unix_nano=ts * 1_000_000, start_time_unix_nano=start_ns, as_double=value
        )
        batch: Batch = otlp_metrics.metrics(request)
        samples: Samples = batch.samples[0]
        steps = series.encode(
            samples, protocol="otlp", owner="a", more=(), now_ms=NOW_MS, oldest_ms=0
        )
        try:
            while True:
                next(steps)
        except StopIteration as end:
            for reason, count in end.value.refused.items():
                refused[reason] = refused.get(reason, 0) + count
    return refused


def test_a_counter_that_contradicts_itself_is_told() -> None:
    """If this fails, two processes under one identity are taken for one, or a restart without a
    start, a repeated and a late value are refused."""
    start = (NOW_MS - 100_000) * 1_000_000
    at = NOW_MS - 50_000
    steady = [(at + n * 1000, 10.0 * n) for n in range(5)]
    mixed = [(at + n * 1000, 10.0 * n + 5000 * (n % 2)) for n in range(20)]
    slower = [(at + n * 1000, 10.0 * n + 5000 * (n % 5 == 4)) for n in range(40)]
    quicker = [(at + n * 1000, 10.0 * n + 5000 * (n % 5 != 4)) for n in range(40)]
    honest = (
        steady + steady + steady[::-1],  # repeated, and late
        [(at, 100.0), (at + 1000, 3.0), (at + 2000, 60.0), (at + 3000, 160.0)],
        [(at + n * 1000, value) for n, value in enumerate([200.0, 300, 10, 400, 500, 600])],
        [(at + n * 1000, 0.1 * n - 1e-12 * (n % 2)) for n in range(50)],
        [
            (at + n * 1000, 40.0 * (n % 4 + 1) + n % 3) for n in range(50)
        ],  # it crashes again and again
        [*steady, (at - 300_000, 1000.0), (at - 290_000, 1010.0)],  # the clock went back
    )
    for known in (start, 0):
        assert _taken(Series(), known, *mixed)["processes_mixed"] >= 3
        assert _taken(Series(), known, *slower)["processes_mixed"] >= 3
        assert _taken(Series(), known, *quicker)["processes_mixed"] >= 3
        for values in honest:
            assert _taken(Series(), known, *values) == {}, values


def test_starts_that_change_with_every_value_make_no_series_each() -> None:
    """If this fails, a sender whose start moves fills its budget of series."""
    series = Series()
    for n in range(300):
        at = NOW_MS - 400_000 + n * 1000
        assert _taken(series, (at - 500) * 1_000_000, (at, float(n))) == {}
    assert len(set(series._id[: series.count].tolist())) == limits.STARTS_PER_SERIES_MAX + 1
    series = Series()
    for n in range(100):  # each begins where the last value was
        at = NOW_MS - 100_000 + n * 1000
        assert _taken(series, (at - 1000) * 1_000_000, (at, float(n))) == {}
    assert len(set(series._id[: series.count].tolist())) == 2
