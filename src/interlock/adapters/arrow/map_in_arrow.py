"""Batch scoring beyond one machine: a function for Spark's `DataFrame.mapInArrow`.

Contract. It takes batches of ready vectors (every feature of the model as float32, and
`transaction_id`) and gives one row for each row: the columns of `interlock score`, and `rejected`,
the rule that a row breaks (its score and decision are then null). It pickles as the bundle's bytes;
each process that runs it verifies them against the bundle's digest, loads the model once and checks
its golden vectors. Nothing of Spark is imported here. Whether the bundle is admitted is decided
where the function is made (`wiring.job.batch_scorer` is given a bundle, `interlock score` checks it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from interlock.adapters.arrow import columns, sink
from interlock.base.canonical import digest_of
from interlock.base.errors import IntegrityError
from interlock.decision.decide import Model
from interlock.decision.model import RuntimeFactory, open_model
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.serving import bulk

_MODELS: dict[str, Model] = {}
"""Open models of this process, by bundle."""


SPARK_SCHEMA = (
    "transaction_id string, score float, decision string, "
    "model_version string, bundle string, threshold_set string, rejected string"
)
"""`schema` as Spark writes it."""


def schema() -> pa.Schema:
    """What the function gives."""
    return sink.output_schema(None).append(pa.field("rejected", pa.string()))


@dataclass(frozen=True)
class BatchScorer:
    """See the module's contract; call it with an iterator of record batches."""

    bundle: Bundle
    runtime: RuntimeFactory

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Score batches as they come.

        Raises:
            UsageError: a feature is missing or not float32.
            IntegrityError: the bundle's bytes are not those of its digest.
        """
        model = self._model()
        for batch in batches:
            yield _scored(model, pa.Table.from_batches([batch]))

    def _model(self) -> Model:
        known = _MODELS.get(self.bundle.digest)
        if known is None:
            if digest_of(bundles.index_of(self.bundle.files)) != self.bundle.digest:
                raise IntegrityError("the bundle's bytes are not those of its digest", "send the bundle again")
            known = _MODELS[self.bundle.digest] = open_model(self.bundle, self.runtime)
        return known


def scorer(
    bundle: Bundle | Path | str, runtime: RuntimeFactory
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow`.

    Args:
        bundle: a verified bundle, or its folder `bundles/<hex>`.
        runtime: loads the model, such as `OnnxRuntime.from_bytes`; pickled by its name.

    Raises:
        UsageError: there is no bundle.
        IntegrityError: its files are not those of its digest.
    """
    if not isinstance(bundle, Bundle):
        folder = Path(bundle)
        bundle = bundles.read(folder.parent, f"sha256:{folder.name}")
    return BatchScorer(Bundle(bundle.digest, dict(bundle.files)), runtime)


def _scored(model: Model, table: pa.Table) -> pa.RecordBatch:
    names = model.manifest["inputs"]
    vectors = columns.vectors(table, names)
    ids = columns.plain(table.column("transaction_id"))
    wrong = bulk.refusals(ids, vectors)
    kept = np.array([row for row in range(len(ids)) if row not in wrong], np.int64)
    scored = bulk.score_vectors(model, vectors[kept])
    versions = (model.version, model.bundle, model.threshold_set)
    found = sink.scored_batch([ids[row] for row in kept.tolist()], scored, versions, sink.output_schema(None))
    # Back into the places of the batch: a row that breaks a rule has nulls, and no id that might be a number.
    place = np.full(len(ids), -1, np.int64)
    place[kept] = np.arange(len(kept))
    spread: Any = pa.array(place, mask=place < 0)
    told = pa.array([wrong.get(row) for row in range(len(ids))], pa.string())
    return pa.record_batch([*(column.take(spread) for column in found.columns), told], schema=schema())
