"""The seeded part of what `bench/values.py` does by the ten thousand."""

from pathlib import Path

from roundtrips import World


def test_what_was_returned_is_what_is_read(tmp_path: Path) -> None:
    """A value would change on its way between two libraries, or a reader see another order."""
    world = World(tmp_path)
    for number in range(150):
        world.example(f"tests {number}")
    assert world.counts["examples"] == 150
    assert world.counts["rows"] > 500
