"""The picture of the result: how far each row lies from its target, as plain SVG."""

from __future__ import annotations

import html
import math
from typing import Any

WIDTH, LINE, LEFT, RIGHT = 1_150, 18, 560, 130
LEAST, MOST = 0.02, 20.0


def draw(result: dict[str, Any]) -> str:
    """One line a target: the measured value as a ratio to the bound, on a logarithmic scale."""
    rows = [row for row in result["rows"] if row["of"] != "contrast"]
    height = 70 + LINE * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="18" font-size="14">Guards by simulation: measured value divided by its target '
        f"({result['met']} of {result['of']} met, seed {result['seed']})</text>",
    ]
    for ratio in (0.05, 0.1, 0.5, 1, 2, 5, 10):
        colour = "#b33" if ratio == 1 else "#ddd"
        parts.append(f'<path d="M{_x(ratio)} 40V{height - 10}" stroke="{colour}"/>')
        parts.append(f'<text x="{_x(ratio)}" y="36" text-anchor="middle">{ratio:g}</text>')
    for number, row in enumerate(rows):
        parts += _row(row, 58 + LINE * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(row: dict[str, Any], y: int) -> list[str]:
    achieved, most = row["achieved"], row["bound"]["at_most"]
    ratio = MOST if achieved is None else max(achieved / most, LEAST)
    colour = "#999" if row["of"] == "variant" else "#1565c0" if row["met"] else "#b33"
    found = [f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{html.escape(row["name"][:95])}</text>']
    if "interval" in row:
        low, high = (_x(max(limit / most, LEAST)) for limit in row["interval"])
        found.append(f'<path d="M{low} {y - 4}H{high}" stroke="{colour}" stroke-width="2"/>')
    found.append(f'<circle cx="{_x(ratio)}" cy="{y - 4}" r="4" fill="{colour}"/>')
    text = "not seen" if achieved is None else f"{100 * achieved:.2f} %" if "rejected" in row else f"{achieved:g} s"
    found.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}">{text}</text>')
    return found


def _x(ratio: float) -> float:
    at = (math.log(min(max(ratio, LEAST), MOST)) - math.log(LEAST)) / (math.log(MOST) - math.log(LEAST))
    return round(LEFT + at * (WIDTH - LEFT - RIGHT), 1)
