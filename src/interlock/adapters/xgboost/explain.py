"""Exact TreeSHAP contributions by XGBoost itself (`pred_contribs`; Lundberg et al. 2018).

The model is loaded from bytes whose digest was checked, never from a path. One thread per call:
explanations must not take the cores that score. XGBoost's reader can crash or hang on damaged
bytes: what is not the model that training recorded is refused before it is parsed, and a process
that serves others must still expect to be ended by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from interlock.base.canonical import digest_of
from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.decision.contributions import Contributions
from interlock.decision.decide import Vectors
from interlock.registry.bundle import Bundle

if TYPE_CHECKING:
    import xgboost

NATIVE = "explain/booster.ubj"
_UBJSON_OBJECT = b"{L"


class XgboostExplainer:
    """`decision.contributions.Explainer` on one booster.

    Args:
        model: the booster as UBJSON.
        names: the inputs that it must have been trained on, in order.

    Raises:
        IntegrityError: the bytes are no booster, or one of other inputs.
        UnreachableError: XGBoost is not installed here.
    """

    def __init__(self, model: bytes, names: Sequence[str]) -> None:
        self._names = list(names)
        self._booster = _load(model)
        if self._booster.feature_names != self._names:
            raise IntegrityError("the native model was trained on other inputs", "build the bundle again")

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> XgboostExplainer:
        """The native model of a checked bundle.

        Raises:
            UsageError: the bundle has none.
            IntegrityError: it is damaged, not the one of the lineage, or one of other inputs.
        """
        model = bundle.files.get(NATIVE)
        if model is None:
            raise UsageError("the bundle has no native model to explain", "train the version with `interlock train`")
        stated = bundle.lineage.get("native_model")
        if stated is not None and stated.get("digest") != digest_of(model):
            raise IntegrityError("the native model is not the one that training recorded", "build the bundle again")
        return cls(model, bundle.manifest["inputs"])

    def contributions(self, vectors: Vectors) -> Contributions:
        """Base value, contributions float64 [n, width] and margins of vectors float32 [n, width]."""
        import xgboost

        if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != len(self._names) or not len(vectors):
            raise UsageError(f"vectors are not float32 [n, {len(self._names)}]", "take them from decision records")
        data = xgboost.DMatrix(vectors, feature_names=self._names, nthread=1)
        found = self._booster.predict(data, pred_contribs=True).astype(np.float64)
        margins = self._booster.predict(data, output_margin=True).astype(np.float64)
        return Contributions(float(found[0, -1]), found[:, :-1], margins)


def preload() -> None:
    """Import XGBoost, which takes seconds, before anybody waits for it; where it is missing, the first use says so."""
    with contextlib.suppress(ImportError):
        import xgboost  # noqa: F401


def _load(model: bytes) -> xgboost.Booster:
    try:
        import xgboost
    except ImportError as error:
        raise UnreachableError(
            "XGBoost is not installed here", "install the extra `train` where you explain"
        ) from error
    if not model.startswith(_UBJSON_OBJECT):
        raise IntegrityError("the native model cannot be read", "restore the bundle from its source")
    try:
        return xgboost.Booster({"nthread": 1}, model_file=bytearray(model))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise IntegrityError("the native model cannot be read", "restore the bundle from its source") from error
