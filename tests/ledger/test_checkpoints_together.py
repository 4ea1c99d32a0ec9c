"""Processes that sign at the same moment, and projects in which older versions did so: the chain of
checkpoints, its gaps, and who may note them."""

from sextant.kernel.nouns import SYSTEM
import base64
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import tampering
from shop_project import Shop

from sextant.app.operations import Operations
from sextant.cli.main import call
from sextant.kernel.clock import SystemClock
from sextant.kernel.errors import BadData, Busy, Conflict, Denied
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Statement, Write
from sextant.ledger import checkpoint, gaps, merkle
from sextant.ledger.checkpoint import Checkpoint, Signer, note_hash, open_signer, rotate, sign_head
from sextant.ledger.log import Ledger, event, subtrees
from sextant.ledger.verify import Report, verify
from sextant.ledger.witness import Witness, keep_witness, load_witness
from sextant.stores.state import StateStore, open_state

ORIGIN = tampering.ORIGIN
PROCESSES, ROUNDS = 6, 8

# What the end of every command does, many times: write, sign, keep the witness.
_COMMAND = """
import sys
from pathlib import Path
from sextant.kernel.clock import SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.ports import Write
from sextant.ledger.checkpoint import open_signer, sign_head
from sextant.ledger.log import Ledger, event
from sextant.ledger.witness import Witness, keep_witness
from sextant.stores.state import open_state

address, schema, folder, origin, rounds = sys.argv[1:]
clock = SystemClock()
ids = Ids(clock)
state = open_state(address, Ledger(clock), clock=clock, schema=schema)
print("ready", flush=True)
sys.stdin.readline()
open_signer(state, Path(folder) / "keys" / "key.pem")  # before there are events
for n in range(int(rounds)):
    state.commit(Write(events=(event(ids, "note.taken", "a", {"n": n}, actor="a"),)))
    signer = open_signer(state, Path(folder) / "keys" / "key.pem")
    note = sign_head(state, signer, origin=origin, clock=clock)
    if note is not None:
        keep_witness(Path(folder) / "witness" / "w.txt", Witness(signer.public, note))
state.close()
"""


def at_once(commands: Sequence[Sequence[str]]) -> None:
    """Run processes that wait for each other before they begin."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said


def check_chain(state: StateStore, folder: Path) -> Report:
    """Return what verification says of a state that several processes have signed."""
    public = Signer.load(folder / "keys" / "key.pem").public
    witness = load_witness(folder / "witness" / "w.txt")
    assert witness is not None
    report = verify(state, public=public, witness=witness)
    assert report.events == PROCESSES * ROUNDS
    assert report.signed == report.events, "the last one has signed all of it"
    assert report.witnessed == report.events, "a smaller witness took the place of a larger one"
    left = {path.name for part in ("keys", "witness") for path in (folder / part).iterdir()}
    assert left == {"key.pem", "key.pem.lock", "w.txt", "w.txt.lock"}
    return report


def test_processes_that_sign_at_once_on_sqlite(tmp_path: Path) -> None:
    """Commands that end together would leave a chain that verifies as wrong for ever, or crash over
    each other's witness or key."""
    address = str(tmp_path / "state.db")
    clock = SystemClock()
    open_state(address, Ledger(clock), clock=clock).close()
    at_once([[address, "sextant", str(tmp_path), ORIGIN, str(ROUNDS)]] * PROCESSES)
    state = open_state(address, Ledger(clock), clock=clock)
    assert check_chain(state, tmp_path).findings == ()
    state.close()


def test_processes_that_sign_at_once_on_postgres(
    tmp_path: Path, postgres_server: str, postgres_schema: str
) -> None:
    """As on SQLite, where one file lock hides some of it."""
    clock = SystemClock()
    at_once([[postgres_server, postgres_schema, str(tmp_path), ORIGIN, str(ROUNDS)]] * PROCESSES)
    state = open_state(postgres_server, Ledger(clock), clock=clock, schema=postgres_schema)
    assert check_chain(state, tmp_path).findings == ()
    state.close()


