"""A simulated policy as people and programs read it: what it does when nothing is wrong, and when something is.

`simulate` plays it on traffic without harm (every rollback is false) and, when a harm is named, on
traffic with it (every rollback is a detection), in as many processes as are asked for; the plays are
numbered and seeded one by one, so that their figures do not depend on how they were shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Any

import msgspec

from interlock.rollout import simulate as simulator
from interlock.rollout.plan import Plan
from interlock.rollout.simulate import Played, Setting, Summary

CHUNK = 5
Progress = Callable[[int, int], None]


def simulate(setting: Setting, runs: int, processes: int, progress: Progress) -> dict[str, Any]:
    """The result as plain JSON values.

    Args:
        setting: policy and traffic with the harm that is asked about.
        runs: plays without harm, and as many with it.
        processes: that share them.
        progress: told of plays that are done, and of how many there are.
    """
    peaceful = replace(setting, traffic=replace(setting.traffic, harm={}))
    wanted = [peaceful, setting] if setting.traffic.harm else [peaceful]
    found = [simulator.summarise(played) for played in _played(wanted, runs, processes, progress)]
    traffic = setting.traffic
    recorded = setting.recording
    return {
        "policy": _policy(setting.plan),
        "traffic": {
            "tps": round(recorded.tps, 3) if recorded else traffic.tps,
            "cards": recorded.number if recorded else traffic.cards,
            "recorded": len(recorded.at_s) if recorded else 0,
            "base": {} if recorded else dict(traffic.base),
            "burst_variance": traffic.burst_var,
            "burst_s": traffic.burst_s,
        },
        "harm": dict(traffic.harm),
        "runs": runs,
        "seed": setting.seed,
        "look_s": setting.look_s,
        "left_out": simulator.left_out(setting.plan),
        "null": _summary(found[0], "false_rollback"),
        "harmed": _summary(found[1], "power") if len(found) > 1 else None,
    }


def _played(settings: list[Setting], runs: int, processes: int, progress: Progress) -> Iterator[list[Played]]:
    total = runs * len(settings)
    if processes <= 1:
        for place, setting in enumerate(settings):
            found = []
            for number in range(runs):
                found += simulator.plays(setting, [number])
                progress(place * runs + number + 1, total)
            yield found
        return
    with ProcessPoolExecutor(processes) as pool:
        chunks = [range(start, min(start + CHUNK, runs)) for start in range(0, runs, CHUNK)]
        futures: dict[Future[list[Played]], tuple[int, int]] = {}
        for place, setting in enumerate(settings):
            for chunk in chunks:
                futures[pool.submit(simulator.plays, setting, chunk)] = (place, chunk.start)
        done: dict[tuple[int, int], list[Played]] = {}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            progress(sum(len(each) for each in done.values()), total)
    for place in range(len(settings)):
        yield [each for chunk in chunks for each in done[place, chunk.start]]


def _policy(plan: Plan) -> dict[str, Any]:
    return {
        "strategy": plan.strategy,
        "advance": plan.advance,
        "shadow_s": plan.shadow_s,
        "steps": [{"weight": each.share / 100, "for_s": each.for_s} for each in plan.steps],
        "watch_s": plan.watch_s,
        "deadline_s": plan.deadline_s,
        "guards": {name: msgspec.to_builtins(each) for name, each in plan.guards.items()},
    }


def _summary(found: Summary, share: str) -> dict[str, Any]:
    body = asdict(found)
    body[share] = body.pop("rolled_back_share")
    body["interval"] = [round(limit, 6) for limit in found.interval]
    body["times"] = list(found.times)
    return body


WIDTH, HEIGHT, LEFT, TOP = 760, 300, 60, 60


def picture(data: dict[str, Any]) -> str:
    """An SVG: the share of rollouts rolled back by then, without harm and with it, over seconds of exposure."""
    shown = [("without harm", data["null"], "#b33")]
    if data["harmed"] is not None:
        words = ", ".join(f"{name} x{ratio:g}" for name, ratio in data["harm"].items())
        shown.append((words, data["harmed"], "#1565c0"))
    longest = max([1.0, *(time for _, part, _ in shown for time in part["times"])])
    bottom, right = TOP + HEIGHT, WIDTH - 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 50}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Rolled back, of {data["runs"]} simulated rollouts each</text>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>',
        f'<text x="{right}" y="{bottom + 34}" text-anchor="end">seconds since the first transaction</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = LEFT + (right - LEFT) * share, bottom - HEIGHT * share
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{100 * share:.0f} %</text>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{longest * share:.3g}</text>')
    for number, (words, part, colour) in enumerate(shown):
        points = _steps(part["times"], data["runs"], longest, (right, bottom))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        share = part["rolled_back"] / data["runs"]
        parts.append(
            f'<text x="{LEFT + 10}" y="{38 + 15 * number}" fill="{colour}">{words}: {100 * share:.1f} %</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _steps(times: list[float], runs: int, longest: float, corner: tuple[float, float]) -> str:
    right, bottom = corner
    points = [(0.0, 0)]
    for seen, time in enumerate(times, 1):
        points += [(time, seen - 1), (time, seen)]
    points.append((longest, len(times)))
    return " ".join(
        f"{LEFT + (right - LEFT) * time / longest:.1f},{bottom - HEIGHT * seen / runs:.1f}" for time, seen in points
    )
