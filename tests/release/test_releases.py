"""Single stories of releases that the state machine meets too rarely, on the real state and
ledger."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Conflict, Denied, NotFound, StorageError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Incident, Move, Need, Principal, Release, Signal, Strategy
from sextant.kernel.ports import Write
from sextant.ledger.log import Ledger
from sextant.authorization.decide import Decision
from sextant.release.releases import Releases
from sextant.kernel.kinds import Instant, Verdict
from sextant.stores.state.sqlite import SqliteState

ANN, BOB, EVE = (
    Principal(name=name, teams=teams)
    for name, teams in (("ann", ("ops",)), ("bob", ("ops",)), ("eve", ("sales",)))
)
ALLOW, TWO_EYES = (
    Decision(verdict="allow"),
    Decision(verdict="approval", needs=(Need(count=1, of="ops"),)),
)


class Data(Instant):
    def gate(self, release: Release) -> Verdict:
        bad = [m.target for m in release.moves if m.target.startswith("bad")]
        return Verdict(ok=not bad, reasons=tuple(bad))


class Slow:
    """Rolls out step by step; what a test wants to happen in between is in `during`."""

    instant = False

    def __init__(self) -> None:
        self.during: Any = lambda: True
        self.undo_error: Exception | None = None
        self.undone: list[str] = []

    def gate(self, release: Release) -> Verdict:
        return Verdict(ok=True)

    def roll(self, release: Release) -> bool:
        return self.during() is not False

    def undo(self, release: Release) -> None:
        self.undone.append(release.state)
        if self.undo_error:
            raise self.undo_error

    def held(self, move: Move) -> tuple[Any, ...]:
        return ()


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.ids = Ids(self.clock, random.Random(1))
        self.state = SqliteState(folder / "state.db", Ledger(self.clock), clock=self.clock)
        self.slow = Slow()
        self.one, self.other = (
            Releases(self.state, {"dataset": Data(), "slow": self.slow}, self.clock, self.ids)
            for _ in range(2)
        )

    def propose(
        self,
        asset: str,
        source: str,
        target: str,
        *,
        decision: Decision = ALLOW,
        by: Principal = ANN,
        steps: tuple[int, ...] = (100,),
        d: Releases | None = None,
    ) -> Release:
        d = d or self.one
        draft = d.draft(
            [Move(env="prod", asset=asset, source=source, target=target)],
            by=by,
            decision=decision,
            strategy=Strategy(steps=steps),
        )
        return d.propose(draft)

    def live(self, asset: str) -> str:
        rows = self.state.read("pointer_get", ("prod", asset))
        return str(rows[0][0]) if rows else ""

    def incidents(self) -> list[Incident]:
        return [
            msgspec.json.decode(row[1], type=Incident)
            for row in self.state.read("incidents_page", (1 << 62, 1 << 62, "", "", "", 10))
        ]


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path)
    yield made
    made.state.close()


def test_data_goes_live_in_one_write(bench: Bench) -> None:
    """A publish of several commits could be seen half done."""
    done = bench.propose("dataset:a", "", "v1")
    assert (done.state, bench.live("dataset:a")) == ("live", "v1")
    times = {row[0] for row in bench.state.read("event_span")}
    assert times == {4}, "proposed, gated, rolling, live"


def test_what_is_refused_at_once_leaves_the_queue_alone(bench: Bench) -> None:
    """A bad file that comes after a good one must not throw the good one out of the queue."""
    good = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    assert good.state == "waiting"
    assert bench.propose("dataset:a", "", "bad", decision=TWO_EYES).state == "rejected"
    assert bench.one.get(good.id).state == "waiting"
    assert bench.state.read("open_move_get", ("prod", "dataset:a")) == [(good.id,)]
    assert bench.one.approve(good.id, BOB).state == "live"


def test_a_newer_release_supersedes_a_queued_one(bench: Bench) -> None:
    """Two queued releases of one asset would go live in an order that nobody chose."""
    old = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    new = bench.propose("dataset:a", "", "v2", decision=TWO_EYES)
    assert bench.one.get(old.id).state == "superseded"
    with pytest.raises(Conflict):
        bench.one.approve(old.id, BOB)
    assert bench.one.approve(new.id, BOB).state == "live"
    assert bench.live("dataset:a") == "v2"


def test_two_proposals_at_the_same_moment(bench: Bench) -> None:
    """Both would be open at once."""
    commit = bench.state.commit

    def between(write: Write) -> Any:
        bench.state.commit = commit  # type: ignore[method-assign]
        first = bench.propose("dataset:a", "", "v1", decision=TWO_EYES, d=bench.other)
        assert first.state == "waiting"
        return commit(write)

    bench.state.commit = between  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="another release"):
        bench.propose("dataset:a", "", "v2", decision=TWO_EYES)


def test_who_may_approve(bench: Bench) -> None:
    """Four eyes are four: not the proposer's own, not a stranger's, not the same two twice."""
    waiting = bench.propose(
        "dataset:a",
        "",
        "v1",
        decision=Decision(verdict="approval", needs=(Need(count=2, of="ops"),)),
    )
    with pytest.raises(Denied, match="cannot approve"):
        bench.one.approve(waiting.id, ANN)
    with pytest.raises(Denied, match="not in team"):
        bench.one.approve(waiting.id, EVE)
    assert bench.one.approve(waiting.id, BOB).state == "waiting"
    with pytest.raises(Denied, match="already"):
        bench.one.approve(waiting.id, BOB)
    assert bench.one.approve(waiting.id, Principal(name="cy", teams=("ops",))).state == "live"


def test_every_team_that_is_asked_must_agree(bench: Bench) -> None:
    """One of two rules would be enough, and the other team would read about it afterwards."""
    both = Decision(verdict="approval", needs=(Need(count=1, of="ops"), Need(count=2, of="sec")))
    waiting = bench.propose("dataset:a", "", "v1", decision=both)
    assert waiting.reason == "needs 1 of ops, 2 of sec"
    sam, sue, dan = (
        Principal(name="sam", teams=("sec",)),
        Principal(name="sue", teams=("sec", "ops")),
        Principal(name="dan", teams=("sec",)),
    )
    after = bench.one.approve(waiting.id, sam)
    assert (after.state, after.reason) == ("waiting", "needs 1 of ops, 1 of sec")
    assert bench.one.approve(waiting.id, dan).reason == "needs 1 of ops"
    with pytest.raises(Denied, match="not in team `ops`"):
        bench.one.approve(waiting.id, Principal(name="una", teams=("sec",)))
    assert bench.live("dataset:a") == ""
    done = bench.one.approve(waiting.id, sue)
    assert (done.state, done.approvals) == ("live", ("person:sam", "person:dan", "person:sue"))
    assert [need.by for need in done.needs] == [("person:sue",), ("person:sam", "person:dan")]


def test_somebody_of_two_teams_agrees_for_both(bench: Bench) -> None:
    """He would be asked twice for the same, and refused the second time."""
    both = Decision(
        verdict="approval", needs=(Need(count=1, of="ops"), Need(count=1, of="sec"), Need(count=1))
    )
    waiting = bench.propose("dataset:a", "", "v1", decision=both)
    assert (
        bench.one.approve(waiting.id, Principal(name="sue", teams=("sec", "ops"))).state == "live"
    )


def test_any_of_the_teams_may_refuse(bench: Bench) -> None:
    """A release that the second team would never agree to waits for ever; or a stranger stops
    it."""
    both = Decision(verdict="approval", needs=(Need(count=1, of="ops"), Need(count=1, of="sec")))
    waiting = bench.propose("dataset:a", "", "v1", decision=both)
    bench.one.approve(waiting.id, BOB)
    with pytest.raises(Denied, match="`ops` or `sec`"):
        bench.one.approve(waiting.id, EVE, deny=True)
    assert (
        bench.one.approve(
            waiting.id, Principal(name="cy", teams=("ops",)), deny=True, reason="not today"
        ).state
        == "rejected"
    )


def test_two_approvals_at_the_same_moment(bench: Bench) -> None:
    """One would overwrite the other, and somebody's approval would be gone."""
    waiting = bench.propose(
        "dataset:a",
        "",
        "v1",
        decision=Decision(verdict="approval", needs=(Need(count=3, of="ops"),)),
    )
    commit = bench.state.commit

    def between(write: Write) -> Any:
        bench.state.commit = commit  # type: ignore[method-assign]
        bench.other.approve(waiting.id, Principal(name="cy", teams=("ops",)))
        return commit(write)

    bench.state.commit = between  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="same moment"):
        bench.one.approve(waiting.id, BOB)
    assert bench.one.get(waiting.id).approvals == ("person:cy",)
    assert bench.one.approve(waiting.id, BOB).approvals == ("person:cy", "person:bob")


