"""The route table that an effect asks for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from interlock.base.errors import UsageError
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, CANDIDATE, CHAMPION, STANDING, Arm, RouteTable, Segments
from interlock.rollout.states import State
from interlock.rollout.values import Effect, Rollout, Standing, Target


def table(rollout: Rollout, effect: Effect, epoch: int, lease_s: float) -> RouteTable:
    """The table of a `set_route` effect.

    Shapes: `baseline` (the champion on an executor of its own, to learn τ), `shadow`, `split`,
    `settled` (the candidate is the champion from now on), `champion` (as it was before; without a
    champion no arm at all: the fallback answers). The last names the latch it opens. Which segments
    other services decide is the champion's matter until the candidate has settled: both arms see the
    same transactions, and going back has no routing to undo. None of these names a standing shadow;
    `standing` adds them.
    """
    champion = None if rollout.champion is None else _arm(CHAMPION, rollout.champion)
    candidate = None if rollout.candidate is None else _arm(CANDIDATE, rollout.candidate)
    arms: tuple[Arm, ...]
    shadows: tuple[Arm, ...] = ()
    if effect.shape in ("baseline", "shadow", "champion"):
        arms = () if champion is None else (_whole(champion),)
        shadows = (candidate,) if effect.shape == "shadow" and candidate is not None else ()
    elif candidate is None:
        raise UsageError("a route to a candidate that was not admitted", "admit it first")
    elif effect.shape == "split":
        arms = weights(champion, candidate, effect.share)
    else:
        arms = (_whole(_renamed(candidate)),)
    unsettled = effect.shape in ("baseline", "shadow", "split")
    return RouteTable(
        service=rollout.service,
        epoch=epoch,
        generation=effect.generation,
        arms=arms,
        salt=rollout.salt,
        shadows=shadows,
        tau_ns=rollout.tau_ns if unsettled else None,
        lease_s=lease_s if unsettled else None,
        fallback=rollout.fallback,
        clears=(rollout.latch or None) if effect.shape == "champion" else None,
        rollout=rollout.id,
        segments=_segments(rollout, effect),
    ).validate()


def live(rollout: Rollout) -> Target | None:
    """What serves when a rollout is over: the candidate once it has settled, else the champion.

    The champion's standing shadows return with it, but for one that this very rollout tried to bring back.
    """
    champion = rollout.champion
    if rollout.state is State.SETTLED or champion is None:
        return rollout.candidate if rollout.state is State.SETTLED else None
    kept = tuple(each for each in champion.shadows if each.folder != rollout.folder)
    return msgspec.structs.replace(champion, shadows=kept)


def standing(rollout: Rollout, generation: int, epoch: int, shadows: Iterable[Standing]) -> RouteTable:
    """The table of what serves when a rollout is over, with standing shadows beside it."""
    shape = "settled" if rollout.state is State.SETTLED else "champion"
    plain = table(rollout, Effect(0, "set_route", generation, shape=shape), epoch, 0.0)
    beside = tuple(
        Arm(name, each.bundle, each.folder, each.version) for name, each in zip(STANDING, shadows, strict=False)
    )
    return msgspec.structs.replace(plain, shadows=beside, clears=None).validate()


def _segments(rollout: Rollout, effect: Effect) -> Segments | None:
    rules = rollout.candidate if effect.shape == "settled" or rollout.champion is None else rollout.champion
    return None if rules is None or (effect.shape == "champion" and rollout.champion is None) else rules.segments


def _arm(name: str, target: Target) -> Arm:
    return Arm(name=name, bundle=target.bundle, folder=target.folder, version=target.version, ranges=())


def _whole(arm: Arm) -> Arm:
    return Arm(name=arm.name, bundle=arm.bundle, folder=arm.folder, version=arm.version, ranges=((0, BUCKETS),))


def _renamed(arm: Arm) -> Arm:
    return Arm(name=CHAMPION, bundle=arm.bundle, folder=arm.folder, version=arm.version, ranges=())
