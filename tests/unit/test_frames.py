"""Frames into files and back: canonical form, digests, reading, splitting, comparing."""

import decimal
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sextant.kernel.errors import BadData, Damaged, UsageError
from sextant.kernel.partitions import Partitioning
from sextant.stores.lake import frames, types

AT = datetime(2013, 2, 9, 12, tzinfo=UTC)
ROWS = {
    "n": [1, 2, None, 4],
    "x": [1.5, float("nan"), None, -0.0],
    "s": ["a", None, "ü", ""],
    "b": [True, None, False, True],
    "t": [AT, None, AT + timedelta(days=1), AT],
    "d": [date(2013, 1, 1), None, None, date(2013, 1, 2)],
    "m": [decimal.Decimal("1.50"), None, decimal.Decimal("-2.25"), decimal.Decimal("0.00")],
    "l": [[1, 2], None, [], [None]],
    "o": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": None}],
}


def sample() -> pa.Table:
    return frames.canonical(frames.to_arrow(pl.DataFrame(ROWS)))


# ---------------------------------------------------------------- to_arrow and canonical


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda t: pl.from_arrow(t), id="polars"),
        pytest.param(lambda t: pl.from_arrow(t).lazy(), id="polars lazy"),
        pytest.param(lambda t: t.to_pandas(), id="pandas"),
        pytest.param(lambda t: t, id="pyarrow"),
        pytest.param(lambda t: t.to_batches()[0], id="record batch"),
        pytest.param(lambda t: t.to_reader(), id="reader"),
        pytest.param(lambda t: duckdb.connect().from_arrow(t), id="duckdb"),
    ],
)
def test_every_frame_becomes_the_same_table(make: Callable[[pa.Table], Any]) -> None:
    """The library that an author uses would change a dataset's content."""
    plain = pa.table(
        {
            "n": pa.array([1, 2, 3]),
            "s": pa.array(["a", "b", None], pa.large_string()),
            "t": pa.array([AT] * 3, pa.timestamp("us", "UTC")),
        }
    )
    table = frames.canonical(frames.to_arrow(make(plain)))
    assert frames.schema_of(table) == (("n", "int64"), ("s", "string"), ("t", "timestamptz"))
    assert frames.digest(table, ["n"]) == frames.digest(plain, ["n"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "nothing"),
        ([1], "list"),
        ({"a": [1]}, "dict"),
        (pl.Series([1]), "Series"),
        (3, "int"),
    ],
)
def test_anything_else_is_refused_by_name(value: Any, said: str) -> None:
    """An author who forgot `return` would get an error about something else."""
    with pytest.raises(BadData, match=said):
        frames.to_arrow(value)


def test_a_named_pandas_index_becomes_columns_and_a_filtered_one_does_not() -> None:
    """Grouping keys of pandas would be lost, or a meaningless index column stored."""
    frame = pd.DataFrame({"a": [1, 1, 2], "b": [1.0, 2.0, 3.0]})
    assert frames.to_arrow(frame.groupby("a").sum()).column_names == ["a", "b"]
    assert frames.to_arrow(frame[frame.a == 2]).column_names == ["a", "b"]


def test_canonical_types() -> None:
    """One content would be stored in several forms, or in a form that Iceberg refuses."""
    table = pa.table(
        {
            "i8": pa.array([1], pa.int8()),
            "u32": pa.array([1], pa.uint32()),
            "u64": pa.array([1], pa.uint64()),
            "f16": pa.array([np.float16(1)], pa.float16()),
            "cat": pa.array(["x"]).dictionary_encode(),
            "sv": pa.array(["x"], pa.string_view()),
            "bin": pa.array([b"x"], pa.binary(1)),
            "ns": pa.array([1_500], pa.timestamp("ns")),
            "tz": pa.array([0], pa.timestamp("ms", "America/New_York")),
            "time": pa.array([1_000], pa.time64("ns")),
            "d64": pa.array([0], pa.date64()),
            "dec": pa.array([decimal.Decimal("1.5")], pa.decimal256(10, 2)),
            "l": pa.array([[1]], pa.list_(pa.int16(), 1)),
            "st": pa.array([{"a b": [1]}], pa.struct([("a b", pa.list_(pa.int8()))])),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "uuid": pa.array([b"\0" * 16], pa.uuid()),
        }
    )
    done = frames.canonical(table)
    assert dict(frames.schema_of(done)) == {
        "i8": "int32",
        "u32": "int64",
        "u64": "int64",
        "f16": "float32",
        "cat": "string",
        "sv": "string",
        "bin": "binary",
        "ns": "timestamp",
        "tz": "timestamptz",
        "time": "time",
        "d64": "date",
        "dec": "decimal(10,2)",
        "l": "list<int32>",
        "st": 'struct<"a b": list<int32>>',
        "map": "map<string, int64>",
        "uuid": "string",
    }
    assert done["ns"].to_pylist() == [datetime(1970, 1, 1, 0, 0, 0, 1)]
    assert done["uuid"].to_pylist() == ["00000000-0000-0000-0000-000000000000"]
    assert frames.canonical(done).schema == done.schema


