import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.decision import record, segment
from interlock.decision.record import DecisionRecord
from interlock.decision.segment import Header, SegmentOptions, SegmentWriter

Make = Callable[..., DecisionRecord]
SMALL = SegmentOptions(size_bytes=16 * 1024)
GOLDEN = Path(__file__).parents[1] / "golden" / "segment-v1.seg"
"""As the first records were; fields have been appended since."""
GOLDEN_NOW = GOLDEN.with_name("segment-v1-asked.seg")


def writer(folder: Path, options: SegmentOptions = SMALL) -> SegmentWriter:
    return SegmentWriter(folder, "w0", lambda: 1_790_000_000_000_000_000, options)


def header() -> bytes:
    return segment.frame(segment.msgspec.msgpack.encode(Header("w0", 7)))


def test_records_come_back_in_order_whatever_the_ticks(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    made = [make_record(n) for n in range(9)]
    for tick in (made[:1], made[1:6], [], made[6:]):
        out.append(tick)
    open_content = segment.read(out.path)
    assert list(open_content.records()) == made
    assert open_content.cut == 0
    closed = out.roll()
    assert closed is not None
    assert closed.suffix == ".seg"
    assert list(segment.read(closed).records()) == made
    assert closed.stat().st_size == segment.read(closed).length
    out.close()


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_any_payloads_survive_framing(payloads: list[bytes]) -> None:
    content = segment.parse(header() + b"".join(map(segment.frame, payloads)) + bytes(64))
    assert list(content.payloads) == payloads
    assert content.cut == 0


def test_a_tail_torn_at_any_byte_is_cut_and_counted() -> None:
    whole = header() + segment.frame(b"first")
    torn = segment.frame(b"second, with \x00 inside")
    for at in range(len(torn)):
        content = segment.parse(whole + torn[:at] + bytes(100))
        assert list(content.payloads) == [b"first"]
        assert content.length == len(whole)
        assert content.cut == len(torn[:at].rstrip(b"\0"))


@given(st.integers(0, 7), st.integers(1, 255), st.integers(0))
def test_a_flipped_byte_is_found(bit: int, flip: int, where: int) -> None:
    start = header()
    body = b"".join(segment.frame(bytes([65 + n]) * 20) for n in range(4))
    damaged = bytearray(start + body)
    damaged[len(start) + where % len(body)] ^= flip
    content = segment.parse(bytes(damaged))
    index = (where % len(body)) // 28
    assert list(content.payloads) == [bytes([65 + n]) * 20 for n in range(index)]
    assert content.cut > 0


def test_a_segment_without_a_whole_header_holds_nothing() -> None:
    for data in (b"", bytes(100), header()[:-1]):
        with pytest.raises(IntegrityError, match="header"):
            segment.parse(data)


def test_an_unknown_version_is_refused() -> None:
    other = segment.frame(segment.msgspec.msgpack.encode(Header("w0", 7, version=2)))
    with pytest.raises(IntegrityError, match="version"):
        segment.parse(other)
    with pytest.raises(IntegrityError, match="malformed"):
        segment.parse(segment.frame(b"\x93\x01"))


@pytest.mark.parametrize("golden", [GOLDEN, GOLDEN_NOW])
def test_the_golden_files_of_version_1_are_read(golden: Path, make_record: Make) -> None:
    content = segment.read(golden)
    assert content.header == Header("w0", 1_790_000_000_000_000_000)
    assert list(content.records()) == [make_record(n) for n in range(3)]


def test_writing_the_golden_records_gives_the_golden_bytes(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(n) for n in range(3)])
    closed = out.close()
    assert closed is not None
    assert closed.read_bytes() == GOLDEN_NOW.read_bytes()


def test_a_full_segment_is_followed_by_the_next_and_nothing_is_lost(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    made = [make_record(n) for n in range(60)]
    for one in made:
        out.append([one])
    out.close()
    closed = sorted(tmp_path.glob("*.seg"))
    assert len(closed) > 1
    assert [r for path in closed for r in segment.read(path).records()] == made


def test_a_tick_larger_than_half_a_segment_is_refused(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    with pytest.raises(UsageError, match="tick"):
        out.append([make_record(n) for n in range(100)])
    out.append([make_record(1)])
    assert len(segment.read(out.path).payloads) == 1
    out.close()


def test_a_full_disk_meets_the_open_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="no room"):
        writer(tmp_path, SegmentOptions(size_bytes=1 << 60))
    assert list(tmp_path.iterdir()) == []


def test_a_roll_that_finds_no_room_keeps_the_current_segment(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    object.__setattr__(out, "_options", SegmentOptions(size_bytes=1 << 60))
    with pytest.raises(UnreachableError):
        out.roll()
    out.append([make_record(2)])
    assert len(segment.read(out.path).payloads) == 2
    out.close()


def test_an_open_segment_is_preallocated_and_locked(tmp_path: Path) -> None:
    import fcntl

    out = writer(tmp_path)
    assert out.path.stat().st_size == SMALL.size_bytes
    assert out.path.stat().st_blocks * 512 >= SMALL.size_bytes
    handle = os.open(out.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
    out.close()


def test_an_empty_segment_leaves_no_file(tmp_path: Path) -> None:
    out = writer(tmp_path)
    assert out.roll() is None
    assert out.close() is None
    assert list(tmp_path.iterdir()) == []


def test_two_segments_made_in_the_same_nanosecond_have_two_names(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    first = out.roll()
    out.append([make_record(2)])
    second = out.close()
    assert first != second
    assert len(list(tmp_path.glob("*.seg"))) == 2


def test_a_tick_is_one_write(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    out = writer(tmp_path)
    calls: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: calls.append(len(data)) or real(fd, data, at))
    out.append([make_record(n) for n in range(5)])
    assert len(calls) == 1
    assert out.records == 5
    out.close()


def test_a_worker_name_that_could_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name"):
        SegmentWriter(tmp_path, "../w0", lambda: 1)


def test_a_payload_is_what_the_record_encodes_to(tmp_path: Path, make_record: Make) -> None:
    out = writer(tmp_path)
    out.append([make_record(1)])
    assert segment.read(out.path).payloads == (record.encode(make_record(1)),)
    out.close()
