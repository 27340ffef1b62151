"""One scorer with small limits for the whole folder: its tests only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.scoring import Scorer, scorer

LIMITS = {
    "max_header_bytes": 4_096,
    "max_headers": 20,
    "max_body_bytes": 20_000,
    "max_instances": 4,
    "max_pipeline": 8,
    "header_timeout_s": 1.5,  # sixty sends of one byte must fit on a busy machine
    "body_timeout_s": 0.5,
    "idle_timeout_s": 3.0,
}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    with scorer(tmp_path_factory.mktemp("protocol"), **LIMITS) as made:
        made.serve()
        yield made
