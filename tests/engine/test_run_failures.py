"""What fails while a run publishes fails by itself, and once."""

from seen import views
from sextant.app import environments
import pytest
from orders_project import parts

from sextant.engine.leases import Leases
from sextant.kernel.errors import BadData, Conflict, NotFound
from sextant.kernel.ports import Write

BODY = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [1]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)

@sx.dataset(partition=days, key="id", checks=[sx.foreign_key("id", to="orders.id")])
def noted(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key]})

@sx.dataset(partition=days, key="id")
def stock(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "pieces": [1]})

rate = sx.kpi("rate", of=orders, measure="sum(amount)", grain="")
"""


def breaks(p, monkeypatch, error: Exception, table: str = "dataset.orders"):
    commit = p.core.lake.commit

    def broken(name, *args, **more):
        if name == table:
            raise error
        return commit(name, *args, **more)

    monkeypatch.setattr(p.core.lake, "commit", broken)


@pytest.mark.parametrize(
    "error", [ValueError("cannot be written"), BadData("SX-LAKE-009", "cannot be written")]
)
def test_a_table_that_cannot_be_written_fails_alone(shop, running, monkeypatch, error) -> None:
    """One asset would end every run of its environment: the failed run is resumed first, and fails
    again."""
    shop.write(BODY)
    with shop.open() as p:
        with monkeypatch.context() as patch:
            breaks(p, patch, error)
            report = running(p)
            assert report.state == "failed"
            assert report.exit_code == 3
            assert [step.step for step in report.failed] == ["write:dataset:orders"]
            assert "cannot be written" in report.failed[0].error
            assert set(report.skipped) == {
                "write:dataset:doubled",
                "write:dataset:kpi_rate",
                "write:dataset:noted",
            }
            assert set(report.published) == {"dataset:stock"}
            assert len(parts(p, "dev", "stock")) == 4
            live = set(p.core.versions.live("dev"))
            assert live == {"dataset:stock", "project:shop"}, (
                "nor the definition of a number without values"
            )
            assert p.core.state.read("runs_open") == []
            shown = views(p).run(report.id)
            assert (shown["state"], shown["seal_ok"]) == ("failed", True)
            again = running(p)
            assert again.state == "failed"
            assert again.computed == 0, "what the steps had made is kept"
        mended = running(p)
        assert (mended.state, mended.computed) == ("finished", 0)
        assert len(parts(p, "dev", "doubled")) == 4
        assert set(p.core.versions.live("dev")) > {"dataset:orders", "kpi:rate"}


def test_an_undo_is_whole_or_not_at_all(shop, running, monkeypatch) -> None:
    """An undo would take back a table and leave what was derived of the bad one."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        before = {name: parts(p, "dev", name) for name in ("orders", "doubled")}
        shop.edit('"amount": [1]', '"amount": [7]')
        p.core.project.load()
        running(p, "dev", stale=True)
        bad = {name: parts(p, "dev", name) for name in ("orders", "doubled")}
        with monkeypatch.context() as patch:
            restore = p.core.lake.restore

            def broken(name, *args, **more):
                if name == "dataset.doubled":
                    raise ValueError("cannot be written")
                return restore(name, *args, **more)

            patch.setattr(p.core.lake, "restore", broken)
            with pytest.raises(ValueError, match="cannot be written"):
                p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="bad")
        assert {name: parts(p, "dev", name) for name in ("orders", "doubled")} == bad
        assert p.core.state.read("runs_open") == []
        p.runs.undo("dev", "dataset:orders", by=p.core.authorization.who(), reason="bad")
        assert {name: parts(p, "dev", name) for name in ("orders", "doubled")} == before


def test_a_defect_while_a_run_goes_on_ends_that_run(shop, running, monkeypatch) -> None:
    """The run would stay open, and every later one would begin with it and fail."""
    shop.write(BODY)
    with shop.open() as p:
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyError("defect")),
            )
            with pytest.raises(KeyError):
                running(p)
        assert views(p).runs().items[0]["state"] == "failed"
        assert p.core.state.read("runs_open") == []
        assert running(p).state == "finished"


