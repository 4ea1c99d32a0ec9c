"""The composition root: one project's stores, engine and releases put together in this process.

`LocalPlatform` is what the command line and `sextant.testing` use; every command is a method here
or on one of its rooms
(`runs`, `views`). Opening it reads; only what is asked for writes.
"""

import contextlib
import fcntl
import functools
import gc
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from sextant.app.claims import environment_guard, refuse_environment_in_use
from sextant.app.selection import selected
from sextant.authorization.decide import DEFAULT, Decision, Known, check_rules, decide, wanted
from sextant.engine.executors.inline import InlineExecutor
from sextant.engine.executors.process import ProcessExecutor
from sextant.kernel.answers import Reported
from sextant.kernel.clock import NS, Clock, SystemClock
from sextant.kernel.errors import Busy, Conflict, Damaged, Denied, NotFound, ProjectError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.limits import (
    BUNDLE_COPIES_MAX,
    DENIED_AGAIN_S,
    LOAD_TIMEOUT_S,
    OBSERVED_PER_OWNER_MAX,
)
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    Edge,
    Event,
    Manifest,
    Principal,
    Rule,
    Signal,
    actor_of,
    person_of,
)
from sextant.kernel.ports import Executor, Write
from sextant.kinds.dataset.personal import PersonalColumns
from sextant.kinds.dataset.publish import DatasetKind, Published, Publisher
from sextant.kinds.dataset.tables import RunTable
from sextant.ledger.log import Ledger, entries, event
from sextant.ledger.projections import AssetDeclared, EnvCreated, ProjectLoaded, VersionRelocated
from sextant.ledger.rebuild import bring_up_to_date
from sextant.ledger.versions import Versions
from sextant.project import bundle, loading
from sextant.project.config import OWN, Config, find_config, login, read_config
from sextant.release.releases import Instant, Releases
from sextant.release.signals import GLASS, close_passed, evidence
from sextant.stores.blobs.local import LocalBlobs
from sextant.stores.files import create, locked, tighten
from sextant.stores.lake.iceberg import IcebergLake
from sextant.stores.state import open_state
from sextant.stores.verified import mark_of, memory

if TYPE_CHECKING:
    from sextant.app.access import Access
    from sextant.kinds.dataset.inbox import Inbox

_WAITS = (
    "run",
    "release",
    "rollback",
)  # verbs that end in a release: an approval is waited for there
_IS_ID = re.compile(r"[a-z]+_[0-9a-z]{26}")
_COMPACT_FILES = 48  # small files of a table before they are merged after a publish
_DECISIONS_MAX = 10_000  # remembered answers of the policy
_UNPACKED_MAX = 3  # how often a bundle is unpacked before a changed one is an error
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DRAFT = "draft.json"  # in the platform's folder: the newest edit, while it is not recorded


class _Draft(msgspec.Struct, frozen=True):
    """An edit that was loaded and is not recorded: digests of its manifest, of its bundle, and of
    the packed bundle as it lies among the blobs."""

    manifest: str
    bundle: str
    packed: str


