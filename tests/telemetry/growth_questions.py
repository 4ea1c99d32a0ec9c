"""Single questions about growth and histograms, each with its answer. Run in a process of its own,
since chDB has one path for a process. Argument: folder."""

import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import cramjam
from growth_scenarios import NS, Sent, request
from growth_suite import Platform
from remote_writer import native_histogram
from remote_writer import request as request_of

from sextant.formats.telemetry import exposition, remote_write
from sextant.stores.telemetry import migrate
from sextant.stores.telemetry.chdb import ChdbStore


def main(folder: Path) -> None:
    """Raise AssertionError where an answer is wrong."""
    older(folder / "store")
    platform = Platform(folder)
    what_an_older_version_left(platform)
    schema_of(platform, "at - 86400")
    gauges(platform)
    the_later_of_two_values(platform)
    a_first_value_of_the_instant_in_which_counting_began(platform)
    increments_that_come_in_any_order(platform)
    the_bucket_that_is_not_over(platform)
    cells_on_both_sides_of_zero(platform)
    native_histograms_of_prometheus(platform)
    samples_that_come_while_a_bucket_is_made(platform)
    the_first_value_of_what_nobody_watched(platform)
    the_end_of_a_histogram(platform)
    a_zero_that_grows(platform)
    kinds_are_a_senders_own(platform)
    quantiles_are_those_of_the_cells(platform)
    print("ok")


def schema_of(platform: Platform, at: str) -> None:
    """Say since when there is the store's schema: what began before was not watched."""
    platform.store.run(
        f"ALTER TABLE obs.schema_version UPDATE at = {at} WHERE 1 SETTINGS mutations_sync = 2"
    )


def _send(platform: Platform, fill: Any, resource: dict[str, Any] | None = None) -> dict[str, int]:
    made, scope = request(resource or {"service.name": "svc"})
    fill(scope)
    accepted = platform.send(Sent(otlp=made))
    accepted.durable.result(30)
    return accepted.refused


def _counter(name: str, value: int, at_s: float, start_s: float = 0, **how: Any) -> Any:
    def fill(scope: Any) -> None:
        data = scope.metrics.add(name=name).sum
        data.aggregation_temporality = how.get("temporality", 2)
        data.is_monotonic = how.get("monotonic", True)
        point = data.data_points.add(
            as_int=value, time_unix_nano=round(at_s * NS), start_time_unix_nano=round(start_s * NS)
        )
        if "code" in how:
            point.attributes.add(key="code").value.string_value = how["code"]

    return fill


def gauges(platform: Platform) -> None:
    """A gauge has no growth, a sum that may fall is one; the increments of one have."""
    at = int(time.time()) // 300 * 300 - 1200

    def gauge(scope: Any) -> None:
        point = scope.metrics.add(name="a.gauge").gauge.data_points.add(as_double=at % 7)
        point.time_unix_nano = at * NS

    _send(platform, gauge)
    for n in range(3):
        _send(platform, _counter("a.level", 10 - n, at + n, at - 5, monotonic=False))
        _send(platform, _counter("a.change", -n, at + n, at - 5, monotonic=False, temporality=1))
    platform.roll_up()
    found = platform.rows(
        "SELECT metric, sum(increase) FROM obs.rates WHERE metric LIKE 'a.%' GROUP BY metric"
    )
    assert found == [["a.change", -3]], found


def the_later_of_two_values(platform: Platform) -> None:
    """Of two values of one series and time the one that came later is shown and counted, in one
    insert, in two, and after a merge."""
    at = int(time.time()) // 300 * 300 - 1200
    for value in (10, 12):
        _send(platform, _counter("twice", value, at, at - 5))
    platform.intake.flush()
    asked = "SELECT value FROM obs.metrics WHERE metric = 'twice'"
    assert platform.rows(asked) == [[12]]
    for value in (15, 11):
        _send(platform, _counter("twice", value, at, at - 5))
        platform.intake.flush()
    platform.roll_up()
    for _ in range(2):
        shown = platform.rows("SELECT value FROM obs.metrics WHERE metric = 'twice'")
        assert shown == [[11]], shown
        platform.store.run("OPTIMIZE TABLE obs.samples FINAL")
    grown = platform.rows("SELECT sum(increase) FROM obs.rates WHERE metric = 'twice'")
    assert grown == [[11]], grown


