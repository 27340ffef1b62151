from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.base.clock import NS_PER_S
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.ids import SeededIds, uuid7
from interlock.decision import sealing
from interlock.decision.archive import Archive
from interlock.decision.record import DecisionRecord
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.trust import merkle

Make = Callable[..., DecisionRecord]
SMALL = SegmentOptions(size_bytes=16 * 1024)
START_NS = 1_790_000_000 * NS_PER_S


def sealed_folder(folder: Path, make_record: Make, count: int = 30) -> list[DecisionRecord]:
    made = [make_record(n) for n in range(count)]
    out = SegmentWriter(folder, "w0", lambda: 1_790_000_000_000_000_000, SMALL)
    for one in made:
        out.append([one])
    out.close()
    sealing.sweep(folder)
    return made


def test_every_record_is_found_and_proven_under_its_seal(tmp_path: Path, make_record: Make) -> None:
    made = sealed_folder(tmp_path, make_record)
    archive = Archive(tmp_path)
    for one in made:
        found = archive.find(one.decision_id)
        assert found is not None
        assert found.record == one
        assert found.seal is not None
        proof = archive.proof(found)
        assert proof.root.hex() == found.seal.root
        merkle.verify_inclusion(merkle.leaf_hash(found.payload), proof.index, proof.size, list(proof.path), proof.root)


def test_a_record_not_yet_sealed_is_found_but_not_proven(tmp_path: Path, make_record: Make) -> None:
    out = SegmentWriter(tmp_path, "w0", lambda: 1, SMALL)
    out.append([make_record(1)])
    archive = Archive(tmp_path)
    found = archive.find(make_record(1).decision_id)
    assert found is not None
    assert found.seal is None
    with pytest.raises(UsageError, match="not sealed"):
        archive.proof(found)
    out.close()


def test_an_unknown_decision_is_none(tmp_path: Path, make_record: Make) -> None:
    sealed_folder(tmp_path, make_record)
    assert Archive(tmp_path).find(make_record(99).decision_id) is None
    assert Archive(tmp_path / "nowhere").find("x") is None


def test_an_altered_segment_is_never_believed(tmp_path: Path, make_record: Make) -> None:
    made = sealed_folder(tmp_path, make_record, count=3)
    (path,) = tmp_path.glob("*.seg")
    path.write_bytes(path.read_bytes().replace(b"t-1", b"t-2"))
    with pytest.raises(IntegrityError, match="altered"):
        Archive(tmp_path).find(made[1].decision_id)
    with pytest.raises(IntegrityError, match="altered"):
        list(Archive(tmp_path).touching([str(made[1].inputs["card"])]))


def test_a_record_cut_out_of_a_segment_is_not_taken_for_unknown(tmp_path: Path, make_record: Make) -> None:
    made = sealed_folder(tmp_path, make_record, count=3)
    (path,) = tmp_path.glob("*.seg")
    path.write_bytes(path.read_bytes().replace(made[1].decision_id.encode(), b"0" * 36))
    with pytest.raises(IntegrityError, match="altered"):
        Archive(tmp_path).find(made[1].decision_id)
    path.unlink()
    with pytest.raises(IntegrityError, match="gone"):
        Archive(tmp_path).find(made[1].decision_id)


def test_touching_lists_exactly_what_names_a_token_in_order(tmp_path: Path, make_record: Make) -> None:
    made = sealed_folder(tmp_path, make_record)
    card, terminal = str(made[3].inputs["card"]), str(made[4].inputs["terminal"])
    found = [each.record for each in Archive(tmp_path).touching([card, terminal])]
    assert found == [one for one in made if {card, terminal} & set(one.inputs.values())]
    assert 0 < len(found) < len(made)
    assert list(Archive(tmp_path).records()) == made


def test_a_segment_that_has_no_name_yet_is_not_read(tmp_path: Path, make_record: Make) -> None:
    sealed_folder(tmp_path, make_record, count=2)
    (tmp_path / ".1-w1.open").write_bytes(make_record(9).decision_id.encode())
    assert Archive(tmp_path).find(make_record(9).decision_id) is None


class Shift:
    """Workers that write a segment of one record each minute, every record with its own time in its id."""

    def __init__(self, folder: Path, make_record: Make) -> None:
        self.folder, self.make, self.ids, self.now_ns = folder, make_record, SeededIds(1), START_NS
        self.writers = {name: SegmentWriter(folder, name, lambda: self.now_ns, SMALL) for name in ("w0", "w1")}

    def minute(self, worker: str, **changes: object) -> DecisionRecord:
        """One record a minute later, in a segment of its own; the other worker's stays open."""
        self.now_ns += 60 * NS_PER_S
        made = self.make(
            self.now_ns // NS_PER_S,
            decision_id=uuid7(self.now_ns, self.ids.random(10)),
            received_ns=self.now_ns,
            **changes,
        )
        self.writers[worker].append([made])
        self.writers[worker].roll()
        return made

    def seal(self) -> None:
        sealing.sweep(self.folder)

    def unreadable_but(self, *kept: DecisionRecord) -> None:
        """Replace every segment that holds none of these records by a folder, which nobody can read as a file."""
        for path in self.folder.glob("*.seg"):
            if not any(one.decision_id.encode() in path.read_bytes() for one in kept):
                path.unlink()
                path.mkdir()


