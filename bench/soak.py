"""A thousand model swaps under continuous load: nothing fails, nothing wrong answers, nothing grows.

    python -m bench.soak [--swaps N] [--rate R] [--before S]          (make soak SWAPS=N)

A real scorer (two workers, embedded Valkey) serves two admitted bundles in turn. A swap is what a
release ends with: load the other bundle in every worker, install a settled table of the next
generation, unload the one that served. `bench.soak_load` sends requests at a constant rate over
keep-alive and new connections, from before the first swap until after the last.

An answer is *wrong* when the version that gave it was routed at no moment between send and receive;
a version is routed from when its table is sent until the next one is acknowledged. p99 is of the
time from when a request was due to its answer, during the warm-up without swaps and during the
swaps. Memory is the workers' mean resident size over the first and over the last hundred swaps.
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
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bench.soak_load import FAILED, KEPT
from bench.soak_plot import draw
from tests.failures.scorer_home import ScorerHome, scorer_home

from interlock.decision.table import BUCKETS, Arm

RESULTS = Path(__file__).parent / "results"
TREES = 200
BEFORE_S = 30.0
PACE_S = 0.3
"""From one swap to the next: the p99 during swaps is of the requests that were due within one."""
EDGE = 100
"""Swaps at either end whose memory is compared."""
DTYPE = np.dtype([("due", "<i8"), ("sent", "<i8"), ("received", "<i8"), ("minor", "<u2"), ("kept", "u1")])


@dataclass
class Diary:
    """What the driver did, in monotonic nanoseconds.

    Attributes:
        routed: (minor version, table sent, table acknowledged), in order.
        swaps: (begin, end) of each swap.
        memory: mean resident size of the workers after each swap, in KiB.
    """

    routed: list[tuple[int, int, int]] = field(default_factory=list)
    swaps: list[tuple[int, int]] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def rss_kib(pid: int) -> int:
    """Resident size of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"process {pid} is gone")


def route(home: ScorerHome, diary: Diary, arm: Arm, minor: int) -> None:
    """Give everything to an arm, by the next generation."""
    whole = msgspec.structs.replace(arm, ranges=((0, BUCKETS),))
    sent = time.monotonic_ns()
    home.route(whole, generation=len(diary.routed) + 1)
    diary.routed.append((minor, sent, time.monotonic_ns()))


def swap(home: ScorerHome, diary: Diary, arms: tuple[Arm, Arm], number: int) -> None:
    """One swap: load, install, unload."""
    begun = time.monotonic_ns()
    new, old = arms[number % 2], arms[1 - number % 2]
    home.load(new)
    route(home, diary, new, number % 2)
    home.client.unload(old.bundle)
    diary.swaps.append((begun, time.monotonic_ns()))
    diary.memory.append(float(np.mean([rss_kib(pid) for pid in home.workers()])))


def wrong(records: np.ndarray, diary: Diary) -> int:
    """Answers of a version that was routed at no moment between send and receive."""
    good = np.zeros(len(records), bool)
    ends = [acknowledged for _, _, acknowledged in diary.routed[1:]] + [np.iinfo(np.int64).max]
    for minor in {minor for minor, _, _ in diary.routed}:
        spans = [(sent, end) for (one, sent, _), end in zip(diary.routed, ends, strict=True) if one == minor]
        begins, closes = np.array(spans, np.int64).T
        # The last span of this version that begins before the answer came must not have ended before it was asked.
        last = np.searchsorted(begins, records["received"], "right") - 1
        good |= (records["minor"] == minor) & (last >= 0) & (closes[last] >= records["sent"])
    return int((~good & (records["minor"] != FAILED)).sum())


def p99_ms(records: np.ndarray) -> float:
    """99th percentile of the time from due to received."""
    return round(float(np.percentile((records["received"] - records["due"]) / 1e6, 99)), 3)


