"""The lake: Iceberg tables as immutable states in a local folder. Called through
`kernel.ports.Lake`.

A state is one metadata file with exactly one snapshot; the history of a table is the list of its
states, and the state store keeps it, so a commit costs the same at the first and at the thousandth.
Every file has a name of its own and none is changed or deleted but by `collect`: writers need no
lock, and a crash leaves only files that nothing names.

What is read is what was written: a locator carries the SHA-256 of its metadata file, which names
its manifest list and its manifests with theirs, and a manifest names its data files with theirs. So
the locator, which stands in the ledger, stands for every byte of a state. States of earlier
releases carry no digests; `record_digests` gives them some.

    <table>/metadata/<n>-<sha256>.metadata.json  a state; its path below the root is the locator
    <table>/metadata/<id>.list.avro           its manifest list         <table>/metadata/<id>.avro
    a manifest
    <table>/data/<id>.parquet                 rows that were rewritten; other data files lie where
    workers wrote them. Beside each lie the profiles of its columns (`profiles.py`): its record
    names them with their digest, but rows are read and go live without a look at them
"""

import dataclasses
import functools
import hashlib
import os
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import msgspec

from sextant.kernel.clock import Clock
from sextant.kernel.errors import BadData, Damaged, NotFound, UsageError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import FileRef
from sextant.kernel.partitions import Grain
from sextant.kernel.ports import StoredFile, TableCommit
from sextant.stores import files as disk
from sextant.stores.lake import frames, profiles
from sextant.stores.lake.evolution import evolve, to_arrow_schema
from sextant.stores.lake.manifests import (
    Entry,
    Manifest,
    OpenManifest,
    encode,
    open_manifest,
    write,
    write_list,
)
from sextant.stores.lake.types import schema_of
from sextant.stores.verified import is_as_written, stamp

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema

_MANIFESTS = "sextant.manifests"  # table properties of ours
_GRAIN = "sextant.grain"
_LIST = "sextant.manifest-list"  # its digest
_NAME_MAPPING = "schema.name-mapping.default"
_SMALL_BYTES = 32 << 20  # files below this are worth merging
_MERGED_BYTES = 64 << 20  # a merged file holds at most this much of small ones
# of manifests kept in memory: one of a file is about 1 kB for each data file
_OPENED_BYTES_MAX = 32 << 20
_REWRITTEN_MAX = 4096  # manifests
_SLOT_WIDTH: Mapping[str, str] = {
    "hourly": "truncate[10]",
    "daily": "truncate[7]",
    "monthly": "truncate[4]",
    "static": "identity",
}
_RESTORE = "restore it from a backup: sextant backup restore"
_UNKNOWN = "unknown"  # a digest that no file has
_LOCATOR = re.compile(r"\d{5,}-([0-9a-f]{64})\.metadata\.json")


class _State(NamedTuple):
    """A state that was read: its metadata, manifests and what follows from them."""

    locator: str
    metadata: dict[str, Any]
    manifests: tuple[OpenManifest, ...]

    @property
    def files(self) -> tuple[FileRef, ...]:
        return tuple(ref for manifest in self.manifests for ref in manifest.refs)

    @property
    def schema(self) -> "Schema":
        return _columns(_ENCODE(self.metadata["schemas"][0]).decode()).schema


class _Columns(NamedTuple):
    """What statistics of a data file need to know of a schema."""

    schema: "Schema"
    plan: Any
    paths: dict[str, int]
    names: dict[int, str]  # field id -> full name


class _Change(msgspec.Struct, kw_only=True):
    """What a new state has that its base has not."""

    dropped: set[str] = set()  # paths of data files
    added: list[FileRef] = []  # to be encoded
    carried: list[Entry] = []  # encoded already, from another state
    header: dict[bytes, bytes] = {}  # of the manifest that `carried` came from
    sequence: int = 0  # the highest sequence number of that state
    footers: dict[str, Any] = {}  # Parquet metadata of data files that were looked into, by path
    operation: str = "append"

    def is_empty(self) -> bool:
        return not (self.dropped or self.added or self.carried)


_ENCODE = msgspec.json.encode
_INTEGER_DIGITS = 18


