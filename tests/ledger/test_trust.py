"""Who can be fooled: checkpoints, keys and their rotation, the witness, proofs, the stand-alone
verifier, tampering."""

import base64
import json
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import tampering

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import BadData, Damaged, NotFound, UserError
from sextant.kernel.ports import Write
from sextant.ledger import merkle, standalone
from sextant.ledger.checkpoint import (
    KEY_ROTATED,
    KEYS_SUBJECT,
    Checkpoint,
    KeyRotated,
    Signer,
    keys_by_size,
    open_signer,
    read_note,
    rotate,
    rotation_text,
    sign_head,
)
from sextant.ledger.log import event, subtrees
from sextant.ledger.prove import prove
from sextant.ledger.verify import verify
from sextant.ledger.witness import Witness, confirm, contradiction, keep_witness, load_witness


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tampering.Sample:
    return tampering.make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def copy(sample: tampering.Sample, tmp_path: Path) -> Path:
    tampering.copy(sample.path, tmp_path / "copy.db")
    return tmp_path / "copy.db"


def test_an_untouched_ledger_has_no_findings(sample: tampering.Sample) -> None:
    """Every finding would be doubted."""
    report = tampering.check(sample.path, sample)
    assert report.findings == ()
    assert (report.ok, report.erased, report.checkpoints, report.signed, report.witnessed) == (
        True,
        1,
        3,
        report.events,
        report.events,
    )


