"""`interlock serve`: the scorer of this home, in the foreground."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve() -> None:
    """Run the scorer: a supervisor and its workers. SIGTERM drains. `interlock up` runs everything."""
    from interlock.apps.scorer.supervisor import serve as run
    from interlock.settings import load

    run(load())
