import os
from pathlib import Path

import pytest
from tests.builders import tiny_bundle, tiny_files

from interlock.base.canonical import digest_hex
from interlock.base.errors import IntegrityError, UsageError
from interlock.registry import bundle as bundles


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_files()


@pytest.fixture
def stored(tmp_path: Path, files: dict[str, bytes]) -> tuple[Path, str]:
    return tmp_path, bundles.write(tmp_path, files)


def folder_of(stored: tuple[Path, str]) -> Path:
    return stored[0] / digest_hex(stored[1])


def test_a_bundle_comes_back_as_it_was_written(stored, files):
    bundle = bundles.read(*stored)
    assert bundle.files == files
    assert bundle.manifest["service"] == "fraud"
    assert bundle.digest == stored[1]


def test_equal_files_have_one_digest_and_any_change_has_another(tmp_path, files):
    first = bundles.write(tmp_path, files)
    assert bundles.write(tmp_path, dict(reversed(files.items()))) == first
    assert bundles.write(tmp_path, {**files, "card.json": b'{"schema":2}'}) != first


@pytest.mark.parametrize("name", ["model.onnx", "thresholds.json", "bundle.json"])
def test_a_changed_byte_is_refused(stored, name):
    path = folder_of(stored) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="bundle"):
        bundles.read(*stored)


def test_an_additional_file_is_refused(stored):
    (folder_of(stored) / ".gitignore").write_text("*")
    with pytest.raises(IntegrityError, match=r"\.gitignore"):
        bundles.read(*stored)


def test_a_missing_file_is_refused(stored):
    (folder_of(stored) / "card.json").unlink()
    with pytest.raises(IntegrityError, match="card"):
        bundles.read(*stored)


def test_a_link_is_refused_even_to_the_right_bytes(stored, tmp_path):
    path = folder_of(stored) / "model.onnx"
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="cannot be read"):
        bundles.read(*stored)


def test_a_linked_folder_is_refused(stored, tmp_path):
    folder = folder_of(stored)
    folder.rename(tmp_path / "moved")
    os.symlink(tmp_path / "moved", folder)
    with pytest.raises(UsageError, match="no bundle"):
        bundles.read(*stored)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b/c", "Model.onnx", "bundle.json", ""])
def test_a_name_that_leaves_the_folder_or_looks_odd_is_refused(tmp_path, files, name):
    with pytest.raises(UsageError, match="cannot hold"):
        bundles.write(tmp_path, {**files, name: b""})


def test_a_bundle_without_a_required_file_is_refused(tmp_path, files):
    with pytest.raises(UsageError, match=r"golden\.json"):
        bundles.write(tmp_path, {name: data for name, data in files.items() if name != "golden.json"})


def test_nothing_is_left_of_a_write_that_failed(tmp_path, files):
    with pytest.raises(TypeError):
        bundles.write(tmp_path, {**files, "card.json": "text"})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_may_hold_one_level_of_folders(tmp_path):
    files = {**tiny_files(), "explain/booster.ubj": b"native"}
    assert bundles.read(tmp_path, bundles.write(tmp_path, files)).files["explain/booster.ubj"] == b"native"


def test_two_builds_of_the_same_bundle_agree(tmp_path):
    assert tiny_bundle(tmp_path / "a").digest == tiny_bundle(tmp_path / "b").digest
