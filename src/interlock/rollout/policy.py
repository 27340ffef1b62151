"""`rollout.yaml`: how a release may change what serves, read strictly into a plan."""

from __future__ import annotations

import msgspec

from interlock.base.errors import RefusedError
from interlock.rollout.guards import GUARDS, defaults, spent
from interlock.rollout.plan import ALL, PARITY, Experiment, GuardSetting, Plan, Slo, Step
from interlock.rollout.spec import API, Spec, document
from interlock.trust.tiers import Tier

STRATEGIES = ("canary", "blue-green", "shadow", "ab", "parity")
ADVANCES = ("timeline", "evidence")
METRICS = ("errors", "misses", "degraded", "nulls", "flagged", "p95")
"""What an absolute limit may be set on; all but `p95` (milliseconds of model time) are shares of the requests."""
LONGEST_S = 3600.0
"""The longest time for which a limit may have to be exceeded: a sample of every second of it is kept and looked at."""
OUTCOMES = ("flagged", "errors", "misses", "degraded")
DEFAULT_BUDGET = 0.01
DEFAULT_DEADLINE_S = 600.0
DEFAULT_HOLD_S = 86_400.0
DEFAULT_HOLDBACK = 0.05
DEFAULT_WATCH_S = 1800.0


def parse_policy(text: str, source: str) -> Plan:
    """`rollout.yaml`; `advance` is empty when the policy leaves it to the service's tier (`advancing`)."""
    _, spec = document(text, source, API, "RolloutPolicy")
    known = ("advance", "watch", "guards", "budget", "deadline", "hold", "slo", "experiment")
    spec.take(required=("strategy", "steps"), optional=known)
    strategy = spec.one_of("strategy", STRATEGIES)
    advance = spec.one_of("advance", ADVANCES) if "advance" in spec.body else ""
    shadow_s, steps = _steps(spec)
    _suits(spec, strategy, shadow_s, steps)
    experiment = _experiment(spec, strategy)
    if experiment is not None:
        steps = (Step(experiment.share, experiment.period_s),)
    holdback, watch_s = _watch(spec, 0.0 if strategy == "blue-green" else DEFAULT_HOLDBACK)
    budget = spec.number("budget", DEFAULT_BUDGET, 0.0001, 0.2)
    return Plan(
        shadow_s=shadow_s,
        steps=steps,
        holdback=round(holdback * ALL),
        watch_s=watch_s,
        deadline_s=spec.duration("deadline", DEFAULT_DEADLINE_S),
        guards=_guards(spec, budget, strategy),
        strategy=strategy,
        advance=advance,
        hold_s=spec.duration("hold", DEFAULT_HOLD_S),
        slos=_slos(spec),
        experiment=experiment,
    )


def advancing(plan: Plan, tier: Tier) -> Plan:
    """The plan with its way of advancing: the policy's own, else the tier's.

    A tier of one signature advances by timeline, and so does a parity release; all others by evidence.

    Raises:
        RefusedError: the tier does not allow what the policy names.
    """
    wanted = plan.advance or ("timeline" if plan.strategy == "parity" or len(tier.roles) == 1 else "evidence")
    advance = wanted if plan.advance or wanted in tier.advance else tier.advance[0]
    if advance not in tier.advance:
        raise RefusedError(
            f"tier {tier.name} does not allow a rollout to advance by {advance}",
            f"use one of: {', '.join(tier.advance)}",
        )
    return msgspec.structs.replace(plan, advance=advance)


def _steps(spec: Spec) -> tuple[float, tuple[Step, ...]]:
    rows = spec.body.get("steps")
    if not isinstance(rows, list):
        raise spec.wrong("steps", "not a list", "write `steps: []` or one step a line")
    shadow_s = 0.0
    steps: list[Step] = []
    for number, row in enumerate(rows):
        one = Spec(row, spec.source, spec.body.lines["steps"], f"steps[{number}]")
        if "shadow" in one.body:
            one.take(required=("shadow",))
            if number:
                raise one.wrong("shadow", "shadow is not the first step", "shadow first, then weights")
            shadow_s = one.duration("shadow", 0.0)
            continue
        share = round(_weight(one) * ALL / 100)
        if steps and share <= steps[-1].share:
            raise one.wrong("weight", "weights do not rise", "write rising weights")
        if share < ALL:
            steps.append(Step(share, one.duration("for", 0.0)))
    return shadow_s, tuple(steps)


