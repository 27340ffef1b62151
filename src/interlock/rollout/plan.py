"""A plan: the policy of a release as numbers that `step` can follow."""

from __future__ import annotations

import msgspec

ALL = 10_000


class GuardSetting(msgspec.Struct, frozen=True):
    """One guard's margin and its part of the error budget."""

    margin: float
    alpha: float


class Step(msgspec.Struct, frozen=True):
    """A share of the entities for a time."""

    share: int
    """Ten-thousandths of the entities."""
    for_s: float


class Plan(msgspec.Struct, frozen=True):
    """How a candidate may take traffic.

    Attributes:
        shadow_s: seconds of shadow scoring first; 0: none.
        steps: shares below 100 %, rising.
        holdback: ten-thousandths that stay with the champion while watching.
        watch_s: seconds of watching.
        deadline_s: seconds the whole rollout may take, and a hold may last.
        guards: settings by guard name.
        tau_wait_s: seconds to wait, once loaded, for the champion's model times.
    """

    shadow_s: float
    steps: tuple[Step, ...]
    holdback: int
    watch_s: float
    deadline_s: float
    guards: dict[str, GuardSetting]
    strategy: str = "canary"
    advance: str = "timeline"
    tau_wait_s: float = 2.0
