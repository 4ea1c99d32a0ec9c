"""Single stories of releases that the state machine meets too rarely, on the real state and
ledger."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Busy, Conflict, Denied, NotFound, StorageError
from sextant.kernel.ids import Ids
from sextant.authorization.decide import Decision
from sextant.kernel.kinds import HOLDS, Instant, Rolled, Verdict
from sextant.kernel.nouns import (
    SYSTEM,
    Incident,
    Move,
    Need,
    Principal,
    Release,
    Signal,
    Strategy,
    Version,
)
from sextant.kernel.ports import Write
from sextant.ledger.events import Events
from sextant.ledger.log import Ledger, entries
from sextant.ledger.projections import Closed, IncidentChanged, IncidentFacts, VersionCreated
from sextant.release.driver import Driver
from sextant.release.releases import Releases
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


class Slow(Instant):
    """Is rolled out by steps. `says` answers, or does what a test wants to happen meanwhile."""

    def __init__(self) -> None:
        self.says: Any = lambda _release: HOLDS
        self.says_undo: Any = lambda _release: HOLDS
        self.rolled: list[tuple[int, int]] = []  # step and fence of each call
        self.undone: list[str] = []

    def roll(self, release: Release, fence: int) -> Any:
        self.rolled.append((release.step, fence))
        return self.says(release)

    def undo(self, release: Release, fence: int) -> Any:
        self.undone.append(release.state)
        return self.says_undo(release)


def raising(error: BaseException) -> Any:
    def answer(_release: Release) -> Any:
        raise error

    return answer


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.ids = Ids(self.clock, random.Random(1))
        self.state = SqliteState(folder / "state.db", Ledger(self.clock), clock=self.clock)
        self.slow = Slow()
        self.kinds: dict[str, Any] = {"dataset": Data(), "slow": self.slow}
        self.one, self.other = (
            Releases(self.state, self.kinds, self.clock, self.ids) for _ in range(2)
        )
        core: Any = SimpleNamespace(state=self.state, clock=self.clock, ids=self.ids)
        self.driver = Driver(core, self.one)

    def draft(
        self,
        asset: str,
        source: str,
        target: str,
        *,
        decision: Decision = ALLOW,
        by: Principal = ANN,
        steps: tuple[int, ...] = (100,),
        step_s: float = 0.0,
        **more: Any,
    ) -> Release:
        kind: Any = "publish" if asset.startswith("dataset:") else "canary"
        return self.one.draft(
            [Move(env="prod", asset=asset, source=source, target=target)],
            by=by,
            decision=decision,
            strategy=Strategy(kind=kind, steps=steps, step_s=step_s),
            **more,
        )

    def propose(
        self, asset: str, source: str, target: str, *, d: Releases | None = None, **more: Any
    ) -> Release:
        return (d or self.one).propose(self.draft(asset, source, target, **more))

    def roll_out(self, asset: str, source: str, target: str, **more: Any) -> Release:
        """Propose a release, and drive it once."""
        return self.driver.work(self.propose(asset, source, target, **more).id)

    def wait(self, release: Release) -> Release:
        """Drive a release when it is due."""
        due_at = self.one.get(release.id).due_at
        self.clock.wait(max(0.0, (due_at - self.clock.now_ns()) / 1e9) + 0.001)
        return self.driver.work(release.id)

    def live(self, asset: str) -> str:
        rows = self.state.read("pointer_get", ("prod", asset))
        return str(rows[0][0]) if rows else ""

    def incidents(self, state: str = "open") -> list[Incident]:
        return [
            msgspec.json.decode(row[1], type=Incident)
            for row in self.state.read("incidents_page", (1 << 62, 1 << 62, "", state, state, 10))
        ]

    def signals(self) -> list[Signal]:
        """Return the open ones."""
        page = self.state.read("signals_page", (1 << 62, 1 << 62, "", "", "", "", "", 1, 20))
        return [msgspec.json.decode(row[1], type=Signal) for row in page]

    def withdrawn(self) -> set[tuple[str, str]]:
        return {(row[0], row[1]) for row in self.state.read("withdrawn", ("prod",))}


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path)
    yield made
    made.driver.close()
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
    draft = bench.draft("dataset:a", "", "v1")
    waiting = bench.one.propose(
        msgspec.structs.replace(draft, approvals_needed=2, approvals_of="ops")
    )
    assert (waiting.state, waiting.reason) == ("waiting", "needs 2 of ops")
    assert bench.one.approve(waiting.id, BOB).reason == "needs 1 of ops"
    assert bench.one.approve(waiting.id, Principal(name="cy", teams=("ops",))).state == "live"


def test_an_approval_that_comes_too_late(bench: Bench) -> None:
    """Somebody would agree in June to what was shown in January."""
    waiting = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    assert not bench.one.is_due(waiting)
    bench.clock.wait(8 * 86_400)
    with pytest.raises(Conflict, match="waited for approval too long"):
        bench.one.approve(waiting.id, BOB)
    done = bench.driver.work(waiting.id)
    assert (done.state, done.reason) == ("rejected", "nobody approved it within 7 days")


def test_who_proposed_may_withdraw_it(bench: Bench) -> None:
    """Refusing one's own release needs nobody else."""
    waiting = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    assert bench.one.approve(waiting.id, ANN, deny=True, reason="wrong file").state == "rejected"
    with pytest.raises(Conflict):
        bench.one.approve(waiting.id, BOB)
    assert bench.live("dataset:a") == ""


