"""Seals writes of the state store: turns events into envelopes, leaves of the hash tree and
projected rows.

Called by the state store's writer thread, inside the open transaction. The envelope is written once
and hashed as stored; it names the payload by a salted hash only, so that payload and salt can be
erased and proofs stay valid.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from sextant.kernel import limits
from sextant.kernel.clock import Clock
from sextant.kernel.errors import BadData, Damaged, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Envelope, Event
from sextant.kernel.ports import Row
from sextant.ledger import merkle
from sextant.ledger.projections import PROJECTIONS
from sextant.ledger.upcast import current_version, upcast

T = TypeVar("T")
Read = Callable[[str, Sequence[Any]], list[Row]]

SALT_BYTES = 16
_MARKS_MAX = 2 * limits.GROUP_WRITES_MAX  # a group seals at most once for each of its writes

_envelope = msgspec.json.Encoder(order="deterministic").encode
_read_envelope = msgspec.json.Decoder(Envelope).decode
_payload = msgspec.json.Encoder(order="deterministic").encode


def event(
    ids: Ids,
    type_: str,
    subject: str,
    data: msgspec.Struct | dict[str, Any],
    *,
    actor: str,
    cause: str = "",
) -> Event:
    """Return an event with a new id, at the current version of its type, ready for `Write.events`.

    type_    dotted, past tense: `release.proposed`
    subject  the asset, release, run ... it is about
    data     what happened: a struct or JSON-like mapping; only this can be erased later
    cause    id of the event that brought this one about; "" for what comes from outside
    """
    return Event(
        id=ids.new("ev"),
        type=type_,
        subject=subject,
        actor=actor,
        cause=cause,
        v=current_version(type_),
        data=msgspec.Raw(_payload(data)),
    )


def payload_hash(salt: bytes, body: bytes) -> str:
    """Return what an envelope says of its payload: hex SHA-256(salt + payload bytes)."""
    return sha256(salt + body).hexdigest()


class Entry:
    """An event as it stands in the ledger. Its payload is decoded when it is asked for, and only in
    the current shape of its type."""

    __slots__ = ("_salt", "_stored", "envelope")

    def __init__(self, envelope: bytes, salt: bytes | None, stored: bytes | None) -> None:
        """stored  the payload as stored; None, as `salt`, when it was erased"""
        self.envelope = _read_envelope(envelope)
        self._salt = salt
        self._stored = stored

    @property
    def is_erased(self) -> bool:
        return self._stored is None

    @property
    def is_intact(self) -> bool:
        """Tell whether the payload is there and is the one that the envelope names."""
        return (
            self._salt is not None
            and self._stored is not None
            and payload_hash(self._salt, self._stored) == self.envelope.hash
        )

    @property
    def body(self) -> bytes:
        """The payload as JSON. UserError when a newer Sextant wrote it; Damaged when it was
        erased."""
        if self._stored is None:
            raise Damaged(
                "SX-LEDGER-004",
                f"the payload of event {self.envelope.seq} was erased",
                hint="`sextant ledger show --type payload.erased --data` says why",
            )
        return upcast(self.envelope.type, self.envelope.v, self._stored)

    @property
    def data(self) -> Any:
        """The payload as plain values, None when it was erased."""
        return None if self.is_erased else msgspec.json.decode(self.body)

    @property
    def shown(self) -> Any:
        """The payload as people see it: plain values, or words where it was erased or is of a
        newer Sextant. One event that cannot be read must not hide the others of a list."""
        try:
            return "erased" if self.is_erased else self.data
        except UserError as error:
            return error.message

    def read(self, type_: type[T]) -> T:
        """Return the payload as its struct. MsgspecError when it is not one."""
        return msgspec.json.decode(self.body, type=type_)


def entries(read: Read, query: str, params: Sequence[Any]) -> list[Entry]:
    """Return the events of a query that selects (seq, envelope, salt, body), such as
    `events_after`. Damaged for one that was changed so that it cannot be placed."""
    found = []
    for seq, raw, salt, body in read(query, params):
        what = f"event {seq}"
        entry = Entry(
            _bytes(raw, what),
            None if salt is None else _bytes(salt, what),
            None if body is None else _bytes(body, what),
        )
        if entry.envelope.seq != seq:  # who reads on from here would read in a circle
            raise Damaged(
                "SX-LEDGER-016",
                f"the envelope of {what} says that it is event {entry.envelope.seq}",
                hint="`sextant ledger verify` says what else is wrong",
            )
        found.append(entry)
    return found


def _bytes(value: Any, what: str) -> bytes:
    """Return a stored value that must be bytes. Damaged for another type: of a number, `bytes`
    would make as many zeros."""
    if not isinstance(value, bytes):
        raise Damaged(
            "SX-LEDGER-015",
            f"{what} holds a value of another type than bytes: it was changed",
            hint="`sextant ledger verify` says what else is wrong",
        )
    return value


class Ledger:
    """Implements `Sealer`."""

    def __init__(self, clock: Clock, *, salts: Callable[[int], bytes] = os.urandom) -> None:
        """salts  returns that many random bytes; a test that replays gives its own"""
        self._clock = clock
        self._salts = salts
        self._tree = merkle.Frontier()
        self._time = 0  # of the newest event
        self._marks: list[tuple[int, merkle.Frontier, int]] = []
        # how far the clock stood behind the newest event when it last sealed; 0 = sane
        self.clock_behind_ns = 0

    def size(self) -> int:
        return self._tree.size

    def load(self, read: Read) -> None:
        """Read size, newest time and the tree's right edge. Damaged when the stored nodes do not
        cover the events."""
        head = read("event_head", ())
        size = head[0][0] + 1 if head else 0
        self._time = head[0][2] if head else 0
        self._tree = merkle.frontier(size, subtrees(read))
        self._marks.clear()

    def rewind(self, size: int) -> None:
        """Go back to `size` events: the size before one of the latest `seal` calls."""
        while self._tree.size != size:
            assert self._marks, "rewinds go back within one transaction"
            _, self._tree, self._time = self._marks.pop()

    def seal(self, events: Sequence[Event]) -> Iterable[tuple[str, Sequence[Any]]]:
        """Return the rows of these events: event and payload, completed nodes of the tree,
        projections.

        Raises  BadData when a payload is too large or not what its type declares. Call `rewind` or
                `load` then.
        """
        if not events:
            return ()
        tree = self._tree
        if len(self._marks) >= _MARKS_MAX:
            del self._marks[: _MARKS_MAX // 2]
        self._marks.append((tree.size, tree.copy(), self._time))
        now = self._clock.now_ns()
        self.clock_behind_ns = max(0, self._time - now)
        time = self._time = max(now, self._time)
        salts = self._salts(SALT_BYTES * len(events))
        seq = tree.size
        rows: list[tuple[str, Sequence[Any]]] = []
        add = rows.append
        projections = PROJECTIONS
        for at, one in enumerate(events):
            body = bytes(one.data)
            if len(body) > limits.PAYLOAD_BYTES_MAX:
                raise BadData(
                    "SX-LEDGER-001",
                    (
                        f"the payload of `{one.type}` on `{one.subject}` has {len(body)} bytes, "
                        f"over {limits.PAYLOAD_BYTES_MAX}"
                    ),
                    hint="store large facts as a blob and name its digest in the event",
                )
            salt = salts[at * SALT_BYTES : at * SALT_BYTES + SALT_BYTES]
            envelope = _envelope(
                Envelope(
                    seq=seq,
                    id=one.id,
                    type=one.type,
                    v=one.v,
                    time=time,
                    actor=one.actor,
                    subject=one.subject,
                    cause=one.cause,
                    hash=sha256(salt + body).hexdigest(),
                )
            )
            add(("event_add", (seq, one.id, one.type, one.subject, one.cause, time, envelope)))
            add(("payload_add", (seq, salt, body)))
            for node in tree.append(sha256(b"\x00" + envelope).digest()):
                add(("node_add", node))
            projection = projections.get(one.type)
            if projection is not None:
                try:
                    rows.extend(projection(seq, time, body))
                except msgspec.MsgspecError as error:
                    raise BadData(
                        "SX-LEDGER-002",
                        (
                            f"the payload of `{one.type}` on `{one.subject}` is not what this "
                            "type declares"
                        ),
                    ) from error
            seq += 1
        return rows


def subtrees(read: Read) -> merkle.Subtree:
    """Return a look-up of complete subtrees over the stored log: stored nodes from level 8, hashed
    leaves below."""
    block: tuple[int, list[bytes]] = (-1, [])  # the leaves of the last block asked for

    def subtree(level: int, index: int) -> bytes:
        nonlocal block
        if level >= merkle.STORED_LEVEL:
            found = read("node_at", (level, index))
            if not found:
                raise Damaged(
                    "SX-LEDGER-010",
                    f"node {index} on level {level} of the ledger's tree is missing",
                    hint="`sextant ledger verify` says what else is wrong",
                )
            return _bytes(found[0][0], f"node {index} on level {level}")
        first = index << level
        start = first & -merkle.BLOCK
        stop = first + (1 << level)
        if block[0] != start or len(block[1]) < stop - start:
            envelopes = [
                envelope for (envelope,) in read("event_envelopes", (start, start + merkle.BLOCK))
            ]
            block = (
                start,
                [
                    merkle.leaf_hash(envelope)
                    for envelope in envelopes
                    if isinstance(envelope, bytes)
                ],
            )
        leaves = block[1][first - start : stop - start]
        if len(leaves) != 1 << level:
            raise Damaged(
                "SX-LEDGER-011",
                f"events {first} to {stop - 1} are not all in the ledger",
                hint="`sextant ledger verify` says what is wrong",
            )
        while len(leaves) > 1:
            leaves = [
                merkle.node_hash(leaves[at], leaves[at + 1]) for at in range(0, len(leaves), 2)
            ]
        return leaves[0]

    return subtree
