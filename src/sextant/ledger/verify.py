"""Verifies a ledger: events, payloads, tree, checkpoints, projected rows and indexes. Called by
`sextant ledger verify` and the restore drill.

Found is every change of the events and of what is derived from them: columns, payloads, tree nodes,
checkpoints, projected rows, indexes. Found are releases into environments that did not exist, too.
Not found can be a change of unused bytes; and, without a witness kept outside, what somebody does
who has the signing key too.
"""

import heapq
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import msgspec

from sextant.kernel.errors import SextantError
from sextant.kernel.nouns import Release
from sextant.kernel.ports import Row
from sextant.ledger import merkle
from sextant.ledger.checkpoint import keys_by_size, note_hash, read_note
from sextant.ledger.erase import ERASED, PayloadErased
from sextant.ledger.gaps import Gap, key_at, noted_gaps
from sextant.ledger.log import Read, entries, payload_hash, subtrees
from sextant.ledger.projections import PROJECTED, EnvCreated
from sextant.ledger.rebuild import projected
from sextant.ledger.upcast import upcast
from sextant.ledger.witness import Witness, contradiction
from sextant.stores.state import StateReader, open_reader, scratch

FINDINGS_MAX = 100  # more do not help: the first ones say where it begins
PAGE_EVENTS = 512  # events read at once: they stay in the processor's cache
RANGE_EVENTS = 1 << 16  # events of one unit of work: a complete subtree
_ENVIRONMENT_EVENTS = ("env.created", "env.dropped", "release.live")
PARALLEL_EVENTS_MIN = 200_000  # fewer are verified before a second process has started


class _Said(msgspec.Struct, frozen=True, gc=False):
    """An envelope, cheaper to decode by the million: nothing in it can be part of a cycle."""

    seq: int
    id: str
    type: str
    subject: str
    cause: str
    time: int
    hash: str
    v: int
    actor: str


_decode = msgspec.json.Decoder(_Said).decode


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: in which table, at which event (-1 = none in particular), and
    what."""

    table: str
    seq: int
    message: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified. `signed` events are covered by a checkpoint whose signature was checked;
    `gaps_noted`: gaps between checkpoints for which a signed event stands; `root` is hex."""

    events: int
    erased: int
    checkpoints: int
    signed: int
    gaps_noted: int
    witnessed: int
    root: str
    projections: bool
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.findings


class _Range(msgspec.Struct):
    """What one unit of work found out about events `start` .. `stop`-1."""

    start: int
    stop: int
    findings: list[Finding]
    nodes: list[tuple[int, int, bytes]]  # complete subtrees from merkle.STORED_LEVEL upwards
    peaks: list[
        tuple[int, bytes]
    ]  # (level, hash) of the subtrees that make up the range, left to right
    bare: list[int]  # events without payload
    erased: list[int]  # events whose payload an event of this range erases
    first_time: int
    last_time: int


