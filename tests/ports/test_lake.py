"""The port `Lake`, against every backend; and its states, read by other people's Iceberg
readers."""

import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table import StaticTable

from sextant.kernel.clock import NS, ManualClock, from_datetime
from sextant.kernel.errors import BadData, Damaged, NotFound, StorageError, UsageError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import FileRef
from sextant.kernel.ports import TableCommit
from sextant.stores import files as disk
from sextant.stores.lake import frames
from sextant.stores.lake.iceberg import IcebergLake

NOW = from_datetime(datetime(2013, 6, 1, tzinfo=UTC))
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.large_string())])


class _Blocked:
    """A finder that refuses `pyiceberg_core` and remembers that it was wanted."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "pyiceberg_core":
            self.wanted.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture(scope="module", autouse=True)
def without_pyiceberg_core() -> Iterator[None]:
    """Run the whole suite without pyiceberg's 40 MB of Rust, which only writes of its own need. If
    this fails, the lake depends on a package that is not declared."""
    assert "pyiceberg_core" not in sys.modules
    blocked = _Blocked()
    sys.meta_path.insert(0, blocked)  # type: ignore[arg-type]
    yield
    sys.meta_path.remove(blocked)  # type: ignore[arg-type]
    assert not blocked.wanted


@pytest.fixture(autouse=True)
def quiet_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


def new_lake(root: Path, seed: int = 1) -> IcebergLake:
    clock = ManualClock(NOW)
    return IcebergLake(root, clock=clock, ids=Ids(clock, random.Random(seed)))


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return new_lake(tmp_path / "lake")


def rows(*values: int, text: str = "x") -> pa.Table:
    return pa.table({"n": list(values), "s": [f"{text}{value}" for value in values]}, schema=SCHEMA)


class Writer:
    """Stages and commits as the coordinator does: one staging folder an attempt."""

    def __init__(self, lake: IcebergLake, grain: str = "daily", table: str = "t") -> None:
        self.lake, self.grain, self.table, self.attempt = lake, grain, table, 0

    def stage(self, parts: dict[str, pa.Table]) -> list[FileRef]:
        self.attempt += 1
        outs = frames.write_many(
            frames.arrange(list(parts.items())),
            root=self.lake.root,
            staging=f"{self.table}/data/a{self.attempt}",
            grain=self.grain,
        )
        return [file for out in outs for file in out.files]

    def put(self, base: str, parts: dict[str, pa.Table], **more: Any) -> TableCommit:
        table = next(iter(parts.values()))
        return self.lake.commit(
            self.table,
            base,
            add=self.stage(parts),
            replace=list(parts),
            arrow_schema=table.schema.serialize().to_pybytes(),
            partitioned=self.grain,
            **more,
        )


def ours(lake: IcebergLake, commit: TableCommit, **more: Any) -> dict[str, list[int]]:
    frame = frames.read(
        lake.root,
        lake.files(commit.locator),
        labels=True,
        frame="pyarrow",
        schema=(("n", "int64"),),
        **more,
    )
    out: dict[str, list[int]] = {}
    for row in frame.to_pylist():
        out.setdefault(row["_partition"], []).append(row["n"])
    return {key: sorted(values) for key, values in out.items()}


def profile(lake: IcebergLake, commit: TableCommit) -> tuple[Any, ...]:
    """Return of column `n` how many values it has, how many partitions lack a profile, and its range."""
    from sextant.stores.lake.merged import merged

    found = merged(lake.root, lake.files(commit.locator), (("n", "int64"),))
    column = found.columns[0]
    return (len(column.points()[0]), len(found.missing), (column.low, column.high))


def theirs(lake: IcebergLake, commit: TableCommit) -> dict[str, list[int]]:
    """What pyiceberg and Polars read, which must be the same."""
    place = str(lake.root / commit.locator)
    found = []
    for table in (
        StaticTable.from_metadata(place).scan().to_arrow(),
        pl.scan_iceberg(place).collect().to_arrow(),
    ):
        out: dict[str, list[int]] = {}
        for row in table.to_pylist():
            out.setdefault(row["_partition"], []).append(row["n"])
        found.append({key: sorted(values) for key, values in out.items()})
    assert found[0] == found[1]
    return found[0]


# ---------------------------------------------------------------- reading by others


def test_every_reader_sees_the_same_rows(lake: IcebergLake) -> None:
    """Real Iceberg clients could not read our tables, or would read other rows than we do."""
    writer = Writer(lake)
    first = writer.put("", {"2013-01-01": rows(1, 2), "2013-01-02": rows(3), "2013-02-01": rows(4)})
    second = writer.put(first.locator, {"2013-02-02": rows(5)})
    for commit, want in (
        (first, {"2013-01-01": [1, 2], "2013-01-02": [3], "2013-02-01": [4]}),
        (second, {"2013-01-01": [1, 2], "2013-01-02": [3], "2013-02-01": [4], "2013-02-02": [5]}),
    ):
        assert ours(lake, commit) == want
        assert theirs(lake, commit) == want
        assert commit.files == lake.files(commit.locator)
    place = str(lake.root / second.locator)
    table = StaticTable.from_metadata(place)
    assert len(table.metadata.snapshots) == 1
    assert table.scan(row_filter="_partition == '2013-02-02'").to_arrow()["n"].to_pylist() == [5]
    assert len(list(table.scan(row_filter="_partition == '2013-02-02'").plan_files())) == 1, (
        "partitions are not pruned"
    )
    assert len(list(table.scan(row_filter="n > 4").plan_files())) == 1, "statistics are not used"
    assert pl.scan_iceberg(place).filter(pl.col("n") == 3).collect().height == 1
    assert [field.name for field in table.schema().fields] == ["n", "s", "_partition"]


@pytest.mark.parametrize(
    ("grain", "names", "slots"),
    [
        ("hourly", ["2013-11-03T01-0400", "2013-11-03T01-0500", "2013-11-04T00-0500"], 2),
        ("daily", ["2013-01-01", "2013-01-31", "2013-02-01"], 2),
        ("monthly", ["2012-12", "2013-01", "2013-02"], 2),
        ("static", ["café", "b", "c"], 3),
        ("none", ["all"], 1),
    ],
)
def test_every_grain_is_filed_by_its_slot(
    lake: IcebergLake, grain: str, names: list[str], slots: int
) -> None:
    """A grain would be partitioned so that readers cannot prune, or one file would span two Iceberg
    partitions."""
    commit = Writer(lake, grain).put("", {name: rows(i) for i, name in enumerate(names)})
    assert len(commit.files) == slots
    assert theirs(lake, commit) == {name: [i] for i, name in enumerate(names)}
    table = StaticTable.from_metadata(str(lake.root / commit.locator))
    assert len(list(table.scan(row_filter=f"_partition == '{names[0]}'").plan_files())) == 1


def test_nested_and_all_other_types_read_back(lake: IcebergLake) -> None:
    """A type would be stored in a form that Iceberg readers reject or misread."""
    frame = pl.DataFrame(
        {
            "b": [True, None],
            "i": pl.Series([1, None], dtype=pl.Int32),
            "f": pl.Series([1.5, None], dtype=pl.Float32),
            "x": [float("nan"), -0.0],
            "d": [datetime(2013, 1, 1).date(), None],
            "t": [datetime(2013, 1, 1, tzinfo=UTC), None],
            "l": [datetime(2013, 1, 1), None],
            "m": pl.Series(["1.50", None]).cast(pl.Decimal(20, 2)),
            "y": [b"\x00\xff", None],
            "list": [[1, None], None],
            "o": [{"a": 1, "b": ["x"]}, {"a": None, "b": None}],
            "h": pl.Series([3_600_000_000_000, None]).cast(pl.Time),
        }
    )
    table = frames.canonical(frames.to_arrow(frame))
    commit = Writer(lake, "none").put("", {"all": table})
    place = str(lake.root / commit.locator)
    for found in (
        StaticTable.from_metadata(place).scan().to_arrow(),
        pl.scan_iceberg(place).collect().to_arrow(),
    ):
        assert frames.digest(found) == frames.digest(table)


# ---------------------------------------------------------------- replace


def test_a_replaced_partition_takes_its_neighbours_along_unharmed(lake: IcebergLake) -> None:
    """Rewriting one day of a month's file would lose or double the other days, or change the state
    that was live before."""
    writer = Writer(lake)
    first = writer.put(
        "", {"2013-01-01": rows(1), "2013-01-02": rows(2, 22), "2013-01-03": rows(3)}
    )
    assert len(first.files) == 1
    second = writer.put(first.locator, {"2013-01-02": rows(7)})
    assert (
        theirs(lake, second)
        == ours(lake, second)
        == {"2013-01-01": [1], "2013-01-02": [7], "2013-01-03": [3]}
    )
    assert theirs(lake, first) == {"2013-01-01": [1], "2013-01-02": [2, 22], "2013-01-03": [3]}
    assert sorted(file.partitions for file in second.files) == [
        ("2013-01-01", "2013-01-03"),
        ("2013-01-02",),
    ]


def test_partitions_can_go_entirely(lake: IcebergLake) -> None:
    """An empty result would keep yesterday's rows, or an emptied table could not be read."""
    writer = Writer(lake)
    first = writer.put("", {"2013-01-01": rows(1), "2013-01-02": rows(2)})
    second = writer.put(first.locator, {"2013-01-01": rows()})
    assert theirs(lake, second) == {"2013-01-02": [2]}
    third = writer.put(second.locator, {"2013-01-02": rows()})
    assert theirs(lake, third) == {}
    assert third.files == ()
    assert theirs(lake, writer.put(third.locator, {"2013-01-05": rows(5)})) == {"2013-01-05": [5]}


