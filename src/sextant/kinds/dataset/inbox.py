"""Rows that others push into a dataset: taken durably, moved into blobs by partition, seen by the
planner as new input.

`take` acknowledges what is committed. `fold`, at the start of every run, moves what waits; from
then on it is part of the plan. A batch that cannot become rows is set aside with its error; others
go on, and a person drops it.
"""

import bisect
import datetime as dt
import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from sextant.core import Core
from sextant.engine import keys
from sextant.kernel.answers import BatchDropped, Pushed
from sextant.kernel.answers import Inbox as InboxSeen
from sextant.kernel.clock import NS, iso
from sextant.kernel.errors import (
    BadData,
    BadRows,
    Busy,
    Conflict,
    Damaged,
    NotFound,
    SextantError,
    UsageError,
)
from sextant.kernel.limits import (
    FOLD_BATCHES_MAX,
    FOLD_ROWS_MAX,
    INBOX_BATCHES_MAX,
    INBOX_PARTS_MAX,
    INBOX_ROWS_MAX,
    KEYS_PER_WRITE,
    NAME_CHARS_MAX,
    PUSHED_LARGE_BYTES,
    PUSHES_LARGE_MAX,
    PUSHES_LARGE_WAIT_S,
)
from sextant.kernel.nouns import SYSTEM, Asset, Event, Manifest, Principal
from sextant.kernel.partitions import ALL, Partitioning
from sextant.kernel.ports import Statement, Write
from sextant.kinds.dataset import bodies, streams
from sextant.kinds.dataset.spec import table_spec
from sextant.ledger.signals import open_signals, raise_signal

_REMEMBERED_NS = 7 * 86400 * NS  # so long a batch that comes again is known
_FOLD_TRIES = 5  # folds of one dataset that lose against another process's before this one gives up
_KEYS_ASKED = 50  # keys in one question to the index: as many as the statement has places
_REFUSED = "push.refused"  # signal: a batch cannot become rows
_STALLED = "push.stalled"  # signal: no batch can, for what lies there cannot be read
_OTHERS = "another process moved these rows"


class RowsFolded(msgspec.Struct, frozen=True):
    """`rows.folded`: batches that became input of a dataset, each (batch, rows, who pushed it), and
    the blobs that hold them."""

    dataset: str
    batches: tuple[tuple[str, int, str], ...]
    blobs: dict[str, str]  # partition -> blob


class RowsRefused(msgspec.Struct, frozen=True):
    """`rows.refused`: an acknowledged batch that cannot become rows; it is kept until it is dropped
    or the dataset's declaration changes."""

    dataset: str
    batch: str
    rows: int
    by: str
    error: str


class RowsDropped(msgspec.Struct, frozen=True):
    """`rows.dropped`: a person gave up a batch that was not part of the dataset yet."""

    dataset: str
    batch: str
    rows: int
    by: str
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """Why a batch was set aside, as the inbox keeps it."""

    error: str
    declared: str  # digest of the declaration that it does not fit
    event: str  # the `rows.refused` that says so


class _Batch(NamedTuple):
    """A waiting batch, as a fold reads it.

    blob  holds a large one; `body` is empty then
    """

    sender: str
    name: str
    id: str
    body: bytes
    blob: str
    by: str
    size: int


class Named(NamedTuple):
    """A batch of some sender, as one asks for it by name. `rows` of it; `refusal` why it was set
    aside (JSON, "" = it was not)."""

    sender: str
    rows: int
    folded: bool
    refusal: str
    by: str