def _weight(one: Spec) -> float:
    last = one.body.get("weight") == 100
    one.take(required=("weight",) if last else ("weight", "for"), optional=("for",) if last else ())
    return one.number("weight", 0.0, 0.01, 100.0)


def _suits(spec: Spec, strategy: str, shadow_s: float, steps: tuple[Step, ...]) -> None:
    """Whether the steps are such as the strategy has."""
    if strategy in ("blue-green", "shadow", "ab") and steps:
        raise spec.wrong("steps", f"{strategy} has weights", "keep the shadow step alone, or use strategy: canary")
    if strategy in ("shadow", "parity") and shadow_s <= 0:
        raise spec.wrong("steps", f"{strategy} without a shadow", "begin with a step such as `shadow: 1m`")


def _experiment(spec: Spec, strategy: str) -> Experiment | None:
    if (strategy == "ab") != (spec.body.get("experiment") is not None):
        key = "experiment" if strategy != "ab" else "strategy"
        raise spec.wrong(key, "strategy ab and an experiment belong together", "write both, or neither")
    if strategy != "ab":
        return None
    inner = spec.inner("experiment")
    inner.take(required=("split", "for"), optional=("outcome", "better", "margin", "alpha", "then"))
    return Experiment(
        share=round(inner.number("split", 50.0, 1.0, 50.0) * ALL / 100),
        period_s=inner.duration("for", 0.0),
        outcome=inner.one_of("outcome", OUTCOMES, "flagged"),
        better=inner.one_of("better", ("lower", "higher"), "lower"),
        margin=inner.number("margin", 1.05, 1.0, 10.0),
        alpha=inner.number("alpha", 0.05, 0.0001, 0.2),
        then=inner.one_of("then", ("champion", "candidate"), "champion"),
    )


def _slos(spec: Spec) -> tuple[Slo, ...]:
    rows = spec.body.get("slo", [])
    if not isinstance(rows, list):
        raise spec.wrong("slo", "not a list", "write one limit a line, or leave it out")
    found = []
    for number, row in enumerate(rows):
        one = Spec(row, spec.source, spec.body.lines["slo"], f"slo[{number}]")
        one.take(required=("metric", "above"), optional=("for", "relative"))
        metric, relative = one.one_of("metric", METRICS), one.body.get("relative", False)
        if not isinstance(relative, bool):
            raise one.wrong("relative", "not true or false", "write `relative: true` for a ratio to the champion")
        low, high = (1.0, 100.0) if relative else (0.001, 60_000.0) if metric == "p95" else (0.00001, 1.0)
        above = one.number("above", 0.0, low, high)
        for_s = one.duration("for", 0.0)
        if for_s > LONGEST_S:
            raise one.wrong("for", "longer than an hour", "write at most 1h: a longer excess is a matter for alarms")
        found.append(Slo(metric, above, for_s, relative))
    return tuple(found)


def _watch(spec: Spec, holdback: float) -> tuple[float, float]:
    if "watch" not in spec.body:
        return holdback, DEFAULT_WATCH_S
    watch = spec.inner("watch")
    watch.take(required=(), optional=("holdback", "for"))
    return watch.number("holdback", holdback, 0.0, 0.5), watch.duration("for", DEFAULT_WATCH_S)


def _guards(spec: Spec, budget: float, strategy: str) -> dict[str, GuardSetting]:
    settings = defaults(budget)
    if strategy == PARITY:
        settings[PARITY] = GuardSetting(1.0, 0.0)
    if spec.body.get("guards") is None:
        return settings
    guards = spec.inner("guards")
    guards.take(required=(), optional=tuple(guard.name for guard in GUARDS))
    for name in guards.body:
        one = guards.inner(name)
        one.take(required=(), optional=("margin", "budget", "harm"))
        default = settings.get(name, GuardSetting(1.0, 0.0))
        margin = one.number("margin", default.margin, 1.0, 10.0)
        # Without a part of the budget a guard only warns; those that have one cannot be silenced.
        alpha = one.number("budget", default.alpha, 0.00001 if default.alpha else 0.0, 0.1)
        settings[name] = GuardSetting(margin, alpha, one.number("harm", margin, 1.0, 19.0))
    if spent(settings) > budget * 1.000001:
        raise spec.wrong("guards", "the guards spend more than the budget", "lower their budgets or raise spec.budget")
    return settings
