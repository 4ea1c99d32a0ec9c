"""The intake: makes decoded batches durable, puts them into the tables, and counts what it refused.

Called by the ingest endpoint. `accept` and its slices (`steps`) run on one thread, the event
loop's: others may be accepted between two slices of a batch. The answer is durable when the future
is done; about once a second, when a segment is large, and before every query, `flush` inserts what
has arrived. A segment's rows of a table go in as one insert under a token made of the segment's
name, so a segment that is replayed after a crash adds nothing twice.
"""

import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sextant.formats.telemetry import native
from sextant.formats.telemetry.batch import Batch, Identity, Rows, Samples, Span, lost
from sextant.kernel import limits
from sextant.kernel.clock import NS, Clock
from sextant.kernel.errors import Busy, SextantError, StorageError
from sextant.kernel.ports import Telemetry
from sextant.stores.telemetry import answers
from sextant.stores.telemetry.calls import Calls
from sextant.stores.telemetry.journal import Journal, Record, Seen, Segment
from sextant.stores.telemetry.rollups import Rollups
from sextant.stores.telemetry.series import OWN, Series

_SERVICE_REPEATED_MS = 60_000  # obs.services is right to the minute
_ATTEMPTS = 5  # of inserting a segment that the tables refuse, before it is set aside
_HOUR_S = 3600
_TS = "DateTime64(3, 'UTC')"
_T = TypeVar("_T")


class Accepted(NamedTuple):
    """What became of a batch. Wait for `durable` before answering the sender; it raises
    StorageError."""

    taken: int
    refused: dict[str, int]
    repeated: bool
    durable: "Future[None]"
    first: str = ""  # as of the batch


