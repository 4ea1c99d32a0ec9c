"""The engine's loop: runs a graph of tasks, records what happens durably, and never does finished
work again.

Durability, per task:
strict   the start is durable before the body runs, the result before a dependent starts; tasks that
         are ready together
         share the two commits.
grouped  the result goes to the writer at once and becomes durable with the next group commit; a
         crash may repeat it.

The loop is one thread; work runs wherever `Work.submit` puts it, and comes back through a queue.
"""

import functools
import heapq
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import msgspec

from sextant.engine.history import History, Record
from sextant.kernel.clock import Clock
from sextant.kernel.errors import Bug
from sextant.kernel.nouns import Durability, Event
from sextant.kernel.ports import State, Statement, Write

_BACKOFF_S_MAX = 300.0
_POLL_S = 0.2  # how often the loop looks at cancellation and leases while it waits for work


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the graph. `retries`: further attempts after the first; waits `backoff_s`,
    doubling each time."""

    id: str
    deps: tuple[str, ...] = ()
    durability: Durability = "grouped"
    retries: int = 0
    backoff_s: float = 1.0
    pool: str = ""
    asset: str = ""
    owner: str = ""
    why: tuple[str, ...] = ()  # for people
    code: str = ""  # digest of the definition that it runs


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, or that nothing had to run (`reused`), or that something that it stands
    on failed (`skipped`). `statements` and `events` are written with it."""

    ok: bool = True
    reused: bool = False
    skipped: bool = False
    output: str = ""
    key: str = ""
    rows: int = 0
    statements: tuple[Statement, ...] = ()
    events: tuple[Event, ...] = ()
    retryable: bool = False
    record: Mapping[str, Any] = {}


Started = Callable[[Task, int], None]


