from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.base.errors import IntegrityError, UsageError
from interlock.decision import sealing
from interlock.decision.archive import Archive
from interlock.decision.record import DecisionRecord
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.trust import merkle

Make = Callable[..., DecisionRecord]
SMALL = SegmentOptions(size_bytes=16 * 1024)


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