class Intake:
    """Opened on a store and a folder for the journal. Segments of a process before this one are
    inserted by the first flush.

    retention_days  of samples: older ones are refused, since they would be deleted at once
    background      flush by itself; tests flush by hand
    """

    def __init__(
        self,
        store: Telemetry,
        folder: Path,
        clock: Clock,
        *,
        retention_days: int = 30,
        series: Series | None = None,
        bytes_max: int = limits.INTAKE_BYTES_MAX,
        background: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._retention_ms = retention_days * 86_400_000
        self._bytes_max = bytes_max
        self.series = series or Series()
        self._calls = Calls()
        self._seen = Seen(folder / "seen", clock)
        self._rollups = Rollups(folder / "due", store)
        self._journal = Journal(folder / "journal", clock)
        self._backlog: list[Segment] = []  # cut, not inserted yet; oldest first
        self._attempts = 0
        self._flying: dict[bytes, Future[None]] = {}
        self._service_written: dict[tuple[str, str], int] = {}
        self._over_budget: dict[tuple[str, str], int] = {}
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._bytes = 0  # durable or on the way to it, not in the tables
        self._bytes_lock = threading.Lock()
        self.counters: dict[str, int] = {
            "batches": 0,
            "repeated": 0,
            "records": 0,
            "refused": 0,
            "busy": 0,
            "flushes": 0,
            "rows": 0,
            "set_aside": 0,
            "failures": 0,
        }
        self.last_failure = ""
        for segment in self._journal.recovered:
            self._bytes += segment.size
            for record in segment.records:
                if record.key:
                    self._seen.add(record.key, record.at_ns)
        self._thread = (
            threading.Thread(target=self._work, name="flush", daemon=True) if background else None
        )
        if self._thread:
            self._thread.start()

    def key(self, protocol: str, owner: str, body: bytes) -> bytes:
        """Return what a repetition of a body, or of a batch id that its sender chose, is recognised
        by."""
        return hashlib.blake2b(
            body,
            digest_size=16,
            person=hashlib.blake2b(f"{protocol}\0{owner}".encode(), digest_size=16).digest(),
        ).digest()

    def known(self, key: bytes) -> "Future[None] | None":
        """Return the future of a batch that came before, None for a new one. Cheaper than decoding
        it again."""
        flying = self._flying.get(key)
        if flying is not None:
            return flying
        if key in self._seen:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return None

    def room(self) -> None:
        """Raise Busy when the queue is full."""
        if self._bytes > self._bytes_max:
            self.counters["busy"] += 1
            raise Busy(
                "SX-INTAKE-003",
                "the intake's queue is full: senders are faster than the tables",
                hint="send again later; nothing was taken",
                retry_after_s=limits.RETRY_AFTER_S,
            )

    def accept(
        self,
        batch: Batch,
        *,
        protocol: str,
        owner: str,
        key: bytes = b"",
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Accepted:
        """Take a batch at once; see `steps`."""
        steps = self.steps(batch, protocol=protocol, owner=owner, key=key, more=more)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                accepted: Accepted = end.value
                return accepted

    def steps(
        self,
        batch: Batch,
        *,
        protocol: str,
        owner: str,
        key: bytes = b"",
        more: tuple[tuple[bytes, bytes], ...] = (),
        kinds: Mapping[bytes, tuple[str, str]] | None = None,
    ) -> Generator[None, None, Accepted]:
        """Take a batch in slices of a few milliseconds; the last one returns what became of it. It
        is one record of the journal, so it is taken as a whole or not at all.

        key     from `key`; b"" when an equal batch is a new one. No equal batch may be accepted
                between two slices
        more    labels that the request adds to all its series
        kinds   what its sender says of metrics: family -> (kind, unit)
        Raises  Busy when the queue is full; BadData when labels cannot be read, with nothing taken
        """
        if key:
            before = self.known(key)
            if before is not None:
                self.counters["repeated"] += 1
                return Accepted(0, {}, True, before)
        self.room()
        now_ns = self._clock.now_ns()
        now_ms = now_ns // 1_000_000
        for said in _sliced((kinds or {}).items()):
            self._learn(owner, said)
            yield
        rows = list(batch.rows)
        taken = sum(part.rows for part in rows)
        refused = dict(batch.refused)
        services = dict(batch.services)
        buckets: set[int] = set()
        written = []
        for samples in batch.samples:
            encoded = yield from self.series.encode(
                samples,
                protocol=protocol,
                owner=owner,
                more=more,
                now_ms=now_ms,
                oldest_ms=now_ms - self._retention_ms,
            )
            rows += encoded.rows
            taken += encoded.taken
            for asset, team in encoded.services.items():
                services.setdefault(asset, team)
            written += encoded.written
            for reason, count in encoded.refused.items():
                refused[reason] = refused.get(reason, 0) + count
            buckets.update(encoded.buckets)
        if refused.get("series_budget"):
            rows += yield from self._overflow(protocol, owner, refused["series_budget"], now_ms)
        for pairs in _sliced(services.items()):
            rows += self._services(pairs, owner, now_ms)
            yield
        for spans in _sliced(batch.spans):
            rows += self._met(spans, now_ms)
            yield
        for codes in written:
            self.series.mark_written(codes, now_ms)
        rows += _refusals(refused, owner, protocol, now_ms)
        self.counters["batches"] += 1
        self.counters["records"] += taken
        self.counters["refused"] += sum(lost(refused).values())
        if not rows:
            done: Future[None] = Future()
            done.set_result(None)
            return Accepted(taken, refused, False, done, batch.first)
        size = sum(len(part.block) for part in rows)
        with self._bytes_lock:
            self._bytes += size
        durable = self._journal.append(
            Record(
                key, now_ns, [(part.table, part.rows, part.block) for part in rows], sorted(buckets)
            )
        )
        if key:
            self._flying[key] = durable
        durable.add_done_callback(lambda done: self._landed(done, key, now_ns, size))
        return Accepted(taken, refused, False, durable, batch.first)

    def flush(self) -> None:
        """Put everything that was acknowledged before this call into the tables. Any thread.
        StorageError when they do not take it."""
        with self._flushing:
            self._flush()

    def health(self) -> dict[str, Any]:
        """Return queue lengths, counters and sizes."""
        return {
            **self.counters,
            "queued_bytes": self._bytes,
            "queued_bytes_max": self._bytes_max,
            "segments_waiting": len(self._backlog),
            "series": self.series.count,
            "series_by_owner": {
                owner: count for owner, count in self.series.by_owner.items() if count
            },
            "batches_remembered": len(self._seen),
            "rollups_due": len(self._rollups),
            "journal_syncs": self._journal.syncs,
            "last_failure": self.last_failure,
        }

    def close(self) -> None:
        """Insert what can be inserted and stop. What cannot stays in the journal."""
        self._closing = True
        self._wake.set()
        if self._thread:
            self._thread.join()
        try:
            self.flush()
        except SextantError as error:
            self.last_failure = error.message
        self._journal.close()
        try:
            self.flush()
        except SextantError as error:
            self.last_failure = error.message
        self._seen.close()

    def _landed(self, done: "Future[None]", key: bytes, now_ns: int, size: int) -> None:
        if done.exception() is None:
            if key:
                self._seen.add(key, now_ns)
            if self._journal.open_bytes > limits.SEGMENT_BYTES_MAX:
                self._wake.set()
        else:
            with self._bytes_lock:
                self._bytes -= size
            self.series.forget_written()
            self._service_written.clear()
        self._flying.pop(key, None)

    def _work(self) -> None:
        while not self._closing:
            # a length of real time on purpose: it bounds what a crash has to replay, and no result
            # depends on it
            self._wake.wait(limits.FLUSH_S)
            self._wake.clear()
            try:
                with self._flushing:
                    self._flush()
                # beside, so that nobody's question waits for it
                now_ms = self._clock.now_ns() // 1_000_000
                self._rollups.make(now_ms)
                self._rollups.make_open(now_ms)
            except SextantError as error:
                self.counters["failures"] += 1
                self.last_failure = error.message

    def _flush(self) -> None:
        while self._journal.recovered:
            self._backlog.append(self._journal.recovered.pop(0))
        segment = self._journal.cut()
        if segment is not None:
            self._backlog.append(segment)
        while self._backlog:
            try:
                self._insert(self._backlog[0])
            except StorageError as error:
                self._attempts += 1
                if error.code != answers.REFUSED or self._attempts < _ATTEMPTS:
                    raise
                # the database works and will not have it: keep the file, tell, and let the others
                # through
                self.last_failure = f"{self._journal.set_aside(self._backlog[0])}: {error.message}"
                self.counters["set_aside"] += 1
            self._attempts = 0
            segment = self._backlog.pop(0)
            with self._bytes_lock:
                self._bytes -= sum(
                    len(block) for record in segment.records for _, _, block in record.rows
                )

    def _insert(self, segment: Segment) -> None:
        tables: dict[str, list[bytes]] = {}
        buckets: set[int] = set()
        count = 0
        for record in segment.records:
            buckets.update(record.buckets)
            for table, rows, block in record.rows:
                tables.setdefault(table, []).append(block)
                count += rows
        with self._rollups.getting(buckets):
            for table in sorted(
                tables, reverse=True
            ):  # series before samples, so that no sample is without its labels
                self._store.insert(table, b"".join(tables[table]), token=f"{segment.name}:{table}")
        self._seen.keep(segment.records)
        self._journal.drop(segment)
        self.counters["flushes"] += 1
        self.counters["rows"] += count

    def _learn(self, owner: str, kinds: Iterable[tuple[bytes, tuple[str, str]]]) -> None:
        """Note what a sender says of metrics. Bounded: what is beyond is not noted."""
        known = self.series.kinds
        changed = []
        for family, (kind, unit) in kinds:
            if (
                known.get((owner, family)) != (kind, unit)
                and ((owner, family) in known or len(known) < limits.SERIES_MAX)
                and len(family) <= limits.LABEL_VALUE_BYTES_MAX
                and len(unit) <= limits.LABEL_CHARS_MAX
            ):
                known[owner, family] = (kind, unit)
                changed.append(family)
        self.series.describe_again(owner, changed)

    def _overflow(
        self, protocol: str, owner: str, count: int, now_ms: int
    ) -> Generator[None, None, list[Rows]]:
        import numpy as np

        total = self._over_budget[owner, protocol] = (
            self._over_budget.get((owner, protocol), 0) + count
        )
        samples = Samples(
            [protocol.encode()],
            np.array([now_ms], np.int64),
            np.array([total], np.float64),
            _over_budget,
        )
        encoded = yield from self.series.encode(
            samples, protocol=OWN, owner=owner, more=(), now_ms=now_ms, oldest_ms=0
        )
        for codes in encoded.written:
            self.series.mark_written(codes, now_ms)
        return encoded.rows

    def _services(self, services: Iterable[tuple[str, str]], owner: str, now_ms: int) -> list[Rows]:
        new = [(asset, said or owner) for asset, said in services if asset]
        new = [
            pair
            for pair in new
            if self._service_written.get(pair, 0) < now_ms - _SERVICE_REPEATED_MS
        ]
        if not new:
            return []
        if len(self._service_written) > limits.ASSETS_MAX:
            self._service_written.clear()
        self._service_written.update((pair, now_ms) for pair in new)
        import numpy as np

        times = native.numbers(np.full(len(new), now_ms, np.int64))
        return [
            Rows(
                "obs.services_seen",
                len(new),
                native.block(
                    len(new),
                    (
                        ("asset", "String", native.texts(asset.encode() for asset, _ in new)),
                        ("owner", "String", native.texts(said.encode() for _, said in new)),
                        ("first_seen", _TS, times),
                        ("last_seen", _TS, times),
                    ),
                ),
            )
        ]

    def _met(self, spans: Iterable[Span], now_ms: int) -> list[Rows]:
        calls = self._calls.meet(spans, now_ms)
        if not calls:
            return []
        import numpy as np

        return [
            Rows(
                "obs.calls_seen",
                len(calls),
                native.block(
                    len(calls),
                    (
                        ("caller", "String", native.texts(call.caller.encode() for call in calls)),
                        ("callee", "String", native.texts(call.callee.encode() for call in calls)),
                        (
                            "first_seen",
                            _TS,
                            native.numbers(np.array([call.first_ms for call in calls], np.int64)),
                        ),
                        (
                            "last_seen",
                            _TS,
                            native.numbers(np.array([call.last_ms for call in calls], np.int64)),
                        ),
                        (
                            "count",
                            "UInt64",
                            native.numbers(np.array([call.times for call in calls], np.uint64)),
                        ),
                    ),
                ),
            )
        ]


def _sliced(values: Iterable[_T]) -> Iterator[list[_T]]:
    """Cut values into slices of the event loop."""
    waiting = iter(values)
    while part := list(islice(waiting, limits.SLICE_SERVICES)):
        yield part


def _over_budget(key: bytes) -> Identity:
    return Identity(
        [(b"__name__", b"sextant_samples_over_series_budget_total"), (b"protocol", key)],
        kind="counter",
    )


def _refusals(refused: dict[str, int], owner: str, protocol: str, now_ms: int) -> list[Rows]:
    if not refused:
        return []
    import numpy as np

    count = len(refused)
    hour = now_ms * 1_000_000 // NS // _HOUR_S * _HOUR_S
    return [
        Rows(
            "obs.refused_counts",
            count,
            native.block(
                count,
                (
                    ("hour", "DateTime('UTC')", native.numbers(np.full(count, hour, np.uint32))),
                    ("owner", "String", native.same(owner.encode(), count)),
                    ("protocol", "String", native.same(protocol.encode(), count)),
                    ("reason", "String", native.texts(reason.encode() for reason in refused)),
                    (
                        "count",
                        "UInt64",
                        native.numbers(np.array(list(refused.values()), np.uint64)),
                    ),
                ),
            ),
        )
    ]
