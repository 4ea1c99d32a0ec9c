"""The port `Blobs`, against every backend."""

import os
import threading
from pathlib import Path

import pytest

from sextant.kernel.errors import Damaged, NotFound, StorageError, UsageError
from sextant.stores import files
from sextant.stores.blobs.local import LocalBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def test_what_was_put_comes_back(blobs: LocalBlobs) -> None:
    """Bytes would be lost, changed or filed under another name than their digest."""
    for data in (b"", b"abc", os.urandom(100_000)):
        digest = blobs.put(data)
        assert blobs.put(data) == digest
        assert blobs.has(digest)
        assert blobs.get(digest) == data
    assert blobs.put(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_unknown_and_deleted_blobs_are_not_found(blobs: LocalBlobs) -> None:
    """Erased evidence would still be served, or a missing blob would be an empty one."""
    digest = blobs.put(b"sample")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.has(digest)
    with pytest.raises(NotFound, match=digest):
        blobs.get(digest)


def test_a_changed_blob_is_damaged_and_mends_when_put_again(blobs: LocalBlobs) -> None:
    """Bit rot would be handed out as evidence, and putting the right bytes again would not repair
    it."""
    digest = blobs.put(b"evidence")
    Path(blobs._path(digest)).chmod(0o600)
    Path(blobs._path(digest)).write_bytes(b"evidencf")
    with pytest.raises(Damaged):
        blobs.get(digest)
    assert blobs.put(b"evidence") == digest
    assert blobs.get(digest) == b"evidence"


def test_a_digest_is_no_path(blobs: LocalBlobs) -> None:
    """A crafted digest would read files outside the store."""
    with pytest.raises(UsageError):
        blobs.get("../../etc/passwd")


def test_a_failed_write_leaves_no_blob(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would leave half a blob under its final name."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        blobs.put(b"x" * 1000)
    assert caught.value.code == "SX-FILE-001" or "disk" in caught.value.message
    monkeypatch.undo()
    assert [name for _, _, names in os.walk(blobs.root) for name in names] == []


def test_many_threads_put_the_same_bytes(blobs: LocalBlobs) -> None:
    """Two writers of one blob would see each other's temporary file."""
    data = os.urandom(50_000)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(blobs.put(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert blobs.get(found[0]) == data


def test_collection_leaves_what_is_named_again(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, rows that are put while garbage is collected, and were there before, are
    deleted under the write that names them."""
    old, other = blobs.put(b"rows of yesterday"), blobs.put(b"garbage")
    for digest in (old, other):
        os.utime(blobs._path(digest), ns=(1, 1))
    real = os.replace

    def overtaken(source: str, target: str) -> None:
        if source == blobs._path(old):
            monkeypatch.setattr(files.os, "replace", real)
            assert blobs.put(b"rows of yesterday") == old
        real(source, target)

    monkeypatch.setattr(files.os, "replace", overtaken)
    assert blobs.collect((), older_than_ns=2) == len(b"garbage")
    assert blobs.get(old) == b"rows of yesterday"
    assert not blobs.has(other)
    os.utime(blobs._path(old), ns=(1, 1))
    assert blobs.put(b"rows of yesterday") == old
    assert blobs.collect((), older_than_ns=2) == 0
    os.utime(blobs._path(old), ns=(1, 1))
    assert blobs.touch(old)
    assert blobs.collect((), older_than_ns=2) == 0
    assert not blobs.touch(other)