def test_type_names_read_back() -> None:
    """A column missing in an old file could not be made from the schema that a version records."""
    for field in sample().schema:
        assert types.type_of(types.type_name(field.type)) == field.type
    odd = 'map<string, struct<a: decimal(10,2), "b, c": list<timestamptz>>>'
    assert types.type_name(types.type_of(odd)) == odd
    with pytest.raises(BadData, match="varchar"):
        types.type_of("varchar")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"wait": pa.array([1], pa.duration("s"))}), "wait"),
        (pa.table({"big": pa.array([2**64 - 1], pa.uint64())}), "big"),
        (pa.table({"gone": pa.nulls(2)}), "gone"),
        (pa.table({"_partition": ["x"]}), "_partition"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["twice", "twice"]), "twice"),
        (pa.table({"deep": pa.array([{"w": 1}], pa.struct([("w", pa.duration("s"))]))}), "deep.w"),
    ],
)
def test_what_cannot_be_stored_names_its_column(table: pa.Table, said: str) -> None:
    """An author would have to search which of 40 columns is meant."""
    with pytest.raises(BadData, match=said):
        frames.conform([("", table)])


def test_numbers_take_the_tables_type_where_no_value_changes() -> None:
    """A pandas step would fail on each day that has a null, because pandas made floats of its
    integers."""
    expect = (("a", "int64"), ("b", "float64"), ("c", "int64"), ("d", "string"))
    table = pa.table(
        {
            "a": pa.array([1.0, None]),
            "b": pa.array([1, 2]),
            "c": pa.array([1.5, 2.0]),
            "d": pa.nulls(2),
        }
    )
    ((_, table),) = frames.conform([("", table)], table=expect)
    assert frames.schema_of(table) == (
        ("a", "int64"),
        ("b", "float64"),
        ("c", "float64"),
        ("d", "string"),
    )
    assert table["a"].to_pylist() == [1, None]


# ---------------------------------------------------------------- digests


VALUES = {
    "n": st.none() | st.integers(-3, 3),
    "x": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]),
    "s": st.none() | st.text(alphabet="aü\0", max_size=3),
    "b": st.none() | st.booleans(),
    "l": st.none() | st.lists(st.none() | st.sampled_from([0.0, -0.0, 2.5]), max_size=3),
    "o": st.none()
    | st.fixed_dictionaries(
        {"a": st.none() | st.integers(0, 2), "f": st.none() | st.sampled_from([0.0, -0.0])}
    ),
    "k": st.none()
    | st.lists(
        st.tuples(st.text(alphabet="ab", max_size=1), st.none() | st.sampled_from([0.0, -0.0])),
        max_size=2,
    ),
}
TYPES = {
    "n": pa.int64(), "x": pa.float64(), "s": pa.large_string(), "b": pa.bool_(),
    "l": pa.large_list(pa.field("element", pa.float64())),
    "o": pa.struct([("a", pa.int64()), ("f", pa.float64())]),
    "k": pa.map_(pa.large_string(), pa.float64()),
}  # fmt: skip
TABLES = st.sets(st.sampled_from(sorted(VALUES)), min_size=1).flatmap(
    lambda names: st.lists(
        st.fixed_dictionaries({name: VALUES[name] for name in sorted(names)}), max_size=8
    ).map(
        lambda rows: pa.Table.from_pylist(
            rows, schema=pa.schema([(name, TYPES[name]) for name in sorted(names)])
        )
    )
)


