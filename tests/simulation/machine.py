"""Two people who work on one project in any order, with processes that die or stand still, and an
oracle that says what must hold after each step.

`World` is one project folder on real SQLite. Whatever is chosen comes from the `random.Random` that
a step is given: `test_world.py` hands in hypothesis's, `bench/machine.py` a seeded one. Only one
thread runs at a time, so a seed replays.

The oracle computes what each derived partition should hold from the live rows of its inputs, in
plain Python; `World.compare_with_an_empty_platform` holds it against a platform that has no past.
"""

from sextant.kinds.dataset.spec import table_spec
from sextant.kinds.kpi.spec import measure_spec
from sextant.kernel.nouns import SYSTEM
from seen import views
from sextant.app import environments
import contextlib
import os
import random
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from shop_project import load_here

from sextant.project import current as composition
from sextant.project.config import read_config
from sextant.app.platform import LocalPlatform
from sextant.engine import history, leases
from sextant.kinds.dataset import streams
from sextant.kinds.dataset import bodies
from sextant.engine.plan import Plan, Request
from sextant.ledger.versions import changed
from sextant.kernel.clock import NS, ManualClock
from sextant.kernel.errors import Busy, SextantError, UserError
from sextant.kernel.ids import Ids
from sextant.kernel.limits import LEASE_S
from sextant.kernel.nouns import Move, Part, Principal, Release
from sextant.ledger.verify import verify

PROJECT = """
import pathlib
import polars as pl
import sextant as sx

ops = sx.team("ops", members=["ann", "bob"])
sx.project("shop", tz="UTC", environments=["dev", "prod"], follows=["dev", "prod"], owner=ops)
days = sx.daily(start="2026-01-01", end="2026-01-05")
FILES = pathlib.Path(FOLDER)
FACTOR = 1

@sx.dataset(partition=days, key="id", lookback="3650d")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "day": [day.key], "amount": [int((FILES / day.key).read_text())]})

returned = sx.stream("returned", columns={"id": "string", "at": "timestamptz", "price": "int64"}, key="id", time="at", partition=days)

@sx.dataset(partition=days, key="id")
def cleaned(day: sx.Partition, orders: pl.DataFrame) -> pl.DataFrame:
    place = 100 ** (int(day.key[-1]) - 1)
    return orders.select("id", "day", value=(pl.col("amount") * 10 + FACTOR) * place)

@sx.dataset(partition=days, key="id", inputs={"cleaned": sx.window("cleaned", "2d")})
def recent(day: sx.Partition, cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned.select(id=pl.lit(day.key + "<") + pl.col("id"), day=pl.lit(day.key), value="value")

@sx.dataset(key="id")
def total(recent: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([recent.select("id", "value"), returned.select("id", value="price")])

@sx.dataset(partition=days, key="id")
def stock(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "day": [day.key], "pieces": [7]})

@sx.dataset(partition=days, key="id", checks=[sx.foreign_key("of", to="cleaned.id")])
def children(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "day": [day.key], "of": [day.key]})

shown = sx.kpi("shown", of=cleaned, measure="sum(value)", grain="")
"""
VALUES = {"kpi:shown": ("kpi_shown",)}  # definition -> the table of its values
DAYS = tuple(f"2026-01-0{n}" for n in range(1, 5))
MEASURES = ("sum(value)", "sum(value) * 2")
ALL = "all"
# asset -> what reads it, directly and through others
BELOW = {
    "orders": {"cleaned", "recent", "total", "kpi_shown"},
    "returned": {"total"},
    "cleaned": {"recent", "total", "kpi_shown"},
    "recent": {"total"},
    "total": set[str](),
    "kpi_shown": set[str](),
    "children": set[str](),
}
NAMED = ("orders", "returned", "cleaned", "recent", "total", "kpi_shown", "children")
DERIVED = ("cleaned", "recent", "total", "kpi_shown")
MADE = ("pr-1", "pr-2")  # environments that the machine creates
STOP_S = 60.0  # a thread that takes longer hangs
START_NS = 1_772_500_000 * NS  # March 2026: every day is over
Rows = tuple[tuple[Any, ...], ...]
Snapshot = tuple[tuple[Any, ...], ...]
EXPECTED = (UserError, Busy)  # what a command may answer; anything else is a defect


class Difference(AssertionError):
    """What the product did is not what had to happen."""


class Killed(BaseException):
    """The process is gone: nothing that it would do any more happens."""


class WorldClock(ManualClock):
    """One clock for everybody. The wall clock can be set back; the monotonic one cannot."""

    def __init__(self, now_ns: int) -> None:
        super().__init__(now_ns)
        self.behind_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() - self.behind_ns


class Gate:
    """What every write of one process to the state passes: here it dies, or stands still."""

    def __init__(self, p: LocalPlatform) -> None:
        self._submit, self._flush = p.core.state.submit, p.core.state.flush
        self._count = self._at = 0
        self._fate = ""
        self.dead = False
        self.paused, self.goes_on = threading.Event(), threading.Event()
        p.core.state.submit = self.submit  # type: ignore[method-assign]
        p.core.state.commit = lambda write: self.submit(write).result()  # type: ignore[method-assign]
        p.core.state.flush = self.flush  # type: ignore[method-assign]

    def arm(self, fate: str, at: int) -> None:
        """fate  at the `at`th write from now: "lost" (dies before it), "written" (dies after it),
        "stop" (stands still before it), "" (nothing)"""
        self._fate, self._at, self._count = fate, at, 0
        self.paused.clear()
        self.goes_on.clear()

    def submit(self, write: Any) -> Any:
        if self.dead:
            raise Killed
        self._count += 1
        if self._fate and self._count == self._at:
            if self._fate == "stop":
                self.paused.set()
                assert self.goes_on.wait(STOP_S), "nobody let it go on"
            else:
                self.dead = True
                if self._fate == "written":
                    with contextlib.suppress(SextantError):
                        self._submit(write).result()
                raise Killed
        return self._submit(write)

    def flush(self) -> None:
        if self.dead:
            raise Killed
        self._flush()


