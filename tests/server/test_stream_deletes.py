"""A pushed row that is deleted is gone wherever it lies, until its key is pushed again."""

from sextant.kinds.dataset.spec import table_spec
from sextant.kernel.nouns import SYSTEM
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_project import Shop, run

from sextant.kinds.dataset import inbox
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kinds.dataset import streams
from sextant.kernel.errors import BadRows

OPS = """
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id", time="at", partition=days)
notes = sx.stream("notes", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id")
pairs = sx.stream("pairs", columns={"a": "int64", "b": "decimal(5,2)"}, key=["a", "b"])
loose = sx.stream("loose", columns={"id": "string"})
"""


def row(id_: str, day: int, price: float = 1.0) -> dict[str, Any]:
    return {"id": id_, "at": f"2026-01-0{day}T08:00:00Z", "price": price}


def content(p: LocalPlatform, name: str) -> dict[str, list[tuple[str, str, float]]]:
    """Return partition -> (id, day, price) of what a run would make of the pushed rows."""
    manifest = p.core.project.manifest()
    table = table_spec(manifest.asset(f"dataset:{name}"))  # type: ignore[arg-type]
    assert table is not None
    out = {}
    for partition, blobs in p.runs.inbox.parts(manifest)[f"dataset:{name}"].items():
        parts = [(one, p.core.blobs.get(one)) for one in blobs]
        made = streams.fold(table.columns, parts, table.key).to_pylist()
        out[partition] = [(one["id"], f"{one['at']:%Y-%m-%d}", one["price"]) for one in made]
    return out


def test_a_deleted_row_is_gone_from_what_is_live(shop: Shop) -> None:
    """If this fails, a row that was deleted is counted on, or one that was pushed again is not."""
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        for name in ("prices", "notes"):
            ops.push(name, [row("a", 1), row("b", 1), row("c", 2)])
            run(p)
            ops.push(name, [{"id": "a", "_deleted": True}, {"id": "nobody", "_deleted": True}])
            assert run(p).state == "finished"
            assert ops.count(name)["rows"] == 2
            ops.push(name, [row("a", 3) | {"_deleted": False}])
            run(p)
            assert ops.count(name)["rows"] == 3
        assert run(p).id == "", "nothing to do"


def test_a_key_of_several_columns_is_deleted_by_its_value(shop: Shop) -> None:
    """If this fails, a key is not found because it is spelled otherwise."""
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("pairs", [{"a": 1, "b": "1.10"}, {"a": 1, "b": "2"}])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        ops.push("pairs", [{"a": 1, "b": 1.1, "_deleted": True}])
        run(p)
        assert [str(one["b"]) for one in ops.show("pairs")["sample"]] == ["2.00"]


@pytest.mark.parametrize(
    ("name", "bad", "column"),
    [
        ("loose", {"id": "a", "_deleted": True}, "_deleted"),
        ("prices", {"_deleted": True}, "id"),
        ("pairs", {"a": 1, "_deleted": True}, "b"),
        ("prices", {"id": "a", "_deleted": "yes"}, "_deleted"),
    ],
)
def test_a_deletion_that_says_no_key_is_refused(
    shop: Shop, name: str, bad: dict[str, Any], column: str
) -> None:
    """If this fails, a deletion is acknowledged and deletes nothing."""
    shop.write(OPS)
    with shop.open() as p:
        with pytest.raises(BadRows) as caught:
            Operations(p).push(name, [bad])
        assert [(one.row, one.column) for one in caught.value.rows] == [(0, column)]
        assert not p.core.state.read("inbox_waits")


_rows = st.tuples(
    st.sampled_from(["push", "push", "delete"]),
    st.sampled_from("abcd"),
    st.integers(1, 4),
    st.integers(0, 99),
)
_steps = st.lists(
    st.one_of(
        st.lists(_rows, min_size=1, max_size=5), st.sampled_from(["fold", "fold by another"])
    ),
    max_size=14,
)


@pytest.mark.parametrize("name", ["prices", "notes"])
def test_pushes_moves_and_deletions_leave_what_a_dict_holds(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """If this fails, some order of pushes, moves, deletions, folds and blobs that are put together
    loses a row, or leaves one that was deleted or moved."""
    monkeypatch.setattr(inbox, "INBOX_PARTS_MAX", 3)
    monkeypatch.setattr(inbox, "FOLD_BATCHES_MAX", 3)
    monkeypatch.setattr(inbox, "FOLD_ROWS_MAX", 2)
    monkeypatch.setattr(inbox, "KEYS_PER_WRITE", 1)
    monkeypatch.setattr(inbox, "PUSHED_LARGE_BYTES", 150)  # some batches are blobs
    shop.write(OPS)
    with shop.open() as p, shop.open("bob") as q:
        examples = iter(range(1_000_000))

        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        @given(_steps)
        def holds(steps: list[Any]) -> None:
            own = f"{next(examples)}-"  # keys of this example
            oracle: dict[str, tuple[str, float]] = {}
            for step in steps:
                if isinstance(step, str):
                    one = p if step == "fold" else q
                    one.runs.inbox.fold(one.core.project.manifest(), SYSTEM)
                    continue
                pushed: list[dict[str, Any]] = []
                for kind, id_, day, price in step:
                    if kind == "push":
                        pushed.append(row(own + id_, day, float(price)))
                        oracle[own + id_] = (f"2026-01-0{day}", float(price))
                    else:
                        pushed.append({"id": own + id_, "_deleted": True})
                        oracle.pop(own + id_, None)
                Operations(p).push(name, pushed)
            p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
            there = [
                (id_, (day, price))
                for partition, rows in content(p, name).items()
                for id_, day, price in rows
                if id_.startswith(own) and partition in (day, "all", "")
            ]
            assert sorted(there) == sorted(oracle.items())

        holds()


def test_the_index_of_keys_says_where_the_rows_are(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a large batch leaves keys in the index that lie elsewhere: each is looked for,
    and makes a partition again, with the next push."""
    monkeypatch.setattr(inbox, "FOLD_ROWS_MAX", 1)
    monkeypatch.setattr(inbox, "KEYS_PER_WRITE", 1)
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        for day in (1, 2, 3):
            ops.push("prices", [row(id_, day) for id_ in "abcde"])
            p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        ops.push("prices", [{"id": id_, "_deleted": True} for id_ in "abc"])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        marks = [streams.key_digest(("id",), (id_,)) or b"" for id_ in "abcde"]
        found = p.core.state.read("inbox_keys", ("dataset:prices", *marks, *[b""] * 45))
        assert sorted((bytes(mark), day) for mark, day in found) == sorted(
            (mark, "2026-01-03") for mark in marks[3:]
        )
