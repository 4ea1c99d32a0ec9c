"""What a protocol of the ingest endpoint is: it parses a request and makes the answer. The endpoint
does the rest."""

import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from sextant.formats.telemetry.batch import Batch, Budget, Identity, lost, noticed
from sextant.http import answers
from sextant.http.answers import Answer
from sextant.kernel import limits
from sextant.kernel.errors import Bug, SextantError

Labels = tuple[tuple[bytes, bytes], ...]
Identify = Callable[[bytes], Identity] | None  # reads the keys of samples; None = it brings none


class Incoming(NamedTuple):
    """An authenticated request. `body` is unpacked; header names are in lower case; `oldest_ns` is
    by table."""

    path: str
    content_type: str  # without parameters, lower case
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    owner: str
    now_ns: int
    oldest_ns: Mapping[str, int]


class Parsed(NamedTuple):
    """What a request says. `more` are labels for all its series; `kinds` what it says of metrics:
    name -> (kind, unit)."""

    batch: Batch
    more: Labels = ()
    kinds: Mapping[bytes, tuple[str, str]] = {}


class Protocol(typing.Protocol):
    """One protocol. `name` stands in obs.refused."""

    name: str
    paths: tuple[str, ...]
    types: tuple[str, ...]  # content types that it takes; () = any
    identify: Identify

    def encoding(self, headers: Mapping[str, str]) -> str:
        """Return how a body is packed, lower case; UsageError for a form of the protocol that is
        not taken."""
        ...

    def is_small(self, incoming: Incoming) -> bool:
        """Say whether a request may be decoded on the event loop: the worst one that may takes some
        ten milliseconds."""
        ...

    def decode(self, incoming: Incoming, budget: Budget, *, again: bool = False) -> Parsed:
        """Return what a request means. `again`: what it said before could not be read that way.
        BadData, UsageError, TooMuch."""
        ...

    def accepted(
        self, incoming: Incoming, count: int, refused: Mapping[str, int], *, first: str = ""
    ) -> Answer:
        """Return the answer to a request that is durable: `count` records were taken, `refused`
        were not (or, of `NOTICES`, otherwise than sent); `first` says what was wrong first."""
        ...

    def rejected(self, content_type: str, status: int, error: SextantError) -> Answer:
        """Return the answer to a request that was not taken."""
        ...


def decode(
    protocol: Protocol, incoming: Incoming, budget: Budget, *, again: bool = False
) -> Parsed:
    """Return what a request means, as `Protocol.decode`; TooMuch also when its rows are too
    large."""
    parsed = protocol.decode(incoming, budget, again=again)
    budget.check_row_bytes(sum(len(rows.block) for rows in parsed.batch.rows))
    return parsed


def content_encoding(headers: Mapping[str, str]) -> str:
    """Return how a request says that its body is packed."""
    return headers.get("content-encoding", "identity").strip().lower()


def loop_budget(protocol: Protocol) -> Budget:
    """Return the budget of a request that is decoded on the event loop."""
    return Budget(
        records=limits.LOOP_RECORDS_MAX * (4 if protocol.name == "remote_write" else 1),
        row_bytes=limits.LOOP_ROWS_BYTES_MAX,
        groups=limits.LOOP_GROUPS_MAX,
        field_bytes=limits.LOOP_FIELD_BYTES_MAX,
    )


def defect() -> Bug:
    """Return the error of a request that met a defect of ours; the log has the traceback."""
    return Bug(
        "SX-INTAKE-059",
        "a promise inside Sextant was broken",
        hint="please report it; the server's log has the traceback",
    )


def problem(status: int, error: SextantError) -> Answer:
    """Return an error as a problem document (RFC 9457), for senders of no other form."""
    return Answer(status, msgspec.json.encode(answers.problem(error, status)), answers.PROBLEM)


def counted(count: int, refused: Mapping[str, int], first: str = "") -> Answer:
    """Return what became of a request, as JSON. `noticed` and `first` stand in it when there is
    something to say."""
    said: dict[str, Any] = {"taken": count, "refused": lost(refused)}
    if kept := noticed(refused):
        said["noticed"] = kept
    if first:
        said["first"] = first
    return answers.json_answer(said)
