import json
import resource
from pathlib import Path

import numpy as np
import pytest
from tests.builders import tiny_files, tree_model

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.canonical import canonical, digest_hex
from interlock.base.clock import ManualClock, SystemClock
from interlock.base.errors import IntegrityError, RefusedError, UsageError
from interlock.decision.decide import Vectors, decide
from interlock.features.definition import FRAUD, feature_set
from interlock.registry import bundle as bundles
from interlock.serving.repository import Repository, warm

FOLDER = "sha256:" + "f" * 64
WIDTH = FRAUD.width
FILES = tiny_files()
GOLDEN = json.loads(FILES["golden.json"])
ROWS = np.array(GOLDEN["vectors"], np.float32)


class Home:
    """A home with bundles and admissions, and what the repository asked of the verifier."""

    def __init__(self, path: Path) -> None:
        self.bundles, self.admissions = path / "bundles", path / "admissions"
        self.asked: list[tuple[bytes, str, str, str]] = []
        self.withdrawn = False
        self.repository = Repository(self.bundles, self.admissions, self.verify, OnnxRuntime.from_bytes, SystemClock())

    def admitted(self, **options: object) -> str:
        """A tiny bundle with an admission; `options` as `tiny_files`, or a file's bytes by name with `_` for `.`."""
        changed = {n.replace("_", ".", 1): options.pop(n) for n in list(options) if isinstance(options[n], bytes)}
        return self.admit(bundles.write(self.bundles, tiny_files(**options) | changed))  # type: ignore[arg-type]

    def verify(self, data: bytes, service: str, bundle: str, folder: str) -> None:
        self.asked.append((data, service, bundle, folder))
        if self.withdrawn:
            raise RefusedError("withdrawn", "ask again")

    def admit(self, bundle: str, folder: str = FOLDER) -> str:
        """Write an admission for a bundle; its digest."""
        path = self.admissions / digest_hex(bundle) / f"{digest_hex(folder)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"admission")
        return bundle


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_admitted_bundle_loads_and_decides(home: Home) -> None:
    bundle = home.admitted()
    model = home.repository.load("fraud", bundle, FOLDER)
    assert (model.bundle, model.version, model.service, model.width) == (bundle, "1.0.0", "fraud", WIDTH)
    decided = decide(model, ROWS)
    assert np.abs(decided.scores - np.array(GOLDEN["scores"])).max() <= 1e-5
    assert home.asked == [(b"admission", "fraud", bundle, FOLDER)]
    assert home.repository.loaded == (bundle,)
    assert home.repository.get(bundle) is model


def test_without_an_admission_nothing_loads(home: Home) -> None:
    bundle = bundles.write(home.bundles, FILES)
    with pytest.raises(RefusedError, match="no admission"):
        home.repository.load("fraud", bundle, FOLDER)
    assert home.repository.loaded == ()


def test_an_admission_for_another_folder_does_not_count(home: Home) -> None:
    bundle = home.admitted()
    with pytest.raises(RefusedError, match="no admission"):
        home.repository.load("fraud", bundle, "sha256:" + "0" * 64)


def test_loading_again_gives_the_same_model_and_asks_again(home: Home) -> None:
    bundle = home.admitted()
    first = home.repository.load("fraud", bundle, FOLDER)
    assert home.repository.load("fraud", bundle, FOLDER) is first
    home.withdrawn = True
    with pytest.raises(RefusedError, match="withdrawn"):
        home.repository.load("fraud", bundle, FOLDER)
    assert home.repository.get(bundle) is first


def test_a_changed_file_is_refused(home: Home) -> None:
    bundle = home.admitted()
    path = home.bundles / digest_hex(bundle) / "model.onnx"
    path.write_bytes(tree_model(WIDTH, seed=2))
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        home.repository.load("fraud", bundle, FOLDER)


def test_golden_vectors_that_score_differently_are_refused(home: Home) -> None:
    golden = json.loads(FILES["golden.json"])
    golden["scores"][7] += 2e-5
    bundle = home.admitted(golden_json=json.dumps(golden).encode())
    with pytest.raises(RefusedError, match="golden"):
        home.repository.load("fraud", bundle, FOLDER)


