"""`interlock decision show | prove | recompute | explain ID`: one decision, read, proven, computed again.

Exit codes: 0 it holds, 1 it does not (damaged, contradicted, not equal), 2 no such decision,
3 not enough at hand to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, Output, emit, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

_TOP = 10
"""Contributions in the table; `--output json` has all of them."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The decision_id of a reply.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(
        help="One decision: its record, its proof, its recomputation, its reasons.", no_args_is_help=True
    )
    noun.command()(show)
    noun.command()(prove)
    noun.command()(recompute)
    noun.command()(explain)
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


def explain(decision: Id, output: Output = "table") -> None:
    """Say why: what each feature added to the score, and the reason codes (recorded in the audit log)."""
    import contextlib
    import getpass

    from interlock import settings
    from interlock.apps.job import explain as job

    current = settings.load()
    with contextlib.closing(job.Journal(current)) as journal:
        data = job.assemble(current, journal).decision(decision, getpass.getuser())
    emit(output, data, lambda: _explained(data))


def _explained(data: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from interlock.apps.cli.output import lines

    top = [each for each in data["contributions"] if each["contribution"]][:_TOP]
    said = {name: value for name, value in data.items() if name not in ("contributions", "reasons")}
    reasons = data["reasons"] or []
    return Group(
        lines(said),
        rows(("reason", "", "log-odds"), [(each["code"], each["text"], _odds(each)) for each in reasons]),
        rows(("feature", "value", "log-odds"), [(each["feature"], each["value"], _odds(each)) for each in top]),
    )


def _odds(row: dict[str, Any]) -> str:
    return f"{row['contribution']:+.4f}"


def _finish(output: str, data: dict[str, Any]) -> None:
    emit(output, data, lambda: _table(data))
    codes = {"pass": EXIT_OK, "fail": EXIT_FAILED, "error": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
    raise typer.Exit(codes[data["verdict"]])


def _table(data: dict[str, Any]) -> RenderableType:
    return rows(("link", "verdict", ""), [(link["name"], link["verdict"], link["says"]) for link in data["links"]])
