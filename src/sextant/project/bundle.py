"""The bundle: a project's own files, content-addressed, so that a worker anywhere runs exactly this
code.

Packed by the platform, unpacked by executors. Names of folders and machines are no part of it.
"""

import fnmatch
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from sextant.kernel.errors import Damaged, ProjectError
from sextant.kernel.limits import (
    BUNDLE_BYTES_MAX,
    BUNDLE_FILES_MAX,
    PATH_CHARS_MAX,
    TEXT_FILE_BYTES_MAX,
)
from sextant.stores.files import create, make_folder
from sextant.stores.verified import digest_of as digest_of_file
from sextant.stores.verified import mark_of, memory, stamp

# What code and its settings are written in. Data stands in the lake; small data files are named by
# `include`.
SUFFIXES = frozenset(
    {
        ".py",
        ".pyi",
        ".sql",
        ".toml",
        ".j2",
        ".jinja",
        ".json",
        ".yaml",
        ".yml",
        ".txt",
        ".cfg",
        ".ini",
        ".html",
        ".css",
        ".js",
        ".sh",
    }
)
_NAME_BYTES_MAX = 255  # of one part of a path: what file systems take
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


def is_included(path: str) -> bool:
    """Say whether a file is in the bundle only if `include` names it."""
    return not path.endswith(tuple(SUFFIXES))


def scan(root: Path, include: Iterable[str] = (), exclude: Iterable[Path] = ()) -> dict[str, str]:
    """Return path (below `root`, with /) -> digest of every file of the bundle, sorted.
    ProjectError beyond the limits.

    include  globs of further files;  exclude  files and folders that are no part of it
    """
    return {
        path: hashlib.sha256(data).hexdigest()
        for path, data in _files(root, tuple(include), tuple(exclude))
    }


def left_out(root: Path, include: Iterable[str] = (), exclude: Iterable[Path] = ()) -> list[str]:
    """Return the first files of the project's folder, by path, that are no part of its bundle:
    data that `include` does not name."""
    top, globs = os.path.realpath(root), tuple(include)
    paths = _walk(top, _resolved(top, exclude))
    return sorted(path for path in paths if not _belongs(path, globs))[:BUNDLE_FILES_MAX]


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a bundle: over its sorted paths and digests."""
    sha = hashlib.sha256(b"sextant-bundle-1\n")
    for path in sorted(files):
        sha.update(f"{path}\0{files[path]}\n".encode())
    return sha.hexdigest()


def pack(
    root: Path, include: Iterable[str] = (), exclude: Iterable[Path] = ()
) -> tuple[str, bytes]:
    """Return the digest and the bytes (a zip, the same for the same files) of the bundle below
    `root`; `include` and `exclude` as for `scan`."""
    return pack_files(_files(root, tuple(include), tuple(exclude)))


def pack_files(found: Iterable[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the digest and the bytes of the bundle of some files: (path, content), sorted by
    path."""
    out = io.BytesIO()
    files: dict[str, str] = {}
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_STORED
    ) as archive:  # stored: the same bytes under every zlib
        for path, data in found:
            files[path] = hashlib.sha256(data).hexdigest()
            entry = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return digest_of(files), out.getvalue()


