"""Profiles of columns: what the values of each partition and column are like, kept beside each data
file of the lake. Called by `frames`, which writes them with the rows, and by whoever shows them.

A profile holds counts, moments and sketches (`sketches.py`), each of which can be merged: the
profile of a month is made of those of its days. It is derived from rows: a file without one, or
with a damaged one, loses nothing but the answer. It has its own name, size and SHA-256 in the data
file's record (`FileRef`), and comes and goes with it.

    <data file>-<16 digits of its digest>.profiles
        "SXP1", the size of what follows unpacked (8 bytes), a `ProfileFile` as MessagePack in zstd
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from sextant.kernel.errors import Damaged
from sextant.kernel.limits import PROFILE_BYTES_MAX
from sextant.kernel.nouns import FileRef
from sextant.stores import files as disk
from sextant.stores.lake.types import PARTITION, type_name

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from sextant.stores.lake.sketches import Segments

_MAGIC = b"SXP1"
_SUFFIX = ".profiles"
_NAME_DIGITS = 16
TEXT_CHARS = 100  # of a most frequent text that is kept
_EXACT_DECIMAL_DIGITS = 18  # of a decimal that fits 64 bits without its point

# What the numbers of a column are: values as they are stored (decimals without their point, times
# as their count of units), floats, lengths of texts and bytes, truths, or nothing but counts.
Form = Literal["int", "float", "text", "bytes", "bool", "none"]


class ColumnBlock(msgspec.Struct, frozen=True, array_like=True):
    """One column of a data file. What is `bytes` holds little-endian numbers, one for each
    partition where nothing else is said.

    scale     of a decimal in the form `int`: digits behind the point
    nulls     int64; `nans`, `infinite` too, empty where there are none
    low       int64 or float64, the smallest value: of texts, length; `high` the largest
    mean      float64, of finite values; `squares` the sum of squared distances from it; of truths
              `mean` is how many are true
    distinct  int64; `levels` uint8 and `hashes` uint32, `hash_counts` (int32) of each partition
    looked    int64: values that points and texts are drawn from, fewer than there are in a sample
    points    as `low`, `point_counts` (int32) of each partition
    texts     most frequent ones, `text_counts` (uint8) of each partition; `times` int64 for each;
              `complete` uint8: there are no others
    """

    name: str
    type: str
    form: Form
    scale: int
    nulls: bytes
    nans: bytes = b""
    infinite: bytes = b""
    low: bytes = b""
    high: bytes = b""
    mean: bytes = b""
    squares: bytes = b""
    distinct: bytes = b""
    levels: bytes = b""
    hash_counts: bytes = b""
    hashes: bytes = b""
    looked: bytes = b""
    point_counts: bytes = b""
    points: bytes = b""
    texts: tuple[str, ...] = ()
    text_counts: bytes = b""
    times: bytes = b""
    complete: bytes = b""


class ProfileFile(msgspec.Struct, frozen=True, array_like=True):
    """The profiles of a data file. `rows`: int64, of each partition."""

    partitions: tuple[str, ...]
    rows: bytes
    columns: tuple[ColumnBlock, ...]


# ---------------------------------------------------------------- making


class Written(NamedTuple):
    """A profile that was written: hex SHA-256 and size."""

    sha256: str
    size_bytes: int


def write(
    table: "pa.Table", sizes: Sequence[tuple[str, int]], *, root: Path | str, path: str
) -> Written:
    """Make and write the profiles of a data file's rows; synced (not its folder). StorageError on a
    full disk.

    sizes  see `made`
    path   of the data file
    """
    data = encode(made(table, sizes))
    sha256 = hashlib.sha256(data).hexdigest()
    disk.write(disk.join(root, place_of(path, sha256)), data, whole=False, final=True)
    return Written(sha256, len(data))


def place_of(path: str, sha256: str) -> str:
    """Return the path of the profiles of a data file."""
    return f"{path.removesuffix('.parquet')}-{sha256[:_NAME_DIGITS]}{_SUFFIX}"


def read(root: Path | str, file: FileRef, of: str = "") -> ProfileFile:
    """Read the profiles of a data file that has some. Damaged when they are missing or not what was
    written.

    of  asset and version that it belongs to, for the message
    """
    place = disk.join(root, place_of(file.path, file.profiles))
    about = f" of {of}" if of else ""
    try:
        with open(place, "rb") as opened:
            data = opened.read(file.profiles_bytes + 1)
    except FileNotFoundError as error:
        raise Damaged(
            "SX-LAKE-018", f"the profiles `{place}`{about} are missing", hint=_REMAKE
        ) from error
    except OSError as error:
        raise disk.refused(error, place) from error
    if hashlib.sha256(data).hexdigest() != file.profiles:
        raise _changed(place, about)
    try:
        return _decode(data)
    except (ValueError, OSError, msgspec.MsgspecError) as error:  # of a Sextant yet to come
        raise _changed(place, about) from error


def _changed(place: str, about: str) -> Damaged:
    return Damaged(
        "SX-LAKE-019", f"the profiles `{place}`{about} are not what was written", hint=_REMAKE
    )


_REMAKE = "`sextant doctor --data` makes them of the rows"


def _decode(data: bytes) -> ProfileFile:
    """Return a file's profiles. ValueError, OSError, MsgspecError for other bytes."""
    import pyarrow as pa

    head = len(_MAGIC) + 8
    size = int.from_bytes(data[len(_MAGIC) : head], "little")
    if data[: len(_MAGIC)] != _MAGIC or size > PROFILE_BYTES_MAX:
        raise ValueError("not the profiles of a file")
    unpacked = pa.Codec("zstd").decompress(data[head:], decompressed_size=size, asbytes=True)
    return msgspec.msgpack.decode(unpacked, type=ProfileFile)


