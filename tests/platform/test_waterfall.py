"""What moved a number, as a sum of what was changed: derived without each change."""

import contextlib
import itertools
import random
from decimal import Decimal
from typing import Any

import pytest

from sextant.app.operations import Operations
from sextant.kernel.errors import Denied, NotFound, SextantError, UsageError
from sextant.kernel.nouns import Principal
from sextant.ledger.projections import RunChanged

from shop_project import Shop, run
from waterfall_world import DAYS, Company, NothingToUndo, Op, SameAgain, some_ops


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
    if then is None or now is None:
        return 0
    seen = every.derive_waterfall("number", **asked)
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
        undone = {company.ops[m - 1].what for m in range(1, n) if company.ops[m].what == "undo"}
        if n + 1 < len(company.ops) and company.ops[n + 1].what == "undo":
            continue  # the undo was of other days; the model has none without it
        if company.ops[n].what in undone:
            continue  # without a mended version the undone one stays undone; the model makes it again
        later = company.releases[n + 1 :]
        if any(one == before for before, one in itertools.pairwise(later)):
            continue  # what released nothing would have, without this
        known = company.without([n]).number(after)
        if known is None:
            continue
        assert same(bar["without"], known), (bar, known)
        compared += 1
    assert every.waterfall("number", **asked)["bars"] == seen["bars"], "asked again, another answer"
    return compared


@pytest.mark.parametrize("seed", range(10))
def test_a_random_history_adds_up(shop: Shop, seed: int) -> None:
    """A change has another share than the number without it says, or the bars do not add up."""
    rng = random.Random(seed)
    company = Company(shop, rng)
    try:
        with contextlib.suppress(NothingToUndo, SameAgain):
            for op in some_ops(rng, rng.randint(2, 7), company.world.measure):
                company.do(op)
            for _ in range(2):
                judge(company, rng)
    finally:
        company.p.close()


def company_with(shop: Shop, *ops: Op) -> Company:
    company = Company(shop, random.Random(1))
    for op in ops:
        company.do(op)
    return company


def test_an_undo_takes_back_what_came_out_the_same(shop: Shop) -> None:
    """Without a change of rows the code that was undone would still count, for the rows that there
    were it had changed nothing."""
    small, large = [["a", 14_000, True], ["a", 30_000, False]], [["a", 30_001, True]]
    company = company_with(
        shop,
        Op("late", DAYS[0], small),
        Op("measure", "", "share_ok"),
        Op("late", DAYS[0], large),
        Op("threshold", "", 12_000),
        Op("threshold", "", 15_000),
        Op("undo"),
    )
    seen = Operations(company.p).derive_waterfall(
        "number", after=DAYS[0], known_from=company.releases[0]
    )
    (bar,) = (one for one in seen["bars"] if one["release"] == company.releases[3])
    assert same(bar["without"], company.without([2]).number(DAYS[0]))
    company.p.close()


def test_a_share_of_nothing_between_two_changes(shop: Shop) -> None:
    """A ratio over no rows is no number: the answer would end as a bug, where it only cannot tell
    the changes apart."""
    company = company_with(
        shop,
        Op("measure", "", "share_ok"),
        Op("threshold", "", 99_000),  # no row is as large
        Op("late", DAYS[0], [["a", 99_500, True], ["b", 99_600, False]]),
    )
    seen = Operations(company.p).derive_waterfall(
        "number", after=DAYS[0], known_from=company.releases[1]
    )
    assert total(seen) == Decimal(seen["difference"])
    assert [bar["what"] for bar in seen["bars"]] == ["together"]
    assert any("cannot be told apart" in note for note in seen["notes"])
    company.p.close()


