"""The conformance suite of the state store: the same promises on SQLite and on Postgres."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sextant.kernel import limits
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import BadData, Bug, Conflict, StorageError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Event
from sextant.kernel.ports import Pending, Statement, Write
from sextant.ledger.log import Ledger, event
from sextant.ledger.verify import verify
from sextant.stores.state import StateStore, open_state

NOON = 1_700_000_000_000_000_000
Open = Callable[[], StateStore]


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Give a function that opens the same state again and again, as other processes do."""
    made: list[StateStore] = []
    if request.param == "sqlite":
        address, schema = str(tmp_path / "state.db"), ""
    else:
        address, schema = (
            request.getfixturevalue("postgres_server"),
            request.getfixturevalue("postgres_schema"),
        )

    def again() -> StateStore:
        clock = ManualClock(NOON)
        made.append(open_state(address, Ledger(clock), clock=clock, schema=schema or "unused"))
        return made[-1]

    yield again
    for state in made:
        state.close()


@pytest.fixture
def state(opened: Open) -> StateStore:
    return opened()


ids = Ids(ManualClock(NOON))


def noted(subject: str = "dataset:a", **data: object) -> Event:
    return event(ids, "note.taken", subject, data, actor="person:ann")


def meta(key: str, value: str) -> Statement:
    return Statement("meta_set", (key, value))


def grouped(state: StateStore, writes: list[Write]) -> list[Pending]:
    """Submit writes so that one commit takes them all: the writer is kept in a callback until they
    are queued."""
    entered, gate, here = threading.Event(), threading.Event(), threading.get_ident()

    def hold(_: object) -> None:
        if (
            threading.get_ident() != here
        ):  # else it was done before the callback was there: try again
            entered.set()
            gate.wait(30)

    while not entered.is_set():
        state.submit(Write()).add_done_callback(hold)
        entered.wait(0.05)
    pending = [state.submit(write) for write in writes]
    gate.set()
    return pending


def test_a_write_is_read_back_at_once(state: StateStore) -> None:
    """A caller would not see what it was told is durable."""
    receipt = state.commit(Write(statements=(meta("a", "1"),), events=(noted(), noted())))
    assert (receipt.first, receipt.count) == (0, 2)
    assert state.read("meta_get", ("a",)) == [("1",)]
    assert state.read("event_head")[0][0] == 1


def test_receipts_name_the_events_of_their_write(state: StateStore) -> None:
    """A caller would name another caller's events."""
    writes = [
        Write(
            events=tuple(noted(n=n, i=i) for i in range(n % 3)),
            statements=(meta("k", str(n)),) if n % 5 == 0 else (),
        )
        for n in range(200)
    ]
    pending = grouped(state, writes)
    for write, one in zip(writes, pending, strict=True):
        receipt = one.result(30)
        stored = state.read("event_envelopes", (receipt.first, receipt.first + receipt.count))
        assert [write.events[at].id.encode() in row[0] for at, row in enumerate(stored)] == [
            True
        ] * len(write.events)
    assert state.read("meta_get", ("k",)) == [("195",)]


def test_statements_of_one_table_keep_their_order(state: StateStore) -> None:
    """Batches per statement would let an older value win, or a deletion come before the
    insertion."""
    add = lambda env, asset, version: Statement("pointer_set", (env, asset, version, "r", 1))  # noqa: E731
    steps = [add("dev", "dataset:a", "1"), Statement("pointer_delete", ("dev", "dataset:a")), add("dev", "dataset:a", "2"), meta("x", "1"),
   
             add("dev", "dataset:b", "1"), Statement("env_pointers_drop", ("dev",)), add("dev", "dataset:c", "3"), meta("x", "2")]  # fmt: skip
    for pending in grouped(state, [Write(statements=(step,)) for step in steps]):
        pending.result(30)
    assert state.read("pointers_all") == [("dev", "dataset:c", "3")]
    assert state.read("meta_get", ("x",)) == [("2",)]


