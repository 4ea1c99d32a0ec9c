"""Signals of a condition that is met again and again: one is open, and it is counted."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from seen import checked
from shop_project import Shop, run

from sextant.app.data_check import damage_signal
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Denied
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Principal, Signal
from sextant.kernel.ports import Write
from sextant.ledger.events import Events
from sextant.ledger.log import Ledger, entries
from sextant.ledger.projections import PROJECTED, Closed
from sextant.ledger.rebuild import rebuild
from sextant.ledger.signals import find_signal, open_signals, raise_signal
from sextant.stores.state import StateStore, open_state

OPS = """
@sx.dataset(checks=[sx.between("n", 0, 100)])
def planes() -> pl.DataFrame:
    return pl.DataFrame({"n": [500.0]})
"""
MINUTES = 300.0  # between two events of one signal


class Bench:
    """A ledger whose clock stands still, and what raises signals in it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.state: StateStore = open_state(
            folder / "state.db", Ledger(self.clock), clock=self.clock
        )
        self.events = Events(Ids(self.clock, random.Random(1)), self.clock)

    def met(self, key: str, env: str = "prod", asset: str = "dataset:orders", **more: Any) -> int:
        """Say that a condition is met; return how many events that was."""
        message = more.pop("message", "it burns")
        written = raise_signal(
            self.state, self.events, asset, "fire", "error", message, env=env, key=key, **more
        )
        if written:
            self.state.commit(Write((), tuple(written)))
        return len(written)

    def close(self, id_: str) -> None:
        event = self.events.make("signal.closed", id_, Closed(id_))
        self.state.commit(Write((), (event,)))

    def open(self, asset: str = "dataset:orders") -> list[Signal]:
        return open_signals(self.state, asset, "fire")

    def tables(self) -> dict[str, list[Any]]:
        return {name: [row for page in self.state.rows(name) for row in page] for name in PROJECTED}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.state.close()


def test_a_condition_that_is_met_each_second_is_counted(bench: Bench) -> None:
    """If this fails, it floods the list of signals, or the ledger."""
    assert bench.met("disk", evidence={"free": 7}) == 1
    written = 0
    for second in range(1, 3_601):
        bench.clock.wait(1)
        written += bench.met("disk", message=f"second {second}", evidence={"free": 0})
    assert written == 3_600 / MINUTES
    (signal,) = bench.open()
    assert (signal.repeats, signal.message, signal.evidence) == (3_600, "second 3600", {"free": 0})
    assert signal.last_at == bench.clock.now_ns()
    assert signal.onset < signal.last_at


def test_key_and_environment_tell_conditions_apart(bench: Bench) -> None:
    """If this fails, a second matter hides behind the first."""
    for given in (("disk", "prod"), ("disk", "dev"), ("cpu", "prod")):
        assert bench.met(*given) == 1
    assert bench.met("disk", asset="dataset:visits") == 1
    assert bench.met("disk") == 0
    assert {(one.key, one.env) for one in bench.open()} == {
        ("disk", "prod"),
        ("disk", "dev"),
        ("cpu", "prod"),
    }
    bench.close(next(one.id for one in bench.open() if (one.key, one.env) == ("disk", "prod")))
    assert bench.met("disk") == 1, "a closed one is over"


def test_a_clock_that_was_set_back_does_not_silence_it(bench: Bench) -> None:
    """If this fails, a clock that stood a year ahead for a moment stops the counting for a year."""
    bench.met("disk")
    bench.clock.set(bench.clock.now_ns() - 10**18)
    assert bench.met("disk") == 1


@pytest.mark.parametrize("seed", range(5))
def test_any_signals_are_read_back_and_rebuilt(bench: Bench, seed: int) -> None:
    """If this fails, the tables count something else than the ledger."""
    rng = random.Random(seed)
    met: dict[tuple[str, str], int] = {}  # of those that are open
    for _ in range(300):
        key = rng.choice("abc"), rng.choice(("", "prod"))
        if rng.random() < 0.1 and key in met:
            (one,) = [one for one in bench.open() if (one.key, one.env) == key]
            bench.close(one.id)
            del met[key]
        else:
            bench.met(*key)
            met[key] = met.get(key, -1) + 1
        bench.clock.wait(rng.choice((0.0, 1.0, 60.0, 400.0)))
    bench.clock.wait(MINUTES)
    for key in met:
        bench.met(*key)
        met[key] += 1
    assert {(one.key, one.env): one.repeats for one in bench.open()} == met
    before = bench.tables()
    rebuild(bench.state)
    assert bench.tables() == before


# ---------------------------------------------------------------- who raises them


@pytest.fixture
def failing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPlatform]:
    """A project whose live rows fail a check; each time is counted at once."""
    monkeypatch.setattr("sextant.ledger.events.SIGNAL_REPEATED_S", 0.0)
    shop.write(OPS)
    with shop.open() as p:
        for env in ("dev", "prod"):
            run(p, env, break_glass="the board meets")
        yield p


def check(p: LocalPlatform, env: str = "dev") -> None:
    checked(p, env, "planes", by=p.core.authorization.who())


