from pathlib import Path

import numpy as np
import pytest
from tests.governance.past import KINDS, World

from interlock.base.canonical import digest_hex
from interlock.base.errors import IntegrityError
from interlock.base.verdict import Verdict
from interlock.features.definition import FRAUD
from interlock.governance.recompute import Recomputation, recompute_decision

pytestmark = pytest.mark.process  # a whole past on disk

LINKS = ("base", "history", "vector", "score", "decision")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def outcome(found: Recomputation) -> dict[str, str]:
    return {link.name: link.finding or link.verdict.word for link in found.links}


def test_every_decision_is_recomputed_bit_for_bit(world: World) -> None:
    for _ in range(25):
        world.decide()
    world.seal()
    for made in world.made:
        found = recompute_decision(made.decision_id, world.past)
        assert found.verdict is Verdict.PASS
        assert tuple(outcome(found)) == LINKS
        assert all(found.holds(name) for name in LINKS)
    nonzero = np.count_nonzero(np.array([made.features() for made in world.made]), axis=0)
    assert (nonzero > 0).sum() > FRAUD.width // 2


def test_segments_that_are_not_sealed_yet_count_too(world: World) -> None:
    for _ in range(6):
        world.decide()
    assert recompute_decision(world.made[-1].decision_id, world.past).verdict is Verdict.PASS


def test_a_lost_event_is_a_gap_and_never_a_success(world: World) -> None:
    lost = world.decide(transaction_id="lost")
    later = world.decide()
    while not set(lost.inputs.values()) & {later.inputs[kind] for kind in KINDS}:
        later = world.decide()
    found = recompute_decision(later.decision_id, world.past)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert outcome(found) == {"base": "pass", "history": "gap", "score": "pass", "decision": "pass"}
    (history,) = (link for link in found.links if link.name == "history")
    assert history.evidence["entity"] in KINDS
    assert not found.holds("vector")


def test_an_altered_amount_shows_in_a_later_decision_of_the_same_entity(world: World) -> None:
    first = world.decide(inputs={**world.peek(), "amount": 1})
    assert first.inputs["amount"] == 1
    later = world.decide()
    while later.inputs["card"] != first.inputs["card"]:
        later = world.decide()
    found = recompute_decision(later.decision_id, world.past)
    assert outcome(found)["vector"] == "mismatch"
    assert "card_sum_7d" in found.differences


def test_a_vector_that_was_not_computed_from_the_past_is_named_by_feature(world: World) -> None:
    wrong = np.ones(FRAUD.width, "<f4")
    made = world.decide(vector=wrong.tobytes())
    found = recompute_decision(made.decision_id, world.past)
    assert outcome(found)["vector"] == "mismatch"
    assert found.verdict is Verdict.FAIL
    assert "amount" in found.differences
    assert found.differences["amount"][1] == 1.0


def test_one_bit_of_the_score_is_enough_to_fail(world: World) -> None:
    made = world.decide()
    other = float(np.nextafter(np.float32(made.score), np.float32(2)))
    world.made.clear()
    forged = world.decide(score=other, decision_id="018f3c5e-0000-7000-8000-00000000000a")
    again = recompute_decision(forged.decision_id, world.past)
    assert outcome(again)["score"] == "mismatch"
    assert made.score != other


def test_another_decision_than_the_threshold_sets_fails(world: World) -> None:
    made = world.decide()
    world.made.clear()
    other = "DECLINE" if made.decision == "APPROVE" else "APPROVE"
    forged = world.decide(decision=other, decision_id="018f3c5e-0000-7000-8000-00000000000b")
    assert outcome(recompute_decision(forged.decision_id, world.past))["decision"] == "mismatch"


def test_two_events_with_one_number_are_a_gap(world: World) -> None:
    first = world.decide()
    second = world.decide(applied=first.applied, inputs={**first.inputs, "amount": 5})
    third = world.decide(inputs=first.inputs, applied=tuple((epoch, seq + 1) for epoch, seq in first.applied))
    assert second.applied == first.applied
    assert outcome(recompute_decision(third.decision_id, world.past))["history"] == "gap"


def test_without_a_logged_base_nothing_is_claimed(world: World) -> None:
    made = world.decide()
    world.ledger.logged = [event for event in world.ledger.logged if event.type != "store.loaded"]
    found = recompute_decision(made.decision_id, world.past)
    assert outcome(found)["history"] == "missing"
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_second_load_starts_the_sequences_again(world: World) -> None:
    for _ in range(5):
        world.decide()
    world._load(0)
    made = [world.decide() for _ in range(5)]
    assert [outcome(recompute_decision(each.decision_id, world.past)) for each in made] == [
        dict.fromkeys(LINKS, "pass")
    ] * 5


def test_a_store_that_began_empty_needs_no_snapshot(tmp_path: Path) -> None:
    world = World(tmp_path, base_events=0)
    world.ledger.logged[0].body["snapshot"] = "empty"
    for _ in range(4):
        world.decide()
    assert recompute_decision(world.made[-1].decision_id, world.past).verdict is Verdict.PASS


@pytest.mark.parametrize("missing", [{"vector": b""}, {"applied": ()}, {"bundle": "", "score": None}])
def test_a_decision_without_vector_position_or_model_has_nothing_to_compute(
    world: World, missing: dict[str, object]
) -> None:
    made = world.decide(**missing)
    found = recompute_decision(made.decision_id, world.past)
    assert outcome(found) == {"vector": "fallback"}
    assert found.verdict is Verdict.INCONCLUSIVE


def test_an_altered_bundle_is_an_error(world: World) -> None:
    made = world.decide()
    path = world.home / "bundles" / digest_hex(made.bundle) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        recompute_decision(made.decision_id, world.past)
