"""Merges the profiles of partitions and data files into one for each column, and says what it
shows: quantiles, a histogram, how far two are apart. Called by whoever shows or judges profiles."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from sextant.kernel.limits import (
    PROFILE_HASHES_MAX,
    PROFILE_POINTS_MAX,
    PROFILE_TEXTS_MAX,
)
from sextant.kernel.nouns import FileRef
from sextant.stores.lake import profiles, sketches
from sextant.stores.lake.profiles import ColumnBlock, Form
from sextant.stores.lake.types import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

_THINNED = 1 << 13  # points that are left when there are too many


class ColumnProfile:
    """What the values of a column are like, in some partitions. Numbers are as the lake stores
    them: decimals without their point (`scale` digits behind it), times as counts of units.

    rows, nulls, nans, infinite  counts; NaN is not among the values, infinities are
    low, high                    of values; of texts and bytes, of their lengths
    mean, squares                of finite values or lengths; the sum of squared distances from it
    texts, complete              most frequent texts with counts, and whether there are no others
    looked                       of how many values points and texts were drawn: fewer where a
                                 partition has more than 32,768
    """

    def __init__(self, name: str, type_: str) -> None:
        self.name, self.type = name, type_
        self.form: Form = "none"
        self.scale = 0
        self.rows = self.nulls = self.nans = self.infinite = self.looked = 0
        self.low: float | int | None = None
        self.high: float | int | None = None
        self.mean = self.squares = 0.0
        self.texts: Counter[str] = Counter()
        self.complete = True
        self._finite = 0
        self._hashes = np.zeros(0, np.uint32)
        self._level = 0
        self._distinct_least = self._distinct_most = 0
        self._pieces = 0  # partitions with values
        self._is_estimated = False
        self._points: list[NDArray[Any]] = []
        self._weights: list[NDArray[np.float64]] = []
        self._held = 0

    @property
    def values(self) -> int:
        """How many values there are."""
        return self.rows - self.nulls - self.nans

    # ------------------------------------------------------------ merging

    def add_missing(self, rows: int) -> None:
        """Add rows of files that lack the column: it is null in them."""
        self.rows += rows
        self.nulls += rows

    def add(
        self, block: ColumnBlock, rows: "NDArray[np.int64]", chosen: "NDArray[np.int64]"
    ) -> None:
        """Add the chosen partitions of a data file.

        rows    of all of its partitions
        """

        def each(data: bytes, kind: Any = np.int64) -> "NDArray[Any]":
            return np.frombuffer(data, kind)[chosen] if data else np.zeros(len(chosen), kind)

        counts = rows[chosen]
        nulls, nans, infinite = each(block.nulls), each(block.nans), each(block.infinite)
        values = counts - nulls - nans
        for name, some in (("rows", counts), ("nulls", nulls), ("nans", nans)):
            setattr(self, name, getattr(self, name) + int(some.sum()))
        self.infinite += int(infinite.sum())
        total = int(values.sum())
        if block.form == "none" or not total:
            return
        self._fit(block)
        if block.form == "bool":
            true = int(each(block.mean, np.float64).sum())
            self.texts.update({"true": true, "false": total - true})
            self.looked += total
            return
        held = values > 0
        self._add_moments(block, values - infinite, each)
        factor = self._factor(block)
        kind = np.float64 if block.form == "float" else np.int64
        low, high = (
            _plain(f(each(data, kind)[held]), factor)
            for f, data in ((np.min, block.low), (np.max, block.high))
        )
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        looked = each(block.looked)
        self.looked += int(looked.sum())
        self._add_distinct(block, chosen, held, each, is_sampled=bool((looked < values).any()))
        if block.form == "text":
            self._add_texts(block, chosen, values, looked)
        elif block.form != "bytes":
            point_counts = np.frombuffer(block.point_counts, np.int32).astype(np.int64)
            points = _ragged(np.frombuffer(block.points, kind), point_counts, chosen)
            per_partition = point_counts[chosen]
            weights = np.repeat(values / np.maximum(per_partition, 1), per_partition)
            self._add_points(points * factor if factor != 1 else points, weights)

    def _fit(self, block: ColumnBlock) -> None:
        """Take the form of a block; a column that was widened has two, and becomes floats."""
        if self.form == "none":
            self.form, self.scale = block.form, block.scale
        elif (self.form, self.scale) != (block.form, block.scale) and self.form == "int":
            factor = 10.0**-self.scale
            self._points = [points * factor for points in self._points]
            self.mean, self.squares = self.mean * factor, self.squares * factor**2
            self.low, self.high = (None if v is None else v * factor for v in (self.low, self.high))
            self.form, self.scale = "float", 0

    def _factor(self, block: ColumnBlock) -> float | int:
        return 10.0**-block.scale if block.form == "int" and self.form == "float" else 1

    def _add_moments(self, block: ColumnBlock, finite: "NDArray[np.int64]", each: Any) -> None:
        factor, count = self._factor(block), int(finite.sum())
        if not count:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            means = each(block.mean, np.float64) * factor
            squares = each(block.squares, np.float64) * factor**2
            mean = float((means * finite).sum() / count)
            own = float(squares.sum() + (finite * (means - mean) ** 2).sum())
            both = self._finite + count
            apart = mean - self.mean
            self.squares += own + apart * apart * self._finite * count / both
            self.mean += apart * count / both
        self._finite = both

    def _add_distinct(
        self,
        block: ColumnBlock,
        chosen: "NDArray[np.int64]",
        held: "NDArray[np.bool_]",
        each: Any,
        *,
        is_sampled: bool,
    ) -> None:
        counts = np.frombuffer(block.hash_counts, np.int32).astype(np.int64)
        hashes = _ragged(np.frombuffer(block.hashes, np.uint32), counts, chosen)
        levels = each(block.levels, np.uint8)
        level = max(self._level, int(levels.max()))
        some = np.concatenate([self._hashes, hashes])
        self._hashes, self._level = sketches.at_most(
            sketches.each_once(sketches.below(some, level)), level, PROFILE_HASHES_MAX
        )
        distinct = each(block.distinct)
        self._distinct_least = max(self._distinct_least, int(distinct.max()))
        self._distinct_most += int(distinct.sum())
        self._pieces += int(held.sum())
        self._is_estimated |= is_sampled and bool(levels.max())

    def _add_texts(
        self,
        block: ColumnBlock,
        chosen: "NDArray[np.int64]",
        values: "NDArray[np.int64]",
        looked: "NDArray[np.int64]",
    ) -> None:
        counts = np.frombuffer(block.text_counts, np.uint8).astype(np.int64)
        times = _ragged(np.frombuffer(block.times, np.int64), counts, chosen)
        places = _ragged(np.arange(len(block.texts)), counts, chosen)
        scale = np.repeat(values / np.maximum(looked, 1), counts[chosen])
        for place, count in zip(places.tolist(), np.rint(times * scale).tolist(), strict=True):
            self.texts[block.texts[place]] += int(count)
        complete = np.frombuffer(block.complete, np.uint8)[chosen]
        self.complete &= bool(complete[values > 0].all())
        if len(self.texts) > 2 * PROFILE_TEXTS_MAX:
            self.complete = False
            self.texts = Counter(dict(self.texts.most_common(PROFILE_TEXTS_MAX)))

    def _add_points(self, points: "NDArray[Any]", weights: "NDArray[np.float64]") -> None:
        self._points.append(points)
        self._weights.append(weights)
        self._held += len(points)
        if self._held > PROFILE_POINTS_MAX:
            points, weights = self.points()
            ends = np.cumsum(weights)
            at = np.searchsorted(ends, (np.arange(_THINNED) + 0.5) / _THINNED * ends[-1])
            self._points = [points[np.minimum(at, len(points) - 1)]]
            self._weights = [np.full(_THINNED, ends[-1] / _THINNED)]
            self._held = _THINNED

    # ------------------------------------------------------------ what it says

    def points(self) -> "tuple[NDArray[Any], NDArray[np.float64]]":
        """Return values that stand for all, ascending, and for how many each stands."""
        if not self._points:
            return np.zeros(0), np.zeros(0)
        points, weights = np.concatenate(self._points), np.concatenate(self._weights)
        order = np.argsort(points, kind="stable")
        return points[order], weights[order]

    def distinct(self) -> tuple[int, float]:
        """Return how many values are distinct, and the standard error relative to it; 0 = exact but
        for values that share a hash of 32 bits."""
        if self.form == "bool":
            return sum(1 for count in self.texts.values() if count), 0.0
        if self._pieces <= 1 and not self._is_estimated:
            return self._distinct_most, 0.0
        if self._level == 0:
            return min(len(self._hashes), self._distinct_most), 0.0
        kept = max(len(self._hashes), 1)
        if self._pieces <= 1:
            found = self._distinct_most
        else:
            found = sketches.estimate(len(self._hashes), self._level)
        error = math.sqrt((1 - 2.0**-self._level) / kept)
        return min(max(found, self._distinct_least), self._distinct_most), error

    def share_true(self) -> float:
        """Return how many of the truths are true, of all that are there."""
        return self.texts["true"] / self.values if self.values else 0.0

    def deviation(self) -> float | None:
        """Return the standard deviation of finite values or lengths; None without."""
        found = self.squares / self._finite if self._finite else math.nan
        return math.sqrt(found) if math.isfinite(found) else None

    def average(self) -> float | None:
        """Return the mean of finite values or lengths; None without."""
        return self.mean if self._finite and math.isfinite(self.mean) else None

    def quantiles(self, shares: Sequence[float]) -> list[Any]:
        """Return the values below which these shares of all values lie, or which they reach; []
        without values."""
        points, weights = self.points()
        if not len(points):
            return []
        ends = np.cumsum(weights)
        at = np.searchsorted(ends, np.array(shares) * ends[-1] * (1 - 1e-12))
        return [_plain(points[min(int(place), len(points) - 1)]) for place in at]

    def histogram(self, most: int) -> tuple[list[Any], list[int]]:
        """Return the edges of at most `most` stretches of equal length between the smallest and the
        largest finite value, and about how many values lie in each."""
        points, weights = self.points()
        if self.form == "float":
            finite = np.isfinite(points)
            points, weights = points[finite], weights[finite]
        if not len(points):
            return [], []
        low, high = self.low, self.high
        assert low is not None
        assert high is not None
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = _plain(points[0]), _plain(points[-1])
        if self.form == "int":
            width = -(-(int(high) - int(low) + 1) // most)
            count = -(-(int(high) - int(low) + 1) // width)
            edges: list[Any] = [int(low) + width * n for n in range(count + 1)]
            at = [(int(point) - int(low)) // width for point in points.tolist()]
        else:
            count = most if high > low else 1
            half = high / 2 - low / 2  # their difference may be beyond all floats
            edges = [low + half * (2 * n / count) for n in range(count)] + [high]
            places = np.searchsorted(np.array(edges), points, side="right") - 1
            at = np.clip(places, 0, count - 1).tolist()
        counts = np.bincount(at, weights=weights, minlength=count)
        return edges, [round(float(one)) for one in counts]

    def frequent(self, most: int) -> list[tuple[str, int]]:
        """Return the most frequent texts or truths with counts, the most frequent first."""
        ordered = sorted(self.texts.items(), key=lambda one: (-one[1], one[0]))
        return [one for one in ordered if one[1]][:most]


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The profiles of some partitions.

    partitions  how many of them have one
    missing     those that have none: they were made by an earlier release, or the file is damaged
    damaged     what was said of damaged files
    """

    rows: int
    partitions: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    columns: tuple[ColumnProfile, ...]