def test_a_check_that_fails_again_is_counted(
    failing: LocalPlatform, shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, nobody sees that a check fails since yesterday, or it has ten signals."""
    from sextant.cli.main import call

    for env in ("dev", "dev", "dev", "prod"):
        check(failing, env)
    ops = Operations(failing)
    found = ops.signals(kind="check.failed", open_only=True).items
    assert [(one["env"], one.get("repeats", 0)) for one in found] == [("prod", 0), ("dev", 2)]
    assert found[1]["evidence"]["env"] == "dev", "clients of earlier releases read it there"
    assert "was met 2 times more" in ops.why(found[1]["id"])["reason"]
    repeated = entries(failing.core.state.read, "events_of_type", ("signal.repeated",))
    caused = entries(failing.core.state.read, "event_by_id", (repeated[-1].envelope.cause,))
    assert caused[0].envelope.type == "checks.completed"
    root = str(failing.core.project.root)
    capfd.readouterr()
    assert call(["--project", root, "signals"]) == 0
    head, *lines = capfd.readouterr().out.splitlines()
    assert head.split()[:6] == ["signal", "severity", "asset", "env", "kind", "again"]
    listed = [" ".join(line.split()) for line in lines]
    assert any("dataset:planes dev check.failed 2 dataset" in line for line in listed), listed
    assert call(["--project", root, "signals", "--json"]) == 0
    assert {one["env"] for one in json.loads(capfd.readouterr().out)} == {"dev", "prod"}
    shop.edit("500.0", "5.0")
    failing.core.project.load()
    run(failing, "dev", force=True)
    left = ops.signals(kind="check.failed", open_only=True).items
    assert [one["env"] for one in left] == ["prod"], "passing closes it as before"


def test_signals_of_earlier_releases(failing: LocalPlatform) -> None:
    """If this fails, after an upgrade signals have no environment, or each failed check a second
    one."""
    core = failing.core
    name = "between(n, 0, 100)"
    old = {
        "id": "sig_old",
        "asset": "dataset:planes",
        "kind": "check.failed",
        "severity": "error",
        "message": "as it was",
        "onset": core.clock.now_ns(),
        "evidence": {"env": "prod", "check": name},
    }
    core.state.commit(Write((), (core.events.make("signal.raised", "sig_old", old),)))
    (signal,) = Operations(failing).signals(kind="check.failed").items
    assert (signal["env"], signal["key"]) == ("prod", name)
    check(failing, "prod")
    (signal,) = Operations(failing).signals(kind="check.failed").items
    assert (signal["id"], signal["repeats"]) == ("sig_old", 1)


def test_reported_checks_are_counted_and_other_reports_are_not(failing: LocalPlatform) -> None:
    """If this fails, a nightly check of another tool fills the list, or two failed runs are one."""
    ops = Operations(failing)
    for env in ("dev", "dev", "prod"):
        ops.report("check", "service:web", name="smoke", state="failed", env=env)
    ops.report("check", "service:web", name="load", state="failed")
    for _ in range(2):
        ops.report("run", "job:load", state="failed")
    found = [
        (one["kind"], one["env"], one.get("key", ""), one.get("repeats", 0))
        for one in ops.signals(open_only=True).items[::-1]
        if one["kind"] != "glass.broken"
    ]
    assert found == [
        ("check.failed", "dev", "smoke", 1),
        ("check.failed", "prod", "smoke", 0),
        ("check.failed", "dev", "load", 0),
        ("run.failed", "dev", "", 0),
        ("run.failed", "dev", "", 0),
    ]


def test_damaged_data_is_one_signal(failing: LocalPlatform) -> None:
    """If this fails, each question about a damaged file is one more signal."""
    core = failing.core
    for text in ("a file is gone", "another one too"):
        core.state.commit(Write((), tuple(damage_signal(core, "dataset:planes", text))))
    (signal,) = open_signals(core.state, "dataset:planes", "data.damaged")
    assert (signal.repeats, signal.message) == (1, "another one too")


def test_the_broken_glass_names_its_environment(failing: LocalPlatform, shop: Shop) -> None:
    """If this fails, a rule about prod does not see who signs off an exception in prod."""
    glass = Operations(failing).signals(kind="glass.broken").items
    assert {one["env"] for one in glass} == {"dev", "prod"}
    shop.write(
        OPS + '\nsx.policy("no", when="verb == \'signal\' && env == \'prod\'", then="deny")\n'
    )
    failing.core.project.load()
    failing.runs.project.move("prod", by=Principal(name="ann"))
    bob = Operations(failing, Principal(name="bob"))
    for one in glass:
        if one["env"] == "prod":
            with pytest.raises(Denied, match="no"):
                bob.close_signal(one["id"], "looked at it")
        else:
            bob.close_signal(one["id"], "looked at it")


def test_what_is_repeated_about_people_is_hidden(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a viewer reads in the second message what the first one hides."""
    monkeypatch.setattr("sextant.ledger.events.SIGNAL_REPEATED_S", 0.0)
    shop.write(
        """
        @sx.dataset(personal=["name"])
        def people() -> pl.DataFrame:
            return pl.DataFrame({"name": ["Zoe"]})
        """
    )
    with shop.open() as p:
        for n in range(2):
            event = raise_signal(
                p.core.state,
                p.core.events,
                "dataset:people",
                "fire",
                "error",
                f"Zoe {n}",
                key="zoe",
                evidence={"who": f"Zoe {n}"},
            )
            p.core.state.commit(Write((), tuple(event)))
        id_ = event[0].subject
        stored = find_signal(p.core.state, id_)
        assert stored is not None
        assert stored.signal.message == "Zoe 1"
        viewer = Operations(p, Principal(name="vera", role="viewer"))
        seen = [viewer.signals(), viewer.events(subject=id_), viewer.why(id_)]
        assert b"Zoe" not in msgspec.json.encode(seen)