class IcebergLake:
    """Lake in a local folder. Safe for several threads and processes.

    Of what it reads it keeps manifests, which never change and which one state hands on to the
    next; one whose file may have changed since it was read is read again, so damage is found as if
    nothing were kept.
    """

    def __init__(self, root: Path | str, *, clock: Clock, ids: Ids) -> None:
        self.root = Path(os.path.abspath(root))
        self._clock = clock
        self._ids = ids
        self._opened: OrderedDict[str, tuple[bytes, OpenManifest]] = OrderedDict()
        self._opened_bytes = 0
        self._lock = threading.Lock()
        # manifests that were given digests, by path and digests: states share them
        self._rewritten: dict[tuple[str, tuple[tuple[str, str], ...]], Manifest] = {}

    @staticmethod
    def warm() -> None:
        """Import what the first commit needs; it takes half a second."""
        import pyiceberg.io.pyarrow
        import pyiceberg.manifest
        import pyiceberg.table.metadata  # noqa: F401

    def commit(
        self,
        table: str,
        base: str,
        *,
        add: Sequence[FileRef],
        replace: Iterable[str],
        arrow_schema: bytes,
        partitioned: str = "none",
        properties: Mapping[str, str] | None = None,
    ) -> TableCommit:
        """Write a new state: `base` ("" = a new table) without the partitions `replace`, plus the
        staged files `add`.

        add           as `frames.write` returned them; a reference narrowed to some of its
                      partitions brings only their rows
        arrow_schema  Arrow IPC schema of the new files; columns are added to the table's schema
                      when it lacks them
        partitioned   the grain, which decides the Iceberg partition spec; fixed by a table's first
                      state
        Result        the base itself when nothing changes
        Raises        BadData when a column's type cannot change so; StorageError on a full disk,
                      with nothing half-written
        """
        state = self._load(base) if base else None
        grain = self._grain(table, state, partitioned)
        schema, last_id = self._evolved(state, arrow_schema)
        change = _Change(operation="overwrite" if add else "delete")
        if state is not None:
            self._leave_out(table, state, set(replace), schema, change)
        if not change.dropped:
            change.operation = "append"
        for ref in {ref.path: ref for ref in add}.values():
            self._take(table, ref, grain, schema, change)
        if state is not None and change.is_empty() and not self._is_moved(table, state):
            return TableCommit(locator=base, files=state.files)
        return self._write(
            table,
            state,
            change,
            grain=grain,
            schema=schema,
            last_id=last_id,
            properties=properties or {},
        )

    def restore(self, table: str, base: str, source: str, partitions: Iterable[str]) -> TableCommit:
        """Write a new state: `base` with these partitions as they are in state `source` (absent
        there = removed).

        Data is copied only where a file of `source` holds other partitions too.
        """
        state, origin = self._load(base), self._load(source)
        grain = self._grain(table, state, origin.metadata["properties"][_GRAIN])
        schema, last_id = evolve(
            state.schema, to_arrow_schema(origin.schema), state.metadata["last-column-id"]
        )
        now, then = _by_partition(state.files), _by_partition(origin.files)
        wanted = {name for name in partitions if now.get(name) != then.get(name)}
        change = _Change(operation="overwrite", sequence=origin.metadata["last-sequence-number"])
        self._leave_out(table, state, wanted, schema, change)
        reusable = self._reusable(table, origin, schema)
        for manifest in origin.manifests:
            hit = [ref for ref in manifest.refs if not wanted.isdisjoint(ref.partitions)]
            whole = {ref.path for ref in hit if wanted.issuperset(ref.partitions)}
            for ref in hit:
                frames.confirm(self.root, ref)
            if whole and reusable:
                change.header = manifest.header
                change.carried += [entry for entry in manifest.entries() if entry.ref.path in whole]
            change.added += [ref for ref in hit if ref.path in whole and not reusable]
            for ref in hit:
                if ref.path not in whole:
                    self._rewrite(
                        table,
                        [ref],
                        [name for name in ref.partitions if name in wanted],
                        schema,
                        change,
                    )
        if change.is_empty():
            return TableCommit(locator=base, files=state.files)
        return self._write(
            table, state, change, grain=grain, schema=schema, last_id=last_id, properties={}
        )

    def files(self, locator: str, checked: Mapping[str, str] | None = None) -> tuple[FileRef, ...]:
        """Return the data files of a state. NotFound, or Damaged when its metadata is not what was
        written.

        checked  digests, by path, that metadata and manifests must have where none was recorded
        """
        return self._load(locator, checked).files

    def confirm(self, locator: str, *, of: str = "", seen: set[str] | None = None) -> None:
        """Compare the files of a state with what was recorded when they were written: its metadata,
        list and manifests, and its data files. What did not change since it was last compared is
        not read.

        of      asset and version, for messages
        seen    paths of data files that need no look; those that are looked at are added
        Raises  Damaged
        """
        state = self._load(locator)
        seen = set() if seen is None else seen
        self._confirm_list(state)
        for ref in state.files:
            if ref.path not in seen:
                frames.confirm(self.root, ref, of)
                seen.add(ref.path)

    def stored(self, locator: str) -> tuple[StoredFile, ...]:
        """Return every file that a state stands on, as it was recorded. Damaged when its metadata
        or a manifest is not what was written."""
        state = self._load(locator)
        listed = self._list(state)
        return (
            StoredFile(locator, _digest_in(locator)),
            *((StoredFile(listed[0], listed[1]),) if listed else ()),
            *(StoredFile(one.manifest.path, one.manifest.sha256) for one in state.manifests),
            *(StoredFile(ref.path, ref.sha256, ref.partitions) for ref in state.files),
            *(
                StoredFile(path, ref.profiles, ref.partitions)
                for path, ref in profiles.beside(state.files).items()
            ),
        )

    def record_digests(
        self,
        locator: str,
        digests: Mapping[str, str],
        made: Mapping[str, tuple[str, int]] | None = None,
    ) -> str:
        """Write a state once more with what its files lack: the same data files, of which `digests`
        has some by path. Return its locator; the old one when nothing is new.

        digests  those of its metadata and manifests too, where none was recorded: they were checked
        made     digest and size of profiles that were made for data files, by these files' paths
        Raises   Damaged when metadata or manifests have changed since
        """
        state = self._load(locator, digests)
        table = locator.partition("/metadata/")[0]
        metadata = dict(state.metadata)
        recorded = msgspec.json.decode(
            metadata["properties"][_MANIFESTS], type=tuple[Manifest, ...]
        )
        is_new = not _digest_in(locator) or not all(one.sha256 for one in recorded)
        manifests = []
        for opened in state.manifests:
            refs = []
            for ref in opened.refs:
                beside = (made or {}).get(ref.path, (ref.profiles, ref.profiles_bytes))
                refs.append(
                    msgspec.structs.replace(
                        ref,
                        sha256=ref.sha256 or digests.get(ref.path, ""),
                        profiles=beside[0],
                        profiles_bytes=beside[1],
                    )
                )
            if opened.manifest.sha256 and tuple(refs) == opened.refs:
                manifests.append(opened.manifest)
                continue
            is_new = True
            manifests.append(self._with_digests(table, opened, refs))
        if not is_new:
            return locator
        properties = {**metadata["properties"], _MANIFESTS: _ENCODE(manifests).decode()}
        snapshots = []
        for snapshot in metadata["snapshots"]:
            listed = f"{table}/metadata/{self._ids.new('state')}.list.avro"
            properties[_LIST] = write_list(
                str(self.root),
                listed,
                manifests,
                snapshot=snapshot["snapshot-id"],
                sequence=snapshot["sequence-number"],
                partitioned=properties[_GRAIN] != "none",
            )
            snapshots.append({**snapshot, "manifest-list": disk.join(self.root, listed)})
        metadata |= {"properties": properties, "snapshots": snapshots}
        number = int(os.path.basename(locator).partition("-")[0])
        return self._name(f"{table}/metadata", number, metadata)

    def _with_digests(self, table: str, opened: OpenManifest, refs: Sequence[FileRef]) -> Manifest:
        """Return a manifest as `opened`, with these references: the one that was written before for
        another state, or a new one."""
        name = (opened.manifest.path, tuple((ref.sha256, ref.profiles) for ref in refs))
        known = self._rewritten.get(name)
        if known is not None and os.path.exists(disk.join(self.root, known.path)):
            return known
        old = opened.manifest
        entries = [
            msgspec.structs.replace(entry, ref=ref)
            for entry, ref in zip(opened.entries(), refs, strict=True)
        ]
        made = write(
            str(self.root),
            f"{table}/metadata/{self._ids.new('manifest')}.avro",
            opened.header,
            entries,
            slots=old.slots,
            snapshot=old.snapshot,
            sequence=old.sequence,
            sequence_min=old.sequence_min,
        )
        if len(self._rewritten) >= _REWRITTEN_MAX:
            self._rewritten.clear()
        self._rewritten[name] = made
        return made

    def compact(self, table: str, base: str, *, files_max: int = 8) -> TableCommit | None:
        """Merge small files wherever an Iceberg partition has more than `files_max` of them; same
        rows. None when nothing is worth doing."""
        state = self._load(base)
        grain: Grain = state.metadata["properties"][_GRAIN]
        small: dict[str, list[FileRef]] = {}
        for ref in state.files:
            if ref.size_bytes < _SMALL_BYTES:
                small.setdefault(frames.slot(grain, ref.partitions[0]), []).append(ref)
        change = _Change(operation="replace")
        for members in small.values():
            if len(members) <= files_max:
                continue
            for batch in _batches(sorted(members, key=lambda ref: ref.partitions)):
                if len(batch) > 1:
                    change.dropped.update(ref.path for ref in batch)
                    self._rewrite(
                        table,
                        batch,
                        sorted({name for ref in batch for name in ref.partitions}),
                        state.schema,
                        change,
                    )
        if change.is_empty():
            return None
        return self._write(
            table,
            state,
            change,
            grain=grain,
            schema=state.schema,
            last_id=state.metadata["last-column-id"],
            properties={},
        )

    def collect(self, keep: Iterable[str], *, older_than_ns: int) -> int:
        """Delete every file that no state in `keep` names and that was last touched before
        `older_than_ns`.

        `keep` must also name the base of every commit under way; staged files are safe while they
        are younger.
        Result  bytes freed. Raises before anything is deleted when a state in `keep` cannot be
                read.
        """
        live: set[str] = set()
        for locator in keep:
            state = self._load(locator)
            folder = os.path.dirname(locator)
            live.add(locator)
            live.update(
                f"{folder}/{os.path.basename(snapshot['manifest-list'])}"
                for snapshot in state.metadata["snapshots"]
            )
            live.update(manifest.manifest.path for manifest in state.manifests)
            live.update(ref.path for ref in state.files)
            live.update(profiles.beside(state.files))
        freed = 0
        for folder, _, names in os.walk(self.root, topdown=False):
            for name in names:
                place = os.path.join(folder, name)
                if os.path.relpath(place, self.root).replace(os.sep, "/") in live:
                    continue
                freed += disk.delete_old(place, older_than_ns)
            _delete_folder(folder, self.root, older_than_ns)
        return freed

    # ------------------------------------------------------------ reading states

    def _load(self, locator: str, checked: Mapping[str, str] | None = None) -> _State:
        """Read a state. Where no digest was recorded, metadata and manifests must have those of
        `checked`, by path, if it is given."""
        place = disk.join(self.root, locator)
        if not os.path.exists(place):
            raise NotFound(
                "SX-LAKE-013",
                f"there is no table state `{locator}`",
                hint="it may have expired: sextant versions shows which are kept",
            )
        data = disk.read(place, what="table state")
        digest = _digest_in(locator)
        if checked is not None and not digest:
            digest = checked.get(locator, _UNKNOWN)
        if digest and hashlib.sha256(data).hexdigest() != digest:
            raise _changed(place)
        try:
            metadata = msgspec.json.decode(data)
            manifests = msgspec.json.decode(
                metadata["properties"][_MANIFESTS], type=tuple[Manifest, ...]
            )
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise _changed(place) from error
        if checked is not None:
            manifests = tuple(
                msgspec.structs.replace(one, sha256=one.sha256 or checked.get(one.path, _UNKNOWN))
                for one in manifests
            )
        return _State(locator, metadata, tuple(self._open(manifest) for manifest in manifests))

    def _open(self, manifest: Manifest) -> OpenManifest:
        """Return a manifest, from memory when its file is still the one that was read."""
        place = disk.join(self.root, manifest.path)
        try:
            status = os.stat(place)
            mark = stamp(status)
        except OSError:
            mark = b""  # opening says what is wrong
        with self._lock:
            kept = self._opened.get(place)
            if kept is not None and kept[0] == mark and kept[1].manifest == manifest:
                self._opened.move_to_end(place)
                return kept[1]
        opened = open_manifest(str(self.root), manifest)
        with self._lock:
            earlier = self._opened.pop(place, None)
            self._opened_bytes += manifest.size_bytes - (
                earlier[1].manifest.size_bytes if earlier else 0
            )
            self._opened[place] = (mark, opened)
            while self._opened_bytes > _OPENED_BYTES_MAX:
                _, (_, gone) = self._opened.popitem(last=False)
                self._opened_bytes -= gone.manifest.size_bytes
        return opened

    def _list(self, state: _State) -> tuple[str, str] | None:
        """Return path and digest of a state's manifest list; None for one without rows."""
        for snapshot in state.metadata["snapshots"]:
            name = os.path.basename(snapshot["manifest-list"])
            folder = os.path.dirname(state.locator)
            return f"{folder}/{name}", str(state.metadata["properties"].get(_LIST, ""))
        return None

    def _confirm_list(self, state: _State) -> None:
        """Damaged when the manifest list, which only other readers of Iceberg use, is not what was
        written."""
        listed = self._list(state)
        if listed is None or not listed[1]:
            return
        place = disk.join(self.root, listed[0])
        try:
            same = is_as_written(place, listed[1])
        except FileNotFoundError:
            same = False
        if not same:
            raise Damaged(
                "SX-LAKE-003", f"manifest list `{place}` is not what was written", hint=_RESTORE
            )

    def _location(self, table: str) -> str:
        return disk.join(self.root, table)

    def _is_moved(self, table: str, state: _State) -> bool:
        """Return whether the lake's folder has another place now than when the state was written:
        Iceberg holds absolute paths."""
        return bool(state.metadata["location"] != self._location(table))

    def _reusable(self, table: str, state: _State, schema: "Schema") -> bool:
        """Return whether the state's encoded entries are right under `schema`: paths hold, and
        field ids mean the same columns.

        Types may have widened since: readers of Iceberg know bounds of the narrower type.
        """
        old, new = _columns_of(state.schema).names, _columns_of(schema).names
        return not self._is_moved(table, state) and all(
            new.get(id_) == name for id_, name in old.items()
        )

    def _grain(self, table: str, state: _State | None, partitioned: str) -> Grain:
        """Return the table's grain. UsageError when another one is asked for than it has."""
        grain = next((grain for grain in get_args(Grain) if grain == partitioned), None)
        if grain is None:
            raise UsageError(
                "SX-LAKE-014",
                f"there is no grain `{partitioned}`",
                hint=f"there are {', '.join(get_args(Grain))}",
            )
        if state is None or state.metadata["properties"][_GRAIN] == partitioned:
            return cast("Grain", grain)
        have = state.metadata["properties"][_GRAIN]
        hint = "give the dataset a new name, or start it anew from an empty table"
        raise UsageError(
            "SX-LAKE-014", f"table `{table}` is partitioned {have}, not {partitioned}", hint=hint
        )

    def _evolved(self, state: _State | None, arrow_schema: bytes) -> tuple["Schema", int]:
        import pyarrow as pa

        old, last_id = (state.schema, state.metadata["last-column-id"]) if state else (None, 0)
        if old is not None and _unchanged.get((id(old), arrow_schema)) is old:
            return old, last_id
        incoming = pa.ipc.read_schema(pa.py_buffer(arrow_schema)) if arrow_schema else pa.schema([])
        new, new_last = evolve(old, incoming, last_id)
        if old is not None and new is old:
            if len(_unchanged) >= 256:
                _unchanged.clear()
            _unchanged[(id(old), arrow_schema)] = old
        return new, new_last

    # ------------------------------------------------------------ what changes

    def _leave_out(
        self, table: str, state: _State, gone: Collection[str], schema: "Schema", change: _Change
    ) -> None:
        """Drop partitions: whole files where that is enough, else the file's other rows are written
        anew."""
        for ref in state.files:
            if gone and not set(gone).isdisjoint(ref.partitions):
                change.dropped.add(ref.path)
                rest = [name for name in ref.partitions if name not in gone]
                if rest:
                    self._rewrite(table, [ref], rest, schema, change)

    def _take(
        self, table: str, ref: FileRef, grain: Grain, schema: "Schema", change: _Change
    ) -> None:
        """Add a staged file, or a copy of the rows of it that the reference names."""
        change.footers[ref.path], held = self._footer(ref)
        if not set(ref.partitions) <= set(held):
            raise BadData(
                "SX-LAKE-015",
                (
                    f"file `{ref.path}` holds no rows of "
                    f"{', '.join(sorted(set(ref.partitions) - set(held)))}"
                ),
                hint="run the step again",
            )
        if len({frames.slot(grain, name) for name in ref.partitions}) != 1:
            raise BadData(
                "SX-LAKE-015",
                f"file `{ref.path}` spans more than one Iceberg partition of a {grain} table",
                hint="write it with the table's own grain",
            )
        if set(held) <= set(ref.partitions):
            change.added.append(ref)
        else:
            self._rewrite(table, [ref], ref.partitions, schema, change, rows_known=False)

    def _rewrite(
        self,
        table: str,
        refs: Sequence[FileRef],
        partitions: Sequence[str],
        schema: "Schema",
        change: _Change,
        *,
        rows_known: bool = True,
    ) -> None:
        """Write the rows of these partitions of some files into one new file."""
        if not rows_known:  # a narrowed reference may count only its own rows
            refs = [
                msgspec.structs.replace(
                    ref, rows=self._footer(ref)[0].num_rows, partitions=self._footer(ref)[1]
                )
                for ref in refs
            ]
        rows = frames.table_of(
            self.root, refs, schema_of(to_arrow_schema(schema)), frozenset(partitions), labels=True
        )
        if rows.num_rows == 0:
            return
        path = f"{table}/data/{self._ids.new('part')}.parquet"
        # without the key, rows of an earlier release cannot be put in order here
        ordered = all(frames.ORDERED_KEY in self._footer(ref)[0].metadata for ref in refs)
        change.added.append(
            frames.store(rows, partitions, root=self.root, path=path, ordered=ordered)
        )

    def _footer(self, ref: FileRef) -> tuple[Any, tuple[str, ...]]:
        """Return a data file's Parquet metadata and the partitions it holds."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = disk.join(self.root, ref.path)
        try:
            metadata = frames.read_compared(self.root, ref, pq.read_metadata)
            return metadata, tuple(msgspec.json.decode(metadata.metadata[frames.PARTITIONS_KEY]))
        except (pa.ArrowInvalid, KeyError, TypeError, OSError, msgspec.MsgspecError) as error:
            raise Damaged(
                "SX-LAKE-003",
                f"data file `{place}` is not what was written",
                hint="make the partition again: sextant run --force",
            ) from error

    # ------------------------------------------------------------ writing states

    def _write(
        self,
        table: str,
        base: _State | None,
        change: _Change,
        *,
        grain: Grain,
        schema: "Schema",
        last_id: int,
        properties: Mapping[str, str],
    ) -> TableCommit:
        now_ms = self._clock.now_ns() // 1_000_000
        schema_text = _text_of(schema)
        number = int(os.path.basename(base.locator).partition("-")[0]) + 1 if base else 1
        sequence = max(base.metadata["last-sequence-number"] if base else 0, change.sequence) + 1
        id_ = self._ids.new("state")
        # 63 bits, as Iceberg wants it
        snapshot = int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big") >> 1
        folder = f"{table}/metadata"
        disk.make_folder(disk.join(self.root, folder))
        if any(ref.path.startswith(f"{table}/data/part_") for ref in change.added):
            disk.sync_folder(disk.join(self.root, table, "data"))
        kept = self._manifests(
            table, base, change, grain=grain, schema=schema, snapshot=snapshot, sequence=sequence
        )
        manifests = [
            opened if isinstance(opened, Manifest) else opened.manifest for opened, _ in kept
        ]
        files = tuple(ref for _, refs in kept for ref in refs)
        listed, list_digest = f"{folder}/{id_}.list.avro", ""
        if files:
            list_digest = write_list(
                str(self.root),
                listed,
                manifests,
                snapshot=snapshot,
                sequence=sequence,
                partitioned=grain != "none",
            )
        metadata = {
            "format-version": 2,
            "table-uuid": base.metadata["table-uuid"]
            if base
            else str(uuid.UUID(bytes=hashlib.sha256(b"table" + id_.encode()).digest()[:16])),
            "location": self._location(table),
            "last-sequence-number": sequence,
            "last-updated-ms": now_ms,
            "last-column-id": last_id,
            "current-schema-id": schema.schema_id,
            "schemas": [msgspec.json.decode(schema_text)],
            "default-spec-id": 0,
            "partition-specs": [msgspec.json.decode(_spec_text(grain))],
            "last-partition-id": 1000 if grain != "none" else 999,
            "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": {
                **(base.metadata["properties"] if base else {}),
                **properties,
                _GRAIN: grain,
                _MANIFESTS: _ENCODE(manifests).decode(),
                _LIST: list_digest,
                _NAME_MAPPING: _name_mapping(schema_text),
            },
            "snapshots": [],
            "snapshot-log": [],
            "metadata-log": [],
            "refs": {},
        }
        if files:
            metadata["current-snapshot-id"] = snapshot
            metadata["refs"] = {"main": {"snapshot-id": snapshot, "type": "branch"}}
            metadata["snapshot-log"] = [{"timestamp-ms": now_ms, "snapshot-id": snapshot}]
            metadata["snapshots"] = [
                {
                    "snapshot-id": snapshot,
                    "sequence-number": sequence,
                    "timestamp-ms": now_ms,
                    "schema-id": schema.schema_id,
                    "manifest-list": disk.join(self.root, listed),
                    "summary": {"operation": change.operation, **_totals(files, change)},
                }
            ]
        return TableCommit(locator=self._name(folder, number, metadata), files=files)

    def _name(self, folder: str, number: int, metadata: Mapping[str, Any]) -> str:
        """Write a state's metadata under the name that carries its digest; return the locator."""
        data = _ENCODE(metadata)
        digest = hashlib.sha256(data).hexdigest()
        locator = f"{folder}/{number:05d}-{digest}.metadata.json"
        disk.write(disk.join(self.root, locator), data, whole=True, final=True)
        disk.sync_folder(disk.join(self.root, folder))
        return locator

    def _manifests(
        self,
        table: str,
        base: _State | None,
        change: _Change,
        *,
        grain: Grain,
        schema: "Schema",
        snapshot: int,
        sequence: int,
    ) -> list[tuple[OpenManifest | Manifest, tuple[FileRef, ...]]]:
        """Return the manifests of the new state with their files: untouched ones as they are, and
        one with all that is new.

        The new one takes in every manifest that is at most twice its size, so that sizes at least
        double from one manifest to the next: a state of n files has about log2(n) manifests, and a
        block is copied about as often.
        """
        kept: list[OpenManifest] = []
        pool: list[Entry] = []
        header, sequence_min = change.header, 1 if change.carried else sequence
        reusable = base is not None and self._reusable(table, base, schema)
        fresh = list(change.added)
        for manifest in base.manifests if base else ():
            rest = [ref for ref in manifest.refs if ref.path not in change.dropped]
            if not reusable:
                fresh = rest + fresh
            elif len(rest) == len(manifest.refs):
                kept.append(manifest)
            elif rest:
                pool += [
                    entry for entry in manifest.entries() if entry.ref.path not in change.dropped
                ]
                header, sequence_min = (
                    manifest.header,
                    min(sequence_min, manifest.manifest.sequence_min),
                )
        pool += change.carried
        if fresh:
            encoded = [
                (
                    ref,
                    self._data_file(
                        ref, change.footers.get(ref.path) or self._footer(ref)[0], grain, schema
                    ),
                )
                for ref in fresh
            ]
            header, entries = encode(
                encoded, spec=_spec(grain), schema=schema, snapshot=snapshot, sequence=sequence
            )
            pool += entries
        if not pool:
            return [(manifest, manifest.refs) for manifest in kept]
        while (
            small := next(
                (manifest for manifest in kept if len(manifest.refs) <= 2 * len(pool)), None
            )
        ) is not None:
            kept.remove(small)
            pool = small.entries() + pool
            sequence_min = min(sequence_min, small.manifest.sequence_min)
        slots = sorted(frames.slot(grain, entry.ref.partitions[0]) for entry in pool)
        written = write(
            str(self.root),
            f"{table}/metadata/{self._ids.new('manifest')}.avro",
            header,
            pool,
            slots=(slots[0], slots[-1]),
            snapshot=snapshot,
            sequence=sequence,
            sequence_min=sequence_min,
        )
        return [
            *((manifest, manifest.refs) for manifest in kept),
            (written, tuple(entry.ref for entry in pool)),
        ]

    def _data_file(self, ref: FileRef, footer: Any, grain: Grain, schema: "Schema") -> "DataFile":
        """Return a data file's manifest entry, statistics from its footer."""
        from pyiceberg.io.pyarrow import data_file_statistics_from_parquet_metadata
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
        from pyiceberg.typedef import Record

        columns = _columns_of(schema)
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=footer,
            stats_columns=_as_stored(columns, footer),
            parquet_column_mapping=columns.paths,
        )
        partition = Record() if grain == "none" else Record(frames.slot(grain, ref.partitions[0]))
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=disk.join(self.root, ref.path),
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=ref.size_bytes,
            sort_order_id=None,
            spec_id=0,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )


