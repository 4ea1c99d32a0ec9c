"""Backups: state, lake, blobs and keys as one folder that proves itself, and the way back.

The state is copied first, as of one moment; files that it names are immutable, so copying them
afterwards gives one consistent whole while runs go on. `backup.json` lists every file with its
digest. The list proves that the backup is what was copied; that what was copied is what runs wrote
says the ledger in it.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sextant.app.sealing import Sealing
from sextant.core import Core
from sextant.engine.bodies import blob_of
from sextant.kernel.clock import SystemClock, iso
from sextant.kernel.errors import Damaged, NotFound, SextantError, UserError
from sextant.project.config import FILE, OWN, Config, Pin, read_config
from sextant.stores.files import tighten
from sextant.stores.lake.iceberg import IcebergLake
from sextant.stores.state import is_postgres

_LIST = "backup.json"


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds: path inside it -> hex SHA-256."""

    project: str
    created_at: int
    events: int
    checkpoint: str
    key: str = ""  # name of the key file inside the backup
    public: str = ""
    files: dict[str, str] = {}


def create(core: Core, sealing: Sealing, target: Path) -> dict[str, Any]:
    """Write a backup into a new folder. UserError when it exists; StorageError when the disk is
    full: nothing is left then."""
    if target.exists():
        raise UserError("SX-BACKUP-001", f"`{target}` exists", hint="name a new folder")
    if any(
        target.resolve().is_relative_to(own.resolve())
        for own in (core.project.folder, core.lake.root, core.blobs.root)
    ):
        raise UserError(
            "SX-BACKUP-007",
            f"`{target}` lies in what is backed up",
            hint="name a folder outside of .sextant and of the lake, best on another disk",
        )
    note = sealing.checkpoint()
    signer = sealing.signer()
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    try:
        kept = core.state.read("versions_kept")  # those of the copy, or some that are newer
        core.state.backup(partial / "state.db")
        for name, source in (("lake", core.lake.root), ("blobs", core.blobs.root)):
            if source.exists():
                shutil.copytree(source, partial / name, ignore=shutil.ignore_patterns("*.tmp"))
        shutil.copy2(core.project.config.root / FILE, partial / FILE)
        (partial / "key.pem").write_bytes(sealing.key_path.read_bytes())
        (partial / "key.pem").chmod(0o600)
        rows = core.state.read("event_head")
        files = {name: _digest(partial / name) for name in _walk(partial)}
        lake = IcebergLake(partial / "lake", clock=core.clock, ids=core.ids)
        damaged = [text for text, name in _differing(lake, kept, files) if name in files]
        listing = Listing(
            project=sealing.project_id,
            created_at=core.clock.now_ns(),
            events=rows[0][0] + 1 if rows else 0,
            checkpoint=note,
            key="key.pem",
            public=signer.public,
            files=files,
        )
        (partial / _LIST).write_bytes(msgspec.json.format(msgspec.json.encode(listing)))
        tighten(partial)
        for name in _walk(partial):
            _sync(partial / name)
        partial.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    size = sum((target / name).stat().st_size for name in _walk(target))
    return {
        "folder": str(target),
        "files": len(files),
        "size_bytes": size,
        "events": listing.events,
        "damaged": damaged,
    }


