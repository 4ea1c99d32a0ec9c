"""Rebuilds the projected tables from ledger and payloads. Called by erasure, by verification, and
when a project is opened whose tables an older Sextant made."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from sextant.kernel.errors import Damaged, UserError
from sextant.ledger.log import Read, entries
from sextant.ledger.projections import PROJECTED, PROJECTIONS, PROJECTIONS_VERSION
from sextant.stores.state import StateStore

PAGE_EVENTS = 4_000  # events read at once
_LONG_EVENTS = 50_000  # half a second
_MARK = ("projections", str(PROJECTIONS_VERSION))


def projected(
    read: Read,
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Return the statements that all events mean, oldest first. An erased payload means nothing.

    Raises  Damaged for a payload that is not what its type declares
    """
    after = 0
    while page := entries(read, "events_after", (after, PAGE_EVENTS)):
        for entry in page:
            envelope = entry.envelope
            projection = PROJECTIONS.get(envelope.type)
            if projection is not None and not entry.is_erased:
                try:
                    yield from projection(envelope.seq, envelope.time, entry.body)
                except msgspec.MsgspecError as error:
                    raise Damaged(
                        "SX-LEDGER-012",
                        (
                            f"the payload of event {envelope.seq} is not what "
                            f"`{envelope.type}` declares"
                        ),
                        hint="`sextant ledger verify` says whether it was changed",
                    ) from error
        after = page[-1].envelope.seq + 1


def rebuild(state: StateStore) -> None:
    """Empty the projected tables and fill them again, in one transaction. Writers wait meanwhile
    (10 s for 1 M events)."""
    state.refill(PROJECTED, projected(state.read), mark=_MARK)


def bring_up_to_date(state: StateStore, say: Callable[[str], None]) -> None:
    """Make the projected tables again, once, when an older Sextant made them. Processes that open a
    project together take turns, and the first does it.

    say     told when it takes long
    Raises  UserError when a newer Sextant made them
    """
    found = state.read("meta_get", _MARK[:1])
    try:
        version = int(found[0][0]) if found else 0
    except (TypeError, ValueError):  # somebody changed it: made again, it is right
        version = 0
    if version == PROJECTIONS_VERSION:
        return
    if version > PROJECTIONS_VERSION:
        raise UserError(
            "SX-LEDGER-013",
            (
                f"the project's tables are of version {version}, this Sextant makes versions up "
                f"to {PROJECTIONS_VERSION}"
            ),
            hint="install the newer sextant-ops that opened this project",
        )
    events = int(state.read("event_span", ())[0][0])
    if events >= _LONG_EVENTS:
        say(f"making the project's tables again from {events:,} events, once for this version ...")
    try:
        state.refill(PROJECTED, projected(state.read), mark=_MARK, once=True)
    except Damaged as error:  # `ledger verify` must be able to open the project and say more
        say(f"the project's tables could not be made again: {error.message}")
