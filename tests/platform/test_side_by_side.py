"""Runs side by side: what has nothing to do with each other goes on at once, what writes the same
waits in line and says for whom."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pytest
from served import serve

import sextant
from sextant import testing
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import RunProgress
from sextant.kernel.answers import RunReport
from sextant.app.watch import watch
from sextant.engine.plan import Request
from sextant.kernel.errors import Conflict

SRC = str(Path(sextant.__file__).parents[1])
LONG_S = 60.0  # far more than anything here takes

ORDERS = """
AMOUNTS = {"2026-01-01": 1, "2026-01-02": 1, "2026-01-03": 1, "2026-01-04": 1}

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [AMOUNTS[day.key]]})
"""
GATE = """
import pathlib, time
GATE = pathlib.Path({gate!r})

def wait_at_gate(name):
    (GATE / name).touch()
    for _ in range(6_000):
        if (GATE / "open").exists():
            return
        time.sleep(0.01)
    raise TimeoutError("nobody opened the gate")
"""


def amounts(p: LocalPlatform) -> list[int]:
    """Return the live amounts of orders, day by day."""
    frame = views(p).frame(version_as_of(p.core, "dev", "dataset:orders", ""))
    return frame.sort("id")["amount"].to_list()


class Going(NamedTuple):
    """A run in progress, and what lets it go on."""

    report: "Future[RunReport]"
    go: threading.Event


@contextmanager
def in_progress(p: LocalPlatform, request: Request) -> Iterator[Going]:
    """Keep a run in its first step's end, in a thread, until it may go on."""
    working, go = threading.Event(), threading.Event()

    def stop_here(_task: object, _done: object) -> None:
        working.set()
        assert go.wait(LONG_S)

    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(
            p.runs.run, "dev", request, by=p.core.authorization.who(), progress=stop_here
        )
        try:
            assert working.wait(LONG_S)
            yield Going(report, go)
        finally:
            go.set()


class Asked:
    """A command of somebody else, in a thread: what it says while it waits, and its answer."""

    def __init__(self, pool: ThreadPoolExecutor, command: Callable[..., RunReport], **more: Any):
        self.waits: list[str] = []
        self._waiting = threading.Event()
        self.report = pool.submit(command, progress=self._progress, **more)

    def _progress(self, done: RunProgress) -> None:
        if done.waits:
            self.waits.append(done.waits)
            self._waiting.set()

    def until_it_waits(self) -> None:
        assert self._waiting.wait(LONG_S)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as one:
        yield one


WAITS = r"`dataset:orders` is being written by run_\w+ \(pid \d+ on .+\)"


# ---------------------------------------------------------------- the same asset


@pytest.mark.parametrize(("force", "computed"), [(False, 0), (True, 1)])
def test_a_second_run_waits_in_line(shop, pool, force: bool, computed: int) -> None:
    """Somebody's command would fail because another one is faster; or do again what the other has
    just done."""
    shop.write(ORDERS)
    with shop.open() as p:
        with in_progress(p, Request()) as first:
            second = Asked(pool, Operations(p).run, assets=["orders"], force=force)
            second.until_it_waits()
            assert re.fullmatch(WAITS, second.waits[0])
            assert f"pid {os.getpid()} " in second.waits[0]
            assert not second.report.done()
            assert amounts_or_none(p) is None, "the first one goes on"
            first.go.set()
            assert first.report.result(LONG_S).state == "finished"
            report = second.report.result(LONG_S)
        assert (report.state, report.computed) == ("finished", computed)
        assert len(second.waits) == 1, "said once"
        assert amounts(p) == [1, 1, 1, 1]


def amounts_or_none(p: LocalPlatform) -> list[int] | None:
    return amounts(p) if p.core.versions.live_version("dev", "dataset:orders") else None


def day(number: int) -> tuple[str, str]:
    return f"2026-01-0{number}", f"2026-01-0{number}"


@pytest.fixture
def bad(shop, running) -> Iterator[LocalPlatform]:
    """A platform on which a bad second day is live."""
    shop.write(ORDERS)
    with shop.open() as p:
        running(p)
        shop.edit('"2026-01-02": 1', '"2026-01-02": 9')
        p.core.project.load()
        running(p, "dev", "dataset:orders", partitions=day(2))
        assert amounts(p) == [1, 9, 1, 1]
        yield p


