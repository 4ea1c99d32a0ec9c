"""A source is held by its content: what was undone stays out, what was mended comes in."""

from seen import views
from sextant.release.as_of import version_as_of
from sextant.app import environments
from pathlib import Path

import pytest
from orders_project import parts

from sextant.kernel.clock import ManualClock, from_datetime
from sextant.kernel.errors import Conflict

BODY = """
import pathlib
FILES = pathlib.Path(FOLDER)

@sx.dataset(partition=days, key="id", lookback="30d")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "amount": [int((FILES / day.key).read_text())]})

@sx.dataset(partition=days, key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)
"""
DAYS = [f"2026-01-0{n}" for n in range(1, 5)]
BAD = "2026-01-02"


class Source:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for day in DAYS:
            self.give(day, 1)

    def give(self, day: str, amount: int) -> None:
        (self.folder / day).write_text(str(amount))


@pytest.fixture
def source(shop, tmp_path) -> Source:
    found = Source(tmp_path / "files")
    shop.write(BODY.replace("FOLDER", repr(str(found.folder))))
    return found


def open_(shop):
    from datetime import UTC, datetime

    return shop.open(clock=ManualClock(from_datetime(datetime(2026, 1, 6, tzinfo=UTC))))


def amounts(p, name: str = "orders", env: str = "dev") -> list[int]:
    frame = views(p).frame(version_as_of(p.core, env, f"dataset:{name}", ""))
    return frame.sort("id")["amount"].to_list()


def undo(p, **more):
    return p.runs.undo(
        "dev", "dataset:orders", by=p.core.authorization.who(), reason="bad file", **more
    )


def test_a_mended_source_is_read_again(shop, running, source) -> None:
    """After an undo the mended file would never be read again, and nobody told why."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        assert amounts(p) == [1, 9, 1, 1]
        undo(p)
        assert amounts(p) == [1, 1, 1, 1]
        assert amounts(p, "doubled") == [2, 2, 2, 2]

        report = running(p)  # the same bad file is there still
        assert amounts(p) == [1, 1, 1, 1]
        assert report.held == {"dataset:orders": (BAD,)}
        assert p.runs.plan("dev", look_back(False)).held == {"dataset:orders": (BAD,)}

        source.give(BAD, 5)
        report = running(p)
        assert (amounts(p), amounts(p, "doubled")) == ([1, 5, 1, 1], [2, 10, 2, 2])
        assert report.held == {}
        assert p.runs.plan("dev", look_back(False)).held == {}

        source.give(BAD, 9)  # what was undone comes back
        running(p)
        assert amounts(p) == [1, 5, 1, 1]
        assert p.runs.plan("dev", look_back(False)).held == {"dataset:orders": (BAD,)}


def look_back(on: bool):
    from sextant.engine.plan import Request

    return Request(look_back=on)


def test_a_source_that_gives_again_what_is_live(shop, running, source) -> None:
    """The plan would call a partition held that is what its source gives."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        undo(p)
        assert p.runs.plan("dev", look_back(False)).held == {"dataset:orders": (BAD,)}
        source.give(BAD, 1)
        running(p)
        assert p.runs.plan("dev", look_back(False)).held == {}
        assert amounts(p) == [1, 1, 1, 1]


def test_two_contents_of_one_partition_are_undone(shop, running, source) -> None:
    """The second undo would be forgotten: the first one's hold stands in its place."""
    with open_(shop) as p:
        running(p)
        for bad in (8, 9):
            source.give(BAD, bad)
            running(p)
            undo(p)
            assert amounts(p) == [1, 1, 1, 1]
        for bad in (8, 9, 8):
            source.give(BAD, bad)
            running(p)
            assert amounts(p) == [1, 1, 1, 1]
        source.give(BAD, 7)
        running(p)
        assert amounts(p) == [1, 7, 1, 1]


def test_force_reads_again_but_does_not_bring_back_what_was_undone(shop, running, source) -> None:
    """Undone would not stay undone."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        undo(p)
        report = running(p, "dev", "dataset:orders", force=True, partitions=(BAD, BAD))
        assert (amounts(p), report.held) == ([1, 1, 1, 1], {"dataset:orders": (BAD,)})
        source.give(BAD, 5)
        running(p, "dev", "dataset:orders", force=True, partitions=(BAD, BAD))
        assert (amounts(p), amounts(p, "doubled")) == ([1, 5, 1, 1], [2, 10, 2, 2])


def test_a_release_from_elsewhere_is_judged_by_content(shop, running, source) -> None:
    """A mended version could not be brought over: it is made of the same code and of no inputs."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        undo(p)
        environments.create(p.core, "aside", "dev")
        source.give(BAD, 5)
        source.give("2026-01-03", 6)
        running(p, "aside")
        source.give("2026-01-04", 3)
        running(p, "dev")  # dev moves on: what is brought over is laid over it
        source.give(BAD, 4)
        running(p, "aside")
        orders = p.core.assets.find("orders")
        with pytest.raises(Conflict, match="changed in `dev` as well"):
            p.runs.release("dev", orders, source="aside", by=p.core.authorization.who())


