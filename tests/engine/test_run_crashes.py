"""Two processes on one project, and runs that were cut off."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
import os
import subprocess
import sys
from pathlib import Path

import pytest
from orders_project import CUT, OTHER, TWO, expire, parts, take_over

import sextant
from sextant.app.keeping import collect
from sextant.engine.leases import Leases
from sextant.engine.plan import Request
from sextant.kernel.errors import Busy, StorageError

SRC = str(Path(sextant.__file__).parents[1])


HOLDER = """
import sys, threading
from sextant.project.config import read_config
from sextant.app.platform import LocalPlatform
from sextant.engine.leases import Leases
from pathlib import Path
with LocalPlatform(read_config(Path(sys.argv[1])), load=False) as p, Leases(p.core.state, "run_of_another", ["dev/dataset:orders"]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes(shop, running) -> None:
    """Both would write the same table; or a dead one would block the living for half a minute."""
    shop.write(CUT)
    with shop.open() as p:
        other = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(shop.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": SRC},
        )
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

        monkeypatch.setattr(p.runs.publisher, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            running(p)
    with shop.open() as p:
        assert len(p.core.state.read("runs_open")) == 1
        assert parts(p, "dev", "total") == {}
        report = running(p)
        assert report.id == "", "taking up the old run did everything"
        run = views(p).runs().items[0]
        assert (run["state"], run.get("computed", 0), run["reused"]) == ("finished", 0, 4)
        assert views(p).run(run["id"])["seal_ok"]
        assert views(p).count("dev", "total") == 4
        assert p.core.state.read("runs_open") == []


def test_two_threads_of_one_process_do_not_resume_one_run(shop, running, monkeypatch) -> None:
    """A server's scheduler and somebody's `run` at the server would execute the same run at once,
    each of them sure to hold its leases."""
    shop.write(CUT)
    with shop.open() as p:
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt),
            )
            with pytest.raises(KeyboardInterrupt):
                running(p)
        (facts,) = p.runs.resuming.crashed("dev")
        with Leases(p.core.state, facts.id, ()):
            with pytest.raises(Busy):
                p.runs.resuming.resume(facts, by=p.core.authorization.who())
            assert len(p.core.state.read("runs_open")) == 1
        assert p.runs.resuming.resume(facts, by=p.core.authorization.who()).state == "finished"


def test_a_forced_run_that_died_is_taken_up_as_forced(shop, running, monkeypatch) -> None:
    """The resumed run would forget that it was forced, and drop what it had made."""
    shop.write(
        "ORDER, STOCK = 1, 1\n"
        + TWO.replace(
            '"amount": [ORDER]',
            '"amount": [len(list(__import__("pathlib").Path(COUNT).iterdir()))]',
        ).replace("@sx", f"COUNT = {str(shop.root / 'count')!r}\n@sx", 1)
    )
    (shop.root / "count").mkdir()
    with shop.open() as p:
        running(p, "dev", "dataset:orders")
        before = parts(p, "dev", "orders")
        (shop.root / "count" / "one").touch()
        publish = p.runs.publisher.publish
        monkeypatch.setattr(
            p.runs.publisher, "publish", lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            running(p, "dev", "dataset:orders", force=True)
        monkeypatch.setattr(p.runs.publisher, "publish", publish)
        (shop.root / "count" / "two").touch()
        running(p)
        assert parts(p, "dev", "orders") != before
        assert views(p).frame(version_as_of(p.core, "dev", "dataset:orders", ""))[
            "amount"
        ].unique().to_list() == [1], "what it had made, not made again"


def test_a_lost_lease(shop, running, monkeypatch) -> None:
    """After a long sleep of the machine two processes would end one run, and publish it twice."""
    shop.write(CUT)
    leases: list[Leases] = []
    enter = Leases.__enter__
    monkeypatch.setattr(Leases, "__enter__", lambda self: leases.append(self) or enter(self))
    with shop.open() as p:
        with pytest.raises(Busy, match="another process took over"):
            running(p, "dev", progress=lambda _t, _d: take_over(p, leases[-1]))
        assert parts(p, "dev", "orders") == {}
        assert len(p.core.state.read("runs_open")) == 1, "it is the other's to end"
        running(p)
        assert views(p).count("dev", "total") == 4


def test_a_scheduled_run_that_died_is_resumed_as_a_scheduled_one(
    shop, running, monkeypatch
) -> None:
    """Resumed, it would rebuild what is only stale by its code, which nobody asked for."""
    shop.write(CUT)
    with shop.open() as p:
        running(p)
        totals = parts(p, "dev", "total")
        shop.edit('pl.col("amount").sum()', 'pl.col("amount").sum() + 1')
        shop.edit('"amount": [1, 2, 3]', '"amount": [1, 2, 3, 4][:3]')
        p.core.project.load()
        with monkeypatch.context() as patch:
            patch.setattr(
                p.runs.publisher,
                "publish",
                lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt),
            )
            asked = Request(
                assets=("dataset:shown", "dataset:total"), asked=False, downstream=False
            )
            with pytest.raises(KeyboardInterrupt):
                p.runs.run(
                    "dev",
                    asked,
                    by=p.core.authorization.who(),
                    trigger="schedule",
                    ticks={"dataset:shown": 1},
                )
        p.runs.resuming.resume_crashed("dev", by=p.core.authorization.who())
        assert p.core.state.read("runs_open") == []
        assert parts(p, "dev", "total") == totals