# ---------------------------------------------------------------- pure parts


def _changed(place: str) -> Damaged:
    return Damaged("SX-LAKE-003", f"table state `{place}` is not what was written", hint=_RESTORE)


def _digest_in(locator: str) -> str:
    """Return the digest of a state's metadata file; "" for one of an earlier release."""
    found = _LOCATOR.fullmatch(os.path.basename(locator))
    return found[1] if found else ""


def _as_stored(columns: _Columns, footer: Any) -> Any:
    """Return the plan of the statistics of a data file whose decimals may have fewer digits than
    the table's, and be stored as integers: their bounds are the same numbers."""
    from pyiceberg.types import DecimalType

    wide = [path for path, id_ in columns.paths.items() if _is_wide(columns.plan.get(id_))]
    if not wide:
        return columns.plan
    plan = dict(columns.plan)
    for n in range(footer.num_columns):
        column = footer.schema.column(n)
        if column.path in wide and column.physical_type in ("INT32", "INT64"):
            id_ = columns.paths[column.path]
            plan[id_] = dataclasses.replace(
                plan[id_], iceberg_type=DecimalType(column.precision, column.scale)
            )
    return plan


def _is_wide(planned: Any) -> bool:
    """Say whether a column's decimals may have more digits than an integer of 64 bits has."""
    return getattr(getattr(planned, "iceberg_type", None), "precision", 0) > _INTEGER_DIGITS


