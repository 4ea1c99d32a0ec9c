"""Brings what the folder here has of the project to the server that a command works at."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sextant.cli.output import say, short
from sextant.kernel.errors import NotFound, ProjectError, WorldError
from sextant.kernel.limits import UPLOAD_BYTES_MAX, UPLOAD_ROUNDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sextant.app.operations import Platform
    from sextant.kernel.answers import Uploaded


def bring(p: "Platform", env: str, *, pinned: bool, break_glass: str = "") -> str:
    """Upload what is missing at the server of the project in this folder, and return its version.
    "" where the command works on a folder itself, by what is in force, or outside of a project:
    what the server's own folder has is meant then.

    Raises  ProjectError for files that cannot be uploaded, with nothing sent; what the server says
    """
    root = click.get_current_context().find_root().obj
    if pinned or not root["server"]:
        return ""
    from sextant.project.config import find_config, read_config

    try:
        folder = find_config(Path(root["project"]) if root["project"] else Path.cwd())
    except NotFound:
        return ""
    from sextant.project import bundle, loading
    from sextant.project.versions import commit_of

    config = read_config(folder)
    files = bundle.scan(folder, config.include, config.written)
    wrong = sorted(path for path in files if not bundle.is_path(path))
    if wrong:
        raise ProjectError(
            "SX-UPLOAD-015",
            f"{wrong[0]!a} cannot be uploaded by this name",
            hint="rename it: without backslash, colon and control characters, in UTF-8",
        )
    commit, uncommitted = commit_of(folder)
    offer: dict[str, Any] = {
        "files": files,
        "python": loading.python(),
        "installed": sorted(loading.installed()),
        "commit": commit,
        "uncommitted": uncommitted,
        "break_glass": break_glass,
        "env": env,
    }
    done = p.upload(**offer)
    for _ in range(UPLOAD_ROUNDS_MAX):
        if not done.missing:
            break
        done = _send(p, folder, offer, done.missing)
    else:
        raise WorldError(
            "SX-UPLOAD-016",
            f"the server still lacks {len(done.missing)} files that it was sent",
            hint="it was started again meanwhile, or others upload as well: try again",
        )
    for note in done.notes:
        say(f"note   {note}")
    return done.version


def _send(
    p: "Platform", folder: Path, offer: dict[str, Any], missing: "Sequence[str]"
) -> "Uploaded":
    """Send the contents that are missing. Nothing is sent of files that hold what looks like a
    secret."""
    from sextant.project.secret_patterns import refuse_secrets

    of = {digest: path for path, digest in offer["files"].items()}
    paths = {of[digest]: digest for digest in missing if digest in of}
    contents = {path: _read(folder, path, digest) for path, digest in paths.items()}
    refuse_secrets(contents)
    for some in _requests(contents):
        done = p.upload(**offer, contents={paths[path]: content for path, content in some.items()})
    if done.version:
        words = "1 file" if len(paths) == 1 else f"{len(paths):,} files"
        size = sum(map(len, contents.values()))
        say(f"uploaded {words} of {len(offer['files']):,}, {size:,} bytes: {short(done.version)}")
    return done


def _requests(contents: dict[str, bytes]) -> "Iterator[dict[str, bytes]]":
    """Yield path -> content, as many files together as one request may have."""
    for path, content in contents.items():
        if len(content) > UPLOAD_BYTES_MAX:
            raise ProjectError(
                "SX-UPLOAD-017",
                f"`{path}` is too large to be uploaded ({len(content):,} bytes)",
                hint=f"a file may have {UPLOAD_BYTES_MAX >> 20} MiB; data belongs outside of the "
                "project's folder",
                where=path,
            )
    some: dict[str, bytes] = {}
    for path, content in contents.items():
        if some and sum(map(len, some.values())) + len(content) > UPLOAD_BYTES_MAX:
            yield some
            some = {}
        some[path] = content
    yield some


def _read(folder: Path, path: str, digest: str) -> bytes:
    import hashlib

    content = (folder / path).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ProjectError(
            "SX-PROJ-090", "the project's files changed while they were read", hint="run again"
        )
    return content
