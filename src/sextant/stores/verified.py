"""Compares files with the SHA-256 that was recorded when they were written, and remembers which
matched.

A file that was verified is not read again while device, inode, size, ctime and mtime are as they
were: one look at the file, one read of 32 bytes. A write to it changes ctime, which no program can
set. Writes through a shared mapping do so once only until the kernel has written the page to the
disk, some 30 s later: so a file is remembered a while after its last change. Who keeps a mapping of
it open from before can still keep a page unwritten for longer: only a full check finds that. The
memory is a table of fixed size in the user's cache folder, one for all projects of the
user on this machine: copied projects have other inodes, and who can write a project's folder but
not the user's own cannot make it say anything. It holds digests only: what was torn, overwritten or
lost matches nothing, and the file is hashed again.
"""

import contextlib
import functools
import hashlib
import os
import struct
from pathlib import Path

from sextant.kernel.clock import Clock, SystemClock
from sextant.kernel.limits import VERIFIED_FILES_MAX, VERIFIED_SETTLED_NS

_MARK_BYTES = 32
_WAYS = 4  # places in which one mark may stand
_BUCKET_BYTES = _MARK_BYTES * _WAYS
_BUCKETS = VERIFIED_FILES_MAX // _WAYS
_HASHED_MAX = 3  # a file may be touched while it is hashed; one that changes each time is refused


class Verified:
    """The memory in one file. Safe for several threads and processes: marks are written whole, and
    the last writer of a place wins. Where the file cannot be written, nothing is remembered."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.clock = clock
        self._file: int | None = None
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def holds(self, mark: bytes) -> bool:
        """Say whether what the mark stands for was verified."""
        if self._file is None:
            return False
        try:
            bucket = os.pread(self._file, _BUCKET_BYTES, _offset(mark))
        except OSError:
            return False
        places = range(0, len(bucket), _MARK_BYTES)
        return any(bucket[at : at + _MARK_BYTES] == mark for at in places)

    def add(self, mark: bytes, *, changed_ns: int, looked_ns: int) -> None:
        """Remember a mark, in place of another where there is no room.

        changed_ns  ctime of the newest file that the mark stands for. Of a file that was changed
                    shortly before it was hashed nothing is remembered: a second change may have the
                    same ctime.
        looked_ns   the clock before the hashing began
        """
        if self._file is None or looked_ns - changed_ns < VERIFIED_SETTLED_NS:
            return
        way = mark[-1] % _WAYS
        with contextlib.suppress(OSError):
            os.pwrite(self._file, mark, _offset(mark) + way * _MARK_BYTES)


def _offset(mark: bytes) -> int:
    return int.from_bytes(mark[:8], "big") % _BUCKETS * _BUCKET_BYTES


def stamp(status: os.stat_result) -> bytes:
    """Return what tells whether a file may have changed, without its content."""
    return struct.pack(
        "<3Q2q",
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_ctime_ns,
        status.st_mtime_ns,
    )


def mark_of(digest: str, *stamps: bytes) -> bytes:
    """Return the mark of some files, by their stamps, that have a digest together."""
    sha = hashlib.sha256()
    for part in (digest.encode(), *stamps):
        sha.update(len(part).to_bytes(4, "big"))
        sha.update(part)
    return sha.digest()


@functools.cache
def memory() -> Verified:
    """Return this user's memory."""
    import platformdirs

    return Verified(Path(platformdirs.user_cache_dir("sextant")) / "verified", SystemClock())


def is_as_written(place: str, sha256: str) -> bool:
    """Say whether a file has these bytes: see `compared`."""
    return compared(place, sha256) is not None


def compared(place: str, sha256: str) -> bytes | None:
    """Return the stamp of a file that has these bytes, else None; hashed only when it may have
    changed since it was last verified. What is read while the file has that stamp, before and
    after, is what was written. FileNotFoundError, OSError.

    Cost  12 us for a file that did not change, else 1 ms for each MiB
    """
    known = memory()
    looked = stamp(os.stat(place))
    if known.holds(mark_of(sha256, looked)):
        return looked
    looked_ns = known.clock.now_ns()
    read = hashed(place, sha256)
    if read is None:
        return None
    found = stamp(read)
    known.add(mark_of(sha256, found), changed_ns=read.st_ctime_ns, looked_ns=looked_ns)
    return found


def hashed(place: str, sha256: str) -> os.stat_result | None:
    """Hash a file whatever was remembered. Return its status when it has this digest, else None;
    None also for one that was changed each time while it was read."""
    for _ in range(_HASHED_MAX):
        digest, status = digest_of(place)
        if digest != sha256:
            return None
        if stamp(os.stat(place)) == stamp(status):
            return status
    return None


def digest_of(place: str) -> tuple[str, os.stat_result]:
    """Return a file's hex SHA-256, and its status from before it was read."""
    with open(place, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, status
