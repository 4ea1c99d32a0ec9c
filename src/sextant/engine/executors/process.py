"""Runs work orders in worker processes that we own: each has its pipe, its timeout and its end.

One thread for each slot keeps one worker. A warm pool (`keep=True`) reuses the process for orders
of one bundle; without it every order gets a fresh process in an empty folder that holds only the
unpacked bundle, as another machine would. A worker that dies, hangs or eats its memory takes nobody
else along.
"""

import contextlib
import fcntl
import itertools
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from sextant.engine.executors import wire
from sextant.kernel.errors import SextantError, WorldError
from sextant.kernel.limits import (
    LIVE_LOOK_S,
    STEP_TIMEOUT_S,
    WORKER_IDLE_S,
    WORKER_LEFT_S,
    WORKER_PASSED_S,
)
from sextant.kernel.nouns import WorkOrder, WorkResult
from sextant.kernel.standby import StandBy

_Job = tuple[WorkOrder, Callable[[WorkResult], None]]
_NO_CODE = ("", "")
_ORDERS_SEEN = 64  # of those that wait, from which a worker chooses
Printed = Callable[[WorkOrder, str, bool], None]  # order, text, whether it is its first one


class _Worker(NamedTuple):
    """A process, and the unnamed file that takes what its order at hand prints: to be read when the
    process had to be killed."""

    process: "subprocess.Popen[bytes]"
    log: Any


