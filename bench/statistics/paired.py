"""Shadow first: the same transactions scored twice, so that only what differs carries noise.

1000 TPS, flags 0.5 %, 0.15 % of the transactions turn flagged and 0.05 % turn unflagged: a rate
× 1.2. The paired rule looks at the discordant transactions alone (McNemar: without harm, as many go
either way); the pooled one compares both flag counts over the same calls; the unpaired one is a 10 %
canary that sees other transactions than the champion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.statistics.scenarios import FLAG_ALPHA, Measure, Scenario
from bench.statistics.traffic import Load, Stream
from bench.statistics.twin import CANARY, LOOK_S, Block, Rule
from interlock.decision.counts import GROUPS

PAIRED = Rule("discordant", 1.0, FLAG_ALPHA, dispersion="floor")
POOLED = Rule("pooled", 1.1, FLAG_ALPHA, dispersion="floor")


@dataclass(frozen=True)
class Shadow:
    """Transactions scored twice."""

    key: str
    load: Load
    up: float
    down: float
    base: float
    measures: tuple[Measure, ...]
    runs: int


def scenarios() -> list[Scenario | Shadow]:
    """Paired and unpaired."""
    target = "median <= 35 s (versus 4,285 s unpaired)"
    name = "shadow: flags x1.2, 0.2 % discordant, 1000 TPS"
    rows = (
        Measure(f"{name}, paired", (PAIRED,), "median", target, 35),
        Measure(f"{name}, flag counts of both, margin 1.1", (POOLED,), "median", target, 35),
    )
    level = Measure(
        "shadow: null, 0.2 % discordant either way, 1000 TPS, paired", (PAIRED,), "false", "false <= 0.2 %", 0.002
    )
    unpaired = Rule("flagged", 1.1, FLAG_ALPHA)
    beside = "for comparison: 4,285 s in the design's simulation, slower than paired"
    other = Measure(f"{name}, unpaired 10 % canary, margin 1.1", (unpaired,), "median", beside, 10_800, 36)
    return [
        Shadow("shadow", Load(1_000, 10), 0.0015, 0.0005, 0.005, rows, 600),
        Shadow("shadow-null", Load(1_000, 60), 0.001, 0.001, 0.005, (level,), 2_000),
        Scenario("unpaired", Load(1_000, 180), {"flagged": Stream(0.005, 1.2)}, (other,), 200),
    ]


def play(shadow: Shadow, runs: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Seconds until each measure rejects, by its name."""
    size = (runs, shadow.load.looks)
    calls = rng.poisson(shadow.load.tps * LOOK_S, size)
    up, down, base = (rng.binomial(calls, rate) for rate in (shadow.up, shadow.down, shadow.base))
    made = {"discordant": _two(up, down, calls), "pooled": _two(np.maximum(base + up - down, 0), base, calls)}
    return {each.name: made[each.rules[0].stream].first(each.rules[0]).tolist() for each in shadow.measures}


def _two(candidate: np.ndarray, champion: np.ndarray, calls: np.ndarray) -> Block:
    """A block whose arms have the same calls: each in one group."""
    events, made = (np.zeros((*calls.shape, GROUPS), np.int32) for _ in range(2))
    events[:, :, 0], events[:, :, CANARY] = candidate, champion
    made[:, :, 0], made[:, :, CANARY] = calls, calls
    return Block(events, made)
