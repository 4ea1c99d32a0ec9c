"""Releases of a fake kind under random people, two drivers, crashes and clocks that jump; what must
hold is read back from the ledger alone. `bench/releases.py` runs it for longer."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import SextantError, StorageError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import (
    OPEN_STATES,
    Envelope,
    Event,
    Move,
    Need,
    Principal,
    Release,
    ReleaseState,
    Strategy,
)
from sextant.kernel.ports import Receipt, Write
from sextant.ledger.log import Ledger
from sextant.ledger.projections import PROJECTED, EnvCreated
from sextant.kernel.nouns import Held
from sextant.ledger.rebuild import projected
from sextant.authorization.decide import Decision
from sextant.release.machine import TRANSITIONS
from sextant.release import machine
from sextant.release.driver import Driver
from sextant.release.releases import Releases, is_driven, unchanged_guard
from sextant.kernel.kinds import HOLDS, Instant, Rolled, Verdict
from sextant.stores.state import scratch
from sextant.stores.state.sqlite import SqliteState

ASSETS = ("thing:a", "thing:b")
ENVS = ("prod", "dev", "pr")  # pr falls through to prod
VERSIONS = ("v1", "v2", "v3", "v4")
TEAMS = {"ann": ("ops",), "bob": ("ops", "sec"), "cy": ("sec", "ops"), "dan": ("sec",)}
PEOPLE = tuple(Principal(name=name, teams=teams) for name, teams in TEAMS.items())
NEEDS = (
    (),
    (),
    (Need(count=1, of="ops"),),
    (Need(count=2, of="ops"),),
    (Need(count=1, of="ops"), Need(count=2, of="sec")),
    (Need(count=1), Need(count=1, of="sec")),
)
FINAL = ("rolled_back", "rejected", "superseded")
MOVED = ("`thing", "version `", "what version")  # why a release ended whose pointer had moved


class Killed(BaseException):
    """The process ended here."""


class Mortal:
    """A state in whose hands the process may die, and before whose writes another driver may be
    faster. `dies_in`, `yields_in`: count commits down; `after`: the write was made before the
    process died. A process that is dead writes nothing more: its leases have to expire."""

    def __init__(self, state: SqliteState) -> None:
        self._state = state
        self.read, self.flush, self.now_ns = state.read, state.flush, state.now_ns
        self.is_local = False
        self.dies_in = self.yields_in = 0
        self.after = self.dead = False
        self.meanwhile: Any = None

    def commit(self, write: Write) -> Receipt:
        if self.dead:
            raise Killed
        self.yields_in -= 1
        if self.yields_in == 0 and self.meanwhile is not None:
            self.meanwhile()
        self.dies_in -= 1
        if self.dies_in != 0:
            return self._state.commit(write)
        if self.after:
            self._state.commit(write)
        self.dead = True
        raise Killed

    def submit(self, write: Write) -> Any:
        return None if self.dead else self._state.submit(write)


class World:
    """What a fake kind rolls out: (env, asset) -> the release and step that is rolled out there. It
    refuses who was taken for dead."""

    def __init__(self) -> None:
        self.out: dict[tuple[str, str], tuple[str, int]] = {}
        self.fences: dict[str, int] = {}  # release -> the newest that was seen

    def admit(self, release: Release, fence: int) -> None:
        if fence < self.fences.get(release.id, 0):
            raise StorageError("SX-TEST-003", "another driver has taken over")
        self.fences[release.id] = fence

    def clear(self, release: Release) -> None:
        for move in release.moves:
            if self.out.get((move.env, move.asset), ("",))[0] == release.id:
                del self.out[(move.env, move.asset)]


class Thing(Instant):
    """A kind whose roll and undo may do anything, and while which another driver may act."""

    def __init__(self, world: World, clock: ManualClock) -> None:
        self._world, self._clock = world, clock
        self.fates: list[str] = []  # of the next calls; none left = all goes well
        self.meanwhile: Any = None
        self.kill: Any = None  # marks the process as dead

    def _die(self) -> None:
        self.kill()
        raise Killed

    def _fate(self, release: Release) -> str:
        fate = self.fates.pop(0) if self.fates else "well"
        if fate == "dies before":
            self._die()
        act, self.meanwhile = self.meanwhile, None
        if fate in ("interleaved", "sleeps") and act is not None:
            self._clock.wait(31.0 if fate == "sleeps" else 0.0)
            act()
        if fate == "raises":
            raise StorageError("SX-TEST-001", "it raised")
        if fate == "raises anything":
            raise RuntimeError("it raised badly")
        return fate

    def gate(self, release: Release) -> Verdict:
        bad = [m.target for m in release.moves if m.target == "v4"]
        return Verdict(ok=not bad, reasons=tuple(f"{target} is bad" for target in bad))

    def roll(self, release: Release, fence: int) -> Any:
        fate = self._fate(release)
        self._world.admit(release, fence)
        for move in release.moves:
            self._world.out[(move.env, move.asset)] = (release.id, release.step)
        if fate == "dies after":
            self._die()
        return self._answer(fate)

    def undo(self, release: Release, fence: int) -> Any:
        fate = self._fate(release)
        self._world.admit(release, fence)
        if fate != "not yet":
            self._world.clear(release)
        if fate == "dies after":
            self._die()
        return self._answer(fate)

    def _answer(self, fate: str) -> Any:
        return {
            "bad": Rolled(says="bad", reason="it is bad"),
            "inconclusive": Rolled(says="inconclusive", reason="too few"),
            "not yet": Rolled(says="not_before", at=self._clock.now_ns() + 5 * 10**9),
            "nonsense": "holds",
        }.get(fate, HOLDS)

    def held(self, move: Move) -> tuple[Held, ...]:
        return (Held("all", move.target, "", move.target),)


FATES = st.lists(
    st.sampled_from(
        [
            "well",
            "well",
            "well",
            "not yet",
            "bad",
            "inconclusive",
            "raises",
            "raises anything",
            "nonsense",
            "dies before",
            "dies after",
            "interleaved",
            "sleeps",
        ]
    ),
    max_size=4,
)
CALM = (0, False, 0)
DEATHS = st.tuples(
    st.sampled_from([0, 0, 0, 0, 1, 2, 3]), st.booleans(), st.sampled_from([0, 0, 1, 2, 3])
)  # dies in, after the write, yields in
DRIVERS = st.sampled_from([0, 1])
PICK = st.integers(0, 1 << 16)


class Process:
    """A process with a driver, in which people act too."""

    def __init__(self, state: SqliteState, world: World, clock: ManualClock, ids: Ids) -> None:
        self.mortal = Mortal(state)
        self.kind = Thing(world, clock)
        self.kind.kill = lambda: setattr(self.mortal, "dead", True)
        self.releases = Releases(self.mortal, {"thing": self.kind}, clock, ids)  # type: ignore[arg-type]
        core: Any = SimpleNamespace(state=self.mortal, clock=clock, ids=ids)
        self.driver = Driver(core, self.releases)


class ReleaseMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(machine, "RELEASE_ERRORS_MAX", 2)  # so that some are stuck
        self.folder = tempfile.TemporaryDirectory(prefix="sextant-releases-")
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.ids = Ids(self.clock, random.Random(7))
        self.state = SqliteState(
            Path(self.folder.name) / "state.db", Ledger(self.clock), clock=self.clock
        )
        self.world = World()
        self.replay = Replay()
        self.processes = [self._process(), self._process()]
        self.acts = 2  # what people did; proposals keep step with it
        made = [
            self._event("env.created", name, EnvCreated(name, "prod" if name == "pr" else ""))
            for name in ENVS
        ]
        self.state.commit(Write((), tuple(made)))

    def _process(self) -> "Process":
        return Process(self.state, self.world, self.clock, self.ids)

    def _event(self, type_: str, subject: str, data: Any) -> Event:
        return Event(
            id=self.ids.new("ev"),
            type=type_,
            subject=subject,
            actor="person:ann",
            data=msgspec.Raw(msgspec.json.encode(data)),
        )

    def _do(
        self,
        number: int,
        fates: Sequence[str],
        death: tuple[int, bool, int],
        act: Any,
        meanwhile: Any = None,
    ) -> None:
        """Let a process act. An error is an answer; death means a new process in its place."""
        self.clock.wait(1.0)
        process = self.processes[number]
        mortal, kind = process.mortal, process.kind
        mortal.dies_in, mortal.after, mortal.yields_in = death
        kind.fates = list(fates)
        other = 1 - number
        kind.meanwhile = mortal.meanwhile = (
            (lambda: self._do(other, (), CALM, meanwhile)) if meanwhile else None
        )
        try:
            act(process)
        except SextantError:
            pass
        except Killed:
            self.processes[number] = self._process()
        mortal.dies_in, mortal.yields_in, mortal.meanwhile = 0, 0, None
        kind.fates, kind.meanwhile = [], None

    def _release(self, pick: int, *states: str) -> Release | None:
        found = [r for r in self.replay.docs.values() if not states or r.state in states]
        return found[pick % len(found)] if found else None

    def _someone(self, pick: int, release: Release) -> Any:
        """What another process may do to a release while this one works on it."""
        person = PEOPLE[pick % 4]
        return [
            lambda p: p.releases.abort(release.id, person, "stop"),
            lambda p: p.releases.pause(release.id, person, "wait"),
            lambda p: p.driver.work(release.id),
            lambda p: p.driver.work(release.id),
            lambda p: self._withdraw(p.releases, release.moves[0]),
            lambda p: p.releases.propose(
                p.releases.draft(
                    release.moves,
                    by=person,
                    decision=Decision(verdict="allow"),
                    strategy=Strategy(kind="canary", steps=(50, 100)),
                ),
                cause=self._noted("build.finished"),
            ),
            lambda p: p.releases.approve(release.id, person),
        ][pick % 7]

    # ------------------------------------------------------------ what people do

    @precondition(lambda self: len(self.replay.docs) <= self.acts)
    @rule(
        driver=DRIVERS,
        env=st.sampled_from(ENVS),
        assets=st.sampled_from([(ASSETS[0],), (ASSETS[1],)]),
        version=st.sampled_from(VERSIONS),
        by=st.sampled_from(PEOPLE),
        steps=st.sampled_from([(100,), (5, 100), (5, 25, 100)]),
        needs=st.sampled_from(NEEDS),
        glass=st.sampled_from(["", "", "", "the house burns"]),
        stale=st.sampled_from(["", "", "", "v2"]),
        death=DEATHS,
        pick=PICK,
    )
    def propose(
        self, driver, env, assets, version, by, steps, needs, glass, stale, death, pick
    ) -> None:
        moves = [
            Move(
                env=env,
                asset=asset,
                source=stale or self.replay.resolved(env, asset),
                target=version,
            )
            for asset in assets
        ]
        decision = Decision(verdict="approval", needs=needs) if needs else Decision(verdict="allow")
        drafted: list[Release] = []

        def act(process: Process) -> None:
            draft = process.releases.draft(
                moves,
                by=by,
                decision=decision,
                strategy=Strategy(kind="canary", steps=steps),
                broke_glass=glass,
            )
            drafted.append(draft)
            process.releases.propose(draft, cause=self._noted("build.finished"))

        self._do(driver, (), death, act, meanwhile=lambda p: self._someone(pick, drafted[0])(p))

    @precondition(lambda self: any(is_driven(one) for one in self.replay.docs.values()))
    @rule(driver=DRIVERS, pick=PICK, waits=st.booleans(), fates=FATES, death=DEATHS)
    def drive(self, driver, pick, waits, fates, death) -> None:
        """A driver works on a release, when it is due or too early."""
        on_their_way = [one for one in self.replay.docs.values() if is_driven(one)]
        release = on_their_way[pick % len(on_their_way)]
        if waits:
            self.clock.wait(max(0.0, min(release.due_at - self.clock.now_ns(), 10**12) / 1e9))
        self._do(
            driver,
            fates,
            death,
            lambda p: p.driver.work(release.id),
            meanwhile=self._someone(pick, release),
        )

    @precondition(lambda self: any(is_driven(one) for one in self.replay.docs.values()))
    @rule(driver=DRIVERS, pick=PICK, times=st.sampled_from([1, 2, 3]))
    def fail_again_and_again(self, driver, pick, times) -> None:
        on_their_way = [one for one in self.replay.docs.values() if is_driven(one)]
        release = on_their_way[pick % len(on_their_way)]
        for _ in range(times):
            self.clock.wait(400.0)
            self._do(driver, ["raises"], CALM, lambda p: p.driver.work(release.id))

    @rule(seconds=st.sampled_from([-40 * 86_400.0, -100.0, 31.0, 3_700.0, 40 * 86_400.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.clock.wait(seconds)

    @precondition(lambda self: self.replay.docs)
    @rule(
        driver=DRIVERS,
        pick=PICK,
        what=st.sampled_from(
            [
                "approve",
                "approve",
                "deny",
                "pause",
                "go on",
                "abort",
                "resolve live",
                "resolve back",
                "undo",
                "undo",
                "withdraw",
                "unhold",
                "resume",
            ]
        ),
        anything=st.sampled_from([False, False, False, True]),
        death=DEATHS,
    )
    def act(self, driver, pick, what, anything, death) -> None:
        fitting = {
            "approve": ("waiting",),
            "deny": ("waiting",),
            "pause": ("rolling",),
            "go on": ("paused", "stuck"),
            "abort": ("rolling", "paused", "gated", "proposed", "stuck"),
            "resolve live": ("stuck",),
            "resolve back": ("stuck",),
            "undo": ("live",),
            "resume": OPEN_STATES,
        }.get(what, ())
        found = self._release(pick, *(() if anything else fitting))
        self.acts += 1
        if found is None:
            return
        by = PEOPLE[pick % 4]
        doings = {
            "approve": lambda d: d.approve(found.id, by),
            "deny": lambda d: d.approve(found.id, by, deny=True),
            "pause": lambda d: d.pause(found.id, by, "wait"),
            "go on": lambda d: d.go_on(found.id, by, "go"),
            "abort": lambda d: d.abort(found.id, by, "stop"),
            "resolve live": lambda d: d.resolve(found.id, by, live=True, reason="by hand"),
            "resolve back": lambda d: (
                d.resolve(found.id, by, live=False, reason="by hand"),
                self.world.clear(found),
            ),
            "undo": lambda d: self._undo(d, found, by),
            "withdraw": lambda d: self._withdraw(d, found.moves[0]),
            "resume": lambda d: d.resume(),
            "unhold": lambda d: self._unhold(d, pick, by),
        }
        self._do(
            driver,
            (),
            death,
            lambda p: doings[what](p.releases),
            meanwhile=self._someone(pick, found),
        )

    def _undo(self, d: Releases, release: Release, by: Principal) -> None:
        """As a publisher undoes: what is live goes back to its source, the version is withdrawn,
        all in one write."""
        moves = [
            m
            for m in release.moves
            if m.source not in ("", m.target) and self.replay.resolved(m.env, m.asset) == m.target
        ]
        if not moves or release.state != "live":
            return
        back = [Move(env=m.env, asset=m.asset, source=m.target, target=m.source) for m in moves]
        draft = d.draft(
            back,
            by=by,
            decision=Decision(verdict="allow"),
            strategy=Strategy(kind="direct"),
            intent="undo",
            undoes=release.id,
        )
        cause = self._noted("incident.noticed")
        events = d.withdrawals(moves, reason="bad", undo=draft.id, cause=cause, by=str(by))
        d.propose(draft, before=events, guards=(unchanged_guard(release),))

    def _withdraw(self, d: Releases, move: Move) -> None:
        """A mark alone, while releases of that version may be on their way."""
        cause = self._noted("finding.recorded")
        d._records.state.commit(
            Write(
                (),
                tuple(
                    d.withdrawals([move], reason="found bad", undo="", cause=cause, by="person:ann")
                ),
            )
        )

    def _unhold(self, d: Releases, pick: int, by: Principal) -> None:
        marked = sorted(self.replay.withdrawn)
        if marked:
            d.unhold(*marked[pick % len(marked)], by)

    def _noted(self, type_: str) -> str:
        """Record something from outside that may be a cause, and return its id."""
        event = self._event(type_, "thing", {})
        self.state.commit(Write((), (event,)))
        return event.id

    # ------------------------------------------------------------ what must hold

    @invariant()
    def the_ledger_tells_a_story_that_the_tables_repeat(self) -> None:
        if not hasattr(self, "state"):
            return
        for seq, envelope, _, body in self.state.read("events_after", (self.replay.next, 10_000)):
            self.replay.take(seq, msgspec.json.decode(envelope, type=Envelope), bytes(body))
        assert {
            (env, asset): version for env, asset, version in self.state.read("pointers_all")
        } == self.replay.pointers
        assert {
            r.id: r.state
            for r in (
                msgspec.json.decode(row[0], type=Release)
                for row in self.state.read("releases", (1 << 62, 10_000))
            )
        } == self.replay.states
        rows = {
            (env, asset): r
            for env in ENVS
            for asset in ASSETS
            for (r,) in self.state.read("open_move_get", (env, asset))
        }
        assert rows == self.replay.open
        marked = {
            (env, asset, row[1])
            for env in ENVS
            for row in self.state.read("withdrawn", (env,))
            for asset in [row[0]]
        }
        assert marked == self.replay.withdrawn

    def settle(self) -> None:
        """Let drivers that nothing happens to work until nothing goes on by itself."""
        for _ in range(100):
            self.clock.wait(3_601.0)
            process = self.processes[0] = self._process()
            due = [one for one in process.releases.due() if one.state != "waiting"]
            for release in due:
                self._do(0, (), CALM, lambda p, id_=release.id: p.driver.work(id_))
            if not due:
                return
        left = [(one.state, one.errors, one.error, one.reason, one.due_at) for one in due]
        raise AssertionError(f"releases go on for ever: {left} at {self.clock.now_ns()}")

    def teardown(self) -> None:
        if not hasattr(self, "state"):
            return
        try:
            self.settle()
            self.the_ledger_tells_a_story_that_the_tables_repeat()
            left = {state for state in self.replay.states.values() if state in OPEN_STATES}
            assert left <= {"waiting", "paused", "stuck"}, (
                f"after its drivers nothing goes on by itself, but there are {left}"
            )
            for place, (release, _) in self.world.out.items():
                gone = (
                    self.replay.states.get(release) in FINAL
                    and release not in self.replay.were_live
                )
                assert not gone, (
                    f"{place} still shows {release}, which was taken back before it was live"
                )
            rebuilt = scratch()
            rebuilt.apply(projected(self.state.read))
            for table in PROJECTED:
                assert [row for page in rebuilt.rows(table) for row in page] == [
                    row for page in self.state.rows(table) for row in page
                ], table
            rebuilt.close()
        finally:
            self.patch.undo()
            self.state.close()
            self.folder.cleanup()


class Replay:
    """The story as the ledger tells it, event by event; every step of it is checked here."""

    def __init__(self) -> None:
        self.next = 0
        self.ids: set[str] = set()
        self.states: dict[str, str] = {}
        self.docs: dict[str, Release] = {}
        self.were_live: set[str] = set()
        self.seen: set[str] = set()
        self.stuck = ""  # the release whose incident the next events must open
        self.pointers: dict[tuple[str, str], str] = {}
        self.open: dict[tuple[str, str], str] = {}
        self.beside = ""  # a release that was proposed while another one of its asset is open
        self.withdrawn: set[tuple[str, str, str]] = set()
        self.marked: set[tuple[str, str, str]] = set()  # that were withdrawn at some time

    def resolved(self, env: str, asset: str) -> str:
        return self.pointers.get((env, asset)) or (
            self.pointers.get(("prod", asset), "") if env == "pr" else ""
        )

    def take(self, seq: int, seal: Envelope, body: bytes) -> None:
        assert seq == self.next
        self.next += 1
        if seal.cause:
            assert seal.cause in self.ids, (
                f"{seal.type} names a cause that is not in the ledger before it"
            )
        self.ids.add(seal.id)
        if seal.type.startswith("release."):
            assert seal.cause, f"{seal.type} of {seal.subject} has no cause"
            self._release(seal, msgspec.json.decode(body, type=Release))
        elif seal.type == "version.withdrawn":
            data = msgspec.json.decode(body)
            self.withdrawn.add((data["env"], data["asset"], data["version"]))
            self.marked.add((data["env"], data["asset"], data["version"]))
        elif seal.type == "version.unheld":
            data = msgspec.json.decode(body)
            self.withdrawn.discard((data["env"], data["asset"], data["version"]))
        elif seal.type == "incident.opened":
            self.stuck = ""

    def _release(self, seal: Envelope, release: Release) -> None:
        before = self.states.get(release.id)
        assert seal.type == f"release.{release.state}"
        assert seal.subject == release.id
        assert not self.stuck, f"{self.stuck} got stuck and no incident was opened with it"
        if before is None:
            assert release.state == "proposed"
        else:
            assert before not in FINAL, f"{release.id} was {before} and became {release.state}"
            assert (before, release.state) in {
                (state, after) for (state, _), after in TRANSITIONS.items()
            }, f"{before} became {release.state}"
        known = self.docs[release.id].approvals if before else ()
        assert release.approvals[: len(known)] == known, f"an approval of {release.id} is gone"
        assert release.by not in release.approvals, f"{release.by} approved his own {release.id}"
        for need in release.needs if release.state in ("rolling", "live") else ():
            agreed = {
                who
                for who in release.approvals
                if not need.of or need.of in TEAMS[who.removeprefix("person:")]
            }
            assert len(agreed) >= need.count, f"{release.id} went on without {need.of}"
        places = [(move.env, move.asset) for move in release.moves]
        if self.beside:  # what its gate refuses at once leaves the one that is open alone
            assert (release.id, release.state) == (self.beside, "rejected"), (
                f"{self.beside} is open beside another release"
            )
            self.beside = ""
        elif release.state in OPEN_STATES:
            for place in places:
                if self.open.setdefault(place, release.id) != release.id:
                    assert release.state == "proposed", (
                        f"two open releases of {place}: {release.id} is {release.state} beside "
                        f"{self.open[place]}, which is {self.states[self.open[place]]}"
                    )
                    self.beside = release.id
        else:
            self.open = {place: id_ for place, id_ in self.open.items() if id_ != release.id}
        if release.state == "live":
            self.were_live.add(release.id)
            for move in release.moves:
                assert self.resolved(move.env, move.asset) == move.source, (
                    f"{release.id} moved a pointer that was not at its source"
                )
                if release.intent == "release" and not release.broke_glass:
                    assert (move.env, move.asset, move.target) not in self.withdrawn, (
                        f"{release.id} made a withdrawn version live"
                    )
            self.pointers.update({(m.env, m.asset): m.target for m in release.moves})
        if release.taken_back and not release.reason.startswith(MOVED):
            assert (
                all(
                    (m.env, m.asset, m.target) in self.marked
                    for m in release.moves
                    if release.intent == "release"
                )
                or release.state == "undoing"
            ), f"{release.id} was taken back and may come again"
        if release.state == "rolled_back" and before == "live":
            assert any((m.env, m.asset, m.target) in self.withdrawn for m in release.moves), (
                f"{release.id} was live and is rolled back, but nothing of it was withdrawn"
            )
        if release.state == "stuck":
            self.stuck = release.id
        self.states[release.id] = release.state
        self.seen.add(release.state)
        self.docs[release.id] = release


# No shrinking: every example opens a database, and the failing steps are printed anyhow.
SETTINGS = settings(
    max_examples=70,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_releases_keep_their_promises_under_people_drivers_and_crashes() -> None:
    """If this failed, a pointer could move without its release, twice, or back to what was
    withdrawn."""
    seen: set[str] = set()

    class Watched(ReleaseMachine):
        def teardown(self) -> None:
            if hasattr(self, "replay"):
                seen.update(self.replay.seen)
            super().teardown()

    run_state_machine_as_test(Watched, settings=SETTINGS)
    missed = set(get_args(ReleaseState)) - seen
    assert not missed, f"the rules never reach {missed}, and so prove nothing about it"
