"""What a door needs of the scoring behind it, whatever protocol it speaks.

Contract. `infer` calls `done` once, on the same loop, with the response or with why there is none;
what is wrong with the request itself is raised at once, before anything is recorded. `version` may
be empty: whatever serves now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from interlock.serving.call import Unanswered
from interlock.serving.trace import Trace
from interlock.serving.wire import oip

Finished = Callable[[oip.InferResponse | Unanswered], None]
Changed = Callable[[Unanswered | None], None]
"""Told once, on the same loop: None, or why the repository did not change."""


def _anything(action: str, service: str, cost: int) -> None:
    """What a caller may do behind a door without a gate."""


def _everything(service: str) -> bool:
    """What a caller may see behind a door without a gate."""
    return True


class Caller(msgspec.Struct, frozen=True):
    """Who asks, and how urgently.

    Attributes:
        principal: the name that decisions are recorded under.
        roles: of `trust.access`.
        priority: 0 real-time, 1 batch work.
        deadline_ns: monotonic time after which nobody waits any more; 0: none.
        trace_id: W3C trace id in hexadecimal, or empty.
        trace: of the request, where it is sampled.
        may: raises Unanswered (401, 403, 429) unless an action of `trust.grants` is allowed for a service;
            it takes so many tokens of the caller's rate.
        sees: whether a service is named to the caller.
    """

    principal: str
    roles: frozenset[str] = frozenset({"score"})
    priority: int = 0
    deadline_ns: int = 0
    trace_id: str = ""
    may: Callable[[str, str, int], None] = _anything
    sees: Callable[[str], bool] = _everything
    trace: Trace | None = None


class Scoring(Protocol):
    """See the module's contract."""

    def infer(self, request: oip.InferRequest, caller: Caller, done: Finished) -> None:
        """Score tensors, or decide transactions.

        Raises:
            UsageError: the request breaks a rule.
            Unanswered: it cannot be taken now, or at all.
        """
        ...

    def services(self) -> Sequence[str]:
        """Names of the services."""
        ...

    def versions(self, service: str) -> Sequence[str]:
        """Versions that answer now, champion first; raises Unanswered (404)."""
        ...

    def describe(self, service: str, version: str) -> dict[str, Any]:
        """OIP model metadata; raises Unanswered (404, 503)."""
        ...

    def ready(self) -> bool:
        """Whether traffic should come."""
        ...

    def model_ready(self, service: str, version: str) -> bool:
        """Whether that model answers; raises Unanswered (404)."""
        ...

    def repository_index(self) -> Sequence[dict[str, str]]:
        """What there is: name, version, state (`READY`, `LOADING`, `UNAVAILABLE`), reason."""
        ...

    def repository_load(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """Make an admitted version answer tensors; empty: whatever serves; role `operate`; raises Unanswered."""
        ...

    def repository_unload(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """Make a version that nothing routes to answer no more; role `operate`; raises Unanswered (403, 404)."""
        ...
