"""What runs promise, on a small project in a folder: from an edited file to what is live, and back."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

import sextant
from sextant.engine.leases import Leases
from sextant.engine.plan import Request
from sextant.kernel.errors import Busy, Conflict, Denied, NotFound, StorageError, UserError

SRC = str(Path(sextant.__file__).parents[1])

ORDERS = '''
bad_days = ["2026-01-03"]

@sx.dataset(partition=days, key="id", checks=[sx.between("amount", 0, 100)])
def orders(day: sx.Partition) -> pl.DataFrame:
    high = 500.0 if day.key in bad_days else 1.0
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [high, 2.0, 3.0]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)
'''


def parts(p, env, name):
    return {key: part.digest for key, part in p.versions.parts(f"dataset:{name}", p.versions.live_version(env, f"dataset:{name}")).items()}


def test_what_was_refused_is_refused_again(shop, running) -> None:
    """The memo would publish rows that the checks had refused, because it had seen them before."""
    shop.write(ORDERS)
    with shop.open() as p:
        first = running(p)
        assert (first.state, first.exit_code) == ("refused", 1)
        assert parts(p, "dev", "orders") == {}, "a step is one month; nothing of it is live"
        second = running(p)
        assert second.state == "refused"
        assert parts(p, "dev", "orders") == {}
        shop.edit('["2026-01-03"]', "[]")
        p.load()
        assert running(p).state == "finished"
        assert sorted(parts(p, "dev", "orders")) == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


def test_refused_rows_do_not_come_back_beside_new_ones(shop, running) -> None:
    """A version's digest changes with every new day: what was refused must be known by partition, not by version."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        shop.edit('end="2026-01-05"', 'end="2026-01-06"')
        p.load()
        assert running(p).state == "refused"
        assert "2026-01-03" not in parts(p, "dev", "orders")


def test_made_in_one_environment_is_not_made_again_in_another(shop, running) -> None:
    """The same code on the same inputs would be paid for twice."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        made = running(p, "dev")
        again = running(p, "prod")
        assert (made.computed, again.computed, again.reused) == (2, 0, 2)
        assert parts(p, "prod", "doubled") == parts(p, "dev", "doubled") != {}
        assert p.versions.live_version("prod", "dataset:doubled") == p.versions.live_version("dev", "dataset:doubled")
        assert p.views.count("prod", "doubled") == 12


def test_part_of_another_environments_table(shop, running) -> None:
    """A table that begins with some of another one's partitions must not come with all of them."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p, "dev")
        report = running(p, "prod", partitions=("2026-01-02", "2026-01-03"))
        assert report.computed == 0
        assert sorted(parts(p, "prod", "orders")) == ["2026-01-02", "2026-01-03"]
        assert p.views.count("prod", "orders") == 6
        assert p.views.frame(p.views.resolve("prod", "dataset:orders", ""))["id"].str.head(10).unique().sort().to_list() == ["2026-01-02", "2026-01-03"]


def test_held_partitions_do_not_come_back_through_the_memo(shop, running) -> None:
    """An input that is made again to the same content must not bring back what was undone."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        good = parts(p, "dev", "doubled")
        shop.edit("* 2)", "* 3)")
        p.load()
        assert running(p, "dev", stale=True).computed == 1
        bad = parts(p, "dev", "doubled")
        p.runs.undo("dev", "dataset:doubled", by=p.who(), reason="three is wrong")
        assert parts(p, "dev", "doubled") == good
        assert running(p).computed == 0
        assert p.runs.plan("dev", Request()).held == {"dataset:doubled": ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")}
        report = running(p, "dev", "dataset:orders", force=True)
        assert report.computed == 1
        assert parts(p, "dev", "doubled") == good != bad
        shop.edit("* 3)", "* 4)")
        p.load()
        assert running(p, "dev", stale=True).computed == 1, "new code is not held"
        assert parts(p, "dev", "doubled") not in (good, bad)


def test_unhold_lets_it_come_back(shop, running) -> None:
    """A person must be able to lift the mark."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        shop.edit("* 2)", "* 3)")
        p.load()
        running(p, "dev", stale=True)
        bad = p.versions.live_version("dev", "dataset:doubled")
        p.runs.undo("dev", "dataset:doubled", by=p.who(), reason="wrong")
        with pytest.raises(Conflict, match="withdrawn"):
            p.runs.release("dev", p.asset("doubled"), version=bad, by=p.who())
        p.releases.unhold("dev", "dataset:doubled", bad, p.who())
        assert p.runs.release("dev", p.asset("doubled"), version=bad, by=p.who()).state == "live"
        assert p.versions.live_version("dev", "dataset:doubled") == bad


