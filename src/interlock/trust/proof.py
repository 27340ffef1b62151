"""Consistency of two tree heads (RFC 9162 section 2.1.4), and proofs over any store of hashes. Pure.

Inclusion is in `merkle`. A tree of size 0 is consistent with everything and proves nothing, so a
proof *from* size 0 is refused, as the test vectors of transparency-dev/merkle ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interlock.base.errors import IntegrityError
from interlock.trust.merkle import node_hash

Subtree = Callable[[int, int], bytes]
"""(height, index) → the hash of the perfect subtree over leaves [index·2^height, (index+1)·2^height)."""


def verify_consistency(sizes: tuple[int, int], roots: tuple[bytes, bytes], path: Sequence[bytes]) -> None:
    """Check that the tree of the second head extends the tree of the first.

    Args:
        sizes: of the older and the newer tree.
        roots: of the older and the newer tree.
        path: the consistency proof.

    Raises:
        IntegrityError: it does not, or the older tree is empty.
    """
    first, second = sizes
    if not 0 < first <= second or (first == second and (path or roots[0] != roots[1])):
        raise IntegrityError("the tree heads are not consistent", "keep both checkpoints as evidence")
    if first == second:
        return
    proof = list(path)
    if first & (first - 1) == 0:
        proof.insert(0, roots[0])
    if not proof:
        raise IntegrityError("the consistency proof is empty", "keep both checkpoints as evidence")
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    older = newer = proof[0]
    valid = True
    for sibling in proof[1:]:
        valid &= last > 0
        if node & 1 or node == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        node, last = node >> 1, last >> 1
    if not valid or last != 0 or older != roots[0] or newer != roots[1]:
        raise IntegrityError("the tree heads are not consistent", "keep both checkpoints as evidence")


def root_between(low: int, high: int, subtree: Subtree) -> bytes:
    """The hash over leaves [low, high), where low is a multiple of the range's largest power of two."""
    size = high - low
    if size & (size - 1) == 0:
        height = size.bit_length() - 1
        return subtree(height, low >> height)
    middle = low + (1 << (size - 1).bit_length() - 1)
    return node_hash(root_between(low, middle, subtree), root_between(middle, high, subtree))


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of a leaf (RFC 9162 section 2.1.3.1), from the leaf upwards.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError("no such leaf")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            path.append(root_between(middle, high, subtree))
            high = middle
        else:
            path.append(root_between(low, middle, subtree))
            low = middle
    return path[::-1]


def consistency_path(first: int, second: int, subtree: Subtree) -> list[bytes]:
    """The proof that the tree of `second` leaves extends that of `first` (RFC 9162 section 2.1.4.1).

    Raises:
        IndexError: not 0 < first <= second.
    """
    if not 0 < first <= second:
        raise IndexError("no such trees")
    path: list[bytes] = []
    low, high, whole = 0, second, True
    while first != high:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if first <= middle:
            path.append(root_between(middle, high, subtree))
            high = middle
        else:
            path.append(root_between(low, middle, subtree))
            low, whole = middle, False
    if not whole:
        path.append(root_between(low, high, subtree))
    return path[::-1]
