"""Write `docs/reference/` from the code, and check every link of the documentation.

`make docs` runs it; `tests/test_docs.py` compares what is committed with what it would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from interlock import settings
from interlock.apps.cli import main
from interlock.rollout.states import FINAL, TABLE, TRYING, State
from interlock.serving import metrics

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
STATISTICS = ROOT / "bench" / "results" / "statistics.json"
STATISTICS_PICTURE = "../../bench/results/statistics.svg"
PAGES = ("*.md", "docs/**/*.md")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOTE = "<!-- Written by `make docs`; change the code, not this page. -->\n"


def commands(app: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the application as its words, groups before their commands."""
    yield path
    for command in app.registered_commands:
        if command.callback and not command.hidden:
            yield (*path, command.name or command.callback.__name__.replace("_", "-"))
    for group in app.registered_groups:
        if group.typer_instance is not None and group.name:
            yield from commands(group.typer_instance, (*path, group.name))


def cli_page() -> str:
    """`--help` of every command."""
    app = main.build()
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    parts = ["# Command line\n", _NOTE]
    for path in commands(app):
        shown = runner.invoke(app, [*path, "--help"], prog_name="interlock")
        if shown.exit_code != 0:
            raise SystemExit(f"interlock {' '.join(path)} --help ended with {shown.exit_code}")
        text = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        parts.append(f"## `{' '.join(('interlock', *path))}`\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def settings_page() -> str:
    """Every setting with its type and default."""
    parts = [
        "# Settings\n",
        _NOTE,
        "`<home>/settings.yaml` holds one mapping per group; `INTERLOCK_<GROUP>_<FIELD>` in the environment wins.",
        "The meaning of each field, its unit and that of None stand beside it in the room's `options.py`.\n",
        "| group | field | type | default |\n|---|---|---|---|",
    ]
    for group, field, kind, value in settings.describe():
        shown = kind.replace("|", "\\|")
        parts.append(f"| {group} | {field} | `{shown}` | {value} |")
    return "\n".join(parts) + "\n"


def metrics_page() -> str:
    """Every metric of the scorer with its kind and labels."""
    parts = [
        "# Metrics\n",
        _NOTE,
        "`GET /metrics` of any worker tells of all workers of its supervisor, those that have ended included.",
        "`{service}` stands for the service's name, with `_` for `-`: `fraud_prediction_requests_total`.\n",
        "| metric | kind | labels | meaning |\n|---|---|---|---|",
    ]
    parts += [
        f"| `{name}` | {kind} | {', '.join(labels) or '–'} | {text} |" for name, kind, labels, text in metrics.FAMILIES
    ]
    return "\n".join(parts) + "\n"


def states_page() -> str:
    """The table of a rollout's states as a diagram and as rows."""
    parts = [
        "# States of a rollout\n",
        _NOTE,
        "An event that a state's row does not list raises, and changes nothing. What each state means for people is in",
        "the [guide](../guide/rollouts.md).\n",
        "```mermaid",
        "stateDiagram-v2",
        "  direction LR",
        f"  [*] --> {State.PROPOSED.value}",
    ]
    for state, row in TABLE.items():
        for target in dict.fromkeys(row.values()):
            events = ", ".join(event for event, to in row.items() if to is target)
            parts.append(f"  {state.value} --> {target.value}: {events}")
    parts += [f"  {state.value} --> [*]" for state in State if state in FINAL]
    parts += ["```\n", "| state | kind | events |\n|---|---|---|"]
    for state, row in TABLE.items():
        kind = "final" if state in FINAL else "guards are judged" if state in TRYING else "–"
        listed = ", ".join(f"`{event}` → {to.value}" for event, to in row.items()) or "–"
        parts.append(f"| {state.value} | {kind} | {listed} |")
    return "\n".join(parts) + "\n"


def statistics_page() -> str:
    """What the guards achieved in the stored simulation, beside the targets."""
    result = json.loads(STATISTICS.read_text("utf-8"))
    parts = [
        "# Guards by simulation\n",
        _NOTE,
        f"From `bench/results/statistics.json` (`make bench-statistics`; seed {result['seed']}, looks every "
        f"{result['look_s']} s, {result['scale']:g} of the full number of runs). {result['met']} of {result['of']} "
        "targets of the product were met. What the figures mean is in the [guide](../guide/statistics.md).\n",
        f"![]({STATISTICS_PICTURE})\n",
    ]
    titles = {
        "product": "What the product does",
        "contrast": "What others do on the same traffic",
        "variant": "What something costs or would gain: not the product",
    }
    for kind, title in titles.items():
        parts.append(
            f"## {title}\n\n| scenario | target | achieved | 95 % interval | runs | met |\n|---|---|---|---|---|---|"
        )
        parts += [_statistics_row(row) for row in result["rows"] if row["of"] == kind]
        parts.append("")
    return "\n".join(parts)


def _statistics_row(row: dict[str, Any]) -> str:
    achieved, interval = "not seen", "–"
    if "interval" in row:
        interval = "{:.2f} to {:.2f} %".format(*(100 * limit for limit in row["interval"]))
    if row["achieved"] is not None:
        achieved = f"{100 * row['achieved']:.2f} %" if "interval" in row else f"{row['achieved']:g} s"
    met = "yes" if row["met"] else "**no**"
    return f"| {row['name']} | {row['target']} | {achieved} | {interval} | {row['runs']} | {met} |"


def reference() -> dict[str, str]:
    """What the generated pages should hold, by file name."""
    return {
        "cli.md": cli_page(),
        "metrics.md": metrics_page(),
        "settings.md": settings_page(),
        "states.md": states_page(),
        "statistics.md": statistics_page(),
    }


def dead_links() -> list[str]:
    """Links to files of this repository that do not exist."""
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    return [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in _LINK.findall(page.read_text("utf-8"))
        if "://" not in target and not target.startswith("#") and not (page.parent / target.split("#")[0]).exists()
    ]


def write() -> int:
    """Write the pages; 1 when a link is dead."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in reference().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    found = dead_links()
    sys.stderr.write("".join(f"dead link: {each}\n" for each in found))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(write())
