"""The hash tree: against the vectors of Certificate Transparency, and against the definition in RFC
6962 for any size."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.ledger import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def defined(leaves: Sequence[bytes]) -> bytes:
    """Return MTH(D[n]) as RFC 6962, 2.1 writes it."""
    if not leaves:
        return merkle.EMPTY
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(defined(leaves[:k]), defined(leaves[k:]))


def subtrees_of(leaves: Sequence[bytes]) -> merkle.Subtree:
    def subtree(level: int, index: int) -> bytes:
        start = index << level
        assert start + (1 << level) <= len(leaves), "only complete subtrees are asked for"
        return defined(leaves[start : start + (1 << level)])

    return subtree


def test_vectors() -> None:
    """No other implementation could verify our log."""
    frontier = merkle.Frontier()
    for size, expected in enumerate(ROOTS, 1):
        frontier.append(merkle.leaf_hash(LEAVES[size - 1]))
        assert frontier.root().hex() == expected
        assert merkle.root(size, subtrees_of(LEAVES)).hex() == expected
    assert merkle.root(0, subtrees_of([])) == merkle.Frontier().root() == merkle.EMPTY


def test_inclusion_proofs_of_the_rfc() -> None:
    """RFC 6962, 2.1.3: the proofs of the example tree of seven leaves."""
    tree = subtrees_of(LEAVES[:7])
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[:7]]
    node = merkle.node_hash
    g, h, i, j = (node(hashes[at], hashes[at + 1]) if at < 6 else hashes[6] for at in (0, 2, 4, 6))
    k, l = node(g, h), node(i, j)  # noqa: E741 - the RFC's names
    assert merkle.prove_inclusion(0, 7, tree) == [hashes[1], h, l]
    assert merkle.prove_inclusion(3, 7, tree) == [hashes[2], g, l]
    assert merkle.prove_inclusion(4, 7, tree) == [hashes[5], j, k]
    assert merkle.prove_inclusion(6, 7, tree) == [i, k]
    assert merkle.prove_consistency(3, 7, tree) == [hashes[2], hashes[3], g, l]
    assert merkle.prove_consistency(4, 7, tree) == [l]
    assert merkle.prove_consistency(6, 7, tree) == [i, j, k]


sizes = st.integers(1, 70)


@given(sizes, st.data())
@settings(max_examples=200, deadline=None)
def test_proofs_hold_and_nothing_else_does(size: int, data: st.DataObject) -> None:
    """A proof would be refused, or one for another leaf, size or root be taken."""
    leaves = [bytes([n]) for n in range(size)]
    tree, root = subtrees_of(leaves), defined(leaves)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    leaf, path = merkle.leaf_hash(leaves[index]), merkle.prove_inclusion(index, size, tree)
    assert merkle.verify_inclusion(index, size, leaf, path, root)
    consistency, old_root = merkle.prove_consistency(old, size, tree), defined(leaves[:old])
    assert merkle.verify_consistency(old, size, old_root, root, consistency)

    other = bytes(32)
    assert not merkle.verify_inclusion(index, size, other, path, root)
    assert not merkle.verify_inclusion(index, size, leaf, path, other)
    assert not merkle.verify_inclusion(index, size, leaf, [*path, other], root)
    assert not merkle.verify_inclusion(size, size, leaf, path, root)
    assert not merkle.verify_inclusion(-1, size, leaf, path, root)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        assert not merkle.verify_inclusion(index, size, leaf, path[:at] + path[at + 1 :], root)
        assert not merkle.verify_inclusion(
            index, size, leaf, [*path[:at], other, *path[at + 1 :]], root
        )
    wrong = data.draw(st.integers(0, size - 1))
    if wrong != index:
        assert not merkle.verify_inclusion(wrong, size, leaf, path, root)
    assert not merkle.verify_consistency(old, size, old_root, root, [*consistency, other])
    assert not merkle.verify_consistency(size + 1, size, old_root, root, consistency)
    if old:
        assert not merkle.verify_consistency(old, size, old_root, other, consistency)
        assert not merkle.verify_consistency(old, size, other, root, consistency)
    for at in range(len(consistency)):
        assert not merkle.verify_consistency(
            old, size, old_root, root, consistency[:at] + consistency[at + 1 :]
        )
        assert not merkle.verify_consistency(
            old, size, old_root, root, [*consistency[:at], other, *consistency[at + 1 :]]
        )


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 513, 1_300])
def test_stored_nodes(size: int) -> None:
    """A node would be stored twice, with a wrong place, or not at all: proofs over the stored log
    would fail."""
    leaves = [n.to_bytes(4, "big") for n in range(size)]
    frontier = merkle.Frontier()
    stored = [node for leaf in leaves for node in frontier.append(merkle.leaf_hash(leaf))]
    tree = subtrees_of(leaves)
    expected = {
        (level, index): tree(level, index)
        for level in range(merkle.STORED_LEVEL, 12)
        for index in range(size >> level)
    }
    assert {(level, index): hash_ for level, index, hash_ in stored} == expected
    assert len(stored) == len(expected)
    assert frontier.root() == defined(leaves)
    assert merkle.frontier(size, tree).root() == defined(leaves)


@given(st.lists(st.integers(0, 4), max_size=12))
@settings(deadline=None)
def test_a_tree_grows_by_subtrees_as_by_leaves(levels: list[int]) -> None:
    """Verify, which puts ranges together, would come to another root."""
    by_leaf, by_tree = merkle.Frontier(), merkle.Frontier()
    for level in sorted(levels, reverse=True):
        part = merkle.Frontier()
        for n in range(1 << level):
            leaf = merkle.leaf_hash(bytes([level, n]))
            by_leaf.append(leaf)
            part.append(leaf)
        by_tree.extend(level, part.root())
    assert by_tree.root() == by_leaf.root()
