"""Maps a sender's labels to the id of a series, with a budget for each owner, and makes columns of
samples.

Called by the intake only, on one thread. A *space* is one sender's way of writing labels (protocol,
owner, labels that the request adds): a dictionary from raw bytes to a code, the place of the series
in a few arrays. Labels are not kept; they are read from the raw bytes again when the series' row is
written once more.

Counting that began anew, or by another process, is a series of its own where senders say so.
Several processes that say they are one are found out: see `_Count`.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from sextant.formats.telemetry import native
from sextant.formats.telemetry.batch import (
    Cells,
    Identity,
    Labels,
    Rows,
    Samples,
    asset_of,
    series_id,
)
from sextant.kernel import limits

if TYPE_CHECKING:
    import numpy as np

_RAW = 255  # scale of a value that is kept as its bits
_DIGITS_MAX = 15  # powers of ten up to here are exact, in numpy and in ClickHouse's exp10
_EXACT = float(1 << 53)
_STUBBORN = 4  # failures after which a series is taken to have no decimals
_NEGATIVE_ZERO = -(1 << 63)
# refused keys that are remembered, so that a repeated offender costs little and a flood no memory
_REFUSED_KEYS_MAX = 50_000
_REFUSED_KEY_BYTES_MAX = 4096  # of one that is remembered
_UNKNOWN = -(1 << 62)  # the code of a key that was not seen before
_KEY_COST = 100  # what a key costs beside its length, in bytes of SLICE_KEY_BYTES
# the protocol of samples that the intake makes itself: they need no place in a budget
OWN = "sextant"
_NEVER, _EVER = -(1 << 62), 1 << 62
# of a series whose first value is no growth: a start behind all its values
_REFERENCE_MS = 7_258_118_400_000
_PROOFS = 3  # falls in a row that go on where the lower values were
_TURNS_MAX = 64  # values of either process that can be taken back
_NOISE = 1e-9  # of a float that is summed up anew each time: no fall
TAKEN_BACK = -128  # the scale of cells that are
_INCREMENTS_MS = int(limits.INCREMENTS_REMEMBERED_S * 1000)
_MIXED_MS = int(limits.PROCESSES_MIXED_S * 1000)
_SUFFIXES = (b"_total", b"_bucket", b"_count", b"_sum")  # metadata names the family without them
ROLLUP_S = 300  # length of a bucket of obs.rollups
_TS = "DateTime64(3, 'UTC')"


class Encoded(NamedTuple):
    """What became of samples: rows for `obs.samples`, `obs.histogram_cells` and `obs.series`,
    services that spoke, refusals by reason."""

    rows: list[Rows]
    taken: int
    services: dict[str, str]
    refused: dict[str, int]
    buckets: list[int]  # of rollups, seconds since the epoch
    written: list["np.ndarray[Any, Any]"]  # codes of the series whose rows are among them


class _Space(dict[bytes, int]):
    """Raw labels -> code; an unknown key is read when it is asked for."""

    def __init__(
        self,
        learn: Callable[["_Space", bytes], int],
        owner: str,
        more: tuple[tuple[bytes, bytes], ...],
        *,
        own: bool,
    ) -> None:
        super().__init__()
        self.own = own
        self.learn = learn
        self.owner = owner
        self.more = more
        self.has_counts = False  # of a protocol that says which series only grow
        self.read: Callable[[bytes], Identity] | None = None

    def __missing__(self, key: bytes) -> int:
        return self.learn(self, key)


class _Count:
    """How far a series that only grows has come, to find out when two processes count in it.

    Their values alternate: a fall, a return to where it was, a fall to where the lower ones go on.
    Once is a restart or a correction, and so is a fall that stays; several times in a row within
    minutes is two processes. Then the one that came second is refused, and what it had sent while
    that was not clear is taken back.
    """

    __slots__ = (
        "before", "came_second", "fell_at", "highs", "is_below", "is_mixed", "low", "lows",
        "previous", "proofs", "ts", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ts, self.value, self.previous = _NEVER, 0.0, math.inf
        self.is_mixed = False
        self._begin()

    def _begin(self) -> None:
        self.proofs = 0
        self.is_below = False  # it fell, and has not returned
        self.before, self.low = 0.0, math.inf  # the last values above and below
        self.fell_at = _NEVER
        self.highs: tuple[int, ...] = ()  # times of values above and below
        self.lows: tuple[int, ...] = ()
        self.came_second = "low"

    def takes(self, ts: int, value: float) -> bool:
        """Say whether a value, at a time in ms, continues the series, and take it for its state."""
        if ts <= self.ts:
            self.value = value if ts == self.ts else self.value
            return True
        has_fallen = value < self.value * (1 - _NOISE)
        if self.is_mixed:
            if ts - self.ts > _MIXED_MS:  # one of them is gone
                self.is_mixed = False
                self._begin()
            elif value >= self.before if self.came_second == "high" else has_fallen:
                self.before = max(value, self.before)
                return False
        elif has_fallen:
            self._fall(ts, value)
            if self.is_mixed and self.came_second == "low":
                self.ts = ts
                return False
        elif self.is_below:
            if value >= self.before:
                self.is_below, self.low = False, self.value
                self.highs = (*self.highs, ts)[-_TURNS_MAX:]
            else:
                self.lows = (*self.lows, ts)[-_TURNS_MAX:]
        elif self.highs:
            self.highs = (*self.highs, ts)[-_TURNS_MAX:]
        self.ts, self.value, self.previous = ts, value, self.value
        return True

    def _fall(self, ts: int, value: float) -> None:
        goes_on = (
            not self.is_below
            and value >= self.low * (1 - _NOISE)
            and ts - self.fell_at <= _MIXED_MS
        )
        if goes_on:
            self.proofs += 1
        else:
            self._begin()
            self.highs = (self.ts,)
            # the lower one was there before the higher one's only value
            self.came_second = "high" if self.previous <= value else "low"
        self.is_below, self.before, self.fell_at = True, self.value, ts
        self.is_mixed = self.proofs >= _PROOFS
        if not self.is_mixed:
            self.lows = (*self.lows, ts)[-_TURNS_MAX:]

    def taken_back(self) -> tuple[int, ...]:
        """Return the times of values that proved to be another process's; each is told once."""
        if not self.is_mixed:
            return ()
        back = self.highs if self.came_second == "high" else self.lows
        self.highs = self.lows = ()
        return back


