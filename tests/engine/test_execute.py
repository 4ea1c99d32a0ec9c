"""The engine's loop: order, durability, retries, pools, cancellation, and what a crash may not
repeat."""

import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sextant.engine import execute as engine
from sextant.engine.execute import Done, Outcome, Task, execute
from sextant.engine.history import History, Record
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Bug, StorageError
from sextant.kernel.ids import Ids
from sextant.kernel.ports import Receipt, Statement, Write
from sextant.ledger.log import Ledger
from sextant.stores.state.sqlite import SqliteState


class Script:
    """Work that does what a test says: `body(task, attempt)` returns the Done of an attempt, at
    once."""

    def __init__(
        self,
        body: Callable[[Task, int], Done] = lambda _t, _a: Done(),
        reuse: Callable[[Task], Done | None] = lambda _t: None,
    ) -> None:
        self.body, self.reuse = body, reuse
        self.log: list[str] = []
        self.waiting: dict[str, Callable[[Any], None]] = {}
        self.held: set[str] = set()  # tasks whose result a test hands over itself

    def prepare(self, task: Task) -> Done | None:
        return self.reuse(task)

    def submit(self, task: Task, attempt: int, done: Callable[[Any], None]) -> None:
        self.log.append(f"start {task.id}/{attempt}")
        if task.id in self.held:
            self.waiting[task.id] = done
        else:
            done(self.body(task, attempt))

    def finish(self, task: Task, attempt: int, result: Any) -> Done:
        self.log.append(f"end {task.id}/{attempt}")
        return result

    def cancel(self, task: Task) -> None:
        self.log.append(f"cancel {task.id}")
        if task.id in self.waiting:
            self.waiting.pop(task.id)(Done(ok=False))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.ids = Ids(self.clock, random.Random(1))
        self.state = SqliteState(folder / "state.db", Ledger(self.clock), clock=self.clock)

    def run(self, tasks: list[Task], work: Script, run: str = "run_1", **more: Any) -> Outcome:
        more.setdefault("slots", 4)
        self.history = History.open(self.state, run)
        return execute(
            tasks,
            work,
            state=more.pop("state", self.state),
            history=self.history,
            clock=self.clock,
            **more,
        )

    def records(self, run: str = "run_1") -> list[Record]:
        return History.open(self.state, run).records


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path)
    yield made
    made.state.close()


def diamond(**more: Any) -> list[Task]:
    return [
        Task(id="d", deps=("b", "c"), **more),
        Task(id="a", **more),
        Task(id="b", deps=("a",), **more),
        Task(id="c", deps=("a",), **more),
    ]


@pytest.mark.parametrize("durability", ["grouped", "strict"])
def test_dependencies_come_first(bench: Bench, durability: Any) -> None:
    """A step would read what is not made yet."""
    work = Script()
    outcome = bench.run(diamond(durability=durability), work)
    assert (outcome.done, outcome.failed, outcome.skipped) == (4, (), ())
    ends = [line for line in work.log if line.startswith("end")]
    assert ends[0] == "end a/1"
    assert ends[-1] == "end d/1"
    assert work.log.index("start b/1") > work.log.index("end a/1")
    assert work.log.index("start d/1") > max(work.log.index("end b/1"), work.log.index("end c/1"))


def test_what_is_recorded(bench: Bench) -> None:
    """After a crash nobody could tell which strict steps had begun, and what grouped ones had
    made."""
    tasks = [
        Task(id="s", durability="strict", asset="dataset:s", owner="ops"),
        Task(id="g", deps=("s",)),
    ]
    bench.run(tasks, Script(lambda t, _a: Done(output=f"made {t.id}", key="k", rows=3)))
    kinds = [(r.kind, r.step, r.output, r.durability) for r in bench.records()]
    assert kinds == [
        ("start", "s", "", "strict"),
        ("end", "s", "made s", "strict"),
        ("end", "g", "made g", "grouped"),
    ]
    assert bench.records()[1].owner == "ops"
    assert bench.history.seal == History.open(bench.state, "run_1").seal
    bench.state.commit(
        Write(
            (
                Statement("history_prune", ("run_1",)),
                Statement(
                    "history_add", ("run_1", 0, b'{"kind":"end","step":"s","output":"forged"}')
                ),
            )
        )
    )
    assert bench.history.seal != History.open(bench.state, "run_1").seal, (
        "a row that was changed later is found"
    )


