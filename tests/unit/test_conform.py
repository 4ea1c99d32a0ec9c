"""What functions return becomes rows of a table: the same columns in all partitions, no value
changed in silence."""

import decimal
import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.kernel.errors import BadData
from sextant.stores.lake import frames, types

D = decimal.Decimal


def conform(*tables: Any, **more: Any) -> list[pa.Table]:
    parts = [(f"p{n}", frames.to_arrow(table)) for n, table in enumerate(tables)]
    return [table for _, table in frames.conform(parts, **more)]


def type_in(column: str, *tables: Any, **more: Any) -> str:
    made = conform(*tables, **more)
    found = {dict(frames.schema_of(table))[column] for table in made}
    assert len(found) == 1
    return found.pop()


# ---------------------------------------------------------------- columns without a type


VAGUE = (
    pl.DataFrame({"x": [None, None]}),
    pl.DataFrame({"x": []}),
    pd.DataFrame({"x": [None]}),
    pd.DataFrame({"x": [math.nan]}),
    pd.DataFrame(columns=["x"]),
    pl.DataFrame(),
    pl.DataFrame({"x": [None]}, schema={"x": pl.Int64}),
)


@pytest.mark.parametrize("vague", VAGUE)
@pytest.mark.parametrize("place", ["before", "behind", "table", "declared"])
def test_a_column_without_values_takes_a_type_from_elsewhere(vague: Any, place: str) -> None:
    """A backfill would fail on the first day that has no coupon."""
    full = pl.DataFrame({"x": ["a"]})
    if place in ("table", "declared"):
        assert type_in("x", vague, **{place: (("x", "string"),)}) == "string"
    else:
        made = [vague, full] if place == "before" else [full, vague]
        assert type_in("x", *made) == "string"
        heights = [table.num_rows for table in conform(*made)]
        assert heights == [frames.to_arrow(one).num_rows for one in made]


def test_what_is_inside_of_nestings_takes_a_type_too() -> None:
    """Empty lists of one day would refuse the texts of the next."""
    empty = pl.DataFrame({"x": [[]], "s": [{"a": None}]})
    full = pl.DataFrame({"x": [["a"]], "s": [{"a": 1, "b": "c"}]})
    for made in ([empty, full], [full, empty]):
        assert type_in("x", *made) == "list<string>"
        one, other = conform(*made)
        assert dict(frames.schema_of(one))["s"] == dict(frames.schema_of(other))["s"]
    back = conform(empty, full)[0]["s"].to_pylist()
    assert back == [{"a": None, "b": None}]
    assert type_in("x", empty.select("x"), table=(("x", "list<string>"),)) == "list<string>"


@pytest.mark.parametrize("value", [[None], [[]], [{"a": None}]])
def test_no_type_from_anywhere_is_an_error_that_says_what_to_do(value: list[Any]) -> None:
    """A made-up type would refuse the first real values."""
    with pytest.raises(BadData, match="`x`.*no type") as error:
        conform(pl.DataFrame({"x": value}))
    assert "columns=" in error.value.hint


# ---------------------------------------------------------------- evolution

PROMOTIONS = (
    ("int32", "int64", "int64"),
    ("float32", "float64", "float64"),
    ("decimal(8,2)", "decimal(12,2)", "decimal(12,2)"),
    ("decimal(8,2)", "decimal(12,3)", None),
    ("struct<a: int32>", "struct<b: string, a: int64>", "struct<a: int64, b: string>"),
    ("list<int32>", "list<int64>", "list<int64>"),
    ("map<string, int32>", "map<string, int64>", "map<string, int64>"),
    ("list<struct<a: int32>>", "list<struct<a: int32, b: date>>",
     "list<struct<a: int32, b: date>>"),
    ("int64", "string", None),
    ("date", "timestamp", None),
    ("timestamp", "timestamptz", None),
    ("int64", "float64", None),
    ("struct<a: int64>", "struct<a: string>", None),
)  # fmt: skip


