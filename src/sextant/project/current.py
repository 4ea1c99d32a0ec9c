"""The project as it is now: its manifest, loaded when files change. An edit that is only looked at
is a draft until the first action records it."""

import os
import threading

import msgspec

from sextant.authorization.authority import known_names
from sextant.authorization.decide import check_rules
from sextant.kernel.clock import Clock
from sextant.kernel.errors import NotFound, ProjectError
from sextant.kernel.limits import LOAD_TIMEOUT_S
from sextant.kernel.nouns import SYSTEM, Event, Manifest, Signal
from sextant.kernel.ports import Blobs, State, Write
from sextant.ledger.events import Events
from sextant.ledger.projections import AssetDeclared, EnvCreated, ProjectLoaded
from sextant.project import bundle, loading
from sextant.project.config import OWN, Config
from sextant.project.edges import declared_edges, in_order
from sextant.project.manifests import read_manifest
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

    digest   of the manifest that `manifest` returns; "" before there is one
    problem  the mistake of the newest edit, while the last good manifest is used instead
    draft    set while the manifest is not recorded
    """

    def __init__(
        self,
        config: Config,
        state: State,
        blobs: Blobs,
        events: Events,
        clock: Clock,
        *,
        drafts: bool = False,
    ) -> None:
        """drafts  edits that are only looked at are not recorded: see `load`"""
        self.config = config
        self.root = config.root
        self.folder = config.root / OWN
        self.secrets_file = self.folder / "secrets.toml"
        self.digest = ""
        self.problem: ProjectError | None = None
        self.draft: Draft | None = None
        self._state, self._blobs, self._events, self._clock = state, blobs, events, clock
        self._keeps_drafts = drafts
        self._manifest: Manifest | None = None
        self._lock = threading.RLock()  # several requests may come at once

    def is_known(self) -> bool:
        """Say whether there is a manifest, here or in the store."""
        return self._manifest is not None or bool(self._state.read("project_get"))

    def record(self) -> None:
        """Record an edit that was only looked at."""
        with self._lock:
            self._record()

    def seen(self) -> Manifest | None:
        """Return the manifest that this process has loaded."""
        return self._manifest

    def recorded(self) -> Manifest | None:
        """Return the manifest that was recorded last."""
        rows = self._state.read("project_get")
        return self._stored(rows[0][1]) if rows else None

    def manifest(self) -> Manifest:
        """Return what the project declares. ProjectError when it cannot be loaded and never
        could."""
        if self._manifest is None:
            self.load()
        assert self._manifest is not None
        return self._manifest

    def load(self, *, record: bool = False) -> Manifest:
        """Load the project, or take the last good manifest when nothing changed - or when the edit
        is broken, with a signal.

        An edit is recorded, and is then what a later broken edit falls back to. With `drafts` one
        that is only looked at (`plan`, `status`) is not: the first action that the policy allows
        records it, or `record`."""
        with self._lock:
            manifest = self._load()
            if record or not self._keeps_drafts:
                self._record()
            return manifest

    def _load(self) -> Manifest:
        rows = self._state.read("project_get")
        last = self._stored(rows[0][1]) if rows else None
        if last is not None and loading.unchanged(self.root, last):
            self._use(last, rows[0][1])
        elif not self._take_draft():
            try:
                manifest = loading.load(self.root, self.config, timeout_s=LOAD_TIMEOUT_S)
                check_rules(manifest.policies, known_names(self._state, manifest))
            except ProjectError as error:
                if last is None:
                    raise
                self._use(last, rows[0][1])
                self.problem = error
                self._signal_broken(error)
                return last
            self._use(manifest, *self._keep(manifest))
        assert self._manifest is not None
        if last is None:
            self._record()  # there is nothing else that could be meant
        mended = self._mended("")
        if mended:
            self._state.commit(Write((), tuple(mended)))
        return self._manifest

    def load_sound(self) -> Manifest:
        """Load the project for what a person asks for by its declarations. ProjectError while its
        newest edit is broken: the last good state is not what was asked for."""
        with self._lock:
            manifest = self.load()
            if self.problem is not None:
                raise self.problem
            return manifest

    def drafted_blobs(self) -> set[str]:
        """Return the blobs of an edit that is not recorded yet."""
        draft = self._draft_file()
        return {draft.manifest, draft.packed} if draft else set()

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

    def _signal_broken(self, error: ProjectError) -> None:
        for doc, closed in self._state.read("signals", (1 << 62, 20)):
            signal_ = msgspec.json.decode(doc, type=Signal)
            if not closed and signal_.kind == "project.broken" and signal_.message == error.message:
                return
        raised = self._events.signal(
            "", "project.broken", "error", error.message, evidence={"where": error.where}
        )
        self._state.commit(Write((), (raised,)))

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
        """Record the edit at hand as what the project is, and what it changed in the graph."""
        draft, manifest = self.draft, self._manifest
        if draft is None or manifest is None:
            return
        rows = self._state.read("project_get")
        if rows and rows[0][1] == draft.manifest:  # another process was first
            self.draft = None
            return
        last = self._stored(rows[0][1]) if rows else None
        meta = msgspec.json.encode({"bundle": draft.bundle, "blob": draft.packed})
        events = [
            self._events.make(
                "project.loaded",
                manifest.project,
                ProjectLoaded(manifest.project, draft.manifest, meta.decode()),
                SYSTEM,
                "",
            )
        ]
        cause = events[0].id
        before = {asset.id: asset for asset in last.assets} if last else {}
        known = {row[0] for row in self._state.read("envs")}
        events += [
            self._events.make("env.created", name, EnvCreated(name), SYSTEM, cause)
            for name in manifest.environments
            if name not in known
        ]
        old_edges, new_edges = declared_edges(last), declared_edges(manifest)
        for asset in manifest.assets:
            mine = tuple(edge for edge in new_edges - old_edges if edge.target == asset.id)
            ended = tuple(edge for edge in old_edges - new_edges if edge.target == asset.id)
            if before.get(asset.id) != asset or mine or ended:
                events.append(
                    self._events.make(
                        "asset.declared",
                        asset.id,
                        AssetDeclared(asset, in_order(mine), in_order(ended)),
                        SYSTEM,
                        cause,
                    )
                )
        for id_, asset in before.items():
            if manifest.asset(id_) is None:
                ended = tuple(edge for edge in old_edges if id_ in (edge.source, edge.target))
                events.append(
                    self._events.make(
                        "asset.retired",
                        id_,
                        AssetDeclared(asset, (), in_order(ended)),
                        SYSTEM,
                        cause,
                    )
                )
        self._state.commit(Write((), (*events, *self._mended(cause))))
        self.draft = None

    def _mended(self, cause: str) -> list[Event]:
        """Return the events that close the signals of a broken project."""
        found = [
            msgspec.json.decode(doc, type=Signal)
            for doc, closed in self._state.read("signals", (1 << 62, 20))
            if not closed
        ]
        return [
            self._events.make("signal.closed", one.id, {"id": one.id}, SYSTEM, cause)
            for one in found
            if one.kind == "project.broken"
        ]

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

    def _drafted_envs(self) -> tuple[str, ...]:
        return self._manifest.environments if self.draft and self._manifest else ()


def _mark(draft: Draft) -> bytes:
    """Return what is remembered of an edit that was loaded here."""
    return mark_of(f"draft {draft.manifest} {draft.bundle} {draft.packed}")
