"""The soak's picture: p99 per swap and the workers' memory, one above the other, as plain SVG."""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTH, HEIGHT, LEFT, GAP = 900, 200, 70, 60
COLUMNS = 150
"""Points drawn; each is the mean (memory) or the p99 (latency) of the swaps it stands for."""


def draw(result: dict[str, Any], swaps: list[tuple[int, int]], memory_kib: list[float], records: np.ndarray) -> str:
    """An SVG document."""
    groups = [group for group in np.array_split(np.arange(len(swaps)), min(COLUMNS, len(swaps))) if len(group)]
    taken = (records["received"] - records["due"]) / 1e6
    p99 = []
    for group in groups:
        inside = (records["due"] >= swaps[group[0]][0]) & (records["due"] <= swaps[group[-1]][1])
        p99.append(float(np.percentile(taken[inside], 99)) if inside.any() else 0.0)
    memory = [float(np.mean(np.array(memory_kib)[group])) / 1024 for group in groups]
    at = [int(group[-1]) + 1 for group in groups]
    before = result["p99_before_ms"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT + 2 * GAP + 40}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{result["swaps"]} model swaps at {result["rate"]:g} requests/s: '
        f"{result['requests']} requests, {result['failed']} failed, {result['wrong_version']} by the wrong one</text>",
        *_panel(40, "p99 during swaps, ms", at, p99, [(before, "before"), (2 * before, "twice before")]),
        *_panel(
            40 + HEIGHT + GAP, "resident memory per worker, MiB", at, memory, [(result["rss_first"] * 1.05, "+5 %")]
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(top: int, title: str, at: list[int], values: list[float], lines: list[tuple[float, str]]) -> list[str]:
    most = 1.15 * max([*values, *(value for value, _ in lines)])
    width = WIDTH - LEFT - 90

    def x(swap: float) -> float:
        return round(LEFT + width * swap / at[-1], 1)

    def y(value: float) -> float:
        return round(top + HEIGHT - HEIGHT * value / most, 1)

    bottom = top + HEIGHT
    parts = [
        f'<text x="{LEFT}" y="{top - 4}">{title}</text>',
        f'<path d="M{LEFT} {top}V{bottom}H{LEFT + width}" fill="none" stroke="#444"/>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<text x="{LEFT - 6}" y="{y(share * most) + 4}" text-anchor="end">{share * most:.3g}</text>')
        parts.append(
            f'<text x="{x(share * at[-1])}" y="{bottom + 16}" text-anchor="middle">{share * at[-1]:.0f}</text>'
        )
    for value, name in lines:
        parts.append(f'<path d="M{LEFT} {y(value)}H{LEFT + width}" stroke="#b33" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{LEFT + width + 4}" y="{y(value) + 4}" fill="#b33">{name}</text>')
    points = " ".join(f"{x(swap)},{y(value)}" for swap, value in zip(at, values, strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1565c0" stroke-width="1.5"/>')
    return parts
