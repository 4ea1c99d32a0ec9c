"""Reads every byte of the lake that a kept version names, and compares: files with the digests that
were recorded when they were written, rows with the content digests that stand in the ledger.

What `stores/verified.py` remembers is not asked here. Files of earlier releases, of which nothing
was recorded, get their digest once their rows have proved right, and files without profiles of
their columns, or with damaged ones, get these: their states are written once more, which is a
`version.relocated` in the ledger.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sextant.app.operations.row import Progress
from sextant.core import Core
from sextant.engine.bodies import blob_of
from sextant.kernel.answers import DataChecked, DataFinding, RunProgress
from sextant.kernel.errors import Conflict, SextantError
from sextant.kernel.limits import DATA_FINDINGS_MAX
from sextant.kernel.nouns import Event, FileRef, Part, Principal, Version
from sextant.kernel.ports import Statement, StoredFile, Write
from sextant.kinds.dataset.spec import table_spec
from sextant.ledger.log import entries
from sextant.ledger.projections import AssetDeclared, VersionRelocated
from sextant.ledger.signals import raise_signal
from sextant.stores import files as disk
from sextant.stores.lake.profiles import is_profiles
from sextant.stores.lake.types import PARTITION
from sextant.stores.verified import digest_of, mark_of, memory, stamp

if TYPE_CHECKING:
    import pyarrow as pa


DAMAGED = "data.damaged"  # kind of a signal
_FAR = 1 << 62
_DIGITS = 12
_IN_METADATA = "/metadata/"  # in the path of a file that is no data file
_READS_MAX = 3  # of one file, while other processes touch it
_DECLARED_MAX = 1_000  # declarations of an asset that are looked through for its keys
_RESTORE = "restore it from a backup, or make the partition again: sextant run --force"


def check_data(core: Core, *, by: Principal, progress: Progress | None = None) -> DataChecked:
    """Check all files of kept versions and their rows; record digests where there are none, and
    raise a signal for each asset with a finding that has none open.

    Memory  the rows of one group of files that share partitions, a digest for each partition
    """
    check = _Check(core, progress)
    kept = core.state.read("versions_kept")
    for number, (asset, digest, locator, _) in enumerate(kept):
        check.say(f"{asset}@{digest[:_DIGITS]}", number, len(kept))
        if locator:
            check.version(asset, digest, locator)
    recorded = check.record(by)
    check.raise_signals()
    return {
        "versions": check.versions,
        "files": len(check.good) + len(check.bad),
        "size_bytes": check.size_bytes,
        "partitions": len(check.seen),
        "recorded": recorded,
        "profiled": len(check.profiled),
        "findings": check.findings,
        "left_out": check.left_out,
        "notes": sorted(check.notes),
    }


class _Check:
    """One check: what was found so far, each file and each partition once."""

    def __init__(self, core: Core, progress: Progress | None) -> None:
        self._core, self._progress = core, progress
        self.versions = self.size_bytes = self.left_out = 0
        self.good: dict[str, str] = {}  # path -> digest of files that are what was written
        self._metadata: dict[str, str] = {}  # those of them that are no data files
        self._stamps: dict[str, bytes] = {}  # path -> the stamp of a data file when it was hashed
        self.bad: set[str] = set()
        self.seen: set[bytes] = set()  # partitions with the files that hold them
        self.unrecorded: dict[str, str] = {}  # digests of files that had none, rows right
        # data files whose profiles were made, with digest and size of these
        self.profiled: dict[str, tuple[str, int]] = {}
        self.findings: list[DataFinding] = []
        self.notes: set[str] = set()
        self._states: list[tuple[str, str, str]] = []  # that lack digests
        self._keys: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._schemas: dict[str, tuple[tuple[tuple[str, str], ...], ...]] = {}

    def say(self, step: str, ended: int, total: int) -> None:
        if self._progress is not None:
            self._progress(
                RunProgress(
                    step=step, ended=ended, total=total, rows=len(self.seen), running=(step,)
                )
            )

    def version(self, asset: str, digest: str, locator: str) -> None:
        """Check the files and rows of one version. One that expired or was merged meanwhile is left
        out."""
        if blob_of(locator):
            self._blob(asset, digest, locator)
            return
        lake = self._core.lake
        found: list[tuple[str, str, str]] = []  # partitions, file, what
        try:
            stored = lake.stored(locator)
            for file in stored:
                if file.path not in self.good and file.path not in self.bad:
                    text = self._file(file)
                    if text and is_profiles(file.path):
                        self.notes.add(f"{asset}: `{file.path}` {text}; it is made of the rows")
                    elif text:
                        found.append((_span(file.partitions), file.path, text))
            # read again: what was hashed is what the rows are compared by, and what is recorded
            refs = lake.files(locator, self._metadata)
        except SextantError as error:
            if self._is_current(asset, digest, locator):
                for partitions, path, text in found or [("", locator, error.message)]:
                    self._find(asset, digest, partitions, path, text)
            return
        parts = self._core.versions.parts(asset, digest)
        found += self._rows(asset, digest, refs, parts)
        if found and not self._is_current(asset, digest, locator):
            return
        self.versions += 1
        for partitions, path, text in found:
            self._find(asset, digest, partitions, path, text)
        rows = [file for file in stored if not is_profiles(file.path)]
        if found or any(file.path in self.bad for file in rows):
            return
        lacking = [ref.path for ref in refs if self._is_profiled_anew(ref)]
        if lacking or not all(file.sha256 for file in rows):
            self._states.append((asset, digest, locator))

    def _blob(self, asset: str, digest: str, locator: str) -> None:
        """Check the body of a version that is one blob."""
        try:
            self._core.blobs.get(blob_of(locator))
        except SextantError as error:
            if self._is_current(asset, digest, locator):
                self._find(asset, digest, "", locator, error.message)
                return
        self.versions += 1

    def _is_current(self, asset: str, digest: str, locator: str) -> bool:
        rows = self._core.state.read("version_get", (asset, digest))
        return bool(rows) and rows[0][1] == locator and not rows[0][2]

    def _find(self, asset: str, digest: str, partitions: str, file: str, found: str) -> None:
        if len(self.findings) >= DATA_FINDINGS_MAX:
            self.left_out += 1
            return
        self.findings.append(
            {
                "asset": asset,
                "version": digest,
                "partitions": partitions,
                "file": file,
                "found": found,
                "hint": _RESTORE,
            }
        )

    # ------------------------------------------------------------ files

    def _file(self, file: StoredFile) -> str:
        """Hash a file; return what is wrong with it. What is right is remembered."""
        place = disk.join(self._core.lake.root, file.path)
        looked_ns = memory().clock.now_ns()
        try:
            sha256, status = digest_of(place)
        except FileNotFoundError:
            self.bad.add(file.path)
            return "is missing"
        except OSError as error:
            self.bad.add(file.path)
            return f"cannot be read: {error.strerror or error}"
        self.size_bytes += status.st_size
        if file.sha256 and file.sha256 != sha256:
            self.bad.add(file.path)
            return "is not what was written"
        self.good[file.path] = sha256
        if _IN_METADATA in file.path:
            self._metadata[file.path] = sha256
        self._stamps[file.path] = stamp(status)
        if file.sha256:
            memory().add(
                mark_of(sha256, stamp(status)),
                changed_ns=status.st_ctime_ns,
                looked_ns=looked_ns,
            )
        return ""

    # ------------------------------------------------------------ rows

    def _rows(
        self, asset: str, digest: str, refs: Sequence[FileRef], parts: Mapping[str, Part]
    ) -> Iterator[tuple[str, str, str]]:
        """Recompute the content digests of a version's partitions, group by group of the files that
        hold them."""
        holders: dict[str, list[FileRef]] = {}
        for ref in refs:
            for name in ref.partitions:
                holders.setdefault(name, []).append(ref)
        for name in sorted(holders.keys() - parts.keys()):
            yield name, holders[name][0].path, "holds a partition that the version does not have"
        groups: dict[tuple[FileRef, ...], list[str]] = {}
        for name, part in parts.items():
            if part.rows and name not in holders:
                yield name, "", "no file holds its rows"
            elif part.rows and not any(ref.path in self.bad for ref in holders[name]):
                mark = _mark(part, holders[name])
                if mark not in self.seen:
                    self.seen.add(mark)
                    groups.setdefault(tuple(holders[name]), []).append(name)
        for held, names in groups.items():
            yield from self._group(asset, digest, held, {name: parts[name] for name in names})

    def _group(
        self, asset: str, digest: str, held: Sequence[FileRef], parts: Mapping[str, Part]
    ) -> Iterator[tuple[str, str, str]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        of = held[0].path
        try:
            read = [self._read(ref) for ref in held]
            table = pa.concat_tables(read, promote_options="permissive")
            labels = set(pc.unique(table[PARTITION]).to_pylist())
        except (pa.ArrowException, OSError, KeyError) as error:
            self.bad |= {ref.path for ref in held}
            yield _span(parts), of, f"cannot be read: {error}"
            return
        wrong = False
        unknown = labels - {name for ref in held for name in ref.partitions}
        if unknown:
            wrong = True
            yield _span(map(str, unknown)), of, "holds rows of a partition that it is not said to"
        for name, part in parts.items():
            rows = table.filter(pc.equal(table[PARTITION], name)).drop_columns([PARTITION])
            if rows.num_rows == part.rows and self._is_content(asset, digest, rows, part.digest):
                continue
            if (
                rows.num_rows == part.rows
                and all(ref.sha256 for ref in held)
                and self._is_widened(asset, digest, held)
            ):
                self.notes.add(
                    f"{asset}: some files were merged after columns were added; their bytes are "
                    "what was written, the digest of their rows cannot be recomputed"
                )
                continue
            wrong = True
            yield name, of, f"its {rows.num_rows:,} rows are not those of the version"
        if wrong:
            self.bad |= {ref.path for ref in held}
        else:
            for ref in held:
                if not ref.sha256:
                    self.unrecorded[ref.path] = self.good[ref.path]

    def _read(self, ref: FileRef) -> "pa.Table":
        """Return the rows of a file that was hashed, as they were then: one that another process
        has touched is hashed again. OSError when it was changed."""
        import pyarrow.parquet as pq

        place = disk.join(self._core.lake.root, ref.path)
        for _ in range(_READS_MAX):
            table = pq.read_table(place)
            if stamp(os.stat(place)) == self._stamps[ref.path]:
                return table
            sha256, status = digest_of(place)
            if sha256 != self.good[ref.path]:
                break
            self._stamps[ref.path] = stamp(status)
        raise OSError("it was changed while it was checked")

    def _is_profiled_anew(self, ref: FileRef) -> bool:
        """Make the profiles of a data file, whose rows are right, where they are missing or not
        what was written. Say whether they are others than the file's record names."""
        from sextant.stores.lake import frames, profiles

        root = self._core.lake.root
        if ref.path not in self.profiled:
            if ref.profiles and profiles.place_of(ref.path, ref.profiles) not in self.bad:
                return False
            schema = frames.schema_of(self._read(ref).drop_columns([PARTITION]))
            rows = frames.table_of(root, [ref], schema, None, labels=True)
            made = profiles.write(rows, profiles.sizes_of(rows), root=root, path=ref.path)
            disk.sync_folder(os.path.dirname(disk.join(root, ref.path)))
            self.profiled[ref.path] = (made.sha256, made.size_bytes)
        return self.profiled[ref.path][0] != ref.profiles

    def _is_content(self, asset: str, digest: str, rows: "pa.Table", wanted: str) -> bool:
        """Say whether rows have a content digest: under the columns of their files, and where these
        were rewritten under more columns, under those of earlier versions; by any key that the
        asset had."""
        from sextant.stores.lake.digest import digest as content

        now, *earlier = self._keys_of(asset)
        if content(rows, now) == wanted:
            return True
        shapes = [rows, *self._narrowed(asset, digest, rows)]
        return any(content(shape, key) == wanted for shape in shapes for key in (now, *earlier))

    def _narrowed(self, asset: str, digest: str, rows: "pa.Table") -> Iterator["pa.Table"]:
        """Yield rows as they were before columns were added, which are null in them, and before
        types were widened."""
        import pyarrow as pa

        from sextant.stores.lake.types import arrow_schema

        empty = {name for name in rows.column_names if rows[name].null_count == rows.num_rows}
        if empty:
            yield rows.drop_columns(sorted(empty))
        for schema in self._schemas_of(asset, digest):
            names = [name for name, _ in schema if name in rows.column_names]
            if not set(rows.column_names) - set(names) <= empty:
                continue
            types = arrow_schema(tuple(column for column in schema if column[0] in names))
            try:
                yield rows.select(names).cast(types)
                kept = [name for name in names if name not in empty]
                yield rows.select(kept).cast(pa.schema([types.field(name) for name in kept]))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue

    def _is_widened(self, asset: str, digest: str, held: Sequence[FileRef]) -> bool:
        """Say whether files were rewritten, of an asset whose columns have changed."""
        names = [ref.path.rpartition("/")[2] for ref in held]
        return len(self._schemas_of(asset, digest)) > 1 and any(
            name.startswith("part_") for name in names
        )

    def _keys_of(self, asset: str) -> tuple[tuple[str, ...], ...]:
        """Return the keys that an asset has had, today's first: rows are hashed in their order."""
        if asset not in self._keys:
            declared = self._core.project.manifest().asset(asset)
            keys = {table_spec(declared).key: None} if declared else {}
            about = (asset, _FAR, _DECLARED_MAX)
            for entry in entries(self._core.state.read, "events_of_subject", about):
                if entry.envelope.type == "asset.declared" and not entry.is_erased:
                    keys[table_spec(entry.read(AssetDeclared).asset).key] = None
            self._keys[asset] = tuple(keys) or ((),)
        return self._keys[asset]

    def _schemas_of(self, asset: str, digest: str) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Return the different columns that versions of an asset have had."""
        if asset not in self._schemas:
            found = {self._core.versions.get(asset, digest).schema: None}
            for row in self._core.state.read("versions", (asset, _FAR, _DECLARED_MAX)):
                found[msgspec.json.decode(row[1], type=Version).schema] = None
            self._schemas[asset] = tuple(found)
        return self._schemas[asset]

    # ------------------------------------------------------------ what follows

    def record(self, by: Principal) -> int:
        """Write states of earlier releases once more, with the digests of their files. Returns of
        how many data files a digest was recorded."""
        core = self._core
        recorded: set[str] = set()
        digests = {**self._metadata, **self.unrecorded}
        for asset, digest, locator in self._states:
            try:
                new = core.lake.record_digests(locator, digests, self.profiled)
            except SextantError as error:  # expired, merged or changed since
                if self._is_current(asset, digest, locator):
                    self._find(asset, digest, "", locator, error.message)
                continue
            if new == locator:
                continue
            same = Statement(
                "version_at", (asset, digest, locator), 1, f"`{asset}` was moved meanwhile"
            )
            moved = core.events.make(
                "version.relocated",
                f"{asset}@{digest}",
                VersionRelocated(asset, digest, new),
                by,
                "",
            )
            try:
                core.state.commit(Write((same,), (moved,)))
            except Conflict:
                continue
            recorded |= {file.path for file in core.lake.stored(new)} & self.unrecorded.keys()
        return len(recorded)

    def raise_signals(self) -> None:
        """Raise a signal for each asset with a finding that has none open."""
        core = self._core
        raised: list[Event] = []
        first: dict[str, DataFinding] = {}
        for finding in self.findings:
            first.setdefault(finding["asset"], finding)
        for asset, finding in first.items():
            raised += damage_signal(core, asset, _text(finding))
        if raised:
            core.state.commit(Write((), tuple(raised)))


def damage_signal(core: Core, asset: str, message: str) -> list[Event]:
    """Return the event that raises a signal of damaged data of an asset, or counts it while one is
    open."""
    return raise_signal(core.state, core.events, asset, DAMAGED, "error", message, key=DAMAGED)


def _text(finding: DataFinding) -> str:
    about = f"{finding['asset']}@{finding['version'][:_DIGITS]}"
    about += f", {finding['partitions']}" if finding["partitions"] else ""
    return f"`{finding['file']}` of {about} {finding['found']}"


def _span(names: Iterable[str]) -> str:
    known = sorted(names)
    if len(known) < 2:
        return "".join(known)
    return f"{known[0]} .. {known[-1]}"


def _mark(part: Part, held: Sequence[FileRef]) -> bytes:
    names = (part.partition, part.digest, *(ref.path for ref in held))
    return hashlib.sha256(repr(names).encode()).digest()[:16]