@given(table=TABLES, keyed=st.booleans(), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_digest_depends_on_content_only(
    table: pa.Table, keyed: bool, data: st.DataObject
) -> None:
    """Equal partitions would count as changed - because of row order, chunks, slices, dictionaries
    or column order - and everything downstream would run again."""
    key = [table.column_names[0]] if keyed else []
    expected = frames.digest(table, key)
    order = data.draw(st.permutations(range(table.num_rows)))
    shuffled = pa.Table.from_pylist([table.to_pylist()[i] for i in order], schema=table.schema)
    assert frames.digest(shuffled, key) == expected
    cut = data.draw(st.integers(0, table.num_rows))
    assert frames.digest(pa.concat_tables([table.slice(cut), table.slice(0, cut)]), key) == expected
    padded = pa.concat_tables([table.slice(0, 1), table, table.slice(0, 1)]).combine_chunks()
    assert frames.digest(padded.slice(min(1, table.num_rows), table.num_rows), key) == expected
    assert frames.digest(table.select(table.column_names[::-1]), key) == expected
    if "s" in table.column_names:
        encoded = table.set_column(
            table.column_names.index("s"), "s", table["s"].cast(pa.string()).dictionary_encode()
        )
        assert frames.digest(encoded, key) == expected
    other = table.append_column("_partition", pa.array(["2013"] * table.num_rows))
    assert frames.digest(other, key) == expected


@given(table=TABLES, data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_digest_sees_every_change(table: pa.Table, data: st.DataObject) -> None:
    """A changed, doubled or lost row would be taken for the old content, and the change never
    published."""
    before = frames.digest(table)
    if table.num_rows:
        row = data.draw(st.integers(0, table.num_rows - 1))
        assert frames.digest(pa.concat_tables([table, table.slice(row, 1)])) != before
        assert (
            frames.digest(pa.concat_tables([table.slice(0, row), table.slice(row + 1)])) != before
        )
    rows = table.to_pylist()
    if "n" in table.column_names and rows:
        rows[0] = {**rows[0], "n": 99}
        assert frames.digest(pa.Table.from_pylist(rows, schema=table.schema)) != before
    assert (
        frames.digest(table.rename_columns([name + "_" for name in table.column_names])) != before
    )


def test_zeros_nans_and_what_lies_under_nulls_do_not_count() -> None:
    """Values that compare equal would make different versions."""

    def one(values: np.ndarray, valid: int) -> pa.Table:
        bits = pa.py_buffer(bytes([valid]))
        return pa.table(
            {
                "x": pa.Array.from_buffers(
                    pa.float64(), len(values), [bits, pa.py_buffer(values.tobytes())]
                )
            }
        )

    odd_nan = np.frombuffer(np.uint64(0x7FF8000000000123).tobytes(), dtype=np.float64)[0]
    first = one(np.array([-0.0, np.nan, 111.0]), 0b011)
    second = one(np.array([0.0, odd_nan, 222.0]), 0b11111011)
    assert frames.digest(first) == frames.digest(second)
    text = pa.Array.from_buffers(
        pa.large_string(),
        2,
        [
            pa.py_buffer(b"\x01"),
            pa.py_buffer(np.array([0, 1, 4], dtype=np.int64).tobytes()),
            pa.py_buffer(b"aXYZ"),
        ],
    )
    assert frames.digest(pa.table({"s": text})) == frames.digest(pa.table({"s": ["a", None]}))
    assert frames.digest(pa.table({"s": text.slice(1)})) == frames.digest(
        pa.table({"s": pa.array([None], pa.string())})
    )


def test_rows_do_not_run_into_each_other() -> None:
    """["ab", "c"] and ["a", "bc"] hold the same bytes, a null and an empty text too."""
    tables = [
        pa.table({"s": pa.array(values, pa.large_string())})
        for values in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None], ["abc"])
    ]
    assert len({frames.digest(table) for table in tables}) == len(tables)
    lists = [
        pa.table({"l": pa.array(values, pa.large_list(pa.int64()))})
        for values in ([[1], [2, 3]], [[1, 2], [3]], [[1, 2, 3], []], [[1, 2, 3], None])
    ]
    assert len({frames.digest(table) for table in lists}) == len(lists)