class Inbox:
    """The pushed rows of one project."""

    def __init__(self, core: Core, nudge: Callable[[], None] = lambda: None) -> None:
        """nudge  tells a scheduler that there are rows to publish"""
        self._core, self._nudge = core, nudge
        self._large = threading.BoundedSemaphore(PUSHES_LARGE_MAX)

    # ------------------------------------------------------------ taking

    def take(self, asset: Asset, body: bodies.Body, *, by: Principal) -> Pushed:
        """Take rows; they are durable when this returns. UsageError, BadRows, BadData (nothing is
        taken then), Conflict for a batch that was refused or held other rows, Busy when too much
        waits."""
        core, batch = self._core, body.batch
        columns_of(asset)
        if len(batch) > NAME_CHARS_MAX:
            raise UsageError(
                "SX-STREAM-013",
                f"the name of the batch has {len(batch)} characters",
                hint=f"at most {NAME_CHARS_MAX}",
            )
        digest = _digest(body)
        known = core.state.read("inbox_get", (asset.id, by.sender, batch)) if batch else []
        if known and known[0][3] not in ("", digest):
            raise Conflict(
                "SX-STREAM-032",
                f"`{by.sender}` sent other rows as batch `{batch}` before",
                hint="give these another name; the same name is for the same rows, sent again",
            )
        if known and known[0][2]:
            refusal = msgspec.json.decode(known[0][2], type=Refusal)
            raise Conflict(
                "SX-STREAM-020",
                f"batch `{batch}` was taken and could not become rows: {refusal.error}",
                hint=f"`sextant push {asset.name} --drop {batch}` frees its name",
            )
        if known:
            return {"dataset": asset.id, "batch": batch, "rows": int(known[0][0]), "again": True}
        self._check_room(asset)
        if len(body.data) <= PUSHED_LARGE_BYTES and body.content_type not in bodies.COLUMNAR:
            return self._take(asset, body, digest, by)
        if not self._large.acquire(timeout=PUSHES_LARGE_WAIT_S):
            raise Busy(
                "SX-STREAM-031",
                f"{PUSHES_LARGE_MAX} large batches are being read already",
                hint="send it again in a moment",
                retry_after_s=2.0,
            )
        try:
            return self._take(asset, body, digest, by)
        finally:
            self._large.release()

    def _check_room(self, asset: Asset) -> None:
        """Raise Busy when too much of a dataset waits."""
        waiting = {row[0]: row for row in self._core.state.read("inbox_waits")}
        _, batches, rows, _ = waiting.get(asset.id, (asset.id, 0, 0, 0))
        if int(batches) >= INBOX_BATCHES_MAX or int(rows) >= INBOX_ROWS_MAX:
            raise Busy(
                "SX-STREAM-014",
                f"{batches} batches of `{asset.id}` wait to be published, with {rows} rows",
                hint="is the server's scheduler running? `sextant status` says what holds it",
                retry_after_s=2.0,
            )

    def _take(self, asset: Asset, sent: bodies.Body, digest: str, by: Principal) -> Pushed:
        core, columns = self._core, columns_of(asset)
        key = table_spec(asset).key
        bad = streams.BadRowList()
        pushed = bodies.read(columns, key, sent, bad)
        _partitions(asset, pushed, bad)  # what belongs nowhere is refused before it is taken
        if bad.count:
            raise BadRows(
                "SX-STREAM-010",
                f"{bad.count:,} of {len(pushed.rows):,} rows cannot be taken",
                rows=bad.rows,
                count=bad.count,
                hint=f"the columns are {', '.join(f'{name} {type_}' for name, type_ in columns)}",
            )
        # behind what waits, whatever the clocks of those who took it say
        newest = core.state.read("inbox_newest", (asset.id,))
        id_ = core.ids.new("bat", after=str(newest[0][0]) if newest else "")
        name, size = sent.batch or id_, len(pushed.rows)
        body, blob = streams.encode(columns, pushed), ""
        if len(body) > PUSHED_LARGE_BYTES:
            body, blob = b"", core.blobs.put(body)
        add = Statement(
            "inbox_add",
            (
                asset.id,
                by.sender,
                name,
                id_,
                size,
                body,
                blob,
                digest,
                str(by),
                core.clock.now_ns(),
            ),
            1,
            f"batch `{name}` was taken before",
        )
        try:
            core.state.commit(Write((add,)))
        except Conflict:  # sent twice at the same time: now it is there, with these rows or others
            return self.take(asset, sent, by=by)
        self._nudge()
        return {"dataset": asset.id, "batch": name, "rows": size, "again": False}

    # ------------------------------------------------------------ folding

    def fold(self, manifest: Manifest, by: Principal, only: Collection[str] | None = None) -> None:
        """Move what waits into blobs, one for each partition; its batches and who sent them are an
        event. A batch that cannot become rows is set aside, with a signal.

        only  ids of the datasets; None = all
        """
        core = self._core
        waits = {row[0] for row in core.state.read("inbox_waits")}
        refused = {row[0] for row in core.state.read("inbox_refused")}
        forget = False
        for asset in manifest.assets:
            if not asset.is_pushed or (only is not None and asset.id not in only):
                continue
            again = asset.id in refused and self._try_again(asset)
            if again or asset.id in waits:
                forget = True
                try:
                    self._fold_all(asset, by)
                except (BadData, Damaged, NotFound) as error:  # others' rows go on
                    self._stall(asset.id, error)
        if forget:
            core.state.commit(
                Write((Statement("inbox_forget", (core.clock.now_ns() - _REMEMBERED_NS,)),))
            )

    def _fold_all(self, asset: Asset, by: Principal) -> None:
        """Move all that waits for a dataset; leave it to other processes when they are faster."""
        lost = 0
        while lost < _FOLD_TRIES:
            done = self._fold_some(asset, by)
            if done is None:
                lost += 1
            elif not done:
                return

    def _stall(self, dataset: str, error: SextantError) -> None:
        """Raise a signal: the rows that lie there cannot be read, so new ones wait."""
        core = self._core
        message = f"{dataset}: pushed rows wait: {error.message} ({error.hint})"
        raised = raise_signal(
            core.state, core.events, dataset, _STALLED, "error", message, key=error.code
        )
        cause = raised[0].id if raised else ""
        closed = self._closed(dataset, _STALLED, SYSTEM, cause, but=error.code)
        if raised or closed:
            core.state.commit(Write((), (*closed, *raised)))

    def _closed(
        self, dataset: str, kind: str, by: Principal, cause: str, *, but: str = ""
    ) -> list[Event]:
        """Return the events that close the open signals of a kind, but those of one key."""
        return [
            self._core.events.make("signal.closed", one.id, {"id": one.id}, by, cause)
            for one in open_signals(self._core.state, dataset, kind)
            if not but or one.key != but
        ]

    def _fold_some(self, asset: Asset, by: Principal) -> int | None:
        """Move some of what waits in one write. Returns how many batches it dealt with; None when
        another process was faster."""
        core = self._core
        folds, keyed = self._stream(asset)
        batches = self._waiting(asset)
        if not batches:
            return 0
        if not _key(asset):
            keyed = ""
        elif keyed != _key(asset):
            return self._fill(asset, folds)
        rows, good, refusals = self._read(asset, batches)
        events = [
            *refusals.events,
            *self._signal(asset.id, refusals, by),
            *self._closed(asset.id, _STALLED, by, ""),
        ]
        statements = [
            Statement("inbox_stream_set", (asset.id, keyed, folds), 1, _OTHERS),
            *refusals.statements,
        ]
        if good:
            now = core.clock.now_ns()
            statements += [
                Statement("inbox_fold", (now, b"", asset.id, batch.sender, batch.name), 1, _OTHERS)
                for batch in good
            ]
            parts, new_keys, old_keys = self._new_parts(asset, rows)
            # a key that the index has and no row is harmless: those that one write has no room for
            # come before it
            for start in range(FOLD_ROWS_MAX, len(new_keys), KEYS_PER_WRITE):
                core.state.commit(Write(tuple(new_keys[start : start + KEYS_PER_WRITE])))
            blobs: dict[str, str] = {}
            held: dict[str, list[tuple[str, str]]] = {}
            for partition, name, blob, _ in core.state.read("inbox_parts", (asset.id,)):
                held.setdefault(partition, []).append((name, blob))
            # in the order of the folds, whatever the clocks say; and behind the ids of earlier
            # releases, which began with `inb`
            id_ = f"part_{folds + 1:012d}"
            for partition, part in parts.items():
                old = held.get(partition, [])
                blobs[partition], more = self._keep(asset, partition, part, old, id_)
                statements += more
            statements += [*new_keys[:FOLD_ROWS_MAX], *old_keys[:FOLD_ROWS_MAX]]
            data = RowsFolded(
                asset.id, tuple((batch.name, batch.size, batch.by) for batch in good), blobs
            )
            events.append(core.events.make("rows.folded", asset.id, data, by, ""))
        try:
            core.state.commit(Write(tuple(statements), tuple(events)))
            self._drop_keys(asset, keyed, folds + 1, old_keys[FOLD_ROWS_MAX:] if good else [])
        except Conflict:
            return None
        return len(batches)

    def _drop_keys(self, asset: Asset, keyed: str, folds: int, drops: Sequence[Statement]) -> None:
        """Take keys that have moved from the index, unless another fold comes between: it may have
        put them back."""
        for start in range(0, len(drops), KEYS_PER_WRITE):
            guard = Statement("inbox_stream_set", (asset.id, keyed, folds), 1, _OTHERS)
            self._core.state.commit(Write((guard, *drops[start : start + KEYS_PER_WRITE])))
            folds += 1

    def _stream(self, asset: Asset) -> tuple[int, str]:
        """Return how often the stream was folded, and the key that its index is filled for."""
        rows = self._core.state.read("inbox_stream_get", (asset.id,))
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def _waiting(self, asset: Asset) -> list[_Batch]:
        """Return the oldest waiting batches, as many as one write moves."""
        core = self._core
        count = total = 0
        for _, rows in core.state.read("inbox_queue", (asset.id, FOLD_BATCHES_MAX)):
            if count and total + int(rows) > FOLD_ROWS_MAX:
                break
            count, total = count + 1, total + int(rows)
        return [
            _Batch(row[0], row[1], row[2], bytes(row[3]), row[4], row[5], int(row[6]))
            for row in core.state.read("inbox_waiting", (asset.id, count))
        ]

    def _read(
        self, asset: Asset, batches: Sequence[_Batch]
    ) -> "tuple[list[_Placed], list[_Batch], _Refusals]":
        """Return the rows of the batches that fit the dataset's declaration, each with its
        partition; those batches; and what sets the others aside."""
        core = self._core
        columns = columns_of(asset)
        rows: list[_Placed] = []
        good: list[_Batch] = []
        refusals = _Refusals()
        for batch in batches:
            try:
                body = core.blobs.get(batch.blob) if batch.blob else batch.body
                pushed = streams.fit(columns, streams.decode(columns, body))
                bad = streams.BadRowList()
                here = _partitions(asset, pushed, bad)
                if bad.count:
                    raise BadRows(
                        "SX-STREAM-015",
                        f"{bad.count:,} of {len(here):,} rows belong to no partition",
                        rows=bad.rows,
                        count=bad.count,
                        hint="drop the batch and push it corrected, or declare an earlier start",
                    )
            except BadData as error:
                data = RowsRefused(asset.id, batch.name, batch.size, batch.by, error.message)
                event = core.events.make("rows.refused", asset.id, data, SYSTEM, "")
                why = Refusal(error.message, _declared(asset), event.id)
                doc = msgspec.json.encode(why).decode()
                refusals.events.append(event)
                refusals.refused.append((batch.sender, batch.name, why, batch.by))
                refusals.statements.append(
                    Statement(
                        "inbox_refuse", (doc, asset.id, batch.sender, batch.name, ""), 1, _OTHERS
                    )
                )
                continue
            deleted = set(pushed.deleted)
            rows += (
                _Placed(partition, row, number in deleted)
                for number, (partition, row) in enumerate(zip(here, pushed.rows, strict=True))
            )
            good.append(batch)
        return rows, good, refusals

    def _new_parts(
        self, asset: Asset, rows: Sequence["_Placed"]
    ) -> tuple[dict[str, streams.Part], list[Statement], list[Statement]]:
        """Return what rows add to each partition, the keys that are new to the index, and those
        that leave it. A key that lay in another partition moves: its rows go from there; of one
        that is deleted they go from everywhere."""
        is_indexed = bool(_key(asset))
        key: tuple[str, ...] = ()
        if is_indexed or any(row.is_deleted for row in rows):
            key = table_spec(asset).key
        places = streams.places_of(columns_of(asset), key)
        marks: list[bytes | None] = [None] * len(rows)
        last: dict[bytes, _Placed] = {}  # key -> where its last row belongs; of the row, its key
        if key:
            for n, (partition, row, is_deleted) in enumerate(rows):
                values = tuple(row[place] for place in places)
                mark = marks[n] = streams.key_digest(key, values)
                if mark is not None:
                    last[mark] = _Placed(partition, values, is_deleted)
        added: dict[str, list[streams.Row]] = {}
        for mark, (partition, row, is_deleted) in zip(marks, rows, strict=True):
            # a row whose key moved on, or went, within these rows never lies anywhere
            if not is_deleted and (
                mark is None or (not last[mark].is_deleted and last[mark].partition == partition)
            ):
                added.setdefault(partition, []).append(row)
        moved: dict[str, list[streams.Row]] = {}
        new_keys, old_keys = [], []
        before = self._partitions_of(asset.id, last) if is_indexed else {}
        # in the order of the index: a chunk of neighbours writes few of its pages
        for mark, (partition, values, is_deleted) in sorted(last.items(), key=lambda pair: pair[0]):
            known = before.get(mark, set())
            if not is_indexed:  # one table: whether it has the key is seen when it is put together
                known = {ALL} if is_deleted else set()
            for old in sorted(known - {partition}):
                moved.setdefault(old, []).append(values)
                if is_indexed:
                    old_keys.append(Statement("inbox_key_drop", (asset.id, mark, old)))
            if is_indexed and not is_deleted and partition not in known:
                new_keys.append(Statement("inbox_key_add", (asset.id, mark, partition)))
        parts = {
            name: streams.Part(added.get(name, []), tuple(key), tuple(moved.get(name, ())))
            for name in sorted({*added, *moved})
        }
        return parts, new_keys, old_keys

    def _partitions_of(self, dataset: str, marks: Iterable[bytes]) -> dict[bytes, set[str]]:
        """Return key -> partitions that hold rows of it, as the index says."""
        out: dict[bytes, set[str]] = {}
        asked = list(marks)
        for start in range(0, len(asked), _KEYS_ASKED):
            some = asked[start : start + _KEYS_ASKED]
            some += [some[-1]] * (_KEYS_ASKED - len(some))
            for mark, partition in self._core.state.read("inbox_keys", (dataset, *some)):
                out.setdefault(bytes(mark), set()).add(partition)
        return out

    def _keep(
        self,
        asset: Asset,
        partition: str,
        part: streams.Part,
        old: Sequence[tuple[str, str]],
        id_: str,
    ) -> tuple[str, list[Statement]]:
        """Return the blob of a new part of a partition, and what makes it one; where there are many
        small ones already, they become one."""
        core, columns = self._core, columns_of(asset)
        statements = []
        if len(old) >= INBOX_PARTS_MAX:
            earlier = [core.blobs.get(blob) for _, blob in old]
            part = streams.Part(
                streams.rows_of(columns, [*earlier, streams.encode_part(columns, part)])
            )
            statements = [
                Statement("inbox_part_drop", (asset.id, partition, name), 1, _OTHERS)
                for name, _ in old
            ]
            for _, blob in old:  # a run that has begun may still read them
                core.blobs.touch(blob)
        blob = core.blobs.put(streams.encode_part(columns, part))
        add = Statement("inbox_part_add", (asset.id, partition, id_, blob, len(part.rows)))
        return blob, [*statements, add]

    def _fill(self, asset: Asset, folds: int) -> int | None:
        """Fill the index of keys from the rows that lie there: once for each key of a dataset.

        An earlier Sextant left a key in several partitions: the index names them all, and the next
        push of that key clears it from all but its own.
        """
        core, columns = self._core, columns_of(asset)
        key = table_spec(asset).key
        places = streams.places_of(columns, key)
        by_partition: dict[str, list[str]] = {}
        for partition, _, blob, _ in core.state.read("inbox_parts", (asset.id,)):
            by_partition.setdefault(partition, []).append(blob)
        for partition, blobs in by_partition.items():
            rows = streams.rows_of(columns, [core.blobs.get(blob) for blob in blobs])
            marks = {
                streams.key_digest(key, tuple(row[place] for place in places)) for row in rows
            } - {None}
            adds = [Statement("inbox_key_add", (asset.id, mark, partition)) for mark in marks]
            for start in range(0, len(adds), KEYS_PER_WRITE):
                core.state.commit(Write(tuple(adds[start : start + KEYS_PER_WRITE])))
        done = Statement("inbox_stream_set", (asset.id, _key(asset), folds), 1, _OTHERS)
        try:
            core.state.commit(Write((done,)))
        except Conflict:
            return None
        return 1

    def parts(self, manifest: Manifest) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return dataset -> partition -> the blobs that hold its rows, in the order of arrival."""
        out: dict[str, dict[str, tuple[str, ...]]] = {}
        for asset in manifest.assets:
            if asset.is_pushed:
                mine = out.setdefault(asset.id, {})
                for partition, _, blob, _ in self._core.state.read("inbox_parts", (asset.id,)):
                    mine[partition] = (*mine.get(partition, ()), blob)
        return out

    def waits(self) -> list[InboxSeen]:
        """Return, for each dataset, the pushed rows that are not part of it yet."""
        waiting = {row[0]: row for row in self._core.state.read("inbox_waits")}
        refused: dict[str, int] = {}
        for dataset, *_ in self._core.state.read("inbox_refused"):
            refused[dataset] = refused.get(dataset, 0) + 1
        out: list[InboxSeen] = []
        for dataset in sorted({*waiting, *refused}):
            _, batches, rows, since = waiting.get(dataset, (dataset, 0, 0, 0))
            out.append(
                {
                    "dataset": dataset,
                    "batches": int(batches),
                    "rows": int(rows),
                    "since": iso(int(since)) if since else "",
                    "refused": refused.get(dataset, 0),
                }
            )
        return out

    # ------------------------------------------------------------ batches that cannot become rows

    def batch(self, asset: Asset, batch: str, sender: str, by: Principal) -> Named | None:
        """Return the batch that `by` means by a name: the sender's, else his own, else the only one
        of that name; None when there is none. Conflict when several senders have one."""
        rows = self._core.state.read("inbox_named", (asset.id, batch))
        found = [Named(row[0], int(row[1]), bool(row[2]), row[3], row[4]) for row in rows]
        if sender:
            found = [one for one in found if sender in (one.sender, one.by)]
        elif any(one.sender == by.sender for one in found):
            found = [one for one in found if one.sender == by.sender]
        else:
            found = [one for one in found if not one.folded] or found
        if len({one.sender for one in found}) > 1:
            raise Conflict(
                "SX-STREAM-033",
                f"{' and '.join(f'`{one.sender}`' for one in found[:3])} each sent a batch "
                f"`{batch}`",
                hint="say whose: --sender WHO",
            )
        return found[0] if found else None

    def drop(
        self, asset: Asset, batch: str, *, reason: str, sender: str = "", by: Principal
    ) -> BatchDropped:
        """Drop a batch that is not part of the dataset yet; its rows are gone and its name is free.
        NotFound, Conflict when it is part of the dataset or several senders have one."""
        core = self._core
        columns_of(asset)
        if not reason.strip():
            raise UsageError(
                "SX-STREAM-023",
                "dropping a batch needs a reason",
                hint=f"`sextant push {asset.name} --drop {batch} --reason TEXT`",
            )
        found = self.batch(asset, batch, sender, by)
        if found is None:
            raise NotFound(
                "SX-STREAM-021",
                f"`{asset.id}` has no batch `{batch}`",
                hint=f"`sextant push {asset.name} --list` shows those that can be dropped",
            )
        if found.folded:
            raise Conflict(
                "SX-STREAM-022",
                f"batch `{batch}` is part of `{asset.id}` already",
                hint="push its rows again, corrected; rows that share a key are replaced",
            )
        refusal = found.refusal
        cause = msgspec.json.decode(refusal, type=Refusal).event if refusal else ""
        data = RowsDropped(asset.id, batch, found.rows, found.by, reason)
        event = core.events.make("rows.dropped", asset.id, data, by, cause)
        gone = _Refusals(gone={(found.sender, batch)}, cause=event.id)
        core.state.commit(
            Write(
                (
                    Statement(
                        "inbox_drop",
                        (asset.id, found.sender, batch, refusal),
                        1,
                        f"batch `{batch}` became part of `{asset.id}` meanwhile",
                    ),
                ),
                (event, *self._signal(asset.id, gone, by)),
            )
        )
        return {"dataset": asset.id, "batch": batch, "rows": found.rows, "dropped": True}

    def _try_again(self, asset: Asset) -> bool:
        """Let batches wait again that did not fit an earlier declaration of the dataset. Returns
        whether there are any."""
        core = self._core
        declared = _declared(asset)
        again = [
            (sender, batch, refusal)
            for dataset, sender, batch, refusal, _, _ in core.state.read("inbox_refused")
            if dataset == asset.id
            and msgspec.json.decode(refusal, type=Refusal).declared != declared
        ]
        if not again:
            return False
        names = _Refusals(gone={(sender, batch) for sender, batch, _ in again})
        core.state.commit(
            Write(
                tuple(
                    Statement("inbox_refuse", ("", asset.id, sender, batch, refusal))
                    for sender, batch, refusal in again
                ),
                tuple(self._signal(asset.id, names, SYSTEM)),
            )
        )
        return True

    def _signal(self, dataset: str, change: "_Refusals", by: Principal) -> list[Event]:
        """Return the events that keep one open signal for each dataset with refused batches: about
        the oldest of them."""
        core = self._core
        refused = [
            (sender, batch, msgspec.json.decode(refusal, type=Refusal), pushed_by)
            for id_, sender, batch, refusal, pushed_by, _ in core.state.read("inbox_refused")
            if id_ == dataset and (sender, batch) not in change.gone
        ] + change.refused
        if not refused:
            return self._closed(dataset, _REFUSED, by, change.cause)
        _, batch, why, pushed_by = refused[0]
        message = (
            f"{dataset}: batch {batch} of {pushed_by} cannot become rows: {why.error} "
            f"(`sextant push {dataset.partition(':')[2]} --list` shows it, --drop gives it up)"
        )
        evidence = {"batch": batch, "by": pushed_by}
        for one in open_signals(core.state, dataset, _REFUSED):
            if one.evidence == evidence:  # others that were refused since are counted
                more = change.refused
                return core.events.repeated(one, message, evidence, by) if more else []
        closed = self._closed(dataset, _REFUSED, by, change.cause)
        raised = core.events.signal(
            dataset, _REFUSED, "error", message, key=batch, evidence=evidence, cause=why.event
        )
        return [*closed, raised]


def stream_of(core: Core, name: str) -> Asset:
    """Return the dataset that rows are pushed to, by its name alone or by its id. NotFound."""
    return core.assets.find(name if ":" in name else f"dataset:{name}")


class _Refusals:
    """What a write changes about refused batches: who joins them, who leaves them."""

    def __init__(self, gone: Collection[tuple[str, str]] = (), cause: str = "") -> None:
        self.gone, self.cause = gone, cause  # .gone: senders and names
        # sender, name, why, who pushed it
        self.refused: list[tuple[str, str, Refusal, str]] = []
        self.events: list[Event] = []
        self.statements: list[Statement] = []


class _Placed(NamedTuple):
    """A row, and the partition that it belongs to: "" when it deletes its key, wherever that
    lies."""

    partition: str
    row: streams.Row
    is_deleted: bool


def columns_of(asset: Asset) -> streams.Columns:
    """Return the columns of pushed rows. UsageError for an asset that takes none."""
    if not asset.is_pushed:
        raise UsageError(
            "SX-STREAM-011",
            f"`{asset.id}` takes no rows",
            hint="declare it with `sx.stream(...)`; other datasets are made by their functions",
        )
    return table_spec(asset).columns


def _key(asset: Asset) -> str:
    """Return what stands for the key that the index of a dataset is about; "" where rows cannot
    move between partitions."""
    table = table_spec(asset)
    if not table.key or table.partitioning.grain == "none":
        return ""
    types = dict(table.columns)
    return keys.digest(*(field for name in table.key for field in (name, types[name])))


def _digest(sent: bodies.Body) -> str:
    """Return a digest of what was sent, in whatever form."""
    return hashlib.sha256(sent.content_type.encode() + b"\n" + sent.data).hexdigest()


def _declared(asset: Asset) -> str:
    """Return a digest of what decides whether a batch can become rows."""
    return hashlib.sha256(msgspec.json.encode(table_spec(asset))).hexdigest()


def _partitions(asset: Asset, pushed: streams.PushedRows, bad: streams.BadRowList) -> list[str]:
    """Return the partition that each row belongs to, "" of a deletion.

    bad  gets rows without a time, or of a time outside of the partitions
    """
    slices = keys.partitioning(asset)
    out = [ALL] * len(pushed.rows)
    for number in pushed.deleted:
        out[number] = ""
    if slices.grain == "none":
        return out
    table = table_spec(asset)
    time = table.time
    place = [name for name, _ in table.columns].index(time)
    found = _Slices(slices)
    for number, row in enumerate(pushed.rows):
        if not out[number] or bad.holds(number):
            continue
        if row[place] is None:
            reason = "it is missing, and says into which partition the row belongs"
            bad.add(number, time, reason)
            continue
        out[number] = found.key(row[place])
        if not out[number]:
            bounds = f"they begin with {slices.start}" if slices.start else "see its declaration"
            bounds += f" and end before {slices.end}" if slices.end else ""
            reason = f"{row[place].isoformat()} lies outside of the partitions: {bounds}"
            bad.add(number, time, reason)
    return out


class _Slices:
    """Finds the partitions of many rows: a slice that was found once is known by its bounds."""

    def __init__(self, slices: Partitioning) -> None:
        self._slices = slices
        self._starts: list[dt.datetime] = []  # UTC, sorted; the others in their order
        self._ends: list[dt.datetime] = []
        self._keys: list[str] = []

    def key(self, at: Any) -> str:
        """Return the partition of an instant or a date; "" outside of the partitions."""
        slices = self._slices
        try:
            if not isinstance(at, dt.datetime):
                at = dt.datetime(at.year, at.month, at.day, tzinfo=ZoneInfo(slices.tz))
            at = at.astimezone(dt.UTC)
            place = bisect.bisect_right(self._starts, at)
            if place and at < self._ends[place - 1]:
                return self._keys[place - 1]
            if at.astimezone(ZoneInfo(slices.tz)).year < 1000:  # keys have years of four digits
                return ""
            key = slices.key_at(at)
            if not slices.holds(key):
                return ""
            slice_ = slices.partition(key)
            assert slice_.start is not None
            assert slice_.end is not None
            start, end = slice_.start.astimezone(dt.UTC), slice_.end.astimezone(dt.UTC)
        except OverflowError:
            return ""
        if start <= at < end:
            self._starts.insert(place, start)
            self._ends.insert(place, end)
            self._keys.insert(place, key)
        return key