def test_a_release_of_an_older_version_does_not_bring_back_what_was_undone(
    shop, running, source
) -> None:
    """A version behind the bad one holds its partition still; by its name it would come back."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        bad = p.core.versions.live_version("dev", "dataset:orders")
        source.give("2026-01-03", 2)
        running(p)
        later = p.core.versions.live_version("dev", "dataset:orders")
        undo(p, version=bad)
        assert amounts(p) == [1, 1, 2, 1]
        with pytest.raises(Conflict, match=f"{BAD}.* was undone in `dev`"):
            p.runs.release(
                "dev", p.core.assets.find("orders"), version=later, by=p.core.authorization.who()
            )
        assert amounts(p) == [1, 1, 2, 1]
        p.runs.releases.unhold("dev", "dataset:orders", bad, p.core.authorization.who())
        p.runs.release(
            "dev", p.core.assets.find("orders"), version=later, by=p.core.authorization.who()
        )
        assert amounts(p) == [1, 9, 2, 1]


def test_other_code_that_makes_a_withdrawn_version_fails_alone(shop, running, source) -> None:
    """A version that was withdrawn came out of other code: every run would fail as a whole."""
    with open_(shop) as p:
        running(p)
        shop.edit("* 2", "* 3")
        p.core.project.load()
        running(p, "dev", stale=True)
        p.runs.undo("dev", "dataset:doubled", by=p.core.authorization.who(), reason="wrong factor")
        shop.edit("* 3", "* (1 + 2)")
        source.give(BAD, 1)
        p.core.project.load()
        shop.edit("* (1 + 2)", "* sum([1, 2])")
        p.core.project.load()
        report = running(p, "dev", stale=True)
        assert report.state == "failed"
        assert [step.code for step in report.failed] == ["SX-RELEASE-004"]
        assert amounts(p, "doubled") == [2, 2, 2, 2]
        assert p.core.state.read("runs_open") == []


def test_a_release_of_what_was_undone_is_refused(shop, running, source) -> None:
    """The other way round: the bad content would come back through another environment."""
    with open_(shop) as p:
        running(p)
        environments.create(p.core, "aside", "dev")
        source.give(BAD, 9)
        running(p, "aside")
        running(p, "dev")
        undo(p)
        source.give("2026-01-03", 2)
        running(p, "aside")
        source.give("2026-01-03", 1)
        source.give("2026-01-04", 4)
        source.give(BAD, 1)
        running(p, "dev")
        with pytest.raises(Conflict, match="was undone in `dev`"):
            p.runs.release(
                "dev", p.core.assets.find("orders"), source="aside", by=p.core.authorization.who()
            )
        assert amounts(p) == [1, 1, 1, 4]


def test_an_undo_takes_back_what_is_live_when_the_clock_was_set_back(shop, running, source) -> None:
    """The first release of the same version would be undone instead, and everything be gone."""
    with open_(shop) as p:
        running(p)
        source.give(BAD, 9)
        running(p)
        p.core.clock.set(p.core.clock.now_ns() - 3600 * 10**9)
        source.give(BAD, 1)
        running(p)
        assert amounts(p) == [1, 1, 1, 1]
        undo(p)
        assert amounts(p) == [1, 9, 1, 1]


def test_an_undo_upstream_leaves_out_what_was_undone_below(shop, running, source) -> None:
    """An undo takes what older code had made of the older rows: also what was undone of it."""
    with open_(shop) as p:
        running(p)
        shop.edit("* 2", "* 4")
        p.core.project.load()
        running(p, "dev", stale=True)
        p.runs.undo("dev", "dataset:doubled", by=p.core.authorization.who(), reason="bad factor")
        source.give(BAD, 9)
        running(p)
        assert amounts(p, "doubled") == [2, 36, 2, 2]
        shop.edit("* 4", "* 5")
        p.core.project.load()
        undo(p)
        assert amounts(p, "doubled") == [2, 5, 2, 2], "not 4, which was undone"
