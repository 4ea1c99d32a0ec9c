"""Stories that went wrong once: each names what a user would have met."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
from sextant.app import environments
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sextant import testing
from sextant.app.keeping import collect
from sextant.engine.plan import Request, _before
from sextant.kernel.errors import Conflict, Denied, NotFound, UsageError
from sextant.kernel.nouns import Principal

HEAD = (
    "import polars as pl\nimport sextant as sx\nsx.project('shop', tz='UTC')\ndays = "
    "sx.daily(start='2026-01-01', end='2026-01-04')\n"
)
ORDERS = """
@sx.dataset(partition=days, key="id", time="at", keep="1d")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "at": [day.start] * 3, "amount": [PRICE] * 3})
"""
AT = datetime(2026, 1, 10, 12, tzinfo=UTC)


def project(tail: str = "", price: str = "1.0") -> dict[str, str]:
    return {"ops.py": HEAD + ORDERS.replace("PRICE", price) + tail}


def edit(p, files: dict[str, str]) -> None:
    for name, text in files.items():
        (p.core.project.root / name).write_text(text)
    p.core.project.load()


AUDITED = """
@sx.dataset(partition=days, key="id", checks=[sx.row_count(0, ROWS_MAX, scope="table")])
def audited(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(ROWS)]})

@sx.dataset(partition=days, key="id")
def copied(audited: pl.DataFrame) -> pl.DataFrame:
    return audited

@sx.dataset()
def counted(audited: pl.DataFrame) -> pl.DataFrame:
    return audited.select(n=pl.len())

@sx.dataset(partition=days, checks=[sx.foreign_key("id", to="audited.id")])
def compared(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(ROWS)]})
"""


def audited(rows: int, rows_max: int = 6) -> dict[str, str]:
    return {"ops.py": HEAD + f"ROWS = {rows}\n" + AUDITED.replace("ROWS_MAX", str(rows_max))}


def test_what_the_whole_tables_checks_refuse_is_not_read() -> None:
    """Derived tables would go live on rows that were refused."""
    names = {f"dataset:{name}" for name in ("audited", "copied", "counted", "compared")}
    with testing.platform(audited(rows=2), at=AT) as p:
        assert p.runs.run("dev", Request(), by=p.core.authorization.who()).state == "finished"
        good = {name: p.core.versions.live_version("dev", name) for name in names}
        assert all(good.values())
        edit(p, audited(rows=3))  # nine rows in three days: each day is fine, the table is not
        report = p.runs.run("dev", Request(stale=True), by=p.core.authorization.who())
        assert report.state == "refused"
        assert report.published == {}
        assert {name: p.core.versions.live_version("dev", name) for name in names} == good
        edit(p, audited(rows=3, rows_max=9))
        report = p.runs.run("dev", Request(stale=True), by=p.core.authorization.who())
        assert set(report.published) == names, "what passes is read"


def test_an_expired_version_is_neither_released_nor_read() -> None:
    """A release would go live whose rows are gone."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        old = p.core.versions.live_version("dev", "dataset:orders")
        p.core.clock.wait(3600)
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.core.clock.wait(3 * 86400)
        assert collect(p.core, p.runs.bundles)["expire"] == [f"dataset:orders@{old[:12]}"]
        with pytest.raises(NotFound, match="expired"):
            p.runs.release(
                "dev", p.core.assets.find("orders"), version=old, by=p.core.authorization.who()
            )
        with pytest.raises(NotFound, match="expired"):
            views(p).show("dev", "orders", as_of=old)
        with pytest.raises(NotFound, match="expired"):
            p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="too late")


def test_time_travel_says_the_same_after_a_rollback() -> None:
    """What was live at an instant would change with what is undone later."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        p.core.clock.wait(3600)
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        bad = p.core.versions.live_version("dev", "dataset:orders")
        environments.create(p.core, "pr", "dev")
        p.core.clock.wait(3600)
        between = (AT + timedelta(hours=1, minutes=30)).isoformat()
        assert version_as_of(p.core, "dev", "dataset:orders", between).digest == bad
        assert version_as_of(p.core, "pr", "dataset:orders", between).digest == bad
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="prices")
        assert version_as_of(p.core, "dev", "dataset:orders", between).digest == bad


def test_a_kpi_has_one_meaning_at_a_time() -> None:
    """Some days would be counted by one definition and some by another."""
    kpi = "\nrevenue = sx.kpi('revenue', of=orders, measure='{}')\n"
    with testing.platform(project(kpi.format("sum(amount)")), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(kpi.format("sum(amount) * 100")))
        p.runs.run(
            "dev", Request(partitions=("2026-01-02", "2026-01-02")), by=p.core.authorization.who()
        )
        assert [row["value"] for row in views(p).kpi("dev", "revenue", grain="1d")["rows"]] == [
            300,
            300,
            300,
        ]
        p.runs.undo("dev", "kpi:revenue", by=p.core.authorization.who(), reason="not what we mean")
        assert {row["value"] for row in views(p).kpi("dev", "revenue", grain="1d")["rows"]} == {3}


def test_what_was_undone_does_not_come_back_through_a_child() -> None:
    """An environment made for a try would bring the bad rows back into the one they were taken
    from."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev",
            Request(assets=("dataset:orders",), partitions=("2026-01-02", "2026-01-02")),
            by=p.core.authorization.who(),
        )
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="prices")
        environments.create(p.core, "pr", "dev")
        assert p.runs.plan("pr", Request(assets=("dataset:orders",), stale=True)).held == {
            "dataset:orders": ("2026-01-02",)
        }


