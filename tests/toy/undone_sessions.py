"""Random sessions of one actor over all kinds of assets, undone by actor and time; and what must be
as it was. A part of it runs as a test, `bench/sessions.py` runs a hundred."""

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import toy_kind

from sextant import testing
from sextant.app.undo_by import undo_by, undo_plan
from sextant.kernel.errors import SextantError
from sextant.kernel.nouns import Principal
from sextant.testing import Request

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
ANN, BOB = Principal(name="ann"), Principal(name="bob")
OPS = """
import polars as pl
import sextant as sx

sx.project("shop", environments=["dev", "prod"])
days = sx.daily(start="2026-01-01")


@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    amounts = {amounts}
    return pl.DataFrame({{"id": [day.key, "x"], "amount": [amounts[day.key[-1]], 1.0]}})


@sx.dataset(partition=days)
def counts(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(n=pl.len() * {factor})


@sx.dataset()
def other() -> pl.DataFrame:
    return pl.DataFrame({{"id": [1], "n": [{other}]}})


revenue = sx.kpi("revenue", of=orders, measure="sum(amount) * {rate}", grain="")
sx.board("wall", panels=[sx.panel(kpi=revenue, title="revenue {title}")])
sx.notice("counted", of=orders, text="{{rows}} {word}", release=sx.canary(5, every="1m"))
"""


class World:
    """A shop in which somebody works, then ann, while bob makes something of his own."""

    def __init__(self, p: testing.TestedPlatform, drawn: random.Random) -> None:
        self.p, self.drawn = p, drawn
        self.said: dict[str, Any] = {
            "amounts": {str(day): 1.0 for day in range(10)},
            "factor": 1,
            "other": 1,
            "rate": 1,
            "title": "a",
            "word": "orders",
        }

    def edit(self) -> None:
        """Change what one asset says."""
        name = self.drawn.choice(list(self.said))
        if name == "amounts":
            self.said[name] = {
                **self.said[name],
                self.drawn.choice("1234"): float(self.drawn.randrange(9)),
            }
        elif isinstance(self.said[name], int):
            self.said[name] = self.drawn.randrange(2, 9)
        else:
            self.said[name] = self.drawn.choice("abcdefgh")

    def load(self) -> None:
        (self.p.core.project.root / "ops.py").write_text(OPS.format(**self.said))
        self.p.core.project.load()

    def act(self, by: Principal) -> str:
        """Do something that a person does; return what."""
        runs, drawn = self.p.runs, self.drawn
        what = drawn.choice(["run", "run", "run", "run", "backfill", "release", "rollback"])
        env = drawn.choice(["dev", "dev", "prod"])
        try:
            if what in ("run", "backfill"):
                self.edit()
                self.load()
                runs.run(env, Request(stale=what == "backfill"), by=by)
            elif what == "release":
                asset = self.p.core.assets.find(drawn.choice(["orders", "other", "counts"]))
                runs.release("prod", asset, source="dev", by=by)
            else:
                runs.undo(env, drawn.choice(["dataset:other", "kpi:revenue"]), by=by, reason="no")
        except SextantError:
            return "refused"
        if drawn.random() < 0.7:
            self.p.drive()
        return what

    def seen(self) -> dict[tuple[str, str], Any]:
        """Return what is live: content of rows, definitions, and what hangs on the wall."""
        core, found = self.p.core, {}
        for env in ("dev", "prod"):
            for id_, pointer in core.versions.live(env).items():
                parts = core.versions.parts(id_, pointer.version)
                content = {name: part.digest for name, part in parts.items()}
                if content or not id_.startswith(("kpi:", "board:")):
                    found[env, id_] = content
                else:
                    found[env, id_] = pointer.version
        return {place: content for place, content in found.items() if content}


def undo_session(folder: Path, seed: int) -> Counter[str]:
    """Let ann work and undo it; return what happened. AssertionError for what is not as it was."""
    counts: Counter[str] = Counter()
    drawn = random.Random(seed)
    with (
        toy_kind.installed(folder / "packages"),
        testing.platform({"ops.py": OPS.format(**World(None, drawn).said)}, at=AT) as p,  # type: ignore[arg-type]
    ):
        world = World(p, drawn)
        for env in ("dev", "prod"):
            p.runs.run(env, Request(), by=BOB)
        p.drive()
        before = world.seen()
        p.clock.wait(60)
        for _ in range(drawn.randrange(2, 8)):
            counts[world.act(ANN)] += 1
            p.clock.wait(60)
        counts["on their way"] += len(p.runs.releases.open())
        since = AT.isoformat()
        try:
            plan = undo_plan(p.runs, "ann", since, "")
        except SextantError:
            counts["nothing done"] += 1
            return counts
        report = undo_by(p.runs, "ann", since, "", plan=plan.digest, reason="all of it", by=BOB)
        p.drive()
        errors = [one.error for one in report.done if one.error]
        assert not errors, (seed, errors)
        named = {(one.env, one.asset) for one in plan.impossible}
        named |= {(env, "dataset:kpi_revenue") for env, id_ in named if id_ == "kpi:revenue"}
        after = world.seen()
        for place in sorted(before.keys() | after.keys()):
            if place not in named:
                assert after.get(place) == before.get(place), (seed, place)
        counts["impossible"] += len(plan.impossible)
        counts["undone"] += len(plan.items)
        counts["sessions"] += 1
        assert not undo_plan(p.runs, "ann", since, "").items, seed
    return counts
