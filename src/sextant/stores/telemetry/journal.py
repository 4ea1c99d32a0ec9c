"""The journal of the intake: what was acknowledged and is not in the tables yet.

Called by the intake. Records are appended by one thread, which writes all that are waiting and then
syncs once (group commit). A *segment* is a file of records; it is closed when its records go to the
tables and deleted when they are there. Its name is never used again, since it makes the tokens
under which the tables recognise a repetition.

A record is: length (u32), CRC-32 (u32), then msgpack of `Record`. A file that ends inside a record,
or whose checksum is wrong there, was being written when the machine died: nobody has been told that
this record is safe, so it is cut off.
"""

import errno
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

import msgspec

from sextant.kernel import limits
from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import StorageError
from sextant.stores import files

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct(">BI")  # of msgpack: a type (array 32, bin 32), and its length
_ENCODE = msgspec.msgpack.encode
_LARGE = 1 << 20  # of a block: a larger one is written by itself
_SUFFIX = ".journal"
_SEEN = struct.Struct("<16sQ")  # key of a batch, when it came (ns)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One acknowledged batch. `key` recognises its repetition; empty = it has none."""

    key: bytes
    at_ns: int
    rows: list[tuple[str, int, bytes]]  # table, count, block
    buckets: list[int]  # of rollups that the samples fall into, seconds since the epoch


class Segment(msgspec.Struct):
    """A file of the journal and what is in it. `name` is unique for ever."""

    name: str
    path: str
    descriptor: int
    records: list[Record]
    size: int = 0


class Journal:
    """Opened on a folder; `recovered` holds the segments that a process before this one left,
    oldest first."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        files.make_folder(str(folder))
        self._folder = folder
        self._clock = clock
        self.recovered = [_read(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
        self._last = max((int(segment.name) for segment in self.recovered), default=0)
        self._open: Segment | None = None
        self._waiting: list[tuple[Record, Future[None]]] = []
        self._wake = threading.Condition()
        self._writing = threading.Lock()  # held while the open segment is written or closed
        self._closing = False
        self.syncs = 0
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> "Future[None]":
        """Queue a record; the future is done when it is durable, or raises StorageError. Any
        thread."""
        done: Future[None] = Future()
        # who waits may go away; the record is written all the same
        done.set_running_or_notify_cancel()
        with self._wake:
            if self._closing:
                done.set_exception(
                    StorageError(
                        "SX-TELEMETRY-009",
                        "the telemetry process is stopping",
                        hint="send it again",
                        retry_after_s=limits.RETRY_AFTER_S,
                    )
                )
                return done
            self._waiting.append((record, done))
            self._wake.notify()
        return done

    def cut(self) -> Segment | None:
        """Close the open segment and return it; None when nothing is in it."""
        with self._writing:
            segment, self._open = self._open, None
        if segment is None:
            return None
        os.close(segment.descriptor)
        return segment

    def drop(self, segment: Segment) -> None:
        """Delete a segment whose records are in the tables."""
        files.remove(segment.path)

    def set_aside(self, segment: Segment) -> str:
        """Keep a segment that the tables will never take, where it is not tried again. Returns its
        path."""
        folder = self._folder / "refused"
        files.make_folder(str(folder))
        path = str(folder / f"{segment.name}{_SUFFIX}")
        os.replace(segment.path, path)
        files.sync_folder(str(folder))
        return path

    @property
    def open_bytes(self) -> int:
        segment = self._open
        return segment.size if segment else 0

    def close(self) -> None:
        """Write what is waiting, then stop. Segments stay for the next opening."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self.cut()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                group, self._waiting = self._waiting, []
                if not group:
                    return
            try:
                with self._writing:
                    self._write(group)
            except (OSError, MemoryError) as error:
                # what reached the disk is unknown; nothing may be appended behind it
                with self._writing:
                    broken, self._open = self._open, None
                if broken is not None:
                    self._abandon(broken)
                why = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
                refused = error if isinstance(error, OSError) else why
                for _, done in group:
                    done.set_exception(files.refused(refused, str(self._folder)))
            else:
                for _, done in group:
                    done.set_result(None)

    def _write(self, group: list[tuple[Record, "Future[None]"]]) -> None:
        segment = self._open or self._begin()
        self._open = segment
        size = 0
        small: list[bytes] = []
        for record, _ in group:
            for piece in _pieces(record):
                size += len(piece)
                if len(piece) < _LARGE:
                    small.append(piece)
                    continue
                _write_all(segment.descriptor, b"".join(small))
                small = []
                _write_all(segment.descriptor, piece)
        _write_all(segment.descriptor, b"".join(small))
        _sync(segment.descriptor)
        self.syncs += 1
        segment.size += size
        segment.records += [record for record, _ in group]

    def _begin(self) -> Segment:
        self._last = max(self._last + 1, self._clock.now_ns())
        name = f"{self._last:020d}"
        path = str(self._folder / f"{name}{_SUFFIX}")
        descriptor = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0),
            0o600,
        )
        files.sync_folder(str(self._folder))
        return Segment(name, path, descriptor, [])

    def _abandon(self, segment: Segment) -> None:
        """Cut a segment back to what was acknowledged and hand it to the next flush."""
        try:
            os.ftruncate(segment.descriptor, segment.size)
            _sync(segment.descriptor)
        except OSError:
            # its tail is read back, if ever, as records that their senders repeat under the same
            # key
            pass
        os.close(segment.descriptor)
        if segment.records:
            self.recovered.append(segment)
        else:
            files.remove(segment.path)