def test_nothing_new_is_the_same_state(lake: IcebergLake) -> None:
    """An empty day would make a version, and everything downstream would look at it."""
    writer = Writer(lake)
    empty = writer.put("", {"2013-01-01": rows()})
    assert empty.files == ()
    assert theirs(lake, empty) == {}
    first = writer.put("", {"2013-01-01": rows(1)})
    again = writer.put(first.locator, {"2013-01-09": rows()})
    assert again == first


def test_a_narrowed_reference_brings_only_its_rows(lake: IcebergLake) -> None:
    """A day that failed its checks would be published with the month's file that it shares."""
    writer = Writer(lake)
    file = writer.stage({"2013-01-01": rows(1), "2013-01-02": rows(2), "2013-01-03": rows(3)})[0]
    narrow = FileRef(
        path=file.path,
        rows=file.rows,
        size_bytes=file.size_bytes,
        partitions=("2013-01-01", "2013-01-03"),
    )
    commit = lake.commit(
        "t",
        "",
        add=[narrow],
        replace=narrow.partitions,
        arrow_schema=SCHEMA.serialize().to_pybytes(),
        partitioned="daily",
    )
    assert theirs(lake, commit) == ours(lake, commit) == {"2013-01-01": [1], "2013-01-03": [3]}


def test_wrong_files_are_refused(lake: IcebergLake) -> None:
    """A file that is gone, or does not hold what its reference says, would be published."""
    writer = Writer(lake)
    file = writer.stage({"2013-01-01": rows(1)})[0]
    ask = {"replace": (), "arrow_schema": SCHEMA.serialize().to_pybytes(), "partitioned": "daily"}
    with pytest.raises(BadData, match="2013-01-02"):
        lake.commit(
            "t",
            "",
            add=[FileRef(path=file.path, rows=1, size_bytes=1, partitions=("2013-01-02",))],
            **ask,
        )
    with pytest.raises(Damaged, match="missing"):
        lake.commit(
            "t",
            "",
            add=[
                FileRef(
                    path="t/data/none.parquet", rows=1, size_bytes=1, partitions=("2013-01-01",)
                )
            ],
            **ask,
        )
    wide = Writer(lake, "none").stage({"2013-01-01": rows(1), "2013-02-01": rows(1)})[0]
    with pytest.raises(BadData, match="more than one"):
        lake.commit("t", "", add=[wide], **ask)
    with pytest.raises(UsageError, match="partitioned daily"):
        Writer(lake, "monthly").put(
            writer.put("", {"2013-01-01": rows(1)}).locator, {"2013-01": rows(1)}
        )


