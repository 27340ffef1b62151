"""Merkle trees: roots, inclusion, consistency, against published vectors and a naive tree."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trust.published import OWN, folders

from interlock.base.errors import IntegrityError
from interlock.trust import merkle, proof

# Leaves and roots of the trees of one to eight leaves that Certificate Transparency's tests publish.
LEAVES = [bytes.fromhex(each) for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes(range(0x60, 0x70))
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


def naive(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:half]) + naive(leaves[half:])).digest()


def subtree_of(leaves: Sequence[bytes]) -> proof.Subtree:
    return lambda height, index: naive(leaves[index << height : (index + 1) << height])


def leaves_of(size: int) -> list[bytes]:
    return [str(number).encode() for number in range(size)]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_that_certificate_transparency_publishes(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def holds(case: dict[str, Any], name: str) -> bool:
    def data(key: str) -> bytes:
        return base64.b64decode(case[key] or "")

    path = [base64.b64decode(each) for each in case["proof"] or ()]
    try:
        if name.startswith("inclusion/"):
            merkle.verify_inclusion(data("leafHash"), case["leafIdx"], case["treeSize"], path, data("root"))
        else:
            proof.verify_consistency((case["size1"], case["size2"]), (data("root1"), data("root2")), path)
    except IntegrityError:
        return False
    return True


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: "own" if folder == OWN else "beside")
def test_every_published_case_is_judged_as_its_authors_say(folder: Path) -> None:
    cases = json.loads((folder / "merkle_cases.json").read_bytes())
    plain = {name: case for name, case in cases.items() if name.startswith(("inclusion/", "consistency/"))}
    wrong = [name for name, case in plain.items() if holds(case, name) == case["wantErr"]]
    assert wrong == []
    assert len(plain) == (118 if folder == OWN else 196)


@given(st.integers(0, 600))
def test_the_root_is_that_of_the_naive_tree(size: int) -> None:
    assert merkle.root(leaves_of(size)) == naive(leaves_of(size))


def test_a_tree_that_grows_leaf_by_leaf_has_every_root_on_its_way() -> None:
    tree, leaves = merkle.Tree(), leaves_of(70)
    for size in range(len(leaves) + 1):
        assert (tree.size, tree.root()) == (size, merkle.root(leaves[:size]))
        before = tree.copy()
        tree.add(merkle.leaf_hash(leaves[size % 70]))
        assert before.root() != tree.root()


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_a_proof_of_inclusion_holds_for_its_leaf_and_no_other(drawn: tuple[int, int]) -> None:
    size, index = drawn
    leaves = leaves_of(size)
    path = proof.inclusion_path(index, size, subtree_of(leaves))
    assert path == merkle.inclusion_proof(leaves, index)
    root = naive(leaves)
    merkle.verify_inclusion(merkle.leaf_hash(leaves[index]), index, size, path, root)
    for leaf, where in ((b"other", index), (leaves[index], (index + 1) % size)):
        if (leaf, where) != (leaves[index], index):
            with pytest.raises(IntegrityError):
                merkle.verify_inclusion(merkle.leaf_hash(leaf), where, size, path, root)


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))))
def test_a_proof_of_consistency_holds_for_a_prefix_and_not_for_a_fork(drawn: tuple[int, int]) -> None:
    size, older = drawn
    leaves = leaves_of(size)
    path = proof.consistency_path(older, size, subtree_of(leaves))
    proof.verify_consistency((older, size), (naive(leaves[:older]), naive(leaves)), path)
    forked = naive([*leaves[: older - 1], b"forked"])
    with pytest.raises(IntegrityError):
        proof.verify_consistency((older, size), (forked, naive(leaves)), path)


def test_proofs_of_leaves_and_trees_that_do_not_exist_are_not_made() -> None:
    subtree = subtree_of(leaves_of(4))
    for index in (-1, 4):
        with pytest.raises(IndexError):
            proof.inclusion_path(index, 4, subtree)
        with pytest.raises(IndexError):
            merkle.inclusion_proof(leaves_of(4), index)
    for older in (0, 5):
        with pytest.raises(IndexError):
            proof.consistency_path(older, 4, subtree)
