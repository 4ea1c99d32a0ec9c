"""What running runs show of themselves before they end: what their steps print, and how far they
are. A folder of bounded files for each run, which any process of this machine can read.

Written by the process that works on a run, without syncs: all of it is copied from, or counted
again by, what is kept for good. The log of a run is a sequence of pieces in numbered segments; a
position is `SEGMENT.OFFSET`, and the oldest segments go when there are too many.
"""

import contextlib
import os
import re
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import (
    LIVE_KEPT_S,
    LIVE_SEGMENT_BYTES_MAX,
    LIVE_SEGMENTS_MAX,
)
from sextant.stores.files import join

_POSITION = re.compile(r"(\d{1,9})\.(\d{1,9})")
_PROGRESS = "progress.json"


class Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one attempt of a step printed within a moment; secrets are masked.

    at     when it was read (ns since 1970)
    first  nothing was printed before it
    """

    step: str
    asset: str
    attempt: int = 1
    at: int = 0
    text: str
    first: bool = False


class Read(NamedTuple):
    """Pieces of a run's log from a position on.

    next  where the following question goes on
    more  there is more already
    lost  what the position named is gone: the pieces begin later
    """

    pieces: list[Piece]
    next: str
    more: bool
    lost: bool


_DECODE = msgspec.json.Decoder(Piece).decode
_ENCODE = msgspec.json.Encoder().encode


class LiveRuns:
    """The folder of a project's running runs. Any thread; any process may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def begin(self, run: str, open_runs: set[str], now_ns: int) -> None:
        """Make the folder of a run, and remove those of runs that ended some time ago.

        open_runs  runs whose folders stay, however old
        now_ns     the time, as the machine's clock has it (ns since 1970)
        """
        with contextlib.suppress(OSError):  # nobody can follow it then; the run goes on
            os.makedirs(self._of(run), mode=0o700, exist_ok=True)
            for name in os.listdir(self._folder):
                if name != run and name not in open_runs:
                    place = join(self._folder, name)
                    if now_ns - os.stat(place).st_mtime_ns > LIVE_KEPT_S * NS:
                        shutil.rmtree(place, ignore_errors=True)

    def end(self, run: str) -> None:
        """Say that a run has ended: its log stays for those who follow it, for some time."""
        with contextlib.suppress(OSError):
            os.remove(join(self._of(run), _PROGRESS))

    def add(self, run: str, piece: Piece) -> None:
        """Append a piece to a run's log. What cannot be written is left out: the whole of it is
        kept when the step has ended."""
        body = _ENCODE(piece) + b"\n"
        with self._lock, contextlib.suppress(OSError):
            segments = self._segments(run)
            last = segments[-1] if segments else 0
            place = self._segment(run, last)
            if segments and os.stat(place).st_size + len(body) > LIVE_SEGMENT_BYTES_MAX:
                place = self._segment(run, last + 1)
                for old in segments[: -LIVE_SEGMENTS_MAX + 1]:
                    os.remove(self._segment(run, old))
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, body)
            finally:
                os.close(file)

    def read(self, run: str, position: str, limit_bytes: int) -> Read | None:
        """Return the pieces after a position ("" = from the beginning), about `limit_bytes` of
        them at most; None when the run has no folder. UsageError for what is not a position."""
        at, offset = position_of(position)
        segments = self._segments(run)
        if not segments:
            return Read([], "0.0", more=False, lost=False) if self._has(run) else None
        lost = at < segments[0]
        if lost:
            at, offset = segments[0], 0
        pieces: list[Piece] = []
        left = limit_bytes
        while left > 0:
            body = self._body(run, at, offset, left)
            if body is None:  # removed since it was listed
                lost, at, offset = True, at + 1, 0
                if at > segments[-1]:
                    break
                continue
            whole = body[: body.rfind(b"\n") + 1]
            for row in whole.splitlines():
                with contextlib.suppress(msgspec.MsgspecError):  # torn by a crash
                    pieces.append(_DECODE(row))
            offset, left = offset + len(whole), left - len(whole)
            if whole and len(whole) < len(body):
                break  # the limit cut a piece off: it comes next
            if at >= segments[-1]:
                break
            at, offset = at + 1, 0
        more = at < segments[-1] or self._size(run, at) > offset
        return Read(pieces, f"{at}.{offset}", more=more, lost=lost)

    def tell(self, run: str, progress: bytes) -> None:
        """Replace what is known of how far a run is."""
        place = join(self._of(run), _PROGRESS)
        with contextlib.suppress(OSError):
            with open(f"{place}.part", "wb") as file:
                file.write(progress)
            os.replace(f"{place}.part", place)

    def progress(self, run: str) -> bytes:
        """Return what was told last of how far a run is; b"" when nothing was."""
        try:
            with open(join(self._of(run), _PROGRESS), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def _of(self, run: str) -> str:
        if not re.fullmatch(r"\w+", run):
            raise UsageError("SX-RUN-012", f"`{run[:64]}` is not the id of a run")
        return join(self._folder, run)

    def _segment(self, run: str, number: int) -> str:
        return join(self._of(run), f"{number}.log")

    def _has(self, run: str) -> bool:
        return os.path.isdir(self._of(run))

    def _segments(self, run: str) -> list[int]:
        try:
            names = os.listdir(self._of(run))
        except OSError:
            return []
        return sorted(int(name[:-4]) for name in names if name.endswith(".log"))

    def _body(self, run: str, number: int, offset: int, limit: int) -> bytes | None:
        """Return bytes of a segment; at least one whole piece, where there is one."""
        try:
            file = os.open(self._segment(run, number), os.O_RDONLY)
        except OSError:
            return None
        try:
            body = os.pread(file, limit, offset)
            if body and b"\n" not in body:
                body = os.pread(file, LIVE_SEGMENT_BYTES_MAX, offset)
                body = body[: body.find(b"\n") + 1]
            return body
        finally:
            os.close(file)

    def _size(self, run: str, number: int) -> int:
        try:
            return os.stat(self._segment(run, number)).st_size
        except OSError:
            return 0


def position_of(text: str) -> tuple[int, int]:
    """Return segment and offset of a position. UsageError."""
    found = _POSITION.fullmatch(text or "0.0")
    if found is None:
        raise UsageError(
            "SX-RUN-013",
            f"`{text[:64]}` is not a position in a log",
            hint="take `next` of the answer before, or leave `after` out",
        )
    return int(found[1]), int(found[2])
