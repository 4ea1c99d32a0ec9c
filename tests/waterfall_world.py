"""Random histories of a small company - late rows, corrected rates, code, definitions, undos - and a
model in plain Python that knows what its numbers are with any of that left out."""

import copy
import itertools
import json
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sextant.app.platform import LocalPlatform

from shop_project import Shop, run

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")
SHOPS = ("a", "b", "c")
MEASURES = {
    "revenue": "sum(amount)",
    "orders": "count(*)",
    "share_ok": "count(*) filter (where ok) / count(*)",
    "mean": "sum(amount) / count(*)",
    "middle": "median(amount)",
    "big": "max(amount)",
}
_FILE = """
    import json
    from decimal import Decimal
    from pathlib import Path
    FOLDER = Path({folder!r})

    @sx.dataset(partition=days, time="at", on=sx.cron("0 5 * * *"), owner=ops)
    def sales(day: sx.Partition) -> pl.DataFrame:
        found = json.loads((FOLDER / "rows.json").read_text()).get(day.key, [])
        return pl.DataFrame(
            [dict(at=day.start, shop=s, cents=c, ok=k) for s, c, k in found],
            schema=dict(at=pl.Datetime("us", "UTC"), shop=pl.String, cents=pl.Int64, ok=pl.Boolean),
        )

    @sx.dataset(on=sx.cron("0 5 * * *"), owner=ops)
    def rates() -> pl.DataFrame:
        found = json.loads((FOLDER / "rates.json").read_text())
        return pl.DataFrame([dict(shop=s, rate=Decimal(r)) for s, r in found.items()],
            schema=dict(shop=pl.String, rate=pl.Decimal(12, 2)))

    @sx.dataset(partition=days, time="at", owner=ops)
    def clean(sales: pl.DataFrame) -> pl.DataFrame:
        return sales.filter(pl.col("cents") >= {threshold})

    @sx.dataset(partition=days, time="at", owner=ops)
    def priced(clean: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
        whole = clean.join(rates, on="shop").with_columns(
            amount=(pl.col("cents") * {factor}).cast(pl.Decimal(18, 2)) * pl.col("rate"))
        return whole.select("at", "shop", "ok", amount=pl.col("amount").cast(pl.Decimal(18, 4)))

    number = sx.kpi("number", of=priced, measure="{measure}", grain="1d", by=["shop"])
"""


class Op(NamedTuple):
    """Something that somebody does. `what`: late, rates, threshold, factor, both, measure, undo."""

    what: str
    day: str = ""
    value: Any = None


class World:
    """The state of the company as the model has it: what is declared, and what each day was made
    by."""

    def __init__(
        self, rows: dict[str, list[list[Any]]], rates: dict[str, str], measure: str
    ) -> None:
        self.rows, self.rates = rows, rates
        self.declared = {"threshold": 10, "factor": 1, "measure": measure}
        self.made = {day: {"threshold": 10, "factor": 1} for day in rows}
        self.measure = measure
        self.before: list[tuple[str, Any]] = []  # what each operation has changed, to take it back

    def apply(self, op: Op) -> None:
        old = copy.deepcopy((self.rows, self.rates, self.made, self.measure))
        if op.what == "late":
            self.rows[op.day] = op.value
            self.made[op.day] = {k: self.declared[k] for k in ("threshold", "factor")}
        elif op.what == "rates":
            self.rates = op.value
            for day in self.made.values():
                day["factor"] = self.declared["factor"]
        elif op.what in ("threshold", "factor"):
            self.declared[op.what] = op.value
            for day in self.made.values():
                day[op.what] = op.value
        elif op.what == "measure":
            self.declared["measure"] = self.measure = op.value
        elif op.what == "undo":
            kind, was = self.before[-1]
            rows, rates, made, measure = was
            if kind in ("late", "rates"):
                self.rows, self.rates = copy.deepcopy(rows), copy.deepcopy(rates)
            if kind in ("threshold", "factor"):
                self.made = copy.deepcopy(made)
            if kind == "measure":
                self.measure = measure
        self.before.append((op.what, old))

    def amounts(self, day: str) -> list[tuple[str, bool, Decimal]]:
        made = self.made[day]
        return [
            (shop, ok, cents * made["factor"] * Decimal(self.rates[shop]))
            for shop, cents, ok in self.rows[day]
            if cents >= made["threshold"]
        ]

    def number(self, day: str) -> Decimal | float | None:
        rows = self.amounts(day)
        amounts = sorted(amount for _, _, amount in rows)
        if not rows:
            return None
        if self.measure == "revenue":
            return sum(amounts, Decimal(0))
        if self.measure == "orders":
            return Decimal(len(rows))
        if self.measure == "share_ok":
            return sum(ok for _, ok, _ in rows) / len(rows)
        if self.measure == "mean":
            return float(sum(amounts, Decimal(0))) / len(rows)
        if self.measure == "big":
            return amounts[-1]
        middle = len(amounts) // 2
        if len(amounts) % 2:
            return float(amounts[middle])
        return float(amounts[middle - 1] + amounts[middle]) / 2


