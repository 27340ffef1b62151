"""`interlock train CONFIG`: from a snapshot to a registered model version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.apps.cli.output import Output, emit, hint


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    config: Annotated[Path, typer.Argument(help="What to train: a YAML file.", exists=True, dir_okay=False)],
    output: Output = "table",
) -> None:
    """Train, check, export and register a model version; a run that stopped goes on."""
    from rich.console import Console

    from interlock import settings
    from interlock.apps.job.train import train as run
    from interlock.base.clock import SystemClock

    messages = Console(stderr=True)
    with messages.status("starting") as status:

        def report(step: str) -> None:
            status.update(step)
            if not messages.is_terminal:
                messages.print(f"train: {step}", highlight=False)

        found = run(settings.load(), config, SystemClock(), report)
    figures = {name: round(value, 4) for name, value in found["metrics"].items()}
    shown = {name: found[name] for name in ("service", "version", "bundle", "dataset", "run_id")}
    emit(output, found if output == "json" else shown | figures)
    hint(f"interlock release propose {found['service']} {found['version']}")