def _pieces(record: Record) -> list[bytes]:
    """Return a record as it is written, in pieces: a large block is not copied, for that holds the
    interpreter."""
    blocks = [block for _, _, block in record.rows]
    if sum(map(len, blocks)) < _LARGE:
        body = msgspec.msgpack.encode(record)
        return [_HEAD.pack(len(body), zlib.crc32(body)), body]
    pieces = [b"\x94", _ENCODE(record.key), _ENCODE(record.at_ns)]
    pieces.append(_LENGTH.pack(0xDD, len(record.rows)))
    for table, count, block in record.rows:
        pieces += [b"\x93", _ENCODE(table), _ENCODE(count), _LENGTH.pack(0xC6, len(block)), block]
    pieces.append(_ENCODE(record.buckets))
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return [_HEAD.pack(sum(map(len, pieces)), checksum), *pieces]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)


def _read(path: Path) -> Segment:
    data = files.read(str(path), what="journal segment")
    records = []
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(body) < size or zlib.crc32(body) != checksum:
            break
        try:
            records.append(msgspec.msgpack.decode(body, type=Record))
        except msgspec.DecodeError:
            break
        at += _HEAD.size + size
    return Segment(path.name.removesuffix(_SUFFIX), str(path), -1, records, at)


class Seen:
    """Keys of batches that came lately, so that a sender that got no answer may send the same
    again. Survives restarts.

    Keys are written down when their segment is about to be deleted; until then the segment itself
    holds them. Two files take turns, so that old keys go with the older file.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        count: int = limits.BATCHES_REMEMBERED_MAX,
        seconds: float = limits.BATCHES_REMEMBERED_S,
    ) -> None:
        files.make_folder(str(folder))
        self._folder = folder
        self._clock = clock
        self._count = count
        self._length_ns = int(seconds * NS)
        self._keys: OrderedDict[bytes, int] = OrderedDict()
        for path in sorted(folder.glob("*.keys")):
            data = files.read(str(path), what="keys of batches")
            for key, at_ns in _SEEN.iter_unpack(data[: len(data) // _SEEN.size * _SEEN.size]):
                self.add(key, at_ns)
        self._descriptor = -1
        self._opened_ns = 0

    def __contains__(self, key: bytes) -> bool:
        at_ns = self._keys.get(key)
        return at_ns is not None and at_ns > self._clock.now_ns() - self._length_ns

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, at_ns: int) -> None:
        """Remember a key."""
        self._keys[key] = at_ns
        self._keys.move_to_end(key)
        while len(self._keys) > self._count:
            self._keys.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """A batch did not become durable after all: its repetition is welcome."""
        self._keys.pop(key, None)

    def keep(self, records: Iterable[Record]) -> None:
        """Write down the keys of records, durably."""
        data = b"".join([_SEEN.pack(record.key, record.at_ns) for record in records if record.key])
        if not data:
            return
        now = self._clock.now_ns()
        try:
            if self._descriptor < 0 or now - self._opened_ns > self._length_ns:
                self._turn(now)
            _write_all(self._descriptor, data)
            _sync(self._descriptor)
        except OSError as error:
            self.close()  # a key may have been cut off: nothing may be appended behind it
            raise files.refused(error, str(self._folder)) from error

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _turn(self, now: int) -> None:
        self.close()
        old = sorted(self._folder.glob("*.keys"))
        for path in old[
            :-1
        ]:  # every key in it is older than the window, or stands in a newer file's place
            if int(path.stem) < now - 2 * self._length_ns:
                files.remove(str(path))
        self._descriptor = os.open(
            str(self._folder / f"{now:020d}.keys"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0),
            0o600,
        )
        self._opened_ns = now
        files.sync_folder(str(self._folder))
