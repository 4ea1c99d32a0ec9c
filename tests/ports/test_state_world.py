"""The state store and a hostile world: other processes, kill -9, full disks, foreign and broken
files, lost connections."""

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sextant.kernel.clock import ManualClock, SystemClock
from sextant.kernel.errors import Conflict, Damaged, StorageError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.ports import Statement, Write
from sextant.ledger.log import Ledger, event
from sextant.ledger.verify import verify
from sextant.stores.state import StateStore, migrate, open_reader, open_state, sqlite
from sextant.stores.statements import load, parse

ids = Ids(ManualClock(1_700_000_000_000_000_000))


def opened(path: Path) -> StateStore:
    clock = ManualClock(5)
    return open_state(path, Ledger(clock), clock=clock)


def noted(**data: object) -> Write:
    return Write(events=(event(ids, "note.taken", "dataset:a", data, actor="person:ann"),))


WRITER = textwrap.dedent("""
    import sys
    from collections import deque
    from sextant.kernel.clock import SystemClock
    from sextant.kernel.ids import Ids
    from sextant.kernel.ports import Statement, Write
    from sextant.ledger.log import Ledger, event
    from sextant.stores.state import open_state

    path, count, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    clock = SystemClock()
    ids = Ids(clock)
    state = open_state(path, Ledger(clock), clock=clock)
    pending = deque()
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(count):
        one = event(ids, "note.taken", f"dataset:{name}", {"n": n}, actor="person:ann")
        guard = (Statement("meta_set", (name, str(n)), 1),) if n % 7 == 0 else (Statement("meta_set", (name, str(n))),)
        pending.append((one.id, state.submit(Write(statements=guard, events=(one,)))))
        if len(pending) > 20 or n == count - 1:
            while pending and (pending[0][1].done() or n == count - 1):
                id_, done = pending.popleft()
                print(id_, done.result().first, flush=True)
    state.close()
""")


def start(path: Path, count: int, name: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def acknowledged(lines: list[str]) -> dict[str, int]:
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith("\n")}


def test_two_processes_write_one_log(tmp_path: Path) -> None:
    """Two commands at once would number events alike, or build a tree over half of them."""
    path = tmp_path / "state.db"
    processes = [start(path, 400, name) for name in ("a", "b")]
    for process in processes:
        go(process)
    told = [
        acknowledged(process.communicate(timeout=120)[0].splitlines(keepends=True))
        for process in processes
    ]
    assert [process.returncode for process in processes] == [0, 0]
    state = opened(path)
    assert sorted([*told[0].values(), *told[1].values()]) == list(range(800))
    assert all(
        state.read("event_seq", (id_,)) == [(seq,)] for one in told for id_, seq in one.items()
    )
    assert verify(state).findings == ()
    state.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A power cut would take what somebody was told is durable, or leave half a write."""
    rng = random.Random(7)
    path = tmp_path / "state.db"
    told: dict[str, int] = {}
    for round_ in range(5):
        process = start(path, 1_000_000, f"p{round_}")
        go(process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 400))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        told |= acknowledged(lines)
        state = opened(path)
        report = verify(state)
        assert report.findings == ()
        assert all(state.read("event_seq", (id_,)) == [(seq,)] for id_, seq in told.items())
        last = [
            entry for entry in state.read("events_of_subject", (f"dataset:p{round_}", 1 << 62, 1))
        ]
        assert state.read("meta_get", (f"p{round_}",)) == [
            (last[0][3].split(b":")[1].rstrip(b"}").decode(),)
        ]
        state.close()


def test_a_full_disk_reaches_its_caller_and_harms_nothing(tmp_path: Path) -> None:
    """A full disk would lose what was acknowledged, hang callers, or keep failing when there is
    space again."""
    state = opened(tmp_path / "state.db")
    state.commit(noted(n=0))
    database = state._writer._database.connection  # type: ignore[attr-defined]
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages + 3}")
    pending = [
        state.submit(noted(n=n, text="x" * (100_000 if n % 10 == 5 else 1))) for n in range(30)
    ]
    errors = [one.exception(60) for one in pending]
    assert {n for n, error in enumerate(errors) if error is not None} == {5, 15, 25}
    assert isinstance(errors[5], StorageError)
    assert errors[5].code == "SX-STATE-005"
    assert "disk is full" in errors[5].hint
    database.execute("PRAGMA max_page_count = 1000000")
    assert state.commit(noted(text="x" * 100_000)).first == 28
    assert verify(state).findings == ()
    state.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A wrong path would be overwritten, or end in a stack trace."""
    path = tmp_path / "state.db"
    path.write_text("dear diary\n" * 500)
    with pytest.raises(Damaged, match="is not a database") as raised:
        opened(path)
    assert str(path) in raised.value.where
    assert path.read_text().startswith("dear diary")


def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    """Our tables would be made in another program's database."""
    path = tmp_path / "state.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE event (a)")
    other.commit()
    other.close()
    with pytest.raises(Damaged, match="of another program"):
        opened(path)


@pytest.mark.parametrize("kept", [0.0005, 0.3, 0.9])
def test_a_file_that_was_cut_off(tmp_path: Path, kept: float) -> None:
    """A truncated copy would be opened as if it were whole."""
    path = tmp_path / "state.db"
    state = opened(path)
    for n in range(200):
        state.submit(noted(n=n, text="x" * 100))
    state.close()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(Damaged) as raised:
        opened(path)
    assert raised.value.hint


