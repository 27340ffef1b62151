"""The mission's figure: the highest constant rate that holds while a release goes through 10, 50 and 100 %.

Each try runs the load for its whole length and, meanwhile, one real rollout by the admin socket: the
other version is tried and loaded in every worker, takes 10, 50 and 100 % under an unsettled table
(leases, both arms on their own threads), becomes the champion, and the old one is unloaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.serving import arithmetic
from bench.serving.contestants import Running, interlock
from bench.serving.home import SERVICE, Home
from bench.serving.tally import Job

from interlock.base.errors import InterlockError
from interlock.decision.split import weights
from interlock.decision.table import Arm

SHARES = (1_000, 5_000, 10_000)
LEASE_S = 60.0
TAU_NS = 2_000_000
CONNECTIONS = 256
START_RATE, STEP, GRAIN = 7_000.0, 1_500.0, 300.0
Generate = Callable[[Job], dict[str, Any]]


@dataclass(frozen=True)
class Lengths:
    """Seconds: of a try's warm-up and measured phase, and of the last, confirming run; how many tries, from where."""

    warm_s: float
    try_s: float
    confirm_s: float
    tries: int
    start_rate: float = START_RATE


class Rollout(threading.Thread):
    """One rollout, spread over a run of `seconds`."""

    def __init__(self, home: Home, champion: Arm, candidate: Arm, delay_s: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._arms = champion, candidate
        self._delay_s = delay_s
        self._step_s = seconds / 6
        self.done: list[str] = []
        self.problem = ""

    def run(self) -> None:
        """Load, 10, 50, 100, settle, unload."""
        home, (champion, candidate) = self._home, self._arms
        time.sleep(self._delay_s)
        try:
            home.client.load(SERVICE, candidate.bundle, candidate.folder)
            self.done.append("loaded")
            for share in SHARES:
                home.route(weights(champion, _named(candidate, "candidate"), share), lease_s=LEASE_S, tau_ns=TAU_NS)
                self.done.append(f"{share / 100:g} %")
                time.sleep(self._step_s)
            home.settle(candidate)
            self.done.append("settled")
            home.client.unload(champion.bundle)
            self.done.append("unloaded")
        except InterlockError as error:
            self.problem = str(error)


def _named(arm: Arm, name: str) -> Arm:
    return Arm(name, arm.bundle, arm.folder, arm.version)


class Trials:
    """Tries at different rates on one running scorer."""

    def __init__(self, home: Home, generate: Generate, running: Running) -> None:
        self._home = home
        self._generate = generate
        self._running = running
        self._turn = 0
        self.rollouts = 0

    def attempt(self, rate: float, warm_s: float, seconds: float, run: str) -> dict[str, Any]:
        """One run at one rate through one rollout."""
        champion, candidate = (self._home.arms[(self._turn + each) % 2] for each in (0, 1))
        rollout = Rollout(self._home, champion, candidate, warm_s + 0.5, seconds)
        job = Job(
            address=self._running.address,
            kind="transactions",
            target=f"/v1/models/{SERVICE}:predict",
            run=run,
            must='"degraded":false',
            mark=f'"model_version":"{candidate.version}"',
            connections=CONNECTIONS,
            rate=rate,
            warm_s=warm_s,
            measure_s=seconds,
            groups={"server": self._running.pids, "store": [self._home.valkey.pid]},
        )
        rollout.start()
        found = self._generate(job)
        outlasted = rollout.is_alive()
        rollout.join()
        self._turn += 1
        problem = rollout.problem or ("it outlasted the load" if outlasted else "")
        if rollout.problem:  # such as a retreat, whose latch would refuse what comes next
            self._turn = 0
            self._home.begin(self._home.arms[0])
        self.rollouts += not problem
        return {**found, "rollout": rollout.done, "rollout_problem": problem, "rollout_done": not problem}


def attempt_row(found: dict[str, Any], held: bool) -> dict[str, Any]:
    """A try for the result file."""
    seconds = found["elapsed_s"]
    count = max(1, found["answered"])
    kept = (
        "rate",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "max_ms",
        "scheduled",
        "answered",
        "failed",
        "failures",
        "other_cores",
    )
    return {
        "held": held,
        **{name: found[name] for name in kept},
        "candidate_answers": found["marked"],
        "rollout": found["rollout"],
        **({"rollout_problem": found["rollout_problem"]} if found["rollout_problem"] else {}),
        **({"examples": found["examples"]} if found["failed"] else {}),
        "cores": {name: round(value / seconds / 1e9, 3) for name, value in found["cpu_ns"].items()},
        "cpu_us": {name: round(value / count / 1_000, 1) for name, value in found["cpu_ns"].items()},
    }


def search(home: Home, generate: Generate, workers: int, lengths: Lengths, name: Callable[[], str]) -> dict[str, Any]:
    """The highest rate that one number of workers holds, confirmed by a longer run."""
    tries: list[dict[str, Any]] = []
    with interlock(home, workers=workers) as running:
        trials = Trials(home, generate, running)

        def held_at(rate: float, seconds: float) -> bool:
            found = trials.attempt(rate, lengths.warm_s, seconds, name())
            held = arithmetic.held(found) and found["rollout_done"]
            tries.append(attempt_row(found, held))
            print(
                f"open loop, {workers} workers: {rate:.0f}/s p95 {found['p95_ms']} ms, "
                f"{found['failed']} failed, {'held' if held else 'not held'}",
                flush=True,
            )
            return held

        state = arithmetic.Search(lengths.start_rate, min(STEP, lengths.start_rate / 4), GRAIN)
        while len(tries) < lengths.tries and (rate := state.next()) is not None:
            state = state.told(rate, held_at(rate, lengths.try_s))
        confirmed = state.good
        while confirmed > GRAIN and not held_at(confirmed, lengths.confirm_s):
            confirmed -= GRAIN
            if len(tries) >= lengths.tries + 4:
                confirmed = 0.0
    best = tries[-1] if confirmed and tries[-1]["held"] else {}
    return {
        "rate": round(confirmed if best else 0.0),
        **{key: best.get(key) for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "cores", "cpu_us")},
        "failed": best.get("failed"),
        "rollouts": trials.rollouts,
        "workers": workers,
        "tries": tries,
    }


def best_of(home: Home, generate: Generate, lengths: Lengths, name: Callable[[], str]) -> dict[str, Any]:
    """One worker or two, whichever does better here; the other's figures beside it."""
    found = []
    for workers in (1, 2):
        try:
            found.append(search(home, generate, workers, lengths, name))
        except Exception as error:  # the other number still runs
            found.append({"rate": 0, "workers": workers, "error": f"{type(error).__name__}: {error}"})
    best, other = sorted(found, key=lambda each: -each["rate"])
    return {
        **best,
        "bar": {"rate": 8_500, "p95_ms": arithmetic.P95_BAR_MS, "failed": 0},
        "arrivals": f"constant, sent in turns of 1 ms on {CONNECTIONS} keep-alive connections, no pipelining; "
        "latency from the scheduled time; store, generator and scorer on this machine",
        "other_number_of_workers": other,
    }