def _differing(
    lake: "IcebergLake", kept: Iterable[Sequence[Any]], digests: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield what is not as the ledger says of the files that versions name, and of blobs, each with
    its name in the backup.

    kept     rows of `versions_kept`
    digests  of the files of the backup, by name
    """
    seen: set[str] = set()
    for asset, digest, locator, _ in kept:
        of = f"{asset}@{digest[:12]}"
        if blob := blob_of(locator):
            name = f"blobs/{blob[:2]}/{blob[2:4]}/{blob}"
            if name not in digests:
                yield f"{of} lacks its body", name
            continue
        try:
            stored = lake.stored(locator) if locator else ()
        except SextantError as error:
            yield f"{of}: {error.message}", f"lake/{locator}"
            continue
        for file in stored:
            name = f"lake/{file.path}"
            have = digests.get(name)
            if name in seen or (have is not None and file.sha256 in ("", have)):
                continue
            seen.add(name)
            about = ", ".join((of, *sorted(file.partitions)[:1]))
            if have is None:
                yield f"{about} lacks `{file.path}`", name
            else:
                yield f"`{name}` of {about} is not what was written", name
    for name, have in digests.items():
        if name.startswith("blobs/") and name.rpartition("/")[2] != have:
            yield f"`{name}` is not what was written", name


def verify(folder: Path) -> dict[str, Any]:
    """Check a backup: every file's digest, the ledger with its signatures and projections, and that
    the files of versions are those that the ledger names. Returns findings, and `damaged`: what was
    not what was written when it was copied; two empty lists are a good backup."""
    listing = _listing(folder)
    findings = [f"`{name}` is missing" for name in listing.files if not (folder / name).is_file()]
    findings += [
        f"`{name}` was changed"
        for name, digest in listing.files.items()
        if (folder / name).is_file() and _digest(folder / name) != digest
    ]
    findings += [
        f"`{name}` is not part of the backup"
        for name in _walk(folder)
        if name not in listing.files and name != _LIST
    ]
    events = 0
    damaged: list[str] = []
    if not findings:
        import tempfile

        from sextant.kernel.ids import Ids
        from sextant.ledger.log import Ledger
        from sextant.ledger.rebuild import bring_up_to_date
        from sextant.ledger.verify import verify as verify_ledger
        from sextant.stores.state.sqlite import SqliteState

        clock = SystemClock()
        with tempfile.TemporaryDirectory(prefix="sextant-backup-") as scratch:
            shutil.copy2(
                folder / "state.db", Path(scratch) / "state.db"
            )  # opening must not touch the backup
            with SqliteState(Path(scratch) / "state.db", Ledger(clock), clock=clock) as state:
                bring_up_to_date(state, lambda _: None)  # a backup may be older than this Sextant
                report = verify_ledger(state, public=listing.public)
                events = report.events
                findings += [f"{f.table} at {f.seq}: {f.message}" for f in report.findings]
                if events < listing.events:
                    findings.append(
                        f"the ledger has {events} events, the backup says {listing.events}"
                    )
                lake = IcebergLake(folder / "lake", clock=clock, ids=Ids(clock))
                kept = state.read("versions_kept")
                damaged = [text for text, _ in _differing(lake, kept, listing.files)]
    return {
        "folder": str(folder),
        "ok": not findings and not damaged,
        "events": events,
        "files": len(listing.files),
        "findings": findings,
        "damaged": damaged,
        "created_at": iso(listing.created_at),
    }


def restore(folder: Path, target: Path) -> dict[str, Any]:
    """Put a verified backup into a project folder that has no `.sextant` yet. The project's own
    files come from its version control. State, lake and key go where its `sextant.toml` says; the
    backup's own is taken when the folder has none. What was damaged when it was copied comes along,
    is named in the answer, and is refused by whatever opens it.

    Raises  Damaged for a backup that does not verify; UserError when the lake's folder holds
            something; Conflict when the
            Postgres schema holds a ledger
    """
    found = verify(folder)
    if found["findings"]:
        raise Damaged(
            "SX-BACKUP-002",
            f"the backup does not verify: {found['findings'][0]}",
            hint=f"`sextant backup verify {folder}` lists everything",
        )
    listing = _listing(folder)
    target = target.resolve()
    config = msgspec.structs.replace(
        read_config(target if (target / FILE).exists() else folder), root=target
    )
    _check_pin(config.ledger, listing.project, read_config(folder).ledger)
    into = target / OWN
    lake = config.lake_folder.resolve()
    if into.exists():
        raise UserError(
            "SX-BACKUP-003",
            f"`{into}` exists",
            hint="move it away first: a restore never writes over a project",
        )
    if lake.exists() and (not lake.is_dir() or any(lake.iterdir())):
        raise UserError(
            "SX-BACKUP-006",
            f"the lake's folder `{lake}` holds something",
            hint=f"move it away, or let `lake` of {FILE} name another folder",
        )
    target.mkdir(parents=True, exist_ok=True)
    partial = target / ".sextant.partial"
    lake_partial = (
        partial / lake.relative_to(into)
        if lake.is_relative_to(into)
        else lake.with_name(lake.name + ".partial")
    )
    for stale in (partial, lake_partial):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        for source, copy in (
            (folder / "lake", lake_partial),
            (folder / "blobs", partial / "blobs"),
        ):
            if source.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, copy)
        shutil.copy2(folder / "state.db", partial / "state.db")
        if is_postgres(config.state):
            _into_postgres(config, partial / "state.db")
        tighten(partial)
        for path in (*partial.rglob("*"), *lake_partial.rglob("*")):
            if path.is_file():
                _sync(path)
    except BaseException:
        for stale in (partial, lake_partial):
            shutil.rmtree(stale, ignore_errors=True)
        raise
    if not (target / FILE).exists():
        shutil.copy2(folder / FILE, target / FILE)
    key = _place_key(folder / listing.key, config, listing.project)
    if lake_partial.exists() and not lake_partial.is_relative_to(partial):
        if lake.exists():
            lake.rmdir()
        lake_partial.rename(lake)
        _sync(lake.parent)
    partial.rename(into)
    _sync(target)
    _keep_witness(config, listing)
    return {
        "folder": str(target),
        "events": found["events"],
        "files": found["files"],
        "key": str(key),
        "lake": str(lake),
        "damaged": found["damaged"],
    }


def _check_pin(pin: Pin | None, project: str, saved: Pin | None) -> None:
    """Refuse a backup of another ledger than the project's. `saved` is the pin that the project had
    when it was backed up: a ledger may have stood beside another machine's pin."""
    if pin is not None and pin.id != project and pin != saved:
        raise UserError(
            "SX-BACKUP-008",
            f"the backup is of ledger {project}, {FILE} pins {pin.id}",
            hint=f"restore the backup of that ledger; or take `ledger` out of {FILE}, restore "
            "again, and run `sextant ledger pin`",
        )


def _keep_witness(config: Config, listing: Listing) -> None:
    """Keep what the backup ends with as the witness of the place it was restored to."""
    from sextant.app.pin import place_digest
    from sextant.ledger.witness import Witness, default_witness_path, keep_witness

    if listing.checkpoint:
        witness = Witness(listing.public, listing.checkpoint)
        keep_witness(default_witness_path(place_digest(config)), witness)


def _into_postgres(config: Config, copy: Path) -> None:
    """Move a copy of the backup's state into the schema that the project names."""
    from sextant.ledger.log import Ledger
    from sextant.stores.state.postgres import PostgresState

    clock = SystemClock()
    with PostgresState(config.state, Ledger(clock), clock=clock, schema=config.schema) as state:
        state.restore(copy)
    for path in copy.parent.glob(copy.name + "*"):
        path.unlink()


def _place_key(source: Path, config: Config, project: str) -> Path:
    """Put the signing key where the project looks for it; one that is there stays."""
    from sextant.ledger.checkpoint import default_key_path

    key = config.key_file or default_key_path(project)
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(source.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    return key


def _listing(folder: Path) -> Listing:
    try:
        return msgspec.json.decode((folder / _LIST).read_bytes(), type=Listing)
    except FileNotFoundError as error:
        raise NotFound(
            "SX-BACKUP-004",
            f"`{folder}` is no backup: it has no {_LIST}",
            hint="`sextant backup create DIR` makes one",
        ) from error
    except msgspec.DecodeError as error:
        raise Damaged(
            "SX-BACKUP-005",
            f"{_LIST} of `{folder}` cannot be read: {error}",
            hint="use another backup",
        ) from error


def _walk(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