# ---------------------------------------------------------------- what takes time


def test_it_is_rolled_out_step_by_step(bench: Bench) -> None:
    """A canary would be live before anybody looked at it, or hold up who proposed it."""
    release = bench.propose("slow:s", "", "v1", steps=(5, 25, 100), step_s=60)
    assert (release.state, release.step, bench.slow.rolled) == ("rolling", 0, [])
    release = bench.driver.work(release.id)
    assert (release.state, release.step) == ("rolling", 0)
    assert release.due_at == release.step_at + 60_000_000_000
    assert bench.driver.work(release.id) == release, "nothing is due"
    assert [step for step, _ in bench.slow.rolled] == [0]
    release = bench.wait(release)
    assert (release.step, bench.live("slow:s")) == (1, "")
    release = bench.wait(release)
    assert (release.state, bench.live("slow:s")) == ("live", "v1")
    assert [step for step, _ in bench.slow.rolled] == [0, 0, 1, 1, 2]


def test_a_kind_that_asks_for_time(bench: Bench) -> None:
    """A process that starts slowly would be judged before it answers."""
    later = bench.clock.now_ns() + 30_000_000_000
    bench.slow.says = lambda _r: Rolled(says="not_before", at=later, reason="it starts")
    release = bench.roll_out("slow:s", "", "v1")
    assert (release.state, release.due_at, release.reason) == ("rolling", later, "it starts")
    bench.slow.says = lambda _r: HOLDS
    assert bench.wait(release).state == "live"


@pytest.mark.parametrize("at", [0, -5, 1 << 80, 1_700_000_000_000_000_001])
def test_an_instant_that_makes_no_sense(bench: Bench, at: int) -> None:
    """A driver would ask without a pause, or never again."""
    bench.slow.says = lambda _r: Rolled(says="not_before", at=at)
    release = bench.roll_out("slow:s", "", "v1")
    assert 1.0 <= (release.due_at - bench.clock.now_ns()) / 1e9 <= 3600.0


def test_a_clock_that_was_far_ahead(bench: Bench) -> None:
    """A release would be left alone for a year because a clock was wrong for a minute."""
    bench.clock.wait(365 * 86_400)
    bench.slow.says = lambda _r: Rolled(says="not_before", at=0)
    release = bench.roll_out("slow:s", "", "v1")
    bench.slow.says = lambda _r: HOLDS
    bench.clock.wait(-365 * 86_400)
    assert bench.one.is_due(release)
    assert bench.driver.work(release.id).state == "live"


