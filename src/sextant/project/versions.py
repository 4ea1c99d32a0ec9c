"""The versions of the project, and which of them each environment has.

A version is what the project is at one moment: its files, and what is installed; manifest and rules
follow from these. Its pointer in an environment is what is in force there.
"""

import contextlib
import hashlib
import subprocess
import tempfile
import threading
from pathlib import Path

import msgspec

from sextant.kernel.errors import NotFound, ProjectError
from sextant.kernel.limits import GIT_TIMEOUT_S, LOAD_TIMEOUT_S, UNCOMMITTED_SHOWN_MAX
from sextant.kernel.nouns import Manifest, Version
from sextant.kernel.ports import Blobs, State
from sextant.ledger.projections import VersionCreated
from sextant.project import bundle, loading
from sextant.project.config import read_config
from sextant.project.manifests import MANIFEST_VERSION, read_manifest

PROJECT = "project"  # the kind, and what is released by itself: everything else stands on it
_MANIFESTS_KEPT = 64


class ProjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform knows of a version of the project: `Version.spec`.

    manifest     digest of the stored manifest
    bundle       digest of its files
    packed       digest of the stored, packed files
    lock         digest of the interpreter and of what was installed
    commit       of git, when this version was first loaded; "" = the folder is in no repository
    uncommitted  the first files that differed from that commit then
    """

    manifest: str
    bundle: str
    packed: str
    lock: str
    commit: str = ""
    uncommitted: tuple[str, ...] = ()


def project_id(name: str) -> str:
    """Return the id of a project as an asset."""
    return f"{PROJECT}:{name}"


def version_digest(manifest: Manifest) -> str:
    """Return the digest of the version that a manifest is of."""
    return version_of(manifest.bundle, manifest.lock)


def version_of(bundle: str, lock: str) -> str:
    """Return the digest of the version with these files and this environment."""
    return hashlib.sha256(f"{PROJECT}-1\n{bundle}\n{lock}\n".encode()).hexdigest()


class ProjectVersions:
    """Reads which version each environment has, and what it declares. Any thread."""

    def __init__(self, state: State, blobs: Blobs) -> None:
        self._state, self._blobs = state, blobs
        # by version: as recorded, and as it is with what is installed now
        self._stored: dict[str, Manifest] = {}
        self._runnable: dict[str, Manifest] = {}
        self._lock = threading.Lock()

    def pinned(self, env: str, project: str) -> str:
        """Return the version that an environment has, its own or its parent's; "" if none."""
        rows = self._state.read("pointer_get", (env, project_id(project)))
        return str(rows[0][0]) if rows else ""

    def is_known(self, project: str, digest: str) -> bool:
        """Say whether a version is recorded."""
        return bool(self._state.read("version_get", (project_id(project), digest)))

    def recorded_at(self, project: str, digest: str) -> int:
        """Return when a version was recorded first (ns); 0 if it was not."""
        rows = self._state.read("version_get", (project_id(project), digest))
        return int(rows[0][4]) if rows else 0

    def version(self, project: str, digest: str) -> ProjectVersion:
        """Return what is known of a version. NotFound."""
        rows = self._state.read("version_get", (project_id(project), digest))
        if not rows:
            raise NotFound(
                "SX-VERSION-001",
                f"`{project_id(project)}` has no version `{digest[:12]}`",
                hint=f"`sextant versions {project_id(project)}` lists them",
            )
        spec = msgspec.json.decode(rows[0][0], type=Version).spec
        return msgspec.json.decode(spec, type=ProjectVersion)

    def bundle(self, project: str, digest: str) -> str:
        """Return the stored, packed files of a bundle, by the bundle's digest. NotFound."""
        for row in self._state.read("versions", (project_id(project), 1 << 62, 1 << 30)):
            found = msgspec.json.decode(
                msgspec.json.decode(row[1], type=Version).spec, type=ProjectVersion
            )
            if found.bundle == digest:
                return found.packed
        raise NotFound("SX-PROJ-091", f"the bundle `{digest[:12]}` is not stored any more")

    def declared(self, project: str, digest: str) -> Manifest:
        """Return what a version declares, as it was recorded: its rules, people and assets.
        NotFound for an unknown version, or one that is not stored any more."""
        found = self._stored.get(digest)
        if found is None:
            known = self.version(project, digest)
            if self._blobs.has(known.manifest):
                found = read_manifest(self._blobs.get(known.manifest))
            else:
                found = self._recovered(known, digest)
            _remember(self._stored, digest, found)
        return found

    def _recovered(self, known: ProjectVersion, digest: str) -> Manifest:
        """Return what a version declares whose manifest is lost, from its files: these say all of
        it. NotFound without them."""
        if self._blobs.has(known.packed):
            found = load_packed(self._blobs.get(known.packed))
            if found.bundle == known.bundle:
                return msgspec.structs.replace(found, lock=known.lock)
        raise NotFound(
            "SX-PROJ-100",
            f"version `{digest[:12]}` of the project is not stored any more",
            hint="bring it again: run from its files, or `sextant backup restore`; or release "
            "another one",
        )

    def is_stored(self, project: str, digest: str) -> bool:
        """Say whether a version is recorded and has not expired, with its files."""
        rows = self._state.read("version_get", (project_id(project), digest))
        if not rows or rows[0][2]:
            return False
        return self._blobs.has(self.version(project, digest).packed)

    def blobs(self) -> set[str]:
        """Return the blobs of all versions of the project that have not expired."""
        found: set[str] = set()
        for asset, digest, *_ in self._state.read("versions_kept"):
            if asset.startswith(f"{PROJECT}:"):
                known = self.version(asset.removeprefix(f"{PROJECT}:"), digest)
                found |= {known.manifest, known.packed}
        return found

    def created(self, project: str, digest: str, spec: ProjectVersion) -> VersionCreated:
        """Return the body of the event by which a version is recorded."""
        return VersionCreated(
            Version(
                asset=project_id(project),
                digest=digest,
                locator=f"blob:{spec.packed}",
                spec=msgspec.Raw(msgspec.json.encode(spec)),
            )
        )

    def manifest(self, project: str, digest: str) -> Manifest:
        """Return what a version declares, with its code as it is with what is installed now: to
        make something by it.

        Raises  NotFound as `declared`; ProjectError when it cannot be loaded with what is installed
                now
        """
        with self._lock:
            found = self._runnable.get(digest)
            if found is None:
                found = self.declared(project, digest)
                if found.v != MANIFEST_VERSION or found.lock != loading.lock_digest():
                    found = self._loaded_again(self.version(project, digest), found, digest)
                _remember(self._runnable, digest, found)
            return found

    def _loaded_again(self, known: ProjectVersion, stored: Manifest, digest: str) -> Manifest:
        """Return a version's manifest as it is with what is installed now, or with this Sextant:
        the keys of the memo say what code really ran. Rules, people and environments stay those
        that were released."""
        try:
            again = load_packed(self._blobs.get(known.packed))
        except ProjectError as error:
            raise ProjectError(
                "SX-PROJ-095",
                f"version `{digest[:12]}` of the project cannot be loaded with what is "
                f"installed now: {error.message}",
                hint="install what it needs, or release a version that does without",
                where=error.where,
            ) from error
        return msgspec.structs.replace(
            again,
            environments=stored.environments,
            follows=stored.follows,
            teams=stored.teams,
            policies=stored.policies,
        )


