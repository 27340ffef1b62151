"""`interlock demo`: the whole story on this machine."""

from __future__ import annotations

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(output: Output = "table") -> None:
    """Train, approve, release under live traffic, catch two bad releases, prove a decision (<= 3 min).

    Runs in a home of its own (demo/home below INTERLOCK_HOME) and leaves demo/report.json. Exit code
    0 only if everything came out as promised.
    """
    from rich.console import Console

    from interlock import settings
    from interlock.apps.demo import story, view
    from interlock.base.clock import SystemClock

    console = Console(stderr=True)
    board, report, problems = story.run(settings.load().places.demo, SystemClock(), console)
    emit(output, report, lambda: view.final(board, report, problems))
    if output == "json":
        for problem in problems:  # the table says them itself
            console.print(f"not as promised: {problem}", highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise SystemExit(EXIT_FAILED)
