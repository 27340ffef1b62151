"""Where published test vectors lie: our own, committed, and those beside the checkout when there are any."""

from __future__ import annotations

import os
from pathlib import Path

OWN = Path(__file__).parent / "vectors"


def folders() -> list[Path]:
    """Folders that may hold `merkle_cases.json` and `tessera_log`; our own comes first and always exists."""
    beside = Path(os.environ.get("INTERLOCK_SHARED", Path(__file__).parents[3] / "shared"))
    return [OWN, *(place for place in [beside / "data" / "tlog"] if place.is_dir())]
