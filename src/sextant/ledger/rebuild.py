"""The projected tables, made again from ledger and payloads. Called by erasure and by verify."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import Envelope
from sextant.kernel.ports import Row
from sextant.ledger.projections import PROJECTED, PROJECTIONS
from sextant.ledger.upcast import upcast
from sextant.stores.state import StateStore

PAGE_EVENTS = 4_000  # events read at once

_decode = msgspec.json.Decoder(Envelope).decode


def projected(
    read: Callable[[str, Sequence[Any]], list[Row]],
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Return the statements that all events mean, oldest first. An erased payload means nothing.

    Raises  Damaged for a payload that is not what its type declares
    """
    after = 0
    while page := read("events_after", (after, PAGE_EVENTS)):
        for seq, raw, _salt, body in page:
            envelope = _decode(raw)
            projection = PROJECTIONS.get(envelope.type)
            if projection is not None and body is not None:
                try:
                    yield from projection(
                        seq, envelope.time, upcast(envelope.type, envelope.v, bytes(body))
                    )
                except msgspec.MsgspecError as error:
                    raise Damaged(
                        "SX-LEDGER-012",
                        f"the payload of event {seq} is not what `{envelope.type}` declares",
                        hint="`sextant ledger verify` says whether it was changed",
                    ) from error
        after = page[-1][0] + 1


def rebuild(state: StateStore) -> None:
    """Empty the projected tables and fill them again, in one transaction. Writers wait meanwhile
    (10 s for 1 M events)."""
    state.refill(PROJECTED, projected(state.read))
