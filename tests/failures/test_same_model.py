"""A/A: the arms of a real scorer are fair, so a release that changes nothing settles."""

from __future__ import annotations

from pathlib import Path

from tests.failures.deployment import deployment
from tests.failures.load import Load

POLICY = "{shadow: 2s}, {weight: 10, for: 2s}, {weight: 50, for: 3s}"
TREES = 100


def test_three_releases_of_the_same_model_settle_and_fail_nobody(tmp_path: Path) -> None:
    with deployment(tmp_path) as made:
        url = made.serve()
        made.control()
        made.release("1.0.0", trees=TREES)
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        with Load(url, rate=200) as load:
            for version in ("1.1.0", "1.2.0", "1.3.0"):
                made.release(version, policy=POLICY, watch="2s", trees=TREES)
                told = made.until(lambda name=version: made.ended(name), f"{version} ends")  # type: ignore[misc]
                assert (told["outcome"], told["reason"]) == ("settled", None), told
                met = {look["generation"]: look["requests"] for look in told["looks"]}
                assert sum(each["candidate"] for each in met.values()) > 200, "the arms were compared on traffic"
                assert told["looks"][-1]["requests"]["champion"] > 0
        assert load.failures == []
        assert set(load.answers) >= {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}
