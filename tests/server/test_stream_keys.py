"""The key of a stream holds over the whole table: the last row that was pushed for it is the only
one, wherever it belongs."""

from sextant.kinds.dataset.spec import table_spec
from sextant.kernel.nouns import SYSTEM
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from shop_project import Shop, run

from sextant.kinds.dataset import inbox
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kinds.dataset import streams
from sextant.engine import keys
from sextant.kinds.dataset import bodies
from sextant.kernel.clock import NS, ManualClock
from sextant.kernel.ports import Statement, Write

OPS = """
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id", time="at", partition=days)
mean = sx.kpi("mean", of=prices, measure="avg(price)", grain="1d")
notes = sx.stream("notes", columns={"id": "string", "text": "string"}, key="id")
"""
DATASET = "dataset:prices"


def row(id_: str | None, day: int, price: float = 1.0) -> dict[str, Any]:
    return {"id": id_, "at": f"2026-01-0{day}T08:00:00Z", "price": price}


def sent(columns: streams.Columns, rows: list[dict[str, Any]]) -> list[streams.Row]:
    """Return rows as a body of them is read."""
    body = bodies.opened(rows, "", batch="", env="")
    return bodies.read(columns, (), body, streams.BadRowList()).rows


def content(p: LocalPlatform) -> dict[str, list[tuple[Any, ...]]]:
    """Return partition -> (id, price) of what a run would make of the pushed rows."""
    manifest = p.core.project.manifest()
    table = table_spec(manifest.asset(DATASET))  # type: ignore[arg-type]
    assert table is not None
    return {
        partition: sorted(
            ((one["id"], one["price"]) for one in made.to_pylist()), key=lambda pair: str(pair)
        )
        for partition, blobs in p.runs.inbox.parts(manifest)[DATASET].items()
        for made in [
            streams.fold(table.columns, [(one, p.core.blobs.get(one)) for one in blobs], table.key)
        ]
    }


def test_a_correction_moves_a_row_to_its_new_partition(shop: Shop) -> None:
    """If this fails, an order whose time is corrected is counted on two days."""
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("prices", [row("a", 1, 1.0), row("b", 1, 3.0)])
        run(p)
        ops.push("prices", [row("a", 2, 5.0)])
        run(p)
        assert ops.count("prices")["rows"] == 2
        assert {
            str(one["bucket"])[:10]: one["value"] for one in ops.kpi("mean", grain="1d")["rows"]
        } == {"2026-01-01": 3.0, "2026-01-02": 5.0}
        ops.push("prices", [row("a", 1, 7.0)])
        run(p)
        assert ops.count("prices")["rows"] == 2
        assert ops.count("prices", partition="2026-01-02")["rows"] == 0
        assert run(p).id == "", "nothing to do"


def test_the_same_rows_pushed_again_come_last_again(shop: Shop) -> None:
    """If this fails, what is pushed back to an earlier value keeps the later one, or rows without
    a key that are pushed twice are there once."""
    shop.write(OPS.replace('"text": "string"}, key="id"', '"text": "string"}'))
    with shop.open() as p:
        ops = Operations(p)
        for price in (1.0, 2.0, 1.0):
            ops.push("prices", [row("a", 1, price)])
            ops.push("notes", [{"id": "a", "text": "x"}])
            p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        assert content(p) == {"2026-01-01": [("a", 1.0)]}
        run(p)
        assert ops.count("notes")["rows"] == 3


def test_a_clock_that_is_set_back_does_not_turn_pushes_around(shop: Shop) -> None:
    """If this fails, the earlier of two pushes of a key wins, when the clock was set back between
    them and another process took the second."""
    shop.write(OPS)
    clock = ManualClock(1_800_000_000 * NS)
    with shop.open(clock=clock) as one, shop.open(clock=clock) as other:
        Operations(one).push("prices", [row("a", 1, 1.0)])
        clock.set(clock.now_ns() - 60 * NS)
        Operations(other).push("prices", [row("a", 2, 2.0)])
        other.runs.inbox.fold(other.core.project.manifest(), SYSTEM)
        assert content(one) == {"2026-01-02": [("a", 2.0)]}


