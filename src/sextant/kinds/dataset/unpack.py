"""A process that reads one body of Arrow or Parquet and ends.

Their readers are C++: a crafted body can abort the process, or take more memory than it says. So a
body that somebody sent is read here, with a limit on memory and time, and never by a server itself.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sextant.kernel.errors import BadData, BadRow, SextantError, from_problem
from sextant.kernel.limits import PUSHED_UNPACK_BYTES_MAX, PUSHED_UNPACK_S
from sextant.kinds.dataset import streams
from sextant.kinds.dataset.bodies import Body


class _Asked(msgspec.Struct):
    columns: streams.Columns
    key: tuple[str, ...]
    content_type: str


class _Answer(msgspec.Struct):
    """What the process found: rows as they are kept, behind this line; or why not."""

    bad: tuple[BadRow, ...] = ()
    bad_places: tuple[int, ...] = ()
    problem: dict[str, Any] | None = None


def read_apart(
    columns: streams.Columns, key: Sequence[str], body: Body, bad: streams.BadRowList
) -> streams.PushedRows:
    """Return the rows of a body; see `bodies.read`. BadData also when reading it takes the process
    down."""
    home = str(Path(__file__).resolve().parents[2])  # also when Sextant is not installed
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    asked = msgspec.json.encode(_Asked(columns, tuple(key), body.content_type))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sextant.kinds.dataset.unpack"],
            input=asked + b"\n" + body.data,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=PUSHED_UNPACK_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _damaged(f"it is not read after {PUSHED_UNPACK_S:g} s") from error
    head, _, kept = done.stdout.partition(b"\n")
    if done.returncode or not head:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise _damaged(f"reading it took the reader down ({how})")
    answer = msgspec.json.decode(head, type=_Answer)
    if answer.problem is not None:
        raise from_problem(answer.problem, int(answer.problem.get("status", 500)))
    bad.rows, bad.places = list(answer.bad), set(answer.bad_places)
    return streams.decode(columns, kept)


def _damaged(what: str) -> BadData:
    return BadData(
        "SX-STREAM-030",
        f"the body is damaged: {what}",
        hint="is it of the kind that its content type says?",
    )


def main() -> None:
    """Read one request from standard input, write one answer."""
    from sextant.kinds.dataset import columnar

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (PUSHED_UNPACK_BYTES_MAX, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    asked = msgspec.json.decode(head, type=_Asked)
    bad = streams.BadRowList()
    kept = b""
    try:
        body = Body(asked.content_type, data, "", "")
        rows = columnar.read(asked.columns, asked.key, body, bad)
        kept = streams.encode(asked.columns, rows)
        answer = _Answer(tuple(bad.rows), tuple(sorted(bad.places)))
    except SextantError as error:
        answer = _Answer(problem=error.problem())
    except MemoryError:
        answer = _Answer(problem=_damaged("it takes too much memory").problem())
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n" + kept)


if __name__ == "__main__":
    main()
