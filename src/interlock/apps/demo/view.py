"""The demo on the terminal: a live picture on a TTY, one line per event everywhere else.

The picture is drawn from the board alone. NO_COLOR and CI mean lines; the last picture stays.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from interlock.apps.demo.board import Board

_GLYPHS = {"done": "✔", "failed": "✖", "running": "●"}
_OUTCOMES = {"settled": "✔ settled", "rolled_back": "↩ rolled back", "refused": "✖ refused"}
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 48
_POLL_S = 0.2


def picture(board: Board) -> RenderableType:
    """The board as it stands."""
    with board.lock:
        parts: list[RenderableType] = [
            Text(f"interlock demo · {board.seconds:.0f} s", style="bold"),
            _scenes(board),
            Text(""),
            *_traffic(board.progress),
        ]
        if board.training:
            parts.append(Text(f"in the background (niced): {board.training}"))
        live = next((each for each in reversed(board.rollouts) if each["outcome"] == "unfinished"), None)
        if live is not None:
            parts.append(Text(f"rollout {live['version']}: {live['state']}, {live['share']:.0%} of the cards"))
        if board.rows:
            parts += [Text(""), releases(board.rows)]
        if board.commands:
            parts.append(Text(f"$ {board.commands[-1]}", style="dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def final(board: Board, report: Mapping[str, Any], problems: list[str]) -> RenderableType:
    """The last picture: the releases, the traffic, the proof."""
    requests, decision, audit = report["requests"], report["decision"], report["audit"]
    grid = Table.grid(padding=(0, 2))
    latency = (board.progress or {}).get("latency_ms", {})
    shown = ", ".join(f"{name} {latency[name]:.1f} ms" for name in ("p50", "p95", "p99") if latency.get(name))
    grid.add_row(
        "requests", f"{requests['sent']:,} sent, {requests['answered']:,} answered, {requests['failed']} failed"
    )
    grid.add_row("latency", shown or "–")
    grid.add_row(
        "audit log", f"{audit['entries']:,} entries, {'verified offline' if audit['verified'] else 'NOT VERIFIED'}"
    )
    grid.add_row("decision", str(decision["id"] or "–"))
    grid.add_row("", _decision(decision))
    grid.add_row("model", _model(report["training"]))
    words = [Text(f"✖ {problem}") for problem in problems] or [Text("✔ everything as promised", style="bold")]
    title = Text(f"interlock demo · {report['seconds']:.0f} s", style="bold")
    return Group(title, Text(""), releases(report["releases"]), grid, Text(""), *words)


def releases(rows: list[dict[str, Any]]) -> Table:
    """The releases, one a line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("release", "outcome", "caught in", "reason"):
        table.add_column(name, overflow="fold")
    for name in ("commit → majority", "breach → champion", "failed"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["version"]),
            _OUTCOMES.get(row["outcome"], row["outcome"]),
            row["caught_in"] or "–",
            row["reason"] or "–",
            _seconds(row["commit_to_majority_s"]),
            _seconds(row["breach_to_champion_s"]),
            str(row["failed_requests"]),
        )
    return table


def _scenes(board: Board) -> Table:
    grid = Table.grid(padding=(0, 2))
    now = board.clock.monotonic_ns()
    for scene in board.scenes:
        grid.add_row(_GLYPHS[scene.state], scene.title, f"{scene.seconds(now):.1f} s", Text(scene.note, style="dim"))
    return grid


def _traffic(progress: Mapping[str, Any] | None) -> list[RenderableType]:
    if progress is None:
        return [Text("no traffic yet: nothing serves")]
    whole = progress["seconds"][:-1] or progress["seconds"]
    rates = [row["answered"] for row in whole[-_SPARK:]]
    peak = max([*rates, 1])
    spark = "".join(_BARS[min(len(_BARS) - 1, rate * len(_BARS) // (peak + 1))] for rate in rates)
    recent = progress["recent"]
    total = sum(recent["versions"].values()) or 1
    split = " · ".join(f"{version} {count / total:.0%}" for version, count in sorted(recent["versions"].items()))
    p99 = recent["latency_ms"]["p99"]
    return [
        Text(f"traffic  {rates[-1] if rates else 0}/s  {spark}"),
        Text(f"         sent {progress['sent']:,}, failed {progress['failed']}, p99 {p99 or 0:.1f} ms   {split}"),
    ]


def _decision(decision: Mapping[str, Any]) -> str:
    words = (("proven", "proven"), ("vector_recomputed", "vector equal"), ("score_recomputed", "score equal"))
    return ", ".join(word if decision[name] else f"NOT {word}" for name, word in words)


def _model(training: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', '-').upper()} {value:.3f}" for name, value in training.items() if value)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


@contextmanager
def shown(board: Board, console: Console) -> Iterator[None]:
    """Show the board while the block runs."""
    if console.is_terminal and not os.environ.get("NO_COLOR") and not os.environ.get("CI"):
        with Live(get_renderable=lambda: picture(board), console=console, refresh_per_second=4, transient=True):
            yield
        return
    ended = threading.Event()
    lines = threading.Thread(target=_lines, args=(board, console, ended), daemon=True)
    lines.start()
    try:
        yield
    finally:
        ended.set()
        lines.join()


def _lines(board: Board, console: Console, ended: threading.Event) -> None:
    begun = 0
    closed: set[int] = set()
    rollout = ""
    while True:
        last = ended.wait(_POLL_S)
        with board.lock:
            scenes, live = list(board.scenes), board.rollouts[-1] if board.rollouts else None
        for scene in scenes[begun:]:
            console.print(f"{board.seconds:6.1f}  ● {scene.title}", highlight=False, markup=False, soft_wrap=True)
        begun = len(scenes)
        for number, scene in enumerate(scenes):
            if scene.state != "running" and number not in closed:
                closed.add(number)
                words = f"{_GLYPHS[scene.state]} {scene.title}: {scene.note or scene.state}"
                console.print(f"{board.seconds:6.1f}  {words}", highlight=False, markup=False, soft_wrap=True)
        if live is not None:
            now = f"{live['version']}: {live['state']}, {live['share']:.0%} of the cards"
            if now != rollout:
                rollout = now
                console.print(f"{board.seconds:6.1f}    {now}", highlight=False, markup=False, soft_wrap=True)
        if last:
            return