def test_a_pause_that_began_while_the_clock_was_ahead(bench: Bench) -> None:
    """A canary would stay at 5 % for a year."""
    bench.clock.wait(365 * 86_400)
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100), step_s=60)
    bench.clock.wait(-365 * 86_400)
    release = bench.driver.work(release.id)
    assert release.due_at == bench.clock.now_ns() + 60 * 10**9
    assert bench.wait(release).state == "live"


@pytest.mark.parametrize("error", [StorageError("SX-TEST-1", "no route to the host"), OSError(28)])
def test_what_a_kind_raises_is_tried_again(bench: Bench, error: Exception) -> None:
    """A service that cannot be reached would end every run of anything, or its release for good."""
    bench.slow.says = raising(error)
    release = bench.roll_out("slow:s", "", "v1")
    assert (release.state, release.errors) == ("rolling", 1)
    assert ("no route" in release.error) or ("OSError" in release.error)
    assert not bench.one.is_due(release)
    assert bench.propose("dataset:a", "", "v1").state == "live", "nobody else is hurt"
    bench.slow.says = lambda _r: HOLDS
    done = bench.wait(release)
    assert (done.state, done.errors, done.error) == ("live", 0, "")


def test_stuck_after_many_attempts(bench: Bench) -> None:
    """A release would be tried for ever, and nobody told."""
    bench.slow.says = raising(OSError("no route"))
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    for _ in range(7):
        release = bench.wait(release)
    assert (release.state, release.errors, release.error) == ("stuck", 8, "OSError: no route")
    (incident,) = bench.incidents()
    assert release.id in incident.title
    assert [signal.severity for signal in bench.signals()] == ["critical"]
    assert bench.driver.work(release.id).state == "stuck", "a person's now"
    bench.slow.says = lambda _r: HOLDS
    assert bench.one.go_on(release.id, BOB, "the host is back").state == "rolling"
    assert (bench.incidents(), bench.signals()) == ([], []), "closed by who resolved it"
    assert bench.driver.work(release.id).state == "live"


def test_the_incident_of_a_stuck_release_ends_with_it_and_with_nothing_else(bench: Bench) -> None:
    """It would stay open for good when somebody closed its signal, or be closed while another
    matter that people merged into it is open."""
    bench.slow.says = raising(OSError("no route"))
    releases = [bench.roll_out(f"slow:{name}", "", "v1", steps=(5, 100)) for name in "ab"]
    for _ in range(7):
        releases = [bench.wait(release) for release in releases]
    events = Events(bench.ids, bench.clock)
    (first, second), (mine, other) = bench.incidents()[::-1], bench.signals()[::-1]
    facts = IncidentFacts(assets=first.assets, signals=(mine.id, other.id))
    absorbed = IncidentChanged(id=first.id, change="absorbed", facts=facts, other=second.id)
    facts = IncidentFacts(assets=second.assets, signals=(other.id,), merged_into=first.id)
    merged = IncidentChanged(id=second.id, change="merged", facts=facts, other=first.id)
    changes = [events.make("incident.changed", one.id, one) for one in (absorbed, merged)]
    changes.append(events.make("signal.closed", mine.id, Closed(mine.id)))
    bench.state.commit(Write((), tuple(changes)))
    bench.slow.says = lambda _r: HOLDS
    bench.one.go_on(releases[0].id, BOB, "the host is back")
    assert [one.id for one in bench.incidents()] == [first.id], "the other release is stuck"
    bench.one.go_on(releases[1].id, BOB, "the host is back")
    assert (bench.incidents(), bench.signals()) == ([], [])


