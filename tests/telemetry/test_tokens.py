"""Inserts that a crash cut off between their token and their rows."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sextant.stores.telemetry import tokens

_INSERT = """
import sys
from pathlib import Path
from sextant.stores.telemetry.chdb import ChdbStore

store = ChdbStore(Path(sys.argv[1]))
store.run("CREATE DATABASE IF NOT EXISTS obs")
store.run("CREATE TABLE IF NOT EXISTS obs.t (day Date, a UInt64) ENGINE = MergeTree PARTITION BY day ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
for number in sys.argv[2:]:
    store.insert("obs.t", f"2026-01-01\\t{number}\\n2026-01-02\\t{number}\\n".encode(), token=number, form="TSV")
print(store.query("SELECT day, arraySort(groupArray(a)) FROM obs.t GROUP BY day ORDER BY day", form="TSV").decode())
store.close()
"""


def _inserted(folder: Path, *numbers: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _INSERT, str(folder), *numbers],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_token_without_rows(tmp_path: Path) -> None:
    """If this fails, a segment that is inserted again after a kill -9 at the wrong moment is taken
    for known, and what was acknowledged is lost."""
    _inserted(tmp_path, "1", "2")
    (table,) = tmp_path.glob("data/store/*/*/deduplication_logs")
    last = sorted(path for path in table.parent.iterdir() if path.name.startswith("20260102_"))[-1]
    shutil.rmtree(last)  # noted, not moved into place
    assert _inserted(tmp_path, "1", "2", "3") == ["2026-01-01", "[1,2,3]", "2026-01-02", "[1,2,3]"]


@pytest.mark.parametrize(
    ("parts", "log", "left"),
    [
        (["all_1_1_0"], b"1\tall_1_1_0\tx\n1\tall_2_2_0\ty\n", b"1\tall_1_1_0\tx\n"),
        (
            ["all_1_3_1"],
            b"1\tall_1_1_0\tx\n1\tall_2_2_0\ty\n",
            b"1\tall_1_1_0\tx\n1\tall_2_2_0\ty\n",
        ),  # merged
        (
            ["all_1_3_1_7"],
            b"1\tall_2_2_0\ty\n1\tall_4_4_0\tz\n",
            b"1\tall_2_2_0\ty\n",
        ),  # merged, then changed
        (["20260101_2_2_0", "tmp_insert_all_2_2_0"], b"1\tall_2_2_0\ty\n", b""),
        (
            ["all_1_1_0"],
            b"1\tall_1_1_0\tx\n2\tall_9_9_0\tw\n",
            b"1\tall_1_1_0\tx\n2\tall_9_9_0\tw\n",
        ),
        (["all_1_1_0"], b"1\tall_1_1_0\tx\n1\tall_1_", b"1\tall_1_1_0\tx\n"),  # cut off
    ],
)
def test_which_tokens_are_kept(tmp_path: Path, parts: list[str], log: bytes, left: bytes) -> None:
    """If this fails, a token goes whose rows are there, so they are doubled - or one stays whose
    rows are not, so they are lost."""
    table = tmp_path / "store" / "abc" / "abcdef"
    (table / "deduplication_logs").mkdir(parents=True)
    for part in parts:
        (table / part).mkdir()
    file = table / "deduplication_logs" / "deduplication_log_1.txt"
    file.write_bytes(log)
    tokens.forget_unkept(tmp_path)
    assert file.read_bytes() == left
    assert [path.name for path in file.parent.iterdir()] == [file.name]