def test_a_table_whose_lease_is_lost_before_the_publish(shop, running, monkeypatch) -> None:
    """Two runs would publish one table: the one that slept past its lease, and the one that took
    over."""
    shop.write(CUT)
    with shop.open() as p:
        publish = p.runs.publisher.publish

        def after_another_took_it(*args: object, **more: object) -> object:
            expire(p, "dev/dataset:orders")
            with Leases(p.core.state, "run_of_another", ["dev/dataset:orders"], process=OTHER):
                return publish(*args, **more)

        monkeypatch.setattr(p.runs.publisher, "publish", after_another_took_it)
        with pytest.raises(Busy, match="another process took over"):
            running(p)
        assert set(p.core.versions.live("dev")) == {"project:shop"}


def test_a_cancelled_run_is_gone_on_from(shop, running) -> None:
    """Ctrl-C after an hour would throw the hour away."""
    shop.write(CUT)
    with shop.open() as p:
        report = running(p, "dev", progress=lambda _t, _d: p.interrupts._interrupted.set())
        assert (report.state, report.exit_code) == ("cancelled", 130)
        assert parts(p, "dev", "orders") == {}
        p.interrupts._interrupted.clear()
        again = running(p)
        assert (again.state, again.computed, again.reused) == ("finished", 3, 1)


def test_what_a_cancelled_run_made_survives_a_collection_once_it_is_taken_up(
    shop, running, monkeypatch
) -> None:
    """Files that a run goes on from would be deleted before it publishes them."""
    shop.write(CUT)
    with shop.open() as p:
        running(p, "dev", progress=lambda _t, _d: p.interrupts._interrupted.set())
        p.interrupts._interrupted.clear()
        for path in p.core.lake.root.rglob("*.parquet"):
            os.utime(path, ns=(1, 1))
        publish = p.runs.publisher.publish

        def after_a_collection(*args: object, **more: object) -> object:
            collect(p.core, p.runs.bundles)
            return publish(*args, **more)

        monkeypatch.setattr(p.runs.publisher, "publish", after_a_collection)
        again = running(p)
        assert (again.state, again.reused) == ("finished", 1)
        assert views(p).frame(version_as_of(p.core, "dev", "dataset:orders", "")).height


def test_a_storage_error_ends_the_run_and_the_next_goes_on(shop, running, monkeypatch) -> None:
    """The run would stay open for ever and fail every run after it."""
    shop.write(CUT)
    with shop.open() as p:
        publish = p.runs.publisher.publish

        def full(*_a: object, **_k: object) -> None:
            raise StorageError("SX-DISK-1", "the disk is full")

        monkeypatch.setattr(p.runs.publisher, "publish", full)
        with pytest.raises(StorageError):
            running(p)
        assert views(p).runs().items[0]["state"] == "failed"
        assert p.core.state.read("runs_open") == []
        monkeypatch.setattr(p.runs.publisher, "publish", publish)
        again = running(p)
        assert (again.state, again.computed, again.reused) == ("finished", 0, 4)
