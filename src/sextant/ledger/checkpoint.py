"""Signed heads of the log, as C2SP signed notes, and the key that signs them.

A checkpoint is text: origin, size, root in base 64, time, the hash of the checkpoint before it, an
empty line, one signature line (Ed25519). The private key lives outside the data folder, readable by
its owner only: who can write the database cannot sign. A new key is announced by an event that the
old and the new key have both signed, so old checkpoints stay verifiable.
"""

import base64
import os
import stat
import threading
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sextant.kernel.clock import Clock
from sextant.kernel.errors import BadData, Busy, Conflict, Damaged, NotFound, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.ports import State, Statement, Write
from sextant.ledger import merkle
from sextant.ledger.log import Read, entries, event, subtrees
from sextant.stores.files import locked

KEYS_SUBJECT = "ledger:keys"
KEY_ROTATED = "ledger.key_rotated"
# each lost attempt means that another process has signed, so a few are enough
SIGN_ATTEMPTS_MAX = 32
_ROTATIONS_MAX = 100_000


class KeyRotated(msgspec.Struct, frozen=True):
    """Payload of `ledger.key_rotated`: both public keys (base 64) and what each signed:
    `rotation_text`."""

    origin: str
    old: str
    new: str
    old_signature: str
    new_signature: str


class Checkpoint(NamedTuple):
    """A head of the log: the tree over its first `size` events has this root. `time` is ns, UTC;
    `after` is the hex
    SHA-256 of the note before it, "" for the first: a checkpoint that is taken out leaves a gap."""

    origin: str
    size: int
    root: bytes
    time: int
    after: str = ""

    def text(self) -> str:
        """Return what is signed."""
        return (
            f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\ntime "
            f"{self.time}\nafter {self.after or '-'}\n"
        )