def a_first_value_of_the_instant_in_which_counting_began(platform: Platform) -> None:
    """An SDK whose clock has milliseconds, that of Node, may export a value in the one in which it
    began to count: all of it is growth. Of a collector's series such a start is not known, and its
    first value no growth."""
    at = int(time.time()) // 300 * 300 - 1200
    sdk = {"service.name": "svc", "telemetry.sdk.language": "nodejs"}
    for name, resource in (("first.sdk", sdk), ("first.collector", None)):
        for value, later in ((5, 0), (8, 10)):
            _send(platform, _counter(name, value, at + later, at), resource)
    platform.roll_up()
    found = platform.rows(
        "SELECT metric, sum(increase) FROM obs.rates WHERE metric LIKE 'first.%' GROUP BY metric "
        "ORDER BY metric"
    )
    assert found == [["first.collector", 3], ["first.sdk", 8]], found


def increments_that_come_in_any_order(platform: Platform) -> None:
    """Workers of one service tell their increments within the same few milliseconds; one that is
    slow tells them after others of a later time, and some are told twice. Each counts once."""
    random_ = random.Random(7)
    at = int(time.time()) // 300 * 300 - 1200
    told = []
    for worker in range(5):
        start = at - 5 + worker / 1000
        for export in range(20):
            end = at + export / 10 + random_.randrange(3) / 1000
            told.append((random_.randrange(1, 9), end, start))
            start = end + worker / 1e6
    total = sum(value for value, _, _ in told)
    # none comes later than half a second
    told = sorted(told + told[::7], key=lambda one: one[1] + random_.random() / 2)
    for value, end, start in told:
        _send(platform, _counter("workers", value, end, start, temporality=1))
    platform.roll_up()
    for what, table in (("value", "metrics"), ("increase", "rates")):
        found = platform.rows(f"SELECT sum({what}) FROM obs.{table} WHERE metric = 'workers'")
        assert found == [[total]], (table, found, total)


def the_bucket_that_is_not_over(platform: Platform) -> None:
    """Growth is seen before its five minutes are over; the rate is by the seconds so far, or by all
    of them when the bucket is behind."""
    now = time.time()
    _send(platform, _counter("now", 40, now - 0.5, now - 1))
    platform.intake._rollups._open_again = 0.0
    platform.roll_up()
    ((increase, rate, seconds),) = platform.rows(
        "SELECT increase, rate, increase / rate FROM obs.rates WHERE metric = 'now'"
    )
    assert increase == 40, increase
    assert rate > 0, rate
    assert 1 <= seconds <= 300, seconds
    at = int(now) // 300 * 300 - 1200
    _send(platform, _counter("then", 600, at + 30, at - 5))
    platform.roll_up()
    found = platform.rows("SELECT rate FROM obs.rates WHERE metric = 'then'")
    assert found == [[2]], found