def test_an_incident_whose_signal_somebody_closed_ends_with_its_release(bench: Bench) -> None:
    """It would stay open for good."""
    bench.slow.says = raising(OSError("no route"))
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    for _ in range(7):
        release = bench.wait(release)
    (signal,) = bench.signals()
    closed = Events(bench.ids, bench.clock).make("signal.closed", signal.id, Closed(signal.id))
    bench.state.commit(Write((), (closed,)))
    assert len(bench.incidents()) == 1
    bench.slow.says = lambda _r: HOLDS
    bench.one.go_on(release.id, BOB, "the host is back")
    assert bench.incidents() == []


def test_nothing_is_released_beside_one_that_is_stuck(bench: Bench) -> None:
    """Two releases of one asset would go on when a person mends the first."""
    bench.slow.says = raising(OSError("no route"))
    release = bench.roll_out("slow:s", "", "v1")
    for _ in range(7):
        release = bench.wait(release)
    with pytest.raises(Conflict, match="is stuck"):
        bench.propose("slow:s", "", "v2")
    bench.one.resolve(release.id, BOB, live=False, reason="by hand")
    bench.slow.says = lambda _r: HOLDS
    assert bench.roll_out("slow:s", "", "v2").state == "live"


@pytest.mark.parametrize(("live", "state"), [(True, "live"), (False, "rolled_back")])
def test_a_person_resolves_what_is_stuck(bench: Bench, live: bool, state: str) -> None:
    """What was mended by hand would stay stuck for ever."""
    bench.slow.says = raising(OSError("no route"))
    release = bench.roll_out("slow:s", "", "v1")
    for _ in range(7):
        release = bench.wait(release)
    done = bench.one.resolve(release.id, BOB, live=live, reason="by hand")
    assert (done.state, bench.live("slow:s")) == (state, "v1" if live else "")
    assert (bench.incidents(), bench.signals()) == ([], [])
    with pytest.raises(Conflict):
        bench.one.resolve(release.id, BOB, live=live, reason="again")


def bad(_release: Release) -> Rolled:
    return Rolled(says="bad", reason="12 % of requests fail", evidence={"errors": 12, "of": 100})


def test_what_is_judged_bad_is_undone_and_stays_away(bench: Bench) -> None:
    """Traffic would stay on the bad version, and the next run would release it again."""
    bench.state.commit(Write((), (_version(bench, "dataset:reads", "r1", "slow:s", "v1"),)))
    bench.slow.says = bad
    done = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    assert (done.state, done.reason) == ("rolled_back", "12 % of requests fail")
    assert bench.slow.undone == ["undoing"]
    assert bench.withdrawn() == {("slow:s", "v1")}
    (undoing,) = entries(bench.state.read, "events_of_both", (done.id, "release.undoing", 5))
    assert undoing.envelope.actor == str(SYSTEM), "nobody else decided it"
    assert bench.state.read("tainted_since", ("dataset:reads", "r1", 0)) != []
    (signal,) = bench.signals()
    assert (signal.kind, signal.evidence["measured"]) == ("release.bad", {"errors": 12, "of": 100})
    assert signal.evidence["env"] == "prod"
    with pytest.raises(Conflict, match="withdrawn"):
        bench.propose("slow:s", "", "v1")
    bench.slow.says = lambda _r: HOLDS
    assert bench.roll_out("slow:s", "", "v2").state == "live"
    assert bench.signals() == [], "a good version answers it"


def _version(bench: Bench, asset: str, digest: str, upstream: str, version: str) -> Any:
    made = Version(asset=asset, digest=digest, inputs={upstream: version})
    return bench.one.events.make("version.created", f"{asset}@{digest}", VersionCreated(made))