def test_a_release_that_waited_before_several_teams_could_be_asked(bench: Bench) -> None:
    """After an upgrade it would go live without, or wait for ever."""
    draft = bench.one.draft(
        [Move(env="prod", asset="dataset:a", source="", target="v1")],
        by=ANN,
        decision=ALLOW,
        strategy=Strategy(),
    )
    waiting = bench.one.propose(
        msgspec.structs.replace(draft, approvals_needed=2, approvals_of="ops")
    )
    assert (waiting.state, waiting.reason) == ("waiting", "needs 2 of ops")
    assert bench.one.approve(waiting.id, BOB).reason == "needs 1 of ops"
    assert bench.one.approve(waiting.id, Principal(name="cy", teams=("ops",))).state == "live"


def test_who_proposed_may_withdraw_it(bench: Bench) -> None:
    """Refusing one's own release needs nobody else."""
    waiting = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    assert bench.one.approve(waiting.id, ANN, deny=True, reason="wrong file").state == "rejected"
    with pytest.raises(Conflict):
        bench.one.approve(waiting.id, BOB)
    assert bench.live("dataset:a") == ""


def test_a_raising_roll_out_pauses_and_does_not_stop_the_others(bench: Bench) -> None:
    """A service that cannot be reached would block every other release behind it."""

    def unreachable() -> bool:
        raise StorageError("SX-TEST-1", "no route to the host")

    bench.slow.during = unreachable
    done = bench.propose("slow:s", "", "v1")
    assert (done.state, done.reason) == ("paused", "no route to the host")
    bench.slow.during = lambda: True
    assert bench.one.go_on(done.id, ANN).state == "live"


