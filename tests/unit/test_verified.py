"""The memory of files that were compared: it may forget, and it must never believe."""

import mmap
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sextant.kernel.clock import NS, ManualClock, SystemClock
from sextant.kernel.limits import VERIFIED_FILES_MAX, VERIFIED_SETTLED_NS
from sextant.stores import files, verified
from sextant.stores.verified import Verified, digest_of, is_as_written, mark_of, stamp


class Counting:
    """Counts how often files are hashed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, place: str, sha256: str) -> os.stat_result | None:
        self.count += 1
        return _hashed(place, sha256)


_hashed = verified.hashed
NEW = VERIFIED_SETTLED_NS


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(verified, "hashed", counting)
    return counting


def later() -> ManualClock:
    """Return a clock at which files that are written now have settled."""
    return ManualClock(SystemClock().now_ns() + 3_600 * NS)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verified:
    known = Verified(tmp_path / "cache" / "verified", later())
    monkeypatch.setattr(verified, "memory", lambda: known)
    return known


def written(path: Path, data: bytes = b"rows of a day") -> str:
    files.write(str(path), data, whole=False)
    return digest_of(str(path))[0]


def test_a_file_is_hashed_once(tmp_path: Path, memory: Verified, hashing: Counting) -> None:
    """Each read of a large table would hash all of it."""
    place = str(tmp_path / "a")
    sha256 = written(tmp_path / "a")
    assert [is_as_written(place, sha256) for _ in range(3)] == [True] * 3
    assert hashing.count == 1
    other = Verified(tmp_path / "cache" / "verified", later())
    assert other.holds(mark_of(sha256, stamp(os.stat(place)))), "another process knows it too"


def test_each_kind_of_change_is_seen(tmp_path: Path, memory: Verified, hashing: Counting) -> None:
    """A change that keeps size and time, or comes with another file, would be believed."""
    path, place = tmp_path / "a", str(tmp_path / "a")
    sha256 = written(path)
    assert is_as_written(place, sha256)
    status = path.stat()
    path.write_bytes(b"rows of a DAY")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert not is_as_written(place, sha256)
    path.write_bytes(b"rows of a day")
    assert is_as_written(place, sha256)
    os.replace(_other(tmp_path, b"rows of a DAY", status), path)
    assert not is_as_written(place, sha256)
    path.unlink()
    path.symlink_to(_other(tmp_path, b"rows of a DAY", status))
    assert not is_as_written(place, sha256)
    assert not is_as_written(place, "0" * 64)
    os.utime(place, ns=(-1, -1))  # before 1970
    assert not is_as_written(place, sha256)


def _other(folder: Path, data: bytes, status: os.stat_result) -> Path:
    other = folder / "other"
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    return other


def test_what_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashing: Counting
) -> None:
    """Two changes within one tick of the file system's clock have the same ctime: the second would
    be taken for the first."""
    path = tmp_path / "a"
    sha256 = written(path)
    clock = ManualClock(path.stat().st_ctime_ns + VERIFIED_SETTLED_NS - 1)
    known = Verified(tmp_path / "verified", clock)
    monkeypatch.setattr(verified, "memory", lambda: known)
    assert [is_as_written(str(path), sha256) for _ in range(2)] == [True] * 2
    assert hashing.count == 2
    clock.set(path.stat().st_ctime_ns + VERIFIED_SETTLED_NS)
    assert [is_as_written(str(path), sha256) for _ in range(2)] == [True] * 2
    assert hashing.count == 3
    clock.set(0)  # a clock that was set back
    known.add(b"x" * 32, changed_ns=1, looked_ns=clock.now_ns())
    assert not known.holds(b"x" * 32)


def test_a_copied_memory_knows_no_copied_files(tmp_path: Path, memory: Verified) -> None:
    """Who hands over a folder could hand over a memory that vouches for it."""
    sha256 = written(tmp_path / "a")
    assert is_as_written(str(tmp_path / "a"), sha256)
    shutil.copy2(tmp_path / "a", tmp_path / "b")
    assert not memory.holds(mark_of(sha256, stamp(os.stat(tmp_path / "b"))))


def test_the_memory_is_bounded_and_survives_what_is_done_to_it(tmp_path: Path) -> None:
    """It would grow with every file that was ever read, or a torn one would stop all reading."""
    path = tmp_path / "verified"
    known = Verified(path, later())
    marks = [mark_of(f"{n:064x}") for n in range(5_000)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda mark: known.add(mark, changed_ns=0, looked_ns=NEW), marks))
    assert sum(map(known.holds, marks)) > len(marks) * 0.95
    assert path.stat().st_size <= VERIFIED_FILES_MAX * 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert not known.holds(mark_of("never added"))
    path.write_bytes(path.read_bytes()[:1_000_001])  # torn
    assert 0 < sum(map(known.holds, marks)) < len(marks)
    path.write_bytes(b"")
    assert not any(map(known.holds, marks))
    known.add(marks[0], changed_ns=0, looked_ns=NEW)
    assert known.holds(marks[0])


def test_without_a_memory_everything_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashing: Counting
) -> None:
    """A home that cannot be written would keep people from their data."""
    (tmp_path / "file").write_text("")
    none = Verified(tmp_path / "file" / "verified", later())
    monkeypatch.setattr(verified, "memory", lambda: none)
    sha256 = written(tmp_path / "a")
    assert [is_as_written(str(tmp_path / "a"), sha256) for _ in range(2)] == [True] * 2
    assert hashing.count == 2


def test_a_done_file_takes_the_place_of_one_that_a_killed_writer_left(tmp_path: Path) -> None:
    """A repeated step would fail at its own read-only file."""
    for data in (b"first", b"second"):
        files.write(str(tmp_path / "a"), data, whole=False, final=True)
        assert (tmp_path / "a").read_bytes() == data
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400 & tmp_path.stat().st_mode


def test_a_file_that_settles_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file takes long to hash: it could have been changed again at the beginning."""
    path = tmp_path / "a"
    sha256 = written(path)
    clock = ManualClock(path.stat().st_ctime_ns + VERIFIED_SETTLED_NS - 1)
    known = Verified(tmp_path / "verified", clock)
    monkeypatch.setattr(verified, "memory", lambda: known)

    def slow(place: str, sha256: str) -> os.stat_result | None:
        found = _hashed(place, sha256)
        clock.set(clock.now_ns() + NS)
        return found

    monkeypatch.setattr(verified, "hashed", slow)
    assert is_as_written(str(path), sha256)
    assert not known.holds(mark_of(sha256, stamp(path.stat())))


def test_a_page_that_is_written_through_a_mapping_is_found_until_the_kernel_stores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second write through a mapping changes no time while the page is not stored: some 30 s."""
    path = tmp_path / "a"
    path.write_bytes(b"A" * 4096)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[0:1] = b"A"  # the page is dirty, and the times are those of now
        sha256, status = digest_of(str(path))
        clock = ManualClock(status.st_ctime_ns + 35 * NS)
        known = Verified(tmp_path / "verified", clock)
        monkeypatch.setattr(verified, "memory", lambda: known)
        assert is_as_written(str(path), sha256)
        mapping[0:1] = b"X"
        assert not is_as_written(str(path), sha256)