def during(records: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
    """The records that were due within one of the spans (in order, apart)."""
    begins, ends = np.array(spans, np.int64).T
    last = np.searchsorted(begins, records["due"], "right") - 1
    return records[(last >= 0) & (records["due"] <= ends[last])]


def soak(swaps: int, rate: float, before_s: float, folder: Path) -> tuple[dict[str, Any], Diary, np.ndarray]:
    """Run it; (result, diary, records)."""
    diary = Diary()
    folder.mkdir(parents=True, exist_ok=True)
    with scorer_home(folder, report_ms=250, drain_s=5.0, linger_s=1.0) as home:
        arms = (home.admitted("1.0.0", trees=TREES), home.admitted("1.1.0", trees=TREES, seed=3))
        home.load(arms[0])
        route(home, diary, arms[0], 0)
        workers = home.workers()
        host, _, port = home.url.removeprefix("http://").rpartition(":")
        command = [sys.executable, "-m", "bench.soak_load", host, port, str(rate), str(folder / "records")]
        with subprocess.Popen(command, stdin=subprocess.PIPE):
            time.sleep(2.0)  # connections are opened, caches filled
            quiet = [(time.monotonic_ns(), time.monotonic_ns() + int(before_s * 1e9))]
            time.sleep(before_s)
            started = time.monotonic()
            for number in range(1, swaps + 1):
                time.sleep(max(0.0, started + number * PACE_S - time.monotonic()))
                swap(home, diary, arms, number)
                if number % 50 == 0:
                    print(f"{number} swaps, {time.monotonic() - started:.0f} s, {diary.memory[-1] / 1024:.1f} MiB")
            seconds = time.monotonic() - started
            time.sleep(1.0)
        replaced = home.workers() != workers
    records = np.fromfile(folder / "records", DTYPE)
    result = {
        **judged(diary, records, quiet),
        "workers_replaced": replaced,
        "rate": rate,
        "pace_s": PACE_S,
        "seconds": round(seconds, 1),
        "trees": TREES,
        "keep_alive_connections": KEPT,
    }
    return result, diary, records


def judged(diary: Diary, records: np.ndarray, quiet: list[tuple[int, int]]) -> dict[str, Any]:
    """What the diary and the records tell; `quiet` is the time before the swaps."""
    edge = max(1, min(EDGE, len(diary.memory) // 2))
    first, last = float(np.mean(diary.memory[:edge])), float(np.mean(diary.memory[-edge:]))
    before, swapping = p99_ms(during(records, quiet)), p99_ms(during(records, diary.swaps))
    return {
        "swaps": len(diary.swaps),
        "requests": len(records),
        "failed": int((records["minor"] == FAILED).sum()),
        "wrong_version": wrong(records, diary),
        "p99_before_ms": before,
        "p99_during_ms": swapping,
        "p99_ratio": round(swapping / before, 3),
        "requests_during": len(during(records, diary.swaps)),
        "rss_first": round(first / 1024, 2),
        "rss_last": round(last / 1024, 2),
        "rss_growth": round(last / first - 1, 4),
        "new_connections": int((records["kept"] == 0).sum()),
        "swap_median_ms": round(float(np.median([(end - begin) / 1e6 for begin, end in diary.swaps])), 1),
    }


def verdict(result: dict[str, Any]) -> list[str]:
    """Bars that were missed."""
    bars = {
        "requests failed": result["failed"] > 0,
        "a version answered that was not routed": result["wrong_version"] > 0,
        "p99 during a swap is more than twice that before": result["p99_ratio"] > 2.0,
        "memory grew by more than 5 %": result["rss_growth"] > 0.05,
        "a worker was replaced": result["workers_replaced"],
    }
    return [name for name, missed in bars.items() if missed]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description="Many model swaps under continuous load.")
    parser.add_argument("--swaps", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--before", type=float, default=BEFORE_S, help="seconds without a swap, for the first p99")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result, diary, records = soak(given.swaps, given.rate, given.before, Path(folder))
    result["machine"] = {"cpus": os.cpu_count(), "python": platform.python_version()}
    result["packages"] = {name: version(name) for name in ("onnxruntime", "uvloop", "httptools")}
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.results / "soak.svg").write_text(draw(result, diary.swaps, diary.memory, records))
    print(json.dumps(result, indent=2))
    missed = verdict(result)
    for name in missed:
        sys.stderr.write(f"missed: {name}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
