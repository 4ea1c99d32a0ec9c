"""The newest checkpoint, kept outside the project by each client that saw it.

Whoever holds database and key can rewrite the log and sign the new one; he cannot change what
others have seen. A witness is a small text: the public key and the note. It lies in the user's
state folder, and the same text can be put into a git tag, a mail or a ticket. What it proves: the
log of today begins with the log of then.
"""

from pathlib import Path
from typing import NamedTuple, Self

from sextant.kernel.errors import BadData, Damaged
from sextant.ledger import merkle
from sextant.ledger.checkpoint import Checkpoint, read_note
from sextant.ledger.log import Read, subtrees
from sextant.stores import files
from sextant.stores.files import locked

HEADER = "sextant witness 1"


class Witness(NamedTuple):
    """A checkpoint that was seen, and the key (base 64) that had signed it."""

    public: str
    note: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a witness from text. BadData when it is none or its signature is wrong."""
        header, _, rest = text.partition("\n")
        key, _, note = rest.partition("\n")
        if header != HEADER or not key.startswith("key "):
            raise BadData(
                "SX-LEDGER-030", "this is no witness: it must begin with `" + HEADER + "`"
            )
        witness = cls(key.removeprefix("key "), note)
        read_note(note, witness.public)
        return witness

    def text(self) -> str:
        return f"{HEADER}\nkey {self.public}\n{self.note}"

    def checkpoint(self) -> Checkpoint:
        return read_note(self.note, self.public)


def default_witness_path(project_id: str) -> Path:
    """Return where a client keeps a project's witness: in the user's state folder, not in the
    project."""
    import platformdirs

    return Path(platformdirs.user_state_dir("sextant")) / "witness" / f"{project_id}.txt"


def load_witness(path: Path) -> Witness | None:
    """Return the witness kept in a file, None without the file. BadData when the file is no
    witness."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise BadData("SX-LEDGER-030", "this is no witness", where=str(path)) from error
    return Witness.parse(text)


def keep_witness(path: Path, witness: Witness) -> None:
    """Keep the newest checkpoint: durable, and never replaced by a smaller one, however many
    processes keep one at once."""
    with locked(path):
        known = load_witness(path)
        if known is not None and known.checkpoint().size >= witness.checkpoint().size:
            return
        files.write(str(path), witness.text().encode(), whole=True)
        files.sync_folder(str(path.parent))


def contradiction(read: Read, witness: Witness) -> str:
    """Return how the present log contradicts what was seen, "" when it continues it.

    Uses the stored inner nodes: `verify` compares those with the events.
    Cost  0.5 ms at 1 M events
    """
    seen = witness.checkpoint()
    head = read("event_head", ())
    size = head[0][0] + 1 if head else 0
    if size < seen.size:
        return (
            f"the ledger has {size} events, a checkpoint kept outside has {seen.size}: it was "
            "cut off or replaced by an older copy"
        )
    try:
        root = merkle.root(seen.size, subtrees(read))
    except Damaged as error:
        return error.message
    if root != seen.root:
        return (
            f"the first {seen.size} events are not those of a checkpoint kept outside: history "
            "was rewritten"
        )
    return ""


def confirm(read: Read, path: Path) -> Witness | None:
    """Check the log against the witness in a file, when there is one; a client does so whenever it
    opens a project.

    Raises  Damaged when the log contradicts it
    """
    witness = load_witness(path)
    if witness is not None and (text := contradiction(read, witness)):
        raise Damaged(
            "SX-LEDGER-031",
            text,
            where=str(path),
            hint=(
                "if you restored an older backup yourself, remove this witness; else `sextant "
                "ledger verify` says more"
            ),
        )
    return witness