class Watching:
    """A state that knows, at any time, which records are durable: writes are held until somebody
    waits for them."""

    def __init__(self, state: SqliteState) -> None:
        self._state = state
        self.read = state.read
        self.queue: list[Write] = []
        self.durable: list[Record] = []

    def submit(self, write: Write) -> Any:
        self.queue.append(write)
        index = len(self.queue)

        class Pending:
            def result(_self, timeout: float | None = None) -> Receipt:
                while self.queue and len(self.queue) + self.flushed >= 0 and self.flushed < index:
                    self._flush_one()
                return Receipt(0, 0)

        return Pending()

    flushed = 0

    def _flush_one(self) -> None:
        import msgspec

        write = self.queue[self.flushed]
        self.flushed += 1
        self._state.commit(write)
        self.durable += [
            msgspec.json.decode(s.params[2], type=Record)
            for s in write.statements
            if s.name == "history_add"
        ]


def test_strict_is_durable_before_what_depends_on_it(bench: Bench) -> None:
    """A payment could be made, its record lost, and made again."""
    watching = Watching(bench.state)
    seen: dict[str, set[str]] = {}

    def body(task: Task, attempt: int) -> Done:
        seen[task.id] = {f"{r.kind} {r.step}" for r in watching.durable}
        return Done()

    tasks = [
        Task(id="pay", durability="strict"),
        Task(id="mail", deps=("pay",), durability="strict"),
        Task(id="report", deps=("pay",)),
    ]
    bench.run(tasks, Script(body), state=watching)
    assert "start pay" in seen["pay"]
    assert {"end pay", "start mail"} <= seen["mail"]
    assert "end pay" in seen["report"], (
        "a grouped step may not start on a strict result that a crash could take back"
    )


def test_strict_is_durable_for_a_step_that_becomes_ready_later(bench: Bench) -> None:
    """The strict result was on its way to the disk when something else made the dependent ready."""
    watching = Watching(bench.state)
    seen: list[str] = []
    work = Script(
        lambda t, _a: (
            seen.extend(f"{r.kind} {r.step}" for r in watching.durable) or Done()
            if t.id == "report"
            else Done()
        )
    )
    work.held = {"slow"}
    rounds = iter(range(100))

    def hand_over() -> bool:
        if next(rounds) == 3 and "slow" in work.waiting:
            work.waiting.pop("slow")(Done())
        return False

    tasks = [
        Task(id="pay", durability="strict"),
        Task(id="slow"),
        Task(id="report", deps=("pay", "slow")),
    ]
    bench.run(tasks, work, state=watching, cancelled=hand_over)
    assert "end pay" in seen


def test_grouped_steps_share_commits(bench: Bench) -> None:
    """One commit a step would make ten thousand small steps take minutes."""
    groups: list[int] = []
    submit = bench.state.submit
    bench.state.submit = lambda write: groups.append(len(write.statements)) or submit(write)  # type: ignore[method-assign]
    bench.run([Task(id=f"t{n}") for n in range(100)], Script(), slots=50)
    assert sum(groups) == 100
    assert len(groups) <= 4


def test_strict_steps_that_are_ready_together_share_their_two_commits(bench: Bench) -> None:
    """Twenty payments side by side would wait for forty commits."""
    groups: list[int] = []
    submit = bench.state.submit
    bench.state.submit = lambda write: groups.append(len(write.statements)) or submit(write)  # type: ignore[method-assign]
    bench.run([Task(id=f"t{n}", durability="strict") for n in range(20)], Script(), slots=20)
    assert groups == [20, 20]


def test_retries_wait_longer_each_time(bench: Bench) -> None:
    """A service that is down would be hammered, or given up on too early."""
    times: list[float] = []

    def body(task: Task, attempt: int) -> Done:
        times.append(bench.clock.monotonic_s())
        return Done(ok=attempt == 4, retryable=True)

    outcome = bench.run([Task(id="t", retries=3, backoff_s=2.0)], Script(body))
    assert (outcome.done, outcome.failed) == (1, ())
    assert [round(b - a, 1) for a, b in zip(times, times[1:], strict=False)] == [2.0, 4.0, 8.0]
    assert [(r.attempt, r.ok) for r in bench.records()] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
    ]


@pytest.mark.parametrize(
    ("retries", "retryable", "attempts"), [(0, True, 1), (2, True, 3), (5, False, 1)]
)
def test_retries_end(bench: Bench, retries: int, retryable: bool, attempts: int) -> None:
    """A step would be tried for ever, or what cannot succeed tried again."""
    work = Script(lambda _t, _a: Done(ok=False, retryable=retryable))
    outcome = bench.run([Task(id="t", retries=retries)], work)
    assert outcome.failed == ("t",)
    assert sum(line.startswith("start") for line in work.log) == attempts


