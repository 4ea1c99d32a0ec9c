"""Takes the leases of a run, waiting in line for whoever writes the same, and plans under them.

Called by `runs.py` for everything that publishes. What is planned before a lease is held may be out
of date when it is: it is then planned again.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from sextant.app.interrupts import Interrupts
from sextant.core import Core
from sextant.engine.leases import Leases, live_leases, shown
from sextant.engine.plan import Plan
from sextant.engine.staged import RunAsset
from sextant.kernel.errors import Busy, Conflict
from sextant.kernel.limits import RUN_WAIT_S
from sextant.kernel.nouns import Release
from sextant.kernel.ports import Statement

_LOOK_S = 0.1  # how often a waiting run looks whether its turn has come
Waiting = Callable[[str], None]  # told whom a run waits for


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about to do: the steps, tables that are changed before any step, and the
    release that it undoes."""

    plan: Plan
    overlay: Mapping[str, RunAsset] = {}
    undoes: Release | None = None

    @property
    def writes(self) -> set[str]:
        """Return the assets that it publishes."""
        return {
            *(step.asset for step in self.plan.steps),
            *(definition.asset for definition in self.plan.definitions),
            *self.overlay,
        }


class Claim(NamedTuple):
    """A run that may begin."""

    leases: Leases
    prepared: Prepared


@contextlib.contextmanager
def claim(
    core: Core,
    interrupts: Interrupts,
    env: str,
    run: str,
    prepare: Callable[[], Prepared | None],
    *,
    waits: Waiting | None = None,
) -> Iterator[Claim | None]:
    """Hold what `prepare` wants to write, and give what it says once that is held. None when it
    has nothing to do.

    waits   called with whom the run waits for; without it nothing is waited for
    Raises  Busy (SX-RUN-001) when somebody else writes the same: at once, or after RUN_WAIT_S
    """
    while True:
        head = core.state.read("event_head")
        prepared = prepare()
        if prepared is None:
            yield None
            return
        wanted = prepared.writes
        with hold(core, interrupts, env, run, wanted, waits=waits) as leases:
            if core.state.read("event_head") != head:  # something was written meanwhile
                prepared = prepare()
                if prepared is not None and not prepared.writes <= wanted:
                    continue
            yield Claim(leases, prepared) if prepared is not None else None
            return


@contextlib.contextmanager
def hold(
    core: Core,
    interrupts: Interrupts,
    env: str,
    run: str,
    assets: Iterable[str],
    *,
    waits: Waiting | None = None,
) -> Iterator[Leases]:
    """Hold the leases of a run on these assets of an environment; see `claim`."""
    leases = Leases(core.state, run, [f"{env}/{asset}" for asset in sorted(assets)])
    until = time.monotonic() + RUN_WAIT_S
    told = ""
    while True:
        try:
            leases.__enter__()
        except Busy as error:
            if waits is None or time.monotonic() > until or interrupts.interrupted():
                raise
            if error.message != told:
                told = error.message
                waits(told)
        else:
            break
        interrupts.pause(_LOOK_S)
    try:
        yield leases
    finally:
        leases.__exit__()


def environment_guard(core: Core, env: str) -> Statement:
    """Return what makes a write fail when an environment is no longer the one it is now: dropped,
    or made again under the same name. NotFound without it."""
    core.project.check_environment(env)
    created = next((row[2] for row in core.state.read("envs") if row[0] == env), 0)
    return Statement("env_is", (env, created), 1, f"environment `{env}` was dropped meanwhile")


def refuse_environment_in_use(core: Core, env: str) -> None:
    """Conflict when a run is in progress in an environment."""
    core.state.flush()  # a lease that this process has just given back must be seen as free
    for name, holder in live_leases(core.state):
        if name.startswith(f"{env}/"):
            raise Conflict(
                "SX-ENV-007",
                f"{shown(holder)} is writing `{name.partition('/')[2]}` in `{env}`",
                hint="wait for it to end, or stop it",
            )