def test_a_driver_that_dies_between_the_judgement_and_the_undo(bench: Bench) -> None:
    """The next driver would give the bad version its traffic back."""
    bench.slow.says = bad
    bench.slow.says_undo = raising(KeyboardInterrupt())
    release = bench.propose("slow:s", "", "v1", steps=(5, 100))
    with pytest.raises(KeyboardInterrupt):
        bench.driver.work(release.id)
    assert bench.one.get(release.id).state == "undoing"
    assert bench.withdrawn() == {("slow:s", "v1")}
    bench.slow.says_undo = lambda _r: HOLDS
    rolled = len(bench.slow.rolled)
    assert bench.driver.work(release.id).state == "rolled_back"
    assert len(bench.slow.rolled) == rolled


def test_a_kind_that_cannot_say_what_must_not_be_made_again(bench: Bench) -> None:
    """A bug in a kind would leave traffic on a version that was judged bad."""
    bench.slow.says = bad
    bench.slow.held = raising(RuntimeError("a bug"))  # type: ignore[method-assign]
    assert bench.roll_out("slow:s", "", "v1", steps=(5, 100)).state == "rolled_back"
    assert bench.withdrawn() == {("slow:s", "v1")}
    (told,) = [one for one in bench.signals() if one.kind == "taint.failed"]
    assert "a bug" in told.message, "nobody would look for what was made from it"


def test_nobody_can_tell(bench: Bench) -> None:
    """A canary without traffic would pass, or be thrown away."""
    bench.slow.says = lambda _r: Rolled(says="inconclusive", reason="8 requests", evidence={"n": 8})
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    assert (release.state, release.reason, release.evidence) == ("paused", "8 requests", {"n": 8})
    assert [one.kind for one in bench.signals()] == ["release.inconclusive"]
    assert bench.driver.work(release.id).state == "paused"
    bench.slow.says = lambda _r: HOLDS
    bench.one.go_on(release.id, BOB, "it is night")
    assert bench.signals() == []
    assert bench.driver.work(release.id).state == "live"


@pytest.mark.parametrize(
    "answer",
    [
        True,
        None,
        "holds",
        {"says": "holds"},
        Rolled(says="fine"),  # type: ignore[arg-type]
        Rolled(says="not_before", at=1.5),  # type: ignore[arg-type]
        Rolled(says="holds", reason=5),  # type: ignore[arg-type]
        Rolled(says="bad", evidence={"x": object()}),
        Rolled(says="bad", evidence=7),  # type: ignore[arg-type]
        Rolled(says="bad", evidence={"x": "y" * 100_000}),
    ],
    ids=range(10),
)
def test_an_answer_that_is_nonsense(bench: Bench, answer: Any) -> None:
    """A kind's bug would pass for a release that holds."""
    bench.slow.says = lambda _r: answer
    release = bench.roll_out("slow:s", "", "v1")
    assert (release.state, release.errors) == ("rolling", 1)
    assert "slow:s" in release.error
    bench.slow.says = lambda _r: HOLDS
    assert bench.wait(release).state == "live"


def test_an_undo_that_is_nonsense(bench: Bench) -> None:
    """What is not taken back would be called so."""
    bench.slow.says, bench.slow.says_undo = bad, lambda _r: Rolled(says="bad")
    release = bench.roll_out("slow:s", "", "v1")
    assert (release.state, release.errors) == ("undoing", 1)


def test_an_undo_that_takes_time_and_fails(bench: Bench) -> None:
    """Half taken back and nobody told: the worst end of all."""
    bench.slow.says = lambda _r: Rolled(says="not_before", at=0)
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    bench.one.abort(release.id, ANN, "wrong build")
    bench.slow.says_undo = lambda _r: Rolled(says="not_before", at=0, reason="it drains")
    release = bench.driver.work(release.id)
    assert (release.state, release.reason) == ("undoing", "it drains")
    bench.slow.says_undo = raising(StorageError("SX-TEST-2", "disk gone"))
    for _ in range(8):
        release = bench.wait(release)
    assert (release.state, release.error) == ("stuck", "disk gone")
    assert len(bench.incidents()) == 1
    with pytest.raises(Conflict, match="taken back"):
        bench.one.go_on(release.id, BOB)
    with pytest.raises(Conflict, match="withdrawn"):
        bench.one.resolve(release.id, BOB, live=True, reason="it works after all")
    bench.slow.says_undo = lambda _r: HOLDS
    bench.one.abort(release.id, BOB, "the disk is back")
    assert bench.driver.work(release.id).state == "rolled_back"
    assert bench.incidents() == []


