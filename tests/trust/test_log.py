"""The log on disk: what is written, what a crash leaves, and what the offline verifier finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.trust.published import OWN, folders

from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.base.files import write_atomic
from interlock.trust import merkle, proof
from interlock.trust.event import entry_bytes, parse_entry
from interlock.trust.fsck import Report, verify_folder
from interlock.trust.log import CHECKPOINT, LogReader, LogWriter, pack_entries, tile_path, unpack_entries
from interlock.trust.note import Signer, Verifier

pytestmark = pytest.mark.process  # every test syncs many files

TESSERA = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("interlock/test", Ed25519PrivateKey.generate())


def quick(folder: Path, signer: Signer) -> LogWriter:
    """A writer that waits for no disk: what it writes is the same."""
    return LogWriter(folder, signer, write=_unsynced)


def _unsynced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def entries(start: int, stop: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(start, stop)]


def check(folder: Path, signer: Signer) -> Report:
    return verify_folder(folder, signer.verifier.to_text(), wait=lambda seconds: None)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (5, 7, "tile/0/005.p/7"),
        (1_234, 256, "tile/0/x001/234"),
        (1_234_067, 3, "tile/0/x001/x234/067.p/3"),
    ],
)
def test_tiles_are_named_as_the_specification_says(index: int, width: int, path: str) -> None:
    assert tile_path(0, index, width) == path


@pytest.mark.parametrize("sizes", [(1,), (3, 5, 1), (255, 1, 1), (256,), (257, 255), (700, 1, 300)])
def test_a_log_holds_its_entries_in_order_under_the_root_of_the_whole_tree(
    tmp_path: Path, signer: Signer, sizes: tuple[int, ...]
) -> None:
    writer, total = quick(tmp_path, signer), 0
    for size in sizes:
        writer.append(entries(total, total + size))
        total += size
    assert writer.checkpoint.root == merkle.root(entries(0, total))
    reader = LogReader.open(tmp_path, signer.verifier)
    assert list(reader.entries()) == entries(0, total)
    assert reader.entry(total - 1) == entries(0, total)[-1]
    assert check(tmp_path, signer) == Report(total, writer.checkpoint.root.hex(), [])


def test_a_writer_that_opens_again_goes_on_as_if_it_had_never_stopped(tmp_path: Path, signer: Signer) -> None:
    for start in range(0, 600, 100):
        quick(tmp_path / "again", signer).append(entries(start, start + 100))
    once = quick(tmp_path / "once", signer)
    for start in range(0, 600, 100):
        once.append(entries(start, start + 100))
    assert names(tmp_path / "again") == names(tmp_path / "once")
    for name in names(tmp_path / "once"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_three_levels_of_tiles_prove_what_they_hold(tmp_path: Path, signer: Signer) -> None:
    size = 66_000
    writer = quick(tmp_path, signer)
    writer.append(entries(0, size))
    reader = writer.reader()
    for index in (0, 255, 256, 65_535, 65_536, size - 1):
        leaf = merkle.leaf_hash(f"entry {index}".encode())
        merkle.verify_inclusion(leaf, index, size, reader.inclusion(index), reader.checkpoint.root)
    older = merkle.root(entries(0, 300))
    proof.verify_consistency((300, size), (older, reader.checkpoint.root), reader.consistency(300))
    assert check(tmp_path, signer).verified


def test_entries_up_to_the_longest_are_framed_and_longer_ones_refused(tmp_path: Path, signer: Signer) -> None:
    longest = b"x" * 65_535
    assert unpack_entries(pack_entries([b"", longest, b"y"])) == [b"", longest, b"y"]
    with pytest.raises(UsageError):
        quick(tmp_path, signer).append([longest + b"x"])
    with pytest.raises(IntegrityError):
        unpack_entries(pack_entries([b"abc"])[:-1])


class _Crash(Exception):
    """The process dies here."""


def crashing(at: int, how: str) -> Callable[[Path, bytes], None]:
    """A write that dies at its `at`-th call: before it, after it, or leaving a torn file."""
    left = at

    def write(path: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            write_atomic(path, data)
            return
        if how == "after":
            write_atomic(path, data)
        if how == "torn" and path.name != CHECKPOINT:  # the checkpoint is replaced by a rename: old or new, whole
            write_atomic(path, data[: len(data) // 2])
        raise _Crash

    return write


def append_in_tens(writer: LogWriter, start: int) -> None:
    for stop in range(start + 10, 1000, 10):
        writer.append(entries(stop - 10, stop))


@pytest.mark.parametrize("how", ["before", "after", "torn"])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_crash_at_any_write_leaves_the_old_log_and_the_same_append_completes_it(
    tmp_path: Path, signer: Signer, at: int, how: str
) -> None:
    quick(tmp_path, signer).append(entries(0, 250))
    before = LogReader.open(tmp_path, signer.verifier).checkpoint
    dying = LogWriter(tmp_path, signer, write=crashing(at, how))
    with pytest.raises(_Crash):
        append_in_tens(dying, 250)  # over a tile's edge, so that every kind of file is written
    found = LogReader.open(tmp_path, signer.verifier)
    assert found.checkpoint.size >= before.size
    assert list(found.entries()) == entries(0, found.checkpoint.size)
    quick(tmp_path, signer).append(entries(found.checkpoint.size, 300))
    assert check(tmp_path, signer) == Report(300, merkle.root(entries(0, 300)).hex(), [])


def test_a_writer_whose_disk_was_full_forgets_what_did_not_get_there(tmp_path: Path, signer: Signer) -> None:
    full = [True]

    def write(path: Path, data: bytes) -> None:
        if full[0] and path.name == "7":
            raise OSError(28, "No space left on device")
        write_atomic(path, data)

    writer = LogWriter(tmp_path, signer, write=write)
    writer.append(entries(0, 5))
    with pytest.raises(UnreachableError, match="No space"):
        writer.append(entries(5, 7))
    assert writer.size == 5
    full[0] = False
    writer.append(entries(5, 9))
    assert check(tmp_path, signer) == Report(9, merkle.root(entries(0, 9)).hex(), [])


def flip(path: Path, at: int = 40) -> None:
    data = bytearray(path.read_bytes())
    data[min(at, len(data) - 1)] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite(log: Path) -> None:
    """Other entries with tiles that fit them: only the signed root is left to tell."""
    changed = [b"forged", *entries(1, 300)]
    other = quick(log.parent / "forged", Signer("interlock/test", Ed25519PrivateKey.generate()))
    other.append(changed)
    shutil.rmtree(log / "tile")
    shutil.copytree(log.parent / "forged/tile", log / "tile")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of an entry": lambda log: flip(log / "tile/entries/000"),
    "a bit of the last entries": lambda log: flip(log / "tile/entries/001.p/44"),
    "a bit of a leaf tile": lambda log: flip(log / "tile/0/000"),
    "a bit of an upper tile": lambda log: flip(log / "tile/1/000.p/1", 3),
    "a bit of the checkpoint's size": lambda log: flip(log / CHECKPOINT, len("interlock/test\n")),
    "a bit of the signature": lambda log: flip(log / CHECKPOINT, 150),
    "the end of the entries": lambda log: cut(log / "tile/entries/001.p/44"),
    "the last bundle": lambda log: (log / "tile/entries/001.p/44").unlink(),
    "a leaf tile": lambda log: (log / "tile/0/000").unlink(),
    "the checkpoint": lambda log: (log / CHECKPOINT).unlink(),
    "everything": lambda log: shutil.rmtree(log),
    "entries and tiles rewritten in step": rewrite,
    "an older checkpoint put back": lambda log: (log / CHECKPOINT).write_bytes((log / "../older").read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_offline_verifier_finds(damage: str, tmp_path: Path, signer: Signer) -> None:
    log = tmp_path / "log"
    writer = quick(log, signer)
    writer.append(entries(0, 200))
    (tmp_path / "older").write_bytes((log / CHECKPOINT).read_bytes())
    writer.append(entries(200, 300))
    assert check(log, signer).verified
    DAMAGE[damage](log)
    found = check(log, signer)
    assert not found.verified
    assert found.errors


def test_the_verifier_waits_for_a_writer_that_is_about_to_sign(tmp_path: Path, signer: Signer) -> None:
    writer = quick(tmp_path, signer)
    writer.append(entries(0, 3))
    newer = (tmp_path / CHECKPOINT).read_bytes()
    writer.append(entries(3, 4))
    newest = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(newer)
    key = signer.verifier.to_text()
    found = verify_folder(tmp_path, key, wait=lambda seconds: (tmp_path / CHECKPOINT).write_bytes(newest) and None)
    assert (found.entries, found.verified) == (4, True)


def test_a_writer_does_not_open_over_damage_and_never_starts_a_log_anew(tmp_path: Path, signer: Signer) -> None:
    quick(tmp_path, signer).append(entries(0, 9))
    checkpoint = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(IntegrityError, match="no checkpoint"):
        quick(tmp_path, signer)
    (tmp_path / CHECKPOINT).write_bytes(checkpoint)
    flip(tmp_path / "tile/entries/000.p/9")
    with pytest.raises(IntegrityError, match="do not give the root"):
        quick(tmp_path, signer)


def test_an_older_checkpoint_put_back_is_refused_before_anything_forks(tmp_path: Path, signer: Signer) -> None:
    writer = quick(tmp_path, signer)
    writer.append(entries(0, 3))
    older = (tmp_path / CHECKPOINT).read_bytes()
    writer.append(entries(3, 6))
    (tmp_path / CHECKPOINT).write_bytes(older)
    with pytest.raises(IntegrityError, match="older checkpoint"):
        writer.refresh()
    with pytest.raises(IntegrityError, match="other bytes"):
        quick(tmp_path, signer).append([b"forged", b"forged", b"forged"])


def test_a_second_writer_is_noticed_and_its_entries_taken_in(tmp_path: Path, signer: Signer) -> None:
    one, two = quick(tmp_path, signer), quick(tmp_path, signer)
    one.append(entries(0, 3))
    with pytest.raises(UnreachableError, match="another process"):
        two.append(entries(0, 1))
    two.refresh()
    two.append(entries(3, 300))
    one.refresh()
    assert one.checkpoint == two.checkpoint
    assert check(tmp_path, signer).entries == 300


def test_another_signed_tree_of_the_same_log_is_a_fork_and_refused(tmp_path: Path, signer: Signer) -> None:
    writer = quick(tmp_path / "log", signer)
    writer.append(entries(0, 3))
    quick(tmp_path / "fork", signer).append([*entries(0, 2), b"forked", b"more"])
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(tmp_path / "fork", tmp_path / "log")
    with pytest.raises(IntegrityError, match="not consistent"):
        writer.refresh()


# Logs that this code did not write now: ours is a golden of the format, the other is by Tessera.
LOGS = {"own": ("own_log", (OWN / "own_log/vkey").read_text()), "tessera": ("tessera_log", TESSERA)}
HERE = [(folder / place, key) for folder in folders() for place, key in LOGS.values() if (folder / place).is_dir()]


@pytest.mark.parametrize(("log", "key"), HERE, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_a_stored_log_verifies_at_each_of_its_checkpoints(log: Path, key: str, tmp_path: Path) -> None:
    newest = LogReader.open(log, Verifier.parse(key))
    sizes = sorted(int(path.suffix[1:]) for path in log.glob("checkpoint.*"))
    assert sizes[-1] == newest.checkpoint.size > 3
    for size in sizes:
        copy = tmp_path / f"{size}"
        shutil.copytree(log, copy)
        for path in [*copy.glob("tile/entries/000.p/*"), *copy.glob("tile/0/000.p/*")]:
            if int(path.name) > size:
                path.unlink()
        shutil.copy(copy / f"checkpoint.{size}", copy / CHECKPOINT)
        found = verify_folder(copy, key, wait=lambda seconds: None)
        assert (found.entries, found.errors) == (size, [])
        if size:
            roots = bytes.fromhex(found.root), newest.checkpoint.root
            proof.verify_consistency((size, newest.checkpoint.size), roots, newest.consistency(size))


def test_stored_entries_are_read_as_the_events_they_were() -> None:
    reader = LogReader.open(OWN / "own_log", Verifier.parse(LOGS["own"][1]))
    events = [parse_entry(entry, index) for index, entry in enumerate(reader.entries())]
    assert [event.type for event in events][-1] == "release.admitted"
    assert [entry_bytes(event) for event in events] == list(reader.entries())
    assert events[1].body == {"number": 2, "text": "é"}
