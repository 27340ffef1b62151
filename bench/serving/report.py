"""The result as a file, a table and a plot; plain text and SVG, nothing to install."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_COLUMNS = (
    ("requests/s", "rps", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p95 ms", "p95_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("server CPU µs", "cpu_us", "{:,.1f}"),
    ("store CPU µs", "store_cpu_us", "{:,.1f}"),
    ("MiB", "rss_mb", "{:,.0f}"),
    ("errors", "errors", "{:,}"),
)
_LINE, _LEFT, _WIDTH, _TOP = 26, 210, 560, 54
_OURS, _FLOOR, _PEER = "#1f6feb", "#8c959f", "#d1892c"


def machine() -> dict[str, Any]:
    """What it ran on."""
    text = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else "unknown",
        "memory_gib": round(int(memory) / 1_048_576, 1),
        "kernel": os.uname().release,
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }


def table(result: Mapping[str, Any]) -> str:
    """The contestants in Markdown, with the ratios and the open loop below."""
    lines = [
        "| contestant | " + " | ".join(title for title, _, _ in _COLUMNS) + " |",
        "|---|" + "---:|" * len(_COLUMNS),
    ]
    for name, row in result["contestants"].items():
        if row.get("error"):
            reason = " ".join(row["error"].split())[:120].replace("|", "/")
            lines.append(f"| {name} | {reason} |" + " |" * (len(_COLUMNS) - 1))
        else:
            lines.append(f"| {name} | " + " | ".join(form.format(row[key]) for _, key, form in _COLUMNS) + " |")
    lines += ["", "| ratio of server CPU | value |", "|---|---:|"]
    for name, value in (*result["ratios"].items(), *result["ratios_of_variants"].items()):
        lines.append(f"| {name} | {'–' if value is None else f'{value:,.2f}'} |")
    loop = result["open_loop"]
    if loop:
        lines += ["", f"Open loop through a rollout: {loop_line(loop)}"]
    return "\n".join(lines) + "\n"


def loop_line(loop: Mapping[str, Any]) -> str:
    """The open loop in a sentence."""
    if not loop.get("rate"):
        return f"no rate held ({loop.get('error', 'see the tries')})"
    cores = ", ".join(f"{name} {value:.2f}" for name, value in loop["cores"].items())
    return (
        f"{loop['rate']:,} requests/s with p95 {loop['p95_ms']} ms, {loop['failed']} failed, "
        f"{loop['rollouts']} rollouts, {loop['workers']} worker(s); cores: {cores}."
    )


def plot(result: Mapping[str, Any]) -> str:
    """Server CPU a request of each contestant as SVG bars on a logarithmic scale."""
    rows = [(name, row) for name, row in result["contestants"].items() if row.get("cpu_us")]
    high = max((row["cpu_us"] for _, row in rows), default=10.0)
    decades = max(1, math.ceil(math.log10(high)))

    def x(value: float) -> float:
        return _LEFT + _WIDTH * max(0.0, math.log10(max(value, 1.0))) / decades

    height = _TOP + _LINE * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 170}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="22" font-size="15">CPU of the server per request, microseconds '
        "(logarithmic; store and load generator not included)</text>",
    ]
    for decade in range(decades + 1):
        at = x(10**decade)
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{height - 30}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 12}" text-anchor="middle">{10**decade:,}</text>')
    for place, (name, row) in enumerate(rows):
        y = _TOP + place * _LINE
        colour = _OURS if name.startswith("interlock") else _FLOOR if name.startswith("floor") else _PEER
        end = x(row["cpu_us"])
        label = f"{row['cpu_us']:,.0f} µs · {row['rps']:,.0f}/s"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="18" fill="{colour}"/>')
        parts.append(f'<text x="{end + 6:.1f}" y="{y + 13}">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """serving.json, serving.md and serving.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "serving.md").write_text(table(result))
    (folder / "serving.svg").write_text(plot(result))