def _remember(known: dict[str, Manifest], digest: str, manifest: Manifest) -> None:
    while len(known) >= _MANIFESTS_KEPT:
        known.pop(next(iter(known)), None)
    known[digest] = manifest


def load_packed(packed: bytes, loader: loading.Loader | None = None) -> Manifest:
    """Return the manifest of packed files, loaded in a folder of their own with what is installed
    here. Damaged for bytes that are no bundle; ProjectError for what does not load."""
    with tempfile.TemporaryDirectory(prefix="sextant-version-") as temporary:
        folder = Path(temporary) / "project"
        bundle.unpack(packed, folder)
        config = msgspec.structs.replace(read_config(folder), root=folder)
        return loading.load(folder, config, timeout_s=LOAD_TIMEOUT_S, loader=loader)


def commit_of(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the commit that a folder is at, and the first of its files that differ from it; ""
    where git is not there, or knows nothing of it."""
    said = _git(folder, "rev-parse", "HEAD").strip()
    if not said:
        return "", ()
    changed = _git(folder, "status", "--porcelain", "-z", "--no-renames", "--", ".")
    files = sorted(one[3:] for one in changed.split("\0") if len(one) > 3)
    return said, tuple(files[:UNCOMMITTED_SHOWN_MAX])


def _git(folder: Path, *words: str) -> str:
    # what the repository's own settings would start is not started
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *words]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout.decode(errors="replace")
    return ""