def merged(
    root: Path | str,
    files: Sequence[FileRef],
    schema: Schema,
    partitions: Collection[str] | None = None,
    of: str = "",
) -> Merged:
    """Return the profiles of some partitions of files, each column of a schema put together.

    partitions  None = all
    of          asset and version, for messages
    Memory      a file's profiles, and of each column at most 1 MiB
    """
    from sextant.kernel.errors import Damaged

    columns = tuple(ColumnProfile(name, type_) for name, type_ in schema)
    rows = 0
    seen: set[str] = set()
    missing: set[str] = set()
    damaged: list[str] = []
    for file in files:
        wanted = [name for name in file.partitions if partitions is None or name in partitions]
        if not wanted:
            continue
        if not file.profiles:
            missing.update(wanted)
            continue
        try:
            found = profiles.read(root, file, of)
        except Damaged as error:
            damaged.append(error.message)
            missing.update(wanted)
            continue
        some = set(wanted)
        chosen = np.array(
            [n for n, name in enumerate(found.partitions) if name in some], dtype=np.int64
        )
        counts = np.frombuffer(found.rows, np.int64)
        blocks: Mapping[str, ColumnBlock] = {block.name: block for block in found.columns}
        for column in columns:
            block = blocks.get(column.name)
            if block is None:
                column.add_missing(int(counts[chosen].sum()))
            else:
                column.add(block, counts, chosen)
        rows += int(counts[chosen].sum())
        seen.update(wanted)
    return Merged(
        rows=rows,
        partitions=len(seen - missing),
        missing=tuple(sorted(missing)),
        damaged=tuple(damaged),
        columns=columns,
    )


