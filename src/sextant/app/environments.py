"""Lists, makes and drops environments."""

import contextlib
import re

from sextant.app.claims import environment_guard, refuse_environment_in_use
from sextant.app.runs import Runs
from sextant.core import Core
from sextant.kernel.answers import EnvironmentSeen
from sextant.kernel.clock import NS, iso
from sextant.kernel.errors import Conflict, UserError
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import SYSTEM, Principal
from sextant.kernel.ports import Write
from sextant.ledger.projections import EnvCreated
from sextant.release.releases import open_releases

_IS_ID = re.compile(r"[a-z]+_[0-9a-z]{26}")


def seen(core: Core) -> list[EnvironmentSeen]:
    """Return the environments, each with the one that it falls through to."""
    return [
        {
            "name": name,
            "parent": parent,
            "created_at": iso(created),
            "frozen": bool(frozen),
            "expires_at": iso(expires) if expires else "",
        }
        for name, parent, created, frozen, expires in core.state.read("envs")
    ]


def create(
    core: Core,
    name: str,
    parent: str,
    *,
    by: Principal | None = None,
    frozen: bool = False,
    for_: str = "",
) -> None:
    """Create an environment that falls through to `parent`. UserError for a bad or taken name.

    frozen  it shows what `parent` shows now, for good, and nothing moves in it
    for_    how long until it goes by itself: `3d`; "" = it stays
    """
    core.project.manifest()
    core.project.check_environment(parent)
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,127}", name) or _IS_ID.fullmatch(name):
        raise UserError(
            "SX-ENV-002",
            f"`{name}` is not a name for an environment",
            hint="lower-case letters, digits, - and _, starting with a letter; not an id",
        )
    if name in {row[0] for row in core.state.read("envs")}:
        raise UserError(
            "SX-ENV-003",
            f"there is an environment `{name}` already",
            hint=f"`sextant env drop {name}` removes it",
        )
    by = by or core.authorization.who()
    expires_at = core.clock.now_ns() + int(length_s(for_) * NS) if for_ else 0
    made = EnvCreated(name, parent, expires_at=expires_at)
    if frozen:
        shown = core.versions.live(parent).values()
        pointers = tuple(sorted((one.asset, one.version, one.release) for one in shown))
        made = EnvCreated(name, frozen=True, pointers=pointers, expires_at=expires_at)
    core.state.commit(Write((), (core.events.make("env.created", name, made, by, ""),)))


def _is_frozen(core: Core, name: str) -> bool:
    return any(row[0] == name and row[3] for row in core.state.read("envs"))


def drop_expired(core: Core, runs: Runs) -> list[str]:
    """Drop the environments whose time has come, but for those in use or that others fall through
    to: they go later. Return their names."""
    now, gone = core.clock.now_ns(), []
    for name, _, _, _, expires in core.state.read("envs"):
        if 0 < expires <= now:
            with contextlib.suppress(UserError, Conflict):
                core.authorization.allow(SYSTEM, "env", None, str(name))
                drop(core, runs, name, by=SYSTEM)
                gone.append(str(name))
    return gone


def drop(core: Core, runs: Runs, name: str, *, by: Principal | None = None) -> None:
    """Drop an environment that the project does not declare and that nothing falls through to.
    Conflict while a release is open or a run is in progress in it."""
    core.project.check_environment(name)
    # what somebody uploads to an environment cannot say that the project declares it
    if name in core.project.environments() and name in core.project.manifest(name).environments:
        raise UserError(
            "SX-ENV-004",
            f"`{name}` is declared by the project",
            hint="take it out of sx.project(environments=...) first",
        )
    children = [row[0] for row in core.state.read("envs") if row[1] == name]
    if children:
        raise UserError(
            "SX-ENV-005",
            f"{', '.join(children)} fall through to `{name}`",
            hint="drop them first",
        )
    moving = [
        release.id
        for release in open_releases(core.state)
        if any(move.env == name for move in release.moves)
    ]
    if moving:
        raise Conflict(
            "SX-ENV-006",
            f"release {moving[0]} is open in `{name}`",
            hint=f"`sextant approve {moving[0]} --deny` ends one that waits",
        )
    by = by or core.authorization.who()
    guards = () if _is_frozen(core, name) else (environment_guard(core, name),)
    refuse_environment_in_use(core, name)
    runs.resuming.end_crashed(name, by=by, reason=f"environment `{name}` was dropped")
    dropped = core.events.make("env.dropped", name, EnvCreated(name), by, "")
    core.state.commit(Write(guards, (dropped,)))
