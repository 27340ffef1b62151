from pathlib import Path

import pytest
from tests.governance.past import FOLDER, World

from interlock.base.canonical import digest_hex
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.verdict import Verdict
from interlock.decision import record
from interlock.decision.archive import Archive
from interlock.governance.dossier import Dossier, prove

LINKS = ("record", "segment", "log", "admission", "release", "bundle", "lineage")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def broken(dossier: Dossier) -> dict[str, tuple[Verdict, str]]:
    return {link.name: (link.verdict, link.finding) for link in dossier.links if link.verdict is not Verdict.PASS}


def test_every_link_of_a_sealed_and_logged_decision_holds(world: World) -> None:
    for _ in range(5):
        world.decide()
    world.seal()
    for made in world.made:
        dossier = prove(made.decision_id, world.sources)
        assert tuple(link.name for link in dossier.links) == LINKS
        assert dossier.verdict is Verdict.PASS
    admission = dossier.link("admission")
    assert admission is not None
    assert "ana (risk), bo (technical)" in admission.says
    lineage = dossier.link("lineage")
    assert lineage is not None
    assert (lineage.evidence["run_id"], lineage.evidence["commit"]) == ("run-7", "c0ffee")


def test_what_is_not_sealed_or_not_logged_yet_is_inconclusive(world: World) -> None:
    made = world.decide()
    assert broken(prove(made.decision_id, world.sources)) == {
        "segment": (Verdict.INCONCLUSIVE, "missing"),
        "log": (Verdict.INCONCLUSIVE, "missing"),
    }
    world.seal()
    del world.ledger.logged[-1]
    assert broken(prove(made.decision_id, world.sources)) == {"log": (Verdict.INCONCLUSIVE, "missing")}


def test_a_seal_that_the_log_does_not_know_fails(world: World) -> None:
    made = world.decide()
    world.seal()
    world.ledger.logged[-1].body["root"] = "0" * 64
    assert broken(prove(made.decision_id, world.sources)) == {"log": (Verdict.FAIL, "integrity")}


def test_an_entry_outside_the_checkpoints_tree_fails(world: World) -> None:
    made = world.decide()
    world.seal()
    world.ledger.forged.add(world.ledger.logged[-1].log_index or 0)
    assert broken(prove(made.decision_id, world.sources)) == {"log": (Verdict.FAIL, "integrity")}


def test_a_quorum_that_does_not_stand_fails(world: World) -> None:
    made = world.decide()
    world.seal()
    world.approved = False
    assert broken(prove(made.decision_id, world.sources)) == {"admission": (Verdict.FAIL, "refused")}


def test_a_missing_admission_file_is_inconclusive(world: World) -> None:
    made = world.decide()
    world.seal()
    hexes = digest_hex(made.bundle), digest_hex(FOLDER)
    (world.home / "admissions" / hexes[0] / f"{hexes[1]}.json").unlink()
    assert broken(prove(made.decision_id, world.sources)) == {"admission": (Verdict.INCONCLUSIVE, "missing")}


def test_an_admission_after_the_decision_allowed_nothing(world: World) -> None:
    made = world.decide()
    world.seal()
    at = next(i for i, event in enumerate(world.ledger.logged) if event.type == "release.admitted")
    world.ledger.add("release.admitted", made.received_ns + 1, world.ledger.logged[at].body)
    del world.ledger.logged[at]
    assert broken(prove(made.decision_id, world.sources)) == {"release": (Verdict.INCONCLUSIVE, "missing")}


def test_the_entry_that_the_admission_names_is_the_release(world: World) -> None:
    made = world.decide()
    world.seal()
    event = next(event for event in world.ledger.logged if event.type == "release.admitted")
    event.body.clear()
    world.admission_index = event.log_index
    assert prove(made.decision_id, world.sources).verdict is Verdict.PASS
    world.admission_index = 99
    assert broken(prove(made.decision_id, world.sources)) == {"release": (Verdict.INCONCLUSIVE, "missing")}


def test_an_altered_bundle_fails(world: World) -> None:
    made = world.decide()
    world.seal()
    path = world.home / "bundles" / digest_hex(made.bundle) / "thresholds.json"
    path.write_bytes(path.read_bytes().replace(b"0.7", b"0.1"))
    assert broken(prove(made.decision_id, world.sources)) == {
        "bundle": (Verdict.FAIL, "integrity"),
        "lineage": (Verdict.FAIL, "integrity"),
    }


@pytest.mark.parametrize(
    "changes",
    [{"version": "9.9.9"}, {"threshold_set": FOLDER}, {"feature_set": FOLDER}, {"decision": "DECLINE", "score": 0.1}],
)
def test_a_record_that_contradicts_its_bundle_fails(world: World, changes: dict[str, object]) -> None:
    made = world.decide(**changes)
    world.seal()
    dossier = prove(made.decision_id, world.sources)
    assert broken(dossier) == {"bundle": (Verdict.FAIL, "integrity")}
    link = dossier.link("bundle")
    assert link is not None
    assert ("recorded score" if "score" in changes else f"disagree about {next(iter(changes))}") in link.says


def test_a_lineage_that_the_log_tells_differently_fails(world: World) -> None:
    made = world.decide()
    world.seal()
    event = next(event for event in world.ledger.logged if event.type == "model.registered")
    event.body["run_id"] = "another"
    assert broken(prove(made.decision_id, world.sources)) == {"lineage": (Verdict.FAIL, "integrity")}


def test_the_constant_fallback_is_said_and_not_called_proven(world: World) -> None:
    made = world.decide(bundle="", folder="", score=None, degraded=record.STORE_DOWN | record.FALLBACK)
    world.seal()
    assert broken(prove(made.decision_id, world.sources)) == {"model": (Verdict.INCONCLUSIVE, "fallback")}


def test_an_unknown_decision_and_a_damaged_segment_are_errors(world: World) -> None:
    made = world.decide()
    world.seal()
    with pytest.raises(UsageError, match="no such decision"):
        prove("018f3c5e-0000-7000-8000-000000000000", world.sources)
    (path,) = (world.home / "segments").glob("*.seg")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="altered"):
        prove(made.decision_id, world.sources)
    assert isinstance(world.archive, Archive)