def test_statements_with_equal_parameters_are_not_mixed(state: StateStore) -> None:
    """A batch would run one statement with the parameters of another."""
    add = Statement("version_add", ("dataset:a", "d", "", "first", "", "", 1, 1, "{}", 1, ""))
    state.commit(Write(statements=(add,)))
    steps = [
        Statement("version_relocate", ("second", "dataset:a", "d")),
        Statement("version_expire", (7, "dataset:a", "d")),
        Statement("version_relocate", ("third", "dataset:a", "d")),
    ]
    for pending in grouped(state, [Write(statements=(step,)) for step in steps]):
        pending.result(30)
    assert state.read("version_get", ("dataset:a", "d"))[0][:3] == ("{}", "third", 7)


def test_statements_see_the_projections_of_earlier_events(state: StateStore) -> None:
    """A statement behind an event would be overtaken by the event's projection."""
    created = event(ids, "env.created", "env:dev", {"name": "dev"}, actor="person:ann")
    for pending in grouped(
        state, [Write(events=(created,)), Write(statements=(Statement("env_drop", (7, "dev")),))]
    ):
        pending.result(30)
    assert state.read("envs") == []


def test_a_failed_expectation_undoes_its_write_only(state: StateStore) -> None:
    """A lost compare-and-swap would take its neighbours along, or leave half of itself behind."""
    take = lambda holder: Statement(
        "lease_take", ("run", holder, 10, 5, 99), 1, f"{holder} came too late"
    )  # noqa: E731
    guarded = [
        Write(statements=(meta(holder, "was here"), take(holder)), events=(noted(holder=holder),))
        for holder in ("ann", "bob")
    ]
    pending = grouped(state, [Write(events=(noted(n=0),)), *guarded, Write(events=(noted(n=1),))])
    assert [one.exception(30) is None for one in pending] == [True, True, False, True]
    with pytest.raises(Conflict, match="bob came too late") as raised:
        pending[2].result()
    assert raised.value.code == "SX-STATE-001"
    assert state.read("lease_get", ("run",)) == [("ann", 1, 10)]
    assert state.read("meta_get", ("bob",)) == []
    assert [one.result().first for one in (pending[0], pending[1], pending[3])] == [0, 1, 2]
    assert state.read("event_span") == [(3, 0, 2)]


def test_a_guarded_write_that_fails_after_sealing_leaves_no_trace(state: StateStore) -> None:
    """The tree would go on with leaves that are not in the log."""
    once = noted()
    guard = Statement("meta_set", ("a", "1"), 1)
    writes = [
        Write(events=(once,)),
        Write(statements=(guard,), events=(noted(), noted(), once)),
        Write(events=(noted(),)),
        Write(statements=(guard,), events=(noted(),)),
    ]
    pending = grouped(state, writes)
    assert [type(one.exception(30)) for one in pending] == [
        type(None),
        Conflict,
        type(None),
        type(None),
    ]
    assert [pending[at].result().first for at in (0, 2, 3)] == [0, 1, 2]
    for n in range(300):
        state.submit(Write(events=(noted(n=n),)))
    state.flush()
    assert verify(state, projections=False).findings == ()


def test_a_fence_stops_every_write_behind_it_and_no_other(state: StateStore) -> None:
    """A process that lost its lease would go on writing in the shadow of the others' commits."""
    take = lambda holder, now: Statement(
        "lease_take", ("run", holder, now + 10, now, now + 99), 1, "held"
    )  # noqa: E731
    state.commit(Write((take("first", 1),)))
    fences = [
        Statement("lease_is", ("run", holder, fence), 1, f"{holder} was followed")
        for holder, fence in (("first", 1), ("second", 2))
    ]
    writes = [
        Write((meta("a", "1"),), (noted(n=1),), fences[0]),
        Write((meta("b", "1"),), fence=fences[1]),  # not yet
        Write((take("second", 100),)),
        Write((meta("a", "2"),), (noted(n=2),), fences[0]),  # not any more
        Write((meta("b", "2"),), (noted(n=3),), fences[1]),
        Write(events=(noted(n=4),), fence=fences[0]),
        Write((meta("c", "1"),), (noted(n=5),)),
    ]
    outcomes = [one.exception(30) for one in grouped(state, writes)]
    assert [type(one).__name__ for one in outcomes] == [
        "NoneType",
        "Conflict",
        "NoneType",
        "Conflict",
        "NoneType",
        "Conflict",
        "NoneType",
    ]
    assert "first was followed" in str(outcomes[3])
    assert [state.read("meta_get", (key,)) for key in "abc"] == [[("1",)], [("2",)], [("1",)]]
    bodies = [bytes(row[3]) for row in state.read("events_after", (0, 100))]
    assert [body for body in bodies if b'"n"' in body] == [b'{"n":1}', b'{"n":3}', b'{"n":5}']


