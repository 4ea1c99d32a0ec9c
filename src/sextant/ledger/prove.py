"""Makes proofs that can be verified offline: a bundle that shows that an event is in a signed log.
See `standalone.py`."""

import base64
from typing import Any

from sextant.kernel.errors import Damaged, NotFound, UserError
from sextant.ledger import merkle
from sextant.ledger.checkpoint import keys_by_size, read_note
from sextant.ledger.log import Read, subtrees

FORMAT = "sextant proof 1"


def prove(
    read: Read,
    seq: int,
    *,
    public: str,
    since: str = "",
    payload: bool = True,
) -> dict[str, Any]:
    """Return a JSON bundle: event `seq` stands in the log of the newest checkpoint.

    public   the ledger's public key (base 64), which the bundle names
    since    an older checkpoint's note: a proof that the log continues that one is added
    payload  with payload and salt, so that the content is proven too
    Raises   NotFound for an unknown event; UserError when no checkpoint covers it yet, or `since`
             is not older
    Cost     1 ms at 1 M events
    """
    found = read("event_by_seq", (seq,))
    if not found:
        raise NotFound(
            "SX-LEDGER-050", f"there is no event {seq}", hint="`sextant ledger show` lists them"
        )
    last = read("checkpoint_last", ())
    if not last or last[0][0] <= seq:
        raise UserError(
            "SX-LEDGER-051",
            f"no checkpoint covers event {seq} yet",
            hint="the next one does: run `sextant ledger checkpoint`",
        )
    size, note, _ = last[0]
    key = [key for start, key in keys_by_size(read, public) if start <= size][-1]
    head = read_note(note, key)
    subtree = subtrees(read)
    if merkle.root(size, subtree) != head.root:
        raise Damaged(
            "SX-LEDGER-052",
            "the log is not the one that its newest checkpoint signed",
            hint="`sextant ledger verify` says what is wrong",
        )
    _, envelope, salt, body = found[0]
    bundle = {
        "format": FORMAT,
        "key": key,
        "note": note,
        "seq": seq,
        "envelope": _text(envelope),
        "path": [_text(one) for one in merkle.prove_inclusion(seq, size, subtree)],
    }
    if payload and body is not None:
        bundle |= {"salt": _text(salt), "payload": _text(body)}
    if since:
        old = read_note(since, None)
        if old.size > size:
            raise UserError(
                "SX-LEDGER-053",
                f"the older checkpoint has {old.size} events, the newest here {size}",
                hint="give an older one",
            )
        bundle |= {
            "since": since,
            "consistency": [
                _text(one) for one in merkle.prove_consistency(old.size, size, subtree)
            ],
        }
    return bundle


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
