"""`interlock conformance URL`: does a server speak the Open Inference Protocol? Any server, not ours alone.

Exit codes: 0 nothing failed, 1 a case failed or broke, 2 usage, 3 unreachable or nothing could be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, Output, emit, note, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXITS = {"pass": EXIT_OK, "fail": EXIT_FAILED, "error": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("conformance")
    def conformance(
        url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://127.0.0.1:8080.")],
        grpc: Annotated[str, typer.Option("--grpc", metavar="HOST:PORT", help="Its gRPC port, if it has one.")] = "",
        model: Annotated[str, typer.Option("--model", help="The model; the first that is listed if not given.")] = "",
        version: Annotated[str, typer.Option("--version", help="A version; the first listed if not given.")] = "",
        only: Annotated[
            str, typer.Option("--only", metavar="GROUPS", help="v1,v2,http,binary,grpc,repository; all if not given.")
        ] = "",
        example: Annotated[
            Path | None,
            typer.Option("--example", metavar="FILE", help='Valid inputs: {"inputs": […], "instances": […]}.'),
        ] = None,
        header: Annotated[
            list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="Sent with each; may repeat.")
        ] = None,
        with_repository: Annotated[
            bool, typer.Option("--with-repository", help="Also load and unload the model: it stops answering.")
        ] = False,
        wait: Annotated[float, typer.Option("--wait", min=0.1, help="Seconds to wait for one reply.")] = 10.0,
        output: Output = "table",
    ) -> None:
        """Judge a server against the Open Inference Protocol: V1, V2 in JSON and binary, gRPC, repository."""
        import asyncio

        from interlock.apps.conformance import run as suite
        from interlock.apps.conformance.connection import Door
        from interlock.apps.conformance.discovery import example as read_example
        from interlock.apps.conformance.rpc import RpcDoor
        from interlock.apps.conformance.suite import chosen

        door = Door.at(url, header or (), wait)
        plan = suite.Plan(
            door=door,
            rpc=RpcDoor.at(grpc, door.headers, wait) if grpc else None,
            model=model,
            version=version,
            example=read_example(example),
            cases=chosen(only.split(",")),
            with_repository=with_repository,
        )
        found = asyncio.run(suite.conform(url, plan))
        emit(output, found, lambda: _table(found["cases"]))
        note("{passed} passed, {failed} failed, {inconclusive} inconclusive, {errors} errors".format(**found))
        raise typer.Exit(_EXITS[found["verdict"]])


def _table(cases: Sequence[dict[str, Any]]) -> RenderableType:
    return rows(
        ("case", "verdict", "sends", "must hold", "why not"),
        [[each["id"], each["verdict"], each["sends"], each["holds"], each["why"]] for each in cases],
    )