def test_a_rollback_undoes_what_was_live_when_it_was_given(shop, bad, pool) -> None:
    """A rollback that waits would take back the good release that it waited for, and leave the bad
    one."""
    shop.edit('"2026-01-03": 1', '"2026-01-03": 5')
    bad.core.project.load()
    with in_progress(bad, Request(assets=("dataset:orders",), partitions=day(3))) as run:
        undo = Asked(pool, Operations(bad).rollback, asset="orders")
        undo.until_it_waits()
        assert re.fullmatch(WAITS, undo.waits[0])
        run.go.set()
        assert run.report.result(LONG_S).published
        assert undo.report.result(LONG_S).state == "finished"
    assert amounts(bad) == [1, 1, 5, 1]


def test_a_rollback_of_what_the_other_run_changed_is_a_conflict(shop, bad, pool) -> None:
    """A rollback would take back what somebody else has just made of the same rows."""
    shop.edit('"2026-01-02": 9', '"2026-01-02": 5')
    bad.core.project.load()
    with in_progress(bad, Request(assets=("dataset:orders",), partitions=day(2))) as run:
        undo = Asked(pool, Operations(bad).rollback, asset="orders")
        undo.until_it_waits()
        run.go.set()
        with pytest.raises(Conflict, match="later releases changed the same"):
            undo.report.result(LONG_S)
    assert amounts(bad) == [1, 5, 1, 1]
    assert bad.core.state.read("withdrawn", ("dev",)) == []
    assert bad.core.state.read("runs_open") == []


# ---------------------------------------------------------------- as commands


