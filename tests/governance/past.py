"""A real, small past: a store loaded from a base, decisions made by a real model, sealed and logged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from tests.builders import tiny_bundle

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import IntegrityError, RefusedError
from interlock.base.ids import SeededIds, uuid7
from interlock.decision import seal as seals
from interlock.decision import sealing
from interlock.decision.archive import Archive
from interlock.decision.decide import decide
from interlock.decision.model import open_model
from interlock.decision.record import DecisionRecord
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.features import reducer
from interlock.features.definition import FRAUD
from interlock.features.memory import MemoryStore
from interlock.features.online import Base, TripRequest
from interlock.features.options import StoreOptions
from interlock.features.vector import assemble
from interlock.governance.dossier import Evidence, Sources
from interlock.governance.recompute import Events, Past, loaded
from interlock.registry.bundle import Bundle
from interlock.trust.event import Event

FOLDER = "sha256:" + "f" * 64
SNAPSHOT = "blake2b-128:" + "0" * 32
KINDS = FRAUD.entities
ORIGIN_NS = 1_790_000_000 * NS_PER_S


def token(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind}{number}".encode()).hexdigest()[:32]


@dataclass
class MemoryLedger:
    """Events in log order; `forged` indexes are not under the checkpoint."""

    logged: list[Event] = field(default_factory=list)
    forged: set[int] = field(default_factory=set)

    def add(self, kind: str, time_ns: int, body: dict[str, object]) -> Event:
        index = len(self.logged)
        event = Event(
            id=index + 1,
            time_ns=time_ns,
            type=kind,
            actor="controller",
            origin="test",
            object="service/fraud",
            outcome="success",
            body=body,
            log_index=index,
        )
        self.logged.append(event)
        return event

    def events(self, kinds: Collection[str]) -> Sequence[Event]:
        return [event for event in self.logged if event.type in kinds]

    def prove(self, index: int) -> Evidence:
        if index in self.forged:
            raise IntegrityError("the inclusion proof does not hold", "keep it")
        return {"log_index": index, "log_size": len(self.logged)}


class World:
    """Makes decisions as the scorer does, and keeps what it keeps."""

    def __init__(self, home: Path, base_events: int = 40, bundle: Bundle | None = None) -> None:
        self.home = home
        self.clock = ManualClock()
        self.ids = SeededIds(1)
        self.ledger = MemoryLedger()
        self.approved = True
        self.admission_index: int | None = None
        self.bundle = bundle or tiny_bundle(
            home / "bundles", lineage={"dataset": SNAPSHOT, "run_id": "run-7", "commit": "c0ffee"}
        )
        self.model = open_model(self.bundle, OnnxRuntime.from_bytes)
        self.store = MemoryStore(FRAUD, StoreOptions(), self.clock)
        self.base: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.rows: list[dict[str, str | int]] = []
        self._load(base_events)
        self._admit()
        self.writer = SegmentWriter(home / "segments", "w0", self.clock.now_ns, SegmentOptions(size_bytes=1 << 18))
        self.made: list[DecisionRecord] = []

    def _load(self, count: int) -> None:
        rng = np.random.default_rng(3)
        start = ORIGIN_NS // 1_000_000 - count * 60_000
        for n in range(count):
            row: dict[str, str | int] = {kind: token(kind, int(rng.integers(4))) for kind in KINDS}
            row |= {"event_time": (start + n * 60_000) * 1_000_000, "amount": int(rng.integers(100, 9_000))}
            self.rows.append(row)
            for kind in KINDS:
                at = (start + n * 60_000, int(row["amount"]))
                self.base.setdefault((kind, str(row[kind])), []).append(at)
        by_kind = {velocity.entity: velocity for velocity in FRAUD.velocities}
        states = [(kind, name, reducer.fold(by_kind[kind], events)) for (kind, name), events in self.base.items()]
        base = Base(SNAPSHOT, FRAUD.set_hash, 1, count)
        asyncio.run(self.store.load([(k, n, data) for k, n, data in states if data is not None], base))
        event = loaded(base, self.clock.now_ns(), "test")
        self.ledger.add(event.type, event.time_ns, event.body)

    def _admit(self) -> None:
        path = self.home / "admissions" / digest_hex(self.bundle.digest) / f"{digest_hex(FOLDER)}.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"admission")
        told = {"bundle": self.bundle.digest, "dataset": SNAPSHOT, "run_id": "run-7", "commit": "c0ffee"}
        self.ledger.add("model.registered", self.clock.now_ns(), told)
        admitted = {"bundle": self.bundle.digest, "folder": FOLDER}
        self.ledger.add("release.admitted", self.clock.now_ns(), admitted)

    def peek(self) -> dict[str, str | int]:
        """The inputs of the next decision."""
        rng = np.random.default_rng(len(self.made))
        tokens = {kind: token(kind, int(rng.integers(6))) for kind in KINDS}
        return {**tokens, "amount": int(rng.integers(100, 90_000)), "currency": "EUR", "mcc": "5411", "country": "FR"}

    def decide(self, **changes: object) -> DecisionRecord:
        """One decision on random entities, recorded; `changes` alters the record alone."""
        self.clock.advance(7)
        n = len(self.made)
        inputs = self.peek()
        amount = int(inputs["amount"])
        now = self.clock.now_ns()
        edge_ms = now // 1_000_000
        entities = tuple(str(inputs[kind]).encode() for kind in KINDS)
        trip = TripRequest(f"fraud:t-{n}".encode(), b"w0", entities, edge_ms, amount)
        (result,) = asyncio.run(self.store.trip([trip]))
        values = np.frombuffer(result.values, "<i8")[None, :]
        vector = assemble(FRAUD, [inputs], values, np.array([edge_ms], np.int64))
        decided = decide(self.model, vector)
        made = DecisionRecord(
            decision_id=uuid7(now, self.ids.random(10)),
            service="fraud",
            transaction_id=f"t-{n}",
            attempt=1,
            inputs={**inputs, "event_time": "2026-01-01T00:00:00Z"},
            received_ns=now,
            edge_ns=now,
            clock=(None, 1.0),
            epoch=1,
            generation=1,
            arm="champion",
            bundle=self.bundle.digest,
            folder=FOLDER,
            version="1.0.0",
            feature_set=FRAUD.digest,
            applied=result.applied,
            vector=vector.tobytes(),
            score=float(decided.scores[0]),
            threshold_set=self.bundle.threshold_set,
            decision=decided.decisions[0],
            propensity=1.0,
        )
        self.made.append(msgspec.structs.replace(made, **changes))
        if changes.get("transaction_id") != "lost":
            self.writer.append([self.made[-1]])
        return self.made[-1]

    def seal(self) -> None:
        self.writer.roll()
        for seal in sealing.sweep(self.home / "segments").seals:
            self.ledger.add("segment.sealed", self.clock.now_ns(), seals.body(seal))

    def verify(self, data: bytes, service: str, bundle: str, folder: str) -> Evidence:
        if not self.approved or data != b"admission":
            raise RefusedError("the quorum is not met", "get the missing approval")
        approvals = [{"person": "ana", "role": "risk"}, {"person": "bo", "role": "technical"}]
        return {"approvals": approvals, "log_index": self.admission_index}

    @property
    def archive(self) -> Archive:
        return Archive(self.home / "segments")

    @property
    def sources(self) -> Sources:
        return Sources(self.archive, self.ledger, self.home / "bundles", self.home / "admissions", self.verify)

    @property
    def past(self) -> Past:
        return Past(self.archive, self.ledger, self.home / "bundles", self.base_events, OnnxRuntime.from_bytes)

    def base_events(self, snapshot: str, tokens: Mapping[str, str]) -> Mapping[str, Events]:
        assert snapshot == SNAPSHOT
        return {kind: self.base.get((kind, name), []) for kind, name in tokens.items()}
