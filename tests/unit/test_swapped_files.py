"""A file that is exchanged between its comparison and its reading: what was compared is what was
read, or nothing is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Damaged
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import FileRef
from sextant.stores.lake import frames
from sextant.stores.lake.iceberg import IcebergLake


@pytest.fixture
def file(tmp_path: Path) -> FileRef:
    rows = pa.table({"id": [1, 2, 3]})
    made = frames.write_many(
        frames.arrange([("", rows)]), root=tmp_path, staging="orders/data/a1", grain="none"
    )
    return made[0].files[0]


@pytest.fixture
def swapped(tmp_path: Path, file: FileRef, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exchange the file right after it was compared for the first time."""
    place, other = tmp_path / file.path, tmp_path / "other.parquet"
    rows = pq.read_table(place)
    more = rows.set_column(0, "id", pa.array([666] * 3)).append_column("more", pa.array([0] * 3))
    pq.write_table(more.replace_schema_metadata(rows.schema.metadata), other)
    plain = frames.confirm

    def confirm(*args: Any) -> Any:
        found = plain(*args)
        if other.exists():
            os.replace(other, place)
        return found

    monkeypatch.setattr(frames, "confirm", confirm)
    return tmp_path


def footer(root: Path, file: FileRef) -> Any:
    lake = IcebergLake(root, clock=ManualClock(0), ids=Ids(ManualClock(0)))
    return lake._footer(file)


def rows(root: Path, file: FileRef) -> Any:
    return frames.read(root, [file], frame="pyarrow", schema=(("id", "int64"),))


def columns(root: Path, file: FileRef) -> Any:
    return frames.read(root, [file], frame="pyarrow")


def schema(root: Path, file: FileRef) -> Any:
    return frames._schema_of_files(root, [file], "")


@pytest.mark.parametrize("read", [rows, columns, schema, footer])
def test_a_file_that_is_exchanged_after_its_comparison_is_not_believed(
    swapped: Path, file: FileRef, read: Callable[[Path, FileRef], Any]
) -> None:
    """Rows, columns or statistics that nobody made would be used, a moment after the check."""
    with pytest.raises(Damaged) as found:
        read(swapped, file)
    assert found.value.code == "SX-LAKE-003"


@pytest.mark.parametrize("read", [rows, columns, schema, footer])
def test_a_file_that_is_touched_after_its_comparison_is_read_again(
    tmp_path: Path,
    file: FileRef,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path, FileRef], Any],
) -> None:
    """Another process may take up a file that is being read: that is no damage."""
    plain, touched = frames.confirm, []

    def confirm(*args: Any) -> Any:
        found = plain(*args)
        if not touched:
            touched.append(os.utime(tmp_path / file.path, ns=(1, 1)))
        return found

    monkeypatch.setattr(frames, "confirm", confirm)
    assert read(tmp_path, file)
    assert touched
