"""Commit objects as bytes, and the graph of who wrote a folder: pure."""

from __future__ import annotations

import pytest

from interlock.adapters.git import history, objects
from interlock.adapters.git.identity import load, private_bytes
from interlock.trust.commits import made_by
from interlock.trust.sshsig import Key, public_line

KEY = Key.generate()
RAW = b"""tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
parent 0123456789012345678901234567890123456789
author Ada <Ada@Example.org> 1700000000 +0100
committer Bob <bob@example.org> 1700000000 +0100

Release fraud 2.0.0

gpgsig is only a word here
"""


def test_a_signed_object_reads_back_with_its_payload_and_people() -> None:
    signed = objects.signed(RAW, KEY)
    found = objects.read("c1", signed)
    assert (found.payload, found.author, found.committer) == (RAW, "ada@example.org", "bob@example.org")
    assert made_by(found, public_line(KEY))
    assert not made_by(found, public_line(Key.generate()))


def test_an_unsigned_object_has_no_signature() -> None:
    found = objects.read("c1", RAW)
    assert (found.signature, made_by(found, public_line(KEY))) == ("", False)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Ada@", b"Eve@"), (b"2.0.0", b"2.0.1"), (b"1700000000", b"1600000000"), (b"tree 4b", b"tree 5b")],
    ids=["author", "message", "time", "tree"],
)
def test_attack_a_rewritten_header_breaks_the_signature(old: bytes, new: bytes) -> None:
    found = objects.read("c1", objects.signed(RAW, KEY).replace(old, new))
    assert found.signature
    assert not made_by(found, public_line(KEY))


def test_attack_two_authors_are_none_and_two_signatures_are_none() -> None:
    twice = RAW.replace(b"committer", b"author Eve <eve@example.org> 1700000000 +0100\ncommitter")
    assert objects.read("c1", twice).author == ""
    signed = objects.signed(RAW, KEY)
    start, end = signed.index(b"gpgsig"), signed.index(b"\n\n")
    again = signed[:end] + b"\n" + signed[start:end] + signed[end:]
    assert objects.read("c1", again).signature == ""


def test_a_repository_of_sha256_hashes_has_its_own_header() -> None:
    raw = RAW.replace(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904", b"ab" * 32)
    signed = objects.signed(raw, KEY)
    assert b"\ngpgsig-sha256 -----BEGIN SSH" in signed
    assert made_by(objects.read("c1", signed), public_line(KEY))


def test_a_key_file_reads_back_and_anything_else_is_no_key() -> None:
    data = private_bytes(KEY)
    assert public_line(load(data) or Key.generate()) == public_line(KEY)
    assert load(b"ssh-ed25519 AAAA") is None
    assert load(b"") is None


def test_a_merge_writes_only_what_none_of_its_sides_has() -> None:
    graph = {"m": ("a", "b"), "b": ("s",), "a": ("s",)}
    assert history.writers(graph, {"s": "1", "a": "1", "b": "2", "m": "2"}) == ["b"]
    assert history.writers(graph, {"s": "1", "a": "3", "b": "2", "m": "4"}) == ["m", "b", "a"]


def test_a_merge_that_takes_what_it_brings_in_chose_nothing() -> None:
    graph = {"m": ("a", "b"), "b": ("s",), "a": ("s",)}
    assert history.choosers(graph, {"s": "1", "a": "1", "b": "2", "m": "2"}, "1", ["b"]) == []


def test_a_merge_that_takes_a_state_from_before_chose_it() -> None:
    # `b` branched from long ago, where the folder was "old", and changed nothing in it.
    graph = {"m": ("a", "b"), "b": ("long-ago",), "a": ("s",)}
    trees = {"s": "1", "a": "1", "b": "old", "long-ago": "old", "m": "old"}
    assert history.choosers(graph, trees, "1", []) == ["m"]
    assert history.choosers(graph, {**trees, "m": "1"}, "1", []) == []


def test_a_first_commit_writes_what_it_has() -> None:
    assert history.writers({"r": ()}, {"r": "1"}) == ["r"]
    assert history.writers({"r": ()}, {"r": None}) == []