class Actor:
    """A person at a machine of his own, one process after the other."""

    def __init__(self, world: "World", name: str, pid: int, namespace: str) -> None:
        self.world, self.name, self._pid, self._namespace = world, name, pid, namespace
        self._lives = 0
        self.open()

    @property
    def process(self) -> leases.Process:
        return leases.Process(self._pid, "here", str(self._lives), "boot", self._namespace)

    def open(self) -> None:
        self._lives += 1
        self.world.lives[self._pid] = str(self._lives)
        rng = random.Random(f"{self.world.seed} {self.name} {self._lives}")
        self.p = LocalPlatform(
            read_config(self.world.root),
            clock=self.world.clock,
            ids=Ids(self.world.clock, rng),
            executor="inline",
            principal=Principal(name=self.name),
            home=self.world.folder / "home",
        )
        self.gate = Gate(self.p)

    def close(self) -> None:
        with contextlib.suppress(Killed):
            self.p.close()

    def do(self, command: "Command") -> "Answer":
        """Run a command as a new process of this person would, and return what it answered."""
        self.world.acts(self)
        try:
            self.p.core.project.load()
            return Answer(result=command.call(self.p))
        except Killed:
            return Answer(killed=True)
        except EXPECTED as error:
            return Answer(error=error)
        except Exception as error:
            return Answer(defect=error)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for. `touches`: the assets that it may move in its environment."""

    name: str
    env: str
    text: str
    call: Callable[[LocalPlatform], Any]
    touches: frozenset[str] = frozenset()
    # called with the answer
    after: Callable[[Any], None] = lambda _answer: None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command."""

    result: Any = None
    error: SextantError | None = None
    defect: Exception | None = None
    killed: bool = False


class Undone(msgspec.Struct, frozen=True):
    """A partition that was taken back."""

    asset: str
    part: Part
    version: str


