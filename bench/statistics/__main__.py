"""What the guards achieve, by simulation, beside the targets and beside what others do.

    python -m bench.statistics [--scale 0.05] [--only KEY …]          (make bench-statistics)

Writes `bench/results/statistics.json` (rows `{name, target, bound, achieved, runs, met, …}`, one for
each target) and `statistics.svg`. Two processes share the blocks of runs. Every block has its own
seed, made of the master seed, its scenario's key and its number: the figures do not depend on how
the work was shared out. `--scale` plays fewer runs, for development; the result says so.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from bench.statistics import paired, plot
from bench.statistics.scenarios import Measure, Scenario, all_scenarios
from bench.statistics.traffic import blocks
from bench.statistics.twin import LOOK_S, argo_like, z_test

from interlock.analysis.interval import clopper_pearson

SEED = 20_260_711
BLOCK = 50
PROCESSES = 2
RESULTS = Path(__file__).parent.parent / "results"
PEERS = {"z_test": z_test, "argo_like": argo_like}


def play(key: str, number: int, runs: int) -> tuple[str, int, dict[str, list[float]], float]:
    """One block of a scenario: seconds until each of its measures rejects (inf: never), and CPU seconds."""
    begun = time.process_time()
    scenario = next(each for each in [*all_scenarios(), *paired.scenarios()] if each.key == key)
    rng = np.random.default_rng([SEED, zlib.crc32(key.encode()), number])
    if isinstance(scenario, paired.Shadow):
        return key, number, paired.play(scenario, runs, rng), time.process_time() - begun
    made = blocks(scenario.load, scenario.streams, runs, rng)
    found: dict[str, list[float]] = {}
    for name, peer in PEERS.items():
        found[name] = peer(made.get(scenario.peer) or next(iter(made.values()))).tolist()
    for measure in scenario.measures:
        if not measure.contrast:
            each = [made[rule.stream].first(rule) for rule in measure.rules]
            found[measure.name] = np.minimum.reduce(each).tolist()
    return key, number, found, time.process_time() - begun


def row(scenario: Scenario | paired.Shadow, measure: Measure, times: dict[str, list[float]]) -> dict[str, Any]:
    """The row of one measure."""
    seconds = np.array(times[measure.contrast or measure.name])
    hits = int(np.isfinite(seconds).sum())
    if measure.statistic == "false":
        achieved = hits / len(seconds)
    else:
        achieved = float(np.quantile(seconds, 0.5 if measure.statistic == "median" else 0.95, method="higher"))
    found: dict[str, Any] = {
        "name": measure.name,
        "scenario": scenario.key,
        "of": "contrast" if measure.contrast else "variant" if measure.variant else "product",
        "target": measure.target,
        "bound": {"statistic": measure.statistic, "at_least": measure.low, "at_most": measure.high},
        "achieved": achieved if math.isfinite(achieved) else None,
        "runs": len(seconds),
        "met": measure.low <= achieved <= measure.high,
    }
    if measure.statistic == "false":
        found["rejected"] = hits
        found["interval"] = [round(limit, 6) for limit in clopper_pearson(hits, len(seconds))]
    else:
        found["detected"] = hits
    if not measure.contrast and measure.statistic == "false":
        found["beside"] = {name: float(np.isfinite(times[name]).mean()) for name in PEERS if name in times}
    if measure.note:
        found["note"] = measure.note
    return found


def tasks(scenarios: Iterable[Scenario | paired.Shadow], scale: float) -> list[tuple[str, int, int]]:
    """(key, number of the block, runs in it)."""
    found = []
    for scenario in scenarios:
        runs = max(20, round(scenario.runs * scale))
        found += [(scenario.key, n, min(BLOCK, runs - n * BLOCK)) for n in range(-(-runs // BLOCK))]
    return found


def main() -> None:
    """Play everything, write the result, and say what missed its target."""
    parser = argparse.ArgumentParser(description="Simulate what the guards achieve.")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the runs to play")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of scenarios' keys")
    parser.add_argument("--output", type=Path, default=RESULTS / "statistics.json")
    given = parser.parse_args()
    begun = time.perf_counter()
    every: list[Scenario | paired.Shadow] = [*all_scenarios(), *paired.scenarios()]
    chosen = [each for each in every if not given.only or each.key.startswith(tuple(given.only))]
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    cpu: dict[str, float] = defaultdict(float)
    work = tasks(chosen, given.scale)
    with ProcessPoolExecutor(PROCESSES) as pool:
        for done, (key, _, found, seconds) in enumerate(pool.map(play, *zip(*work, strict=True)), 1):
            cpu[key] += seconds
            for name, values in found.items():
                times[key][name] += values
            sys.stderr.write(f"\r{done} of {len(work)} blocks, {key:<24}")
    sys.stderr.write("\n")
    rows = [row(scenario, measure, times[scenario.key]) for scenario in chosen for measure in scenario.measures]
    judged = [each for each in rows if each["of"] == "product"]
    result = {
        "seed": SEED,
        "look_s": LOOK_S,
        "scale": given.scale,
        "cpu_s": round(sum(cpu.values()), 1),
        "elapsed_s": round(time.perf_counter() - begun, 1),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("numpy", "interlock")}},
        "machine": {"processor": platform.machine(), "processes": PROCESSES},
        "met": sum(each["met"] for each in judged),
        "of": len(judged),
        "rows": rows,
        "cpu_by_scenario_s": {key: round(seconds, 1) for key, seconds in cpu.items()},
    }
    given.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    given.output.with_suffix(".svg").write_text(plot.draw(result), "utf-8")
    for each in rows:
        mark = ("met " if each["met"] else "MISS") if each["of"] == "product" else each["of"][:4]
        sys.stdout.write(f"{mark} {each['name']}: {_shown(each)} ({each['target']}; {each['runs']} runs)\n")
    sys.stdout.write(f"{result['met']} of {result['of']} met; {result['cpu_s']} CPU s, {result['elapsed_s']} s\n")


def _shown(found: dict[str, Any]) -> str:
    if found["achieved"] is None:
        return "not seen"
    return f"{100 * found['achieved']:.2f} %" if "rejected" in found else f"{found['achieved']:g} s"


if __name__ == "__main__":
    main()