# ---------------------------------------------------------------- schema


def test_columns_come_and_stay(lake: IcebergLake) -> None:
    """A new column would shift the others' field ids, or a missing one would lose its old
    values."""
    writer = Writer(lake)
    a = writer.put("", {"2013-01-01": pa.table({"n": [1], "o": [{"x": 1}]})})
    b = writer.put(
        a.locator, {"2013-01-02": pa.table({"z": ["new"], "n": [2], "o": [{"x": 2, "y": 3}]})}
    )
    c = writer.put(b.locator, {"2013-01-03": pa.table({"n": [3]})})
    place = str(lake.root / c.locator)
    for found in (
        StaticTable.from_metadata(place).scan().to_arrow(),
        pl.scan_iceberg(place).collect().to_arrow(),
    ):
        found = found.sort_by("n")
        assert found.column_names == ["n", "o", "z", "_partition"]
        assert found["z"].to_pylist() == [None, "new", None]
        assert found["o"].to_pylist() == [{"x": 1, "y": None}, {"x": 2, "y": 3}, None]
    ids = lambda commit: {
        field.name: field.field_id
        for field in StaticTable.from_metadata(str(lake.root / commit.locator)).schema().fields
    }  # noqa: E731
    assert ids(a).items() <= ids(b).items() <= ids(c).items()