def test_a_store_has_one_clock_for_all_who_use_it(opened: Open) -> None:
    """Leases would be measured by clocks that differ from process to process."""
    one, other = opened(), opened()
    times = [store.now_ns() for _ in range(20) for store in (one, other)]
    assert times == sorted(times)
    assert one.is_local is other.is_local
    one.close()
    other.close()


def test_an_expectation_counts_rows_found_and_changed(state: StateStore) -> None:
    """`lease_is` (a SELECT) and upserts that change nothing would not guard."""
    state.commit(Write(statements=(Statement("lease_take", ("run", "ann", 10, 5, 99), 1),)))
    state.commit(Write(statements=(Statement("lease_is", ("run", "ann", 1), 1), meta("a", "1"))))
    with pytest.raises(Conflict):
        state.commit(
            Write(statements=(Statement("lease_is", ("run", "ann", 2), 1), meta("a", "2")))
        )
    with pytest.raises(Conflict):
        state.commit(Write(statements=(Statement("lease_take", ("run", "bob", 20, 5, 99), 1),)))
    state.commit(Write(statements=(Statement("lease_take", ("run", "bob", 20, 11, 99), 1),)))
    assert state.read("lease_get", ("run",)) == [("bob", 2, 20)]
    assert state.read("meta_get", ("a",)) == [("1",)]


def test_a_conflict_on_a_key_reaches_only_who_caused_it(state: StateStore) -> None:
    """One repeated event id would fail a whole group, or be recorded twice."""
    once = noted()
    pending = grouped(
        state, [Write(events=(one,)) for one in (noted(), once, noted(), once, noted())]
    )
    errors = [one.exception(30) for one in pending]
    assert [type(error) for error in errors] == [
        type(None),
        type(None),
        type(None),
        Conflict,
        type(None),
    ]
    assert state.read("event_span") == [(4, 0, 3)]


def test_a_payload_that_is_refused_reaches_only_who_caused_it(state: StateStore) -> None:
    """A payload too large, or not what its type declares, would block the ledger."""
    large = event(ids, "note.taken", "a", {"text": "x" * limits.PAYLOAD_BYTES_MAX}, actor="a")
    wrong = event(ids, "env.created", "a", {"name": 5}, actor="a")
    pending = grouped(
        state, [Write(events=(one,)) for one in (noted(), large, noted(), wrong, noted())]
    )
    assert [type(one.exception(30)) for one in pending] == [
        type(None),
        BadData,
        type(None),
        BadData,
        type(None),
    ]
    assert [pending[at].result().first for at in (0, 2, 4)] == [0, 1, 2]


def test_an_unknown_statement_is_our_bug(state: StateStore) -> None:
    """A misspelt statement would hang its caller or stop the writer."""
    with pytest.raises(Bug, match="no statement `nonsense`"):
        state.commit(Write(statements=(Statement("nonsense", ()),)))
    with pytest.raises(Bug):
        state.commit(Write(statements=(Statement("meta_set", ("too few",)),)))
    with pytest.raises(Bug):
        state.read("nonsense")
    assert state.commit(Write(events=(noted(),))).first == 0


def test_many_threads(state: StateStore) -> None:
    """Concurrent callers would lose writes, get each other's receipts, or deadlock."""
    firsts: list[int] = []

    def work(name: int) -> None:
        for n in range(20):
            firsts.append(state.commit(Write(events=(noted(name=name, n=n),))).first)
            assert state.read("event_seq", (f"{name}",)) == []

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == list(range(320))


def test_flush_waits_for_all_before_it(state: StateStore) -> None:
    """`flush` would return while something submitted is not durable yet."""
    pending = [state.submit(Write(events=(noted(n=n),))) for n in range(500)]
    state.flush()
    assert all(one.done() for one in pending)


