"""The evidence of a rollout for people: where each guard stands, what could have been caught, how long it takes.

The estimate of what is left is the rate at which log E of the reverse test grew over the second half
of the looks in the present state, drawn on in a straight line; it promises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interlock.base.clock import NS_PER_S
from interlock.rollout.states import FINAL
from interlock.rollout.values import Rollout

_HARMS = {
    "errors": "error rate",
    "misses": "rate of deadline misses",
    "latency": "share of slow calls",
    "flag_up": "flag rate",
}
_TIMES = {"2": "doubled", "10": "tenfold"}
_SHOWN = ("guard", "verdict", "log_e", "bound", "log_e_clear", "bound_clear", "cleared", "warns")

Look = dict[str, Any]


def evidence(rollout: Rollout, looks: Sequence[tuple[int, Look]]) -> dict[str, Any]:
    """Where the evidence stands after the last look.

    Args:
        rollout: as it is now.
        looks: (wall time ns, body) of every kept look, in order.
    """
    judged = [(at, look) for at, look in looks if look["guards"]]
    last = judged[-1][1] if judged else {"guards": [], "limits": []}
    unclear = [each for each in str(last.get("seen", {}).get("unclear", "")).split(", ") if each]
    waits = rollout.state not in FINAL and rollout.plan is not None and rollout.plan.advance == "evidence"
    return {
        "guards": [{name: guard.get(name) for name in _SHOWN} for guard in last["guards"]],
        "limits": last.get("limits", []),
        "experiment": last.get("experiment"),
        "could_have_caught": caught(looks),
        "waiting_for": unclear if waits else [],
        "minutes_left": _minutes(judged, unclear) if waits and unclear else None,
    }


def caught(looks: Sequence[tuple[int, Look]]) -> list[str]:
    """What the last look that changed something could have caught, in words."""
    powers: dict[str, dict[str, float]] = next(
        (look["powers"] for _, look in reversed(looks) if look.get("powers")), {}
    )
    return [
        f"a {_TIMES[times]} {_HARMS[guard]} with probability {chance:.2f}"
        for guard, found in powers.items()
        if guard in _HARMS
        for times, chance in found.items()
        if times in _TIMES
    ]


def _minutes(looks: Sequence[tuple[int, Look]], unclear: Sequence[str]) -> float | None:
    """Minutes until the slowest guard is expected to be clear; None: it is not getting there, or cannot be told."""
    same = [(at, look) for at, look in looks if look["generation"] == looks[-1][1]["generation"]]
    first, last = same[len(same) // 2 - 1 if len(same) > 1 else 0], same[-1]
    seconds = (last[0] - first[0]) / NS_PER_S
    found = []
    for name in unclear:
        then, now = _guard(first[1], name), _guard(last[1], name)
        grown = now["log_e_clear"] - then["log_e_clear"] if then and now else 0.0
        if seconds <= 0 or grown <= 0:
            return None
        found.append(max(0.0, now["bound_clear"] - now["log_e_clear"]) / grown * seconds / 60)
    return round(max(found), 1) if found else None


def _guard(look: Look, name: str) -> dict[str, Any]:
    return next((guard for guard in look["guards"] if guard["guard"] == name), {})