def test_a_crashed_run_that_fails_again_stops_nobody(shop, running, monkeypatch) -> None:
    """Every run of the environment would end with somebody else's error."""
    shop.write(BODY)
    with shop.open() as p:
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt),
            )
            with pytest.raises(KeyboardInterrupt):
                running(p, "dev", "dataset:orders", downstream=False)
        with monkeypatch.context() as patch:
            breaks(p, patch, ValueError("cannot be written"))
            report = running(p, "dev", "dataset:stock")
            assert report.state == "finished"
            assert len(parts(p, "dev", "stock")) == 4
        assert p.core.state.read("runs_open") == []


# ---------------------------------------------------------------- environments


def test_a_run_does_not_publish_into_an_environment_that_was_dropped(shop, running) -> None:
    """A new environment of the same name would inherit tables that nobody made in it."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        environments.create(p.core, "pr", "dev")
        with (
            Leases(p.core.state, "run_of_another", ["pr/dataset:orders"]),
            pytest.raises(Conflict, match="run_of_another .* is writing `dataset:orders` in `pr`"),
        ):
            environments.drop(p.core, p.runs, "pr")

        def drops(task, _done) -> None:
            if task.asset == "dataset:stock":  # past the refusal, as in the same moment
                event = p.core.events.make(
                    "env.dropped", "pr", {"name": "pr"}, p.core.authorization.who(), ""
                )
                p.core.state.commit(Write((), (event,)))
                environments.create(p.core, "pr", "dev")

        shop.edit('"pieces": [1]', '"pieces": [2]')
        p.core.project.load()
        with pytest.raises(Conflict, match="was dropped meanwhile"):
            running(p, "pr", "dataset:stock", stale=True, progress=drops)
        assert p.core.versions.live_version("pr", "dataset:stock") == p.core.versions.live_version(
            "dev", "dataset:stock"
        )
        assert [row for row in p.core.state.read("pointers_all") if row[0] == "pr"] == []


def test_crashed_runs_of_a_dropped_environment_end_with_it(shop, running, monkeypatch) -> None:
    """They would be resumed in a new environment of the same name."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        environments.create(p.core, "pr", "dev")
        shop.edit('"pieces": [1]', '"pieces": [2]')
        p.core.project.load()
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt),
            )
            with pytest.raises(KeyboardInterrupt):
                running(p, "pr", "dataset:stock", stale=True)
        environments.drop(p.core, p.runs, "pr")
        assert p.core.state.read("runs_open") == []
        with pytest.raises(NotFound):
            running(p, "pr")
        environments.create(p.core, "pr", "dev")
        assert running(p, "pr").id == ""
        assert [row for row in p.core.state.read("pointers_all") if row[0] == "pr"] == []


def test_a_run_that_was_cut_off_in_a_dropped_environment_is_cancelled(
    shop, running, monkeypatch
) -> None:
    """A run that began in the dropped environment would be resumed in the new one of its name: the
    drop came in the same moment as the crash, and had not seen the run."""
    shop.write(BODY)
    with shop.open() as p:
        running(p)
        environments.create(p.core, "pr", "dev")
        shop.edit('"pieces": [1]', '"pieces": [2]')
        p.core.project.load()
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt),
            )
            with pytest.raises(KeyboardInterrupt):
                running(p, "pr", "dataset:stock", stale=True)
        (run,) = [row[0] for row in p.core.state.read("runs_open")]
        event = p.core.events.make(
            "env.dropped", "pr", {"name": "pr"}, p.core.authorization.who(), ""
        )
        p.core.state.commit(Write((), (event,)))
        environments.create(p.core, "pr", "dev")
        p.runs.resuming.resume_crashed("pr", by=p.core.authorization.who())
        ended = views(p).run(run)
        assert (ended["state"], ended["error"]) == (
            "cancelled",
            "environment `pr` was dropped meanwhile",
        )
        assert [row for row in p.core.state.read("pointers_all") if row[0] == "pr"] == []