@pytest.mark.parametrize(("one", "other", "both"), PROMOTIONS)
def test_one_function_decides_what_widens(one: str, other: str, both: str | None) -> None:
    """The check would let through what the lake refuses, or refuse what it can hold."""
    from sextant.kinds.dataset.checks.whole import fits
    from sextant.stores.lake.evolution import evolve, to_arrow_schema

    merged = types.merged(types.type_of(one), types.type_of(other))
    assert (None if merged is None else types.type_name(merged)) == both
    assert (types.merged(types.type_of(other), types.type_of(one)) is None) == (both is None)
    assert fits(one, other, "evolve") == (both is not None)
    old, last = evolve(None, types.arrow_schema([("x", one)]), 0)
    if both is None:
        with pytest.raises(BadData, match="`x`"):
            evolve(old, types.arrow_schema([("x", other)]), last)
    else:
        new, _ = evolve(old, types.arrow_schema([("x", other)]), last)
        assert dict(frames.schema_of(to_arrow_schema(new))) == {"x": both}


def test_decimals_of_pandas_take_the_tables_precision() -> None:
    """Each day of a pandas step would have the precision of its longest number."""
    days = [pd.DataFrame({"x": [D("1.50")]}), pd.DataFrame({"x": [D("12345.25"), None]})]
    assert type_in("x", *days) == "decimal(7,2)"
    assert type_in("x", *days, table=(("x", "decimal(10,2)"),)) == "decimal(10,2)"
    # another scale: as long as no digit is lost
    assert type_in("x", pd.DataFrame({"x": [D("1.5")]}), table=(("x", "decimal(10,2)"),)) == (
        "decimal(10,2)"
    )
    assert type_in("x", pd.DataFrame({"x": [D("1.5")]}), days[1]) == "decimal(7,2)"
    # what pandas holds as objects has the type of the input's column of that name
    inputs = (("x", "decimal(12,2)"), ("y", "list<int64>"), ("z", "int64"))
    lost = pd.DataFrame({"x": [D("1.50")], "y": [None], "z": [1.5]})
    assert frames.schema_of(conform(lost, inputs=inputs)[0]) == (
        ("x", "decimal(12,2)"),
        ("y", "list<int64>"),
        ("z", "float64"),
    )


def test_numbers_that_were_rounded_on_their_way_are_no_whole_numbers() -> None:
    """64-bit ids that went through a float would be stored, changed, as ids."""
    rounded = pd.DataFrame({"x": [float(2**53 + 2), math.nan]})
    assert type_in("x", rounded, table=(("x", "int64"),)) == "float64"
    with pytest.raises(BadData, match=r"`x`, row 0.*int64"):
        conform(rounded, declared=(("x", "int64"),))
    good = pd.DataFrame({"x": [float(2**53 - 1), math.nan]})
    assert conform(good, declared=(("x", "int64"),))[0]["x"].to_pylist() == [2**53 - 1, None]


def test_what_does_not_fit_what_is_declared_is_named() -> None:
    """An author would look for one bad row in a million."""
    table = pl.DataFrame({"x": [1, 2, 2**40, 3], "y": ["a", "b", "c", "d"]})
    with pytest.raises(BadData, match=r"`x`, row 2: `1099511627776` does not fit into int32"):
        conform(table, declared=(("x", "int32"),))
    with pytest.raises(BadData, match="`z`, which columns= declares"):
        conform(table, declared=(("z", "int32"),))
    with pytest.raises(BadData, match=r"`x` is int64 in partition p0 and string in p1"):
        conform(table, pl.DataFrame({"x": ["a"]}))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (pl.DataFrame({"Id": [1], "id": [2]}), "`Id` and `id` differ by case only"),
        (pl.DataFrame({"x": [{"A": 1, "a": 2}]}), "field of `x` names `A` and `a`"),
        (pl.DataFrame({"_Partition": [1]}), "the platform's own"),
        (pl.DataFrame({"": [1]}), "no name"),
        (pl.DataFrame({"ID": [1]}), "the table has `Id`"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "`a` occurs 2 times"),
        (pd.DataFrame([[1, 2]], columns=["a", 5]), "5 is not text"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(made: Any, said: str) -> None:
    """SQL would read one column for the other, or call it `id_1`."""
    with pytest.raises(BadData, match=said):
        conform(made, table=(("Id", "int64"),))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (pl.DataFrame({"c": [{1, 2}]}), r"`c` holds Python objects \(set\)"),
        (pl.DataFrame({"c": [object()]}), r"`c` holds Python objects \(object\)"),
        (pd.DataFrame({"c": [{1}, {2}]}), r"`c` holds Python objects \(set\)"),
        (pd.DataFrame({"n": [1, 2], "c": [1, "a"]}), "`c`, row 1: 'a' of type str"),
        (pd.DataFrame({"c": [1 + 2j]}), "`c`"),
        (pd.DataFrame({"c": pd.period_range("2026-01", periods=1, freq="M")}), "`c`.*period"),
        (pd.DataFrame({"c": [timedelta(1)]}), "`c`.*duration"),
        (pl.DataFrame({"c": [timedelta(1)]}), "`c`.*duration"),
        (pl.DataFrame({"c": [1]}, schema={"c": pl.Int128}), "`c`.*Int128"),
        (pl.DataFrame({"c": [1, 2**64 - 1]}, schema={"c": pl.UInt64}), "`c`, row 1.*int64"),
        (pl.DataFrame({"c": [[timedelta(1)]]}), "`c`.*duration"),
    ],
)
def test_what_a_table_cannot_hold_is_named(made: Any, said: str) -> None:
    """Addresses in memory would be published as bytes."""
    with pytest.raises(BadData, match=said):
        conform(made)


