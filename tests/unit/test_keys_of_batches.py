"""What is remembered of batches survives a disk that takes half of a key."""

import os
from pathlib import Path

import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import StorageError
from sextant.stores.telemetry import journal
from sextant.stores.telemetry.journal import Record, Seen

NOON = 1_700_000_000_000_000_000


def record(name: str) -> Record:
    return Record(name.encode().ljust(16, b"."), NOON, [], [])


def test_nothing_is_appended_behind_half_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NOON)
    seen = Seen(tmp_path / "seen", clock)
    seen.keep([record("first")])
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "write", full)
        with pytest.raises(StorageError):
            seen.keep([record("second")])
    clock.wait(1)
    seen.keep([record("third")])
    seen.close()
    again = Seen(tmp_path / "seen", clock)
    assert [record(name).key in again for name in ("first", "third")] == [True, True]
    assert len(again) == 2


def test_a_write_that_takes_a_part_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NOON)
    seen = Seen(tmp_path / "seen", clock)
    write = os.write
    monkeypatch.setattr(journal.os, "write", lambda to, data: write(to, bytes(data)[:5]))
    seen.keep([record("first"), record("second")])
    seen.close()
    assert len(Seen(tmp_path / "seen", clock)) == 2
