"""Verifies a Sextant ledger, or a proof from one, without Sextant: needs Python 3.11 and
`cryptography` only. Copy this file.

    python standalone.py state.db ...      the whole log in a SQLite state file (read-only)
    python standalone.py proof.json ...    one event, by `sextant ledger prove`
--key BASE64    the public key that you trust, from elsewhere: with the key that a file itself names
                nothing is proven, since anybody can sign a file with a key of his own
--witness FILE  a checkpoint that you kept (`sextant witness 1`): the log must begin with what it
                saw, and its key is the trusted one where --key gives none
Exits 0 when all holds, 1 when something does not, 2 when it cannot tell: also without a trusted
key. RFC 6962 tree, C2SP signed notes.
"""

import argparse
import base64
import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Wrong(Exception):
    pass


def need(holds: bool, message: str) -> None:
    if not holds:
        raise Wrong(message)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, level by level: an odd last subtree moves up as it is."""
    level = leaves or [sha256(b"").digest()]
    while len(level) > 1:
        level = [node(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)] + level[
            len(level) & ~1 :
        ]
    return level[0]


def climb(at: int, last: int, left: bytes, right: bytes, path: list[bytes]) -> tuple[bytes, bytes]:
    """RFC 9162, 2.1.3.2 and 2.1.4.2: return the roots of the old and the new tree that a path leads
    to."""
    for other in path:
        need(last > 0, "the proof is too long")
        if at & 1 or at == last:
            left, right = node(other, left), node(other, right)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            right = node(right, other)
        at, last = at >> 1, last >> 1
    need(last == 0, "the proof is too short")
    return left, right


def check_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: list[bytes]
) -> None:
    need(0 < old <= new, "the checkpoint kept outside is not older")
    path = [old_root, *path] if old & (old - 1) == 0 or old == new else path or [b""]
    at, last = (old - 1, new - 1) if old < new else (0, 0)
    while at & 1:
        at, last = at >> 1, last >> 1
    need(
        climb(at, last, path[0], path[0], path[1:]) == (old_root, new_root),
        "history was rewritten since the witness saw it",
    )


def read_note(note: str, key: str | None) -> tuple[int, bytes]:
    """Return size and root of a signed checkpoint; without a key the signature is not looked at."""
    text, _, signature = note.partition("\n\n")
    origin, size, root = text.split("\n")[:3]
    if key is not None:
        public = base64.b64decode(key)
        name, _, blob = signature.removeprefix("\N{EM DASH} ").strip().rpartition(" ")
        raw = base64.b64decode(blob)
        known = sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
        need(name == origin and raw[:4] == known, "the checkpoint is signed by another key")
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], (text + "\n").encode())
        except InvalidSignature:
            raise Wrong("the checkpoint's signature is wrong") from None
    return int(size), base64.b64decode(root)


def payload_holds(envelope: bytes, salt: bytes | None, body: bytes | None) -> bool:
    return body is None or sha256((salt or b"") + body).hexdigest() == json.loads(envelope)["hash"]


def check_database(path: Path, key: str | None, witness: tuple[int, bytes] | None) -> str:
    database = sqlite3.connect(f"file:{path.resolve()}?mode=ro", uri=True)
    leaves: list[bytes] = []
    rows = database.execute(
        "SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq "
        "= e.seq ORDER BY e.seq"
    )
    for seq, envelope, salt, body in rows:
        need(seq == len(leaves) == json.loads(envelope)["seq"], f"event {len(leaves)} is missing")
        need(payload_holds(envelope, salt, body), f"the payload of event {seq} was changed")
        leaves.append(sha256(b"\x00" + envelope).digest())
    newest = database.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    need(newest is not None, "there is no checkpoint")
    size, root = read_note(newest[0], key)
    need(
        size <= len(leaves),
        f"the checkpoint covers {size} events, there are {len(leaves)}: the log was cut off",
    )
    need(
        root_of(leaves[:size]) == root,
        f"the first {size} events are not the ones that the checkpoint signs",
    )
    if witness is not None:
        need(
            witness[0] <= len(leaves),
            f"a witness saw {witness[0]} events, there are {len(leaves)}: the log was cut off",
        )
        need(
            root_of(leaves[: witness[0]]) == witness[1],
            "history was rewritten since the witness saw it",
        )
    return f"{len(leaves)} events, {size} of them signed"


def check_proof(bundle: dict[str, Any], key: str | None, witness: tuple[int, bytes] | None) -> str:
    salt, body = (
        base64.b64decode(bundle[name]) if name in bundle else None for name in ("salt", "payload")
    )
    path, consistency = (
        [base64.b64decode(one) for one in bundle.get(name, [])] for name in ("path", "consistency")
    )
    seq, envelope = bundle["seq"], base64.b64decode(bundle["envelope"])
    size, root = read_note(bundle["note"], key)
    need(0 <= seq < size and json.loads(envelope)["seq"] == seq, "the proof is for another event")
    leaf = sha256(b"\x00" + envelope).digest()
    need(
        climb(seq, size - 1, leaf, leaf, path)[1] == root,
        "the event is not in the log that the checkpoint signs",
    )
    need(payload_holds(envelope, salt, body), f"the payload of event {seq} was changed")
    if witness is not None:
        since = (size, root) if "since" not in bundle else read_note(bundle["since"], None)
        need(
            since[0] == witness[0], "the proof does not start at this witness: make it with --since"
        )
        check_consistency(witness[0], size, witness[1], root, consistency)
    return f"event {seq} stands in a signed log of {size} events: {envelope.decode()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, kind in (("file", Path), ("--key", str), ("--witness", Path)):
        parser.add_argument(name, type=kind)
    arguments = parser.parse_args()
    key, witness = arguments.key, None
    try:
        if arguments.witness:
            _, key_line, note = arguments.witness.read_text().split("\n", 2)
            witness = read_note(note, key_line.removeprefix("key "))
            key = key or key_line.removeprefix("key ")
        if arguments.file.suffix == ".json":
            text = check_proof(json.loads(arguments.file.read_text()), key, witness)
        else:
            text = check_database(arguments.file, key, witness)
        if not key:
            print("cannot tell: no --key and no --witness, so anybody may have signed this:", text)
            return 2
        print("ok:", text)
    except Wrong as error:
        print("WRONG:", error)
        return 1
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        print(f"cannot tell: {type(error).__name__}: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