TWO = '''
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [ORDER]})

@sx.dataset(partition=days, key="id")
def stock(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "pieces": [STOCK]})
'''


def test_two_assets_of_one_release_are_undone_one_after_the_other(shop, running) -> None:
    """One release brought both; undoing one must not make the other impossible to undo."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        before = {name: parts(p, "dev", name) for name in ("orders", "stock")}
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 2")
        p.load()
        assert running(p, "dev", stale=True).computed == 2
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong")
        assert parts(p, "dev", "orders") == before["orders"]
        assert parts(p, "dev", "stock") != before["stock"], "only what was asked for"
        p.runs.undo("dev", "dataset:stock", by=p.who(), reason="wrong too")
        assert parts(p, "dev", "stock") == before["stock"]


def test_an_undo_undone_does_not_bring_the_bad_version_back(shop, running) -> None:
    """Twice `rollback` is not `redo`: what was withdrawn stays withdrawn until somebody says so."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", stale=True)
        bad = p.versions.live_version("dev", "dataset:orders")
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong")
        with pytest.raises(Conflict, match="brought back by an undo"):
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="again")
        assert p.versions.live_version("dev", "dataset:orders") != bad


def test_undo_restores_only_what_the_bad_version_changed(shop, running) -> None:
    """A later good write to other days would be lost with the bad one."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p, "dev", partitions=("2026-01-01", "2026-01-02"))
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", "dataset:orders", partitions=("2026-01-02", "2026-01-02"))
        bad = p.versions.live_version("dev", "dataset:orders")
        wrong = parts(p, "dev", "orders")
        running(p, "dev", "dataset:orders", partitions=("2026-01-03", "2026-01-03"))
        later = parts(p, "dev", "orders")
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong", version=bad)
        now = parts(p, "dev", "orders")
        assert now["2026-01-02"] not in (wrong["2026-01-02"], None)
        assert now["2026-01-03"] == later["2026-01-03"], "the later write stays"
        assert now["2026-01-01"] == later["2026-01-01"]
        assert p.runs.plan("dev", Request(assets=("dataset:orders",), partitions=("2026-01-02", "2026-01-02"))).held == {"dataset:orders": ("2026-01-02",)}
        with pytest.raises(NotFound):
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="x", version="abcdef")


def test_a_later_write_to_the_same_partition_is_a_conflict(shop, running) -> None:
    """Undoing under somebody's newer write would lose that write without a word."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        first = p.versions.live_version("dev", "dataset:orders")
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "dev", stale=True)
        live = parts(p, "dev", "orders")
        with pytest.raises(Conflict, match="2026-01-01") as caught:
            p.runs.undo("dev", "dataset:orders", by=p.who(), reason="x", version=first)
        assert "undo the later release first" in caught.value.hint
        assert parts(p, "dev", "orders") == live


CUT = '''
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "amount": [1, 2, 3]})

@sx.dataset(partition=days, key="id")
def cleaned(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") + 0)

@sx.dataset(partition=days, key="id")
def shown(cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned

@sx.dataset(key="day")
def total(cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned.group_by(day=pl.col("id").str.head(10)).agg(pl.col("amount").sum()).sort("day")
'''