# ---------------------------------------------------------------- one step between two others


class Interfering:
    """A state in which something happens just before a write of statements alone."""

    def __init__(self, state: StateStore, before_commit: object) -> None:
        self.read = state.read
        self._commit, self._before = state.commit, before_commit

    def commit(self, write: Write) -> object:
        if not write.events:
            self._before()  # type: ignore[operator]
        return self._commit(write)


@pytest.fixture
def world(tmp_path: Path) -> object:
    machine = tampering.Machine(7)
    with machine.open(tmp_path / "state.db") as state:  # type: ignore[attr-defined]
        yield machine, state, open_signer(state, tmp_path / "key.pem")


def take_note(machine: tampering.Machine, state: StateStore) -> None:
    state.commit(Write(events=(event(machine.ids, "note.taken", "a", {}, actor="a"),)))


def test_a_lost_race_is_signed_again(world: object) -> None:
    """The second of two signers would name a checkpoint that is not the one in front of it."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)
    once = iter([True])

    def other() -> None:
        if next(once, False):
            take_note(machine, state)
            sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
            take_note(machine, state)

    assert sign_head(Interfering(state, other), signer, origin=ORIGIN, clock=machine.clock)  # type: ignore[arg-type]
    report = verify(state, public=signer.public)
    assert (report.findings, report.checkpoints, report.signed) == ((), 2, 3)


def test_a_head_that_somebody_else_has_signed_is_signed(world: object) -> None:
    """A command would fail because another one was faster."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)
    other = lambda: sign_head(state, signer, origin=ORIGIN, clock=machine.clock)  # noqa: E731
    assert sign_head(Interfering(state, other), signer, origin=ORIGIN, clock=machine.clock) is None  # type: ignore[arg-type]
    assert verify(state, public=signer.public).checkpoints == 1


def test_signing_gives_up_at_some_time(world: object) -> None:
    """A command would never end while others sign without pause."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)

    def other() -> None:
        sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
        take_note(machine, state)

    with pytest.raises(Busy, match="32 times in a row"):
        sign_head(Interfering(state, other), signer, origin=ORIGIN, clock=machine.clock)  # type: ignore[arg-type]
    sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    assert verify(state, public=signer.public).findings == ()


def test_a_key_that_was_rotated_meanwhile_signs_nothing(world: object) -> None:
    """A command that had read the old key would sign a head that only the new key may sign."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)
    new = rotate(state, signer, origin=ORIGIN, clock=machine.clock, ids=machine.ids, actor="a")
    take_note(machine, state)
    signer.path = signer.path.with_name("old.pem")
    with pytest.raises(Conflict, match="rotated"):
        sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    sign_head(state, new, origin=ORIGIN, clock=machine.clock)
    assert verify(state, public=new.public).findings == ()


