"""Shares the difference between two numbers among the changes that made it: Shapley values over all
orders in which the changes could have come. Pure.

Some changes presuppose others: the second edit of a file contains the first, an undo needs what it
undoes. Only orders that respect this are counted, so such a change has its effect on top of what it
presupposes (Shapley 1953; for orders with precedence Faigle and Kern 1992, "The Shapley value for
cooperative games under precedence constraints").

Sets of changes are bit masks: change n is in a set when bit n is. All arithmetic is exact, so the
shares add up to the difference to the last digit.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

Befores = Sequence[int]  # for each change the set of those that it presupposes
_Z = 1.96  # half the width of a 95 % interval, in standard errors


def cases(befores: Befores, most: int) -> list[int] | None:
    """Return all sets of changes that contain what their members presuppose, smaller ones first;
    None when there are more than `most`."""
    found = [0]
    level = {0}
    while level:
        level = {
            case | 1 << n
            for case in level
            for n, before in enumerate(befores)
            if not case >> n & 1 and before & ~case == 0
        }
        found += sorted(level)
        if len(found) > most:
            return None
    return found


def shares(
    befores: Befores, all_cases: Sequence[int], values: Mapping[int, Fraction]
) -> list[Fraction]:
    """Return the share of each change in the difference between the last case and the first: its
    effect, averaged over all orders.

    all_cases  as `cases` returns them; values: the number in each
    """
    below = {0: 1}  # orders in which the changes of a case can come
    for case in all_cases[1:]:
        below[case] = sum(below.get(case & ~(1 << n), 0) for n in _members(case))
    whole = all_cases[-1]
    above = {whole: 1}  # orders in which the others can follow
    for case in reversed(all_cases[:-1]):
        above[case] = sum(
            above.get(case | 1 << n, 0) for n in range(len(befores)) if not case >> n & 1
        )
    out = [Fraction(0)] * len(befores)
    for case in all_cases[1:]:
        for n in _members(case):
            before = case & ~(1 << n)
            if before in below:
                out[n] += below[before] * above[case] * (values[case] - values[before])
    return [share / below[whole] for share in out]


def sampled_orders(befores: Befores, count: int, seed: str) -> list[tuple[int, ...]]:
    """Return some of the orders in which changes can come, the same for the same seed: each draws
    the next one among those whose time has come."""
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    out = []
    for _ in range(count):
        done, order = 0, list[int]()
        while len(order) < len(befores):
            free = [
                n for n, before in enumerate(befores) if not done >> n & 1 and before & ~done == 0
            ]
            order.append(rng.choice(free))
            done |= 1 << order[-1]
        out.append(tuple(order))
    return out


def cases_of(orders: Sequence[Sequence[int]]) -> list[int]:
    """Return the cases that some orders go through, the empty one first."""
    found = {0}
    for order in orders:
        case = 0
        for n in order:
            case |= 1 << n
            found.add(case)
    return sorted(found, key=lambda case: (case.bit_count(), case))


def sampled_shares(
    orders: Sequence[Sequence[int]], values: Mapping[int, Fraction]
) -> list[tuple[Fraction, float]]:
    """Return the share of each change, averaged over some orders, and half the width of its 95 %
    interval. The shares add up exactly, for they do so in each order."""
    changes = len(orders[0])
    effects: list[list[Fraction]] = [[] for _ in range(changes)]
    for order in orders:
        case = 0
        for n in order:
            effects[n].append(values[case | 1 << n] - values[case])
            case |= 1 << n
    out = []
    for each in effects:
        mean = sum(each, Fraction(0)) / len(each)
        spread = float(sum((one - mean) ** 2 for one in each)) / max(1, len(each) - 1)
        out.append((mean, _Z * math.sqrt(spread / len(each))))
    return out


def rounded(parts: Sequence[Fraction], total: Decimal, places: int) -> list[Decimal]:
    """Return parts of a sum with so many decimal places, which add up to `total` exactly: each is
    within one unit of the last place of what it was.

    total  the sum of the parts, with no more places
    """
    unit = Fraction(1, 10**places)
    floors = [math.floor(part / unit) for part in parts]
    goal = total.scaleb(places)
    missing = int(goal) - sum(floors)
    by_rest = sorted(range(len(parts)), key=lambda n: (floors[n] * unit - parts[n], n))
    for n in by_rest[:missing]:
        floors[n] += 1
    return [Decimal(floor).scaleb(-places) for floor in floors]


def _members(case: int) -> Iterator[int]:
    n = 0
    while case:
        if case & 1:
            yield n
        case >>= 1
        n += 1
