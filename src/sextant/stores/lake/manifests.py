"""Writes Iceberg manifests as files of ready-made blocks. Called by `iceberg` only.

A manifest is an Avro file with one block for each data file. Its header also carries our `FileRef`s
in the same order, so that the files of a state are read without decoding Avro, and blocks move from
manifest to manifest as bytes. pyiceberg encodes each entry once, when its data file is new.

Source  Avro 1.11 specification, "Object Container Files"; Apache Iceberg table specification,
        "Manifests".
"""

import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import FileRef
from sextant.stores import files as disk

if TYPE_CHECKING:
    from pyiceberg.avro.file import AvroOutputFile
    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema

_MAGIC = b"Obj\x01"
_REFS = b"sextant.files"
_SYNC_BYTES = 16
# Avro's int 0, the first field of an entry: it was added by an earlier snapshot
_EXISTING = b"\x00"


class Entry(msgspec.Struct, frozen=True):
    """A data file of a state: our reference and the Avro bytes of its manifest entry."""

    ref: FileRef
    block: bytes
    added: bool = False  # by the snapshot that is being written


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as its state's metadata remembers it; `path` is below the lake's root, `sha256`
    the digest of its bytes, "" in states of releases that recorded none."""

    path: str
    size_bytes: int
    sequence: int
    sequence_min: int
    snapshot: int
    added: int
    added_rows: int
    existing: int
    existing_rows: int
    slots: tuple[str, str]  # smallest and largest Iceberg partition value
    sha256: str = ""


_ENCODE = msgspec.json.Encoder()
_DECODE_REFS = msgspec.json.Decoder(tuple[FileRef, ...])


class OpenManifest:
    """A manifest that was read: its references, and its blocks when they are needed."""

    def __init__(self, manifest: Manifest, data: bytes, place: str) -> None:
        self.manifest = manifest
        self._data = data
        self._place = place
        try:
            self.header, self._end = _read_header(data)
            self.refs = _DECODE_REFS.decode(self.header[_REFS])
        except (KeyError, IndexError, ValueError, msgspec.MsgspecError) as error:
            raise _damaged(place) from error

    def entries(self) -> list[Entry]:
        """Return the entries with their blocks, marked as added earlier."""
        out, at, data = [], self._end, self._data
        try:
            for ref in self.refs:
                count, at = _read_long(data, at)
                size, at = _read_long(data, at)
                if count != 1:
                    raise _damaged(self._place)
                out.append(Entry(ref, _EXISTING + data[at + 1 : at + size]))
                at += size + _SYNC_BYTES
        except IndexError as error:
            raise _damaged(self._place) from error
        if at != len(data):
            raise _damaged(self._place)
        return out


def open_manifest(root: str, manifest: Manifest) -> OpenManifest:
    """Read a manifest. Damaged when it is missing or not as it was written."""
    place = disk.join(root, manifest.path)
    data = disk.read(place, what="manifest")
    if len(data) != manifest.size_bytes or (
        manifest.sha256 and hashlib.sha256(data).hexdigest() != manifest.sha256
    ):
        raise _damaged(place)
    return OpenManifest(manifest, data, place)


class _Codec:
    """How records of one Avro schema become bytes: the static part of the header, and pyiceberg's
    writer for a record.

    Deriving these from the Iceberg schemas costs more than writing a manifest, so they are kept for
    each schema."""

    def __init__(self, output: "AvroOutputFile[Any]") -> None:
        with output:
            stream = output.output_stream
            assert isinstance(stream, _Memory)
        self.header, _ = _read_header(stream.data)
        self._writer = output.writer

    def encode(self, records: "Sequence[Any]") -> bytes:
        from pyiceberg.avro.encoder import BinaryEncoder

        stream = io.BytesIO()
        encoder = BinaryEncoder(stream)
        for record in records:
            self._writer.write(encoder, record)
        return stream.getvalue()


_codecs: dict[str, _Codec] = {}
_CODECS_MAX = 1024  # schemas remembered


def _codec(name: str, make: "Callable[[], AvroOutputFile[Any]]") -> _Codec:
    found = _codecs.get(name)
    if found is None:
        if len(_codecs) >= _CODECS_MAX:
            _codecs.clear()
        found = _codecs[name] = _Codec(make())
    return found


def encode(
    data_files: Sequence[tuple[FileRef, "DataFile"]],
    *,
    spec: "PartitionSpec",
    schema: "Schema",
    snapshot: int,
    sequence: int,
) -> tuple[dict[bytes, bytes], list[Entry]]:
    """Return the Avro header that manifests of this schema have, and an entry for each new data
    file."""
    from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus, ManifestWriterV2

    codec = _codec(
        f"{schema.model_dump_json()} {spec!r}",
        lambda: ManifestWriterV2(spec, schema, _Memory(), 0, "null").new_writer(),
    )
    entries = []
    for ref, data_file in data_files:
        # Ids and sequence numbers stand in each entry instead of being inherited, so an entry means
        # the same in every manifest.
        entry = ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=snapshot,
            sequence_number=sequence,
            file_sequence_number=sequence,
            data_file=data_file,
        )
        entries.append(Entry(ref, codec.encode([entry]), added=True))
    return codec.header, entries


def write(
    root: str,
    path: str,
    header: dict[bytes, bytes],
    entries: Sequence[Entry],
    *,
    slots: tuple[str, str],
    snapshot: int,
    sequence: int,
    sequence_min: int,
) -> Manifest:
    """Write and sync a manifest of these entries."""
    refs = _ENCODE.encode(
        [entry.ref for entry in entries]
    )  # text: pyiceberg reads header values as such
    sync = hashlib.sha256(path.encode()).digest()[:_SYNC_BYTES]
    out = [_MAGIC, _map({**header, _REFS: refs}), sync]
    for entry in entries:
        out += (_long(1), _long(len(entry.block)), entry.block, sync)
    data = b"".join(out)
    disk.write(disk.join(root, path), data, whole=False, final=True)
    new = [entry.ref.rows for entry in entries if entry.added]
    return Manifest(
        path=path,
        size_bytes=len(data),
        sequence=sequence,
        sequence_min=sequence_min,
        snapshot=snapshot,
        added=len(new),
        added_rows=sum(new),
        existing=len(entries) - len(new),
        existing_rows=sum(entry.ref.rows for entry in entries) - sum(new),
        slots=slots,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def write_list(
    root: str,
    path: str,
    manifests: Sequence[Manifest],
    *,
    snapshot: int,
    sequence: int,
    partitioned: bool,
) -> str:
    """Write and sync the manifest list of a snapshot; return its hex SHA-256."""
    codec = _codec("manifest list", _list_writer)
    facts = {
        "snapshot-id": snapshot,
        "parent-snapshot-id": "null",
        "sequence-number": sequence,
        "format-version": 2,
    }
    sync = hashlib.sha256(path.encode()).digest()[:_SYNC_BYTES]
    block = b"".join([_listed(root, manifest, partitioned) for manifest in manifests])
    header = _map(
        {**codec.header, **{name.encode(): str(value).encode() for name, value in facts.items()}}
    )
    data = b"".join(
        [
            _MAGIC,
            header,
            sync,
            *((_long(len(manifests)), _long(len(block)), block, sync) if manifests else ()),
        ]
    )
    disk.write(disk.join(root, path), data, whole=False, final=True)
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=4096)
def _listed(root: str, manifest: Manifest, partitioned: bool) -> bytes:
    """Return a manifest's entry in a list: the same in the list of every state that has it."""
    return _codec("manifest list", _list_writer).encode(
        [_manifest_file(root, manifest, partitioned=partitioned)]
    )


