"""What names mean at the SQL endpoint: pinned versions, swapped at once, held still for whoever
reads."""

import shutil
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from sql_endpoint import DIGESTS, World

from sextant.kernel.errors import BadData, Bug, UsageError
from sextant.kinds.kpi.spec import Measure
from sextant.server.sql.catalogue import LAKE, Catalogue, LiveTable, live_kpi


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    try:
        yield one
    finally:
        one.close()


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


def made(world: World) -> set[str]:
    return set(
        world.store.query(f"SELECT name FROM system.tables WHERE database = '{LAKE}'", form="TSV")
        .decode()
        .split()
    )


def test_nothing_is_known_before_it_is_told(world: World) -> None:
    with pytest.raises(UsageError, match=r"there is no table `data\.t`") as unknown:
        world.judge("SELECT * FROM data.t")
    assert "has not been told yet" in unknown.value.hint
    assert world.ask("SHOW TABLES FROM data") == ""


def test_a_damaged_table_says_why_it_cannot_be_read(world: World) -> None:
    """Whoever asks would be told that there is no such table, and look for who dropped it."""
    import msgspec

    good = world.live("t", numbers(1), DIGESTS[1])
    bad = msgspec.structs.replace(good, damaged=f"`{world.catalogue._root}/x` was changed")
    assert world.catalogue.apply("dev", [bad], []).left_out == {
        "data.t": "`<lake>/x` was changed",
        f"data.t@{DIGESTS[1][:12]}": "`<lake>/x` was changed",
    }
    with pytest.raises(UsageError) as unknown:
        world.judge("SELECT * FROM data.t")
    assert "was changed" in unknown.value.hint
    assert world.catalogue.apply("dev", [good], []).left_out == {}
    assert world.ask("SELECT count() FROM t").strip() == "1"


def test_names(world: World) -> None:
    old, new = (
        world.live("t", numbers(1), DIGESTS[1], live=False),
        world.live("t", numbers(1, 2), DIGESTS[2]),
    )
    prod = world.live("t", numbers(1, 2, 3), DIGESTS[3], env="prod")
    applied = world.catalogue.apply("dev", [old, new, prod], [])
    assert (applied.made, applied.left_out) == (
        4,
        {},
    )  # the old version is made when somebody asks for it
    assert [
        world.ask(f"SELECT count() FROM {name}").strip()
        for name in (
            "t",
            "data.t",
            '"t@222222222222"',
            '"t@env:prod"',
            '"t@333333333333"',
            '"t@111111111111"',
        )
    ] == list("222331")
    assert world.ask("SHOW TABLES FROM data").split() == ["t", "t@env:prod"]
    assert world.ask("SELECT n FROM t ORDER BY n") == "1\n2\n"
    assert world.ask('EXISTS TABLE data."t@111111111111"') == "1\n"
    with pytest.raises(UsageError) as unknown:
        world.judge("SELECT * FROM data.tt")
    assert "did you mean `t`" in unknown.value.hint


def test_an_unpublished_state_is_never_seen(world: World) -> None:
    first = world.live("t", numbers(1), DIGESTS[1])
    world.catalogue.apply("dev", [first], [])
    world.put("t", numbers(1, 2, 3), base=first.locator)  # newer, in the same folder, and not live
    assert world.ask("SELECT count() FROM t") == "1\n"


def test_again_changes_nothing_and_a_swap_drops_what_nothing_means(world: World) -> None:
    one, two = world.live("t", numbers(1), DIGESTS[1]), world.live("t", numbers(1, 2), DIGESTS[2])
    assert world.catalogue.apply("dev", [one], []).made == 2
    again = world.catalogue.apply("dev", [one], [])
    assert (again.made, again.dropped) == (0, 0)
    swapped = world.catalogue.apply("dev", [two], [])
    assert (swapped.made, swapped.dropped) == (2, 2)
    assert world.ask("SELECT count() FROM t") == "2\n"
    assert (world.lake.root / one.locator).exists()  # the files stay
    gone = world.catalogue.apply("dev", [], [])
    assert gone.dropped == 2
    assert made(world) == set()
    assert world.ask("SHOW TABLES FROM data") == ""


def test_a_query_sees_one_moment_however_long_it_takes(world: World) -> None:
    one, two = world.live("t", numbers(1), DIGESTS[1]), world.live("t", numbers(1, 2), DIGESTS[2])
    world.catalogue.apply("dev", [one], [])
    with world.catalogue.reading() as names:
        before = world.guard.judge("SELECT count() FROM data.t", names).sql
        assert world.catalogue.apply("dev", [two], []).dropped == 0
        assert world.store.ask(before, form="TSV") == b"1\n"
        assert world.ask("SELECT count() FROM data.t") == "2\n"  # who comes later sees the new one
    assert len(made(world)) == 2  # and the last reader out drops the old one


