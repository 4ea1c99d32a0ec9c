"""The seeded part of what `bench/kpis.py` does by the ten thousand."""

from business_numbers import Numbers


def test_numbers_are_what_plain_sql_says_in_every_zone() -> None:
    """A day would have the hours of another zone, a month a week of the next, a balance the sum of
    its days."""
    numbers = Numbers()
    for number in range(150):
        numbers.example(f"tests {number}")
    assert numbers.counts["examples"] == 150