def is_profiles(path: str) -> bool:
    """Say whether a file of the lake holds profiles."""
    return path.endswith(_SUFFIX)


def beside(files: Iterable[FileRef]) -> dict[str, FileRef]:
    """Return the paths of the profiles of data files that have some, with these files."""
    return {place_of(file.path, file.profiles): file for file in files if file.profiles}


def encode(profile: ProfileFile) -> bytes:
    """Return the bytes of a file: the same for the same rows."""
    import pyarrow as pa

    data = msgspec.msgpack.encode(profile)
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(data, asbytes=True)
    return _MAGIC + len(data).to_bytes(8, "little") + packed


def sizes_of(table: "pa.Table") -> list[tuple[str, int]]:
    """Return the partitions of labelled rows, which lie partition by partition, with how many rows
    each has."""
    import pyarrow.compute as pc

    labels = pc.run_end_encode(_single(table[PARTITION]))
    ends = labels.run_ends.to_pylist()
    counts = (end - start for start, end in zip([0, *ends], ends, strict=False))
    return list(zip(labels.values.to_pylist(), counts, strict=True))


def made(table: "pa.Table", sizes: Sequence[tuple[str, int]]) -> ProfileFile:
    """Return the profiles of rows (canonical types).

    sizes  the partitions and how many rows each has, as they lie
    """
    import numpy as np

    from sextant.stores.lake.sketches import Segments

    partitions = tuple(name for name, _ in sizes)
    rows = Segments.of(np.array([count for _, count in sizes], np.int64))
    seeds = [zlib.crc32(partition.encode()) for partition in partitions]
    named = [
        (field.name, column)
        for field, column in zip(table.schema, table.columns, strict=True)
        if field.name != PARTITION
    ]
    # of many rows one column after the other: what is made of one is as large as the column
    batches = [[one] for one in named] if rows.size > _LANE_VALUES else [named]
    blocks: list[ColumnBlock] = []
    for batch in batches:
        blocks += _blocks([_column(name, _single(column), rows) for name, column in batch], seeds)
    return ProfileFile(partitions, rows.counts.tobytes(), tuple(blocks))