def test_callbacks_come_once_and_their_errors_harm_nobody(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine, which goes on in callbacks, would hang or run twice."""
    complained: list[object] = []
    monkeypatch.setattr(threading, "excepthook", complained.append)
    called: list[bool] = []
    done = threading.Event()
    pending = state.submit(Write(events=(noted(),)))
    pending.add_done_callback(lambda one: called.append(one.done()))
    pending.add_done_callback(lambda _: 1 / 0)
    pending.add_done_callback(
        lambda _: state.submit(Write(events=(noted(),))).add_done_callback(lambda _: done.set())
    )
    assert done.wait(30)
    assert called == [True]
    assert len(complained) == 1
    pending.add_done_callback(lambda one: called.append(one.done()))
    assert called == [True, True]


def test_a_queue_that_is_full_makes_callers_wait(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast caller would fill the memory."""
    monkeypatch.setattr(limits, "WRITES_QUEUED_MAX", 5)
    pending = [state.submit(Write(events=(noted(n=n),))) for n in range(200)]
    assert [one.result(30).first for one in pending] == list(range(200))


def test_a_closed_state_refuses(opened: Open) -> None:
    """A write after closing would wait for ever."""
    state = opened()
    pending = [state.submit(Write(events=(noted(),))) for _ in range(50)]
    state.close()
    state.close()
    assert [one.result(0).first for one in pending] == list(range(50))
    with pytest.raises(StorageError, match="closed"):
        state.commit(Write())
    assert opened().read("event_span") == [(50, 0, 49)]


def test_two_writers_make_one_log(opened: Open) -> None:
    """Two processes would number their events alike, or build different trees."""
    one, two = opened(), opened()
    for n in range(30):
        assert one.commit(Write(events=(noted(n=n),))).first == 3 * n
        assert [
            pending.result(30).first
            for pending in (
                two.submit(Write(events=(noted(n=n),))),
                two.submit(Write(events=(noted(),))),
            )
        ] == [3 * n + 1, 3 * n + 2]
    assert one.read("event_span") == two.read("event_span") == [(90, 0, 89)]


def test_two_writers_at_once(opened: Open) -> None:
    """The same, when both write as fast as they can."""
    states = [opened(), opened()]
    pending = [[], []]

    def work(which: int) -> None:
        pending[which] = [states[which].submit(Write(events=(noted(n=n),))) for n in range(400)]

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.result(60).first for one in pending[0] + pending[1]) == list(range(800))


def test_a_restart_goes_on_where_it_was(opened: Open) -> None:
    """The tree or the numbering would begin anew after a restart, at any size."""
    total = 0
    for count in (1, 2, 253, 1, 300):
        state = opened()
        for pending in [state.submit(Write(events=(noted(n=n),))) for n in range(count)]:
            pending.result(30)
        total += count
        state.close()
    assert opened().read("event_span") == [(total, 0, total - 1)]


def test_time_never_goes_back(opened: Open, request: pytest.FixtureRequest) -> None:
    """A clock that jumps back would make an effect older than its cause."""
    state = opened()
    clock = state._writer._sealer._clock  # type: ignore[attr-defined]
    times = []
    for now in (NOON, NOON + 5, NOON - 10**12, NOON + 1, NOON + 9):
        clock.set(now)
        state.commit(Write(events=(noted(),)))
        times.append(state.read("event_head")[0][2])
    assert times == [NOON, NOON + 5, NOON + 5, NOON + 5, NOON + 9]
    state.close()
    again = opened()
    again._writer._sealer._clock.set(0)  # type: ignore[attr-defined]
    again.commit(Write(events=(noted(),)))
    assert again.read("event_head")[0][2] == NOON + 9


def test_pages_of_rows_are_sorted(state: StateStore) -> None:
    """Verify would take rows in another order for changed rows."""
    names = ["b", "a", "Z", "é", "a b", "_", "aa"]
    for name in names:
        state.commit(Write(statements=(Statement("tick_set", ("dev", name, 1)),)))
    assert [row[1] for page in state.rows("tick") for row in page] == sorted(names)


def test_refill_replaces_tables_whole(state: StateStore) -> None:
    """A rebuild that fails half way would leave empty tables behind."""
    state.commit(Write(statements=(Statement("tick_set", ("dev", "a", 1)),)))
    with pytest.raises(Bug):
        state.refill(
            ["tick"],
            iter([("tick_set", ("dev", "b", 2)), ("tick_set", ("dev",))]),
            mark=("tables", "1"),
        )
    assert state.read("meta_get", ("tables",)) == []
    assert state.read("ticks", ("dev",)) == [("a", 1)]
    state.refill(["tick"], iter([("tick_set", ("dev", "b", 2))]), mark=("tables", "1"))
    assert state.read("meta_get", ("tables",)) == [("1",)]
    assert state.read("ticks", ("dev",)) == [("b", 2)]
    assert state.commit(Write(events=(noted(),))).first == 0


