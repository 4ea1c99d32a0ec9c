"""The one change that turned a number or a check, found by halving those between two moments."""

import contextlib
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from sextant.app.operations import Operations
from sextant.kernel.errors import SextantError, UsageError

from shop_project import Shop, run
from waterfall_world import DAYS, Company, NothingToUndo, Op, SameAgain, some_ops


def company_with(shop: Shop, *ops: Op) -> Company:
    company = Company(shop, random.Random(1))
    for op in ops:
        company.do(op)
    return company


@pytest.mark.parametrize("seed", range(8))
def test_a_random_history_turns_where_the_model_turns(shop: Shop, seed: int) -> None:
    """The change that is named has turned nothing, or the numbers beside it are others."""
    rng = random.Random(seed)
    company = Company(shop, rng)
    try:
        with contextlib.suppress(NothingToUndo, SameAgain):
            for op in some_ops(rng, rng.randint(3, 8), company.world.measure):
                company.do(op)
        day = rng.choice(DAYS)
        asked = {"known_from": company.releases[0], "over": day}
        every = Operations(company.p)
        try:
            seen = every.bisect("number", **asked)
        except UsageError as error:
            assert error.code in ("SX-DERIVE-019", "SX-DERIVE-020")
            return
        first, last = seen["steps"][:2]
        assert len(seen["steps"]) <= 2 + len(company.ops).bit_length()
        (found,) = seen["found"]
        assert seen["sure"] == "proven"
        middle = (Decimal(first["state"]) + Decimal(last["state"])) / 2
        one, other = Decimal(seen["before"]["state"]), Decimal(seen["after"]["state"])
        assert (one > middle) == (Decimal(first["state"]) > middle)
        assert (other > middle) == (Decimal(last["state"]) > middle)
        assert Decimal(found["amount"]) == other - one
        n = company.releases.index(found["release"]) - 1
        later = range(n + 1, len(company.ops))
        if not any(company.ops[m].what == "undo" for m in range(len(company.ops))):
            for known, shown in (
                (company.without([n, *later]), one),
                (company.without(later), other),
            ):
                value = known.number(day)
                assert value is not None
                assert abs(Decimal(str(value)) - shown) <= Decimal("1e-9") * max(1, abs(shown))
        before = every.runs(limit=100).items
        again = every.bisect("number", **asked)
        assert again["runs"] == []
        assert {**again, "runs": seen["runs"]} == seen
        assert every.runs(limit=100).items == before
    finally:
        company.p.close()


CHECKED = """
    import json
    from pathlib import Path
    FOLDER = Path({folder!r})

    @sx.dataset(key="shop", owner=ops)
    def shops() -> pl.DataFrame:
        return pl.DataFrame({{"shop": json.loads((FOLDER / "shops.json").read_text())}})

    @sx.dataset(partition=days, time="at", owner=ops)
    def sales(day: sx.Partition) -> pl.DataFrame:
        found = json.loads((FOLDER / "rows.json").read_text()).get(day.key, [])
        return pl.DataFrame([dict(at=day.start, shop=s, cents=c) for s, c in found],
            schema=dict(at=pl.Datetime("us", "UTC"), shop=pl.String, cents=pl.Int64))

    @sx.dataset(partition=days, time="at", owner=ops, checks=[
        sx.between("cents", 0, 1000, severity="warn"),
        sx.foreign_key("shop", to="shops.shop", severity="warn"),
        sx.row_count(1, severity="warn"),
    ])
    def clean(sales: pl.DataFrame, shops: pl.DataFrame) -> pl.DataFrame:
        {body}
"""