class Signer:
    """A private key in a file of its own."""

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        self.path = path
        self._key = key
        self.public = base64.b64encode(key.public_key().public_bytes_raw()).decode()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new key (file mode 0600, folder 0700). UserError when the file exists."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # whole or not at all, and never over another key
        except FileExistsError as error:
            raise UserError(
                "SX-LEDGER-020",
                "there is a key already",
                where=str(path),
                hint="use it, or rotate it",
            ) from error
        finally:
            partial.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return cls(path, key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key. NotFound without the file; UserError when others can read it; Damaged when it
        is no Ed25519 key."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise NotFound(
                "SX-LEDGER-021",
                "the ledger's signing key is missing",
                where=str(path),
                hint="put it back: `key.pem` of a backup (`sextant backup create`) is a copy",
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            pem = file.read()
        if mode & 0o077:
            raise UserError(
                "SX-LEDGER-022",
                f"the ledger's signing key can be read by others (mode {mode:04o})",
                where=str(path),
                hint=f"run `chmod 600 {path}`; if others may have read it, rotate it",
            )
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise Damaged(
                "SX-LEDGER-023",
                "the ledger's signing key cannot be read",
                where=str(path),
                hint="restore it: `sextant backup restore`",
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Damaged(
                "SX-LEDGER-023",
                "the ledger's signing key is not an Ed25519 key",
                where=str(path),
                hint="restore it: `sextant backup restore`",
            )
        return cls(path, key)

    def signature(self, text: str) -> bytes:
        return self._key.sign(text.encode())

    def note(self, checkpoint: Checkpoint) -> str:
        """Return the signed note of a checkpoint."""
        text = checkpoint.text()
        blob = base64.b64encode(
            key_id(checkpoint.origin, self.public) + self.signature(text)
        ).decode()
        return f"{text}\n\N{EM DASH} {checkpoint.origin} {blob}\n"


def default_key_path(project_id: str) -> Path:
    """Return where a project's key is kept when nothing else is configured: in the user's
    configuration, not in the project."""
    import platformdirs

    return Path(platformdirs.user_config_dir("sextant")) / "keys" / f"{project_id}.pem"


def open_signer(state: State, path: Path) -> Signer:
    """Return the ledger's key: the one in the file, or a new one for a ledger without events.

    A rotation that was cut short is finished here. Raises like `Signer.load`; NotFound also for a
    ledger that has events and no key: a key that somebody removed is never replaced silently.
    """
    pending = _pending(path)
    if not path.exists() or pending.exists():
        with locked(path):  # another process may be making the first key, or be rotating
            if pending.exists():
                new = Signer.load(pending)
                if any(rotated.new == new.public for _, rotated in rotations(state.read)):
                    pending.replace(path)
                else:
                    pending.unlink()
            if not path.exists():
                if not state.read("event_head", ()) and not state.read("checkpoint_last", ()):
                    return Signer.create(path)
                if not state.read("checkpoint_last", ()):
                    raise NotFound(
                        "SX-LEDGER-021",
                        "the ledger's signing key is missing, and nothing is signed yet",
                        where=str(path),
                        hint="put it back; if there never was one, `sextant ledger rotate` makes "
                        "a first key",
                    )
    return Signer.load(path)


def sign_head(state: State, signer: Signer, *, origin: str, clock: Clock) -> str | None:
    """Sign the head of the log as of now; return the note, None when the newest checkpoint covers
    it already.

    Another process may sign at the same moment: the note names the checkpoint in front of it and is
    written only while that one is the newest.

    Raises  Busy when others signed first, again and again; Conflict when the key was rotated
    Cost    0.7 ms and one commit at 1 M events
    """
    for _ in range(SIGN_ATTEMPTS_MAX):
        head = state.read("event_head", ())
        size = head[0][0] + 1 if head else 0
        last = state.read("checkpoint_last", ())
        if size <= (last[0][0] if last else 0):
            return None
        rotated = rotations(state.read)
        if rotated and rotated[-1][0] < size and rotated[-1][1].new != signer.public:
            raise Conflict(
                "SX-LEDGER-029",
                "the ledger's signing key was rotated by another process",
                hint="run the command again: it signs with the new key",
            )
        now = max(clock.now_ns(), last[0][2] if last else 0)
        before = str(last[0][1]) if last else ""
        root = merkle.root(size, subtrees(state.read))
        after = note_hash(before) if before else ""
        note = signer.note(Checkpoint(origin, size, root, now, after))
        try:
            state.commit(
                Write(
                    statements=(
                        Statement("checkpoint_last_is", (before,), 1, "another process signed"),
                        Statement("checkpoint_add", (size, note, now)),
                    )
                )
            )
        except Conflict:
            continue
        return note
    raise Busy(
        "SX-LEDGER-028",
        f"other processes signed the ledger first, {SIGN_ATTEMPTS_MAX} times in a row",
        hint="nothing is lost: run `sextant ledger checkpoint`, or any other command",
        retry_after_s=1.0,
    )


def rotate(
    state: State, signer: Signer, *, origin: str, clock: Clock, ids: Ids, actor: str
) -> Signer:
    """Replace the key: announce the new one, signed by both, then put it in the place of the old.

    The head before it is signed by the old key, the head behind it by the new one. When this is cut
    short,
    `open_signer` finishes or forgets it.
    """
    with locked(signer.path):
        sign_head(state, signer, origin=origin, clock=clock)
        pending = _pending(signer.path)
        new = Signer.create(pending)
        text = rotation_text(origin, signer.public, new.public)
        signatures = [base64.b64encode(one.signature(text)).decode() for one in (signer, new)]
        announced = event(
            ids,
            KEY_ROTATED,
            KEYS_SUBJECT,
            KeyRotated(origin, signer.public, new.public, *signatures),
            actor=actor,
        )
        state.commit(Write(events=(announced,)))
        pending.replace(signer.path)
    new.path = signer.path
    sign_head(state, new, origin=origin, clock=clock)
    return new


def rotation_text(origin: str, old: str, new: str) -> str:
    """Return what both keys sign."""
    return f"sextant key rotation\n{origin}\n{old}\n{new}\n"


def rotations(read: Read) -> list[tuple[int, KeyRotated]]:
    """Return the announced rotations as (seq, payload), oldest first. Signatures are not checked
    here: see `keys_by_size`."""
    found = []
    for entry in entries(read, "events_of_both", (KEYS_SUBJECT, KEY_ROTATED, _ROTATIONS_MAX)):
        if not entry.is_intact:
            raise Damaged(
                "SX-LEDGER-024",
                f"the announcement of a key in event {entry.envelope.seq} was changed or erased",
                hint="`sextant ledger verify` says more",
            )
        found.append((entry.envelope.seq, entry.read(KeyRotated)))
    return found


def keys_by_size(read: Read, newest: str) -> list[tuple[int, str]]:
    """Return (first size, public key), oldest first: the keys that sign heads from that size on,
    ending with `newest`.

    newest  the public key that the caller trusts; each older one is vouched for by the rotation
            that replaced it
    Raises  Damaged when a rotation is not signed by both keys or the chain does not end at `newest`
    """
    keys = [newest]
    sizes = [0]
    for seq, rotated in reversed(rotations(read)):
        if not _is_signed_by_both(rotated) or rotated.new != keys[-1]:
            raise Damaged(
                "SX-LEDGER-025",
                f"the change of keys in event {seq} does not lead to the trusted key",
                hint="compare the key file with the one in your last backup",
            )
        sizes[-1] = seq + 1
        keys.append(rotated.old)
        sizes.append(0)
    return list(zip(sizes, keys, strict=True))[::-1]


def newest_key(read: Read, trusted: str) -> str:
    """Return the public key to which the rotations lead from a trusted one: itself when none of
    them replaces it.

    Raises  Damaged when an announcement was changed
    """
    key = trusted
    for _, rotated in rotations(read):
        if rotated.old == key and _is_signed_by_both(rotated):
            key = rotated.new
    return key


def _is_signed_by_both(rotated: KeyRotated) -> bool:
    text = rotation_text(rotated.origin, rotated.old, rotated.new)
    return verify_signature(
        rotated.old, text, from_base64(rotated.old_signature)
    ) and verify_signature(rotated.new, text, from_base64(rotated.new_signature))


def key_id(origin: str, public: str) -> bytes:
    """Return the 4 bytes by which a note names its key (C2SP signed-note, Ed25519)."""
    return sha256(origin.encode() + b"\n\x01" + from_base64(public)).digest()[:4]


def verify_signature(public: str, text: str, signature: bytes) -> bool:
    """Tell whether `text` was signed by this key (base 64 of its 32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(from_base64(public)).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def read_note(note: str, public: str | None) -> Checkpoint:
    """Return what a note says. BadData when it is none, or when `public` is given and did not sign
    it."""
    text, separator, signatures = note.partition("\n\n")
    text += "\n"
    try:
        origin, size, root, time, after = text.splitlines()
        checkpoint = Checkpoint(
            origin,
            int(size),
            base64.b64decode(root, validate=True),
            int(time.removeprefix("time ")),
            after.removeprefix("after ").removesuffix("-"),
        )
    except ValueError as error:
        raise BadData("SX-LEDGER-026", "this is no checkpoint") from error
    if not separator or checkpoint.text() != text or len(checkpoint.root) != 32:
        raise BadData("SX-LEDGER-026", "this is no checkpoint")
    if public is not None:
        start = f"\N{EM DASH} {checkpoint.origin} "
        blob = from_base64(signatures.removeprefix(start).removesuffix("\n"))
        if (
            signatures != f"{start}{base64.b64encode(blob).decode()}\n"
            or blob[:4] != key_id(checkpoint.origin, public)
            or not verify_signature(public, text, blob[4:])
        ):
            raise BadData(
                "SX-LEDGER-027",
                f"the checkpoint of size {checkpoint.size} is not signed by the ledger's key",
            )
    return checkpoint


def note_hash(note: str) -> str:
    """Return how the next checkpoint names this one."""
    return sha256(note.encode()).hexdigest()


def from_base64(text: str) -> bytes:
    """Return the bytes, b"" for a text that is not base 64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _pending(path: Path) -> Path:
    return path.with_name(path.name + ".new")