def verify(
    state: StateReader,
    *,
    public: str | None = None,
    witness: Witness | None = None,
    origin: str = "",
    workers: int = 0,
    projections: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a whole ledger.

    public       the public key that the caller trusts (from the key file); without it the
                 witness's. Without both the
                 signatures of checkpoints are not checked, and `signed` is 0
    witness      a checkpoint kept outside: the log must continue it
    origin       the log that every checkpoint must be of, `sextant/ID`; "" = that of the first
    workers      processes; 0 = one for small ledgers, else up to two
    projections  also rebuild the projected tables and compare them row by row, and look for
                 releases into environments that did not exist
    progress     called with (events hashed, events in all)
    Cost         1 M events of 260 bytes: 2.5 s by two processes; projections up to 10 s more
    """
    findings: list[Finding] = []
    size = 0
    tree = merkle.Frontier()
    bare: set[int] = set()
    checkpoints = (0, 0, 0)
    helper = ThreadPoolExecutor(1, thread_name_prefix="sextant-integrity")
    intact = helper.submit(state.integrity)  # beside the events: it takes as long as half of them
    try:
        size = _span(state.read, findings)
        tree, bare = _events(state, size, workers, findings, progress)
        trusted = public or (witness.public if witness else None)
        checkpoints = _checkpoints(state.read, tree.size, trusted, origin, findings)
        if size and trusted and not checkpoints[1]:
            findings.append(
                Finding(
                    "checkpoint",
                    -1,
                    f"none of the {size} events is signed by the ledger's key: nothing proves "
                    "them (`sextant ledger checkpoint` signs what a killed command left)",
                )
            )
        if witness is not None:
            _witness(state.read, witness, findings)
        if projections:
            _projections(state, findings)
            _environments(state.read, findings)
    except SextantError as error:  # a database so broken that it cannot be read on
        findings.append(Finding("database", -1, error.message))
    except (
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
    ) as error:  # values that no column may have
        findings.append(Finding("database", -1, f"what stands there cannot be read: {error}"))
    finally:
        helper.shutdown()
    findings[:0] = [Finding("database", -1, text) for text in intact.result()]
    return Report(
        events=size,
        erased=len(bare),
        checkpoints=checkpoints[0],
        signed=checkpoints[1],
        gaps_noted=checkpoints[2],
        witnessed=witness.checkpoint().size if witness else 0,
        root=tree.root().hex(),
        projections=projections,
        findings=tuple(findings[:FINDINGS_MAX]),
    )


def _span(read: Read, findings: list[Finding]) -> int:
    """Return the number of events, and how far to look; report a first or last one that is not
    where it must be."""
    count, first, last = read("event_span", ())[0]
    if count and (first != 0 or last != count - 1):
        findings.append(
            Finding(
                "event",
                int(first),
                f"{count} events are numbered {first} to {last}: some are missing",
            )
        )
    for (seq,) in read("payload_strays", (FINDINGS_MAX,)):
        findings.append(Finding("payload", int(seq), "a payload without an event"))
    return int(count)


def _events(
    state: StateReader,
    size: int,
    workers: int,
    findings: list[Finding],
    progress: Callable[[int, int], None] | None,
) -> tuple[merkle.Frontier, set[int]]:
    """Check all events and the stored nodes; return the tree made anew, and which events have no
    payload."""
    tree = merkle.Frontier()
    nodes: dict[tuple[int, int], bytes] = {}
    bare: set[int] = set()
    erased: set[int] = set()
    time = 0
    for part in _ranges(state, size, workers):
        findings += part.findings
        nodes |= {(level, index): hash_ for level, index, hash_ in part.nodes}
        bare.update(part.bare)
        erased.update(part.erased)
        if part.first_time < time:
            findings.append(
                Finding("event", part.start, "its time is before that of the event in front of it")
            )
        time = part.last_time
        for level, hash_ in part.peaks:
            nodes |= {(above, index): node for above, index, node in tree.extend(level, hash_)}
        if progress is not None:
            progress(part.stop, size)
    findings += [
        Finding("payload", seq, "the payload is gone, and no event says that it was erased")
        for seq in sorted(bare - erased)
    ]
    findings += [
        Finding("payload", seq, "the payload is there, though an event says that it was erased")
        for seq in sorted(erased - bare)
    ]
    for level, index, hash_ in state.read("nodes", ()):
        expected = nodes.pop((level, index), None)
        if expected != hash_:
            findings.append(
                Finding("node", -1, f"node {index} on level {level} is not what the events give")
            )
    findings += [
        Finding("node", -1, f"node {index} on level {level} is missing") for level, index in nodes
    ]
    return tree, bare


def _ranges(state: StateReader, size: int, workers: int) -> Iterator[_Range]:
    """Check range after range, here or in other processes; return the results in order."""
    spans = [(start, min(start + RANGE_EVENTS, size)) for start in range(0, size, RANGE_EVENTS)]
    workers = workers or (min(2, os.cpu_count() or 1) if size >= PARALLEL_EVENTS_MIN else 1)
    if workers == 1:
        for start, stop in spans:
            yield _scan(state.read, start, stop)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_scan_apart, [(state.address, start, stop) for start, stop in spans])


def _scan_apart(order: tuple[str, int, int]) -> _Range:
    address, start, stop = order
    reader = open_reader(address)
    try:
        return _scan(reader.read, start, stop)
    finally:
        reader.close()


def _scan(read: Read, start: int, stop: int) -> _Range:
    """Check the events of one range against each other, their payloads, columns and causes."""
    found = _Range(start, stop, [], [], [], [], [], 0, 0)
    report = found.findings.append
    known: dict[str, int] = {}  # events of this range up to the page at hand, by id
    leaves: list[bytes] = []
    keep = leaves.append
    last = 0
    before = ""
    for page_start in range(start, stop, PAGE_EVENTS):
        page_stop = min(page_start + PAGE_EVENTS, stop)
        rows = read("events_whole", (page_start, page_stop))
        if len(rows) != page_stop - page_start:
            rows = _with_holes(rows, page_start, page_stop)
        known.update((row[1], row[0]) for row in rows)
        for row in rows:  # what verifying costs is this loop: 1.6 us an event, reading 1 us
            seq, id_, type_, subject, cause, time, envelope, salt, body = row
            try:
                keep(sha256(b"\x00" + envelope).digest())
                said = _decode(envelope)
                if (
                    said.hash != sha256(salt + body).hexdigest()
                    or said.id != id_
                    or said.seq != seq
                    or said.time != time
                    or said.type != type_
                    or said.subject != subject
                    or said.cause != cause
                ):
                    _diagnose(row, found)
                if time < last:
                    report(
                        Finding("event", seq, "its time is before that of the event in front of it")
                    )
                last = time
                if type_ == ERASED:
                    erasure = upcast(type_, said.v, body)
                    found.erased.append(msgspec.json.decode(erasure, type=PayloadErased).seq)
            except (
                TypeError,
                ValueError,
            ):  # an erased payload, a hole, a column of another type, an envelope that is no JSON
                del leaves[seq - start :]
                leaves.append(
                    sha256(b"\x00" + envelope).digest()
                    if isinstance(envelope, bytes)
                    else merkle.EMPTY
                )
                _diagnose(row, found)
            if cause and cause != before:  # most are caused by the one before
                at = known.get(cause)
                if at is None and (named := read("event_seq", (cause,))):
                    at = named[0][0]
                if at is None or at >= seq:
                    report(Finding("event", seq, f"its cause `{cause}` is no earlier event"))
            before = id_
        found.first_time = found.first_time or rows[0][5]
    found.last_time = last
    _build(found, leaves)
    return found


def _with_holes(rows: list[Row], start: int, stop: int) -> list[Row]:
    """Return the rows of a page with an empty one for each event that is missing."""
    known = {row[0]: row for row in rows}
    return [
        known.get(seq, (seq, "", "", "", "", 0, None, None, None)) for seq in range(start, stop)
    ]


def _diagnose(row: Row, found: _Range) -> None:
    """Report what is wrong with one event of a page that is not as it should be."""
    seq, id_, type_, subject, cause, time, envelope, salt, body = row
    if envelope is None:
        found.findings.append(Finding("event", seq, "the event is missing"))
        return
    try:
        said = _decode(envelope)
    except (TypeError, ValueError) as error:
        found.findings.append(Finding("event", seq, f"its envelope cannot be read: {error}"))
        return
    if (said.seq, said.id, said.type, said.subject, said.cause, said.time) != (
        seq,
        id_,
        type_,
        subject,
        cause,
        time,
    ):
        found.findings.append(Finding("event", seq, "its columns are not what its envelope says"))
    if body is None:
        found.bare.append(seq)
    elif (
        not isinstance(body, bytes)
        or not isinstance(salt, bytes)
        or payload_hash(salt, body) != said.hash
    ):
        found.findings.append(
            Finding("payload", seq, "the payload is not the one that the envelope names")
        )


def _build(found: _Range, hashes: list[bytes]) -> None:
    """Make the complete subtrees over the leaves of a range: its stored nodes, and the peaks that
    it hands on."""
    level = 0
    first = found.start
    peaks = []
    while hashes:
        if len(hashes) & 1:
            peaks.append((level, hashes[-1]))
        if level >= merkle.STORED_LEVEL:
            found.nodes += [(level, first + at, hash_) for at, hash_ in enumerate(hashes)]
        hashes = [
            sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest()
            for at in range(0, len(hashes) - 1, 2)
        ]
        first >>= 1
        level += 1
    found.peaks = peaks[::-1]


def _checkpoints(
    read: Read, size: int, public: str | None, origin: str, findings: list[Finding]
) -> tuple[int, int, int]:
    """Check each checkpoint's row, signature, root and place in the chain; return how many there
    are, how many events are signed, and how many gaps are noted."""
    keys: list[tuple[int, str]] = []
    if public is not None:
        try:
            keys = keys_by_size(read, public)
        except SextantError as error:
            findings.append(Finding("checkpoint", -1, error.message))
            public = None
    subtree = subtrees(read)
    noted = noted_gaps(read, keys)
    signed = gaps = time = before = 0
    after = ""
    rows = read("checkpoints", ())
    for at_size, note, at in rows:
        key = key_at(keys, at_size) if keys else None
        try:
            checkpoint = read_note(note, key)
            if (checkpoint.size, checkpoint.time) != (at_size, at) or at < time:
                findings.append(
                    Finding("checkpoint", at_size, "its columns are not what its note says")
                )
            if at_size > size:
                findings.append(
                    Finding(
                        "checkpoint",
                        at_size,
                        f"it covers {at_size} events, there are {size}: the log was cut off",
                    )
                )
            elif merkle.root(at_size, subtree) != checkpoint.root:
                findings.append(
                    Finding(
                        "checkpoint",
                        at_size,
                        f"the first {at_size} events are not the ones that it signs",
                    )
                )
            else:
                signed = at_size if key else 0
            if checkpoint.origin != (origin or checkpoint.origin):
                findings.append(Finding("checkpoint", at_size, "it is of another log"))
            if checkpoint.after != after:
                gap = Gap(before, after, at_size, note_hash(note))
                if gap in noted:
                    noted.remove(gap)
                    gaps += 1
                else:
                    findings.append(
                        Finding(
                            "checkpoint",
                            at_size,
                            (
                                "it does not follow the checkpoint in front of it: one is "
                                "missing, or two processes signed at the same moment (`sextant "
                                "ledger repair` notes the gap)"
                            ),
                        )
                    )
            time, origin = at, origin or checkpoint.origin
        except SextantError as error:
            findings.append(Finding("checkpoint", at_size, error.message))
        before, after = at_size, note_hash(note) if isinstance(note, str) else ""
    findings += [
        Finding(
            "checkpoint",
            gap.next_size,
            "the gap in front of it that was noted is not there: a checkpoint was taken out",
        )
        for gap in sorted(noted)
    ]
    return len(rows), signed, gaps


def _witness(read: Read, witness: Witness, findings: list[Finding]) -> None:
    """Check that the log continues what was seen, and that the checkpoint that was seen is still
    there."""
    if text := contradiction(read, witness):
        findings.append(Finding("event", -1, text))
    if witness.checkpoint().size and witness.note not in [
        note for _, note, _ in read("checkpoints", ())
    ]:
        findings.append(
            Finding(
                "checkpoint",
                -1,
                (
                    f"the checkpoint of size {witness.checkpoint().size} that was kept outside "
                    "is missing here"
                ),
            )
        )


def _projections(state: StateReader, findings: list[Finding]) -> None:
    """Make the projected tables anew and compare them, row by row."""
    fresh = scratch()
    try:
        fresh.apply(projected(state.read))
        for table in PROJECTED:
            for message in _differences(state.rows(table), fresh.rows(table)):
                findings.append(Finding(table, -1, message))
                if len(findings) >= FINDINGS_MAX:
                    return
    except (ValueError, TypeError, ArithmeticError) as error:
        findings.append(
            Finding("payload", -1, f"an event's payload is not what its type declares: {error}")
        )
    finally:
        fresh.close()


def _environments(read: Read, findings: list[Finding]) -> None:
    """Report each release that went live in an environment that did not exist at that moment."""
    found = (entries(read, "events_of_type", (type_,)) for type_ in _ENVIRONMENT_EVENTS)
    existing: set[str] = set()
    for entry in heapq.merge(*found, key=lambda entry: entry.envelope.seq):
        if entry.is_erased:  # a payload that is gone is reported with its event
            continue
        if entry.envelope.type == "env.created":
            existing.add(entry.read(EnvCreated).name)
        elif entry.envelope.type == "env.dropped":
            existing.discard(entry.read(EnvCreated).name)
        else:
            release = entry.read(Release)
            findings += [
                Finding(
                    "event",
                    entry.envelope.seq,
                    f"release `{release.id}` went live in environment `{env}`, which did not "
                    "exist at that moment",
                )
                for env in sorted({move.env for move in release.moves} - existing)
            ]


def _differences(stored: Iterator[list[Row]], rebuilt: Iterator[list[Row]]) -> Iterator[str]:
    """Compare two sorted tables; return what only one of them has."""
    left, right = _flat(stored), _flat(rebuilt)
    ours, theirs = next(left, None), next(right, None)
    while ours is not None or theirs is not None:
        if ours == theirs:
            ours, theirs = next(left, None), next(right, None)
        elif theirs is None or (ours is not None and _order(ours) < _order(theirs)):
            yield f"the row {_shown(ours)} does not follow from the events"
            ours = next(left, None)
        else:
            yield f"the row {_shown(theirs)} is missing"
            theirs = next(right, None)


def _flat(pages: Iterator[list[Row]]) -> Iterator[Row]:
    for page in pages:
        yield from page


def _order(row: Row) -> tuple[Any, ...]:
    """Return a key that sorts as the databases do, also when a column was given another type by
    hand."""
    return tuple(
        (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value)) for value in row
    )


def _shown(row: Row | None) -> str:
    text = ", ".join(str(value) for value in row or ())
    return f"({text[:200]}{'...' if len(text) > 200 else ''})"
