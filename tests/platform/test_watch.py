"""The scheduler: what is due, by cron in the project's zone and by new versions of inputs, on a
clock moved by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from seen import views

from sextant import testing
from sextant.kernel.answers import RunReport
from sextant.app.triggers import next_tick
from sextant.app.watch import tick, watch
from sextant.engine.plan import Request
from sextant.kernel import clock
from sextant.kernel.ports import Write

OPS = '''
import polars as pl
import sextant as sx

sx.project("shop", tz="America/New_York")
days = sx.daily(start="2026-03-05")


@sx.dataset(partition=days, key="id", on=sx.cron("0 5 * * *"), lookback="3d")
def orders(day: sx.Partition) -> pl.DataFrame:
    """Late rows come a day later, from a file that others write."""
    late = open("LATE").read().split()
    return pl.DataFrame({"id": [f"{day.key}-1"] + [f"{day.key}-late" for key in late if key == day.key]})


@sx.dataset(partition=days)
def counts(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(n=pl.len())
'''


def ns(text: str) -> int:
    return clock.from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_cron_inputs_and_late_rows(tmp_path: Path) -> None:
    """If this fails, days are missed or made twice, late rows are never seen, or summer time moves
    a schedule."""
    late = tmp_path / "late"
    late.write_text("")
    with testing.platform(
        {"ops.py": OPS.replace("LATE", str(late))}, at=datetime(2026, 3, 7, 9, 59, tzinfo=UTC)
    ) as p:
        everything = Request()
        chosen = {"dataset:orders", "dataset:counts"}
        report = tick(
            p.runs, "dev", everything
        )  # whatever was due while nobody watched is due at once
        assert report is not None
        assert p.core.versions.parts(
            "dataset:counts", p.core.versions.live_version("dev", "dataset:counts")
        ).keys() == {"2026-03-05", "2026-03-06"}
        assert tick(p.runs, "dev", everything) is None
        assert next_tick(p.core.project.manifest(), chosen, p.core.clock.now_ns()) == ns(
            "2026-03-07T10:00:00"
        )  # 5 o'clock in New York, winter
        p.core.clock.set(ns("2026-03-08T08:59:00"))
        assert tick(p.runs, "dev", everything) is not None  # the tick of the 7th
        assert next_tick(p.core.project.manifest(), chosen, p.core.clock.now_ns()) == ns(
            "2026-03-08T09:00:00"
        )  # the clocks went forward that night
        late.write_text("2026-03-06")
        p.core.clock.set(ns("2026-03-08T09:01:00"))
        report = tick(p.runs, "dev", everything)
        assert report is not None
        days = p.core.versions.parts(
            "dataset:counts", p.core.versions.live_version("dev", "dataset:counts")
        )
        assert sorted(days) == ["2026-03-05", "2026-03-06", "2026-03-07"]
        version = p.core.versions.get(
            "dataset:counts", p.core.versions.live_version("dev", "dataset:counts")
        )
        assert views(p).frame(version, ["2026-03-06"])["n"].to_list() == [2]
        assert views(p).frame(version, ["2026-03-05"])["n"].to_list() == [1]
        assert tick(p.runs, "dev", everything) is None


def test_a_new_version_of_an_input_is_followed(tmp_path: Path) -> None:
    """If this fails, what stands on a dataset stays behind when somebody else publishes it."""
    late = tmp_path / "late"
    late.write_text("")
    with testing.platform(
        {"ops.py": OPS.replace("LATE", str(late))}, at=datetime(2026, 3, 7, 12, tzinfo=UTC)
    ) as p:
        assert tick(p.runs, "dev", Request()) is not None
        late.write_text("2026-03-05")
        p.runs.run(
            "dev",
            Request(
                assets=("dataset:orders",),
                partitions=("2026-03-05", "2026-03-05"),
                force=True,
                downstream=False,
            ),
            by=p.core.authorization.who(),
        )
        report = tick(p.runs, "dev", Request())
        assert report is not None
        assert set(report.published) == {"dataset:counts"}


def test_what_failed_is_not_tried_again_before_something_changed(tmp_path: Path) -> None:
    """If this fails, a watch runs a broken step again and again as fast as the machine can."""
    late = tmp_path / "late"
    late.write_text("")
    bad = OPS.replace("LATE", str(late)).replace(
        "    return orders.select", "    raise ValueError('no')\n    return orders.select"
    )
    with testing.platform({"ops.py": bad}, at=datetime(2026, 3, 7, 12, tzinfo=UTC)) as p:
        reports: list[RunReport] = []
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 6:
                p.interrupts._interrupted.set()
            p.core.clock.wait(seconds)

        p.runs.interrupts.pause = pause  # type: ignore[method-assign]
        assert watch(p.runs, "dev", Request(), say=lambda _text: None, tell=reports.append) == 0
        assert [report.state for report in reports] == ["failed", "failed"], (
            "with the cron, once with the new inputs, then never"
        )
        p.interrupts._interrupted.clear()
        pauses.clear()
        (p.core.project.root / "ops.py").write_text(OPS.replace("LATE", str(late)))
        assert watch(p.runs, "dev", Request(), say=lambda _text: None, tell=reports.append) == 0
        assert [report.state for report in reports[2:]] == ["finished"]


def test_a_schedule_reports_what_other_code_made_and_leaves_it(tmp_path: Path) -> None:
    """If this fails, an edit makes a watch rebuild a table that nobody asked to be rebuilt."""
    late = tmp_path / "late"
    late.write_text("")
    whole = OPS.replace("LATE", str(late)) + (
        "\n\n@sx.dataset()\ndef total(counts: pl.DataFrame) -> pl.DataFrame:\n    return "
        "counts.select(n=pl.col('n').sum())\n"
    )
    with testing.platform({"ops.py": whole}, at=datetime(2026, 3, 7, 12, tzinfo=UTC)) as p:
        assert tick(p.runs, "dev", Request()) is not None
        (p.core.project.root / "ops.py").write_text(
            whole.replace("pl.col('n').sum()", "pl.col('n').sum() + 1")
        )
        p.core.project.load()
        assert tick(p.runs, "dev", Request()) is None
        assert "dataset:total" in p.runs.plan("dev", Request()).stale


@pytest.mark.parametrize("frame", [pl.DataFrame({"id": ["a"]})])
def test_declared_functions_stay_callable(frame: pl.DataFrame) -> None:
    """If this fails, a project cannot be unit-tested as plain functions."""
    namespace: dict[str, object] = {}
    exec(compile(OPS.replace("LATE", "/dev/null"), "ops.py", "exec"), namespace)  # noqa: S102 - the author's own file
    assert namespace["counts"](orders=frame)["n"].to_list() == [1]  # type: ignore[operator]


def test_what_somebody_else_writes_is_tried_again_and_not_all_the_time(tmp_path: Path) -> None:
    """If this fails, a scheduler turns round and round while another process writes, or forgets
    what was due."""
    from sextant.engine.leases import Leases, this_process

    late = tmp_path / "late"
    late.write_text("")
    project = {"ops.py": OPS.replace("LATE", str(late))}
    with testing.platform(project, at=datetime(2026, 3, 7, 12, tzinfo=UTC)) as p:
        reports: list[RunReport] = []
        said: list[str] = []
        pauses: list[float] = []
        other = this_process()._replace(pid=1, namespace="1")
        held = Leases(p.core.state, "run_of_another", ["dev/dataset:orders"], process=other)
        held.__enter__()

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                held.__exit__()
                p.core.state.flush()
            if len(pauses) == 8:
                p.interrupts._interrupted.set()
            p.core.clock.wait(seconds)

        p.runs.interrupts.pause = pause  # type: ignore[method-assign]
        assert watch(p.runs, "dev", Request(), say=said.append, tell=reports.append) == 0
        assert [report.state for report in reports] == ["finished"]
        assert len(said) == 3, "once for each try"
        assert all("run_of_another" in line for line in said)
        assert all(0.05 <= seconds <= 30 for seconds in pauses)


SCHEDULED = """
import polars as pl
import sextant as sx

