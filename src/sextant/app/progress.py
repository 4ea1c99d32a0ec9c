"""How far runs are: counted by the process that works on a run, told to who asked for it, and left
in its live folder for everybody else. Called by execution, and by the operations that show runs.

The time that is left is estimated from how long steps of the same assets took: in this run, else
when what is live was made.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sextant.core import Core
from sextant.engine.execute import Done, Task
from sextant.engine.history import History, Record
from sextant.kernel.answers import RunNow, RunProgress
from sextant.kernel.clock import NS
from sextant.kernel.limits import RUNNING_SHOWN_MAX
from sextant.ledger.projections import RunChanged, stored_run
from sextant.stores.live import LiveRuns

Progress = Callable[[RunProgress], None]
_TOLD_S = 0.25  # between two signs for other processes, at least


def live_runs(core: Core) -> LiveRuns:
    """Return what the running runs of a project show of themselves."""
    return LiveRuns(core.project.folder / "live")


class Counting:
    """Counts the steps of one run while they start and end. Called by the run's own thread."""

    def __init__(
        self,
        core: Core,
        run: str,
        tasks: Sequence[Task],
        *,
        seconds: Mapping[str, float | None],
        slots: int,
        told: Progress | None,
    ) -> None:
        """
        seconds  step -> how long it is expected to take, None = nobody knows; others take none
        slots    how many steps can run at once
        told     who asked for the run
        """
        self._core, self._run, self._told, self._slots = core, run, told, slots
        self._live = live_runs(core)
        self._total = len(tasks)
        self._waits = Counter(task.asset for task in tasks if task.id in seconds)  # of its asset
        self._expected = {task.asset: seconds[task.id] for task in tasks if task.id in seconds}
        self._timed = seconds.keys()
        self._took: dict[str, tuple[int, float]] = {}  # asset -> its steps in this run, seconds
        self._running: dict[str, tuple[float, int]] = {}  # step -> since when, by both clocks
        self._ended = self._failed = self._skipped = self._rows = 0
        self._step = ""
        self._told_s = -_TOLD_S
        self._estimate: tuple[float, float | None] = (-_TOLD_S, None)  # when, and what
        self._is_untold = True

    def started(self, task: Task, _total: int) -> None:
        self._running[task.id] = (self._core.clock.monotonic_s(), self._core.clock.now_ns())
        self._tell(task)

    def ended(self, task: Task, done: Done) -> None:
        began = self._running.pop(task.id, None)
        self._waits[task.asset] -= task.id in self._timed
        if done.skipped:
            self._skipped += 1
            self._is_untold = True
            return
        if began is not None and done.ok:
            count, took_s = self._took.get(task.asset, (0, 0.0))
            took_s += self._core.clock.monotonic_s() - began[0]
            self._took[task.asset] = (count + 1, took_s)
        self._ended += 1
        self._failed += not done.ok
        self._rows += done.rows
        self._tell(task)

    def look(self) -> None:
        """Leave a sign for other processes, if the last one is not true any more."""
        now_s = self._core.clock.monotonic_s()
        if self._is_untold and now_s - self._told_s >= _TOLD_S:
            self._told_s, self._is_untold = now_s, False
            self._live.tell(self._run, msgspec.json.encode(self.now()))

    def now(self) -> RunProgress:
        """Return how far the run is."""
        running = tuple(self._running)
        return RunProgress(
            step=self._step,
            ended=self._ended,
            total=self._total,
            rows=self._rows,
            running=running[:RUNNING_SHOWN_MAX],
            since={step: self._running[step][1] for step in running[:RUNNING_SHOWN_MAX]},
            failed=self._failed,
            skipped=self._skipped,
            left=self._total - self._ended - self._skipped - len(running),
            seconds_left=self._seconds_left(),
            at=self._core.clock.now_ns(),
        )

    def _tell(self, task: Task) -> None:
        self._step, self._is_untold = task.id, True
        if self._told is not None:
            self._told(self.now())
        self.look()

    def _seconds_left(self) -> float | None:
        """Return how long the rest takes; None when a step of it was never timed."""
        now_s = self._core.clock.monotonic_s()
        if now_s - self._estimate[0] >= _TOLD_S:
            self._estimate = (now_s, self._estimated(now_s))
        return self._estimate[1]

    def _estimated(self, now_s: float) -> float | None:
        longest = work = 0.0
        waiting = 0
        for asset, count in self._waits.items():
            if count <= 0:
                continue
            ended, took_s = self._took.get(asset, (0, 0.0))
            each = took_s / ended if ended else self._expected[asset]
            if each is None:
                return None
            longest, work, waiting = max(longest, each), work + count * each, waiting + count
        gone = sum(now_s - since for since, _ in self._running.values())
        longest = longest if waiting > len(self._running) else max(0.0, longest - gone)
        return max(longest, (work - gone) / max(1, min(self._slots, waiting)))


def progress_of(
    core: Core, run: RunChanged, records: Iterable[Record] | None = None
) -> RunProgress:
    """Return how far a run is: as the process that works on it says, or counted from its history
    where it has ended or its process died."""
    if not run.finished_at:
        said = live_runs(core).progress(run.id)
        if said:
            found = msgspec.json.decode(said, type=RunProgress)
            if found.seconds_left is None:
                return found
            gone_s = (core.clock.now_ns() - found.at) / NS
            left_s = max(0.0, found.seconds_left - max(0.0, gone_s))
            return msgspec.structs.replace(found, seconds_left=left_s)
    if records is None:
        records = History.open(core.state, run.id).records
    last = {record.step: record for record in records}.values()
    kinds = [record.kind for record in last]
    ended, skipped = kinds.count("end") + kinds.count("reuse"), kinds.count("skip")
    running = {r.step: r.at for r in last if r.kind == "start"} if not run.finished_at else {}
    total = max(run.steps, len(kinds))
    return RunProgress(
        ended=ended,
        total=total,
        rows=sum(record.rows for record in last if record.ok),
        running=tuple(running)[:RUNNING_SHOWN_MAX],
        since=dict(list(running.items())[:RUNNING_SHOWN_MAX]),
        failed=sum(record.kind == "end" and not record.ok for record in last),
        skipped=skipped,
        left=total - ended - skipped - len(running),
        at=run.finished_at or core.clock.now_ns(),
    )


def running_now(core: Core) -> list[RunNow]:
    """Return the runs that have not ended, the oldest first, each with how far it is."""
    found = [stored_run(row[3]) for row in core.state.read("runs_open")]
    return [
        {
            "id": run.id,
            "env": run.env,
            "trigger": run.trigger,
            "by": run.by,
            "started_at": run.started_at,
            "progress": progress_of(core, run),
        }
        for run in found
    ]
