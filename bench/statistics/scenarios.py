"""What is simulated, and the targets: the table of the field study (monitoring, section 4), and cards.

A target stands here as text, as it was set, and as a bound that a machine can check. It is never
lowered: what misses it is reported as missed. Margins and budgets are the product's defaults
(`guards.defaults`) unless a row's name says otherwise; a target whose own simulation used another
margin or φ = 1 is measured with the defaults all the same, and beside it with that margin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.statistics.traffic import Burst, Load, Stream
from bench.statistics.twin import Rule

from interlock.analysis.harm import ALIKE
from interlock.decision.counts import COUNTS
from interlock.rollout.guards import GUARDS, defaults
from interlock.rollout.streams import BASE, slow_ratio

NULL_RUNS = 2_000
TIMED_RUNS = 600
SETTINGS = defaults(0.01)
MARGINS = {name: setting.margin for name, setting in SETTINGS.items()}
ALPHAS = {"errors": 0.002, "misses": 0.001, "degraded": 0.001, "latency": 0.002, "flag_up": 0.002, "flag_down": 0.002}
"""Six metrics share one per cent, as the field study splits it; one metric alone has 0.2 %."""
REVERSE_ALPHA = 0.05
OLD = "not the product: what the target's own simulation seems to have used"
FLAG_ALPHA = 0.002


@dataclass(frozen=True)
class Measure:
    """One row of the result.

    Attributes:
        name: of the row.
        rules: the guards; the first that rejects counts. Empty: `contrast` names the peer that is measured.
        statistic: `false` (share of runs), `median` or `p95` (seconds).
        target: in words.
        low, high: the bound, inclusive.
        contrast: `z_test` or `argo_like` instead of our guards.
        variant: not what the product does: what something costs, or would gain. It is not counted as met or missed.
        note: what a reader must know.
    """

    name: str
    rules: tuple[Rule, ...]
    statistic: str
    target: str
    high: float
    low: float = 0.0
    contrast: str = ""
    note: str = ""
    variant: bool = False


@dataclass(frozen=True)
class Scenario:
    """Traffic, how often it is played, and what is measured on it."""

    key: str
    load: Load
    streams: dict[str, Stream]
    measures: tuple[Measure, ...]
    runs: int = NULL_RUNS
    peer: str = "flagged"
    """The stream on which the peers are tried."""


STREAM_OF = {guard.name: COUNTS[guard.count] for guard in GUARDS}


def _rule(name: str, margin: float = 0.0, alpha: float = FLAG_ALPHA) -> Rule:
    stream = STREAM_OF.get(name, name)
    down = name == "flag_down"
    return Rule(stream, margin or MARGINS.get(name, 2.0), alpha, swapped=down, downwards=down)


SIX = tuple(_rule(name, alpha=alpha) for name, alpha in ALPHAS.items())
FLAG = _rule("flag_up")
FLAG_11 = _rule("flag_up", 1.1)
SLOW = _rule("latency")


def _plain(burst: Burst | None = None, harm: dict[str, float] | None = None, **bases: float) -> dict[str, Stream]:
    return {name: Stream(base, (harm or {}).get(name, 1.0), burst) for name, base in bases.items()}


def _false(name: str, rules: tuple[Rule, ...], target: str = "false rollback <= 1 %", high: float = 0.01) -> Measure:
    return Measure(name, rules, "false", target, high)


def _median(name: str, rule: Rule, target: str, seconds: float, statistic: str = "median", note: str = "") -> Measure:
    return Measure(name, (rule,), statistic, target, seconds, note=note, variant=bool(note))


def null() -> list[Scenario]:
    """Nothing is wrong, or just as much as the margin allows."""
    margins = {rule.stream: rule.theta0 for rule in SIX if not rule.swapped}
    found = [
        Scenario("null-six", Load(1_000, 60, shock=0.5), _plain(**BASE), (_false("null, six metrics, 1000 TPS", SIX),)),
        Scenario(
            "margin-six",
            Load(1_000, 60, shock=0.5),
            _plain(harm=margins, **BASE),
            (_false("null at the margin, iid, six metrics, 1000 TPS", SIX),),
        ),
    ]
    pair = {"flagged": BASE["flagged"], "slow": BASE["slow"]}
    for tps in (1_000, 10_000):
        for variance in (1.0, 3.0):
            what = f"null, 5 s bursts of variance {variance:g}, phi estimated, flags and latency, {tps} TPS"
            found.append(
                Scenario(
                    f"bursts-{variance:g}-{tps}",
                    Load(tps, 60, shock=0.5),
                    _plain(Burst(variance), **pair),
                    (_false(what, (FLAG, SLOW)),),
                )
            )
    long = _false("null, 60 s bursts of variance 0.3, flags and latency, 1000 TPS", (FLAG, SLOW))
    found.append(Scenario("bursts-long", Load(1_000, 60), _plain(Burst(0.3, 60), **pair), (long,)))
    return found


def own_machinery() -> list[Scenario]:
    """Bursts of a whole arm: halves of the champion share them, and cannot show them."""
    note = "both arms live in one process, which bursts as a whole; an executor of its own does not (docs)"
    found = []
    for variance in (0.3, 1.0):
        name = f"null, 5 s bursts of variance {variance:g} of one arm's own machinery, latency, 1000 TPS"
        streams = _plain(Burst(variance, level="arm"), slow=BASE["slow"])
        row = replace(_false(name, (SLOW,)), note=note)
        found.append(Scenario(f"arm-bursts-{variance:g}", Load(1_000, 60), streams, (row,), peer="slow"))
    return found


def contrast() -> list[Scenario]:
    """What a repeated z-test and thresholds make of traffic in which nothing is wrong."""
    found = []
    for tps, target, low, high in ((500, "100 %", 0.995, 1.0), (1_000, "93 %", 0.9, 0.96), (10_000, "0 %", 0.0, 0.005)):
        found.append(
            Scenario(
                f"contrast-{tps}",
                Load(tps, 60),
                _plain(flagged=0.005),
                (
                    _false(f"null, flags at 0.5 %, {tps} TPS", (FLAG,), "false rollback <= 0.2 % (its budget)", 0.002),
                    Measure(
                        f"contrast: repeated z-test at 1 %, {tps} TPS",
                        (),
                        "false",
                        "13-17 % false",
                        0.17,
                        0.13,
                        "z_test",
                    ),
                    Measure(
                        f"contrast: Argo-like +-30 % on 1 min, 4 failures, {tps} TPS",
                        (),
                        "false",
                        target,
                        high,
                        low,
                        "argo_like",
                    ),
                ),
            )
        )
    return found


def latency() -> list[Scenario]:
    """A p95 that is 20 % longer."""
    ratio, found = slow_ratio(1.2), []
    for tps in (500, 1_000, 10_000):
        rows = (_median(f"p95 +20 %, iid, {tps} TPS", SLOW, "median <= 30 s", 30),)
        found.append(Scenario(f"p95-{tps}", Load(tps, 10), {"slow": Stream(0.05, ratio)}, rows, TIMED_RUNS, "slow"))
        bursts = (
            _median(f"p95 +20 %, moderate bursts (variance 0.3), {tps} TPS, median", SLOW, "median <= 60 s", 60),
            _median(f"p95 +20 %, moderate bursts (variance 0.3), {tps} TPS, p95", SLOW, "p95 <= 150 s", 150, "p95"),
        )
        streams = {"slow": Stream(0.05, ratio, Burst(0.3))}
        found.append(Scenario(f"p95-bursts-{tps}", Load(tps, 20), streams, bursts, TIMED_RUNS, "slow"))
    long = (_median("p95 +20 %, 60 s-long bursts (variance 0.3), 1000 TPS", SLOW, "median <= 15 min", 900),)
    streams = {"slow": Stream(0.05, ratio, Burst(0.3, 60))}
    found.append(Scenario("p95-bursts-long", Load(1_000, 60), streams, long, TIMED_RUNS, "slow"))
    return found


def _flags(  # long: a row of the table
    key: str, tps: float, minutes: float, stream: Stream, name: str, target: str, high: float
) -> Scenario:
    return Scenario(
        key,
        Load(tps, minutes),
        {"flagged": stream},
        (
            _median(name, FLAG, target, high),
            _median(f"{name}, margin 1.1", FLAG_11, target, high),
            _median(
                f"{name}, margin 1.1, phi = 1",
                replace(FLAG_11, dispersion="none"),
                target,
                high,
                note=OLD,
            ),
        ),
        TIMED_RUNS,
    )


def rates() -> list[Scenario]:
    """Flags and errors that rise."""
    found = [
        _flags(
            f"flags-2-{tps}",
            tps,
            20,
            Stream(0.005, 2.0),
            f"flags x2 at 0.5 %, {tps} TPS",
            f"median <= {seconds} s",
            seconds,
        )
        for tps, seconds in ((500, 180), (1_000, 90), (10_000, 15))
    ]
    found.append(
        _flags("flags-1.5", 500, 180, Stream(0.002, 1.5), "flags x1.5 at 0.2 %, 500 TPS", "median <= 25 min", 1_500)
    )
    for tps, seconds in ((500, 240), (10_000, 15)):
        name, target = f"errors 0.05 % x5, {tps} TPS", f"median <= {seconds} s"
        low = _rule("errors", 1.1)
        rows = (
            _median(name, _rule("errors"), target, seconds),
            _median(f"{name}, margin 1.1", low, target, seconds),
            _median(f"{name}, margin 1.1, phi = 1", replace(low, dispersion="none"), target, seconds, note=OLD),
        )
        found.append(
            Scenario(f"errors-{tps}", Load(tps, 20), {"errors": Stream(0.0005, 5.0)}, rows, TIMED_RUNS, "errors")
        )
    return found


def promote() -> list[Scenario]:
    """Nothing is wrong: how long until a harm of 1.3 is excluded."""
    found = []
    rule = Rule("flagged", 1 / 1.3, REVERSE_ALPHA, swapped=True, theta_max=ALIKE)
    for tps, seconds in ((500, 600), (1_000, 300), (10_000, 60)):
        name, target = f"promote, flags M=1.3 at 0.5 %, {tps} TPS", f"median <= {seconds // 60} min"
        rows = (
            _median(name, rule, target, seconds),
            _median(
                f"{name}, phi = 1",
                replace(rule, dispersion="none"),
                target,
                seconds,
                note=OLD,
            ),
            _median(
                f"{name}, alternatives up to 20",
                replace(rule, theta_max=20.0),
                target,
                seconds,
                note="not the product: what alternatives up to 20 cost",
            ),
        )
        found.append(Scenario(f"promote-{tps}", Load(tps, 60), {"flagged": Stream(0.005)}, rows, TIMED_RUNS))
        harmful = _false(
            f"promote at a true harm of 1.3, {tps} TPS", (rule,), "advanced wrongly <= 5 % (its budget)", REVERSE_ALPHA
        )
        found.append(Scenario(f"promote-harm-{tps}", Load(tps, 60), {"flagged": Stream(0.005, 1.3)}, (harmful,)))
    return found


def cards() -> list[Scenario]:
    """Cards that differ for ever, and a split by card."""
    found = []
    for number, tps in ((5_000, 500), (100_000, 1_000), (1_000_000, 10_000)):
        target = "false rollback <= 0.2 % (its budget; the design saw 0 of 200)"
        name = f"cards: {number:,} at {tps} TPS, one flag guard"
        rules = {"margin 1.3": FLAG, "margin 1.1": FLAG_11}
        measures = [_false(f"{name}, {what}", (rule,), target, 0.002) for what, rule in rules.items()]
        for how, what in (("none", "phi = 1"), ("time", "phi over time alone")):
            row = _false(f"{name}, margin 1.1, {what}", (replace(FLAG_11, dispersion=how),), target, 0.002)
            measures.append(replace(row, note="not the product: what leaving it out costs", variant=True))
        found.append(
            Scenario(
                f"cards-{number}",
                Load(tps, 60, number, shock=0.5),
                {"flagged": Stream(0.005, by_card=True)},
                tuple(measures),
            )
        )
    for harm, margin, seconds, text in (
        (2.0, 1.1, 112, "median <= 112 s"),
        (2.0, 1.5, 455, "median <= 455 s"),
        (5.0, 1.3, 15, "median <= 15 s"),
        (10.0, 1.3, 5, "median <= 5 s"),
    ):
        name = f"cards: 100,000 at 1000 TPS, flags x{harm:g} seen, margin {margin:g}"
        found.append(
            Scenario(
                f"cards-x{harm:g}-{margin:g}",
                Load(1_000, 30 if harm < 5 else 5, 100_000),
                {"flagged": Stream(0.005, harm, by_card=True)},
                (_median(name, _rule("flag_up", margin), f"{text} (as the design simulated)", seconds),),
                TIMED_RUNS,
            )
        )
    return found


def all_scenarios() -> list[Scenario]:
    """Every scenario, in the order of the result."""
    return [*null(), *own_machinery(), *latency(), *rates(), *promote(), *contrast(), *cards()]
