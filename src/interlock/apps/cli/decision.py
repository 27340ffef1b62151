"""`interlock decision show | prove | recompute ID`: one decision, read, proven and computed again.

Exit codes: 0 it holds, 1 it does not (damaged, contradicted, not equal), 2 no such decision,
3 not enough at hand to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, Output, emit, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

Id = Annotated[str, typer.Argument(metavar="ID", help="The decision_id of a reply.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="One decision: what was recorded, its proof, and its recomputation.", no_args_is_help=True)
    noun.command()(show)
    noun.command()(prove)
    noun.command()(recompute)
    app.add_typer(noun, name="decision")


def show(decision: Id, output: Output = "table") -> None:
    """Show what was recorded about a decision (tokens, never card numbers)."""
    from interlock import settings
    from interlock.apps.views import decision as view
    from interlock.wiring import auditor

    current = settings.load()
    archive = auditor.archive(current)
    emit(output, view.show(decision, archive, auditor.feature_names(current, archive, decision)))


def prove(decision: Id, output: Output = "table") -> None:
    """Prove a decision: segment, log, admission with its signatures, bundle, lineage."""
    from interlock import settings
    from interlock.apps.views import decision as view
    from interlock.governance import dossier
    from interlock.wiring import auditor

    data = view.prove(dossier.prove(decision, auditor.sources(settings.load())))
    _finish(output, data)


def recompute(decision: Id, output: Output = "table") -> None:
    """Compute a decision again from the past and compare it bit for bit."""
    from interlock import settings
    from interlock.apps.views import decision as view
    from interlock.governance.recompute import recompute_decision
    from interlock.wiring import auditor

    data = view.recompute(recompute_decision(decision, auditor.past(settings.load())))
    _finish(output, data)


def _finish(output: str, data: dict[str, Any]) -> None:
    emit(output, data, lambda: _table(data))
    codes = {"pass": EXIT_OK, "fail": EXIT_FAILED, "error": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
    raise typer.Exit(codes[data["verdict"]])


def _table(data: dict[str, Any]) -> RenderableType:
    return rows(("link", "verdict", ""), [(link["name"], link["verdict"], link["says"]) for link in data["links"]])
