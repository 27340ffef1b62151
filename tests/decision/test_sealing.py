import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.base.errors import IntegrityError
from interlock.decision import record, sealing, segment
from interlock.decision.record import DecisionRecord
from interlock.decision.segment import SegmentOptions, SegmentWriter

Make = Callable[..., DecisionRecord]
SMALL = SegmentOptions(size_bytes=16 * 1024)


def writer(folder: Path, worker: str = "w0") -> SegmentWriter:
    return SegmentWriter(folder, worker, lambda: 1_790_000_000_000_000_000, SMALL)


def killed(out: SegmentWriter, tail: bytes = b"") -> Path:
    """Let the writer's process die: its lock goes, its file stays, with a torn tail."""
    os.pwrite(out._handle, tail, out._offset)
    os.close(out._handle)
    return out.path


def rfc6962(leaves: list[bytes]) -> bytes:
    """The tree hash straight from RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + rfc6962(leaves[:k]) + rfc6962(leaves[k:])).digest()


def test_a_closed_segment_is_sealed_once_and_for_ever(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    made = [make_record(n) for n in range(5)]
    out.append(made)
    path = out.close()
    assert path is not None
    seal = sealing.seal_segment(path)
    assert (seal.number, seal.records, seal.bytes) == (1, 5, path.stat().st_size)
    assert seal.sha256 == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert seal.root == rfc6962([record.encode(r) for r in made]).hex()
    assert (seal.first_ns, seal.last_ns) == (made[0].received_ns, made[-1].received_ns)
    assert sealing.seal_segment(path) == seal
    assert sealing.sweep(tmp_path).seals == []
    assert sealing.seals(tmp_path) == [seal]


def test_a_segment_that_is_being_written_is_left_alone(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    done = sealing.sweep(tmp_path)
    assert (done.seals, done.orphans) == ([], [])
    out.append([make_record(2)])
    assert len(segment.read(out.path).payloads) == 2
    out.close()


def test_an_orphan_is_cut_counted_and_sealed(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1), make_record(2)])
    killed(out, segment.frame(record.encode(make_record(3)))[:-1])
    done = sealing.sweep(tmp_path)
    (seal,) = done.seals
    assert done.orphans == [seal.segment]
    assert seal.records == 2
    assert seal.cut == len(segment.frame(record.encode(make_record(3)))) - 1
    closed = tmp_path / f"{seal.segment}.seg"
    assert closed.stat().st_size == seal.bytes
    assert len(segment.read(closed).payloads) == 2


def test_an_orphan_without_records_is_removed_and_one_without_header_set_aside(tmp_path: Path) -> None:
    killed(writer(tmp_path))
    (tmp_path / "00000000000000000001-w1.open").write_bytes(bytes(100))
    done = sealing.sweep(tmp_path)
    assert done.seals == []
    assert done.broken == ["00000000000000000001-w1"]
    assert sorted(p.suffix for p in tmp_path.iterdir() if not p.name.startswith(".")) == [".broken"]


def test_an_orphan_with_nothing_but_a_torn_record_still_leaves_its_trace(tmp_path: Path) -> None:
    killed(writer(tmp_path), b"torn")
    (seal,) = sealing.sweep(tmp_path).seals
    assert (seal.records, seal.cut, seal.first_ns, seal.last_ns) == (0, 4, 0, 0)
    assert seal.root == hashlib.sha256(b"").hexdigest()


def test_a_closed_segment_with_bytes_after_its_end_is_not_sealed(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    path = out.close()
    assert path is not None
    path.write_bytes(path.read_bytes() + bytes(8))
    with pytest.raises(IntegrityError, match="damaged"):
        sealing.seal_segment(path)


def test_numbers_are_one_series_over_workers_without_gaps(tmp_path: Path, make_record: Make) -> None:
    for name in ("w0", "w1", "w2"):
        out = writer(tmp_path, name)
        for n in range(2):
            out.append([make_record(n)])
            out.roll()
        out.close()
    found = sealing.sweep(tmp_path).seals
    assert [seal.number for seal in found] == [1, 2, 3, 4, 5, 6]
    assert [seal.number for seal in sealing.seals(tmp_path, after=4)] == [5, 6]


def test_a_seal_that_was_interrupted_is_made_by_the_next_sweep(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    out.close()
    (first,) = sealing.sweep(tmp_path).seals
    path = sealing.seal_path(tmp_path, first.number, first.segment)
    path.rename(path.with_name(f".{path.name}.tmp"))
    assert sealing.sweep(tmp_path).seals == [first]


def test_a_damaged_closed_segment_is_not_sealed(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(n) for n in range(3)])
    path = out.close()
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="damaged"):
        sealing.seal_segment(path)
    assert sealing.seals(tmp_path) == []


def test_a_renamed_seal_is_found_out(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    out.close()
    (seal,) = sealing.sweep(tmp_path).seals
    sealing.seal_path(tmp_path, 1, seal.segment).rename(sealing.seal_path(tmp_path, 2, seal.segment))
    with pytest.raises(IntegrityError, match="renamed"):
        sealing.seals(tmp_path)


def test_what_died_before_it_had_a_name_is_removed_later(tmp_path: Path) -> None:
    young, old = tmp_path / ".1-w0.open", tmp_path / ".0-w0.open"
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    sealing.sweep(tmp_path)
    assert young.exists()
    assert not old.exists()
