"""The projected tables, made again from ledger and payloads. Called by erasure and by verify."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from sextant.kernel.errors import Damaged
from sextant.ledger.log import Read, entries
from sextant.ledger.projections import PROJECTED, PROJECTIONS
from sextant.stores.state import StateStore

PAGE_EVENTS = 4_000  # events read at once


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
    state.refill(PROJECTED, projected(state.read))
