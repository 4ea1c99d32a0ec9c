"""What runs promise, on a small project in a folder: from an edited file to what is live, and
back."""

from seen import views
from sextant.release.as_of import version_as_of
import pytest
from orders_project import CUT, ORDERS, TWO, parts

from sextant.engine.plan import Request
from sextant.engine.staged import RunAsset, Staged, StepOutput
from sextant.kernel.errors import Conflict, NotFound
from sextant.stores.lake import frames


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
        p.core.project.load()
        assert running(p).state == "finished"
        assert sorted(parts(p, "dev", "orders")) == [
            "2026-01-01",
            "2026-01-02",
            "2026-01-03",
            "2026-01-04",
        ]


def test_refused_rows_do_not_come_back_beside_new_ones(shop, running) -> None:
    """A version's digest changes with every new day: what was refused must be known by partition,
    not by version."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        shop.edit('end="2026-01-05"', 'end="2026-01-06"')
        p.core.project.load()
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
        assert p.core.versions.live_version(
            "prod", "dataset:doubled"
        ) == p.core.versions.live_version("dev", "dataset:doubled")
        assert views(p).count("prod", "doubled") == 12


def test_part_of_another_environments_table(shop, running) -> None:
    """A table that begins with some of another one's partitions must not come with all of them."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p, "dev")
        report = running(p, "prod", partitions=("2026-01-02", "2026-01-03"))
        assert report.computed == 0
        assert sorted(parts(p, "prod", "orders")) == ["2026-01-02", "2026-01-03"]
        assert views(p).count("prod", "orders") == 6
        assert views(p).frame(version_as_of(p.core, "prod", "dataset:orders", ""))["id"].str.head(
            10
        ).unique().sort().to_list() == ["2026-01-02", "2026-01-03"]


def test_held_partitions_do_not_come_back_through_the_memo(shop, running) -> None:
    """An input that is made again to the same content must not bring back what was undone."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        good = parts(p, "dev", "doubled")
        shop.edit("* 2)", "* 3)")
        p.core.project.load()
        assert running(p, "dev", stale=True).computed == 1
        bad = parts(p, "dev", "doubled")
        p.runs.undo(
            "dev", "dataset:doubled", by=p.core.authorization.who(), reason="three is wrong"
        )
        assert parts(p, "dev", "doubled") == good
        assert running(p).computed == 0
        assert p.runs.plan("dev", Request()).held == {
            "dataset:doubled": ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")
        }
        report = running(p, "dev", "dataset:orders", force=True)
        assert report.computed == 1
        assert parts(p, "dev", "doubled") == good != bad
        shop.edit("* 3)", "* 4)")
        p.core.project.load()
        assert running(p, "dev", stale=True).computed == 1, "new code is not held"
        assert parts(p, "dev", "doubled") not in (good, bad)


def test_unhold_lets_it_come_back(shop, running) -> None:
    """A person must be able to lift the mark."""
    shop.write(ORDERS)
    shop.edit('["2026-01-03"]', "[]")
    with shop.open() as p:
        running(p)
        shop.edit("* 2)", "* 3)")
        p.core.project.load()
        running(p, "dev", stale=True)
        bad = p.core.versions.live_version("dev", "dataset:doubled")
        p.runs.undo("dev", "dataset:doubled", by=p.core.authorization.who(), reason="wrong")
        with pytest.raises(Conflict, match="withdrawn"):
            p.runs.release(
                "dev", p.core.assets.find("doubled"), version=bad, by=p.core.authorization.who()
            )
        p.runs.releases.unhold("dev", "dataset:doubled", bad, p.core.authorization.who())
        assert (
            p.runs.release(
                "dev", p.core.assets.find("doubled"), version=bad, by=p.core.authorization.who()
            ).state
            == "live"
        )
        assert p.core.versions.live_version("dev", "dataset:doubled") == bad


def test_two_assets_of_one_release_are_undone_one_after_the_other(shop, running) -> None:
    """One release brought both; undoing one must not make the other impossible to undo."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        before = {name: parts(p, "dev", name) for name in ("orders", "stock")}
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 2")
        p.core.project.load()
        assert running(p, "dev", stale=True).computed == 2
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="wrong")
        assert parts(p, "dev", "orders") == before["orders"]
        assert parts(p, "dev", "stock") != before["stock"], "only what was asked for"
        p.runs.undo("dev", "dataset:stock", by=p.core.authorization.who(), reason="wrong too")
        assert parts(p, "dev", "stock") == before["stock"]