def test_nothing_of_a_derivation_is_live(shop: Shop) -> None:
    """A derivation moves a pointer, makes a version, or lends what no check has seen to a run."""
    company = company_with(shop, Op("threshold", "", 9000), Op("factor", "", 3))
    p, every = company.p, Operations(company.p)

    def live() -> Any:
        read = p.core.state.read
        versions = {
            row[0]: len(read("versions", (row[0], 1 << 62, 1000))) for row in read("assets")
        }
        return read("pointers_all"), versions, read("envs"), len(every.releases(limit=100).items)

    before = live()
    plan = every.waterfall("number", after=DAYS[0])
    assert "bars" not in plan
    assert plan["cost"]["partitions"] > 0
    seen = every.derive_waterfall("number", after=DAYS[0])
    assert live() == before
    assert seen["run"]
    assert every.runs().items[0]["trigger"] == "derivation"
    assert not p.runs.plans.spare("dev")
    with pytest.raises(UsageError) as refused:
        every.retry(seen["run"])
    assert refused.value.code == "SX-RUN-021"
    p.close()


def test_a_derivation_that_died_is_closed(shop: Shop) -> None:
    """A run that only derived stays open for ever, or is resumed and publishes."""
    company = company_with(shop, Op("threshold", "", 9000))
    p, every = company.p, Operations(company.p)
    facts = RunChanged(
        id="run_dead", env="dev", state="running", trigger="derivation", by="person:ann"
    )
    from sextant.kernel.ports import Write

    p.core.state.commit(
        Write(
            (), (p.core.events.make("run.started", "run_dead", facts, Principal(name="ann"), ""),)
        )
    )
    assert every.runs(state="running").items
    run(p, "dev", "dataset:rates", force=True)
    assert not every.runs(state="running").items
    assert every.run_facts("run_dead")["state"] == "cancelled"
    p.close()


def test_who_may_not_derive(shop: Shop) -> None:
    """Somebody whom a rule denies it makes the platform run code."""
    company = company_with(shop, Op("threshold", "", 9000), Op("factor", "", 3))
    company.p.close()
    with (shop.root / "ops.py").open("a") as file:
        file.write(
            "\nsx.policy('not bob', when=\"verb == 'derive' && principal.name == 'bob'\", then='deny')\n"
        )
    with shop.open("bob") as p:
        every = Operations(p)
        assert "bars" not in every.waterfall("number", after=DAYS[0])
        with pytest.raises(Denied):
            every.derive_waterfall("number", after=DAYS[0])
        assert every.runs().items[0]["trigger"] != "derivation"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"after": "yesterday"}, "SX-KPI-012"),
        ({"after": "2026-02-01/2026-01-01"}, "SX-KPI-012"),
        ({"after": "2026-01-01", "known_from": "rel_none"}, "SX-DERIVE-008"),
        ({"after": "2026-01-01", "known_from": "2001-01-01"}, "SX-DERIVE-009"),
        ({"after": "2026-01-01", "known_from": "never"}, "SX-UNDO-008"),
        ({"after": "2026-01-01", "known_to": "2026-01-01"}, "SX-DERIVE-009"),
        ({"after": "2031-01-01"}, "SX-DERIVE-011"),
        ({"before": "2026-01-01", "after": "2026-01-02", "by": ["shpo"]}, "SX-KPI-001"),
    ],
)
def test_bad_questions(shop: Shop, given: dict[str, Any], code: str) -> None:
    """A wrong question ends in a traceback, or in an answer to another one."""
    company = company_with(shop)
    with pytest.raises(SextantError) as refused:
        Operations(company.p).waterfall("number", **given)
    assert refused.value.code == code, refused.value
    assert refused.value.hint
    with pytest.raises(NotFound):
        Operations(company.p).waterfall("nmber")
    company.p.close()


def test_rows_that_are_not_kept_any_more(shop: Shop) -> None:
    """An answer fails, or invents, where rows of then have expired: it says what counts as it
    was."""
    company = company_with(
        shop, Op("late", DAYS[0], [["a", 5000, True]]), Op("late", DAYS[0], [["a", 7000, True]])
    )
    p, every = company.p, Operations(company.p)
    gone = [
        row[0]
        for row in p.core.state.read("versions", ("dataset:sales", 1 << 62, 100))
        if row[0] != p.core.versions.live_version("dev", "dataset:sales")
    ]
    for digest in gone:
        locator = p.core.versions.get("dataset:sales", digest).locator
        from sextant.kernel.ports import Write
        from sextant.ledger.projections import VersionRelocated

        event = p.core.events.make(
            "version.expired",
            f"dataset:sales@{digest}",
            VersionRelocated("dataset:sales", digest, locator),
            Principal(name="ann"),
            "",
        )
        p.core.state.commit(Write((), (event,)))
    seen = every.derive_waterfall("number", after=DAYS[0])
    assert total(seen) == Decimal(seen["difference"])
    assert any("not kept any more" in note for note in seen["notes"]), seen
    p.close()


