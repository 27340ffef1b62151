"""`interlock simulate POLICY`: what a rollout policy does on synthetic or recorded traffic, before it meets any.

Exit codes: 0 it was simulated, 2 usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import Output, emit, note, rows
from interlock.base.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from interlock.rollout.plan import Plan
    from interlock.rollout.recorded import Recording

NAMES = {"flags": "flagged", "nulls": "nulls", "errors": "errors", "misses": "misses", "latency": "latency"}


def register(app: typer.Typer) -> None:  # long: the options are a table
    """Add the command."""

    @app.command("simulate")
    def simulate(  # long: the options are a table
        policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A rollout.yaml.", show_default=False)],
        harm: Annotated[
            list[str] | None,
            typer.Option("--harm", metavar="WHAT=RATIO", help="flags=2, errors=5, latency=1.2 (its p95); may repeat."),
        ] = None,
        tps: Annotated[float, typer.Option("--tps", min=0.1, help="Requests a second.")] = 1_000.0,
        cards: Annotated[int, typer.Option("--cards", min=0, help="Cards; 0: none differs from another.")] = 100_000,
        base_rate: Annotated[
            float, typer.Option("--base-rate", min=0.0, max=0.5, help="Share that the champion flags.")
        ] = 0.005,
        burst: Annotated[
            float, typer.Option("--burst", min=0.0, help="Variance of a tenth's rates in bursts; 0: none.")
        ] = 0.0,
        burst_seconds: Annotated[float, typer.Option("--burst-seconds", min=1.0, help="How long one lasts.")] = 5.0,
        recorded: Annotated[
            Path | None,
            typer.Option("--recorded", metavar="SEGMENTS", help="A home's segments folder instead of synthetic cards."),
        ] = None,
        service: Annotated[str, typer.Option("--service", help="Whose recorded decisions; all if not given.")] = "",
        advance: Annotated[
            str, typer.Option("--advance", help="timeline or evidence, where the policy leaves it to the tier.")
        ] = "evidence",
        runs: Annotated[int, typer.Option("--runs", min=1, help="Rollouts to play, and as many with harm.")] = 200,
        seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same figures.")] = 1,
        minutes: Annotated[float, typer.Option("--minutes", min=0.0, help="Longest play; 0: the policy's own.")] = 0.0,
        processes: Annotated[int, typer.Option("--processes", min=1, help="That share the work.")] = 2,
        plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Also draw it.")] = None,
        output: Output = "table",
    ) -> None:
        """Play a rollout policy: false rollbacks, detection time and power, before it meets real traffic."""
        from interlock.apps.views import simulation as view
        from interlock.rollout.simulate import Setting, limit_seconds, look_seconds
        from interlock.rollout.streams import BASE, Traffic

        if plot is not None and plot.suffix != ".svg":
            raise UsageError(f"{plot.name} is no .svg file", "name a file that ends in .svg: that is what is drawn")
        plan = _plan(policy, advance)
        traffic = Traffic(
            tps=tps,
            cards=cards,
            base={**BASE, "flagged": base_rate},
            harm=_harm(harm or []),
            burst_var=burst,
            burst_s=burst_seconds,
        )
        limit = minutes * 60 or limit_seconds(plan)
        setting = Setting(plan, traffic, _recording(recorded, service), seed, look_seconds(plan), limit)
        found = view.simulate(setting, runs, processes, _progress())
        if plot is not None:
            plot.write_text(view.picture(found), "utf-8")
            note(f"drawn in {plot}")
        for what in found["left_out"]:
            note(f"not simulated: {what}")
        emit(output, found, lambda: _table(found))


def _plan(path: Path, advance: str) -> Plan:
    import msgspec

    from interlock.rollout.policy import ADVANCES, parse_policy

    if advance not in ADVANCES:
        raise UsageError(f"advance {advance} is unknown", f"use one of: {', '.join(ADVANCES)}")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text", "name a rollout.yaml") from error
    plan = parse_policy(text, path.name)
    return plan if plan.advance else msgspec.structs.replace(plan, advance=advance)


def _harm(given: list[str]) -> dict[str, float]:
    found = {}
    for each in given:
        name, _, ratio = each.partition("=")
        try:
            found[NAMES.get(name, name)] = float(ratio)
        except ValueError as error:
            raise UsageError(f"--harm {each} is not WHAT=RATIO", "write it as flags=2") from error
    return found


def _recording(folder: Path | None, service: str) -> Recording | None:
    from interlock.decision.archive import Archive
    from interlock.rollout.recorded import recording

    if folder is None:
        return None
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "name a home's segments folder")
    return recording(Archive(folder).records(), service)


def _progress() -> Any:
    import sys

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {total} rollouts played" + ("\n" if done == total else ""))
            sys.stderr.flush()

    return tell


def _table(found: dict[str, Any]) -> RenderableType:
    parts = [("nothing is wrong", "false_rollback", found["null"])]
    if found["harmed"] is not None:
        words = ", ".join(f"{name} x{ratio:g}" for name, ratio in found["harm"].items())
        parts.append((words, "power", found["harmed"]))
    columns = ["traffic", "rolled back", "95 % interval", "seen after s (p50, p95)", "settled", "held", "harmed p50"]
    body = [
        [
            words,
            f"{100 * part[share]:.1f} %",
            "{:.1f} to {:.1f} %".format(*(100 * limit for limit in part["interval"])),
            f"{_number(part['detected_s']['p50'])}, {_number(part['detected_s']['p95'])}",
            part["settled"],
            part["held"],
            _number(part["harmed"]["p50"]),
        ]
        for words, share, part in parts
    ]
    return rows(columns, body)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