def test_a_rotation_is_not_taken_for_one_that_was_cut_short(
    world: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command that starts during a rotation would delete the new key, and nobody could sign any
    more."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)
    held: list[Path] = []
    locked = checkpoint.locked

    def watched(path: Path) -> object:
        held.append(path)
        return locked(path)

    monkeypatch.setattr(checkpoint, "locked", watched)
    rotate(state, signer, origin=ORIGIN, clock=machine.clock, ids=machine.ids, actor="a")
    (tmp_path / "key.pem.new").touch()
    with pytest.raises(Exception, match="can be read by others"):
        open_signer(state, tmp_path / "key.pem")
    assert held == [tmp_path / "key.pem"] * 2


def test_the_witness_takes_turns(
    world: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A smaller checkpoint could take the place of a larger one that was kept between look and
    write."""
    machine, state, signer = world  # type: ignore[misc]
    from sextant.ledger import witness as module

    held: list[bool] = []
    loaded = module.load_witness

    def looking(path: Path) -> Witness | None:
        import fcntl

        with path.with_name("w.txt.lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(True)
        return loaded(path)

    monkeypatch.setattr(module, "load_witness", looking)
    take_note(machine, state)
    note = sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    assert note is not None
    keep_witness(tmp_path / "w.txt", Witness(signer.public, note))
    assert held == [True]
    assert loaded(tmp_path / "w.txt") == Witness(signer.public, note)


# ---------------------------------------------------------------- gaps that are there


def sign_blindly(state: StateStore, signer: Signer, *, size: int, before: str) -> str:
    """Sign as older versions did: after the checkpoint that was read before others signed too."""
    checkpoint_ = Checkpoint(
        ORIGIN, size, merkle.root(size, subtrees(state.read)), 0, note_hash(before)
    )
    last = state.read("checkpoint_last", ())
    note = signer.note(checkpoint_._replace(time=last[0][2] + 1 if last else 1))
    state.commit(Write((Statement("checkpoint_add", (size, note, last[0][2] + 1 if last else 1)),)))
    return note


@pytest.fixture
def broken(world: object) -> object:
    """A ledger in which two commands of an older version ended at the same moment."""
    machine, state, signer = world  # type: ignore[misc]
    take_note(machine, state)
    first = sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    for _ in range(2):
        take_note(machine, state)
    for size in (2, 3):  # both name the first
        sign_blindly(state, signer, size=size, before=first)
    return machine, state, signer


def note_all(machine: tampering.Machine, state: StateStore, signer: Signer) -> list[gaps.Gap]:
    return gaps.note_gaps(
        state, signer, origin=ORIGIN, ids=machine.ids, actor="person:ann", reason="at once"
    )


def test_a_noted_gap_is_no_finding_any_more(broken: object) -> None:
    """A project that an older version left with a gap would verify as wrong for ever."""
    machine, state, signer = broken  # type: ignore[misc]
    (finding,) = verify(state, public=signer.public).findings
    assert (finding.table, finding.seq) == ("checkpoint", 3)
    assert "sextant ledger repair" in finding.message
    (gap,) = note_all(machine, state, signer)
    assert (gap.size, gap.next_size) == (2, 3)
    assert note_all(machine, state, signer) == [], "noted once"
    sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    report = verify(state, public=signer.public)
    assert (report.findings, report.gaps_noted) == ((), 1)
    new = rotate(state, signer, origin=ORIGIN, clock=machine.clock, ids=machine.ids, actor="a")
    report = verify(state, public=new.public)
    assert (report.findings, report.gaps_noted) == ((), 1), "the note of an old key still counts"


def test_any_other_gap_is_found(broken: object) -> None:
    """One noted gap would hide another: a checkpoint that was taken out."""
    machine, state, signer = broken  # type: ignore[misc]
    note_all(machine, state, signer)
    for _ in range(2):
        take_note(machine, state)
        sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    assert verify(state, public=signer.public).ok
    with closing(sqlite3.connect(state.path)) as database:
        (size,) = database.execute("SELECT max(size) - 1 FROM checkpoint").fetchone()
        database.execute("DELETE FROM checkpoint WHERE size = ?", (size,))
        database.commit()
    (finding,) = verify(state, public=signer.public).findings
    assert (finding.table, finding.seq) == ("checkpoint", size + 1)
    with closing(sqlite3.connect(state.path)) as database:
        database.execute("DELETE FROM checkpoint WHERE size = 2")
        database.commit()
    assert {f.seq for f in verify(state, public=signer.public).findings} == {3, size + 1}


def test_who_cannot_sign_cannot_note(broken: object, tmp_path: Path) -> None:
    """Who can write the database could take a checkpoint out and note the gap himself."""
    machine, state, signer = broken  # type: ignore[misc]
    thief = Signer.create(tmp_path / "thief.pem")
    (gap,) = gaps.find_gaps(state.read, signer.public)
    elsewhere = gaps.Gap(1, gap.note, gap.next_size, gap.next_note)
    signature = lambda key, text: base64.b64encode(key.signature(text)).decode()  # noqa: E731
    for signed in (
        "",
        "nonsense",
        signature(thief, gaps.gap_text(ORIGIN, gap)),
        signature(signer, gaps.gap_text("another/project", gap)),
        signature(signer, gaps.gap_text(ORIGIN, elsewhere)),
        signature(signer, "something else"),
    ):
        noted = gaps.GapNoted(ORIGIN, *gap, reason="", signature=signed)
        state.commit(
            Write(events=(event(machine.ids, gaps.GAP_NOTED, gaps.GAPS_SUBJECT, noted, actor="a"),))
        )
        report = verify(state, public=signer.public)
        assert (report.gaps_noted, [f.seq for f in report.findings]) == (0, [3]), signed


def test_a_forged_checkpoint_is_not_noted(broken: object, tmp_path: Path) -> None:
    """The owner would sign for a checkpoint that his key never made."""
    machine, state, signer = broken  # type: ignore[misc]
    take_note(machine, state)
    thief = Signer.create(tmp_path / "thief.pem")
    sign_blindly(state, thief, size=4, before="")
    with pytest.raises(BadData, match="not signed by the ledger's key"):
        note_all(machine, state, signer)


def test_repair_from_the_command_line(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy that verification names would not be there, or leave no trace of who used it."""
    shop.write("")
    with shop.open() as p:
        take_note_of(p)
        p.sealing.checkpoint()
        first = p.core.state.read("checkpoint_last")[0][1]
        take_note_of(p)
        p.sealing.checkpoint()
        take_note_of(p)
        size = p.core.state.read("event_head")[0][0] + 1
        signer = p.sealing.signer()
        head = Checkpoint(
            p.sealing.origin,
            size,
            merkle.root(size, subtrees(p.core.state.read)),
            p.core.clock.now_ns(),
            note_hash(first),
        )
        p.core.state.commit(
            Write((Statement("checkpoint_add", (size, signer.note(head), head.time)),))
        )
    monkeypatch.chdir(shop.root)

    def ledger(*words: str) -> tuple[int, str]:
        code = call(["ledger", *words])
        return code, capsys.readouterr().out

    code, text = ledger("verify")
    assert (code, "sextant ledger repair" in text) == (1, True)
    code, text = ledger("repair", "--reason", "two runs ended together")
    assert (code, f"the checkpoint of {size:,} events does not name" in text) == (0, True)
    code, text = ledger("verify")
    assert (code, "1 gaps between checkpoints noted" in text) == (0, True)
    assert "there is no gap" in ledger("repair", "--reason", "again")[1]
    with shop.open() as p:
        (noted,) = Operations(p).events(type="ledger.gap_noted").items
        assert noted["actor"].startswith("person:")
        assert noted["data"]["reason"] == "two runs ended together"


def take_note_of(p: object) -> None:
    p.core.state.commit(Write((), (p.core.events.make("note.taken", "a", {}, SYSTEM, ""),)))  # type: ignore[attr-defined]


def test_who_may_not_note_gaps(shop: Shop) -> None:
    """Somebody who may only look, or whom a rule forbids it, could make a gap look accepted."""
    shop.write(
        "sx.policy(\"the owner repairs\", when=\"verb == 'repair' && principal.name != 'ann'\", "
        'then="deny")'
    )
    with shop.open() as p:
        for by in (Principal(name="eve", role="viewer"), Principal(name="bob")):
            with pytest.raises(Denied):
                Operations(p, by).repair("mine")
        assert Operations(p, Principal(name="ann")).repair("nothing is wrong") == []
        assert Operations(p).events(type="ledger.gap_noted").items == []
        assert len(Operations(p).events(type="decision.denied").items) == 1, "a role asks no rule"


def test_ids_of_a_project_are_given_once(shop: Shop) -> None:
    """Two commands that open a new project together would sign for two projects."""
    shop.write("")
    with shop.open() as p:
        known = p.sealing.project_id
        p.core.state.commit(Write((Statement("meta_add", ("project_id", "prj_other")),)))
        assert p.core.state.read("meta_get", ("project_id",)) == [(known,)]
        assert Ids(SystemClock()).new("prj") != known
