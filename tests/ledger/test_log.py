"""The ledger as sealer: what an envelope says, how it rewinds, what it refuses; old events;
projections rebuilt."""

import json
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import tampering
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import BadData, Damaged, NotFound, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.ports import Write
from sextant.ledger import merkle
from sextant.ledger import upcast as upcasting
from sextant.ledger.erase import erase
from sextant.ledger.log import Ledger, entries, event
from sextant.ledger.projections import PROJECTED, PROJECTIONS
from sextant.ledger.rebuild import projected, rebuild
from sextant.ledger.upcast import current_version, upcast
from sextant.stores.state import scratch

CASES = Path(__file__).parent.parent / "cases" / "events"


def test_the_envelope_is_what_is_hashed_and_hides_the_payload() -> None:
    """An erased payload could be guessed from its hash, or the hash would not bind it."""
    clock = ManualClock(5)
    rows = list(
        Ledger(clock, salts=lambda n: b"s" * n).seal(
            [
                event(
                    Ids(clock),
                    "note.taken",
                    "dataset:a",
                    {"b": 1, "a": "é"},
                    actor="person:ann",
                    cause="c",
                )
            ]
        )
    )
    assert [name for name, _ in rows] == ["event_add", "payload_add"]
    envelope, (_, salt, body) = rows[0][1][6], rows[1][1]
    assert body == '{"a":"é","b":1}'.encode()
    said = json.loads(envelope)
    assert said.pop("id").startswith("ev_")
    assert said == {
        "seq": 0,
        "type": "note.taken",
        "v": 1,
        "time": 5,
        "actor": "person:ann",
        "subject": "dataset:a",
        "cause": "c",
        "hash": sha256(salt + body).hexdigest(),
    }


def test_two_equal_payloads_have_different_hashes() -> None:
    """Without a salt of its own, an erased payload could be recognised by an equal one."""
    clock = ManualClock(5)
    ids = Ids(clock)
    rows = list(
        Ledger(clock).seal(
            [event(ids, "note.taken", "a", {"name": "ann"}, actor="a") for _ in range(2)]
        )
    )
    assert len({json.loads(params[6])["hash"] for name, params in rows if name == "event_add"}) == 2


class Rewinding(RuleBasedStateMachine):
    """Seals and rewinds at random against a list of leaves: a savepoint undone must leave no trace
    in tree or numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1)
        self.ids = Ids(self.clock)
        self.ledger = Ledger(self.clock)
        self.leaves: list[bytes] = []
        self.marks: list[int] = []

    @rule(count=st.sampled_from([1, 2, 3, 100, 300]))
    def seal(self, count: int) -> None:
        self.marks.append(len(self.leaves))
        rows = self.ledger.seal(
            [event(self.ids, "note.taken", "a", {}, actor="a") for _ in range(count)]
        )
        self.leaves += [merkle.leaf_hash(params[6]) for name, params in rows if name == "event_add"]

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        keep = data.draw(st.integers(0, len(self.marks) - 1))
        size = self.marks[keep]
        del self.marks[keep:]
        self.ledger.rewind(size)
        del self.leaves[size:]

    @precondition(lambda self: True)
    @rule()
    def fail(self) -> None:
        large = event(self.ids, "env.created", "a", {"name": 1}, actor="a")
        size = self.ledger.size()
        with pytest.raises(BadData):
            self.ledger.seal([event(self.ids, "note.taken", "a", {}, actor="a"), large])
        self.ledger.rewind(size)

    @invariant()
    def tree_is_that_of_the_leaves(self) -> None:
        expected = merkle.Frontier()
        for leaf in self.leaves:
            expected.append(leaf)
        assert self.ledger.size() == len(self.leaves)
        assert self.ledger._tree.root() == expected.root()


Rewinding.TestCase.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
TestRewinding = Rewinding.TestCase


def test_a_missing_node_is_noticed_on_opening(tmp_path: Path) -> None:
    """The writer would go on with a wrong tree."""
    import sqlite3

    sample = tampering.make_sample(tmp_path)
    database = sqlite3.connect(sample.path)
    database.execute("DELETE FROM node")
    database.commit()
    database.close()
    with (
        tampering.Machine(2).open(sample.path) as state,
        pytest.raises(Damaged, match="node 0 on level 8"),
    ):  # type: ignore[attr-defined]
        state.commit(Write())


def tables(state: object) -> dict[str, list[tuple[object, ...]]]:
    return {table: [row for page in state.rows(table) for row in page] for table in PROJECTED}  # type: ignore[attr-defined]


def test_projections_rebuild_equal(tmp_path: Path) -> None:
    """A projected fact would not be in any payload, and be lost or different after a rebuild."""
    sample = tampering.make_sample(tmp_path)
    with tampering.Machine(2).open(sample.path) as state:  # type: ignore[attr-defined]
        before = tables(state)
        assert all(before[table] for table in PROJECTED)
        rebuild(state)
        assert tables(state) == before
        fresh = scratch()
        fresh.apply(projected(state.read))
        fresh.apply(
            projected(state.read)
        )  # a projection is idempotent: tables such as these are upserts
        for table in (
            "project",
            "asset",
            "env",
            "version",
            "part",
            "provenance",
            "check_result",
            "run",
            "tick",
            "signal",
            "release_move",
        ):
            assert [row for page in fresh.rows(table) for row in page] == before[table], table
        fresh.close()


def corpus() -> list[Path]:
    return sorted(CASES.glob("*.json"))


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.stem)
def test_old_events_mean_what_they_meant(path: Path) -> None:
    """An event written by an earlier version could not be read any more, or would mean something
    else."""
    case = json.loads(path.read_text())
    body = upcast(case["type"], case["v"], msgspec.json.encode(case["data"], order="deterministic"))
    rows = [
        [name, list(params)]
        for name, params in PROJECTIONS[case["type"]](case["seq"], case["time"], body)
    ]
    assert rows == case["rows"]


def test_the_corpus_has_every_event_type() -> None:
    """A type would change its shape without anybody noticing that old events break."""
    known = {
        (case["type"], case["v"]) for case in (json.loads(path.read_text()) for path in corpus())
    }
    assert known == {
        (type_, v) for type_ in PROJECTIONS for v in range(1, current_version(type_) + 1)
    }


def test_upcasters_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event two versions old would be read as one version old."""
    steps = {
        ("note.taken", 1): lambda data: {**data, "b": 2},
        ("note.taken", 2): lambda data: {"c": [data["a"], data["b"]]},
    }
    monkeypatch.setattr(upcasting, "CURRENT", {"note.taken": 3})
    monkeypatch.setattr(upcasting, "UPCASTERS", steps)
    up = lambda v, body: upcast("note.taken", v, body)  # noqa: E731
    assert up(1, b'{"a":1}') == b'{"c":[1,2]}'
    assert up(2, b'{"a":1,"b":3}') == b'{"c":[1,3]}'
    assert up(3, b'{ "c": 1 }') == b'{ "c": 1 }'
    with pytest.raises(UserError, match="version 4, this Sextant reads versions up to 3"):
        up(4, b"{}")


