"""`interlock rollout outcomes`: what each variant of a rollout decided, by segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import Output, emit, rows

if TYPE_CHECKING:
    from rich.console import RenderableType


def outcomes(
    rollout_id: Annotated[str, typer.Argument(metavar="[ID]", help="A rollout's id, or its beginning.")] = "last",
    by: Annotated[str, typer.Option(help="Segments: all, country, mcc, mcc_group, currency or decision.")] = "all",
    output: Output = "table",
) -> None:
    """What candidate and champion decided while they shared the traffic, counted from the recorded decisions."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient
    from interlock.apps.views import experiment, rollout
    from interlock.wiring import auditor

    current = settings.load()
    with ControlClient.open(current) as client:
        events = client.events(types=rollout.TYPES)
    found = experiment.outcomes(events, auditor.archive(current), rollout_id, by)
    emit(output, found, lambda: _table(found["variants"]))


def _table(variants: list[dict[str, Any]]) -> RenderableType:
    body = [
        (
            each["segment"],
            each["arm"],
            each["requests"],
            each["cards"],
            f"{each['flag_rate']:.2%} ({each['flag_rate_low']:.2%} to {each['flag_rate_high']:.2%})",
            _sums(each["amounts"]),
            _sums(each["approved_amounts"]),
        )
        for each in variants
    ]
    return rows(("segment", "arm", "requests", "cards", "flagged", "amount", "approved"), body)


def _sums(amounts: dict[str, int]) -> str:
    return ", ".join(f"{minor:,} {currency}" for currency, minor in sorted(amounts.items()))
