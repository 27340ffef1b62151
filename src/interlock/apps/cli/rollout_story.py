"""How `rollout show` and `rollout replay` draw what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.apps.cli.output import rows

if TYPE_CHECKING:
    from rich.console import RenderableType

GLYPHS = {"settled": "✔", "rolled_back": "✖", "refused": "✖", "superseded": "↷", "unfinished": "●"}
_WIDTH = 10


def story(told: dict[str, Any]) -> RenderableType:
    """States, evidence and times of a rollout."""
    from rich.console import Group
    from rich.text import Text

    glyph = GLYPHS.get(told["outcome"], "●")
    title = f"{glyph} {told['service']} {told['version']} {told['outcome'].replace('_', ' ')}"
    if told["reason"]:
        title += f": {told['reason']}" + (f" (caught in {told['caught_in']})" if told["caught_in"] else "")
    states = rows(
        ("at", "state", "share", "reason"),
        [(s["at"], s["state"], f"{s['share']:.0%}", s["reason"]) for s in told["states"]],
    )
    parts: list[RenderableType] = [Text(title, style="bold"), states]
    found = told["evidence"]
    if found["guards"]:
        parts += [Text("last look: evidence for harm, and for its exclusion, against their bounds"), _meters(found)]
    if found["limits"]:
        parts.append(_limits(found["limits"]))
    parts += [Text(line) for line in _remarks(told)]
    parts.append(Text(_times(told)))
    return Group(*parts)


def replayed(told: dict[str, Any]) -> RenderableType:
    """What a replay found."""
    from rich.console import Group
    from rich.text import Text

    counted = f"{told['service']} {told['version']}: {told['entries']} steps and {told['looks']} looks recomputed"
    if told["agrees"]:
        return Text(f"✔ {counted}; all agree", style="bold")
    body = [(d["event"], d["at"], d["what"], str(d["recorded"]), str(d["recomputed"])) for d in told["differences"]]
    table = rows(("event", "at", "what", "recorded", "recomputed"), body)
    return Group(Text(f"✖ {counted}; {len(body)} differences", style="bold"), table)


def _meters(found: dict[str, Any]) -> RenderableType:
    body = [
        (
            guard["guard"],
            guard["verdict"] + (" (warns)" if guard["warns"] else ""),
            f"{_meter(guard['log_e'], guard['bound'])} {guard['log_e']:.2f} / {guard['bound']:.2f}",
            f"{_meter(guard['log_e_clear'], guard['bound_clear'])} "
            f"{guard['log_e_clear']:.2f} / {guard['bound_clear']:.2f}" + (" ✔" if guard["cleared"] else ""),
        )
        for guard in found["guards"]
    ]
    return rows(("guard", "verdict", "harm: log E / log 1/α", "no harm: log E / log 1/α"), body)


def _meter(value: float, bound: float) -> str:
    full = max(0, min(_WIDTH, round(_WIDTH * value / bound))) if bound > 0 else 0
    return "█" * full + "░" * (_WIDTH - full)


def _limits(limits: list[dict[str, Any]]) -> RenderableType:
    body = [(each["name"], each["verdict"], each["value"], each["limit"], each["reason"]) for each in limits]
    return rows(("limit", "verdict", "value", "may be", "remark"), body)


def _remarks(told: dict[str, Any]) -> list[str]:
    found = told["evidence"]
    lines = []
    if found["experiment"]:
        tried = found["experiment"]
        lines.append(
            f"experiment: {tried['outcome']} {tried['ratio_low']:.2f} to {tried['ratio_high']:.2f} times "
            "the champion's; "
            f"winner: {tried['winner'] or 'none yet'}"
        )
    if found["could_have_caught"]:
        lines.append("could have caught: " + "; ".join(found["could_have_caught"]))
    if found["waiting_for"]:
        left = found["minutes_left"]
        needs = (
            "; at the present rate it cannot be told for how long" if left is None else f", about {left:g} more minutes"
        )
        lines.append("waits for evidence on " + ", ".join(found["waiting_for"]) + needs)
    return lines


def _times(told: dict[str, Any]) -> str:
    words = []
    if told["start_to_majority_s"] is not None:
        words.append(f"majority {told['start_to_majority_s']:.1f} s after the start")
    if told["breach_to_champion_s"] is not None:
        words.append(f"champion back {told['breach_to_champion_s']:.2f} s after the breach")
    if told["reverted"]:
        words.append(f"inverse commit {told['reverted']}")
    return "; ".join(words) or "no traffic was moved"
