"""The story that `scripts/demo` tells, with the year as one backfill instead of day by day."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    """If this fails, the first command that a new user types ends in an error, or says WRONG."""
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}
    told = subprocess.run(
        [sys.executable, ROOT / "examples" / "year.py", "--backfill", "--folder", "flights"],
        cwd=tmp_path,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("\n== ") >= 5, told.stdout