def test_a_refill_that_another_process_has_done_is_left_out(state: StateStore) -> None:
    """Two processes that open an older project together would both make its tables again."""

    def asked() -> Iterator[tuple[str, tuple[object, ...]]]:
        raise AssertionError
        yield

    state.refill(["tick"], iter([("tick_set", ("dev", "b", 2))]), mark=("tables", "1"), once=True)
    state.refill(["tick"], asked(), mark=("tables", "1"), once=True)
    assert state.read("ticks", ("dev",)) == [("b", 2)]
    state.refill(["tick"], iter([]), mark=("tables", "2"), once=True)
    assert state.read("ticks", ("dev",)) == []


def test_a_backup_while_writing_is_whole(state: StateStore, tmp_path: Path) -> None:
    """A backup would hold half a write, or an event without its payload."""
    pending = [
        state.submit(
            Write(events=(noted(n=n), noted(n=-n)), statements=(meta("pairs", str(n + 1)),))
        )
        for n in range(1_000)
    ]
    target = tmp_path / "copy.db"
    state.backup(target)
    for one in pending:
        one.result(30)
    clock = ManualClock(NOON)
    copy = open_state(target, Ledger(clock), clock=clock)
    count = copy.read("event_span")[0][0]
    pairs = copy.read("meta_get", ("pairs",))
    assert count == 2 * int(pairs[0][0] if pairs else 0)
    assert len(copy.read("events_whole", (0, count))) == count
    assert all(row[8] is not None for row in copy.read("events_whole", (0, count)))
    assert copy.commit(Write(events=(noted(),))).first == count
    copy.close()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_sqlite_backup_moves_into_postgres(
    state: StateStore, postgres_server: str, postgres_schema: str, tmp_path: Path
) -> None:
    """A project could not move from the laptop to the team's server, or back."""
    from sextant.stores.state.postgres import PostgresState

    for n in range(300):
        state.submit(Write(events=(noted(n=n),), statements=(meta(str(n), "ä\t\\N'\n"),)))
    state.flush()
    state.backup(tmp_path / "copy.db")
    clock = ManualClock(NOON)
    with PostgresState(
        postgres_server, Ledger(clock), clock=clock, schema=postgres_schema + "_to"
    ) as other:
        other.restore(tmp_path / "copy.db")
        for table in ("event", "payload", "node", "meta"):
            assert list(other.rows(table)) == list(state.rows(table))
        assert other.commit(Write(events=(noted(),))).first == 300
        with pytest.raises(Conflict, match="holds a ledger already"):
            other.restore(tmp_path / "copy.db")


def test_a_newer_schema_is_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old program would write into tables that it does not know."""
    from sextant.stores.state import migrate, postgres, sqlite

    opened().close()
    known = len(migrate.migrations("sqlite"))
    for module in (sqlite, postgres):
        monkeypatch.setattr(
            module,
            "migrations",
            lambda dialect: [
                *migrate.migrations(dialect),
                migrate.Migration(
                    len(migrate.migrations(dialect)) + 1, "more", ("CREATE TABLE more (a TEXT)",)
                ),
            ],
        )
    opened().close()
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=f"schema {known + 1}, this Sextant knows schemas up to {known}"
    ) as raised:
        opened()
    assert f"{known + 1:03d}" in raised.value.hint


def test_a_connection_on_which_something_failed_is_not_lent_again(state: StateStore) -> None:
    """It may hold half an answer, or a transaction that was never ended."""
    reader = state._reader  # type: ignore[union-attr]
    lend = getattr(reader, "connection", None) or reader._connection
    with pytest.raises(ZeroDivisionError), lend() as failed:
        failed.execute("SELECT 1 UNION ALL SELECT 2").fetchone()
        raise ZeroDivisionError
    with lend() as next_one:
        assert next_one is not failed
        assert next_one.execute("SELECT 3").fetchall() == [(3,)]
    with lend() as again:
        assert again is next_one
    assert state.read("event_head") == []
