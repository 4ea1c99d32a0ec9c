"""Sketches of columns: small summaries of many values that can be merged. Called by `profiles`.

Works on segments: the values of several partitions lie in one array, one behind the other, and
each result has an entry for each segment, so that a thousand small partitions cost a few passes and
not a thousand calls. numpy only: the coordinator merges files and makes profiles of them too.

- **Points** stand for the distribution: values at equally spaced ranks of a sorted segment, each
  for the same share of it. Points of several segments are merged by weight, which adds no error to
  that of one segment: half the space between two ranks.
- **Hashes** stand for the distinct values: of each the upper 32 bits, kept below a threshold that
  is halved (a `level`) until few are left. The union of two sets below the higher level is the set
  of the union of the values (Gibbons, "Distinct Sampling for Highly-Accurate Answers to Distinct
  Values Queries", VLDB 2001).
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Words = NDArray[np.uint64]
    Halves = NDArray[np.uint32]
    Values = NDArray[Any]

# more values of a segment than these are not all sorted: a sample of as many is
SAMPLE_VALUES = 1 << 15
POINTS = (64, 256)  # of a segment whose values are all sorted; of a sampled one
HASHES = (128, 1024)  # about so many are kept, of the same
TOP = 10  # most frequent values of a segment
# of a text, which are hashed: of a longer one its beginning, its last word and its length
TEXT_BYTES = 256
_CHUNK = 1 << 14  # values that are hashed at once: they fit the processor's cache
_HASH_SPACE = float(1 << 32)
_MULTIPLY = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xD6E8FEB86659FD93),
)
_SHIFT = np.uint64(32)
_WORD_BYTES = 8
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(_WORD_BYTES + 1)], dtype=np.uint64)
_POSITION_BITS = 16  # of a key: the lower bits of a hash give way to a position in the sample
_POSITION_MASK = np.uint64((1 << _POSITION_BITS) - 1)


class Segments(NamedTuple):
    """Where segments lie in an array: `counts[i]` values from `starts[i]`."""

    starts: "Ints"
    counts: "Ints"

    @classmethod
    def of(cls, counts: "Ints") -> "Segments":
        return cls(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)[:-1]]), counts)

    @property
    def size(self) -> int:
        return int(self.counts.sum())


def reduced(function: Any, values: "Values", of: Segments, empty: Any) -> "Values":
    """Return a ufunc's reduction of each segment; `empty` for one without values."""
    kind = empty.dtype
    if of.counts.all():
        found: Values = function.reduceat(values, of.starts, dtype=kind)
        return found
    out = np.full(len(of.counts), empty, dtype=kind)
    held = of.counts > 0
    if held.any():
        out[held] = function.reduceat(values, of.starts[held], dtype=kind)
    return out