def test_rows_without_a_key_and_tables_without_partitions_do_not_move(shop: Shop) -> None:
    """If this fails, rows whose key is missing replace each other, or a table of one slice loses
    rows."""
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("prices", [row(None, 1), row(None, 2)])
        ops.push("prices", [row(None, 2)])
        ops.push("notes", [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}])
        ops.push("notes", [{"id": "a", "text": "z"}, {"id": "b", "text": "z"}])
        run(p)
        assert content(p) == {
            "2026-01-01": [(None, 1.0)],
            "2026-01-02": [(None, 1.0), (None, 1.0)],
        }, "the checks refuse them, and say so"
        assert ops.count("notes")["rows"] == 2
        assert not p.core.state.read("inbox_keys", ("dataset:notes", *[b""] * 50))


def test_a_partition_from_which_nothing_moved_keeps_its_digest(shop: Shop) -> None:
    """If this fails, an upgrade, or rows for another day, computes everything again."""
    shop.write(OPS)
    with shop.open() as p:
        table = table_spec(p.core.project.manifest().asset(DATASET))  # type: ignore[arg-type]
        assert table is not None
        body = b'[["a","2026-01-01T08:00:00Z",1.0],["b","2026-01-01T08:00:00Z",1.0]]'
        blob = p.core.blobs.put(body)
        earlier = Statement("inbox_part_add", (DATASET, "2026-01-01", "inb_01J0", blob, 2))
        p.core.state.commit(Write((earlier,)))
        run(p)
        ops = Operations(p)
        ops.push("prices", [row("c", 2)])
        report = run(p)
        assert report.computed == 2, "the second day, and its value"
        assert p.runs.plans.scene("dev", p.core.project.manifest()).pushed[DATASET][
            "2026-01-01"
        ] == keys.pushed_digest([blob])
        ops.push("prices", [row("a", 2, 9.0)])
        run(p)
        assert content(p) == {"2026-01-01": [("b", 1.0)], "2026-01-02": [("a", 9.0), ("c", 1.0)]}


def test_duplicates_of_an_earlier_release_go_with_the_next_push(shop: Shop) -> None:
    """If this fails, a key that an earlier release left in two partitions stays in one of them for
    ever."""
    shop.write(OPS)
    with shop.open() as p:
        table = table_spec(p.core.project.manifest().asset(DATASET))  # type: ignore[arg-type]
        assert table is not None
        for day in (1, 2):
            body = b'[["a","2026-01-0%dT08:00:00Z",1.0]]' % day
            part = (DATASET, f"2026-01-0{day}", "inb_01J0", p.core.blobs.put(body), 1)
            p.core.state.commit(Write((Statement("inbox_part_add", part),)))
        Operations(p).push("prices", [row("a", 3, 2.0)])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        assert content(p) == {"2026-01-01": [], "2026-01-02": [], "2026-01-03": [("a", 2.0)]}


def test_another_process_folds_at_the_same_time(shop: Shop, monkeypatch: Any) -> None:
    """If this fails, two processes that fold at once leave a key in two partitions, or rows twice."""
    shop.write(OPS)
    with shop.open() as p, shop.open("bob") as q:
        ops = Operations(p)
        ops.push("prices", [row("a", 1)])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        ops.push("prices", [row("a", 2)], batch="b2")
        commit = p.core.state.commit

        def overtaken(write: Write) -> Any:
            if any(one.name == "inbox_fold" for one in write.statements):
                monkeypatch.setattr(p.core.state, "commit", commit)
                q.runs.inbox.fold(q.core.project.manifest(), SYSTEM)
                Operations(q).push("prices", [row("a", 3)], batch="b3")
            return commit(write)

        monkeypatch.setattr(p.core.state, "commit", overtaken)
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        assert content(p) == {"2026-01-01": [], "2026-01-02": [], "2026-01-03": [("a", 1.0)]}


