"""Python services, unchanged: each way of sending comes to what was measured, and workers of one
service come to the requests that were answered."""

import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import Serving
from telemetry_process import Telemetry, telemetry

from sextant.server.processes.supervisor import claim

HERE = Path(__file__).parent
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
WAYS = list(
    itertools.product(
        ("http/protobuf", "grpc"),
        ("cumulative", "delta"),
        ("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    )
)
WORKERS = 3


@pytest.fixture(scope="module")
def server(coordinator: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    address = claim("grpc", "127.0.0.1:0")
    with telemetry(tmp_path_factory.mktemp("python"), api=coordinator.url, grpc=address) as one:
        yield one


def environment(server: Telemetry, token: str, protocol: str, **more: str) -> dict[str, str]:
    """Return what OpenTelemetry's specification has a client read."""
    grpc = protocol == "grpc"
    return {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{server.start['grpc']}" if grpc else server.ingest,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}",
        **dict.fromkeys(
            ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "otlp"
        ),
        "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
        **more,
    }


def eventually(ask: Callable[[], Any], wanted: Any) -> None:
    """Ask until the answer is the wanted one: growth is counted once in fifteen seconds."""
    end = time.monotonic() + 60
    while (found := ask()) != wanted and time.monotonic() < end:
        pass
    assert found == wanted


def name_of(way: tuple[str, str, str]) -> str:
    return "-".join(way).replace("/", "-").replace("_", "-")


@pytest.fixture(scope="module")
def measured(server: Telemetry, token: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Run the program once for each way of sending; return what each measured."""
    running = {}
    for way in WAYS:
        protocol, temporality, histogram = way
        running[way] = subprocess.Popen(
            [INSTRUMENT, sys.executable, str(HERE / "client_measures.py")],
            env=environment(
                server,
                token,
                protocol,
                OTEL_SERVICE_NAME=name_of(way),
                OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
                OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=histogram,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = {}
    for way, process in running.items():
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "failed" not in errors.lower(), errors
        said[way] = json.loads(out)
    return said


@pytest.mark.parametrize("way", WAYS, ids=name_of)
def test_what_was_measured_is_found(
    way: tuple[str, str, str],
    measured: dict[tuple[str, str, str], dict[str, Any]],
    server: Telemetry,
) -> None:
    """If this fails, a Python service that prefers this temporality, histogram or protocol is shown
    other numbers than it counted."""
    said = measured[way]
    values = said["values"]
    asset = f"service:{name_of(way)}"

    def total(table: str, metric: str, what: str) -> Any:
        return server.one(
            f"SELECT {what} FROM obs.{table} WHERE asset = {{a:String}} AND metric = {{m:String}}",
            a=asset,
            m=metric,
        )

    eventually(lambda: total("rates", "app.orders", "sum(increase)"), said["orders"])
    eventually(lambda: total("histograms", "app.duration", "sum(count)"), len(values))
    assert total("rates", "app.duration_count", "sum(increase)") == len(values)
    assert math.isclose(
        total("rates", "app.duration_sum", "sum(increase)"), sum(values), rel_tol=1e-9
    )
    assert total("metrics", "app.waiting", "argMax(value, ts)") == 0
    for level in (0.5, 0.95, 0.99):
        found = total(
            "histograms", "app.duration", f"histogramQuantile({level}, groupArrayArray(cells))"
        )
        true = values[math.ceil(level * len(values)) - 1]
        low, high = cell(true, explicit=way[2].startswith("explicit"))
        assert low <= found <= high, (level, true)
    assert total("exemplars", "app.duration", "count()") > 0
    for row in server.rows(
        "SELECT trace_id, value FROM obs.exemplars WHERE asset = {a:String} AND metric = "
        "'app.duration'",
        a=asset,
    ):
        assert said["traces"][row["trace_id"]] == row["value"]
    where = "WHERE asset = {a:String}"
    assert {
        row["trace_id"]
        for row in server.rows(f"SELECT trace_id FROM obs.spans {where} AND name = 'work'", a=asset)
    } == set(said["traces"])
    lines = server.rows(f"SELECT body, severity FROM obs.logs {where} ORDER BY ts", a=asset)
    assert lines == [{"body": f"part {n} of 4 is done", "severity": "warn"} for n in range(1, 5)]


def cell(value: float, *, explicit: bool) -> tuple[float, float]:
    """Return the bounds that a histogram of the SDK keeps a value between."""
    if not explicit:
        width = 2 ** (2**-3)  # 160 cells hold the range of the values at scale 3
        return value / width, value * width
    bounds = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000)
    return (
        max((bound for bound in bounds if bound < value), default=0),
        min(bound for bound in bounds if bound >= value),
    )


# ---------------------------------------------------------------- workers of one service


class Gunicorn:
    """A service of several workers and what it answered."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._port = port
        self.answered: dict[int, int] = {}  # worker -> requests
        self._lock = threading.Lock()

    def ask(self, each: int) -> None:
        """Send requests until each of the workers has answered some."""
        before = dict(self.answered)

        def busy() -> int:
            return sum(
                count >= before.get(worker, 0) + each for worker, count in self.answered.items()
            )

        def client() -> None:
            while busy() < WORKERS:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/buy") as answer:
                    worker = int(answer.read())
                with self._lock:
                    self.answered[worker] = self.answered.get(worker, 0) + 1

        clients = [threading.Thread(target=client) for _ in range(2 * WORKERS)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()

    @property
    def requests(self) -> int:
        return sum(self.answered.values())


@contextmanager
def gunicorn(variables: dict[str, str], *flags: str, instrument: bool) -> Iterator[Gunicorn]:
    with socket.socket() as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        endpoint.listen(64)
        program = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--bind"]
        process = subprocess.Popen(
            [
                *([INSTRUMENT] if instrument else []),
                *program,
                f"fd://{endpoint.fileno()}",
                "--log-level=error",
                "--no-control-socket",
                *flags,
                "client_wsgi:app",
            ],
            env=variables,
            cwd=HERE,
            pass_fds=[endpoint.fileno()],
        )
        try:
            yield Gunicorn(endpoint.getsockname()[1], process)
        finally:
            process.terminate()
            process.wait(30)


COUNTED = "http.server.request.duration"


def counted(server: Telemetry, asset: str, temporality: str) -> float:
    """Return how many requests the samples that have come say."""
    each = "sum(value)" if temporality == "delta" else "max(value)"
    found: float = server.one(
        f"SELECT sum(n) FROM (SELECT {each} AS n FROM obs.samples FINAL WHERE metric = {{m:String}} "
        "AND series IN (SELECT series FROM obs.series WHERE asset = {a:String}) GROUP BY series)",
        a=asset,
        m=f"{COUNTED}_count",
    )
    return found


@pytest.mark.parametrize("how", ["instance", "no_instance", "preload"])
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_workers_of_gunicorn(server: Telemetry, token: str, temporality: str, how: str) -> None:
    """If this fails, a service of several workers, one of which is killed and started again, is
    shown other requests than it answered."""
    service = f"workers-{temporality}-{how}"
    asset = f"service:{service}"
    variables = environment(
        server,
        token,
        "http/protobuf",
        OTEL_SERVICE_NAME=service,
        OTEL_SEMCONV_STABILITY_OPT_IN="http",
        OTEL_METRIC_EXPORT_INTERVAL="100",
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
        **({} if how == "instance" else {"APP_RESOURCE": service}),
    )
    flags = ["--preload"] if how == "preload" else []
    with gunicorn(variables, *flags, instrument=how == "instance") as served:
        served.ask(10)
        eventually(lambda: counted(server, asset, temporality), served.requests)
        os.kill(next(iter(served.answered)), signal.SIGKILL)
        served.ask(10)
    assert len(served.answered) == WORKERS + 1, "the killed worker was started again"
    eventually(lambda: counted(server, asset, temporality), served.requests)
    for table, metric, what in (
        ("rates", f"{COUNTED}_count", "sum(increase)"),
        ("histograms", COUNTED, "sum(count)"),
    ):
        eventually(
            lambda table=table, metric=metric, what=what: server.one(
                f"SELECT {what} FROM obs.{table} WHERE asset = {{a:String}} AND metric = "
                "{m:String}",
                a=asset,
                m=metric,
            ),
            served.requests,
        )
    assert not [reason for _, reason in server.refused() if reason == "processes_mixed"]


def test_clients_of_sql_find_it_too(
    measured: dict[tuple[str, str, str], dict[str, Any]], server: Telemetry, token: str
) -> None:
    """If this fails, a notebook or a BI tool cannot ask for growth, quantiles or exemplars."""
    import clickhouse_connect
    import sqlalchemy as sa

    way = WAYS[0]
    values, asset = measured[way]["values"], f"service:{name_of(way)}"
    eventually(
        lambda: server.one(
            "SELECT sum(count) FROM obs.histograms WHERE asset = {a:String} AND metric = "
            "'app.duration'",
            a=asset,
        ),
        len(values),
    )
    host, port = server.sql.removeprefix("http://").split(":")
    where = "WHERE asset = {a:String} AND metric = {m:String}"
    with clickhouse_connect.get_client(
        host=host, port=int(port), username="me", password=token
    ) as client:

        def ask(what: str, table: str, metric: str) -> Any:
            sql = f"SELECT {what} FROM obs.{table} {where}"
            return client.query(sql, parameters={"a": asset, "m": metric})

        rows = ask("sum(increase), max(rate) > 0", "rates", "app.orders").result_rows
        assert rows == [(measured[way]["orders"], True)]
        low, high = cell(values[math.ceil(0.95 * len(values)) - 1], explicit=True)
        quantile = "histogramQuantile(0.95, groupArrayArray(cells))"
        assert low <= ask(quantile, "histograms", "app.duration").first_row[0] <= high
        cells = ask("arrayJoin(cells)", "histograms", "app.duration").result_rows
        assert sum(one["count"] for (one,) in cells) == len(values)
        frame = client.query_df(
            f"SELECT ts, value, trace_id FROM obs.exemplars {where}",
            parameters={"a": asset, "m": "app.duration"},
        )
        assert len(frame)
        assert set(frame["trace_id"]) <= set(measured[way]["traces"])
    engine = sa.create_engine(f"clickhousedb://me:{token}@{host}:{port}/obs")
    tables = set(sa.inspect(engine).get_table_names("obs"))
    assert {"rates", "histograms", "exemplars"} <= tables
    rates = sa.Table("rates", sa.MetaData(), autoload_with=engine, schema="obs")
    histograms = sa.table("histograms", *map(sa.column, ("cells", "asset", "metric")), schema="obs")
    with engine.connect() as connection:
        total = sa.select(sa.func.sum(rates.c.increase)).where(
            rates.c.asset == asset, rates.c.metric == "app.orders"
        )
        assert connection.execute(total).scalar() == measured[way]["orders"]
        median = sa.select(
            sa.func.histogramQuantile(0.95, sa.func.groupArrayArray(histograms.c.cells))
        ).where(histograms.c.asset == asset, histograms.c.metric == "app.duration")
        assert low <= connection.execute(median).scalar() <= high
    engine.dispose()
