"""`interlock rollout list`, `show`, `replay`; what people do to a rollout is in `rollout_actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interlock.apps.cli import experiment, rollout_actions, rollout_story
from interlock.apps.cli.output import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_ROLLED_BACK, Output, emit, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXITS = {"rolled_back": EXIT_ROLLED_BACK, "refused": EXIT_FAILED, "unfinished": EXIT_INCONCLUSIVE}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Watch rollouts, stop them, let them go on, and go back.", rich_markup_mode=None
    )
    group.command("list")(listing)
    group.command()(show)
    group.command()(replay)
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
            (
                f"{rollout_story.GLYPHS.get(r['outcome'], '●')} {r['state']}",
                r["service"],
                r["version"],
                r["reason"],
                r["id"],
            )
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
    emit(output, told, lambda: rollout_story.story(told))
    raise SystemExit(_EXITS.get(told["outcome"], 0))


def replay(
    rollout_id: Annotated[str, typer.Argument(metavar="[ID]", help="A rollout's id, or its beginning.")] = "last",
    output: Output = "table",
) -> None:
    """Recompute every step and verdict of a rollout from its events. Exit code 1: something differs."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient
    from interlock.apps.views import rollout as view
    from interlock.rollout import replay as replaying

    with ControlClient.open(settings.load()) as client:
        events = client.events(types=view.REPLAYED)
    told = replaying.replay(events, view.find(events, rollout_id).id)
    emit(output, told, lambda: rollout_story.replayed(told))
    raise SystemExit(0 if told["agrees"] else EXIT_FAILED)
