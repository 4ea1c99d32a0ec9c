"""Kill -9 at random points: `PYTHONPATH=src python bench/crash.py --kills 1000 [--seed N]`.

A run over a small graph is killed at a random moment, then another one takes up what is left; again
and again on one project. The source's rows are random, so work that was done twice would be seen in
what is live. After each pair:

lost     a result that was recorded before the kill is not what is live after the resume
doubled  a step that had ended well was run again
ended    no run stays open
torn     a reader beside it, all the time, sees the pointers of one publish move together, and rows
         of one generation

At the end the ledger is verified, projections included. Prints one JSON line. `tests/crash` does
the same 20 times. Children come from a server that has imported everything and run nothing (a fork
after Polars has run hangs).
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sextant.app.platform import LocalPlatform
from sextant.engine.history import Record
from sextant.engine.staged import decode_output
from sextant.ledger.verify import verify
from sextant.stores.state import open_reader

OPS = """
import os
from pathlib import Path
import polars as pl
import sextant as sx

sx.project("crash", tz="UTC", environments=["dev"])
days = sx.daily(start="2026-01-01", end="2026-01-05")
GENERATION = Path(__file__).with_name("generation")

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    made = Path(os.environ["CRASH_GENERATION"]).read_text()
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "generation": [int(made)] * 3, "token": [os.urandom(8).hex() for _ in range(3)]})

