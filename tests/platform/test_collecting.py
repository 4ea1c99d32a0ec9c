"""What a collection may delete while runs go on, when a server collects, and how long the versions
of a stream are kept."""

from sextant.kernel.nouns import SYSTEM
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sextant import testing
from sextant.app import keeping
from sextant.app.keeping import collect, collect_when_due
from sextant.app.operations import Operations
from sextant.engine.leases import Leases
from sextant.engine.plan import Request
from sextant.kernel.errors import Busy, Denied
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Write
from sextant.ledger.projections import RunChanged

OPS = """
import polars as pl
import sextant as sx

team = sx.team("ops", members=["ann"])
sx.project("shop", tz="UTC", environments=["dev", "prod"], owner=team)
days = sx.daily(start="2030-03-05")
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id", time="at", partition=days)
mean = sx.kpi("mean", of=prices, measure="avg(price)", grain="1d")


@sx.dataset(partition=days, keep="2h")
def slow(prices: pl.DataFrame) -> pl.DataFrame:
    return prices


@sx.dataset(key="n", keep="2h", on=sx.cron("0 5 * * *"))
def table() -> pl.DataFrame:
    return pl.DataFrame({"n": [1]})
"""
# later than the machine's clock: what lies on the disk is old
AT = datetime(2030, 3, 7, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0
TABLE, PRICES = "dataset:table", "dataset:prices"


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": OPS}, at=AT) as one:
        yield one


def make(p: Any, n: int) -> str:
    """Make the table hold `n` and return its version."""
    text = (p.core.project.root / "ops.py").read_text()
    p.core.project.root.joinpath("ops.py").write_text(
        text[: text.index('{"n": [')] + f'{{"n": [{n}]}})\n'
    )
    p.core.project.load()
    p.runs.run("dev", Request(assets=(TABLE,)), by=p.core.authorization.who())
    return str(p.core.versions.live_version("dev", TABLE))


def push(p: Any, n: int = 1) -> None:
    rows = [
        {"id": p.core.ids.new("r"), "at": "2030-03-06T08:00:00Z", "price": 1.0} for _ in range(n)
    ]
    Operations(p).push("prices", rows)
    p.runs.run("dev", Request(), by=p.core.authorization.who())


def readable(p: Any, version: str) -> bool:
    """Say whether all files of a version of the table are there."""
    try:
        files = p.core.lake.files(p.core.versions.get(TABLE, version).locator)
    except Exception:  # its state is gone
        return False
    return all((p.core.lake.root / one.path).exists() for one in files)


def begin_run(p: Any, finished_at: int = 0) -> None:
    """Record a run of another process, open or ended."""
    facts = RunChanged(id="run_other", env="prod", state="running", trigger="manual", by="ann", started_at=p.core.clock.now_ns(), finished_at=finished_at)  # fmt: skip
    kind = "run.finished" if finished_at else "run.started"
    p.core.state.commit(Write((), (p.core.events.make(kind, "run_other", facts, SYSTEM, ""),)))


def test_files_go_after_their_version(p: Any) -> None:
    """If this fails, a run that has just taken a partition from an old version publishes files that
    are deleted under it."""
    old, new = make(p, 1), make(p, 2)
    p.core.clock.wait(3 * HOUR)
    assert collect(p.core, p.runs.bundles)["expire"] == [f"{TABLE}@{old[:12]}"]
    assert readable(p, old), "who has begun to use it can end"
    p.core.clock.wait(2 * HOUR)
    assert collect(p.core, p.runs.bundles)["freed_bytes"] > 0
    assert not readable(p, old)
    assert readable(p, new)


def test_what_an_open_run_may_use_stays(p: Any) -> None:
    """If this fails, a run of several hours finds that its files are gone."""
    old = make(p, 1)
    make(p, 2)
    begin_run(p)
    p.core.clock.wait(3 * HOUR)
    collect(p.core, p.runs.bundles)
    p.core.clock.wait(3 * HOUR)
    collect(p.core, p.runs.bundles)
    assert readable(p, old)
    begin_run(p, finished_at=p.core.clock.now_ns())
    p.core.clock.wait(2 * HOUR)
    collect(p.core, p.runs.bundles)
    assert not readable(p, old)


def test_the_earlier_files_of_a_version_stay_as_long_as_a_run_may_read_them(p: Any) -> None:
    """If this fails, files that were merged or made again in one environment are deleted while a
    run of another reads them."""
    version = make(p, 1)
    before = p.core.versions.get(TABLE, version)
    files = p.core.lake.files(before.locator)
    p.core.clock.wait(3 * HOUR)
    begin_run(p)
    p.runs.run("dev", Request(assets=(TABLE,), force=True), by=p.core.authorization.who())
    assert p.core.versions.get(TABLE, version).locator != before.locator
    p.core.clock.wait(3 * HOUR)
    collect(p.core, p.runs.bundles)
    assert all((p.core.lake.root / one.path).exists() for one in files)
    begin_run(p, finished_at=p.core.clock.now_ns())
    p.core.clock.wait(2 * HOUR)
    collect(p.core, p.runs.bundles)
    assert not any((p.core.lake.root / one.path).exists() for one in files)
    assert readable(p, version)


def test_a_version_that_is_taken_up_meanwhile_does_not_expire(
    p: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a version that was released while a collection judged it loses its rows, or
    holds up the collection of all others."""
    made = [make(p, n) for n in range(5)]
    p.core.clock.wait(3 * HOUR)
    monkeypatch.setattr(keeping, "kept", lambda _p, _manifest: set())
    expired = {
        text.partition("@")[2]
        for text in collect(p.core, p.runs.bundles)["expire"]
        if text.startswith(TABLE)
    }
    assert expired == {digest[:12] for digest in made[:-1]}
    assert readable(p, made[-1])


def test_a_blob_that_one_fold_replaces_is_left_for_runs_that_read_it(p: Any) -> None:
    """If this fails, a run that has begun cannot read the rows that were pushed before it."""
    from sextant.kinds.dataset import inbox

    push(p)
    (old,) = {row[0] for row in p.core.state.read("inbox_blobs")}
    begin_run(p)
    os.utime(p.core.blobs._path(old), ns=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox, "INBOX_PARTS_MAX", 1)
        push(p)
    assert old not in {row[0] for row in p.core.state.read("inbox_blobs")}
    assert os.stat(p.core.blobs._path(old)).st_mtime_ns > 1


def test_one_collection_at_a_time(p: Any) -> None:
    """If this fails, a person and a server collect at once, each with its own idea of what is
    kept."""
    with Leases(p.core.state, "gc_other", ["collect"]):
        with pytest.raises(Busy) as caught:
            collect(p.core, p.runs.bundles)
        assert caught.value.code == "SX-KEEP-001"
        assert collect_when_due(p.core, p.runs.bundles, HOUR) is None
    assert collect_when_due(p.core, p.runs.bundles, HOUR) is not None


def test_a_server_collects_when_it_is_due(p: Any) -> None:
    """If this fails, a lake grows until somebody runs a command, or is walked through without
    end."""
    old = make(p, 1)
    make(p, 2)
    p.core.clock.wait(3 * HOUR)
    found = collect_when_due(p.core, p.runs.bundles, HOUR)
    assert found is not None
    assert found["expire"] == [f"{TABLE}@{old[:12]}"]
    assert collect_when_due(p.core, p.runs.bundles, HOUR) is None, "just done"
    p.core.clock.wait(HOUR)
    assert collect_when_due(p.core, p.runs.bundles, HOUR) is not None
    events = Operations(p).events(type="version.expired").items
    assert [event["actor"] for event in events] == ["system:sextant"]


def test_a_policy_can_forbid_the_server_to_collect() -> None:
    """If this fails, rows go although a rule says that nobody may delete them."""
    rule = '\nsx.policy("no deletion", when="verb == \'collect\'", then="deny")\n'
    with testing.platform({"ops.py": OPS + rule}, at=AT) as p, pytest.raises(Denied):
        collect_when_due(p.core, p.runs.bundles, HOUR)


def test_a_person_collects_too(p: Any) -> None:
    """If this fails, a viewer deletes rows over the network."""
    with pytest.raises(Denied):
        Operations(p, Principal(name="eve", kind="token", role="viewer")).collect()
    assert Operations(p).collect()["expire"] == []


def test_versions_of_a_stream_are_kept_for_a_day(p: Any) -> None:
    """If this fails, a stream fills the disk with versions, or the number that is live loses what
    it was made from."""
    for _ in range(4):
        push(p)
        p.core.clock.wait(2 * HOUR)
    assert len(_kept(p, PRICES)) == 4
    p.core.clock.wait(DAY)
    collect(p.core, p.runs.bundles)
    assert _kept(p, PRICES) == {p.core.versions.live_version("dev", PRICES)}
    assert _kept(p, "dataset:kpi_mean") == {p.core.versions.live_version("dev", "dataset:kpi_mean")}
    p.core.clock.wait(2 * HOUR)
    lake: Path = p.core.lake.root
    before = _size(lake)
    collect(p.core, p.runs.bundles)
    assert _size(lake) < before
    assert Operations(p).count("prices")["rows"] == 4


def _kept(p: Any, asset: str) -> set[str]:
    return {row[1] for row in p.core.state.read("versions_kept") if row[0] == asset}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
