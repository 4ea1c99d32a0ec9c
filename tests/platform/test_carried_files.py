"""Files that a new version takes over from the one before: compared before it goes live."""

from typing import Any

import pytest
from test_changed_bytes import BODY, damaged, file_of, live_parts, plant_other_rows

from sextant.app.operations import Operations

WEST = '"north", "south", "west"'


@pytest.fixture
def made(shop: Any, running: Any) -> Any:
    shop.write(BODY)
    with shop.open() as p:
        running(p)
    return shop


def test_a_new_version_with_a_changed_file_of_the_old_one_stays_out(
    made: Any, running: Any
) -> None:
    """A run of one more partition would make a version live that holds rows nobody made."""
    with made.open() as p:
        before = p.core.versions.live_version("dev", "dataset:orders")
        plant_other_rows(file_of(p, "north"))
        made.edit('"north", "south"), key="id")\ndef orders', f'{WEST}), key="id")\ndef orders')
        made.edit("pl.lit(1)", "pl.lit(2)")
        p.core.project.load()
        opened = p.core.versions.live_version("dev", "dataset:opened")
        report = running(p, stale=True)
        assert report.state == "failed"
        assert {one.code for one in report.failed} == {"SX-LAKE-003"}
        assert p.core.versions.live_version("dev", "dataset:orders") == before
        assert p.core.versions.live_version("dev", "dataset:opened") != opened, "others go on"


def test_a_forced_run_takes_the_place_of_a_changed_file(made: Any, running: Any) -> None:
    """There would be no way out but a backup."""
    with made.open() as p:
        before = live_parts(p)
        plant_other_rows(file_of(p, "north"))
        assert running(p, force=True).state == "finished"
        assert live_parts(p) == before
        Operations(p).rows("orders", form="CSVWithNames")


def test_an_undo_does_not_carry_a_changed_file(made: Any, running: Any) -> None:
    """The way back would publish what nobody made."""
    with made.open() as p:
        made.edit("len(part.key) + 1.0", 'len(part.key) + (2.0 if part.key == "south" else 1.0)')
        p.core.project.load()
        running(p, stale=True)
        live = p.core.versions.live_version("dev", "dataset:orders")
        plant_other_rows(file_of(p, "north"))
        damaged(
            lambda: p.runs.undo(
                "dev", "dataset:orders", by=p.core.authorization.who(), reason="wrong"
            )
        )
        assert p.core.versions.live_version("dev", "dataset:orders") == live
