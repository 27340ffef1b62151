"""Explains recorded decisions, in a process of its own: `python -m interlock.apps.job.explain`.

Contract. One question after the other, on one thread, at a lower priority than whatever scores.
Nothing is decided, counted or written here but the audit: an explanation is given only after its
event `decision.explained` is durable, and a caller without the role `explain` leaves an
`access.denied`. What is explained is what was recorded: no question reaches the online store.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from interlock.apps.control.client import ControlClient
from interlock.apps.job.explain_server import serve
from interlock.apps.views import decision as view
from interlock.base.clock import NS_PER_S, Clock, SystemClock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError, UsageError
from interlock.decision.archive import Archive, Found
from interlock.decision.contributions import Explainer, ExplainerFactory
from interlock.decision.explain import ROLE, Explain
from interlock.governance import dossier
from interlock.governance.explain import Explanation, explain, explainable
from interlock.governance.options import ExplainOptions
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.settings import Settings, load, publish_endpoint
from interlock.trust.event import NewEvent
from interlock.wiring import auditor

_MIB = 1 << 20
_LOADED = 4
"""A native model takes about so many times its bytes once it is loaded."""
_S_PER_H = 3_600


class Models:
    """Checked bundles with their native models; the last used ones stay, within a budget of bytes."""

    def __init__(self, folder: Path, factory: ExplainerFactory, budget_bytes: int) -> None:
        self._folder = folder
        self._factory = factory
        self._budget = budget_bytes
        self._kept: OrderedDict[str, tuple[Bundle, Explainer]] = OrderedDict()

    def __len__(self) -> int:
        """How many are loaded."""
        return len(self._kept)

    def get(self, digest: str) -> tuple[Bundle, Explainer]:
        """The bundle of that digest and its native model.

        Raises:
            UsageError: it is not at hand, or holds no native model.
            IntegrityError: its bytes are not what its digest says.
        """
        found = self._kept.pop(digest, None)
        if found is None:
            bundle = bundles.read(self._folder, digest)
            found = bundle, self._factory(bundle)
        self._kept[digest] = found
        while self._kept and sum(_size(bundle) for bundle, _ in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)
        return found


def _size(bundle: Bundle) -> int:
    native = sum(len(data) for name, data in bundle.files.items() if name.startswith("explain/"))
    return sum(map(len, bundle.files.values())) + _LOADED * native


class Journal:
    """Appends events through the control API; finds it again when it was started anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: ControlClient | None = None

    def append(self, event: NewEvent) -> None:
        """Durable on return; an event may stand twice when a reply was lost.

        Raises:
            UnreachableError: it could not be made durable.
        """
        fresh = self._client is None
        try:
            self._open().append(event)
        except UnreachableError:
            self.close()
            if fresh:
                raise
            self._open().append(event)

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> ControlClient:
        if self._client is None:
            self._client = ControlClient.open(self._settings)
        return self._client


