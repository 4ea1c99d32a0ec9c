"""Run history: one durable row for each thing that happened to a step, chained into a seal.

The seal is SHA-256 over the rows in order; `run.finished` carries it into the ledger, so a row that
was changed later is found. History is pruned by retention; the seal stays.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import Resources
from sextant.kernel.ports import State, Statement
from sextant.ledger.log import Read, entries


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`start`: an attempt of a strict step is about to run. `end`: an attempt ended. `reuse`:
    nothing had to run."""

    kind: Literal["start", "end", "reuse", "skip"]
    step: str
    attempt: int = 1
    at: int = 0
    started_at: int = 0
    ok: bool = True
    key: str = ""
    output: str = ""
    rows: int = 0
    asset: str = ""
    owner: str = ""
    durability: str = ""
    executor: str = ""
    log: str = ""
    error_code: str = ""
    error: str = ""
    hint: str = ""
    where: str = ""
    resources: Resources = Resources()
    why: tuple[str, ...] = ()  # the planner's reasons, with what changed
    code: str = ""  # digest of the code, settings and lock that it ran


class History:
    """Numbers and seals the records of one run. Used by the engine's thread only."""

    def __init__(self, run: str, rows: Iterable[tuple[int, bytes]] = ()) -> None:
        self.run = run
        self._encode = msgspec.json.Encoder().encode
        self._sha = hashlib.sha256(run.encode())
        self._n = 0
        self.records: list[Record] = []
        for n, body in rows:
            if n != self._n:
                raise _changed(run, f"row {self._n} is missing")
            self._sha.update(body)
            self._n += 1
            try:
                self.records.append(msgspec.json.decode(body, type=Record))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise _changed(run, f"row {n}: {error}") from error

    @classmethod
    def open(cls, state: State, run: str) -> "History":
        """Continue the history of a run that was started before. Damaged when a row is missing or
        cannot be read: it was changed."""
        rows = state.read("history_of", (run,))
        if any(not isinstance(n, int) or not isinstance(body, bytes) for n, body in rows):
            raise _changed(run, "a value has another type")
        return cls(run, rows)

    def add(self, record: Record) -> Statement:
        """Return the statement that appends a record."""
        body = self._encode(record)
        self._sha.update(body)
        statement = Statement("history_add", (self.run, self._n, body))
        self._n += 1
        return statement

    @property
    def seal(self) -> str:
        """Return the digest over everything added so far."""
        return self._sha.hexdigest()


def _changed(run: str, what: str) -> Damaged:
    return Damaged(
        "SX-LEDGER-038",
        f"the history of run {run} was changed: {what}",
        hint="`sextant ledger verify` lists what else is; a backup has the history as it was",
    )


class _Finished(msgspec.Struct, frozen=True):
    """What the event of a finished run says of its history."""

    seal: str = ""


def broken(read: Read) -> list[str]:
    """Return a line for each run whose kept history is not what the ledger sealed, and for history
    of runs that the ledger does not know. History that was pruned as a whole is just gone."""
    seals: dict[str, str] = {}  # "" while a run is not finished
    for type_ in ("run.started", "run.finished"):
        for entry in entries(read, "events_of_type", (type_,)):
            run = entry.envelope.subject
            sealed = type_ == "run.finished" and not entry.is_erased
            seals[run] = (entry.read(_Finished).seal if sealed else "") or seals.get(run, "")
    out = []
    for (run,) in read("history_runs", ()):
        if run not in seals:
            out.append(f"the ledger does not know run {str(run)[:64]}, which has history")
            continue
        rows = read("history_of", (run,))
        bodies = [body for _, body in rows if isinstance(body, bytes)]
        is_whole = len(bodies) == len(rows) and [n for n, _ in rows] == list(range(len(rows)))
        if not is_whole or (seals[run] and not _seal_matches(run, bodies, seals[run])):
            out.append(f"the history of run {run} is not what was sealed")
    return out


def _seal_matches(run: str, bodies: Iterable[bytes], seal: str) -> bool:
    """Say whether stored rows are those that were sealed."""
    sha = hashlib.sha256(run.encode())
    for body in bodies:
        sha.update(body)
    return sha.hexdigest() == seal
