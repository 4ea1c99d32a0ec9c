"""The coordinator's side of loading: starts the loader process and reads its answer. Imports
nothing of the project."""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from sextant.kernel.errors import Bug, ProjectError
from sextant.kernel.limits import LOAD_TIMEOUT_S
from sextant.kernel.nouns import Manifest
from sextant.kernel.standby import StandBy
from sextant.project.bundle import digest_of, left_out, scan
from sextant.project.config import Config, read_config
from sextant.project.loaded import Answer, Files
from sextant.project.manifests import MANIFEST_VERSION

Loader = subprocess.Popen[bytes]


def standing_by() -> StandBy[Loader]:
    """Return what keeps a loader ready, for `load`: started, with its imports done."""
    return StandBy(
        lambda: _start([], None, subprocess.PIPE),
        end=_end,
        is_alive=lambda loader: loader.poll() is None,
    )


def load(
    root: Path,
    config: Config,
    *,
    timeout_s: float = LOAD_TIMEOUT_S,
    loader: Loader | None = None,
) -> Manifest:
    """Return the manifest of the project in folder `root`, with its bundle's digest, its files and
    its lock.

    loader  a process that has stood by; None = start one

    Raises ProjectError that lists every mistake with file, line and how to mend it; also for a
    project whose import takes longer than `timeout_s` seconds or takes the process down. The caller
    keeps its last good manifest.
    """
    files = scan(root, config.include, config.written)
    lock = lock_digest()
    with tempfile.TemporaryDirectory(prefix="sextant-load-") as folder:
        out = os.path.join(folder, "answer.json")
        listed = os.path.join(folder, "files.json")
        others = left_out(root, config.include, config.written)
        Path(listed).write_bytes(msgspec.json.encode(Files(files, tuple(others))))
        arguments = [str(root), config.module, out, listed]
        process = _told(loader, arguments) or _start(arguments, root, subprocess.DEVNULL)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            hint = "a project's files only declare: move downloads and computations into functions"
            raise ProjectError(
                "SX-LOAD-001",
                f"importing `{config.module}` took longer than {timeout_s:g} s",
                hint=hint,
                where=f"{config.module}:1",
            ) from error
        finally:
            _end(process)
        try:
            data = Path(out).read_bytes()
        except FileNotFoundError as error:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ProjectError(
                "SX-LOAD-002",
                f"importing `{config.module}` took the loader's process down ({how})",
                hint="what it printed stands above",
            ) from error
    answer = msgspec.json.decode(data, type=Answer)
    if answer.error is not None:
        kind = Bug if answer.error.code == "SX-LOAD-004" else ProjectError
        raise kind(
            answer.error.code,
            answer.error.message,
            hint=answer.error.hint,
            where=answer.error.where,
        )
    assert answer.manifest is not None
    return msgspec.structs.replace(answer.manifest, bundle=digest_of(files), files=files, lock=lock)


def unchanged(root: Path, manifest: Manifest) -> bool:
    """Say whether loading again would give this manifest: the project's files and the installed
    distributions are the same.

    Cost: reads the project's files, starts no process.
    """
    try:
        config = read_config(root)
        return (
            manifest.v == MANIFEST_VERSION
            and config.module == manifest.root
            and scan(root, config.include, config.written) == manifest.files
            and lock_digest() == manifest.lock
        )
    except ProjectError:
        return False


def lock_digest() -> str:
    """Return the digest of the interpreter and of the names and versions of everything installed
    beside it."""
    words = [platform.python_implementation(), platform.python_version(), *sorted(installed())]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def installed() -> set[str]:
    """Return what is installed beside the interpreter, as its folders say it:
    `polars-2.1.0.dist-info`."""
    found: set[str] = set()
    for entry in sys.path:
        with contextlib.suppress(OSError):
            found.update(
                name
                for name in os.listdir(entry or ".")
                if name.endswith((".dist-info", ".egg-info"))
            )
    return found


def python() -> str:
    """Return the interpreter as far as code is the same on it: `cpython 3.11`."""
    major, minor, _ = platform.python_version_tuple()
    return f"{platform.python_implementation().lower()} {major}.{minor}"


def _start(arguments: list[str], folder: Path | None, stdin: int) -> Loader:
    command = [sys.executable, "-P", "-m", "sextant.app.loader", *arguments]
    return subprocess.Popen(
        command, stdin=stdin, env=_environment(), cwd=folder, start_new_session=True
    )


def _told(loader: Loader | None, arguments: list[str]) -> Loader | None:
    """Tell a loader that stands by what to load. None where there is none, or it has just died."""
    if loader is None:
        return None
    assert loader.stdin is not None
    try:
        with loader.stdin as stdin:
            stdin.write(msgspec.json.encode(arguments) + b"\n")
    except OSError:
        _end(loader)
        return None
    return loader


def _environment() -> dict[str, str]:
    """Return the child's environment: it must find this very Sextant, also when that is not
    installed."""
    home = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    if home in inherited.split(os.pathsep) or "site-packages" in home or "dist-packages" in home:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, inherited]))}


def _end(process: Loader) -> None:
    """End the loader and whatever the project started from it."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)
    process.wait()
