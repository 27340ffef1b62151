"""One tick's decisions: vectors, arms, records, replies, counts. No store and no socket here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.base.clock import NS_PER_MS, NS_PER_S, Clock
from interlock.base.ids import Ids, uuid7
from interlock.decision import counts, record
from interlock.decision.decide import RANK, Vectors, flagged
from interlock.decision.record import DecisionRecord
from interlock.features.online import TripResult
from interlock.features.vector import assemble, nulls
from interlock.serving import trace
from interlock.serving.arms import Called, call
from interlock.serving.call import Call
from interlock.serving.options import ServingOptions
from interlock.serving.route import FALLBACK, Route, Side
from interlock.serving.score_cache import ScoreCache
from interlock.serving.wire import v1


class Row(msgspec.Struct):
    """One transaction, or one vector that a caller gave, on its way through a worker.

    Attributes:
        call: the request it belongs to, and `place` in it.
        inputs: tokenised inputs, as the record keeps them; empty beside a given vector.
        entities: tokens in the feature set's order, as bytes.
        claim: `<the service that was called>:<transaction id>`.
        received_ns: wall clock; edge_ns: edge clock.
        vector: float32 little-endian bytes when the caller gave them; `key` then keeps it with its arm.
        pinned: the version that the caller named, which answers it whatever the split says.
        resumed: an earlier attempt had recorded its velocities.
        asked: the service that was called, when its routing gave the row to another one.
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
    vector: bytes | None = None
    key: str = ""
    pinned: str = ""
    resumed: bool = False
    asked: str = ""


class Made(msgspec.Struct):
    """One decision that was made: its record, the reply, and where it counts.

    `index` is the row's place in the tick, None when it has no vector; `claimed` says that the store
    knows the transaction; `superseded` that another attempt's reply was stored first; `null` that the
    vector of its own arm lacks a feature.
    """

    row: Row
    record: DecisionRecord
    reply: bytes
    chosen: Side | None
    group: int
    claimed: bool
    index: int | None = None
    superseded: bool = False
    null: bool = False


class Share(msgspec.Struct):
    """The rows of one arm in a tick, by index."""

    side: Side
    rows: list[int]


class _Answer(msgspec.Struct):
    """What a decision rests on, beside its row: who answered, with what, and how."""

    side: Side | None
    score: float | None
    decision: str
    vector: bytes
    flags: int
    propensity: float
    chance: bytes
    model_ns: int = 0
    batch: int = 1


