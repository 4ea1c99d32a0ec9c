"""Drivers of releases that are killed with -9: the next one goes on where they were."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "release"))

from killed_drivers import kill_drivers


def test_drivers_that_are_killed_leave_one_story(tmp_path: Path) -> None:
    """If this fails, a release is rolled out twice at once, or what was judged bad keeps traffic
    after a crash."""
    counts = kill_drivers(tmp_path, kills=20, seed=1)
    assert counts["live"]
    assert counts["rolled_back"]
