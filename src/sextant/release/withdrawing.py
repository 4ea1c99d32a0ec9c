"""Marks versions that were taken back: withdrawn, and what was made from them tainted."""

from collections.abc import Callable, Sequence

from sextant.kernel.errors import NotFound, UserError
from sextant.kernel.kinds import Released
from sextant.kernel.nouns import Event, Move, Principal
from sextant.kernel.ports import State, Write
from sextant.ledger.events import Events
from sextant.ledger.projections import VersionTainted, VersionUnheld, VersionWithdrawn

_TAINT_MAX = 100_000  # versions that one withdrawal may taint


def withdrawals(
    state: State,
    events: Events,
    kind_of_move: Callable[[Move], Released],
    *,
    moves: Sequence[Move],
    reason: str,
    undo: str,
    cause: str,
    by: str,
    taints: bool = True,
) -> list[Event]:
    """Return the events that mark what these moves brought as withdrawn, and what was made from it
    as tainted.

    undo    the release that takes it back
    by      who takes it back
    taints  mark what was made from it
    """
    found: list[Event] = []
    for move in moves:
        if not move.target:
            continue
        marked = VersionWithdrawn(
            env=move.env,
            asset=move.asset,
            version=move.target,
            release=undo,
            reason=reason,
            held=tuple(kind_of_move(move).held(move)),
        )
        event = events.make("version.withdrawn", f"{move.asset}@{move.target}", marked, by, cause)
        found.append(event)
        for asset, version in reached(state, move.asset, move.target) if taints else ():
            tainted = VersionTainted(
                asset=asset, version=version, source=move.asset, source_version=move.target
            )
            found.append(
                events.make("version.tainted", f"{asset}@{version}", tainted, by, event.id)
            )
    return found


def reached(state: State, asset: str, version: str) -> list[tuple[str, str]]:
    """Return every version whose provenance reaches this one, or a later version that still
    holds its partitions."""
    found: dict[tuple[str, str], None] = {}
    stack = [
        (asset, version),
        *((asset, later) for later in _still_holding(state, asset, version)),
    ]
    found.update((key, None) for key in stack[1:])
    while stack:
        for row in state.read("provenance_downstream", stack.pop()):
            key = (str(row[0]), str(row[1]))
            if key not in found and key != (asset, version):
                found[key] = None
                stack.append(key)
        if len(found) > _TAINT_MAX:
            raise UserError(
                "SX-RELEASE-007",
                f"more than {_TAINT_MAX} versions stand on `{asset}@{version[:12]}`",
                hint="undo the assets below it first",
            )
    return list(found)


def _still_holding(state: State, asset: str, version: str) -> list[str]:
    """Return the later versions of an asset in which some partition that `version` brought has
    not been replaced."""
    out: list[str] = []
    left = {row[0] for row in state.read("parts_of", (asset, version))}
    stack = [(version, left)]
    while stack and len(out) < _TAINT_MAX:
        parent, holds = stack.pop()
        for (child,) in state.read("version_children", (asset, parent)):
            remaining = holds - {row[0] for row in state.read("parts_of", (asset, child))}
            if remaining and child not in out and child != version:
                out.append(str(child))
                stack.append((str(child), remaining))
    return out


def unhold(state: State, events: Events, env: str, asset: str, version: str, by: Principal) -> None:
    """Lift the mark from a withdrawn version. NotFound if it has none."""
    if not state.read("withdrawn_is", (env, asset, version)):
        raise NotFound(
            "SX-RELEASE-008",
            f"version `{version[:12]}` of `{asset}` is not withdrawn in `{env}`",
        )
    lifted = VersionUnheld(env, asset, version)
    state.commit(Write((), (events.make("version.unheld", f"{asset}@{version}", lifted, by),)))
