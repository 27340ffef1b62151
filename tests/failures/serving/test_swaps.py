"""One version takes over from another (modes 12 and 13): nothing fails, and no score outlives its model."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from tests.failures.load import Load
from tests.failures.scorer_home import ScorerHome, scorer_home, until

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.canonical import digest_hex
from interlock.base.errors import InterlockError, RefusedError
from interlock.decision import segment
from interlock.decision.decide import decide
from interlock.decision.model import open_model
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, Arm
from interlock.registry import bundle as bundles

SWAPS = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerHome]:
    with scorer_home(tmp_path_factory.mktemp("home")) as made:
        made.settle()
        yield made


def champion_of(home: ScorerHome) -> Arm:
    """The only arm."""
    table = home.state().table
    assert table is not None
    (arm,) = table.arms
    return arm


def test_the_new_version_is_loaded_before_the_old_is_dropped_and_a_bad_one_disturbs_neither(home: ScorerHome) -> None:
    champion = champion_of(home)
    bad = home.admitted("1.2.0", "candidate", seed=5)
    path = home.places.bundles / digest_hex(bad.bundle) / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with Load(home.url, rate=150, anew=5) as load:
        load.flows()
        candidate = home.admitted("1.1.0", "candidate", seed=3)
        home.load(candidate)
        assert set(home.state().loaded) == {champion.bundle, candidate.bundle}
        with pytest.raises(InterlockError):
            home.load(bad)
        assert set(home.state().loaded) == {champion.bundle, candidate.bundle}
        load.flows()
        assert set(load.answers) == {"1.0.0"}, "loading gives nobody traffic"
        home.route(*weights(champion, candidate, BUCKETS), generation=2)
        with pytest.raises(RefusedError, match="still names it"):
            home.client.unload(candidate.bundle)
        home.route(champion, generation=3)
        home.client.unload(candidate.bundle)
        load.flows()
    assert load.failures == []
    assert home.state().loaded == [champion.bundle]


def test_after_every_swap_only_the_new_version_answers_and_every_score_is_its_own(home: ScorerHome) -> None:
    arms = [home.admitted(f"2.{number}.0", seed=number + 10) for number in range(2)]
    whole = [msgspec.structs.replace(arm, ranges=((0, BUCKETS),)) for arm in arms]
    generation = home.state().generation
    served = home.state().loaded
    with Load(home.url, rate=150, anew=5) as load:
        for number in range(SWAPS):
            arm = whole[number % 2]
            home.load(arm)
            home.route(arm, generation=generation + number + 1)
            assert home.versions(f"swap-{number}", 4) == {arm.version: 4}
            for old in served:
                home.client.unload(old)
            served = [arm.bundle]
        load.flows()
    assert load.failures == []
    until(lambda: home.state().loaded == served, "one bundle is loaded")
    _every_score_is_of_its_model(home)


def _every_score_is_of_its_model(home: ScorerHome) -> None:
    """The recorded vectors, scored anew by the bundle that each record names."""
    home.client.seal()
    records = [
        record
        for path in home.places.segments.glob(f"*{segment.CLOSED_SUFFIX}")
        for record in segment.read(path).records()
    ]
    models = {
        digest: open_model(bundles.read(home.places.bundles, digest), OnnxRuntime.from_bytes)
        for digest in {record.bundle for record in records}
    }
    assert len(models) >= 2
    for digest, model in models.items():
        own = [record for record in records if record.bundle == digest]
        assert {record.version for record in own} == {model.version}
        scores = decide(model, np.stack([record.features() for record in own])).scores
        assert np.allclose(scores, [record.score for record in own], atol=1e-6)