def test_others_go_on_while_one_waits_for_its_next_try(bench: Bench) -> None:
    """One flaky step would hold up the whole run."""
    work = Script(lambda t, a: Done(ok=t.id != "flaky" or a == 2, retryable=True))
    bench.run(
        [Task(id="flaky", retries=1, backoff_s=60.0), Task(id="a"), Task(id="b", deps=("a",))],
        work,
        slots=1,
    )
    assert work.log.index("end b/1") < work.log.index("start flaky/2")


def test_what_stands_on_a_failure_is_skipped_and_the_rest_runs(bench: Bench) -> None:
    """One bad input would stop unrelated work, or rows would be made from nothing."""
    tasks = [*diamond(), Task(id="e", deps=("d",)), Task(id="other")]
    outcome = bench.run(tasks, Script(lambda t, _a: Done(ok=t.id != "b")))
    assert (outcome.failed, set(outcome.skipped), outcome.done) == (("b",), {"d", "e"}, 3)
    skips = {r.step: r.error for r in bench.records() if r.kind == "skip"}
    assert skips == {"d": "`b` failed", "e": "`b` failed"}
    twice = bench.run(
        [Task(id="x"), Task(id="y"), Task(id="z", deps=("x", "y"))],
        Script(lambda t, _a: Done(ok=t.id == "z")),
        run="run_2",
    )
    assert (twice.skipped, [r.step for r in bench.records("run_2") if r.kind == "skip"]) == (
        ("z",),
        ["z"],
    ), "once, though two failed before it"


def test_pools_limit_and_do_not_starve(bench: Bench) -> None:
    """A licence for one connection would be used by ten steps; or one full pool would stop all
    others."""
    running: set[str] = set()
    most = {"db": 0, "": 0}
    lock = threading.Lock()

    class Threads(Script):
        def submit(self, task: Task, attempt: int, done: Callable[[Any], None]) -> None:
            def body() -> None:
                with lock:
                    running.add(task.id)
                    most[task.pool] = max(
                        most[task.pool],
                        sum(id_.startswith(task.pool) for id_ in running)
                        if task.pool
                        else len(running),
                    )
                threading.Event().wait(0.002)
                with lock:
                    running.discard(task.id)
                done(Done())

            threading.Thread(target=body).start()

    tasks = [Task(id=f"db{n}", pool="db") for n in range(6)] + [
        Task(id=f"free{n}") for n in range(12)
    ]
    outcome = bench.run(tasks, Threads(), slots=6, pools={"db": 2})
    assert outcome.done == 18
    assert 1 <= most["db"] <= 2
    assert most[""] <= 6


def test_a_full_pool_does_not_stand_in_the_way(bench: Bench) -> None:
    """Steps behind the queue of a full pool would wait with it."""
    work = Script()
    tasks = [Task(id=f"db{n}", pool="db") for n in range(4)] + [
        Task(id=f"free{n}") for n in range(3)
    ]
    work.held = {task.id for task in tasks}
    started: list[list[str]] = []

    def look() -> bool:
        started.append(
            [line.split()[1].partition("/")[0] for line in work.log if line.startswith("start")]
        )
        for waiting in list(work.waiting):
            work.waiting.pop(waiting)(Done())
        return False

    assert bench.run(tasks, work, slots=8, pools={"db": 2}, cancelled=look).done == 7
    assert started[1] == ["db0", "db1", "free0", "free1", "free2"]


def test_a_pool_that_nobody_sized_holds_one(bench: Bench) -> None:
    """A misspelt pool would be no limit at all."""
    work = Script()
    bench.run([Task(id=f"t{n}", pool="unknown") for n in range(3)], work)
    assert [line.split()[0] for line in work.log] == ["start", "end"] * 3


def test_cancelling(bench: Bench) -> None:
    """Ctrl-C would hang, or start further steps."""
    work = Script()
    work.held = {"long"}
    calls = iter([False, False, True, True, True, True])
    outcome = bench.run(
        [Task(id="quick"), Task(id="long"), Task(id="next", deps=("long",))],
        work,
        cancelled=lambda: next(calls),
    )
    assert outcome.cancelled
    assert "cancel long" in work.log
    assert not any("next" in line for line in work.log)
    assert {r.step for r in bench.records()} == {"quick", "long"}, "what had ended is recorded"


