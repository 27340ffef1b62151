"""Compute a decision again from the past: features bit for bit, then score and decision.

Contract. The vector is computed from the base snapshot's events and the logged inputs of every
decision that touched the same entities, in the order the store gave them, by the very functions
that serve. It is compared byte by byte with the recorded one, and the score likewise. A hole in a
sequence is a finding `gap` with the entity and the number: never a guess, and never a success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from interlock.base.clock import NS_PER_MS
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.verdict import Verdict, worst
from interlock.decision.archive import Archive, Found
from interlock.decision.decide import Model, decide
from interlock.decision.model import RuntimeFactory, open_model
from interlock.decision.record import DecisionRecord
from interlock.features.definition import FeatureSet
from interlock.features.online import Base
from interlock.features.replay import Gap, History, Logged, recompute
from interlock.features.vector import assemble
from interlock.governance.dossier import Evidence, Ledger, Link, failed, find
from interlock.registry import bundle as bundles
from interlock.trust.event import Event, NewEvent

Events = Sequence[tuple[int, int]]
"""(event_ms, amount) of one entity, in snapshot order."""
BaseEvents = Callable[[str, Mapping[str, str]], Mapping[str, Events]]
"""(snapshot digest, token by entity kind) → each entity's events in that snapshot, its digest verified."""


@dataclass(frozen=True)
class Past:
    """Where the past is read.

    Attributes:
        archive: the decision segments.
        ledger: the log, which says from which snapshot the online store was loaded.
        bundles: the folder of bundles.
        base_events: reads the base snapshot.
        runtime: loads the recorded model.
    """

    archive: Archive
    ledger: Ledger
    bundles: Path
    base_events: BaseEvents
    runtime: RuntimeFactory