def test_numbers_widen_and_filters_stay_right(lake: IcebergLake) -> None:
    """Old statistics, four bytes wide, would be misread after a column became long, and readers
    would skip the wrong files."""
    writer = Writer(lake)
    a = writer.put(
        "",
        {
            "2013-01-01": pa.table(
                {"n": pa.array([1], pa.int32()), "f": pa.array([1.5], pa.float32())}
            )
        },
    )
    b = writer.put(
        a.locator, {"2013-01-02": pa.table({"n": pa.array([2**40]), "f": pa.array([2.5])})}
    )
    c = writer.put(
        b.locator,
        {
            "2013-01-03": pa.table(
                {"n": pa.array([3], pa.int32()), "f": pa.array([3.5], pa.float32())}
            )
        },
    )
    place = str(lake.root / c.locator)
    for condition, want in (
        ("n < 2", [1]),
        ("n > 100", [2**40]),
        ("f == 3.5", [3]),
        ("n <= 3", [1, 3]),
    ):
        assert (
            sorted(
                StaticTable.from_metadata(place)
                .scan(row_filter=condition)
                .to_arrow()["n"]
                .to_pylist()
            )
            == want
        )
        assert (
            sorted(
                pl.scan_iceberg(place)
                .filter(pl.sql_expr(condition.replace("==", "=")))
                .collect()["n"]
                .to_list()
            )
            == want
        )
    assert theirs(lake, a) == {"2013-01-01": [1]}


@pytest.mark.parametrize("digits", [9, 18, 30])
def test_decimals_with_fewer_digits_come_after_wide_ones(lake: IcebergLake, digits: int) -> None:
    """A run would end as a bug where a table's decimals were wide once: those that fit are stored
    as integers. Their bounds would hide files from readers, if they were of another width."""
    writer = Writer(lake)
    wide, narrow = pa.decimal128(38, 4), pa.decimal128(digits, 4)
    a = writer.put("", {"2013-01-01": pa.table({"n": pa.array([Decimal("-1.5")], wide)})})
    b = writer.put(
        a.locator,
        {"2013-01-02": pa.table({"n": pa.array([Decimal("-70000.25"), Decimal("3.5")], narrow)})},
    )
    place = str(lake.root / b.locator)
    for condition, want in (
        ("n < -2", ["-70000.2500"]),
        ("n > 3", ["3.5000"]),
        ("n < 0", ["-70000.2500", "-1.5000"]),
        ("n > 4", []),
    ):
        found = StaticTable.from_metadata(place).scan(row_filter=condition).to_arrow()["n"]
        assert sorted(map(str, found.to_pylist())) == sorted(want)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (pa.array(["x"]), "string"),
        (pa.array([1.5]), "float64"),
        (pa.array([[1]]), "list"),
        (pa.array([{"a": 1}]), "struct"),
    ],
)
def test_other_type_changes_are_refused(lake: IcebergLake, new: pa.Array, said: str) -> None:
    """A column would change its meaning below its readers."""
    writer = Writer(lake)
    a = writer.put("", {"2013-01-01": rows(1)})
    with pytest.raises(BadData, match=f"`n` is int64 .* {said}"):
        writer.put(a.locator, {"2013-01-02": pa.table({"n": new})})