def _list_writer() -> "AvroOutputFile[Any]":
    from pyiceberg.avro.codecs import AVRO_CODEC_KEY
    from pyiceberg.avro.file import AvroOutputFile
    from pyiceberg.manifest import DEFAULT_READ_VERSION, MANIFEST_LIST_FILE_SCHEMAS

    return AvroOutputFile(
        output_file=_Memory(),
        record_schema=MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION],
        file_schema=MANIFEST_LIST_FILE_SCHEMAS[2],
        schema_name="manifest_file",
        metadata={AVRO_CODEC_KEY: "null"},
    )


def _manifest_file(root: str, manifest: Manifest, *, partitioned: bool) -> "ManifestFile":
    from pyiceberg.manifest import ManifestContent, ManifestFile, PartitionFieldSummary

    summary = PartitionFieldSummary.from_args(
        contains_null=False,
        contains_nan=False,
        lower_bound=manifest.slots[0].encode(),
        upper_bound=manifest.slots[1].encode(),
    )
    return ManifestFile.from_args(
        manifest_path=disk.join(root, manifest.path),
        manifest_length=manifest.size_bytes,
        partition_spec_id=0,
        content=ManifestContent.DATA,
        sequence_number=manifest.sequence,
        min_sequence_number=manifest.sequence_min,
        added_snapshot_id=manifest.snapshot,
        added_files_count=manifest.added,
        existing_files_count=manifest.existing,
        deleted_files_count=0,
        added_rows_count=manifest.added_rows,
        existing_rows_count=manifest.existing_rows,
        deleted_rows_count=0,
        partitions=[summary] if partitioned else [],
        key_metadata=None,
    )


class _Memory:
    """What pyiceberg's Avro writer writes to: an output file and its stream in one, kept in
    memory."""

    location = ""

    def __init__(self) -> None:
        self.data = b""
        self._stream = io.BytesIO()

    def create(self, *, overwrite: bool = False) -> "_Memory":
        assert overwrite
        return self

    def write(self, data: bytes) -> int:
        return self._stream.write(data)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self.data = self._stream.getvalue()


# ---------------------------------------------------------------- Avro framing


def _read_header(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the file's metadata and where its blocks begin. ValueError when it is no Avro file."""
    if data[:4] != _MAGIC:
        raise ValueError("no Avro file")
    header: dict[bytes, bytes] = {}
    at = 4
    while True:
        count, at = _read_long(data, at)
        if count == 0:
            return header, at + _SYNC_BYTES
        if count < 0:  # then the block's size in bytes follows
            count = -count
            _, at = _read_long(data, at)
        for _ in range(count):
            key, at = _read_bytes(data, at)
            header[key], at = _read_bytes(data, at)


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _read_long(data, at)
    return data[at : at + size], at + size


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _long(value: int) -> bytes:
    value <<= 1  # zigzag; only counts and sizes are written here
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _map(values: dict[bytes, bytes]) -> bytes:
    parts = [_long(len(values))]
    for key, value in values.items():
        parts += (_long(len(key)), key, _long(len(value)), value)
    return b"".join([*parts, _long(0)])


def _damaged(place: str) -> Damaged:
    return Damaged(
        "SX-LAKE-003",
        f"manifest `{place}` is not what was written",
        hint="restore it from a backup: sextant backup restore",
    )