def test_abort(bench: Bench) -> None:
    """An abort of something live must not call it rolled back while its pointer stays."""
    bench.slow.during = lambda: False
    paused = bench.propose("slow:s", "", "v1", steps=(5, 100))
    assert bench.one.abort(paused.id, ANN, "bad").state == "rolled_back"
    assert bench.slow.undone == ["paused"]
    bench.slow.during = lambda: True
    live = bench.propose("slow:s", "", "v2")
    for release, word in ((live, "is live"), (paused, "is rolled_back")):
        with pytest.raises(Conflict, match=word):
            bench.one.abort(release.id, ANN, "again")
    assert bench.slow.undone == ["paused"], "nothing was undone by the refused aborts"
    assert bench.live("slow:s") == "v2"


@pytest.mark.parametrize("error", [StorageError("SX-TEST-2", "disk gone"), KeyError("a bug")])
def test_a_failing_undo_is_stuck_and_seen(bench: Bench, error: Exception) -> None:
    """Half taken back and nobody told: the worst end of all."""
    bench.slow.during = lambda: False
    paused = bench.propose("slow:s", "", "v1")
    bench.slow.undo_error = error
    stuck = bench.one.abort(paused.id, ANN, "bad")
    assert stuck.state == "stuck"
    incident = bench.incidents()[0]
    assert stuck.id in incident.title
    signals = [
        msgspec.json.decode(row[0], type=Signal)
        for row in bench.state.read("signals", (1 << 62, 5))
    ]
    assert [s.severity for s in signals] == ["critical"]
    assert bench.one.resume() == [], "a stuck release is a person's now"
    assert (
        bench.one.resolve(stuck.id, BOB, live=False, reason="cleaned by hand").state
        == "rolled_back"
    )
    with pytest.raises(Conflict):
        bench.one.resolve(stuck.id, BOB, live=False, reason="again")