def test_a_good_forced_run_ends_the_hold() -> None:
    """Mended rows would be called held for ever."""
    with testing.platform(project(price="len(open('/dev/null').read())"), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="prices")
        p.runs.run(
            "dev",
            Request(assets=("dataset:orders",), force=True),
            by=p.core.authorization.who(),
            break_glass="they are right after all",
        )
        assert p.runs.plan("dev", Request()).held == {}


def test_days_of_a_window_are_days_of_the_calendar() -> None:
    """A week over a change of clocks would lose a day."""
    berlin = ZoneInfo("Europe/Berlin")
    assert _before(datetime(2026, 10, 27, tzinfo=berlin), "7d") == datetime(
        2026, 10, 20, tzinfo=berlin
    )
    assert _before(datetime(2026, 10, 25, 12, tzinfo=berlin), "24h") == datetime(
        2026, 10, 24, 13, tzinfo=berlin
    )


def test_a_mistyped_static_partition_is_refused() -> None:
    """It would quietly run all of them."""
    files = {
        "ops.py": HEAD
        + (
            "\n@sx.dataset(partition=sx.static('north', 'south'))\ndef reg(p: sx.Partition) -> "
            "pl.DataFrame:\n    return pl.DataFrame({'a': [p.key]})\n"
        )
    }
    with testing.platform(files, at=AT) as p, pytest.raises(UsageError, match="nrth"):
        p.runs.plan("dev", Request(assets=("dataset:reg",), partitions=("nrth", "nrth")))


def test_only_a_release_can_wait_for_approval() -> None:
    """A rule that asks for a second pair of eyes on an erasure would let it pass."""
    rule = (
        "\nsx.policy('two for an erasure', when=\"verb == 'erase'\", then=sx.approval(2, "
        "of=sx.team('sec')))\n"
    )
    with (
        testing.platform(project(rule), at=AT) as p,
        pytest.raises(Denied, match="two for an erasure"),
    ):
        p.core.authorization.allow(p.core.authorization.who(), "erase", None, "")


def test_nobody_approves_what_his_agent_proposed() -> None:
    """One person would be two pairs of eyes."""
    with testing.platform(project(), at=AT) as p:
        agent = Principal(name="bot", kind="agent", on_behalf_of="alice")
        p.runs.project.move("prod", by=p.who())
        p.runs.run("prod", Request(), by=agent)
        (waiting,) = p.runs.releases.open()
        with pytest.raises(Denied, match="second pair|cannot approve"):
            p.runs.releases.approve(waiting.id, Principal(name="alice"))
        assert p.runs.releases.approve(waiting.id, Principal(name="bob")).state == "live"


def test_a_dropped_environment_leaves_nothing_behind() -> None:
    """A new one of the same name would begin with the holds of the old."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        environments.create(p.core, "pr", "dev")
        edit(p, project(price="2.0"))
        p.runs.run(
            "pr", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.runs.undo("pr", "dataset:orders", by=p.core.authorization.who(), reason="a try")
        assert p.core.state.read("held", ("pr",))
        environments.drop(p.core, p.runs, "pr")
        assert not p.core.state.read("held", ("pr",))
        assert not p.core.state.read("withdrawn", ("pr",))


def test_made_again_is_up_to_date_for_a_fresh_process_too() -> None:
    """The same rows from newer code would be called stale by every process but the one that made
    them."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        edit(p, project(price="0.5 + 0.5"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.core.versions._maps.clear()
        plan = p.runs.plan("dev", Request())
        assert (plan.steps, plan.stale) == ((), {})


def test_conflicts_are_still_conflicts() -> None:
    """An undo twice over would be taken for a new one."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="prices")
        with pytest.raises(Conflict):
            p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="again")


def test_what_a_table_costs_is_not_forgotten_by_an_undo() -> None:
    """A plan would say of a table made a hundred times that its cost is not known."""
    with testing.platform(project(), at=AT) as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        edit(p, project(price="2.0"))
        p.runs.run(
            "dev", Request(assets=("dataset:orders",), stale=True), by=p.core.authorization.who()
        )
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="prices")
        edit(p, project(price="3.0"))
        assert (
            p.runs.plan("dev", Request(assets=("dataset:orders",), stale=True)).steps[0].seconds
            is not None
        )