# ---------------------------------------------------------------- restore


def test_restore_brings_back_exactly_the_partitions_named(lake: IcebergLake) -> None:
    """An undo would lose what was published rightly after the bad version."""
    writer = Writer(lake)
    good = writer.put("", {"2013-01-01": rows(1), "2013-02-01": rows(2)})
    bad = writer.put(good.locator, {"2013-01-01": rows(9), "2013-03-01": rows(3)})
    later = writer.put(bad.locator, {"2013-02-02": rows(4)})
    undone = lake.restore("t", later.locator, good.locator, ["2013-01-01", "2013-03-01"])
    assert (
        theirs(lake, undone)
        == ours(lake, undone)
        == {"2013-01-01": [1], "2013-02-01": [2], "2013-02-02": [4]}
    )
    assert {file.path for file in undone.files} <= {
        file.path for file in (*good.files, *later.files)
    }, "data was copied"
    assert (
        lake.restore("t", undone.locator, good.locator, ["2013-01-01", "2013-03-01"]).locator
        == undone.locator
    )


def test_restore_takes_single_days_out_of_shared_files(lake: IcebergLake) -> None:
    """Undoing one day would bring back, or remove, its neighbours in the same file."""
    writer = Writer(lake)
    good = writer.put("", {f"2013-01-0{day}": rows(day) for day in (1, 2, 3)})
    bad = writer.put(good.locator, {f"2013-01-0{day}": rows(day * 10) for day in (1, 2, 3, 4)})
    undone = lake.restore("t", bad.locator, good.locator, ["2013-01-02", "2013-01-04"])
    assert (
        theirs(lake, undone)
        == ours(lake, undone)
        == {"2013-01-01": [10], "2013-01-02": [2], "2013-01-03": [30]}
    )


def test_restore_between_branches_whose_columns_differ(lake: IcebergLake) -> None:
    """Two environments gave the same field id to different columns: statistics of one would prune
    by the other's column."""
    writer = Writer(lake)
    trunk = writer.put("", {"2013-01-01": rows(1)})
    left = writer.put(trunk.locator, {"2013-01-02": pa.table({"n": [2], "left": [1000]})})
    right = writer.put(trunk.locator, {"2013-01-03": pa.table({"n": [3], "right": [5]})})
    merged = lake.restore("t", left.locator, right.locator, ["2013-01-03"])
    assert theirs(lake, merged) == {"2013-01-01": [1], "2013-01-02": [2], "2013-01-03": [3]}
    place = str(lake.root / merged.locator)
    for condition, want in (
        ("right = 5", [3]),
        ("left = 1000", [2]),
        ("left is null", [1, 3]),
        ("right is null", [1, 2]),
    ):
        assert (
            sorted(
                StaticTable.from_metadata(place)
                .scan(row_filter=condition)
                .to_arrow()["n"]
                .to_pylist()
            )
            == want
        )
        assert (
            sorted(pl.scan_iceberg(place).filter(pl.sql_expr(condition)).collect()["n"].to_list())
            == want
        )


# ---------------------------------------------------------------- compact and collect