class Work(Protocol):
    """What the tasks do; implemented by whoever made the graph."""

    def prepare(self, task: Task) -> Done | None:
        """Called when every dependency is done. Return Done if nothing has to run, None to run
        it."""
        ...

    def submit(self, task: Task, attempt: int, done: Callable[[Any], None]) -> None:
        """Start an attempt; call `done(result)` once, from any thread."""
        ...

    def finish(self, task: Task, attempt: int, result: Any) -> Done:
        """Turn a result into what is recorded. Called on the loop's thread."""
        ...

    def cancel(self, task: Task) -> None: ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the graph: ids by fate. `skipped`: something they depend on failed."""

    done: int = 0
    reused: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    cancelled: bool = False
    rows: int = 0


def execute(
    tasks: Sequence[Task],
    work: Work,
    *,
    state: State,
    history: History,
    clock: Clock,
    slots: int,
    pools: Mapping[str, int] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    on_start: Started = lambda _t, _n: None,
    progress: Callable[[Task, Done], None] = lambda _t, _d: None,
) -> Outcome:
    """Run the graph to its end. Returns when nothing can run any more; raises only for storage
    errors and bugs.

    slots     how many attempts may run at once; pools: pool name -> how many of its tasks at once
    on_start  told of each attempt before it starts, and how many tasks there are in all
    progress  told how each task has ended, and which ones are skipped
    """
    return _Loop(
        tasks, work, state, history, clock, slots, dict(pools or {}), cancelled, on_start, progress
    ).run()


class _Loop:
    def __init__(
        self,
        tasks: Sequence[Task],
        work: Work,
        state: State,
        history: History,
        clock: Clock,
        slots: int,
        pools: dict[str, int],
        cancelled: Callable[[], bool],
        on_start: Started,
        progress: Callable[[Task, Done], None],
    ) -> None:
        self.tasks, self.work, self.state, self.history, self.clock = (
            tasks,
            work,
            state,
            history,
            clock,
        )
        self.slots, self.pools, self.cancelled = slots, pools, cancelled
        self.on_start, self.progress = on_start, progress
        place = {task.id: n for n, task in enumerate(tasks)}
        if len(place) != len(tasks):
            raise Bug("SX-ENGINE-001", "two tasks of a run have one id")
        self.waits = [len(task.deps) for task in tasks]
        self.dependents: list[list[int]] = [[] for _ in tasks]
        for n, task in enumerate(tasks):
            for dep in task.deps:
                self.dependents[place[dep]].append(n)
        self.ready: deque[int] = deque(n for n, count in enumerate(self.waits) if count == 0)
        self.running: dict[int, tuple[int, int]] = {}  # task -> (attempt, started at)
        self.delayed: list[tuple[float, int, int]] = []  # (due, task, attempt)
        self.attempts = [0] * len(tasks)
        self.results: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        # Instead of the queue's own wait, which never ends where a signal's handler takes longer
        # than what is left of it (CPython takes the negative rest for no limit): Ctrl-C would be
        # heard and not obeyed.
        self.arrived = threading.Event()
        self.fate: dict[int, str] = {}
        self.pending: list[Any] = []  # futures of grouped writes
        self.reused = self.done = self.rows = 0
        self.unwritten: list[
            tuple[int, Done, Record]
        ] = []  # ends of strict tasks: durable before anything that follows starts
        self.strict_written: Any = None  # future of the newest ends of strict tasks
        self.busy: Counter[str] = Counter()  # pool -> how many of its tasks run
        self.parked: dict[str, deque[int]] = {}  # pool -> ready tasks that wait for a place in it
        self.stopping = False

    def run(self) -> Outcome:
        while self.ready or self.running or self.delayed or any(self.parked.values()):
            if not self.stopping and self.cancelled():
                self._stop()
            self._launch()
            if self.running or self.delayed:
                self._collect()
        if self.unwritten:
            self._write(self.unwritten)
        for future in self.pending:
            future.result()
        failed = tuple(self.tasks[n].id for n, fate in self.fate.items() if fate == "failed")
        skipped = tuple(self.tasks[n].id for n, fate in self.fate.items() if fate == "skipped")
        if not self.stopping and len(self.fate) != len(self.tasks):
            raise Bug(
                "SX-ENGINE-002",
                f"{len(self.tasks) - len(self.fate)} tasks can never start",
                hint="the graph has a cycle",
            )
        return Outcome(
            done=self.done,
            reused=self.reused,
            failed=failed,
            skipped=skipped,
            cancelled=self.stopping,
            rows=self.rows,
        )

    # -------------------------------------------------------- starting

    def _launch(self) -> None:
        wave: list[int] = []
        now_s = self.clock.monotonic_s()
        while self.delayed and self.delayed[0][0] <= now_s:
            self.ready.appendleft(heapq.heappop(self.delayed)[1])
        reused: list[tuple[int, Done]] = []
        for pool, queue in self.parked.items():
            free = self.pools.get(pool, 1) - self.busy[pool]
            self.ready.extendleft(reversed([queue.popleft() for _ in range(min(free, len(queue)))]))
        while self.ready and len(self.running) + len(wave) < self.slots:
            n = self.ready.popleft()
            task = self.tasks[n]
            if task.pool and self.busy[task.pool] >= self.pools.get(task.pool, 1):
                self.parked.setdefault(task.pool, deque()).append(n)
                continue
            prepared = self.work.prepare(task) if self.attempts[n] == 0 else None
            if prepared is None:
                wave.append(n)
                self.busy[task.pool] += 1
            else:
                reused.append((n, prepared))
                self._release(n, prepared, reused_now=True)
        if reused:
            self._write([(n, done, self._reuse_record(n, done)) for n, done in reused])
        if wave:
            self._start(wave)
        elif self.unwritten:
            ends, self.unwritten = self.unwritten, []
            self.strict_written = self._write(ends)

    def _start(self, wave: list[int]) -> None:
        now = self.clock.now_ns()
        starts = []
        for n in wave:
            self.attempts[n] += 1
            self.running[n] = (self.attempts[n], now)
            task = self.tasks[n]
            if task.durability == "strict":
                record = Record(
                    kind="start",
                    step=task.id,
                    attempt=self.attempts[n],
                    at=now,
                    asset=task.asset,
                    durability="strict",
                    why=task.why,
                    code=task.code,
                )
                starts.append(record)
        if starts or self.unwritten:  # one commit: what ended, and what starts because of it
            ends, self.unwritten = self.unwritten, []
            self.strict_written = self._write(ends, starts)
        if self.strict_written is not None:
            self.strict_written.result()
            self.strict_written = None
        for n in wave:
            self.on_start(self.tasks[n], len(self.tasks))
            self.work.submit(self.tasks[n], self.attempts[n], functools.partial(self._arrive, n))

    # -------------------------------------------------------- ending

    def _arrive(self, n: int, result: Any) -> None:
        """Take the result of an attempt. Any thread."""
        self.results.put((n, result))
        if not self.arrived.is_set():
            self.arrived.set()

    def _collect(self) -> None:
        timeout = _POLL_S
        if self.delayed:
            timeout = min(timeout, max(0.0, self.delayed[0][0] - self.clock.monotonic_s()))
        ended: list[tuple[int, Any]] = []
        try:
            if self.running:
                self.arrived.wait(timeout)
                self.arrived.clear()
            else:
                self.clock.wait(timeout)
            while True:
                ended.append(self.results.get_nowait())
        except Empty:
            pass
        grouped: list[tuple[int, Done, Record]] = []
        settled: list[tuple[int, Done]] = []
        for n, result in ended:
            attempt, started = self.running.pop(n)
            task = self.tasks[n]
            self.busy[task.pool] -= 1
            done = self.work.finish(task, attempt, result)
            record = Record(
                kind="end",
                step=task.id,
                attempt=attempt,
                at=self.clock.now_ns(),
                started_at=started,
                ok=done.ok,
                key=done.key,
                output=done.output,
                rows=done.rows,
                asset=task.asset,
                owner=task.owner,
                durability=task.durability,
                why=task.why,
                code=task.code,
                **done.record,
            )
            (self.unwritten if task.durability == "strict" else grouped).append((n, done, record))
            settled.append((n, done))
        if grouped:
            self._write(grouped)
        for n, done in settled:
            self._release(n, done)

    def _write(self, ends: list[tuple[int, Done, Record]], starts: Sequence[Record] = ()) -> Any:
        add = self.history.add
        statements = [add(record) for _, _, record in ends]
        statements += [add(record) for record in starts]
        for _, done, _ in ends:
            statements += done.statements
        events = tuple(event for _, done, _ in ends for event in done.events)
        future = self.state.submit(Write(tuple(statements), events))
        self.pending.append(future)
        if len(self.pending) > 1000:  # surface a storage error early, keep the list short
            for earlier in self.pending:
                earlier.result()
            self.pending.clear()
        return future

    def _reuse_record(self, n: int, done: Done) -> Record:
        task = self.tasks[n]
        return Record(
            kind="reuse",
            step=task.id,
            at=self.clock.now_ns(),
            key=done.key,
            output=done.output,
            asset=task.asset,
            owner=task.owner,
            why=task.why,
            code=task.code,
        )

    def _release(self, n: int, done: Done, *, reused_now: bool = False) -> None:
        task = self.tasks[n]
        if done.ok:
            self.fate[n] = "done"
            self.done += not reused_now
            self.reused += reused_now
            self.rows += done.rows
            self.progress(task, done)
            for m in self.dependents[n]:
                self.waits[m] -= 1
                if self.waits[m] == 0 and not self.stopping and m not in self.fate:
                    self.ready.append(m)
            return
        if done.retryable and self.attempts[n] <= task.retries and not self.stopping:
            wait = min(task.backoff_s * 2 ** (self.attempts[n] - 1), _BACKOFF_S_MAX)
            heapq.heappush(self.delayed, (self.clock.monotonic_s() + wait, n, self.attempts[n]))
            return
        if self.stopping:
            return  # stopped, not failed
        self.fate[n] = "failed"
        self.progress(task, done)
        self._skip(n)

    def _skip(self, n: int) -> None:
        """Mark everything behind a failed task as skipped."""
        stack = list(self.dependents[n])
        records = []
        while stack:
            m = stack.pop()
            if m in self.fate:
                continue
            self.fate[m] = "skipped"
            task = self.tasks[m]
            records.append(
                self.history.add(
                    Record(
                        kind="skip",
                        step=task.id,
                        at=self.clock.now_ns(),
                        ok=False,
                        asset=task.asset,
                        error=f"`{self.tasks[n].id}` failed",
                        why=task.why,
                        code=task.code,
                    )
                )
            )
            self.progress(task, Done(ok=False, skipped=True))
            stack += self.dependents[m]
        if records:
            self.pending.append(self.state.submit(Write(tuple(records))))

    def _stop(self) -> None:
        self.stopping = True
        self.ready.clear()
        self.delayed.clear()
        self.parked.clear()
        for n in list(self.running):
            self.work.cancel(self.tasks[n])