class LocalPlatform:
    """One project, in this process. Use as a context manager, or call `close`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        executor: str = "pool",
        principal: Principal | None = None,
        load: bool = True,
        confirm: bool = True,
        drafts: bool = False,
        home: Path | None = None,
    ) -> None:
        """drafts  edits that are only looked at are not recorded: see `load`
        home    folder for key and witness instead of the user's own: for tests
        """
        self.config = config
        self.home = home
        self.root = config.root
        self.folder = config.root / OWN
        self.folder.mkdir(mode=0o700, exist_ok=True)
        tighten(self.folder)
        self.clock = clock or SystemClock()
        self.ids = ids or Ids(self.clock)
        self.ledger = Ledger(self.clock)
        self.state = open_state(
            config.state_address,
            self.ledger,
            clock=self.clock,
            schema=config.schema,
        )
        bring_up_to_date(self.state, lambda text: print(text, file=sys.stderr, flush=True))
        self.versions = Versions(self.state)
        self.lake = IcebergLake(
            config.lake_folder,
            clock=self.clock,
            ids=self.ids,
        )
        self.blobs = LocalBlobs(self.folder / "blobs")
        self.secrets_file = self.folder / "secrets.toml"
        self.system = Principal(name="sextant", kind="system")
        self.releases = Releases(
            self.state,
            {
                **{kind: Instant() for kind in ("kpi",)},
                "dataset": DatasetKind(self.versions, self.lake),
            },
            self.clock,
            self.ids,
        )
        self.publisher = Publisher(
            self.state, self.lake, self.versions, self.releases, self.clock, self.ids
        )
        self.principal = principal or Principal(name=login())
        self.manifest_digest = ""
        self.load_problem: ProjectError | None = None
        self._executor_kind = executor
        self._executors: dict[str, Executor] = {}
        self._manifest: Manifest | None = None
        self._drafts = drafts
        self._draft: _Draft | None = None  # set while the manifest at hand is not recorded
        self._rules: tuple[Rule, ...] | None = None
        self._decisions: dict[Any, Decision] = {}
        # refusals -> when one was written, and how many equal ones were not since
        self._denied: dict[Any, tuple[int, int]] = {}
        self._interrupted = threading.Event()
        # how much of what is done here stops by itself; counted where signals come in, in a
        # command's one thread
        self._stoppable = 0
        self._nudged = threading.Condition()
        self._nudges = 0
        # .nudges: how many of them the scheduler in this thread has seen
        self._noticed = threading.local()
        self._warm = False
        # loading, and making executors: several requests may come at once
        self._lock = threading.RLock()
        # how SQL questions are answered; set by the server
        self.asker: Callable[[str, str, Mapping[str, str], str, str], bytes] | None = None
        self._closing = contextlib.ExitStack()
        self.cancelled: set[str] = set()  # runs that somebody asked to stop
        self._personal: tuple[str, PersonalColumns] | None = None  # of the manifest of a digest
        from sextant.app.runs import Runs
        from sextant.app.sealing import Sealing
        from sextant.app.views import Views

        self.runs = Runs(self)
        self.views = Views(self)
        try:
            self.sealing = Sealing(self)
        except BaseException:
            self.state.close()
            raise
        self._events_at_start = self.ledger.size()
        _freeze()
        try:
            if confirm:
                self.sealing.confirm()
            if load:
                self.load()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, start: Path | None = None, **more: Any) -> Self:
        """Open the project found from a folder upwards. ProjectError if there is none."""
        return cls(read_config(find_config(start or Path.cwd())), **more)

    @functools.cached_property
    def access(self) -> "Access":
        """Accounts and tokens; made when they are first asked for."""
        from sextant.app.access import Access

        return Access(self)

    @functools.cached_property
    def inbox(self) -> "Inbox":
        """Rows that others push."""
        from sextant.kinds.dataset.inbox import Inbox

        return Inbox(self)

    # ------------------------------------------------------------ the project

    def manifest(self) -> Manifest:
        """Return what the project declares. ProjectError when it cannot be loaded and never
        could."""
        if self._manifest is None:
            self.load()
        assert self._manifest is not None
        return self._manifest

    def personal(self) -> PersonalColumns:
        """Return what says which columns are personal, by what the project declares now. Before a
        project could ever be loaded, by what was recorded."""
        with self._lock:
            try:
                manifest = self.manifest()
            except ProjectError:
                return PersonalColumns(self.state, self.versions, Manifest(project="", tz="UTC"))
            if self._personal is None or self._personal[0] != self.manifest_digest:
                made = PersonalColumns(self.state, self.versions, manifest)
                self._personal = (self.manifest_digest, made)
            return self._personal[1]

    def load(self, *, record: bool = False) -> Manifest:
        """Load the project, or take the last good manifest when nothing changed - or when the edit
        is broken, with a signal.

        An edit is recorded, and is then what a later broken edit falls back to. With `drafts` one
        that is only looked at (`plan`, `status`) is not: the first action that the policy allows
        records it, or `record`."""
        with self._lock:
            manifest = self._load()
            if record or not self._drafts:
                self._record()
            return manifest

    def _load(self) -> Manifest:
        rows = self.state.read("project_get")
        last = self._stored(rows[0][1]) if rows else None
        if last is not None and loading.unchanged(self.root, last):
            self._use(last, rows[0][1])
        elif not self._take_draft():
            try:
                manifest = loading.load(self.root, self.config, timeout_s=LOAD_TIMEOUT_S)
                check_rules(manifest.policies, self.known_names(manifest))
            except ProjectError as error:
                if last is None:
                    raise
                self._use(last, rows[0][1])
                self.load_problem = error
                self._signal_broken(error)
                return last
            self._use(manifest, *self._keep(manifest))
        assert self._manifest is not None
        if last is None:
            self._record()  # there is nothing else that could be meant
        mended = self._mended("")
        if mended:
            self.state.commit(Write((), tuple(mended)))
        return self._manifest

    def load_sound(self) -> Manifest:
        """Load the project for what a person asks for by its declarations. ProjectError while its
        newest edit is broken: the last good state is not what was asked for."""
        with self._lock:
            manifest = self.load()
            if self.load_problem is not None:
                raise self.load_problem
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
        if not self.blobs.has(digest):
            return None
        return msgspec.json.decode(self.blobs.get(digest), type=Manifest)

    def _use(self, manifest: Manifest, digest: str, draft: "_Draft | None" = None) -> None:
        if digest != self.manifest_digest:
            self._rules = None
            self._decisions.clear()
        self._manifest, self.manifest_digest, self._draft = manifest, digest, draft
        self.load_problem = None

    def _draft_file(self) -> "_Draft | None":
        """Return what the file says that holds the newest edit which was not recorded when it was
        loaded."""
        try:
            return msgspec.json.decode((self.folder / _DRAFT).read_bytes(), type=_Draft)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _signal_broken(self, error: ProjectError) -> None:
        for doc, closed in self.state.read("signals", (1 << 62, 20)):
            signal_ = msgspec.json.decode(doc, type=Signal)
            if not closed and signal_.kind == "project.broken" and signal_.message == error.message:
                return
        raised = Signal(
            id=self.ids.new("sig"),
            asset="",
            kind="project.broken",
            severity="error",
            message=error.message,
            onset=self.clock.now_ns(),
            evidence={"where": error.where},
        )
        self.state.commit(
            Write((), (self.event("signal.raised", raised.id, raised, self.system, ""),))
        )

    def _keep(self, manifest: Manifest) -> "tuple[str, _Draft]":
        """Store manifest and bundle as the newest edit. Return the manifest's digest too."""
        digest, packed = bundle.pack(self.root, self.config.include, self.config.written)
        if digest != manifest.bundle:
            raise ProjectError(
                "SX-PROJ-090", "the project's files changed while they were read", hint="run again"
            )
        blob = self.blobs.put(packed)
        draft = _Draft(self.blobs.put(msgspec.json.encode(manifest)), digest, blob)
        new = self.folder / f".{_DRAFT}.{os.getpid()}"
        with open(create(str(new)), "wb") as file:
            file.write(msgspec.json.encode(draft))
        new.replace(self.folder / _DRAFT)
        memory().add(_mark(draft), changed_ns=0, looked_ns=memory().clock.now_ns())
        return draft.manifest, draft

    def _record(self) -> None:
        """Record the edit at hand as what the project is, and what it changed in the graph."""
        draft, manifest = self._draft, self._manifest
        if draft is None or manifest is None:
            return
        rows = self.state.read("project_get")
        if rows and rows[0][1] == draft.manifest:  # another process was first
            self._draft = None
            return
        last = self._stored(rows[0][1]) if rows else None
        meta = msgspec.json.encode({"bundle": draft.bundle, "blob": draft.packed})
        events = [
            self.event(
                "project.loaded",
                manifest.project,
                ProjectLoaded(manifest.project, draft.manifest, meta.decode()),
                self.system,
                "",
            )
        ]
        cause = events[0].id
        before = {asset.id: asset for asset in last.assets} if last else {}
        known = {row[0] for row in self.state.read("envs")}
        events += [
            self.event("env.created", name, EnvCreated(name), self.system, cause)
            for name in manifest.environments
            if name not in known
        ]
        old_edges, new_edges = _edges(last), _edges(manifest)
        for asset in manifest.assets:
            mine = tuple(edge for edge in new_edges - old_edges if edge.target == asset.id)
            ended = tuple(edge for edge in old_edges - new_edges if edge.target == asset.id)
            if before.get(asset.id) != asset or mine or ended:
                events.append(
                    self.event(
                        "asset.declared",
                        asset.id,
                        AssetDeclared(asset, _sorted(mine), _sorted(ended)),
                        self.system,
                        cause,
                    )
                )
        for id_, asset in before.items():
            if manifest.asset(id_) is None:
                ended = tuple(edge for edge in old_edges if id_ in (edge.source, edge.target))
                events.append(
                    self.event(
                        "asset.retired",
                        id_,
                        AssetDeclared(asset, (), _sorted(ended)),
                        self.system,
                        cause,
                    )
                )
        self.state.commit(Write((), (*events, *self._mended(cause))))
        self._draft = None

    def _mended(self, cause: str) -> list[Event]:
        """Return the events that close the signals of a broken project."""
        found = [
            msgspec.json.decode(doc, type=Signal)
            for doc, closed in self.state.read("signals", (1 << 62, 20))
            if not closed
        ]
        return [
            self.event("signal.closed", one.id, {"id": one.id}, self.system, cause)
            for one in found
            if one.kind == "project.broken"
        ]

    def bundle_folder(self, digest: str) -> Path:
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
            folder = self.folder / "bundles" / digest
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
        bundles = self.folder / "bundles"
        temporary = bundles / f".{digest}.{os.getpid()}-{threading.get_ident()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self._unpack(digest, temporary)
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
        bundles = self.folder / "bundles"
        copies = [path for path in bundles.glob(f"{digest}-*") if _copy_number(path)]
        if os.path.lexists(bundles / digest):
            copies.append(bundles / digest)
        return sorted(copies, key=_copy_number, reverse=True)

    def collect_bundles(self, older_than_ns: int) -> int:
        """Delete unpacked bundles that were last used before an instant (ns, the file system's
        clock) and that no process holds, and return the bytes freed. The bundles of the newest
        manifest and of this process's stay while they are what was packed; one that is wanted again
        is unpacked again."""
        rows = self.state.read("project_get")
        keep = {self._manifest.bundle} if self._manifest else set()
        if rows and self.blobs.has(rows[0][1]):
            keep.add(msgspec.json.decode(self.blobs.get(rows[0][1]), type=Manifest).bundle)
        freed = 0
        for folder in sorted((self.folder / "bundles").glob("*")):
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
        if self._draft is not None and self._draft.bundle == digest:
            return self.blobs.get(self._draft.packed)
        about = (self.manifest().project, 1 << 62, 10_000)
        for entry in entries(self.state.read, "events_of_subject", about):
            if entry.envelope.type == "project.loaded" and not entry.is_erased:
                meta = msgspec.json.decode(entry.read(ProjectLoaded).bundle)
                if meta["bundle"] == digest:
                    return self.blobs.get(meta["blob"])
        raise NotFound("SX-PROJ-091", f"the bundle `{digest[:12]}` is not stored any more")

    # ------------------------------------------------------------ people and policy

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules in force: the written default, then the project's."""
        if self._rules is None:
            self._rules = (
                *DEFAULT,
                *(
                    self.manifest().policies
                    if self._manifest or self.state.read("project_get")
                    else ()
                ),
            )
        return self._rules

    def known_names(self, manifest: Manifest) -> Known:
        """Return what the rules of a manifest may name: what it declares, and what there is."""
        observed = [msgspec.json.decode(row[1], type=Asset) for row in self.state.read("assets")]
        assets = (*manifest.assets, *observed)
        return Known(
            kinds=frozenset(asset.kind for asset in assets),
            envs=frozenset((*manifest.environments, *(row[0] for row in self.state.read("envs")))),
            teams=frozenset((*(t.name for t in manifest.teams), *(a.owner for a in assets))),
        )

    def who(self, principal: Principal | None = None) -> Principal:
        """Return who acts: whoever opened the platform, or another. Who works on the project's
        folder has the teams that the project says; a token's or an account's are known already."""
        one = principal or self.principal
        if one.role or one.kind != "person":  # a token that is called as a member is no member
            return one
        return msgspec.structs.replace(one, teams=self.teams_of(one.name, one.teams))

    def teams_of(self, person: str, named: tuple[str, ...]) -> tuple[str, ...]:
        """Return the teams of a person whose token or account names some: those of them in which
        the project lists him, all of these where none is named. Of a person whom it lists nowhere:
        those that are named, but for teams whose members it lists."""
        if self._manifest is None and not self.state.read("project_get"):
            return named
        members = {team.name: team.members for team in self.manifest().teams}
        listed = tuple(team for team in members if person in members[team])
        if listed:
            return tuple(team for team in listed if not named or team in named)
        return tuple(team for team in named if not members.get(team))

    def allow(
        self,
        by: Principal,
        verb: str,
        asset: Asset | None,
        env: str,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Return what the policy says if it lets `by` do it. Denied, with the rules that say no;
        the refusal is an event."""
        decision = self.decide(by, verb, asset, env, context)
        cannot_wait = decision.verdict == "approval" and verb not in _WAITS
        if decision.verdict == "deny" or cannot_wait:
            subject = asset.id if asset else env
            self._record_denied(by, verb, subject, env, decision)
            raise Denied(
                "SX-POLICY-001",
                f"`{by}` may not {verb} `{subject}`: {'; '.join(decision.reasons)}",
                hint=f"needs {wanted(decision.needs)}: only a release can wait for approval"
                if cannot_wait
                else "ask the owner of the policy",
            )
        with self._lock:
            self._record()
        return decision

    def _record_denied(
        self, by: Principal, verb: str, subject: str, env: str, decision: Decision
    ) -> None:
        """Write the event of a refusal. Equal ones within a minute are one event, and the next
        says how many there were: a flood must not fill a ledger that is never pruned."""
        key = (str(by), verb, subject, env, decision.reasons)
        now = self.clock.now_ns()
        with self._lock:
            at, times = self._denied.pop(key, (0, 0))
            if at and now - at < DENIED_AGAIN_S * NS:
                self._denied[key] = (at, times + 1)
                return
            while len(self._denied) >= _DECISIONS_MAX:
                self._denied.pop(next(iter(self._denied)))
            self._denied[key] = (now, 0)
        data: dict[str, Any] = {
            "verb": verb,
            "asset": subject,
            "env": env,
            "reasons": decision.reasons,
        }
        if times:
            data["times_before"] = times
        self.state.commit(Write((), (self.event("decision.denied", subject, data, by, ""),)))

    def decide(
        self,
        by: Principal,
        verb: str,
        asset: Asset | None,
        env: str,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Return what the rules say; the answer to an equal question is remembered until the
        project changes."""
        facts = (asset.id, asset.owner, asset.tier, asset.mode) if asset else None
        told = tuple(sorted((context or {}).items()))
        question = (self.manifest_digest, by, verb, facts, env, told)
        found = self._decisions.get(question)
        if found is None:
            if (
                len(self._decisions) > _DECISIONS_MAX
            ):  # questions name people and assets: a server meets many
                self._decisions.clear()
            found = self._decisions[question] = decide(self.rules(), by, verb, asset, env, context)
        return found

    def check_env(self, env: str) -> None:
        """NotFound unless the environment exists."""
        names = [row[0] for row in self.state.read("envs")]
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
        return self._manifest.environments if self._draft and self._manifest else ()

    def asset(self, name: str) -> Asset:
        """Return an asset by id, or by name when only one kind has it. NotFound lists near
        names."""
        import difflib

        found = [a for a in self.manifest().assets if name in (a.id, a.name)]
        observed = self.state.read("asset_get", (name,)) if not found else []
        if observed:
            return msgspec.json.decode(observed[0][0], type=Asset)
        exact = [a for a in found if a.id == name] or found
        if len(exact) == 1:
            return exact[0]
        if exact:
            raise UserError(
                "SX-PLAN-004",
                f"`{name}` is {' and '.join(a.id for a in exact)}",
                hint="write the kind too",
            )
        names = [a.id if ":" in name else a.name for a in self.manifest().assets]
        near = difflib.get_close_matches(name, names, n=3)
        raise NotFound(
            "SX-PLAN-002",
            f"there is no asset `{name}`",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else "`sextant graph` lists the assets",
        )

    def stream(self, name: str) -> Asset:
        """Return a dataset by its name alone, or by its id. NotFound."""
        return self.asset(name if ":" in name else f"dataset:{name}")

    def known_asset(self, id_: str) -> Asset | None:
        """Return an asset by its id: as the project declares it, else as it was last seen; None
        when there never was one."""
        declared = self.manifest().asset(id_)
        rows = [] if declared else self.state.read("asset_get", (id_,))
        return msgspec.json.decode(rows[0][0], type=Asset) if rows else declared

    def person_behind(self, actor: str) -> str | None:
        """Return who answers for an actor of the ledger; "" for the platform itself, None when it
        cannot be told: entries of earlier releases name a token and not its person."""
        kind, _, name = actor.partition(":")
        if kind == "system":
            return ""
        found = person_of(actor)
        if found and found not in {team.name for team in self.manifest().teams}:
            return found
        return self.access.person_of_token(kind, name.partition(" ")[0]) or found or None

    def is_own(self, by: Principal, actor: str) -> bool:
        """Say whether what an actor of the ledger made is `by`'s: he is it, or the person who
        answers for it. A token has nothing of the other tokens of its person."""
        return by.sender == actor_of(actor).sender or (
            by.is_oneself and self.person_behind(actor) == by.name
        )

    def answers_for(self, by: Principal, actor: str) -> bool:
        """Say whether one person stands behind both, however many tokens lie between: what the one
        did, the other does not judge."""
        return by.sender == actor_of(actor).sender or (
            bool(by.person) and self.person_behind(actor) == by.person
        )

    def graph(self) -> tuple[dict[str, Asset], list[Edge]]:
        """Return the assets by id, those that the project declares first, and the edges that hold
        now."""
        manifest = self.manifest()
        now = self.clock.now_ns()
        known = {asset.id: asset for asset in manifest.assets}
        for id_, doc, _ in self.state.read("assets"):
            known.setdefault(id_, msgspec.json.decode(doc, type=Asset))
        edges = [
            Edge(source=s, target=t, kind=k, valid_from=f, valid_to=u)
            for s, t, k, f, u in self.state.read("edges_at", (now, now))
        ]
        if self._draft is not None:  # not in the store yet
            rows = self.state.read("project_get")
            before = _edges(self._stored(rows[0][1]) if rows else None)
            edges = [
                edge
                for edge in edges
                if Edge(source=edge.source, target=edge.target, kind=edge.kind) not in before
            ]
            edges += _sorted(tuple(_edges(manifest)))
        return known, edges

    def select(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the assets that a person names, none for no text: see
        `engine.selection`."""
        if not texts:
            return ()
        known, edges = self.graph()
        return selected(texts, known, edges, find=lambda word: self.asset(word).id)

    # ------------------------------------------------------------ events, executors, upkeep

    def event(self, type_: str, subject: str, data: Any, by: Principal, cause: str) -> Event:
        """Return an event that is not written yet."""
        return event(self.ids, type_, subject, data, actor=str(by), cause=cause)

    def executor(self, kind: str) -> Executor:
        """Return the executor of a kind: inline, pool, subprocess; "" = the platform's default."""
        kind = kind or self._executor_kind
        with self._lock:
            if kind not in self._executors:
                if kind == "inline":
                    self._executors[kind] = InlineExecutor()
                elif kind in ("pool", "subprocess"):
                    self._executors[kind] = ProcessExecutor(
                        self.config.workers or min(4, os.cpu_count() or 1),
                        keep=kind == "pool",
                        unpack=self._unpack,
                    )
                else:
                    raise UserError(
                        "SX-RUN-002",
                        f"there is no executor `{kind}`",
                        hint="inline, pool or subprocess",
                    )
            return self._executors[kind]

    def warm(self) -> None:
        """Start the workers, and import what the first commit needs, while something else is being
        done. Once is enough."""
        if self._warm:
            return
        self._warm = True
        pool = self.executor("")
        if isinstance(pool, ProcessExecutor):
            pool.warm()
        threading.Thread(target=self.lake.warm, name="sextant-warm", daemon=True).start()

    def _unpack(self, digest: str, folder: Path) -> None:
        """Unpack a bundle into a folder, from the project's files or from its blob. Damaged when
        the blob is not the bundle that was recorded."""
        got, packed = bundle.pack(self.root, self.config.include, self.config.written)
        unpacked = bundle.unpack(packed if got == digest else self._packed(digest), folder)
        if unpacked != digest:
            raise Damaged(
                "SX-BUNDLE-003",
                f"what is stored as bundle `{digest[:12]}` is another one",
                hint="restore it from a backup: sextant backup restore",
            )

    def after_run(self, env: str, tables: Mapping[str, RunTable], published: Published) -> None:
        """Merge small files of what was published; the content, and so the version, stays."""
        del env
        if published.release is None or published.release.state != "live":
            return
        from sextant.app.data_check import damage_signal

        events: list[Event] = []
        for id_, digest in published.versions.items():
            if id_ not in tables:
                continue
            if published.files.get(id_, 0) < _COMPACT_FILES:
                continue
            version = self.versions.get(id_, digest)
            try:
                commit = self.lake.compact(id_.replace(":", ".", 1), version.locator)
            except Damaged as error:  # what is published stays; its readers are refused
                events += damage_signal(self, id_, error.message)
                continue
            if commit is not None:
                events.append(
                    self.event(
                        "version.relocated",
                        f"{id_}@{digest}",
                        VersionRelocated(id_, digest, commit.locator),
                        self.system,
                        "",
                    )
                )
        if events:
            self.state.commit(Write((), tuple(events)))

    def ask(
        self, sql: str, form: str, params: Mapping[str, str], role: str, person: str = ""
    ) -> bytes:
        """Answer a question in ClickHouse's SQL, by the telemetry process of the server that runs
        for this project, or by a store opened for the question."""
        if self.asker is None:
            from sextant.kernel import registry

            self.asker = registry.load("query.local")(self)
        assert self.asker is not None
        return self.asker(sql, form, params, role, person)

    def at_close(self, do: Callable[[], None]) -> None:
        """Do something when the platform closes; the newest first."""
        self._closing.callback(do)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until an interruption, or until there is something to do that
        this thread has not seen."""
        with self._nudged:
            self._nudged.wait_for(
                lambda: (
                    self._interrupted.is_set()
                    or self._nudges != getattr(self._noticed, "nudges", 0)
                ),
                seconds,
            )
            self._noticed.nudges = self._nudges

    def nudge(self) -> None:
        """Wake who waits in `pause`: something may be due."""
        with self._nudged:
            self._nudges += 1
            self._nudged.notify_all()

    def interrupt(self) -> None:
        """Stop what runs in this process, cleanly. May be called by a signal's handler."""
        self._interrupted.set()
        threading.Thread(
            target=self.nudge, daemon=True
        ).start()  # the thread that was interrupted may hold the condition

    def check(self, env: str, name: str, *, by: Principal) -> list[CheckResult]:
        """Run every check of an asset on its live version, `live` ones included; failed ones raise
        a signal."""
        return self.runs.check(env, self.asset(name), by=by)

    def create_env(self, name: str, parent: str, *, by: Principal | None = None) -> None:
        """Create an environment that falls through to `parent`. UserError for a bad or taken
        name."""
        self.manifest()
        self.check_env(parent)
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,127}", name) or _IS_ID.fullmatch(name):
            raise UserError(
                "SX-ENV-002",
                f"`{name}` is not a name for an environment",
                hint="lower-case letters, digits, - and _, starting with a letter; not an id",
            )
        if name in {row[0] for row in self.state.read("envs")}:
            raise UserError(
                "SX-ENV-003",
                f"there is an environment `{name}` already",
                hint=f"`sextant env drop {name}` removes it",
            )
        by = by or self.who()
        self.state.commit(
            Write((), (self.event("env.created", name, EnvCreated(name, parent), by, ""),))
        )

    def drop_env(self, name: str, *, by: Principal | None = None) -> None:
        """Drop an environment that the project does not declare and that nothing falls through to.
        Conflict while a release is open or a run is in progress in it."""
        self.check_env(name)
        if name in self.manifest().environments:
            raise UserError(
                "SX-ENV-004",
                f"`{name}` is declared by the project",
                hint="take it out of sx.project(environments=...) first",
            )
        children = [row[0] for row in self.state.read("envs") if row[1] == name]
        if children:
            raise UserError(
                "SX-ENV-005",
                f"{', '.join(children)} fall through to `{name}`",
                hint="drop them first",
            )
        moving = [
            release.id
            for release in self.releases.open()
            if any(move.env == name for move in release.moves)
        ]
        if moving:
            raise Conflict(
                "SX-ENV-006",
                f"release {moving[0]} is open in `{name}`",
                hint=f"`sextant approve {moving[0]} --deny` ends one that waits",
            )
        by = by or self.who()
        same = environment_guard(self, name)
        refuse_environment_in_use(self, name)
        self.runs.end_crashed(name, by=by, reason=f"environment `{name}` was dropped")
        dropped = self.event("env.dropped", name, EnvCreated(name), by, "")
        self.state.commit(Write((same,), (dropped,)))

    def report(
        self,
        env: str,
        kind: str,
        asset: str,
        *,
        version: str = "",
        state: str = "",
        name: str = "",
        message: str = "",
        url: str = "",
        owner: str = "",
        upstream: tuple[str, ...] = (),
        downstream: tuple[str, ...] = (),
        cause: str = "",
        by: Principal | None = None,
    ) -> Reported:
        """Record what another tool did with an observed asset; the asset joins the graph when it is
        seen first.

        upstream, downstream  assets that it stands on, and that stand on it
        Raises UserError for a managed asset, an unknown state or a cause that is no event.
        """
        by = by or self.who()
        states = {
            "release": ("live", "rolled_back", "rejected"),
            "run": ("finished", "failed"),
            "check": ("ok", "failed"),
        }[kind]
        state = state or states[0]
        if state not in states:
            raise UserError(
                "SX-REPORT-001",
                f"`{state}` is not a state of a {kind}",
                hint=f"one of {', '.join(states)}",
            )
        from sextant.app.observed import check_reported

        check_reported(asset)
        managed = self.manifest().asset(asset)
        if managed is not None and managed.mode == "managed":
            raise UserError(
                "SX-REPORT-003",
                f"`{asset}` is managed by Sextant: what it does is recorded by itself",
                hint="report on assets that other tools manage",
            )
        if cause and not self.state.read("event_seq", (cause,)):
            raise NotFound(
                "SX-REPORT-004",
                f"there is no event `{cause}`",
                hint="`sextant ledger show` lists events",
            )
        kind_, _, short = asset.partition(":")
        rows = self.state.read("asset_get", (asset,))
        last = msgspec.json.decode(rows[0][0], type=Asset) if rows else None
        known = last if rows and not rows[0][1] else None
        noun = Asset(kind=kind_, name=short, mode="observed", owner=owner)
        if last is not None and not owner:
            noun = msgspec.structs.replace(noun, owner=last.owner)
        edges = tuple(
            Edge(source=self.asset(id_).id, target=asset, kind="feeds") for id_ in upstream
        )
        edges += tuple(
            Edge(source=asset, target=self.asset(id_).id, kind="feeds") for id_ in downstream
        )
        events: list[Event] = [] if known else self._room_for(noun)
        if known is None or edges or known.owner != noun.owner:
            events.append(
                self.event("asset.observed", asset, AssetDeclared(noun, edges), by, cause)
            )
        data = {
            "asset": asset,
            "env": env,
            "version": version,
            "state": state,
            "name": name,
            "message": message,
            "url": url,
        }
        done = self.event(
            f"{kind}.reported",
            asset,
            {k: v for k, v in data.items() if v},
            by,
            cause or (events[-1].id if events else ""),
        )
        events.append(done)
        check = evidence(env, name) if kind == "check" else {}
        if check and state == "ok":
            events += close_passed(
                self.state, self.ids, env, asset, {name}, actor=str(by), cause=done.id
            )
        bad = state in ("failed", "rejected", "rolled_back")
        if bad:
            found = Signal(
                id=self.ids.new("sig"),
                asset=asset,
                kind=f"{kind}.{state}",
                severity="error",
                message=f"{asset}: {name or kind} {state}" + (f": {message}" if message else ""),
                onset=self.clock.now_ns(),
                evidence=check,
            )
            events.append(self.event("signal.raised", found.id, found, by, done.id))
        self.state.commit(Write((), tuple(events)))
        return {"asset": asset, "type": done.type, "event": done.id, "new": known is None}

    def _room_for(self, observed: Asset) -> list[Event]:
        """Return the events that make room for one more observed asset. Busy when its owner has too
        many."""
        from sextant.app.observed import ObservedAssets

        room = ObservedAssets(self).take(observed.owner)
        if room is None:
            whose = f"`{observed.owner}`" if observed.owner else "no owner"
            raise Busy(
                "SX-REPORT-005",
                f"the graph has {OBSERVED_PER_OWNER_MAX:,} observed assets of {whose}, each seen "
                "within a day",
                hint="report under fewer names, and with the --owner whose assets they are",
            )
        return room

    def close_signal(self, id_: str, reason: str, *, by: Principal | None = None) -> None:
        """Close a signal: somebody has looked at it. NotFound for an unknown or closed one; Denied
        for who broke the glass that it is about."""
        by = by or self.who()
        found = self.state.read("signal_get", (id_,))
        if not found or found[0][1]:
            raise NotFound(
                "SX-SIGNAL-001",
                f"there is no open signal `{id_}`",
                hint="`sextant signals` lists them",
            )
        raised = entries(self.state.read, "events_of_both", (id_, "signal.raised", 1))
        signal_ = msgspec.json.decode(found[0][0], type=Signal)
        if signal_.kind == GLASS and raised and self.answers_for(by, raised[0].envelope.actor):
            who = raised[0].envelope.actor
            raise Denied(
                "SX-SIGNAL-002",
                "who broke the glass does not close its signal"
                if str(by) == who
                else f"`{by.person}` answers for `{who}`, who broke the glass",
                hint="somebody else looks at it and closes it",
            )
        self.state.commit(
            Write((), (self.event("signal.closed", id_, {"id": id_, "reason": reason}, by, ""),))
        )

    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Say that what is done here looks by itself whether it is interrupted."""
        self._stoppable += 1
        try:
            yield
        finally:
            self._stoppable -= 1

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Turn the first Ctrl-C (and SIGTERM) into a clean stop of what runs; the second one ends
        the process, as the first does when nothing runs."""

        def stop(number: int, _frame: object) -> None:
            self.interrupt()
            signal.signal(number, signal.SIG_DFL)
            if not self._stoppable:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def close(self) -> None:
        """End the workers and what was begun for this platform, sign what was written, close the
        stores."""
        self._closing.close()
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()
        if "access" in self.__dict__:
            self.access.close()
        self.publisher.close()
        try:
            if self.ledger.size() > self._events_at_start:
                self.sealing.checkpoint()
        finally:
            self.state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def _freeze() -> None:
    """Let full collections pass over what is imported by now: it lives as long as the process.
    Once: a later platform that is closed must be free to go."""
    gc.freeze()


def _mark(draft: _Draft) -> bytes:
    """Return what is remembered of an edit that was loaded here."""
    return mark_of(f"draft {draft.manifest} {draft.bundle} {draft.packed}")


def _edges(manifest: Manifest | None) -> set[Edge]:
    """Return the edges that a manifest implies: what feeds what, and what measures what."""
    out: set[Edge] = set()
    for asset in manifest.assets if manifest else ():
        if asset.build:
            out |= {Edge(source=i.asset, target=asset.id, kind="feeds") for i in asset.build.inputs}
        if asset.kind == "kpi" and asset.measure:
            out.add(Edge(source=asset.measure.of, target=asset.id, kind="measures"))
            out.add(Edge(source=asset.id, target=f"dataset:kpi_{asset.name}", kind="contains"))
    return out


def _sorted(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda e: (e.source, e.target, e.kind)))


__all__ = ["LocalPlatform"]


def _copy_number(folder: Path) -> int:
    """Return n of an unpacked bundle `<digest>-<n>`; 0 of the first, `<digest>`."""
    number = folder.name.partition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0
