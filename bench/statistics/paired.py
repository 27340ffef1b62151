"""Shadow first: the same transactions scored twice, so that only what differs carries noise.

1000 TPS, flags 0.5 %, 0.15 % of the transactions turn flagged and 0.05 % turn unflagged: a rate × 1.2.
The flips are judged as the guard `flag_up` judges a shadow's (`analysis.paired` within
`analysis.harm`, φ at its floor), with the margin 1 of McNemar's test and with 1.1; beside them stands a
10 % canary, which sees other transactions than the champion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bench.statistics.scenarios import FLAG_ALPHA, Measure, Scenario
from bench.statistics.traffic import Load, Stream
from bench.statistics.twin import LOOK_S, NEVER, Counts, Floats, Rule

from interlock.analysis.dispersion import FLOOR
from interlock.analysis.paired import BETS
from interlock.analysis.sequential import MIN_EVENTS

LATER = 0.5
"""What of the capital waits for the split (`analysis.harm`)."""


@dataclass(frozen=True)
class Shadow:
    """Transactions scored twice: shares that turn flagged, turn unflagged, and stay flagged."""

    key: str
    load: Load
    up: float
    down: float
    kept: float
    measures: tuple[Measure, ...]
    runs: int


def scenarios() -> list[Scenario | Shadow]:
    """Paired and unpaired."""
    target = "median <= 35 s (versus 4,285 s unpaired)"
    name = "shadow: flags x1.2, 0.2 % discordant, 1000 TPS"
    plain, margin = (Rule("flips", theta0, FLAG_ALPHA) for theta0 in (1.0, 1.1))
    rows = (
        Measure(f"{name}, paired, margin 1", (plain,), "median", target, 35),
        Measure(f"{name}, paired, margin 1.1", (margin,), "median", target, 35),
    )
    level = Measure(
        "shadow: null, 0.2 % discordant, as many either way, 1000 TPS, paired, margin 1",
        (plain,),
        "false",
        "false rollback <= 0.2 % (its budget)",
        0.002,
    )
    unpaired = Rule("flagged", 1.1, FLAG_ALPHA)
    beside = "slower than paired (the study: 4,285 s)"
    other = Measure(f"{name}, unpaired 10 % canary, margin 1.1", (unpaired,), "median", beside, 10_800, 36)
    return [
        Shadow("shadow", Load(1_000, 10), 0.0015, 0.0005, 0.0045, rows, 600),
        Shadow("shadow-null", Load(1_000, 60), 0.001, 0.001, 0.004, (level,), 2_000),
        Scenario("unpaired", Load(1_000, 180), {"flagged": Stream(0.005, 1.2)}, (other,), 200),
    ]


def play(shadow: Shadow, runs: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Seconds until each measure rejects, by its name."""
    calls = rng.poisson(shadow.load.tps * LOOK_S, (runs, shadow.load.looks))
    flips = tuple(np.cumsum(rng.binomial(calls, rate), axis=1) for rate in (shadow.up, shadow.down, shadow.kept))
    found = {}
    for measure in shadow.measures:
        rule = measure.rules[0]
        rejects = (log_e(flips, rule.theta0) >= -np.log(rule.alpha)) & (sum(flips) >= MIN_EVENTS)
        first = (rejects.argmax(axis=1) + 1.0) * LOOK_S
        found[measure.name] = np.where(rejects.any(axis=1), first, NEVER).tolist()
    return found


def log_e(flips: tuple[Counts, Counts, Counts], theta0: float, phi: float = FLOOR) -> Floats:
    """log E of the harm test on a shadow's flips alone: up, down and kept, cumulative, of any one shape."""
    bets = np.arange(1, BETS + 1) / (BETS + 1) / theta0
    up, down, kept = (each[..., None] for each in flips)
    capital = up * np.log1p(bets) + down * np.log1p(-bets * theta0) + kept * np.log1p(-bets * (theta0 - 1))
    scaled = capital / phi
    top = scaled.max(axis=-1)
    mixed = top + np.log(np.exp(scaled - top[..., None]).mean(axis=-1))
    found: Floats = np.logaddexp(mixed, 0.0) + np.log(LATER)
    return found