def test_cancelling_does_not_wait_for_a_retry(bench: Bench) -> None:
    """Ctrl-C would be obeyed only after the backoff."""
    before = bench.clock.monotonic_s()
    calls = iter([False, False, True, True])
    outcome = bench.run(
        [Task(id="t", retries=5, backoff_s=300.0)],
        Script(lambda _t, _a: Done(ok=False, retryable=True)),
        cancelled=lambda: next(calls),
    )
    assert outcome.cancelled
    assert bench.clock.monotonic_s() - before < 1.0


@pytest.mark.parametrize("durability", ["grouped", "strict"])
def test_a_failing_state_write_surfaces(bench: Bench, durability: Any) -> None:
    """A full disk would look like success."""

    class Failing(Watching):
        def submit(self, write: Write) -> Any:
            class Pending:
                def result(self, timeout: float | None = None) -> Receipt:
                    raise StorageError("SX-STATE-005", "the disk is full")

            return Pending()

    with pytest.raises(StorageError, match="full"):
        bench.run([Task(id="t", durability=durability)], Script(), state=Failing(bench.state))


def test_reuse_runs_nothing(bench: Bench) -> None:
    """The memo would be for nothing."""
    work = Script(reuse=lambda t: Done(reused=True, key="k") if t.id != "d" else None)
    outcome = bench.run(diamond(), work)
    assert (outcome.reused, outcome.done) == (3, 1)
    assert work.log == ["start d/1", "end d/1"]
    assert [r.kind for r in bench.records()] == ["reuse", "reuse", "reuse", "end"]


def test_what_is_done_is_never_run_again_on_resume(bench: Bench) -> None:
    """A crash would repeat finished work. Killed at each possible place: after 0, 1, 2 ... ends."""

    class Killed(BaseException):
        pass

    tasks = diamond(durability="strict")
    for death in range(5):
        run = f"run_{death}"
        ran: list[str] = []

        def body(task: Task, attempt: int) -> Done:
            if len(ran) == death:
                raise Killed
            ran.append(task.id)
            return Done(output=task.id)

        def reuse(task: Task) -> Done | None:
            return Done(reused=True) if task.id in recorded else None

        recorded: set[str] = set()
        try:
            bench.run(tasks, Script(body), run=run, slots=1)
        except Killed:
            pass
        bench.state.flush()
        recorded = {r.output for r in bench.records(run) if r.kind == "end"}
        assert len(ran) - len(recorded) <= 1, "at most the one in flight is lost"
        first, ran, death = list(ran), [], 99
        outcome = bench.run(tasks, Script(body, reuse), run=run, slots=1)
        assert outcome.done + outcome.reused == 4
        assert not set(ran) & recorded
        assert set(first) | set(ran) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ([Task(id="a"), Task(id="a")], "SX-ENGINE-001"),
        ([Task(id="a", deps=("b",)), Task(id="b", deps=("a",))], "SX-ENGINE-002"),
    ],
)
def test_impossible_graphs(bench: Bench, tasks: list[Task], code: str) -> None:
    """A cycle would hang; two of one name would lose one."""
    with pytest.raises(Bug) as caught:
        bench.run(tasks, Script())
    assert caught.value.code == code


def test_a_wide_graph_in_one_small_pool_stays_linear(bench: Bench) -> None:
    """Thousands of steps that queue for one pool would be looked at again and again."""
    looked = 0

    class Sizes(dict):  # type: ignore[type-arg]
        def get(self, key: Any, default: Any = None) -> Any:
            nonlocal looked
            looked += 1
            return super().get(key, default)

    loop = engine._Loop(
        [Task(id=f"t{n}", pool="one") for n in range(2000)],
        Script(),
        bench.state,
        History("run_9"),
        bench.clock,
        8,
        {},
        lambda: False,
        lambda _t, _n: None,
        lambda _t, _d: None,
    )  # type: ignore[arg-type]
    loop.pools = Sizes()
    assert loop.run().done == 2000
    assert looked < 20_000


def test_a_signal_whose_handler_takes_long_is_obeyed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C on a busy machine would be heard, and the run go on for ever."""
    monkeypatch.setattr(engine, "_POLL_S", 0.2)
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        assert len(asked) == 1, "the loop waits for ever"
        threading.Event().wait(0.5)  # longer than the loop waits

    before = signal.signal(signal.SIGALRM, stop)
    work = Script()
    work.held.add("a")
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 10.0)
        outcome = bench.run([Task(id="a")], work, cancelled=lambda: bool(asked))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert outcome.cancelled
    assert work.log == ["start a/1", "cancel a", "end a/1"]