def _columns_of(schema: "Schema") -> _Columns:
    return _columns(_text_of(schema))


_texts: dict[
    int, tuple["Schema", str]
] = {}  # by identity: pyiceberg takes longer to compare two schemas than to write one


def _text_of(schema: "Schema") -> str:
    """Return a schema as JSON. Schemas come from `_columns` and are few objects, used again and
    again."""
    known = _texts.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    if len(_texts) >= 256:
        _texts.clear()
    text = str(schema.model_dump_json())
    _texts[id(schema)] = (schema, text)
    return text


_unchanged: dict[
    tuple[int, bytes], "Schema"
] = {}  # Arrow schemas that brought nothing new to a schema


@functools.lru_cache(maxsize=256)
def _columns(schema_json: str) -> _Columns:
    from pyiceberg.io.pyarrow import compute_statistics_plan, parquet_path_to_id_mapping
    from pyiceberg.schema import Schema

    schema = Schema.model_validate_json(schema_json)
    names = {id_: schema.find_column_name(id_) or "" for id_ in schema.field_ids}
    return _Columns(
        schema, compute_statistics_plan(schema, {}), parquet_path_to_id_mapping(schema), names
    )


@functools.lru_cache(maxsize=256)
def _name_mapping(schema_json: str) -> str:
    from pyiceberg.table.name_mapping import create_mapping_from_schema

    return str(create_mapping_from_schema(_columns(schema_json).schema).model_dump_json())


