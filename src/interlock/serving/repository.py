"""The models in this process: loaded beside the old ones, checked, warmed, and only then given out.

Contract. `load` gives a model out only after, in this order: every file of the bundle has the
digest the bundle states; an admission for exactly this service, bundle and service folder stands
under this scorer's own trust root; the session was made from the very bytes that were checked; the
golden vectors score as recorded, within 1e-5; and calls have become as fast as they get. Any doubt
is an error that names it, and leaves what is loaded untouched. Loading again is cheap and checks
the admission again. `release` forgets a model; whoever still holds it can finish with it.
Safe to call from several threads.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import RefusedError, UsageError
from interlock.decision.decide import Model, Vectors, decide
from interlock.decision.model import RuntimeFactory, golden_vectors, open_model
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle

Verify = Callable[[bytes, str, str, str], Any]
"""(admission file, service, bundle digest, folder digest) → anything; raises when it does not stand."""

WARM_SIZES = (1, 4, 16, 64)
_WINDOW = 16
_SETTLED = 1.1
_LONGEST_NS = 2 * NS_PER_S
_BESIDE_NS = NS_PER_S // 2
"""For a process that serves meanwhile. On a busy machine latency never settles, and warming takes as long as it
may: what a trial may find out at leisure, a worker must not repeat beside live traffic."""


@dataclass(frozen=True)
class Warmth:
    """How fast a model is once warm.

    Attributes:
        calls: calls made until it settled.
        settled: whether it did within the time allowed.
        p50_ns: median model time by batch size.
        p95_ns: 95th percentile by batch size.
    """

    calls: int
    settled: bool
    p50_ns: dict[int, int]
    p95_ns: dict[int, int]


class Repository:
    """The loaded models of one process.

    Args:
        folder: the home's `bundles`.
        admissions: the home's `admissions`.
        verify: checks an admission file under this scorer's trust root.
        runtime: makes a session from bytes.
        clock: for the warm-up.
        elsewhere: makes the factory for a bundle whose model another server runs; None: `runtime` runs it here.
    """

    def __init__(
        self,
        folder: Path,
        admissions: Path,
        verify: Verify,
        runtime: RuntimeFactory,
        clock: Clock,
        elsewhere: Callable[[Bundle], RuntimeFactory] | None = None,
    ) -> None:
        self._folder = folder
        self._admissions = admissions
        self._verify = verify
        self._runtime = runtime
        self._elsewhere = elsewhere
        self._clock = clock
        self._models: dict[str, Model] = {}
        self._lock = threading.Lock()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Digests of the bundles that are ready."""
        with self._lock:
            return tuple(self._models)

    def get(self, bundle: str) -> Model | None:
        """The ready model of that bundle, if it is loaded."""
        return self._models.get(bundle)

    def load(self, service: str, bundle: str, folder: str) -> Model:
        """The model of that bundle, ready to decide for that service.

        Raises:
            RefusedError: no admission stands, the runtime refuses the model, or golden vectors differ.
            IntegrityError: bytes do not have the digest they should.
            UsageError: the bundle is for another service, or malformed.
        """
        self.check(service, bundle, folder)
        with self._lock:
            known = self._models.get(bundle)
        if known is not None:
            _refuse_other_service(known.service, service)
            return known
        content = bundles.read(self._folder, bundle)
        model = open_model(content, self._runtime if self._elsewhere is None else self._elsewhere(content))
        _refuse_other_service(model.service, service)
        warm(model, self._clock, golden_vectors(content.golden), longest_ns=_BESIDE_NS)
        with self._lock:
            return self._models.setdefault(bundle, model)

    def check(self, service: str, bundle: str, folder: str) -> None:
        """Whether an admission stands; returns nothing when it does.

        Raises:
            RefusedError: there is none, or it does not stand.
        """
        path = self._admissions / digest_hex(bundle) / f"{digest_hex(folder)}.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise RefusedError(
                "no admission for this bundle and service folder", "release it: propose, approve and merge"
            ) from error
        self._verify(data, service, bundle, folder)

    def release(self, bundle: str) -> None:
        """Forget a model; nothing happens when it is not loaded."""
        with self._lock:
            self._models.pop(bundle, None)


def warm(
    model: Model, clock: Clock, rows: Vectors, sizes: tuple[int, ...] = WARM_SIZES, longest_ns: int = _LONGEST_NS
) -> Warmth:
    """Call the model until its latency settles, for every batch size a tick may have.

    Settled means: the median of 16 calls is within 10 % of the best such median before it. A model
    that never settles is as warm as the time makes it; that is no reason to refuse it.

    Args:
        model: what to call.
        clock: measures the calls.
        rows: realistic vectors (the golden ones), repeated to fill each batch.
        sizes: batch sizes.
        longest_ns: time for all of them; every size is called 16 times at least.
    """
    calls, settled = 0, True
    p50: dict[int, int] = {}
    p95: dict[int, int] = {}
    for size in sizes:
        vectors = np.resize(rows, (size, model.width))
        until = clock.monotonic_ns() + longest_ns // len(sizes)
        best: float | None = None
        done = False
        while not done and (best is None or clock.monotonic_ns() < until):
            times = sorted(_timed(model, vectors, clock) for _ in range(_WINDOW))
            calls += _WINDOW
            median = statistics.median(times)
            done = best is not None and best / _SETTLED <= median <= best * _SETTLED
            best = median if best is None else min(best, median)
            p50[size], p95[size] = round(median), times[-2]
        settled &= done
    return Warmth(calls, settled, p50, p95)


def _timed(model: Model, vectors: Vectors, clock: Clock) -> int:
    started = clock.monotonic_ns()
    decide(model, vectors)
    return clock.monotonic_ns() - started


def _refuse_other_service(has: str, wanted: str) -> None:
    if has != wanted:
        raise UsageError(f"the bundle serves {has}, not {wanted}", "register it for the service that asks for it")