def test_early_cut_off(shop, running) -> None:
    """An edit that changes nothing would recompute everything behind it, again and again."""
    shop.write(CUT)
    with shop.open() as p:
        assert running(p).computed == 4
        before = {name: p.versions.live_version("dev", f"dataset:{name}") for name in ("orders", "cleaned", "shown", "total")}
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") * 1')
        p.load()
        assert set(p.runs.plan("dev", Request()).stale) == {"dataset:cleaned"}
        report = running(p, "dev", stale=True)
        assert (report.computed, report.reused, report.published) == (1, 2, {})
        assert before == {name: p.versions.live_version("dev", f"dataset:{name}") for name in before}
        plan = p.runs.plan("dev", Request())
        assert (plan.steps, plan.stale) == ((), {}), "and it is not offered again"
        shop.edit('pl.col("amount") * 1', 'pl.col("amount") * 2')
        p.load()
        report = running(p, "dev", stale=True)
        assert report.computed == 3
        assert set(report.published) == {"dataset:cleaned", "dataset:shown", "dataset:total"}


def test_a_backfill_makes_what_the_days_would_have_made(shop, running, tmp_path_factory) -> None:
    """A range would make other content than its days: another version for the same data."""
    digests = {}
    for way in ("days", "range", "both"):
        root = tmp_path_factory.mktemp(way)
        project = type(shop)(root)
        project.write(CUT)
        with project.open() as p:
            if way != "range":
                for n in (1, 2) if way == "both" else (1, 2, 3, 4):
                    day = f"2026-01-0{n}"
                    running(p, "dev", partitions=(day, day))
            if way != "days":
                running(p, "dev", partitions=("2026-01-01", "2026-01-04"))
            digests[way] = {name: p.versions.live_version("dev", f"dataset:{name}") for name in ("orders", "cleaned", "shown", "total")}
    assert digests["days"] == digests["range"] == digests["both"]


WHOLE = '''
calls = []

@sx.dataset(partition=days, key="id", time="at", whole_range=True)
def orders(day: sx.Partition) -> pl.DataFrame:
    hours = pl.datetime_range(day.start, day.end, "6h", closed="left", time_zone="UTC", eager=True)
    return pl.DataFrame({"id": hours.dt.to_string("%Y-%m-%d %H"), "at": hours})
'''


def test_a_whole_range_in_one_call(shop, running, tmp_path_factory) -> None:
    """A source that can read a month at once would be called thirty times; or its rows land in the wrong day."""
    shop.write(WHOLE)
    with shop.open() as p:
        report = running(p)
        assert (report.computed, report.rows) == (1, 16)
        assert {part.rows for part in p.versions.parts("dataset:orders", report.published["dataset:orders"]).values()} == {4}
        whole = parts(p, "dev", "orders")
    other = type(shop)(tmp_path_factory.mktemp("single"))
    other.write(WHOLE)
    with other.open() as p:
        running(p, "dev", partitions=("2026-01-02", "2026-01-02"))
        assert parts(p, "dev", "orders")["2026-01-02"] == whole["2026-01-02"]


def test_rows_outside_their_partition_are_refused(shop, running) -> None:
    """They would be published into a day where nobody looks for them."""
    shop.write(WHOLE)
    shop.edit('closed="left"', 'closed="both"')
    with shop.open() as p:
        report = running(p)
        assert (report.state, report.exit_code) == ("failed", 3)
        assert "2026-01-05" in report.failed[0].error
        line = (shop.root / "ops.py").read_text().splitlines().index('@sx.dataset(partition=days, key="id", time="at", whole_range=True)') + 1
        assert report.failed[0].where == f"ops.py:{line}", "where the asset is declared"
        assert parts(p, "dev", "orders") == {}