def _blocks(columns: Sequence["_Column"], seeds: Sequence[int]) -> list[ColumnBlock]:
    """Return the blocks of columns, those of one form worked on together."""
    blocks = {column.name: _plain(column) for column in columns if column.form in ("none", "bool")}
    for form, make in (("int", _numbers), ("float", _numbers), ("text", _texts)):
        for lane in _lanes([c for c in columns if c.form in (form, _SAME_LANE.get(form))]):
            blocks.update(zip((column.name for column in lane), make(lane, seeds), strict=True))
    return [blocks[column.name] for column in columns]


_SAME_LANE = {"text": "bytes"}
# values of columns that are worked on together: many small columns cost no more calls than one.
# More at once take longer: what is worked on leaves the processor's cache, and its memory goes back
# to the system between two files
_LANE_VALUES = 1 << 15


class _Column(NamedTuple):
    """A column of a data file, taken apart.

    valid   which values are there; None = all
    values  of those that are there, and not NaN: numbers; hashes of texts; truths
    of      where the values of each partition lie
    """

    name: str
    type: str
    form: Form
    scale: int
    array: "pa.Array"
    nulls: "NDArray[np.int64]"
    valid: "NDArray[np.bool_] | None"
    values: "NDArray[Any]"
    of: "Segments"
    nans: "NDArray[np.int64] | None" = None
    endless: bool = False
    lengths: "NDArray[np.int64] | None" = None

    def block(self, **more: Any) -> ColumnBlock:
        return ColumnBlock(
            name=self.name,
            type=self.type,
            form=self.form,
            scale=self.scale,
            nulls=self.nulls.tobytes(),
            nans=b"" if self.nans is None else self.nans.tobytes(),
            **more,
        )


def _lanes(columns: Sequence[_Column]) -> Iterable[list[_Column]]:
    """Yield columns in groups that are worked on together."""
    lane: list[_Column] = []
    size = 0
    for column in columns:
        if lane and size + len(column.values) > _LANE_VALUES:
            yield lane
            lane, size = [], 0
        lane.append(column)
        size += len(column.values)
    if lane:
        yield lane