def test_two_processes_fold_different_batches_at_the_same_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a fold that began before another one leaves a key where that one had put
    it."""
    shop.write(OPS)
    monkeypatch.setattr(inbox, "FOLD_BATCHES_MAX", 1)
    with shop.open() as p, shop.open("bob") as q:
        ops, asset = Operations(p), p.core.assets.find(DATASET)
        ops.push("prices", [row("a", 1)])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        ops.push("prices", [row("a", 2)])
        commit = p.core.state.commit

        def overtaken(write: Write) -> Any:
            monkeypatch.setattr(p.core.state, "commit", commit)
            body = b'[["a","2026-01-03T08:00:00Z",1.0]]'
            late = (DATASET, "person:bob", "late", "bat_0", 1, body, "", "", "person:bob", 1)
            q.core.state.commit(Write((Statement("inbox_add", late, 1),)))
            assert q.runs.inbox._fold_some(asset, SYSTEM) == 1
            return commit(write)

        monkeypatch.setattr(p.core.state, "commit", overtaken)
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        assert content(p) == {"2026-01-01": [], "2026-01-02": [("a", 1.0)], "2026-01-03": []}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"n": "1.10"}, {"n": "1.1"}),
        ({"n": "0"}, {"n": "-0.00"}),
        ({"at": "2026-01-01T08:00:00Z"}, {"at": "2026-01-01T09:00:00+01:00"}),
        ({"x": 0.0}, {"x": -0.0}),
    ],
)
def test_a_key_is_its_value_not_its_spelling(a: dict[str, Any], b: dict[str, Any]) -> None:
    """If this fails, the same instant or number, written otherwise, is another key."""
    columns = (("n", "decimal(9,2)"), ("at", "timestamptz"), ("x", "float64"))
    key = list(a)
    one, two = (
        streams.key_digest(key, tuple(values[streams.places_of(columns, key)[0]] for _ in key))
        for values in sent(columns, [a, b])
    )
    assert one == two
    assert streams.key_digest(key, (None,)) is None


_rows = st.tuples(
    st.sampled_from(["a", "b", "c", "d", None]), st.integers(1, 4), st.integers(0, 99)
)
_steps = st.lists(
    st.tuples(st.sampled_from(["push", "push", "push", "fold", "other"]), st.lists(_rows, min_size=1, max_size=4)),
    max_size=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def numbers() -> Any:
    return iter(range(1_000_000))


def test_all_partitions_together_are_the_last_row_of_each_key(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, numbers: Any
) -> None:
    """If this fails, some order of pushes, moves and batches loses a row or leaves an old one."""
    monkeypatch.setattr(inbox, "INBOX_PARTS_MAX", 3)
    monkeypatch.setattr(inbox, "FOLD_BATCHES_MAX", 3)
    shop.write(OPS)
    with shop.open() as p, shop.open("bob") as q:

        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        @given(_steps)
        def holds(steps: list[tuple[str, list[tuple[str | None, int, int]]]]) -> None:
            run_ = f"{next(numbers)}-"  # keys of this example
            oracle: dict[str, tuple[int, float]] = {}
            nulls: dict[int, int] = defaultdict(int)
            before = {day: rows.count((None, -1.0)) for day, rows in content(p).items()}
            for kind, rows in steps:
                if kind != "push":
                    one = p if kind == "fold" else q
                    one.runs.inbox.fold(one.core.project.manifest(), SYSTEM)
                    continue
                pushed = []
                for id_, day, price in rows:
                    if id_ is None:
                        nulls[day] += 1
                        pushed.append(row(None, day, -1.0))
                    else:
                        oracle[run_ + id_] = (day, float(price))
                        pushed.append(row(run_ + id_, day, float(price)))
                Operations(p).push("prices", pushed)
            p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
            found = content(p)
            assert {
                id_: (int(day[-1]), price)
                for day, rows in found.items()
                for id_, price in rows
                if id_ is not None and id_.startswith(run_)
            } == oracle
            assert sum(len([id_ for id_, _ in rows if id_ and id_.startswith(run_)]) for rows in found.values()) == len(oracle)  # fmt: skip
            for day, count in nulls.items():
                name = f"2026-01-0{day}"
                assert found[name].count((None, -1.0)) == before.get(name, 0) + count

        holds()
