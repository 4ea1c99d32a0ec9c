"""Runs and releases in several environments, and what goes with them."""

import gc
import weakref

import pytest
from orders_project import CUT, TWO, parts

from sextant.kernel.errors import Conflict


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
        assert (
            p.views.frame(p.views.resolve("prod", "dataset:total", ""))["amount"].to_list()
            == [6] * 4
        )
        assert (
            p.views.frame(p.views.resolve("pr-1", "dataset:total", ""))["amount"].to_list()
            == [21] * 4
        )
        assert sum(1 for _ in p.lake.root.rglob("*.parquet")) > lake > 0
        for name in ("cleaned", "shown", "total"):
            assert p.runs.release("prod", p.asset(name), source="pr-1", by=p.who()).state == "live"
        assert p.views.env_diff("prod", "pr-1")["assets"] == []
        with pytest.raises(Conflict, match="live in `prod` already"):
            p.runs.release("prod", p.asset("total"), source="pr-1", by=p.who())
        p.drop_env("pr-1")
        assert (
            p.views.frame(p.views.resolve("prod", "dataset:total", ""))["amount"].to_list()
            == [21] * 4
        )


def test_an_environment_stays_while_a_release_is_open_in_it(shop, running) -> None:
    """A release that is approved later would move pointers of an environment that is gone."""
    shop.write(CUT)
    with shop.open() as p:
        p.create_env("pr-1", "dev")
    shop.write(
        (
            "sx.policy('eyes', when=\"verb == 'release' && env == 'pr-1'\", then=sx.approval(1, "
            "of=ops))\n"
        )
        + CUT
    )
    with shop.open() as p:
        waiting = running(p, "pr-1").waiting
        assert waiting
        with pytest.raises(Conflict, match=waiting):
            p.drop_env("pr-1")
    with shop.open("bob") as p:
        p.releases.approve(waiting, p.who(), deny=True)
        p.drop_env("pr-1")


def test_unpacked_bundles_that_nobody_uses_go(shop, running) -> None:
    """Every edit would leave a copy of the project for ever; or a run would lose the code it
    runs."""
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
        assert (p.bundle_folder(old.name) / "ops.py").exists(), (
            "one that is wanted again comes back"
        )


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
    """What prod got meanwhile would be lost by a release from a branch; or overwritten without a
    word."""
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
        assert parts(p, "prod", "orders") == {
            "2026-01-01": meanwhile["2026-01-01"],
            "2026-01-02": mine["2026-01-02"],
            "2026-01-03": meanwhile["2026-01-03"],
        }
        assert p.views.count("prod", "orders") == 3

        running(p, "pr-1", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        shop.edit("ORDER, STOCK = 2, 1", "ORDER, STOCK = 3, 1")
        p.load()
        running(p, "prod", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        live = parts(p, "prod", "orders")
        with pytest.raises(Conflict, match="2026-01-01"):
            p.runs.release("prod", p.asset("orders"), source="pr-1", by=p.who())
        assert parts(p, "prod", "orders") == live