def cells_on_both_sides_of_zero(platform: Platform) -> None:
    """An exponential histogram with negative values, a zero and a scale that falls."""
    at = int(time.time()) // 300 * 300 - 1200

    def fill(n: int) -> Any:
        def add(scope: Any) -> None:
            data = scope.metrics.add(name="both").exponential_histogram
            data.aggregation_temporality = 2
            point = data.data_points.add(
                count=4 * (n + 1), zero_count=n + 1, scale=2 - n, zero_threshold=0.25
            )
            point.start_time_unix_nano, point.time_unix_nano = (at - 5) * NS, (at + n) * NS
            point.negative.offset = 4 >> n
            point.negative.bucket_counts.extend([n + 1])
            point.positive.offset = 4 >> n
            point.positive.bucket_counts.extend([2 * (n + 1)])

        return add

    for n in range(2):
        _send(platform, fill(n))
    platform.roll_up()
    ((count, cells),) = platform.rows(
        "SELECT count, arrayMap(cell -> [cell.1, cell.2, cell.3], arraySort(cells)) FROM obs.histograms WHERE metric = 'both'"
    )
    assert count == 8, count
    wide, narrow = 2**0.5, 2**0.25
    expected = [
        [-2 * wide, -2, 1], [-2 * narrow, -2, 1], [-0.25, 0.25, 2], [2, 2 * narrow, 2],
        [2, 2 * wide, 2],
    ]  # fmt: skip
    assert all(
        math.isclose(a, b) for one, other in zip(cells, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    ), cells  # fmt: skip
    shown = platform.rows(
        "SELECT kind, labels['service.name'] FROM obs.series WHERE metric = 'both'"
    )
    assert shown == [["histogram", "svc"]], shown


def samples_that_come_while_a_bucket_is_made(platform: Platform) -> None:
    """What is inserted while growth is counted is counted the next time."""
    at = int(time.time()) // 300 * 300 - 1200
    _send(platform, _counter("meanwhile", 10, at, at - 5))
    platform.intake.flush()
    rollups, run = platform.intake._rollups, platform.store.run

    def slowly(sql: str, *, beside: bool = False) -> None:
        if sql.lstrip().startswith("INSERT INTO obs.rollups"):
            platform.store.run = run  # type: ignore[method-assign]
            _send(platform, _counter("meanwhile", 25, at + 15, at - 5))
            platform.intake.flush()
        run(sql, beside=beside)

    platform.store.run = slowly  # type: ignore[method-assign]
    assert rollups.make(time.time_ns() // 1_000_000) == 1
    asked = "SELECT sum(increase) FROM obs.rates WHERE metric = 'meanwhile'"
    assert platform.rows(asked) == [[10]]
    assert rollups.make(time.time_ns() // 1_000_000) == 1
    assert platform.rows(asked) == [[25]]


def the_first_value_of_what_nobody_watched(platform: Platform) -> None:
    """What a process had counted before there was this store is no growth, in its first value; of
    the one that follows it it is, and so is what it begins to count later."""
    at = int(time.time()) // 300 * 300 - 1200
    schema_of(platform, "now()")
    for n in range(1, 41):
        for pid in (101, 102):
            resource = {"service.name": "w", "process.pid": pid}
            value = 10 * n + 5000 * (pid == 101)
            _send(platform, _counter("unwatched", value, at + n * 10 + pid % 2, at), resource)
        start, value = (at, 10 * n) if n <= 20 else (at + 200, 10 * (n - 20) + 7)
        _send(platform, _counter("followed", value, at + n * 10 + 5, start + 2))
        if n > 30:
            _send(platform, _counter("followed", n - 30, at + n * 10 + 5, at + 202, code="500"))
    platform.roll_up()
    schema_of(platform, "at - 86400")
    asked = (
        "SELECT metric, labels['code'] AS code, sum(increase) FROM obs.rates WHERE metric IN "
        "('unwatched', 'followed') GROUP BY metric, code ORDER BY metric DESC, code"
    )
    found = platform.rows(asked)
    assert found == [["unwatched", "", 780], ["followed", "", 397], ["followed", "500", 10]], found


def the_end_of_a_histogram(platform: Platform) -> None:
    """A point without a value ends a histogram, and takes nothing from its growth."""
    at = int(time.time()) // 300 * 300 - 1200

    def fill(kind: str, n: int, flags: int) -> Any:
        def add(scope: Any) -> None:
            metric = scope.metrics.add(name=f"ends.{kind}")
            data = getattr(metric, kind)
            data.aggregation_temporality = 2
            point = data.data_points.add(
                time_unix_nano=(at + 10 * n) * NS, start_time_unix_nano=(at - 5) * NS, flags=flags
            )
            if flags:
                return
            point.count, point.sum = 10 * n, 10.0 * n
            if kind == "histogram":
                point.explicit_bounds.append(1)
                point.bucket_counts.extend([10 * n, 0])
            else:
                point.positive.bucket_counts.append(10 * n)

        return add

    for n in range(1, 9):
        for kind in ("histogram", "exponential_histogram"):
            assert _send(platform, fill(kind, n, int(n in (4, 8)))) == {}
    platform.roll_up()
    for kind in ("histogram", "exponential_histogram"):
        ((count,),) = platform.rows(
            f"SELECT sum(count) FROM obs.histograms WHERE metric = 'ends.{kind}'"
        )
        assert count == 70, (kind, count)
        for part in ("count", "sum"):
            ended = platform.rows(
                f"SELECT count(), uniqExact(series), countIf(isNaN(value)) FROM obs.metrics WHERE "
                f"metric = 'ends.{kind}_{part}'"
            )
            assert ended == [[8, 1, 2]], (kind, part, ended)


def a_zero_that_grows(platform: Platform) -> None:
    """What the cell around zero grows over is in it, and counts once."""
    at = int(time.time()) // 300 * 300 - 1200

    def fill(n: int) -> Any:
        def add(scope: Any) -> None:
            data = scope.metrics.add(name="zero").exponential_histogram
            data.aggregation_temporality = 2
            point = data.data_points.add(
                count=10 * n, zero_count=5 * n * (n > 1), zero_threshold=1.0 * (n > 1)
            )
            point.time_unix_nano, point.start_time_unix_nano = (at + n) * NS, (at - 5) * NS
            point.positive.offset = -1 if n == 1 else 0
            point.positive.bucket_counts.extend([5, 5] if n == 1 else [5 * n])

        return add

    for n in (1, 2):
        _send(platform, fill(n))
    platform.roll_up()
    found = platform.rows("SELECT count FROM obs.histograms WHERE metric = 'zero'")
    assert found == [[20]], found


def kinds_are_a_senders_own(platform: Platform) -> None:
    """What one team says of a metric changes nothing of another's."""
    at = int(time.time()) // 300 * 300 - 1200
    for n in range(3):
        _send(platform, _counter("queue.done", 10 * n, at + n, at - 5))
    batch, kinds = exposition.decode(b"# TYPE queue.done gauge\nqueue.done 1\n", at_ms=at * 1000)
    steps = platform.intake.steps(batch, protocol="exposition", owner="other", kinds=kinds)
    for _ in steps:
        pass
    _send(platform, _counter("queue.done", 40, at + 5, at - 5))
    platform.roll_up()
    found = platform.rows("SELECT sum(increase) FROM obs.rates WHERE metric = 'queue.done'")
    assert found == [[40]], found


def native_histograms_of_prometheus(platform: Platform) -> None:
    """A native histogram grows as an exponential one, over a reset as well."""
    at = (int(time.time()) // 300 * 300 - 1200) * 1000
    labels = {"__name__": "native_seconds", "job": "n"}
    sent = (
        {"count": 4, "sum": 6.0, "schema": 1, "positive": {2: 3, 5: 1}},
        {"count": 9, "sum": 9.0, "schema": 1, "positive": {2: 5, 5: 3}, "zero": (1, 0.125)},
        {"count": 2, "sum": 4.0, "schema": 0, "positive": {1: 1}, "negative": {1: 1}},
    )
    for n, one in enumerate(sent):
        body = request_of(native_histogram(labels, at + 15_000 * n, **one))
        accepted = platform.intake.accept(
            remote_write.decode(bytes(cramjam.snappy.decompress_raw(body))),
            protocol="remote_write",
            owner="shop",
        )
        accepted.durable.result(30)
        assert accepted.refused == {}
    platform.roll_up()
    ((count, cells),) = platform.rows(
        "SELECT count, arrayMap(cell -> [cell.1, cell.2, cell.3], arraySort(cells)) FROM "
        "obs.histograms WHERE metric = 'native_seconds'"
    )
    wide = 2**0.5
    expected = [
        [-2, -1, 1], [-0.125, 0.125, 1], [1, 2, 1], [wide, 2, 2], [4, 4 * wide, 2],
    ]  # fmt: skip
    assert count == 7, count
    assert all(
        math.isclose(a, b) for one, other in zip(cells, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    ), cells  # fmt: skip
    grown = platform.rows(
        "SELECT metric, sum(increase) FROM obs.rates WHERE metric LIKE 'native%' GROUP BY metric "
        "ORDER BY metric"
    )
    assert grown == [["native_seconds_count", 7], ["native_seconds_sum", 7]], grown


def quantiles_are_those_of_the_cells(platform: Platform) -> None:
    """`histogramQuantile` is where the summed shares of the cells reach the level, by an oracle
    that looks for it by bisection."""
    rng = random.Random(7)
    for _ in range(60):
        cells = []
        for _ in range(rng.randint(1, 12)):
            low = rng.choice([rng.uniform(-5, 5), 0.0, -math.inf])
            high = rng.choice([(0 if low == -math.inf else low) + rng.uniform(0.1, 5), math.inf])
            cells.append((low, high, rng.choice([1, 2, 0.5])))
        level = rng.choice([0.01, 0.5, 0.9, 0.99, 1.0])
        text = ", ".join(f"({a}, {b}, {n})" for a, b, n in cells)
        ((found,),) = platform.rows(f"SELECT histogramQuantile({level}, [{text}])")
        expected = _quantile(cells, level)
        assert (
            found is None if math.isnan(expected) else math.isclose(found, expected, abs_tol=1e-9)
        ), (level, cells, found, expected)
    for level in ("-0.1", "1.1", "nan"):
        assert platform.rows(f"SELECT histogramQuantile({level}, [(0., 1., 3.)])") == [[None]]
    for nothing in ("[]", "[(0., 1., 0.)]"):
        sql = f"SELECT histogramQuantile(0.5, {nothing}::Array(Tuple(Float64, Float64, Float64)))"
        assert platform.rows(sql) == [[None]], nothing


def _quantile(cells: list[tuple[float, float, float]], level: float) -> float:
    ends = sorted({end for low, high, _ in cells for end in (low, high) if math.isfinite(end)})
    if not ends:
        return math.nan

    def below(at: float) -> float:
        return sum(
            n
            if high <= at
            else 0
            if low >= at or math.isinf(low) or math.isinf(high)
            else n * (at - low) / (high - low)
            for low, high, n in cells
        )

    wanted = level * sum(n for _, _, n in cells)
    if below(ends[-1]) < wanted - 1e-12:
        return ends[-1]
    if below(ends[0]) >= wanted:
        return ends[0]
    low, high = ends[0], ends[-1]
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if below(middle) >= wanted - 1e-12 else (middle, high)
    return high


def older(folder: Path) -> None:
    """Make a store as a version before this schema left it."""
    store = ChdbStore(folder)
    store.run("CREATE DATABASE IF NOT EXISTS obs")
    name, text = migrate._steps()[0]
    for statement in migrate.statements(text):
        store.run(statement)
    store.run(
        "CREATE TABLE obs.schema_version (version UInt32, name String, at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY version"
    )
    store.run(f"INSERT INTO obs.schema_version (version, name) VALUES (1, '{name}')")
    store.run(
        "INSERT INTO obs.samples (metric, series, ts, mantissa, scale) SELECT 'old', 1, "
        "now64(3) - 3600 + number, number * 15, 1 FROM numbers(100)"
    )
    store.run(
        "INSERT INTO obs.rollups (metric, series, bucket, increase, made) VALUES ('old', 1, "
        "toStartOfFiveMinutes(now('UTC')) - 3600, 7, now64(3))"
    )
    store.run(
        "INSERT INTO obs.series (metric, series, labels, kind, first_seen, last_seen) VALUES "
        "('old', 1, map('a', 'b'), 'counter', now64(3), now64(3))"
    )
    store.close()


def what_an_older_version_left(platform: Platform) -> None:
    """Samples and rates of an older version stay, and its rates are marked; a migration that was
    interrupted is done again."""
    asked = "SELECT count(), max(value), any(labels['a']) FROM obs.metrics WHERE metric = 'old'"
    for _ in range(2):
        assert platform.rows(asked) == [[100, 148.5, "b"]]
        rates = platform.rows("SELECT increase, exact FROM obs.rates WHERE metric = 'old'")
        assert rates == [[7, 0]], rates
        platform.store.run("ALTER TABLE obs.schema_version DELETE WHERE version > 1")
        migrate.migrate(platform.store)
    half = [text for name, text in migrate._steps() if name == "002_growth"][0]
    for count in range(1, 8):
        for statement in migrate.statements(half)[:count]:
            platform.store.run(statement)
    migrate.migrate(platform.store)
    assert platform.rows(asked) == [[100, 148.5, "b"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
