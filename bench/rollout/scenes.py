"""What the bench plays: fifty rollouts in a row, a slower model, too many flags, the same model again.

Policies are what a user may write; nothing in them is looser than the page's fast timeline: a shadow
of a second, 10 %, 50 %, then everything but the holdback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.rollout import figures, models
from bench.rollout.shop import Shop, until

from interlock.apps.demo.plan import SERVICE
from interlock.registry.bundle import Bundle

_HEAD = f"""apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {{name: {SERVICE}}}
spec:
  strategy: canary
  advance: timeline
"""
_LINE = "  steps: [{steps}]\n  watch: {{holdback: 0.05, for: {watch}}}\n  deadline: 2m\n"
FAST = _HEAD + _LINE.format(
    steps="{shadow: 1s}, {weight: 10, for: 1s}, {weight: 50, for: 500ms}, {weight: 100}", watch="1s"
)
SLOW = _HEAD + _LINE.format(
    steps="{shadow: 1s}, {weight: 10, for: 20s}, {weight: 50, for: 60s}, {weight: 100}", watch="5s"
)
FIRST = _HEAD + _LINE.format(steps="", watch="1s")
SWITCH = FIRST.replace("0.05", "0")
"""A heavier model on purpose: nothing is compared, so that no guard sends it back."""
AA = _HEAD + _LINE.format(
    steps="{shadow: 1s}, {weight: 10, for: 1500ms}, {weight: 50, for: 2s}, {weight: 100}", watch="1500ms"
)

BAD: tuple[tuple[str, Callable[[Bundle], dict[str, bytes]], str], ...] = (
    ("flags everybody", models.flags_everybody, "rolled_back"),
    ("raises on live traffic", models.raises, "rolled_back"),
    ("does not score as recorded", models.misremembers, "refused"),
    ("hangs on live traffic", models.hangs, "rolled_back"),
)
BAD_EVERY = 5
"""Every fifth rollout is a bad one, of each kind in turn."""
HEAVY_LAYERS = 85
SLOWER_LAYERS = 102
"""A fifth more. The heavier model takes about 2.5 ms a call, nearly all of it ballast: below 1 ms the latency
guard lets a fifth pass on purpose (`guards.TAU_FLOOR_NS`), since no caller would notice."""


@dataclass(frozen=True)
class Wanted:
    """One rollout to play."""

    kind: str
    expected: str
    bundle: Bundle
    changes: dict[str, bytes]
    policy: str = FAST


def play(shop: Shop, wanted: Wanted) -> dict[str, Any]:
    """Release a version and wait until its rollout is over; its row."""
    model = shop.register(wanted.bundle, wanted.changes)
    shop.propose(model, wanted.policy)
    commit_ns = shop.push()
    told = shop.ended(model.version)
    what = {"version": model.version, "kind": wanted.kind, "expected": wanted.expected}
    found = figures.row(what, told.entries, commit_ns, shop.progress().get("failures", []))
    words = f"{found['version']} {wanted.kind}: {found['outcome']}"
    times = f"majority {found['commit_to_majority_s']} s, back {found['breach_to_champion_s']} s"
    print(
        f"{words}; {times}; {found['failed_requests']} failed; {found['reason'] or ''}; {found['parts_s']}", flush=True
    )
    return found


def in_a_row(shop: Shop, rollouts: int) -> list[dict[str, Any]]:
    """Good ones in turn of two trainings, and every fifth a bad one."""
    found = []
    kinds = _turns()
    champion = 0
    for number in range(1, rollouts + 1):
        if number % BAD_EVERY:
            champion = 1 - champion
            found.append(play(shop, Wanted("good", "settled", shop.trained[champion], {})))
        else:
            kind, make, expected = next(kinds)
            bundle = shop.trained[champion]
            found.append(play(shop, Wanted(kind, expected, bundle, make(bundle))))
    return found


def _turns() -> Iterator[tuple[str, Callable[[Bundle], dict[str, bytes]], str]]:
    while True:
        yield from BAD


def first(shop: Shop) -> dict[str, Any]:
    """The first version: nothing served before it, and traffic begins when it does."""
    shop_row = play(shop, Wanted("first", "settled", shop.trained[0], {}, FIRST))
    shop.go()
    until(lambda: shop.progress().get("answered", 0) > 2 * shop.rate or None, "traffic flows")
    return shop_row


def slower(shop: Shop) -> list[dict[str, Any]]:
    """A champion whose model takes milliseconds, then one that takes a fifth longer, then the light one again."""
    heavy = models.ballasted(shop.trained[0], HEAVY_LAYERS)
    fifth = models.ballasted(shop.trained[0], SLOWER_LAYERS)
    return [
        play(shop, Wanted("heavier champion", "settled", shop.trained[0], heavy, SWITCH)),
        play(shop, Wanted("a fifth slower", "rolled_back", shop.trained[0], fifth, SLOW)),
        play(shop, Wanted("light again", "settled", shop.trained[0], {}, FAST)),
    ]


def tenfold(shop: Shop) -> dict[str, Any]:
    """Thresholds at which ten times as many transactions are flagged."""
    changes = {"thresholds.json": shop.tenfold.files["thresholds.json"]}
    return play(shop, Wanted("ten times the flags", "rolled_back", shop.trained[0], changes, SLOW))


def same_again(shop: Shop, rollouts: int) -> list[dict[str, Any]]:
    """The same model under new versions."""
    return [play(shop, Wanted("same model", "settled", shop.trained[0], {}, AA)) for _ in range(rollouts)]
