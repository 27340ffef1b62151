"""`make bench-serving`: every contestant in one run, then the open loop through a rollout.

    python -m bench.serving [--only NAME,…] [--quick] [--no-open-loop] [--out FOLDER]

A contestant that fails gets a row with its error, and the run goes on; the exit code says so.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.serving import arithmetic, probe
from bench.serving.contestants import ALL, ROOT, Contestant
from bench.serving.generator import Job
from bench.serving.home import Home
from bench.serving.payloads import KINDS

CONNECTIONS = 64


def generate(job: Job) -> dict[str, Any]:
    """Run the generator as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.serving.generator"],
        input=json.dumps(asdict(job)).encode(),
        cwd=ROOT,
        capture_output=True,
        timeout=job.warm_s + job.measure_s + 60,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(f"the load generator failed: {done.stderr.decode(errors='replace')[-800:]}")
    return dict(json.loads(done.stdout))


def run_name() -> str:
    """A fresh prefix of transaction ids: letters alone, since digits beside the number may look like a card's."""
    return "".join(random.choices(string.ascii_lowercase, k=8)) + "-"


def measure(contestant: Contestant, home: Home, phases: tuple[float, float]) -> dict[str, Any]:
    """One row."""
    with contestant.start(home) as running:
        check(contestant, home, running.address)
        job = Job(
            address=running.address,
            kind=contestant.kind,
            target=contestant.target,
            run=run_name(),
            must=contestant.must,
            connections=CONNECTIONS,
            pipeline=contestant.pipeline,
            warm_s=phases[0],
            measure_s=phases[1],
            groups={"server": running.pids, "store": [home.valkey.pid]},
        )
        return row(generate(job), contestant)


def check(contestant: Contestant, home: Home, address: tuple[str, int]) -> None:
    """Wait until it answers, and compare its score with the model's."""
    request = KINDS[contestant.kind](contestant.target, run_name())(0)
    body = probe.answer(address, request)
    if contestant.knows is None:
        return
    champion = home.bundles["1.0.0"]
    wanted = probe.expected(contestant.knows, champion.files["model.onnx"], champion.manifest["output"])
    if abs(probe.score_of(body) - wanted) > probe.TOLERANCE:
        raise ValueError(f"it scores {probe.score_of(body)} where the model scores {wanted}")


def row(found: dict[str, Any], contestant: Contestant) -> dict[str, Any]:
    """The generator's result as the row of a contestant."""
    count = max(1, found["requests"])
    cpu = {name: round(value / count / 1_000, 1) for name, value in found["cpu_ns"].items()}
    kept = ("rps", "p50_ms", "p95_ms", "p99_ms")
    by_process = sorted(found["by_process_ns"]["server"].values(), reverse=True)
    return {
        **{name: found[name] for name in kept},
        "cpu_us": cpu["server"],
        "store_cpu_us": cpu["store"],
        "generator_cpu_us": cpu["generator"],
        "cpu_us_by_process": [round(value / count / 1_000, 1) for value in by_process if value > 0],
        "rss_mb": round(sum(found["rss_mb"]["server"].values()), 1),
        "rss_mb_by_process": sorted(found["rss_mb"]["server"].values(), reverse=True),
        "errors": found["errors"],
        "requests": found["requests"],
        "other_cores": found["other_cores"],
        "settings": contestant.settings,
        **({"failures": found["failures"], "examples": found["examples"]} if found["errors"] else {}),
    }


def main() -> None:
    """The whole benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="contestants, by name, separated by commas")
    parser.add_argument("--quick", action="store_true", help="two-second phases: figures mean little")
    given = parser.parse_args()
    phases = (0.5, 2.0) if given.quick else (2.0, 8.0)
    wanted = [each for each in given.only.split(",") if each] or [each.name for each in ALL]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        home = Home(Path(folder))
        try:
            home.prepare()
            for contestant in ALL:
                if contestant.name not in wanted:
                    continue
                try:
                    rows[contestant.name] = measure(contestant, home, phases)
                except Exception as error:  # the others still run
                    rows[contestant.name] = {"error": f"{type(error).__name__}: {error}"}
                print(contestant.name, json.dumps(rows[contestant.name]), flush=True)
        finally:
            home.stop()
    print(json.dumps(arithmetic.ratios(rows)))


if __name__ == "__main__":
    main()
