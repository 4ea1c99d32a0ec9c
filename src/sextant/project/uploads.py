"""Versions of the project that people upload from folders of their own.

Whoever uploads names path and digest of every file, and sends the contents that are missing here.
Nothing is stored before all of it is there, is what its digests say, holds nothing that looks like
a secret, and loads; and nothing is in force anywhere before it is released.
"""

import hashlib
import re
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import Busy, Conflict, UserError
from sextant.kernel.limits import (
    BUNDLE_BYTES_MAX,
    BUNDLE_FILES_MAX,
    INSTALLED_SHOWN_MAX,
    STAND_BY_S,
    UPLOAD_BYTES_MAX,
    UPLOAD_S,
    UPLOADS_HELD_BYTES_MAX,
    UPLOADS_LOADED_AT_ONCE_MAX,
    UPLOADS_REMEMBERED_MAX,
)
from sextant.kernel.nouns import Manifest, Principal
from sextant.kernel.ports import Blobs, State, Write
from sextant.ledger.events import Events
from sextant.project import bundle, loading
from sextant.project.current import CurrentProject
from sextant.project.secret_patterns import refuse_secrets
from sextant.project.versions import ProjectVersion, load_packed, version_of

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})?")
_SHOWN = 5  # of what is wrong, in one message


class Offer(NamedTuple):
    """What somebody uploads.

    files        path -> digest of every file of the bundle
    python       the interpreter where it comes from, as `loading.python` says it
    installed    what is installed there, as `loading.installed`
    commit       of git, that its folder is at; "" = none
    uncommitted  the first files that differ from it
    """

    files: Mapping[str, str]
    python: str
    installed: frozenset[str] = frozenset()
    commit: str = ""
    uncommitted: tuple[str, ...] = ()


class _Held(NamedTuple):
    """The content of a file that waits for the rest of its upload."""

    since: int
    content: bytes