@pytest.fixture
def shift(tmp_path: Path, make_record: Make) -> Shift:
    return Shift(tmp_path, make_record)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_decision_is_looked_for_in_the_segments_of_its_time_first(shift: Shift, sealed: bool) -> None:
    made = [shift.minute("w0" if n % 3 else "w1") for n in range(12)]
    if sealed:
        shift.seal()
    shift.unreadable_but(*made[4:10])
    for everywhere in (True, False):
        found = Archive(shift.folder).find(made[6].decision_id, everywhere)
        assert found is not None
        assert (found.record, found.seal is not None) == (made[6], sealed)


def test_a_bounded_lookup_of_an_unknown_decision_reads_the_segments_of_its_time_alone(shift: Shift) -> None:
    made = [shift.minute("w0") for _ in range(12)]
    shift.seal()
    never = uuid7(made[6].received_ns, bytes(10))
    assert Archive(shift.folder).find(never) is None
    shift.unreadable_but(*made[4:10])
    assert Archive(shift.folder).find(never, everywhere=False) is None
    with pytest.raises(IsADirectoryError):
        Archive(shift.folder).find(never)


def test_a_bounded_lookup_notices_damage_where_the_record_may_have_been(shift: Shift) -> None:
    made = [shift.minute("w0") for _ in range(12)]
    shift.seal()
    (path,) = [each for each in shift.folder.glob("*.seg") if made[6].decision_id.encode() in each.read_bytes()]
    path.unlink()
    with pytest.raises(IntegrityError, match="gone"):
        Archive(shift.folder).find(made[6].decision_id, everywhere=False)


def test_a_long_quiet_worker_s_open_segment_is_looked_into(shift: Shift, make_record: Make) -> None:
    quiet = shift.writers["w1"]
    for _ in range(5):
        shift.minute("w0")
    late = make_record(1, decision_id=uuid7(shift.now_ns, shift.ids.random(10)), received_ns=shift.now_ns)
    quiet.append([late])
    found = Archive(shift.folder).find(late.decision_id, everywhere=False)
    assert found is not None
    assert found.record == late


def test_the_last_decision_on_a_transaction_is_the_one_received_last_whoever_wrote_it(
    shift: Shift, make_record: Make
) -> None:
    shift.minute("w0")
    shift.minute("w0", transaction_id="t")
    shift.minute("w0", transaction_id="t", service="another")
    shift.now_ns += 1
    again = make_record(2, transaction_id="t", attempt=2, received_ns=shift.now_ns)
    shift.writers["w1"].append([again])  # in a segment that was begun before all the others
    for _ in range(3):
        shift.minute("w0")
    shift.seal()
    archive = Archive(shift.folder)
    found = archive.latest("fraud", "t")
    assert found is not None
    assert found.record == again
    assert archive.latest("fraud", "unknown") is None
    assert archive.latest("fraud", "t", since_ns=again.received_ns + 1) is None


def test_old_segments_are_not_read_for_a_transaction(shift: Shift) -> None:
    made = [shift.minute("w0", transaction_id=f"t-{n}") for n in range(12)]
    shift.seal()
    shift.unreadable_but(*made[7:])
    found = Archive(shift.folder).latest("fraud", "t-9", since_ns=made[8].received_ns)
    assert found is not None
    assert found.record == made[9]
    found = Archive(shift.folder).latest("fraud", "t-11")
    assert found is not None  # found in the newest: what is older than that cannot be newer
    assert Archive(shift.folder).latest("fraud", "t-2", since_ns=made[8].received_ns) is None


def test_the_records_of_a_time_are_read_out_of_the_segments_of_that_time(tmp_path: Path, make_record: Make) -> None:
    """One segment a minute, the clock of the writer a little behind that of the door."""
    minute = 60 * NS_PER_S
    made = []
    for n in range(10):
        at = START_NS + n * minute
        out = SegmentWriter(tmp_path, "w0", lambda at=at: at + NS_PER_S, SMALL)  # type: ignore[misc]
        made.append(make_record(n, received_ns=at))
        out.append([made[-1]])
        out.close()
    sealing.sweep(tmp_path)
    archive = Archive(tmp_path)
    assert list(archive.records()) == made
    assert list(archive.records(START_NS + 3 * minute, START_NS + 6 * minute)) == made[3:6]
    assert list(archive.records(START_NS + 8 * minute)) == made[8:]
    assert list(archive.records(START_NS + 5 * minute, START_NS + 5 * minute + 1)) == made[5:6]
    (tmp_path / sorted(path.name for path in tmp_path.glob("*.seg"))[0]).write_bytes(b"")
    assert list(archive.records(START_NS + 8 * minute)) == made[8:]
    with pytest.raises(IntegrityError):
        list(archive.records(0, START_NS + minute))