def test_an_erased_payload_is_gone_and_the_proofs_hold(tmp_path: Path) -> None:
    """Personal data would stay in a file, or its erasure would break the log."""
    machine = tampering.Machine(3)
    sample = tampering.make_sample(tmp_path)
    with machine.open(sample.path) as state:  # type: ignore[attr-defined]
        secret = "Erika Mustermann, born in 1964"
        note, signal = (
            event(
                machine.ids, "note.taken", "dataset:flights", {"text": secret}, actor="person:ann"
            ),
            event(
                machine.ids,
                "signal.raised",
                "dataset:flights",
                {
                    "id": "s1",
                    "asset": "dataset:flights",
                    "kind": "check",
                    "severity": "error",
                    "message": secret,
                    "onset": 1,
                },
                actor="person:ann",
            ),
        )
        seq = state.commit(Write(events=(note, signal))).first
        root = merkle.root(seq + 2, tampering.subtrees(state.read))
        assert any(secret.encode() in path.read_bytes() for path in tmp_path.glob("sample.db*"))
        for at in (seq, seq + 1):
            erase(state, at, reason="asked to", actor="person:ann", ids=machine.ids)
        assert not any(secret.encode() in path.read_bytes() for path in tmp_path.glob("sample.db*"))
        assert merkle.root(seq + 2, tampering.subtrees(state.read)) == root
        assert [entry.data for entry in entries(state.read, "events_after", (seq, 2))] == [
            None,
            None,
        ]
        assert all(row[0] != "s1" for row in tables(state)["signal"])
        report = tampering.verify(state, public=sample.signer.public, witness=sample.witness)
        assert (report.findings, report.erased) == ((), 3)
        with pytest.raises(NotFound):
            erase(state, seq, reason="again", actor="person:ann", ids=machine.ids)
        with pytest.raises(NotFound):
            erase(state, 1 << 40, reason="never was", actor="person:ann", ids=machine.ids)


def test_what_is_live_cannot_be_erased(tmp_path: Path) -> None:
    """Erasing a release would move a pointer."""
    sample = tampering.make_sample(tmp_path)
    machine = tampering.Machine(3)
    with machine.open(sample.path) as state:  # type: ignore[attr-defined]
        for entry in entries(state.read, "events_after", (0, 500)):
            if entry.envelope.type in (
                "release.live",
                "env.created",
                "ledger.key_rotated",
                "payload.erased",
                "version.created",
            ):
                with pytest.raises(UserError, match="cannot be erased"):
                    erase(
                        state, entry.envelope.seq, reason="no", actor="person:ann", ids=machine.ids
                    )


def test_entries_are_read_back(tmp_path: Path) -> None:
    """`ledger show` would show something else than was recorded."""
    machine = tampering.Machine(3)
    with machine.open(tmp_path / "state.db") as state:  # type: ignore[attr-defined]
        told = event(machine.ids, "note.taken", "dataset:a", {"n": 1}, actor="person:ann", cause="")
        state.commit(Write(events=(told,)))
        (entry,) = entries(state.read, "event_by_id", (told.id,))
        assert (entry.envelope.id, entry.envelope.seq, entry.envelope.subject, entry.data) == (
            told.id,
            0,
            "dataset:a",
            {"n": 1},
        )
        assert msgspec.json.decode(told.data) == entry.data
