"""Leases: which run may write which dataset, and which process works on which run.

A run holds one lease for itself (`run/ID`) and one for each dataset that it writes (`ENV/ASSET`).
Every lease carries a fencing token that grows with each hold of it. Everything that a run writes is
fenced by its own lease, a publish by those of its datasets too: a holder that was taken for dead,
and goes on, writes nothing more.

A dead holder is recognised at once on its own machine, by boot, pid namespace, pid and start time.
Anywhere else its lease has to expire, on the clock that all users of the store share. One that
expires later than any that is taken now was taken while that clock was ahead: it counts as expired.
"""

import os
import re
import socket
import threading
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Self

from sextant.kernel.clock import NS
from sextant.kernel.errors import Busy, Conflict, SextantError
from sextant.kernel.limits import LEASE_S
from sextant.kernel.ports import Pending, Receipt, State, Statement, Write

_LONGEST_NS = int(2 * LEASE_S * NS)
_HELD = re.compile(
    r"(?P<run>\S+) pid (?P<pid>\d+) on (?P<host>\S+) since (?P<since>\d+)"
    r"(?: boot (?P<boot>\S+) namespace (?P<namespace>\S+))?"
)


class Process(NamedTuple):
    """A process, told apart from every other one. `boot` and `namespace` are "-" where the machine
    does not say."""

    pid: int
    host: str
    since: str
    boot: str
    namespace: str

    def __str__(self) -> str:
        return (
            f"pid {self.pid} on {self.host} since {self.since} boot {self.boot} namespace "
            f"{self.namespace}"
        )


@cache
def _process(pid: int) -> Process:  # by pid: a forked child is another process
    return Process(pid, socket.gethostname(), _started(pid), _boot(), _namespace())


def this_process() -> Process:
    """Return what tells this process apart."""
    return _process(os.getpid())


