"""What the demo releases: trainings, rollout policies and what must become of each.

Plain data in the formats a user writes: `interlock train` and `interlock release propose` read it.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "fraud"
CARDS = 20_000
HISTORY_DAYS = 5
SEED = 7
RATE = 310.0
SPEED = 650.0
"""Edge seconds per second: 20,000 cards at this rate live at the pace of the history."""

_SPLIT = "split: {train_days: 2.5, gap_days: 0.5, test_days: 1.5}"


@dataclass(frozen=True)
class ReleasePlan:
    """One release of the story.

    Attributes:
        version: what is released.
        title: what it is, for people.
        training: lines of the training's YAML beside service, version, user and ticket.
        steps: the rollout policy's steps and watch.
        expected: what must become of it.
    """

    version: str
    title: str
    training: tuple[str, ...]
    steps: tuple[str, ...]
    expected: str

    def config(self, user: str) -> str:
        """The training's configuration file."""
        number = self.version.split(".")[1]
        lines = (f"service: {SERVICE}", f'version: "{self.version}"', f"user: {user}", f"ticket: RISK-{number}")
        return "\n".join((*lines, *self.training)) + "\n"

    def policy(self) -> str:
        """The rollout policy file."""
        head = (
            "apiVersion: interlock.dev/v1alpha1",
            "kind: RolloutPolicy",
            f"metadata: {{name: {SERVICE}}}",
            "spec:",
            "  strategy: canary",
            "  advance: timeline",
        )
        return "\n".join((*head, *(f"  {line}" for line in self.steps), "  deadline: 2m")) + "\n"


_CANARY = (
    "  - {weight: 10, for: 1s}",
    "  - {weight: 50, for: 1s}",
    "  - {weight: 100}",
)
_SLOW_CANARY = (
    "  - {weight: 10, for: 20s}",
    "  - {weight: 50, for: 20s}",
    "  - {weight: 100}",
)

RELEASES = (
    ReleasePlan(
        "1.0.0",
        "champion",
        (
            _SPLIT,
            "rows: 15000",
            # Less data, learnt slowly: worse than its successor, but no faster, or the latency guard would say so.
            "trainer: {name: xgboost, rounds: 200, max_depth: 6, learning_rate: 0.02}",
            "thresholds: {flag_budget: 0.02}",
        ),
        ("steps: []", "watch: {holdback: 0.05, for: 2s}"),
        "settled",
    ),
    ReleasePlan(
        "1.1.0",
        "better candidate",
        (_SPLIT, "trainer: {name: xgboost, rounds: 100, max_depth: 5}", "thresholds: {flag_budget: 0.02}"),
        ("steps:", "  - shadow: 3s", *_CANARY, "watch: {holdback: 0.05, for: 10s}"),
        "settled",
    ),
    ReleasePlan(
        "1.2.0",
        "slow: 5,000 trees",
        (
            "split: {train_days: 2.5, gap_days: 0.5, test_days: 0.4}",
            "rows: 6000",
            "trainer: {name: xgboost, rounds: 5000, max_depth: 5, learning_rate: 0.006, max_bin: 64}",
            "thresholds: {flag_budget: 0.02}",
        ),
        ("steps:", *_SLOW_CANARY, "watch: {holdback: 0.05, for: 10s}"),
        "rolled_back",
    ),
    ReleasePlan(
        "1.3.0",
        "flags ten times too much",
        (_SPLIT, "thresholds: {flag_budget: 0.02, flag_factor: 10, from: 1.1.0}"),
        ("steps:", "  - shadow: 3s", *_SLOW_CANARY, "watch: {holdback: 0.05, for: 10s}"),
        "rolled_back",
    ),
)
