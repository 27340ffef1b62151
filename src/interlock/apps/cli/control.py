"""`interlock control`: the control process in the foreground."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(control)


def control() -> None:
    """Follow the release repository and carry out rollouts, until told to stop."""
    from interlock import settings
    from interlock.apps.control.process import run
    from interlock.privacy.redact import configure_logging, install_exception_hooks

    configure_logging("control")
    install_exception_hooks()
    run(settings.load())