@dataclass(frozen=True)
class Explaining:
    """Answers questions; see the module's contract.

    Attributes:
        segments: where decisions are recorded.
        models: the bundles they name.
        append: makes an event durable.
        clock: of the events.
        options: bounds.
    """

    segments: Path
    models: Models
    append: Callable[[NewEvent], None]
    clock: Clock
    options: ExplainOptions

    def answer(self, asked: Explain) -> bytes:
        """The JSON text `{"explanations": [...]}`; an item that cannot be explained says why instead.

        Raises:
            RefusedError: the actor lacks the role.
            UsageError: too much is asked, or nothing of it can be explained.
            IntegrityError: the only decision asked for is not of one piece.
            UnreachableError: the audit cannot be written.
        """
        self._require(asked)
        if len(asked.decisions) + len(asked.transactions) > self.options.per_call:
            raise UsageError("too many decisions at once", f"ask for {self.options.per_call} at most")
        finds = [("decision_id", each, partial(self._decision, asked.service, each)) for each in asked.decisions]
        finds += [("transaction_id", each, partial(self._transaction, asked, each)) for each in asked.transactions]
        explained: list[Explanation] = []
        items: list[dict[str, Any]] = []
        errors: list[InterlockError] = []
        for name, identifier, find in finds:
            try:
                explained.append(self._explain(find()))
                items.append(view.explain(explained[-1]))
            except InterlockError as error:
                errors.append(error)
                items.append({name: identifier, "error": error.message})
        if not explained:
            raise errors[0]
        for each in explained:
            self._audit(each, asked.actor, asked.trace_id)
        return msgspec.json.encode({"explanations": items})

    def decision(self, decision_id: str, actor: str) -> dict[str, Any]:
        """One decision of any service, for somebody at this machine; audited alike.

        Raises:
            UsageError: there is no such decision, or no model made it.
            IntegrityError: record, bundle and native model are not of one piece.
        """
        found = self._explain(dossier.find(Archive(self.segments), decision_id))
        self._audit(found, actor, "")
        return view.explain(found)

    def _require(self, asked: Explain) -> None:
        if ROLE in asked.roles:
            return
        self.append(self._event("access.denied", asked.actor, f"service/{asked.service}", "refused", {"role": ROLE}))
        raise RefusedError(f"this needs the role {ROLE}", "ask whoever grants roles, or let an analyst look")

    def _decision(self, service: str, decision_id: str) -> Found:
        found = Archive(self.segments).find(decision_id, everywhere=False)
        # A decision of another service is none of this caller's business: not even that it exists.
        if found is None or service not in (found.record.service, found.record.asked):
            raise UsageError("no such decision of this service", "take the decision_id of a reply")
        return found

    def _transaction(self, asked: Explain, transaction_id: str) -> Found:
        since = self.clock.now_ns() - int(self.options.lookback_h * _S_PER_H * NS_PER_S)
        found = Archive(self.segments).latest(asked.service, transaction_id, since)
        if found is None:
            raise UsageError("no recent decision on that transaction", "ask by decision_id, or score it first")
        return found

    def _explain(self, found: Found) -> Explanation:
        explainable(found.record)
        return explain(found.record, *self.models.get(found.record.bundle))

    def _audit(self, told: Explanation, actor: str, trace_id: str) -> None:
        one = told.record
        body = {
            "decision_id": one.decision_id,
            "transaction_id": one.transaction_id,
            "service": one.service,
            "version": one.version,
            "bundle": one.bundle,
            "reasons": [each.code for each in told.reasons or ()],
            "trace_id": trace_id,
        }
        self.append(self._event("decision.explained", actor, f"decision/{one.decision_id}", "success", body))

    def _event(self, kind: str, actor: str, what: str, outcome: str, body: dict[str, Any]) -> NewEvent:
        return NewEvent(
            time_ns=self.clock.now_ns(),
            type=kind,
            actor=actor,
            origin="explainer",
            object=what,
            outcome=outcome,
            body=body,
        )


def assemble(settings: Settings, journal: Journal) -> Explaining:
    """What explains the decisions of this home."""
    options = settings.explain
    models = Models(settings.places.bundles, auditor.explainer(), int(options.models_mb * _MIB))
    return Explaining(settings.places.segments, models, journal.append, SystemClock(), options)


def run(settings: Settings) -> None:
    """The explaining process, until it is told to stop.

    Raises:
        RefusedError: one of this home runs already.
    """
    os.nice(settings.explain.nice)
    journal = Journal(settings)
    path = settings.places.explain_socket
    try:
        publish = partial(publish_endpoint, settings.home, "explain")
        ready = partial(publish, f"unix://{path}")
        answer = assemble(settings, journal).answer
        asyncio.run(serve(path, answer, settings.explain, ready, auditor.warm_explainer))
        publish(None)
    finally:
        journal.close()


def main() -> None:
    """Entry point of the process."""
    from interlock.privacy.redact import configure_logging, install_exception_hooks  # late: before anything logs

    configure_logging("explain")
    install_exception_hooks()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every event that is appended
    run(load())
    logging.shutdown()
    os._exit(0)  # everything is closed; a library that is still being loaded must not hold the process


if __name__ == "__main__":
    main()