class Command:
    """A `sextant` command as a process."""

    def __init__(self, *words: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sextant.cli.main", *words, "--json"],
            env={**os.environ, "PYTHONPATH": SRC, "SEXTANT_USER": "ann", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._said.put(line.rstrip("\n"))

    def line(self) -> str:
        """Return the next line that it writes to stderr."""
        return self._said.get(timeout=LONG_S)

    def end(self) -> tuple[int, Any, list[str]]:
        """Return exit code, answer and the rest of stderr."""
        assert self._process.stdout
        code = self._process.wait(LONG_S)
        out = self._process.stdout.read()
        self._reader.join(LONG_S)
        return code, json.loads(out) if out else None, [self._said.get() for _ in self._left()]

    def _left(self) -> range:
        return range(self._said.qsize())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(LONG_S)

    def close(self) -> None:
        self.kill()
        self._reader.join(LONG_S)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream
            stream.close()


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    begun: list[Command] = []

    def begin(*words: str, **environment: str) -> Command:
        begun.append(Command(*words, **environment))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


@pytest.fixture(params=["here", "server"])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


@contextmanager
def reaching(p: LocalPlatform, where: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Give the words and the environment by which a command reaches a platform."""
    if where == "here":
        yield ["--project", str(p.core.project.root)], {}
        return
    with serve(p) as one:
        yield ["--server", one.url], {"SEXTANT_TOKEN": one.token()}


def test_a_command_says_for_whom_it_waits(shop, command, where: str) -> None:
    """Somebody would look at a command that does nothing, and not know why: in the folder or at a
    server."""
    shop.write(ORDERS)
    with shop.open() as p, reaching(p, where) as (words, environment):
        with in_progress(p, Request()) as first:
            second = command(*words, "run", "orders", **environment)
            assert re.fullmatch(f"waiting: {WAITS}", second.line())
            first.go.set()
            code, answer, rest = second.end()
        assert (code, answer["state"]) == (0, "finished")
        assert rest == []
        assert first.report.result(LONG_S).state == "finished"


def test_a_rollback_as_a_command_changes_nothing_in_a_conflict(
    shop, bad, command, where: str
) -> None:
    """A script would take the conflict for a rollback."""
    shop.edit('"2026-01-02": 9', '"2026-01-02": 5')
    bad.core.project.load()
    with reaching(bad, where) as (words, environment):
        with in_progress(bad, Request(assets=("dataset:orders",), partitions=day(2))) as run:
            undo = command(*words, "rollback", "orders", **environment)
            assert re.fullmatch(f"waiting: {WAITS}", undo.line())
            run.go.set()
            code, _, rest = undo.end()
    assert code == 2
    assert any("later releases changed the same" in line for line in rest), rest
    assert amounts(bad) == [1, 5, 1, 1]
    assert bad.core.state.read("withdrawn", ("dev",)) == []


def test_a_rollback_publishes_nothing_of_a_killed_run(shop, bad, command, tmp_path_factory) -> None:
    """What a dead run had made would go live with the rollback."""
    gate = tmp_path_factory.mktemp("gate")
    shop.edit('"2026-01-03": 1', '"2026-01-03": 5')
    (shop.root / "ops.py").write_text(
        (shop.root / "ops.py").read_text()
        + GATE.format(gate=str(gate))
        + "\n@sx.dataset()\ndef slow(orders: pl.DataFrame) -> pl.DataFrame:\n"
        '    wait_at_gate("slow")\n    return orders.select(pl.len())\n'
    )
    dead = command("--project", str(shop.root), "run", "orders", "--partition", "2026-01-03")
    seen(gate / "slow", dead)
    dead.kill()
    (gate / "open").touch()
    bad.core.project.load()
    (run,) = [row[0] for row in bad.core.state.read("runs_open")]
    assert bad.core.state.read("history_of", (run,)), "it had made the third day"
    undone = Operations(bad).rollback("orders")
    assert set(undone.published) == {"dataset:orders"}
    assert amounts(bad) == [1, 1, 1, 1]
    assert bad.core.versions.live_version("dev", "dataset:slow") == ""
    assert [row[0] for row in bad.core.state.read("runs_open")] == [run], "it is left as it is"


def seen(path: Path, command: Command) -> None:
    """Wait until a step has reached the gate."""
    for _ in range(int(LONG_S * 100)):
        if path.exists():
            return
        assert command._process.poll() is None, command.end()
        threading.Event().wait(0.01)
    pytest.fail("the step does not begin")


# ---------------------------------------------------------------- a scheduler


SCHEDULED = """
import polars as pl
import sextant as sx

sx.project("shop", tz="UTC", environments=["dev"])
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id")

@sx.dataset()
def source() -> pl.DataFrame:
    return pl.DataFrame({"id": ["a"]})

@sx.dataset(partition=sx.static(*[f"s{n}" for n in range(STEPS)]))
def slow(source: pl.DataFrame, part: sx.Partition) -> pl.DataFrame:
    wait_at_gate(part.key)
    return source
"""


@pytest.mark.parametrize("steps", [1, 6])
def test_a_stream_is_published_while_a_slow_run_goes_on(tmp_path: Path, steps: int) -> None:
    """Pushed rows would wait for hours behind a step, or a heap of steps, that has nothing to do
    with them."""
    gate = tmp_path / "gate"
    gate.mkdir()
    ops = SCHEDULED.replace("STEPS", str(steps)) + GATE.format(gate=str(gate))
    toml = 'module = "ops"\nworkers = 2\n'
    reports: SimpleQueue[RunReport] = SimpleQueue()
    with testing.platform({"ops.py": ops}, executor="pool", toml=toml) as p:
        p.runs.run(
            "dev",
            Request(assets=("dataset:source",), downstream=False),
            by=p.core.authorization.who(),
        )
        said: list[str] = []
        scheduler = threading.Thread(
            target=watch,
            args=(p.runs, "dev", Request()),
            kwargs={"say": said.append, "tell": reports.put},
        )
        scheduler.start()
        try:
            at_work = {f"s{n}" for n in range(min(steps, 2))}  # of two workers
            wait_for(lambda: at_work <= {path.name for path in gate.iterdir()})
            Operations(p).push("prices", [{"id": "a", "price": 1.0}])
            published = reports.get(timeout=LONG_S)
            assert set(published.published) == {"dataset:prices"}
            assert p.core.versions.live_version("dev", "dataset:slow") == ""
            (slow_run,) = [row[0] for row in p.core.state.read("runs_open")]
            assert slow_run != published.id
            (gate / "open").touch()
            slow = reports.get(timeout=LONG_S)
            assert (slow.id, set(slow.published)) == (slow_run, {"dataset:slow"})
            assert said == []
        finally:
            (gate / "open").touch()
            p.interrupts.interrupt()
            scheduler.join(LONG_S)
        assert not scheduler.is_alive()


def wait_for(what: Callable[[], object]) -> None:
    for _ in range(int(LONG_S * 100)):
        if what():
            return
        threading.Event().wait(0.01)
    pytest.fail("it does not come")
