"""`interlock model list | show`: which model is which."""

from __future__ import annotations

from typing import Annotated

import typer

from interlock.apps.cli.output import Output, emit, rows


def register(app: typer.Typer) -> None:
    """Add the noun."""
    noun = typer.Typer(help="Registered model versions.", no_args_is_help=True)
    noun.command("list")(list_models)
    noun.command("show")(show)
    app.add_typer(noun, name="model")


def list_models(output: Output = "table") -> None:
    """Every registered version."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient
    from interlock.apps.views import model as views
    from interlock.base.clock import rfc3339

    with ControlClient.open(settings.load()) as control:
        found = views.models(control.events(types=["model.registered", "model.retired"]))
    columns = ("service", "version", "purpose", "trained by", "registered", "bundle")
    emit(
        output,
        {"models": found},
        lambda: rows(
            columns,
            [
                (
                    m["service"],
                    m["version"],
                    m["purpose"],
                    m["trained_by"],
                    rfc3339(m["registered_ns"]),
                    m["bundle"][:19],
                )
                for m in found
            ],
        ),
    )


def show(
    service: Annotated[str, typer.Argument(help="Such as fraud.")],
    version: Annotated[str, typer.Argument(help="Such as 1.1.0.")],
    output: Output = "table",
) -> None:
    """One version: figures, thresholds, card, lineage; its files are verified."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient
    from interlock.apps.views import model as views
    from interlock.base.errors import UsageError
    from interlock.registry import bundle as bundles

    chosen = settings.load()
    with ControlClient.open(chosen) as control:
        found = views.models(control.events(types=["model.registered", "model.retired"]))
    row = views.find(found, service, version)
    if row is None:
        raise UsageError(f"{service} {version} is not registered", "see `interlock model list`")
    data = views.detail(row, bundles.read(chosen.places.bundles, row["bundle"]))
    if output == "json":
        emit(output, data)
        return
    metrics = data["metrics"]["test"] if data["metrics"] else {}
    plain = {
        name: row[name] for name in ("service", "version", "bundle", "dataset", "feature_set", "trained_by", "ticket")
    }
    cuts = {cut["decision"]: round(cut["at"], 6) for cut in data["thresholds"]}
    emit(output, plain | {name: round(value, 4) for name, value in metrics.items()} | cuts)
