"""Where the nodes of a picture stand: by properties, over graphs made at random."""

import random
import statistics

import pytest

from sextant.app.graph_layout import Places, layout

Edges = list[tuple[str, str]]


def made(seed: int, count: int = 200, *, circles: bool = False) -> tuple[list[str], Edges]:
    """Return nodes and edges of a graph like a pipeline: each node stands on one to three that are
    a little older."""
    r = random.Random(seed)
    names = [f"n{n:04}" for n in range(count)]
    edges = []
    for n in range(10, count):
        for m in r.sample(range(max(0, n - 40), n), r.choice((1, 1, 2, 3))):
            edges.append((names[m], names[n]))
    if circles:
        edges += [(names[n], names[n - 9]) for n in range(20, count, 7)]
    r.shuffle(edges)
    return names, edges


@pytest.mark.parametrize("seed", range(5))
def test_causes_stand_left_of_effects_and_nothing_overlaps(seed: int) -> None:
    """If this fails, an arrow goes backwards, or a node is drawn over another one."""
    nodes, edges = made(seed)
    places = layout(nodes, edges)
    assert set(places) == set(nodes)
    assert all(places[s][0] < places[t][0] for s, t in edges)
    assert min(y for _, y in places.values()) == 0
    columns: dict[int, list[float]] = {}
    for x, y in places.values():
        columns.setdefault(x, []).append(y)
    assert sorted(columns) == list(range(len(columns)))
    for rows in columns.values():
        rows.sort()
        assert all(b - a >= 0.998 for a, b in zip(rows, rows[1:], strict=False))


def test_circles_are_cut_and_drawn() -> None:
    """If this fails, services that call each other make the picture hang, or are left out."""
    nodes, edges = made(1, circles=True)
    edges += [("n0001", "n0001"), ("n0001", "elsewhere")]
    assert set(layout(nodes, edges)) == set(nodes)
    assert layout(["a", "b"], [("a", "b"), ("b", "a")])["b"][0] == 1
    assert layout([], []) == {}
    assert layout(["a"], []) == {"a": (0, 0.0)}


def test_the_same_graph_looks_the_same() -> None:
    """If this fails, the picture jumps when it is loaded again."""
    nodes, edges = made(2)
    before = layout(nodes, edges)
    random.Random(0).shuffle(nodes)
    random.Random(1).shuffle(edges)
    assert layout(nodes, edges) == before


def order_kept(before: Places, after: Places) -> float:
    """Return the share of neighbours in a column that stand in the same order as before."""
    columns: dict[int, list[str]] = {}
    for name in sorted(before, key=lambda name: before[name][1]):
        columns.setdefault(before[name][0], []).append(name)
    pairs = [pair for names in columns.values() for pair in zip(names, names[1:], strict=False)]
    return sum(after[a][1] < after[b][1] for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(5))
def test_a_new_node_moves_few_others(seed: int) -> None:
    """If this fails, nobody finds his assets again after somebody has added one."""
    nodes, edges = made(seed)
    before = layout(nodes, edges)
    after = layout([*nodes, "new"], [*edges, ("n0100", "new")])
    assert after["new"][0] == before["n0100"][0] + 1
    assert all(after[name][0] == place[0] for name, place in before.items())
    assert order_kept(before, after) == 1.0
    moved = [abs(after[name][1] - place[1]) for name, place in before.items()]
    assert statistics.median(moved) < 1.0


def crossings(places: Places, edges: Edges) -> int:
    lines = [(places[s], places[t]) for s, t in edges]
    return sum(
        (a[1] - c[1]) * (b[1] - d[1]) < 0
        for n, (a, b) in enumerate(lines)
        for c, d in lines[:n]
        if a[0] == c[0] and b[0] == d[0]
    )


def test_fewer_lines_cross_than_by_name() -> None:
    """If this fails, the rows are ordered by something else than what belongs together."""
    nodes, edges = made(3)
    places = layout(nodes, edges)
    named: Places = {}
    for row, name in enumerate(sorted(nodes)):
        named[name] = (places[name][0], float(row))
    assert crossings(places, edges) < crossings(named, edges) * 0.8
