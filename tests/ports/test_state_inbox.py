"""The statements of pushed rows: the same on SQLite and on Postgres."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Conflict
from sextant.kernel.ports import Statement, Write
from sextant.ledger.log import Ledger
from sextant.stores.state import StateStore, migrate, open_state, postgres, sqlite

D = "dataset:a"
ANN = "person:ann"


@pytest.fixture(params=["sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    clock = ManualClock(1)
    if request.param == "sqlite":
        address, schema = str(tmp_path / "state.db"), "unused"
    else:
        address = request.getfixturevalue("postgres_server")
        schema = request.getfixturevalue("postgres_schema")
    one = open_state(address, Ledger(clock), clock=clock, schema=schema)
    yield one
    one.close()


@pytest.fixture
def do(state: StateStore) -> Callable[..., None]:
    def write(*statements: tuple[str, tuple[object, ...]]) -> None:
        state.commit(Write(tuple(Statement(name, params, 1) for name, params in statements)))

    return write


def take(batch: str, at: int) -> tuple[str, tuple[object, ...]]:
    return "inbox_add", (D, ANN, batch, f"bat_{at}", 2, b"[]", "", "", ANN, at)


def test_a_refused_batch_waits_no_longer_and_can_be_dropped(
    state: StateStore, do: Callable[..., None]
) -> None:
    """If this fails, what cannot become rows is folded again and again, or cannot be given up."""
    do(take("b1", 1), take("b2", 2), take("b3", 3))
    do(("inbox_refuse", ("why", D, ANN, "b1", "")))
    assert [row[1] for row in state.read("inbox_waiting", (D, 10))] == ["b2", "b3"]
    assert state.read("inbox_queue", (D, 1)) == [("b2", 2)]
    assert [tuple(map(str, row)) for row in state.read("inbox_waits")] == [(D, "2", "4", "2")]
    assert state.read("inbox_refused") == [(D, ANN, "b1", "why", ANN, 2)]
    everything = state.read("inbox_page", (D, 9, 9, "", 0, 2))
    assert [row[0] for row in everything] == ["b3", "b2"]
    behind = state.read("inbox_page", (D, 2, 2, "bat_2", 0, 2))
    assert [row[0] for row in behind] == ["b1"]
    assert [row[0] for row in state.read("inbox_page", (D, 9, 9, "", 1, 9))] == ["b1"]
    with pytest.raises(Conflict):
        do(("inbox_drop", (D, ANN, "b1", "")))
    do(("inbox_drop", (D, ANN, "b1", "why")))
    assert state.read("inbox_get", (D, ANN, "b1")) == []
    do(("inbox_fold", (5, b"", D, ANN, "b2")))
    with pytest.raises(Conflict):
        do(("inbox_drop", (D, ANN, "b2", "")))


def test_where_keys_lie(state: StateStore, do: Callable[..., None]) -> None:
    """If this fails, a row that moves is not found where it was."""
    add = [Statement("inbox_key_add", (D, bytes([n] * 16), "p1")) for n in range(60)]
    state.commit(Write((*add, add[0])))
    do(("inbox_key_add", (D, bytes(16), "p2")), ("inbox_key_drop", (D, bytes([1] * 16), "p1")))
    asked = [bytes([n] * 16) for n in range(50)]
    found = {(bytes(key), partition) for key, partition in state.read("inbox_keys", (D, *asked))}
    assert len(found) == 50
    assert {(bytes(16), "p1"), (bytes(16), "p2")} <= found
    assert (bytes([1] * 16), "p1") not in found


def test_one_fold_at_a_time(state: StateStore, do: Callable[..., None]) -> None:
    """If this fails, two processes fold on the same index of keys and leave a key in two places."""
    do(("inbox_stream_set", (D, "", 0)))
    assert state.read("inbox_stream_get", (D,)) == [(1, "")]
    with pytest.raises(Conflict):
        do(("inbox_stream_set", (D, "k", 0)))
    do(("inbox_stream_set", (D, "k", 1)))
    assert state.read("inbox_stream_get", (D,)) == [(2, "k")]


def test_batches_that_wait_go_through_the_migration(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: str,
    postgres_schema: str,
) -> None:
    """If this fails, rows that were acknowledged before an upgrade are gone, or taken twice when
    their sender sends them again."""
    columns = "dataset, batch, id, rows, body, actor, taken_at, folded_at, refusal, blob"
    row = "'dataset:a', 'b1', 'bat_1', 2, '[]', 'token:shop', 1, 0, 'why', ''"
    add = f"INSERT INTO inbox ({columns}) VALUES ({row})"

    def before(dialect: str) -> list[migrate.Migration]:
        *steps, last = migrate.migrations(dialect)[:6]
        return [*steps, last._replace(statements=(*last.statements, add))]

    for address, schema in ((str(tmp_path / "old.db"), ""), (postgres_server, postgres_schema)):
        clock = ManualClock(1)
        with monkeypatch.context() as patched:
            for module in (sqlite, postgres):
                patched.setattr(module, "migrations", before)
            open_state(address, Ledger(clock), clock=clock, schema=schema).close()
        state = open_state(address, Ledger(clock), clock=clock, schema=schema)
        assert state.read("inbox_get", (D, "token:shop", "b1")) == [(2, 0, "why", "")]
        assert state.read("inbox_refused") == [(D, "token:shop", "b1", "why", "token:shop", 2)]
        state.close()
