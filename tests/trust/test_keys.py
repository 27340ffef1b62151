"""Keys in files: made once, readable by their owner alone, refused when they do not belong together."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from interlock.adapters.files.keys import log_signer, token_key
from interlock.base.errors import IntegrityError
from interlock.trust.note import Verifier, open_note


def test_keys_are_made_once_and_found_again(tmp_path: Path) -> None:
    assert token_key(tmp_path) == token_key(tmp_path)
    assert len(token_key(tmp_path)) == 32
    first, second = log_signer(tmp_path), log_signer(tmp_path)
    assert open_note(first.sign("text\n"), second.verifier) == "text\n"
    assert Verifier.parse((tmp_path / "log.vkey").read_text()) == first.verifier
    assert first.name.startswith("interlock/")


def test_two_homes_have_other_keys_and_other_origins(tmp_path: Path) -> None:
    assert token_key(tmp_path / "a") != token_key(tmp_path / "b")
    assert log_signer(tmp_path / "a").name != log_signer(tmp_path / "b").name


def test_only_the_public_key_is_readable_by_others(tmp_path: Path) -> None:
    token_key(tmp_path)
    log_signer(tmp_path)
    closed = {path.name for path in tmp_path.iterdir() if not stat.S_IMODE(path.stat().st_mode) & 0o077}
    assert closed >= {"kek.key", "token.key.json", "log.key"}
    assert {path.name for path in tmp_path.iterdir()} == {"kek.key", "token.key.json", "log.key", "log.vkey"}


def test_those_who_come_first_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: token_key(tmp_path), range(16)))
        names = set(pool.map(lambda _: log_signer(tmp_path).verifier, range(16)))
    assert (len(keys), len(names)) == (1, 1)


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        token_key(tmp_path / name)
        log_signer(tmp_path / name)
    for file in ("kek.key", "log.vkey"):
        (tmp_path / "a" / file).write_bytes((tmp_path / "b" / file).read_bytes())
    with pytest.raises(IntegrityError):
        token_key(tmp_path / "a")
    with pytest.raises(IntegrityError):
        log_signer(tmp_path / "a")