def test_retries(shop, running) -> None:
    """A flaky source would fail the whole night."""
    shop.write('''
    from pathlib import Path
    @sx.dataset(retries=2, backoff="0.01s")
    def flaky(context: sx.Context) -> pl.DataFrame:
        if context.attempt < 3:
            raise OSError("the source is down")
        return pl.DataFrame({"attempt": [context.attempt], "key": [context.key]})
    ''')
    with shop.open() as p:
        report = running(p)
        assert report.state == "finished"
        assert p.views.show("dev", "flaky")["sample"] == [{"attempt": 3, "key": f"{report.id}/dataset:flaky[all]/all"}]
        steps = p.views.run(report.id)["steps_recorded"]
        assert [(s.get("attempt", 1), s.get("ok", True)) for s in steps] == [(1, False), (2, False), (3, True)]


# ---------------------------------------------------------------- environments


def test_an_environment_of_ones_own(shop, running) -> None:
    """A try-out would change what others see, or cost a copy of everything."""
    shop.write(CUT)
    with shop.open() as p:
        running(p, "prod")
        p.create_env("pr-1", "prod")
        lake = sum(1 for _ in p.lake.root.rglob("*.parquet"))
        assert p.views.env_diff("prod", "pr-1")["assets"] == []
        assert running(p, "pr-1").id == "", "everything is there already"
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.load()
        assert running(p, "pr-1", stale=True).computed == 3
        found = {e["asset"]: e for e in p.views.env_diff("prod", "pr-1")["assets"]}
        assert set(found) == {"dataset:cleaned", "dataset:shown", "dataset:total"}
        assert found["dataset:cleaned"]["code_changed"]
        assert p.views.count("prod", "total") == 4
        assert p.views.frame(p.views.resolve("prod", "dataset:total", ""))["amount"].to_list() == [6] * 4
        assert p.views.frame(p.views.resolve("pr-1", "dataset:total", ""))["amount"].to_list() == [21] * 4
        assert sum(1 for _ in p.lake.root.rglob("*.parquet")) > lake > 0
        for name in ("cleaned", "shown", "total"):
            assert p.runs.release("prod", p.asset(name), source="pr-1", by=p.who()).state == "live"
        assert p.views.env_diff("prod", "pr-1")["assets"] == []
        with pytest.raises(Conflict, match="live in `prod` already"):
            p.runs.release("prod", p.asset("total"), source="pr-1", by=p.who())
        p.drop_env("pr-1")
        assert p.views.frame(p.views.resolve("prod", "dataset:total", ""))["amount"].to_list() == [21] * 4


def test_an_environment_stays_while_a_release_is_open_in_it(shop, running) -> None:
    """A release that is approved later would move pointers of an environment that is gone."""
    shop.write("sx.policy('eyes', when=\"verb == 'release' && env == 'pr-1'\", then=sx.approval(1, of=ops))\n" + CUT)
    with shop.open() as p:
        p.create_env("pr-1", "dev")
        waiting = running(p, "pr-1").waiting
        assert waiting
        with pytest.raises(Conflict, match=waiting):
            p.drop_env("pr-1")
    with shop.open("bob") as p:
        p.releases.approve(waiting, p.who(), deny=True)
        p.drop_env("pr-1")