def moments(
    values: "Values", of: Segments, near: "NDArray[np.float64]", endless: bool = False
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Return the mean of each segment, and the sum of the squared distances from it; 0 without
    values.

    near     a value near those of each segment, from which distances are taken first: times would
             lose their digits
    endless  some values are infinite: they are left out
    """
    zero = np.float64(0.0)
    counts = of.counts
    with np.errstate(over="ignore", invalid="ignore"):  # of floats beyond 1e154: not finite then
        distances = values - np.repeat(near, of.counts)
        if endless:
            lacking = ~np.isfinite(values)
            distances[lacking] = 0.0
            counts = counts - reduced(np.add, lacking, of, np.int64(0))
        some = np.maximum(counts, 1)
        offset = reduced(np.add, distances, of, zero) / some
        np.square(distances, out=distances)
        squares = reduced(np.add, distances, of, zero) - some * offset**2
        mean = np.where(counts > 0, near + offset, 0.0)
    return mean, np.maximum(squares, 0.0)


def of_lengths(
    lengths: "Ints", of: Segments
) -> "tuple[Ints, Ints, NDArray[np.float64], NDArray[np.float64]]":
    """Return the smallest and the largest length of each segment, their mean and the sum of the
    squared distances from it."""
    zero, none = np.float64(0.0), np.int64(0)
    if len(of.counts) > 1 or len(lengths) <= _CHUNK:
        low, high = (reduced(f, lengths, of, none) for f in (np.minimum, np.maximum))
        sizes = lengths.astype(np.float64)
        total = reduced(np.add, sizes, of, zero)
        np.square(sizes, out=sizes)
        squares = reduced(np.add, sizes, of, zero)
    else:  # chunk by chunk: each fits the processor's cache
        pieces = [lengths[at : at + _CHUNK] for at in range(0, len(lengths), _CHUNK)]
        low = np.array([min(int(piece.min()) for piece in pieces)])
        high = np.array([max(int(piece.max()) for piece in pieces)])
        total = np.array([float(sum(int(piece.sum()) for piece in pieces))])
        squares = np.array([sum(float(np.square(p.astype(np.float64)).sum()) for p in pieces)])
    mean = total / np.maximum(of.counts, 1)
    return low, high, mean, np.maximum(squares - of.counts * mean**2, 0.0)


class Many(NamedTuple):
    """What is computed of all values of a segment that is too large to sort."""

    low: Any
    high: Any
    mean: float
    squares: float
    hashes: "Halves"  # that are kept, each once
    level: int
    distinct: int


def of_numbers(values: "Values", sampled: "Values", *, endless: bool) -> Many:
    """Look at every number of a large segment, chunk by chunk.

    sampled  values of a sample, ascending
    """
    near = float(sampled[len(sampled) // 2]) if np.isfinite(sampled[len(sampled) // 2]) else 0.0
    first, _ = runs(sampled, Segments.of(np.array([len(sampled)])))
    seen = _Seen(upper(hashed(sampled[first])))
    lows, highs, total, squares, count = [], [], 0.0, 0.0, 0
    words, room = np.empty(_CHUNK, np.uint64), np.empty(_CHUNK, np.uint64)
    distances = np.empty(_CHUNK, np.float64)
    kind = np.float64 if values.dtype.kind == "f" else np.int64
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), _CHUNK):
            some = values[start : start + _CHUNK].astype(kind, copy=False)
            size = len(some)
            lows.append(some.min())
            highs.append(some.max())
            seen.add(_numbers(some, words[:size], room[:size]))
            if endless:
                some = some[np.isfinite(some)]
                size = len(some)
            one = distances[:size]
            np.subtract(some, near, out=one)
            count += size
            total += float(one.sum())
            np.square(one, out=one)
            squares += float(one.sum())
    offset = total / max(count, 1)
    squares = max(squares - count * offset**2, 0.0)
    return Many(min(lows), max(highs), near + offset, squares, *seen.result())


class _Seen:
    """The distinct values of a segment, by the hashes that it is given chunk by chunk."""

    def __init__(self, sampled: "Halves") -> None:
        """sampled  hashes of a sample's distinct values: how many tells at which level to begin"""
        self._most = HASHES[1]
        self._level = int(level_of(np.array([len(sampled)]), np.array([self._most]))[0])
        self._table = None
        self._held = [below(sampled, self._level)]
        if not self._level:  # few values that repeat: those of the sample are known already
            self._table = np.zeros(1 << 16, np.uint32)
            self._table[0] = 1 << 16  # no hash with this upper half
            self._table[sampled >> 16] = sampled

    def add(self, hashes: "Words") -> None:
        """Take hashes, of which only the upper half counts."""
        if self._table is None:
            self._held.append(upper(hashes[hashes < np.uint64(1 << (64 - self._level))]))
            return
        halves = upper(hashes)
        self._held.append(halves[self._table[halves >> 16] != halves])

    def result(self) -> "tuple[Halves, int, int]":
        """Return the hashes that are kept, their level, and how many values are distinct."""
        held = each_once(np.concatenate(self._held))
        distinct = estimate(len(held), self._level)
        return (*at_most(held, self._level, self._most), distinct)


# ---------------------------------------------------------------- hashes


def hashed(values: "Values") -> "Words":
    """Return a hash of each number, of which the upper half counts: equal numbers of different
    widths have the same."""
    wide = values.astype(np.float64 if values.dtype.kind == "f" else np.int64, copy=False)
    return _numbers(wide, np.empty(len(wide), np.uint64), np.empty(len(wide), np.uint64))


def _numbers(values: "Values", out: "Words", room: "Words") -> "Words":
    np.multiply(np.ascontiguousarray(values).view(np.uint64), _MULTIPLY[0], out=out)
    np.right_shift(out, _SHIFT, out=room)
    np.bitwise_xor(out, room, out=out)
    np.multiply(out, _MULTIPLY[1], out=out)
    return out


def hashed_texts(starts: "Ints", lengths: "Ints", data: "NDArray[np.uint8]") -> "Words":
    """Return a hash of each text: `lengths[i]` bytes of `data` from `starts[i]`. Texts of more than
    256 bytes that differ only between their 248th and their last 8 bytes have the same."""
    out = np.empty(len(starts), np.uint64)
    for first in range(0, len(starts), _CHUNK):
        begin, length = starts[first : first + _CHUNK], lengths[first : first + _CHUNK]
        low, high = int(begin.min()), int((begin + length).max())
        held = data
        if high + _WORD_BYTES > len(data):  # a word is read beyond the end of the last text
            held = np.concatenate([data[low:high], np.zeros(_WORD_BYTES, np.uint8)])
            begin = begin - low
        out[first : first + _CHUNK] = _text_chunk(begin, length, held)
    return out


def _text_chunk(starts: "Ints", lengths: "Ints", data: "NDArray[np.uint8]") -> "Words":
    """Take in word after word of each text; the last one ends with the text, so only a text that is
    shorter than a word is masked."""
    loads: Words = np.ndarray((len(data) - _WORD_BYTES + 1,), np.uint64, data, strides=(1,))
    out = lengths.astype(np.uint64)
    out *= _MULTIPLY[1]
    least, most = int(lengths.min()), int(lengths.max())
    is_even = least == most and len(starts) > 1 and bool((np.diff(starts) == least).all())
    last = np.maximum(lengths - _WORD_BYTES, 0)
    for at in range(0, min(most, TEXT_BYTES), _WORD_BYTES):
        is_end = at + _WORD_BYTES >= TEXT_BYTES  # the last word of a text of any length
        if is_even:  # texts of one length, one behind the other: nothing is gathered
            begin = max(most - _WORD_BYTES, 0) if is_end else min(at, max(most - _WORD_BYTES, 0))
            words = loads[int(starts[0]) + begin :: most][: len(starts)]
            if most < _WORD_BYTES:
                words = words & _MASKS[most]
            _taken_in(out, words)
            continue
        longer = None if least > at else lengths > at
        some: Any = slice(None)
        if longer is not None and 2 * int(np.count_nonzero(longer)) < len(starts):
            some, longer = np.flatnonzero(longer), None
        end = last[some]
        words = loads[starts[some] + (end if is_end else np.minimum(end, at))]
        if at == 0 and least < _WORD_BYTES:
            words &= _MASKS[np.minimum(lengths[some], _WORD_BYTES)]
        part = out[some] if longer is None else out.copy()
        _taken_in(part, words)
        if longer is None:
            out[some] = part
        else:
            np.copyto(out, part, where=longer)
    return _finished(out)


def _taken_in(hashes: "Words", words: "Words") -> None:
    np.bitwise_xor(hashes, words, out=hashes)
    np.multiply(hashes, _MULTIPLY[0], out=hashes)
    np.bitwise_xor(hashes, hashes >> _SHIFT, out=hashes)


def _finished(hashes: "Words") -> "Words":
    np.multiply(hashes, _MULTIPLY[1], out=hashes)
    np.bitwise_xor(hashes, hashes >> _SHIFT, out=hashes)
    return hashes


def upper(hashes: "Words") -> "Halves":
    """Return the half of hashes that is kept."""
    return (hashes >> _SHIFT).astype(np.uint32)


def largest(levels: "Ints") -> "Halves":
    """Return the largest hash that is kept at each level."""
    return ((np.uint64(1 << 32) >> levels.astype(np.uint64)) - np.uint64(1)).astype(np.uint32)


def level_of(distinct: "Ints", kept: "Ints") -> "Ints":
    """Return the level at which about `kept` of so many distinct hashes are left, at most."""
    ratio = np.maximum(distinct, 1) / kept
    return np.maximum(np.ceil(np.log2(ratio)), 0).astype(np.int64)


def estimate(count: int, level: int) -> int:
    """Return how many distinct values have left `count` hashes at a level. Some values share their
    32 bits."""
    if level == 0 and count <= HASHES[1]:
        return count
    share = min(count * 2.0**level / _HASH_SPACE, 1 - 1e-9)
    return round(-_HASH_SPACE * float(np.log1p(-share)))


def each_once(hashes: "Halves") -> "Halves":
    """Return the different ones of some hashes, ascending. `np.unique` takes longer."""
    held = np.sort(hashes)
    first = np.empty(len(held), bool)
    first[:1] = True
    np.not_equal(held[1:], held[:-1], out=first[1:])
    return held[first]


def below(hashes: "Halves", level: int) -> "Halves":
    """Return the hashes that are kept at a level."""
    return hashes[hashes < np.uint64(1 << (32 - level))] if level else hashes


def at_most(hashes: "Halves", level: int, most: int) -> "tuple[Halves, int]":
    """Return different hashes at the lowest level at which `most` are left, and that level."""
    while len(hashes) > most:
        level += 1
        hashes = below(hashes, level)
    return hashes, level


def of_words(words: "Words", sampled: "Halves") -> "tuple[Halves, int, int]":
    """Return of a large segment of texts the hashes that are kept, their level, and how many texts
    are distinct.

    words    hashes of all texts
    sampled  upper halves of those of a sample, each once
    """
    seen = _Seen(sampled)
    for start in range(0, len(words), _CHUNK):
        seen.add(words[start : start + _CHUNK])
    return seen.result()


# ---------------------------------------------------------------- samples, points, runs


@functools.lru_cache(maxsize=16)
def sample(count: int, seed: int) -> "Ints":
    """Return `SAMPLE_VALUES` different places among `count`, ascending: one of each stretch of
    equal length, which follows from the seed."""
    strata = np.arange(SAMPLE_VALUES + 1, dtype=np.int64) * count // SAMPLE_VALUES
    jitter = hashed(np.arange(SAMPLE_VALUES, dtype=np.int64) + np.int64(seed))  # upper half
    widths = np.diff(strata)
    return strata[:-1] + (upper(jitter) % widths.astype(np.uint32)).astype(np.int64)


def spread(of: Segments, wanted: "Ints") -> "tuple[Ints, Ints]":
    """Return places at equally spaced ranks of each sorted segment, at most `wanted[i]` of it, and
    how many of each."""
    taken = np.minimum(of.counts, wanted)
    ends = np.cumsum(taken)
    rank = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - taken, taken)
    counts, shares = np.repeat(of.counts, taken), np.repeat(taken, taken)
    return np.repeat(of.starts, taken) + (2 * rank + 1) * counts // (2 * shares), taken


