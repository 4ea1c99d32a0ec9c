"""Unpacked bundles: folders with exactly the files of a bundle, in which steps work."""

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sextant.kernel.errors import Damaged
from sextant.kernel.limits import BUNDLE_COPIES_MAX
from sextant.kernel.ports import Blobs, State
from sextant.project import bundle
from sextant.project.current import CurrentProject
from sextant.stores.files import locked

_UNPACKED_MAX = 3  # how often a bundle is unpacked before a changed one is an error
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Bundles:
    """The unpacked bundles of one project. Any thread, several processes."""

    def __init__(self, project: CurrentProject, state: State, blobs: Blobs) -> None:
        self._project, self._state, self._blobs = project, state, blobs
        self._config = project.config
        self._folder = project.folder / "bundles"

    def folder(self, digest: str) -> Path:
        """Return a folder that holds the unpacked bundle. Nothing keeps it: a step works in one
        of `unpacked`."""
        with self.unpacked(digest) as folder:
            return folder

    @contextmanager
    def unpacked(self, digest: str) -> Iterator[Path]:
        """Yield a folder that holds exactly the files of a bundle; no process removes it until the
        block ends. Unpacked when it is missing. A folder that was changed, or has one more file, is
        left to the runs that work in it: the bundle is unpacked beside it as `<digest>-<n>`.

        Raises  Damaged when the blob of the bundle is not what was recorded, or each new folder was
                changed at once
        """
        taken = self._take_bundle(digest)
        for _ in range(_UNPACKED_MAX):
            if taken is not None:
                break
            taken = self._unpack_beside(digest)
        if taken is None:
            folder = self._folder / digest
            raise Damaged(
                "SX-BUNDLE-004",
                f"the unpacked code in `{folder}` is changed by somebody as soon as it is written",
                hint="see who writes below .sextant, and run again",
            )
        folder, held = taken
        try:
            with contextlib.suppress(PermissionError):  # another user's
                os.utime(folder)  # it is in use: see collect_bundles
            yield folder
        finally:
            os.close(held)

    def _take_bundle(self, digest: str) -> tuple[Path, int] | None:
        """Return the newest folder that is exactly the bundle, and a descriptor that holds a shared
        lock on it; None when there is none."""
        for folder in self._bundle_copies(digest):
            try:
                held = os.open(folder, _FOLDER)
            except OSError:  # gone, or a link
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                is_same = bundle.is_unpacked(folder, digest) and os.path.samestat(
                    os.fstat(held), os.lstat(folder)
                )
            except OSError:  # being removed
                is_same = False
            if is_same:
                return folder, held
            os.close(held)
        return None

    def _unpack_beside(self, digest: str) -> tuple[Path, int] | None:
        """Unpack a bundle into a folder of its own, unless another process was first, and take
        it. Of folders that are not the bundle any more, the newest few stay: see
        BUNDLE_COPIES_MAX."""
        bundles = self._folder
        temporary = bundles / f".{digest}.{os.getpid()}-{threading.get_ident()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self.unpack(digest, temporary)
            with locked(bundles):
                taken = self._take_bundle(digest)
                if taken is None:
                    copies = self._bundle_copies(digest)
                    # never a name that is taken: a worker knows its modules by their folder
                    number = max(map(_copy_number, copies), default=-1) + 1
                    temporary.rename(bundles / (f"{digest}-{number}" if number else digest))
                    taken = self._take_bundle(digest)
                    for old in copies[BUNDLE_COPIES_MAX - 1 :]:
                        self._remove_unused(old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return taken

    def _bundle_copies(self, digest: str) -> list[Path]:
        """Return what stands where a bundle is unpacked, newest first: `<digest>` and
        `<digest>-<n>`."""
        bundles = self._folder
        copies = [path for path in bundles.glob(f"{digest}-*") if _copy_number(path)]
        if os.path.lexists(bundles / digest):
            copies.append(bundles / digest)
        return sorted(copies, key=_copy_number, reverse=True)

    def collect(self, older_than_ns: int) -> int:
        """Delete unpacked bundles that were last used before an instant (ns, the file system's
        clock) and that no process holds, and return the bytes freed. The bundles of the newest
        manifest and of this process's stay while they are what was packed; one that is wanted again
        is unpacked again."""
        keep = {manifest.bundle for manifest in self._project.manifests()}
        freed = 0
        for folder in sorted((self._folder).glob("*")):
            with contextlib.suppress(FileNotFoundError):  # another process was first
                if folder.lstat().st_mtime_ns >= older_than_ns:
                    continue
                digest = folder.name.partition("-")[0]
                if digest in keep and bundle.is_unpacked(folder, digest):
                    continue
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                if self._remove_unused(folder):
                    freed += size
        return freed

    def _remove_unused(self, folder: Path) -> bool:
        """Remove an unpacked bundle, or what stands in its place, unless a process holds it. Say
        whether it did."""
        try:
            held = os.open(folder, _FOLDER)
        except FileNotFoundError:
            return False
        except OSError:  # a link or a file: no step works in it
            self._remove_bundle(folder)
            return True
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_bundle(folder)
        except OSError:
            return False
        finally:
            os.close(held)
        return True

    def _remove_bundle(self, folder: Path) -> None:
        """Remove an unpacked bundle, or what stands in its place."""
        gone = folder.with_name(f".gone.{os.getpid()}-{threading.get_ident()}.{folder.name}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)  # first out of the way: nobody may find half a bundle
            if gone.is_symlink() or not gone.is_dir():
                gone.unlink()
            shutil.rmtree(gone, ignore_errors=True)

    def _packed(self, digest: str) -> bytes:
        return self._blobs.get(self._project.packed(digest))

    def unpack(self, digest: str, folder: Path) -> None:
        """Unpack a bundle into a folder, from the project's files or from its blob. Damaged when
        the blob is not the bundle that was recorded."""
        got, packed = bundle.pack(self._project.root, self._config.include, self._config.written)
        unpacked = bundle.unpack(packed if got == digest else self._packed(digest), folder)
        if unpacked != digest:
            raise Damaged(
                "SX-BUNDLE-003",
                f"what is stored as bundle `{digest[:12]}` is another one",
                hint="restore it from a backup: sextant backup restore",
            )


def _copy_number(folder: Path) -> int:
    """Return n of an unpacked bundle `<digest>-<n>`; 0 of the first, `<digest>`."""
    number = folder.name.partition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0
