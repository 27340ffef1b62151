"""`interlock simulate-transactions`: a seeded file of card transactions to train and to try with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.apps.cli.output import Output, emit, hint


def register(app: typer.Typer) -> None:
    """Add the data commands."""
    app.command("simulate-transactions")(simulate_transactions)


def simulate_transactions(  # long: the options of one command
    file: Annotated[Path, typer.Argument(help="Where to write: a name ending in .parquet or .csv.")],
    cards: Annotated[int, typer.Option(help="Cards, one per customer.")] = 20_000,
    terminals: Annotated[int, typer.Option(help="Terminals.")] = 5_000,
    days: Annotated[int, typer.Option(help="Days of history.")] = 5,
    tx_per_card_day: Annotated[float, typer.Option(help="Mean transactions per card and day.")] = 1.9,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal transactions.")] = 7,
    output: Output = "table",
) -> None:
    """Simulate card transactions with three kinds of fraud, after the Fraud Detection Handbook.

    The card numbers are test numbers (Luhn-valid, test BINs); they go into the file alone.
    """
    import time
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import track

    from interlock.adapters.delta.transactions import write_transactions
    from interlock.base.clock import rfc3339
    from interlock.features.population import DAY_S, Columns, Population, PopulationSettings

    settings = PopulationSettings(
        cards=cards, terminals=terminals, days=days, tx_per_card_day=tx_per_card_day, seed=seed
    )
    started = time.monotonic()
    population = Population(settings)
    frauds = 0

    def parts() -> Iterator[Columns]:
        nonlocal frauds
        # One day at a time: memory stays that of a day.
        for number in track(range(days), description="days", console=Console(stderr=True), transient=True):
            day = population.day(number)
            frauds += int(day["label"].sum())
            yield day

    rows = write_transactions(file, parts())
    seconds = time.monotonic() - started
    found = {
        "file": str(file),
        "transactions": rows,
        "frauds": frauds,
        "fraud_rate": round(frauds / rows, 5) if rows else 0.0,
        "cards": cards,
        "terminals": terminals,
        "seed": seed,
        "from": rfc3339(settings.start_ns),
        "to": rfc3339(settings.start_ns + days * DAY_S * 1_000_000_000),
        "seconds": round(seconds, 2),
        "per_second": round(rows / seconds),
    }
    emit(output, found)
    hint("interlock train --help")