def test_compaction_keeps_rows_and_merges_within_slots(lake: IcebergLake) -> None:
    """A year of daily runs would stay 365 files, or rows would be lost when they are merged."""
    writer = Writer(lake)
    base = ""
    want = {
        f"2013-{month:02}-{day:02}": [month * 100 + day]
        for month in (1, 2)
        for day in range(1, 6 + month * 3)
    }
    for name, values in want.items():
        base = writer.put(base, {name: rows(*values)}).locator
    merged = lake.compact("t", base, files_max=8)
    assert merged is not None
    assert theirs(lake, merged) == ours(lake, merged) == want
    assert sorted(len(file.partitions) for file in merged.files) == [1] * 8 + [11], (
        "only February had more than 8 files"
    )
    assert lake.compact("t", merged.locator, files_max=8) is None
    assert ours(lake, merged, partitions=["2013-02-03"]) == {"2013-02-03": [203]}


def test_profiles_follow_the_rows(lake: IcebergLake) -> None:
    """After a merge, an undo or a rewrite of a shared file, a profile would be lost, or be that of
    rows which are not there any more."""
    writer = Writer(lake)
    states = [writer.put("", {"2013-01-01": rows(1, 2), "2013-01-02": rows(50)})]
    for day in range(3, 14):
        states.append(writer.put(states[-1].locator, {f"2013-01-{day:02}": rows(day, day)}))
    last = states[-1]
    assert profile(lake, last) == (25, 0, (1, 50))
    merged = lake.compact("t", last.locator)
    assert merged is not None
    assert len(merged.files) < len(last.files)
    assert profile(lake, merged) == profile(lake, last)
    changed = writer.put(merged.locator, {"2013-01-02": rows(3)})
    assert profile(lake, changed) == (25, 0, (1, 13))
    undone = lake.restore("t", changed.locator, last.locator, ["2013-01-02"])
    assert profile(lake, undone) == profile(lake, last)
    stored = {one.path: one for one in lake.stored(undone.locator)}
    beside = [one for path, one in stored.items() if path.endswith(".profiles")]
    assert len(beside) == len(undone.files)
    assert all(
        hashlib.sha256((lake.root / one.path).read_bytes()).hexdigest() == one.sha256
        for one in beside
    )


def test_collection_leaves_what_is_kept_and_what_is_young(lake: IcebergLake) -> None:
    """Garbage collection would eat live data or a worker's staged files; or never free anything."""
    writer = Writer(lake)
    a = writer.put("", {"2013-01-01": rows(1), "2013-01-02": rows(2)})
    b = writer.put(a.locator, {"2013-01-01": rows(3)})
    c = writer.put(b.locator, {"2013-01-05": rows(4)})
    writer.stage({"2013-01-09": rows(9)})
    (lake.root / "t" / "data" / "x.parquet.1-2.part").write_bytes(b"half")
    for folder, _, names in os.walk(lake.root):
        for name in [*names, "."]:
            os.utime(os.path.join(folder, name), ns=(NOW, NOW))
    assert lake.collect([a.locator, b.locator, c.locator], older_than_ns=NOW) == 0, (
        "nothing is older than NOW"
    )
    young = writer.stage({"2013-01-10": rows(10)})
    freed = lake.collect([b.locator], older_than_ns=NOW + NS)
    assert freed > 0
    assert theirs(lake, b) == {"2013-01-01": [3], "2013-01-02": [2]}
    for gone in (a, c):
        with pytest.raises(NotFound):
            lake.files(gone.locator)
    assert (lake.root / young[0].path).exists()
    assert not (lake.root / "t" / "data" / "x.parquet.1-2.part").exists()
    left = {
        os.path.relpath(os.path.join(f, n), lake.root)
        for f, _, names in os.walk(lake.root)
        for n in names
    }
    assert (
        len(left) == 1 + 1 + 2 * len(b.files) + len(lake._load(b.locator).manifests) + 2
    )  # state, list, data and profiles, manifests, the young file and its profiles
    assert profile(lake, b) == (2, 0, (2, 3))
    assert theirs(lake, writer.put(b.locator, {"2013-01-07": rows(7)})) == {
        "2013-01-01": [3],
        "2013-01-02": [2],
        "2013-01-07": [7],
    }


