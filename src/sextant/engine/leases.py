"""Leases: who may write which dataset. One writer for each (environment, table), known by run,
process and host.

A lease carries a fencing token that grows with every new holder; a publish is guarded by it, so a
holder that was thought dead cannot publish after all. On one host a dead holder is known at once;
elsewhere its lease has to pass.
"""

import os
import socket
import threading
from collections.abc import Sequence
from typing import Self

from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import Busy, Conflict, SextantError
from sextant.kernel.limits import LEASE_S
from sextant.kernel.ports import State, Statement, Write


def holder(run: str) -> str:
    """Return who holds a lease: run, process, host - so that a dead holder on this host is known at
    once."""
    return f"{run} pid {os.getpid()} on {socket.gethostname()} since {_birth(os.getpid())}"


def _birth(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


def _dead(held_by: str) -> bool:
    """Say whether a holder on this host is gone for sure."""
    words = held_by.split()
    if len(words) != 7 or words[4] != socket.gethostname():
        return False
    pid = int(words[2])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _birth(pid) != words[6]


def worker_of(state: State, clock: Clock, run: str) -> str:
    """Return which other process works on a run, "" when it is this one or none."""
    now = clock.now_ns()
    mine = holder(run)
    return next(
        (
            held_by.rpartition(" since ")[0]
            for _, held_by, _, expires in state.read("leases")
            if held_by.startswith(run + " ")
            and held_by != mine
            and expires > now
            and not _dead(held_by)
        ),
        "",
    )


def is_alive(state: State, clock: Clock, run: str) -> bool:
    """Say whether some process still works on a run: it holds a lease that has not passed, and is
    not known to be dead."""
    now = clock.now_ns()
    return any(
        held_by.startswith(run + " ") and expires > now and not _dead(held_by)
        for _, held_by, _, expires in state.read("leases")
    )


class Leases:
    """Holds the write leases of a run's datasets and renews them; a publish is guarded by their
    fencing tokens."""

    def __init__(self, state: State, clock: Clock, run: str, names: Sequence[str]) -> None:
        self._state, self._clock, self._names, self._holder = state, clock, names, holder(run)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._fences: dict[str, int] = {}
        self.lost = False
        self.fence = 0

    def __enter__(self) -> Self:
        if not self._names:
            return self
        for name in self._names:
            rows = self._state.read("lease_get", (name,))
            if rows and rows[0][2] > 0 and _dead(rows[0][0]):
                self._state.commit(Write((Statement("lease_drop", (name, rows[0][0])),)))
        try:
            self._take()
        except Conflict as error:
            held = [
                (name, self._state.read("lease_get", (name,))[0][0])
                for name in self._names
                if self._state.read("lease_get", (name,))
            ]
            other = next(((n, h) for n, h in held if h != self._holder), ("", "another run"))
            raise Busy(
                "SX-RUN-001",
                (
                    f"`{other[0].partition('/')[2]}` is being written by "
                    f"{other[1].rpartition(' since ')[0] or other[1]}"
                ),
                hint="wait for it to end, then run again",
                retry_after_s=LEASE_S,
            ) from error
        for name in self._names:
            _, fence, _ = self._state.read("lease_get", (name,))[0]
            self._fences[name] = int(fence)
        self.fence = max(self._fences.values())
        self._thread = threading.Thread(target=self._renew, name="sextant-leases", daemon=True)
        self._thread.start()
        return self

    def _take(self) -> None:
        now = self._clock.now_ns()
        until = now + int(LEASE_S * NS)
        self._state.commit(
            Write(
                tuple(
                    Statement(
                        "lease_take", (name, self._holder, until, now), 1, f"`{name}` is held"
                    )
                    for name in self._names
                )
            )
        )

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_S / 3):
            try:
                self._take()
            except SextantError:
                self.lost = True
                return

    def guards(self) -> list[Statement]:
        return [
            Statement(
                "lease_is",
                (name, self._holder, fence),
                1,
                f"the lease of `{name}` was lost: another run took over",
            )
            for name, fence in self._fences.items()
        ]

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._state.submit(
                Write(tuple(Statement("lease_drop", (name, self._holder)) for name in self._names))
            )
