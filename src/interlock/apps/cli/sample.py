"""`interlock sample take FILE`, `interlock sample replay FILE`: production's traffic for staging, tokenised anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit, hint


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True,
        help="A replay sample of recorded traffic, without production's tokens.",
        rich_markup_mode=None,
    )
    group.command()(take)
    group.command()(replay)
    app.add_typer(group, name="sample")


def take(  # long: the options of one command
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write: .parquet, or JSON lines.")],
    service: Annotated[str, typer.Option(help="The service that was called.")] = "fraud",
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339; a day before --to if not given.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339, excluded; now if not given.")] = None,
    rate: Annotated[float, typer.Option(help="Share of the cards; a chosen card's history is whole.")] = 0.01,
    limit: Annotated[int, typer.Option(help="Transactions at most; cards are left out as wholes.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Equal seeds choose equal cards.")] = 0,
    output: Output = "table",
) -> None:
    """Take a sample of this home's recorded transactions for another environment; recorded in the audit log.

    Card, terminal, device, address and transaction id are tokenised under a key that is thrown away.
    Amounts, codes and times stay: treat the file as pseudonymous data.
    """
    import contextlib
    import getpass

    from interlock import settings
    from interlock.apps.job import sample
    from interlock.apps.job.explain import Journal
    from interlock.base.clock import NS_PER_S, SystemClock
    from interlock.decision.sample import Choice
    from interlock.wiring import auditor

    current, clock = settings.load(), SystemClock()
    to_ns = clock.now_ns() if until is None else _instant(until)
    from_ns = to_ns - 86_400 * NS_PER_S if since is None else _instant(since)
    choice = Choice(service, from_ns, to_ns, rate, limit, seed)
    with contextlib.closing(Journal(current)) as journal:
        found = sample.take(auditor.archive(current), choice, file, journal.append, clock, getpass.getuser())
    emit(output, {"file": str(file), **found})
    hint(f"copy both files to staging, then `interlock sample replay {file}` there")


def replay(  # long: the options of one command
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sample, its manifest beside it.")],
    host: Annotated[str, typer.Option(help="Address of the scorer.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its HTTP port.")] = 8080,
    service: Annotated[str, typer.Option(help="The service to call.")] = "fraud",
    tps: Annotated[float, typer.Option(help="Transactions a second.")] = 100.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; at the end if not given.")] = None,
    output: Output = "table",
) -> None:
    """Send a sample to a scorer at a constant rate, as if it happened now; cards get numbers that no issuer has.

    Exit code 1: a request failed.
    """
    import asyncio

    from interlock.apps.demo.traffic import Traffic, TrafficOptions
    from interlock.apps.job import sample
    from interlock.base.clock import SystemClock
    from interlock.base.errors import UsageError

    if not 0 < tps <= 100_000:
        raise UsageError("not a rate", "give transactions a second, above 0")
    clock = SystemClock()
    stream = sample.requests(sample.read(file), clock.now_ns())
    options = TrafficOptions(host=host, port=port, service=service, rate=tps, seconds=seconds)
    tally = asyncio.run(Traffic(options, stream, clock).run())
    emit(output, {"sent": tally.sent, "answered": tally.answered, "failed": tally.failed})
    if tally.failed:
        raise SystemExit(EXIT_FAILED)


def _instant(text: str) -> int:
    from datetime import datetime

    from interlock.base.clock import NS_PER_S
    from interlock.base.errors import UsageError

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError("not an RFC 3339 time", "write 2026-11-27T00:00:00Z") from error
    if found.tzinfo is None:
        raise UsageError("a time without its offset", "write 2026-11-27T00:00:00Z")
    return round(found.timestamp()) * NS_PER_S