def test_unpacked_bundles_that_nobody_uses_go(shop, running) -> None:
    """Every edit would leave a copy of the project for ever; or a run would lose the code it runs."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
        old = p.bundle_folder(p.manifest().bundle)
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.load()
        running(p, stale=True)
        new = p.bundle_folder(p.manifest().bundle)
        assert old != new
        assert p.collect_bundles(old.stat().st_mtime_ns) == 0, "it was used since"
        assert p.collect_bundles(1 << 62) > 0
        assert [path.name for path in new.parent.iterdir()] == [new.name]
        assert (p.bundle_folder(old.name) / "ops.py").exists(), "one that is wanted again comes back"


def test_a_closed_platform_is_let_go(shop) -> None:
    """A process that opens many projects would grow with each."""
    shop.write(CUT)
    shop.open().close()  # what the first one of a process finds stays
    p = shop.open()
    p.close()
    ref = weakref.ref(p)
    del p
    shop.open().close()
    gc.collect()
    assert ref() is None


def test_publishing_from_another_environment_rebases(shop, running) -> None:
    """What prod got meanwhile would be lost by a release from a branch; or overwritten without a word."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p, "prod", "dataset:orders", partitions=("2026-01-01", "2026-01-02"))
        p.create_env("pr-1", "prod")
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.load()
        running(p, "pr-1", "dataset:orders", partitions=("2026-01-02", "2026-01-02"))
        mine = parts(p, "pr-1", "orders")
        running(p, "prod", "dataset:orders", partitions=("2026-01-03", "2026-01-03"))
        meanwhile = parts(p, "prod", "orders")
        assert p.runs.release("prod", p.asset("orders"), source="pr-1", by=p.who()).state == "live"
        assert parts(p, "prod", "orders") == {"2026-01-01": meanwhile["2026-01-01"], "2026-01-02": mine["2026-01-02"], "2026-01-03": meanwhile["2026-01-03"]}
        assert p.views.count("prod", "orders") == 3

        running(p, "pr-1", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        shop.edit("ORDER, STOCK = 2, 1", "ORDER, STOCK = 3, 1")
        p.load()
        running(p, "prod", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        live = parts(p, "prod", "orders")
        with pytest.raises(Conflict, match="2026-01-01"):
            p.runs.release("prod", p.asset("orders"), source="pr-1", by=p.who())
        assert parts(p, "prod", "orders") == live


# ---------------------------------------------------------------- gates, people, what others do


def test_a_relaxed_check_lets_the_same_rows_through(shop, running) -> None:
    """What was refused once would be refused for ever, though its check was wrong."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        shop.edit("0, 100", "0, 1000")
        p.load()
        report = running(p)
        assert report.state == "finished"
        assert len(parts(p, "dev", "orders")) == 4
        assert p.views.show("dev", "orders")["refused"] == []
        assert running(p, "prod").state == "finished"


def test_breaking_the_glass(shop, running) -> None:
    """An emergency would find the door locked; or leave no trace."""
    shop.write(ORDERS)
    with shop.open() as p:
        running(p)
        report = running(p, "dev", break_glass="the board meets in ten minutes")
        assert report.state == "finished"
        assert len(parts(p, "dev", "orders")) == 4
        signals = [s for s in p.views.signals().items if not s["closed_at"]]
        assert [s["kind"] for s in signals] == ["glass.broken"]
        assert "the board meets" in signals[0]["message"]
        assert "owner ops" in signals[0]["message"]
        release = p.releases.get(report.release)
        assert release.broke_glass == "the board meets in ten minutes"


FREEZE = ORDERS + '''
sx.policy("nobody runs orders now", when="verb == 'run' && asset.name == 'orders'", then="deny")
sx.policy("freeze", when="verb == 'release' && env == 'dev'", then="deny")
sx.policy("never this one", when="verb == 'run' && env == 'prod'", then="deny", absolute=True)
'''


def test_breaking_the_glass_passes_a_deny_and_says_so(shop, running) -> None:
    """A freeze would hold even while the house burns; or somebody passes it and nobody ever hears of it."""
    shop.write(FREEZE)
    with shop.open() as p:
        with pytest.raises(Denied, match="nobody runs orders now"):
            running(p)
        report = running(p, "dev", break_glass="the house burns")
        assert report.state == "finished"
        release = p.releases.get(report.release)
        assert (release.state, release.passed, release.broke_glass) == ("live", ("freeze",), "the house burns")
        told = sorted((e["subject"], e["data"]["verb"], *e["data"]["rules"], e["data"]["reason"]) for e in p.views.events(kind="decision.overridden").items)
        assert told == [
            ("dataset:doubled", "release", "freeze", "the house burns"), ("dataset:orders", "release", "freeze", "the house burns"),
            ("dataset:orders", "run", "nobody runs orders now", "the house burns"),
        ]  # fmt: skip
        signals = [s for s in p.views.signals().items if not s["closed_at"]]
        assert {(s["kind"], s["severity"]) for s in signals} == {("glass.broken", "error")}
        assert all("past the policy that denies it" in s["message"] and "owner ops" in s["message"] for s in signals)


def test_an_undo_past_a_deny(shop, running) -> None:
    """Whoever is awake at night could not take back what another team broke; or nobody would learn that he did."""
    shop.write(CUT + '''
sx.policy("only by day", when="verb == 'rollback'", then="deny")
sx.policy("freeze", when="verb == 'release' && context.intent == 'undo' && asset.name == 'cleaned'", then="deny")
''')
    with shop.open() as p:
        running(p)
        good = p.versions.live_version("dev", "dataset:cleaned")
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.load()
        running(p, "dev", stale=True)
        with pytest.raises(Denied, match="only by day"):
            p.runs.undo("dev", "dataset:cleaned", by=p.who(), reason="five is wrong")
        report = p.runs.undo("dev", "dataset:cleaned", by=p.who(), reason="five is wrong", break_glass="it is night")
        release = p.releases.get(report.release)
        assert (release.intent, release.passed, release.broke_glass) == ("undo", ("freeze",), "it is night")
        assert p.versions.live_version("dev", "dataset:cleaned") == good
        told = sorted((e["subject"], e["data"]["verb"], *e["data"]["rules"]) for e in p.views.events(kind="decision.overridden").items)
        assert told == [("dataset:cleaned", "release", "freeze"), ("dataset:cleaned", "rollback", "only by day")]
        assert {s["kind"] for s in p.views.signals(open_only=True).items} == {"glass.broken"}


def test_an_absolute_deny_holds_when_the_glass_breaks(shop, running) -> None:
    """What must never be, whatever the reason, would be one option away."""
    shop.write(FREEZE)
    with shop.open() as p, pytest.raises(Denied, match="never this one"):
        running(p, "prod", break_glass="the house burns")
    with shop.open() as p:
        assert not p.views.signals().items, "nothing was done, and nothing is to be reviewed"


def test_a_second_pair_of_eyes(shop, running) -> None:
    """A release that needs approval would go live without; or never."""
    shop.write(CUT + '''
sx.policy("eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=ops))
''')
    with shop.open("ann") as p:
        report = running(p, "prod")
        assert report.waiting
        assert p.versions.live_version("prod", "dataset:orders") == ""
        with pytest.raises(Denied, match="cannot approve"):
            p.releases.approve(report.waiting, p.who())
        again = running(p, "prod")
        assert (again.computed, again.waiting) == (0, report.waiting), "what waits is not made and proposed twice"
    with shop.open("mallory") as p, pytest.raises(Denied, match="not in team"):
        p.releases.approve(report.waiting, p.who())
    with shop.open("bob") as p:
        assert p.releases.approve(report.waiting, p.who()).state == "live"
        assert p.views.count("prod", "orders") == 12
        p.runs.undo("prod", "dataset:cleaned", by=p.who(), reason="an undo asks nobody")


def test_what_waits_on_bad_data_does_not_go_live(shop, running) -> None:
    """A derived table that waits for its approval would go live after what it was made from was undone."""
    shop.write(CUT + '''
sx.policy("eyes", when="verb == 'release' && env == 'prod' && asset.name == 'total'", then=sx.approval(1, of=ops))
''')
    with shop.open("ann") as p, shop.open("bob") as other:
        assert other.releases.approve(running(p, "prod").waiting, other.who()).state == "live"
        good = p.versions.live_version("prod", "dataset:total")
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.load()
        running(p, "prod", "dataset:cleaned", stale=True, downstream=False)
        waiting = running(p, "prod", "dataset:total").waiting
        assert waiting
        p.runs.undo("prod", "dataset:cleaned", by=p.who(), reason="five is wrong", downstream=False)
        done = other.releases.approve(waiting, other.who())
        assert (done.state, p.versions.live_version("prod", "dataset:total")) == ("rejected", good)
        assert "rolled back meanwhile" in done.reason


KPI = CUT + '''
per_order = sx.kpi("per_order", of=orders, measure="sum(amount) / count(*)", grain="1d")
'''


def test_a_definition_changes_and_is_undone(shop, running) -> None:
    """A number would change its meaning unseen, or keep the new values under the old meaning."""
    shop.write(KPI.replace('key="id")\ndef orders', 'key="id", time="at")\ndef orders').replace('"amount": [1, 2, 3]}', '"amount": [1, 2, 3], "at": [day.start] * 3}'))
    with shop.open() as p:
        running(p)

        def value() -> float:
            return p.views.kpi("dev", "per_order")["rows"][0]["value"]

        assert value() == 2.0
        first = p.versions.live_version("dev", "kpi:per_order")
        shop.edit("sum(amount) / count(*)", "max(amount)")
        p.load()
        report = running(p)
        assert {"kpi:per_order", "dataset:kpi_per_order"} <= set(report.published)
        assert value() == 3.0
        second = p.versions.live_version("dev", "kpi:per_order")
        p.runs.undo("dev", "kpi:per_order", by=p.who(), reason="not what we mean")
        assert p.versions.live_version("dev", "kpi:per_order") == first
        assert value() == 2.0
        assert running(p).published == {}, "undone stays undone"
        shop.edit("max(amount)", "min(amount)")
        p.load()
        running(p)
        assert value() == 1.0
        with pytest.raises((Conflict, NotFound)):
            p.runs.undo("dev", "kpi:per_order", by=p.who(), reason="x", version=second)
        assert value() == 1.0


def test_what_others_do_is_part_of_the_answer(shop, running) -> None:
    """A deployment by another tool would be missing when one asks why."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
        done = p.report("dev", "release", "service:checkout", version="v42", upstream=("dataset:total",), owner="web")
        assert done["new"]
        bad = p.report("dev", "run", "service:checkout", state="failed", message="timeout", cause=done["event"])
        assert not bad["new"]
        assert p.asset("service:checkout").mode == "observed"
        assert [s["asset"] for s in p.views.signals().items] == ["service:checkout"]
        assert "service:checkout" in {a["id"] for a in p.views.graph(downstream="dataset:orders")["assets"]}
        with pytest.raises(UserError, match="managed"):
            p.report("dev", "release", "dataset:total")
        with pytest.raises(NotFound, match="no event"):
            p.report("dev", "release", "service:checkout", cause="ev_nothing")


def test_a_broken_edit_keeps_the_last_good_state(shop, running) -> None:
    """One typo would stop everything that runs."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
    shop.edit("def shown(cleaned:", "def shown(cleand:")
    with shop.open() as p:
        assert p.load_problem is not None
        assert "cleand" in p.load_problem.message
        assert p.views.count("dev", "shown") == 12
        assert running(p).state == "finished"
        p.load()
        assert [s["kind"] for s in p.views.signals().items if not s["closed_at"]] == ["project.broken"], "once, not at every look"
        shop.edit("def shown(cleand:", "def shown(cleaned:")
        p.load()
        assert p.load_problem is None, "an open platform sees that it is mended"
    with shop.open() as p:
        assert p.load_problem is None
        assert [s for s in p.views.signals().items if not s["closed_at"]] == [], "and it is over when it is over"


# ---------------------------------------------------------------- two processes, crashes

HOLDER = """
import sys, threading
from sextant.app.config import read_config
from sextant.app.platform import LocalPlatform
from sextant.engine.leases import Leases
from pathlib import Path
with LocalPlatform(read_config(Path(sys.argv[1])), load=False) as p, Leases(p.state, p.clock, "run_of_another", ["dev/dataset:orders"]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes(shop, running) -> None:
    """Both would write the same table; or a dead one would block the living for half a minute."""
    shop.write(CUT)
    with shop.open() as p:
        other = subprocess.Popen([sys.executable, "-c", HOLDER, str(shop.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": SRC})
        assert other.stdout is not None
        assert other.stdin is not None
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(Busy) as caught:
                running(p)
            assert f"pid {other.pid}" in caught.value.message
            assert "run_of_another" in caught.value.message
            assert "dataset:orders" in caught.value.message
            assert parts(p, "dev", "orders") == {}
        finally:
            other.kill()
            other.wait()
            other.stdin.close()
            other.stdout.close()
        assert running(p).state == "finished", "a dead holder is taken over at once"


def test_a_run_that_died_is_taken_up(shop, running, monkeypatch) -> None:
    """What a crashed run had made would be made again, or never be published."""
    shop.write(CUT)
    with shop.open() as p:

        def dies(*_a: object, **_k: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(p.publisher, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            running(p)
    with shop.open() as p:
        assert len(p.state.read("runs_open")) == 1
        assert parts(p, "dev", "total") == {}
        report = running(p)
        assert report.id == "", "taking up the old run did everything"
        run = p.views.runs().items[0]
        assert (run["state"], run.get("computed", 0), run["reused"]) == ("finished", 0, 4)
        assert p.views.run(run["id"])["seal_ok"]
        assert p.views.count("dev", "total") == 4
        assert p.state.read("runs_open") == []


def test_a_forced_run_that_died_is_taken_up_as_forced(shop, running, monkeypatch) -> None:
    """The resumed run would forget that it was forced, and drop what it had made."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO.replace('"amount": [ORDER]', '"amount": [len(list(__import__("pathlib").Path(COUNT).iterdir()))]').replace("@sx", f"COUNT = {str(shop.root / 'count')!r}\n@sx", 1))
    (shop.root / "count").mkdir()
    with shop.open() as p:
        running(p, "dev", "dataset:orders")
        before = parts(p, "dev", "orders")
        (shop.root / "count" / "one").touch()
        publish = p.publisher.publish
        monkeypatch.setattr(p.publisher, "publish", lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            running(p, "dev", "dataset:orders", force=True)
        monkeypatch.setattr(p.publisher, "publish", publish)
        (shop.root / "count" / "two").touch()
        running(p)
        assert parts(p, "dev", "orders") != before
        assert p.views.frame(p.views.resolve("dev", "dataset:orders", ""))["amount"].unique().to_list() == [1], "what it had made, not made again"


def test_a_lost_lease(shop, running, monkeypatch) -> None:
    """After a long sleep of the machine two processes would end one run, and publish it twice."""
    shop.write(CUT)
    leases: list[Leases] = []
    enter = Leases.__enter__
    monkeypatch.setattr(Leases, "__enter__", lambda self: leases.append(self) or enter(self))
    with shop.open() as p:
        with pytest.raises(Busy, match="another process took over"):
            running(p, "dev", progress=lambda _t, _d: setattr(leases[-1], "lost", True))
        assert parts(p, "dev", "orders") == {}
        assert len(p.state.read("runs_open")) == 1, "it is the other's to end"
        running(p)
        assert p.views.count("dev", "total") == 4


def test_a_cancelled_run_is_gone_on_from(shop, running) -> None:
    """Ctrl-C after an hour would throw the hour away."""
    shop.write(CUT)
    with shop.open() as p:
        report = running(p, "dev", progress=lambda _t, _d: p._interrupted.set())
        assert (report.state, report.exit_code) == ("cancelled", 130)
        assert parts(p, "dev", "orders") == {}
        p._interrupted.clear()
        again = running(p)
        assert (again.state, again.computed, again.reused) == ("finished", 3, 1)


def test_a_storage_error_ends_the_run_and_the_next_goes_on(shop, running, monkeypatch) -> None:
    """The run would stay open for ever and fail every run after it."""
    shop.write(CUT)
    with shop.open() as p:
        publish = p.publisher.publish

        def full(*_a: object, **_k: object) -> None:
            raise StorageError("SX-DISK-1", "the disk is full")

        monkeypatch.setattr(p.publisher, "publish", full)
        with pytest.raises(StorageError):
            running(p)
        assert p.views.runs().items[0]["state"] == "failed"
        assert p.state.read("runs_open") == []
        monkeypatch.setattr(p.publisher, "publish", publish)
        again = running(p)
        assert (again.state, again.computed, again.reused) == ("finished", 0, 4)