def test_readers_never_meet_a_gap_while_versions_are_swapped(world: World) -> None:
    """Two tables that are published together are never seen apart."""
    pairs = [
        [world.live(name, numbers(*range(size)), f"{size}{name}" * 10) for name in ("a", "b")]
        for size in (1, 2, 3, 4)
    ]
    world.catalogue.apply("dev", pairs[0], [])
    stop, problems, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.add(world.ask("SELECT (SELECT count() FROM a) - (SELECT count() FROM b)"))
            except Exception as error:
                problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(40):
        world.catalogue.apply("dev", pairs[turn % 4], [])
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert seen == {"0\n"}
    world.catalogue.apply("dev", pairs[0], [])
    assert len(made(world)) == 4


def test_what_cannot_be_read_is_left_out_and_says_why(world: World) -> None:
    good, bad = (
        world.live("good", numbers(1), DIGESTS[1]),
        world.live("bad", numbers(1), DIGESTS[2]),
    )
    shutil.rmtree(world.lake.root / "bad")
    applied = world.catalogue.apply("dev", [good, bad], [])
    assert list(applied.left_out) == ["data.bad"]
    assert str(world.folder) not in applied.left_out["data.bad"]
    assert world.ask("SELECT count() FROM good") == "1\n"
    with pytest.raises(UsageError) as unknown:
        world.judge("SELECT * FROM bad")
    assert unknown.value.hint == applied.left_out["data.bad"]
    with pytest.raises(UsageError, match="cannot be read") as expired:
        world.judge('SELECT * FROM data."bad@222222222222"')
    assert "expired" in expired.value.hint


def test_a_list_that_is_wrong_changes_nothing(world: World) -> None:
    good = world.live("t", numbers(1), DIGESTS[1])
    world.catalogue.apply("dev", [good], [])
    for locator in (
        "/etc/passwd",
        "../x/metadata/v1.metadata.json",
        "t/metadata/../../x/metadata/a.metadata.json",
        "t/metadata/x.json",
        "t' OR/metadata/x.metadata.json",
    ):
        with pytest.raises(BadData, match="no metadata file"):
            world.catalogue.apply(
                "dev",
                [
                    LiveTable(
                        env="dev", asset="dataset:t", name="t", version=DIGESTS[2], locator=locator
                    )
                ],
                [],
            )
    with pytest.raises(BadData, match="two versions"):
        world.catalogue.apply("dev", [good, world.live("t", numbers(1, 2), DIGESTS[2])], [])
    assert world.ask("SELECT count() FROM t") == "1\n"


def test_after_a_restart_the_same_tables_serve(world: World) -> None:
    one = world.live("t", numbers(1), DIGESTS[1])
    world.catalogue.apply("dev", [one], [])
    names = made(world)
    world.catalogue = Catalogue(world.store, world.lake.root)
    assert world.catalogue.apply("dev", [one], []).made == 0
    assert made(world) == names
    assert world.ask("SELECT count() FROM t") == "1\n"
    other = Catalogue(world.store, world.lake.root)
    assert (
        other.apply("dev", [], []).dropped == 2
    )  # what an earlier process left and nothing means any more


def test_kpis(world: World) -> None:
    values = world.live(
        "kpi_ratio", pa.table({"bucket": [1, 2], "p0": [1, 3], "p1": [3, 4]}), DIGESTS[1]
    )
    ratio = live_kpi("dev", "ratio", Measure(of="dataset:t", sql="sum(a) / sum(b)", grain="1d"))
    median = live_kpi("dev", "median", Measure(of="dataset:t", sql="median(a)", grain="1d"))
    lonely = live_kpi("dev", "lonely", Measure(of="dataset:t", sql="sum(a)"))
    applied = world.catalogue.apply("dev", [values], [ratio, median, lonely])
    assert set(applied.left_out) == {"kpi.median", "kpi.lonely"}
    assert (
        world.ask("SELECT bucket, p0, p1, value FROM kpi.ratio ORDER BY bucket")
        == "1\t1\t3\t0.3333333333333333\n2\t3\t4\t0.75\n"
    )
    rollup = world.ask(
        "SELECT comment FROM system.tables WHERE database = 'kpi' AND name = 'ratio'"
    ).strip()
    assert (
        world.ask(f"SELECT round({rollup}, 4) FROM kpi.ratio") == "0.5714\n"
    )  # a ratio of sums, no mean of ratios
    with pytest.raises(UsageError) as missing:
        world.judge("SELECT * FROM kpi.median")
    assert "cannot be taken apart" in missing.value.hint


def test_personal_columns_and_a_tag_that_comes_later(world: World) -> None:
    one = world.live("people", pa.table({"id": [1], "email": ["a@x"]}), DIGESTS[1])
    world.catalogue.apply("dev", [one], [])
    assert world.ask("SELECT email FROM people") == "a@x\n"
    tagged = LiveTable(
        env="dev",
        asset=one.asset,
        name=one.name,
        version=one.version,
        locator=one.locator,
        personal=("email",),
    )
    world.catalogue.apply("dev", [tagged], [])
    assert world.ask("SELECT * EXCEPT (_partition) FROM people") == "1\n"
    assert world.ask("SELECT email FROM people", admin=True) == "a@x\n"
    assert (
        world.ask("SELECT name FROM system.columns WHERE database = 'data' ORDER BY position")
        == "id\n_partition\n"
    )


def test_it_has_to_work_in_the_lake(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Bug, match="does not work in the lake"):
        Catalogue(world.store, world.lake.root)