class Tick:
    """The decisions of one tick under one route.

    Args:
        route: what the requests of this tick are routed by, to their end.
        options: deadlines.
        clock: measures model time.
        ids: for decision ids.
        scores: known scores, or None: every row is scored.
        traced: whether model calls are noted in the traces of their requests.
    """

    def __init__(
        self,
        route: Route,
        options: ServingOptions,
        clock: Clock,
        ids: Ids,
        scores: ScoreCache | None = None,
        traced: bool = False,
    ) -> None:
        self.route = route
        self._options = options
        self._clock = clock
        self._ids = ids
        # Guards compare how long arms take: an arm whose scores are known would look faster than it
        # is, so while a rollout is unsettled every arm computes every score, after a retreat too.
        self._scores = scores if route.table.settled else None
        self._traced = traced
        self.retreated = False
        self._rows: list[Row] = []
        self._results: Sequence[TripResult | None] = ()
        self._groups: list[int] = []
        self._vectors: dict[str, Vectors] = {}
        self._nulls: dict[str, set[int]] = {}
        self._values: NDArray[np.int64] = np.empty((0, 0), np.int64)
        self._edge_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._given: Vectors | None = None

    def split(self, fresh: Sequence[tuple[Row, TripResult]], retreated: bool) -> tuple[list[Share], list[Made]]:
        """Give each row whose velocities are known to its arm; rows without one get the fallback."""
        self._rows = [row for row, _ in fresh]
        self._results = results = [result for _, result in fresh]
        values = np.frombuffer(b"".join([result.values for result in results]), "<i8")
        self._values = values.reshape(len(fresh), -1)
        self._edge_ms = np.array([row.edge_ns for row in self._rows], np.int64) // NS_PER_MS
        return self._share(retreated)

    def split_given(self, rows: list[Row], retreated: bool) -> tuple[list[Share], list[Made]]:
        """`split` for rows whose vectors the callers gave."""
        self._rows, self._results = rows, [None] * len(rows)
        self._given = np.frombuffer(b"".join([row.vector or b"" for row in rows]), "<f4").reshape(len(rows), -1)
        return self._share(retreated)

    def _share(self, retreated: bool) -> tuple[list[Share], list[Made]]:
        self.retreated = retreated
        route, shares, alone = self.route, dict[int, Share](), list[Made]()
        for index, row in enumerate(self._rows):
            bucket, owner = route.owner(self._key(row))
            self._groups.append(counts.group_of(bucket))
            side = route.champion if retreated else owner
            if row.pinned:
                side = owner = self._pinned(row.pinned, retreated)
            if side is None:
                flag = record.RETREATED if owner is not None else 0
                alone.append(self.fall_back(row, self._results[index], owner, flag))
            elif (share := shares.get(id(side))) is not None:
                share.rows.append(index)
            else:
                shares[id(side)] = Share(side, [index])
        return list(shares.values()), alone

    def _pinned(self, version: str, retreated: bool) -> Side | None:
        sides = [self.route.champion] if retreated else self.route.sides
        return next((side for side in sides if side is not None and side.arm.version == version), None)

    def rows_of(self, share: Share) -> list[Row]:
        """The transactions of an arm's share."""
        return [self._rows[index] for index in share.rows]

    def inline(self, share: Share) -> list[Made]:
        """Decide an arm's rows here and now."""
        model, vectors = share.side.model, self._of(share.side, share.rows)
        if self._scores is None:
            return self._outcome(share, call(model, vectors, self._clock), 0)
        return self._outcome(share, self._scores.call(model, vectors, self._clock), 0)

    async def on_lane(self, share: Share, patience_s: float | None = None) -> list[Made]:
        """Decide an arm's rows on its thread; the champion answers what misses the deadline.

        Behind the champion there is only the fallback: it may finish late, and is counted as missed.
        `patience_s` takes the deadline's place where nothing is compared and so nothing is late.
        """
        if share.side.lane is None:
            return self.inline(share)
        if patience_s is not None:
            vectors = self._of(share.side, share.rows)
            return self._outcome(share, await share.side.lane.run(share.side.model, vectors, patience_s), 0)
        deadline_s = self._options.deadline_ms / 1000
        wait_s = self._options.hang_s if share.side is self.route.champion else deadline_s
        started = self._clock.monotonic_ns()
        called = await share.side.lane.run(share.side.model, self._of(share.side, share.rows), wait_s)
        late = self._clock.monotonic_ns() - started > deadline_s * NS_PER_S
        if called is None and self._traced:
            self._note(share, share.side, Called(None, self._clock.monotonic_ns() - started, "missed", started))
        return self._outcome(share, called, record.MISS if late else 0)

    def _outcome(self, share: Share, called: Called | None, flag: int) -> list[Made]:
        if called is not None and self._traced:
            self._note(share, share.side, called)
        if called is not None and called.decided is not None:
            return self._answers(share, share.side, called, flag)
        flag = record.MISS if called is None else record.ERROR
        champion = self.route.champion
        if champion is not None and share.side is not champion and not self.route.apart:
            # Inline, and not on the champion's thread: these rows have waited long enough.
            instead = call(champion.model, self._of(champion, share.rows), self._clock)
            if self._traced:
                self._note(share, champion, instead)
            if instead.decided is not None:
                return self._answers(share, champion, instead, flag)
        return [self.fall_back(self._rows[i], self._results[i], share.side, flag) for i in share.rows]

    def _note(self, share: Share, side: Side, called: Called) -> None:
        """A model call as a step of the traced requests that took part in it."""
        known: dict[str, trace.Attribute] = {
            "interlock.arm": side.arm.name,
            "interlock.model_version": side.arm.version,
            "interlock.batch": len(share.rows),
            "interlock.rows_scored": called.rows,
        }
        if called.error:
            known["error.type"] = called.error
        times = called.started_ns, called.started_ns + called.model_ns
        trace.step((row.call for row in self.rows_of(share)), trace.MODEL, times, known, bool(called.error))

    def _answers(self, share: Share, side: Side, called: Called, flag: int) -> list[Made]:
        """Records and replies of one arm's rows; `side` answered, `share.side` was chosen."""
        decided = called.decided
        if decided is None:
            raise AssertionError("an outcome without decisions")
        size, scores = len(share.rows), decided.scores.tolist()
        if side is share.side and called.rows:
            side.counts.time(counts.batch_bin(called.rows), called.model_ns)
        flag |= (record.RETREATED if self.retreated else 0) | (record.GIVEN if self._given is not None else 0)
        propensity = self._propensity(share.side)
        block, width = self._of(side, share.rows).tobytes(), 4 * side.model.width
        chances = self._ids.random(10 * size)
        made = []
        for place, index in enumerate(share.rows):
            row = self._rows[index]
            answer = _Answer(
                side,
                scores[place],
                decided.decisions[place],
                block[place * width : place * width + width],
                flag | (record.RESUMED if row.resumed else 0) | (record.PINNED if row.pinned else 0),
                1.0 if row.pinned else propensity,
                chances[place * 10 : place * 10 + 10],
                called.model_ns,
                size,
            )
            made.append(self._made(row, self._results[index], answer, (share.side, self._groups[index], index)))
        if side is share.side and (lacking := self._lacking(side)):
            for each, index in zip(made, share.rows, strict=True):
                each.null = index in lacking
        return made

    def _lacking(self, side: Side) -> set[int]:
        """The rows of the tick whose vector, of this arm's feature set, lacks a feature."""
        known = self._nulls.get(side.model.feature_set)
        if known is None:
            if self._given is not None:
                known = set(np.flatnonzero(np.isnan(self._given).any(axis=1)).tolist())
            else:
                known = nulls(side.features, [row.inputs for row in self._rows])
            self._nulls[side.model.feature_set] = known
        return known

    def fall_back(self, row: Row, result: TripResult | None, chosen: Side | None = None, flag: int = 0) -> Made:
        """The service's constant rule answers; `chosen` is the arm that should have, `flag` why it did not."""
        bucket, owner = self.route.owner(self._key(row))
        chosen = chosen or owner
        lost = result is None and row.vector is None
        flags = record.FALLBACK | flag | (record.STORE_DOWN if lost else 0)
        decision = self.route.table.fallback["decision"]
        answer = _Answer(None, None, decision, b"", flags, self._propensity(chosen), self._ids.random(10))
        return self._made(row, result, answer, (chosen, counts.group_of(bucket), None))

    def _key(self, row: Row) -> str:
        """What keeps a row with its arm: its sticky entity, or what the caller gave in its place."""
        return row.inputs[self.route.table.sticky] if row.inputs else row.key

    def _propensity(self, side: Side | None) -> float:
        """The share of entities that are answered like this one; all of them once retreated."""
        return 1.0 if side is None or self.retreated else side.arm.share

    def _of(self, side: Side, rows: list[int]) -> Vectors:
        if self._given is not None:
            return self._given if len(rows) == len(self._rows) else self._given[rows]
        known = self._vectors.get(side.model.feature_set)
        if known is None:
            inputs = [row.inputs for row in self._rows]
            known = self._vectors[side.model.feature_set] = assemble(side.features, inputs, self._values, self._edge_ms)
        return known if len(rows) == len(known) else known[rows]

    def _made(
        self, row: Row, result: TripResult | None, answer: _Answer, where: tuple[Side | None, int, int | None]
    ) -> Made:
        table, side = self.route.table, answer.side
        made = DecisionRecord(
            decision_id=uuid7(row.received_ns, answer.chance),
            service=table.service,
            transaction_id=row.transaction_id,
            attempt=max(1, result.attempt) if result else 1,
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
            vector=answer.vector,
            score=answer.score,
            threshold_set=side.model.threshold_set if side else "",
            decision=answer.decision,
            propensity=answer.propensity,
            degraded=answer.flags,
            principal=row.principal,
            model_ns=answer.model_ns,
            batch=answer.batch,
            trace_id=row.trace_id,
            asked=row.asked,
        )
        reply = b"" if row.vector is not None else _reply(made, bool(answer.flags & record.FALLBACK))
        return Made(row, made, reply, where[0], where[1], result is not None, where[2])

    def count(self, made: Iterable[Made]) -> None:
        """Move the arm counters; called when the replies have gone out."""
        for each in made:
            if not each.superseded and not each.row.pinned:
                numbers = each.chosen.counts if each.chosen else self.route.fallback
                _count(numbers, each, self.route.table.tau_ns)

    async def compare(self, side: Side, made: Sequence[Made]) -> None:
        """Score answered rows with a shadow and count the differences."""
        pairs = [each for each in made if each.index is not None]
        if side.lane is None or not pairs:
            return
        vectors = self._of(side, [each.index for each in pairs if each.index is not None])
        called = await side.lane.run(side.model, vectors, self._options.deadline_ms / 1000)
        if called is None:
            side.shadow.misses += len(pairs)
        elif called.decided is None:
            side.shadow.errors += len(pairs)
        else:
            side.counts.time(counts.batch_bin(len(pairs)), called.model_ns)
            theirs = zip(called.decided.scores.tolist(), called.decided.decisions, strict=True)
            for each, (score, decision) in zip(pairs, theirs, strict=True):
                side.shadow.add(score, each.record.score or 0.0, RANK[decision], RANK[each.record.decision])


def _reply(made: DecisionRecord, degraded: bool) -> bytes:
    return v1.encode(
        v1.Prediction(
            made.transaction_id,
            made.decision_id,
            made.score,
            made.decision,
            [],
            made.version,
            degraded,
            made.service if made.asked else msgspec.UNSET,
        )
    )


def _count(numbers: counts.ArmCounts, each: Made, tau_ns: int | None) -> None:
    made = each.record
    batch, flags = counts.batch_bin(made.batch), made.degraded
    numbers.add(counts.REQUESTS, batch, each.group)
    if flags & record.ERROR:
        numbers.add(counts.ERRORS, batch, each.group)
    if flags & record.MISS:
        numbers.add(counts.MISSES, batch, each.group)
    if flags & record.FALLBACK:
        numbers.add(counts.DEGRADED, batch, each.group)
    elif each.chosen is not None and each.chosen.arm.name == made.arm:
        if flagged(made.decision):
            numbers.add(counts.FLAGGED, batch, each.group)
        if each.null:
            numbers.add(counts.NULLS, batch, each.group)
        if tau_ns is not None and made.model_ns > tau_ns:
            numbers.add(counts.SLOW, batch, each.group)
        numbers.score(made.score or 0.0)