def _started(pid: int) -> str:
    """Return when a process of this namespace started, in ticks since boot; "0" when unknown."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "-"


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "-"


def is_gone(state: State, held_by: str) -> bool:
    """Tell whether a holder is dead for sure: its process lived where we can see it, and is not
    there any more. False where that cannot be told: its lease has to expire."""
    found = _HELD.fullmatch(held_by)
    if found is None:
        return False
    here = this_process()
    by_name = found["boot"] is None or here.boot == "-"  # only the host's name tells machines apart
    if found["host"] != here.host if by_name else found["boot"] != here.boot:
        return state.is_local  # written before the machine was started, by this very machine
    if not by_name and found["namespace"] != here.namespace:
        return False  # a container beside this one: its pids mean nothing here
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(found["pid"])) != found["since"]


def shown(held_by: str) -> str:
    """Return a holder as people read it: `run_x (pid 12 on host)`."""
    found = _HELD.fullmatch(held_by)
    return f"{found['run']} (pid {found['pid']} on {found['host']})" if found else held_by


def run_lease(run: str) -> str:
    """Return the name of the lease that a run holds for itself."""
    return f"run/{run}"


def worker_of(state: State, run: str) -> str:
    """Return which other process works on a run, "" when it is this one or none."""
    holder = _live_holder(state, run_lease(run))
    return "" if holder in ("", f"{run} {this_process()}") else shown(holder)


def is_alive(state: State, run: str) -> bool:
    """Tell whether some process still works on a run."""
    return _live_holder(state, run_lease(run)) != ""


def _has_expired(expires_at: int, now: int) -> bool:
    return expires_at <= now or expires_at > now + _LONGEST_NS


def live_leases(state: State) -> list[tuple[str, str]]:
    """Return (lease, holder) of every lease whose holder is not known to be dead, by name."""
    now = state.now_ns()
    return [
        (name, held_by)
        for name, held_by, _, expires in state.read("leases")
        if not _has_expired(expires, now) and not is_gone(state, held_by)
    ]


def _live_holder(state: State, name: str) -> str:
    rows = state.read("lease_get", (name,))
    if not rows or _has_expired(rows[0][2], state.now_ns()) or is_gone(state, rows[0][0]):
        return ""
    return str(rows[0][0])


class Leases:
    """Holds leases for one run and renews them. Use as a context manager.

    names   what is to be written, `ENV/ASSET` each; the run's own lease comes with them
    own     another lease in place of the run's own
    Raises  Busy (SX-RUN-001) on entering when somebody else holds one of them: none is then taken
    """

    def __init__(
        self,
        state: State,
        run: str,
        names: Sequence[str],
        *,
        own: str = "",
        process: Process | None = None,
    ) -> None:
        self._state = state
        self._names = (own or run_lease(run), *names)
        self._holder = f"{run} {process or this_process()}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._fences: dict[str, int] = {}
        self._lost = False
        self.fence = 0

    def __enter__(self) -> Self:
        for name in self._names:
            rows = self._state.read("lease_get", (name,))
            if rows and rows[0][2] > 0 and is_gone(self._state, rows[0][0]):
                drop = Statement("lease_drop", (name, rows[0][0], rows[0][1]))
                self._state.commit(Write((drop,)))
        now = self._state.now_ns()
        until = now + int(LEASE_S * NS)
        try:
            self._state.commit(
                Write(
                    tuple(
                        Statement(
                            "lease_take",
                            (name, self._holder, until, now, now + _LONGEST_NS),
                            1,
                            f"`{name}` is held",
                        )
                        for name in self._names
                    )
                )
            )
        except Conflict as error:
            raise self._busy() from error
        for name in self._names:
            _, fence, _ = self._state.read("lease_get", (name,))[0]
            self._fences[name] = int(fence)
        self.fence = max(self._fences.values())
        self._thread = threading.Thread(target=self._keep, name="sextant-leases", daemon=True)
        self._thread.start()
        return self

    def _busy(self) -> Busy:
        """Return the error that says who holds what is wanted."""
        held = {name: holder for name, holder in live_leases(self._state) if name in self._names}
        name, holder = next(
            ((n, h) for n, h in held.items() if h != self._holder), (self._names[-1], "")
        )
        what = name.partition("/")[2]
        return Busy(
            "SX-RUN-001",
            f"`{what}` is being written by {shown(holder) if holder else 'another run'}",
            hint="wait for it to end, then run again",
            retry_after_s=LEASE_S,
        )

    def _keep(self) -> None:
        while not self._stop.wait(LEASE_S / 3):
            self.renew()
            if self._lost:
                return

    def renew(self) -> None:
        """Hold the leases for another LEASE_S, if they are still ours."""
        until = self._state.now_ns() + int(LEASE_S * NS)
        renewed = tuple(
            Statement("lease_renew", (until, name, self._holder, fence), 1, f"`{name}` was lost")
            for name, fence in self._fences.items()
        )
        try:
            self._state.commit(Write(renewed))
        except Conflict:
            self._lost = True
        except SextantError:  # a store that is away now may be back before the lease expires
            return

    @property
    def lost(self) -> bool:
        """Tell whether somebody else has taken one of them, as far as is known without asking."""
        return self._lost

    def are_lost(self) -> bool:
        """Ask the store whether somebody else has taken one of them."""
        self._lost = self._lost or any(
            not self._state.read("lease_is", (name, self._holder, fence))
            for name, fence in self._fences.items()
        )
        return self._lost

    def guards(self) -> list[Statement]:
        """Return what makes a write fail when any of the leases was lost."""
        return [
            Statement(
                "lease_is",
                (name, self._holder, fence),
                1,
                f"the lease of `{name}` was lost: another run took over",
            )
            for name, fence in self._fences.items()
        ]

    def fenced(self) -> "FencedState":
        """Return the state store as the run may write to it: only while its own lease holds."""
        return FencedState(self._state, self.guards()[0])

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
            drops = tuple(
                Statement("lease_drop", (name, self._holder, fence))
                for name, fence in self._fences.items()
            )
            self._state.submit(Write(drops))


class FencedState:
    """A `State` whose writes all carry one fence."""

    def __init__(self, state: State, fence: Statement) -> None:
        self._state = state
        self._fence = fence
        self.is_local = state.is_local
        self.read, self.flush, self.now_ns = state.read, state.flush, state.now_ns
        self.close = state.close

    def submit(self, write: Write) -> Pending:
        return self._state.submit(Write(write.statements, write.events, self._fence))

    def commit(self, write: Write) -> Receipt:
        return self.submit(write).result()