def test_abort(bench: Bench) -> None:
    """An abort of something live must not call it rolled back while its pointer stays."""
    bench.slow.says = lambda _r: Rolled(says="inconclusive")
    paused = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    assert bench.one.abort(paused.id, ANN, "bad").state == "undoing"
    with pytest.raises(Conflict, match="is undoing"):
        bench.one.abort(paused.id, ANN, "again")
    assert bench.driver.work(paused.id).state == "rolled_back"
    assert bench.withdrawn() == {("slow:s", "v1")}
    bench.slow.says = lambda _r: HOLDS
    live = bench.roll_out("slow:s", "", "v2")
    for release, word in ((live, "is live"), (paused, "is rolled_back")):
        with pytest.raises(Conflict, match=word):
            bench.one.abort(release.id, ANN, "again")
    assert len(bench.slow.undone) == 1, "nothing was undone by the refused aborts"
    assert bench.live("slow:s") == "v2"


def test_a_person_acts_while_a_driver_works(bench: Bench) -> None:
    """The roll-out that came too late would stay, with a release that says it is gone."""

    def aborted(release: Release) -> Rolled:
        bench.other.abort(release.id, BOB, "stop")
        return HOLDS

    bench.slow.says = aborted
    done = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    assert (done.state, done.reason) == ("rolled_back", "stop")
    assert bench.slow.undone == ["undoing"], "after what the driver did last"
    assert bench.live("slow:s") == ""

    def paused(release: Release) -> Rolled:
        bench.other.pause(release.id, BOB, "lunch")
        return HOLDS

    bench.slow.says = paused
    done = bench.roll_out("slow:s", "", "v2", steps=(5, 100))
    assert (done.state, done.step, done.reason) == ("paused", 0, "lunch")


def test_two_people_pause_and_go_on(bench: Bench) -> None:
    """The second one would undo what the first one did, or be told nothing."""
    bench.slow.says = lambda _r: Rolled(says="not_before", at=0)
    release = bench.roll_out("slow:s", "", "v1", steps=(5, 100))
    bench.one.pause(release.id, ANN, "wait")
    with pytest.raises(Conflict, match="is paused"):
        bench.other.pause(release.id, BOB, "wait")
    bench.one.go_on(release.id, ANN)
    with pytest.raises(Conflict, match="is rolling"):
        bench.other.go_on(release.id, BOB)
    commit = bench.state.commit

    def between(write: Write) -> Any:
        bench.state.commit = commit  # type: ignore[method-assign]
        bench.other.pause(release.id, BOB, "first")
        return commit(write)

    bench.state.commit = between  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="moved on by somebody else"):
        bench.one.pause(release.id, ANN, "second")
    assert bench.one.get(release.id).reason == "first"


def test_one_driver_at_a_time(bench: Bench) -> None:
    """Two drivers would give the same step its traffic twice, one after the other's undo."""
    other = Driver(bench.driver._core, bench.other)
    seen: list[str] = []

    def meanwhile(release: Release) -> Rolled:
        with pytest.raises(Busy):
            other.work(release.id)
        seen.append(release.id)
        return HOLDS

    bench.slow.says = meanwhile
    assert bench.roll_out("slow:s", "", "v1").state == "live"
    assert len(seen) == 1
    assert other.work(seen[0]).state == "live"


