"""`interlock score IN OUT`: a batch of transactions, with the scorer's own vectors, scores and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from interlock.apps.cli.output import Output, emit, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(  # long: the options of one command
    source: Annotated[str, typer.Argument(metavar="IN", help="Parquet: a file, a folder, or a URI.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="A file that ends in .parquet, or a folder.")],
    service: Annotated[str | None, typer.Option(help="Score with what serves, such as fraud.")] = None,
    bundle: Annotated[str | None, typer.Option(help="Score with this bundle, sha256:….")] = None,
    history: Annotated[
        str | None, typer.Option(help="Velocities start from this snapshot: a digest, TABLE or TABLE:VERSION.")
    ] = None,
    mode: Annotated[
        Literal["auto", "raw", "vectors"], typer.Option(help="What the rows are: transactions, or ready vectors.")
    ] = "auto",
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    with_vectors: Annotated[bool, typer.Option("--with-vectors", help="Put the vector beside the score.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if one row breaks a rule.")] = False,
    unadmitted_research: Annotated[
        bool, typer.Option("--unadmitted-research", help="Take a bundle without an admission; the output says so.")
    ] = False,
    output: Output = "table",
) -> None:
    """Score transactions in bulk: the vectors, scores and decisions of the scorer, bit for bit.

    Rows that break a rule of the protocol go to OUT's .rejects.parquet with the reason. A run that
    stopped goes on when it is run again. The clock of a transaction is its event_time.
    """
    import getpass
    import os

    from interlock import settings
    from interlock.apps.job.score import Request
    from interlock.apps.job.score import score as run
    from interlock.base.clock import SystemClock

    request = Request(
        source=source,
        target=target,
        service=service,
        bundle=bundle,
        history=history,
        workers=workers or os.cpu_count() or 1,
        mode=mode,
        strict=strict,
        with_vectors=with_vectors,
        research=unadmitted_research,
        user=getpass.getuser(),
    )
    with _progress() as report:
        found = run(settings.load(), request, SystemClock(), report)
    hidden = () if output == "json" else ("key", "outputs", "rejects", "event_recorded", "unadmitted_research")
    emit(output, {name: value for name, value in found.items() if name not in hidden})
    if found["rejected"]:
        note(f"{found['rejected']} rows break a rule of the protocol: see the .rejects.parquet beside the output")
    if found["unadmitted_research"]:
        note("this bundle is not admitted: the output says so, and is for research alone")
    if not found["event_recorded"]:
        note("the events table could not be reached: only the manifest beside the output tells of this batch")


def _progress() -> Any:
    """Progress on stderr: a bar for people, a line per step for logs."""
    import contextlib

    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)

    @contextlib.contextmanager
    def bars() -> Iterator[Callable[[str, int, int], None]]:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
            tasks: dict[str, Any] = {}

            def report(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = shown.add_task(step, total=total)
                shown.update(tasks[step], completed=done)
                if not console.is_terminal and done == total:
                    note(f"score: {step} {done}/{total}")

            yield report

    return bars()