def read_packed(data: bytes, paths: Collection[str]) -> dict[str, bytes]:
    """Return path -> content of some files of a packed bundle that was stored here. Damaged for
    bytes that are no bundle."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {path: archive.read(path) for path in paths}
    except (zipfile.BadZipFile, KeyError) as error:
        raise Damaged("SX-BUNDLE-003", f"the bundle cannot be read: {error}") from error


def is_path(name: str) -> bool:
    """Say whether a text can be the path of a bundle's file: relative, below its folder, with
    nothing in it that a file system or a digest could take for something else."""
    return (
        bool(name)
        and len(name.encode(errors="surrogatepass")) <= PATH_CHARS_MAX
        and not re.search("[\\\\:\x00-\x1f\x7f\ud800-\udfff]", name)
        and all(
            part not in ("", ".", "..") and len(part.encode()) <= _NAME_BYTES_MAX
            for part in name.split("/")
        )
    )


def unpack(data: bytes, into: Path) -> str:
    """Write the files of a packed bundle into the folder `into`, all or nothing and read-only, and
    return the bundle's digest.

    A folder that holds something is left as it is (another worker was faster). Damaged for bytes
    that are no bundle, for paths that lead out of the folder, for links, and beyond the limits.
    """
    files: dict[str, str] = {}
    make_folder(str(into.parent))
    folder = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if (
                len(entries) > BUNDLE_FILES_MAX
                or sum(entry.file_size for entry in entries) > BUNDLE_BYTES_MAX
            ):
                raise Damaged(
                    "SX-BUNDLE-003",
                    f"the bundle holds {len(entries)} files, more or larger than a bundle may be",
                )
            for entry in entries:
                _check_entry(entry, files)
                content = archive.read(entry)
                files[entry.filename] = hashlib.sha256(content).hexdigest()
                target = folder / entry.filename
                make_folder(str(target.parent))
                with open(create(str(target), final=True), "wb") as file:
                    file.write(content)
        if into.is_dir() and not any(into.iterdir()):
            into.rmdir()
        try:
            folder.rename(into)
        except OSError:
            if not into.is_dir():
                raise
    except zipfile.BadZipFile as error:
        raise Damaged("SX-BUNDLE-003", f"the bundle cannot be read: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return digest_of(files)


def is_unpacked(folder: Path, digest: str) -> bool:
    """Say whether a folder holds exactly the files of a bundle: none changed, none more or less, no
    link. They are hashed only when one may have changed since they were last compared.

    Cost  10 us for each file that did not change
    """
    stamps: list[bytes] = []
    newest, looked_ns = 0, memory().clock.now_ns()
    paths: dict[str, str] = {}
    try:
        if folder.is_symlink():
            return False
        for path, place, status in _entries(str(folder)):
            stamps.append(path.encode() + stamp(status))
            newest = max(newest, status.st_ctime_ns)
            paths[path] = place
        mark = mark_of(f"bundle {digest}", *stamps)
        if memory().holds(mark):
            return True
        if digest_of({path: digest_of_file(place)[0] for path, place in paths.items()}) != digest:
            return False
    except (OSError, ValueError):  # gone, or what no bundle holds
        return False
    memory().add(mark, changed_ns=newest, looked_ns=looked_ns)
    return True


def _entries(top: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path below the folder, place and status of each file, sorted within its folder.
    ValueError for links and devices, and for more files than a bundle may have."""
    count, stack = 0, [top]
    while stack:
        folder = stack.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            count += 1
            if count > 2 * BUNDLE_FILES_MAX:  # folders count too
                raise ValueError(folder)
            if stat.S_ISDIR(status.st_mode):
                stack.append(entry.path)
            elif stat.S_ISREG(status.st_mode):
                path = os.path.relpath(entry.path, top).replace(os.sep, "/")
                yield path, entry.path, status
            else:
                raise ValueError(entry.path)


def _check_entry(entry: zipfile.ZipInfo, seen: Mapping[str, str]) -> None:
    name = entry.filename
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if name in seen or is_link or not is_path(name):
        raise Damaged(
            "SX-BUNDLE-003", f"the bundle holds `{name}`, which is no file below its folder"
        )


def _files(
    root: Path, include: tuple[str, ...], exclude: tuple[Path, ...]
) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) of the bundle's files, sorted by path."""
    top = os.path.realpath(root)
    paths = sorted(path for path in _walk(top, _resolved(top, exclude)) if _belongs(path, include))
    if len(paths) > BUNDLE_FILES_MAX:
        raise ProjectError(
            "SX-BUNDLE-001",
            f"the project has {len(paths)} files",
            hint=f"at most {BUNDLE_FILES_MAX}: keep environments and data out of its folder",
            where=paths[0],
        )
    total = 0
    for path in paths:
        full = os.path.join(top, path)
        size = os.path.getsize(full)
        total += size
        if size > TEXT_FILE_BYTES_MAX or total > BUNDLE_BYTES_MAX:
            hint = (
                f"a file may have {TEXT_FILE_BYTES_MAX >> 20} MiB, all together "
                f"{BUNDLE_BYTES_MAX >> 20}; data belongs outside of the project's folder"
            )
            raise ProjectError(
                "SX-BUNDLE-002",
                f"`{path}` makes the project's bundle too large ({size:,} bytes)",
                hint=hint,
                where=path,
            )
        with open(full, "rb") as file:
            yield path, file.read()


def _resolved(top: str, exclude: Iterable[Path]) -> frozenset[str]:
    return frozenset(os.path.realpath(path) for path in exclude) - {top}


def _belongs(path: str, include: tuple[str, ...]) -> bool:
    return not is_included(path) or any(fnmatch.fnmatchcase(path, glob) for glob in include)


def _walk(top: str, exclude: frozenset[str]) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and os.path.join(folder, name) not in exclude
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        for name in names:
            full = os.path.join(folder, name)
            if name.startswith(".") or full in exclude or not os.path.isfile(full):
                continue
            if os.path.islink(full) and not os.path.realpath(full).startswith(top + os.sep):
                continue  # a link out of the project is not the project's file
            yield os.path.relpath(full, top).replace(os.sep, "/")