def test_a_driver_that_slept_past_its_lease(bench: Bench) -> None:
    """It would go on with a release that another driver has taken back."""
    other = Driver(bench.driver._core, bench.other)
    fences: list[int] = []

    def sleeps(release: Release) -> Rolled:
        fences.append(bench.slow.rolled[-1][1])
        if len(fences) == 1:
            bench.clock.wait(31.0)
            bench.slow.says = bad
            assert other.work(release.id).state == "rolled_back"
            fences.append(bench.slow.rolled[-1][1])
        return HOLDS

    bench.slow.says = sleeps
    release = bench.propose("slow:s", "", "v1", steps=(5, 100))
    with pytest.raises(Busy, match="taken release"):
        bench.driver.work(release.id)
    assert bench.one.get(release.id).state == "rolled_back"
    assert fences[1] > fences[0], "what is changed can tell them apart"


def test_a_driver_that_slept_while_another_only_looked(bench: Bench) -> None:
    """The release is where it was read, so nothing but the lease keeps the old driver from making
    it live."""
    other = Driver(bench.driver._core, bench.other)

    def sleeps(release: Release) -> Rolled:
        bench.clock.wait(31.0)
        bench.slow.says = lambda _r: Rolled(says="not_before", at=0, reason="it starts")
        assert other.work(release.id).state == "rolling"
        return HOLDS

    bench.slow.says = sleeps
    release = bench.propose("slow:s", "", "v1")
    with pytest.raises(Busy, match="taken release"):
        bench.driver.work(release.id)
    now = bench.one.get(release.id)
    assert (now.state, now.reason, bench.live("slow:s")) == ("rolling", "it starts", "")


def test_what_it_was_made_from_must_be_live_first(bench: Bench) -> None:
    """A model would serve that was trained on rows which nobody approved."""
    data = bench.propose("dataset:a", "", "v1", decision=TWO_EYES)
    model = bench.one.propose(bench.draft("slow:s", "", "m1", after=data.id))
    assert (model.state, bench.one.is_due(model)) == ("proposed", False)
    assert bench.one.due() == []
    bench.one.approve(data.id, BOB)
    assert bench.driver.work(model.id).state == "live"
    data = bench.propose("dataset:a", "v1", "v2", decision=TWO_EYES)
    model = bench.one.propose(bench.draft("slow:s", "m1", "m2", after=data.id))
    bench.one.approve(data.id, BOB, deny=True)
    done = bench.driver.work(model.id)
    assert (done.state, bench.live("slow:s")) == ("rejected", "m1")
    assert data.id in done.reason


def test_a_pointer_that_moved_meanwhile(bench: Bench) -> None:
    """What was rolled out would stay, beside another version that is called live."""

    def moved(_release: Release) -> Rolled:
        bench.state.commit(Write((), (_pointer_elsewhere(bench),)))
        return HOLDS

    bench.slow.says = moved
    done = bench.roll_out("slow:s", "", "v1")
    assert (done.state, bench.slow.undone) == ("rolled_back", ["undoing"])
    assert "no longer at" in done.reason
    assert bench.withdrawn() == set(), "nothing is wrong with the version"


def test_what_is_stuck_still_says_why_it_was_taken_back(bench: Bench) -> None:
    """People would read the last error, and not that the pointer had moved; and an abort would
    leave a version free that its help calls withdrawn."""

    def moved(_release: Release) -> Rolled:
        bench.state.commit(Write((), (_pointer_elsewhere(bench),)))
        return HOLDS

    bench.slow.says, bench.slow.says_undo = moved, raising(OSError("away"))
    release = bench.roll_out("slow:s", "", "v1")
    for _ in range(7):
        release = bench.wait(release)
    assert (release.state, release.error) == ("stuck", "OSError: away")
    assert "no longer at" in release.reason
    assert bench.withdrawn() == set()
    bench.slow.says_undo = lambda _r: HOLDS
    bench.one.abort(release.id, BOB, "wrong build")
    assert bench.driver.work(release.id).state == "rolled_back"
    assert bench.withdrawn() == {("slow:s", "v1")}