def test_collection_deletes_nothing_when_a_kept_state_cannot_be_read(lake: IcebergLake) -> None:
    """One wrong locator would make everything garbage."""
    a = Writer(lake).put("", {"2013-01-01": rows(1)})
    with pytest.raises(NotFound):
        lake.collect(["t/metadata/00009-none.metadata.json"], older_than_ns=2**62)
    assert theirs(lake, a) == {"2013-01-01": [1]}


# ---------------------------------------------------------------- growth, crashes, races


def test_a_commit_does_not_grow_with_history(lake: IcebergLake) -> None:
    """The thousandth commit would cost more than the first: manifests, or bytes written, would grow
    with the history."""
    writer = Writer(lake, "static")
    base, sizes = "", []
    for index in range(200):
        base = writer.put(base, {f"p{index:03}": rows(index)}).locator
        opened = lake._load(base)
        assert len(opened.manifests) <= math.log2(index + 1) + 2
        sizes.append(
            os.path.getsize(lake.root / base)
            + sum(
                os.path.getsize(lake.root / m.manifest.path)
                for m in opened.manifests
                if m.manifest.sequence == index + 1
            )
        )
    assert len(opened.metadata["snapshots"]) == 1
    small = sorted(sizes)[len(sizes) // 2]
    assert small < 30_000, f"half of the commits write more than {small} bytes"
    assert len(theirs(lake, TableCommit(locator=base, files=()))) == 200


def test_a_crash_between_any_two_writes_leaves_the_base_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written commit would be named by something, or spoil the state that it started
    from."""
    lake = new_lake(tmp_path)
    writer = Writer(lake)
    base = writer.put("", {"2013-01-01": rows(1), "2013-01-02": rows(2)})
    staged = writer.stage({"2013-01-02": rows(7)})
    real, names = disk.write, []
    for fail_at in range(10):
        count = 0

        def write(path: str, data: bytes, *, whole: bool, final: bool = False) -> None:
            nonlocal count
            count += 1
            if count > fail_at:
                Path(path + (".part" if whole else "")).write_bytes(data[: len(data) // 2])
                raise disk.refused(OSError(28, "No space left on device"), path)
            real(path, data, whole=whole, final=final)

        monkeypatch.setattr(disk, "write", write)
        try:
            done = lake.commit(
                "t",
                base.locator,
                add=staged,
                replace=["2013-01-02"],
                arrow_schema=SCHEMA.serialize().to_pybytes(),
                partitioned="daily",
            )
        except StorageError as error:
            assert error.code == "SX-FILE-001"
            names.append(fail_at)
        else:
            break
        finally:
            monkeypatch.setattr(disk, "write", real)
        assert theirs(lake, base) == ours(lake, base) == {"2013-01-01": [1], "2013-01-02": [2]}
        assert sorted(p.name for p in (lake.root / "t/metadata").glob("*.metadata.json")) == [
            os.path.basename(base.locator)
        ]
    assert names == [0, 1, 2, 3], "profiles, manifest, list and state are four writes"
    assert theirs(lake, done) == {"2013-01-01": [1], "2013-01-02": [7]}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_said_and_harms_nothing(tmp_path: Path) -> None:
    """A real full disk would show as some library's error, or leave a state that names half a
    file."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        lake = new_lake(mount)
        writer = Writer(lake)
        last, want = writer.put("", {"2013-01-01": rows(1)}), {"2013-01-01": [1]}
        with pytest.raises(StorageError, match="disk is full"):
            for day in range(2, 32):
                last = writer.put(
                    last.locator, {f"2013-01-{day:02}": rows(day, *range(1000, 1400))}
                )
                want[f"2013-01-{day:02}"] = [day, *range(1000, 1400)]
        assert len(want) > 1
        assert theirs(lake, last) == ours(lake, last) == want
        lake.collect([last.locator], older_than_ns=2**62)
        assert theirs(lake, writer.put(last.locator, {"2013-02-01": rows(5)})) == {
            **want,
            "2013-02-01": [5],
        }
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_writers_on_one_base_do_not_see_each_other(lake: IcebergLake) -> None:
    """Two commits at once would overwrite each other's files; which of them wins is decided above,
    by compare-and-swap."""
    writer = Writer(lake)
    base = writer.put("", {"2013-01-01": rows(0)})
    staged = {day: writer.stage({f"2013-01-{day:02}": rows(day)}) for day in range(2, 10)}

    def one(day: int) -> TableCommit:
        return lake.commit(
            "t",
            base.locator,
            add=staged[day],
            replace=(),
            arrow_schema=SCHEMA.serialize().to_pybytes(),
            partitioned="daily",
        )

    with ThreadPoolExecutor(8) as pool:
        done = dict(zip(staged, pool.map(one, staged), strict=True))
    for day, commit in done.items():
        assert theirs(lake, commit) == {"2013-01-01": [0], f"2013-01-{day:02}": [day]}


def test_damage_is_told(lake: IcebergLake) -> None:
    """A truncated or missing metadata file would be read as an empty table."""
    commit = Writer(lake).put("", {"2013-01-01": rows(1)})
    state = lake._load(commit.locator)
    for path in (state.manifests[0].manifest.path, commit.locator):
        place = lake.root / path
        whole = place.read_bytes()
        place.chmod(0o600)
        place.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(Damaged):
            lake.files(commit.locator)
        place.write_bytes(whole)
    os.unlink(lake.root / state.manifests[0].manifest.path)
    with pytest.raises(Damaged, match="missing"):
        lake.files(commit.locator)


def test_a_moved_lake_is_whole_again_after_one_commit(tmp_path: Path) -> None:
    """A restored backup in another folder would name files in the old one."""
    old = new_lake(tmp_path / "old")
    base = Writer(old).put("", {"2013-01-01": rows(1), "2013-02-01": rows(2)})
    shutil.move(tmp_path / "old", tmp_path / "new")
    lake = new_lake(tmp_path / "new", seed=2)
    assert ours(lake, base) == {"2013-01-01": [1], "2013-02-01": [2]}
    healed = lake.commit(
        "t", base.locator, add=(), replace=(), arrow_schema=b"", partitioned="daily"
    )
    assert theirs(lake, healed) == {"2013-01-01": [1], "2013-02-01": [2]}
    assert healed.files == base.files


# ---------------------------------------------------------------- against a model


NAMES = ["2013-01-01", "2013-01-02", "2013-01-03", "2013-02-01", "2013-02-02"]
PUT = st.tuples(
    st.just("put"),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.integers(0, 99), max_size=3), min_size=1),
)
RESTORE = st.tuples(
    st.just("restore"),
    st.integers(0, 9),
    st.tuples(st.integers(0, 9), st.lists(st.sampled_from(NAMES), unique=True)),
)
COMPACT = st.tuples(st.just("compact"), st.integers(0, 9), st.integers(0, 2))


