"""Erases the payload of an event without breaking a proof: its salted hash stays in the
envelope."""

import msgspec

from sextant.kernel.errors import NotFound, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.ports import Receipt, Statement, Write
from sextant.ledger.log import entries, event
from sextant.ledger.projections import PROJECTIONS
from sextant.ledger.rebuild import rebuild
from sextant.stores.state import StateStore

ERASED = "payload.erased"
# What is live follows from these events, and they name digests and ids, not people's data: they
# cannot be erased.
KEPT = ("env.", "ledger.", "payload.", "project.", "release.", "version.")


class PayloadErased(msgspec.Struct, frozen=True):
    """Payload of `payload.erased`."""

    seq: int
    reason: str


def erase(state: StateStore, seq: int, *, reason: str, actor: str, ids: Ids) -> Receipt:
    """Erase the payload of event `seq`; return where the erasure itself stands in the ledger.

    Deletion and event are one write; then the projected tables are made again without it, and the
    file is scrubbed. Copies (backups, `state.db.before-...`) keep it until they are deleted.

    Raises  NotFound when there is no such payload (any more); UserError when the state of the
            platform follows from it
    """
    found = entries(state.read, "event_by_seq", (seq,))
    if not found or found[0].is_erased:
        raise NotFound(
            "SX-LEDGER-040",
            f"there is no payload of an event {seq}",
            hint="`sextant ledger show` lists events; an erased one cannot be erased again",
        )
    envelope = found[0].envelope
    if envelope.type.startswith(KEPT):
        raise UserError(
            "SX-LEDGER-041",
            f"event {seq} (`{envelope.type}`) cannot be erased: what is live follows from it",
            hint="record a newer version without the personal data",
        )
    erased = event(
        ids, ERASED, envelope.subject, PayloadErased(seq, reason), actor=actor, cause=envelope.id
    )
    receipt = state.commit(
        Write(
            statements=(
                Statement(
                    "payload_erase", (seq,), 1, f"the payload of event {seq} is gone already"
                ),
            ),
            events=(erased,),
        )
    )
    if envelope.type in PROJECTIONS:
        rebuild(state)
    state.scrub()
    return receipt
