"""Warming: until calls are as fast as they get, and no longer than the process has time for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders import tiny_bundle

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.decision.model import golden_vectors, open_model
from interlock.serving.repository import WARM_SIZES, Warmth, warm


class Told:
    """A clock by which each call takes as long as told: `growth` times the one before."""

    def __init__(self, growth: float) -> None:
        self._now, self._step, self._growth = 0, float(NS_PER_MS), growth

    def now_ns(self) -> int:
        return self._now

    def monotonic_ns(self) -> int:
        self._now += round(self._step)
        self._step *= self._growth
        return self._now


def warmed(folder: Path, growth: float, longest_ns: int) -> tuple[Warmth, int]:
    bundle = tiny_bundle(folder)
    clock = Told(growth)
    found = warm(
        open_model(bundle, OnnxRuntime.from_bytes), clock, golden_vectors(bundle.golden), longest_ns=longest_ns
    )
    return found, clock.now_ns()


def test_a_steady_model_is_warm_after_two_windows_of_each_size(tmp_path: Path) -> None:
    found, _ = warmed(tmp_path, 1.0, 2 * NS_PER_S)
    assert (found.settled, found.calls) == (True, len(WARM_SIZES) * 2 * 16)


@pytest.mark.parametrize("longest_s", [0.25, 1.0], ids=str)
def test_a_model_that_never_settles_is_warmed_for_the_time_there_is(tmp_path: Path, longest_s: float) -> None:
    found, took_ns = warmed(tmp_path, 1.01, round(longest_s * NS_PER_S))
    assert not found.settled
    brief, _ = warmed(tmp_path, 1.01, 0)
    assert brief.calls == len(WARM_SIZES) * 16, "every size is called, whatever the time"
    assert found.calls >= brief.calls
    assert took_ns > round(longest_s * NS_PER_S) // 2