def test_a_bundle_without_golden_vectors_is_refused(home: Home) -> None:
    empty = json.dumps({"schema": 1, "vectors": [], "scores": []}).encode()
    bundle = home.admitted(golden_json=empty)
    with pytest.raises((RefusedError, UsageError)):
        home.repository.load("fraud", bundle, FOLDER)


def test_a_model_of_another_width_is_refused(home: Home) -> None:
    bundle = home.admitted(model_onnx=tree_model(WIDTH + 1))
    with pytest.raises(RefusedError, match="golden"):
        home.repository.load("fraud", bundle, FOLDER)


def test_inputs_that_are_not_the_feature_sets_are_refused(home: Home) -> None:
    manifest = json.loads(FILES["manifest.json"])
    swapped = manifest | {"inputs": manifest["inputs"][::-1]}
    other = manifest | {"feature_set": feature_set("fraud", 2, ("card",)).to_json()}
    for changed in (swapped, other):
        bundle = home.admitted(manifest_json=canonical(changed))
        with pytest.raises(IntegrityError, match="inputs"):
            home.repository.load("fraud", bundle, FOLDER)


def test_a_bundle_of_another_service_is_refused(home: Home) -> None:
    bundle = home.admitted()
    for _ in range(2):  # not loaded yet, then loaded
        with pytest.raises(UsageError, match="serves fraud"):
            home.repository.load("credit", bundle, FOLDER)
        home.repository.load("fraud", bundle, FOLDER)


def test_a_released_model_is_forgotten_and_its_last_user_can_finish(home: Home) -> None:
    bundle = home.admitted()
    model = home.repository.load("fraud", bundle, FOLDER)
    home.repository.release(bundle)
    home.repository.release(bundle)
    assert home.repository.get(bundle) is None
    assert len(decide(model, ROWS).decisions) == 32
    assert home.repository.load("fraud", bundle, FOLDER) is not model


def test_two_versions_are_loaded_beside_each_other(home: Home) -> None:
    one = home.admitted()
    two = home.admitted(seed=2, version="1.1.0")
    models = [home.repository.load("fraud", each, FOLDER) for each in (one, two)]
    rows = ROWS
    assert not np.array_equal(decide(models[0], rows).scores, decide(models[1], rows).scores)
    assert set(home.repository.loaded) == {one, two}


class Slowing:
    """A runtime that takes the scripted times, in order, then the last one for ever."""

    def __init__(self, clock: ManualClock, *seconds: float) -> None:
        self.clock, self.seconds, self.calls = clock, list(seconds), 0

    def run(self, vectors: Vectors) -> Vectors:
        self.clock.advance(self.seconds[min(self.calls, len(self.seconds) - 1)])
        self.calls += 1
        return np.zeros(len(vectors), np.float32)


def warmed(runtime: Slowing, home: Home) -> object:
    bundle = home.admitted()
    model = home.repository.load("fraud", bundle, FOLDER)
    object.__setattr__(model, "runtime", runtime)
    return warm(model, runtime.clock, ROWS, sizes=(4,))


def test_warming_goes_on_until_latency_settles(home: Home) -> None:
    clock = ManualClock()
    found = warmed(Slowing(clock, *[0.008] * 16, *[0.016] * 16, *[0.001] * 16, 0.001), home)
    assert found.settled  # type: ignore[attr-defined]
    assert found.calls == 64  # type: ignore[attr-defined]
    assert found.p50_ns == {4: 1_000_000}  # type: ignore[attr-defined]


def test_a_model_that_never_settles_is_warmed_for_a_bounded_time(home: Home) -> None:
    clock = ManualClock()
    found = warmed(Slowing(clock, *[0.01 * 1.2**n for n in range(40) for _ in range(16)]), home)
    assert not found.settled  # type: ignore[attr-defined]
    assert clock.mono_ns < 4_000_000_000


@pytest.mark.process  # a hundred loads
def test_a_hundred_swaps_leave_memory_flat(home: Home) -> None:
    digests = [home.admitted(seed=n, version=f"1.{n}.0") for n in range(2)]

    def swap() -> None:
        for digest in digests:
            home.repository.load("fraud", digest, FOLDER)
            home.repository.release(digest)

    for _ in range(10):
        swap()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        swap()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
