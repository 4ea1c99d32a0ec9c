"""The table of `bench/mutation.py` fits today's source."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import mutation


@pytest.mark.parametrize("guard", mutation.GUARDS, ids=lambda guard: guard.name)
def test_every_guard_stands_in_the_source(guard: mutation.Guard) -> None:
    """The bench would remove nothing, and call a guard tested whose code has moved."""
    source = (ROOT / "src" / "sextant" / guard.file).read_text()
    assert mutation.removed(guard, source) != source
    file, _, name = guard.test.partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()


def test_names_tell_guards_apart() -> None:
    """A line of the bench's output would not say which guard it is about."""
    assert len({guard.name for guard in mutation.GUARDS}) == len(mutation.GUARDS) >= 10
