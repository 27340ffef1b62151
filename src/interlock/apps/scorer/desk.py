"""From a request, however it was framed, to rows in a service's pipeline.

Contract. What is wrong with a request is raised here, before anything of it is recorded. Card
numbers become tokens here and go no further. `Desk` is what `ports.Scoring` asks for; it keeps no
state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from interlock.apps.scorer.ports import Caller
from interlock.base.clock import Clock, EdgeClock
from interlock.features.definition import FeatureSet
from interlock.privacy.token import Tokeniser
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Call, Pipeline
from interlock.serving.tick import Row, Unanswered
from interlock.serving.wire import v1


class House(Protocol):
    """What the doors need of the worker behind them."""

    pipelines: dict[str, Pipeline]

    def ready(self) -> bool:
        """Whether traffic should come."""
        ...

    def metrics(self, give: Callable[[str], None]) -> None:
        """Fetch the metrics of all workers."""
        ...


class Desk:
    """Takes requests for every service of a worker."""

    def __init__(
        self, house: House, edge: tuple[Tokeniser, FeatureSet], clock: Clock, time: EdgeClock, options: ServingOptions
    ) -> None:
        self._house = house
        self._tokeniser, self.features = edge
        self._entities = self.features.entities
        self._clock = clock
        self._edge = time
        self._options = options
        self._recorded_clock = (time.origin_ns, time.speed)

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
        found = v1.decode(body, self.features.currencies, self._options.max_instances)
        call.expect(len(found))
        self.decide(pipeline, found, caller, call)

    def decide(self, pipeline: Pipeline, found: Sequence[v1.Transaction], caller: Caller, call: Call) -> None:
        """Decide checked transactions.

        Raises:
            UsageError: a card number is none.
            Unanswered: they cannot be taken now.
        """
        prefix, received, edge = pipeline.service, self._clock.now_ns(), self._edge.now_ns()
        token, rows = self._tokeniser.entity, []
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
                )
            )
        pipeline.submit(rows)