def test_a_copy_is_kept_before_each_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed upgrade there would be no way back."""
    path = tmp_path / "state.db"
    state = opened(path)
    state.commit(noted(n=1))
    state.close()
    known = len(migrate.migrations("sqlite"))
    more = lambda *texts: (
        lambda _: [*migrate.migrations("sqlite"), migrate.Migration(known + 1, "more", texts)]
    )  # noqa: E731
    monkeypatch.setattr(sqlite, "migrations", more("CREATE TABLE more (a TEXT)", "CREATE nonsense"))
    with pytest.raises(StorageError):
        opened(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (known,)
    monkeypatch.setattr(sqlite, "migrations", more("CREATE TABLE more (a TEXT)"))
    opened(path).close()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM more").fetchone() == (0,)
    monkeypatch.undo()
    with pytest.raises(UserError, match=f"schema {known + 1}"):
        opened(path)
    copy = opened(tmp_path / f"state.db.before-{known + 1:03d}")
    assert copy.read("event_span") == [(1, 0, 0)]
    copy.close()


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    """`ledger verify` of a misspelt path would say that an empty ledger is fine."""
    report = verify(sqlite.SqliteReader(tmp_path / "none.db"))
    assert not report.ok
    assert list(tmp_path.iterdir()) == []


def test_statements_are_parsed_strictly() -> None:
    """A name given twice would silently run another statement; a write that reads would be
    reordered wrongly."""
    from sextant.kernel.errors import Bug

    for text in (
        "-- name: a\nSELECT 1\n-- name: a\nSELECT 2",
        "SELECT 1",
        "-- name: a\n-- name: b\nSELECT 1",
        "-- name: a\nDELETE FROM x WHERE y IN (SELECT 1)",
    ):
        with pytest.raises(Bug):
            parse(text)
    assert {
        name: (sql.text, sql.table)
        for name, sql in parse(
            "-- a file\n\n-- name: a\nSELECT 1,\n  2\n-- name: b\nUPDATE x SET y = ?"
        ).items()
    } == {
        "a": ("SELECT 1, 2", ""),
        "b": ("UPDATE x SET y = ?", "x"),
    }


def test_every_statement_fits_the_schema(
    tmp_path: Path, postgres_server: str, postgres_schema: str
) -> None:
    """A statement that nothing tests yet would fail in the field, on one of the databases."""
    from sextant.stores.state.postgres import PostgresState, connect

    opened(tmp_path / "state.db").close()
    database = sqlite3.connect(tmp_path / "state.db")
    clock = ManualClock(5)
    with PostgresState(
        postgres_server, Ledger(clock), clock=clock, schema=postgres_schema
    ) as state:
        server = connect(state.address)
        for name, sql in load("sextant.stores.state").items():
            database.execute(f"EXPLAIN {sql.text}", [1] * sql.text.count("?"))
            text = sql.text
            for n in range(sql.text.count("?")):
                text = text.replace("?", f"${n + 1}", 1)
            server.execute(f"PREPARE {name} AS {text}")
        server.close()
    database.close()


def test_lost_connections_are_made_again(postgres_server: str, postgres_schema: str) -> None:
    """After a restart of the server nothing would work until we are restarted too."""
    from sextant.stores.state.postgres import PostgresState, connect

    clock = SystemClock()
    with PostgresState(
        postgres_server, Ledger(clock), clock=clock, schema=postgres_schema
    ) as state:
        state.commit(noted(n=0))
        assert state.read("event_span") == [(1, 0, 0)]
        killer = connect(postgres_server)

        def kill() -> None:
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
                "pg_backend_pid() AND backend_type = 'client backend'"
            )

        outcomes = []
        for n in range(5):
            kill()
            outcomes += [state.commit(write).first for write in (noted(n=n), noted(n=-n))]
        kill()
        assert state.read("event_span") == [(11, 0, 10)]
        assert outcomes == list(range(1, 11))
        assert verify(state).findings == ()
        killer.close()


def test_a_commit_without_an_answer_is_looked_up(
    postgres_server: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection lost during COMMIT would make the caller repeat what is recorded already."""
    import psycopg

    from sextant.stores.state.postgres import PostgresState

    clock = SystemClock()
    with PostgresState(
        postgres_server, Ledger(clock), clock=clock, schema=postgres_schema
    ) as state:
        database = state._writer._database
        state.commit(noted(n=0))
        for is_committed in (True, False):
            state.commit(noted(n=0))

            class Cut:
                """Loses the connection around COMMIT."""

                real = database.connection
                is_committed_first = is_committed
                closed = False

                def execute(self, text: str, *arguments: object) -> object:
                    if text != "COMMIT":
                        return self.real.execute(text, *arguments)
                    if self.is_committed_first:
                        self.real.execute(text)
                    self.real.close()
                    self.closed = True
                    raise psycopg.OperationalError("server closed the connection unexpectedly")

                def __getattr__(self, name: str) -> object:
                    return getattr(self.real, name)

            database.connection = Cut()
            assert (
                state.commit(noted(committed=is_committed)).count == 1
            )  # done, or repeated on a new connection
        assert state.read("event_span") == [(5, 0, 4)]
        with pytest.raises(Conflict):
            state.commit(Write(statements=(Statement("lease_is", ("a", "b", 1), 1),)))


def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
    """One flipped bit in the schema would end every command with a traceback."""
    path = tmp_path / "state.db"
    open_state(path, Ledger(ManualClock(1)), clock=ManualClock(1)).close()
    data = path.read_bytes()
    at = data.index(b"CREATE TABLE event")
    path.write_bytes(data[: at + 13] + b"\xee\x28" + data[at + 15 :])
    with pytest.raises(Damaged):
        open_state(path, Ledger(ManualClock(1)), clock=ManualClock(1))
    reader = open_reader(str(path))
    assert reader.integrity()
    reader.close()
