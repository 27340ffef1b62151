"""Signed notes and checkpoints: the published example, and everything that must not open."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.base.errors import IntegrityError, UsageError
from interlock.trust.note import Checkpoint, Signer, Verifier, open_checkpoint, open_note

# golang.org/x/mod/sumdb/note publishes this key and note.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ROOT = bytes(range(32))


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("interlock/test", Ed25519PrivateKey.generate())


def test_the_published_note_opens_under_its_published_key() -> None:
    verifier = Verifier.parse(VKEY)
    assert verifier.to_text() == VKEY
    assert open_note(NOTE, verifier).endswith("what your problem is.\n")


@pytest.mark.parametrize(
    "change",
    [
        ("answer", "Answer"),
        ("x08go/Z", "x08go/Y"),
        ("— Peter", "- Peter"),
        ("\n\n", "\n"),
        ("AM=\n", "AM="),
        ("AM=\n", "AN=\n"),  # the same bytes: only spare bits of the base64 text differ
        ("x08go", "é08go"),
    ],
)
def test_a_note_that_was_changed_anywhere_does_not_open(change: tuple[str, str]) -> None:
    with pytest.raises(IntegrityError):
        open_note(NOTE.replace(*change), Verifier.parse(VKEY))


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        VKEY.replace("c74f20a3", "c74f20a4"),
        VKEY.replace("PeterNeumann", "PeterNewmann"),
        VKEY.replace("+AR", "+BR"),
        VKEY[:-4],
        VKEY.replace("PeterNeumann", "Peter Neumann"),
    ],
)
def test_a_key_whose_id_is_not_its_own_is_refused(vkey: str) -> None:
    with pytest.raises(UsageError):
        Verifier.parse(vkey)


def test_a_checkpoint_comes_back_under_its_key_and_no_other(signer: Signer) -> None:
    checkpoint = Checkpoint(signer.name, 7, ROOT)
    note = signer.sign(checkpoint.to_text())
    assert open_checkpoint(note, signer.verifier) == checkpoint
    other = Signer(signer.name, Ed25519PrivateKey.generate())
    with pytest.raises(IntegrityError, match="not signed by"):
        open_checkpoint(note, other.verifier)


def test_the_signature_of_somebody_else_beside_ours_is_passed_over(signer: Signer) -> None:
    text = Checkpoint(signer.name, 7, ROOT).to_text()
    witness = Signer("witness.example", Ed25519PrivateKey.generate())
    line = witness.sign(text).rpartition("\n\n")[2]
    head, _, ours = signer.sign(text).rpartition("\n\n")
    note = f"{head}\n\n{line}{ours}"
    assert open_checkpoint(note, signer.verifier).size == 7
    assert open_note(note, witness.verifier) == text


def test_a_checkpoint_of_another_origin_is_refused_even_when_our_key_signed_it(signer: Signer) -> None:
    note = signer.sign(Checkpoint("interlock/other", 7, ROOT).to_text())
    with pytest.raises(IntegrityError, match="another log"):
        open_checkpoint(note, signer.verifier)


@pytest.mark.parametrize(
    "size",
    ["", "-1", "07", "+7", "7.0", "seven", "²", "9" * 20, "9" * 5000],  # noqa: RUF100 a superscript is a digit to Python
)
def test_a_size_in_any_other_form_is_refused(size: str) -> None:
    with pytest.raises(IntegrityError):
        Checkpoint.parse(f"origin\n{size}\n{base64.b64encode(ROOT).decode()}\n")


def test_a_root_of_another_length_is_refused() -> None:
    for root in (b"", ROOT[:31], ROOT + b"x"):
        with pytest.raises(IntegrityError):
            Checkpoint.parse(replace(Checkpoint("origin", 1, ROOT), root=root).to_text())


def test_only_whole_lines_are_signed(signer: Signer) -> None:
    with pytest.raises(UsageError):
        signer.sign("no newline")