class Uploads:
    """The uploads to one project. Any thread."""

    def __init__(
        self, project: CurrentProject, state: State, blobs: Blobs, events: Events, clock: Clock
    ) -> None:
        self._project, self._state, self._blobs = project, state, blobs
        self._events, self._clock = events, clock
        self._held: dict[tuple[str, str], _Held] = {}  # by who sent it, and digest
        self._recent: dict[str, None] = {}  # versions that were uploaded, the newest last
        self._lock = threading.Lock()
        self._loaders = loading.standing_by()
        self._loading = threading.BoundedSemaphore(UPLOADS_LOADED_AT_ONCE_MAX)

    def stand_by(self) -> None:
        """Have a loader ready: somebody is about to upload, and then to mend what he uploaded."""
        self._loaders.keep(STAND_BY_S)

    def close(self) -> None:
        """End what stands by."""
        self._loaders.close()

    def check(self, offer: Offer) -> None:
        """Raise UserError for what is no list of files of a bundle, and for another interpreter."""
        files = offer.files
        if not 0 < len(files) <= BUNDLE_FILES_MAX:
            raise UserError(
                "SX-UPLOAD-001",
                f"an upload has 1 to {BUNDLE_FILES_MAX:,} files, not {len(files):,}",
                hint="keep environments and data out of the project's folder",
            )
        wrong = [path for path in files if not bundle.is_path(path)]
        if wrong:
            raise UserError(
                "SX-UPLOAD-002",
                f"{_some(wrong)}: no path of a file below the project's folder",
                hint="relative paths with `/`; no `..`, no control characters",
            )
        folders = {folder for path in files for folder in _folders(path)}
        both = sorted(folders & files.keys())
        if both:
            raise UserError(
                "SX-UPLOAD-003",
                f"{_some(both)}: both a file and a folder",
                hint="a folder cannot hold that; list the files as they lie on a disk",
            )
        wrong = [path for path, digest in files.items() if not _DIGEST.fullmatch(digest)]
        if wrong:
            raise UserError(
                "SX-UPLOAD-004",
                f"{_some(wrong)}: its digest is no SHA-256",
                hint="64 lower-case hexadecimal digits",
            )
        if not _COMMIT.fullmatch(offer.commit):
            raise UserError(
                "SX-UPLOAD-005",
                f"{_some([offer.commit])} is no commit of git",
                hint='as `git rev-parse HEAD` says it; "" for none',
            )
        if offer.python != loading.python():
            raise UserError(
                "SX-UPLOAD-006",
                f"the upload comes from {_some([offer.python])}, and here runs {loading.python()}",
                hint=f"use {loading.python()} there too: what runs here is then what was tried",
            )

    def hold(self, contents: Mapping[str, bytes], by: Principal) -> None:
        """Hold contents of files, by their digest, until the rest of their upload comes. UserError
        for what is not what its digest says, Busy when too much is held."""
        for digest, content in contents.items():
            if hashlib.sha256(content).hexdigest() != digest:
                raise UserError(
                    "SX-UPLOAD-007",
                    f"what was sent as {_some([digest[:12]])} has another digest",
                    hint="send it again: it was changed on the way, or while it was read",
                )
        if sum(map(len, contents.values())) > UPLOAD_BYTES_MAX:
            raise UserError(
                "SX-UPLOAD-008",
                f"{sum(map(len, contents.values())):,} bytes of files at once",
                hint=f"at most {UPLOAD_BYTES_MAX:,} in one request; data belongs into the lake",
            )
        now, who = self._clock.now_ns(), str(by)
        with self._lock:
            for key, held in list(self._held.items()):
                if held.since < now - UPLOAD_S * NS:
                    del self._held[key]
            new = {(who, digest): _Held(now, content) for digest, content in contents.items()}
            sizes = {key: len(held.content) for key, held in {**self._held, **new}.items()}
            if sum(size for key, size in sizes.items() if key[0] == who) > BUNDLE_BYTES_MAX:
                raise UserError(
                    "SX-UPLOAD-009",
                    f"{who} has sent more than a bundle may have",
                    hint=f"all files together may have {BUNDLE_BYTES_MAX >> 20} MiB; what was sent "
                    "and not used is forgotten after ten minutes",
                )
            if sum(sizes.values()) > UPLOADS_HELD_BYTES_MAX:
                raise Busy(
                    "SX-UPLOAD-010",
                    "other uploads are under way, and hold all the memory there is for them",
                    hint="try again in a moment",
                    retry_after_s=10.0,
                )
            self._held.update(new)

    def missing(self, offer: Offer, by: Principal) -> list[str]:
        """Return the digests of the files whose contents are neither held nor part of a version
        that is in force or was uploaded lately."""
        if self._known(offer):
            return []
        wanted = dict.fromkeys(offer.files.values())
        for digest in self._sent(by):
            wanted.pop(digest, None)
        for manifest in self._bases():
            for digest in manifest.files.values():
                wanted.pop(digest, None)
            if not wanted:
                break
        return list(wanted)

    def take(self, offer: Offer, by: Principal) -> str:
        """Return the version of the project that an offer is, of which nothing is missing: recorded
        as `by`'s, when it is new. Loads it as it is with what is installed here.

        Raises  ProjectError for what does not load, or holds what looks like a secret
        """
        version = self._known(offer)
        if not version:
            with self._loading:
                version = self._known(offer) or self._taken(offer, by)
        with self._lock:
            for digest in offer.files.values():
                self._held.pop((str(by), digest), None)
            self._recent.pop(version, None)
            self._recent[version] = None
            while len(self._recent) > UPLOADS_REMEMBERED_MAX:
                del self._recent[next(iter(self._recent))]
        return version

    def notes(self, offer: Offer, version: str) -> list[str]:
        """Return what is different here from where an upload comes from, and works all the same."""
        here = _versions(loading.installed())
        there = _versions(offer.installed)
        differ = [
            f"{name} {here[name]} (not {there[name]})"
            for name in sorted(here.keys() & there.keys())
            if here[name] != there[name]
        ]
        found = []
        if differ:
            more = len(differ) - INSTALLED_SHOWN_MAX
            shown = ", ".join(differ[:INSTALLED_SHOWN_MAX])
            found.append(f"runs with {shown}{f' and {more} more' if more > 0 else ''}")
        names = {row[0] for row in self._state.read("envs")}
        new = [name for name in self._declared(version).environments if name not in names]
        if new:
            found.append(
                f"{', '.join(new)}: declared, and made when the server's own folder declares it"
            )
        return found

    def _taken(self, offer: Offer, by: Principal) -> str:
        contents = self._contents(offer, by)
        sent = self._sent(by)
        refuse_secrets({p: c for p, c in contents.items() if offer.files[p] in sent})
        digest, packed = bundle.pack_files(sorted(contents.items()))
        manifest = load_packed(packed, self._loaders.take())
        if manifest.bundle != digest:
            foreign = sorted(offer.files.keys() - manifest.files.keys())
            raise UserError(
                "SX-UPLOAD-012",
                f"{_some(foreign)}: no part of the project's bundle",
                hint="`include` in sextant.toml names files that are neither code nor settings",
            )
        self._project.check_new(manifest)
        spec = ProjectVersion(
            manifest=self._blobs.put(msgspec.json.encode(manifest)),
            bundle=digest,
            packed=self._blobs.put(packed),
            lock=manifest.lock,
            commit=offer.commit,
            uncommitted=offer.uncommitted,
        )
        version = version_of(digest, manifest.lock)
        created = self._project.versions.created(manifest.project, version, spec)
        subject = f"{created.version.asset}@{version}"
        made = self._events.make("version.created", subject, created, by, "")
        self._state.commit(Write((), (made,)))
        return version

    def _contents(self, offer: Offer, by: Principal) -> dict[str, bytes]:
        """Return path -> content. UserError beyond the limits."""
        sent = self._sent(by)
        by_digest = dict(sent)
        wanted = set(offer.files.values()) - by_digest.keys()
        for manifest in self._bases():
            paths = {d: path for path, d in manifest.files.items() if d in wanted}
            if paths:
                packed = self._blobs.get(self._project.packed(manifest.bundle))
                found = bundle.read_packed(packed, paths.values())
                by_digest |= {digest: found[path] for digest, path in paths.items()}
                wanted -= paths.keys()
        if wanted:
            raise Conflict(
                "SX-UPLOAD-018",
                f"{len(wanted)} files of the upload expired while it was put together",
                hint="upload it again",
            )
        contents = {path: by_digest[digest] for path, digest in offer.files.items()}
        if sum(map(len, contents.values())) > BUNDLE_BYTES_MAX:
            raise UserError(
                "SX-UPLOAD-013",
                f"{sum(map(len, contents.values())):,} bytes are more than a bundle may have",
                hint=f"all files together may have {BUNDLE_BYTES_MAX >> 20} MiB",
            )
        return contents

    def _sent(self, by: Principal) -> dict[str, bytes]:
        with self._lock:
            return {d: held.content for (who, d), held in self._held.items() if who == str(by)}

    def _known(self, offer: Offer) -> str:
        """Return the version that an offer is, if it is stored; else ""."""
        version = version_of(bundle.digest_of(offer.files), loading.lock_digest())
        return version if self._is_stored(version) else ""

    def _is_stored(self, version: str) -> bool:
        name = self._project.manifest().project
        return self._project.versions.is_stored(name, version)

    def _bases(self) -> Iterable[Manifest]:
        """Yield the versions whose files need not be sent again."""
        with self._lock:
            recent = list(self._recent)
        yield from self._project.in_force().values()
        yield from (self._declared(one) for one in reversed(recent) if self._is_stored(one))

    def _declared(self, version: str) -> Manifest:
        return self._project.manifest_of(version)


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:n]) for n in range(1, len(parts)))


def _versions(installed: Iterable[str]) -> dict[str, str]:
    """Return distribution -> version of what is installed."""
    words = (one.rpartition(".")[0].partition("-") for one in installed)
    return {name.lower().replace("_", "-"): version.partition("-")[0] for name, _, version in words}


def _some(texts: list[str]) -> str:
    """Return the first of some texts from elsewhere, safe to print."""
    shown = ", ".join(f"`{ascii(one)[1:-1][:80]}`" for one in sorted(texts)[:_SHOWN])
    return shown + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
