"""The append-only hash tree of RFC 6962 (Certificate Transparency), section 2.1. Pure; called by
the ledger.

A leaf is SHA-256(0x00 + bytes), an inner node SHA-256(0x01 + left + right). Complete subtrees from
level `STORED_LEVEL` upwards are stored; what lies below is computed from at most 255 leaves. Sizes
and positions count leaves from 0.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

# 2^8 leaves: a proof hashes at most 2 x 255 of them, and 1 M leaves store 7,800 nodes
STORED_LEVEL = 8
BLOCK = 1 << STORED_LEVEL
EMPTY = sha256(b"").digest()

# Returns the hash of the complete subtree `index` on `level` (0 = leaves).
Subtree = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the complete subtrees that make up its leaves, one for each
    bit of its size."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """size   leaves
        peaks  hashes of the complete subtrees, the smallest first: one for each set bit of `size`,
               from the lowest
        """
        self.size = size
        self.peaks: list[bytes] = [b""] * 64  # by level; only those of set bits mean something
        for level, peak in zip(_bits(size), peaks, strict=True):
            self.peaks[level] = peak

    def copy(self) -> "Frontier":
        other = Frontier()
        other.size = self.size
        other.peaks = self.peaks.copy()
        return other

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf's hash; return the subtrees (level, index, hash) that are complete now and are
        to be stored."""
        size = self.size
        peaks = self.peaks
        level = 0
        hash_ = leaf
        stored = None
        while size >> level & 1:
            hash_ = sha256(b"\x01" + peaks[level] + hash_).digest()
            level += 1
            if level >= STORED_LEVEL:
                stored = stored or []
                stored.append((level, size >> level, hash_))
        peaks[level] = hash_
        self.size = size + 1
        return stored or _NONE

    def extend(self, level: int, hash_: bytes) -> list[tuple[int, int, bytes]]:
        """Add a whole subtree of 2^`level` leaves, where the size is a multiple of that; return
        what is complete above it."""
        size = self.size
        assert size & ((1 << level) - 1) == 0
        stored = []
        self.size = size + (1 << level)
        while size >> level & 1:
            hash_ = node_hash(self.peaks[level], hash_)
            level += 1
            if level >= STORED_LEVEL:
                stored.append((level, size >> level, hash_))
        self.peaks[level] = hash_
        return stored

    def root(self) -> bytes:
        """Return the tree's root. EMPTY for no leaves."""
        return join([self.peaks[level] for level in _bits(self.size)])


_NONE: list[tuple[int, int, bytes]] = []


def _bits(size: int) -> list[int]:
    return [level for level in range(size.bit_length()) if size >> level & 1]


def join(peaks: Iterable[bytes]) -> bytes:
    """Return the root over complete subtrees, the smallest (rightmost) first."""
    root = b""
    for peak in peaks:
        root = node_hash(peak, root) if root else peak
    return root or EMPTY


def frontier(size: int, subtree: Subtree) -> Frontier:
    """Return the right edge of the first `size` leaves."""
    return Frontier(size, [subtree(level, (size >> level) - 1) for level in _bits(size)])


def root(size: int, subtree: Subtree) -> bytes:
    """Return the root of the first `size` leaves."""
    return _span(0, size, subtree)


def _span(start: int, end: int, subtree: Subtree) -> bytes:
    """Return the hash over leaves `start` .. `end`-1, where `start` is a multiple of a power of two
    >= end - start."""
    peaks = []
    while end > start:
        level = ((end - start) & -(end - start)).bit_length() - 1
        peaks.append(subtree(level, (end >> level) - 1))
        end -= 1 << level
    return join(peaks)


def _split(size: int) -> int:
    """Return the largest power of two below `size` (> 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def prove_inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the audit path (RFC 6962, 2.1.1) of leaf `index` in the tree of the first `size`
    leaves, deepest first."""
    assert 0 <= index < size
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_span(middle, end, subtree))
            end = middle
        else:
            path.append(_span(start, middle, subtree))
            start = middle
    return path[::-1]


def prove_consistency(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof (RFC 6962, 2.1.2) that the tree of `new` leaves begins with that of `old`
    leaves, 0 <= old <= new."""
    assert 0 <= old <= new
    if old in (0, new):
        return []
    path = []
    start, end = 0, new
    whole = True  # the span still begins at leaf 0: the verifier knows the old root itself
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_span(middle, end, subtree))
            end = middle
        else:
            path.append(_span(start, middle, subtree))
            start = middle
            whole = False
    if not whole:
        path.append(_span(start, end, subtree))
    return path[::-1]


def verify_inclusion(
    index: int, size: int, leaf: bytes, path: Sequence[bytes], root_: bytes
) -> bool:
    """Tell whether `path` leads from this leaf hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last = index, size - 1
    hash_ = leaf
    for other in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            hash_ = node_hash(other, hash_)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            hash_ = node_hash(hash_, other)
        at >>= 1
        last >>= 1
    return last == 0 and hash_ == root_


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Tell whether the tree (new, new_root) begins with the tree (old, old_root) (RFC 9162,
    2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    left = right = hashes[0]
    for other in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            left = node_hash(other, left)
            right = node_hash(other, right)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            right = node_hash(right, other)
        at >>= 1
        last >>= 1
    return last == 0 and left == old_root and right == new_root