class ProcessExecutor:
    """An `Executor` over local processes. `unpack(bundle digest, folder)` writes the bundle's files
    into a folder."""

    def __init__(
        self,
        slots: int,
        *,
        keep: bool = True,
        unpack: Callable[[str, Path], None] | None = None,
        environment: dict[str, str] | None = None,
        printed: Printed = lambda _order, _text, _first: None,
    ) -> None:
        """printed  is told what orders print while they run, without secrets; any thread"""
        self._printed = printed
        self.slots = slots
        self._keep = keep
        self._unpack = unpack
        self._environment = {**os.environ, **(environment or {})}
        home = str(
            Path(__file__).resolve().parents[3]
        )  # a worker in another folder must find this very Sextant, also when it is not installed
        self._environment["PYTHONPATH"] = os.pathsep.join(
            [home, *filter(None, [self._environment.get("PYTHONPATH", "")])]
        )
        # One thread a step: what adds up floats gives the same sum each time. More of them are for
        # queries that say that they need not.
        for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
            self._environment.setdefault(name, "1")
        threads = max(1, (os.cpu_count() or 1) // slots)
        self._environment.setdefault("SEXTANT_THREADS", str(threads))
        self._waiting: deque[tuple[float, _Job]] = deque()  # since when; the oldest first
        self._open = Counter[str]()  # orders that have no result yet, by run
        self._changed = threading.Condition()  # of these two, of what slots hold, of the end
        self._workers: list[_Slot] = []
        self._cancelled: set[str] = set()
        self._closing = False
        # Several runs go on, and the long steps of one keep the others waiting: the spare slot
        # helps out then, and only then.
        self._workers = [_Slot(self, spare=n == slots) for n in range(slots + 1)]
        self._ready = StandBy(
            lambda: self._start(None),
            end=_end,
            is_alive=lambda worker: worker.process.poll() is None,
        )

    def submit(self, order: WorkOrder, done: Callable[[WorkResult], None]) -> None:
        with self._changed:
            self._open[order.run] += 1
            self._waiting.append((time.monotonic(), (order, done)))
            self._changed.notify_all()

    def warm(self) -> None:
        """Start the processes now, so that the first order does not wait for imports."""
        for slot in self._workers[: self.slots]:
            slot.warm()

    def stand_by(self, for_s: float) -> None:
        """Have a process ready for some time that has had no order: the first one of new code does
        not wait until one has started."""
        if self._keep:
            self._ready.keep(for_s)

    def _take(self, slot: "_Slot", idle_s: float) -> tuple[_Job | None, float | None]:
        """Return the order that a slot runs next; else after how many seconds it may have one, None
        = when something changes. Starting a worker takes longer than most steps: it prefers the
        orders whose code it has loaded, and leaves others for a moment to workers that have loaded
        theirs. Called with `_changed` held.

        idle_s  for how long the slot has had nothing to do
        """
        if not self._waiting or not self._may_work(slot):
            return None, None
        others = {one.code for one in self._workers if one is not slot and self._may_work(one)} - {
            _NO_CODE
        }
        chosen = None
        for n, (_, (order, _done)) in enumerate(itertools.islice(self._waiting, _ORDERS_SEEN)):
            code = (order.bundle, order.project)
            if code == slot.code:
                chosen = n
                break
            if chosen is None and (slot.code == _NO_CODE or code not in others):
                chosen = n
        passed_s = time.monotonic() - self._waiting[0][0]
        leave_s = 0.0 if self._closing or self._ready.has_one else WORKER_LEFT_S
        if chosen is None and idle_s < leave_s:
            return None, leave_s - idle_s
        if chosen is None or passed_s > WORKER_PASSED_S or self._closing:
            chosen = 0
        job = self._waiting[chosen][1]
        del self._waiting[chosen]
        slot.code = (job[0].bundle, job[0].project) if self._keep else _NO_CODE
        return job, 0.0

    def _may_work(self, slot: "_Slot") -> bool:
        several = len(self._open) > 1 and self._open.total() > self.slots
        return not slot.spare or several or self._closing

    def _start(self, folder: str | None) -> _Worker:
        log = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 - lives as long as the worker
        try:
            # after the log was emptied everybody writes at its new end
            fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
            process = subprocess.Popen(
                [sys.executable, "-m", "sextant.engine.executors.worker", str(log.fileno())],
                pass_fds=(log.fileno(),),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=folder,
                env=self._environment,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
            )
        except BaseException:
            log.close()
            raise
        return _Worker(process, log)

    def cancel(self, order_id: str) -> None:
        self._cancelled.add(order_id)
        for slot in self._workers:
            slot.cancel(order_id)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for slot in self._workers:
            slot.close()
        self._ready.close()


class _Slot:
    def __init__(self, pool: ProcessExecutor, *, spare: bool) -> None:
        self._pool = pool
        self.spare = spare
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded = _NO_CODE  # bundle and folder of the orders that the process has had
        self.code = _NO_CODE  # the same, with the order at hand
        self._order = ""
        self._log: Any = None  # see _Worker
        self._secretive: dict[
            tuple[str, ...], WorkOrder
        ] = {}  # orders with secrets that this process has had
        self._lock = threading.Lock()
        self._wake_r, self._wake_w = os.pipe()
        self._thread = threading.Thread(target=self._loop, name="sextant-worker-slot", daemon=True)
        self._thread.start()

    def warm(self) -> None:
        with self._lock:
            if self._process is None:
                self._process = self._spawn(None)

    def cancel(self, order_id: str) -> None:
        if self._order == order_id:
            os.write(self._wake_w, b"x")

    def close(self) -> None:
        if self._order:
            os.write(self._wake_w, b"x")
        self._thread.join()
        self._end()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _loop(self) -> None:
        while True:
            try:
                job = self._next(WORKER_IDLE_S if self._process else None)
            except Empty:
                with self._lock:
                    # nobody has had work for it for long: its memory is worth more than its start
                    self._end()
                continue
            if job is None:
                return
            order, done = job
            self._woken()  # by a cancellation that came too late for the order before
            self._order = order.id
            try:
                result = self._run(order)
            except SextantError as error:  # its bundle is gone, or the order is too large
                where = {"where": error.where} if error.where else {}
                result = wire.failed(
                    order,
                    error.code,
                    error.message,
                    hint=error.hint,
                    retryable=isinstance(error, WorldError),
                    **where,
                )
                self._end()
            # no process could be started, its pipe broke, its answer is no answer: whoever waits
            # must hear of it
            except Exception as error:
                result = wire.failed(
                    order,
                    "SX-STEP-011",
                    f"no worker process could run the step: {error}",
                    retryable=True,
                )
                self._end()
            self._order = ""
            with self._pool._changed:
                self._pool._open[order.run] -= 1
                self._pool._open += Counter()  # without runs that have none
                self._pool._changed.notify_all()
            done(result)

    def _next(self, timeout_s: float | None) -> _Job | None:
        """Return the next order, None at the end. Empty when there was none for so long."""
        pool, began = self._pool, time.monotonic()
        with pool._changed:
            while True:
                idle_s = time.monotonic() - began
                job, wait_s = pool._take(self, idle_s)
                if job is not None or (pool._closing and wait_s is None):
                    return job
                if timeout_s is not None:
                    if idle_s >= timeout_s:
                        raise Empty
                    wait_s = min(timeout_s - idle_s, wait_s or timeout_s)
                pool._changed.wait(wait_s)

    def _run(self, order: WorkOrder) -> WorkResult:
        if self._stopped(order):
            return wire.failed(order, "SX-STEP-CANCELLED", "cancelled before it started")
        if self._pool._keep:
            return self._talk(order)
        with tempfile.TemporaryDirectory(prefix="sextant-step-") as folder:
            if self._pool._unpack and order.bundle:
                self._pool._unpack(order.bundle, Path(folder))
            self._end()
            self._process = self._spawn(folder)
            try:
                return self._talk(_with_project(order, folder))
            finally:
                self._end()

    def _talk(self, order: WorkOrder) -> WorkResult:
        code = (order.bundle, order.project)
        if self._process is not None and (
            self._process.poll() is not None or self._loaded not in (_NO_CODE, code)
        ):
            # another state of the project's code, or a folder in place of one that was changed: a
            # fresh interpreter, so that no old module stays
            self._end()
        with self._lock:
            if self._process is None:
                self._process = self._spawn(None)
        process = self._process
        self._loaded = self.code = code
        assert process.stdin is not None
        assert process.stdout is not None
        build = order.asset.build
        if build and build.secrets:
            self._secretive[tuple(sorted(build.secrets.values()))] = order
        os.ftruncate(self._log.fileno(), 0)  # the worker does so too, but it may never come to it
        timeout = (build.timeout_s if build else 0.0) or STEP_TIMEOUT_S
        tail = wire.Tail(self._log.fileno(), self._secretive.values())
        try:
            wire.send(process.stdin.fileno(), order)
            body = self._answer(process.stdout.fileno(), order, timeout, tail)
        except BrokenPipeError:
            body = b""
        self._tell(order, tail, ended=True)
        if body:
            return wire.result_from(body)
        if body is None:
            log = self._end()
            if self._stopped(order):
                return wire.failed(order, "SX-STEP-CANCELLED", "cancelled while it ran", log=log)
            return wire.failed(
                order,
                "SX-STEP-TIMEOUT",
                f"ran longer than {timeout:g} s and was stopped",
                retryable=True,
                hint="raise timeout= of the asset, or make it faster",
                log=log,
            )
        return self._died(order)

    def _answer(self, fd: int, order: WorkOrder, timeout_s: float, tail: wire.Tail) -> bytes | None:
        """Return the worker's answer, and tell what it prints meanwhile; None when the time is up
        or the order was cancelled. A cancellation that came too late for an earlier order may wake
        this one: it goes on waiting."""
        until = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, until - time.monotonic())
            body = wire.receive(fd, min(left_s, LIVE_LOOK_S), self._wake_r)
            if body is not None:
                return body
            stopped = order.id in self._pool._cancelled or self._pool._closing
            if (self._woken() and stopped) or time.monotonic() >= until:
                return None
            self._tell(order, tail)

    def _tell(self, order: WorkOrder, tail: wire.Tail, *, ended: bool = False) -> None:
        if text := tail.look(ended=ended):
            self._pool._printed(order, text, not tail.has_told)
            tail.has_told = True

    def _woken(self) -> bool:
        """Say whether somebody wrote into the wake pipe, and empty it."""
        woken = False
        while select.select([self._wake_r], [], [], 0)[0]:
            woken = bool(os.read(self._wake_r, 64))
        return woken

    def _stopped(self, order: WorkOrder) -> bool:
        if order.id in self._pool._cancelled:
            self._pool._cancelled.discard(order.id)
            return True
        return self._pool._closing

    def _died(self, order: WorkOrder) -> WorkResult:
        assert self._process is not None
        code = self._process.wait()
        log = self._end()
        if code < 0:
            name = signal.Signals(-code).name
            hint = (
                "raise memory= of the asset, or work in smaller partitions"
                if name in ("SIGKILL", "SIGABRT", "SIGSEGV")
                else ""
            )
            return wire.failed(
                order,
                "SX-STEP-DIED",
                f"the worker was ended by {name} (out of memory, or stopped from outside)",
                retryable=True,
                hint=hint,
                log=log,
            )
        return wire.failed(
            order,
            "SX-STEP-DIED",
            f"the worker ended by itself with exit code {code}",
            retryable=True,
            hint="project code must not exit the process",
            log=log,
        )

    def _spawn(self, folder: str | None) -> "subprocess.Popen[bytes]":
        ready = self._pool._ready.take() if folder is None else None
        process, self._log = ready or self._pool._start(folder)
        return process

    def _end(self) -> str:
        """Kill the process with all that it started. Return what its last order had printed."""
        process, self._process = self._process, None
        self._loaded = self.code = _NO_CODE
        if process is None:
            return ""
        _kill(process)
        mask = wire.mask_of(self._secretive.values())
        text = wire.head_and_tail(self._log.fileno(), mask)
        self._secretive.clear()
        self._log.close()
        self._log = None
        return text


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # with everything that the step had started
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _end(worker: _Worker) -> None:
    _kill(worker.process)
    worker.log.close()


def _with_project(order: WorkOrder, folder: str) -> WorkOrder:
    import msgspec

    return msgspec.structs.replace(order, project=folder)