EDGES = (
    pa.array([253_402_300_800_000_000], pa.timestamp("us", "UTC")),
    pa.array([-62_135_596_800_000_001], pa.timestamp("us")),
    pa.array([2_932_897], pa.date32()),
    pa.array([-719_163], pa.date32()),
    pa.array([2**63 - 1], pa.timestamp("us", "UTC")),  # DuckDB's infinity
    pa.array([86_400_000_000], pa.time64("us")),
    pa.array([[-(2**40)]], pa.list_(pa.timestamp("s"))),
    pa.array([{"a": 2**40}], pa.struct([("a", pa.timestamp("s"))])),
)


@pytest.mark.parametrize("edge", EDGES, ids=[str(edge.type) for edge in EDGES])
def test_times_that_no_reader_can_show_are_refused(edge: pa.Array) -> None:
    """The dataset would be published, and every look at it fail with a library's error."""
    with pytest.raises(BadData, match=r"`x`.*years 1 to 9999"):
        conform(pa.table({"x": edge}))


def test_the_first_and_the_last_instant_are_kept() -> None:
    """`For ever` in UTC is a usual value."""
    values = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    assert conform(pl.DataFrame({"x": values}))[0]["x"].to_pylist() == values
    days = pl.DataFrame({"x": [date.min, date.max], "t": [time.min, time.max]})
    assert pl.from_arrow(conform(days)[0]).equals(days)  # type: ignore[union-attr]


def test_nan_is_missing_in_every_library() -> None:
    """A mean would be a number in pandas and NaN in Polars."""
    values = [1.0, math.nan, math.inf, -0.0]
    nested = pl.DataFrame({"l": [values], "s": [{"a": math.nan}]})
    for table in (pl.DataFrame({"x": values}), pd.DataFrame({"x": values})):
        assert conform(table)[0]["x"].to_pylist() == [1.0, None, math.inf, 0.0]
    made = conform(nested)[0]
    assert made["l"].to_pylist() == [[1.0, None, math.inf, 0.0]]
    assert made["s"].to_pylist() == [{"a": None}]
    assert math.copysign(1, conform(pl.DataFrame({"x": [-0.0]}))[0]["x"][0].as_py()) == 1


def test_pandas_takes_and_gives_back_whole_numbers_with_gaps() -> None:
    """An id above 2^53 beside a null would come back as another id."""
    table = pa.table({
        "a": pa.array([2**53 + 1, None]),
        "b": pa.array([None, -(2**31)], pa.int32()),
        "c": pa.array([True, None]),
        "d": pa.array([2**63 - 1, 1]),
    })  # fmt: skip
    frame = frames.to_frame(table, "pandas")
    assert [str(type_) for type_ in frame.dtypes] == ["Int64", "Int32", "boolean", "int64"]
    assert conform(frame)[0].equals(table)


