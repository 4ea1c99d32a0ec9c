"""A difference shared among changes: compared with the average over all orders, one by one."""

import itertools
import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.engine import shares as sharing


def befores_of(rng: random.Random, count: int) -> list[int]:
    """Return random precedence: a change presupposes some earlier ones, and what those do."""
    out: list[int] = []
    for n in range(count):
        before = 0
        for m in range(n):
            if rng.random() < 0.25:
                before |= 1 << m | out[m]
        out.append(before)
    return out


def orders_of(befores: list[int]) -> list[tuple[int, ...]]:
    """Return every order that respects precedence, by trying all."""

    def holds(order: tuple[int, ...]) -> bool:
        done = 0
        for n in order:
            if befores[n] & ~done:
                return False
            done |= 1 << n
        return True

    return [order for order in itertools.permutations(range(len(befores))) if holds(order)]


@pytest.mark.parametrize("seed", range(30))
def test_a_share_is_the_average_over_all_orders(seed: int) -> None:
    """A share differs from the mean of the effects in every order that may have been."""
    rng = random.Random(seed)
    befores = befores_of(rng, rng.randint(1, 6))
    cases = sharing.cases(befores, 64)
    assert cases is not None
    values = {case: Fraction(rng.randint(-1000, 1000), rng.randint(1, 9)) for case in cases}
    orders = orders_of(befores)
    wanted = [Fraction(0)] * len(befores)
    for order in orders:
        done = 0
        for n in order:
            wanted[n] += values[done | 1 << n] - values[done]
            done |= 1 << n
    found = sharing.shares(befores, cases, values)
    assert found == [one / len(orders) for one in wanted]
    assert sum(found) == values[cases[-1]] - values[0]


@pytest.mark.parametrize("seed", range(10))
def test_sampled_shares_add_up_and_are_the_same_again(seed: int) -> None:
    """Sampled shares lose a part of the difference, or another answer comes for the same
    question."""
    rng = random.Random(seed)
    befores = befores_of(rng, 12)
    orders = sharing.sampled_orders(befores, 40, "seed")
    assert orders == sharing.sampled_orders(befores, 40, "seed")
    values = {case: Fraction(rng.randint(0, 10**6), 7) for case in sharing.cases_of(orders)}
    found = sharing.sampled_shares(orders, values)
    assert sum(share for share, _ in found) == values[(1 << 12) - 1] - values[0]
    assert all(width >= 0 for _, width in found)
    for order in orders:
        done = 0
        for n in order:
            assert not befores[n] & ~done, "a change came before what it presupposes"
            done |= 1 << n


def test_too_many_cases_are_not_listed() -> None:
    """A hundred changes make a machine list 2^100 sets."""
    assert sharing.cases([0] * 100, 256) is None
    chain = [(1 << n) - 1 for n in range(100)]
    assert len(sharing.cases(chain, 256) or []) == 101


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.fractions(min_value=-(10**6), max_value=10**6), min_size=1, max_size=12),
    st.integers(min_value=0, max_value=9),
)
def test_rounded_parts_add_up(parts: list[Fraction], places: int) -> None:
    """Rounding loses a digit of the sum, or moves a part by more than a unit."""
    unit = Fraction(1, 10**places)
    whole = sum(parts, Fraction(0))
    parts = [*parts, -(whole % unit)]  # the sum has no more places
    total = Decimal(int(sum(parts) / unit)).scaleb(-places)
    found = sharing.rounded(parts, total, places)
    assert sum(found, Decimal(0)) == total
    for part, shown in zip(parts, found, strict=True):
        assert abs(Fraction(shown) - part) <= unit