def test_an_undo_undone_does_not_bring_the_bad_version_back(shop, running) -> None:
    """Twice `rollback` is not `redo`: what was withdrawn stays withdrawn until somebody says so."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.core.project.load()
        running(p, "dev", stale=True)
        bad = p.core.versions.live_version("dev", "dataset:orders")
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="wrong")
        with pytest.raises(Conflict, match="brought back by an undo"):
            p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="again")
        assert p.core.versions.live_version("dev", "dataset:orders") != bad


def test_undo_restores_only_what_the_bad_version_changed(shop, running) -> None:
    """A later good write to other days would be lost with the bad one."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p, "dev", partitions=("2026-01-01", "2026-01-02"))
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.core.project.load()
        running(p, "dev", "dataset:orders", partitions=("2026-01-02", "2026-01-02"))
        bad = p.core.versions.live_version("dev", "dataset:orders")
        wrong = parts(p, "dev", "orders")
        running(p, "dev", "dataset:orders", partitions=("2026-01-03", "2026-01-03"))
        later = parts(p, "dev", "orders")
        p.runs.undo(
            "dev", "dataset:orders", by=p.core.authorization.who(), reason="wrong", version=bad
        )
        now = parts(p, "dev", "orders")
        assert now["2026-01-02"] not in (wrong["2026-01-02"], None)
        assert now["2026-01-03"] == later["2026-01-03"], "the later write stays"
        assert now["2026-01-01"] == later["2026-01-01"]
        assert p.runs.plan(
            "dev", Request(assets=("dataset:orders",), partitions=("2026-01-02", "2026-01-02"))
        ).held == {"dataset:orders": ("2026-01-02",)}
        with pytest.raises(NotFound):
            p.runs.undo(
                "dev", "dataset:orders", by=p.core.authorization.who(), reason="x", version="abcdef"
            )


def test_a_later_write_to_the_same_partition_is_a_conflict(shop, running) -> None:
    """Undoing under somebody's newer write would lose that write without a word."""
    shop.write("ORDER, STOCK = 1, 1\n" + TWO)
    with shop.open() as p:
        running(p)
        first = p.core.versions.live_version("dev", "dataset:orders")
        shop.edit("ORDER, STOCK = 1, 1", "ORDER, STOCK = 2, 1")
        p.core.project.load()
        running(p, "dev", stale=True)
        live = parts(p, "dev", "orders")
        with pytest.raises(Conflict, match="2026-01-01") as caught:
            p.runs.undo(
                "dev", "dataset:orders", by=p.core.authorization.who(), reason="x", version=first
            )
        assert "undo the later release first" in caught.value.hint
        assert parts(p, "dev", "orders") == live


def test_early_cut_off(shop, running) -> None:
    """An edit that changes nothing would recompute everything behind it, again and again."""
    shop.write(CUT)
    with shop.open() as p:
        assert running(p).computed == 4
        before = {
            name: p.core.versions.live_version("dev", f"dataset:{name}")
            for name in ("orders", "cleaned", "shown", "total")
        }
        shop.edit('pl.col("amount") + 0', 'pl.col("amount") * 1')
        p.core.project.load()
        assert set(p.runs.plan("dev", Request()).stale) == {"dataset:cleaned"}
        report = running(p, "dev", stale=True)
        assert (report.computed, report.reused, report.published) == (1, 2, {})
        assert before == {
            name: p.core.versions.live_version("dev", f"dataset:{name}") for name in before
        }
        plan = p.runs.plan("dev", Request())
        assert (plan.steps, plan.stale) == ((), {}), "and it is not offered again"
        shop.edit('pl.col("amount") * 1', 'pl.col("amount") * 2')
        p.core.project.load()
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
            digests[way] = {
                name: p.core.versions.live_version("dev", f"dataset:{name}")
                for name in ("orders", "cleaned", "shown", "total")
            }
    assert digests["days"] == digests["range"] == digests["both"]


