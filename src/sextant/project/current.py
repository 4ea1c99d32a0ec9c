"""The project as it is: what its folder has, loaded when files change, and what is in force where.

An environment that follows the folder has what the folder has; an edit that is only looked at is a
draft until the first action records it. Any other has the version that was released to it.
"""

import os
import threading
from typing import Any

import msgspec

from sextant.authorization.authority import known_names
from sextant.authorization.decide import check_rules
from sextant.kernel.errors import NotFound, ProjectError, UserError
from sextant.kernel.limits import LOAD_TIMEOUT_S
from sextant.kernel.nouns import SYSTEM, Event, Manifest, Principal
from sextant.kernel.ports import Blobs, State, Write
from sextant.ledger.events import Events
from sextant.ledger.log import entries
from sextant.ledger.projections import AssetDeclared, EnvCreated, ProjectLoaded
from sextant.project import bundle, loading
from sextant.project.config import OWN, Config
from sextant.project.edges import by_end, by_target, declared_edges, in_order
from sextant.project.manifests import read_manifest
from sextant.project.versions import (
    ProjectVersion,
    ProjectVersions,
    commit_of,
    version_digest,
)
from sextant.stores.files import create
from sextant.stores.verified import mark_of, memory

_DRAFT = "draft.json"  # in the project's own folder: the newest edit, while it is not recorded


class Draft(msgspec.Struct, frozen=True):
    """An edit that was loaded and is not recorded: digests of its manifest, of its bundle, and of
    the packed bundle as it lies among the blobs."""

    manifest: str
    bundle: str
    packed: str


