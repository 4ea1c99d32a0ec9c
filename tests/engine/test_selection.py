"""What a person selects: the grammar against a plain walk over the graph, and its errors."""

import itertools

import pytest

from sextant.project.selection import selected
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.nouns import Asset, Edge

# a -> b -> d -> e, a -> c -> d
ASSETS = {
    one.id: one
    for one in (
        Asset(kind="dataset", name="a", owner="sales", tags=("daily", "raw"), file="ops/in.py"),
        Asset(kind="dataset", name="b", owner="sales", tags=("daily",), file="ops/sales/b.py"),
        Asset(kind="dataset", name="c", owner="growth", file="ops/sales/c.py"),
        Asset(kind="dataset", name="d", owner="growth", tags=("hourly",), file="ops/d.py"),
        Asset(kind="kpi", name="e", owner="growth", tags=("daily",), file="kpis.py"),
    )
}
PAIRS = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
EDGES = [Edge(source=f"dataset:{s}", target=f"dataset:{t}", kind="feeds") for s, t in PAIRS]
EDGES.append(Edge(source="dataset:d", target="kpi:e", kind="measures"))


def find(word: str) -> str:
    found = [id_ for id_, asset in ASSETS.items() if word in (id_, asset.name)]
    if not found:
        raise NotFound("SX-PLAN-002", f"there is no asset `{word}`")
    return found[0]


def names(*texts: str) -> str:
    return "".join(id_[-1] for id_ in selected(texts, ASSETS, EDGES, find=find))


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], ""),
        (["b"], "b"),
        (["dataset:b"], "b"),
        (["+b"], "ab"),
        (["b+"], "bde"),
        (["+b+"], "abde"),
        (["+kpi:e"], "abcde"),
        (["1+e"], "de"),
        (["2+e"], "bcde"),
        (["a+1"], "abc"),
        (["1+b+1"], "abd"),
        (["0+b+0"], "b"),
        (["1+tag:hourly+"], "bcde"),
        (["b+,+kpi:e"], "bde"),
        (["b", "c"], "bc"),
        (["tag:daily"], "abe"),
        (["tag:*ly"], "abde"),
        (["owner:growth"], "cde"),
        (["kind:kpi"], "e"),
        (["path:ops"], "abcd"),
        (["path:./ops/sales/"], "bc"),
        (["path:ops/*.py"], "abcd"),
        (["path:kpis.py"], "e"),
        (["tag:daily,owner:sales"], "ab"),
        (["tag:daily, owner:sales"], "ab"),
        (["+d,tag:daily"], "ab"),
        (["tag:raw+"], "abcde"),
        (["+tag:hourly,kind:dataset", "e"], "abcde"),
    ],
)
def test_what_a_selection_means(texts: list[str], found: str) -> None:
    """A command would work on other assets than those that were meant."""
    assert names(*texts) == found


def test_union_and_intersection_are_those_of_sets() -> None:
    """Combinations would mean something that their parts do not."""
    words = ["b", "+d", "c+", "tag:daily", "owner:growth", "path:ops", "+kpi:e"]
    for one, other in itertools.product(words, repeat=2):
        left, right = set(names(one)), set(names(other))
        assert set(names(one, other)) == left | right
        if left & right:
            assert set(names(f"{one},{other}")) == left & right


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("nothing", NotFound, "no asset `nothing`"),
        ("tag:dialy", NotFound, "did you mean `daily`"),
        ("owner:nobody", NotFound, "`growth`, `sales`"),
        ("kind:model", NotFound, "`dataset`, `kpi`"),
        ("path:nowhere", NotFound, "no asset has the path"),
        ("tag:raw,owner:growth", NotFound, "no asset is in all parts of"),
        ("", UsageError, "is no selection"),
        ("+", UsageError, "is no selection"),
        ("++b", UsageError, "is no selection"),
        ("1b", NotFound, "no asset `1b`"),
        ("b+1+", UsageError, "is no selection"),
        ("99999+b", UsageError, "is no selection"),
        ("1+", NotFound, "no asset `1`"),
        (" b", None, ""),
        ("b,", UsageError, "is no selection"),
    ],
)
def test_a_selection_that_means_nothing(
    text: str, error: type[Exception] | None, words: str
) -> None:
    """A typo would run nothing, or everything, without a word."""
    if error is None:
        assert names(text) == "b"
        return
    with pytest.raises(error) as said:
        names(text)
    assert words in f"{said.value} {getattr(said.value, 'hint', '')}"