def _pointer_elsewhere(bench: Bench) -> Any:
    moved = Release(
        id=bench.ids.new("rel"),
        state="live",
        moves=(Move(env="prod", asset="slow:s", source="", target="v9"),),
    )
    return bench.one.events.make("release.live", moved.id, moved)


def test_an_undo_is_rolled_out_too(bench: Bench) -> None:
    """The release that is undone would be called so while its version still serves."""
    bench.roll_out("slow:s", "", "v1")
    wrong = bench.roll_out("slow:s", "v1", "v2")
    draft = bench.draft("slow:s", "v2", "v1", intent="undo", undoes=wrong.id)
    bench.slow.says = lambda _r: Rolled(says="not_before", at=0)
    undo = bench.driver.work(bench.one.propose(draft).id)
    assert (undo.state, bench.one.get(wrong.id).state) == ("rolling", "live")
    bench.slow.says = bad
    undo = bench.wait(undo)
    assert undo.state == "paused", "what was before is bad as well: a person decides"
    assert bench.withdrawn() == set()
    bench.slow.says = lambda _r: HOLDS
    bench.one.go_on(undo.id, BOB)
    assert bench.driver.work(undo.id).state == "live"
    assert (bench.one.get(wrong.id).state, bench.live("slow:s")) == ("rolled_back", "v1")


def test_a_kind_whose_package_is_gone(bench: Bench) -> None:
    """Its release would stop the driver of all others."""
    release = bench.propose("slow:s", "", "v1")
    kind = bench.kinds.pop("slow")
    release = bench.driver.work(release.id)
    assert release.errors == 1
    assert "nothing releases assets of the kind `slow`" in release.error
    bench.kinds["slow"] = kind
    assert bench.wait(release).state == "live"


def test_a_gate_that_raises(bench: Bench) -> None:
    """A run would fail because a service cannot be asked for a moment."""
    gate, bench.slow.gate = bench.slow.gate, raising(StorageError("SX-TEST-3", "not now"))  # type: ignore[method-assign]
    release = bench.propose("slow:s", "", "v1")
    assert release.state == "proposed"
    release = bench.driver.work(release.id)
    assert (release.state, release.error) == ("proposed", "not now")
    bench.slow.gate = gate  # type: ignore[method-assign]
    assert bench.wait(release).state == "live"


def test_all_that_is_due_is_worked_on(bench: Bench) -> None:
    """One broken release would hold up the others after a crash."""
    bench.slow.says = lambda r: raising(OSError())(r) if r.moves[0].asset == "slow:a" else HOLDS
    first, second = (bench.propose(asset, "", "v1") for asset in ("slow:a", "slow:b"))
    told: list[Release] = []
    bench.driver.work_on_due(told=told.append)
    bench.driver.close()
    assert {(one.id, one.state) for one in told} == {(first.id, "rolling"), (second.id, "live")}


def test_a_run_resumes_only_what_the_pointer_makes_live(bench: Bench) -> None:
    """Any run would drive everybody's canaries, and end with their errors."""
    slow = bench.propose("slow:s", "", "v1")
    drafts = [bench.draft(f"dataset:{name}", "", "v1") for name in "ab"]
    for draft in drafts:  # proposed, then the process died
        bench.state.commit(Write((), (bench.one._records.event(draft, ""),)))
    gate = bench.kinds["dataset"].gate
    bench.kinds["dataset"].gate = lambda r: (
        gate(r)
        if r.moves[0].asset == "dataset:b"
        else raising(StorageError("SX-TEST-3", "gate"))(r)
    )
    assert bench.one.resume("dev") == []
    with pytest.raises(StorageError, match="gate"):
        bench.one.resume("prod")
    assert [bench.one.get(draft.id).state for draft in drafts] == ["proposed", "live"]
    assert (bench.one.get(slow.id).state, bench.slow.rolled) == ("rolling", [])


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