class CurrentProject:
    """One project. Any thread.

    versions  the versions of the project, and which one each environment has
    digest    of the manifest that the folder has; "" before there is one
    problem   the mistake of the folder's newest edit, while what was recorded last stands for it
    draft     set while the folder's manifest is not recorded
    """

    def __init__(
        self,
        config: Config,
        state: State,
        blobs: Blobs,
        events: Events,
        *,
        opened_by: Principal,
        drafts: bool = False,
    ) -> None:
        """opened_by  who works on the folder
        drafts     edits that are only looked at are not recorded: see `load`
        """
        self.config = config
        self.root = config.root
        self.folder = config.root / OWN
        self.secrets_file = self.folder / "secrets.toml"
        self.versions = ProjectVersions(state, blobs)
        self.digest = ""
        self.problem: ProjectError | None = None
        self.draft: Draft | None = None
        self._state, self._blobs, self._events = state, blobs, events
        self._opened_by = opened_by
        self._keeps_drafts = drafts
        self._manifest: Manifest | None = None
        self._recorded_name = ""
        # the newest event, and the version of each environment that does not follow the folder
        self._known_pins: tuple[Any, dict[str, str]] | None = None
        self._lock = threading.RLock()  # several requests may come at once

    # ------------------------------------------------------------ what is in force

    def is_known(self) -> bool:
        """Say whether there is a manifest, here or in the store."""
        return self._manifest is not None or bool(self._state.read("project_get"))

    def recorded(self) -> Manifest | None:
        """Return the manifest that was recorded last."""
        rows = self._state.read("project_get")
        return self._stored(rows[0][1]) if rows else None

    def manifest(self, env: str = "") -> Manifest:
        """Return what the project declares in an environment; "" = what its folder has.
        ProjectError when the folder cannot be loaded and never could."""
        if env and (pinned := self.pinned(env)):
            return self.versions.manifest(self._name(), pinned)
        if self._manifest is None:
            self.load()
        assert self._manifest is not None
        return self._manifest

    def pinned(self, env: str) -> str:
        """Return the version that an environment has and keeps when the folder changes; "" for one
        that follows the folder, or that none was released to yet."""
        return self._pins().get(env, "")

    def _pins(self) -> dict[str, str]:
        """Return what `pinned` says of each environment that has one. It changes by events alone:
        while there is no new one, nothing else is read."""
        head = self._state.read("event_head")  # before the rest: what comes between is seen later
        known = self._known_pins
        if known is None or known[0] != head:
            found, name = {}, self._name()
            for env, *_ in self._state.read("envs") if name else ():
                pin = self.versions.pinned(env, name)
                if pin and not self._is_folders(env, pin):
                    found[str(env)] = pin
            self._known_pins = known = (head, found)
        return known[1]

    def _is_folders(self, env: str, pin: str) -> bool:
        """Say whether a version lets its environment follow the folder. No, where it is not stored
        any more: who asks for that environment is told, and nobody else."""
        try:
            return env in self.versions.declared(self._name(), pin).follows
        except NotFound:
            return False

    def follows(self, env: str) -> bool:
        """Say whether an environment has what the folder has at once, by what is in force there."""
        return not self.pinned(env) and env in self.manifest().follows

    def has_version(self, env: str) -> bool:
        """Say whether anything is in force in an environment: it follows the folder, or a version
        was released to it."""
        return bool(self.pinned(env)) or self.follows(env)

    def folder_version(self) -> str:
        """Return the version that the folder has."""
        return version_digest(self.manifest())

    def manifest_of(self, version: str) -> Manifest:
        """Return what a version declares, also that of the folder while it is not recorded."""
        if self._manifest is not None and version == version_digest(self._manifest):
            return self._manifest
        return self.versions.declared(self._name(), version)

    def commit_of(self, version: str) -> tuple[str, tuple[str, ...]]:
        """Return the commit of git that a recorded version was made at, "" = none, and the first
        files that differed from it."""
        known = self.versions.version(self._name(), version)
        return known.commit, known.uncommitted

    def is_older(self, version: str, other: str) -> bool:
        """Say whether a version was recorded before another one."""
        made = [
            self.versions.recorded_at(self._name(), digest) for digest in (version, other) if digest
        ]
        return len(made) > 1 and 0 < made[0] < made[1]

    def governing(self, env: str) -> tuple[tuple[str, Manifest], ...]:
        """Return what says who may do something in an environment, with its version. Where none
        is named (""): what was released to any environment that the project declares, all
        together; so an edit of the folder decides nothing about what is not in the folder."""
        if env:
            pin = self.pinned(env)
            manifest = self.manifest_of(pin) if pin else self.manifest()
            return ((pin or version_digest(manifest), manifest),)
        found = {
            pin: self.versions.declared(self._name(), pin)
            for name in self.environments()
            if (pin := self.pinned(name))
        }
        if not found:
            manifest = self.manifest()
            found[version_digest(manifest)] = manifest
        return tuple(found.items())

    def in_force(self) -> dict[str, Manifest]:
        """Return version -> manifest of all that is in force somewhere, the folder's first."""
        found = {version_digest(self.manifest()): self.manifest()}
        for pin in self._pins().values():
            if pin not in found:
                found[pin] = self.versions.declared(self._name(), pin)
        return found

    def manifests(self) -> tuple[Manifest, ...]:
        """Return all that is in force somewhere, the folder's first."""
        return tuple(self.in_force().values())

    def stored(self, env: str) -> str:
        """Return the digest of the stored manifest that is in force in an environment."""
        pin = self.pinned(env)
        return self.versions.version(self._name(), pin).manifest if pin else self.digest

    def packed(self, bundle: str) -> str:
        """Return the digest of the blob that holds the files of a bundle. NotFound."""
        if self.draft is not None and self.draft.bundle == bundle:
            return self.draft.packed
        return self.versions.bundle(self._name(), bundle)

    def _name(self) -> str:
        """Return the name under which the project is recorded; "" before it was."""
        if not self._recorded_name:
            rows = self._state.read("project_get")
            self._recorded_name = str(rows[0][0]) if rows else ""
        return self._recorded_name

    # ------------------------------------------------------------ the folder

    def record(self) -> None:
        """Record an edit that was only looked at."""
        with self._lock:
            self._record()

    def load(self, *, record: bool = False) -> Manifest:
        """Return what the folder has; while its newest edit is broken, what was recorded last.

        An edit is recorded: environments that follow the folder have it from then on. With `drafts`
        one that is only looked at (`plan`, `status`) is not: the first action that the policy
        allows records it, or `record`."""
        with self._lock:
            manifest = self._load()
            if record or not self._keeps_drafts:
                self._record()
            return manifest

    def _load(self) -> Manifest:
        rows = self._state.read("project_get")
        last = self._stored(rows[0][1]) if rows else None
        if last is not None and not self.versions.is_known(last.project, version_digest(last)):
            self._pin_all(last, rows[0][1])
        if last is not None and loading.unchanged(self.root, last):
            self._use(last, rows[0][1])
        elif not self._take_draft():
            try:
                manifest = loading.load(self.root, self.config, timeout_s=LOAD_TIMEOUT_S)
                self.check_new(manifest)
            except ProjectError as error:
                if last is None:
                    raise
                self._use(last, rows[0][1])
                self.problem = error
                return last
            self._use(manifest, *self._keep(manifest))
        assert self._manifest is not None
        if last is None:
            self._record()  # there is nothing else that could be meant
        return self._manifest

    def load_sound(self) -> Manifest:
        """Load the folder for what a person asks for by its declarations. ProjectError while its
        newest edit is broken: what was recorded is not what was asked for."""
        with self._lock:
            manifest = self.load()
            self.check_sound()
            return manifest

    def check_new(self, manifest: Manifest) -> None:
        """ProjectError where a manifest cannot be of this project: another name, or rules about
        what is not there."""
        check_rules(manifest.policies, known_names(self._state, manifest))
        _check_name(manifest, self._name())

    def check_sound(self) -> None:
        """ProjectError where the folder's newest edit was broken when it was loaded last."""
        if self.problem is not None:
            raise self.problem

    def blobs(self) -> set[str]:
        """Return the blobs of the versions that are kept, of what was loaded last, and of an edit
        that is not recorded yet."""
        draft = self._draft_file()
        found = self.versions.blobs() | ({draft.manifest, draft.packed} if draft else set())
        found |= {row[1] for row in self._state.read("project_get")}
        for entry in entries(self._state.read, "events_of_type", ("project.loaded",)):
            if not entry.is_erased:
                loaded = entry.read(ProjectLoaded)
                if not loaded.version:  # recorded before the project had versions
                    meta = msgspec.json.decode(loaded.bundle) if loaded.bundle else {}
                    found |= {loaded.manifest, str(meta.get("blob", ""))}
        return found

    def _take_draft(self) -> bool:
        """Take the newest edit that was loaded and not recorded, if the files still are that."""
        draft = self._draft_file()
        # the file is not covered by the ledger: only what this user wrote is believed
        if draft is None or not memory().holds(_mark(draft)):
            return False
        manifest = self._stored(draft.manifest)
        if manifest is None or not loading.unchanged(self.root, manifest):
            return False
        self._use(manifest, draft.manifest, draft)
        return True

    def _stored(self, digest: str) -> Manifest | None:
        if not self._blobs.has(digest):
            return None
        return read_manifest(self._blobs.get(digest))

    def _use(self, manifest: Manifest, digest: str, draft: "Draft | None" = None) -> None:
        self._manifest, self.digest, self.draft = manifest, digest, draft
        self.problem = None

    def _draft_file(self) -> "Draft | None":
        """Return what the file says that holds the newest edit which was not recorded when it was
        loaded."""
        try:
            return msgspec.json.decode((self.folder / _DRAFT).read_bytes(), type=Draft)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _keep(self, manifest: Manifest) -> "tuple[str, Draft]":
        """Store manifest and bundle as the newest edit. Return the manifest's digest too."""
        digest, packed = bundle.pack(self.root, self.config.include, self.config.written)
        if digest != manifest.bundle:
            raise ProjectError(
                "SX-PROJ-090", "the project's files changed while they were read", hint="run again"
            )
        blob = self._blobs.put(packed)
        draft = Draft(self._blobs.put(msgspec.json.encode(manifest)), digest, blob)
        new = self.folder / f".{_DRAFT}.{os.getpid()}"
        with open(create(str(new)), "wb") as file:
            file.write(msgspec.json.encode(draft))
        new.replace(self.folder / _DRAFT)
        memory().add(_mark(draft), changed_ns=0, looked_ns=memory().clock.now_ns())
        return draft.manifest, draft

    def _record(self) -> None:
        """Record the edit at hand: as a version of the project, as what environments that follow
        the folder have, and what it changed in the graph."""
        draft, manifest = self.draft, self._manifest
        if draft is None or manifest is None:
            return
        rows = self._state.read("project_get")
        if rows and rows[0][1] == draft.manifest:  # another process was first
            self.draft = None
            return
        last = self._stored(rows[0][1]) if rows else None
        by = self._opened_by
        known = {row[0] for row in self._state.read("envs")}
        names = (*known, *(name for name in manifest.environments if name not in known))
        loaded = self._loaded(manifest, draft, tuple(filter(self.follows, names)), by)
        events = [
            *(
                self._events.make("env.created", name, EnvCreated(name), SYSTEM, "")
                for name in manifest.environments
                if name not in known
            ),
            *loaded,
            *self._graph_events(last, manifest, by, loaded[0].id),
        ]
        self._state.commit(Write((), tuple(events)))
        self.draft = None

    def _loaded(
        self, manifest: Manifest, draft: Draft, envs: tuple[str, ...], by: Principal
    ) -> list[Event]:
        """Return the events by which a version is known, and what environments have."""
        digest = version_digest(manifest)
        meta = msgspec.json.encode({"bundle": draft.bundle, "blob": draft.packed})
        loaded = ProjectLoaded(
            manifest.project, draft.manifest, meta.decode(), version=digest, envs=envs
        )
        events = [self._events.make("project.loaded", manifest.project, loaded, by, "")]
        if not self.versions.is_stored(manifest.project, digest):
            commit, uncommitted = commit_of(self.root)
            spec = ProjectVersion(
                manifest=draft.manifest,
                bundle=draft.bundle,
                packed=draft.packed,
                lock=manifest.lock,
                commit=commit,
                uncommitted=uncommitted,
            )
            made = self.versions.created(manifest.project, digest, spec)
            subject = f"{made.version.asset}@{digest}"
            events.append(self._events.make("version.created", subject, made, by, events[0].id))
        return events

    def _graph_events(
        self, last: Manifest | None, manifest: Manifest, by: Principal, cause: str
    ) -> list[Event]:
        """Return the events by which the graph changes from what was recorded before."""
        events: list[Event] = []
        before = {asset.id: asset for asset in last.assets} if last else {}
        old_edges, new_edges = declared_edges(last), declared_edges(manifest)
        began, over = by_target(new_edges - old_edges), by_target(old_edges - new_edges)
        for asset in manifest.assets:
            mine, ended = began.get(asset.id, ()), over.get(asset.id, ())
            if before.get(asset.id) != asset or mine or ended:
                events.append(
                    self._events.make(
                        "asset.declared",
                        asset.id,
                        AssetDeclared(asset, in_order(mine), in_order(ended)),
                        by,
                        cause,
                    )
                )
        retired = {id_: asset for id_, asset in before.items() if manifest.asset(id_) is None}
        theirs = by_end(old_edges) if retired else {}
        for id_, asset in retired.items():
            said = AssetDeclared(asset, (), in_order(theirs.get(id_, ())))
            events.append(self._events.make("asset.retired", id_, said, by, cause))
        return events

    def _pin_all(self, last: Manifest, stored: str) -> None:
        """Give each environment of a project that an earlier Sextant recorded what was loaded last,
        by one event."""
        for entry in entries(
            self._state.read, "events_of_subject", (last.project, 1 << 62, 1 << 30)
        ):
            if entry.envelope.type != "project.loaded" or entry.is_erased:
                continue
            loaded = entry.read(ProjectLoaded)
            if loaded.manifest == stored:
                meta = msgspec.json.decode(loaded.bundle)
                draft = Draft(stored, meta["bundle"], meta["blob"])
                events = self._loaded(last, draft, self.environments(), SYSTEM)
                self._state.commit(Write((), tuple(events)))
                return

    def environments(self) -> tuple[str, ...]:
        """Return the environments that the project declares: not those that fall through to
        another, or are frozen."""
        declared = [
            str(name)
            for name, parent, _, frozen, _ in self._state.read("envs")
            if not parent and not frozen
        ]
        return (*declared, *(name for name in self._drafted_envs() if name not in declared))

    def check_environment(self, env: str) -> None:
        """NotFound unless the environment exists."""
        names = [row[0] for row in self._state.read("envs")]
        if env not in names and env not in self._drafted_envs():
            raise NotFound(
                "SX-ENV-001",
                f"there is no environment `{env}`",
                hint=(
                    f"there are {', '.join(names)}; `sextant env create {env} --from "
                    f"{names[0] if names else 'prod'}` makes one"
                ),
            )

    def check_movable(self, env: str) -> None:
        """NotFound without the environment; UserError where it is frozen: nothing moves in it."""
        self.check_environment(env)
        if any(row[0] == env and row[3] for row in self._state.read("envs")):
            raise UserError(
                "SX-ENV-008",
                f"`{env}` is frozen: nothing moves in it",
                hint=f"`sextant env create NAME --from {env}` makes one that begins with what it "
                "shows",
            )

    def _drafted_envs(self) -> tuple[str, ...]:
        return self._manifest.environments if self.draft and self._manifest else ()


def _mark(draft: Draft) -> bytes:
    """Return what is remembered of an edit that was loaded here."""
    return mark_of(f"draft {draft.manifest} {draft.bundle} {draft.packed}")


def _check_name(manifest: Manifest, recorded: str) -> None:
    """ProjectError when a project was renamed: what is in force, and who may change it, is known by
    its name."""
    if recorded not in ("", manifest.project):
        raise ProjectError(
            "SX-PROJ-096",
            f"the project is called `{manifest.project}`, and what is recorded here is "
            f"`{recorded}`",
            hint=f'keep `sx.project("{recorded}", ...)`; another project begins in a folder of '
            "its own",
        )
