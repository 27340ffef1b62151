"""What every test shares: reproducible Hypothesis runs, and the markers of its set.

`process`: it starts processes or services. `unit`: it is pure and lies in the folder of a room.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy two-core machine must not turn a property red; `derandomize` keeps a red one red.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

PROCESS_FOLDERS = frozenset({"contracts", "failures", "journeys", "services"})
"""Whole folders whose tests start processes; elsewhere the marker stands on the test."""

_ROOT = Path(__file__).parent
_ROOMS = _ROOT.parent / "src" / "interlock"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folders = item.path.relative_to(_ROOT).parts[:-1] if item.path.is_relative_to(_ROOT) else ()
        if PROCESS_FOLDERS.intersection(folders):
            item.add_marker(pytest.mark.process)
        elif folders and (_ROOMS / folders[0]).is_dir() and item.get_closest_marker("process") is None:
            item.add_marker(pytest.mark.unit)


# No test reads or writes the developer's own installation.
os.environ.pop("INTERLOCK_HOME", None)
