"""Runs and releases in several environments, and what goes with them."""

from seen import views
from sextant.app.operations import Operations
from sextant.release.as_of import version_as_of
from sextant.app import environments
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
        environments.create(p.core, "pr-1", "prod")
        lake = sum(1 for _ in p.core.lake.root.rglob("*.parquet"))
        assert views(p).env_diff("prod", "pr-1")["assets"] == []
        assert running(p, "pr-1").id == "", "everything is there already"
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.core.project.load()
        assert running(p, "pr-1", stale=True).computed == 3
        found = {e["asset"]: e for e in views(p).env_diff("prod", "pr-1")["assets"]}
        assert set(found) == {"dataset:cleaned", "dataset:shown", "dataset:total", "project:shop"}
        assert found["dataset:cleaned"]["code_changed"]
        assert views(p).count("prod", "total") == 4
        assert (
            views(p).frame(version_as_of(p.core, "prod", "dataset:total", ""))["amount"].to_list()
            == [6] * 4
        )
        assert (
            views(p).frame(version_as_of(p.core, "pr-1", "dataset:total", ""))["amount"].to_list()
            == [21] * 4
        )
        assert sum(1 for _ in p.core.lake.root.rglob("*.parquet")) > lake > 0
        for name in ("project:shop", "cleaned", "shown", "total"):
            assert (
                p.runs.release(
                    "prod", p.core.assets.find(name), source="pr-1", by=p.core.authorization.who()
                ).state
                == "live"
            )
        assert views(p).env_diff("prod", "pr-1")["assets"] == []
        with pytest.raises(Conflict, match="live in `prod` already"):
            p.runs.release(
                "prod", p.core.assets.find("total"), source="pr-1", by=p.core.authorization.who()
            )
        environments.drop(p.core, p.runs, "pr-1")
        assert (
            views(p).frame(version_as_of(p.core, "prod", "dataset:total", ""))["amount"].to_list()
            == [21] * 4
        )


def test_an_environment_stays_while_a_release_is_open_in_it(shop, running) -> None:
    """A release that is approved later would move pointers of an environment that is gone."""
    shop.write(CUT)
    with shop.open() as p:
        environments.create(p.core, "pr-1", "dev")
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
            environments.drop(p.core, p.runs, "pr-1")
    with shop.open("bob") as p:
        Operations(p).approve(waiting, deny=True)
        environments.drop(p.core, p.runs, "pr-1")


def test_unpacked_bundles_that_nobody_uses_go(shop, running) -> None:
    """Every edit would leave a copy of the project for ever; or a run would lose the code it
    runs."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
        old = p.runs.bundles.folder(p.core.project.manifest().bundle)
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") + 5')
        p.core.project.load()
        running(p, stale=True)
        new = p.runs.bundles.folder(p.core.project.manifest().bundle)
        assert old != new
        assert p.runs.bundles.collect(old.stat().st_mtime_ns) == 0, "it was used since"
        assert p.runs.bundles.collect(1 << 62) > 0
        assert [path.name for path in new.parent.iterdir()] == [new.name]
        assert (p.runs.bundles.folder(old.name) / "ops.py").exists(), (
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
        environments.create(p.core, "pr-1", "prod")
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.core.project.load()
        running(p, "pr-1", "dataset:orders", partitions=("2026-01-02", "2026-01-02"))
        mine = parts(p, "pr-1", "orders")
        running(p, "prod", "dataset:orders", partitions=("2026-01-03", "2026-01-03"))
        meanwhile = parts(p, "prod", "orders")
        assert (
            p.runs.release(
                "prod", p.core.assets.find("orders"), source="pr-1", by=p.core.authorization.who()
            ).state
            == "live"
        )
        assert parts(p, "prod", "orders") == {
            "2026-01-01": meanwhile["2026-01-01"],
            "2026-01-02": mine["2026-01-02"],
            "2026-01-03": meanwhile["2026-01-03"],
        }
        assert views(p).count("prod", "orders") == 3

        running(p, "pr-1", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        shop.edit("ORDER, STOCK = 2, 1", "ORDER, STOCK = 3, 1")
        p.core.project.load()
        running(p, "prod", "dataset:orders", partitions=("2026-01-01", "2026-01-01"))
        live = parts(p, "prod", "orders")
        with pytest.raises(Conflict, match="2026-01-01"):
            p.runs.release(
                "prod", p.core.assets.find("orders"), source="pr-1", by=p.core.authorization.who()
            )
        assert parts(p, "prod", "orders") == live