@dataclass(frozen=True)
class Recomputation:
    """What came out, link by link: base, history, vector, score, decision."""

    decision: str
    links: tuple[Link, ...]
    differences: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of its links."""
        return worst(link.verdict for link in self.links)

    def holds(self, name: str) -> bool:
        """Whether that link was judged and holds."""
        return any(link.name == name and link.verdict is Verdict.PASS for link in self.links)


def recompute_decision(decision: str, past: Past) -> Recomputation:
    """Compute a decision again and compare it with its record.

    Raises:
        UsageError: there is no such decision.
        IntegrityError: a segment at hand is damaged or gone, or the bundle is.
    """
    found = find(past.archive, decision)
    one = found.record
    if not one.bundle or not one.vector or not one.applied:
        says = "nothing to compute: the store or the model was not asked for this decision"
        link = Link("vector", Verdict.INCONCLUSIVE, says, {"degraded": one.degraded}, "fallback")
        return Recomputation(decision, (link,))
    model = open_model(bundles.read(past.bundles, one.bundle), past.runtime)
    features = FeatureSet.from_json(model.manifest["feature_set"])
    links: list[Link] = []
    vector, differences = _vector_links(found, features, past, links)
    links += _score_links(one, model, vector)
    return Recomputation(decision, tuple(links), differences)


def _vector_links(
    found: Found, features: FeatureSet, past: Past, links: list[Link]
) -> tuple[npt.NDArray[np.float32] | None, dict[str, tuple[float, float]]]:
    """Judge base, history and vector; the recomputed vector, if there is one, and what differs."""
    one = found.record
    try:
        base, since_ns = _base(one, features, past.ledger)
        links.append(Link("base", Verdict.PASS, f"the store was loaded from {base.snapshot}", _plain(base)))
        tokens = {kind: str(one.inputs[kind]) for kind in features.entities}
        histories = _histories(features, tokens, past, base, since_ns)
        values = recompute(features, histories, _applied(one, features), one.edge_ns // NS_PER_MS)
    except Gap as gap:
        evidence: Evidence = {"entity": gap.entity, "epoch": gap.epoch, "seq": gap.seq, "remedy": gap.remedy}
        links.append(Link("history", Verdict.INCONCLUSIVE, gap.message, evidence, "gap"))
        return None, {}
    except (IntegrityError, UsageError) as error:
        links.append(failed("history", error))
        return None, {}
    lengths = {kind: len(history.base) + len(history.logged) for kind, history in histories.items()}
    links.append(Link("history", Verdict.PASS, f"no event is missing: {_counted(lengths)}", dict(lengths)))
    edge = np.array([one.edge_ns // NS_PER_MS], np.int64)
    vector = assemble(features, [one.inputs], values[None, :], edge)
    differences = _differences(features, vector[0], one.features())
    links.append(_compared("vector", vector.tobytes() == one.vector, f"{features.width} features", sorted(differences)))
    return vector, differences


def _score_links(one: DecisionRecord, model: Model, vector: npt.NDArray[np.float32] | None) -> list[Link]:
    """Score the recomputed vector, or else the recorded one, so that score and decision are judged in any case."""
    source = "recomputed" if vector is not None else "recorded"
    again = decide(model, one.features()[None, :] if vector is None else vector)
    score = float(again.scores[0])
    same = one.score is not None and np.float32(one.score).tobytes() == again.scores[0].tobytes()
    return [
        _compared("score", same, f"score of the {source} vector", [] if same else [f"{one.score} and {score}"]),
        _compared("decision", again.decisions[0] == one.decision, f"decision {one.decision}", [again.decisions[0]]),
    ]


def _applied(one: DecisionRecord, features: FeatureSet) -> dict[str, tuple[int, int]]:
    if len(one.applied) != len(features.entities):
        raise IntegrityError("the record's positions are not its feature set's entities", "keep it as evidence")
    return dict(zip(features.entities, one.applied, strict=True))


def _base(one: DecisionRecord, features: FeatureSet, ledger: Ledger) -> tuple[Base, int]:
    """What the store was loaded from before this decision, and since when its sequences count.

    Raises:
        UsageError: the log does not say.
    """
    loads = [event for event in ledger.events(("store.loaded",)) if event.body.get("set_hash") == features.set_hash]
    before = [event for event in loads if event.time_ns <= one.received_ns]
    if not before:
        raise UsageError("the log does not say what the online store was loaded from", "load it by `interlock up`")
    last = before[-1]
    # Sequences start again with a load; with a single one there is nothing to tell apart.
    return _base_of(last), last.time_ns if len(before) > 1 else 0


def _base_of(event: Event) -> Base:
    body = event.body
    try:
        return Base(str(body["snapshot"]), str(body["set_hash"]), int(body["epoch"]), int(body["events"]))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError("a store.loaded event names no base", "keep the log and look at the event") from error


def _histories(
    features: FeatureSet, tokens: Mapping[str, str], past: Past, base: Base, since_ns: int
) -> dict[str, History]:
    events: Mapping[str, Events] = {}
    if base.snapshot != "empty":
        events = past.base_events(base.snapshot, tokens)
    logged = _logged(features, tokens, (each.record for each in past.archive.touching(tokens.values())), since_ns)
    return {kind: History(events.get(kind, ()), logged[kind], base.epoch) for kind in tokens}


def _logged(
    features: FeatureSet, tokens: Mapping[str, str], records: Iterable[DecisionRecord], since_ns: int
) -> dict[str, list[Logged]]:
    found: dict[str, list[Logged]] = {kind: [] for kind in tokens}
    for one in records:
        # A record of another set of velocities has other positions; leaving it out is a gap, not a guess.
        if len(one.applied) != len(features.entities) or one.received_ns < since_ns:
            continue
        for kind, (epoch, seq) in zip(features.entities, one.applied, strict=True):
            if one.inputs[kind] == tokens[kind]:
                found[kind].append(Logged(epoch, seq, one.edge_ns // NS_PER_MS, int(one.inputs["amount"])))
    return found


def _differences(
    features: FeatureSet, again: npt.NDArray[np.float32], recorded: npt.NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    if len(again) != len(recorded):
        return {"width": (float(len(again)), float(len(recorded)))}
    unequal = np.flatnonzero(again.view(np.uint32) != recorded.view(np.uint32))
    return {features.names[i]: (float(again[i]), float(recorded[i])) for i in unequal}


def _compared(name: str, same: bool, what: str, wrong: list[str]) -> Link:
    if same:
        return Link(name, Verdict.PASS, f"{what}: equal bit for bit", {})
    return Link(name, Verdict.FAIL, f"{what}: not what was recorded", {"differs": wrong}, "mismatch")


def _counted(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in lengths.items())


def loaded(base: Base, now_ns: int, actor: str) -> NewEvent:
    """The event to append after the online store was loaded and before it is used: the start of every replay."""
    return NewEvent(
        time_ns=now_ns,
        type="store.loaded",
        actor=actor,
        origin="store",
        object=f"store/{base.set_hash}",
        outcome="success",
        body=_plain(base),
    )


def _plain(base: Base) -> Evidence:
    return {"snapshot": base.snapshot, "set_hash": base.set_hash, "epoch": base.epoch, "events": base.events}
