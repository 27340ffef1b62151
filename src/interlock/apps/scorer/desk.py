"""From a request, however it was framed, to rows in a service's pipeline.

Contract. What is wrong with a request is raised here, before anything of it is recorded. Card
numbers become tokens here and go no further. `Desk` is what `ports.Scoring` asks for; it keeps no
state of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from interlock.apps.scorer.ports import Caller, Changed, Finished
from interlock.base.clock import Clock, EdgeClock
from interlock.base.errors import UsageError
from interlock.base.ids import Ids, uuid7
from interlock.decision.decide import Vectors
from interlock.decision.record import DecisionRecord
from interlock.decision.table import CHAMPION
from interlock.features.definition import FeatureSet
from interlock.privacy.token import Tokeniser
from interlock.serving import segments
from interlock.serving.call import Call, Unanswered
from interlock.serving.ondemand import Held, OnDemand
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Pipeline
from interlock.serving.route import Side
from interlock.serving.tick import Row
from interlock.serving.wire import oip, v1

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class House(Protocol):
    """What the doors need of the worker behind them."""

    pipelines: dict[str, Pipeline]
    ondemand: OnDemand | None

    def ready(self) -> bool:
        """Whether traffic should come."""
        ...

    def metrics(self, give: Callable[[str], None]) -> None:
        """Fetch the metrics of all workers."""
        ...


class Desk:
    """Takes requests for every service of a worker."""

    def __init__(
        self,
        house: House,
        edge: tuple[Tokeniser, FeatureSet],
        clock: Clock,
        time: EdgeClock,
        ids: Ids,
        options: ServingOptions,
    ) -> None:
        self._house = house
        self._ids = ids
        self._tokeniser, self.features = edge
        self._entities = self.features.entities
        self._clock = clock
        self._edge = time
        self._options = options
        self._recorded_clock = (time.origin_ns, time.speed)

    # --- ports.Scoring -------------------------------------------------------------------------

    def infer(self, request: oip.InferRequest, caller: Caller, done: Finished) -> None:
        """See the port."""
        whole = oip.is_transactions(request)
        if not whole and not self._is_routed(request.model, request.version):
            self._on_demand(request, _Asked(request, caller, done))
            return
        pipeline = self.pipeline(request.model)
        side = self._named(pipeline, request.version)
        oip.check_outputs(request, whole)
        call = _Asked(request, caller, done)
        if whole:
            caller.may("predict", request.model, 0)
            self._require_store()
            found = oip.transactions(request, self.features.currencies, self._options.max_instances)
            self.decide(pipeline, found, caller, call, request.version)
        else:
            self._require_standing(request.model, request.version)
            self._score(pipeline, oip.vectors(request, side.features.names, self._options.max_instances), call)

    def services(self) -> list[str]:
        """See the port."""
        return sorted(self._house.pipelines)

    def versions(self, service: str) -> list[str]:
        """See the port."""
        ondemand = self._house.ondemand
        loaded = ondemand.versions(service) if ondemand is not None else []
        if service not in self._house.pipelines and loaded:
            return loaded
        route = self.pipeline(service).route
        routed = [] if route is None else [side.arm.version for side in route.sides]
        return list(dict.fromkeys([*routed, *loaded]))

    def describe(self, service: str, version: str) -> dict[str, Any]:
        """See the port."""
        if self._is_routed(service, version):
            side = self._named(self.pipeline(service), version)
        else:
            held = self._ondemand().find(service, version)
            if held is None:
                raise Unanswered(503, "the version is admitted and not loaded: load it, or send it tensors", 1)
            side = held.side
        return oip.model_metadata(service, self.versions(service), side.features.names, len(side.features.names))

    def ready(self) -> bool:
        """See the port."""
        return self._house.ready()

    def model_ready(self, service: str, version: str) -> bool:
        """See the port."""
        if not self._is_routed(service, version):
            return self._ondemand().find(service, version) is not None
        pipeline = self.pipeline(service)
        if pipeline.route is None or not pipeline.route.sides:
            return False
        self._named(pipeline, version)  # an unknown version is 404, not one that is on its way
        return True

    def repository_index(self) -> list[dict[str, str]]:
        """See the port."""
        found = []
        for service, pipeline in sorted(self._house.pipelines.items()):
            for side in pipeline.route.sides if pipeline.route else ():
                share = f"{side.arm.name}, {side.arm.share:.2%} of the entities"
                found.append({"name": service, "version": side.arm.version, "state": "READY", "reason": share})
        for each, state, reason in self._house.ondemand.admitted() if self._house.ondemand is not None else ():
            if not self._is_routed(each.service, each.version):
                if why := self._taken_back(each.service, each.version):
                    state, reason = "UNAVAILABLE", why
                found.append({"name": each.service, "version": each.version, "state": state, "reason": reason})
        return found

    def repository_load(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """See the port: who decides transactions is decided by a release; what is admitted may be loaded besides."""
        if self._is_routed(service, version):
            if not self.model_ready(service, version):
                raise Unanswered(503, "nothing is released for this service", 1)
            done(None)
            return
        self._require_standing(service, version)
        self._ondemand().load_everywhere(
            service, version, lambda found: done(found if isinstance(found, Unanswered) else None)
        )

    def repository_unload(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """See the port: what answers payments is not taken away by a request."""
        if self._is_routed(service, version):
            self.pipeline(service)
            raise Unanswered(403, "a version that answers is taken back by a release, not by a request", 0)
        self._ondemand().drop_everywhere(service, version, done)

    def _is_routed(self, service: str, version: str) -> bool:
        """Whether a table is asked, and not what is loaded on demand; an unknown service is its affair."""
        pipeline = self._house.pipelines.get(service)
        if not version or self._house.ondemand is None:
            return True
        if pipeline is None or pipeline.route is None:
            return False
        return any(side.arm.version == version for side in pipeline.route.sides)

    def _ondemand(self) -> OnDemand:
        if self._house.ondemand is None:
            raise Unanswered(404, "no such version answers now", 0)
        return self._house.ondemand

    def _taken_back(self, service: str, version: str) -> str:
        """Why a retreat in force forbids a version; empty: it does not."""
        pipeline = self._house.pipelines.get(service)
        route = pipeline.route if pipeline is not None and pipeline.retreated else None
        if route is None:
            return ""
        sure = {arm.version for arm in route.table.arms if arm.name == CHAMPION}
        named = {arm.version for arm in (*route.table.arms, *route.table.shadows)}
        return "taken back: a retreat is in force" if version in named - sure else ""

    def _require_standing(self, service: str, version: str) -> None:
        """Refuse what was taken back; raises Unanswered (403)."""
        if version and (why := self._taken_back(service, version)):
            raise Unanswered(403, why, 0)

    def _on_demand(self, request: oip.InferRequest, call: _Asked) -> None:
        """Score tensors with a version that nothing routes to, once it is loaded."""
        self._require_standing(request.model, request.version)
        oip.check_outputs(request, False)

        def told(found: Held | Unanswered) -> None:
            try:
                if isinstance(found, Unanswered):
                    raise found
                names = found.side.features.names
                self._score(found.pipeline, oip.vectors(request, names, self._options.max_instances), call)
            except Unanswered as why:
                call.fail(why)
            except UsageError as error:
                call.fail(Unanswered(400, str(error), 0))

        self._ondemand().need(request.model, request.version, told)

    def _named(self, pipeline: Pipeline, version: str) -> Side:
        """The side that a version names: the first one, who is the champion, for any."""
        route = pipeline.route
        if route is None or not route.sides:
            raise Unanswered(503, f"service {pipeline.service} is not ready", 1)
        found = next((side for side in route.sides if version in ("", side.arm.version)), None)
        if found is None:
            raise Unanswered(404, "no such version answers now", 0)
        return found

    def _score(self, pipeline: Pipeline, vectors: Vectors, call: _Asked) -> None:
        received, edge, asked = self._clock.now_ns(), self._edge.now_ns(), call.request
        name = asked.id if _NAME.fullmatch(asked.id) else uuid7(received, self._ids.random(10))
        block, width = vectors.tobytes(), 4 * vectors.shape[1]
        call.expect(len(vectors))
        pipeline.submit(
            [
                Row(
                    call=call,
                    place=place,
                    transaction_id=name,
                    inputs={},
                    entities=(),
                    claim=b"",
                    received_ns=received,
                    edge_ns=edge,
                    clock=self._recorded_clock,
                    principal=call.caller.principal,
                    trace_id=call.caller.trace_id,
                    vector=block[place * width : place * width + width],
                    key=asked.id or name,
                    pinned=asked.version,
                )
                for place in range(len(vectors))
            ]
        )

    # --- what every protocol needs --------------------------------------------------------------

    def pipeline(self, service: str) -> Pipeline:
        """A service's pipeline.

        Raises:
            Unanswered: there is no such service (404).
        """
        found = self._house.pipelines.get(service)
        if found is None:
            raise Unanswered(404, "no such model", 0)
        return found

    def predict(self, service: str, body: bytes, caller: Caller, call: Call) -> None:
        """Decide the transactions of a V1 body.

        Raises:
            UsageError: the body breaks a rule.
            Unanswered: it cannot be taken now, or there is no such service.
        """
        pipeline = self.pipeline(service)
        self._require_store()
        found = v1.decode(body, self.features.currencies, self._options.max_instances)
        self.decide(pipeline, found, caller, call)

    def _require_store(self) -> None:
        if self._options.mode == "tensors-only":
            remedy = "send the model's own inputs to /v2/models/<service>/infer, or ask a scorer whose mode is full"
            raise UsageError("this scorer takes no transactions: its scoring.mode is tensors-only", remedy)

    def decide(
        self, pipeline: Pipeline, found: Sequence[v1.Transaction], caller: Caller, call: Call, pinned: str = ""
    ) -> None:
        """Decide checked transactions; `pinned` names the version that must, if the caller cares.

        Raises:
            UsageError: a card number is none.
            Unanswered: they cannot be taken now.
        """
        prefix, received, edge = pipeline.service, self._clock.now_ns(), self._edge.now_ns()
        token, rows = self._tokeniser.entity, []
        call.expect(len(found))
        for place, given in enumerate(found):
            inputs: dict[str, Any] = {
                "card": self._tokeniser.card(given.pan),
                "terminal": token("terminal", given.terminal_id),
                "device": token("device", given.device_id),
                "ip": token("ip", given.ip),
                "amount": given.amount,
                "currency": given.currency,
            }
            if given.mcc is not None:
                inputs["mcc"] = given.mcc
            if given.country is not None:
                inputs["country"] = given.country
            if given.event_time is not None:
                inputs["event_time"] = given.event_time
            rows.append(
                Row(
                    call,
                    place,
                    given.transaction_id,
                    inputs,
                    tuple([inputs[kind].encode() for kind in self._entities]),
                    f"{prefix}:{given.transaction_id}".encode(),
                    received,
                    edge,
                    self._recorded_clock,
                    caller.principal,
                    caller.trace_id,
                    pinned=pinned,
                )
            )
        route = pipeline.route
        if route is None or route.table.segments is None or pinned:  # who names a version names its service too
            pipeline.submit(rows)
        else:
            segments.submit(pipeline, route.table.segments, rows, self._house.pipelines)


class _Asked(Call):
    """A V2 request on its way, over whatever protocol."""

    __slots__ = ("_finished", "caller", "request")

    def __init__(self, request: oip.InferRequest, caller: Caller, finished: Finished) -> None:
        super().__init__(deadline_ns=caller.deadline_ns, urgent=caller.priority == 0)
        self.request = request
        self.caller = caller
        self.trace = caller.trace
        self._finished = finished

    def done(self, outcome: list[Any] | Unanswered) -> None:
        """Answer whoever asked."""
        if isinstance(outcome, Unanswered):
            self._finished(outcome)
        elif isinstance(outcome[0], DecisionRecord):
            scores = np.array([np.nan if each.score is None else each.score for each in outcome], np.float32)
            decisions = [each.decision for each in outcome]
            self._finished(oip.scores(self.request, outcome[0].version, scores, decisions))
        else:
            self._finished(oip.predictions(self.request, self.version or v1.version_of(outcome[0]), outcome))
