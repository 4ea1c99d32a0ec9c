"""Profiles of columns against exact answers: of one partition, and of many merged."""

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import FileRef
from sextant.stores.lake import frames, merged, profiles, sketches
from sextant.stores.lake.merged import ColumnProfile

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def stored(
    root: Path, parts: dict[str, pa.Table], *, grain: Any = "static"
) -> tuple[list[FileRef], tuple[tuple[str, str], ...]]:
    """Write partitions as a step does; return their files and columns."""
    rows = frames.arrange(list(parts.items()))
    outputs = frames.write_many(rows, root=root, staging="t/data/o", grain=grain)
    files = {file.path: file for output in outputs for file in output.files}
    return list(files.values()), frames.schema_of(rows[0].table)


def column_of(root: Path, values: list[pa.Array], *, grain: Any = "static") -> ColumnProfile:
    """Return the profile of one column over some partitions."""
    parts = {f"2020-01-{n + 1:02}": pa.table({"v": one}) for n, one in enumerate(values)}
    files, schema = stored(root, parts, grain=grain)
    found = merged.merged(root, files, schema)
    assert found.missing == ()
    assert found.rows == sum(map(len, values))
    return found.columns[0]


def rank_errors(column: ColumnProfile, values: np.ndarray[Any, Any]) -> list[float]:
    """Return how far the ranks of quantiles are from where they should be, as shares."""
    ordered = np.sort(values)
    out = []
    for share, found in zip(SHARES, column.quantiles(SHARES), strict=True):
        low = np.searchsorted(ordered, found, side="left") / len(ordered)
        high = np.searchsorted(ordered, found, side="right") / len(ordered)
        out.append(max(low - share, share - high, 0.0))
    return out


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("sizes", [(1000,) * 31, (40_000, 500, 1), (200_000,)])
def test_numbers_are_as_computed_of_all_rows(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Somebody would see a mean, a range or quantiles that are not those of the rows."""
    rng = np.random.default_rng(7)
    values = [np.round(rng.lognormal(3, 1, size), 2) for size in sizes]
    column = column_of(tmp_path, [pa.array(one) for one in values], grain="daily")
    every = np.concatenate(values)
    assert (column.rows, column.nulls, column.nans) == (len(every), 0, 0)
    assert (column.low, column.high) == (every.min(), every.max())
    assert column.average() == pytest.approx(every.mean(), rel=1e-12)
    assert column.deviation() == pytest.approx(every.std(), rel=1e-9)
    assert max(rank_errors(column, every)) < 0.01
    distinct, error = column.distinct()
    assert abs(distinct / len(np.unique(every)) - 1) <= max(4 * error, 1e-4)
    edges, counts = column.histogram(20)
    assert (edges[0], edges[-1]) == (column.low, column.high)
    assert sum(counts) == pytest.approx(len(every), abs=20)
    exact = np.histogram(every, bins=edges)[0]
    assert np.abs(np.cumsum(counts) - np.cumsum(exact)).max() / len(every) < 0.02
    assert (column.looked < column.values) == (max(sizes) > sketches.SAMPLE_VALUES)


def test_few_values_are_exact(tmp_path: Path) -> None:
    """A small table would show estimates where it can be counted."""
    column = column_of(tmp_path, [pa.array([3, 1, None, 2]), pa.array([2, 2, 9])])
    assert column.quantiles((0.0001, 0.5, 1.0)) == [1, 2, 9]
    assert column.distinct() == (4, 0.0)
    assert (column.low, column.high, column.nulls, column.values) == (1, 9, 1, 6)
    assert column.average() == pytest.approx(19 / 6)
    edges, counts = column.histogram(20)
    assert (edges[0], edges[-1], len(counts), sum(counts)) == (1, 10, 9, 6)
    assert counts[:3] == [1, 3, 1]


def test_whole_numbers_keep_their_last_digit(tmp_path: Path) -> None:
    """Ids above 2^53 would be shown as others."""
    big = 2**53 + 1
    column = column_of(tmp_path, [pa.array([big, big + 2, -(2**63), 2**63 - 1])])
    assert (column.low, column.high) == (-(2**63), 2**63 - 1)
    assert column.quantiles((0.5,)) == [big]
    edges, counts = column.histogram(20)
    assert edges[0] == -(2**63)
    assert edges[-1] >= 2**63 - 1
    assert sum(counts) == 4


def test_times_keep_their_microseconds(tmp_path: Path) -> None:
    """A mean of instants would be off by what a float of 1.6e15 loses in squares."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    times = [start + timedelta(microseconds=n) for n in range(1001)]
    column = column_of(tmp_path, [pa.array(times, pa.timestamp("us", "UTC"))])
    assert column.average() == pytest.approx(start.timestamp() * 1e6 + 500, abs=0.5)
    assert column.deviation() == pytest.approx(np.arange(1001).std(), rel=1e-6)


def test_what_is_no_number_is_counted_and_left_out(tmp_path: Path) -> None:
    """One infinity would make a mean useless, and NaN every quantile."""
    inf = float("inf")
    table = pa.table({"v": pa.array([1.0, inf, -inf, 3.0, None, 2.0])})
    files, schema = stored(tmp_path, {"a": table})
    column = merged.merged(tmp_path, files, schema).columns[0]
    assert (column.infinite, column.nulls, column.values) == (2, 1, 5)
    assert (column.low, column.high) == (-inf, inf)
    assert column.average() == 2.0
    assert column.histogram(2) == ([1.0, 2.0, 3.0], [1, 2])
    with_nan = pa.table({"v": pa.array([math.nan, 1.0, None]), "_partition": ["a"] * 3})
    block = profiles.made(with_nan, [("a", 3)]).columns[0]
    assert np.frombuffer(block.nans, np.int64).tolist() == [1]
    assert np.frombuffer(block.low).tolist() == [1.0]


def test_a_large_partition_with_infinities(tmp_path: Path) -> None:
    """Infinities of a partition that is not sorted whole would get into its mean."""
    values = np.concatenate([np.full(3, np.inf), np.arange(50_000.0), [-np.inf]])
    column = column_of(tmp_path, [pa.array(values)])
    assert column.infinite == 4
    assert column.average() == pytest.approx(24_999.5)
    assert (column.low, column.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("digits", [9, 18, 30])
def test_decimals(tmp_path: Path, digits: int) -> None:
    """An amount would lose its point, or be taken for another number."""
    amounts = [Decimal("-1.50"), Decimal("2.25"), None, Decimal("1000.00")]
    column = column_of(tmp_path, [pa.array(amounts, pa.decimal128(digits, 2))])
    factor = 10.0**-column.scale
    assert column.low * factor == -1.5  # type: ignore[operator]
    assert column.high * factor == 1000.0  # type: ignore[operator]
    assert column.average() * factor == pytest.approx(1000.75 / 3)  # type: ignore[operator]
    assert column.distinct() == (3, 0.0)


def test_a_widened_column_is_one(tmp_path: Path) -> None:
    """A column would have two profiles, or count equal numbers twice, where its type was widened
    between two partitions."""
    narrow, schema_a = stored(tmp_path, {"a": pa.table({"v": pa.array([1, 2], pa.int32())})})
    wide, _ = stored(tmp_path, {"b": pa.table({"v": pa.array([2, 2**40])})})
    del schema_a
    column = merged.merged(tmp_path, [*narrow, *wide], (("v", "int64"),)).columns[0]
    assert column.distinct() == (3, 0.0)
    assert (column.low, column.high) == (1, 2**40)
    one, _ = stored(
        tmp_path, {"c": pa.table({"d": pa.array([Decimal("1.5")], pa.decimal128(9, 1))})}
    )
    two, _ = stored(
        tmp_path, {"d": pa.table({"d": pa.array([Decimal("2.5")], pa.decimal128(30, 1))})}
    )
    column = merged.merged(tmp_path, [*one, *two], (("d", "decimal(30,1)"),)).columns[0]
    assert (column.form, column.low, column.high) == ("float", 1.5, 2.5)
    assert column.average() == 2.0


# ---------------------------------------------------------------- texts, truths, others


@pytest.mark.parametrize("size", [900, 50_000])
def test_texts(tmp_path: Path, size: int) -> None:
    """The most frequent texts would be others than those of the rows."""
    rng = np.random.default_rng(3)
    words = [f"w{n % 7 if n % 3 else n}é" for n in rng.integers(0, 5000, size)]
    values = [pa.array(words[n::4]) for n in range(4)]
    column = column_of(tmp_path, values)
    exact = Counter(words)
    frequent = column.frequent(7)
    assert {text for text, _ in frequent} == {f"w{n}é" for n in range(7)}
    for text, count in frequent:
        assert count == pytest.approx(exact[text], rel=0.1)
    assert not column.complete
    assert (column.low, column.high) == (3, max(map(len, words)))  # characters, not bytes
    assert column.average() == pytest.approx(np.mean([len(word) for word in words]))
    distinct, error = column.distinct()
    assert abs(distinct / len(exact) - 1) <= max(4 * error, 1e-4)


def test_few_different_texts_are_counted_exactly(tmp_path: Path) -> None:
    """Counts of a category would be called approximate, or be it."""
    column = column_of(tmp_path, [pa.array(["a", "", None, "a"]), pa.array(["b", "a"])])
    assert column.frequent(10) == [("a", 3), ("", 1), ("b", 1)]
    assert column.complete
    assert column.distinct() == (3, 0.0)


def test_truths_bytes_and_nested(tmp_path: Path) -> None:
    """A column of such a type would fail the step that makes it."""
    table = pa.table(
        {
            "b": pa.array([True, None, False, True]),
            "y": pa.array([b"\x00\xff", None, b"", b"\x00\xff"], pa.large_binary()),
            "l": pa.array([[1], None, [], [2, 3]], pa.large_list(pa.int64())),
            "s": pa.array([{"x": 1}, None, {"x": None}, {"x": 2}]),
            "n": pa.array([None] * 4, pa.int64()),
        }
    )
    files, schema = stored(tmp_path, {"a": table})
    b, y, nested, struct, none = merged.merged(tmp_path, files, schema).columns
    assert b.frequent(2) == [("true", 2), ("false", 1)]
    assert (b.distinct(), b.share_true()) == ((2, 0.0), 2 / 3)
    assert (y.distinct(), y.low, y.high, y.nulls) == ((2, 0.0), 0, 2, 1)
    assert (nested.form, nested.nulls, struct.nulls) == ("none", 1, 1)
    assert (none.values, none.low, none.quantiles(SHARES), none.histogram(5)) == (
        0,
        None,
        [],
        ([], []),
    )


def test_long_texts_are_told_apart(tmp_path: Path) -> None:
    """Texts that begin alike would count as one."""
    start = "https://example.org/a/very/long/path/" * 4
    texts = [f"{start}{n}" for n in range(300)]
    assert column_of(tmp_path, [pa.array(texts)]).distinct() == (300, 0.0)


# ---------------------------------------------------------------- merging


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_parts_together_are_the_whole(data: st.DataObject, tmp_path_factory: Any) -> None:
    """A profile of a month would differ from that of its rows by more than it says."""
    kinds: dict[str, tuple[Any, Any]] = {
        "int64": (st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), pa.int64()),
        "int32": (st.integers(-(2**31), 2**31 - 1), pa.int32()),
        "float64": (st.floats(allow_nan=False) | st.sampled_from([0.0, 1.5]), pa.float64()),
        "float32": (st.floats(width=32, allow_nan=False), pa.float32()),
        "string": (
            st.text(max_size=30) | st.sampled_from(["", "a", "\x00", "😀"]),
            pa.large_string(),
        ),
        "binary": (st.binary(max_size=300), pa.large_binary()),
        "bool": (st.booleans(), pa.bool_()),
        "date": (st.dates(), pa.date32()),
        "timestamp": (st.datetimes(), pa.timestamp("us")),
        "decimal": (st.decimals(-999, 999, places=2, allow_nan=False), pa.decimal128(9, 2)),
    }
    name = data.draw(st.sampled_from(sorted(kinds)))
    values, type_ = kinds[name]
    rows = data.draw(st.lists(st.lists(st.none() | values, max_size=40), min_size=1, max_size=5))
    arrays = [pa.array(one, type_) for one in rows]
    root = tmp_path_factory.mktemp("lake")
    parts = {f"2020-01-{n + 1:02}": pa.table({"v": one}) for n, one in enumerate(arrays)}
    grain = data.draw(st.sampled_from(["daily", "static"]))
    files, schema = stored(root, parts, grain=grain)
    column = merged.merged(root, files, schema).columns[0]
    every = frames.canonical(pa.table({"v": pa.concat_arrays(arrays)}))["v"].combine_chunks()
    there = every.drop_null()
    assert (column.rows, column.nulls) == (len(every), every.null_count)
    if not len(there):
        assert column.distinct()[0] == 0
        return
    if pa.types.is_floating(there.type):
        there = pc.add(there, 0.0)  # -0.0 is the same number as 0.0, as in SQL
    distinct = len(there.unique())
    if name != "binary":  # 300 bytes may differ where they are not hashed
        assert column.distinct() == (distinct, 0.0)
    if name in ("string", "bool"):
        counts = {one["values"]: one["counts"] for one in pc.value_counts(there).to_pylist()}
        if column.complete:
            told = {str(key).lower() if name == "bool" else key: n for key, n in counts.items()}
            assert dict(column.frequent(100)) == told
        else:
            assert max(len(one) for one in rows) > sketches.TOP
        return
    if name == "binary":
        assert (column.low, column.high) == (
            min(len(v.as_py()) for v in there),
            max(len(v.as_py()) for v in there),
        )
        return
    numbers = _as_numbers(there)
    assert (column.low, column.high) == (min(numbers), max(numbers))
    finite = [one for one in numbers if math.isfinite(one)]
    assert column.infinite == len(numbers) - len(finite)
    if finite and max(map(abs, finite)) < 1e150:
        assert column.average() == pytest.approx(
            math.fsum(finite) / len(finite), rel=1e-9, abs=1e-3
        )
    # all values are points: quantiles are exact
    ordered = sorted(numbers)
    wanted = [ordered[max(math.ceil(share * len(ordered)) - 1, 0)] for share in SHARES]
    assert column.quantiles(SHARES) == wanted
    assert sum(column.histogram(20)[1]) == pytest.approx(len(finite), abs=1)


def _as_numbers(values: pa.Array) -> list[Any]:
    """Return values as profiles hold them: counts of days or microseconds, decimals without their
    point."""
    t = pa.types
    if t.is_decimal(values.type):
        return [int(one.as_py().scaleb(values.type.scale)) for one in values]
    if t.is_date32(values.type):
        return [(one.as_py() - date(1970, 1, 1)).days for one in values]
    if t.is_timestamp(values.type):
        return values.cast(pa.int64()).to_pylist()
    return values.to_pylist()


def test_many_points_are_thinned_and_hashes_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile of ten thousand partitions would take memory without end, or lose its shape."""
    monkeypatch.setattr(merged, "PROFILE_POINTS_MAX", 10_000)
    monkeypatch.setattr(merged, "PROFILE_HASHES_MAX", 500)
    rng = np.random.default_rng(5)
    parts = [rng.normal(n % 5, 1, 400) for n in range(300)]
    tables = {f"p{n}": pa.table({"v": one}) for n, one in enumerate(parts)}
    files, schema = stored(tmp_path, tables)
    column = merged.merged(tmp_path, files, schema).columns[0]
    every = np.concatenate(parts)
    assert len(column.points()[0]) <= 10_000
    assert column.points()[1].sum() == pytest.approx(len(every))
    assert max(rank_errors(column, every)) < 0.01
    distinct, error = column.distinct()
    assert 0 < error < 0.1
    assert abs(distinct / len(every) - 1) < 4 * error


def test_shift_is_the_largest_distance_of_shares(tmp_path: Path) -> None:
    """Two versions would be called alike, or apart, when they are not."""
    same = column_of(tmp_path, [pa.array(np.arange(1000.0))])
    moved = column_of(tmp_path, [pa.array(np.arange(1000.0) + 250)])
    other = column_of(tmp_path, [pa.array(np.arange(1000.0) + 5000)])
    text = column_of(tmp_path, [pa.array(["a"])])
    assert merged.apart(same, same) == 0.0
    assert merged.apart(same, moved) == pytest.approx(0.25, abs=0.02)
    assert merged.apart(same, other) == 1.0
    assert merged.apart(same, text) is None


# ---------------------------------------------------------------- files


def test_the_same_rows_have_the_same_profile(tmp_path: Path) -> None:
    """A file that is made again of its rows would not fit its record."""
    rng = np.random.default_rng(1)
    table = pa.table({"n": rng.integers(0, 99, 70_000), "s": [f"t{n}" for n in range(70_000)]})
    first, _ = stored(tmp_path / "a", {"p": table})
    again, _ = stored(tmp_path / "b", {"p": table.slice(30_000), "q": table.slice(0, 5)})
    third, _ = stored(tmp_path / "c", {"p": table.take(pa.array(rng.permutation(70_000)))})
    assert first[0].profiles == third[0].profiles != again[0].profiles
    assert first[0].profiles_bytes < first[0].size_bytes / 10


def test_only_chosen_partitions_count(tmp_path: Path) -> None:
    """A profile of one day would have rows of its neighbours, which lie in the same file."""
    parts = {f"2020-01-{n + 1:02}": pa.table({"v": [n, n, 50 + n]}) for n in range(5)}
    files, schema = stored(tmp_path, parts, grain="daily")
    assert len(files) == 1
    found = merged.merged(tmp_path, files, schema, {"2020-01-02", "2020-01-04"})
    column = found.columns[0]
    assert (found.rows, found.partitions) == (6, 2)
    assert sorted(column.points()[0].tolist()) == [1, 1, 3, 3, 51, 53]
    assert column.distinct() == (4, 0.0)


def test_a_column_that_files_lack_is_null(tmp_path: Path) -> None:
    """A column that was added later would look complete."""
    files, _ = stored(tmp_path, {"a": pa.table({"v": [1, 2]})})
    found = merged.merged(tmp_path, files, (("v", "int64"), ("w", "string")))
    assert [(one.rows, one.nulls) for one in found.columns] == [(2, 0), (2, 2)]


@pytest.mark.parametrize("how", ["gone", "changed", "cut", "longer"])
def test_damage_is_said_and_the_rest_is_shown(tmp_path: Path, how: str) -> None:
    """A damaged profile would be shown as it is, or hide those of all other files."""
    files, schema = stored(tmp_path, {"a": pa.table({"v": [1, 2]}), "b": pa.table({"v": [3]})})
    place = tmp_path / profiles.place_of(files[0].path, files[0].profiles)
    data = place.read_bytes()
    place.unlink()
    if how != "gone":
        new = {"changed": data[:-1] + b"\x00", "cut": data[:-3], "longer": data + b"x"}[how]
        place.write_bytes(new)
    with pytest.raises(Damaged, match=r"profiles.*doctor|profiles"):
        profiles.read(tmp_path, files[0])
    found = merged.merged(tmp_path, files, schema)
    assert (found.rows, found.missing, len(found.damaged)) == (1, files[0].partitions, 1)


def test_files_without_profiles_are_missing(tmp_path: Path) -> None:
    """Partitions of an earlier release would silently count as empty."""
    files, schema = stored(tmp_path, {"a": pa.table({"v": [1, 2]}), "b": pa.table({"v": [3]})})
    old = FileRef(path=files[0].path, rows=2, size_bytes=1, partitions=files[0].partitions)
    found = merged.merged(tmp_path, [old, files[1]], schema)
    assert (found.rows, found.missing, found.damaged) == (1, ("a",), ())
