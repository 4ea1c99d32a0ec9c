"""Closes the gaps that ClickHouse leaves on the disk in what it remembers of inserts and their
tokens.

Called by the store in this process. A MergeTree table notes each part that an insert makes in
`deduplication_logs/deduplication_log_N.txt`
- operation (1 added, 2 dropped), part, hash of the token - *before* it moves the part into place,
and does not sync the file. So who kills
the process in between leaves a token without rows: their repetition would be taken for known, and
they would be lost. And a machine that
loses its power may keep rows and forget their token: their repetition would double them.

Source: ClickHouse, MergeTreeDeduplicationLog and MergeTreeSink; its issue 111577 for the missing
sync.
"""

import os
import re
from pathlib import Path

from sextant.stores import files

_FOLDER = "deduplication_logs"
_LOG = re.compile(r"deduplication_log_(\d+)\.txt")
_PART = re.compile(
    r"([^_]+)_(\d+)_(\d+)_\d+(?:_\d+)?"
)  # partition, first block, last block, level, mutation
_ADDED = b"1"


def forget_unkept(data: Path) -> int:
    """Take out the tokens whose rows are not there, of all tables; return how many. The database
    must not be open."""
    return sum(_mend(folder) for folder in data.glob(f"store/*/*/{_FOLDER}"))


def sync(data: Path, table: str) -> None:
    """Make the tokens of the inserts into a table (`database.name`) durable."""
    folder = data / "data" / Path(*table.split(".")) / _FOLDER
    logs = _logs(folder)
    if not logs:
        return  # the table remembers none
    try:
        descriptor = os.open(logs[-1], os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise files.refused(error, str(folder)) from error
    files.sync_folder(str(folder))


def _logs(folder: Path) -> list[Path]:
    """Return the files of a table's tokens, oldest first."""
    if not folder.is_dir():
        return []
    found = {path: _LOG.fullmatch(path.name) for path in folder.iterdir()}
    return sorted(
        (path for path, named in found.items() if named),
        key=lambda path: int(path.stem.rpartition("_")[2]),
    )


def _mend(folder: Path) -> int:
    there: dict[str, list[tuple[int, int]]] = {}
    for name in os.listdir(folder.parent):
        part = _PART.fullmatch(name)
        if part:
            there.setdefault(part[1], []).append((int(part[2]), int(part[3])))
    forgotten = 0
    for path in _logs(folder):
        lines = files.read(str(path), what="tokens of inserts").splitlines(keepends=True)
        kept = [line for line in lines if _is_kept(line, there)]
        if len(kept) == len(lines):
            continue
        forgotten += len(lines) - len(kept)
        # beside: ClickHouse reads every name in the folder
        temporary = folder.parent.parent / f"{path.name}.new"
        files.write(str(temporary), b"".join(kept), whole=False)
        os.replace(temporary, path)
        files.sync_folder(str(folder))
    return forgotten


def _is_kept(line: bytes, there: dict[str, list[tuple[int, int]]]) -> bool:
    """Return whether the part of a line is there, by itself or merged with others. A line that was
    cut off while it was written is not."""
    words = line.split()
    if not line.endswith(b"\n") or len(words) != 3:
        return False
    part = _PART.fullmatch(words[1].decode("utf-8", "replace"))
    if words[0] != _ADDED or part is None:
        return True
    return any(
        first <= int(part[2]) and int(part[3]) <= last for first, last in there.get(part[1], ())
    )
