"""The bodies of versions: what a version consists of, wherever it lies. A kind says which bodies
its assets have (`Made.bodies`); this module has those that are one blob.

A locator names a body for as long as a version keeps it: `blob:DIGEST`, or what a kind's own bodies
say.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from sextant.engine.staged import RunAsset
from sextant.kernel.errors import Damaged, NotFound
from sextant.kernel.nouns import Asset, FileRef, InputRef, PartOutput, WorkOrder
from sextant.kernel.partitions import ALL
from sextant.kernel.ports import Blobs, TableCommit
from sextant.stores.blobs.local import LocalBlobs

_BLOB = "blob:"


class Bodies(Protocol):
    """Where the bodies of one kind's versions lie. Written before anything is live; what no version
    names any more is collected."""

    def files(self, locator: str) -> tuple[FileRef, ...]:
        """Return the files of a body."""
        ...

    def commit(self, asset: Asset, run: RunAsset) -> TableCommit:
        """Write the body of what a run made of an asset. BadData where it does not fit what is
        live; StorageError, with nothing half-written."""
        ...

    def confirm(self, run: RunAsset, done: TableCommit) -> None:
        """Compare what a body takes over from older ones with what was recorded when that was
        written. Damaged."""
        ...

    def keep(self, file: FileRef) -> bool:
        """Make a file that a step wrote as young as one that is written now. False when it is
        gone."""
        ...

    def merge(self, asset: str, locator: str, files: int) -> TableCommit | None:
        """Write a body of many files once more in few. None when there is nothing worth doing;
        Damaged."""
        ...


class BlobBodies:
    """Bodies that are one blob each."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def files(self, locator: str) -> tuple[FileRef, ...]:
        digest = blob_of(locator)
        return (_file(digest, 0),) if digest else ()

    def commit(self, asset: Asset, run: RunAsset) -> TableCommit:  # noqa: ARG002
        staged = run.staged.get(ALL)
        if staged is None:
            locator = "" if ALL in run.removed else run.locator
        else:
            locator = staged.origin or f"{_BLOB}{staged.files[0].path}"
        return TableCommit(locator=locator, files=staged.files if staged else ())

    def confirm(self, run: RunAsset, done: TableCommit) -> None:
        digest = blob_of(done.locator)
        try:
            if digest:
                self._blobs.get(digest)
        except NotFound as error:
            raise Damaged(
                "SX-BLOB-004",
                f"the body of `{run.asset}` is gone: {error.message}",
                hint="restore it from a backup: sextant backup restore",
            ) from error

    def keep(self, file: FileRef) -> bool:
        return self._blobs.touch(file.path)

    def merge(self, asset: str, locator: str, files: int) -> TableCommit | None:  # noqa: ARG002
        return None


def blob_of(locator: str) -> str:
    """Return the digest of the blob that a locator names; "" for one of other bodies."""
    return locator.removeprefix(_BLOB) if locator.startswith(_BLOB) else ""


def blobs_of(locators: Iterable[str]) -> set[str]:
    """Return the blobs that are bodies of versions."""
    return {digest for locator in locators if (digest := blob_of(locator))}


def _file(digest: str, size: int, rows: int = 1) -> FileRef:
    return FileRef(path=digest, rows=rows, size_bytes=size, partitions=(ALL,), sha256=digest)


# ---------------------------------------------------------------- in a worker


def written(order: WorkOrder, body: bytes, *, rows: int = 1) -> PartOutput:
    """Store the body that a step made, in its worker, and return what its result says of it.

    rows  what the body counts as: files, resources, parameters
    """
    digest = LocalBlobs(Path(order.blobs)).put(body)
    file = _file(digest, len(body), rows)
    content = hashlib.sha256(body).hexdigest()
    return PartOutput(partition=ALL, digest=content, rows=rows, files=(file,))


def read(order: WorkOrder, ref: InputRef) -> bytes:
    """Return the body of an input that is one blob, in a worker. NotFound, Damaged."""
    files = [file for one in ref.sets for file in one.files]
    if not files:
        raise NotFound("SX-BLOB-005", f"`{ref.asset}` has no body", hint="run it first")
    return LocalBlobs(Path(order.blobs)).get(files[0].path)
