"""Why a number moved, how sure that is, and proofs that somebody else follows again."""

import copy
import random
from decimal import Decimal
from typing import Any

import pytest

from sextant.app.operations import Operations
from sextant.kernel.errors import SextantError, UsageError

from shop_project import Shop
from waterfall_world import DAYS, Company, Op


@pytest.fixture
def company(shop: Shop) -> Any:
    made = Company(shop, random.Random(3))
    yield made
    made.p.close()


def test_what_was_changed_is_proven(company: Company) -> None:
    """The newest change upstream is named, and not the one that moved the number."""
    company.do(Op("threshold", "", 9000))
    company.do(Op("factor", "", 3))
    company.do(Op("rates", "", company.world.rates))  # the same as before: nothing is released
    every = Operations(company.p)
    asked = {"before": DAYS[0], "after": DAYS[0]}
    first = every.why("kpi:number", **asked)
    assert first["moved"]["verdict"] == "not derived"
    assert "--prove" in first["reason"]
    every.prove_why("kpi:number", **asked)
    seen = every.why("kpi:number", **asked)
    moved = seen["moved"]
    assert (moved["verdict"], moved["probability"]) == ("proven", 1.0)
    assert {one["release"] for one in moved["causes"]} == set(company.releases[1:3])
    total = sum(Decimal(one["amount"]) for one in moved["causes"])
    assert total == Decimal(moved["difference"])
    assert "proven (100%)" in seen["reason"]
    again = every.why("kpi:number", **asked)
    assert again == seen, "the same question, another answer"


def test_rows_of_another_day_are_none_of_ours(company: Company) -> None:
    """A change that touched nothing is blamed for what the rows did."""
    company.do(Op("threshold", "", 11))
    every = Operations(company.p)
    asked = {"before": DAYS[0], "after": DAYS[1]}
    every.prove_why("kpi:number", **asked)
    seen = every.why("kpi:number", **asked)
    assert (seen["moved"]["verdict"], seen["moved"]["causes"]) == ("none of ours", [])
    assert seen["moved"]["probability"] == 1.0
    assert {one["state"] for one in seen["moved"]["coverage"]} == {"read"}
    same = every.why("kpi:number", before=DAYS[2], after=DAYS[2])
    assert same["moved"]["verdict"] == "nothing moved"


def test_a_proof_is_followed_again(company: Company) -> None:
    """It would only be compared with what was stored beside it."""
    company.do(Op("factor", "", 3))
    company.do(Op("late", DAYS[0], [["a", 20_000, True]]))
    every = Operations(company.p)
    proof = every.prove_why("kpi:number", before=DAYS[0], after=DAYS[0])
    found = every.verify_why("kpi:number", proof)
    assert found["holds"], found
    assert found["partitions"] > 0
    assert found["run"]
    company.do(Op("factor", "", 9))
    assert every.verify_why("kpi:number", proof)["holds"], "what came later is nothing to it"

    def told(change: Any) -> list[str]:
        other = copy.deepcopy(proof)
        change(other)
        checked = every.verify_why("kpi:number", other)
        assert not checked["holds"]
        return list(checked["differs"])

    last = str(max(map(int, proof["cases"])))
    assert "the number in case" in told(lambda one: one["cases"].update({last: "1"}))[0]
    assert told(lambda one: one["waterfall"]["bars"][0].update(amount="1")) == ["the bars"]
    assert told(lambda one: one.update(contents="")) == ["what was live, and by which code"]
    assert "the ledger" in told(lambda one: one.update(root="0" * 64))[0]
    assert "the ledger" in told(lambda one: one.update(size=1 << 40))[0]


def test_code_that_is_not_what_it_seems(shop: Shop) -> None:
    """A step that makes something else each time would be taken for what was live."""
    shop.write(
        """
        import time
        @sx.dataset(owner=ops)
        def one() -> pl.DataFrame:
            return pl.DataFrame({"n": [1, 2, 3]})

        @sx.dataset(owner=ops)
        def other(one: pl.DataFrame) -> pl.DataFrame:
            return one.with_columns(m=pl.lit(time.time_ns()))

        total = sx.kpi("total", of=other, measure="sum(m) + sum(n)", grain="")
        """
    )
    with shop.open() as p:
        from shop_project import run

        first = run(p).release
        shop.edit("[1, 2, 3]", "[1, 2, 4]")
        p.core.project.load()
        run(p, stale=True)
        every = Operations(p)
        proof = every.prove_why("kpi:total", known_from=first)
        found = every.verify_why("kpi:total", proof)
        assert not found["holds"]
        assert any("dataset:other" in one for one in found["differs"])


def test_what_is_no_proof(company: Company) -> None:
    """It would be followed half, or end as a bug."""
    every = Operations(company.p)
    proof = every.prove_why("kpi:number", before=DAYS[0], after=DAYS[0])
    for code, stated in (
        ("SX-DERIVE-023", {}),
        ("SX-DERIVE-023", {**proof, "format": "sextant.proof.2"}),
        ("SX-DERIVE-023", {**proof, "cases": {"9" * 5000: "1"}}),
        ("SX-DERIVE-023", {**proof, "size": -1}),
        ("SX-DERIVE-023", {**proof, "cases": {"1": "\x1b[31m1"}}),
        ("SX-TEXT-002", {**proof, "asset": "kpi:\x1b[31m"}),
        ("SX-DERIVE-024", {**proof, "asset": "kpi:other"}),
        ("SX-DERIVE-024", {**proof, "env": "prod"}),
        ("SX-KPI-012", {**proof, "before": "someday", "after": "someday"}),
    ):
        with pytest.raises(UsageError) as refused:
            every.verify_why("kpi:number", stated)
        assert refused.value.code == code
    with pytest.raises(SextantError):
        every.why("kpi:number", before="someday")