WHOLE = """
calls = []

@sx.dataset(partition=days, key="id", time="at", whole_range=True)
def orders(day: sx.Partition) -> pl.DataFrame:
    hours = pl.datetime_range(day.start, day.end, "6h", closed="left", time_zone="UTC", eager=True)
    return pl.DataFrame({"id": hours.dt.to_string("%Y-%m-%d %H"), "at": hours})
"""


def test_a_whole_range_in_one_call(shop, running, tmp_path_factory) -> None:
    """A source that can read a month at once would be called thirty times; or its rows land in the
    wrong day."""
    shop.write(WHOLE)
    with shop.open() as p:
        report = running(p)
        assert (report.computed, report.rows) == (1, 16)
        assert {
            part.rows
            for part in p.core.versions.parts(
                "dataset:orders", report.published["dataset:orders"]
            ).values()
        } == {4}
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
        line = (shop.root / "ops.py").read_text().splitlines().index(
            '@sx.dataset(partition=days, key="id", time="at", whole_range=True)'
        ) + 1
        assert report.failed[0].where == f"ops.py:{line}", "where the asset is declared"
        assert parts(p, "dev", "orders") == {}


def test_retries(shop, running) -> None:
    """A flaky source would fail the whole night."""
    shop.write("""
    from pathlib import Path
    @sx.dataset(retries=2, backoff="0.01s")
    def flaky(context: sx.Context) -> pl.DataFrame:
        if context.attempt < 3:
            raise OSError("the source is down")
        return pl.DataFrame({"attempt": [context.attempt], "key": [context.key]})
    """)
    with shop.open() as p:
        report = running(p)
        assert report.state == "finished"
        assert views(p).show("dev", "flaky")["sample"] == [
            {"attempt": 3, "key": f"{report.id}/dataset:flaky[all]/all"}
        ]
        steps = views(p).run(report.id)["steps_recorded"]
        assert [(s.get("attempt", 1), s.get("ok", True)) for s in steps] == [
            (1, False),
            (2, False),
            (3, True),
        ]


def test_a_part_of_a_file_keeps_its_columns_beside_a_partition_that_was_found(
    shop, running
) -> None:
    """What was found before has no columns of its own to say; where only a part of another file
    was taken, that was rewritten without columns, and its rows were empty."""
    shop.write(ORDERS.replace('["2026-01-03"]', "[]"))
    with shop.open() as p:
        running(p)
        asset = p.core.assets.find("orders")
        version = p.core.versions.get(asset.id, p.core.versions.live_version("dev", asset.id))
        made = p.core.versions.parts(asset.id, version.digest)
        [file] = p.core.lake.files(version.locator)
        first, second, *_ = sorted(made)
        table = RunAsset(asset.id, "", "", {}, (), p.core.lake.files)
        table.take(
            StepOutput(staged=(Staged(part=made[first], files=(file,)),), schema=version.schema)
        )
        found = Staged(part=made[second], origin=version.locator)
        table.take(StepOutput(staged=(found,), schema=version.schema))
        commit = p.runs.publisher._bodies(asset).commit(asset, table)
        frame = frames.read(p.core.lake.root, commit.files, frame="polars", schema=version.schema)
        assert sorted(frame["id"].to_list()) == [
            f"{d}-{n}" for d in (first, second) for n in range(3)
        ]