@sx.dataset(partition=days, key="id", durability="strict")
def checked(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

@sx.dataset(partition=days, key="id", checks=[sx.not_null("token")])
def shown(checked: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    return checked.join(orders.select("id", other="generation"), on="id")

@sx.dataset(key="generation")
def total(shown: pl.DataFrame) -> pl.DataFrame:
    return shown.group_by("generation", "other").len("rows")
"""
ASSETS = ("dataset:orders", "dataset:checked", "dataset:shown", "dataset:total")


# ---------------------------------------------------------------- in the server and its children


def serve(root: Path) -> None:
    """Fork a child for each line of stdin (`force` or `go on`), print its pid, then its end. What
    the first child imported is imported here then, so that the next ones spend their time on the
    run."""
    from sextant.project.config import read_config

    known = root / "modules"
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = run(
                    LocalPlatform(read_config(root), executor="inline"),
                    forced=line.strip() == "force",
                )
                known.exists() or known.write_text(
                    "\n".join(name for name in list(sys.modules) if name not in ("ops", "__main__"))
                )
            finally:
                os._exit(code)
        print(child, flush=True)
        sys.stdin.readline()  # not reaped before: until then the pid is still the child's own
        _, status = os.waitpid(child, 0)
        if known.exists() and "sextant.app.runs" not in sys.modules:
            for name in known.read_text().splitlines():
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(p: LocalPlatform, *, forced: bool) -> int:
    from sextant.engine.plan import Request

    with p:
        report = p.runs.run(
            "dev",
            Request(assets=("dataset:orders",) if forced else (), force=forced),
            by=p.core.authorization.who(),
        )
        return report.exit_code


# ---------------------------------------------------------------- the one who kills


class Reader:
    """Looks at the pointers all the time, as a consumer would: one query, one moment."""

    def __init__(self, address: str) -> None:
        self._state = open_reader(address)
        self._stop = threading.Event()
        self.looks = self.torn = 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.is_set():
            rows = self._state.read("pointers", ("dev",))
            rows = [row for row in rows if not row[0].startswith("project:")]
            self.looks += 1
            if rows and (len(rows) != len(ASSETS) or len({row[2] for row in rows}) != 1):
                self.torn += 1
            time.sleep(0.001)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._state.close()


class Server:
    def __init__(self, root: Path) -> None:
        environment = {
            **os.environ,
            "CRASH_GENERATION": str(root / "generation"),
            "POLARS_MAX_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def child(
        self,
        what: str,
        kill_after_s: float | None = None,
        kill_when: Callable[[], bool] | None = None,
    ) -> int:
        """Run one child and return its exit code; -9 when it was killed in time: after a while, or
        as soon as something is seen."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(pid, signal.SIGKILL)
        elif kill_when is not None:
            while not kill_when() and _runs_on(pid):
                time.sleep(0.0005)
            os.kill(pid, signal.SIGKILL)
        self._process.stdin.write("reap\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> str:
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._process.stdin.close()
        said = self._process.stderr.read()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()
        return said


def harness(kills: int, seed: int, root: Path) -> dict[str, Any]:
    """Kill `kills` times in the folder `root` and return what was found; every count but the first
    ones should be 0."""
    rng = random.Random(seed)
    (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
    (root / "ops.py").write_text(OPS)
    (root / "generation").write_text("0")
    found = {
        "kills": 0,
        "missed": 0,
        "resumed": 0,
        "recorded": 0,
        "lost": 0,
        "doubled": 0,
        "left_open": 0,
        "failed": 0,
        "wrong_seal": 0,
    }
    server = Server(root)
    try:
        if server.child("go on") != 0:
            raise RuntimeError(server.close())
        reader = Reader(str(root / ".sextant" / "state.db"))
        state = open_reader(str(root / ".sextant" / "state.db"))
        (root / "generation").write_text("1")
        started = time.perf_counter()
        server.child("force")
        whole_s = time.perf_counter() - started
        generation = 1
        while found["kills"] < kills and found["missed"] < 2 * kills:
            generation += 1
            (root / "generation").write_text(str(generation))
            if (
                found["kills"] % 2
                # half of the kills at any moment, half once so much is recorded, whatever the
                # machine's pace
            ):
                code = server.child("force", kill_when=_recorded(state, rng.randint(1, 3)))
            else:
                code = server.child("force", kill_after_s=rng.uniform(0.0, whole_s * 1.02))
            if code != -9:
                found["missed"] += 1
                continue
            found["kills"] += 1
            opened = [row[0] for row in state.read("runs_open")]
            before = {run: _records(state, run) for run in opened}
            if server.child("go on") != 0:
                found["failed"] += 1
            found["resumed"] += len(opened)
            found["left_open"] += len(state.read("runs_open"))
            for run in opened:
                _judge(state, run, before[run], found)
        reader.close()
        report = verify(state, workers=1)
        state.close()
        return {
            **found,
            "torn": reader.torn,
            "looks": reader.looks,
            "events": report.events,
            "ledger_findings": [str(f) for f in report.findings],
            "run_s": round(whole_s, 3),
        }
    finally:
        said = server.close()
        if said:
            print(said[-2000:], file=sys.stderr)


def _recorded(state: Any, count: int) -> Callable[[], bool]:
    """Return a look at whether the open run has so many records."""

    def seen() -> bool:
        opened = state.read("runs_open")
        return bool(opened) and len(state.read("history_of", (opened[-1][0],))) >= count

    return seen


def _runs_on(pid: int) -> bool:
    """Say whether a child that nobody has reaped yet still runs."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def _records(state: Any, run: str) -> list[Record]:
    return [
        msgspec.json.decode(bytes(body), type=Record)
        for _, body in state.read("history_of", (run,))
    ]


def _judge(state: Any, run: str, before: list[Record], found: dict[str, Any]) -> None:
    """Compare what was recorded before the kill with the end of the run that took it up, and with
    what is live."""
    after = _records(state, run)
    ended = [record.step for record in after if record.kind == "end" and record.ok]
    found["doubled"] += len(ended) - len(set(ended))
    live = {}
    for asset in ASSETS:
        version = state.read("pointer_get", ("dev", asset))[0][0]
        live[asset] = _parts(state, asset, version)
    for record in before:
        if record.kind == "end" and record.ok and record.output:
            found["recorded"] += 1
            found["lost"] += any(
                live[record.asset].get(s.part.partition) != s.part.digest
                for s in decode_output(record.output).staged
            )
    facts = msgspec.json.decode(state.read("run_get", (run,))[0][3])
    found["wrong_seal"] += facts.get("state") != "finished"


def _parts(state: Any, asset: str, version: str) -> dict[str, str]:
    out: dict[str, str] = {}
    while version:
        for name, digest, *_ in state.read("parts_of", (asset, version)):
            out.setdefault(name, digest)
        version = state.read("version_get", (asset, version))[0][3]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", default="")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve))
        return
    folder = Path(tempfile.mkdtemp(prefix="sextant-crash-"))
    try:
        print(
            json.dumps(
                {
                    "bench": "crash",
                    "seed": arguments.seed,
                    **harness(arguments.kills, arguments.seed, folder),
                }
            )
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
