"""Options that no worker could start with are refused by name before one tries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock import settings
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("otlp_url", "collector:4318"),
        ("otlp_url", ""),
        ("trace_ratio", 1.01),
        ("trace_ratio", -0.1),
        ("trace_queue", 0),
        ("score_cache", -1),
        ("cpu_hour_price", -0.01),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_its_name(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"scoring.*{field}"):
        settings.write(tmp_path, {"scoring": {field: value}})


def test_tracing_the_score_cache_and_costs_are_off_by_default() -> None:
    options = ServingOptions()
    assert (options.otlp_url, options.trace_ratio, options.score_cache, options.cpu_hour_price) == (None, 0.0, 0, None)
