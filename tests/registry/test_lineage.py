from pathlib import Path

import pytest
from tests.builders import tiny_bundle

from interlock.base.errors import IntegrityError
from interlock.registry.lineage import lineage_of


def test_the_bundle_s_origin_is_read(tmp_path: Path) -> None:
    found = lineage_of(tiny_bundle(tmp_path, lineage={"trained_by": "ada", "ticket": "RISK-1", "metrics": {"x": 1}}))
    assert (found.trained_by, found.ticket, found.run_id, found.parent) == ("ada", "RISK-1", "test-run", None)


@pytest.mark.parametrize("broken", [{"trained_by": None}, {"dataset": ""}, {"run_id": 7}, {"commit": ["x"]}])
def test_an_origin_that_is_missing_or_no_text_is_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match=next(iter(broken))):
        lineage_of(tiny_bundle(tmp_path, lineage=broken))