@functools.lru_cache(maxsize=8)
def _spec(grain: Grain) -> "PartitionSpec":
    """Return the Iceberg partition spec of a grain. `_partition` always has field id 1."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform

    if grain == "none":
        return PartitionSpec(spec_id=0)
    return PartitionSpec(
        PartitionField(
            source_id=1, field_id=1000, transform=parse_transform(_SLOT_WIDTH[grain]), name="_slot"
        ),
        spec_id=0,
    )


@functools.lru_cache(maxsize=8)
def _spec_text(grain: Grain) -> str:
    return str(_spec(grain).model_dump_json())


def _by_partition(files: Iterable[FileRef]) -> dict[str, set[str]]:
    """Return partition -> paths of the files that hold its rows."""
    out: dict[str, set[str]] = {}
    for ref in files:
        for name in ref.partitions:
            out.setdefault(name, set()).add(ref.path)
    return out


def _batches(members: Iterable[FileRef]) -> list[list[FileRef]]:
    out: list[list[FileRef]] = [[]]
    size = 0
    for ref in members:
        if out[-1] and size + ref.size_bytes > _MERGED_BYTES:
            out.append([])
            size = 0
        out[-1].append(ref)
        size += ref.size_bytes
    return out


def _totals(files: Sequence[FileRef], change: _Change) -> dict[str, str]:
    """Return the counts of a snapshot's summary; readers answer `count(*)` from them."""
    return {
        "added-data-files": str(len(change.added) + len(change.carried)),
        "added-records": str(
            sum(ref.rows for ref in change.added) + sum(entry.ref.rows for entry in change.carried)
        ),
        "deleted-data-files": str(len(change.dropped)),
        "total-records": str(sum(ref.rows for ref in files)),
        "total-data-files": str(len(files)),
        "total-files-size": str(sum(ref.size_bytes for ref in files)),
        "total-delete-files": "0",
        "total-position-deletes": "0",
        "total-equality-deletes": "0",
    }


def _delete_folder(folder: str, root: Path, older_than_ns: int) -> None:
    """Remove an old empty folder below the root."""
    try:
        if folder != str(root) and os.stat(folder).st_mtime_ns < older_than_ns:
            os.rmdir(folder)
    except OSError:
        return  # it has files, or is gone