def test_two_processes_find_what_one_finds(
    sample: tampering.Sample, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ledgers, which are verified in ranges, would be verified less well."""
    import sextant.ledger.verify as module

    monkeypatch.setattr(module, "RANGE_EVENTS", 256)
    for path in (sample.path, copy):
        reader = module.open_reader(str(path))
        reports = [
            verify(reader, public=sample.signer.public, witness=sample.witness, workers=workers)
            for workers in (1, 2)
        ]
        reader.close()
        assert reports[0] == reports[1]
        assert reports[0].ok == (path == sample.path)
        database = sqlite3.connect(copy)
        database.execute("UPDATE payload SET body = ? WHERE seq IN (3, 300)", (b"{}",))
        database.commit()
        database.close()
    assert [finding.seq for finding in reports[0].findings if finding.table == "payload"][:2] == [
        3,
        300,
    ]


@pytest.mark.parametrize("seed", range(8))
def test_tampering_with_the_database_is_found(
    sample: tampering.Sample, tmp_path: Path, seed: int
) -> None:
    """Somebody who can write the file could change history, or what is derived from it."""
    rng = random.Random(seed)
    for _ in range(25):
        done = tampering.tamper(sample, tmp_path / "x.db", rng)
        assert tampering.check(tmp_path / "x.db", sample).findings, done


def test_forging_with_the_key_is_found_by_the_witness(
    sample: tampering.Sample, tmp_path: Path
) -> None:
    """Somebody who has database and key could rewrite history before our eyes."""
    rng = random.Random(1)
    unnoticed_alone = 0
    for _ in range(40):
        done = tampering.tamper_with_key(sample, tmp_path / "x.db", rng)
        assert tampering.check(tmp_path / "x.db", sample).findings, done
        unnoticed_alone += tampering.check(tmp_path / "x.db", sample._replace(witness=None)).ok
    assert unnoticed_alone > 5, "the forgeries are good: only the witness finds them"


def test_a_finding_names_what_is_wrong(sample: tampering.Sample, copy: Path) -> None:
    """A person would know that something is wrong, but not where."""
    database = sqlite3.connect(copy)
    database.execute("UPDATE event SET subject = 'dataset:other' WHERE seq = 5")
    database.execute("UPDATE pointer SET version = 'evil'")
    database.execute("DELETE FROM payload WHERE seq = 7")
    database.commit()
    database.close()
    found: dict[tuple[str, int], str] = {}
    for finding in tampering.check(copy, sample).findings:
        found[finding.table, finding.seq] = (
            found.get((finding.table, finding.seq), "") + finding.message
        )
    assert "columns" in found["event", 5]
    assert "no event says that it was erased" in found["payload", 7]
    assert "is missing" in found["pointer", -1]
    assert re.search(
        r"evil, release_39, \d+\) does not follow from the events", found["pointer", -1]
    )


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("column", ["envelope", "id", "time"])
@pytest.mark.parametrize("value", ["NULL", "'text'", "x'00'", "1.5"])
def test_a_value_that_no_column_may_have_is_a_finding(
    sample: tampering.Sample, copy: Path, column: str, value: str
) -> None:
    """Verification itself would fall over what a flipped bit makes of a row, and the finding would
    look like a bug."""
    with closing(sqlite3.connect(copy)) as database:
        database.executescript(
            "CREATE TABLE other AS SELECT * FROM event; DROP TABLE event; ALTER TABLE "
            f"other RENAME TO event; UPDATE event SET {column} = {value} WHERE seq = 7"
        )
    assert any(finding.seq == 7 for finding in tampering.check(copy, sample).findings)


def test_a_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    """Others could sign, or a key be lost with all it has signed."""
    path = tmp_path / "keys" / "a.pem"
    signer = Signer.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UserError, match="a key already"):
        Signer.create(path)
    assert Signer.load(path).public == signer.public
    path.chmod(0o640)
    with pytest.raises(UserError, match="can be read by others") as raised:
        Signer.load(path)
    assert f"chmod 600 {path}" in raised.value.hint
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(Damaged):
        Signer.load(path)
    with pytest.raises(NotFound):
        Signer.load(tmp_path / "none.pem")
    assert os.listdir(path.parent) == ["a.pem"]


def test_a_missing_key_is_not_replaced_silently(
    sample: tampering.Sample, copy: Path, tmp_path: Path
) -> None:
    """A thief would only have to delete the key to sign with his own."""
    with (
        tampering.Machine(1).open(copy) as state,
        pytest.raises(NotFound, match="signing key is missing"),
    ):  # type: ignore[attr-defined]
        open_signer(state, tmp_path / "other.pem")


def test_notes_are_what_they_say(tmp_path: Path) -> None:
    """A checkpoint of another key, size or root would pass."""
    one, two = Signer.create(tmp_path / "1.pem"), Signer.create(tmp_path / "2.pem")
    checkpoint = Checkpoint("sextant/a", 7, bytes(range(32)), 5, "ab")
    note = one.note(checkpoint)
    assert read_note(note, one.public) == checkpoint
    assert read_note(one.note(checkpoint._replace(after="")), one.public).after == ""
    for wrong in (
        note.replace("\n7\n", "\n8\n"),
        note[:-2] + "\n",
        note + " ",
        note.replace("time 5", "time 6"),
        note.replace("time 5", "time 05"),
        "",
        "a\nb\n\n",
    ):
        with pytest.raises(BadData):
            read_note(wrong, one.public)
    with pytest.raises(BadData, match="not signed by the ledger's key"):
        read_note(note, two.public)


def test_rotation_keeps_old_checkpoints_verifiable(sample: tampering.Sample) -> None:
    """After a new key, the past could not be verified, or be signed anew by whoever has an old
    key."""
    reader = tampering.open_reader(str(sample.path))
    keys = keys_by_size(reader.read, sample.signer.public)
    assert [size for size, _ in keys] == [0, keys[1][0]]
    assert keys[1][1] == sample.signer.public != keys[0][1]
    with pytest.raises(Damaged, match="does not lead to the trusted key"):
        keys_by_size(reader.read, keys[0][1])
    reader.close()


def test_a_rotation_needs_both_signatures(tmp_path: Path) -> None:
    """Whoever can write an event could bring in his own key."""
    machine = tampering.Machine(1)
    one, two = Signer.create(tmp_path / "1.pem"), Signer.create(tmp_path / "2.pem")
    good = [
        base64.b64encode(signer.signature(rotation_text("o", one.public, two.public))).decode()
        for signer in (one, two)
    ]
    for n, signatures in enumerate(
        (good, good[::-1], [good[0], good[0]], [good[1], good[1]], ["", good[1]])
    ):
        with machine.open(tmp_path / f"{n}.db") as state:  # type: ignore[attr-defined]
            rotated = KeyRotated("o", one.public, two.public, *signatures)
            state.commit(
                Write(events=(event(machine.ids, KEY_ROTATED, KEYS_SUBJECT, rotated, actor="a"),))
            )
            if signatures is good:
                assert keys_by_size(state.read, two.public) == [(0, one.public), (1, two.public)]
                continue
            with pytest.raises(Damaged, match="does not lead to the trusted key"):
                keys_by_size(state.read, two.public)


@pytest.mark.parametrize("announced", [False, True])
def test_a_rotation_cut_short_is_finished_or_forgotten(
    tmp_path: Path, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while rotating would leave a ledger that nobody can sign."""
    machine = tampering.Machine(1)
    path = tmp_path / "key.pem"
    with machine.open(tmp_path / "state.db") as state:  # type: ignore[attr-defined]
        old = open_signer(state, path)
        state.commit(Write(events=(event(machine.ids, "note.taken", "a", {}, actor="a"),)))
        crash = (Path, "replace") if announced else (type(state), "commit")
        original = getattr(*crash)

        def cut(*arguments: object) -> object:
            if announced or (len(arguments) > 1 and arguments[1].events):  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setattr(*crash, cut)
        with pytest.raises(KeyboardInterrupt):
            rotate(state, old, origin="o", clock=machine.clock, ids=machine.ids, actor="a")
        monkeypatch.undo()
        signer = open_signer(state, path)
        assert (signer.public != old.public) == announced
        state.commit(Write(events=(event(machine.ids, "note.taken", "a", {}, actor="a"),)))
        sign_head(state, signer, origin="o", clock=machine.clock)
        assert verify(state, public=signer.public).findings == ()
        assert os.listdir(tmp_path).count("key.pem.new") == 0


# ---------------------------------------------------------------- witness


def test_the_witness_only_grows(sample: tampering.Sample, tmp_path: Path) -> None:
    """An old copy of a project would make the client forget what it has seen."""
    path = tmp_path / "deep" / "witness.txt"
    assert load_witness(path) is None
    keep_witness(path, sample.witness)
    older = Witness(sample.signer.public, sample.signer.note(Checkpoint("o", 1, bytes(32), 1)))
    keep_witness(path, older)
    assert load_witness(path) == sample.witness
    assert Witness.parse(sample.witness.text()) == sample.witness
    for wrong in (
        "",
        "nonsense",
        sample.witness.text().replace("key ", "key A"),
        sample.witness.text()[:-4],
    ):
        with pytest.raises(BadData):
            Witness.parse(wrong)


def test_an_older_copy_is_noticed_on_opening(sample: tampering.Sample, tmp_path: Path) -> None:
    """Restoring yesterday's database would undo today's releases unseen."""
    path = tmp_path / "witness.txt"
    reader = tampering.open_reader(str(sample.path))
    assert confirm(reader.read, path) is None
    keep_witness(path, sample.witness)
    assert confirm(reader.read, path) == sample.witness
    assert contradiction(reader.read, sample.witness) == ""
    reader.close()
    for kind, message in (("truncate", "was cut off"), ("fork", "history was rewritten")):
        tampering.forge(sample, tmp_path / "x.db", random.Random(3), kind, signed=True)
        reader = tampering.open_reader(str(tmp_path / "x.db"))
        with pytest.raises(Damaged, match=message):
            confirm(reader.read, path)
        reader.close()


# ---------------------------------------------------------------- proofs, and the verifier that
# knows nothing of us


def run(*arguments: object) -> tuple[int, str]:
    """Run the stand-alone verifier without Sextant on its path."""
    done = subprocess.run(
        [sys.executable, "-I", standalone.__file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
    )
    return done.returncode, done.stdout + done.stderr


def test_the_standalone_verifier_is_small() -> None:
    """Nobody would read it."""
    source = Path(standalone.__file__).read_text()
    assert len(source.splitlines()) <= 190
    assert "import sextant" not in source
    assert "from sextant" not in source


def test_standalone_on_the_database(sample: tampering.Sample, copy: Path, tmp_path: Path) -> None:
    """An auditor could not verify a ledger without trusting our code."""
    witness = tmp_path / "w.txt"
    witness.write_text(sample.witness.text())
    assert run(copy, "--witness", witness)[0] == 0
    assert run(copy, "--key", sample.signer.public)[0] == 0
    code, text = run(copy)
    assert (code, text.startswith("cannot tell: no --key and no --witness")) == (2, True)
    assert run(copy, "--key", Signer.create(tmp_path / "k.pem").public)[0] == 1
    database = sqlite3.connect(copy)
    database.execute("UPDATE payload SET salt = ? WHERE seq = 4", (b"x",))
    database.commit()
    assert run(copy, "--witness", witness) == (1, "WRONG: the payload of event 4 was changed\n")
    database.execute("DELETE FROM event WHERE seq = 3")
    database.commit()
    database.close()
    assert "event 3 is missing" in run(copy, "--witness", witness)[1]
    for kind, message in (
        ("truncate", "cut off"),
        ("fork", "rewritten"),
        ("reorder", "rewritten"),
        ("delete", "cut off"),
    ):
        tampering.forge(sample, tmp_path / "x.db", random.Random(3), kind, signed=True)
        code, text = run(tmp_path / "x.db", "--witness", witness)
        assert (code, message in text) == (1, True), (kind, text)
    (tmp_path / "no.db").write_text("no database")
    assert run(tmp_path / "no.db")[0] == 2
    assert run(tmp_path / "none.db")[0] == 2


def test_standalone_on_a_proof(sample: tampering.Sample, tmp_path: Path) -> None:
    """A single event could not be shown to a third party, or a wrong one could."""
    reader = tampering.open_reader(str(sample.path))
    older = reader.read("checkpoints", ())[0][1]
    size = reader.read("event_span", ())[0][0]
    bundles = [
        prove(reader.read, seq, public=sample.signer.public, since=older)
        for seq in (0, 1, 100, 255, 256, size - 1)
    ]
    older_key = keys_by_size(reader.read, sample.signer.public)[0][1]
    reader.close()
    path, witness = tmp_path / "proof.json", tmp_path / "w.txt"
    witness.write_text(Witness(older_key, older).text())
    for bundle in bundles:
        path.write_text(json.dumps(bundle))
        assert run(path, "--key", sample.signer.public, "--witness", witness)[0] == 0
    bundle = bundles[2]
    for change in (
        {"seq": 101},
        {"path": bundle["path"][1:]},
        {"path": [*bundle["path"], bundle["path"][0]]},
        {"envelope": bundles[1]["envelope"]},
        {"payload": bundles[1]["payload"]},
        {"salt": bundles[1]["salt"]},
        {"note": older},
        {"consistency": bundle["consistency"][1:]},
        {"consistency": []},
        {"since": bundle["note"]},
        {"path": []},
    ):
        path.write_text(json.dumps(bundle | change))
        code, text = run(path, "--key", sample.signer.public, "--witness", witness)
        assert code == 1, (change, text)
    path.write_text(
        json.dumps({key: value for key, value in bundle.items() if key not in ("payload", "salt")})
    )
    assert run(path, "--key", sample.signer.public)[0] == 0


def test_a_proof_does_not_vouch_for_itself(sample: tampering.Sample, tmp_path: Path) -> None:
    """A forger's log, signed with a key of his own, would be taken for ours."""
    reader = tampering.open_reader(str(sample.path))
    bundle = prove(reader.read, 4, public=sample.signer.public)
    reader.close()
    forger = Signer.create(tmp_path / "forger.pem")
    note = forger.note(read_note(bundle["note"], None))
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(bundle | {"key": forger.public, "note": note}))
    assert run(path)[0] == 2
    assert run(path, "--key", sample.signer.public)[0] == 1


def test_proofs_that_cannot_be_made(sample: tampering.Sample, copy: Path) -> None:
    """`ledger prove` would print a proof that nobody can verify."""
    machine = tampering.Machine(4)
    with machine.open(copy) as state:  # type: ignore[attr-defined]
        size = state.read("event_span", ())[0][0]
        with pytest.raises(NotFound):
            prove(state.read, size, public=sample.signer.public)
        state.commit(Write(events=(event(machine.ids, "note.taken", "a", {}, actor="a"),)))
        with pytest.raises(UserError, match="no checkpoint covers event"):
            prove(state.read, size, public=sample.signer.public)
        note = sign_head(state, sample.signer, origin=tampering.ORIGIN, clock=ManualClock(0))
        assert note is not None
        assert (
            sign_head(state, sample.signer, origin=tampering.ORIGIN, clock=ManualClock(0)) is None
        )
        assert read_note(note, sample.signer.public).root == merkle.root(
            size + 1, subtrees(state.read)
        )
        assert prove(state.read, size, public=sample.signer.public)["seq"] == size
        assert verify(state, public=sample.signer.public, witness=sample.witness).findings == ()


def test_an_envelope_of_another_number_ends_the_reading(
    sample: tampering.Sample, tmp_path: Path
) -> None:
    """Whoever reads page after page would read in a circle for ever: a server's feed, a rebuild,
    and verification itself."""
    path = tmp_path / "x.db"
    shutil.copy(sample.path, path)
    with closing(sqlite3.connect(path)) as database:
        last = database.execute("SELECT max(seq) FROM event").fetchone()[0]
        raw = database.execute("SELECT envelope FROM event WHERE seq = ?", (last,)).fetchone()[0]
        changed = raw.replace(f'"seq":{last}'.encode(), b'"seq":3')
        assert changed != raw
        database.execute("UPDATE event SET envelope = ? WHERE seq = ?", (changed, last))
        database.commit()
    found = tampering.check(path, sample).findings
    assert any(f"event {last}" in one.message or one.seq == last for one in found)