class Series:
    """All live series of this process."""

    def __init__(
        self, *, per_owner: int = limits.SERIES_PER_OWNER_MAX, total: int = limits.SERIES_MAX
    ) -> None:
        self._per_owner = per_owner
        self._total = total
        self._spaces: dict[tuple[Any, ...], _Space] = {}
        self._reasons: list[str] = [""]  # code -n is refused for reason n
        # (sender, metric family) -> (kind, unit), as he said it
        self.kinds: dict[tuple[str, bytes], tuple[str, str]] = {}
        self._swept_ms = 0
        self.count = 0
        self._refused_keys = 0
        self.by_owner: dict[str, int] = {}
        self.bytes = 0  # of the keys of all series
        self._bytes_by_owner: dict[str, int] = {}
        # two lists, not pairs: the garbage collector goes through every pair again and again
        self._keys: list[bytes] = []
        self._space_of: list[_Space | None] = []  # None = the code is free
        self._metrics: list[bytes] = []
        self._metric_codes: dict[bytes, int] = {}
        self._services: list[tuple[str, str]] = []
        self._service_codes: dict[tuple[str, str], int] = {}
        self._owners: list[str] = []
        self._free: list[int] = []
        # what was just learned, until its row is written: reading labels twice is dear
        self._fresh: dict[int, Identity] = {}
        self._counts: dict[int, _Count] = {}
        # series without its start -> how many starts live, time in ms and value of its last sample
        self._starts: dict[int, tuple[int, int, float]] = {}
        self._value = 0.0  # the first one of the series that is being learned
        # series of increments -> times in ms that are given, and the start of what was given each
        self._increments: dict[int, dict[int, int]] = {}
        self._is_allocated = False
        self._open: list[int] = []  # the times of those that are being encoded

    def _allocate(self) -> None:
        """Make the columns, when the first samples come: a process that only answers needs none."""
        import numpy as np

        size = 1024
        self._is_allocated = True
        self._id = np.zeros(size, np.uint64)
        self._metric = np.zeros(size, np.uint32)
        self._service = np.zeros(size, np.uint32)
        self._digits = np.zeros(size, np.uint8)
        self._failures = np.zeros(size, np.uint8)
        self._written = np.zeros(size, np.int64)  # when its row was last written, ms
        self._changed = np.zeros(size, bool)  # its kind became known after its row was made
        self._seen = np.zeros(size, np.int64)
        self._start = np.zeros(size, np.int64)  # ms
        self._base = np.zeros(size, np.uint64)  # its id without the start that it says, or 0
        self._histogram = np.zeros(size, np.uint64)  # the id of that it is read from
        self._point = np.zeros(size, np.uint64)  # the same for all that one histogram sends
        self._kin = np.zeros(size, np.uint64)  # the same for all series of its labels
        self._process = np.zeros(size, np.uint64)  # the same for all that one process counts
        self._powers = np.concatenate(
            [10.0 ** np.arange(_DIGITS_MAX + 1), np.ones(256 - _DIGITS_MAX - 1)]
        )

    def encode(
        self,
        samples: Samples,
        *,
        protocol: str,
        owner: str,
        more: tuple[tuple[bytes, bytes], ...],
        now_ms: int,
        oldest_ms: int,
    ) -> Generator[None, None, Encoded]:
        """Look up the series of samples and return their rows, in slices of a few milliseconds:
        others may be encoded in between. The rows are on their way once `mark_written` is called.

        more     labels that the request adds to all (`job`, `instance`)
        Raises   BadData when a key that was not seen before cannot be read
        """
        if not self._is_allocated:
            self._allocate()
        yield from self._sweep(now_ms)
        self._open.append(now_ms)
        try:
            at = (protocol, owner, more, samples.read)
            return (yield from self._encoded(at, samples, now_ms, oldest_ms))
        finally:
            self._open.remove(now_ms)

    def _encoded(
        self, at: tuple[Any, ...], samples: Samples, now_ms: int, oldest_ms: int
    ) -> Generator[None, None, Encoded]:
        out = Encoded([], 0, {}, {}, [], [])
        mixed: set[tuple[int, int]] = set()
        for start in range(0, len(samples.keys), limits.SLICE_SAMPLES):
            if start:
                yield
            stop = start + limits.SLICE_SAMPLES
            part = samples._replace(
                keys=samples.keys[start:stop],
                ts=samples.ts[start:stop],
                values=samples.values[start:stop],
                cells={
                    place - start: samples.cells[place]
                    for place in range(start, min(stop, len(samples.keys)))
                    if place in samples.cells
                }
                if samples.cells
                else {},
                starts={
                    place - start: samples.starts[place]
                    for place in range(start, min(stop, len(samples.keys)))
                    if place in samples.starts
                }
                if samples.starts
                else {},
            )
            codes = yield from self._codes(at, part, now_ms)
            if part.starts:
                part = self._apart(part, codes)
            if self._space(at).has_counts:
                part, codes = self._without_mixed(part, codes, mixed, now_ms, oldest_ms)
            encoded = yield from self._encode(part, codes, out.written, now_ms, oldest_ms)
            out.rows.extend(encoded.rows)
            out.services.update(encoded.services)
            out.written.extend(encoded.written)
            for reason, count in encoded.refused.items():
                out.refused[reason] = out.refused.get(reason, 0) + count
            out = out._replace(
                taken=out.taken + encoded.taken,
                buckets=sorted({*out.buckets, *encoded.buckets}),
            )
        return out

    def _space(self, at: tuple[Any, ...]) -> _Space:
        """Return the space of a sender: looked up again after each slice, for an empty one is let
        go of."""
        space = self._spaces.get(at)
        if space is None:
            protocol, owner, more, read = at
            space = self._spaces[at] = _Space(self._learn, owner, more, own=protocol == OWN)
            space.read = read
        return space

    def _codes(
        self, at: tuple[Any, ...], samples: Samples, now_ms: int
    ) -> Generator[None, None, "np.ndarray[Any, Any]"]:
        """Return the codes of samples' keys; learn those that are new, in slices."""
        import numpy as np

        keys = samples.keys
        codes = np.fromiter(map(self._space(at).get, keys, repeat(_UNKNOWN)), np.int64, len(keys))
        unknown = np.flatnonzero(codes == _UNKNOWN).tolist()
        if unknown:
            # what is silent for long is let go of, perhaps between two slices
            self._seen[codes[codes >= 0]] = now_ms
        spent = 0
        for place in unknown:
            if spent > limits.SLICE_KEY_BYTES:
                yield
                spent = 0
            key = keys[place]
            self._value = float(samples.values[place])
            code = codes[place] = self._space(at)[key]
            if code >= 0:
                self._seen[code] = now_ms
            spent += len(key) + _KEY_COST
        return codes

    def _apart(self, samples: Samples, codes: "np.ndarray[Any, Any]") -> Samples:
        """Return samples of which increments of one series and time that were counted since
        different times, so by different processes, have times of their own: each counts."""
        ts = samples.ts.copy()
        for place, start in samples.starts.items():
            code, at = int(codes[place]), int(ts[place])
            if code < 0:
                continue
            given = self._increments.setdefault(code, {})
            # the next free one: sent again, it comes to the same; an export may come late, after
            # others of its time
            while given.get(at, start) != start:
                at += 1
            given[at] = start
            ts[place] = at
            while (oldest := next(iter(given))) < at - _INCREMENTS_MS or len(
                given
            ) > limits.STARTS_PER_SERIES_MAX:
                del given[oldest]
        return samples._replace(ts=ts)

    def _without_mixed(
        self,
        samples: Samples,
        codes: "np.ndarray[Any, Any]",
        mixed: set[tuple[int, int]],
        now_ms: int,
        oldest_ms: int,
    ) -> tuple[Samples, "np.ndarray[Any, Any]"]:
        """Return samples and their codes, where those that another process than their series' has
        sent are refusals, and NaN stands for those that are taken back. `mixed` has the histograms
        and times that this is so of: their count comes first."""
        refused = self._refusal("processes_mixed")
        newest_ms = now_ms + int(limits.FUTURE_S * 1000)
        points, bases = self._point[codes].tolist(), self._base[codes].tolist()
        back: list[tuple[int, int]] = []
        for place, (code, ts, number) in enumerate(
            zip(codes.tolist(), samples.ts.tolist(), samples.values.tolist(), strict=True)
        ):
            if code < 0 or not oldest_ms <= ts <= newest_ms:
                continue
            if bases[place] and self._start[code] != _REFERENCE_MS:
                starts = self._starts.get(bases[place])
                if starts is not None and ts >= starts[1]:
                    self._starts[bases[place]] = starts[0], ts, number
            count = self._counts.get(code)
            if count is None:
                if mixed and (points[place], ts) in mixed:
                    codes[place] = refused
            elif number == number:  # noqa: PLR0124 - no NaN
                if not count.takes(ts, number):
                    codes[place] = refused
                    if points[place]:
                        mixed.add((points[place], ts))
                back += [(code, at) for at in count.taken_back()]
        return self._with_nothing(samples, codes, back) if back else (samples, codes)

    def _with_nothing(
        self, samples: Samples, codes: "np.ndarray[Any, Any]", back: list[tuple[int, int]]
    ) -> tuple[Samples, "np.ndarray[Any, Any]"]:
        """Return samples with those added that take back values of series at times: NaN, and for
        a histogram the same for all its parts."""
        import numpy as np

        cells = dict(samples.cells)
        places: list[tuple[int, int]] = []
        for code, at in back:
            point = self._point[code]
            those = np.flatnonzero(self._point[: len(self._keys)] == point) if point else [code]
            for one in those:
                if self._space_of[one] is None:
                    continue
                if one == code and self._histogram[code]:
                    empty = Cells(TAKEN_BACK, 0.0, False, b"", b"", b"")
                    cells[len(samples.ts) + len(places)] = empty
                places.append((int(one), at))
        return (
            samples._replace(
                ts=np.concatenate([samples.ts, [at for _, at in places]]),
                values=np.concatenate([samples.values, np.full(len(places), np.nan)]),
                cells=cells,
            ),
            np.concatenate([codes, [code for code, _ in places]]),
        )

    def _encode(
        self,
        samples: Samples,
        codes: "np.ndarray[Any, Any]",
        written: list["np.ndarray[Any, Any]"],
        now_ms: int,
        oldest_ms: int,
    ) -> Generator[None, None, Encoded]:
        import numpy as np

        refused: dict[str, int] = {}
        ts, values = samples.ts, samples.values
        good = codes >= 0
        if not good.all():
            for code, count in zip(*np.unique(codes[~good], return_counts=True), strict=True):
                refused[self._reasons[-int(code)]] = int(count)
        old, new = ts < oldest_ms, ts > now_ms + int(limits.FUTURE_S * 1000)
        if old.any() or new.any():
            refused |= {
                name: count
                for name, count in (
                    ("too_old", int((good & old).sum())),
                    ("too_new", int((good & new).sum())),
                )
                if count
            }
            good &= ~(old | new)
        cells = [(place, one) for place, one in samples.cells.items() if good[place]]
        exponential = (
            [self._cell_rows([codes[place] for place, _ in cells], ts, cells)] if cells else []
        )
        if not good.all():
            codes, ts, values = codes[good], ts[good], values[good]
        if not len(codes):
            return Encoded([], 0, {}, refused, [], [])
        rows = [self._samples(codes, ts, values), *exponential]
        unwritten = codes[self._written[codes] < now_ms - int(limits.SERIES_REPEATED_S * 1000)]
        self._seen[codes] = now_ms
        if unwritten.size:
            unwritten = np.unique(unwritten)
            for before in written:
                unwritten = np.setdiff1d(unwritten, before, assume_unique=True)
        if unwritten.size:
            at = np.searchsorted(unwritten, codes)
            of = (at < len(unwritten)) & (unwritten[np.minimum(at, len(unwritten) - 1)] == codes)
            first, last = np.full(len(unwritten), _EVER), np.full(len(unwritten), _NEVER)
            np.minimum.at(first, at[of], ts[of])
            np.maximum.at(last, at[of], ts[of])
            parts, done = [], 0
            for slice_ in self._slices(unwritten):
                stop = done + len(slice_)
                parts.append(self._rows(slice_, first[done:stop], last[done:stop]))
                done = stop
                yield
            rows.append(
                Rows(
                    "obs.series",
                    sum(part.rows for part in parts),
                    b"".join(part.block for part in parts),
                )
            )
        self._fresh.clear()
        services = dict(
            self._services[code]
            for code in np.unique(self._service[codes]).tolist()
            if self._services[code][0]
        )
        buckets = np.unique(ts // (ROLLUP_S * 1000)) * ROLLUP_S
        return Encoded(
            rows,
            len(codes),
            services,
            refused,
            buckets.tolist(),
            [unwritten] * bool(len(unwritten)),
        )

    def mark_written(self, codes: "np.ndarray[Any, Any]", now_ms: int) -> None:
        """Note that the rows of series are on their way to the tables."""
        import numpy as np

        self._written[codes] = np.where(self._changed[codes], 0, now_ms)
        self._changed[codes] = False

    def describe_again(self, owner: str, families: Iterable[bytes]) -> None:
        """Write the rows of a sender's series once more when they are next seen: only now is it
        known of what kind their metrics are. A row that is on its way says the old kind."""
        import numpy as np

        names = [family + suffix for family in families for suffix in (b"", *_SUFFIXES)]
        found = [self._metric_codes[name] for name in names if name in self._metric_codes]
        if found:
            is_meant = np.zeros(len(self._metrics), bool)
            is_meant[found] = True
            codes = np.flatnonzero(is_meant[self._metric[: len(self._keys)]])
            codes = codes[[self._owners[code] == owner for code in codes.tolist()]]
            self._written[codes] = 0
            self._changed[codes] = True

    def forget_written(self) -> None:
        """Write the rows of all series anew when they are next seen: a batch that held some did not
        become durable."""
        if self._is_allocated:
            self._written[:] = 0

    def _learn(self, space: _Space, key: bytes) -> int:
        assert space.read is not None
        said = Identity([])
        reason = ""
        # the budgets are the sender's, whoever he says that the series belong to; judged first, for
        # reading labels takes time
        if not space.own and not self._has_room(space.owner, len(key)):
            reason = "series_budget"
        elif len(key) > limits.SERIES_KEY_BYTES_MAX:
            reason = "label_too_long"
        else:
            said = space.read(key)
            reason = said.refused
        labels = said.labels
        if space.more:
            # what a target says itself counts more than what the request adds
            labels = sorted({**dict(space.more), **dict(labels)}.items())
        owner = said.owner or space.owner
        if reason:
            code = self._refusal(reason)
            if (
                self._refused_keys < _REFUSED_KEYS_MAX
                and len(key) <= _REFUSED_KEY_BYTES_MAX
                and reason != "series_budget"
            ):
                self._refused_keys += 1
                space[key] = code
            return code
        if self._free:
            code = self._free.pop()
        else:
            code = len(self._keys)
            self._keys.append(b"")
            self._space_of.append(None)
            self._owners.append("")
            if code >= len(self._id):
                self._grow()
        metric = dict(labels)[b"__name__"]
        asset = said.asset or asset_of(labels)
        self._keys[code], self._space_of[code] = key, space
        if len(self._fresh) < limits.SLICE_SAMPLES:
            self._fresh[code] = said._replace(labels=labels)
        self._owners[code] = space.owner
        stream, self._start[code], self._base[code] = self._begun(said, labels, owner)
        self._id[code] = series_id(labels, owner, stream + said.layout)
        self._kin[code] = series_id(labels, owner) if stream + said.layout else 0
        self._process[code] = series_id((), f"{owner} {asset}", stream) if stream else 0
        self._histogram[code] = self._point[code] = 0
        if said.histogram:
            whole = _of_histogram(labels, said.histogram)
            self._point[code] = series_id(whole, owner, stream)
            if said.is_read:
                self._histogram[code] = series_id(whole, owner, stream + said.layout)
        if said.is_count:
            self._counts[code] = _Count()
        space.has_counts = space.has_counts or said.is_count or bool(self._base[code])
        self._metric[code] = _numbered(self._metric_codes, self._metrics, metric)
        self._service[code] = _numbered(self._service_codes, self._services, (asset, owner))
        self._digits[code] = self._failures[code] = 0
        self._written[code] = self._seen[code] = self._changed[code] = 0
        sender = space.owner
        self.by_owner[sender] = self.by_owner.get(sender, 0) + 1
        self.count += 1
        self.bytes += len(key)
        self._bytes_by_owner[sender] = self._bytes_by_owner.get(sender, 0) + len(key)
        space[key] = code
        return code

    def _refusal(self, reason: str) -> int:
        """Return the code that stands for a refusal."""
        if reason not in self._reasons:
            self._reasons.append(reason)
        return -self._reasons.index(reason)

    def _begun(self, said: Identity, labels: Labels, owner: str) -> tuple[bytes, int, int]:
        """Return what tells a series from others of its labels, when it began in ms, and its id
        without that. A sender whose starts change with every value says nothing by them: they are
        taken for unknown."""
        if not said.start_ns:
            return said.stream, 0, 0
        base = series_id(labels, owner, said.stream)
        count, last_ms, last = self._starts.get(base, (0, _NEVER, 0.0))
        # it goes on where the last value was: no restart, and no start of what is counted
        moves = said.start_ns // 1_000_000 == last_ms and self._value >= last
        if moves or count >= limits.STARTS_PER_SERIES_MAX:
            return said.stream, 0, base
        self._starts[base] = count + 1, last_ms, last
        # a process may say its first value in the millisecond in which it began
        start_ms = _REFERENCE_MS if said.is_reference else said.start_ns // 1_000_000 - 1
        return said.stream + b"%d" % said.start_ns, start_ms, base

    def _has_room(self, owner: str, size: int) -> bool:
        """Say whether the budgets leave room for one more series of a size."""
        return (
            self.by_owner.get(owner, 0) < self._per_owner
            and self.count < self._total
            and self._bytes_by_owner.get(owner, 0) + size <= limits.SERIES_BYTES_PER_OWNER_MAX
            and self.bytes + size <= limits.SERIES_BYTES_MAX
        )

    def _grow(self) -> None:
        import numpy as np

        for name in (
            "_id", "_metric", "_service", "_digits", "_failures", "_written", "_changed", "_seen",
            "_start", "_base", "_histogram", "_kin", "_point",
            "_process",
        ):  # fmt: skip
            now = getattr(self, name)
            setattr(self, name, np.concatenate([now, np.zeros_like(now)]))

    def _sweep(self, now_ms: int) -> Iterator[None]:
        """Let go of series that are silent, once in a while."""
        import numpy as np

        if now_ms - self._swept_ms < limits.SERIES_LIVE_S * 500:
            return
        first, self._swept_ms = not self._swept_ms, now_ms
        if first:
            return
        live_ms = int(limits.SERIES_LIVE_S * 1000)
        # those that others look up just now were seen by their time, however the clock has jumped
        late = min([now_ms, *self._open]) - live_ms
        silent = np.flatnonzero(self._seen[: len(self._keys)] < late).tolist()
        for count, code in enumerate(silent, 1):
            if count % limits.SLICE_SAMPLES == 0:
                yield
                late = min([late + live_ms, *self._open]) - live_ms
            space = self._space_of[code]
            if space is None or self._seen[code] >= late:  # it has spoken between two slices
                continue
            key, owner = self._keys[code], self._owners[code]
            space.pop(key, None)
            self._space_of[code], self._keys[code] = None, b""
            self.bytes -= len(key)
            self._bytes_by_owner[owner] -= len(key)
            self._free.append(code)
            self._fresh.pop(code, None)
            self._counts.pop(code, None)
            base = int(self._base[code])
            self._increments.pop(code, None)
            if base and self._start[code]:
                lives, last_ms, last = self._starts.pop(base)
                if lives > 1:
                    self._starts[base] = lives - 1, last_ms, last
            self.by_owner[owner] -= 1
            self.count -= 1
        for space in self._spaces.values():  # refused keys are judged anew: limits may fit now
            for key in [key for key, code in space.items() if code < 0]:
                del space[key]
        self._refused_keys = 0
        self._spaces = {at: space for at, space in self._spaces.items() if space}
        self._digits[self._digits == _RAW] = 0  # a series may have decimals by now
        self._failures[:] = 0

    def _samples(
        self,
        codes: "np.ndarray[Any, Any]",
        ts: "np.ndarray[Any, Any]",
        values: "np.ndarray[Any, Any]",
    ) -> Rows:
        import numpy as np

        scale = self._digits[codes]
        bits = values.view(np.int64)
        with np.errstate(all="ignore"):
            powers = self._powers[scale]
            whole = np.rint(values * powers)
            exact = (
                ((whole / powers).view(np.int64) == bits)
                & (np.abs(whole) < np.where(scale == 0, 9.2e18, _EXACT))
                & (scale != _RAW)
                & (bits != _NEGATIVE_ZERO)
            )
            mantissa = np.where(exact, whole, 0.0).astype(np.int64)
        if not exact.all():
            self._fit(np.flatnonzero(~exact), codes, values, bits, mantissa, scale)
        used, index = np.unique(self._metric[codes], return_inverse=True)
        names = [self._metrics[code] for code in used.tolist()]
        block = native.block(
            len(codes),
            (
                ("metric", "LowCardinality(String)", native.words(names, index)),
                ("series", "UInt64", native.numbers(self._id[codes])),
                ("ts", _TS, native.numbers(ts.astype(np.int64))),
                ("mantissa", "Int64", native.numbers(mantissa)),
                ("scale", "UInt8", native.numbers(scale)),
            ),
        )
        return Rows("obs.samples", len(codes), block)

    def _fit(
        self,
        at: "np.ndarray[Any, Any]",
        codes: "np.ndarray[Any, Any]",
        values: "np.ndarray[Any, Any]",
        bits: "np.ndarray[Any, Any]",
        mantissa: "np.ndarray[Any, Any]",
        scale: "np.ndarray[Any, Any]",
    ) -> None:
        """Find the decimals of values that the scale known so far does not hold; keep the bits of
        those that have none."""
        import numpy as np

        mantissa[at] = bits[at]
        hopeful = at[(scale[at] != _RAW) & np.isfinite(values[at]) & (bits[at] != _NEGATIVE_ZERO)]
        scale[at] = _RAW
        with np.errstate(all="ignore"):
            for digits in range(_DIGITS_MAX + 1):
                if not hopeful.size:
                    return
                whole = np.rint(values[hopeful] * self._powers[digits])
                fits = ((whole / self._powers[digits]).view(np.int64) == bits[hopeful]) & (
                    np.abs(whole) < (_EXACT if digits else 9.2e18)
                )
                found = hopeful[fits]
                mantissa[found] = whole[fits].astype(np.int64)
                scale[found] = digits
                self._digits[codes[found]] = np.maximum(self._digits[codes[found]], digits)
                hopeful = hopeful[~fits]
        lost = codes[hopeful]
        self._failures[lost] = np.minimum(self._failures[lost] + 1, _STUBBORN)
        self._digits[lost[self._failures[lost] >= _STUBBORN]] = _RAW

    def _slices(self, codes: "np.ndarray[Any, Any]") -> Iterator["np.ndarray[Any, Any]"]:
        """Cut series into groups whose labels are read within a few milliseconds."""
        start = spent = 0
        for place, code in enumerate(codes.tolist()):
            spent += len(self._keys[code]) + _KEY_COST
            if spent > 2 * limits.SLICE_KEY_BYTES:
                yield codes[start : place + 1]
                start, spent = place + 1, 0
        if start < len(codes):
            yield codes[start:]

    def _rows(
        self,
        codes: "np.ndarray[Any, Any]",
        first_ms: "np.ndarray[Any, Any]",
        last_ms: "np.ndarray[Any, Any]",
    ) -> Rows:
        """Return the rows of series, seen from one time to the other, and of the histograms that
        they are part of."""
        rows: list[_Row] = []
        histograms: dict[int, _Row] = {}
        for code, first, last in zip(
            codes.tolist(), first_ms.tolist(), last_ms.tolist(), strict=True
        ):
            identity = self._fresh.get(code)
            said = self._read_again(code) if identity is None else identity
            metric, histogram = self._metrics[self._metric[code]], int(self._histogram[code])
            asset, owner = self._services[self._service[code]]
            kind, unit = self._kind(self._owners[code], metric, said)
            start, kin = int(self._start[code]), int(self._kin[code])
            process = int(self._process[code])
            rows.append(
                _Row(
                    metric,
                    int(self._id[code]),
                    said.labels,
                    asset,
                    owner,
                    kind,
                    unit,
                    start,
                    histogram,
                    kin,
                    process,
                    first,
                    last,
                )
            )
            if histogram:
                unit = (
                    said.histogram_unit
                    or self.kinds.get((self._owners[code], said.histogram), ("", ""))[1]
                )
                labels = _of_histogram(said.labels, said.histogram)
                histograms[histogram] = _Row(
                    said.histogram,
                    histogram,
                    labels,
                    asset,
                    owner,
                    "histogram",
                    unit,
                    start,
                    0,
                    series_id(labels, owner) if kin else 0,
                    process,
                    first,
                    last,
                )
        return _series_rows([*rows, *histograms.values()])

    def _cell_rows(
        self,
        codes: list[int],
        ts: "np.ndarray[Any, Any]",
        cells: list[tuple[int, Cells]],
    ) -> Rows:
        """Return rows of `obs.histogram_cells`: the cells and the codes of their counts."""
        import numpy as np

        found = [one for _, one in cells]
        sizes = np.array([len(one.sides) for one in found], np.uint64)
        ends = np.cumsum(sizes, dtype=np.uint64).tobytes()
        at = ts[[place for place, _ in cells]].astype(np.int64)
        names = [self._metrics[self._metric[code]].removesuffix(b"_count") for code in codes]
        return Rows(
            "obs.histogram_cells",
            len(found),
            native.block(
                len(found),
                (
                    ("metric", "String", native.texts(names)),
                    ("series", "UInt64", native.numbers(self._histogram[codes])),
                    ("ts", _TS, native.numbers(at)),
                    ("scale", "Int8", bytes(one.scale & 0xFF for one in found)),
                    ("zero", "Float64", native.numbers(np.array([c.zero for c in found]))),
                    ("delta", "UInt8", bytes(one.delta for one in found)),
                    ("sides", "Array(Int8)", ends + b"".join(one.sides for one in found)),
                    ("indexes", "Array(Int32)", ends + b"".join(one.indexes for one in found)),
                    ("counts", "Array(UInt64)", ends + b"".join(one.counts for one in found)),
                ),
            ),
        )

    def _read_again(self, code: int) -> Identity:
        space = self._space_of[code]
        assert space is not None
        assert space.read is not None
        identity = space.read(self._keys[code])
        if not space.more:
            return identity
        labels = {**dict(space.more), **dict(identity.labels)}
        return identity._replace(labels=sorted(labels.items()))

    def _kind(self, owner: str, metric: bytes, identity: Identity) -> tuple[str, str]:
        if identity.is_kind_said:
            return identity.kind, identity.unit
        if (owner, metric) in self.kinds:
            return self.kinds[owner, metric]
        for suffix in _SUFFIXES:
            family = metric.removesuffix(suffix)
            if family != metric and (owner, family) in self.kinds:
                return self.kinds[owner, family]
        return identity.kind, identity.unit


class _Row(NamedTuple):
    """A row of `obs.series`."""

    metric: bytes
    series: int
    labels: Labels
    asset: str
    owner: str
    kind: str
    unit: str
    start_ms: int
    histogram: int
    kin: int
    process: int
    first_ms: int
    last_ms: int


def _series_rows(rows: list[_Row]) -> Rows:
    import numpy as np

    count = len(rows)
    labels = [[pair for pair in row.labels if pair[0] != b"__name__"] for row in rows]
    texts = {
        name: native.texts([getattr(row, name).encode() for row in rows])
        for name in ("asset", "owner", "kind", "unit")
    }
    times = {
        "first_seen": np.array([row.first_ms for row in rows], np.int64),
        "last_seen": np.array([row.last_ms for row in rows], np.int64),
        "start": np.array([row.start_ms for row in rows], np.int64),
    }
    return Rows(
        "obs.series",
        count,
        native.block(
            count,
            (
                ("metric", "String", native.texts([row.metric for row in rows])),
                ("series", "UInt64", native.numbers(np.array([r.series for r in rows], np.uint64))),
                ("labels", "Map(String, String)", native.maps(labels)),
                *((name, "String", data) for name, data in texts.items()),
                *((name, _TS, native.numbers(at)) for name, at in times.items()),
                *(
                    (
                        name,
                        "UInt64",
                        native.numbers(np.array([getattr(row, name) for row in rows], np.uint64)),
                    )
                    for name in ("histogram", "kin", "process")
                ),
            ),
        ),
    )


def _of_histogram(labels: Labels, name: bytes) -> Labels:
    """Return the labels of a histogram, sorted, from those of one of its series."""
    return sorted(
        (label, name if label == b"__name__" else text) for label, text in labels if label != b"le"
    )


def _numbered(codes: dict[Any, int], values: list[Any], value: Any) -> int:
    code = codes.get(value)
    if code is None:
        code = codes[value] = len(values)
        values.append(value)
    return code
