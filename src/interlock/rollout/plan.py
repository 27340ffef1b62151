"""A plan: the policy of a release as numbers that `step` can follow."""

from __future__ import annotations

import msgspec

ALL = 10_000
PARITY = "parity"
ROLLBACK = "rollback"
"""The strategy of a return to a version that had settled; no manifest may name it."""


class GuardSetting(msgspec.Struct, frozen=True):
    """One guard's margin and its part of the error budget.

    Attributes:
        margin: θ₀, the ratio of rates that is still accepted; beyond it the guard fails.
        alpha: the chance of ever failing a candidate at the margin.
        harm: M, the ratio that must be *excluded* before an advance by evidence; 0: the margin.
    """

    margin: float
    alpha: float
    harm: float = 0.0

    @property
    def excluded(self) -> float:
        """The ratio that the reverse test must reject."""
        return self.harm or self.margin


class Slo(msgspec.Struct, frozen=True):
    """A limit that holds whatever the champion does.

    Attributes:
        metric: `errors`, `misses`, `degraded`, `nulls`, `flagged` (a share of the requests) or `p95` (milliseconds of
            model time).
        above: the limit; with `relative` a ratio to the champion's value in the same time, such as 1.2.
        for_s: seconds for which it must be exceeded without a break; 0: one look is enough.
    """

    metric: str
    above: float
    for_s: float = 0.0
    relative: bool = False


class Experiment(msgspec.Struct, frozen=True):
    """An A/B test: a fixed split for a period, an outcome, and what follows.

    Attributes:
        share: ten-thousandths of the entities that meet the candidate.
        period_s: seconds it lasts at most.
        outcome: the count that is compared: `flagged`, `errors`, `misses`, `degraded`.
        better: `lower` or `higher`: which direction of the outcome is wanted.
        margin: the ratio of rates beyond which the arms differ.
        alpha: the chance of stopping early for a difference that is not there.
        then: `champion` or `candidate`: who stays when the period ends undecided.
    """

    share: int
    period_s: float
    outcome: str = "flagged"
    better: str = "lower"
    margin: float = 1.05
    alpha: float = 0.05
    then: str = "champion"


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
        deadline_s: seconds until a rollout that is not watched yet is held as inconclusive.
        guards: settings by guard name; a guard that is not named here is not judged.
        strategy: canary | blue-green | shadow | ab | parity, or `rollback`: back to a version that had settled.
        advance: `timeline` (on schedule unless a guard breaches) or `evidence` (only when harm is excluded).
        tau_wait_s: seconds to wait, once loaded, for the champion's model times.
        hold_s: seconds that a hold may last; then the champion stays.
        slos: absolute limits, and sustained ones.
        clear_alpha: of the reverse test.
        experiment: of strategy `ab`.
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
    hold_s: float = 86_400.0
    slos: tuple[Slo, ...] = ()
    clear_alpha: float = 0.05
    experiment: Experiment | None = None


def returning(plan: Plan) -> Plan:
    """The plan of a return to a version that had settled: all at once, nothing to wait for."""
    return msgspec.structs.replace(
        plan, strategy=ROLLBACK, advance="timeline", shadow_s=0.0, steps=(), holdback=0, watch_s=0.0, experiment=None
    )
