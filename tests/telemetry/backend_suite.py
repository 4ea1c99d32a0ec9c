"""What every telemetry store must do; run in a process of its own, since chDB has one path for a
process. Arguments: backend, folder."""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sextant.formats.telemetry import otlp_bodies, otlp_metrics
from sextant.formats.telemetry.batch import Batch
from sextant.formats.telemetry.records import Log, columns_of, log_rows
from sextant.kernel.clock import SystemClock
from sextant.kernel.errors import BadData, Busy, SextantError
from sextant.kernel.ports import QueryLimits, Telemetry
from sextant.server.feed import ops
from sextant.stores.telemetry import migrate
from sextant.stores.telemetry.intake import Intake
from sextant.stores.telemetry.rollups import Rollups


def suite(store: Telemetry, folder: Path) -> None:
    """Raise AssertionError where a store does not do it."""
    for _ in range(2):  # a second time changes nothing
        migrate.migrate(store, {"logs": 7})
        for statement in ops.ddl():
            store.run(statement)
    assert b"toIntervalDay(7)" in store.query("SHOW CREATE TABLE obs.logs", form="TSVRaw")
    rows = log_rows(
        columns_of(
            [Log(time.time_ns(), 1, 9, b"info", b"hello there", b"", b"", b"", [(b"a", b"b")])]
        ),
        asset="service:x",
        owner="shop",
        resource=[(b"r", b"s")],
    )
    for _ in range(3):
        store.insert("obs.logs", rows.block, token="one")
    assert (
        store.query(
            "SELECT count(), any(attributes['a']), any(resource['r']) FROM obs.logs", form="TSV"
        )
        == b"1\tb\ts\n"
    )
    assert store.query("SELECT {x:String} || '!'", form="TSV", params={"x": "a b"}) == b"a b!\n"
    intake = Intake(store, folder / "intake", SystemClock(), background=False)
    now = time.time_ns()
    request = otlp_bodies.message("metrics")()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(time_unix_nano=now, as_double=1.25)
    intake.accept(otlp_metrics.metrics(request), protocol="otlp", owner="shop").durable.result(10)
    intake.accept(
        Batch(refused={"malformed": 2}, timed=False), protocol="otlp", owner="shop"
    ).durable.result(10)
    (segment,) = (folder / "intake" / "journal").glob("*.journal")
    kept = segment.read_bytes()
    intake.flush()
    assert not segment.exists()
    assert (
        store.query("SELECT value, kind FROM obs.metrics WHERE metric = 'm'", form="TSV")
        == b"1.25\tgauge\n"
    )
    assert store.query("SELECT count FROM obs.refused", form="TSV") == b"2\n"
    intake.close()
    segment.write_bytes(
        kept
    )  # as if the process had died after the insert, before the segment was deleted
    intake = Intake(store, folder / "intake", SystemClock(), background=False)
    intake.flush()
    intake.close()
    assert store.query("SELECT count() FROM obs.metrics WHERE metric = 'm'", form="TSV") == b"1\n"
    assert store.query("SELECT sum(count) FROM obs.refused", form="TSV") == b"2\n"
    growth(store, folder)
    apart(store)
    for sql, kind in (
        ("SELECT nothing", BadData),
        ("INSERT INTO obs.logs (body) VALUES ('x')", SextantError),
        ("DROP TABLE obs.logs", SextantError),
    ):
        try:
            store.ask(sql, form="TSV")
        except kind:
            continue
        raise AssertionError(sql)
    try:
        store.ask(
            "SELECT sum(number) FROM numbers(100000000000)",
            form="TSV",
            limits=QueryLimits(seconds=0.2),
        )
    except Busy:
        pass
    else:
        raise AssertionError("no limit of time")
    assert store.query("SELECT count() FROM obs.logs", form="TSV") == b"1\n"
    store.close()


def apart(store: Telemetry) -> None:
    """Raise AssertionError where rows of a question that failed come with another caller's answer:
    what the first had written already, in whatever format it was."""
    limits = QueryLimits(seconds=0.5, rows_result=100_000)
    failing = (
        "SELECT number, 'closed' AS secret FROM numbers(100000000)",
        "SELECT number, 'closed', throwIf(number = 70000) FROM numbers(90000)",
        "SELECT number, 'closed', sleepEachRow(0.001) FROM numbers(90000)",
        "SELECT 'closed', nothing",
        "SELECT 'closed' FROM",
    )
    for form in (
        "JSON",
        "JSONEachRow",
        "JSONCompact",
        "CSV",
        "TSV",
        "Arrow",
        "Native",
        "RowBinary",
    ):
        for sql in failing:
            for question in (store.ask, store.query):
                try:
                    question(sql, form=form, limits=limits)
                except SextantError:
                    pass
                else:
                    raise AssertionError(f"{sql} did not fail")
                for other in ("TSV", "JSONEachRow"):
                    found = answered(store.ask, other, limits)
                    expected = b"1\n" if other == "TSV" else b'{"one":1}\n'
                    assert found == expected, (sql, form, found[:80])
                    assert answered(store.query, other, limits) == expected


def answered(question: Callable[..., bytes], form: str, limits: QueryLimits) -> bytes:
    """Return the answer of a question that may be over its limit of time when the machine is
    busy."""
    while True:
        with contextlib.suppress(Busy):
            return question("SELECT 1 AS one", form=form, limits=limits)


def growth(store: Telemetry, folder: Path) -> None:
    """Raise AssertionError where growth of a counter is lost or counted twice: samples further
    apart than a bucket, a reset, one that comes late."""
    start = time.time_ns() // 10**9 // 300 * 300 - 10_800
    rollups = Rollups(folder / "due", store)

    def sample(after_s: int, value: int) -> None:
        with rollups.getting([start + after_s // 300 * 300]):
            store.run(
                "INSERT INTO obs.samples (metric, series, ts, mantissa, scale) VALUES "
                f"('slow_total', 1, fromUnixTimestamp64Milli({(start + after_s) * 1000}), "
                f"{value}, 0)"
            )

    def grown(after_s: int) -> bytes:
        while rollups.make((start + after_s) * 1000):
            pass
        return store.query(
            (
                "SELECT intDiv(toUnixTimestamp(bucket) - {start:Int64}, 60) AS minute, increase "
                "FROM obs.rollups FINAL WHERE metric = 'slow_total' ORDER BY bucket"
            ),
            form="TSV",
            params={"start": str(start)},
        )

    sample(60, 10)
    assert grown(400) == b"0\t0\n"
    sample(1860, 40)
    assert grown(2200) == b"0\t0\n30\t30\n"
    sample(3660, 5)  # it began anew
    assert grown(4000) == b"0\t0\n30\t30\n60\t5\n"
    sample(960, 25)
    assert grown(4060) == b"0\t0\n15\t15\n30\t15\n60\t5\n"
    assert not len(rollups)


def main(backend: str, folder: Path) -> None:
    store: Any
    if backend == "chdb":
        from sextant.stores.telemetry.chdb import ChdbStore

        store = ChdbStore(folder / "store")
        suite(store, folder)
        return
    from clickhouse_shim import clickhouse

    from sextant.stores.telemetry.clickhouse import ClickHouseStore

    with clickhouse(folder / "server") as url:
        suite(ClickHouseStore(url), folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    print("ok")
