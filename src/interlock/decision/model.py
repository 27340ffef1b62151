"""From a checked bundle to a model that decides: the same way in the scorer and for an auditor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UsageError
from interlock.decision.decide import Cuts, Model, Runtime, Vectors, decide
from interlock.features.definition import FeatureSet
from interlock.registry.bundle import Bundle

RuntimeFactory = Callable[[bytes, str], Runtime]
"""(model bytes, name of the score output) → a loaded runtime."""

GOLDEN_TOLERANCE = 1e-5


def open_model(bundle: Bundle, runtime: RuntimeFactory) -> Model:
    """A model from a checked bundle, after its golden vectors agreed.

    Raises:
        RefusedError: the runtime refuses it, or a golden score differs by more than 1e-5.
        UsageError: the serving manifest is malformed.
    """
    manifest = bundle.manifest
    try:
        features = FeatureSet.from_json(manifest["feature_set"])
        service, version = str(manifest["service"]), str(manifest["version"])
        data, output = bundle.files[manifest["model"]], str(manifest["output"])
        stated, inputs = manifest["feature_set_digest"], tuple(manifest["inputs"])
    except (KeyError, TypeError) as error:
        raise UsageError(
            "the bundle's serving manifest is malformed", "build the bundle with `interlock train`"
        ) from error
    if features.digest != stated or inputs != features.names:
        raise IntegrityError("the manifest's inputs are not its feature set's", "build the bundle again")
    model = Model(
        bundle=bundle.digest,
        version=version,
        service=service,
        feature_set=features.digest,
        width=features.width,
        cuts=Cuts.parse(bundle.thresholds),
        threshold_set=bundle.threshold_set,
        runtime=runtime(data, output),
        manifest=manifest,
    )
    check_golden(model, bundle.golden)
    return model


def check_golden(model: Model, golden: Any) -> float:
    """The largest difference from the recorded golden scores.

    Raises:
        RefusedError: it is more than 1e-5, or there is nothing to compare.
    """
    vectors, expected = golden_vectors(golden), np.asarray(golden["scores"], np.float64)
    if len(vectors) == 0 or len(vectors) != len(expected):
        raise RefusedError("the bundle has no golden vectors", "build the bundle again")
    try:
        scores = decide(model, vectors).scores
    except (InterlockError, MemoryError):
        raise
    except Exception as error:  # whatever the runtime raises
        raise RefusedError(
            f"the model cannot score its golden vectors ({type(error).__name__})", "build the bundle again"
        ) from error
    difference = float(np.abs(scores.astype(np.float64) - expected).max())
    if not difference <= GOLDEN_TOLERANCE:
        raise RefusedError(
            f"golden vectors score {difference:.2g} apart from what training recorded",
            "the model is not the one that was trained, or the runtime differs: build it again",
        )
    return difference


def golden_vectors(golden: Any) -> Vectors:
    """The golden vectors, float32 [n, features]."""
    return np.asarray(golden["vectors"], np.float32)
