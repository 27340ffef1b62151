"""Settings of the online feature store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreOptions:
    """Where velocity, claims and replies live, and how long anyone waits for them.

    Attributes:
        url: `redis://`, `rediss://` or `unix:///path`; None: an embedded Valkey under the home's `run/`.
        budget_ms: time a scoring batch may wait for the store before it is answered degraded.
        hold_ms: how long a claim is held by the worker that took it; then a retry may resume it.
        window_s: how long a transaction id keeps its first reply.
        stall_ms: an unanswered batch older than this ends the connection.
        backoff_ms: longest pause between two attempts to reconnect.
    """

    url: str | None = None
    budget_ms: int = 15
    hold_ms: int = 1_000
    window_s: int = 900
    stall_ms: int = 1_000
    backoff_ms: int = 500