class World:
    """A project, two actors, and what they know that must hold. Use as a context manager."""

    def __init__(self, folder: Path, seed: str, *, together: bool) -> None:
        """together  both live in one pid namespace: who is dead is known at once; otherwise only
        when his lease has expired"""
        self.folder, self.seed = folder, seed
        self.root = folder / "project"
        self.files = folder / "files"
        self.clock = WorldClock(START_NS)
        self.together = together
        self.lives: dict[int, str] = {}
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        self._acting: dict[int, leases.Process] = {}
        self._stack = contextlib.ExitStack()
        self._rows: dict[tuple[str, str, str], Rows] = {}  # asset, partition, digest -> rows
        self._known: set[tuple[str, str, str]] = set()  # asset, version, locator that was read
        self._stock: dict[str, dict[str, str]] = {}
        self._undone: dict[str, list[Undone]] = {}
        self._forced: set[tuple[str, str]] = set()  # env, asset: since its last undo
        self._pushed: dict[str, tuple[str, int]] = {}  # key -> day, price
        self._pushed_in: dict[str, str] = {}  # pushed row -> id of the batch that brought it
        self._batches: dict[str, list[dict[str, Any]]] = {}  # in the order in which they were made
        self._taken: set[str] = set()
        self._undos: set[str] = set()  # releases that undid something, and were looked at
        self._empties = 0
        self._alone = True
        self.factor, self.measure = 1, MEASURES[0]

    # ------------------------------------------------------------ beginning and end

    def __enter__(self) -> "World":
        self.root.mkdir(parents=True)
        self.files.mkdir()
        (self.root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        for day in DAYS:
            (self.files / day).write_text("1")
        self._write_project()
        started = leases._started
        enter = self._stack.enter_context
        enter(_imports())
        enter(mock.patch.object(composition.loading, "load", load_here))
        enter(mock.patch.object(leases, "this_process", self._this_process))
        enter(
            mock.patch.object(
                leases,
                "_started",
                lambda pid: self.lives[pid] if pid in self.lives else started(pid),
            )
        )
        # who is slow is decided by the steps, not by the machine's pace
        enter(mock.patch.object(leases.Leases, "_keep", lambda _self: None))
        apart = ("one", "one") if self.together else ("one", "two")
        self._acting[threading.get_ident()] = leases.Process(0, "here", "0", "boot", apart[0])
        pids = (os.getpid(), os.getppid())
        self.actors = [
            Actor(self, name, pid, namespace)
            for name, pid, namespace in zip(("ann", "bob"), pids, apart, strict=True)
        ]
        self._database = sqlite3.connect(self.root / ".sextant" / "state.db", isolation_level=None)
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        for actor in self.actors:
            actor.close()
        self._stack.close()

    def begin(self) -> None:
        """Push a row and make everything once, so that there is something to work on."""
        rng = random.Random(self.seed)
        self._plainly(self.actors[0], self._push(rng))
        command = Command(
            name="run",
            env="dev",
            text="run dev all",
            call=lambda p: p.runs.run("dev", Request(), by=p.core.authorization.who()),
        )
        self._plainly(self.actors[0], command)

    def _write_project(self) -> None:
        text = PROJECT.replace("FOLDER", repr(str(self.files)))
        text = text.replace("FACTOR = 1", f"FACTOR = {self.factor}")
        (self.root / "ops.py").write_text(text.replace(f'"{MEASURES[0]}"', f'"{self.measure}"'))

    def _this_process(self) -> leases.Process:
        return self._acting[threading.get_ident()]

    def acts(self, actor: Actor) -> None:
        """Let the thread that calls this be a process of an actor."""
        self._acting[threading.get_ident()] = actor.process

    # ------------------------------------------------------------ steps

    def step(self, name: str, rng: random.Random) -> None:
        """Do one thing, then look at everything."""
        self.counts["steps"] += 1
        self.counts[name] += 1
        self.clock.wait(1.0)
        try:
            STEPS[name](self, rng)
            self.check()
        except Difference as error:
            raise self._told(error) from error

    def _told(self, error: Difference) -> Difference:
        where = f"seed {self.seed}, {'together' if self.together else 'apart'}"
        return Difference(f"{error} | {where}: {'; '.join(self.log)}")

    def command(self, command: Command, rng: random.Random) -> None:
        """Give a command to somebody, and let its process live, die or stand still."""
        actor = rng.choice(self.actors)
        fate = rng.choice(("",) * 7 + ("lost", "written", "stop"))
        if not fate:
            self._plainly(actor, command)
            return
        at = min(rng.randint(1, 9), rng.randint(1, 9))
        if fate == "stop":
            self._stopped(actor, command, at, rng)
        else:
            self._killed(actor, command, fate, at)

    def _plainly(self, actor: Actor, command: Command) -> Answer:
        before, open_ = self._snapshot(), self._open_runs()
        self.log.append(f"{actor.name}: {command.text}")
        answer = actor.do(command)
        self._judge(actor, command, answer, before if not open_ else None)
        return answer

    def _killed(self, actor: Actor, command: Command, fate: str, at: int) -> None:
        actor.gate.arm(fate, at)
        self.log.append(f"{actor.name}: {command.text}, killed at write {at} ({fate})")
        answer = actor.do(command)
        actor.gate.arm("", 0)
        self._judge(actor, command, answer, None)
        if answer.killed:
            self._restart(actor)

    def _restart(self, actor: Actor) -> None:
        self.counts["kills"] += 1
        actor.close()
        actor.open()

    def _stopped(self, actor: Actor, command: Command, at: int, rng: random.Random) -> None:
        """Let a process stand still before a write while the other one acts, then go on."""
        actor.gate.arm("stop", at)
        answers: list[Answer] = []

        def body() -> None:
            try:
                answers.append(actor.do(command))
            finally:
                actor.gate.paused.set()

        self.log.append(f"{actor.name}: {command.text}, stopped at write {at}")
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        if not actor.gate.paused.wait(STOP_S):
            raise Difference("a command hangs")
        if not answers:
            self.counts["stops"] += 1
            self._meanwhile(actor, command, rng)
        before = self._snapshot()
        actor.gate.goes_on.set()
        thread.join(STOP_S)
        if not answers:
            raise Difference("a command hangs")
        actor.gate.arm("", 0)
        self.log.append(f"{actor.name} goes on")
        answer = answers[0]
        self._alone = False  # what it read may have changed meanwhile
        self._judge(actor, command, answer, None)
        self._alone = True
        if isinstance(answer.error, Busy) and answer.error.code == "SX-RUN-004":
            self.counts["taken over"] += 1
            self._unchanged(before, "a process that was taken for dead wrote")

    def _meanwhile(self, actor: Actor, command: Command, rng: random.Random) -> None:
        other = next(one for one in self.actors if one is not actor)
        if rng.random() < 0.8:
            self.clock.wait(LEASE_S + 1)
            self.log.append("the lease expires")
        if rng.random() < 0.5:
            self._plainly(other, self._resume(command.env))
        for _ in range(rng.randint(0, 2)):
            name = rng.choice(("run", "run", "undo", "undo", "release", "push", "give", "edit"))
            if name in COMMANDS:
                self._plainly(other, COMMANDS[name](self, rng))
            else:
                STEPS[name](self, rng)

    # ------------------------------------------------------------ commands

    def _run(self, rng: random.Random) -> Command:
        env = self._env(rng)
        how = rng.choice(
            ("all", "all", "all", "named", "named", "range", "force", "stale", "stale")
        )
        names: tuple[str, ...] = ()
        partitions: tuple[str, str] | None = None
        if how in ("named", "range", "force"):
            names = (rng.choice(NAMED),)
        if how == "range" or (how == "force" and rng.random() < 0.5):
            first, last = sorted(rng.choices(DAYS, k=2))
            partitions = (first, last)
        downstream = not names or rng.random() < 0.8
        request = Request(
            assets=tuple(f"dataset:{name}" for name in names),
            partitions=partitions,
            stale=how == "stale",
            force=how == "force",
            downstream=downstream,
        )
        if how == "force":
            self._forced |= {(env, name) for name in names}
        touches = frozenset(NAMED) | {"stock", "kpi:shown"}
        if names:
            touches = frozenset(names) | (frozenset(BELOW[names[0]]) if downstream else frozenset())
            touches |= {"kpi:shown"} if touches & {"cleaned", "kpi_shown"} else frozenset()
        known: set[str] = set()
        left: set[tuple[str, str]] = set()

        def call(p: LocalPlatform) -> Any:
            known.update(self._parts(p, env, "orders"))
            left.update(self._left_behind(p, env))
            return p.runs.run(env, request, by=p.core.authorization.who())

        text = f"run {env} {how} {' '.join(names)} {'..'.join(partitions or ())}"
        text += "" if downstream else " --no-downstream"

        def after(report: Any) -> None:
            withdrawn = {step.code for step in report.failed} == {"SX-RELEASE-004"}
            if report.state not in ("finished", "refused") and not withdrawn:
                shown = "; ".join(f"{step.step}: {step.error}" for step in report.failed)
                raise Difference(f"a run is {report.state}: {shown}")
            more = self._left_behind(self.actors[0].p, env) - left if downstream else set()
            # a table that its checks refuse stays as it was, with what reads it
            if self._alone and more and report.state == "finished":
                raise Difference(f"the run left {sorted(more)} as it was")
            if how == "all" and report.state == "finished" and self._alone:
                self._is_as_given(env, known)

        return Command(
            name="run",
            env=env,
            text=text,
            call=call,
            touches=touches,
            after=after,
        )

    def _undo(self, rng: random.Random) -> Command:
        env = self._env(rng)
        name = rng.choice((*NAMED, "orders", "cleaned", "kpi:shown"))
        id_ = _id(name)
        version = ""
        rows = self._query(
            "SELECT DISTINCT target FROM release_move WHERE env = ? AND asset = ? AND target <> '' "
            "ORDER BY rowid DESC LIMIT 4",
            (env, id_),
        )
        if rows and rng.random() < 0.3:
            version = str(rng.choice(rows)[0])
        downstream = rng.random() < 0.75
        expected: list[str] = []
        left: set[tuple[str, str]] = set()

        def call(p: LocalPlatform) -> Any:
            pointer = p.core.versions.live(env).get(id_)
            expected.append(pointer.release if pointer and not version else "")
            left.update(self._left_behind(p, env))
            return p.runs.undo(
                env,
                id_,
                by=p.core.authorization.who(),
                reason="bad",
                version=version,
                downstream=downstream,
            )

        def after(report: Any) -> None:
            self._is_taken_back(env, name, report, expected[0], version)
            more = self._left_behind(self.actors[0].p, env) - left if downstream else set()
            # itself, and the values of a definition, are what they were before
            more = {one for one in more if one[0] not in (name, *VALUES.get(name, ()))}
            if self._alone and more:
                raise Difference(f"the undo of {name} left {sorted(more)} as it was")

        touches = frozenset({name}) | (
            frozenset(BELOW.get(name, ())) if downstream else frozenset()
        )
        touches |= {"kpi_shown"} if name == "kpi:shown" else frozenset()
        text = f"undo {env} {name} {version[:8]}" + ("" if downstream else " --no-downstream")
        return Command(name="undo", env=env, text=text, call=call, touches=touches, after=after)

    def _release(self, rng: random.Random) -> Command:
        env = self._env(rng)
        name = rng.choice(("orders", "cleaned", "recent", "total", "returned"))
        source = version = ""
        if rng.random() < 0.6:
            source = rng.choice([name for name in self._envs() if name != env])
        else:
            rows = self._query(
                "SELECT digest FROM version WHERE asset = ? ORDER BY rowid DESC LIMIT 6",
                (_id(name),),
            )
            version = str(rng.choice(rows)[0]) if rows else "00000000"
        return Command(
            name="release",
            env=env,
            text=f"release {env} {name} {version[:8] or 'from ' + source}",
            call=lambda p: p.runs.release(
                env,
                p.core.assets.find(_id(name)),
                source=source,
                version=version,
                by=p.core.authorization.who(),
            ),
            touches=frozenset({name}),
        )

    def _unhold(self, rng: random.Random) -> Command:
        rows = self._query("SELECT env, asset, version FROM withdrawn ORDER BY rowid DESC LIMIT 5")
        env, id_, version = rng.choice(rows) if rows else ("dev", "dataset:orders", "0" * 64)

        return Command(
            name="unhold",
            env=env,
            text=f"unhold {env} {id_} {version[:8]}",
            call=lambda p: p.runs.releases.unhold(env, id_, version, p.core.authorization.who()),
        )

    def _environment(self, rng: random.Random) -> Command:
        name = rng.choice(MADE)
        if name in self._envs():
            return Command(
                name="drop",
                env=name,
                text=f"drop {name}",
                call=lambda p: environments.drop(p.core, p.runs, name),
            )
        parent = rng.choice(self._envs())
        return Command(
            name="create",
            env=name,
            text=f"create {name} from {parent}",
            call=lambda p: environments.create(p.core, name, parent),
        )

    def _push(self, rng: random.Random) -> Command:
        if self._batches and rng.random() < 0.1:
            batch = next(reversed(self._batches))
            rows = self._batches[batch]
        else:
            batch = f"batch-{len(self._batches) + 1}"
            rows = self._batches[batch] = [
                {"id": f"r{rng.randint(1, 4)}", "at": f"{rng.choice(DAYS)}T08:00:00Z", "price": n}
                if rng.random() < 0.8
                else {"id": f"r{rng.randint(1, 4)}", "_deleted": True}
                for n in rng.sample(range(100), rng.randint(1, 3))
            ]
        text = ", ".join(
            f"{row['id']}@{row['at'][8:10]}={row['price']}" if "at" in row else f"no {row['id']}"
            for row in rows
        )
        return Command(
            name="push",
            env="dev",
            text=f"push {batch} {text}",
            call=lambda p: p.runs.inbox.take(
                p.core.assets.find("dataset:returned"),
                bodies.opened(rows, "", batch=batch, env=""),
                by=p.core.authorization.who(),
            ),
        )

    def _resume(self, env: str) -> Command:
        return Command(
            name="resume",
            env=env,
            text=f"resume {env}",
            call=lambda p: p.runs.resuming.resume_crashed(env, by=p.core.authorization.who()),
        )

    def _plan(self, rng: random.Random) -> Command:
        env = self._env(rng)
        before = self._snapshot()
        return Command(
            name="plan",
            env=env,
            text=f"plan {env}",
            call=lambda p: p.runs.plan(env, Request(stale=rng.random() < 0.5)),
            after=lambda _plan: self._unchanged(before, "a plan changed something"),
        )

    # ------------------------------------------------------------ what is outside

    def _edit(self, rng: random.Random) -> None:
        if rng.random() < 0.8:
            self.factor = rng.choice((1, 3, 5, 7))
        else:
            self.measure = rng.choice(MEASURES)
        self._write_project()
        self.log.append(f"edit FACTOR {self.factor} measure {self.measure}")

    def _give(self, rng: random.Random) -> None:
        day, amount = rng.choice(DAYS), rng.randint(1, 4)
        (self.files / day).write_text(str(amount))
        self.log.append(f"give {day} {amount}")

    def _pass_time(self, rng: random.Random) -> None:
        how = rng.choice(("little", "lease", "hours", "back"))
        if how == "back":
            self.clock.behind_ns += rng.randint(1, 600) * NS
        else:
            self.clock.wait({"little": 5.0, "lease": LEASE_S + 1, "hours": 7200.0}[how])
        self.log.append(f"clock {how}")

    def _settle(self, rng: random.Random) -> None:
        """Wait until nobody's lease holds, and take up what is left."""
        actor = rng.choice(self.actors)
        self.settle(actor)

    def settle(self, actor: Actor) -> None:
        self.clock.wait(LEASE_S + 1)
        for env in self._envs():
            self._plainly(actor, self._resume(env))
        fold = Command(
            name="fold",
            env="dev",
            text="fold",
            call=lambda p: p.runs.inbox.fold(p.core.project.manifest(), SYSTEM),
        )
        self._plainly(actor, fold)
        if self._open_runs():
            raise Difference(f"runs stay open: {self._open_runs()}")
        if self._query("SELECT 1 FROM inbox WHERE folded_at = 0"):
            raise Difference("pushed rows wait")

    # ------------------------------------------------------------ what is seen

    def _query(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, params).fetchall()

    def _snapshot(self) -> Snapshot:
        """Return pointers, withdrawn and held."""
        return tuple(
            (table, *row)
            for table in ("pointer", "withdrawn", "held")
            for row in self._query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")
        )

    def _open_runs(self) -> list[tuple[Any, ...]]:
        return self._query("SELECT id FROM run WHERE state = 'running' ORDER BY id")

    def _envs(self) -> list[str]:
        return [
            row[0] for row in self._query("SELECT name FROM env WHERE dropped_at = 0 ORDER BY 1")
        ]

    def _env(self, rng: random.Random) -> str:
        return rng.choice(("dev", "dev", *self._envs()))

    def _unchanged(self, before: Snapshot, message: str) -> None:
        after = self._snapshot()
        if after != before:
            shown = [row for row in (*before, *after) if (row in before) != (row in after)]
            raise Difference(f"{message}: {shown[:4]}")

    def _parts(self, p: LocalPlatform, env: str, name: str) -> Mapping[str, Part]:
        return p.core.versions.parts(_id(name), p.core.versions.live_version(env, _id(name)))

    def _live_rows(self, p: LocalPlatform, env: str, name: str) -> dict[str, Rows]:
        """Return partition -> rows of what is live."""
        id_ = _id(name)
        digest = p.core.versions.live_version(env, id_)
        if not digest:
            return {}
        version = p.core.versions.get(id_, digest)
        parts = p.core.versions.parts(id_, digest)
        if (name, digest, version.locator) not in self._known:
            self._known.add((name, digest, version.locator))
            found: dict[str, list[tuple[Any, ...]]] = {key: [] for key in parts}
            for row in views(p).frame(version).rows(named=True):
                found.setdefault(_partition(name, row), []).append(_shown(name, row))
            if set(found) != set(parts):
                raise Difference(f"{name} has rows of {sorted(set(found) ^ set(parts))}")
            for key, rows in found.items():
                held = tuple(sorted(rows))
                if self._rows.setdefault((name, key, parts[key].digest), held) != held:
                    raise Difference(f"{name}[{key}]: one digest, different rows {held}")
        return {key: self._rows[(name, key, part.digest)] for key, part in parts.items()}

    # ------------------------------------------------------------ what must hold

    def _judge(
        self, actor: Actor, command: Command, answer: Answer, before: Snapshot | None
    ) -> None:
        """Look at what a command answered. `before`: what it found, if it was alone."""
        if answer.defect is not None:
            error = answer.defect
            raise Difference(f"{command.text}: {type(error).__name__}: {error}") from error
        self._note_pushed()
        if command.name == "unhold":
            self._note_unheld(command.env)
        self._note_undone(actor.p)
        if command.name == "release":  # a person brings a version as it is, with all its partitions
            self._forced |= {(command.env, name) for name in command.touches}
        if command.name == "drop" and command.env not in self._envs():
            self._undone.pop(command.env, None)
            self._stock.pop(command.env, None)
            self._forced = {one for one in self._forced if one[0] != command.env}
        if answer.killed:
            return
        if answer.error is not None:
            self.counts[f"refused {answer.error.code}"] += 1
            self.log[-1] += f" ({answer.error.code})"
            if before is not None:
                self._unchanged(before, f"{command.text} answered {answer.error.code}")
            return
        self.counts["done"] += 1
        command.after(answer.result)
        if before is not None and command.touches:
            self._touches_only(command, before)

    def _note_pushed(self) -> None:
        """Remember the rows of batches that became durable just now. Of two that wait, pushed at the
        same time, the one with the larger id is the later."""
        waiting = {id_ for (id_,) in self._query("SELECT id FROM inbox WHERE folded_at = 0")}
        for batch, id_ in self._query("SELECT batch, id FROM inbox ORDER BY id"):
            if batch in self._taken:
                continue
            self._taken.add(batch)
            for row in self._batches[batch]:
                earlier = self._pushed_in.get(row["id"], "")
                if earlier not in waiting or earlier <= id_:
                    self._pushed_in[row["id"]] = id_
                    self._pushed.pop(row["id"], None)
                    if "_deleted" not in row:
                        self._pushed[row["id"]] = (row["at"][:10], row["price"])

    def _note_unheld(self, env: str) -> None:
        """Forget what may come back. A killed process may have lifted the mark all the same."""
        rows = self._query("SELECT asset, version FROM withdrawn WHERE env = ?", (env,))
        self._undone[env] = [
            one for one in self._undone.get(env, ()) if (_id(one.asset), one.version) in rows
        ]

    def _note_undone(self, p: LocalPlatform) -> None:
        """Remember what was taken back since the last look."""
        for id_, doc in self._query(
            "SELECT id, doc FROM release WHERE intent = 'undo' ORDER BY id"
        ):
            if id_ in self._undos:
                continue
            self._undos.add(id_)
            undone = p.runs.releases.get(msgspec.json.decode(doc, type=Release).undoes)
            for env, asset, version in self._query(
                "SELECT env, asset, version FROM withdrawn WHERE release = ?", (id_,)
            ):
                if asset.startswith("kpi:"):
                    continue
                name = asset.partition(":")[2]
                move = next(m for m in undone.moves if (m.asset, m.target) == (asset, version))
                self._forced.discard((env, name))
                self._undone.setdefault(env, []).extend(
                    Undone(name, part, version) for part in _brought(p, move).values()
                )

    def _is_taken_back(self, env: str, name: str, report: Any, live: str, version: str) -> None:
        """The release that was live was undone, and of the asset only what that release changed."""
        p = self.actors[0].p
        release = p.runs.releases.get(report.release)
        undone = p.runs.releases.get(release.undoes)
        if live and undone.id != live:
            raise Difference(f"the undo of {name} took back {undone.id}, live was {live}")
        bad = next((m for m in undone.moves if m.asset == _id(name) and m.env == env), None)
        if bad is None or (version and bad.target != version):
            raise Difference(f"the undo of {name} took back a release that did not move it")
        move = next((m for m in release.moves if m.asset == _id(name)), None)
        if move is None:
            raise Difference(f"the undo of {name} moved something else")
        if name == "kpi:shown":
            return
        was, now = _digests(p, _id(name), move.source), _digests(p, _id(name), move.target)
        good = _digests(p, _id(name), bad.source)
        differs = {
            key
            for key in {*good, *_digests(p, _id(name), bad.target)}
            if good.get(key) != _digests(p, _id(name), bad.target).get(key)
        }
        for key in {*was, *now}:
            expected = good.get(key) if key in differs else was.get(key)
            if now.get(key) != expected:
                raise Difference(f"the undo of {name} made {key} {now.get(key)}, not {expected}")

    def _touches_only(self, command: Command, before: Snapshot) -> None:
        """Nothing moved but what the command is about."""
        pointers = {(row[1], row[2]): row[3] for row in before if row[0] == "pointer"}
        after = {(row[1], row[2]): row[3] for row in self._snapshot() if row[0] == "pointer"}
        # what the folder has comes with a person's run
        allowed = {_id(name) for name in command.touches} | {"project:shop"}
        for env, asset in {*pointers, *after}:
            if pointers.get((env, asset)) == after.get((env, asset)):
                continue
            if env != command.env or asset not in allowed:
                raise Difference(f"{command.text} moved {asset} in {env}")

    def _is_as_given(self, env: str, days: set[str]) -> None:
        """After a run of everything a source is what it gives, but for what was undone. `days`:
        those that were read again; the others may have been taken from another environment."""
        p = self.actors[0].p
        parents = {name: parent for name, parent in self._query("SELECT name, parent FROM env")}
        kept_out: set[tuple[str, str]] = set()
        seen = env
        while seen:
            kept_out |= {
                (one.part.partition, one.part.digest)
                for one in self._undone.get(seen, ())
                if one.asset == "orders"
            }
            seen = parents[seen]
        live = self._live_rows(p, env, "orders")
        for day in sorted(days):
            given = ((day, int((self.files / day).read_text())),)
            if live.get(day) == given:
                continue
            if not any(self._rows.get(("orders", *one)) == given for one in kept_out):
                raise Difference(f"orders[{day}] in {env} is {live.get(day)}, given was {given}")

    def check(self) -> None:
        """Look at every environment."""
        actor = self.actors[0]
        self.acts(actor)
        p = actor.p
        p.core.project.load()
        quiet = not self._open_runs() and not self._query(
            "SELECT 1 FROM inbox WHERE folded_at = 0 AND refusal = ''"
        )
        for env in self._envs():
            self._stock_stays(p, env)
            self._undone_stays_undone(p, env)
            if quiet:
                self._plan_is_right(p, env)

    def _stock_stays(self, p: LocalPlatform, env: str) -> None:
        now = {key: part.digest for key, part in self._parts(p, env, "stock").items()}
        known = self._stock.setdefault(env, {})
        if any(now.get(key) != digest for key, digest in known.items()):
            raise Difference(f"stock in {env} is {now}, was {known}")
        known.update(now)

    def _undone_stays_undone(self, p: LocalPlatform, env: str) -> None:
        own = {row[0] for row in self._query("SELECT asset FROM pointer WHERE env = ?", (env,))}
        for one in self._undone.get(env, ()):
            if _id(one.asset) not in own or (env, one.asset) in self._forced:
                continue
            live = self._parts(p, env, one.asset).get(one.part.partition)
            if live is not None and _made(live) == _made(one.part):
                raise Difference(
                    f"{one.asset}[{live.partition}] of version {one.version[:8]} was undone in "
                    f"{env} and is live again"
                )

    def _plan_is_right(self, p: LocalPlatform, env: str) -> None:
        """What the plan does not name is what an empty platform would make; what it names is
        not."""
        plan = p.runs.plan(env, Request(look_back=False))
        said = _said(plan)
        live = self._live(p, env)
        for name in DERIVED:
            for key, rows in live[name].items():
                why = said.get((name, key), "")
                if why in ("held", "input runs"):
                    continue
                expected = self.expected(live, name, key)
                if expected is None:  # its inputs are gone: it is neither right nor to be made
                    self.counts["without inputs"] += 1
                    continue
                self.counts["compared"] += 1
                if not why and rows != expected:
                    raise Difference(f"{name}[{key}] in {env} is {rows}, not {expected}")
                if why and rows == expected:
                    raise Difference(f"{name}[{key}] in {env} is right and called {why}")
        declared = measure_spec(p.core.assets.find("kpi:shown"))
        assert declared is not None
        is_live = p.core.versions.live_version(env, "kpi:shown") == declared.definition
        held = any(
            row[0] == "kpi:shown" and row[2] == declared.definition
            for row in p.core.state.read("held", (env,))
        )
        if bool(plan.definitions) == (is_live or held):
            raise Difference(f"the definition in {env} is live: {is_live}, planned otherwise")

    def _live(self, p: LocalPlatform, env: str) -> dict[str, dict[str, Rows]]:
        return {name: self._live_rows(p, env, name) for name in ("orders", "returned", *DERIVED)}

    def _left_behind(self, p: LocalPlatform, env: str) -> set[tuple[str, str]]:
        """Return the live derived partitions that do not follow from their inputs."""
        said = _said(p.runs.plan(env, Request(look_back=False)))
        return self._without_inputs(p, env) | {
            one for one, why in said.items() if why == "inputs changed" and one[0] in DERIVED
        }

    def _without_inputs(self, p: LocalPlatform, env: str) -> set[tuple[str, str]]:
        """Return the live derived partitions whose inputs are gone."""
        live = self._live(p, env)
        return {
            (name, key)
            for name in DERIVED
            for key in live[name]
            if self.expected(live, name, key) is None
        }

    def expected(self, live: Mapping[str, Mapping[str, Rows]], name: str, key: str) -> Rows | None:
        """Return what a derived partition should hold, computed from the live rows of its inputs.
        None when it has no inputs."""
        if name == "cleaned":
            if key not in live["orders"]:
                return None
            place = 100 ** (int(key[-1]) - 1)
            return tuple((id_, (n * 10 + self.factor) * place) for id_, n in live["orders"][key])
        if name == "recent":
            before = DAYS[DAYS.index(key) - 1] if key != DAYS[0] else key
            read = [day for day in sorted({before, key}) if day in live["cleaned"]]
            rows = [row for day in read for row in live["cleaned"][day]]
            return tuple(sorted((f"{key}<{id_}", value) for id_, value in rows)) if read else None
        if name == "total":
            if not live["recent"] or not live["returned"]:
                return None
            parts = (*live["recent"].values(), *live["returned"].values())
            return tuple(sorted(row for rows in parts for row in rows))
        if not live["cleaned"]:
            return None
        value = sum(value for rows in live["cleaned"].values() for _, value in rows)
        return ((value * (2 if self.measure == MEASURES[1] else 1),),)

    def compare_with_an_empty_platform(self, env: str) -> bool:
        """Give the live inputs of an environment to a platform without a past, and compare what it
        makes. False when something of the environment is not up to date."""
        p = self.actors[0].p
        self.acts(self.actors[0])
        p.core.project.load()
        orders = self._live_rows(p, env, "orders")
        said = _said(p.runs.plan(env, Request(look_back=False)))
        if set(orders) != set(DAYS) or any(name in DERIVED for name, _ in said):
            return False
        if self._without_inputs(p, env):
            return False
        self._empties += 1
        aside = self.folder / f"empty-{self._empties}"
        (aside / "files").mkdir(parents=True)
        for day, rows in orders.items():
            (aside / "files" / day).write_text(str(rows[0][1]))
        text = (self.root / "ops.py").read_text()
        (aside / "ops.py").write_text(text.replace(str(self.files), str(aside / "files")))
        (aside / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        with LocalPlatform(
            read_config(aside), clock=self.clock, executor="inline", home=aside / "home"
        ) as empty:
            for day, pushed in self._live_rows(p, env, "returned").items():
                rows = [{"id": i, "at": f"{day}T08:00:00Z", "price": n} for i, n in pushed]
                if rows:
                    empty.runs.inbox.take(
                        empty.core.assets.find("dataset:returned"),
                        bodies.opened(rows, "", batch="", env=""),
                        by=empty.core.authorization.who(),
                    )
            empty.runs.run("dev", Request(), by=empty.core.authorization.who())
            for name in DERIVED:
                here, there = self._parts(p, env, name), self._parts(empty, "dev", name)
                if {k: v.digest for k, v in here.items()} != {
                    k: v.digest for k, v in there.items()
                }:
                    raise Difference(f"{name} in {env} is not what an empty platform makes")
        self.counts["empty platforms"] += 1
        return True

    def finish(self) -> None:
        """Settle, then look at what is looked at once."""
        actor = self.actors[0]
        try:
            self.settle(actor)
            self.check()
            for env in self._envs():
                if self.compare_with_an_empty_platform(env):
                    break
            self._ledger_is_whole(actor.p)
            self._pushed_rows_are_there(actor.p)
        except Difference as error:
            raise self._told(error) from error

    def _ledger_is_whole(self, p: LocalPlatform) -> None:
        p.core.state.flush()
        findings = verify(p.core.state, workers=1).findings
        if findings:
            raise Difference(f"the ledger: {findings[:3]}")
        if seals := history.broken(p.core.state.read):
            raise Difference(f"seals: {seals[:3]}")
        twice = self._query(
            "SELECT subject FROM event WHERE type = 'run.finished' GROUP BY subject "
            "HAVING count(*) > 1"
        )
        if twice:
            raise Difference(f"runs ended twice: {twice}")

    def _pushed_rows_are_there(self, p: LocalPlatform) -> None:
        manifest = p.core.project.manifest()
        table = table_spec(p.core.assets.find("dataset:returned"))
        found: dict[str, tuple[str, int]] = {}
        for day, blobs in p.runs.inbox.parts(manifest).get("dataset:returned", {}).items():
            rows = streams.fold(table.columns, [(b, p.core.blobs.get(b)) for b in blobs], table.key)
            for row in rows.to_pylist():
                if row["id"] in found:
                    raise Difference(f"the pushed row {row['id']} is there twice")
                found[row["id"]] = (day, row["price"])
        if found != self._pushed:
            raise Difference(f"pushed rows are {found}, not {self._pushed}")


def _id(name: str) -> str:
    return name if ":" in name else f"dataset:{name}"


def _made(part: Part) -> tuple[str, str, str]:
    return part.code, part.inputs, part.digest


def _digests(p: LocalPlatform, asset: str, version: str) -> dict[str, str]:
    return {key: part.digest for key, part in p.core.versions.parts(asset, version).items()}


def _brought(p: LocalPlatform, move: Move) -> dict[str, Part]:
    """Return the partitions whose content a move changed, as it brought them."""
    before = _digests(p, move.asset, move.source)
    after, _ = changed(
        p.core.versions.parts(move.asset, move.source),
        p.core.versions.parts(move.asset, move.target),
    )
    return {key: part for key, part in after.items() if before.get(key) != part.digest}


def _said(plan: Plan) -> dict[tuple[str, str], str]:
    """Return (asset, partition) -> why it is not up to date."""
    said: dict[tuple[str, str], str] = {}
    for step in plan.steps:
        said |= {(_name(step.asset), item.partition): item.reason for item in step.items}
    for asset, reasons in plan.stale.items():
        said |= {(_name(asset), key): reason for key, reason in reasons.items()}
    for asset, partitions in plan.held.items():
        said |= {(_name(asset), key): "held" for key in partitions}
    return said


def _name(asset: str) -> str:
    return asset.partition(":")[2]


def _partition(name: str, row: Mapping[str, Any]) -> str:
    if name == "returned":
        return str(row["at"])[:10]
    return str(row.get("day", ALL))


def _shown(name: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    columns = {"orders": ("id", "amount"), "returned": ("id", "price"), "kpi_shown": ("value",)}
    return tuple(row[column] for column in columns.get(name, ("id", "value")))


@contextlib.contextmanager
def _imports() -> Iterator[None]:
    """Undo what importing projects in this process does."""
    path, modules = list(sys.path), set(sys.modules)
    with mock.patch.object(sys, "dont_write_bytecode", new=True):
        yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "ops":
            del sys.modules[name]


COMMANDS: dict[str, Callable[[World, random.Random], Command]] = {
    "run": World._run,
    "undo": World._undo,
    "release": World._release,
    "unhold": World._unhold,
    "environment": World._environment,
    "push": World._push,
    "resume": lambda world, rng: world._resume(world._env(rng)),
    "plan": World._plan,
}


def _given(name: str) -> Callable[[World, random.Random], None]:
    return lambda world, rng: world.command(COMMANDS[name](world, rng), rng)


STEPS: dict[str, Callable[[World, random.Random], None]] = {
    **{name: _given(name) for name in COMMANDS},
    "edit": World._edit,
    "give": World._give,
    "clock": World._pass_time,
    "settle": World._settle,
}
WEIGHTS = {
    "run": 9,
    "undo": 5,
    "give": 4,
    "edit": 3,
    "release": 4,
    "push": 3,
    "clock": 2,
    "environment": 2,
}


def drive(world: World, rng: random.Random, steps: int) -> None:
    """Do so many steps, chosen by `rng`, and look at everything at the end."""
    names = tuple(STEPS)
    weights = [WEIGHTS.get(name, 1) for name in names]
    for _ in range(steps):
        world.step(rng.choices(names, weights)[0], rng)
    world.finish()