def test_digests_are_pinned() -> None:
    """A new Arrow, Polars or edit would change every digest, and every dataset would look changed.
    Bump the tag then."""
    assert (
        frames.digest(sample(), ["s"])
        == "7e3432cb129a3992a4b96066e4bf0a6b30656d89e440e93c63a212f2788937a8"
    )
    assert (
        frames.digest(sample())
        == "50c26bfb4e0c87f90e10b7ebddf2106b3721fe41eba62e918037a6006fd5ff4c"
    )
    assert (
        frames.version_digest((("a", "int64"),), {"2013-01-02": "b" * 64, "2013-01-01": "a" * 64})
        == "17f8c29f99567b83516b61278517d699e48b08037599854dd75fa8cb5388554c"
    )


def test_a_version_digest_covers_schema_and_partitions() -> None:
    """Two versions with other columns or other partitions would be one."""
    a = frames.version_digest((("a", "int64"),), {"x": "1" * 64, "y": "2" * 64})
    assert a == frames.version_digest((("a", "int64"),), {"y": "2" * 64, "x": "1" * 64})
    assert a != frames.version_digest((("a", "int32"),), {"x": "1" * 64, "y": "2" * 64})
    assert a != frames.version_digest((("a", "int64"),), {"x": "2" * 64, "y": "1" * 64})
    assert a != frames.version_digest((("a", "int64"),), {"x": "1" * 64})


# ---------------------------------------------------------------- writing and reading


@pytest.mark.parametrize("frame", ["polars", "polars_lazy", "pyarrow", "duckdb"])
def test_what_is_written_is_read(tmp_path: Path, frame: frames.Frame) -> None:
    """A type would not survive the way through a file into one of the frames."""
    table = sample()
    out = frames.write(table, "2013-02-09", root=tmp_path, staging="t/data/a1", key=["s"])
    assert (out.rows, out.digest) == (4, frames.digest(table, ["s"]))
    back = frames.read(tmp_path, out.files, frame=frame, schema=frames.schema_of(table))
    assert frames.digest(frames.canonical(frames.to_arrow(back)), ["s"]) == out.digest