def runs(ordered: "Values", of: Segments) -> "tuple[Ints, Ints]":
    """Return where runs of equal values begin in sorted segments, and how many runs each has."""
    if not len(ordered):
        return np.zeros(0, np.int64), np.zeros(len(of.counts), np.int64)
    first = np.empty(len(ordered), bool)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    first[of.starts[of.counts > 0]] = True
    begin = np.flatnonzero(first)
    return begin, counted(begin, of)


def counted(places: "Ints", of: Segments) -> "Ints":
    """Return how many of some places, ascending, lie in each segment."""
    ends = np.searchsorted(places, of.starts + of.counts)
    return ends - np.searchsorted(places, of.starts)


def most_frequent(lengths: "Ints", of: Segments) -> "tuple[Ints, Ints]":
    """Return the numbers of the longest runs of each segment, the longest first, and how many of
    each: at most `TOP`. Where most values occur once these are not among them, unless a segment has
    few in all.

    lengths  of the runs, at most 65,535; `of` says which belong to a segment
    """
    few = np.repeat(of.counts <= TOP, of.counts)
    candidates = np.flatnonzero((lengths > 1) | few)
    segment = np.repeat(np.arange(len(of.counts)), of.counts)[candidates]
    packed = (
        segment.astype(np.uint64) << np.uint64(44)
        | (np.uint64(0xFFFF) - lengths[candidates].astype(np.uint64)) << np.uint64(28)
        | candidates.astype(np.uint64)
    )
    packed.sort()
    held = np.bincount(segment, minlength=len(of.counts)).astype(np.int64)
    taken = np.minimum(held, TOP)
    ends = np.cumsum(taken)
    rank = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - taken, taken)
    places = np.repeat(Segments.of(held).starts, taken) + rank
    return (packed[places] & np.uint64((1 << 28) - 1)).astype(np.int64), taken


def keyed(hashes: "Words", of: Segments) -> "Words":
    """Return hashes with the place in the segment in their lowest bits: sorted, they tell runs of
    equal values and where one of them stands. Segments have at most `SAMPLE_VALUES` values."""
    keys = hashes & ~_POSITION_MASK
    keys += np.arange(of.size, dtype=np.uint64)
    keys -= np.repeat(of.starts.astype(np.uint64), of.counts)
    return keys


def place_of(keys: "Words") -> "Ints":
    return (keys & _POSITION_MASK).astype(np.int64)


def without_place(keys: "Words") -> "Words":
    return keys >> np.uint64(_POSITION_BITS)