def apart(one: ColumnProfile, other: ColumnProfile) -> float | None:
    """Return the largest difference between the shares of values that lie below any value, in two
    profiles of numbers: 0 = the same distribution, 1 = no overlap. None where one has no numbers.
    """
    sides = []
    for column in (one, other):
        points, weights = column.points()
        if not len(points):
            return None
        scaled = points * 10.0**-column.scale if column.scale else points.astype(np.float64)
        sides.append((scaled, np.cumsum(weights) / weights.sum()))
    every = np.unique(np.concatenate([points for points, _ in sides]))
    below = []
    for points, shares in sides:
        at = np.searchsorted(points, every, side="right")
        below.append(np.where(at > 0, shares[np.maximum(at - 1, 0)], 0.0))
    return float(np.abs(below[0] - below[1]).max())


def _ragged(
    values: "NDArray[Any]", counts: "NDArray[np.int64]", chosen: "NDArray[np.int64]"
) -> "NDArray[Any]":
    """Return the values of some segments, of `counts[i]` values each."""
    if len(chosen) == len(counts):
        return values
    keep = np.zeros(len(counts), bool)
    keep[chosen] = True
    held: NDArray[Any] = values[np.repeat(keep, counts)]
    return held


def _plain(value: Any, factor: float = 1) -> Any:
    """Return a number of numpy as Python's."""
    found = value.item() if hasattr(value, "item") else value
    return found * factor if factor != 1 else found
