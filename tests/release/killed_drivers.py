"""Drivers of releases in processes of their own, which are killed at random moments; and what must
be true of what they leave. A part of it runs as a test, `bench/releases.py` runs a thousand."""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from sextant.authorization.decide import Decision
from sextant.kernel.clock import SystemClock
from sextant.kernel.errors import Busy, SextantError, StorageError
from sextant.kernel.ids import Ids
from sextant.kernel.kinds import HOLDS, Instant, Rolled
from sextant.kernel.nouns import Event, Held, Move, Principal, Release, Strategy
from sextant.kernel.ports import Write
from sextant.ledger.log import Ledger
from sextant.ledger.projections import EnvCreated
from sextant.ledger.signals import open_incidents
from sextant.release import machine, rolling
from sextant.release.driver import Driver
from sextant.release.releases import Releases
from sextant.stores.state.sqlite import SqliteState

ANN = Principal(name="ann")
STEPS = (5, 25, 100)
_FATES = ("good", "good", "bad", "late", "raises")


def fate(version: str) -> str:
    """Return what becomes of a version: drawn by its name."""
    return random.Random(version).choice(_FATES)


class Files(Instant):
    """A kind that is rolled out by writing files, one for each asset, and that keeps a journal of
    each call. It refuses who was taken for dead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def roll(self, release: Release, fence: int) -> Any:
        version, what = release.moves[0].target, fate(release.moves[0].target)
        with self._call("roll", release, fence):
            self._write(release, fence)
            if what == "raises" and random.random() < 0.5:
                raise StorageError("SX-TEST-1", "no route to the host")
            if what == "late" and random.random() < 0.5:
                return Rolled(says="not_before", at=0, reason="it starts")
        if what == "bad" and release.step == 1:
            return Rolled(says="bad", reason=f"{version} fails", evidence={"errors": 7})
        return HOLDS

    def undo(self, release: Release, fence: int) -> Any:
        with self._call("undo", release, fence):
            self._write(release, fence, share=0)
            if random.random() < 0.2:
                raise OSError("the host is away")
        return HOLDS

    def held(self, move: Move) -> tuple[Held, ...]:
        return (Held("all", move.target, "", move.target),)

    def weights(self) -> dict[str, tuple[str, int]]:
        """Return asset -> the release that was rolled out last, and its share."""
        found = {}
        for file in self._folder.glob("*.json"):
            said = json.loads(file.read_text())
            found[file.stem] = (said["release"], said["share"])
        return found

    def journal(self) -> list[dict[str, Any]]:
        """Return every call that began or ended, in order."""
        file = self._folder / "journal"
        return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []

    @contextlib.contextmanager
    def _call(self, what: str, release: Release, fence: int) -> Iterator[None]:
        about = {
            "what": what, "release": release.id, "step": release.step, "fence": fence,
            "pid": os.getpid(),
        }  # fmt: skip
        self._note({**about, "at": "begin"})
        time.sleep(random.random() * 0.01)  # where a kill may fall
        try:
            yield
        finally:
            self._note({**about, "at": "end"})

    def _note(self, line: dict[str, Any]) -> None:
        with (self._folder / "journal").open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")

    def _write(self, release: Release, fence: int, share: int = -1) -> None:
        asset = release.moves[0].asset.partition(":")[2]
        file = self._folder / f"{asset}.json"
        before = json.loads(file.read_text()) if file.exists() else {"release": "", "fence": 0}
        if before["release"] == release.id and fence < before["fence"]:
            raise StorageError("SX-TEST-3", "another driver has taken over")
        if share == 0 and before["release"] != release.id:
            return  # it was never there, or is gone
        said = {
            "release": release.id,
            "share": STEPS[release.step] if share < 0 else share,
            "fence": fence,
        }
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(said))
        part.rename(file)


class Side:
    """The state of a project in one process, with its driver."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.ids = Ids(clock)
        self.state = SqliteState(folder / "state.db", Ledger(clock), clock=clock)
        self.files = Files(folder)
        self.releases = Releases(self.state, {"thing": self.files}, clock, self.ids)
        core: Any = SimpleNamespace(state=self.state, clock=clock, ids=self.ids)
        self.driver = Driver(core, self.releases)

    def note(self, type_: str, data: Any) -> str:
        """Write an event from outside; return its id."""
        event = Event(
            id=self.ids.new("ev"),
            type=type_,
            subject="thing",
            actor="person:ann",
            data=msgspec.Raw(msgspec.json.encode(data)),
        )
        self.state.commit(Write((), (event,)))
        return event.id

    def propose(self, asset: str, version: str) -> None:
        rows = self.state.read("pointer_get", ("prod", asset))
        move = Move(env="prod", asset=asset, source=rows[0][0] if rows else "", target=version)
        drafted = self.releases.draft(
            [move],
            by=ANN,
            decision=Decision(verdict="allow"),
            strategy=Strategy(kind="canary", steps=STEPS, step_s=0.01),
        )
        self.releases.propose(drafted, cause=self.note("build.finished", {}))

    def drive(self, until_s: float) -> None:
        """Work on what is due."""
        while time.monotonic() < until_s:
            for release in self.releases.open():
                with contextlib.suppress(Busy, StorageError):
                    self.driver.work(release.id)
            time.sleep(0.002)


