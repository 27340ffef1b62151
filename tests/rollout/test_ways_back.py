"""Ways on which going back could fail to happen, and did when somebody read for them."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from tests.rollout.test_world import rollouts, settled
from tests.world import Behaviour, World

from interlock.apps.control.calendar import Calendar
from interlock.apps.control.wishes import FREEZE, Wish
from interlock.base.clock import NS_PER_S
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError
from interlock.rollout.states import State
from interlock.rollout.step import step
from interlock.rollout.values import Looked


def canary(**policy: object) -> World:
    world = settled()
    world.release("1.1.0", **{"steps": "{weight: 10, for: 60s}", **policy})
    world.until(State.CANARY)
    world.run(2)
    return world


def latch_before_the_settled_table(world: World) -> None:
    """The rollout settles, its table does not arrive, and the supervisor goes back meanwhile."""
    install = world.scorers.install

    def refuses(table):  # type: ignore[no-untyped-def]
        if table.settled:
            raise UnreachableError("no answer", "ask again")
        return install(table)

    world.scorers.install = refuses  # type: ignore[method-assign]
    world.until(State.SETTLED)
    world.scorers.retreat("fraud", "by-supervisor", "errors over the ceiling", "supervisor", world.clock.now_ns())
    world.scorers.install = install  # type: ignore[method-assign]
    world.finish()


def test_a_latch_before_the_settled_table_goes_back() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 50, for: 1s}", watch=1)
    world.until(State.WATCHING)
    latch_before_the_settled_table(world)
    assert world.serving() == "1.0.0"
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    assert world.store.after(0, ("release.quarantined",))
    world.settled()


def test_what_is_too_long_for_the_journal_still_goes_back() -> None:
    world = canary()
    rollout = rollouts(world)[-1]
    full = msgspec.structs.replace(rollout, signed=("f" * 64_500,))
    world.controller._known.rollouts[rollout.id] = full
    world.scorers.behaviours[rollout.candidate.bundle] = Behaviour(error_rate=0.9)  # type: ignore[union-attr]
    for _ in range(20):
        world.controller.turn()
        world.clock.advance(0.5)
        world.scorers.tick(200)
    assert world.scorers.latch is not None


def test_a_latch_of_whoever_writes_anything_is_recorded_in_one_clean_line() -> None:
    world = canary()
    world.scorers.retreat("fraud", "mine", "card 4111111111111111\nforged: yes", "mal\nlory", 0)
    world.until(State.ROLLED_BACK)
    last = rollouts(world)[-1]
    assert "4111111111111111" not in last.reason
    assert (last.reason + last.actor).isprintable()
    # Also a latch that does not say when it was set is a breach: its release is in quarantine.
    assert world.store.after(0, ("release.quarantined",))


def test_a_store_that_ends_right_after_an_election_ends_no_controller() -> None:
    world = canary()
    world.restart()
    after = world.store.after
    world.store.after = _down  # type: ignore[method-assign]
    world.controller.turn()
    world.store.after = after  # type: ignore[method-assign]
    world.run(2)
    assert rollouts(world)[-1].state is State.CANARY


def _down(*_: object) -> list[object]:
    raise UnreachableError("the database is down", "start it")


def test_an_inverse_commit_that_the_remote_refuses_is_no_success() -> None:
    world = canary()
    revert = world.git.revert
    world.git.revert = _refused  # type: ignore[method-assign, assignment]
    world.ask("abort")
    world.until(State.ROLLED_BACK)
    world.git.revert = revert  # type: ignore[method-assign]
    assert [event.outcome for event in world.store.after(0, ("release.reverted",))] == ["failure"]


def _refused(*_: object) -> None:
    raise RefusedError("a hook of the remote said no", "ask its owner")


@pytest.mark.parametrize("shape", ["settled", "champion"])
def test_a_table_of_the_end_is_tried_again_whatever_it_is_refused_for(shape: str) -> None:
    world = settled()
    world.release("1.1.0", Behaviour(error_rate=0.5 if shape == "champion" else 0.0), steps="{weight: 50, for: 1s}")
    world.until(State.CANARY)
    install, failed = world.scorers.install, []

    def damaged(table):  # type: ignore[no-untyped-def]
        if table.settled and len(failed) < 3:
            failed.append(table)
            raise IntegrityError("a table on disk is damaged", "repair it")
        return install(table)

    world.scorers.install = damaged  # type: ignore[method-assign]
    world.finish()
    assert len(failed) == 3
    assert world.serving() == ("1.1.0" if shape == "settled" else "1.0.0")


def test_a_release_too_long_for_the_journal_is_refused_and_not_tried_for_ever() -> None:
    world = settled()
    folder = world.release("1.1.0", approve=False)[1].removeprefix("sha256:")
    world.git.push({f"approvals/{folder}/p{n}.risk.{kind}": b"%d" % n for n in range(700) for kind in ("sig", "json")})
    world.run(3)
    assert [event.body["version"] for event in world.store.after(0, ("release.refused",))] == [None]
    world.run(3)
    assert not world.controller.busy()
    assert len(world.store.after(0, ("release.refused",))) == 1


def test_a_service_gets_its_table_back_while_a_newer_release_waits_to_be_judged() -> None:
    world = settled()

    def waits(*_: object) -> None:
        raise UnreachableError("staging's log cannot be read", "mount it")

    check = world.gate.check
    world.gate.check = waits  # type: ignore[method-assign, assignment]
    world.release("1.1.0")
    world.until(State.CHECKING)
    world.scorers.restart(disk=False)
    world.run(3)
    assert world.serving() == "1.0.0"
    world.gate.check = check  # type: ignore[method-assign]
    world.finish()
    assert world.serving() == "1.1.0"


def test_traffic_that_went_to_all_while_held_is_watched_after_it() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 50, for: 1s}")
    world.until(State.CANARY)
    rollout = rollouts(world)[-1]
    promoting = msgspec.structs.replace(rollout, state=State.HELD, resume="promoting", hold="blocked", pending=())
    seen = step(promoting, Looked(candidate_requests=100), rollout.since_ns + NS_PER_S)[0]
    seen = step(seen, Looked(candidate_requests=100), rollout.since_ns + 2 * NS_PER_S)[0]
    assert seen.state is State.WATCHING


def test_a_policy_too_long_for_the_journal_is_refused_before_it_meets_traffic() -> None:
    world = settled()
    steps = ", ".join(f"{{weight: {0.02 * (n + 1):.2f}, for: 1s}}" for n in range(4000))
    world.release("1.1.0", steps=steps)
    world.run(3)
    assert rollouts(world)[-1].state is State.REFUSED
    assert not world.controller.busy()


def test_a_check_that_cannot_be_finished_comes_after_those_with_traffic_and_not_at_every_turn() -> None:
    world = settled()
    world.release("1.0.0", service="credit")
    world.run(15)
    asked: list[int] = []
    check = world.gate.check

    def waits(wish, *rest):  # type: ignore[no-untyped-def]
        if wish.service == "credit":
            asked.append(world.clock.monotonic_ns())
            raise UnreachableError("staging's log cannot be read", "mount it")
        return check(wish, *rest)

    world.gate.check = waits  # type: ignore[method-assign]
    world.release("1.1.0", service="credit")
    world.run(1)
    world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.until(State.CANARY)
    world.run(5)
    assert all(later - before >= NS_PER_S for before, later in pairwise(asked))
    by_state = [world.controller._known.rollouts[each].state for each in world.controller._in_order()]
    assert by_state == [State.CANARY, State.CHECKING]


def test_a_table_is_not_lost_to_one_look_at_the_fleet_that_failed() -> None:
    world = canary(steps="{weight: 10, for: 4s}, {weight: 50, for: 60s}")
    # A latch was opened under this leader, so that tables are of a higher order than its epoch alone gives.
    route = world.scorers.route("fraud")
    assert route.table is not None
    route.table = msgspec.structs.replace(route.table, epoch=route.table.epoch + 1)
    observe, fails = world.scorers.observe, [False]

    def sometimes(*given):  # type: ignore[no-untyped-def]
        if fails[0]:
            raise UnreachableError("no answer", "ask again")
        return observe(*given)

    world.scorers.observe = sometimes  # type: ignore[method-assign]
    install = world.scorers.install

    def slow(table):  # type: ignore[no-untyped-def]
        if not fails[0]:
            fails[0] = True
            raise UnreachableError("no answer", "ask again")
        return install(table)

    world.scorers.install = slow  # type: ignore[method-assign]
    for _ in range(20):
        world.turn()
        if fails[0]:
            break
    world.run(2)
    fails[0], world.scorers.install = False, install  # type: ignore[method-assign]
    world.run(4)
    assert (rollouts(world)[-1].state, rollouts(world)[-1].share) == (State.CANARY, 5000)


def test_a_latch_before_the_settled_table_of_a_first_release_goes_back_to_the_fallback() -> None:
    world = World()
    world.release("1.0.0", watch=1)
    world.until(State.WATCHING)
    latch_before_the_settled_table(world)
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    assert world.serving() is None
    assert not world.controller._known.settled


def test_no_reason_carries_what_a_committed_file_makes_it_say() -> None:
    world = settled()
    world.release("1.1.0", more='  "4111111111111111\\nERROR forged": 1\n')
    world.run(3)
    (refused,) = world.store.after(0, ("release.refused",))
    assert "4111111111111111" not in refused.body["reason"]
    assert refused.body["reason"].isprintable()
    wish = Wish("fraud", "c", "p", (), "f", "k", {FREEZE: CALENDAR}, {})
    calendar = Calendar("production")
    calendar.mind({"fraud": wish})
    why = calendar.frozen(rollouts(world)[0], NS_PER_S)
    assert why.startswith("releases are frozen: card")
    assert "4111111111111111" not in why
    assert why.isprintable()


CALENDAR = (
    b"apiVersion: interlock.dev/v1alpha1\nkind: FreezeCalendar\nmetadata: {name: production}\nspec:\n"
    b'  windows: [{monthly: {from: 1, until: 31}, reason: "card 4111111111111111\\nERROR forged"}]\n'
)


def test_no_breach_waits_for_a_check_that_takes_its_time() -> None:
    world = settled()
    world.release("1.0.0", service="credit")
    world.run(15)
    world.release("1.1.0", Behaviour(error_rate=0.5), steps="{weight: 10, for: 60s}")
    world.until(State.CANARY)
    world.delay_s = 30.0  # whatever the runner does: Git, logs and bundles are slow from here on
    world.release("1.1.0", service="credit")
    world.until(State.ROLLING_BACK, limit_s=10)
    assert world.serving() == "1.0.0"
    world.run(40)
    assert world.rollouts("credit")[-1].state is State.CHECKING
    world.delay_s = 0.0
    world.run(40)
    world.finish()
    assert world.serving("credit") == "1.1.0"