def _single(column: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _column(name: str, array: "pa.Array", rows: "Segments") -> _Column:
    import numpy as np
    import pyarrow as pa

    from sextant.stores.lake import sketches

    t, type_ = pa.types, array.type
    valid = None
    is_text = t.is_large_string(type_) or t.is_large_binary(type_)
    nulls = np.zeros(len(rows.counts), np.int64)
    of = rows
    if array.null_count:
        if len(nulls) > 1 or is_text:
            valid = array.is_valid().to_numpy(zero_copy_only=False)
        nulls[0] = array.null_count
        if valid is not None and len(nulls) > 1:
            nulls = sketches.counted(np.flatnonzero(~valid), rows)
        of = sketches.Segments.of(rows.counts - nulls)
    column = _Column(
        name, type_name(type_), "none", 0, array, nulls, valid, np.zeros(0, np.int64), of
    )
    if t.is_nested(type_):
        return column
    if is_text:
        return _hashed(column)
    values = _values(array)
    if t.is_boolean(type_):
        return column._replace(form="bool", values=values)
    if values.dtype.kind != "f":
        return column._replace(
            form="int", values=values, scale=type_.scale if t.is_decimal(type_) else 0
        )
    column = column._replace(form="float", values=values)
    with np.errstate(over="ignore", invalid="ignore"):
        if not len(values) or np.isfinite(values.sum(dtype=np.float64)):
            return column
    nan = np.isnan(values)
    if nan.any():
        nans = sketches.reduced(np.add, nan, of, np.int64(0))
        of = sketches.Segments.of(of.counts - nans)
        column = column._replace(values=values[~nan], of=of, nans=nans)
    return column._replace(endless=True)


def _values(array: "pa.Array") -> "NDArray[Any]":
    """Return the values that are there: int64, int32, floats or truths, read-only."""
    import numpy as np
    import pyarrow as pa

    held = array.drop_null() if array.null_count else array
    t, type_ = pa.types, held.type
    if t.is_decimal(type_):
        if type_.precision > _EXACT_DECIMAL_DIGITS:
            held = held.cast(pa.float64(), safe=False)
            floats: NDArray[Any] = held.to_numpy(zero_copy_only=False)
            return floats
        words = np.frombuffer(held.buffers()[1] or b"", np.int64)  # the lower half, then the upper
        return words[2 * held.offset : 2 * (held.offset + len(held)) : 2]
    if t.is_date32(type_):
        held = held.view(pa.int32())
    elif t.is_temporal(type_):
        held = held.view(pa.int64())
    values: NDArray[Any] = held.to_numpy(zero_copy_only=False)
    return values


def _hashed(column: _Column) -> _Column:
    """Return a column of texts or bytes with the hashes and lengths of those that are there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from sextant.stores.lake import sketches

    array = column.array
    if not len(array):
        return column._replace(form="text", values=np.zeros(0, np.uint64), lengths=column.values)
    offsets = np.frombuffer(
        array.buffers()[1], np.int64, count=len(array) + 1, offset=array.offset * 8
    )
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    starts, sizes = offsets[:-1], np.diff(offsets)
    if column.valid is not None:
        starts, sizes = starts[column.valid], sizes[column.valid]
    lengths, form = sizes, "bytes"
    if pa.types.is_large_string(array.type):
        form, held = "text", data[int(offsets[0]) : int(offsets[-1])]
        if len(held) and int(held.max()) >= 0x80:  # characters of several bytes
            some = array.drop_null() if array.null_count else array
            lengths = pc.utf8_length(some).to_numpy(zero_copy_only=False)
    words = sketches.hashed_texts(starts, sizes, data)
    return column._replace(form=form, values=words, lengths=lengths)  # type: ignore[arg-type]


def _plain(column: _Column) -> ColumnBlock:
    """Return the block of a column of which nothing is sorted."""
    import numpy as np

    from sextant.stores.lake import sketches

    if column.form == "none":
        return column.block()
    true = sketches.reduced(np.add, column.values, column.of, np.int64(0))
    distinct = (true > 0).astype(np.int64) + (true < column.of.counts)
    return column.block(mean=true.astype(np.float64).tobytes(), distinct=distinct.tobytes())


class _Drawn(NamedTuple):
    """Values of a lane's segments, column by column and partition by partition: all of small ones,
    a sample of large ones.

    of      all segments; `drawn` where their values lie in `values`
    large   segment -> its column, and where the sample stood among its values
    """

    of: "Segments"
    drawn: "Segments"
    values: "NDArray[Any]"
    large: Mapping[int, tuple[_Column, "slice", "NDArray[np.int64]"]]


def _drawn(lane: Sequence[_Column], seeds: Sequence[int]) -> _Drawn:
    import numpy as np

    from sextant.stores.lake import sketches

    of = sketches.Segments.of(np.concatenate([column.of.counts for column in lane]))
    drawn = sketches.Segments.of(np.minimum(of.counts, sketches.SAMPLE_VALUES))
    is_large = of.counts > sketches.SAMPLE_VALUES
    pieces, large = [], {}
    for number, column in enumerate(lane):
        if not is_large[number * len(seeds) : (number + 1) * len(seeds)].any():
            pieces.append(column.values)
            continue
        for n, (start, count) in enumerate(zip(*map(np.ndarray.tolist, column.of), strict=True)):
            some = column.values[start : start + count]
            if count > sketches.SAMPLE_VALUES:
                places = sketches.sample(count, seeds[n])
                large[number * len(seeds) + n] = (column, slice(start, start + count), places)
                some = some[places]
            pieces.append(some)
    kinds = {"f": np.float64, "u": np.uint64}
    kind = kinds.get(lane[0].values.dtype.kind, np.int64)
    values = np.empty(drawn.size, kind)
    if pieces:
        np.concatenate(pieces, out=values)
    return _Drawn(of, drawn, values, large)


def _sort(values: "NDArray[Any]", of: "Segments") -> None:
    """Sort each segment in place. Columns of the key, and times, often lie in order already."""
    import numpy as np

    falls = np.flatnonzero(values[1:] < values[:-1]) + 1
    if len(falls) < len(of.counts) and np.isin(falls, of.starts).all():
        return
    for start, count in zip(of.starts.tolist(), of.counts.tolist(), strict=True):
        values[start : start + count].sort()


def _numbers(lane: Sequence[_Column], seeds: Sequence[int]) -> list[ColumnBlock]:
    import numpy as np

    from sextant.stores.lake import sketches

    of, drawn, ordered, large = _drawn(lane, seeds)
    _sort(ordered, drawn)
    held = drawn.counts > 0
    starts, counts = drawn.starts[held], drawn.counts[held]
    low, high = (np.zeros(len(held), ordered.dtype) for _ in range(2))
    low[held], high[held] = ordered[starts], ordered[starts + counts - 1]
    near = np.zeros(len(held))
    near[held] = ordered[starts + counts // 2]
    endless = any(column.endless for column in lane)
    if endless:
        near[~np.isfinite(near)] = 0.0
    mean, squares = sketches.moments(ordered, drawn, near, endless)
    first, distinct = sketches.runs(ordered, drawn)
    sampled = sketches.upper(sketches.hashed(ordered[first]))
    found = {}
    for n, (column, where, _) in large.items():
        begin = int(drawn.starts[n])
        some = ordered[begin : begin + int(drawn.counts[n])]
        many = sketches.of_numbers(column.values[where], some, endless=column.endless)
        low[n], high[n], mean[n], squares[n] = many[:4]
        found[n] = many[4:]
    wanted = np.where(of.counts > drawn.counts, sketches.POINTS[1], sketches.POINTS[0])
    places, point_counts = sketches.spread(drawn, wanted)
    cut = _Cut(len(lane), len(seeds))
    per_segment = {
        "low": low,
        "high": high,
        "mean": mean,
        "squares": squares,
        "looked": drawn.counts,
        "point_counts": point_counts.astype(np.int32),
    }
    distinct_fields = _distinct(sampled, distinct, found, cut)
    points = cut.ragged(ordered[places], point_counts)
    infinite = (
        cut.even(sketches.reduced(np.add, np.isinf(ordered), drawn, np.int64(0)))
        if endless and not large
        else [
            sketches.reduced(np.add, np.isinf(column.values), column.of, np.int64(0)).tobytes()
            if column.endless
            else b""
            for column in lane
        ]
    )
    even = {name: cut.even(values) for name, values in per_segment.items()}
    return [
        column.block(
            **{name: values[n] for name, values in even.items()},
            **{name: values[n] for name, values in distinct_fields.items()},
            points=points[n],
            infinite=infinite[n],
        )
        for n, column in enumerate(lane)
    ]


class _Cut(NamedTuple):
    """Cuts what was computed of a lane into what belongs to each column."""

    columns: int
    partitions: int

    def even(self, values: "NDArray[Any]") -> list[bytes]:
        """Cut an array with one value for each segment."""
        return [
            values[n * self.partitions : (n + 1) * self.partitions].tobytes()
            for n in range(self.columns)
        ]

    def ends(self, counts: "NDArray[Any]") -> list[int]:
        """Return where the values of each column end, and 0 before."""
        import numpy as np

        ends = np.cumsum(counts)
        return [0, *(int(ends[(n + 1) * self.partitions - 1]) for n in range(self.columns))]

    def ragged(self, values: "NDArray[Any]", counts: "NDArray[Any]") -> list[bytes]:
        """Cut an array with `counts[i]` values for each segment."""
        ends = self.ends(counts)
        return [values[ends[n] : ends[n + 1]].tobytes() for n in range(self.columns)]


def _distinct(
    hashes: "NDArray[np.uint32]",
    distinct: "NDArray[np.int64]",
    found: Mapping[int, tuple["NDArray[np.uint32]", int, int]],
    cut: _Cut,
) -> dict[str, list[bytes]]:
    """Return the fields of blocks about distinct values, column by column.

    hashes    of the distinct values that were drawn, `distinct[i]` of each segment
    found     of large segments: the hashes that are kept, their level, how many are distinct
    """
    import numpy as np

    from sextant.stores.lake import sketches

    levels = sketches.level_of(distinct, np.full(len(distinct), sketches.HASHES[0]))
    kept = np.flatnonzero(hashes <= np.repeat(sketches.largest(levels), distinct))
    counts = sketches.counted(kept, sketches.Segments.of(distinct))
    held = hashes[kept]
    if found:
        distinct, pieces = distinct.copy(), []
        starts = sketches.Segments.of(counts).starts.tolist()
        for n, start in enumerate(starts):
            piece = held[start : start + int(counts[n])]
            if n in found:
                piece, levels[n], distinct[n] = found[n]
                counts[n] = len(piece)
            pieces.append(piece)
        held = np.concatenate(pieces)
    return {
        "distinct": cut.even(distinct),
        "levels": cut.even(levels.astype(np.uint8)),
        "hash_counts": cut.even(counts.astype(np.int32)),
        "hashes": cut.ragged(held, counts),
    }


def _texts(lane: Sequence[_Column], seeds: Sequence[int]) -> list[ColumnBlock]:
    """Return the blocks of texts and bytes: `low`, `high`, `mean` and `squares` are of their
    lengths, in characters or bytes."""
    import numpy as np

    from sextant.stores.lake import sketches

    of, drawn, words, large = _drawn(lane, seeds)
    lengths = np.concatenate([column.lengths for column in lane])
    low, high, mean, squares = sketches.of_lengths(lengths, of)
    keys = sketches.keyed(words, drawn)
    _sort(keys, drawn)
    first, distinct = sketches.runs(sketches.without_place(keys), drawn)
    sampled = sketches.upper(keys[first])
    looked = sketches.Segments.of(distinct)
    found = {}
    for n, (column, where, _) in large.items():
        begin = int(looked.starts[n])
        some = sketches.each_once(sampled[begin : begin + int(looked.counts[n])])
        found[n] = sketches.of_words(column.values[where], some)
    times = np.diff(first, append=len(keys))
    chosen, taken = sketches.most_frequent(times, looked)
    segment = np.repeat(np.arange(len(taken)), taken)
    at = sketches.place_of(keys[first[chosen]])
    for n, (_, _, places) in large.items():
        here = segment == n
        at[here] = places[at[here]]
    complete = (distinct == taken) & (drawn.counts == of.counts)
    cut = _Cut(len(lane), len(seeds))
    per_segment = {
        "low": low,
        "high": high,
        "mean": mean,
        "squares": squares,
        "looked": drawn.counts,
    }
    even = {name: cut.even(values) for name, values in per_segment.items()}
    distinct_fields = _distinct(sampled, distinct, found, cut)
    text_counts = cut.even(taken.astype(np.uint8))
    completes, all_times = cut.even(complete.astype(np.uint8)), cut.ragged(times[chosen], taken)
    ends = cut.ends(taken)
    blocks = []
    for n, column in enumerate(lane):
        mine = slice(ends[n], ends[n + 1])
        places = at[mine] + column.of.starts[segment[mine] - n * len(seeds)]
        more: dict[str, Any] = {}
        if column.form == "text":
            more = {
                "texts": _taken(column, places),
                "text_counts": text_counts[n],
                "times": all_times[n],
                "complete": completes[n],
            }
        blocks.append(
            column.block(
                **{name: values[n] for name, values in even.items()},
                **{name: values[n] for name, values in distinct_fields.items()},
                **more,
            )
        )
    return blocks


def _taken(column: _Column, places: "NDArray[np.int64]") -> tuple[str, ...]:
    """Return texts of a column, by their places among those that are there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(places):
        return ()
    if column.valid is not None:
        places = np.flatnonzero(column.valid)[places]
    texts = column.array.take(pa.array(places))
    return tuple(pc.utf8_slice_codeunits(texts, 0, TEXT_CHARS).to_pylist())
