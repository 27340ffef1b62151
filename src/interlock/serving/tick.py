"""One tick's decisions: vectors, arms, records, replies, counts. No store and no socket here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.base.clock import NS_PER_MS, Clock
from interlock.base.ids import Ids, uuid7
from interlock.decision import counts, record
from interlock.decision.decide import RANK, Vectors, flagged
from interlock.decision.record import DecisionRecord
from interlock.features.online import TripResult
from interlock.features.vector import assemble
from interlock.serving.arms import Called, call
from interlock.serving.options import ServingOptions
from interlock.serving.route import FALLBACK, Route, Side
from interlock.serving.wire import v1

if TYPE_CHECKING:
    from interlock.serving.pipeline import Call


class Unanswered(Exception):
    """A request that gets no prediction: HTTP status, message, and when to come again (seconds; 0: not)."""

    def __init__(self, status: int, message: str, retry_s: int) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_s = retry_s


@dataclass
class Row:
    """One transaction on its way through a worker.

    Attributes:
        call: the request it belongs to, and `place` in it.
        inputs: tokenised inputs, as the record keeps them.
        entities: tokens in the feature set's order, as bytes.
        claim: `<service>:<transaction id>`.
        received_ns: wall clock; edge_ns: edge clock.
        resumed: an earlier attempt had recorded its velocities.
    """

    call: Call
    place: int
    transaction_id: str
    inputs: dict[str, Any]
    entities: tuple[bytes, ...]
    claim: bytes
    received_ns: int
    edge_ns: int
    clock: tuple[int | None, float]
    principal: str
    trace_id: str
    resumed: bool = False


@dataclass
class Decided:
    """One decision that was made: its record, the reply, and where it counts."""

    row: Row
    record: DecisionRecord
    reply: bytes
    chosen: Side | None
    group: int
    claimed: bool
    superseded: bool = False


@dataclass
class Share:
    """The rows of one arm: row indexes and, once called, the outcome."""

    side: Side
    rows: list[int]
    called: Called | None = None


@dataclass
class Tick:
    """The decisions of one tick under one route."""

    route: Route
    options: ServingOptions
    clock: Clock
    ids: Ids
    retreated: bool
    decided: list[Decided] = field(default_factory=list)
    comparable: list[tuple[int, float, str]] = field(default_factory=list)
    """(row in the batch, the answer's score, its decision): what shadows are compared with."""

    async def decide(self, fresh: Sequence[tuple[Row, TripResult]]) -> None:
        """Decide the rows whose velocities are known."""
        self._rows = [row for row, _ in fresh]
        self._results = [result for _, result in fresh]
        values = np.frombuffer(b"".join(result.values for result in self._results), "<i8")
        self._values: NDArray[np.int64] = values.reshape(len(fresh), -1)
        self._edge_ms = np.array([row.edge_ns // NS_PER_MS for row in self._rows], np.int64)
        self._vectors: dict[str, Vectors] = {}
        placed = [self.route.owner(row.inputs[self.route.table.sticky]) for row in self._rows]
        self._groups = [counts.group_of(bucket) for bucket, _ in placed]
        champion = self.route.champion
        shares: dict[int, Share] = {}
        for index, (_, side) in enumerate(placed):
            answering = champion if self.retreated else side
            if answering is None:
                self.fall_back(self._rows[index], self._results[index], self._groups[index])
            else:
                shares.setdefault(id(answering), Share(answering, [])).rows.append(index)
        await self._call(list(shares.values()))
        for share in shares.values():
            await self._finish(share)

    async def _call(self, shares: list[Share]) -> None:
        if self.route.table.settled or self.retreated:
            for share in shares:
                share.called = call(share.side.model, self._of(share), self.clock)
            return
        deadline_s = self.options.deadline_ms / 1000
        calls = [self._on_lane(share, deadline_s) for share in shares]
        for share, called in zip(shares, await asyncio.gather(*calls), strict=True):
            share.called = called

    async def _on_lane(self, share: Share, deadline_s: float) -> Called | None:
        lane = share.side.lane
        if lane is None:
            return call(share.side.model, self._of(share), self.clock)
        # Behind the champion there is only the fallback: it gets until a thread counts as hung.
        wait_s = self.options.hang_s if share.side is self.route.champion else deadline_s
        return await lane.run(share.side.model, self._of(share), wait_s)

    async def _finish(self, share: Share) -> None:
        called, champion = share.called, self.route.champion
        if called is not None and called.decided is not None:
            self._answer(share, share.side, called, 0)
            return
        flag = record.MISS if called is None else record.ERROR
        if champion is None or share.side is champion:
            for index in share.rows:
                self.fall_back(self._rows[index], self._results[index], self._groups[index], (share.side, flag))
            return
        # Inline, and not on the champion's thread: these rows have waited long enough.
        instead = call(champion.model, self._of(Share(champion, share.rows)), self.clock)
        if instead.decided is None:
            for index in share.rows:
                self.fall_back(self._rows[index], self._results[index], self._groups[index], (share.side, flag))
            return
        self._answer(share, champion, instead, flag)

    def _of(self, share: Share) -> Vectors:
        return self._of_set(share.side)[share.rows]

    def _of_set(self, side: Side) -> Vectors:
        known = self._vectors.get(side.model.feature_set)
        if known is None:
            inputs = [row.inputs for row in self._rows]
            known = self._vectors[side.model.feature_set] = assemble(side.features, inputs, self._values, self._edge_ms)
        return known

    def _answer(self, share: Share, side: Side, called: Called, flag: int) -> None:
        """Records and replies of one arm's rows; `side` answered, `share.side` was chosen."""
        if called.decided is None:
            raise AssertionError("an outcome without decisions")
        vectors = self._of_set(side)
        batch = counts.batch_bin(len(share.rows))
        side.counts.time(batch, called.model_ns)
        size = len(share.rows)
        for index, score, decision in zip(
            share.rows, called.decided.scores.tolist(), called.decided.decisions, strict=True
        ):
            row, result = self._rows[index], self._results[index]
            flags = flag | (record.RESUMED if row.resumed else 0) | (record.RETREATED if self.retreated else 0)
            made = self._record(row, result, side, (score, decision, vectors[index].tobytes()))
            made = _with(
                made, degraded=flags, model_ns=called.model_ns, batch=size, propensity=self._propensity(share.side)
            )
            self._add(row, made, share.side, self._groups[index], True)
            self.comparable.append((index, score, decision))

    def fall_back(
        self,
        row: Row,
        result: TripResult | None = None,
        group: int | None = None,
        chosen: tuple[Side, int] | None = None,
    ) -> None:
        """The service's constant rule answers; `chosen` is the arm that should have, and why it did not."""
        place, side = self.route.owner(row.inputs[self.route.table.sticky])
        flags = record.FALLBACK | (chosen[1] if chosen else 0)
        flags |= (record.STORE_DOWN if result is None else 0) | (record.RETREATED if self.retreated else 0)
        made = self._record(row, result, None, (None, self.route.table.fallback["decision"], b""))
        made = _with(made, degraded=flags, propensity=self._propensity(side))
        where = counts.group_of(place) if group is None else group
        self._add(row, made, chosen[0] if chosen else side, where, result is not None)

    def _propensity(self, side: Side | None) -> float:
        """The share of entities that are answered like this one; all of them once retreated."""
        return 1.0 if side is None or self.retreated else side.arm.share

    def _record(
        self, row: Row, result: TripResult | None, side: Side | None, found: tuple[float | None, str, bytes]
    ) -> DecisionRecord:
        table = self.route.table
        score, decision, vector = found
        return DecisionRecord(
            decision_id=uuid7(row.received_ns, self.ids.random(10)),
            service=table.service,
            transaction_id=row.transaction_id,
            attempt=result.attempt if result else 1,
            inputs=row.inputs,
            received_ns=row.received_ns,
            edge_ns=row.edge_ns,
            clock=row.clock,
            epoch=table.epoch,
            generation=table.generation,
            arm=side.arm.name if side else FALLBACK,
            bundle=side.arm.bundle if side else "",
            folder=side.arm.folder if side else "",
            version=side.arm.version if side else FALLBACK,
            feature_set=side.model.feature_set if side else "",
            applied=result.applied if result else (),
            vector=vector,
            score=score,
            threshold_set=side.model.threshold_set if side else "",
            decision=decision,
            propensity=1.0,
            principal=row.principal,
            trace_id=row.trace_id,
        )

    def _add(self, row: Row, made: DecisionRecord, chosen: Side | None, group: int, claimed: bool) -> None:
        reply = v1.encode(
            v1.Prediction(
                transaction_id=row.transaction_id,
                decision_id=made.decision_id,
                score=made.score,
                decision=made.decision,
                reasons=[],
                model_version=made.version,
                degraded=bool(made.degraded & record.FALLBACK),
            )
        )
        self.decided.append(Decided(row, made, reply, chosen, group, claimed))

    def count(self) -> None:
        """Move the arm counters; called when the replies have gone out."""
        tau = self.route.table.tau_ns
        for each in self.decided:
            if each.superseded:
                continue
            made, side = each.record, each.chosen
            numbers = side.counts if side else self.route.fallback
            batch = counts.batch_bin(made.batch)
            numbers.add(counts.REQUESTS, batch, each.group)
            if made.degraded & record.ERROR:
                numbers.add(counts.ERRORS, batch, each.group)
            if made.degraded & record.MISS:
                numbers.add(counts.MISSES, batch, each.group)
            if made.degraded & record.FALLBACK:
                numbers.add(counts.DEGRADED, batch, each.group)
            elif side is not None and side.arm.name == made.arm:
                if flagged(made.decision):
                    numbers.add(counts.FLAGGED, batch, each.group)
                if tau is not None and made.model_ns > tau:
                    numbers.add(counts.SLOW, batch, each.group)

    async def compare(self, side: Side) -> None:
        """Score the answered rows with a shadow and count the differences."""
        rows = [index for index, _, _ in self.comparable]
        if side.lane is None:
            return
        called = await side.lane.run(side.model, self._of_set(side)[rows], self.options.deadline_ms / 1000)
        if called is None:
            side.shadow.misses += len(rows)
        elif called.decided is None:
            side.shadow.errors += len(rows)
        else:
            side.counts.time(counts.batch_bin(len(rows)), called.model_ns)
            for (_, score, decision), theirs, verdict in zip(
                self.comparable, called.decided.scores.tolist(), called.decided.decisions, strict=True
            ):
                side.shadow.add(theirs - score, RANK[verdict] - RANK[decision])


def _with(made: DecisionRecord, **changes: Any) -> DecisionRecord:
    return msgspec.structs.replace(made, **changes)