def some_rows(rng: random.Random) -> list[list[Any]]:
    # nobody else has these cents: each change of rows reaches all that is made of them
    return [
        [rng.choice(SHOPS), rng.randint(1, 40) * 1000 + rng.randint(0, 999), rng.random() < 0.6]
        for _ in range(rng.randint(4, 9))
    ]


def some_ops(rng: random.Random, count: int, measure: str) -> list[Op]:
    """Return a history. Only what was done last is undone, and then the model knows what comes
    next: nothing is made by a definition that is undone."""
    ops: list[Op] = []
    values = {"threshold": 10, "factor": 1}
    while len(ops) < count:
        last = ops[-1].what if ops else ""
        undone = ops[-2].what if last == "undo" else ""
        choices = ["late", "late", "rates", "threshold", "factor", "measure"]
        if last not in ("", "undo", "rates") and "undo" not in [op.what for op in ops]:
            choices += ["undo", "undo"]
        what = "measure" if undone == "measure" else rng.choice(choices)
        if undone in ("threshold", "factor"):
            what = undone  # it is mended
        if what == "late":
            ops.append(Op("late", rng.choice(DAYS), some_rows(rng)))
        elif what == "rates":
            ops.append(Op("rates", "", {s: f"{rng.randint(50, 300) / 100:.2f}" for s in SHOPS}))
        elif what in values:
            values[what] += rng.randint(1, 6) * (3000 if what == "threshold" else 1)
            ops.append(Op(what, "", values[what]))
        elif what == "measure":
            # what was undone stays undone
            gone = {
                one.value
                for one, then in itertools.pairwise(ops)
                if one.what == "measure" and then.what == "undo"
            }
            measure = rng.choice(sorted(set(MEASURES) - gone - {measure}))
            ops.append(Op("measure", "", measure))
        else:
            ops.append(Op("undo"))
    return ops


class SameAgain(Exception):
    """A version was to be made that is withdrawn: the platform refuses it, and the model ends."""


class NothingToUndo(Exception):
    """What was done last has released nothing: an undo would take back something else."""


class Company:
    """The platform beside the model."""

    def __init__(self, shop: Shop, rng: random.Random) -> None:
        self._shop = shop
        self._folder = shop.root.parent
        rows = {day: some_rows(rng) for day in DAYS}
        rates = {one: f"{rng.randint(50, 300) / 100:.2f}" for one in SHOPS}
        self.world = World(rows, rates, rng.choice(list(MEASURES)))
        self.start = copy.deepcopy(self.world)
        self._write()
        self.p: LocalPlatform = shop.open()
        self.releases = [run(self.p).release]
        self.ops: list[Op] = []

    def _write(self) -> None:
        (self._folder / "rows.json").write_text(json.dumps(self.world.rows))
        (self._folder / "rates.json").write_text(json.dumps(self.world.rates))
        declared = self.world.declared
        self._shop.write(
            _FILE.format(
                folder=str(self._folder),
                threshold=declared["threshold"],
                factor=declared["factor"],
                measure=MEASURES[declared["measure"]],
            )
        )

    def do(self, op: Op) -> None:
        p = self.p
        self.world.apply(op)
        self.ops.append(op)
        if op.what == "undo":
            if len(self.releases) > 1 and self.releases[-1] == self.releases[-2]:
                raise NothingToUndo
            asset = {
                "late": "dataset:sales",
                "threshold": "dataset:clean",
                "factor": "dataset:priced",
                "measure": "kpi:number",
            }[self.ops[-2].what]
            by = p.core.authorization.who()
            report = p.runs.undo("dev", asset, by=by, reason="it was wrong")
        else:
            self._write()
            p.core.project.load()
            if op.what == "late":
                report = run(p, "dev", "dataset:sales", force=True, partitions=(op.day, op.day))
            elif op.what == "rates":
                report = run(p, "dev", "dataset:rates", force=True)
            else:
                report = run(p, stale=True)
        if any(step.code == "SX-RELEASE-004" for step in report.failed):
            raise SameAgain  # another edit made the very version that was withdrawn
        assert report.state == "finished", report
        # one that changes nothing that is live releases nothing
        self.releases.append(report.release or self.releases[-1])

    def without(self, leave_out: Sequence[int]) -> World:
        """Return what the model has when some operations never happened."""
        world = copy.deepcopy(self.start)
        for n, op in enumerate(self.ops):
            if n not in leave_out:
                world.apply(op)
        return world
