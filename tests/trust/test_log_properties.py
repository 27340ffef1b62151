"""The log, exhaustively where it is small: every batch, every bit, every size and index, every edge of a tile."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trust.test_tree import naive

from interlock.base.errors import IntegrityError
from interlock.trust import merkle, proof
from interlock.trust.fsck import verify_folder
from interlock.trust.log import CHECKPOINT, LogReader, LogWriter, tile_path
from interlock.trust.note import Signer
from interlock.trust.sshsig import Key

pytestmark = pytest.mark.process  # every test syncs many files

SIGNER = Signer("interlock/test", Key.generate())
VKEY = SIGNER.verifier.to_text()
SMALL = 40


def unsynced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def writer(folder: Path) -> LogWriter:
    """A writer that waits for no disk: what it writes is the same."""
    return LogWriter(folder, SIGNER, write=unsynced)


def entries(size: int) -> list[bytes]:
    return [str(number).encode() for number in range(size)]


def holds(folder: Path) -> bool:
    return verify_folder(folder, VKEY, wait=lambda seconds: None).verified


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")


# Sizes around the edges of a tile, and small ones between.
batches = st.lists(st.one_of(st.integers(0, 5), st.sampled_from([254, 255, 256, 257])), min_size=1, max_size=5)


@settings(max_examples=25)
@given(batches)
def test_entries_in_batches_of_any_sizes_give_the_same_log_as_all_at_once(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), 0
        for size in sizes:
            writer(folder).append(entries(start + size)[start:])
            start += size
        found = LogReader.open(folder, SIGNER.verifier)
        assert (found.checkpoint.size, found.checkpoint.root) == (start, naive(entries(start)))
        assert list(found.entries()) == entries(start)
        assert holds(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    writer(folder).append([b"one", b"two", b"three"])
    return folder


@pytest.mark.process  # thousands of verifications
def test_every_bit_of_every_file_counts(tiny: Path) -> None:
    assert holds(tiny)
    unnoticed = []
    for path in files(tiny):
        good = path.read_bytes()
        for at, bit in itertools.product(range(len(good)), range(8)):
            changed = bytearray(good)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            if holds(tiny):
                unnoticed.append(f"{path.relative_to(tiny)}: bit {bit} of byte {at}")
        path.write_bytes(good)
    assert unnoticed == []


def test_a_file_that_ends_early_or_late_is_found(tiny: Path) -> None:
    unnoticed = []
    for path in files(tiny):
        good = path.read_bytes()
        for changed in (*(good[:size] for size in range(len(good))), good + b"\n", good + b"\0" * 32):
            path.write_bytes(changed)
            if holds(tiny):
                unnoticed.append(f"{path.relative_to(tiny)}: {len(changed)} bytes")
        path.write_bytes(good)
    assert unnoticed == []


def test_what_a_crash_leaves_beside_the_files_does_no_harm(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(entries(3))
    (tmp_path / "tile/0/.000.p.1.2.tmp").write_bytes(b"half a ti")
    (tmp_path / f".{CHECKPOINT}.1.2.tmp").write_bytes(b"half a check")
    assert holds(tmp_path)
    writer(tmp_path).append(entries(5)[3:])
    assert holds(tmp_path)


def test_every_proof_of_every_small_log_holds(tmp_path: Path) -> None:
    roots = [naive(entries(size)) for size in range(SMALL + 1)]
    log = writer(tmp_path)
    for size in range(1, SMALL + 1):
        log.append([entries(size)[-1]])
        reader = log.reader()
        assert reader.checkpoint.root == roots[size]
        for index in range(size):
            leaf = merkle.leaf_hash(entries(size)[index])
            merkle.verify_inclusion(leaf, index, size, reader.inclusion(index), roots[size])
        for older in range(1, size + 1):
            proof.verify_consistency((older, size), (roots[older], roots[size]), reader.consistency(older))


LARGE = [pytest.param(size, marks=pytest.mark.process) for size in (65_535, 65_536, 65_537)]


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, *LARGE])
def test_a_log_at_the_edge_of_a_tile_has_exactly_the_tiles_of_its_size(size: int, tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([b"x"] * size)
    wanted = {tile_path("entries", size // 256, size % 256)} if size % 256 else set()
    wanted |= {tile_path("entries", number) for number in range(size // 256)}
    for level, count in enumerate((size, size >> 8, size >> 16)):
        wanted |= {tile_path(level, number) for number in range(count // 256)}
        wanted |= {tile_path(level, count // 256, count % 256)} if count % 256 else set()
    assert {path.relative_to(tmp_path).as_posix() for path in files(tmp_path)} == wanted | {CHECKPOINT}
    assert log.checkpoint.root == merkle.root([b"x"] * size)
    writer(tmp_path).append([b"y"])
    again = LogReader.open(tmp_path, SIGNER.verifier)
    leaf = merkle.leaf_hash(b"y")
    merkle.verify_inclusion(leaf, size, size + 1, again.inclusion(size), again.checkpoint.root)
    proof.verify_consistency((size, size + 1), (log.checkpoint.root, again.checkpoint.root), again.consistency(size))


HUGE = (1 << 63) - 1


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 2, []),
        (0, 2, [b""]),
        (0, 2, [b"short"]),
        (0, 1, [bytes(32)]),
        (1, 1, []),
        (-1, 1, []),
        (0, 0, []),
        (0, HUGE, [bytes(32)] * 63),
        (HUGE, HUGE, []),
        (0, HUGE, []),
    ],
)
def test_a_forged_proof_of_inclusion_is_refused(index: int, size: int, path: list[bytes]) -> None:
    leaf = merkle.leaf_hash(b"forged")
    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(leaf, index, size, path, naive([b"forged", b"x"]) if size > 1 else naive([b"other"]))


@pytest.mark.parametrize(
    ("sizes", "path"),
    [((0, 1), []), ((-1, 1), []), ((2, 1), []), ((1, 1), [bytes(32)]), ((1, 2), []), ((1, 2), [b""]), ((1, HUGE), [])],
)
def test_a_forged_proof_of_consistency_is_refused(sizes: tuple[int, int], path: list[bytes]) -> None:
    root = naive([b"forged"])
    with pytest.raises(IntegrityError):
        proof.verify_consistency(sizes, (root, root), path)