def test_a_lost_race_whose_undo_fails_is_stuck_too(bench: Bench) -> None:
    """The source moved during the roll-out: taking back may fail there as well."""
    bench.slow.during = lambda: bool(bench.state.commit(Write((), (_pointer_elsewhere(bench),))))
    bench.slow.undo_error = StorageError("SX-TEST-2", "disk gone")
    assert bench.propose("slow:s", "", "v1").state == "stuck"
    assert len(bench.incidents()) == 1


def _pointer_elsewhere(bench: Bench) -> Any:
    from sextant.kernel.nouns import Event

    moved = Release(
        id=bench.ids.new("rel"),
        state="live",
        moves=(Move(env="prod", asset="slow:s", source="", target="v9"),),
    )
    return Event(
        id=bench.ids.new("ev"),
        type="release.live",
        subject=moved.id,
        actor="x",
        data=msgspec.Raw(msgspec.json.encode(moved)),
    )


def test_taken_back_while_it_rolled_on(bench: Bench) -> None:
    """The roll-out that came too late would stay, with a release that says it is gone."""

    def abort() -> bool:
        bench.slow.during = lambda: True
        found = bench.other.open()[0]
        bench.other.abort(found.id, BOB, "stop")
        bench.slow.undo_error = RuntimeError("too late")
        return True

    bench.slow.during = abort
    done = bench.propose("slow:s", "", "v1", steps=(5, 100))
    assert done.state == "rolled_back"
    assert bench.slow.undone == ["rolling", "rolled_back"], (
        "undone again by the driver that had rolled on"
    )
    assert "too late" in bench.incidents()[0].title
    assert bench.live("slow:s") == ""


def test_resume_goes_on_behind_one_that_cannot(bench: Bench) -> None:
    """One broken kind would hold up the releases of all others after a crash."""
    drafts = [
        bench.one.draft(
            [Move(env="prod", asset=a, source="", target="v1")],
            by=ANN,
            decision=ALLOW,
            strategy=Strategy(),
        )
        for a in ("slow:a", "slow:b")
    ]
    for draft in drafts:
        bench.state.commit(
            Write((), (bench.one._event(draft, ""),))
        )  # proposed, then the process died
    gate, bench.slow.gate = (
        bench.slow.gate,
        lambda r: gate(r) if r.moves[0].asset == "slow:b" else _raise(),
    )  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="gate"):
        bench.one.resume()
    assert [bench.one.get(draft.id).state for draft in drafts] == ["proposed", "live"]


def _raise() -> Any:
    raise StorageError("SX-TEST-3", "the gate cannot be asked")


def test_withdrawn_is_refused_until_unheld(bench: Bench) -> None:
    """What was undone would come back by itself."""
    bench.propose("dataset:a", "", "v1")
    move = Move(env="prod", asset="dataset:a", source="", target="v2")
    bench.state.commit(
        Write(
            (),
            tuple(
                bench.one.withdrawals(
                    [move], reason="bad rows", undo="rel_x", cause="", by="person:ann"
                )
            ),
        )
    )
    with pytest.raises(Conflict, match="withdrawn") as caught:
        bench.propose("dataset:a", "v1", "v2")
    assert "--unhold" in caught.value.hint
    bench.one.unhold("prod", "dataset:a", "v2", ANN)
    with pytest.raises(NotFound):
        bench.one.unhold("prod", "dataset:a", "v2", ANN)
    assert bench.propose("dataset:a", "v1", "v2").state == "live"


def test_a_deny_is_denied(bench: Bench) -> None:
    """The policy's no must stop a release before anything is written."""
    with pytest.raises(Denied, match="freeze"):
        bench.propose("dataset:a", "", "v1", decision=Decision(verdict="deny", reasons=("freeze",)))
    assert bench.state.read("event_span")[0][0] == 0
