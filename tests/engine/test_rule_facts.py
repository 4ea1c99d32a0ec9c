"""What rules ask of the context is filled at every verb that offers it: a deny on each fact
fires."""

from seen import views
import pytest
from orders_project import CUT, ORDERS, parts

from sextant.kernel.errors import Denied

WARNED = """
high = 3.0

@sx.dataset(partition=days, key="id", checks=[sx.between("amount", 0, 2, severity="warn")])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [1.0, 2.0, high]})
"""


def deny(when: str) -> str:
    return f'\nsx.policy("not that", when="{when}", then="deny")\n'


def denied(p) -> list[tuple[str, str]]:
    return [
        (e["data"]["verb"], e["data"]["asset"])
        for e in views(p).events(kind="decision.denied").items
    ]


@pytest.mark.parametrize(
    ("when", "verb"),
    [
        ("verb == 'run' && context.partitions == 4", "run"),
        ("verb == 'run' && context.intent == 'release'", "run"),
        ("verb == 'release' && context.intent == 'release'", "release"),
        ("context.rows == 12", "release"),
        ("verb == 'release' && context.partitions == 4", "release"),
        ("context.checks_failed == 1", "release"),
    ],
)
def test_a_deny_on_a_fact_of_a_run_fires(shop, running, when: str, verb: str) -> None:
    """The facts were always 0: four deny rules did nothing."""
    shop.write(WARNED + deny(when))
    with shop.open() as p:
        with pytest.raises(Denied, match="not that"):
            running(p)
        assert not p.core.versions.live_version("dev", "dataset:orders")
        assert denied(p) == [(verb, "dataset:orders")]


@pytest.mark.parametrize(
    "when",
    [
        "context.rows == 13",
        "context.checks_failed == 2",
        "context.partitions == 5",
        "context.break_glass || context.withdrawn_elsewhere || context.intent == 'undo'",
    ],
)
def test_a_deny_on_another_value_does_not(shop, running, when: str) -> None:
    shop.write(WARNED + deny(when))
    with shop.open() as p:
        assert running(p).state == "finished"


@pytest.mark.parametrize(
    "fact", ["context.rows == 12", "context.partitions == 4", "context.checks_failed == 1"]
)
def test_a_release_of_a_version_that_exists_has_the_facts(shop, running, fact: str) -> None:
    """Somebody makes it where no rule speaks, and takes it over from there."""
    shop.write(WARNED + deny(f"env == 'prod' && {fact}"))
    with shop.open() as p:
        assert running(p).state == "finished"
        with pytest.raises(Denied, match="not that"):
            p.runs.release(
                "prod", p.core.assets.find("orders"), source="dev", by=p.core.authorization.who()
            )
        assert not p.core.versions.live_version("prod", "dataset:orders")
        assert ("release", "dataset:orders") in denied(p)


@pytest.mark.parametrize(
    "fact",
    [
        "context.rows == 12",
        "context.partitions == 4",
        "context.checks_failed == 1",
        "context.intent == 'undo'",
    ],
)
def test_an_undo_has_the_facts_of_what_comes_back(shop, running, fact: str) -> None:
    """The intent of a rollback was said to be a release."""
    shop.write(WARNED + deny(f"verb == 'rollback' && {fact}"))
    with shop.open() as p:
        running(p)
        shop.edit("high = 3.0", "high = 1.5")
        p.core.project.load()
        running(p, stale=True)
        now = parts(p, "dev", "orders")
        with pytest.raises(Denied, match="not that"):
            p.runs.undo(
                "dev", "dataset:orders", by=p.core.authorization.who(), reason="it was better"
            )
        assert parts(p, "dev", "orders") == now
        assert ("rollback", "dataset:orders") in denied(p)


def test_what_was_undone_elsewhere_is_known_at_the_release_and_the_undo(shop, running) -> None:
    shop.write(CUT + deny("verb == 'rollback' && context.withdrawn_elsewhere"))
    with shop.open() as p:
        running(p, "prod")
        good = p.core.versions.live_version("prod", "dataset:cleaned")
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.core.project.load()
        running(p, "prod", stale=True)
        running(p, "dev")
        p.runs.undo(
            "prod", "dataset:cleaned", by=p.core.authorization.who(), reason="five is wrong"
        )
        shop.edit('pl.col("amount") + 5', 'pl.col("amount") + 7')
        p.core.project.load()
        running(p, "dev", stale=True)
        assert p.core.versions.live_version("dev", "dataset:cleaned") != good
        # what would come back in dev was undone in prod
        with pytest.raises(Denied, match="not that"):
            p.runs.undo(
                "dev", "dataset:cleaned", by=p.core.authorization.who(), reason="seven is wrong"
            )


def test_a_glass_that_passes_a_deny_on_a_fact_says_so(shop, running) -> None:
    """The rule was asked for once more without its facts, and the passed deny left no event."""
    shop.write(WARNED + deny("context.rows > 10"))
    with shop.open() as p:
        report = running(p, break_glass="the board meets")
        assert p.runs.releases.get(report.release).passed == ("not that",)
        (told,) = views(p).events(kind="decision.overridden").items
        assert (told["data"]["verb"], told["data"]["rules"]) == ("release", ["not that"])


def test_a_deny_on_the_broken_glass_fires(shop, running) -> None:
    shop.write(
        WARNED + '\nsx.policy("not that", when="context.break_glass", then="deny", absolute=True)\n'
    )
    with shop.open() as p, pytest.raises(Denied, match="not that"):
        running(p, break_glass="the board meets")


def test_a_deny_on_what_the_checks_refused_leaves_the_evidence(shop, running) -> None:
    """The run failed after it had published the rest, and what was refused was not kept."""
    shop.write(ORDERS + deny("context.checks_failed > 0"))
    with shop.open() as p:
        report = running(p)
        assert report.state == "refused"
        (rejected,) = report.rejected.values()
        assert p.runs.releases.get(rejected).state == "rejected"
        refused = p.runs.releases.get(rejected).moves[0].target
        with pytest.raises(Denied, match="not that"):
            p.runs.release(
                "dev", p.core.assets.find("orders"), version=refused, by=p.core.authorization.who()
            )
