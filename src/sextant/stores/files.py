"""Writes local files durably: the only module that joins paths, syncs, and turns a full disk into
an error.

Used by the lake and the blob store. Paths inside stored data are relative to a root and use `/`;
only `join` makes a place on this machine of them, so another backend replaces this module and
nothing else.
"""

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sextant.kernel.errors import Damaged, StorageError

# suffix of a file that is being written; collected as garbage when it stays behind
TEMPORARY = ".part"
_DELETED = ".deleted"  # of one that is being deleted


def join(root: Path | str, *parts: str) -> str:
    """Return the place of a stored path on this machine."""
    return os.path.join(os.fspath(root), *parts)


def read(path: str, *, what: str) -> bytes:
    """Return a file's bytes. Damaged when it is gone: stored data never goes away by itself."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise Damaged(
            "SX-FILE-002",
            f"{what} `{path}` is missing",
            hint="restore it from a backup: sextant backup restore",
        ) from error
    except OSError as error:
        raise refused(error, path) from error


def write(path: str, data: bytes, *, whole: bool, final: bool = False) -> None:
    """Write a new file and sync it (not its folder: see `sync_folder`).

    whole   True for files that others find by looking into the folder: they appear complete or not
            at all
    final   it is never changed again: see `create`
    Raises  StorageError on a full disk; what was begun is removed, or stays as a file that nothing
            names.
    """
    # two writers of one name must not share a temporary file
    target = f"{path}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}" if whole else path
    try:
        descriptor = create(target, final=final)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if whole:
            os.replace(target, path)
    except OSError as error:
        remove(target)
        raise refused(error, path) from error


def create(path: str, *, final: bool = False) -> int:
    """Create a file, in place of one of that name, and return its descriptor, for writing. Nobody
    can read it who cannot read its folder, whatever the umask is: 0600 in a folder of 0700.

    final  it is never changed again: 0400, and only this descriptor can write
    """
    mode = os.stat(os.path.dirname(path) or ".").st_mode & (0o444 if final else 0o666)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags, mode)
    remove(path)  # what a killed writer left; a read-only file cannot be emptied
    return os.open(path, flags, mode)


def tighten(folder: Path) -> None:
    """Take from everything below a folder the permissions that the folder itself does not give:
    what an older version, another library or a copy left open. Links are left alone.

    Cost  a look at each entry of the folder; at all below one that was open
    """
    allowed = folder.stat().st_mode & 0o777
    with os.scandir(folder) as entries:
        for entry in entries:
            _tighten(entry.path, allowed)


def _tighten(path: str, allowed: int) -> None:
    try:
        status = os.lstat(path)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode) or not mode & 0o077 & ~allowed:
            return
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                for entry in entries:
                    _tighten(entry.path, allowed)
        os.chmod(path, mode & (allowed | 0o7700))  # a folder last: cut short, it is done again
    except (FileNotFoundError, PermissionError):  # another process's, or another user's
        return


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise refused(error, path) from error


def make_folder(path: str) -> None:
    """Create a folder with its parents, each durable in its parent and no more open than it. Does
    nothing when it is there."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent)
    try:
        os.mkdir(path, os.stat(parent or ".").st_mode & 0o777)
    except FileExistsError:
        return  # another writer was faster
    except OSError as error:
        raise refused(error, path) from error
    sync_folder(parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes for what lies at `path`: a file `NAME.lock` beside
    it, which stays. The lock ends with the block, or with the process."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise refused(error, os.fspath(path)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        return


def touch(path: str) -> bool:
    """Make a file as young as one that is written now, so that `delete_old` leaves it. False when
    it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(error, path) from error
    return True


def delete_old(path: str, older_than_ns: int) -> int:
    """Delete a file that was last touched before `older_than_ns`. Returns its size, 0 when it stays
    or is gone already.

    It is renamed first and looked at again: a writer that touched it between look and deletion, to
    name it again, gets it back.
    """
    try:
        if os.stat(path).st_mtime_ns >= older_than_ns:
            return 0
        aside = path if path.endswith(_DELETED) else f"{path}.{os.getpid()}{_DELETED}"
        os.replace(path, aside)
        status = os.stat(aside)
        if status.st_mtime_ns >= older_than_ns:
            os.replace(aside, path)
            return 0
        os.unlink(aside)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise refused(error, path) from error
    return status.st_size


def refused(error: OSError, path: str) -> StorageError:
    """Return the error for what the disk said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            "SX-FILE-001",
            f"the disk is full: `{path}` could not be written",
            hint="free some space, then run the same command again",
        )
    return StorageError(
        "SX-FILE-003",
        f"the disk refused `{path}`: {error.strerror or error}",
        hint="check the disk and its permissions: sextant doctor",
    )
