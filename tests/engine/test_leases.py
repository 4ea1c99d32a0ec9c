"""Who holds what, who is dead, and what a process may still write that was taken for dead."""

from seen import views
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from orders_project import CUT, OTHER, expire, parts, takes_over

import sextant
import sextant.testing
from sextant.engine import leases as module
from sextant.engine.leases import Leases, is_alive, is_gone, live_leases, this_process, worker_of
from sextant.kernel.errors import Busy, Conflict
from sextant.kernel.ports import Write

SRC = str(Path(sextant.__file__).parents[1])


class Local:
    is_local = True


class Shared:
    is_local = False


HERE = this_process()


@pytest.mark.parametrize(
    ("process", "local", "gone"),
    [
        (HERE, True, False),
        (HERE._replace(pid=4_000_000), True, True),  # beyond the largest pid
        (HERE._replace(since="1"), True, True),  # its pid has been given to another process
        (HERE._replace(namespace="1"), True, False),  # a container: its pids mean nothing here
        (HERE._replace(namespace="1", pid=4_000_000), True, False),
        (HERE._replace(boot="before"), True, True),  # before this machine was started
        (HERE._replace(boot="elsewhere"), False, False),  # another machine, on Postgres
        (HERE._replace(host="other"), True, False),  # renamed since: the boot is what counts
    ],
)
def test_who_is_dead(process, local, gone) -> None:
    """A living writer would be robbed, or a dead one would block everybody for half a minute."""
    assert is_gone(Local() if local else Shared(), f"run_a {process}") is gone


def test_a_holder_of_an_older_version_is_recognised() -> None:
    """After an upgrade a crashed run of the day before would block its tables for ever."""
    here = f"run_a pid {os.getpid()} on {HERE.host} since {HERE.since}"
    assert not is_gone(Local(), here)
    assert is_gone(Local(), here.replace(f"since {HERE.since}", "since 1"))
    assert is_gone(Local(), "run_a pid 12 on elsewhere since 5")
    assert not is_gone(Shared(), "run_a pid 12 on elsewhere since 5")


def test_a_clock_that_jumps_takes_nobodys_lease(shop) -> None:
    """A laptop whose clock is set 40 s ahead would take every running run for dead."""
    shop.write(CUT)
    with shop.open() as p, Leases(p.core.state, "run_a", ["dev/dataset:orders"], process=HERE):
        p.core.clock.now_ns = lambda real=p.core.clock.now_ns: real() + 40 * 10**9
        with (
            pytest.raises(Busy, match="run_a"),
            Leases(p.core.state, "run_b", ["dev/dataset:orders"], process=OTHER),
        ):
            pass
        assert is_alive(p.core.state, "run_a")
        assert worker_of(p.core.state, "run_a") == ""
        assert [name for name, _ in live_leases(p.core.state)] == [
            "dev/dataset:orders",
            "run/run_a",
        ]


def test_a_lost_lease_is_not_taken_back(shop) -> None:
    """Who woke up late would renew a lease that somebody else has had meanwhile, and publish."""
    shop.write(CUT)
    with shop.open() as p, Leases(p.core.state, "run_a", ["dev/dataset:orders"]) as mine:
        with takes_over(p, mine):
            pass  # took over, worked, gave back
        mine.renew()
        assert mine.lost
        with pytest.raises(Conflict):
            mine.fenced().commit(Write())
        assert not is_alive(p.core.state, "run_a")


def test_an_earlier_hold_by_the_same_process_is_not_renewed(shop) -> None:
    """A thread that woke up late would keep alive the leases of the next hold of its own run, and
    take them for its own."""
    shop.write(CUT)
    with shop.open() as p, Leases(p.core.state, "run_a", ["dev/dataset:orders"]) as first:
        for name in first._names:
            expire(p, name)
        with Leases(p.core.state, "run_a", ["dev/dataset:orders"]) as second:
            first.renew()
            assert first.lost
            assert not second.are_lost()


def test_a_store_that_is_away_loses_no_lease(shop, monkeypatch) -> None:
    """A hiccup of the database would end every run."""
    shop.write(CUT)
    with shop.open() as p, Leases(p.core.state, "run_a", ["dev/dataset:orders"]) as mine:
        with monkeypatch.context() as m:
            m.setattr(
                p.core.state, "commit", lambda _w: (_ for _ in ()).throw(Busy("SX-STATE-003", ""))
            )
            mine.renew()
        assert not mine.are_lost()