def test_pandas_reads_too(tmp_path: Path) -> None:
    """A function that asks for pandas would get another type or other rows."""
    out = frames.write(sample(), "all", root=tmp_path, staging="a")
    frame = frames.read(tmp_path, out.files, frame="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert "ü" in frame["s"].tolist()
    assert frame["t"].dtype == "datetime64[us, UTC]"


def test_days_of_a_month_share_a_file_and_are_read_apart(tmp_path: Path) -> None:
    """A coalesced backfill would write a file a day, or a day would be read with its neighbours."""
    parts = [
        (f"2013-0{month}-0{day}", pa.table({"n": [month * 10 + day] * day}))
        for month in (1, 2)
        for day in (1, 2, 3)
    ]
    outs = frames.write_many(frames.arrange(parts), root=tmp_path, staging="a", grain="daily")
    assert [out.partition for out in outs] == [name for name, _ in parts]
    assert [out.digest for out in outs] == [frames.digest(table) for _, table in parts]
    files = tuple(dict.fromkeys(file for out in outs for file in out.files))
    assert [file.partitions for file in files] == [
        tuple(name for name, _ in parts[:3]),
        tuple(name for name, _ in parts[3:]),
    ]
    for frame in ("polars", "pyarrow"):
        one = frames.to_arrow(frames.read(tmp_path, files, partitions=["2013-02-02"], frame=frame))
        assert one.to_pydict() == {"n": [22, 22]}
        two = frames.to_arrow(
            frames.read(
                tmp_path, files, partitions=["2013-01-03", "2013-02-01"], frame=frame, labels=True
            )
        )
        assert two.to_pydict() == {
            "n": [13, 13, 13, 21],
            "_partition": ["2013-01-03"] * 3 + ["2013-02-01"],
        }


def test_columns_that_old_files_lack_are_null_and_narrow_numbers_widen(tmp_path: Path) -> None:
    """A window over a schema change could not be read."""
    old = frames.write(
        pa.table({"a": pa.array([1], pa.int32()), "x": pa.array([1.5], pa.float32())}),
        "2013-01-01",
        root=tmp_path,
        staging="a",
    )
    new = frames.write(
        pa.table({"a": [2], "x": [2.5], "b": ["n"]}), "2013-01-02", root=tmp_path, staging="b"
    )
    schema = (("b", "string"), ("a", "int64"), ("x", "float64"), ("l", "list<int64>"))
    for frame in ("polars", "pyarrow", "duckdb"):
        table = frames.canonical(
            frames.to_arrow(
                frames.read(tmp_path, old.files + new.files, frame=frame, schema=schema)
            )
        )
        assert frames.schema_of(table) == schema
        assert table.to_pydict() == {
            "b": [None, "n"],
            "a": [1, 2],
            "x": [1.5, 2.5],
            "l": [None, None],
        }
    assert frames.read(tmp_path, old.files + new.files, columns=["b"], schema=schema)[
        "b"
    ].to_list() == [None, "n"]
    with pytest.raises(UsageError, match="nope"):
        frames.read(tmp_path, new.files, columns=["nope"], schema=schema)


def test_no_files_are_an_empty_frame_of_the_schema(tmp_path: Path) -> None:
    """The first run of a dataset with an empty input would fail on a missing column."""
    out = frames.write(sample().slice(0, 0), "all", root=tmp_path, staging="a")
    assert out.files == ()
    assert out.rows == 0
    for frame in ("polars", "polars_lazy", "pyarrow", "duckdb"):
        table = frames.canonical(
            frames.to_arrow(
                frames.read(tmp_path, (), frame=frame, schema=frames.schema_of(sample()))
            )
        )
        assert frames.schema_of(table) == frames.schema_of(sample())
        assert table.num_rows == 0
    assert list(frames.read(tmp_path, (), frame="pandas", schema=(("a", "int64"),)).columns) == [
        "a"
    ]


def test_missing_and_broken_files_are_damage(tmp_path: Path) -> None:
    """A truncated file would raise some library's error, or be read as fewer rows."""
    out = frames.write(sample(), "all", root=tmp_path, staging="a")
    path = tmp_path / out.files[0].path
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[: len(whole) // 2])
    for frame in ("polars", "pyarrow"):
        with pytest.raises(Damaged):
            frames.read(tmp_path, out.files, frame=frame, schema=frames.schema_of(sample()))
    os.unlink(path)
    for frame in ("polars", "pyarrow"):
        with pytest.raises(Damaged, match="missing"):
            frames.read(tmp_path, out.files, frame=frame, schema=frames.schema_of(sample()))


# ---------------------------------------------------------------- splitting


def test_instants_fall_into_the_zones_days() -> None:
    """A flight at 23:30 in New York would be filed under the next day, which it is in UTC."""
    days = Partitioning(grain="daily", start="2013-01-01", tz="America/New_York")
    at = [
        datetime(2013, 2, 10, 4, 59, tzinfo=UTC),
        datetime(2013, 2, 10, 5, tzinfo=UTC),
        datetime(2013, 2, 9, 5, tzinfo=UTC),
    ]
    table = frames.canonical(pa.table({"at": at, "n": [1, 2, 3]}))
    parts = frames.split(table, "at", days)
    assert [(key, part["n"].to_pylist()) for key, part in parts] == [
        ("2013-02-09", [1, 3]),
        ("2013-02-10", [2]),
    ]


def test_both_hours_of_a_clock_change_are_told_apart() -> None:
    """The repeated hour of autumn would be one partition, and each run of it would overwrite the
    other."""
    hours = Partitioning(grain="hourly", start="2013-01-01", tz="America/New_York")
    at = [datetime(2013, 11, 3, 5, 30, tzinfo=UTC), datetime(2013, 11, 3, 6, 30, tzinfo=UTC)]
    parts = frames.split(frames.canonical(pa.table({"at": at})), "at", hours)
    assert [key for key, _ in parts] == ["2013-11-03T01-0400", "2013-11-03T01-0500"]
    assert [key for key, _ in parts] == [hours.key_at(moment) for moment in at]


def test_other_grains_split() -> None:
    """Months, names and unpartitioned datasets could not be split."""
    table = frames.canonical(
        pa.table({"day": [date(2013, 1, 31), date(2013, 2, 1)], "who": ["b", "a"]})
    )
    assert [
        key
        for key, _ in frames.split(table, "day", Partitioning(grain="monthly", start="2013-01-01"))
    ] == ["2013-01", "2013-02"]
    assert [
        key for key, _ in frames.split(table, "who", Partitioning(grain="static", names=("a", "b")))
    ] == ["a", "b"]
    assert frames.split(table, "", Partitioning())[0][0] == "all"


def test_rows_without_a_place_are_counted() -> None:
    """Rows would vanish, or land in a partition that nobody asked to make."""
    days = Partitioning(grain="daily", start="2013-01-01", end="2014-01-01")
    table = frames.canonical(
        pa.table(
            {"at": pa.array([None, AT, AT, AT + timedelta(days=400)], pa.timestamp("us", "UTC"))}
        )
    )
    with pytest.raises(
        BadData, match="1 rows have no `at` and 1 rows lie outside .*`2014-03-16`, of 4"
    ):
        frames.split(table, "at", days)
    with pytest.raises(BadData, match="2 rows lie outside"):
        frames.split(table.slice(1, 2), "at", days, wanted=["2013-02-08"])
    with pytest.raises(BadData, match="names no instants"):
        frames.split(frames.canonical(pa.table({"at": [datetime(2013, 1, 1)]})), "at", days)
    with pytest.raises(BadData, match="no column `when`"):
        frames.split(table, "when", days)


# ---------------------------------------------------------------- comparing


def test_rows_differ_by_key() -> None:
    """A reviewer would not see which rows a release changes."""
    before = frames.canonical(
        pa.table(
            {"k": ["a", "b", "c", None], "x": [1.0, 2.0, float("nan"), 4.0], "old": [1, 1, 1, 1]}
        )
    )
    after = frames.canonical(
        pa.table({"k": [None, "b", "c", "d"], "x": [4.0, 2.5, float("nan"), 5.0], "new": ["x"] * 4})
    )
    found = frames.diff(before, after, ["k"])
    assert (found.added, found.removed, found.changed, found.changed_columns) == (1, 1, 1, {"x": 1})
    assert found.samples["added"] == [{"k": "d", "x": 5.0, "new": "x"}]
    assert found.samples["changed"] == [
        {"key": {"k": "b"}, "before": {"x": 2.0}, "after": {"x": 2.5}}
    ]
    assert found.columns == {"old": ("int64", ""), "new": ("", "string")}
    assert frames.diff(before, before, ["k"]).is_empty


@pytest.mark.parametrize("key", [[], ["k"]])
def test_rows_differ_as_multisets_without_a_unique_key(key: list[str]) -> None:
    """A doubled row would not show, or doubled keys would multiply the counts."""
    before, after = (
        frames.canonical(pa.table({"k": [1, 1, 2], "l": [[1], [1], None]})),
        frames.canonical(pa.table({"k": [1, 2, 2], "l": [[1], None, None]})),
    )
    found = frames.diff(before, after, key)
    assert (found.added, found.removed, found.by_key) == (1, 1, False)
    assert frames.diff(after, after.take([2, 0, 1]), key).is_empty


def test_times_are_plain_in_samples() -> None:
    """A sample could not be written as JSON."""
    table = frames.canonical(
        pa.table(
            {
                "k": [1],
                "t": [AT],
                "d": [date(2013, 1, 1)],
                "h": [time(1)],
                "x": [float("inf")],
                "b": [b"\x01"],
                "m": [decimal.Decimal("1.5")],
            }
        )
    )
    row = frames.diff(table.slice(0, 0), table, ["k"]).samples["added"][0]
    assert row == {
        "k": 1,
        "t": "2013-02-09T12:00:00Z",
        "d": "2013-01-01",
        "h": "01:00:00",
        "x": "Infinity",
        "b": "01",
        "m": "1.5",
    }


def test_a_widened_decimal_is_compared_to_its_last_digit() -> None:
    """If this fails, a diff misses what changed from sixteen digits on."""

    def one(value: str, precision: int, scale: int) -> pa.Table:
        column = pa.array([decimal.Decimal(value)], pa.decimal128(precision, scale))
        return frames.canonical(pa.table({"k": [1], "m": column}))

    old = one("99999999999999.01", 16, 2)
    for value, changed in (("99999999999999.01", 0), ("99999999999999.02", 1)):
        assert frames.diff(old, one(value, 18, 2), ["k"]).changed == changed
    whole = one("9007199254740993", 38, 0)
    number = frames.canonical(pa.table({"k": [1], "m": [9007199254740992]}))
    assert frames.diff(number, whole, ["k"]).changed == 1
