"""What moved a number, as a sum of what was changed: derived without each change."""

import random
from decimal import Decimal
from typing import Any

import pytest

from sextant.app.operations import Operations

from shop_project import Shop
from waterfall_world import DAYS, Company, some_ops


def total(seen: dict[str, Any]) -> Decimal:
    return sum((Decimal(bar["amount"]) for bar in seen["bars"]), Decimal(0))


def same(shown: str, known: Any) -> bool:
    if isinstance(known, Decimal):
        return Decimal(shown) == known
    return abs(float(shown) - known) <= 1e-9 * max(1.0, abs(known))


def judge(company: Company, rng: random.Random) -> int:
    """Ask what moved the number, over two random days and since a random moment; compare with the
    model. Returns how many numbers without a change were compared."""
    p, every = company.p, Operations(company.p)
    before, after = rng.choice(DAYS), rng.choice(DAYS)
    k = rng.randint(0, len(company.ops) - 1)
    asked: dict[str, Any] = {
        "before": before,
        "after": after,
        "known_from": company.releases[k],
        "by": rng.choice([[], ["shop"]]) if before != after else [],
    }
    then = company.without(range(k, len(company.ops))).number(before)
    now = company.world.number(after)
    seen = every.derive_waterfall("number", **asked)
    if then is None or now is None:
        return 0
    assert same(seen["before"]["value"], then), (then, seen)
    assert same(seen["after"]["value"], now), (now, seen)
    assert total(seen) == Decimal(seen["difference"])
    assert Decimal(seen["after"]["value"]) - Decimal(seen["before"]["value"]) == total(seen)
    gap = [bar for bar in seen["bars"] if bar["what"] == "not attributed"]
    assert not gap or abs(Decimal(gap[0]["amount"])) < Decimal("1e-9"), seen
    compared = 0
    of_release = [bar["release"] for bar in seen["bars"]]
    for bar in seen["bars"]:
        if "without" not in bar or of_release.count(bar["release"]) > 1:
            continue
        n = company.releases.index(bar["release"]) - 1
        known = company.without([n]).number(after)
        if known is None:
            continue
        if not same(bar["without"], known):
            print(
                "ASKED",
                asked,
                "n",
                n,
                "k",
                k,
                [o[:2] for o in company.ops],
                [(b["what"], b["text"], b["amount"], b.get("without")) for b in seen["bars"]],
                seen["notes"],
                seen["before"],
                seen["after"],
                {n: company.without([n]).number(after) for n in range(len(company.ops))},
            )
        assert same(bar["without"], known), (bar, known)
        compared += 1
    assert every.waterfall("number", **asked)["bars"] == seen["bars"], "asked again, another answer"
    return compared


@pytest.mark.parametrize("seed", range(24))
def test_a_random_history_adds_up(shop: Shop, seed: int) -> None:
    """A change has another share than the number without it says, or the bars do not add up."""
    rng = random.Random(seed)
    company = Company(shop, rng)
    try:
        for op in some_ops(rng, rng.randint(2, 7), company.world.measure):
            company.do(op)
        for _ in range(2):
            judge(company, rng)
    finally:
        company.p.close()
