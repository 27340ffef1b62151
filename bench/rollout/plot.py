"""The bench's picture: each rollout's seconds from commit to majority, by part, as plain SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.rollout.figures import PARTS

WIDTH, HEIGHT, LEFT, TOP = 900, 300, 60, 60
COLOURS = ("#90a4ae", "#5c6bc0", "#1565c0", "#26a69a", "#9ccc65", "#ffb300")
BARS = ((5.0, "p50 bar"), (8.0, "p95 bar"))


def draw(result: Mapping[str, Any]) -> str:
    """An SVG document."""
    rows = result["rows"]
    most = max(9.0, *(sum(each["parts_s"].values()) for each in rows if each["parts_s"]), 0.0)
    step = (WIDTH - LEFT - 70) / max(1, len(rows))
    found = result["commit_to_majority_s"]
    words = (
        f"{len(rows)} rollouts at {result['rate']:g} requests/s: majority p50 {found['p50']} s, p95 {found['p95']} s"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 60}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{words}, {result["failed_requests"]} requests failed</text>',
        *_legend(),
        f'<path d="M{LEFT} {TOP}V{TOP + HEIGHT}H{WIDTH - 70}" fill="none" stroke="#444"/>',
    ]
    parts += [
        f'<text x="{LEFT - 6}" y="{_y(value, most) + 4}" text-anchor="end">{value}</text>'
        for value in range(int(most) + 1)
    ]
    for number, each in enumerate(rows):
        parts += _column(LEFT + step * (number + 0.1), step * 0.8, each, most)
    for value, name in BARS:
        y = _y(value, most)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - 70}" stroke="#b33" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{WIDTH - 66}" y="{y + 4}" fill="#b33">{name}</text>')
    parts.append(
        f'<text x="{LEFT}" y="{TOP + HEIGHT + 40}">seconds from commit, by part; × rolled back or refused</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _column(x: float, width: float, row: Mapping[str, Any], most: float) -> list[str]:
    drawn, below = [], 0.0
    for name, colour in zip(PARTS, COLOURS, strict=True):
        seconds = row["parts_s"].get(name)
        if seconds:
            top, bottom = _y(below + seconds, most), _y(below, most)
            drawn.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{round(bottom - top, 1)}" fill="{colour}"/>'
            )
            below += seconds
    if row["outcome"] != "settled":
        drawn.append(f'<text x="{x + width / 2:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle" fill="#b33">×</text>')
    return drawn


def _legend() -> list[str]:
    drawn = []
    for number, (name, colour) in enumerate(zip(PARTS, COLOURS, strict=True)):
        x = LEFT + number * 120
        drawn.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="{x + 14}" y="39">{name}</text>')
    return drawn


def _y(seconds: float, most: float) -> float:
    return round(TOP + HEIGHT - HEIGHT * seconds / most, 1)
