"""Rollouts on the real thing, under load, with the times that the page promises.

    python -m bench.rollout [--quick] [--rollouts N] [--same N] [--results DIR]      (make bench-rollout)

One scorer with two workers, an embedded Valkey, a controller and a bare Git repository, as
`interlock up` starts and follows them in a home of their own; a generator in a process of its own
sends at a constant rate from the first version until the end, and retries nothing. A *failed* request
is one that is refused, reset, answered by anything but 2xx, or later than two seconds after it was
due. Fifty rollouts in a row (every fifth of a bad version), then a model a fifth slower, thresholds
that flag ten times as much, and the same model again, twenty times.

*Commit* is when `git push` of main had returned; *majority* the first instant at which every live
worker routes by a table with the candidate above 50 %; a *hard breach* lasts from the verdict that
failed until every worker is the champion's alone again. Instants are the journal's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.rollout import figures, scenes
from bench.rollout.plot import draw
from bench.rollout.shop import Shop, opened
from bench.rollout_world import run as live

RESULTS = Path(__file__).parents[1] / "results"
RATE = 300.0
WORLD_SEEDS = (1, 100_001)
"""Where each of the two lines of lives begins; they are `bench.rollout_world`'s."""


def measured(shop: Shop, rollouts: int, same: int) -> dict[str, Any]:
    """Play everything; the result without the machine."""
    scenes.first(shop)
    rows = scenes.in_a_row(shop, rollouts)
    heavy = scenes.slower(shop)
    tenfold = scenes.tenfold(shop)
    again = scenes.same_again(shop, same)
    progress = shop.end_traffic()
    others = [*heavy, tenfold]
    result = {
        **figures.summary(rows),
        # Against a champion that did not settle there is nothing to be a fifth slower than.
        "latency_regression_detect_s": (
            figures.detected(heavy[1], "latency", "first_share") if figures.as_expected(heavy[0]) else None
        ),
        "flag_tenfold_detect_s": figures.detected(tenfold, "flag_up", "exposure"),
        "failed_requests": progress["failed"],
        "aa": figures.same_again(again),
        "parts_s": figures.parts(rows),
        "requests": {name: progress[name] for name in ("sent", "answered", "failed", "kinds", "latency_ms")},
        "rows": rows,
        "others": others,
        "policies": {"fast": scenes.FAST, "slow": scenes.SLOW, "same": scenes.AA},
        "rate": shop.rate,
        "workers": shop.settings.scoring.workers,
    }
    return result


def world(rollouts: int) -> dict[str, Any] | None:
    """Rollouts in the simulated world under random faults, two lives at a time; None: not asked for."""
    if not rollouts:
        return None
    began = time.monotonic()
    with ProcessPoolExecutor(len(WORLD_SEEDS)) as pool:
        halves = list(pool.map(live, [-(-rollouts // len(WORLD_SEEDS))] * len(WORLD_SEEDS), WORLD_SEEDS))
    return {"seeds": WORLD_SEEDS, **figures.added(halves), "seconds": round(time.monotonic() - began, 1)}


def machine() -> dict[str, Any]:
    """What it ran on."""
    models = [
        line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    packages = {name: version(name) for name in ("onnxruntime", "uvloop", "numpy")}
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "git": git,
        "packages": packages,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.rollout", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rollouts: to try it, not to quote it")
    parser.add_argument("--rollouts", type=int, help="in a row (50; quick: 10)")
    parser.add_argument("--same", type=int, help="of the same model (20; quick: 2)")
    parser.add_argument("--world", type=int, help="in the simulated world (1,000; quick: 20; 0: none)")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    rollouts, same, simulated = (10, 2, 20) if given.quick else (50, 20, 1_000)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), given.rate) as shop:
        result = measured(shop, given.rollouts or rollouts, given.same or same)
    result["seconds"] = round(time.monotonic() - began, 1)
    result["world"] = world(simulated if given.world is None else given.world)
    result["bars"] = figures.bars(result)
    result["quick"], result["machine"] = given.quick, machine()
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "rollout.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.results / "rollout.svg").write_text(draw(result))
    print(json.dumps({name: result[name] for name in result if name not in ("rows", "others", "policies")}, indent=2))
    missed = [each for each in result["bars"] if not each["met"]]
    for each in missed:
        sys.stderr.write(f"missed: {each['name']}: {each['achieved']} (target {each['target']})\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
