"""Content-addressed bytes in a folder: `ab/cd/<digest>`. Called through `kernel.ports.Blobs`.

A name is the SHA-256 of the bytes, so nothing is ever changed in place and writing twice is writing
once.
"""

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from sextant.kernel.errors import Damaged, NotFound, UsageError
from sextant.stores import files

_DIGEST = re.compile(r"[0-9a-f]{64}")


class LocalBlobs:
    """Blobs on a local disk. Safe for several threads and processes."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def put(self, data: bytes) -> str:
        """Store durably; return the hex SHA-256. StorageError on a full disk, with nothing
        half-written under a name."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        folder = os.path.dirname(path)
        # its name is about to be written somewhere: collection must see that it is new again
        if not (self._holds(path, data) and self.touch(digest)):
            files.make_folder(folder)
            files.write(path, data, whole=True, final=True)
        files.sync_folder(
            folder
        )  # also when it was there: a crash may have come between its name and the sync
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes. NotFound, or Damaged when they no longer have this digest."""
        path = self._path(digest)
        if not os.path.exists(path):
            raise NotFound(
                "SX-BLOB-001",
                f"no blob `{digest}`",
                hint="it was erased or expired, or lies in another store",
            )
        data = files.read(path, what="blob")
        if hashlib.sha256(data).hexdigest() != digest:
            raise Damaged(
                "SX-BLOB-002",
                f"blob `{digest}` is not what was written",
                hint="restore it from a backup: sextant backup restore",
                where=path,
            )
        return data

    def has(self, digest: str) -> bool:
        return os.path.exists(self._path(digest))

    def touch(self, digest: str) -> bool:
        """Make a blob as young as one that is written now, for `collect`. False when it is not
        there."""
        return files.touch(self._path(digest))

    def delete(self, digest: str) -> None:
        """Erase the bytes; nothing happens when they are not there."""
        path = self._path(digest)
        if os.path.exists(path):
            os.unlink(path)
            files.sync_folder(os.path.dirname(path))

    def collect(self, keep: Collection[str], *, older_than_ns: int) -> int:
        """Delete every blob not in `keep` that was last touched before `older_than_ns`. Returns
        bytes freed."""
        freed = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name not in keep:
                    freed += files.delete_old(files.join(folder, name), older_than_ns)
        return freed

    def _path(self, digest: str) -> str:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(
            digest
        ):  # also keeps `../` out of paths
            raise UsageError(
                "SX-BLOB-003",
                f"`{digest!s:.80}` is not a digest",
                hint="a digest is 64 hexadecimal digits in lower case",
            )
        return files.join(self.root, digest[:2], digest[2:4], digest)

    def _holds(self, path: str, data: bytes) -> bool:
        """Return whether these very bytes lie there; a damaged copy is written anew."""
        try:
            with open(path, "rb") as file:
                return file.read() == data
        except FileNotFoundError:
            return False