_COINS = """
    import random

    @sx.dataset(partition=days, on=sx.cron("0 5 * * *"), time="at", owner=ops)
    def coins(day: sx.Partition) -> pl.DataFrame:
        return pl.DataFrame({{"at": [day.start] * 8, "n": list(range(8))}})

    @sx.dataset(partition=days, time="at", owner=ops, deterministic={deterministic})
    def kept(coins: pl.DataFrame) -> pl.DataFrame:
        return coins.filter(pl.col("n") {kept})

    @sx.dataset(partition=days, time="at", owner=ops)
    def seen(kept: pl.DataFrame) -> pl.DataFrame:
        return kept.filter(pl.col("n") {seen})

    number = sx.kpi("number", of=seen, measure="count(*)", grain="1d")
"""


def _edited(shop: Shop, *, deterministic: bool) -> Any:
    """Return the answer for two edits of code, of which the first leaves no row."""
    shop.write(_COINS.format(deterministic=deterministic, kept="< 6", seen=">= 2"))
    with shop.open() as p:
        run(p)
        for kept, seen in (("< 0", ">= 2"), ("< 0", ">= 3"), ("< 7", ">= 3")):
            shop.write(_COINS.format(deterministic=deterministic, kept=kept, seen=seen))
            p.core.project.load()
            run(p, stale=True)
        return Operations(p).derive_waterfall("number", after=DAYS[0])


def test_a_count_of_no_rows_is_nothing(shop: Shop) -> None:
    """Without a row a count is 0, not unknown: then the changes could not be told apart."""
    seen = _edited(shop, deterministic=True)
    assert "together" not in [bar["what"] for bar in seen["bars"]], seen
    assert total(seen) == Decimal(seen["difference"])
    assert {bar["sure"] for bar in seen["bars"]} == {"proven"}
    with shop.open() as p:
        assert "bars" in Operations(p).waterfall("number", after=DAYS[0]), "derived again"


def test_what_differs_each_time_proves_nothing(shop: Shop) -> None:
    """A share is called proven that stands on a step which makes something else each time."""
    seen = _edited(shop, deterministic=False)
    assert seen["run"]
    assert {bar["sure"] for bar in seen["bars"]} == {"likely"}
    assert any("dataset:kept" in note and "no share is proven" in note for note in seen["notes"])


def test_the_undo_of_a_bar_is_of_that_change(shop: Shop) -> None:
    """The command beside a bar takes back another release than the one it is about."""
    company = company_with(shop, Op("threshold", "", 9000), Op("threshold", "", 12000))
    seen = Operations(company.p).derive_waterfall("number", after=DAYS[0])
    code = [bar for bar in seen["bars"] if bar["what"] == "code"]
    assert len(code) == 2
    for bar in code:
        move = next(
            one
            for one in Operations(company.p).release_facts(bar["release"])["moves"]
            if one["asset"] == bar["asset"]
        )
        assert bar["version"] == move["target"]
        assert bar["undo"] == f"sextant rollback {bar['asset']} {bar['version'][:12]} --env dev"
    company.p.close()


def test_code_that_comes_back_is_another_change(shop: Shop) -> None:
    """An edit that is edited back counts as the first one, and the sum has no beginning."""
    company = company_with(
        shop, Op("factor", "", 3), Op("factor", "", 5), Op("factor", "", 3), Op("factor", "", 7)
    )
    seen = Operations(company.p).derive_waterfall("number", after=DAYS[0])
    assert [bar["what"] for bar in seen["bars"]] == ["code"] * 4
    assert total(seen) == Decimal(seen["difference"])
    company.p.close()