sx.project("shop")


@sx.dataset(key="id")
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})


@sx.dataset(on=sx.cron("0 5 * * *"))
def nightly(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(n=pl.len())


@sx.dataset(on=sx.inputs(cooldown="6h"))
def calm(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(n=pl.len())
"""


@contextmanager
def scheduled() -> Iterator[testing.TestedPlatform]:
    """A shop whose assets were made, and whose orders are two by now; 06:00."""
    with testing.platform({"ops.py": SCHEDULED}, at=datetime(2026, 3, 7, 6, tzinfo=UTC)) as p:
        p.runs.run("dev", Request(), by=p.who())
        tick(p.runs, "dev", Request())
        file = p.core.project.root / "ops.py"
        file.write_text(file.read_text().replace("[1]", "[1, 2]"))
        p.core.project.load()
        yield p


def rows(p: testing.TestedPlatform, name: str) -> int:
    """Return how many orders a dataset has counted."""
    version = p.core.versions.get(
        f"dataset:{name}", p.core.versions.live_version("dev", f"dataset:{name}")
    )
    return int(views(p).frame(version)["n"][0])


def test_what_has_a_schedule_alone_follows_no_input() -> None:
    """A model that is to be trained on Sundays would be trained whenever a row comes."""
    with scheduled() as p:
        run = Request(assets=("dataset:orders",))
        assert p.runs.plan("dev", run).stale == {"dataset:nightly": {"all": "input runs"}}
        p.runs.run("dev", run, by=p.who())
        assert rows(p, "nightly") == 1
        assert p.runs.plan("dev", Request()).stale == {"dataset:nightly": {"all": "inputs changed"}}
        assert p.runs.run("dev", Request(), by=p.who()).stale == {"dataset:nightly": 1}
        p.clock.wait(24 * 3600)
        assert p.runs.plan("dev", Request()).stale == {}, "it is due by now"
        tick(p.runs, "dev", Request())
        assert rows(p, "nightly") == 2


def test_what_is_named_is_made() -> None:
    """Nobody could bring it up to date before its schedule."""
    with scheduled() as p:
        p.runs.run("dev", Request(assets=("dataset:orders", "dataset:nightly")), by=p.who())
        assert rows(p, "nightly") == 2


def test_an_undo_takes_along_what_has_a_schedule() -> None:
    """Rows that were made from bad ones would stay until the night."""
    with scheduled() as p:
        p.runs.run("dev", Request(assets=("dataset:orders", "dataset:nightly")), by=p.who())
        p.runs.undo("dev", "dataset:orders", by=p.who(), reason="wrong")
        assert rows(p, "nightly") == 1


def test_a_cooldown() -> None:
    """A costly asset would be made for each of many small changes of its inputs."""
    with scheduled() as p:
        p.runs.run("dev", Request(assets=("dataset:orders",), downstream=False), by=p.who())
        assert tick(p.runs, "dev", Request()) is None
        p.clock.wait(6 * 3600 + 1)
        tick(p.runs, "dev", Request())
        assert rows(p, "calm") == 2


def test_an_open_incident_holds_its_readers_back() -> None:
    """What is made of an input that somebody has called bad would be bad as well."""
    with scheduled() as p:
        p.runs.run("dev", Request(assets=("dataset:orders",), downstream=False), by=p.who())
        opened = p.core.events.incident("orders are wrong", ["dataset:orders"], [])
        p.core.state.commit(Write((), (opened,)))
        p.clock.wait(24 * 3600)
        assert tick(p.runs, "dev", Request()) is None or rows(p, "calm") == 1
        (seen,) = [a for a in views(p).status("dev")["assets"] if a["asset"] == "dataset:calm"]
        assert seen["held_by_incident"] == opened.subject
        closed = p.core.events.make("incident.closed", opened.subject, {"id": opened.subject})
        p.core.state.commit(Write((), (closed,)))
        tick(p.runs, "dev", Request())
        assert (rows(p, "calm"), rows(p, "nightly")) == (2, 2)