# ---------------------------------------------------------------- the order of rows

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-2, 2),
        st.none() | st.sampled_from([0.0, -0.0, 1.5, math.inf]),
        st.none() | st.text("ab", max_size=2),
        st.none() | st.lists(st.none() | st.integers(0, 1), max_size=2),
    ),
    max_size=8,
)
SCHEMA = {"n": pl.Int64, "x": pl.Float64, "s": pl.String, "l": pl.List(pl.Int64)}


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([(), ("s",), ("n", "x")]))
def test_rows_of_one_content_have_one_order(
    rows: list[Any], rng: Any, key: tuple[str, ...]
) -> None:
    """The same version would be read in another order, and what adds up floats give another sum."""
    mixed = list(rows)
    rng.shuffle(mixed)
    one, other = (
        frames.arrange([("", conform(pl.DataFrame(some, schema=SCHEMA, orient="row"))[0])], key)[0]
        for some in (rows, mixed)
    )
    assert one.digest == other.digest == frames.digest(one.table, key)
    assert one.table.to_pylist() == other.table.to_pylist()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_arrive_by_partition_wherever_their_files_lie(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A window over three states of a table would see its days in another order than over one."""
    root = tmp_path_factory.mktemp("lake")
    days = [f"2026-01-{day:02}" for day in range(1, 8)]
    rows = {day: pa.table({"n": data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))})
            for day in days}  # fmt: skip
    groups: dict[int, list[str]] = {}
    for day in days:
        groups.setdefault(data.draw(st.integers(0, 3)), []).append(day)
    files = []
    for n, group in groups.items():
        parts = frames.arrange([(day, rows[day]) for day in group])
        for out in frames.write_many(parts, root=root, staging=f"a{n}", grain="monthly"):
            files += [file for file in out.files if file not in files]
    data.draw(st.randoms(use_true_random=False)).shuffle(files)
    wanted = data.draw(st.none() | st.lists(st.sampled_from(days), min_size=1, unique=True))
    back = frames.read(root, files, partitions=wanted, frame="pyarrow", labels=True)
    asked = sorted(wanted or days)
    assert back.to_pydict() == {
        "n": [n for day in asked for n in sorted(rows[day]["n"].to_pylist())],
        "_partition": [day for day in asked for _ in range(rows[day].num_rows)],
    }


def test_files_of_an_earlier_release_are_put_in_order(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade would leave the order of old partitions to where their files lie."""
    monkeypatch.setattr(frames, "ORDERED_KEY", b"something.else")
    table = pa.table({"_partition": ["a", "a", "b"], "k": [1, 2, 3], "v": [9, 5, 7]})
    swapped = table.take([2, 1, 0])
    ref = frames.store(swapped, ("a", "b"), root=tmp_path, path="old.parquet")
    monkeypatch.undo()
    back = frames.read(tmp_path, [ref], frame="pyarrow", labels=True, columns=["v", "k"])
    assert back.to_pydict() == {"v": [9, 5, 7], "k": [1, 2, 3], "_partition": ["a", "a", "b"]}
    by_key = frames.read(tmp_path, [ref], frame="pyarrow", key=("v",), columns=["v"])
    assert by_key["v"].to_pylist() == [5, 9, 7]


def test_sums_do_not_show_in_which_pieces_a_table_came(tmp_path: Any) -> None:
    """Files of several days would give another sum, in its last digits, than one of all days."""
    rng = __import__("random").Random(1)
    days = {f"2026-01-{day:02}": [rng.random() * 10**rng.randint(0, 9) for _ in range(257)]
            for day in range(1, 9)}  # fmt: skip
    parts = frames.arrange([(day, pa.table({"x": x})) for day, x in days.items()])
    together = frames.write_many(parts, root=tmp_path, staging="a", grain="daily")
    apart = [frames.write_many([part], root=tmp_path, staging=part.partition) for part in parts]
    for frame, total in (
        ("polars", lambda one: one["x"].sum()),
        ("pandas", lambda one: one["x"].sum()),
        ("pyarrow", lambda one: pa.compute.sum(one["x"]).as_py()),
        ("duckdb", lambda one: one.sum("x").fetchall()[0][0]),
    ):
        sums = {
            total(frames.read(tmp_path, files, frame=frame))
            for files in (together[0].files, [file for (out,) in apart for file in out.files])
        }
        assert len(sums) == 1, frame
