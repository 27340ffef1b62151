"""Merkle trees of RFC 6962 over lists of leaves: root, inclusion proof, verification. Pure.

Leaf hash: SHA-256(0x00 || data). Node hash: SHA-256(0x01 || left || right). The empty tree's root
is SHA-256 of nothing. A list of n > 1 leaves is split at the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from interlock.base.errors import IntegrityError


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over the leaves' data, in order."""
    return root_of([leaf_hash(leaf) for leaf in leaves])


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in order."""
    level = list(hashes)
    if not level:
        return hashlib.sha256(b"").digest()
    # Pairing from the left and carrying an odd last node up gives the RFC's split at powers of two.
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` (RFC 6962 section 2.1.1), from the leaf upwards.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    level = [leaf_hash(leaf) for leaf in leaves]
    path: list[bytes] = []
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level, index = paired + level[len(paired) * 2 :], index // 2
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> None:
    """Check an audit path (RFC 9162 section 2.1.3.2).

    Args:
        leaf: the leaf's hash.
        index: its place.
        size: leaves in the tree.
        path: from the leaf upwards.
        expected: the tree's root.

    Raises:
        IntegrityError: the path does not lead from the leaf to the root.
    """
    node, last, found = index, size - 1, leaf
    valid = 0 <= index < size and all(len(each) == 32 for each in (leaf, expected, *path))
    for sibling in path:
        valid &= last > 0
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if not valid or last != 0 or found != expected:
        raise IntegrityError("the inclusion proof does not hold", "keep the proof and the log as evidence")


class Tree:
    """A tree that grows leaf by leaf and keeps only its perfect subtrees: its size and its root."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        height, top = 0, leaf
        while self._peaks and self._peaks[-1][0] == height:
            top = node_hash(self._peaks.pop()[1], top)
            height += 1
        self._peaks.append((height, top))
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        top = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            top = node_hash(left, top)
        return top

    def copy(self) -> Tree:
        """Another that grows on its own."""
        other = Tree()
        other.size, other._peaks = self.size, list(self._peaks)
        return other
