"""Signs the head of the ledger and keeps a witness outside the project, for whoever opened it.

The key lies in the user's configuration folder (or where `key` of sextant.toml says), the witness
in the user's state folder: neither is in the data folder, so who can write the database alone can
neither sign nor rewind it unseen.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sextant.kernel.ports import Statement, Write

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform
    from sextant.ledger.checkpoint import Signer


class Sealing:
    """Key, checkpoints and witness of one project."""

    def __init__(self, platform: "LocalPlatform") -> None:
        self._p = platform
        rows = platform.state.read("meta_get", ("project_id",))
        if not rows:
            # the first process gives the project its id, another that opens it meanwhile takes that
            platform.state.commit(
                Write((Statement("meta_add", ("project_id", platform.ids.new("prj"))),))
            )
            rows = platform.state.read("meta_get", ("project_id",))
        self.project_id = str(rows[0][0])

    @property
    def origin(self) -> str:
        return f"sextant/{self.project_id}"

    @property
    def key_path(self) -> Path:
        from sextant.ledger.checkpoint import default_key_path

        if self._p.config.key_file:
            return self._p.config.key_file
        return (
            self._p.home / "keys" / f"{self.project_id}.pem"
            if self._p.home
            else default_key_path(self.project_id)
        )

    @property
    def witness_path(self) -> Path:
        from sextant.ledger.witness import default_witness_path

        return (
            self._p.home / "witness" / f"{self.project_id}.txt"
            if self._p.home
            else default_witness_path(self.project_id)
        )

    def signer(self) -> "Signer":
        """Return the ledger's key; made on first use."""
        from sextant.ledger.checkpoint import open_signer

        return open_signer(self._p.state, self.key_path)

    def confirm(self) -> None:
        """Check the log against what this user saw last. Damaged when it was rewound or
        rewritten."""
        if self.witness_path.exists():
            from sextant.ledger.witness import confirm

            confirm(self._p.state.read, self.witness_path)

    def checkpoint(self) -> str:
        """Sign the head if it has moved, and keep it as this user's witness. Returns the newest
        note, "" for an empty ledger."""
        from sextant.kernel.errors import Conflict
        from sextant.ledger.checkpoint import sign_head
        from sextant.ledger.witness import Witness, keep_witness

        signer = self.signer()
        try:
            note = sign_head(self._p.state, signer, origin=self.origin, clock=self._p.clock)
        except Conflict:  # another process rotated the key after it was read here
            signer = self.signer()
            note = sign_head(self._p.state, signer, origin=self.origin, clock=self._p.clock)
        if note is None:
            rows = self._p.state.read("checkpoint_last")
            return str(rows[0][1]) if rows else ""
        keep_witness(self.witness_path, Witness(signer.public, note))
        return note
