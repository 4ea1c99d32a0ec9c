"""The tree of a trace: every span has a place, whatever its sender made of parents; of a huge one
what matters is chosen."""

from hypothesis import given
from hypothesis import strategies as st

from sextant.app.telemetry.span_tree import CIRCLE, ORPHAN, Bone, SpanTree


def bone(
    id_: str, parent: str = "", start: int = 0, duration: int = 1, failed: bool = False
) -> Bone:
    return Bone(id_, parent, start, duration, failed)


def shown(tree: SpanTree, limit: int = 100, under: str = "") -> list[tuple[str, int, str]]:
    return [(one.id, one.depth, one.note) for one in tree.choose(limit, under)]


def test_spans_stand_under_their_parents_in_the_order_of_their_start() -> None:
    """If this fails, a waterfall does not say what called what."""
    tree = SpanTree(
        [bone("late", "root", 9), bone("root", start=0), bone("early", "root", 1),
         bone("deep", "early", 2), bone("lost", "nowhere", 5)]
    )  # fmt: skip
    assert shown(tree) == [
        ("root", 0, ""), ("early", 1, ""), ("deep", 2, ""), ("late", 1, ""), ("lost", 0, ORPHAN),
    ]  # fmt: skip
    assert shown(tree, under="early") == [("early", 0, ""), ("deep", 1, "")]


def test_a_circle_is_shown_and_ends() -> None:
    """If this fails, spans that are their own ancestors vanish, or the command hangs."""
    tree = SpanTree(
        [bone("root"), bone("a", "c", 3), bone("b", "a", 1), bone("c", "b", 2), bone("d", "a", 4),
         bone("self", "self", 7)]
    )  # fmt: skip
    assert shown(tree) == [
        ("root", 0, ""), ("b", 0, CIRCLE), ("c", 1, ""), ("a", 2, ""), ("d", 3, ""),
        ("self", 0, CIRCLE),
    ]  # fmt: skip


def test_of_a_huge_trace_the_errors_and_the_slowest_are_shown() -> None:
    """If this fails, the one error among thousands of spans is hidden."""
    spans = [bone("root", duration=9999)]
    spans += [bone(f"s{n}", "root", n, n % 100) for n in range(2000)]
    spans += [bone("above", "s5", 6), bone("error", "above", 7, failed=True)]
    spans += [bone("slow", "s9", 10, 5000)]
    tree = SpanTree(spans)
    found = tree.choose(20)
    ids = [one.id for one in found]
    assert len(found) == 20
    assert {"root", "s5", "above", "error", "s9", "slow"} <= set(ids)
    assert ids.index("s5") + 2 == ids.index("error")
    assert tree.failed(ids) == 1


def test_a_long_chain_leaves_room() -> None:
    """If this fails, the ancestors of one error push out all others, or depth has no end."""
    chain = [bone("c0")] + [bone(f"c{n}", f"c{n - 1}", n) for n in range(1, 5000)]
    errors = [bone(f"e{n}", f"c{n * 900}", 9000 + n, failed=True) for n in range(5)]
    found = SpanTree([*chain, *errors]).choose(50)
    assert len(found) == 50
    assert {f"e{n}" for n in range(5)} <= {one.id for one in found}
    last = next(one for one in found if one.id == "e4")
    assert last.skipped > 3000
    assert last.depth < 50


@given(
    parents=st.lists(st.integers(-1, 12), max_size=12),
    starts=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    limit=st.integers(1, 14),
)
def test_every_span_has_one_place(parents: list[int], starts: list[int], limit: int) -> None:
    """If this fails, some spans are not shown, or twice."""
    spans = [
        bone(f"s{n}", f"s{parent}" if parent >= 0 else "", starts[n], starts[n], n % 3 == 0)
        for n, parent in enumerate(parents)
    ]
    tree = SpanTree(spans)
    everything = tree.choose(len(spans))
    assert sorted(one.id for one in everything) == sorted(one.id for one in spans)
    assert not any(one.skipped for one in everything)
    some = tree.choose(limit)
    assert len(some) == min(limit, len(spans))
    order = [one.id for one in everything]
    assert [one.id for one in some] == [id_ for id_ in order if id_ in {one.id for one in some}]
