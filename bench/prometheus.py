"""Unchanged Prometheus 2.x that writes to Sextant, and whether what its target counted is what is
found: `python -m bench prometheus`.

One alone, a pair without a label that tells it apart, and a pair with one (`replica`) scrape the
same target every second. In the middle one of each kind and Sextant's telemetry process are killed
with -9, the target starts again from nought, and at the end it vanishes. Prints a table, a row for
each comparison; exit code 1 when one is wrong. Where Debian's package is neither installed nor to
be had, it says so, with exit code 0.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import prometheus_client
from own_project import Project, Table, eventually, project

from sextant.server.processes.supervisor import claim

ROUND = 40
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STALE = "7FF0000000000002"
_CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
{external}
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: ['{target}']}}]
remote_write:
  - url: '{ingest}/api/v1/write'
    authorization: {{credentials: '{token}'}}
    send_exemplars: true
    queue_config: {{batch_send_deadline: 1s, max_backoff: 1s}}
    metadata_config: {{send_interval: 2s}}
"""


def program(folder: Path) -> str:
    """Return Prometheus: the installed one, or Debian's package unpacked below a folder; "" when
    there is none."""
    if found := shutil.which("prometheus"):
        return found
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return ""
    subprocess.run(
        ["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, check=False
    )
    for package in folder.glob("prometheus_*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
        return str(folder / "usr/bin/prometheus")
    return ""


class Target:
    """What is scraped: a program with metrics, at one address, that can be started again."""

    def __init__(self) -> None:
        self.address = claim("target", "127.0.0.1:0")
        self.counted = 0
        self.begin()

    def begin(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        self._orders = prometheus_client.Counter("shop_orders", "Orders", registry=registry)
        self._took = prometheus_client.Histogram(
            "shop_took_seconds", "Time", buckets=(0.1, 1, 10), registry=registry
        )
        # its name says nothing of its kind: only metadata do
        self._level = prometheus_client.Gauge("shop_level", "Level", registry=registry)
        self._server: Any
        self._thread: threading.Thread
        self._server, self._thread = prometheus_client.start_http_server(
            int(self.address.split(":")[1]), addr="127.0.0.1", registry=registry
        )

    def work(self) -> None:
        for n in range(ROUND):
            self._orders.inc(exemplar={"trace_id": TRACE})
            self._took.observe(0.5 if n % 2 else 5)
            self._level.set(n)
        self.counted += ROUND

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Prometheus:
    """One that runs from a folder of its own."""

    def __init__(
        self, path: str, folder: Path, job: str, replica: str, server: Project, target: Target
    ) -> None:
        folder.mkdir()
        external = f"  external_labels: {{replica: {replica}}}" if replica else ""
        (folder / "prometheus.yml").write_text(
            _CONFIG.format(
                external=external,
                job=job,
                target=target.address,
                ingest=server.ingest,
                token=server.token,
            )
        )
        self.job, self.replica = job, replica
        self._command = [
            path,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={claim('prometheus', '127.0.0.1:0')}",
            "--enable-feature=exemplar-storage",
        ]
        self.begin()

    def begin(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def where(self) -> str:
        """Return what its series have, as SQL."""
        more = f" AND labels['replica'] = '{self.replica}'" if self.replica else ""
        return f"labels['job'] = '{self.job}'{more}"


def seen(server: Project, senders: list[Prometheus], target: Target, orders: int) -> None:
    """Wait until each sender has sent what the target shows now."""
    for one in senders:
        eventually(
            lambda one=one: server.one(  # type: ignore[misc]
                f"SELECT if(count() = 0, NULL, argMax(value, ts)) FROM obs.metrics WHERE {one.where} AND "
                "metric = 'shop_orders_total'"
            ),
            orders,
        )


def compare(server: Project, senders: list[Prometheus], target: Target, table: Table) -> None:
    for one in {one.where: one for one in senders}.values():
        name = f"{one.job} {one.replica}".strip()
        for metric in ("shop_orders_total", "shop_took_seconds_count"):
            sql = f"SELECT sum(increase) FROM obs.rates WHERE {one.where} AND metric = '{metric}'"
            found = eventually(lambda sql=sql: server.one(sql), target.counted)  # type: ignore[misc]
            table.add(name, f"growth of {metric}", target.counted, found)
        sql = (
            f"SELECT sum(count) FROM obs.histograms WHERE {one.where} AND "
            "metric = 'shop_took_seconds'"
        )
        found = eventually(lambda sql=sql: server.one(sql), target.counted)  # type: ignore[misc]
        table.add(name, "values of the histogram", target.counted, found)
        sql = (
            "SELECT histogramQuantile(0.5, groupArrayArray(cells)) FROM obs.histograms WHERE "
            f"{one.where} AND metric = 'shop_took_seconds'"
        )
        median = server.one(sql)
        table.add(name, "median, in (0.1, 1]", 0.5, median, right=0.1 <= (median or 0) <= 1)
        for metric, kind in (
            ("shop_orders_total", "counter"),
            ("shop_level", "gauge"),
            ("shop_took_seconds_bucket", "histogram"),
        ):
            sql = (
                f"SELECT argMax(kind, ts) FROM obs.metrics WHERE {one.where} AND "
                f"metric = '{metric}'"
            )
            table.add(name, f"kind of {metric}", kind, server.one(sql))
        sql = (
            f"SELECT any(trace_id) FROM obs.exemplars WHERE {one.where} AND "
            "metric = 'shop_orders_total'"
        )
        table.add(name, "trace of an exemplar", TRACE[:8], (server.one(sql) or "")[:8])
        sql = (
            "SELECT hex(reinterpretAsUInt64(argMax(value, ts))) FROM obs.metrics WHERE "
            f"{one.where} AND metric = 'shop_level'"
        )
        found = eventually(lambda sql=sql: server.one(sql), STALE)  # type: ignore[misc]
        table.add(name, "stale once the target is gone", STALE[-4:], str(found)[-4:])


def main() -> int:
    """Run all; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="sextant-prometheus-") as made:
        folder = Path(made)
        path = program(folder)
        if not path:
            print(
                "not run: there is no `prometheus` here: `apt-get install prometheus` on Debian",
                file=sys.stderr,
            )
            return 0
        target = Target()
        senders: list[Prometheus] = []
        with project(folder / "project") as server:
            try:
                for place, (job, replica) in enumerate(
                    (
                        ("alone", ""),
                        ("pair", ""),
                        ("pair", ""),
                        ("replicas", "a"),
                        ("replicas", "b"),
                    )
                ):
                    senders.append(
                        Prometheus(path, folder / f"p{place}", job, replica, server, target)
                    )
                alone, first_of_pair, *_, first_replica, _ = senders
                seen(server, senders, target, 0)
                target.work()
                seen(server, senders, target, ROUND)
                for one in (alone, first_of_pair, first_replica):
                    one.kill()
                target.work()  # the others see it
                server.kill_telemetry()
                target.work()
                for one in (alone, first_of_pair, first_replica):
                    one.begin()
                seen(server, senders, target, 3 * ROUND)
                target.end()
                target.begin()
                target.work()
                seen(server, senders, target, ROUND)
                target.work()
                seen(server, senders, target, 2 * ROUND)
                target.end()
                table = Table()
                compare(server, senders, target, table)
            finally:
                for one in senders:
                    one.kill()
    return 1 if table.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
