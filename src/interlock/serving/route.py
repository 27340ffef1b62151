"""A route table made ready for a worker: its models, its owners, its lanes, its counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from interlock.base.clock import Clock
from interlock.base.errors import RefusedError
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, ShadowCounts
from interlock.decision.decide import Model, Vectors
from interlock.decision.split import splitter
from interlock.decision.table import CHAMPION, NOBODY, STANDING, Arm, RouteTable
from interlock.features.definition import FeatureSet
from interlock.serving import fence
from interlock.serving.arms import Lane

FALLBACK = "fallback"


@dataclass
class Side:
    """One arm or shadow of a route.

    Attributes:
        arm: as the table names it.
        model: ready to decide.
        features: the model's feature set.
        lane: its executor thread; None in a settled route.
        counts: of this arm under this generation.
    """

    arm: Arm
    model: Model
    features: FeatureSet
    lane: Lane | None
    counts: ArmCounts = field(default_factory=ArmCounts)
    shadow: ShadowCounts = field(default_factory=ShadowCounts)


class Route:
    """One generation of one service, in one worker.

    Args:
        table: what to route by.
        slot: the service's place in the fence.
        model: gives the ready model of a bundle, or None.
        clock: for the lanes.
        apart: every arm has a lane for good, since its calls wait for another server.

    Raises:
        RefusedError: a bundle that the table names is not loaded here.
    """

    def __init__(
        self, table: RouteTable, slot: int, model: Callable[[str], Model | None], clock: Clock, apart: bool = False
    ) -> None:
        self.table = table
        self.slot = slot
        self._bucket = splitter(bytes.fromhex(table.salt))
        self._owners = table.owners()
        self.order = fence.place(*table.order)
        self.in_flight = 0
        self.apart = apart
        lanes = apart or not table.settled
        self.sides = [_side(arm, model, lanes, clock) for arm in table.arms]
        self.shadows = [_side(arm, model, True, clock) for arm in table.shadows]
        self.champion = next((side for side in self.sides if side.arm.name == CHAMPION), None)
        self.fallback = ArmCounts()

    def owner(self, token: str) -> tuple[int, Side | None]:
        """(bucket, the side that answers it); None: the fallback does."""
        place = self._bucket(token)
        index = self._owners[place]
        return place, None if index == NOBODY else self.sides[index]

    def close(self) -> None:
        """Nothing refers to it any more: the lanes' threads end and the models go; the counts stay."""
        for side in (*self.sides, *self.shadows):
            if side.lane is not None:
                side.lane.close()
            side.model = replace(side.model, runtime=_Left())

    def hung_since(self) -> int:
        """When the oldest model call that still runs began; 0: none does.

        A standing shadow that hangs holds up its own lane alone, and is seen in its misses: no worker is
        replaced for it.
        """
        judged = (*self.sides, *(side for side in self.shadows if side.arm.name not in STANDING))
        running = [side.lane.hung_since() for side in judged if side.lane is not None]
        return min((since for since in running if since), default=0)

    def packed(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Arm and shadow counts by key, packed."""
        service, generation = self.table.service, self.table.generation
        arms = {counts.key(service, generation, side.arm.name): side.counts.pack() for side in self.sides}
        if self.fallback.total(counts.REQUESTS):
            arms[counts.key(service, generation, FALLBACK)] = self.fallback.pack()
        beside = {counts.key(service, generation, side.arm.name): side.shadow.pack() for side in self.shadows}
        return arms, beside


class _Left:
    """In the place of a session that may be released."""

    def run(self, vectors: Vectors) -> Vectors:
        """Nobody should ask any more."""
        raise RefusedError("the route has drained", "this is a defect: report it")


def _side(arm: Arm, model: Callable[[str], Model | None], lanes: bool, clock: Clock) -> Side:
    found = model(arm.bundle)
    if found is None:
        raise RefusedError(f"version {arm.version} is not loaded in this worker", "load it before it is routed to")
    features = FeatureSet.from_json(found.manifest["feature_set"])
    return Side(arm, found, features, Lane(arm.name, clock) if lanes else None)