class Checked:
    """A project whose check of `clean` turns by what is done to it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.folder = shop, shop.root.parent
        self.put("shops", ["a", "b"])
        self.put("rows", {day: [["a", 100], ["b", 200]] for day in DAYS})
        self.code("return sales")
        self.p = shop.open()
        self.first = self.run()

    def put(self, name: str, value: Any) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(value))

    def code(self, body: str) -> None:
        self.shop.write(CHECKED.format(folder=str(self.folder), body=body))

    def run(self, *assets: str, **more: Any) -> str:
        self.p.core.project.load()
        report = run(self.p, "dev", *assets, **({"stale": True} | more))
        assert report.state == "finished", report
        return report.release

    def bisect(self, check: str, **more: Any) -> Any:
        return Operations(self.p).bisect("clean", self.first, check=check, **more)


@pytest.fixture
def checked(shop: Shop) -> Any:
    made = Checked(shop)
    yield made
    made.p.close()


def test_the_code_that_turned_a_check(checked: Checked) -> None:
    """A check of what was live would name the last release, not the one that did it."""
    checked.code("return sales.with_columns(cents=pl.col('cents') * 2)")
    checked.run()
    checked.code("return sales.with_columns(cents=pl.col('cents') * 9)")
    guilty = checked.run()
    checked.put("rows", {day: [["a", 110], ["b", 210]] for day in DAYS})
    checked.run("dataset:sales", force=True)
    checked.code("return sales.with_columns(cents=pl.col('cents') * 11)")
    checked.run()
    seen = checked.bisect("between")
    (found,) = seen["found"]
    assert found["release"] == guilty
    assert (seen["sure"], found["what"], found["asset"]) == ("proven", "code", "dataset:clean")
    assert seen["before"]["state"] == "passed"
    assert seen["after"]["state"] == "failed"
    assert seen["changes"] == 4
    with pytest.raises(UsageError) as same:
        checked.bisect("row_count")
    assert same.value.code == "SX-DERIVE-020"


def test_a_parent_that_lost_rows(checked: Checked) -> None:
    """A foreign key is broken by the other table: its changes are among those that are halved."""
    checked.put("rows", {day: [["a", 120], ["b", 220]] for day in DAYS})
    checked.run("dataset:sales", force=True)
    checked.put("shops", ["a"])
    guilty = checked.run("dataset:shops", force=True)
    seen = checked.bisect("foreign_key")
    (found,) = seen["found"]
    assert (found["release"], found["asset"]) == (guilty, "dataset:shops")


def test_rows_of_one_day(checked: Checked) -> None:
    """Of one day another change turned the check than of another, or of all rows."""
    for day, cents in ((DAYS[0], 5000), (DAYS[1], 6000)):
        now = json.loads((checked.folder / "rows.json").read_text())
        now[day] = [["a", cents]]
        checked.put("rows", now)
        release = checked.run("dataset:sales", force=True, partitions=(day, day))
        (found,) = checked.bisect("between", over=day)["found"]
        assert found["release"] == release
    assert checked.bisect("between")["found"][0]["release"] != release


def test_what_has_no_state_is_left_out(checked: Checked) -> None:
    """Code that cannot be run with older rows would end the search, or be called guilty."""
    checked.put("rows", {day: [["b", 300]] for day in DAYS})
    checked.run("dataset:sales", force=True)
    # fails on the rows of the beginning; with those of now it does not
    checked.code("assert 'a' not in sales['shop'].to_list(); return sales.with_columns(cents=5000)")
    guilty = checked.run()
    seen = checked.bisect("between")
    assert seen["found"][-1]["release"] == guilty
    assert seen["steps"][-1]["state"] in ("", "passed")


def test_bad_questions_of_a_search(checked: Checked) -> None:
    """They would derive for an hour and then say nothing."""
    for code, asked in (
        ("SX-DERIVE-021", {"check": "nothing"}),
        ("SX-DERIVE-008", {"check": "row_count", "known_from": "rel_nothing"}),
        ("SX-KPI-012", {"check": "row_count", "over": "someday"}),
    ):
        with pytest.raises(SextantError) as refused:
            Operations(checked.p).bisect("clean", **({"known_from": checked.first} | asked))
        assert refused.value.code == code
    with pytest.raises(SextantError) as refused:
        Operations(checked.p).bisect("clean", checked.first)
    assert refused.value.code.startswith("SX-")


def test_no_more_is_derived_than_is_allowed(shop: Shop) -> None:
    """It goes on for hours, one half after the other."""
    company = company_with(
        shop, Op("threshold", "", 9000), Op("factor", "", 3), Op("factor", "", 7)
    )
    every = Operations(company.p)
    asked = {"known_from": company.releases[0], "over": DAYS[0]}
    for code, more in (("SX-DERIVE-018", {"most_s": 0.0}), ("SX-DERIVE-022", {"threshold": "x"})):
        with pytest.raises(UsageError) as refused:
            every.bisect("number", **asked, **more)
        assert refused.value.code == code
    assert not [one for one in every.runs().items if one["trigger"] == "derivation"]
    company.p.close()