def driver_process(folder: Path) -> int:
    """Start a process that drives until it is killed; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            random.seed()
            Side(folder).drive(time.monotonic() + 60.0)
        finally:
            os._exit(0)
    return pid


def kill_drivers(folder: Path, kills: int, seed: int, assets: int = 6) -> Counter[str]:
    """Kill drivers, two at a time, `kills` times, while somebody proposes and aborts releases; let
    one finish, and return what became of the releases. AssertionError for what must not be."""
    with pytest.MonkeyPatch.context() as patch:  # waits are not what is tried here
        patch.setattr(rolling, "RELEASE_LOOK_S_MIN", 0.005)
        patch.setattr(machine, "RELEASE_BACKOFF_S", 0.005)
        patch.setattr(machine, "RELEASE_ERRORS_MAX", 6)
        return _kill_drivers(folder, kills, seed, assets)


def _kill_drivers(folder: Path, kills: int, seed: int, assets: int) -> Counter[str]:
    drawn = random.Random(seed)
    side = Side(folder)
    side.note("env.created", EnvCreated("prod"))
    side.state.close()
    living: list[int] = []
    killed = number = 0
    while killed < kills:
        while len(living) < 2:
            living.append(driver_process(folder))
        side = Side(folder)  # opened after the fork, closed before the next
        for _ in range(4):
            number += 1
            with contextlib.suppress(SextantError):  # one of this asset is on its way
                side.propose(f"thing:{drawn.randrange(assets)}", f"v{seed}-{number}")
        rolling = [one for one in side.releases.open() if one.state in ("rolling", "paused")]
        if rolling and drawn.random() < 0.2:
            with contextlib.suppress(SextantError):
                side.releases.abort(drawn.choice(rolling).id, ANN, "stop")
        side.state.close()
        time.sleep(drawn.random() * 0.15)
        victim = living.pop(drawn.randrange(len(living)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
    for victim in living:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    return _judge(folder)


def _judge(folder: Path) -> Counter[str]:
    side = Side(folder)
    try:
        _settle(side)
        counts = _judge_releases(side)
        _judge_calls(side.files.journal())
        return counts
    finally:
        side.state.close()


def _settle(side: Side) -> None:
    """Drive to the end, without the waits between attempts."""
    for _ in range(400):
        left = [one for one in side.releases.open() if side.releases.goes_on(one)]
        if not left:
            return
        for release in left:
            hurried = msgspec.structs.replace(release, due_at=0)
            event = side.releases.events.make(f"release.{release.state}", release.id, hurried)
            side.state.commit(Write((), (event,)))
            side.driver.work(release.id)
    raise AssertionError(f"releases do not end: {[(one.state, one.error) for one in left]}")


def _judge_releases(side: Side) -> Counter[str]:
    counts: Counter[str] = Counter()
    withdrawn = {(row[0], row[1]) for row in side.state.read("withdrawn", ("prod",))}
    incidents = {incident.title for incident in open_incidents(side.state)}
    shares = {release: share for release, share in side.files.weights().values()}
    for (doc,) in side.state.read("releases", (1 << 62, 1 << 30)):
        release = msgspec.json.decode(doc, type=Release)
        counts[release.state] += 1
        (move,) = release.moves
        live = [row[0] for row in side.state.read("pointer_get", ("prod", move.asset))]
        if release.state == "stuck":
            assert any(release.id in title for title in incidents), f"{release.id}: nobody told"
            continue
        if release.taken_back:
            assert release.state == "rolled_back"
            assert not shares.get(release.id), f"{release.id} was taken back and has a share"
            if "no longer at" not in release.reason:
                assert (move.asset, move.target) in withdrawn
        if release.state == "live" and live == [move.target]:
            assert (move.asset, move.target) not in withdrawn
    return counts


def _judge_calls(journal: list[dict[str, Any]]) -> None:
    """No two drivers work on one release at the same time: a call begins when the one before it
    ended, or its process is dead and the fence is newer."""
    last: dict[str, dict[str, Any]] = {}
    for line in journal:
        before = last.get(line["release"])
        if before is not None:
            assert line["fence"] >= before["fence"], f"an older driver goes on: {line}"
            if before["at"] == "begin" and line["at"] == "begin":
                assert line["fence"] > before["fence"], f"two at once: {before}, {line}"
        last[line["release"]] = line