@given(steps=st.lists(st.one_of(PUT, PUT, RESTORE, COMPACT), min_size=1, max_size=10))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_states_follow_a_model(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Some sequence of commits, restores from other states and compactions, on branching states,
    would lose or double rows."""
    lake = new_lake(tmp_path_factory.mktemp("model"))
    writer = Writer(lake)
    states: list[tuple[TableCommit, dict[str, list[int]]]] = [
        (writer.put("", {NAMES[0]: rows(0)}), {NAMES[0]: [0]})
    ]
    for verb, at, what in steps:
        base, model = states[at % len(states)]
        if verb == "put":
            commit = writer.put(
                base.locator, {name: rows(*values) for name, values in what.items()}
            )
            model = {**model, **{name: sorted(values) for name, values in what.items()}}
        elif verb == "restore":
            source, other = states[what[0] % len(states)]
            commit = lake.restore("t", base.locator, source.locator, what[1])
            model = {**model, **{name: other.get(name, []) for name in what[1]}}
        else:
            commit = lake.compact("t", base.locator, files_max=what) or base
        states.append((commit, {name: values for name, values in model.items() if values}))
    for commit, model in states:
        assert ours(lake, commit) == model
    assert theirs(lake, states[-1][0]) == states[-1][1]
    kept = [commit.locator for commit, _ in states[-2:]]
    lake.collect(kept, older_than_ns=2**62)
    for commit, model in states[-2:]:
        assert ours(lake, commit) == model
