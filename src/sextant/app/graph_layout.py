"""Where the nodes of a picture of a graph stand: in columns from left to right, causes before
effects. Pure; own code, because the libraries that lay out in layers are copyleft or not kept.

Circles are cut, and each node stands in the column behind the last of those that it stands on. In a
column nodes keep the order in which a walk into the depth meets them, so what belongs together is
near to each other, and a new leaf changes no order; then all move towards their neighbours as far
as that order allows. (Ordering columns by the middle of neighbours, again and again, lets no fewer
lines cross where edges pass over columns, and one new node stirs everything.) Places depend on
names and edges alone: equal graphs look equal.
"""

from collections.abc import Collection, Iterable, Sequence

_SWEEPS = 4  # over all columns, forth and back by turns: more changes little that one sees
Places = dict[str, tuple[int, float]]


def layout(nodes: Collection[str], edges: Iterable[tuple[str, str]]) -> Places:
    """Return node -> (column, row): columns from 0 on, rows from 0 on with at least 1 between two.

    nodes  without an order
    edges  (source, target); those of others, and from a node to itself, are left out

    Cost: some 0.2 s for 10,000 nodes with 20,000 edges.
    """
    names = sorted(nodes)
    number = {name: n for n, name in enumerate(names)}
    below: list[list[int]] = [[] for _ in names]
    for source, target in sorted(set(edges)):
        if source in number and target in number and source != target:
            below[number[source]].append(number[target])
    visited = _cut_circles(below)
    above: list[list[int]] = [[] for _ in names]
    for n, reached in enumerate(below):
        for one in reached:
            above[one].append(n)
    columns = _columns(above, below)
    rows = _rows(columns, above, below, visited)
    return {name: (columns[n], round(rows[n], 3)) for n, name in enumerate(names)}


def _cut_circles(below: list[list[int]]) -> list[int]:
    """Remove the edges that close a circle. Return the nodes as a walk into the depth meets them:
    what belongs together is near to each other."""
    has_source = [False] * len(below)
    for targets in below:
        for target in targets:
            has_source[target] = True
    starts = sorted(range(len(below)), key=lambda n: (has_source[n], n))
    new, open_, done = 0, 1, 2
    state, visited = [new] * len(below), []
    for start in starts:
        if state[start] != new:
            continue
        state[start] = open_
        visited.append(start)
        stack = [(start, 0)]
        while stack:
            node, at = stack.pop()
            targets = below[node]
            while at < len(targets) and state[targets[at]] != new:
                if state[targets[at]] == open_:
                    del targets[at]
                else:
                    at += 1
            if at == len(targets):
                state[node] = done
                continue
            stack.append((node, at + 1))
            state[targets[at]] = open_
            visited.append(targets[at])
            stack.append((targets[at], 0))
    return visited


def _columns(above: list[list[int]], below: list[list[int]]) -> list[int]:
    """Return the column of each node: behind all that it stands on, and what stands on nothing just
    before the first that stands on it."""
    columns = [0] * len(above)
    waits = [len(sources) for sources in above]
    ready = [n for n, count in enumerate(waits) if not count]
    for node in ready:  # grows while it is read
        for target in below[node]:
            columns[target] = max(columns[target], columns[node] + 1)
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    for node, sources in enumerate(above):
        if not sources and below[node]:
            columns[node] = min(columns[target] for target in below[node]) - 1
    return columns


def _rows(
    columns: list[int], above: list[list[int]], below: list[list[int]], visited: list[int]
) -> list[float]:
    ordered: list[list[int]] = [[] for _ in range(max(columns, default=-1) + 1)]
    for node in visited:
        ordered[columns[node]].append(node)
    rows = [0.0] * len(columns)
    for column in ordered:
        for row, node in enumerate(column):
            rows[node] = float(row)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        beside = above if forth else below
        for column in ordered if forth else reversed(ordered):
            wanted = [
                sum(rows[one] for one in beside[node]) / len(beside[node])
                if beside[node]
                else rows[node]
                for node in column
            ]
            for node, place in zip(column, _apart(wanted), strict=True):
                rows[node] = place
    least = min(rows, default=0.0)
    return [row - least for row in rows]


def _apart(wanted: Sequence[float]) -> list[float]:
    """Return the rows nearest to those that are wanted, in this order, with at least 1 between two
    (least squares: neighbours that would overlap move apart around their middle)."""
    blocks: list[tuple[float, int]] = []  # (sum of what its members want of its first row, members)
    for n, row in enumerate(wanted):
        total, count = float(row - n), 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, members = blocks.pop()
            total, count = total + before, count + members
        blocks.append((total, count))
    out: list[float] = []
    for total, count in blocks:
        first = total / count + len(out)
        out += [first + n for n in range(count)]
    return out
