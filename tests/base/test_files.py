from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from interlock.base.files import socket_address, write_atomic, write_new


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_immutable_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_new(path, b"one")
    write_new(path, b"one")
    with pytest.raises(FileExistsError):
        write_new(path, b"two")
    assert path.read_bytes() == b"one"


def test_a_socket_can_live_under_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "scorer.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(socket_address(path))
        server.listen()
        assert path.is_socket()
        client.connect(socket_address(path))


def test_a_folder_made_anew_is_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    first = socket_address(folder / "a.sock")
    folder.rename(tmp_path / "old")
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(socket_address(folder / "a.sock"))
    assert (folder / "a.sock").is_socket()
    assert socket_address(folder / "a.sock") != first


def test_a_short_path_is_itself(tmp_path: Path) -> None:
    if len(os.fsencode(tmp_path)) < 90:
        assert socket_address(tmp_path / "a.sock") == str(tmp_path / "a.sock")
