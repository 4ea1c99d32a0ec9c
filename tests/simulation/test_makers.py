"""The seeded part of what `bench/access.py` does by the ten thousand."""

from makers import Makers


def test_nobody_gains_by_making_tokens() -> None:
    """A token would outlive, outrank or approve for the person who is behind it."""
    with Makers() as makers:
        for number in range(120):
            makers.example(f"tests {number}")
        assert makers.counts["approvals"] > 20, "there is something to judge"
        assert makers.counts["made by a token or account"] > 100
