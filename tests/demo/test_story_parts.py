"""What the demo asks for is what the product accepts: configurations, policies, people."""

from __future__ import annotations

import pytest

from interlock.apps.demo.board import Board
from interlock.apps.demo.people import cast
from interlock.apps.demo.plan import RELEASES, ReleasePlan
from interlock.base.clock import ManualClock
from interlock.rollout.policy import parse_policy
from interlock.training.config import parse
from interlock.trust import sshsig
from interlock.trust.people import People


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.version)
def test_every_release_of_the_plan_is_well_formed(release: ReleasePlan) -> None:
    assert parse(release.config("ada"), "train.yaml").version == release.version
    parse_policy(release.policy(), "rollout.yaml")


def test_the_people_sign_as_the_people_file_says() -> None:
    players = cast()
    people = People.parse(players.people_json())
    for signer in players.approvers:
        line = sshsig.verify(b"statement", signer.sign(b"statement").decode(), people.person(signer.id).keys)
        assert line in people.person(signer.id).keys
    assert people.by_email(players.engineer.email).roles == ()


def test_a_scene_that_raises_is_shown_as_failed() -> None:
    board = Board(ManualClock())
    with pytest.raises(RuntimeError), board.scene("train"):
        raise RuntimeError
    assert [scene.state for scene in board.scenes] == ["failed"]