SLOW = (
    CUT
    + """
@sx.dataset()
def slow(cleaned: pl.DataFrame) -> pl.DataFrame:
    import pathlib, time
    (pathlib.Path(WAIT) / "reached").touch()
    while not (pathlib.Path(WAIT) / "go").exists():
        time.sleep(0.01)
    return pl.DataFrame({"n": [cleaned.height]})
"""
)


def command(root: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": SRC, "SEXTANT_USER": "ann"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reached(folder: Path, process: "subprocess.Popen[str]") -> None:
    while not (folder / "reached").exists():
        assert process.poll() is None, process.communicate(timeout=60)


def stop_idle(process: "subprocess.Popen[str]", database: Path) -> None:
    """Stop a process while it holds no lock on the database: nobody could go on otherwise."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
            else:
                return


def test_a_stopped_process_that_was_taken_for_dead_writes_nothing_more(shop, tmp_path) -> None:
    """Both would write the history and the end of one run: a published run is recorded as failed
    with nothing computed, and its history fails `verify` for ever."""
    wait = tmp_path / "wait"
    wait.mkdir()
    shop.write(SLOW.replace("WAIT", repr(str(wait))))
    first = command(shop.root, "run")
    try:
        reached(wait, first)
        stop_idle(first, shop.root / ".sextant" / "state.db")
        with shop.open() as p:
            run = p.core.state.read("runs_open")[0][0]
            assert is_alive(p.core.state, run)
            for name, _ in live_leases(p.core.state):
                expire(p, name)  # not heard of for LEASE_S
            (wait / "go").touch()
            p.runs.resuming.resume_crashed("dev", by=p.core.authorization.who())
            assert p.core.state.read("runs_open") == []
            ended = views(p).run(run)
            first.send_signal(signal.SIGCONT)
            out, err = first.communicate(timeout=60)
            assert first.returncode == 3, (out, err)
            assert "another process took over" in err
            assert views(p).run(run) == ended, "who was taken for dead wrote to the run"
            assert ended["seal_ok"]
            assert (ended["state"], ended.get("failed", 0)) == ("finished", 0)
            assert ended["computed"] + ended["reused"] == ended["steps"]
            assert views(p).count("dev", "slow") == 1
    finally:
        first.kill()
        first.communicate(timeout=60)
    verified = command(shop.root, "ledger", "verify", "--json")
    assert json.loads(verified.communicate(timeout=60)[0])["findings"] == []


def test_a_container_beside_this_one_is_not_taken_for_dead(shop, tmp_path) -> None:
    """With the same host name and pids of its own, its living run would be robbed at once."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        subprocess.run([*apart, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no pid namespaces here")
    wait = tmp_path / "wait"
    wait.mkdir()
    shop.write(SLOW.replace("WAIT", repr(str(wait))))
    first = subprocess.Popen(
        [*apart, sys.executable, "-m", "sextant.cli.main", "run"],
        cwd=shop.root,
        env={**os.environ, "PYTHONPATH": SRC, "SEXTANT_USER": "ann"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        reached(wait, first)
        with shop.open() as p:
            run = p.core.state.read("runs_open")[0][0]
            assert is_alive(p.core.state, run)
            assert worker_of(p.core.state, run).startswith(f"{run} (pid ")
            p.runs.resuming.resume_crashed("dev", by=p.core.authorization.who())
            with pytest.raises(Busy, match=run):
                p.runs.run(
                    "dev",
                    sextant.testing.Request(force=True, assets=("dataset:orders",)),
                    by=p.core.authorization.who(),
                )
            (wait / "go").touch()
            out, err = first.communicate(timeout=60)
            assert first.returncode == 0, (out, err)
            assert views(p).run(run)["state"] == "finished"
            assert views(p).run(run)["seal_ok"]
            assert parts(p, "dev", "slow")
    finally:
        first.kill()
        first.communicate(timeout=60)


def test_every_process_tells_itself_apart() -> None:
    """A forked child would pass for its parent."""
    assert module.this_process().pid == os.getpid()
    assert HERE.boot != "-"
    assert HERE.namespace != "-"
