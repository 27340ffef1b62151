"""`interlock rollout list`, `show`; what people do to a rollout is in `rollout_actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli import experiment, rollout_actions
from interlock.apps.cli.output import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_ROLLED_BACK, Output, emit, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXITS = {"rolled_back": EXIT_ROLLED_BACK, "refused": EXIT_FAILED, "unfinished": EXIT_INCONCLUSIVE}
_GLYPHS = {"settled": "✔", "rolled_back": "✖", "refused": "✖", "superseded": "↷", "unfinished": "●"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Watch rollouts, stop them, let them go on, and go back.", rich_markup_mode=None
    )
    group.command("list")(listing)
    group.command()(show)
    rollout_actions.add_to(group)
    group.command()(experiment.outcomes)
    app.add_typer(group, name="rollout")


def listing(output: Output = "table") -> None:
    """All rollouts, the oldest first."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient

    with ControlClient.open(settings.load()) as client:
        found = client.rollouts()

    def table() -> RenderableType:
        body = [
            (f"{_GLYPHS.get(r['outcome'], '●')} {r['state']}", r["service"], r["version"], r["reason"], r["id"])
            for r in found
        ]
        return rows(("state", "service", "version", "reason", "id"), body)

    emit(output, {"rollouts": found}, table)


def show(
    rollout_id: Annotated[str, typer.Argument(metavar="[ID]", help="A rollout's id, or its beginning.")] = "last",
    output: Output = "table",
) -> None:
    """The story of one rollout: states, looks, evidence, times. Exit code 4: it was rolled back."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient

    with ControlClient.open(settings.load()) as client:
        told = client.rollout(rollout_id)
    emit(output, told, lambda: _story(told))
    raise SystemExit(_EXITS.get(told["outcome"], 0))


def _story(told: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    glyph = _GLYPHS.get(told["outcome"], "●")
    title = f"{glyph} {told['service']} {told['version']} {told['outcome'].replace('_', ' ')}"
    if told["reason"]:
        title += f": {told['reason']}" + (f" (caught in {told['caught_in']})" if told["caught_in"] else "")
    states = rows(
        ("at", "state", "share", "reason"),
        [(s["at"], s["state"], f"{s['share']:.0%}", s["reason"]) for s in told["states"]],
    )
    parts: list[RenderableType] = [Text(title, style="bold"), states]
    if told["looks"]:
        parts += [Text("last look, evidence against its bound"), _evidence(told["looks"][-1])]
    parts.append(Text(_times(told)))
    return Group(*parts)


def _evidence(look: dict[str, Any]) -> RenderableType:
    body = [
        (
            g["guard"],
            g["verdict"],
            f"{g['log_e']:.2f} / {g['bound']:.2f}",
            g["candidate"],
            g["champion"],
            g["dispersion"],
        )
        for g in look["guards"]
    ]
    return rows(("guard", "verdict", "log E / log 1/α", "candidate", "champion", "φ"), body)


def _times(told: dict[str, Any]) -> str:
    words = []
    if told["start_to_majority_s"] is not None:
        words.append(f"majority {told['start_to_majority_s']:.1f} s after the start")
    if told["breach_to_champion_s"] is not None:
        words.append(f"champion back {told['breach_to_champion_s']:.2f} s after the breach")
    if told["reverted"]:
        words.append(f"inverse commit {told['reverted']}")
    return "; ".join(words) or "no traffic was moved"
