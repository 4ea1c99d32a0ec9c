"""Records gaps in the chain of checkpoints, signed with the ledger's key. Called by `sextant ledger
repair` and by verification.

Each checkpoint names the one in front of it. In older versions two commands that ended at the same
moment could name the same one, and the chain stayed broken. Checkpoints are never rewritten: a
signed event says which two stand next to each other without a link. The event is worth as much as
the key. It says neither why there is a gap, nor whether a checkpoint stood in it.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Event
from sextant.kernel.ports import State, Write
from sextant.ledger.checkpoint import (
    Signer,
    from_base64,
    keys_by_size,
    note_hash,
    read_note,
    verify_signature,
)
from sextant.ledger.log import Read, entries, event

GAPS_SUBJECT = "ledger:checkpoints"
GAP_NOTED = "ledger.gap_noted"


class Gap(NamedTuple):
    """Two neighbouring checkpoints of which the second does not name the first: their sizes and the
    hashes of their notes. `size` 0 and `note` "": there is no checkpoint in front."""

    size: int
    note: str
    next_size: int
    next_note: str


class GapNoted(msgspec.Struct, frozen=True):
    """Payload of `ledger.gap_noted`: a gap, and the signature of `gap_text` by the ledger's key."""

    origin: str
    size: int
    note: str
    next_size: int
    next_note: str
    reason: str
    signature: str

    @property
    def gap(self) -> Gap:
        return Gap(self.size, self.note, self.next_size, self.next_note)


def gap_text(origin: str, gap: Gap) -> str:
    """Return what the key signs."""
    return (
        f"sextant gap between checkpoints\n{origin}\n{gap.size} {gap.note or '-'}\n"
        f"{gap.next_size} {gap.next_note}\n"
    )


def find_gaps(read: Read, public: str) -> list[Gap]:
    """Return every gap in the chain of checkpoints, oldest first.

    Raises  BadData when a checkpoint is not signed by the ledger's key
    """
    keys = keys_by_size(read, public)
    found = []
    before = (0, "")
    for size, note, _ in read("checkpoints", ()):
        checkpoint = read_note(note, key_at(keys, size))
        if checkpoint.after != before[1]:
            found.append(Gap(*before, size, note_hash(note)))
        before = (size, note_hash(note))
    return found


def noted_gaps(read: Read, keys: Sequence[tuple[int, str]]) -> set[Gap]:
    """Return the gaps that an event signed by the ledger's key notes.

    keys  as `keys_by_size` returns them; without any, signatures are not checked
    """
    found = set()
    for entry in entries(read, "events_of_type", (GAP_NOTED,)):
        if not entry.is_intact:
            continue
        noted = entry.read(GapNoted)
        if not keys or verify_signature(
            key_at(keys, entry.envelope.seq),
            gap_text(noted.origin, noted.gap),
            from_base64(noted.signature),
        ):
            found.add(noted.gap)
    return found


def note_gaps(
    state: State, signer: Signer, *, origin: str, ids: Ids, actor: str, reason: str
) -> list[Gap]:
    """Write a signed event for each gap that has none yet; return these gaps.

    Raises  BadData when a checkpoint is not signed by the ledger's key
    """
    noted = noted_gaps(state.read, keys_by_size(state.read, signer.public))
    new = [gap for gap in find_gaps(state.read, signer.public) if gap not in noted]
    if new:
        state.commit(Write(events=tuple(_events(new, signer, origin, ids, actor, reason))))
    return new


def _events(
    gaps: Iterable[Gap], signer: Signer, origin: str, ids: Ids, actor: str, reason: str
) -> Iterable[Event]:
    for gap in gaps:
        signature = base64.b64encode(signer.signature(gap_text(origin, gap))).decode()
        noted = GapNoted(origin, *gap, reason=reason, signature=signature)
        yield event(ids, GAP_NOTED, GAPS_SUBJECT, noted, actor=actor)


def key_at(keys: Sequence[tuple[int, str]], size: int) -> str:
    """Return the key that signed at a size of the log."""
    return [key for start, key in keys if start <= size][-1]
