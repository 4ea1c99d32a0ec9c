"""A peer's engine on no-op steps, for `bench/engine.py`: `PYTHON engine_peer.py dbos|dagster|luigi
STEPS`. Prints milliseconds a step.

Runs in the peer's own environment and imports nothing of ours.
"""

import json
import logging
import os
import resource
import sqlite3
import sys
import tempfile
import time

WIDE = 20


def dbos(steps: int, folder: str) -> float:
    """One workflow that calls a step again and again; its database is a SQLite file in WAL,
    synchronous=FULL as it sets it."""
    from dbos import DBOS

    path = os.path.join(folder, "dbos.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{path}",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )

    @DBOS.step()
    def noop(n: int) -> int:
        return n

    @DBOS.workflow()
    def work(count: int) -> float:
        started = time.perf_counter()
        for n in range(count):
            noop(n)
        return time.perf_counter() - started

    DBOS.launch()
    work(20)
    spent = work(steps)
    DBOS.destroy()
    return spent


def dagster(steps: int, folder: str) -> float:
    """One job of ops in columns, run in process."""
    import dagster as dg

    logging.disable(logging.CRITICAL)

    @dg.op(ins={"before": dg.In(dg.Nothing)})
    def noop() -> None:
        return None

    def graph(count: int) -> "dg.JobDefinition":
        @dg.job
        def work() -> None:
            last: list = []
            for n in range(count):
                call = noop.alias(f"t{n}")
                last.append(call(before=last[n - WIDE]) if n >= WIDE else call())

        return work

    os.environ["DAGSTER_HOME"] = folder
    graph(WIDE).execute_in_process()
    job = graph(steps)
    started = time.perf_counter()
    assert job.execute_in_process().success
    return time.perf_counter() - started


def luigi(steps: int, folder: str) -> float:
    """Tasks in columns, each with a file as its target, on the local scheduler."""
    import luigi as lg

    logging.disable(logging.CRITICAL)

    class Noop(lg.Task):
        n = lg.IntParameter()

        def requires(self) -> list:
            return [Noop(n=self.n - WIDE)] if self.n >= WIDE else []

        def output(self) -> "lg.LocalTarget":
            return lg.LocalTarget(os.path.join(folder, str(self.n)))

        def run(self) -> None:
            with open(self.output().path, "w") as file:
                file.write("x")

    started = time.perf_counter()
    assert lg.build(
        [Noop(n=n) for n in range(steps - WIDE, steps)], local_scheduler=True, log_level="CRITICAL"
    )
    return time.perf_counter() - started


def main() -> None:
    name, steps = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        spent = {"dbos": dbos, "dagster": dagster, "luigi": luigi}[name](steps, folder)
    print(
        json.dumps(
            {
                "step": 1000 * spent / steps,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
    sys.stdout.flush()
    os._exit(0)  # some of them keep threads


if __name__ == "__main__":
    main()
